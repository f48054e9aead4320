# %% [markdown]
# # 01 · Meet your machine
#
# **25 minutes** · needs only this kit: no network, no GPU, no account
#
# An *edge* agent runs where its user is: on a laptop, a till, a gateway in a barn. So the first question is not
# "which model is best?" but "what does this machine give me?". In this lab you ask it, run a real language model on
# it, let that model call a function of yours, and find out where the milliseconds go.
#
# You will be able to
#
# - read off what this machine offers a model, and how large a model could be
# - run a small language model and watch its tokens arrive
# - let the model choose a function of yours, run it, and hand back the result
# - measure where the time of an answer goes
#
# Every number below is measured on your machine while you watch. Yours will differ from your neighbour's: compare them.

# %%
from labkit import doctor, load
from labkit.checks.lab01 import q1, q2, q3, q4
from labkit.widgets import Timeline

# %% [markdown]
# ## 1 · What this machine offers
#
# **Predict**: how many processor cores may this notebook use? On a shared server or in a container it is often fewer
# than the machine has.
#
# **Run** the check-up. It looks at the processor, memory, disk, the engines that are installed, and the models here.

# %%
report = doctor()
report

# %% [markdown]
# **Read the numbers.** Three of them decide what you can run:
#
# - **free memory** is the hard limit: a model that does not fit does not run. Weights take *parameters × bits / 8*
#   bytes, and the conversation needs room on top.
# - **usable cores** set how fast a prompt is read. A notebook in a container may see 64 cores and be allowed two.
# - **engines**: an engine is the program that runs the model. `installed` means the package is there, not yet that
#   it works. `doctor(deep=True)` makes each engine write a token, and only then says `usable`.
#
# ### Exercise 1
#
# A common compromise between size and quality is called Q4_K_M: about 4.85 bits a weight, where training used 16.
# Half of the memory that is free now shall go to the model. How many **billion** parameters could it have?

# %%
free_bytes = report.machine.memory_available
### BEGIN SOLUTION
billions = free_bytes / 2 * 8 / 4.85 / 1e9
### END SOLUTION
q1.check(billions)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · First tokens
#
# The kit brings a model of its own, *nano*: 4 million parameters, trained from nothing for this course, about a
# thousandth of a usual small model. It knows next to nothing about the world. What it has learned is an agent's work:
# read a request, pick a tool, fill in the arguments, report the result. It is small enough to run anywhere, so that
# you can look at everything it does.
#
# `load` finds the best engine here and says why it chose it. The first time, it also turns nano's weights into the
# file which that engine reads, at about 5 bits a weight.

# %%
m = load("nano")
m

# %% [markdown]
# `load` chose for you. In the picker you choose: what cannot be loaded here has its reason in brackets. **Look at** the
# line *memory* while you change the level: what does the model need, and what is free? (Load another one if you like:
# it is `picker.model` then. This lab goes on with `m`.)

# %%
from labkit.widgets import ModelPicker

picker = ModelPicker()
picker

# %% [markdown]
# **Predict**: will the answer come all at once, word by word, or in other pieces?
#
# **Run**. Every chunk is one step of the model; the bars show where one ends.

# %%
for chunk in m.stream("Hello! Who are you?"):
    print(chunk.text, end="|")

# %% [markdown]
# **Read the pieces.** They are *tokens*: the model's alphabet. nano's has 4,096 entries, larger models have 30,000 to
# 250,000. A model reads tokens, writes tokens, and is paid for by the token. nano takes a space for a token of its
# own; larger models glue it to the word behind it.
#
# `score` shows how a text is cut, and how likely the model thought each token after the ones before it, as a natural
# logarithm: 0 is certain, −1 is one in three, −10 one in 20,000. (The first token has none before it, so no score.)

# %%
for token in m.score("Turn on the light in the kitchen")[1:]:
    print(f"{token.text!r:12} {token.logprob:6.1f}")

# %% [markdown]
# ### Exercise 2
#
# What is rare costs more. Find **one word of at most 12 characters** that costs nano 6 tokens or more.
# (A medicine? Your own name? A word from your language?)

# %%
### BEGIN SOLUTION
my_word = "Zxqvwkyj42"
### END SOLUTION
q2.check(m, my_word)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3 · First tool call
#
# A model only writes text. It becomes an *agent* when a program around it acts on what it writes. The smallest such
# program takes three steps: the model asks for a function, you run it, the model reads the result.
#
# Here is a function. The model never sees its code: it sees the name, the type hints and the docstring.


# %%
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return '{"temperature": 18, "condition": "cloudy"}'


# %% [markdown]
# **Predict**: what will the model answer, the weather or something else?

# %%
reply = m.chat("What is the weather in Paris?", tools=[get_weather])
reply

# %% [markdown]
# **Read the reply.** There is no text in it. The model has written a *tool call*: a name and arguments. Nothing has
# run yet; whether it does is up to you. Step two is yours:

# %%
call = reply.tool_calls[0]
result = get_weather(**call.arguments)
print(call, "→", result)

# %% [markdown]
# Step three: put the model's turn and the result into the conversation, and ask again.

# %%
messages = [{"role": "user", "content": "What is the weather in Paris?"}, reply.message]
messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print(m.chat(messages, tools=[get_weather]))

# %% [markdown]
# That is the whole loop. Lab 12 lets it run by itself, and shows what can go wrong: a small model picks the wrong tool
# or a wrong argument now and then, so a program around it must check before it acts.
#
# Talk to it yourself, with that tool at hand. **Look at** the lines that begin with an arrow: a call, and beneath it
# what came back. Then press *Token probabilities*: of which word was it least sure?

# %%
from labkit.widgets import Chat

Chat(m, tools=[get_weather])

# %% [markdown]
# ### Exercise 3
#
# Write a tool `set_light` with a string `room` and a boolean `on`, for requests such as "Turn on the light in the
# kitchen". The check looks at what the model sees of your function, then asks nano with `tool_choice="required"`: the
# engine admits nothing but a call that fits your types. The form is then sure. Is the content right, too?


# %%
### BEGIN SOLUTION
def set_light(room: str, on: bool) -> str:
    """Turn the light in a room on or off."""
    return f"The light in the {room} is {'on' if on else 'off'}."


### END SOLUTION
q3.check(m, set_light)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4 · Where the time goes
#
# An answer has two phases. The model first *reads* the whole prompt, many tokens at once. Then it *writes*, one token
# after another, and each new token needs all weights once more.
#
# **Predict**: which phase will be longer for a prompt of 800 tokens and an answer of 40?
#
# (`ignore_eos` makes the model write on after the end it would choose itself, so that there is enough to measure. What
# it then says is nonsense; how fast it says it is not.)

# %%
story = "The kettle is in the kitchen and the lamp is in the hall. " * 30
answer = m.chat(story + "Where is the lamp?", max_tokens=40, ignore_eos=True)
Timeline(answer)

# %% [markdown]
# **Read the picture.** The orange part is the time to first token (TTFT): your user sees nothing. Each blue tick is an
# output token; the gap between two is what makes text crawl or fly. If the caption says that the machine was loaded,
# close what else is running and try again: a measurement made beside other work measures the other work.
#
# Now ask the very same question once more.

# %%
again = m.chat(story + "Where is the lamp?", max_tokens=40, ignore_eos=True)
Timeline(again)

# %% [markdown]
# The engine kept what it computed for the first prompt (the *KV cache*) and read only what was new. This is why an
# agent should keep the beginning of its prompt the same from turn to turn: instructions and tools first, news last.

# %%
print(f"first time {answer.timing.ttft * 1e3:6.1f} ms, {answer.usage.cached_tokens:4} tokens cached")
print(f"again      {again.timing.ttft * 1e3:6.1f} ms, {again.usage.cached_tokens:4} tokens cached")

# %% [markdown]
# ### Exercise 4
#
# `stamps` holds the second at which each token arrived, counted from the request. With how many tokens per second did
# the model **write**, once it had begun? (Count the gaps, not the fence posts.)

# %%
counted = m.chat("Hello!", max_tokens=100, ignore_eos=True)
stamps = counted.timing.stamps
### BEGIN SOLUTION
speed = (len(stamps) - 1) / (stamps[-1] - stamps[0])
### END SOLUTION
q4.check(counted, speed)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# ## Recap
#
# You can now
#
# - read off what this machine offers a model, and how large a model could be
# - run a small language model and watch its tokens arrive
# - let the model choose a function of yours, run it, and hand back the result
# - measure where the time of an answer goes
#
# **Next**: lab 02 asks what an agent is, and builds four that need no language model at all.

# %%
m.close()
from labkit.testing import finish

finish()
