# %% [markdown]
# # 09 · Ollama
#
# **45 minutes** · needs Ollama's client and either a daemon or labkit's endpoint (`labkit[ollama,serve]`); no network,
# no GPU, no account
#
# *Ollama* keeps models and serves them: a daemon on port 11434, which programs ask over HTTP, and a *Modelfile* that
# says what a model is. Here you make a model of your own, see when it is in memory and when it is not, and keep watch
# over the whole.
#
# You will be able to
#
# - write a Modelfile, and create a model from it
# - measure what loading a model costs, and decide with `keep_alive` when it is paid
# - call tools and compare embeddings through Ollama's own client
# - choose a model for a task and a machine, check that it is well, and raise an alert when it is not
#
# Three words are used exactly here. *Measured*: this machine just did it. *Estimated*: computed from a formula.
# *Quoted*: somebody else's statement, with its source.

# %%
from labkit.checks.lab09 import q1, q2, q3, q4, q5
from labkit.serving.endpoint import open_ollama

daemon, started = open_ollama()

# %% [markdown]
# ## 1 · A model of your own
#
# First of all: who answers?

# %%
client = daemon.client
daemon.who

# %% [markdown]
# - `Ollama 0.…`: a daemon, at `OLLAMA_HOST` or on this machine.
# - `labkit's endpoint …`: there is no daemon here, so labkit has started one of its own: the same API over llama.cpp.
#   It ends with this notebook, and what you create in it goes with it. To get Ollama, see https://ollama.com/download;
#   conda-forge has it, too (on Binder: `mamba install -c conda-forge 'ollama=*=cpu*'` in a terminal, then
#   `ollama serve &`). Then run this notebook again.
#
# Everything below is asked through `client`, which is Ollama's own Python client. It cannot tell the two apart.

# %%
[(found.model, found.details.quantization_level, found.size) for found in client.list().models]

# %% [markdown]
# `pull` gets a model from Ollama's library and tells how far it is. labkit's endpoint has no library: it offers nano
# and pico again. A daemon asks on the network, where there is no model of that name, and says so.

# %%
import time

import ollama

try:
    for step in client.pull("nano", stream=True):
        print(step.status, step.completed or "", step.total or "")
except ollama.ResponseError as error:
    print("refused:", error)

# %% [markdown]
# A **Modelfile** is to a model what a Dockerfile is to an image: it begins `FROM` something, and lays things over it.
#
# - `FROM`: a GGUF file, or a model that is there already
# - `TEMPLATE`: how messages become a prompt, in Go's template language
# - `SYSTEM`: a standing instruction
# - `PARAMETER`: an option and its value, such as `temperature 0`; `stop` may be given more than once
#
# nano's GGUF file is on this machine. Here is a beginning: the file, and the template that nano was trained with.

# %%
from labkit.engines.llamacpp_files import gguf_file
from labkit.engines.ollama import Ollama
from labkit.engines.ollama_daemon import TEMPLATE
from labkit.models.catalog import find

nano = find("nano")
file = gguf_file(nano, Ollama.default_variant(nano), context=2048)
start = f'FROM {file}\nTEMPLATE """{TEMPLATE}"""\n'
print(start[:200], "…")

# %% [markdown]
# ### Exercise 1
#
# Complete it: a `SYSTEM` text of your own, and the parameters `temperature 0` (greedy), `num_predict` with at most 64
# tokens, and `stop "<|im_end|>"`. The check sends the file to the daemon and creates the model `my-nano` there.

# %%
### BEGIN SOLUTION
modelfile = f"""{start}SYSTEM You answer in one short sentence.
PARAMETER temperature 0
PARAMETER num_predict 60
PARAMETER stop "<|im_end|>"
"""
### END SOLUTION
q1.check(daemon, modelfile)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# At a command line this is `ollama create my-nano -f Modelfile`. The daemon never sees the text: the client reads it,
# uploads the file under its sha256, and sends the parts. `ollama show --modelfile` makes a text of them again.
#
# The rest of the lab uses such a model, too, which labkit creates now. `show` says what it is made of.

# %%
model, _ = daemon.ensure(nano, Ollama.default_variant(nano), context=2048)
shown = client.show(model)
print(model, shown.details.family, shown.details.quantization_level, shown.capabilities)
print(shown.parameters)

# %% [markdown]
# ## 2 · In memory or not
#
# A daemon has many models on disk and few in memory. A model is loaded when it is first asked, and stays for
# `keep_alive` after the last answer: 5 minutes, unless you say otherwise. 0 unloads it at once, −1 keeps it for ever.
#
# **Predict**: the first answer must load the model, the second need not. How many times longer does the first take?

# %%
HELLO = [{"role": "user", "content": "Hello! Who are you?"}]
client.chat(model, [], keep_alive=0)
options = {"temperature": 0, "num_predict": 40}
for _ in range(3):
    answer = client.chat(model, HELLO, options=options)
    load, total = answer.load_duration / 1e6, answer.total_duration / 1e6
    print(f"load {load:7.1f} ms of {total:7.1f} ms in all (the server's own figures)")

# %% [markdown]
# **Read the first line.** Its `load` is what your user waits for when nobody asked for five minutes. nano is tiny; a
# model of 5 GB has to come from the disk. So load it before the day begins: an empty list of messages only loads.
#
# `ps` says what is loaded, and until when.

# %%
for keep_alive in ("2m", -1, 0):
    client.chat(model, [], keep_alive=keep_alive)
    print(keep_alive, [(found.name, str(found.expires_at)[:19]) for found in client.ps().models])

# %% [markdown]
# An answer carries the daemon's own figures: `eval_count` and `eval_duration` for what was written, `prompt_eval_count`
# and `prompt_eval_duration` for what was read. Durations are **nanoseconds**.
#
# ### Exercise 2
#
# With how many tokens per second did the model write this answer? (Counting words, as some texts do, is wrong: a word
# is one token or several.)

# %%
answer = client.chat(model, HELLO, options=options)
print(answer.eval_count, "tokens in", answer.eval_duration, "ns:", answer.message.content)
### BEGIN SOLUTION
speed = answer.eval_count / (answer.eval_duration / 1e9)
### END SOLUTION
q2.check(answer, speed)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3 · Tools and embeddings
#
# The client takes a Python function for a tool, and makes the schema from its type hints and docstring.
#
# **Predict**: what will the arguments be, text or an object?


# %%
def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: the name of the city
    """
    return '{"temperature": 18, "condition": "cloudy"}'


# %%
question = {"role": "user", "content": "What is the weather in Paris?"}
reply = client.chat(model, [question], tools=[get_weather], options={"temperature": 0, "num_predict": 96})
print("text:", reply.message.content)
for call in reply.message.tool_calls or []:
    print("call:", call.function.name, dict(call.function.arguments))

# %% [markdown]
# **Read the call.** Ollama's arguments are an object; OpenAI's are a string of JSON. nano is small and may call
# wrongly, or not at all: check before you act. What must not fail can be held to a schema. With `format`, nothing else
# can be written:

# %%
schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
client.chat(model, [question], format=schema, options=options).message.content

# %% [markdown]
# An **embedding** is a text as a point: a list of numbers, of length 1. Texts that a model treats alike lie in like
# directions, and the product of two vectors (the cosine of their angle) says how alike: 1 is the same direction.
#
# **Predict**: which two of these are closest?

# %%
import numpy as np

texts = ["Turn on the light in the hall", "Switch the light in the hall on", "What is the weather in Oslo?"]
try:
    points = np.array(client.embed(model, texts).embeddings)
    print(points.shape, "lengths", np.linalg.norm(points, axis=1).round(3))
    print((points @ points.T).round(2))
except ollama.ResponseError as error:
    print(f"{daemon.who} makes no embeddings of a chat model: {error}")

# %% [markdown]
# **Read the matrix**: the diagonal is 1, each text with itself. Whether the two about the light come out closest is
# luck: try other words for the same wish. nano was trained to write the next token, not to put like meanings side by
# side, and the vector is only the mean of its last layer. Models for search are trained for just that, and a pipeline
# should use one of them.
#
# ## 4 · Which model?
#
# Courses on edge AI recommend models by class of task. labkit's catalog has their classes (*quoted*, as `tasks`), and
# for each model its sizes, from which memory can be *estimated*.

# %%
from labkit.checks.lab09 import need
from labkit.models.catalog import catalog

named = [card for card in catalog().values() if card.tasks]
for card in sorted(named, key=lambda card: (card.tasks, need(card))):
    memory = f"{need(card) / 1e9:5.2f} GB (estimated)"
    print(f"{card.tasks[0]:9} {card.alias:19} {memory}  ollama pull {card.refs['ollama'].repo}")

# %% [markdown]
# **Read it with care.** A class is an opinion. Whether "light" is good enough is a question for *your* cases: lab 04
# counts right calls, and so can you with `labkit eval`. And compare memory with care: some of the recommended models
# need more for their KV cache than others for their weights. `need` counts a context of 4,096 tokens.
#
# ### Exercise 3
#
# A gateway has 3 GB (3e9 bytes) free. Which is the **largest** model of the class "balanced" that fits, file and KV
# cache together? `need(card)` is the estimate in bytes.

# %%
balanced = [card for card in catalog().values() if "balanced" in card.tasks]
[(card.alias, card.variant("Q4_K_M").file_bytes / 1e9, card.kv_bytes(4096) / 1e9) for card in balanced]

# %%
### BEGIN SOLUTION
choice = max((card for card in balanced if need(card) <= 3e9), key=need).alias
### END SOLUTION
q3.check(choice)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 5 · Keep watch
#
# "Is it up?" is three questions. Does anybody answer? Is the model there? Does the first token come soon enough? A
# check that asks only the first one is green while every user waits.
#
# ### Exercise 4
#
# Write `health(host, model, limit)`. It returns
#
# - `"down"`: nobody answers at `host`
# - `"no model"`: somebody answers, but does not have the model (its name may lack `:latest`)
# - `"slow"`: the first token takes more than `limit` seconds
# - `"ok"`
#
# and raises in none of these cases. `ollama.Client(host, trust_env=False)` is a client for a host, past any proxy; it
# raises `ConnectionError` where nobody answers. (In service give it a `timeout`: without one a server that hangs hangs
# the check, too.)


# %%
### BEGIN SOLUTION
def health(host, model, limit):
    client = ollama.Client(host, trust_env=False)
    try:
        names = [found.model for found in client.list().models]
    except ConnectionError:
        return "down"
    if model not in names and f"{model}:latest" not in names:
        return "no model"
    began = time.perf_counter()
    next(iter(client.chat(model, HELLO, stream=True)))
    return "ok" if time.perf_counter() - began <= limit else "slow"


### END SOLUTION
q4.check(daemon, model, health)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# One check is a moment. Watch a while, and keep the figures. Here are six first tokens of this machine, one after
# the other, as if they had been ten seconds apart.

# %%
samples = []
for place in range(6):
    began = time.perf_counter()
    next(iter(client.chat(model, HELLO, stream=True, options=options)))
    samples.append({"at": 10.0 * place, "ttft": time.perf_counter() - began})
[round(sample["ttft"], 3) for sample in samples]

# %% [markdown]
# An **alert** should wake somebody for a state, not for an accident. So a rule looks at a *window* of samples. It fires
# when a *share* of them is over the limit, and never on fewer than *least* samples (3, unless you say otherwise).
# `alerts` judges rules; it is a pure function: samples in, alerts out.
#
# **Predict**: two rules, the same limit. One wants a single bad sample, the other half of a minute. Which one fires on
# the five good samples and the one accident below? (The accident is made up.)

# %%
from labkit.metrics.alerts import Rule, alerts

accident = [{"at": 10.0 * place, "ttft": 0.1} for place in range(5)] + [{"at": 50.0, "ttft": 3.0}]
nervous = Rule("ttft", limit=0.5, window=60, share=0.1, least=1)
patient = Rule("ttft", limit=0.5, window=60, share=0.5)
for name, rule in {"nervous": nervous, "patient": patient}.items():
    print(name, "→", [str(alert) for alert in alerts(accident, [rule])])
print("yours, measured →", [str(alert) for alert in alerts(samples, [patient])])

# %% [markdown]
# ### Exercise 5
#
# Write a rule for a first token over 0.5 s, on samples every ten seconds. It shall fire when four of six are slow, keep
# quiet for a single slow one, and be quiet again a minute or so after the trouble is over.

# %%
### BEGIN SOLUTION
rule = Rule("ttft", limit=0.5, window=60, share=0.5, least=3)
### END SOLUTION
q5.check(rule)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# No samples, no alert: a watch that died is as quiet as a server that is well. So let something else see to it that
# samples keep coming.
#
# ## Recap
#
# You can now
#
# - write a Modelfile, and create a model from it
# - measure what loading a model costs, and decide with `keep_alive` when it is paid
# - call tools and compare embeddings through Ollama's own client
# - choose a model for a task and a machine, check that it is well, and raise an alert when it is not
#
# **Next**: lab 10 serves many users at once, with vLLM.

# %%
daemon.close()
if started:
    started.stop()
from labkit.testing import finish

finish()
