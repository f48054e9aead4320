# %% [markdown]
# # 05 · llama.cpp from the inside
#
# **60 minutes** · needs llama.cpp in this process (`labkit[llamacpp]`); no network, no GPU, no account
#
# llama.cpp is the engine under many local assistants: one C++ library that runs one file. A program that uses it sets a
# dozen options. In this lab you find out what each of them does, by setting it and reading the number: threads, batch,
# context, prompt cache, sampling, grammars. Then a smaller model drafts for a larger one.
#
# You will be able to
#
# - read what a GGUF file holds: shape, tokenizer, tensors
# - explain why reading and writing have different speeds, and choose threads and batch by measuring
# - compute what a context costs in memory, and keep a prompt so that the cache helps
# - choose how tokens are drawn: sampling, a grammar, a draft model, and say what each changes
#
# *Measured* means: this machine just did it. *Estimated* means: computed from a formula. *Quoted*: somebody else's.

# %%
from labkit import GenerationOptions, load
from labkit.checks.lab05 import q1, q2, q3, q4, q5
from labkit.widgets.charts import bars

# %% [markdown]
# ## 1 · Inside the file
#
# A model for llama.cpp is one file in the format *GGUF*: first metadata (keys and values), then a list of tensors, then
# their bytes. Nothing else is needed: shape, tokenizer and chat template are all in there.
#
# **Predict**: what must a program know before it can multiply the first matrix?

# %%
from labkit.models.gguf import inspect

m = load("nano", "llamacpp", "Q4_K_M")
info = inspect(m.engine.file)
for key, value in info.metadata.items():
    print(f"{key:42} {repr(value)[:60]}")

# %% [markdown]
# **Read the list.** `llama.*` is the shape. `tokenizer.*` is the whole tokenizer: 4,096 pieces of text and the *merges*
# that say which two pieces become one.
#
# The tensors follow. The level of a file names the type of *most* matrices, not of all.

# %%
for tensor in info.tensors[:8]:
    print(f"{tensor.name:26} {str(tensor.shape):12} {tensor.type.name:5} {tensor.size:9,} bytes")
print(f"… {len(info.tensors)} tensors, {info.parameters:,} weights, {info.bits_per_weight:.2f} bits each")

# %% [markdown]
# llama.cpp does not read such a file, it *maps* it (`mmap`): the operating system shows the file as memory and fetches
# a page of it, usually 4 kB, when somebody touches it. So loading is quick, and processes that run the same file share
# one copy. numpy can do the same. Here it maps nano's file and looks for a word of the vocabulary, with its length
# before it:

# %%
import numpy as np

mapped = np.memmap(m.engine.file, np.uint8, "r")
at = bytes(mapped).find(b"<tool_call>")
print(bytes(mapped[:4]), len(mapped), "bytes; at byte", at, bytes(mapped[at - 8 : at + 11]))

# %% [markdown]
# Mapping has a catch: a page that was thrown out for want of memory must be fetched again in mid-answer.
# `load(…, memory_lock=True)` forbids that. And on some processors llama.cpp copies matrices into a layout that suits
# the processor better; such a copy takes memory of its own.
#
# ## 2 · Reading and writing
#
# The engine does two kinds of work. It **reads** a prompt (*prefill*): all tokens are known, so many can go through
# the network together, up to `batch` at once. It **writes** an answer (*decode*): the next token is not known before
# this one is done, so they go one by one.
#
# **Predict**: how much faster is reading with a batch of 128 than with a batch of 1?
#
# The function takes all settings in turn, five times, after a round to warm up, and gives the medians.


# %%
def in_turn(models, prompt, generate, rounds=5):
    """Return {setting: (tokens/s read, tokens/s written)}."""
    times = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            times[name].append(model.engine.time_raw(prompt, generate))
    middle = {name: np.median(seen[1:], axis=0) for name, seen in times.items()}
    return {name: (prompt / read, generate / write) for name, (read, write) in middle.items()}


# %%
from labkit.metrics.probes import loaded_machine
from labkit.models.hardware import free_cores

cores = free_cores()
sizes = {f"{b}": load("nano", "llamacpp", batch=b, threads=cores) for b in (1, 2, 4, 8, 32, 128)}
by_batch = in_turn(sizes, prompt=256, generate=16)
print(f"{cores} core(s) free;", loaded_machine() or "the machine is quiet enough to measure")

# %%
bars({b: read for b, (read, _) in by_batch.items()}, "Prompt read (pp) against batch, measured", "tokens/s")

# %% [markdown]
# **Read the bars.** To let one token through, the processor must fetch every weight. In a batch, a weight that has been
# fetched serves all tokens of the batch, and the fixed work of a step is shared. The gain ends when the arithmetic
# units have enough to do. (Writing has a batch of 1, whatever this option says.)
#
# **Predict**: what does a second thread bring, in reading and in writing? (Where only one core is free, there is one
# line, and nothing to compare.)

# %%
counts = sorted({1, (cores + 1) // 2, cores})
threads = {f"{n}": load("nano", "llamacpp", threads=n) for n in counts}
for n, (read, write) in in_turn(threads, prompt=256, generate=64).items():
    print(f"{n} thread(s): reads {read:8,.0f} tokens/s, writes {write:7,.0f} tokens/s (measured)")

# %% [markdown]
# **Read the numbers.** With each matrix, the threads divide the rows among them, and then wait for the slowest. nano's
# matrices are small, so the waiting weighs more than in a large model. In a large model, writing is held up by
# main memory, and more threads cannot make memory faster.
#
# One rule holds everywhere: **never more threads than cores that are free.** llama.cpp's threads wait by spinning, and
# one that has lost its core to other work keeps all others waiting. `load` therefore counts the cores that nobody
# uses just then. (Everything you measure here is worth as much as the machine is quiet.)

# %%
for model in [*sizes.values(), *threads.values()]:
    model.close()

# %% [markdown]
# ## 3 · Context and cache
#
# For every token it has read, the engine keeps what the attention of later tokens needs: a key and a value for each
# layer and each KV head. This is the *KV cache*. llama.cpp keeps each number as float16, two bytes.
#
# ### Exercise 1
#
# How many bytes of cache does **one token** of nano take? Compute it from the file's metadata: `info.metadata[…]` has
# `llama.block_count` (layers), `llama.attention.head_count_kv`, and `llama.attention.key_length`, the length of a key
# (a value is as long).

# %%
shape = info.metadata
### BEGIN SOLUTION
bytes_per_token = 2 * shape["llama.block_count"] * shape["llama.attention.head_count_kv"]
bytes_per_token *= 2 * shape["llama.attention.key_length"]
### END SOLUTION
q1.check(info, bytes_per_token)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# A formula is a claim. llama.cpp can save its cache, so it knows how many bytes it holds. Ask it after a short prompt
# and after a long one; the difference belongs to the tokens between.

# %%
story = "The kettle is in the kitchen and the lamp is in the hall. "
inside, seen = m.engine.context, []
for prompt in ("Hello!", story * 20):
    m.chat(prompt, max_tokens=1)
    seen.append((len(inside.seen), inside.cache_bytes))
(few, small), (many, large) = seen
print(f"{few} tokens {small:,} bytes, {many} tokens {large:,}: {(large - small) / (many - few):,.0f} a token")

# %% [markdown]
# **Read the number.** A dozen bytes a token are book-keeping (which position, which conversation); the rest must be
# your result. The room for the *whole* context is set aside when the model is loaded, used or not: `context=2048`
# is 2,048 times that. For larger models this decides what fits. The estimates for a 7B model:

# %%
from labkit.models.sizes import SHAPES, memory

print("Qwen2.5-7B at Q4_K_M, estimated")
for tokens in (2_048, 8_192, 32_768, 131_072):
    need = memory(SHAPES["7B"], "Q4_K_M", tokens)
    print(f"context {tokens:7,}: weights {need.weights / 1e9:.1f} GB, KV cache {need.kv / 1e9:5.2f} GB")

# %% [markdown]
# The cache is also the cheapest speed there is. A new prompt that **begins** like the last one needs to be read only
# from the first difference on. An agent's prompt begins with instructions and tools, hundreds of tokens that stay the
# same.
#
# **Predict**: someone puts the time of day at the very beginning of the instructions. What does that cost?

# %%
first, second = [], []
for minute in range(5):
    system = {"role": "system", "content": f"It is 10:4{minute}. {story * 25}"}
    for question, seen in (("Where is the lamp?", first), ("Where is the kettle?", second)):
        seen.append(m.chat([system, {"role": "user", "content": question}], max_tokens=1))
for name, replies in (("a new time of day", first), ("another question", second)):
    ttft = 1e3 * np.median([reply.timing.ttft for reply in replies])
    print(f"{name:18} {replies[-1].usage.cached_tokens:4} tokens cached, TTFT {ttft:6.1f} ms (measured)")

# %% [markdown]
# **Read the numbers.** The few tokens before the time are all that can be kept; what stands behind the difference was
# computed with another beginning, so it is of no use. Instructions and tools first, then the conversation, and what
# changes last.
#
# ### Exercise 2
#
# Write `reused(before, now)`: how many tokens of the prompt `now` need not be read when the cache holds the tokens
# `before`? Two lists of token ids come in, a number goes out. One thing to know: the **last** token of a prompt is
# always read again, because reading it is what produces the scores for the next token.


# %%
### BEGIN SOLUTION
def reused(before, now):
    count = 0
    while count < min(len(before), len(now) - 1) and before[count] == now[count]:
        count += 1
    return count


### END SOLUTION
q2.check(m, reused)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 4 · Choosing the next token
#
# The network's last matrix gives every token of the vocabulary a score. The softmax of the scores is the model's guess:
# a probability for each token. Here is what nano guesses at the place where a user begins to speak.

# %%
start = m.tokenize("<|im_start|>user\n")
scores = m.window_logits(start, len(start) - 1)[0]
p = np.exp(scores - scores.max())
p /= p.sum()
best = np.argsort(-p)


# %%
def text(token):
    return inside.piece(int(token), special=True).decode("utf-8", "replace").strip() or "·"


bars(
    {text(t): round(float(p[t]), 3) for t in best[:10]},
    f"The 10 most likely of {len(p):,} tokens, measured",
    "probability",
)

# %% [markdown]
# *Greedy* decoding (temperature 0) takes the tallest bar, always. *Sampling* draws from the bars. Four options change
# them first. llama.cpp applies them in this order here:
#
# 1. `top_k` keeps the k most likely tokens (0: all);
# 2. `top_p` keeps the most likely ones until their probabilities add up to at least p;
# 3. `min_p` keeps every token at least min_p times as likely as the best;
# 4. `temperature` T divides the scores by T: below 1 the tall bars grow, above 1 the low ones do.
#
# **Predict**: which of these settings leaves the fewest tokens?
#
# `kept_tokens` asks llama.cpp itself: it runs the options' sampler over the scores and returns what may still be drawn.

# %%
from labkit.engines.llamacpp_sampling import kept_tokens

trials = {"T=1": {}, "T=0.5": {"temperature": 0.5}, "T=2": {"temperature": 2.0}}
trials |= {"top_k=5": {"top_k": 5}, "top_p=0.5": {"top_p": 0.5}, "min_p=0.1": {"min_p": 0.1}}
for name, changed in trials.items():
    kept = kept_tokens(inside, scores, GenerationOptions(**{"temperature": 1.0, "top_k": 0} | changed))
    print(f"{name:10} leaves {len(kept):5,} tokens; the best one has {max(kept.values()):.3f}")

# %% [markdown]
# **Read the numbers.** The temperature removes nothing: at T=2 thousands of tokens that are hardly ever right may be
# drawn, and together they often are. `top_k` keeps five tokens however sure the model is. `top_p` and `min_p` keep few
# tokens where the model is sure and many where it is not. (Since the temperature comes last here, they see the bars
# at T=1. Other engines may apply it first: the same options then mean something else.)
#
# ### Exercise 3
#
# Do by hand what llama.cpp does. From `p` (and `best`, the token ids with the most likely first), compute the ids that
# `top_p=0.5` keeps and those that `min_p=0.1` keeps. `np.cumsum` adds up step by step.

# %%
### BEGIN SOLUTION
by_top_p = best[: np.searchsorted(np.cumsum(p[best]), 0.5) + 1]
by_min_p = np.flatnonzero(p >= 0.1 * p.max())
### END SOLUTION
q3.check(m, scores, by_top_p, by_min_p)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# What is drawn depends on random numbers, and those on the `seed`. From the same scores, the same seed draws the same
# tokens, which is what you want in a test; another seed may draw others. (The first line of this cell puts the prompt
# into the cache. Without it, the scores of the first answer could differ from the rest in their last digits, since a
# prompt read in one batch is added up in another order, and at a high temperature that can be enough.)

# %%
m.chat("Hello!", max_tokens=1)
for seed in (1, 1, 2, 3):
    print(seed, repr(m.chat("Hello!", temperature=1.5, top_k=20, seed=seed, max_tokens=12).text))

# %% [markdown]
# ### A wall
#
# A *grammar* is one more filter before the draw, and a strict one: it removes every token after which the text could no
# longer fit the rules. A JSON schema is turned into such a grammar. With `tool_choice="required"` labkit makes one
# from your tools: nothing but calls of these tools, with arguments of these types, can be written.
#
# **Predict**: 12 requests that call for a tool, at temperature 0 and at 2, free and behind the wall. How often can
# the output be parsed as a call? How often is the call right?

# %%
from labkit.metrics.cases import choose, data_folder, read_cases
from labkit.metrics.matching import why

calls = choose(read_cases(data_folder() / "seen.jsonl"), skills=["call"])
cases = sorted(calls, key=lambda case: len(str(case.messages) + str(case.tools)))[:12]


# %%
def parsed_and_right(**options):
    parsed = right = 0
    for case in cases:
        reply = m.chat(case.messages, tools=case.tools, max_tokens=64, top_k=0, **options)
        parsed += bool(reply.tool_calls)
        right += why(case.expected, reply, case.tools) == ""
    return f"{parsed:2} of {len(cases)} parsed, {right:2} right"


for warmth in (0.0, 2.0):
    print(f"T={warmth}: free  ", parsed_and_right(temperature=warmth))
    print(f"T={warmth}: walled", parsed_and_right(temperature=warmth, tool_choice="required"))

# %% [markdown]
# **Read the four lines.** Behind the wall an output that comes to its end can always be parsed, whatever the
# temperature. Two things the wall cannot do. It cannot make the model come to an end: a string may run on until
# `max_tokens` cuts it off, and then nothing can be parsed. And it knows nothing of the question: right form, wrong
# city. Twelve cases say little about *how often*; `labkit eval nano --constrained` asks all.
#
# ### Exercise 4
#
# Write a grammar in GBNF, llama.cpp's notation, that admits the times of a day from `00:00` to `23:59`, always with two
# digits, and nothing else. GBNF in one line: `root ::= ("yes" | "no") "!"? [0-9]`. Quotes hold exact text, brackets
# one character of a range, `|` means or, `?` perhaps, parentheses group.

# %%
### BEGIN SOLUTION
clock = 'root ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
### END SOLUTION
q4.check(m, clock)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5 · A small model drafts
#
# Section 2 showed that a batch of tokens is read in less time than the same tokens one by one. Writing cannot use that,
# because the next tokens are not known. But they can be *guessed*. In **speculative decoding** a much smaller model
# writes a few tokens ahead, and the large one reads them all in one batch. At each place it then picks its own token.
# Where that is the guessed one, the next place counts as well; at the first that differs, the rest of the guesses is
# thrown away, and their rows are removed from the KV cache.
#
# *pico* has the same tokenizer as nano and a fraction of its weights. Lab 03 counted how often each is right.
#
# **Predict**: will nano's answers get worse?

# %%
same = {"threads": inside.threads}
fast = load("nano", "llamacpp", "Q4_K_M", draft="pico", draft_tokens=4, **same)
fast.chat(cases[0].messages, tools=cases[0].tools)

# %%
fast.engine.drafter.last

# %% [markdown]
# `checks` is how many batches nano read, `guessed` how many tokens pico wrote. `looked_at` leaves out the guesses
# behind the first wrong one of a batch: nobody can say whether they were right.
#
# Now eleven requests, one of each kind, with and without pico.

# %%
asked = choose(read_cases(data_folder() / "seen.jsonl"), limit=1)
plain, drafted, last = [], [], []
for case in asked:
    plain.append(m.chat(case.messages, tools=case.tools, max_tokens=64))
    drafted.append(fast.chat(case.messages, tools=case.tools, max_tokens=64))
    last.append(fast.engine.drafter.last)
equal = sum(str(a) == str(b) for a, b in zip(plain, drafted, strict=True))
print(f"the same answer to {equal} of {len(asked)} requests")

# %% [markdown]
# **Read the number.** Every token was picked by nano, from nano's scores. pico decides only how many come at a time. So
# it holds for sampling, stop strings and grammars as well. (If one answer did differ: sums of floating-point numbers
# depend on their order, which differs with the batch. Where two tokens are almost equally likely, that can decide.)
#
# How many guesses were right? α, the *acceptance rate*, is the share among those looked at. And how many tokens did
# a check bring?

# %%
alpha = sum(d.accepted for d in last) / sum(d.looked_at for d in last)
per_check = 1 + sum(d.accepted for d in last) / sum(d.checks for d in last)
print(f"α = {alpha:.2f}; {per_check:.2f} tokens for each check, at most 5 (measured)")

# %% [markdown]
# Does it pay? Three durations decide. `step`: nano writes one token alone. `c`: pico's guess takes c steps. `v`: nano's
# check of a whole batch takes v steps.

# %%
alone = [reply.timing for reply in plain if reply.timing.tokens > 1]
step = sum(t.stamps[-1] - t.stamps[0] for t in alone) / sum(t.tokens - 1 for t in alone)
c = sum(d.guess_seconds for d in last) / sum(d.guessed for d in last) / step
v = sum(d.check_seconds for d in last) / sum(d.checks for d in last) / step
print(f"step {1e3 * step:.2f} ms, a guess c = {c:.2f} steps, a check v = {v:.2f} steps (measured)")

# %% [markdown]
# Leviathan, Kalman and Matias ([2023](https://arxiv.org/abs/2211.17192)) give the *expected* gain. If every guess is
# right with the same probability α, and γ tokens are guessed at a time, a check brings
#
# 1 + α + α² + … + α<sup>γ</sup> = (1 − α<sup>γ+1</sup>) / (1 − α)
#
# tokens. It costs γ guesses and the check itself, γc + 1 steps, if a check takes as long as one step. Tokens divided by
# steps is the speed-up.
#
# ### Exercise 5
#
# Write it as a function. What does it say for your α and c?


# %%
### BEGIN SOLUTION
def speed_up(alpha, gamma, c):
    return (1 - alpha ** (gamma + 1)) / (1 - alpha) / (gamma * c + 1)


### END SOLUTION
q5.check(speed_up, alpha, c)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# Now measure it: no draft, and drafts of 1, 2, 4 and 8 tokens, in turn.
#
# **Predict**: which is fastest here, and is that faster than no draft at all?

# %%
runs = {"none": m, "4": fast}
runs |= {n: load("nano", "llamacpp", "Q4_K_M", draft="pico", draft_tokens=int(n), **same) for n in "128"}
spans = {name: [] for name in runs}
for case in asked[::2] * 2:
    for name, model in runs.items():
        timing = model.chat(case.messages, tools=case.tools, max_tokens=64).timing
        if timing.tokens > 1:
            spans[name].append((timing.tokens - 1, timing.stamps[-1] - timing.stamps[0]))

# %%
speeds = {n: sum(k for k, _ in spans[n]) / sum(s for _, s in spans[n]) for n in ("none", *"1248")}
print(loaded_machine() or "the machine is quiet enough to measure")
bars(speeds, "Tokens written per second against the length of a draft, measured", "tokens/s")

# %% [markdown]
# **Read the bars** beside the formula. It assumes v = 1: a check that takes no longer than one step. That is nearly so
# where a step waits for memory, as in a model of several GB: the weights come once, and the arithmetic for five tokens
# has time while they do. nano is so small that it may fit into the processor's cache. Its step is then arithmetic and
# fixed work already, and v is what you measured above. pico has a fraction of nano's weights; where c is a larger
# fraction than that, the rest is fixed work, which does not shrink with the weights. With your figures, the honest
# estimate puts v in the place of 1:

# %%
print("     v = 1   your v   measured")
for gamma in (1, 2, 4, 8):
    tokens, measured = sum(alpha**i for i in range(gamma + 1)), speeds[str(gamma)] / speeds["none"]
    print(f"γ={gamma} {tokens / (gamma * c + 1):7.2f} {tokens / (gamma * c + v):8.2f} {measured:10.2f}")

# %% [markdown]
# (v was measured with drafts of 4, so it is too high for shorter ones and too low for longer ones.) A speed-up below 1
# is a slow-down. Whether a draft pays is a question for your machine, your two models and your texts; the paper reports
# two to three times for a model of 11 billion parameters (quoted). What never changes is the answer.
#
# ## Recap
#
# You can now
#
# - read what a GGUF file holds: shape, tokenizer, tensors
# - explain why reading and writing have different speeds, and choose threads and batch by measuring
# - compute what a context costs in memory, and keep a prompt so that the cache helps
# - choose how tokens are drawn: sampling, a grammar, a draft model, and say what each changes
#
# **To go on**: `labkit bench nano --threads 1` against `--threads 2`, with `--json`, then `labkit compare`; and any of
# the options above with a larger model, in `load("…", "llamacpp", …)`.
#
# **Next**: lab 06 opens the same model as a graph, in ONNX.

# %%
for model in runs.values():
    model.close()
from labkit.testing import finish

finish()
