# %% [markdown]
# # 07 · MLX
#
# **35 minutes** · made for Apple silicon, and MLX's CPU build runs all of it on Linux (`labkit[mlx]`); no network, no
# account. There is no MLX for Windows: there a named stand-in takes its place. llama.cpp serves as the other engine.
#
# MLX is Apple's array library. It looks like numpy, with two ideas of its own: it computes *late*, and its arrays live
# in memory that processor and GPU share. Both are made for the same machine, a laptop whose GPU has no memory of its
# own. In this lab you see the first idea at work anywhere, and learn what the second one means.
#
# You will be able to
#
# - say what a lazy array has computed so far, and what makes it compute
# - explain unified memory, and what it saves
# - convert a model to MLX's format, and choose bits and group size by size and error
# - run it, compare its text with another engine's, and size its KV cache
#
# *Measured*: this machine just did it. *Estimated*: computed from a formula. *Quoted*: somebody else's statement, with
# its source.

# %%
from labkit.checks.lab07 import q1, q2, q3
from labkit.engines.mlx_arrays import HERE, arrays, pending, rounded
from labkit.metrics.probes import loaded_machine

# %%
mx, where = arrays()
print(where)
print(loaded_machine() or "the machine is quiet")

# %% [markdown]
# That is what this machine has. On a Mac with Apple silicon it says *GPU (Metal)*, elsewhere *CPU*. `mx` is
# `mlx.core`, or the stand-in.
#
# ## 1 · Arrays that wait
#
# **Predict**: ten multiplications of 512 × 512 matrices. What takes longer, the line with the loop or `mx.eval`?

# %%
from time import perf_counter

m = mx.random.normal((512, 512)) * 0.04
mx.eval(m, m @ m)  # the first time, MLX prepares its kernels

# %%
began = perf_counter()
product = m
for _ in range(10):
    product = product @ m
written = perf_counter()
mx.eval(product)
done = perf_counter()
print(f"written down in {1e3 * (written - began):.3f} ms, computed in {1e3 * (done - written):.1f} ms")

# %% [markdown]
# **Read the two times.** The loop computed nothing. It wrote down *what* to compute: a graph, as in lab 06, but made
# anew by each run of your program. `pending` names what is still to be done:

# %%
x = mx.array([1.0, 2.0, 3.0])
y = mx.exp(x) + 1.0
z = y * y
print("before:", pending(z))
mx.eval(z)
print("after: ", pending(z), z)

# %% [markdown]
# (`Broadcast` stretches the single 1 to the shape of the other array.) `mx.eval` computes; so does whatever needs the
# value: `print`, `item()`, a conversion to numpy, an `if`.
#
# Waiting has two advantages. What nobody asks for is never computed. And whoever sees the whole graph before it runs
# can do better than one who sees a line at a time (`mx.compile` does). The price: an error or a delay shows up at
# `eval`, far from the line that caused it, and a loop without `eval` piles up a graph that grows and grows. A model's
# loop therefore evaluates once for each token.
#
# ### Exercise 1
#
# Make an array `lazy` with **at least five** pending operations that will have the value **42**. The check looks at
# what is pending, and then computes it. (Careful: what happens when you print it first?)

# %%
### BEGIN SOLUTION
lazy = mx.array(2.0) + 1.0 + 4.0 + 7.0 + 10.0 + 18.0
### END SOLUTION
q1.check(lazy)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · One memory
#
# A graphics card has memory of its own. Whatever it shall work on must be copied there, over a bus that is slower than
# either memory, and what does not fit does not run. Apple silicon has **unified memory**: processor and GPU reach the
# same bytes. An array of MLX is therefore *nowhere in particular*; you say who computes, not where the data are
# (quoted from MLX's documentation, *Unified Memory*):
#
# ```python
# mx.add(a, b, stream=mx.cpu)   # the same a and b, no copies
# mx.add(a, b, stream=mx.gpu)
# ```
#
# Without an Apple GPU nobody can show you that part. What can be shown everywhere is the idea: two libraries, one
# memory. `copy=False` asks numpy for a view of MLX's array.
#
# **Predict**: numpy writes into its view. What does MLX see?

# %%
import numpy as np

shared = mx.array([1.0, 2.0, 3.0])
mx.eval(shared)
view = np.array(shared, copy=False)
view[0] = 42
print(shared)

# %% [markdown]
# No copy was made, so both see 42. Between a processor and a GPU it saves more than time: a laptop's 16 GB serve
# system, programs, model and cache, and nothing is there twice.
#
# What is different **on a Mac** (not shown here; quoted from MLX's documentation):
#
# - the default device is the GPU, and kernels are Metal programs; elsewhere it is the CPU;
# - `mx.device_info()` tells how much memory the GPU should use at most (`max_recommended_working_set_size`).
#
# labkit's engine computes in float16 there. On a CPU it takes float32: MLX's float16 is slow on one.
#
# ## 3 · Fewer bits, in groups
#
# MLX's own quantization is *affine*: a group of weights in a row shares a scale and an offset, and each weight is a
# code: *weight ≈ scale × code + offset*. You choose two things, the bits of a code and the size of a group.
#
# ### Exercise 2
#
# Scale and offset are stored as float16. How many bits does a weight take in all?


# %%
### BEGIN SOLUTION
def bits_per_weight(bits: int, group: int) -> float:
    return bits + 32 / group


### END SOLUTION
q2.check(bits_per_weight)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Now the other side: what is lost? `rounded` quantizes one of nano's matrices with MLX and turns it back. The error is
# the size of the difference / the size of the weights.
#
# **Predict**: what helps more, one bit more, or groups of half the size?

# %%
from labkit.models.numpy_llama import NumpyLlama, nano_folder

weights = NumpyLlama.read(nano_folder()).weights["model.layers.1.mlp.up_proj.weight"]
tried, size = ((8, 64), (4, 32), (4, 64), (3, 64), (2, 64)), np.linalg.norm(weights)
errors = [100 * np.linalg.norm(rounded(weights, *each) - weights) / size for each in tried]

# %%
from labkit.widgets.charts import Chart, Series

names = [f"{bits}/{group}" for bits, group in tried]
measured = Series("measured", "points", [bits + 32 / group for bits, group in tried], errors, names)
Chart("bits/group size: what it costs, what it loses", "bits a weight", "error [%]", (measured,), log=True)

# %% [markdown]
# **Read the picture.** The axis upwards is logarithmic, so equal steps are equal factors: a bit more roughly halves the
# error, and costs one bit for each weight. Smaller groups cost a fraction of a bit and gain a little.
#
# ## 4 · The model
#
# Convert all of nano. The engine does what `mlx_lm.convert` does: reads the weights, quantizes the linear layers and
# the embedding, and writes a folder with `model.safetensors` and `config.json`.

# %%
from labkit import load

kinds = ("fp16", "8bit", "4bit") if HERE else ("F16", "Q8_0", "Q4_K_M")
for kind in kinds:
    with load("nano", "mlx" if HERE else "llamacpp", kind) as model:
        print(f"{model!r}: {model.engine.file.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# (If it says `llamacpp`, that is the stand-in for the missing MLX.)
#
# **Predict**: MLX and llama.cpp run the same weights. Will they say the same, word for word?

# %%
questions = ["Hello! Who are you?", "What can you do?", "Thank you!"]
questions += ["Repeat these words: apple, lamp, river.", "Extract name and age as JSON: Ada is 36."]
questions += ["The lamp is in the hall. Where is the lamp?"]
engine, answers = "mlx" if HERE else "llamacpp", {}
for name, kind in (("llamacpp", "F16"), (engine, kinds[0]), (engine, kinds[-1])):
    with load("nano", name, kind) as model:
        answers[f"{name} {kind}"] = [model.chat(question, max_tokens=24).text for question in questions]

# %%
reference = answers["llamacpp F16"]
for who, said in answers.items():
    print(f"{who:14} the same as llamacpp F16 in {sum(map(str.__eq__, said, reference))} of {len(said)}")
list(zip(reference, said, strict=True))

# %% [markdown]
# **Read the counts**, then the pairs: llama.cpp's answer, and that of the last row. With the same unrounded weights,
# two engines should nearly always agree. Where they do not, two tokens were almost equally likely, and sums in another
# order tipped the scale. With 4 bits the *weights* differ, and so may the text. Lab 04 shows how to measure that
# properly.
#
# ## 5 · The cache
#
# While it writes, the model keeps a key and a value of each token for each layer: the KV cache. MLX makes room for 256
# tokens at once, so that the array need not grow with each token.

# %%
if HERE:
    from mlx_lm.models.cache import make_prompt_cache

    with load("nano", "mlx", "4bit") as model:
        cache = make_prompt_cache(model.engine.model)
        ids = model.engine.tokenizer.encode(" ".join(questions)).ids
        mx.eval(model.engine.model(mx.array([ids]), cache=cache))
    keys = cache[0].keys
    print(f"{len(cache)} layers; {cache[0].offset} tokens read; keys of a layer: {keys.shape} {keys.dtype}")

# %% [markdown]
# The shape is (texts, KV heads, room for tokens, numbers in a head). These are the figures that decide:

# %%
import json

config = json.loads((nano_folder() / "config.json").read_text("utf-8"))
[f"{name}: {config[name]}" for name in config if name.startswith("num_") or name == "head_dim"]

# %% [markdown]
# ### Exercise 3
#
# How many **bytes** does the cache need for each token, if it is kept in float16, as on a Mac? (`config` has what you
# need. Keys *and* values.)

# %%
### BEGIN SOLUTION
per_token = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 2
### END SOLUTION
q3.check(config, per_token)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# On a Mac the calculation of lab 04 decides, too: weights plus cache must fit beside all other programs.
#
# ## Recap
#
# You can now
#
# - say what a lazy array has computed so far, and what makes it compute
# - explain unified memory, and what it saves
# - convert a model to MLX's format, and choose bits and group size by size and error
# - run it, compare its text with another engine's, and size its KV cache
#
# **Next**: lab 08 asks Foundry Local to choose engine and variant for this hardware.

# %%
from labkit.testing import finish

finish()
