# %% [markdown]
# # 04 · Quantization
#
# **45 minutes** · needs llama.cpp in this process (`labkit[llamacpp]`); no network, no GPU, no account
#
# A model is trained with 16 or 32 bits a weight. On the edge it usually runs with 4 or 5: the file shrinks to a third,
# and so does the memory. What does that cost? You will not take anybody's word for it. You make eight levels of one
# model here, take their bytes apart, and measure what they lose.
#
# You will be able to
#
# - predict the size and the memory of a model at any level, and check a prediction on real files
# - take a block of quantized weights apart, and compute one by hand
# - measure what a level costs in quality, and say which differences chance could explain
# - say when fewer bits are faster, and how calibrated rounding (GPTQ, AWQ) tries to lose less
#
# Four words are used exactly here. *Measured*: this machine just did it. *Estimated*: computed from a formula.
# *Quoted*: somebody else's figure, with its source. *Simulated*: the rounding is real, the saving is not.

# %%
from labkit.checks.lab04 import q1, q2, q3, q4, q5
from labkit.metrics.levels import LEVELS, measure_levels
from labkit.widgets.charts import bars, histogram, pareto

# %% [markdown]
# ## 1 · What a weight costs
#
# The weights of a model take *number of weights × bits a weight / 8* bytes. Names such as Q4_K_M say roughly how many
# bits: 4 for each code. Codes alone are not enough, so the true figure is higher. What else is in the file:
#
# - **scales**, which turn codes back into weights (section 2);
# - **mixtures**: in a `_M` level, llama.cpp gives some matrices more bits, because errors in them do more harm;
# - **the header**: shape, tokenizer, chat template.
#
# **Predict**: how many GB does a 7B model take at Q4_K_M? (This one, Qwen2.5-7B, has 7.6 billion weights.) And with a
# conversation of 8,192 tokens?
#
# **Run** the calculator. It knows the shapes of some models and llama.cpp's rules, and downloads nothing.

# %%
from labkit.models.sizes import SHAPES, file_bytes, memory, mix, weight_bytes

for name in ("0.5B", "7B", "70B"):
    size = file_bytes(SHAPES[name], "Q4_K_M") / 1e9
    print(f"{name:>4}: file {size:5.1f} GB; loaded {memory(SHAPES[name], 'Q4_K_M', 8192)}")

# %% [markdown]
# **Read the numbers.** The file is more than 4 bits × weights / 8. `mix` shows why: how many weights each block format
# holds.

# %%
mix(SHAPES["7B"], "Q4_K_M")

# %% [markdown]
# A calculator is a claim. Check it on files that you make yourself. `load` with a level converts nano's weights to
# float16 and lets llama.cpp quantize them. It keeps the files, so the second time is quick.

# %%
from labkit import load

files = {}
for level in LEVELS:
    with load("nano", "llamacpp", level) as made:
        files[level] = made.engine.file

# %%
for level, file in files.items():
    estimated, real = file_bytes(SHAPES["nano"], level) / 1e6, file.stat().st_size / 1e6
    print(f"{level:7} estimated {estimated:5.2f} MB, real {real:5.2f} MB: {estimated / real - 1:+.1%}")

# %% [markdown]
# ### Exercise 1
#
# A laptop has 8 GB (8e9 bytes) of free memory. Which is the **largest** model in `SHAPES` that runs there at Q4_K_M
# with a context of 8,192 tokens? `memory(shape, level, context).total` is the estimate in bytes.

# %%
### BEGIN SOLUTION
largest = [name for name in SHAPES if memory(SHAPES[name], "Q4_K_M", 8192).total <= 8e9][-1]
### END SOLUTION
q1.check(largest)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · Inside a block
#
# Quantization works on *blocks*: a few weights that share a scale. Here are 32 neighbours from one of nano's matrices.

# %%
import numpy as np
from labkit.models.numpy_llama import NumpyLlama, nano_folder

nano = NumpyLlama.read(nano_folder())
weight = nano.weights["model.layers.3.mlp.up_proj.weight"]
blocks = weight.reshape(-1, 32)
blocks[0].round(3)

# %% [markdown]
# **Q8_0** keeps such a block as one *step* and 32 whole numbers, the *codes*, from −127 to 127. A weight is then
# about step × code. The weight of largest size gets the code 127 or −127; the others are rounded to the nearest step.
#
# **Predict**: how far from its true value can a weight be afterwards, in steps?
#
# ### Exercise 2
#
# Compute the `step` and the 32 `codes` of this block.

# %%
block = blocks[0]
### BEGIN SOLUTION
step = np.abs(block).max() / 127
codes = np.round(block / step).astype(int)
### END SOLUTION
q2.check(block, step, codes)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Does llama.cpp do the same? Read the first block of that matrix out of the file that it wrote: 34 bytes, a step as
# float16 and 32 codes of one byte. Compare them with yours.

# %%
from labkit.models.quantize_math import read_blocks

kind, stored = read_blocks(files["Q8_0"], "blk.3.ffn_up.weight")
print(kind, "step", stored[0, :2].view(np.float16), "codes", stored[0, 2:].view(np.int8))

# %% [markdown]
# 34 bytes for 32 weights are 8.5 bits a weight. **Q4_0** does the same with 4 bits: 18 bytes, 4.5 bits a weight, and
# only 16 codes. The picture shows all weights of the matrix, each divided by the step of its block.

# %%
from labkit.models.quantize_math import dequantize_q4_0, quantize_q4_0

q4_0 = dequantize_q4_0(quantize_q4_0(blocks))
steps = np.abs(blocks).max(axis=1, keepdims=True) / 8
histogram(blocks / steps, q4_0 / steps, "Q4_0: weights in steps of their block, before and after")

# %% [markdown]
# **Q4_K** takes 4.5 bits a weight, too, and spends them otherwise. A *super-block* of 256 weights has eight
# sub-blocks of 32. Each has a scale **and** a minimum, so its 16 codes cover just the range from its least weight to
# its greatest: weight ≈ scale × code − minimum. Scales and minima are themselves quantized, to 6 bits; two float16
# numbers turn them back.
#
# *256 × 4 bits of codes + 8 × (6 + 6) + 2 × 16 = 1,152 bits = 144 bytes.*

# %%
from labkit.models.quantize_math import super_block

kind, stored = read_blocks(files["Q4_K_M"], "blk.3.ffn_up.weight")
first = super_block(stored[0])
print(kind, stored.shape, "first scales", first.scales[:3], "minima", first.mins[:3])
print("codes", first.codes[0])

# %% [markdown]
# **Predict**: two formats of the same size. Which one is closer to the original weights, Q4_0 or Q4_K?

# %%
from labkit.models.quantize_math import dequantize_q5_1, dequantize_q8_0, quantize_q5_1, quantize_q8_0

q4_k = np.concatenate([super_block(row).values for row in stored]).reshape(-1, 32)
rounded = {"Q8_0": dequantize_q8_0(quantize_q8_0(blocks)), "Q5_1": dequantize_q5_1(quantize_q5_1(blocks))}
rounded |= {"Q4_K": q4_k, "Q4_0": q4_0}
size = np.linalg.norm(blocks)
errors = {name: 100 * np.linalg.norm(w - blocks) / size for name, w in rounded.items()}
bars(errors, "Error of the weights of one matrix: ‖rounded − true‖ / ‖true‖, measured", "%")

# %% [markdown]
# **Read the bars.** One bit less doubles the step, and the error with it, roughly. How the bits are spent matters, too.
# But nobody runs a model for its weights. What do these errors do to its answers?
#
# ## 3 · What it costs
#
# Four figures, from near the weights to near the user:
#
# - **PPL** (perplexity): how well the model guesses the next token of real conversations; 1 would be perfect.
# - **KL**: how far its guesses have moved from those of F16. 0 means not at all.
# - **same top**: how often its favourite next token is still that of F16.
# - **calls right**: tool calls that match the expected one in name and arguments.
#
# **Predict**: in which column will damage show first, and in which last?
#
# **Run**. This takes about half a minute on two free cores. Keep the machine quiet meanwhile.

# %%
table = measure_levels("nano", LEVELS)
table

# %% [markdown]
# **Read the table**, and distrust it in the right places.
#
# - **KL and same top** compare each level with F16 on the very same tokens. KL is above 0 as soon as anything moves.
#   Even this small sample ranks most levels.
# - **PPL**: its ± is large, because some tokens are easy and others are hard. That spread is the same in every row, so
#   differences between rows are surer than the ± says; small ones are chance all the same.
# - **Calls right**: the brackets hold the 95 % interval. With 24 cases it is wide. Where two intervals overlap a lot,
#   the sample cannot tell the levels apart; a smaller level may even come out on top. Four times the cases halve an
#   interval. These 24 are also the shortest calls of the set, which are not typical.
#
# A longer look takes minutes, at the command line:
#
# ```
# labkit eval nano --perplexity --base F16 --variant Q8_0,Q4_K_M,Q2_K   # the whole text
# labkit eval nano --skill call --variant F16,Q4_K_M,Q2_K               # 800 calls a level
# ```
#
# Which levels are worth their bytes? Those that no other level beats in size *and* KL. They form the *Pareto front*.
# (The KL axis is logarithmic, and F16 compared with itself has none.)

# %%
pareto(table, "file_bytes", "kl")

# %% [markdown]
# Figures say how much changes, not what. Choose two levels, write a prompt, press *Compare*. **Look at** what stands
# in ⟦brackets⟧, which only one of the two answers has: is it worse, or only different?

# %%
from labkit.widgets import QuantExplorer

QuantExplorer("nano", table)

# %% [markdown]
# ### Exercise 3
#
# Your agent may differ from F16 in at most one token out of twenty. From the rows of **your** table, choose the
# smallest file whose `same_top` is at least 0.95. A row has `level`, `file_bytes`, `bits`, `tg`, `ppl`, `kl`,
# `same_top` and others; shares go from 0 to 1.

# %%
[(row.level, round(row.same_top, 3)) for row in table.rows]

# %%
### BEGIN SOLUTION
choice = min((r for r in table.rows if r.same_top >= 0.95), key=lambda r: r.file_bytes).level
### END SOLUTION
q3.check(table, choice)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4 · What it buys
#
# Disk and memory for certain. Speed, perhaps. To write one token, a model must read all of its weights once. Where
# main memory is the limit, a third of the bytes gives up to three times the speed.
#
# **Predict**: how much faster than F16 is nano at Q4_K_M?

# %%
bars({row.level: row.tg for row in table.rows}, "Tokens written per second (tg), measured", "tokens/s")

# %% [markdown]
# **Read the bars** together with the ± in the table. nano is too small for the rule: if its weights fit the
# processor's cache, they need not come from main memory at all.

# %%
from labkit.models.hardware import last_level_cache

weights, cache = weight_bytes(SHAPES["nano"], "F16"), last_level_cache() or 0
print(f"nano's weights at F16: {weights / 1e6:.1f} MB; last-level cache: {cache / 1e6:.1f} MB (0: not known)")
for row in (table.rows[0], table.rows[-1]):
    print(f"{row.level:5} peak memory {row.peak_memory / 1e6:.0f} MB, file {row.file_bytes / 1e6:.0f} MB")

# %% [markdown]
# What then limits nano is arithmetic and the fixed work for each token. Fewer bits can even be slower: unpacking codes
# is work, and some formats unpack faster than others.
#
# A usual small model is another matter. To see it you need no download: `random-0.5b` has the shape of a 0.5B model
# and random weights, which are read just as fast as trained ones. It takes about 1.5 GB of disk, 2 GB of memory and a
# few minutes:
#
# ```
# labkit bench random-0.5b --variant F16,Q4_K_M
# ```
#
# ### Exercise 4
#
# How fast does your machine read main memory? Measure it. Then **estimate** the most tokens per second that a 7B model
# at Q4_K_M could write here, if nothing but memory were the limit. `weight_bytes(shape, level)` is in bytes.

# %%
from labkit.metrics.probes import memory_bandwidth

memory_speed = memory_bandwidth()
print(f"{memory_speed.bytes_per_s / 1e9:.1f} GB/s, measured")

# %%
### BEGIN SOLUTION
fastest = memory_speed.bytes_per_s / weight_bytes(SHAPES["7B"], "Q4_K_M")
### END SOLUTION
q4.check(memory_speed.bytes_per_s, fastest)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5 · Rounding with a plan
#
# So far every weight went to the nearest value. There are other plans:
#
# - **FP8** (E4M3): 8-bit floating point. Small weights get small steps, large ones large steps.
# - **int4**: plain rounding, 16 evenly spaced values for every 128 weights. The one to beat.
# - **GPTQ**: rounds column by column, and lets the columns still to come make up for each error.
# - **AWQ**: scales up the columns that meet large inputs before it rounds, so that they lose less.
#
# GPTQ and AWQ look at what really flows through the model, the *activations* of a calibration text. For a large model
# that is work for a GPU. Here all four are **simulated** on nano: the rounding is done on its real weights, the results
# stay in float32. So you see the error, but no saving.

# %%
from labkit.metrics.cases import data_folder
from labkit.models.quantize_simulated import METHODS, activations_of, gptq, round_int4, simulate

with load("nano", "llamacpp", "F16") as made:
    ids = made.tokenize((data_folder("texts") / "agent_heldout.txt").read_text("utf-8"))
calibration, other = [ids[-1024:-512], ids[-512:]], [ids[:512]]

# %% [markdown]
# One matrix first. `seen` holds what enters it while nano reads the calibration text; `x` is the same for *another*
# text. Errors must be judged there: a method that saw a text may be good at that text alone.

# %%
name = "model.layers.3.mlp.up_proj.weight"
seen, x = activations_of(nano, calibration)[name], activations_of(nano, other)[name]
plain = round_int4(weight) - weight
planned = gptq(weight, seen) - weight

# %% [markdown]
# `plain` and `planned` are the errors of the weights. **Predict**: which are larger?
#
# ### Exercise 5
#
# Compute two ratios, GPTQ's error / plain rounding's: `weight_ratio` for the weights, `output_ratio` for what the
# layer puts out (`x @ weights.T`). The size of an array is `np.linalg.norm(array)`.

# %%
### BEGIN SOLUTION
norm = np.linalg.norm
weight_ratio = norm(planned) / norm(plain)
output_ratio = norm(x @ planned.T) / norm(x @ plain.T)
### END SOLUTION
q5.check((plain, planned), x, weight_ratio, output_ratio)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# That is the whole idea of GPTQ: worse weights, better output. Its errors cancel on inputs like those it has seen.
#
# Now all linear layers, and the perplexity of what comes out. Both models read the same tokens, so their ratio is
# surer than either figure.

# %%
simulated = {method: simulate(nano, method, calibration) for method in METHODS}

# %%
from labkit.metrics.quality import log_softmax, ppl, token_nll

before = token_nll(nano.window_logits, ids[:1024])
for method, model in simulated.items():
    after = token_nll(model.window_logits, ids[:1024])
    ratio, error = ppl(after - before)
    print(f"{method:5} PPL {ppl(after)[0]:6.2f}, {ratio:.3f} ± {error:.3f} times that of float32 (simulated)")

# %% [markdown]
# **Read the ±.** Where 1 is within two of them, this text cannot tell the rounded model from the original. KL can, as
# in section 3: it looks at all guesses, not only at the right token's.

# %%
p = log_softmax(nano.window_logits(ids[:512]))
moved = {}
for method, model in simulated.items():
    moved[method] = (np.exp(p) * (p - log_softmax(model.window_logits(ids[:512])))).sum(axis=1).mean()
bars(moved, "Mean KL from float32 over 512 tokens, all linear layers rounded (simulated)", "nats")

# %% [markdown]
# FP8 has twice the bits of the three others, so compare it with Q8_0, not with them. Whether a plan pays depends on
# the model and the text; llama.cpp's own plan of this kind is called an *importance matrix*.
#
# ## Recap
#
# You can now
#
# - predict the size and the memory of a model at any level, and check a prediction on real files
# - take a block of quantized weights apart, and compute one by hand
# - measure what a level costs in quality, and say which differences chance could explain
# - say when fewer bits are faster, and how calibrated rounding (GPTQ, AWQ) tries to lose less
#
# **To go on**: `labkit bench nano --variant F16,Q4_K_M --json a.jsonl` keeps every sample. Run it again with other
# settings into `b.jsonl`, and `labkit compare a.jsonl b.jsonl` says what changed, with intervals.
#
# **Next**: lab 05 takes apart the engine that ran these files, llama.cpp.

# %%
from labkit.testing import finish

finish()
