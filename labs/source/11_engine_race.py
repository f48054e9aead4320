# %% [markdown]
# # 11 · Engine race
#
# **40 minutes** · needs one engine of this kit, better three (`labkit engines` lists them); no network, no GPU
#
# An *engine* is the program that runs a model. llama.cpp, ONNX Runtime, MLX, Foundry Local, vLLM: each is somebody's
# favourite, and every blog post has another winner. Here you let them race on your machine: one model, the same
# weights, the same prompts.
#
# You will be able to
#
# - race engines on one model, and say what each figure includes
# - compute tokens per second from raw samples
# - tell a near tie from a fault where the answers of two engines disagree
# - choose an engine for a site from measurements, and give the reasons
#
# All figures are *measured* on this machine while you wait. They hold for this machine, for nano, and for today's
# versions of the engines.

# %%
from labkit.checks.lab11 import DISAGREEMENTS, SITES, q1, q2, q3, q4
from labkit.metrics.race import entrants, pick, race
from labkit.widgets.charts import bars

# %% [markdown]
# ## 1 · At the start
#
# Which engines are here? For each one that is not, the line says how to get it.

# %%
here, missing = entrants()
print("here:", ", ".join(here))
for engine, why in missing.items():
    print(f"{engine}: {why}")

# %% [markdown]
# What they are:
#
# - **llamacpp**: llama.cpp inside the Python process. **llamaserver**: the same code as a server in a process of its
#   own, which answers several callers at once.
# - **onnx**: ONNX Runtime GenAI, in the process. **foundry**: Microsoft's Foundry Local, which runs ONNX models, too.
# - **mlx**: Apple's library, made for Apple silicon; on Linux its processor build runs.
# - **ollama**: a daemon that keeps models. Without a daemon it cannot run; the table will say so.
# - **vllm**: a server made for many callers and big GPUs. Lab 10 is about it. Its start alone takes longer than this
#   lab should, so it stays out here; `labkit race nano --engines llamacpp,vllm` lets it run.
#
# A fair race needs equal runners. All use the same checkpoint, at the level where no weight is rounded: F16 or FP32.
# Every engine is started in a process of its own, with as many threads as this process may use cores. And all read the
# same tokens: the prompts have their tools written out in the system turn. Offered as tools, they would not be
# answered alike: llama.cpp's server, for one, holds a call to its schema once it has begun.
#
# **Predict**: which engine has its first token first? Which writes fastest? Which takes the least memory? Write down
# your bets.

# %%
bets = {"start": "llamacpp", "decode": "llamacpp", "memory": "llamacpp"}

# %% [markdown]
# **Run** the race. Each engine runs twice: the first time makes its files and warms the caches, the second time counts.
# Keep the machine quiet meanwhile.

# %%
import sys
from tqdm import tqdm

runners = [engine for engine in here if engine != "vllm"]
with tqdm(total=2 * len(runners), file=sys.stdout) as bar:
    table = race("nano", runners, prompts=8, repeat=3, progress=bar.update)
table

# %% [markdown]
# **Read the table**, and what each figure includes:
#
# - **start** begins before Python does. It includes starting Python, importing the engine, loading the weights, and the
#   first token. A shop's till that is switched on each morning waits that long.
# - **memory** is the peak of the process and of the server it started, Python included. nano's weights are small, so
#   this is mostly the engine itself.
# - **TTFT** and **prefill** come from long prompts that no cache has seen. **decode** is the speed of writing.
# - **same**: the share of answers that are those of the first row, to the letter. Section 3 is about that.
#
# The title tells whether the machine was busy. If so, the figures measure the other work, too.

# %%
bars({row.engine: row.start for row in table.rows}, "Start-up: process to first token, measured", "s")

# %%
bars({row.engine: row.memory / 1e6 for row in table.rows}, "Peak memory, measured", "MB")

# %%
first = {"start": min, "memory": min, "decode": max}
for figure, bet in bets.items():
    row = first[figure](table.rows, key=lambda row: getattr(row, figure))
    print(f"{figure:7} first: {row.engine:12} your bet: {bet}")

# %% [markdown]
# Were you right? One start is one sample. At the command line, `labkit race nano --starts 5 --json race.jsonl` starts
# each engine five times and keeps every sample.
#
# To *see* a race, press **Start**. **Look at** whose text begins first, and whether both texts are the same. The two
# share the cores here, so these figures are not those of the table.

# %%
from labkit.widgets import EngineRace

EngineRace(runners[:2])

# %% [markdown]
# ## 2 · From samples to figures
#
# A table hides what it was made of. Behind each row stands a *record* with the raw samples. One of them is TPOT, *time
# per output token*: the time from an answer's first token to its last, divided by the tokens after the first.

# %%
record = table.records[0]
print(record.about["engine"], record.about["engine_version"], record.formulas["tpot"])
print(*(f"{1e3 * sample:.3f}" for sample in record.samples["tpot"]))

# %% [markdown]
# (In milliseconds here; in the record they are seconds.)
#
# ### Exercise 1
#
# With how many tokens per second did this engine write? Compute it from the samples, by their median.

# %%
import statistics

### BEGIN SOLUTION
speed = 1 / statistics.median(record.samples["tpot"])
### END SOLUTION
q1.check(record, speed)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Why the median? One request that the system interrupts can take ten times as long. It moves the mean and leaves the
# median where it is.

# %%
for each in table.records:
    times = each.samples["tpot"]
    slow = max(times) / statistics.median(times)
    print(f"{each.about['engine']:12} {len(times)} samples, the slowest {slow:.1f} times the median")

# %% [markdown]
# ## 3 · Do they agree?
#
# All engines had the same weights and took the likeliest token each time (*greedy* decoding). So they should write the
# same text.
#
# **Predict**: in how many of the 8 answers do two engines differ?
#
# **Run**: here is every answer that parts from the first row's, and where.

# %%
print(f"{len(table.partings)} answers part, {len(table.rows)} engines, {len(pick(8))} prompts each")
for parting in table.partings:
    print(parting)

# %% [markdown]
# **Read it.** There may be none. And a difference need not be a fault. A score is a sum of many products.
# Floating-point sums depend on the order in which they are taken, and each engine takes its own:

# %%
print((0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3))

# %% [markdown]
# So two programs that are both right give scores that differ a little. Call it *noise*. It changes a token only where
# the best score leads the second by very little: a *near tie*. From that token on, the two answers go separate ways.
#
# How large is the noise, and how many near ties are there? Let two programs score every token of the same answers.

# %%
import numpy as np
from labkit.metrics.agreement import lead, two_programs

ours, others, what = two_programs(pick(8))
print(f"{what}: {ours.shape[0]:,} tokens, {ours.shape[1]:,} scores each")

# %% [markdown]
# `lead(ours)` is, for every token, by how much the best score leads the second, in *logits* (a lead of 0.7 means twice
# as likely).

# %%
leads = np.sort(lead(ours))
print("smallest leads:", leads[:5].round(3), " median:", np.median(leads).round(2))

# %% [markdown]
# ### Exercise 2
#
# `noise` is the largest difference between the two programs in any score. In the worst case the first falls by the
# noise while the second rises by it. **How many tokens** have a lead below twice the noise? Only those can fall the
# other way.

# %%
### BEGIN SOLUTION
noise = np.abs(ours - others).max()
at_risk = (lead(ours) < 2 * noise).sum()
### END SOLUTION
q2.check(ours, others, noise, at_risk)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Perhaps there was none here; among more answers there will be. So labkit's own test asks for 99 of 100 equal answers
# and not for all. But a large lead that falls is a fault. The usual faults are:
#
# - **template**: the prompt was put together differently, so the model saw other tokens (an empty description that a
#   server adds to a tool is such a case)
# - **stop**: one engine does not know the token that ends an answer, and writes on
#
# ### Exercise 3
#
# Somebody compared two engines and wrote down three disagreements (they are made up). The number is the lead of the
# reference's token where the answers part. Name the cause of each: `"rounding"`, `"template"` or `"stop"`.

# %%
for name, (seen, lead_there, _) in DISAGREEMENTS.items():
    print(f"{name}: {seen} (lead {lead_there:g} logits)")

# %%
### BEGIN SOLUTION
causes = {"A": "rounding", "B": "template", "C": "stop"}
### END SOLUTION
q3.check(causes)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4 · Which engine for which site?
#
# "The fastest" is no answer before somebody says what the site needs. Some needs rule an engine out, whatever its
# speed: a memory limit, a start-up limit, many callers at once, an operating system it has no package for, tool calls
# that must fit their schema. What is left is ranked by the figure that counts first.
#
# **Predict**: an agent on a small Linux box for one caller. It may take 400 MB, and writing speed counts first. Which
# of your engines is it?
#
# **Run** the guide. It knows nothing but your table and these needs.

# %%
from labkit.metrics.guide import Needs, best, recommend

for verdict in recommend(table.rows, Needs(memory=400e6, system="Linux", first="decode")):
    print(verdict)

# %% [markdown]
# **Read the reasons**, not only the order. Where two engines are within 10 %, the guide says that it is a tie: one race
# cannot tell them apart. And it can only rank what ran: an engine that is missing may still be the right one.
#
# ### Exercise 4
#
# Three sites. Choose an engine for each from **your** table, or `None` if none of them fits.
#
# - **till**: a Linux box in a shop that is switched on each morning. It has 1.5 GB for the agent.
# - **help desk**: a Linux server that 20 people ask at the same time.
# - **field laptop**: Windows, no network, and a program acts on every tool call: each must fit its schema.
#
# The same, as the guide reads it, with the figure that counts `first`:

# %%
from dataclasses import asdict

for site, needs in SITES.items():
    print(site, {name: need for name, need in asdict(needs).items() if need})

# %%
### BEGIN SOLUTION
choice = {site: next(iter(best(table.rows, needs)), None) for site, needs in SITES.items()}
### END SOLUTION
q4.check(table, choice)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# What this race did **not** measure: many callers at once (lab 10), models that are larger than the cache, a GPU, the
# battery, and how long an engine's makers will care for it. Race again with your model before you decide:
# `labkit race MODEL --json race.jsonl`. `labkit models fit` says which models this machine can hold.
#
# ## Recap
#
# You can now
#
# - race engines on one model, and say what each figure includes
# - compute tokens per second from raw samples
# - tell a near tie from a fault where the answers of two engines disagree
# - choose an engine for a site from measurements, and give the reasons
#
# **Next**: lab 12 puts an agent's loop around the model, with tools, checks and a limit on its steps.

# %%
from labkit.testing import finish

finish()
