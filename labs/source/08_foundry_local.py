# %% [markdown]
# # 08 · Foundry Local
#
# **40 minutes** · needs Foundry Local (`labkit[foundry]`: Windows, Linux, macOS on Apple silicon); no network, no GPU,
# no account. Without it, the lab says so, and section 2 goes on with a recording.
#
# *Foundry Local* is Microsoft's runtime for language models on the device. It runs ONNX models in your own process,
# keeps a catalog of them, and picks the file that suits the hardware. That last step is what you look at most closely
# here: one name, several files, and a rule that decides between them.
#
# You will be able to
#
# - find a model in Foundry Local's two catalogs, and register one of your own
# - say which variant Foundry picks for a machine, and why
# - hold a conversation in a session, stream it, and define a tool
# - measure what a loaded model costs, and tell present calls from those of older tutorials
#
# Three words are used exactly here. *Measured*: this machine just did it. *Quoted*: somebody else's figure, with its
# source. *Recorded*: done earlier on another machine.

# %%
from labkit import load
from labkit.checks.lab08 import q1, q2, q3, q4
from labkit.engines.foundry_models import export_folder, installed_sdk, register, start

# %% [markdown]
# ## 1 · Two catalogs
#
# The package is called `foundry-local-sdk`, the import `foundry_local_sdk`. One *manager* a process does everything
# else. It is no server and opens no port: the runtime is a library inside this notebook.

# %%
from labkit.engines.foundry import Foundry

sdk = installed_sdk()
manager = start() if sdk else None
Foundry.available()

# %% [markdown]
# If that says `installed=False`: `pip install 'labkit[foundry]'` in a terminal, then restart the kernel. Until then
# `sdk` is `None`, and a cell that needs Foundry prints nothing, or what version 2.2.1 printed on Linux (*recorded*), or
# another engine's answer, which is named. Every exercise can be solved without it.
#
# The **public catalog** lists Microsoft's selection of models, and is on the network. The **local catalog** lists what
# you register yourself: any folder with an ONNX model and a `genai_config.json`. Registering copies nothing.
#
# nano comes with such an export. A model's id is *name:version*, and the name should end in a device.

# %%
from labkit.models.catalog import find

folder = export_folder(find("nano"), "int4", threads=1)
if sdk:
    mine = register(manager, folder, "my-nano-generic-cpu:1")
    print(mine.id, "· alias", mine.alias, "· task", mine.info.task, "· cached", mine.is_cached)
sorted(file.name for file in folder.iterdir())

# %% [markdown]
# **Read it.** You gave an id; Foundry made an *alias* of it, without device and version. Programs ask for the alias,
# and Foundry finds the file. `cached` means: on this disk. A registered model always is.
#
# **Predict**: what does the public catalog say on a machine without a network, an error or nothing?

# %%
if sdk:
    public = manager.get_catalog().list_models()
    for model in public[:8]:
        print(model.alias, [variant.id for variant in model.variants])
    print(len(public), "models in the public catalog, as seen from here")

# %% [markdown]
# **Read the number.** Without a network it is 0: an empty list, and no error. So a program must not take "not listed"
# for "does not exist". labkit's `load(…, engine="foundry")` tells the two apart and says which it is.
#
# This is what the public catalog had for three models (*quoted*: `foundry model list` in issue 187 of
# microsoft/Foundry-Local, 23 July 2025):
#
# | alias | id without version | size |
# |---|---|---|
# | phi-4 | Phi-4-generic-gpu | 8.37 GB |
# | | Phi-4-generic-cpu | 10.16 GB |
# | mistral-7b-v0.2 | mistralai-Mistral-7B-Instruct-v0-2-generic-gpu | 4.07 GB |
# | | mistralai-Mistral-7B-Instruct-v0-2-generic-cpu | 4.07 GB |
# | phi-3.5-mini | Phi-3.5-mini-instruct-generic-gpu | 2.16 GB |
# | | Phi-3.5-mini-instruct-generic-cpu | 2.53 GB |
#
# One alias, several files. They are called *variants*.
#
# ## 2 · Which variant?
#
# An ONNX model is exported for an *execution provider*: the part of ONNX Runtime that knows one kind of hardware. A
# file for a Qualcomm NPU does not run on an NVIDIA GPU. So each variant is made for a device, and somebody must choose.
# Foundry does it by three rules (*quoted* from its source, `model.cc` and `azure_catalog_client.cc`, July 2026):
#
# 1. The public catalog shows only variants for devices and execution providers that this machine has.
# 2. They are sorted: NPU; a vendor's GPU; CUDA; any GPU; a vendor's CPU; any CPU. Then the higher version first.
# 3. The first that is **already downloaded** is taken; if none is, the first.
#
# ### Exercise 1
#
# The alias `house` (made up) has four variants. Which one does Foundry take on
#
# - a `till`: a processor and nothing else
# - a `tower`: an NVIDIA graphics card with CUDA
# - a `tablet`: a Qualcomm NPU (QNN)
# - a `laptop`: CUDA as well, and `house-generic-cpu:4` was downloaded there last week?
#
# Nothing is downloaded on the first three.

# %%
from labkit.checks.lab08 import HOUSE

HOUSE

# %%
### BEGIN SOLUTION
picks = {"till": HOUSE[0], "tower": HOUSE[2], "tablet": HOUSE[3], "laptop": HOUSE[0]}
### END SOLUTION
q1.check(picks)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Now watch Foundry sort. Register the same folder under four names, which differ in device and version, and ask for
# their alias.
#
# **Predict**: this machine may have no NPU at all. Which of the four will Foundry pick?

# %%
from labkit.checks.lab08 import NAMES, RECORDED

found = RECORDED
if sdk:
    for name in NAMES:
        register(manager, folder, name)
    lamp = manager.get_catalog(sdk.CatalogType.LOCAL).get_model("lamp")
    found = tuple(variant.id for variant in lamp.variants)
print("recorded" if found is RECORDED else "sorted here:", found)

# %% [markdown]
# **Read the order.** The first is the pick. The name with `npu` comes first, whether there is an NPU or not: rule 1 is
# the public catalog's. The local catalog believes your names. And version 10 stands before version 9.
#
# Does the "NPU" model load where there is no NPU?

# %%
if sdk:
    lamp.load()
    print(lamp.id, "· loaded", lamp.is_loaded, "· device on its card:", lamp.info.runtime.device_type)
    lamp.unload()

# %% [markdown]
# It does, since a name is only a name, and its card names no device. The folder's `genai_config.json` decides where the
# model runs, and nano's names no provider, which means the processor. So give a variant the name of the device it was
# exported for. Nobody checks.
#
# ### Exercise 2
#
# Write `rank(name)`, a key with which `sorted` puts ids in Foundry's order, best first. `device(name)` gives the kind
# of device, and `ORDER` is the list of kinds, best first.

# %%
from labkit.checks.lab08 import ORDER, device

ORDER, [device(name) for name in found]


# %%
### BEGIN SOLUTION
def rank(name):
    return ORDER.index(device(name)), -int(name.split(":")[1])


### END SOLUTION
q2.check(found, rank)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# When the pick is wrong for you (a GPU with too little memory, say), choose yourself: `model.select_variant(variant)`
# before `download()` and `load()`. With labkit: `load("phi-4-mini", engine="foundry", variant=ID)`; a loaded model says
# which variant it has, and why. Execution providers that are not part of the package have to be fetched once:
# `manager.discover_eps()` lists them (often none), `manager.download_and_register_eps()` gets them.

# %%
print([provider.name for provider in manager.discover_eps()] if sdk else "no Foundry here")

# %% [markdown]
# ## 3 · A session
#
# A `ChatSession` is a conversation with a loaded model: it keeps the turns. A `Request` holds what is new, and the
# answer arrives as *items*: text, or a tool call.
#
# **Predict**: in which pieces does the answer come?

# %%
if sdk:
    mine.load()
    with sdk.ChatSession(mine) as session, sdk.Request() as request:
        request.add_item(sdk.MessageItem.user("Hello! Who are you?"))
        request.set_options(sdk.RequestOptions(search=sdk.SearchOptions(max_output_tokens=40)))
        session.set_streaming(True)
        for item in session.process_streaming_request(request):
            print(item.text, end="|")
else:
    print("llama.cpp in place of Foundry:", load("nano").chat("Hello! Who are you?", max_tokens=40))

# %% [markdown]
# **Read the pieces**: tokens, as in lab 01. The limit is not decoration: without it, Foundry reserves room for an
# answer of 2,048 tokens, which is all the context that nano has, and refuses the request.
#
# `preflight_request` counts what a request will take, before it runs.
#
# **Predict**: three short questions in one session. How many tokens does the third request read: its own, or more?


# %%
def ask(session, text):
    with sdk.Request() as request:
        request.add_item(sdk.MessageItem.user(text))
        request.set_options(sdk.RequestOptions(search=sdk.SearchOptions(max_output_tokens=24)))
        before = session.preflight_request(request).prompt_tokens
        session.process_request(request)
    print(f"turn {session.turn_count}: {before:4} tokens to read for {text!r}")


# %%
if sdk:
    with sdk.ChatSession(mine) as session:
        for text in ("Hello!", "What can you do?", "Thank you!"):
            ask(session, text)
        session.undo_turns(2)
        ask(session, "Thank you!")

# %% [markdown]
# **Read the numbers.** They grow from turn to turn: a session sends the whole conversation again, question and answer.
# On a small device that is what fills the context. `undo_turns` takes turns back, and the count falls with them.
#
# A session knows tools, too. `add_tool_definition` takes a name, a description, and the arguments as a JSON schema, in
# a string.
#
# ### Exercise 3
#
# Define a tool for a heating: a string `room` and a number `celsius`, both required. Set `name`, `description` and
# `schema`.

# %%
import json

### BEGIN SOLUTION
name, description = "set_heating", "Set the temperature of a room."
properties = {"room": {"type": "string"}, "celsius": {"type": "number"}}
schema = json.dumps({"type": "object", "properties": properties, "required": [*properties]})
### END SOLUTION
q3.check(name, description, schema)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# labkit writes such a schema from a Python function, and its engine `foundry` makes a fresh session for each request.
# So the lines of lab 01 work here, too, on Foundry.


# %%
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return '{"temperature": 18, "condition": "cloudy"}'


# %%
with load("nano", engine="foundry", threads=1) if sdk else load("nano") as m:
    reply = m.chat("What is the weather in Paris?", tools=[get_weather])
    plain = m.chat("What is the weather in Paris?", max_tokens=1)
    print(m, reply, sep="\n")
print(reply.usage.prompt_tokens, "tokens read;", plain.usage.prompt_tokens, "without the tool")

# %% [markdown]
# **Read the two counts**: the definition costs its tokens in every request, used or not. nano is small, and may call
# wrongly; check before you act. Foundry reads calls itself only with `ToolChoice.AUTO`, which adds a protocol of its
# own to the prompt; there, a call that is no JSON raises `FoundryLocalException`. labkit reads nano's calls itself.
#
# ## 4 · What it costs, and what has changed
#
# `load()` reads the model into memory, `unload()` frees it. How much is it? Foundry has no call for that; ask the
# operating system for the memory of this process (RSS), before and after. Take nano's export in full precision, which
# has not been loaded yet: what was loaded once leaves memory behind that is used again.
#
# **Predict**: will the process grow by less than the file's size, by as much, or by more?

# %%
import psutil

big = export_folder(find("nano"), "fp32", threads=1)
print(f"file: {(big / 'fp32.onnx').stat().st_size / 1e6:.1f} MB")

# %%
if sdk:
    heavy, here = register(manager, big, "big-nano-generic-cpu:1"), psutil.Process()
    before = here.memory_info().rss
    heavy.load()
    print(f"loading added {(here.memory_info().rss - before) / 1e6:.1f} MB (measured)")
    heavy.unload()
    print(f"after unload() {(here.memory_info().rss - before) / 1e6:+.1f} MB")

# %% [markdown]
# **Read it with care.** It differs from run to run: buffers come on top of the weights, and the runtime may keep freed
# memory for the next load. For a model of some GB the weights rule, and the file's size is a fair estimate.
#
# What do the sizes in a catalog tell? "4-bit" names how most matrices are stored. Scales come on top, and often some
# tables keep 16 or 32 bits. The file has it all.
#
# ### Exercise 4
#
# `qwen2.5-coder-1.5b-instruct-generic-cpu:3` is quantized to 4 bits, and has 1,911,260,446 bytes (*quoted*: catalog
# entry in issue 259 of microsoft/Foundry-Local). The model has 1.54 billion parameters. How many bits a weight is that?

# %%
from labkit.checks.lab08 import CODER_BYTES, CODER_PARAMETERS

print(f"{CODER_BYTES:,} bytes, {CODER_PARAMETERS:,.0f} parameters")
### BEGIN SOLUTION
bits = CODER_BYTES * 8 / CODER_PARAMETERS
### END SOLUTION
q4.check(bits)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# For other programs on this machine there is a **web service**, with OpenAI's API, on a port of its own.
#
# **Predict**: you registered several models. How many does it offer?

# %%
import httpx

if sdk:
    manager.start_web_service()
    offered = httpx.get(f"{manager.urls[0]}/v1/models", trust_env=False).json()["data"]
    print(manager.urls, [model["id"] for model in offered])
    manager.stop_web_service()

# %% [markdown]
# **Read the list.** None of yours is in it: the web service asks the public catalog, and serves what was downloaded
# from there. A model of your own runs in the process, in sessions. (To share one over HTTP: `labkit serve`, lab 18.)
#
# Tutorials on the web often show the SDK up to 0.5, which steered a separate service, or calls that somebody
# imagined. None of the left column works:
#
# | in other texts | in version 2 |
# |---|---|
# | `from foundry_local import FoundryLocalManager` | `import foundry_local_sdk` |
# | `FoundryLocalManager("phi-4-mini")` | `FoundryLocalManager.initialize(Configuration(…))`, then `.instance` |
# | `manager.list_catalog_models()` | `manager.get_catalog().list_models()` |
# | `manager.get_model_info(alias)` | `catalog.get_model(alias).info` |
# | `manager.endpoint`, `manager.api_key` | `manager.start_web_service()`, then `manager.urls`; there is no key |
# | `manager.health_check()`, `is_model_loaded()` | `model.is_loaded` |
# | `get_memory_usage()`, `get_average_latency()`, `get_error_rate()` | there is none: measure, as above |
# | `ModelConfig(quantization="Q5_K_M", gpu_layers=32)` | there is none: choose a variant; such levels are llama.cpp's |
# | `model.get_chat_client()` | deprecated: `ChatSession(model)` |
#
# Do not believe the table either. Ask the class.

# %%
OLD = ["list_catalog_models", "get_model_info", "endpoint", "api_key", "health_check", "is_model_loaded"]
OLD += ["get_memory_usage", "get_average_latency", "get_error_rate", "get_catalog", "start_web_service"]
{name: hasattr(sdk.FoundryLocalManager, name) for name in OLD} if sdk else "no Foundry here"

# %% [markdown]
# ## Recap
#
# You can now
#
# - find a model in Foundry Local's two catalogs, and register one of your own
# - say which variant Foundry picks for a machine, and why
# - hold a conversation in a session, stream it, and define a tool
# - measure what a loaded model costs, and tell present calls from those of older tutorials
#
# **Next**: lab 09 does the same with Ollama, where a daemon keeps the models, and watches over it.

# %%
from labkit.testing import finish

finish()
