# %% [markdown]
# # 10 · vLLM: many requests at once
#
# **50 minutes** · needs vLLM in its own environment: `labkit engines install vllm` in a terminal (Linux, about 4 GB
# of disk, no GPU, no account). Without it llama.cpp's server stands in, and the lab says where.
#
# An engine that is fast for one student may be slow for a class. vLLM was built for the class: it runs many requests
# in one batch, and wastes hardly any memory on the conversations it keeps. You start it, load it, and look inside.
#
# You will be able to
#
# - compute how many conversations a KV cache has room for, and say what blocks save (PagedAttention)
# - measure what continuous batching gives, and what it costs each caller
# - measure prefix caching, and read it from a server's `/metrics`
# - choose settings of vLLM for a site, chunked prefill and speculative decoding among them

# %%
from labkit import load
from labkit.checks.lab10 import q1, q2, q3, q4, q5
from labkit.engines.registry import engine_class

# %% [markdown]
# ## 1 · A server, and work for it
#
# The server loads the same nano as ever: vLLM reads the weights as they were trained, without conversion. It takes a
# minute to start, because it imports PyTorch and much else. A server starts once and serves for weeks.

# %%
vllm_here = engine_class("vllm").available().installed
if not vllm_here:
    print("vLLM is not installed: llama.cpp's server stands in, which batches continuously, too")
m = load("nano", "vllm", max_num_seqs=8) if vllm_here else load("nano", "llamaserver", slots=8)
m

# %% [markdown]
# Now real requests: every twelfth case of one of this kit's evaluation sets, each with the tools it may use. Eight
# callers ask at once. What matters today is not what nano answers but how long prompts and answers are: the *trace*.

# %%
from concurrent.futures import ThreadPoolExecutor

from labkit.metrics.cases import data_folder, read_cases

cases = read_cases(data_folder() / "seen.jsonl")[::12]
with ThreadPoolExecutor(8) as callers:
    usages = list(callers.map(lambda c: m.chat(c.messages, tools=c.tools, max_tokens=128).usage, cases))
trace = [(usage.prompt_tokens, usage.completion_tokens) for usage in usages]

# %%
print(f"{len(trace)} requests; prompt tokens: {sorted(prompt for prompt, _ in trace)[::6]}")
print(f"answer tokens: {sorted(output for _, output in trace)[::6]}")

# %% [markdown]
# **Read the numbers.** They differ by a factor of ten and more, and nobody knows the length of an answer before it
# is written. That is the whole difficulty of the next section.
#
# ## 2 · Memory in blocks
#
# For each token of a conversation the model keeps a key and a value in every layer: the *KV cache*. For a 7B model
# (the shape of Qwen2.5-7B, float16) that is
#
# *2 (key and value) × layers × key/value heads × size of a head × 2 bytes.*
#
# **Predict**: how much memory does a conversation of 1,000 tokens take, 0.06, 0.6, 6 or 60 MB?

# %%
from labkit.models.sizes import SHAPES

shape = SHAPES["7B"]
token = 2 * shape.layers * shape.kv_heads * shape.head_dim * 2
print(f"{token:,} bytes a token, {1000 * token / 1e6:.0f} MB for 1,000 tokens (estimated)")

# %% [markdown]
# Older servers gave every request one piece of memory, as long as its answer could possibly become. vLLM cuts the
# memory into *blocks* of 16 tokens (128 in its build for processors), and a request gets the next block when it
# needs one. A table says where its blocks are; they need not be neighbours. That is *PagedAttention*, named after
# the pages of an operating system's memory.
#
# ### Exercise 1
#
# A GPU has 24 GB. vLLM may take 90 % of it, and the weights of the 7B model with all the rest take 6.5 GB: 15.1 GB
# (15.1e9 bytes) are left for the KV cache. How many **blocks** of 16 tokens are that? And how many
# **conversations** of 1,000 tokens each fit at once? Only whole blocks count.

# %%
### BEGIN SOLUTION
blocks = int(15.1e9 // (16 * token))
conversations = blocks // 63
### END SOLUTION
q1.check(blocks, conversations)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# What do blocks save? The simulation below serves your trace ten times over, in a cache with room for 8,192 tokens.
# A step writes one token for each request that is in. First each request gets one piece for its prompt and an
# answer of at most 1,024 tokens; then of 128, which somebody must know; then blocks.
#
# **Predict**: of all the room, which share holds tokens in each case?

# %%
from labkit.models.paging import simulate

ways = {"one piece, 1,024": (1024, 0), "one piece, 128": (128, 0)}
ways |= {"blocks of 128": (128, 128), "blocks of 16": (128, 16)}
found = {name: simulate(trace * 10, 8192, *way) for name, way in ways.items()}
for name, run in found.items():
    print(f"{name:17} {run}")

# %%
from labkit.widgets.charts import bars

bars({name: 100 * run.held for name, run in found.items()}, "Room that holds tokens, simulated", "%")

# %% [markdown]
# **Read the shares** (simulated, on the trace you measured). Room *set aside in vain* is the part of a piece, or the
# end of a block, that holds nothing. There was *no hole* when enough was free for the next request, but in several
# places. Blocks need no holes, and a request wastes less than one of them. The paper that introduced them (Kwon and
# others, 2023) reports 20 to 38 % of the memory in use for the servers before it, and 96 % for vLLM (quoted). More room
# in use means more requests in one batch. What is that worth?
#
# ## 3 · Continuous batching
#
# To write a token, the processor reads all weights. While it has them at hand it may as well write a token for seven
# other requests. *Continuous* batching puts requests together anew at every step: one that ends makes room at once,
# and nobody waits for the longest of a group.
#
# **Predict**: eight callers instead of one. How many times as many tokens per second? And how much slower for each?

# %%
from labkit.metrics.load import measure
from labkit.metrics.probes import loaded_machine

print(loaded_machine() or "the machine is quiet")
runs = {}
for callers in (1, 2, 4, 8):
    work = {"requests": 4 * callers, "max_tokens": 48, "ignore_eos": True}
    runs[callers] = measure(m.engine.url, concurrency=callers, **work)

# %%
throughput = {f"{n} at once": run.figures["throughput"] for n, run in runs.items()}
bars(throughput, f"Output tokens per second of {m.engine.name}, measured", "tokens/s")

# %%
from statistics import median

for n, run in runs.items():
    ttft, tpot = (median(run.samples[name]) * 1e3 for name in ("ttft", "tpot"))
    print(f"{n} at once: first token after {ttft:6.1f} ms, then {tpot:6.2f} ms a token (medians)")

# %% [markdown]
# **Read both.** Throughput is what the owner of the server pays for; time per token (TPOT) is what a caller feels.
# As long as a step takes hardly longer for eight than for one, batching is nearly free. On a GPU that holds for
# dozens of requests; on two cores arithmetic runs out sooner.
#
# ### Exercise 2
#
# From **your** runs: how many times the throughput of 1 caller do 8 have (`gain`), and how many times the median
# TPOT (`slower`)?

# %%
### BEGIN SOLUTION
gain = runs[8].figures["throughput"] / runs[1].figures["throughput"]
slower = median(runs[8].samples["tpot"]) / median(runs[1].samples["tpot"])
### END SOLUTION
q2.check(runs, gain, slower)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 4 · Prefix caching, and what the server says
#
# An agent's prompts begin alike: instructions, then tools. Blocks make it easy to keep that beginning. A full block
# of a prompt gets a name made from all tokens up to its end (a hash). A later prompt that begins with the same
# tokens finds the block by its name, whoever asked before.
#
# **Predict**: five prompts with the same long beginning, and five with a shop's number in front of it. Which have the
# shorter time to first token?

# %%
rules = "Tell the customer the price, the delay, and the name of the shop. " * 30
same = [m.chat(f"{rules} Question {n}: where is my parcel?", max_tokens=1) for n in range(6)][1:]
other = [m.chat(f"Shop {n}. {rules} Where is my parcel?", max_tokens=1) for n in range(6)][1:]
for name, replies in (("same beginning", same), ("other beginning", other)):
    ttft = median(reply.timing.ttft for reply in replies) * 1e3
    usage = replies[0].usage
    print(f"{name:15} TTFT {ttft:6.1f} ms, {usage.cached_tokens:4} of {usage.prompt_tokens} tokens cached")

# %% [markdown]
# **Read the cached tokens.** In vLLM they are whole blocks: the rest of the beginning is read again. One word at the
# front, a date or a user's name, and hardly anything is found: put what changes last.
#
# A server says at `/metrics` how it fares: as text, one number a line, in Prometheus' format, which monitoring systems
# read every few seconds. Here is part of such a page, a **recording**: vLLM 0.32 served nano with `max_num_seqs` 8, and
# twelve callers had the same beginning.

# %%
page = (data_folder("vllm") / "metrics.txt").read_text("utf-8")
print("\n".join(line for line in page.splitlines() if line.startswith("vllm:")))

# %% [markdown]
# *Gauges* say how it is now: `num_requests_running`, `num_requests_waiting`, and the share of KV-cache blocks in
# use. *Counters* only grow: tokens read, tokens written, and how many were looked up (`queries`) and found (`hits`)
# in the prefix cache. `VllmMetrics.read` picks seven of them out.

# %%
from labkit.engines.vllm import VllmMetrics

print("recorded:", VllmMetrics.read(page))
print(
    "measured:",
    m.engine.metrics() if vllm_here else "no vLLM here; llama.cpp's server has metrics of its own",
)

# %% [markdown]
# `LiveMetrics` asks the server four times a second and draws what it says. Twelve callers come to eight places. **Look
# at** *requests running* and *requests waiting* while the second cell works.

# %%
from labkit.widgets import LiveMetrics

live = LiveMetrics(m.engine.url.removesuffix("/v1"))
live

# %%
crowd = measure(m.engine.url, concurrency=12, requests=96, max_tokens=48, ignore_eos=True)
live.stop()
live

# %% [markdown]
# ### Exercise 3
#
# From the **recording**: which share of the tokens that were looked up did the prefix cache have (`hit_rate`, from
# 0 to 1)? And how many prompt tokens had to be `computed`, because they were not there? `seen` has `prefix_queries`,
# `prefix_hits` and `prompt_tokens`.

# %%
seen = VllmMetrics.read(page)
### BEGIN SOLUTION
hit_rate = seen.prefix_hits / seen.prefix_queries
computed = seen.prompt_tokens - seen.prefix_hits
### END SOLUTION
q3.check(page, hit_rate, computed)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 5 · Settings for a site
#
# **Chunked prefill.** A long prompt is work for one large step, and in that time nobody gets a token. So vLLM gives
# each step a budget, `max_num_batched_tokens`: first one token for each request that writes, then as much of the
# new prompts as is left. Below, a request writes; in the middle a newcomer brings a long prompt.

# %%
from labkit.widgets import Timeline

chunks = []
with ThreadPoolExecutor(1) as pool:
    for chunk in m.stream("Hello!", max_tokens=120, ignore_eos=True):
        chunks.append(chunk)
        if len(chunks) == 40:
            newcomer = pool.submit(m.chat, f"Shop 99. {rules}", max_tokens=1)
Timeline(m.reply_of(chunks))

# %% [markdown]
# **Read the widest gap** between the blue ticks: there the newcomer's prompt was read. A smaller budget makes more
# gaps, each shorter, and the newcomer waits longer for its first token. The number of steps is plain arithmetic:

# %%
prompt = newcomer.result().usage.prompt_tokens
for budget in (256, 512, 2048):
    steps = -(-prompt // (budget - 1))  # one token of each step is for the request that writes
    print(f"budget {budget:5,}: steps for the prompt of {prompt:,} tokens: {steps} (estimated)")

# %% [markdown]
# **Speculative decoding.** A small model drafts *k* tokens, the large one checks them all in one step and keeps
# them up to the first that it would not have written, and adds one of its own. The text stays the same; only the
# time changes. If each drafted token is accepted with probability *a*, a round gives *(1 − aᵏ⁺¹) / (1 − a)* tokens
# on average (Leviathan and others, 2023). vLLM takes a draft model with the same vocabulary (nano and pico share
# theirs), or drafts from the prompt's own words (*n-gram*), or uses heads trained for it (EAGLE, MTP).

# %%
for accepted in (0.5, 0.7, 0.9):
    tokens = [f"{(1 - accepted ** (k + 1)) / (1 - accepted):5.2f}" for k in range(1, 9)]
    print(f"a = {accepted}: tokens a round for k = 1 to 8: {' '.join(tokens)} (estimated)")

# %% [markdown]
# ### Exercise 4
#
# Drafting costs, too. If a drafted token takes a tenth of the large model's step, a round takes *1 + 0.1 k* steps.
# With *a* = 0.7, how many tokens should be `drafted` for the greatest speed, in tokens per step's time?

# %%
### BEGIN SOLUTION
drafted = max(range(1, 11), key=lambda k: (1 - 0.7 ** (k + 1)) / 0.3 / (1 + 0.1 * k))
### END SOLUTION
q4.check(drafted)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# Why not always? The check of *k* tokens is only free while the machine has arithmetic to spare. With many callers
# it has none, and drafting makes a full server slower.
#
# **Five templates.** Here are five sets of settings to start from, after a course of Microsoft's. A template is a
# typed value; `shell` writes the command.

# %%
from labkit.engines.vllm_templates import TEMPLATES

print(TEMPLATES["production-low"].shell("Qwen/Qwen2.5-7B-Instruct-AWQ"))

# %%
for name, settings in TEMPLATES.items():
    most = settings.max_num_seqs * settings.max_model_len * token / 1e9
    limits = f"{settings.max_num_seqs:3} requests of up to {settings.max_model_len:6,} tokens"
    print(f"{name:15} GPUs: {settings.gpus}; {limits}; all of full length: {most:4,.0f} GB (estimated)")

# %% [markdown]
# **Read the last column**: the KV cache of a 7B model, if every request grew to full length. On GPUs of 24 GB, beside
# weights of 4 bits, only the first template has that much, and the others need not: most conversations are short, and
# blocks give room to those that are. When they run out all the same, vLLM lets requests wait, and sends the latest
# one back to the queue (a *preemption*). Watch `num_requests_waiting` and the share of blocks in use.
#
# ### Exercise 5
#
# A clinic has one server with **two** GPUs of 24 GB. Up to 200 people write to its assistant at once, and the
# longest conversations reach 6,000 tokens. The model is a 7B, quantized with AWQ. Which template fits? Give its
# name.

# %%
### BEGIN SOLUTION
choice = "production-high"
### END SOLUTION
q5.check(choice)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# A template is where you begin. `labkit load nano --engine vllm --concurrency 1 --sweep` (or a server's URL for `nano`)
# doubles the load until *goodput* stops rising: the answers a second that meet your targets, which you give with
# `--target-ttft` and the like. Then change one setting and measure again.
#
# ## Recap
#
# You can now
#
# - compute how many conversations a KV cache has room for, and say what blocks save (PagedAttention)
# - measure what continuous batching gives, and what it costs each caller
# - measure prefix caching, and read it from a server's `/metrics`
# - choose settings of vLLM for a site, chunked prefill and speculative decoding among them
#
# **Next**: lab 11 lets the engines race on your machine.

# %%
m.close()
from labkit.testing import finish

finish()
