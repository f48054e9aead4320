# %% [markdown]
# # 03 · Small language models
#
# **50 minutes** · needs llama.cpp in this process (`labkit[llamacpp]`); no network, no GPU, no account
#
# A small language model (SLM) is one that runs where its user is. It reads and writes like a large one, only with fewer
# weights. In this lab you follow a request through two of them, find out what its parts cost in time and memory, and
# build a router that asks the smaller one first. Then you examine two claims that are often repeated about small
# models, with your own numbers.
#
# You will be able to
#
# - say what the tokens of an agent's request are spent on, and how likely an answer is
# - compute the memory of a context, and which model fits where
# - predict how long a request takes from how much is read and written
# - build a router that asks a small model first, and judge by measurements what it saves and what it gets right
#
# *Measured* means: this machine just did it. *Estimated*: computed from a formula. *Quoted*: somebody else's figure,
# with its source. *Assumed*: a guess that you shall replace.

# %%
from labkit import load
from labkit.checks.lab03 import q1, q2, q3, q4, q5
from labkit.widgets.charts import Chart, Series, bars

# %% [markdown]
# The kit brings two models with the same tokenizer: *nano* and the smaller *pico*. Do you have a bigger one? `labkit
# models` lists names; put one in place of `"nano"` and run the lab again. (A model that is a thousand times as large
# takes about a thousand times as long: then lower the `limit` of cases below.)

# %%
SMALL, BIG = "pico", "nano"
small, big = load(SMALL, "llamacpp"), load(BIG, "llamacpp")
for model in (small, big):
    card = model.card
    print(f"{card.alias}: {card.params_b * 1e3:,.1f} million weights, a vocabulary of {card.vocab:,} tokens")

# %% [markdown]
# ## 1 · From a request to the next token
#
# A model reads and writes *tokens*, pieces of text. Everything is counted in them: time, memory, and a cloud's bill.
#
# **Predict**: which of these four texts takes the most tokens?

# %%
english, german = "The light in the hall is on.", "Das Licht im Flur ist an."
for text in (english, german, '{"room": "hall", "on": true}', "4711-0815"):
    print(f"{len(text):3} characters, {len(big.tokenize(text)):3} tokens: {text}")

# %% [markdown]
# **Read the counts** beside the lengths. A tokenizer holds what it has seen often in few pieces. nano's has seen
# English and the JSON of tool calls, but no German, and it takes every digit by itself, as many tokenizers do.
#
# An agent's request holds more than the question: every tool that is offered stands in the prompt, with its name, its
# description and the schema of its arguments. Here is a request from the held-out evaluation set that comes with the
# kit. (Many names of tools are made up on purpose: a model must read them, it cannot know them.)

# %%
from labkit.metrics.cases import choose, data_folder, read_cases

cases = choose(read_cases(data_folder() / "seen.jsonl"), limit=10)
case = max((c for c in cases if c.skill == "call"), key=lambda c: len(c.tools))
print(case.messages[-1]["content"])
print("offered:", ", ".join(tool["function"]["name"] for tool in case.tools))

# %% [markdown]
# **Predict**: how many tokens does the question take, and how many do the tools?


# %%
def prompt_tokens(tools):
    """Count the tokens that the model reads when it is offered these tools."""
    return big.chat(case.messages, tools=tools, max_tokens=1).usage.prompt_tokens


sizes = [prompt_tokens(case.tools[:n]) for n in range(len(case.tools) + 1)]
bars({f"{n} tools": size for n, size in enumerate(sizes)}, "One question with more and more tools", "tokens")

# %% [markdown]
# **Read the bars.** The first is the question alone, with the marks of a conversation around it. What is above it comes
# with every turn of the agent, whether a tool is used or not.
#
# ### Exercise 1
#
# Which share of the tokens is there because of the tools, when all of them are offered? `sizes[0]` is the count
# without tools, `sizes[-1]` the count with all.

# %%
### BEGIN SOLUTION
tool_share = (sizes[-1] - sizes[0]) / sizes[-1]
### END SOLUTION
q1.check(sizes, tool_share)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Now the other direction. At each step the model gives every token of its vocabulary a probability. *Greedy* decoding
# (temperature 0) takes the most likely one. *Sampling* draws: temperature 1 draws with just these probabilities, a
# lower one favours the likely tokens, a higher one the unlikely.
#
# The probabilities of an answer's tokens, multiplied, are the probability of the whole answer. `ask` keeps a question
# with its answer as an *attempt*, and the attempt can tell that probability.


# %%
def set_light(room: str, on: bool) -> str:
    """Turn the light in a room on or off."""
    return "done"


# %%
from labkit.agents.routing import ask

question = "Turn on the light in the kitchen"
greedy = ask(big, question, [set_light])
print(greedy.reply, f"\nprobability of this very answer: {greedy.probability:.3f}")

# %% [markdown]
# **Predict**: if you draw 25 answers at temperature 1, how many of them will be this one? And how many *different*
# answers will there be at temperature 0, at 0.5, at 1 and at 1.5?

# %%
drawn = {}
for t in (0, 0.5, 1, 1.5):
    options = {"temperature": t, "top_k": 0, "max_tokens": 64}
    drawn[t] = [str(big.chat(question, tools=[set_light], seed=n, **options)) for n in range(25)]
bars({f"T = {t}": len(set(texts)) for t, texts in drawn.items()}, "25 draws, measured", "different answers")

# %%
from labkit.metrics.intervals import wilson

same = drawn[1].count(str(greedy.reply))
low, high = wilson(same, 25)
print(f"at temperature 1, {same} of 25 draws are the greedy answer: {same / 25:.2f} ({low:.2f}–{high:.2f})")
print(f"its computed probability: {greedy.probability:.2f}")

# %% [markdown]
# **Read the numbers.** The brackets hold the 95 % interval of a share counted on 25 draws; the computed probability
# should lie in it 19 times out of 20. So this number means something: it is how sure the model is of an answer. It is
# not how often the answer is right. Whether the two go together you will measure in section 4.
#
# An agent that acts on calls usually works at temperature 0. A tool call is no place for variety.
#
# ## 2 · Context and its memory
#
# A model remembers nothing between two requests. Each turn sends the whole conversation again, longer by a question and
# an answer. To save work, the engine keeps what it computed for the tokens it has read: a key and a
# value for each layer, the *KV cache*.
#
# **Predict**: in turn 8 of a conversation, how many tokens are in the context, and how many of them must be read anew?

# %%
import numpy as np

note = "In room {n} the kettle is in the kitchen and the lamp is in the hall. Where is the lamp?"
turns, rows = [], []
for n in range(8):
    turns.append({"role": "user", "content": note.format(n=n)})
    reply = big.chat(turns, max_tokens=32)
    turns.append(reply.message)
    rows.append((reply.usage.prompt_tokens, reply.usage.prompt_tokens - reply.usage.cached_tokens))

# %%
names, counts = ("in the context", "read anew"), np.array(rows).T.tolist()
pairs = zip(names, counts, strict=True)
grown = [Series(name, "points", range(1, 9), count, list(map(str, count))) for name, count in pairs]
Chart("A conversation of 8 turns, measured", "turn", "tokens", tuple(grown))

# %% [markdown]
# **Read the points.** The context grows with every turn; what must be read stays about one question long. So time is
# saved, but memory is not: the cache holds every token. How much is that? For each token
# *2 (key, value) × layers × KV heads × head size × 2 bytes*. llama.cpp can tell what its cache really holds:

# %%
inside = big.engine.context
print(f"formula:  {big.card.kv_bytes(len(inside.seen)):9,} bytes for {len(inside.seen)} tokens")
print(f"measured: {inside.cache_bytes:9,} bytes (a dozen bytes a token are book-keeping)")

# %% [markdown]
# For a model of common size, the same formula beside its weights:

# %%
from labkit.models.sizes import SHAPES, memory

lengths = range(0, 131_073, 2_048)
needs = [memory(SHAPES["7B"], "Q4_K_M", n) for n in lengths]
cache = Series("KV cache", "steps", lengths, [need.kv / 1e9 for need in needs])
weights = Series("weights", "steps", lengths, [need.weights / 1e9 for need in needs])
Chart("Qwen2.5-7B at Q4_K_M, estimated", "tokens of context", "GB", (cache, weights))

# %% [markdown]
# ### Exercise 2
#
# At how many tokens of context does the cache of this model weigh as much as its weights?
# `memory(SHAPES["7B"], "Q4_K_M", n)` has `.weights` and `.kv`, in bytes; `SHAPES["7B"]` shows layers and heads.

# %%
### BEGIN SOLUTION
tokens = needs[0].weights / memory(SHAPES["7B"], "Q4_K_M", 1).kv
### END SOLUTION
q2.check(tokens)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Which model fits where, then? Weights, cache and buffers must all find room in the memory that is **free**. The last
# line is your machine, now.

# %%
from labkit.models.hardware import memory as machine_memory


def largest(free, context):
    """Name the largest of SHAPES that fits at Q4_K_M."""
    return [name for name, shape in SHAPES.items() if memory(shape, "Q4_K_M", context).total <= free][-1]


# %%
for free in (1e9, 2e9, 4e9, 8e9, 16e9, 48e9, machine_memory()[1]):
    short, long = largest(free, 2_048), largest(free, 32_768)
    print(f"{free / 1e9:5.1f} GB free: {short:>4} with 2,048 tokens, {long:>4} with 32,768 (estimated)")

# %% [markdown]
# `labkit models fit` says the same of every model in the catalog. A context has an end, too. An engine that drops the
# beginning in silence drops the instructions; labkit refuses:

# %%
from labkit import LabkitError

try:
    big.chat("the lamp is in the hall " * 1_000)
except LabkitError as error:
    print(error)

# %% [markdown]
# ## 3 · Where the time goes
#
# A request has two phases. *Prefill*: the model reads the prompt, many tokens at once. It ends with the first token of
# the answer (TTFT, time to first token). *Decode*: it writes, one token after another (ITL, the gap between two
# outputs; TPOT, its mean).
#
# **Predict**: the prompt gets twice as long. What happens to the TTFT? And how much sooner is the smaller model ready?
#
# Each prompt begins with another number, so that the cache cannot help; the medians of five rounds are drawn.


# %%
def wait(model, words, n):
    """Return the tokens that were read anew and the TTFT in ms."""
    text = f"{n}{words}: " + "the lamp is in the hall " * (words // 6) + "Where is the lamp?"
    reply = model.chat(text, max_tokens=1)
    return reply.usage.prompt_tokens - reply.usage.cached_tokens, reply.timing.ttft * 1e3


# %%
waits, drawn_waits = {}, []
for model in (small, big):
    seen = [[wait(model, words, n) for words in (60, 120, 240, 480)] for n in range(5)]
    waits[model.card.alias] = x, y = np.median(seen, axis=0).T
    drawn_waits.append(Series(model.card.alias, "points", x, y, [f"{ms:.0f}" for ms in y]))
Chart("Time to first token, measured", "tokens read", "ms", tuple(drawn_waits))

# %% [markdown]
# **Read the points.** They lie near a line: a start that every request pays, and a price for each token. `polyfit`
# finds both. Decoding has a price a token as well; an answer of 64 tokens shows it. If the machine is loaded, close
# what else is running and measure again.

# %%
from labkit.metrics.probes import loaded_machine

slope, start = np.polyfit(*waits[BIG], 1)
print(loaded_machine() or "the machine is quiet enough to measure")

# %%
answer = big.chat("Tell me about the lamp in the hall.", max_tokens=64, ignore_eos=True)
tpot = answer.timing.tpot * 1e3
print(f"{BIG}: {start:.2f} ms to start, {slope:.4f} ms for a token read, {tpot:.3f} ms for a token written")

# %%
from labkit.widgets import Timeline

Timeline(answer)

# %% [markdown]
# ### Exercise 3
#
# How many milliseconds will your bigger model take for a request of **600** tokens with an answer of **40**? Use
# `start`, `slope` and `tpot`. (The first token of the answer comes with the end of prefill.)

# %%
### BEGIN SOLUTION
predicted = start + 600 * slope + 39 * tpot
### END SOLUTION
q3.check(start, slope, tpot, predicted)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# Does the machine agree? The prediction for a request that has not been measured yet, and the request:

# %%
trial = big.chat("7: " + "the lamp is in the hall " * 45 + "Where is it?", max_tokens=40, ignore_eos=True)
read, wrote = trial.usage.prompt_tokens - trial.usage.cached_tokens, trial.usage.completion_tokens
foretold = start + read * slope + (wrote - 1) * tpot
print(f"{read} read, {wrote} written: {foretold:.1f} ms predicted, {trial.timing.total * 1e3:.1f} measured")
print(f"reading is {100 * (start + read * slope) / foretold:.0f} % of the prediction, writing the rest")

# %% [markdown]
# **Read the numbers.** If they differ by much, something else was running. An agent's turn reads much and writes
# little, like this one. The larger the share of reading, the more a short list of tools and a warm cache do for it, and
# the less does fast decoding.
#
# ## 4 · Small first
#
# *EdgeAI for Beginners* (Microsoft, 2025; module 6, lesson 1) makes two claims, quoted here in substance:
#
# - the routine work that small models are good at makes up **70 to 80 %** of an agent's tasks, so a small model should
#   go first and hand the rest to a large one;
# - for agents, small models cost **10 to 30 times** less.
#
# Beside these figures stands no measurement and no source. Examine the first one with your two models. They get 110
# requests of eleven kinds, once each, greedily. An answer counts only if it is exactly right.

# %%
import sys
from labkit.metrics.matching import matches
from tqdm import tqdm

tries, ok = {}, {}
for name, model in ((SMALL, small), (BIG, big)):
    progress = tqdm(cases, name, file=sys.stdout, mininterval=1)
    asked = [ask(model, c.messages, c.tools, max_tokens=512) for c in progress]
    ok[name] = np.array([matches(c.expected, a.reply, c.tools) for c, a in zip(cases, asked, strict=True)])
    tries[name] = asked

# %%
from labkit.metrics.agent_eval import Share


def share(hits):
    """Return the share of hits, with its 95 % interval."""
    n, hits = len(hits), int(sum(hits))
    return Share(n, hits, hits / max(n, 1), *wilson(hits, n))


# %%
def tell(name, hits):
    """Print it."""
    found = share(hits)
    print(f"{name:34} {found.hits:3} of {found.n:3}: {found.share:4.0%} ({found.low:.0%}–{found.high:.0%})")


# %% [markdown]
# **Predict**: of what the bigger model gets right, how much does the smaller one get right, too?

# %%
tell(f"{SMALL} is right", ok[SMALL])
tell(f"{BIG} is right", ok[BIG])
tell("either of them is right", ok[SMALL] | ok[BIG])
tell(f"{SMALL} is right where {BIG} is", ok[SMALL][ok[BIG]])

# %% [markdown]
# **Read the last line** first: that is the share of the bigger model's work that the smaller one could take over. Is
# 70 to 80 % inside the interval? The share is no constant of nature. It depends on the two models and on the mix of
# requests:

# %%
skills = list(dict.fromkeys(c.skill for c in cases))
kind = np.array([c.skill for c in cases])
for skill in skills:
    ours, theirs = (ok[name][kind == skill].sum() for name in (SMALL, BIG))
    print(f"{skill:10} {SMALL} {ours:2}, {BIG} {theirs:2} of {(kind == skill).sum()}")

# %% [markdown]
# Another mix gives another share, and on ten cases each figure may well be off by three. (The paper from which the
# second figure seems to come says 40 to 70 % for three open agents, estimated by its authors: Belcak et al., *Small
# Language Models are the Future of Agentic AI*, arXiv 2506.02153, 2025.)
#
# But that share is only what a router **could** keep if it knew which answers are right. It does not. It sees the
# question, the tools and the answer.
#
# ### Exercise 4
#
# Write `doubt(attempt)`. It returns a reason (a text) to hand over in three situations, else `""`:
#
# 1. tools are offered, the last message is the user's, and the answer holds no call;
# 2. a call names a tool that is not offered;
# 3. a call lacks an argument that its tool's schema requires.
#
# `attempt.messages[-1]["role"]` is who spoke last. `attempt.reply.tool_calls` are the calls, each with `.name` and
# `.arguments`. In `attempt.tools` each tool is a dict: `tool["function"]["name"]`,
# `tool["function"]["parameters"]["required"]`.


# %%
### BEGIN SOLUTION
def doubt(attempt):
    if attempt.tools and attempt.messages[-1]["role"] == "user" and not attempt.reply.tool_calls:
        return "no tool call"
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in attempt.tools}
    for call in attempt.reply.tool_calls:
        if call.name not in offered:
            return f"there is no tool {call.name}"
        if missing := set(offered[call.name].get("required", ())) - call.arguments.keys():
            return f"missing: {missing}"
    return ""


### END SOLUTION
q4.check(doubt)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# A router asks the models in turn, and stops at the first answer that no rule doubts. (While your `doubt` is not
# written, the kit's own rules stand in for it.)

# %%
from labkit.agents.routing import Router, invalid_call, no_call

mine = doubt if callable(doubt) else lambda attempt: no_call(attempt) or invalid_call(attempt)
for request in (question, "What is the capital of Peru?"):
    for attempt, why in Router([small, big], [mine]).ask(request, [set_light]):
        said = f"handed over: {why}" if why else "this answer counts"
        print(f"{attempt.model.card.alias}: {attempt.reply}\n   {said}")

# %% [markdown]
# Such rules see only form: a wrong value in a fine call passes them. One more signal is at hand: the probability of the
# answer. The router may doubt every answer that its own model finds less likely than some limit. (The model reads
# everything once more for that.) In code: `Router([small, big], [doubt, unlikely(0.5)])`.
#
# **Predict**: does a sure answer tend to be a right one?

# %%
p = np.array([attempt.probability for attempt in tries[SMALL]])
for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
    tell(f"{SMALL}: {low} ≤ p < {high:.1f}", ok[SMALL][(low <= p) & (p < high)])

# %% [markdown]
# Now the router as a whole. Both models have answered all cases, so every limit can be tried without asking again. To
# choose a limit on the same cases that then judge it would be cheating: every other case serves to choose, the rest to
# judge.
#
# The other points are what a coin would get that hands over the same share without looking. A rule is worth something
# only where it is **above** them.

# %%
doubted, half = np.array([bool(mine(a)) for a in tries[SMALL]]), np.arange(len(cases)) % 2 == 0
limits, found, coin = (0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9), {}, (0, 0.25, 0.5, 0.75, 1)
for least in limits:
    handed = doubted | (p < least)
    # In percent: handed over, and right.
    found[least] = 100 * handed[half].mean(), 100 * np.where(handed, ok[BIG], ok[SMALL])[half].mean()

# %%
mixed = [100 * (c * ok[BIG][half].mean() + (1 - c) * ok[SMALL][half].mean()) for c in coin]
x, y = np.array(list(found.values())).T
rule = Series("your rule, by limit", "points", x, y, [f"{least}" for least in limits])
by_coin = Series("by coin", "points", [100 * c for c in coin], mixed, [""] * 5)
Chart("Half of the cases, measured", "% handed over", "% right", (rule, by_coin))

# %%
least = max(limits, key=lambda limit: (found[limit][1], -found[limit][0]))
handed = doubted | (p < least)
routed = np.where(handed, ok[BIG], ok[SMALL])
print(f"limit chosen on one half: {least}; on the other half:")
tell("handed over", handed[~half])
for name, hits in ((f"{SMALL} alone", ok[SMALL]), (f"{BIG} alone", ok[BIG]), ("the router", routed)):
    tell(f"{name} is right", hits[~half])
only_router, only_big = (routed & ~ok[BIG])[~half].sum(), (ok[BIG] & ~routed)[~half].sum()
print(f"right by the router alone: {only_router}; by {BIG} alone: {only_big}")

# %% [markdown]
# **Read the lines.** 55 cases leave wide intervals: a difference of ten points may be chance. The last line is the
# sharper comparison, since both answered the same cases. If its two numbers are close, this sample cannot tell router
# and bigger model apart. `labkit eval pico` and `labkit eval nano` ask 2,112 cases, in minutes.
#
# ## 5 · What it costs
#
# The second claim: 10 to 30 times cheaper. The paper named above has this figure for a model of 7 billion weights
# against one of 70 to 175 billion, and for *latency, energy and arithmetic*. The course makes it *cost*.
#
# That is about the ratio of the weights. **Predict**: your bigger model has so many times the weights of the smaller
# one. How many times as long did it take?

# %%
spent = {name: np.mean([a.reply.timing.total for a in asked]) for name, asked in tries.items()}
ratio = spent[BIG] / spent[SMALL]
print(f"{BIG} has {big.card.params_b / small.card.params_b:.1f} times the weights of {SMALL}")
print(
    f"and took {ratio:.1f} times as long: {spent[BIG] * 1e3:.0f} against {spent[SMALL] * 1e3:.0f} ms (measured)"
)

# %% [markdown]
# Weights are not all: each step has fixed work that does not shrink with them, and an answer that does not come to its
# end runs on to `max_tokens`.
#
# Who pays for a router? **Every** request pays for the small model; the share that is handed over pays for the big one
# on top.
#
# ### Exercise 5
#
# The small model costs 1/`ratio` of the big one, and the share `handed_over` (0 to 1) of the requests goes on to the
# big one. Write `times_cheaper(ratio, handed_over)`: how many times cheaper than the big model alone is the router?


# %%
### BEGIN SOLUTION
def times_cheaper(ratio, handed_over):
    return 1 / (1 / ratio + handed_over)


### END SOLUTION
q5.check(times_cheaper)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# **Predict**: a small model that costs a thirtieth keeps 75 % of the requests. How many times cheaper is it all?

# %%
shares = [n / 100 for n in range(101)]
thirty = Series("a 30th", "steps", shares, [30 / (1 + 30 * s) for s in shares])
ten = Series("a 10th", "steps", shares, [10 / (1 + 10 * s) for s in shares])
title = "Small first, where the small model costs a 30th or a 10th of the big one (computed)"
Chart(title, "share handed over", "times cheaper than the big model alone", (thirty, ten))

# %% [markdown]
# **Read the curves.** They fall steeply. With 20 to 30 % handed over, both claims together give 2.5 to 4.3 times, not
# 10 to 30. Even a small model that costs nothing cannot save more than 1 / (share handed over). What pays is not a
# cheaper small model but fewer requests that need the big one.
#
# Last, dollars. A machine of your own costs its price and its electricity, whether it works or not, so a second of work
# is dear on a machine that mostly waits. **These inputs are assumed: put in your own.** Cloud prices are quoted, with
# month and source, in `labkit/models/cloud.toml`.

# %%
from labkit.metrics.cost import Box

box = Box(price_usd=500, years=4, watts=15, usd_per_kwh=0.30, busy=0.05)
print(f"a second of work costs ${box.usd_per_second:.6f}")

# %%
read = np.mean([attempt.reply.usage.prompt_tokens for attempt in tries[BIG]])
wrote = np.mean([attempt.reply.usage.completion_tokens for attempt in tries[BIG]])
print(f"a mean request reads {read:.0f} tokens and writes {wrote:.0f}")

# %% [markdown]
# A usual small model has billions of weights, not millions. For each token it writes, it reads them all from memory.
# So the speed of this machine's memory bounds how fast a 7B could write here:

# %%
from labkit.metrics.probes import memory_bandwidth
from labkit.models.sizes import weight_bytes

per_token = weight_bytes(SHAPES["7B"], "Q4_K_M") / memory_bandwidth().bytes_per_s
print(f"{per_token:.3f} s for each token, at least (estimated from the measured speed of the memory)")

# %% [markdown]
# The router's time has three parts: the small model's, its second reading for the probability (about one more TTFT),
# and the bigger model's for the share handed over.

# %%
check = np.mean([attempt.reply.timing.ttft for attempt in tries[SMALL]])
spent["router"] = spent[SMALL] + check + handed.mean() * spent[BIG]
ok["router"] = routed

# %%
from labkit.metrics.cost import CostTable, Way
from labkit.models.cloud import cloud_models

ways = [Way(m.title, m.cost(read, wrote), f"quoted, {m.as_of}") for m in cloud_models().values()]
ways.append(Way("a 7B here, at least", box.usd_per_second * wrote * per_token, "estimated"))
for name, seconds in spent.items():
    ways.append(Way(f"{name} here", box.usd_per_second * seconds, "measured s, assumed $/s", share(ok[name])))
CostTable(tuple(ways), box)

# %% [markdown]
# **Read the table** with care:
#
# - It does not say that nano replaces GPT-4o. Nobody measured here what a cloud model gets right, so that column is
#   empty. A price without a quality compares nothing. *$ for 1,000 right* is the fairer column, and it still leaves out
#   what a wrong answer costs.
# - "a 7B here, at least" counts writing alone, at the speed of this machine's memory (measured) and one request at a
#   time. Compare it with the clouds. Then set `busy=0.5` or `price_usd=2000` above, and look again: the answer turns
#   on how much your machine has to do.
# - Tokens are counted with nano's tokenizer of 4,096 pieces. A cloud model's has more pieces and counts fewer tokens.
# - Compare *router here* with the line of the bigger model. Where the small model is not much cheaper and much is
#   handed over, a router costs **more** than the bigger model alone, as exercise 5 says.
# - The router's limit was chosen on half of the cases in that line, so its share is flattered a little.
#
# So what of the two claims? Both can be true, somewhere. Each names a ratio without saying of which models, which
# requests, which load and what the errors cost. You now have the parts to fill that in for a site of your own.
#
# ## Recap
#
# You can now
#
# - say what the tokens of an agent's request are spent on, and how likely an answer is
# - compute the memory of a context, and which model fits where
# - predict how long a request takes from how much is read and written
# - build a router that asks a small model first, and judge by measurements what it saves and what it gets right
#
# **Next**: lab 04 makes models smaller without training them again, and measures what that costs.

# %%
small.close()
big.close()
from labkit.testing import finish

finish()
