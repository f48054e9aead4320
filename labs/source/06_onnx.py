# %% [markdown]
# # 06 · ONNX
#
# **40 minutes** · needs ONNX Runtime GenAI (`labkit[onnx]`); no network, no GPU, no account. Without it, the tables
# below are recordings and say so.
#
# llama.cpp brings its own code for every kind of model. ONNX turns this around: the *model* brings its computation as
# a graph in a file, and the runtime needs to know operators only, not models. So one runtime can hand the graph to the
# processor, to a GPU or to an NPU of any vendor. In this lab you open that file, watch the runtime rewrite it, and
# find out where its time goes.
#
# You will be able to
#
# - read a model's graph: nodes, operators and weights
# - say what each optimization level changed, and measure what it gained
# - name the execution providers here, and try another one
# - profile a graph, and compute what a faster operator would gain
#
# *Measured*: this machine just did it. *Recorded*: another machine did it earlier. *Quoted*: somebody else's statement,
# with its source.

# %%
from labkit.checks.lab06 import q1, q2, q3
from labkit.engines.onnx_graph import make_graph, read_graph
from labkit.engines.onnx_session import HERE, levels, nano, operators, optimize, providers

# %%
from labkit.engines.onnx import Onnx
from labkit.metrics.probes import loaded_machine

state = Onnx.available()
print(f"ONNX Runtime GenAI {state.version}" if HERE else f"recorded, since {state.reason} → {state.fix}")
print(loaded_machine() or "the machine is quiet")

# %% [markdown]
# ## 1 · A graph is a file
#
# An `.onnx` file holds three things: *nodes* (which operator, what it reads, what it makes), *initializers* (the
# weights), and the names of the inputs and outputs. `read_graph` is some 50 lines of Python without any library: the
# file is one long list of numbered fields.
#
# **Predict**: nano has millions of weights. How many nodes has its graph: dozens, thousands, or millions?

# %%
graph = read_graph(nano("int4"))
graph

# %%
graph.ops.most_common()

# %% [markdown]
# **Read the operators.** A few kinds do everything. Here is one layer of the transformer. The lower line in a box says
# who defined the operator, and what it makes; arrows from outside the layer are left out.

# %%
from labkit.widgets.graphs import Graphs

Graphs({"layer 0": [node for node in graph.nodes if "/layers.0/" in node.outputs[0]]})

# %% [markdown]
# `ai.onnx` is the standard. `com.microsoft` are operators of ONNX Runtime alone: a whole attention in one node, a
# multiplication with 4-bit weights in one node. They are fast, and they tie the file to this runtime. (So does
# `SimplifiedLayerNormalization`: it carries the standard's name, but the standard has no such operator.) "Open format"
# means that everybody can *read* the file, not that everybody can run it.
#
# The KV cache of lab 01 is in plain sight, too. A graph has no memory. So the cache goes in and comes out:

# %%
print("in: ", graph.inputs[:4], "…")
print("out:", graph.outputs[:3], "…")

# %% [markdown]
# ### Exercise 1
#
# A `MatMulNBits` reads its 4-bit codes and one scale for each block of weights. How many **bits** does a weight take,
# its share of the scale included? Two codes share a byte.

# %%
node = next(node for node in graph.nodes if node.op == "MatMulNBits")
codes, scales = (graph.initializers[name] for name in node.inputs[1:3])
codes, scales

# %%
### BEGIN SOLUTION
bits = 8 * (codes.bytes + scales.bytes) / (2 * codes.bytes)
### END SOLUTION
q1.check(graph, node, bits)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Compare with lab 04: Q4_0 of llama.cpp takes 4.5 bits. Its blocks are of the same size, but its scales are float16.
#
# ## 2 · The runtime rewrites the graph
#
# Before it runs a graph, ONNX Runtime rewrites it. There are three levels, each on top of the one before
# (quoted from its documentation, *Graph Optimizations in ONNX Runtime*):
#
# - **basic** keeps the meaning exactly: it computes what is constant, and removes what changes nothing;
# - **extended** fuses several nodes into one of ONNX Runtime's own operators;
# - **all** also changes the layout of the data in memory, which convolutions profit from.
#
# Here is a small layer, written as clumsily as exporters sometimes do. It takes `x` with 64 numbers.

# %%
import numpy as np

numbers = np.random.default_rng(6)
constants = {"w": numbers.normal(size=(64, 64)) / 8, "b": numbers.normal(size=64), "one": 1, "half": 0.5}
lines = "two = Add(one, one); root = Sqrt(two); same = Identity(x); h = MatMul(same, w); z = Add(h, b)"
lines += "; r = Div(z, root); e = Erf(r); p = Add(e, one); t = Mul(z, p); y = Mul(t, half)"
tiny = make_graph(lines.split("; "), constants)
Graphs({"as written": read_graph(tiny).nodes})

# %% [markdown]
# **Predict**: ten nodes. How many are left at each level?

# %%
levels("tiny", tiny)

# %%
rewritten = {level: read_graph(optimize(tiny, level)).nodes for level in ("basic", "extended") if HERE}
Graphs({"as written": read_graph(tiny).nodes} | rewritten)

# %% [markdown]
# **Read the table and the graphs.** `Add` and `Sqrt` had only constants to work on, so they were computed once and for
# all. `Identity` is gone. `MatMul` and `Add` became one `Gemm`. What is left from `Div` to `Mul` is a formula the
# optimizer knows: *z · (1 + erf(z / √2)) / 2* is the activation function **GELU**, and from level *extended* on it is
# one node.
#
# Now nano. `fp32` computes with float32 weights, and its file keeps them as float16, with a `Cast` behind each.
# **Predict**: what does the optimizer do with the casts, and what does that do to the size of the file it would save?

# %%
float32 = levels("fp32")
float32

# %% [markdown]
# A cast of a constant is a constant. So at *basic* the casts are gone, and the graph is **more than twice as large**:
# all weights are float32, and one of them is there twice, for nano reads its embedding also turned over. The optimizer
# trades bytes for time. That is why the file on disk is better left as it is, and optimized at each load.

# %%
int4 = levels("int4")
int4

# %% [markdown]
# Here the levels change little: the exporter (ONNX Runtime GenAI's *model builder*) already wrote most fused operators.
# *Extended* makes one `QuickGelu` of a `Sigmoid` and a `Mul` in each layer. (Reading the file alone, *disable*, turns
# the `Constant` nodes into initializers.) Compare the times with care. The median is what you would wait for; the least
# is what the machine can do undisturbed.
#
# ### Exercise 2
#
# Write a graph of **at least five nodes** of which one is left at *basic*: a list `mine` of lines like those above. It
# takes `x`; the constants `zero`, `half`, `one` and `two` are there. Any operator of the standard that needs no
# attributes will do: `Add`, `Mul`, `Sqrt`, `Relu`, `Identity`, … The last line is the result.

# %%
### BEGIN SOLUTION
mine = [
    "a = Identity(x)",
    "b = Identity(a)",
    "three = Add(one, two)",
    "six = Mul(three, two)",
    "y = Mul(b, six)",
]
### END SOLUTION
q2.check(mine)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3 · Who runs the nodes
#
# An *execution provider* runs nodes on one kind of device: CPU, CUDA (NVIDIA), QNN (Qualcomm), CoreML (Apple),
# OpenVINO (Intel), WebGPU, … Each takes the nodes it knows, and the CPU takes the rest. A graph that is half on one
# device and half on another pays for every crossing.
#
# Which one did our engine choose, and why? It says so:

# %%
from labkit import load

engine, exact, small = ("onnx", "fp32", "int4") if HERE else ("llamacpp", "F16", "Q4_K_M")
with load("nano", engine, small) as m:
    print(m.why)

# %% [markdown]
# (If that says `llamacpp`, it is a stand-in for the missing ONNX Runtime.)
#
# **Predict**: which providers are here? **Run** each of them on nano, one token at a time.

# %%
providers()

# %% [markdown]
# Since version 1.23 a provider can be a package of its own beside `onnxruntime`. **OpenVINO** was tried on a machine
# without a GPU (*recorded*, Linux x86-64, Python 3.11, onnxruntime 1.31.0):
#
# - `pip install onnxruntime-ep-openvino` brought version 1.8.1, a wheel of 53 MB with OpenVINO inside. It works in the
#   same environment: it registers, finds the processor, and runs nano in both variants.
# - The older `onnxruntime-openvino` (1.24.1, 84 MB) is a whole ONNX Runtime of its own. It installs into the same
#   folder as `onnxruntime` and would overwrite it, so it got its own environment. It ran nano's int4 as well.
# - `onnxruntime-ep-webgpu` (0.4.0, 7 MB) registered, too, but offered no device: there was no GPU.
#
# This is what the first one measured:

# %%
providers(recorded=True)

# %% [markdown]
# **Read the recording.** (If its title says that the machine was loaded, trust the column *least* alone.) OpenVINO is
# *slower* here: nano's token takes so little arithmetic that the fixed work for a call decides. Its logits differ, too:
# they are bfloat16 numbers, a type that this processor has instructions for. On another model or another chip the
# answer may be the opposite. That is the point: try it. To add it to the table above, type
# `pip install onnxruntime-ep-openvino` in a terminal, restart the kernel, and run the lab again.
#
# ## 4 · Where the time goes
#
# ONNX Runtime can write down when each node began and ended. `operators` turns that trace into a table.
#
# **Predict**: in int4, which operator takes the longest, and what is its share?

# %%
table = operators("int4")
table

# %% [markdown]
# **Read the shares.** The multiplications with the weights are most of it, as everybody expects. The rest is small
# work in many nodes. For a large model the first share grows towards 1, because the weights grow faster than the rest.

# %%
for op, share_of_op in table.column("share").items():
    print(f"{op:34}{'█' * round(60 * share_of_op)} {share_of_op:.1%}")

# %% [markdown]
# ### Exercise 3
#
# Somebody offers you a kernel that makes the **longest** operator of your table **twice as fast**. How many times as
# fast would a token be? (This is Amdahl's law. `table.column("share")` holds the shares.)

# %%
### BEGIN SOLUTION
share = max(table.column("share").values())
faster = 1 / (1 - share / 2)
### END SOLUTION
q3.check(table, faster)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 5 · Two variants, and who makes them
#
# Is int4 worth it? Size and speed of the graphs first (time from the tables of section 2, when all is optimized), then
# the answers.

# %%
for variant, found in {"fp32": float32, "int4": int4}.items():
    size, ms = nano(variant).stat().st_size / 1e6, found.column("ms (least)")["all"]
    print(f"{variant}: {size:.1f} MB, {ms:.2f} ms a token")

# %%
text = "Hello! Who are you?|What can you do?|Thank you!|Repeat these words: apple, lamp, river."
text += "|Extract name and age as JSON: Ada is 36.|The lamp is in the hall. Where is the lamp?"
questions = text.split("|")
answers = {}
for variant in (exact, small):
    with load("nano", engine, variant) as m:
        answers[variant] = [m.chat(question, max_tokens=24).text for question in questions]

# %%
for question, before, after in zip(questions, answers[exact], answers[small], strict=True):
    print(f"{question}\n  {exact:6} {before!r}\n  {small:6} {'the same' if before == after else repr(after)}")

# %% [markdown]
# Six answers prove nothing. Lab 04 shows how to measure what rounding costs.
#
# ### What Olive automates
#
# Somebody has to choose: which conversion, which optimization, how many bits, which provider, how many threads. You
# did it by hand. **Olive** is Microsoft's tool that runs such steps (*passes*) in a row, measures, and searches for
# the best combination. Names of passes are quoted from its reference (microsoft.github.io/Olive, 0.7.1); nothing of
# Olive ran here.
#
# | pass of Olive | does | in this kit, by hand |
# |---|---|---|
# | `OnnxConversion`, `ModelBuilder` | PyTorch → ONNX | `labkit/training/export_onnx.py` calls the same model builder |
# | `OnnxPeepholeOptimizer`, `OrtTransformersOptimization` | fewer, fused nodes | section 2, at load time |
# | quantization passes (int4 blocks, GPTQ, AWQ, …) | fewer bits | int4 in the model builder; GPTQ and AWQ in lab 04 |
# | `OnnxFloatToFloat16` | float16 | `fp32.onnx`, stored so |
# | `OrtSessionParamsTuning` | provider, threads, level: tries and measures | sections 2 and 3 |
#
# What no tool automates is the last step: to decide whether the loss is one your users notice.
#
# ### What WebGPU needs
#
# The same graph can run in a web page, on the visitor's GPU. Quoted from ONNX Runtime's documentation (*Using the
# WebGPU Execution Provider*, *Working with Large Models*), the package page of `onnxruntime-ep-webgpu`, and the W3C's
# WebGPU specification:
#
# - **a runtime**: in a browser `onnxruntime-web` with its WebGPU build; in Python the plug-in of section 3, onnxruntime
#   1.24.4 or newer, and on Linux a Vulkan loader (`libvulkan.so.1`);
# - **float16**: the GPU feature `shader-f16` is optional. Code must ask for it, and a model in float16 needs a second
#   variant for GPUs without it;
# - **memory**: a device is granted 128 MiB for one storage buffer (`maxStorageBufferBindingSize`) and 256 MiB for any
#   buffer, unless the page asks for more and the GPU has it; WebAssembly ends at 4 GB; a protobuf file ends at 2 GB,
#   and larger models keep their weights in files beside it;
# - **operators**: a node without a WebGPU kernel runs on the CPU, and its data crosses over and back.
#
# **Estimate**: would the largest array of nano's int4 graph fit one buffer?

# %%
name, largest = max(graph.initializers.items(), key=lambda item: item[1].bytes)
print(f"{name}: {largest.bytes / 2**20:.2f} MiB of 128")

# %% [markdown]
# ## Recap
#
# You can now
#
# - read a model's graph: nodes, operators and weights
# - say what each optimization level changed, and measure what it gained
# - name the execution providers here, and try another one
# - profile a graph, and compute what a faster operator would gain
#
# **Next**: lab 07 does without a file: MLX builds its graph while your program runs.

# %%
from labkit.testing import finish

finish()
