# %% [markdown]
# # 13 · Agent Framework
#
# **50 minutes** · needs this kit with its extra `agents`; no network, no GPU, no account
#
# In lab 12 you wrote the loop of an agent by hand. A framework brings the loop, and what a product needs around it:
# sessions that outlive the program, a trail of what was done, a person who has to agree before money moves. Here you
# use Microsoft's *Agent Framework* with nano as its model, in this very process.
#
# You will be able to
#
# - run an agent in your own process and over a URL, and read from its trace where the time went
# - keep a conversation and what you know of a user across a restart
# - put an audit, a guard and a person between an agent and its tools
# - get an answer as a checked Python object, and limit how many agents run at a time
#
# All times are *measured* on your machine.

# %%
from labkit import load
from labkit.checks.lab13 import q1, q2, q3, q4
from labkit.widgets.agent_trace import AgentTrace

# %% [markdown]
# ## 1 · An agent in this process
#
# The framework's package is `agent_framework`. (Some courses import `microsoft_agent_framework`, an
# `AgentOrchestrator`, or call `chat_async`: none of these exist.) It speaks to a model through a *chat client*, and
# `labkit.agents.framework` has one for every engine of this kit.

# %%
from agent_framework import Agent
from labkit.agents.framework import ChatClient

nano = load("nano")


# %%
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return '{"temperature": 18, "condition": "cloudy"}'


# %% [markdown]
# **Predict**: you ask one question, and the agent has one tool. How often is the model asked?
#
# **Run** it. `record` keeps what OpenTelemetry tells of the run. With `texts=True` it keeps the words, too; leave that
# out where real customers speak.

# %%
from labkit.agents.spans import event, record

guide = Agent(ChatClient(nano), name="guide", tools=[get_weather])
with record(texts=True) as spans:
    response = await guide.run("What is the weather in Hanoi?")
print(response.text)

# %%
run = event(spans)
AgentTrace(run)

# %% [markdown]
# **Read the trace.** Each `model` bar is one question to nano. If nano called the tool, a bar that ends in the call
# comes before the tool's, and one that reads the result after it: the framework did what you did by hand in lab 12. If
# there is a single bar, nano did not call, and the answer is its invention.
#
# The same in the framework's own terms: every message holds *contents*, each with a type.

# %%
for message in response.messages:
    print(message.role, [content.type for content in message.contents])

# %% [markdown]
# ### Exercise 1
#
# Which share of the run's seconds was the model's? `run.walk()` yields `(depth, event)` for the run and everything in
# it; an event has `kind`, `name` and `seconds`.

# %%
### BEGIN SOLUTION
share = sum(e.seconds for _, e in run.walk() if e.kind == "model") / run.seconds
### END SOLUTION
q1.check(run, share)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · The same agent over a URL
#
# Most programs ask a server. llama.cpp's server speaks OpenAI's protocol, and the framework has a client for that. The
# server runs on this machine and listens on the loopback address only.
#
# (`OpenAIChatCompletionClient` is the one for `/v1/chat/completions`. `OpenAIChatClient` speaks a newer protocol, the
# Responses API, which most local servers do not have.)

# %%
from agent_framework.openai import OpenAIChatCompletionClient
from labkit.engines.registry import engine_class

state = engine_class("llamaserver").available()
server = load("nano", engine="llamaserver") if state.installed else None
print(server or f"The agent in this process stands in: {state.reason} (→ {state.fix})")

# %%
if server:
    client = OpenAIChatCompletionClient(model="nano", base_url=server.engine.url, api_key="none")
else:
    client = ChatClient(nano)

# %%
remote = Agent(client, name="guide", tools=[get_weather])
print((await remote.run("What is the weather in Hanoi?")).text)

# %% [markdown]
# One line changed, and it was not a line about the agent. **Predict**: which is faster for a short answer, the model in
# this process or the server?

# %%
import statistics
import time


async def milliseconds(agent):
    began = time.perf_counter()
    await agent.run("Hello!")
    return 1e3 * (time.perf_counter() - began)


for place, agent in {"in this process": guide, "over a URL": remote}.items():
    times = [await milliseconds(agent) for _ in range(7)]
    print(f"{place:16} median {statistics.median(times):6.1f} ms, slowest {max(times):6.1f} ms")

# %% [markdown]
# **Read the numbers** with care: two builds of llama.cpp are two programs, and the answers are short. What a URL buys
# you is another thing: many callers, another machine, a restart of your program without loading the model again.
#
# ## 3 · Sessions and memory
#
# An agent remembers nothing by itself. A *session* holds the conversation, and the model reads all of it each time.

# %%
session = guide.create_session()
print((await guide.run("My name is Mira.", session=session)).text)
print((await guide.run("What is my name?", session=session)).text)

# %% [markdown]
# When the program ends, what is on disk is all that is left. `to_dict()` makes plain JSON of a session.

# %%
import json
import tempfile
from pathlib import Path

file = Path(tempfile.mkdtemp()) / "session.json"
file.write_text(json.dumps(session.to_dict()), encoding="utf-8")
del session, guide

# %%
from agent_framework import AgentSession

session = AgentSession.from_dict(json.loads(file.read_text(encoding="utf-8")))
guide = Agent(ChatClient(nano), name="guide", tools=[get_weather])
await guide.run("Do you still know my name?", session=session)
for message in session.state["in_memory"]["messages"]:
    print(f"{message.role:9} {message.text}")

# %% [markdown]
# **Read the turns**: those from before the restart are there, so the model read them. Whether it makes good use of them
# is another question, and one answer is no measurement:

# %%
from labkit.metrics.intervals import wilson

names = ["Mira", "Tomas", "Aylin", "Jonas", "Priya", "Lena", "Omar", "Wen", "Ida", "Kofi"]
hits = 0
for name in names:
    session = guide.create_session()
    await guide.run(f"My name is {name}.", session=session)
    hits += name in (await guide.run("What is my name?", session=session)).text
low, high = wilson(hits, len(names))
print(f"{hits} of {len(names)} names came back; 95 % interval {100 * low:.0f}–{100 * high:.0f} %")

# %% [markdown]
# A session file holds what people said. Whoever can read the file can read that, and whoever can write it can put words
# into the agent's memory: treat it as you treat a password file.
#
# Some things should not depend on the model's memory at all. A *context provider* adds what your program knows: before
# each request its method `async def before_run(self, *, agent, session, context, state)` is called. `state` is a dict
# of its own in the session, saved along with it; `context.extend_instructions(self.source_id, text)` adds an
# instruction. An agent gets it as `Agent(…, context_providers=[Profile("profile")])`.
#
# ### Exercise 2
#
# Write the class `Profile`. Where `state` has a `"name"`, it adds an instruction with that name; for a guest it adds
# nothing. The check gives it a session that was saved and restored.

# %%
from agent_framework import ContextProvider


### BEGIN SOLUTION
class Profile(ContextProvider):
    async def before_run(self, *, agent, session, context, state):
        if name := state.get("name"):
            context.extend_instructions(self.source_id, f"The user is {name}.")


### END SOLUTION
q2.check(Profile)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 4 · Between the agent and its tools
#
# A shop's agent may look up orders, and refund them. The second moves money. `approval_mode="always_require"` makes the
# framework stop before such a call and hand it to you.

# %%
from agent_framework import tool


def look_up(order: str) -> str:
    """Look up an order."""
    return f"Order {order}: paid with card 4103-2207-9981-0042"


@tool(approval_mode="always_require")
def refund(order: str, amount: float) -> str:
    """Refund money to the customer."""
    return f"Refunded {amount:.2f} on order {order}"


# %% [markdown]
# To study what stands around a model, you want a model that does what you expect. The engine `echo` says what a script
# tells it: here it looks up the order, then wants to refund it, then says so. **It is a stand-in**, and no model.


# %%
def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def scripted(amount):
    steps = [call("look_up", order="A1"), call("refund", order="A1", amount=amount), "That is all I did."]
    return load("nano", engine="echo", script=steps)


# %% [markdown]
# Three pieces of middleware:
#
# - `Audit` writes a JSON line for every call, also for those that were refused. It stands first in the list, so that it
#   sees everything.
# - `Guard` asks rules about every call before it runs. A rule can refuse the call, with a reason that the model reads,
#   or replace its arguments.
# - `Mask` changes what the model reads: here the card number, which no model needs.
#
# ### Exercise 3
#
# Write the rule `limit(name, arguments)`: a `refund` must be more than 0 and at most 100. Return a reason to refuse;
# return nothing to let a call pass. Every other tool passes. Write down what is *allowed* and refuse the rest: a model
# can write any number there is, and some that are none.


# %%
### BEGIN SOLUTION
def limit(name, arguments):
    if name == "refund" and not 0 < arguments["amount"] <= 100:
        return "only refunds of more than 0 and up to 100 are allowed"


### END SOLUTION
q3.check(limit)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# **Predict**: the script wants to refund 20, and you agree. What will the audit hold? (The rule here is the kit's own,
# so that the cell runs whatever you wrote above.)

# %%
from labkit.agents.limits import run_approved
from labkit.agents.middleware import Audit, Guard, Mask

audit = Audit(file.with_name("audit.jsonl"))
guard = Guard(lambda name, given: "too much" if given.get("amount", 0) > 100 else None)
around = [audit, guard, Mask(r"\d{4}-\d{4}-\d{4}-\d{4}", "****")]


def person(call):
    print("May I?", call)
    return call.arguments["order"] == "A1"  # a person would think longer


# %%
till = Agent(ChatClient(scripted(20)), name="till", tools=[look_up, refund], middleware=around)
response = await run_approved(till, "I want my money back for A1.", person, till.create_session())
for row in audit.rows():
    print(row["tool"], row["arguments"], "→", row["result"] or row["error"])

# %% [markdown]
# **Read it**: the model never saw the card number, and the audit has it in full. A log is data about people, too:
# decide who may read it, and for how long it is kept. (This one is made readable for its owner only.)
#
# `person` is a function here, since nobody sits at this notebook when it is tested. In a product it is a dialog, a
# message to a colleague, or a ticket that waits till Monday: the request is in the session, the session is on disk, and
# the answer may come after a restart.
#
# Now the same with 500, and the same friendly person.

# %%
till = Agent(ChatClient(scripted(500)), name="till", tools=[look_up, refund], middleware=around)
response = await run_approved(till, "I want 500 for A1.", person, till.create_session())
print(audit.rows()[-1]["tool"], "→", audit.rows()[-1]["result"])

# %% [markdown]
# **Read the order of things.** The person agreed, and the guard refused all the same. Rules are for what is never
# allowed; people are for what depends. The framework holds on to what was agreed to: if a guard *changes* the arguments
# after a person has agreed to them, it asks the person again.
#
# None of this trusts the model. A text that says "you may refund anything" changes what a model wants, and nothing
# about what it may do.
#
# ## 5 · Answers as objects, and a limit
#
# A program cannot work with "it is kind of urgent". `response_format` takes a pydantic class. On an engine that can be
# held to a schema the form is then sure, and the framework makes an object of it.

# %%
from pydantic import BaseModel, Field


class Weather(BaseModel):
    city: str = Field(max_length=20)
    temperature: int


answer = await Agent(ChatClient(nano)).run("Hanoi has 31 °C", options={"response_format": Weather})
answer.value

# %% [markdown]
# **Read it**: a short text and a whole number, always. Is it the right city, and the right number? A schema does not
# know. The narrower the class, the less can go wrong: without `max_length` a small model may never end the city's name.
#
# ### Exercise 4
#
# Write `Ticket`: a `topic` that is one of `"billing"`, `"technical"`, `"scheduling"`; `urgent`, yes or no; and `order`,
# a whole number from 1 up. Nothing may be missing.

# %%
from typing import Literal


### BEGIN SOLUTION
class Ticket(BaseModel):
    topic: Literal["billing", "technical", "scheduling"]
    urgent: bool
    order: int = Field(ge=1)


### END SOLUTION
q4.check(nano, Ticket)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# The last piece. Each run of an agent holds its conversation in memory and wants the cores; a small machine that takes
# on every run at once slows all of them down. `AtMost` is middleware that lets so many runs go on at a time, of all
# agents that share it; the others wait.
#
# **Predict**: six agents, each of which takes about 0.2 seconds (scripted, so that it is the same everywhere). How long
# do all six take with a limit of 6, of 2 and of 1?

# %%
import asyncio
from labkit.agents.limits import AtMost

for number in (6, 2, 1):
    gate, began = AtMost(number), time.perf_counter()
    slow = [load("nano", engine="echo", script=["one two three four"], delay=0.05) for _ in range(6)]
    agents = [Agent(ChatClient(model), middleware=[gate]) for model in slow]
    await asyncio.gather(*(agent.run("go") for agent in agents))
    print(f"limit {number}: {gate.most} at a time, {time.perf_counter() - began:.2f} s")

# %% [markdown]
# **Read the numbers.** These agents only wait, so six at a time cost nothing. Real ones share the cores: lab 10 showed
# where the gain ends. The limit belongs where *your* measurement says it ends.
#
# ## Recap
#
# You can now
#
# - run an agent in your own process and over a URL, and read from its trace where the time went
# - keep a conversation and what you know of a user across a restart
# - put an audit, a guard and a person between an agent and its tools
# - get an answer as a checked Python object, and limit how many agents run at a time
#
# **Next**: lab 14 lets several agents work together, and asks when that is worth it.

# %%
if server:
    server.close()
nano.close()
from labkit.testing import finish

finish()
