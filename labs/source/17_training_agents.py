# %% [markdown]
# # 17 · Training agents
#
# **60 minutes** · needs this kit; to train, its extra `train` (torch, on CPU or a GPU). Without it the figures of
# training are a recording and say so. No network, no account.
#
# A small model that fails at your task can be taught it. The lesson is not a text to read: the model tries, something
# judges the result, and what worked becomes more likely. In this lab you write the judge, collect attempts from agents
# in several frameworks, train nano for a few minutes, and then ask the questions that a proud author forgets: is it
# luck, what was forgotten, and is the reward being cheated?
#
# You will be able to
#
# - write a reward that judges outcomes, and record rollouts of any agent with it
# - train on rewards, and tell learning from luck on held-out tasks
# - deploy the result on two engines, and look for what it forgot
# - show how a bad reward is gamed, and catch it
#
# *Measured*: this machine just did it. *Recorded*: another machine did it earlier.

# %%
from labkit import load
from labkit.checks.lab17 import q1, q2, q3, q4, q5
from labkit.training.school import HERE, School, measure_levels

# %% [markdown]
# ## 1 · A skill that is missing
#
# nano has never seen a theatre. `stage_tasks` makes requests to work a stage's machines, with tools that no shipped
# model was trained on. A task has a *goal*: the state of the stage that was asked for. It is for the judge alone. No
# trainer looks at it, and nobody says which call leads there.

# %%
from labkit.training.stage import outcome, played, stage_tasks, thorough, trainable

task = stage_tasks(1, 1)[0]
print(task.messages[-1]["content"], "\n", task.tools[0]["function"], "\n", task.goal)

# %%
nano = load("nano", engine="llamacpp", variant="F16")
reply = nano.chat(task.messages, tools=task.tools, max_tokens=64)
print(reply, "\n→", outcome(task, reply))

# %% [markdown]
# **Predict**: at which level of difficulty is there something to teach? Where the model always fails, no attempt is
# ever rewarded, and it has nothing to learn from. Where it always succeeds, there is nothing left. Rewards work in
# between.

# %%
success = measure_levels(nano, 20)
for level, share in success.items():
    print(f"{level:24} {share:.0%} of 20 tasks, measured")

# %%
school = School(trainable(success))
print("we train:", school.level)
print(school.about)

# %% [markdown]
# **Read both lines.** Trained is the level nearest to 50 % (a recording has its own); where even that one is below 10 %
# or above 70 %, expect little. The second line says whether the figures of training below are this machine's. `School`
# is short (`labkit/training/school.py`): it calls the functions that this lab names. In class a training takes up to 50
# steps, and at most four minutes. Where the variable `CI` is set, as when this notebook is tested, it takes 6 steps and
# small exams: enough to show that all runs, too little to learn much.
#
# ### Exercise 1
#
# Write the reward: 1 if the stage is then as it was asked for, else 0. `outcome(task, reply)` plays the calls of a
# reply and returns the stage, or None where a machine refused.


# %%
### BEGIN SOLUTION
def reward(task, reply):
    return float(outcome(task, reply) == task.goal)


### END SOLUTION
q1.check(reward)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ### First without training
#
# Before you touch a weight, try words: a *system prompt* costs nothing to change. `search` gives every candidate a few
# tasks, keeps the better half, gives those twice as many, and so on.
#
# **Predict**: does telling nano to be precise make it more precise?

# %%
from labkit.training.prompt_search import edited, search

base = "You work the stage."
edits = ["Call a tool.", "Copy numbers exactly.", "Do not talk."]


def try_prompt(prompt, task):
    told = [{"role": "system", "content": prompt}, *task.messages]
    return played(task, nano.chat(told, tools=task.tools, max_tokens=64))


# %%
trials = search(edited(base, edits, most=1), stage_tasks(24, 4, school.level), try_prompt)
for trial in trials:
    print(f"{trial.reward:.2f} on {trial.tasks:2} tasks: {trial.prompt}")

# %% [markdown]
# **Read the numbers of tasks, too.** The winner of a search was chosen for being lucky on these tasks as well as for
# being good: only new tasks tell. Small models often make little of instructions; larger ones make more.
#
# ## 2 · Rollouts, from any framework
#
# A *rollout* is one run of an agent with all it was told and all it said. To collect them, the agent is not changed at
# all: it gets another address. `RolloutServer` is an OpenAI endpoint on this machine with nano behind it. Each rollout
# has a key of its own, so that agents can run side by side, and gets a reward from whoever judges.

# %%
import openai
from labkit.training.reward import reply_in
from labkit.training.rollouts import RolloutServer, examples, only, write_rollouts

server = RolloutServer(nano, seed=1, max_tokens=64)
print(server.url)

# %%
for task in stage_tasks(24, 5, school.level):
    with server.rollout(task.messages[-1]["content"]) as run:
        client = openai.OpenAI(base_url=run.url, api_key=run.key)
        asked = client.chat.completions.create(model="nano", messages=task.messages, tools=task.tools)
        run.reward(played(task, reply_in(asked.choices[0].message.model_dump())))
print(server.rollouts[0], server.rollouts[1], sep="\n")

# %%
rewarded = examples(server.rollouts)
write_rollouts(school.folder / "rollouts.jsonl", server.rollouts)
print(f"{len(rewarded)} of {len(server.rollouts)} rollouts were rewarded (drawn at temperature 1, measured)")

# %% [markdown]
# **Read it**: these examples were made by the model itself. Fine-tuning on them is called *rejection sampling*: keep
# what was rewarded, imitate it. In a terminal, `labkit train FOLDER --how examples --rollouts FILE` does that with such
# a file, of whatever agent.
#
# Now the same with agents of several makes. Each gets a Python tool and an address.

# %%
import json

stage, wish = {}, "Put lamp B2 on 40 percent."


def dim_lamp(lamp: str, percent: int) -> str:
    """Set how bright a lamp on the stage is."""
    stage[lamp] = percent
    return f"lamp {lamp} is at {percent} percent"


# %%
from labkit.engines.toolschema import tool_schemas


async def by_plain_python(run):
    client, messages = openai.OpenAI(base_url=run.url, api_key=run.key), [{"role": "user", "content": wish}]
    tools = tool_schemas([dim_lamp])
    said = client.chat.completions.create(model="nano", messages=messages, tools=tools).choices[0].message
    messages.append(said.model_dump())
    for call in said.tool_calls or []:
        done = dim_lamp(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": done})
    if said.tool_calls:
        client.chat.completions.create(model="nano", messages=messages, tools=tools)


# %%
async def by_agent_framework(run):
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model="nano", base_url=run.url, api_key=run.key)
    await Agent(client, tools=[dim_lamp]).run(wish)


# %%
async def by_langgraph(run):
    from langchain_openai import ChatOpenAI
    from langgraph.graph import MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    model = ChatOpenAI(model="nano", base_url=run.url, api_key=run.key).bind_tools([dim_lamp])
    graph = StateGraph(MessagesState).set_entry_point("model").add_edge("tools", "model")
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([dim_lamp])).add_conditional_edges("model", tools_condition)
    await graph.compile().ainvoke({"messages": [("user", wish)]})


# %%
async def by_openai_agents(run):
    import agents

    agents.set_tracing_disabled(True)  # it would send what is said to OpenAI
    client = openai.AsyncOpenAI(base_url=run.url, api_key=run.key)
    model = agents.OpenAIChatCompletionsModel(model="nano", openai_client=client)
    hand = agents.Agent(name="hand", model=model, tools=[agents.function_tool(dim_lamp)])
    await agents.Runner.run(hand, wish)


# %% [markdown]
# **Predict**: four makes, one model, the same wish. How many requests does each rollout hold?
#
# LangGraph and OpenAI's Agents SDK are in the kit's extra `compare`; where it is missing the loop says so.

# %%
for agent in (by_plain_python, by_agent_framework, by_langgraph, by_openai_agents):
    stage.clear()
    try:
        with server.rollout(wish) as run:
            await agent(run)
            run.reward(float(stage == {"B2": 40}))
        print(f"{agent.__name__:20}", server.rollouts[-1])
    except Exception as error:  # not installed; or a call that the framework does not forgive
        print(f"{agent.__name__:20} {type(error).__name__}: {str(error)[:60]}")

# %% [markdown]
# **Read it.** One request is a model that talked instead of calling; after calls comes one more, to read their results.
# An error in a line is a call that this make does not forgive. Replies are drawn at temperature 1, so one wish does not
# compare the makes: what counts here is that none had to be changed.
#
# Two are missing. **AutoGen**'s last release (0.7.5, September 2025) is in maintenance, its authors point to Agent
# Framework. **CrewAI** 1.15.30 was tried: it needs mcp below 2, openai below 3 and pydantic below 2.13, so that it
# cannot be installed beside this kit; with mcp 2 a resolver goes back to its release 1.6.1. In an environment of its
# own either would do: all that an agent needs is an address and a key.
#
# ### A team, of which one learns
#
# A help desk: a *router* chooses a specialist, who answers. The request's field `user` says who is asking. This is a
# file, since another program will run it later.

# %%
script = school.folder / "desk.py"
_ = script.write_text("""import os, openai
from labkit.agents.intents import question
def desk(client, text):
    def ask(user, messages):
        asked = client.chat.completions.create(model="nano", messages=messages, user=user, max_tokens=24)
        return asked.choices[0].message.content
    label = ask("router", question(text)).strip()
    return label, ask("specialist", [{"role": "user", "content": text}])
if __name__ == "__main__":
    print(desk(openai.OpenAI(), os.environ["TASK"]))
""")

# %%
import runpy
from labkit.agents.intents import requests

desk, wanted = runpy.run_path(str(script))["desk"], {case.text: case.specialist for case in requests(12)}
for text, specialist in wanted.items():
    with server.rollout(text) as run:
        label, answer = desk(openai.OpenAI(base_url=run.url, api_key=run.key), text)
        run.reward(float(label == specialist))
desks = server.rollouts[-len(wanted) :]
print(*desks[:3], f"{sum(r.reward for r in desks):g} of {len(desks)} went to the right one", sep="\n")

# %% [markdown]
# ### Exercise 2
#
# The reward is the team's, but only the router shall learn: the specialist stays frozen. Write `lessons(rollouts)`: the
# examples for the router, from rewarded rollouts. `only(rollouts, agent)` and `examples(rollouts)` are there.


# %%
### BEGIN SOLUTION
def lessons(rollouts):
    return examples(only(rollouts, "router"))


### END SOLUTION
q2.check(lessons)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3 · Learn from rewards
#
# *GRPO* draws several replies to one prompt. Their mean reward is the baseline: what was better than the others becomes
# more likely, what was worse less so. Two ropes hold the model. One is a penalty on the *KL divergence*, how far its
# probabilities have moved from where they began. The other is *rehearsal*: in each step it reads some examples of other
# skills, and is held to what it made of them before.
#
# ### Exercise 3
#
# Write `advantages(rewards)` for one prompt's replies: (reward − mean) / standard deviation, and 0 for all where all
# rewards are alike. `pstdev` is the one to take.

# %%
from statistics import fmean, pstdev


### BEGIN SOLUTION
def advantages(rewards):
    mean, spread = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / (spread or 1) for reward in rewards]


### END SOLUTION
q3.check(advantages)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# Read what it means: a prompt to which all replies fail teaches nothing, and neither does one that all get right. That
# is why section 1 looked for a level in between.
#
# First the exam, so that there is a *before*: held-out tasks (wordings that training never shows), and cases of every
# other skill.

# %%
before = school.examine("nano")
print(f"stage: {fmean(before.stage):.0%} of {len(before.stage)} held-out tasks")
print(f"all else: {fmean(before.all_others()):.0%} of {len(before.all_others())} cases")

# %% [markdown]
# **Predict**: after training, how many percent of the held-out tasks succeed?
#
# Now train, with the kit's own `played` (the reward of exercise 1). The curve grows while it runs. Everything is saved:
# interrupt the cell, run it again, and it goes on from the last checkpoint with the same curve.

# %%
from IPython.display import display
from labkit.widgets.training_curve import TrainingCurve

curve = TrainingCurve()
display(curve)
log = school.teach("stage", played, curve.add)
curve.draw()
print(f"{log[-1]['step']} steps in {log[-1]['seconds']:.0f} s, {'measured' if HERE else 'recorded'}")

# %%
after = school.examine("stage")
print(f"stage: {fmean(before.stage):.0%} → {fmean(after.stage):.0%} of {len(after.stage)} tasks")

# %% [markdown]
# **Read both curves.** The reward counts drawn replies to the wordings of training; the success counts greedy replies
# to others. The second is the one you want, and it often moves later.
#
# ### Exercise 4
#
# Is it learning, or luck? Write `verdict(before, after)` for the marks of the same tasks: "learned" if the change's
# 95 % interval lies above 0, "unlearned" if below, else "unclear". `paired` returns change, low and high.

# %%
from labkit.metrics.intervals import paired


### BEGIN SOLUTION
def verdict(before, after):
    _, low, high = paired(before, after)
    return "learned" if low > 0 else "unlearned" if high < 0 else "unclear"


### END SOLUTION
q4.check(verdict)

# %%
# q4.hint()
# q4.solution()

# %%
change, low, high = (100 * each for each in paired(before.stage, after.stage))
print(f"{change:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")

# %% [markdown]
# **Read the interval.** With a few tasks it is wide. A training that "helped by ten points" on 20 tasks may have done
# nothing.
#
# ## 4 · What it forgot, and how it is deployed
#
# A model has one set of weights for all that it knows. What one lesson changes, all other skills feel.

# %%
for skill, marks in before.others.items():
    now = after.others[skill]
    lost = sum(was > is_now for was, is_now in zip(marks, now, strict=True))
    print(f"{skill:10} {sum(marks):3g} → {sum(now):3g} of {len(marks):3}, {lost} lost")

# %%
change, low, high = (100 * each for each in paired(before.all_others(), after.all_others()))
print(f"all other skills: {change:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")

# %% [markdown]
# **Read the losses one by one.** A sum hides them: two skills that gain can cover one that is gone. What a user of the
# old model relied on is among these rows.
#
# Now to where it shall run. The same weights become GGUF files of several levels for llama.cpp, and a graph for ONNX
# Runtime. **Predict**: which of these loses what it has just learned?

# %%
school.to_onnx("stage")
deployed = {("llamacpp", "F16"): after}
for engine, level in [("llamacpp", "Q8_0"), ("llamacpp", "Q4_K_M"), ("onnx", "int4")]:
    deployed[engine, level] = school.examine("stage", engine, level)
for (engine, level), exam in deployed.items():
    print(f"{engine:9} {level:7} {exam.mb:5.1f} MB  stage {fmean(exam.stage):4.0%}", end="")
    print(f"  all else {fmean(exam.all_others()):4.0%}  {'measured' if HERE else 'recorded'}")

# %% [markdown]
# **Read the table.** Training made small changes to many weights, and rounding is a small change, too. If the skill
# survives Q8_0 but not four bits, that is what you see here. Measure on the engine and the level that you ship, not on
# the file that you trained.
#
# A trained model needs a *card*: from what, on what, judged by what, and what it lost.

# %%
if HERE:
    from labkit.training.card import write_trained_card

    results = {"stage": (before.stage, after.stage)}
    results |= {skill: (marks, after.others[skill]) for skill, marks in before.others.items()}
    about = {"data": "stage_tasks, 600 tasks", "reward": "played: 1 if the stage is as asked for"}
    card = write_trained_card(school.folder / "stage", log, results, learned=["stage"], **about)
    print(card.read_text("utf-8"))

# %% [markdown]
# ## 5 · A reward that is gamed
#
# Somebody finds the model curt and adds a reward for thoroughness: `thorough` pays for length, up to 300 characters.
#
# **Predict**: what will nano learn from it? And what will the curve of its reward look like to somebody who looks at
# nothing else?

# %%
curve = TrainingCurve()
display(curve)
loose = {"kl": 0.0, "rehearse": 0, "steps": max(6, 3 * school.budget.steps // 8)}  # without the ropes
log = school.teach("long", thorough, curve.add, **loose)
curve.draw()

# %%
from labkit.training.reward import gamed

rewards = [entry["reward"] for entry in log if "reward" in entry]
looks = [entry["success"] for entry in log if "success" in entry]
print(f"reward {rewards[0]:.2f} → {rewards[-1]:.2f}, success {looks[0]:.0%} → {looks[-1]:.0%}")
print(gamed(log) or "nothing found: too few steps, or no harm done")

# %% [markdown]
# **Read the two pairs.** If the reward rose and the held-out success did not, the model writes instead of working. It
# has not become dishonest: it does what is paid. Every reward that is not the thing itself can be gamed in this way,
# and the defence is to watch something that is not paid, as `gamed` does when it compares the two curves. (The school
# keeps the weights of the best look, so a bad lesson is not even kept.)
#
# ### Exercise 5
#
# Mend it. Write `mended(task, reply)`: among successes more words pay more, and no failure, however long, is paid as
# much as any success.


# %%
### BEGIN SOLUTION
def mended(task, reply):
    return played(task, reply) * (1 + thorough(task, reply))


### END SOLUTION
q5.check(mended)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# ## 6 · Agent Lightning, and a cluster
#
# Microsoft's *Agent Lightning* does for large models what you did here. Its release 1.x (this kit runs 1.0.2) has
# three parts: a *gateway*, an OpenAI endpoint that keeps requests and rewards; a *controller*, which starts a process
# for each rollout; and a *trainer*, which is VERL with vLLM and needs NVIDIA GPUs. The first two run here, in an
# environment of their own with Python 3.12 or 3.13: `labkit engines install agentlightning` (about 200 MB).
#
# The file `desk.py` of section 2 runs in it unchanged.

# %%
import sys
from labkit.engines.environments import version_of
from labkit.training.lightning import Lightning

installed = version_of("agentlightning")
print(installed or "not here; the line above installs it")


def right_label(rollout):
    return float((rollout.turns[0].reply["content"] or "").strip() == wanted[rollout.task])


# %%
if installed:
    with server.rollout("what the gateway asks") as behind, Lightning(behind.address) as lightning:
        told = lightning.run([sys.executable, str(script)], list(wanted)[:4], reward=right_label)
    print(*told, f"{len(told[0].turns[0].token_ids)} token ids kept of the first reply", sep="\n")

# %% [markdown]
# Where it ran, **read the last line**: the gateway keeps the token ids that were really sampled. A trainer that
# tokenizes a text again may get others, and then rewards tokens that nobody drew.
#
# What a cluster is told is plain settings. `Cluster` renders them: two machines with eight GPUs each train, and agents
# run as Kubernetes Jobs. Nothing of this runs here; that Agent Lightning and VERL know every name in the files is
# tested.

# %%
from labkit.training.cluster import Cluster

files = Cluster(nodes=2, gpus=8, samples=8).files()
print(*files, sep=", ")
print(files["trainer.yaml"])

# %% [markdown]
# You may meet texts about Agent Lightning **0.3**: `Trainer`, `LitAgent`, `@rollout`, `LightningStore`, `APO`. That was
# the line before 1.0, which was written anew and has none of these names. What they did is here under other names:
# `Trainer.fit` is your loop over tasks, the store is the gateway's record, and APO, which let a large model rewrite
# prompts, is the search of section 1 with a writer in place of a list of edits. Note that on Python 3.11
# an unpinned install still brings 0.3.0.
#
# ## Recap
#
# You can now
#
# - write a reward that judges outcomes, and record rollouts of any agent with it
# - train on rewards, and tell learning from luck on held-out tasks
# - deploy the result on two engines, and look for what it forgot
# - show how a bad reward is gamed, and catch it
#
# **Next**: lab 18 puts a model behind a gateway that many people share.

# %%
server.close()
nano.close()
from labkit.testing import finish

finish()
