# %% [markdown]
# # 02 · What is an agent?
#
# **50 minutes** · needs only this kit: no network, no GPU, no account
#
# An *agent* perceives something and acts, again and again, to some end. It need not contain a language model: your
# thermostat is one. Here you run an agent of every classical kind, break each of them on purpose, and only then let a
# language model do the same work. So you see what it adds, and what it costs.
#
# You will be able to
#
# - tell the kinds of agent apart by what they need: a percept, a memory, a goal, a utility, experience
# - break each kind on purpose, and say why it fails: noise, slipping wheels, a wrong map, a taste that changes
# - measure how an agent learns, and what it costs to try things out
# - decide by measured success, time and cost whether a language model is worth it
#
# | kind | chooses by | everyday example | here |
# |---|---|---|---|
# | simple reflex | rules on what it perceives now | thermostat, basic automation | section 1 |
# | model-based | a memory of what it cannot see now | robot vacuum, navigation | section 2 |
# | goal-based | a plan that leads to a goal | route planner, task scheduler | section 3 |
# | utility-based | what outcomes are worth, and how likely | pricing, bidding | section 4 |
# | learning | experience: it gets better with time | recommender, personal assistant | section 4 |
# | language model with tools | a text that it continues | assistants | section 5 |
#
# The first five kinds are those of Russell and Norvig, *Artificial Intelligence: A Modern Approach*, chapter 2.

# %%
from labkit.agents.taxonomy.episode import play
from labkit.checks.lab02 import q1, q2, q3, q4
from labkit.widgets.worlds import Comparison, watch

# %% [markdown]
# ## 1 · Simple reflex: a thermostat
#
# `Room` is a simulated room in winter, a step a minute. It follows Gymnasium's interface, as most worlds for agents do:
# `reset()` gives the first percept; `step(action)` gives the next one, and a reward. `play` lets an agent act in it.
#
# The percept is the measured temperature, and whether the heating is on. The agent is a function of it, no more:

# %%
from labkit.agents.taxonomy.thermostat import Room


def on_off(percept):
    measured, heating = percept
    return measured < 20


# %% [markdown]
# **Predict**: how close to 20 °C will the room stay? How often will the heating switch in ten hours?
#
# **Run**. The picture is drawn anew in the same place while the agent acts.

# %%
steps = watch(Room(), on_off, every=20)

# %% [markdown]
# **Read the picture.** The room stays very close to its target, and the price is in the title: the heating switches all
# the time. No boiler lives long like that. A real thermostat has a *band* (hysteresis): it switches on below it, off
# above it, and inside it leaves things as they are. The heating's own state is part of the percept, so this is still a
# simple reflex.
#
# And real thermometers are noisy. Here are four bands in K, with a perfect thermometer and with a noisy one. The
# reward is minus the degrees off target, and minus 2 for every switch.


# %%
def banded(band):
    def decide(percept):
        measured, heating = percept
        return measured < 20 + (band / 2 if heating else -band / 2)

    return decide


# %%
for noise in (0, 0.3):
    for band in (0, 0.5, 1, 2):
        room = Room(noise=noise)
        rewards = [step.reward for step in play(room, banded(band))]
        cost = -sum(rewards) / len(rewards)
        print(f"noise {noise} K, band {band:3} K: {room.switches:3} switches, cost {cost:.2f} a minute")

# %%
steps = watch(room, banded(2), frames=0)

# %% [markdown]
# **Read the numbers.** A wider band switches less and swings more. The swing is a *limit cycle*: it never settles. It
# is even wider than the band, because the radiator stays hot for minutes after it was switched off. The agent cannot
# know that: it has no model of the room. Nor can it average its noisy measurements, for it has no memory, or heat
# before you get up, for it has no plan.
#
# ### Exercise 1
#
# Which band, from 0 to 3 K, costs least with a noisy thermometer (`Room(noise=0.3)`)? Let the world tell you.

# %%
import numpy as np

### BEGIN SOLUTION


def earned(band):
    return sum(step.reward for step in play(Room(noise=0.3), banded(band)))


best_band = max(np.arange(0, 3, 0.1), key=earned)
### END SOLUTION
q1.check(best_band)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# It was you who weighed degrees against switches, and chose. The thermostat only follows. Section 4 has an agent that
# weighs for itself.
#
# ## 2 · Model-based: a vacuum cleaner with a map
#
# This cleaner sees four squares: north, east, south and west of it, each a wall (0), clean (1) or dirty floor (2). The
# simple reflex: go where the number is largest. If several are equal, take the first.

# %%
from labkit.agents.taxonomy.vacuum import House, Mapper


def sweeper(percept):
    return percept.argmax()


# %% [markdown]
# **Predict**: will it clean the house?

# %%
steps = watch(House(limit=100), sweeper, seed=3, every=4, frames=25)

# %% [markdown]
# **Read the picture.** It cleans what it can see, and then walks to and fro for ever: same percept, same action. A pair
# of dice helps, without any memory. But a memory helps more: `Mapper` keeps a map in its mind, and goes to the nearest
# square that is dirty or whose neighbours it has not seen yet.

# %%
dice = np.random.default_rng(0)


def roamer(percept):
    return dice.choice(np.flatnonzero(percept == percept.max()))


# %%
steps = watch(House(), Mapper(), seed=3, every=4)

# %% [markdown]
# On the right is the agent's *model*: what it believes about squares that it does not see now. It never perceives where
# it is. It counts its own moves (*dead reckoning*), so the model contains how its actions change the world.
#
# **Predict**: the wheels slip at one step in ten, unnoticed. Which of the three does that harm?

# %%
for slip in (0, 0.1):
    for agent in (sweeper, roamer, Mapper()):
        runs = [list(play(House(slip=slip), agent, seed)) for seed in range(8)]
        clean = sum(run[-1].ended for run in runs)
        name = getattr(agent, "__name__", "Mapper")
        print(f"slip {slip:3}: {name:8} {clean} of 8 houses clean, {np.median([*map(len, runs)]):4.0f} steps")

# %% [markdown]
# **Read the numbers.** (1,000 steps are the limit.) The map saves most of the steps. When the wheels slip, it puts
# the cleaner where it is not. `Mapper` notices only when its map leaves nothing to do and the house is still dirty;
# then it begins a new one. Those without a model have none that could be wrong.
#
# ## 3 · Goal-based: a route planner
#
# A goal is a state of the world to reach: here the bottom right corner of a town. The agent has a printed map, and
# *plans*: it searches the map for a shortest way before it takes one step.
#
# A* looks at squares in a certain order: first where *steps so far + estimate of the steps left* is least. If the
# estimate is never too high, the first way found is a shortest one. An estimate of 0 is allowed, and blind.

# %%
from labkit.agents.taxonomy.route import Planner, Town, search

town = Town(20, 14)
town.reset(seed=5)
path, looked = search((0, 0), town.goal.__eq__, town.streets.__contains__)
print(f"{len(path) - 1} steps, found after a look at {looked} of {len(town.streets)} streets")

# %% [markdown]
# ### Exercise 2
#
# Write a better estimate of the steps from a place to the goal. A place is `(column, row)`, and there is no way to go
# diagonally. It must never say more than what is left, and A* should look at fewer squares.

# %%
goal = (19, 13)


### BEGIN SOLUTION
def estimate(place):
    return abs(place[0] - goal[0]) + abs(place[1] - goal[1])


### END SOLUTION
q2.check(estimate)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Now the map gets old: some streets are closed, and it does not show them (**x**). One planner tries its plan to the
# end. The other plans anew whenever a step does not get it where the plan says.

# %%
steps = watch(Town(closed=3), Planner(), seed=4, every=2)

# %% [markdown]
# **Predict**: with how many closed streets does the planner that never plans anew still arrive?

# %%
for closed in (0, 1, 2, 4):
    runs = [list(play(Town(closed=closed), Planner(replans=False), seed)) for seed in range(20)]
    first = sum(run[-1].ended for run in runs)
    runs = [list(play(Town(closed=closed), Planner(), seed)) for seed in range(20)]
    anew, detour = sum(run[-1].ended for run in runs), [len(r) / r[-1].info["shortest"] for r in runs]
    print(f"{closed} closed: {first:2} of 20 arrive by their first plan; if they plan anew,")
    print(f"{anew:13} of 20, in {np.mean(detour):.2f} times the steps of the shortest way")

# %% [markdown]
# **Read the numbers.** A plan is only as good as the map. Planning anew always gets there, but not by the shortest way:
# the agent finds out about a closed street by standing before it. (The shortest way is that of a planner that knows.)
#
# ## 4 · Utility and learning: a recommender
#
# "Reach the goal" is yes or no. Most wishes are more or less: a *utility* says how much an outcome is worth. Here, a
# click on one genre earns more than a click on another.

# %%
from labkit.agents.taxonomy.taste import GENRES, VALUES, Learner, Tastes

shop = Tastes()
shop.reset(seed=6)
for genre, chance, value in zip(GENRES, shop.chances, VALUES, strict=True):
    print(f"{genre:8} chance of a click {chance:.2f} × {value:.1f} = {chance * value:.2f} expected")

# %% [markdown]
# A utility-based agent that knows these chances takes the largest product; the genre that is clicked most need not be
# it. But nobody knows them. A *learning* agent has to find out by recommending, and each try of a poor genre costs.
#
# `Learner` keeps an estimate of what each genre earns. It recommends the best one so far (*exploit*) or, with
# probability `epsilon`, any (*explore*).

# %%
steps = watch(shop, Learner(epsilon=0.1), seed=6, every=20)

# %% [markdown]
# *Regret* is what the best choice would have earned more, summed up. It never falls; the flatter, the better.
#
# **Predict**: which is better in the long run, never to explore, or to explore in one case of ten? And in three of ten?


# %%
def regret(drift=0, **settings):
    runs = (play(Tastes(drift), Learner(seed=k, **settings), k) for k in range(25))
    return np.cumsum([[step.info["regret"] for step in run] for run in runs], axis=1).mean(axis=0)


# %%
from labkit.widgets.charts import Chart, Series


def curves(title, **named):
    lines = tuple(
        Series(name, "steps", range(0, 600, 5), line[::5].round(1).tolist()) for name, line in named.items()
    )
    return Chart(title, "recommendations", "regret", lines)


# %%
never, often = regret(epsilon=0), regret(epsilon=0.3)
some = regret(epsilon=0.1)
print(f"regret after 600: never explores {never[-1]:.0f}, 10 % {some[-1]:.0f}, 30 % {often[-1]:.0f}")
curves("Mean of 25 customers, measured in simulation", never=never, some=some)

# %% [markdown]
# **Read the curves.** The one that never explores stays with the first genre that ever earned something. Its regret
# grows in a straight line: it does not learn. The other's flattens, but not wholly, for it goes on exploring.
#
# Now tastes change: after every 150 recommendations the chances change places. An estimate that is the mean of *all*
# rewards takes long to notice.
#
# ### Exercise 3
#
# Write the update of an estimate for such customers. `count` is how often this genre was recommended; the mean of all
# rewards would be `estimate + (reward - estimate) / count`.

# %%
### BEGIN SOLUTION


def update(estimate, reward, count):
    return estimate + max(1 / count, 0.1) * (reward - estimate)


### END SOLUTION
q3.check(update)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# To forget has a price. `forget=0.1` lets the newest reward count a tenth at least. **Predict**: what does that cost
# where tastes do *not* change?

# %%
for drift in (0, 150):
    mean, forgets = regret(drift, epsilon=0.1), regret(drift, epsilon=0.1, forget=0.1)
    print(f"drift {drift:3}: regret {mean[-1]:.0f} with the mean, {forgets[-1]:.0f} if it forgets")
curves("Tastes change every 150 recommendations, mean of 25 customers", mean=mean, forgets=forgets)

# %% [markdown]
# ## 5 · Language: the same decisions by a model with tools
#
# A language model reads text and writes text. So the percept becomes a sentence, and the action a call of a tool. You
# have to write both; here they are. (The tools do nothing: the question is which call the model chooses.)


# %%
def switch_heating(on: bool) -> None:
    """Switch the heating on or off."""


def tell_room(percept):
    return f"The room has {percept[0]:.1f} degrees and should have 20. Switch the heating on or off."


# %%
from typing import Literal
from labkit.agents.taxonomy.route import DIRECTIONS


def move(direction: Literal["north", "east", "south", "west"]) -> None:
    """Move one square in a direction."""


def tell_house(percept):
    seen = (
        f"{way} is {('a wall', 'clean', 'dirty')[what]}"
        for way, what in zip(DIRECTIONS, percept, strict=True)
    )
    return f"{', '.join(seen)}. Move to the dirty square."


# %%
def tell_town(percept):
    rows = "\n".join("".join("#."[square] for square in row) for row in percept["map"])
    return f"{rows}\n# is a wall. Move from the top left toward the bottom right."


# %%
def recommend(genre: Literal["news", "music", "sport", "film", "science"]) -> None:
    """Recommend something of a genre."""


def tell_clicks(percept):
    seen = (f"{genre} {clicks}" for genre, clicks in zip(GENRES, percept, strict=True))
    return f"Clicks: {', '.join(seen)}. Recommend the genre with the most clicks."


# %% [markdown]
# Now 24 situations of each kind, drawn at random; kept are those with just one right decision. (In the small towns that
# means: of the first steps south and east, only one is on a shortest way.)

# %%
draw = np.random.default_rng(1)
rooms = [(draw.uniform(15, 25), draw.integers(2)) for _ in range(24)]
houses = [p for p in draw.integers(0, 3, (99, 4)) if (p == 2).sum() == 1][:24]
clicks = [p for p in draw.integers(0, 21, (99, 5)) if (p == p.max()).sum() == 1][:24]

# %%
from labkit.agents.taxonomy.route import shortest


def one_way(percept):
    streets = {(x, y) for y, x in np.argwhere(percept["map"])}
    south, east = (len(shortest(first, (4, 3), streets)) for first in ((0, 1), (1, 0)))
    return south != east and min(south, east) > 0


def plan_anew(percept):
    return Planner()(percept)


towns = [p for p in (Town(5, 4).reset(seed=k)[0] for k in range(150)) if one_way(p)][:24]

# %% [markdown]
# Each task in one line: percepts, the agent from above, the words, the tool and its argument, the actions in words.

# %%
tasks = {
    "room": (rooms, on_off, tell_room, switch_heating, "on", (False, True)),
    "house": (houses, sweeper, tell_house, move, "direction", DIRECTIONS),
    "town": (towns, plan_anew, tell_town, move, "direction", DIRECTIONS),
    "clicks": (clicks, sweeper, tell_clicks, recommend, "genre", GENRES),
}

# %%
from labkit import ToolCall
from labkit.agents.taxonomy.language import ask, judge, rows_of

rows, cases = [], []
for task, (percepts, agent, tell, tool, argument, names) in tasks.items():
    right = [agent(percept) for percept in percepts]
    rows.append(judge(task, "classical", agent, percepts, right))
    usual = max(right, key=right.count)
    rows.append(judge(task, "always the same", lambda percept, usual=usual: usual, percepts, right))
    for percept, action in zip(percepts, right, strict=True):
        call = ToolCall(tool.__name__, {argument: names[int(action)]})
        cases.append(ask(task, tell(percept), [tool], call))

# %% [markdown]
# The classical agents define what is right, so they will score 24 of 24; look at their time. *Always the same* is an
# agent that ignores its percept and gives the answer that is right most often. It is the one to beat.
#
# **Predict**: in which task does nano come closest?
#
# **Run** it twice: free, and *constrained*: once the model begins a call, a grammar admits only what fits the tool. Any
# other model may stand here in place of nano (`labkit models fit` says which ones fit this machine).

# %%
from labkit import load
from labkit.metrics.agent_eval import score

m = load("nano")
decoding = {"model": False} | ({"model, constrained": True} if m.engine.constrained else {})

# %%
for name, constrained in decoding.items():
    scores = score(m, cases, constrained=constrained, max_tokens=64)
    rows += rows_of(name, scores)
    print(f"{name:18} misses: {scores.failures()}")
Comparison(tuple(sorted(rows)))

# %% [markdown]
# **Read the misses.** *Wrong value*: the form is right, the content is not. *Unparsable*: a call that is no JSON. *No
# call*: prose instead. *Extra call*: more than the one that was asked for. Constrained calls are never unparsable
# unless they are cut off, but their content and their number are the model's own.
#
# **Read the table** with the intervals. If the share of *always the same* lies inside the model's interval, this sample
# cannot tell the model from an agent that perceives nothing. If it lies below, the model makes use of what it is told.
# If it lies above, the model does worse than an agent that perceives nothing; the misses say how. And compare the
# milliseconds: for percepts that are numbers, a line of Python is quicker by orders of magnitude.
#
# Perhaps it is the words? Change `tell_room` or `tell_house` and run these cells again: a percept in words is a design
# decision. (If you try many wordings and keep the best, 24 *new* situations should judge it. Why?)
#
# So what is a language model good for in an agent? For percepts that *are* language. Here are 64 wishes that somebody
# might say at home, each with the call that grants it (`datasets/home_requests`). Half of them are *plain*; in the
# *free* half, people say the same in other ways.

# %%
import json
from labkit.metrics.cases import data_folder

lines = (data_folder("home_requests") / "requests.jsonl").read_text("utf-8").splitlines()
wishes = [json.loads(line) for line in lines]
print(wishes[0], wishes[32], sep="\n")

# %% [markdown]
# The classical agent for that is a simple reflex, too: rules for words. These rules were written for the plain wishes.

# %%
import re

RULES = {
    "set_temperature": r"(?P<room>\w+) to (?P<degrees>\d+) degrees",
    "clean_room": r"clean the (?P<room>\w+)",
    "find_route": r"from the (?P<start>\w+) to the (?P<goal>\w+)",
    "recommend": r"recommend (some |a )?(?P<genre>\w+)",
}


# %%
def keywords(text):
    for tool, rule in RULES.items():
        if found := re.search(rule, text.lower()):
            said = found.groupdict().items()
            values = {name: int(word) if word.isdigit() else word for name, word in said}
            return ToolCall(tool, values)


keywords("Please clean the hall now.")

# %% [markdown]
# The model is offered four tools and has to choose.


# %%
def set_temperature(room: str, degrees: int) -> None:
    """Set the temperature in a room."""


def clean_room(room: str) -> None:
    """Clean a room with the vacuum cleaner."""


def find_route(start: str, goal: str) -> None:
    """Find a route from one place to another."""


# %%
tools, requests = [set_temperature, clean_room, find_route, recommend], []
for wording in ("plain", "free"):
    said = {wish["text"]: ToolCall(**wish["call"]) for wish in wishes if wish["wording"] == wording}
    rows.append(judge(f"wishes, {wording}", "classical", keywords, [*said], [*said.values()]))
    requests += [ask(f"wishes, {wording}", text, tools, call) for text, call in said.items()]

# %% [markdown]
# **Predict**: how many of the 32 free wishes do the rules get? And the model?

# %%
for name, constrained in decoding.items():
    scores = score(m, requests, constrained=constrained, max_tokens=64)
    rows += rows_of(name, scores)
    print(f"{name:18} misses: {scores.failures()}")
table = Comparison(tuple(sorted(rows)))
table

# %% [markdown]
# **Read the last rows.** The rules get the wishes that their author thought of, and fail on the rest. Nobody could
# write rules for all that people say. The model did not see these wishes before either, so compare its two halves:
# how much does it lose from plain to free? Do the intervals of model and rules overlap? Whatever your table says, it
# says it for this model. The same cells with a bigger one answer whether *that* one is worth its size.
#
# There is no need to choose one kind. A usual division of labour: the model turns words into one call, a program
# checks the call, and a classical agent does the rest. No model has to search a map that A* searches in no time.
#
# ### Exercise 4
#
# What does a decision cost? Say (these two are **assumed**, not measured) that an hour of the machine costs 0.02 euros:
# 400 euros over three years, and 15 watts. And a wrong decision costs 0.04 euros: ten seconds of somebody's time at 15
# euros an hour. Write the cost of one decision in euros. A row has `seconds` (of a decision), `hits` and `n`.

# %%
### BEGIN SOLUTION


def cost(row):
    return row.seconds / 3600 * 0.02 + (1 - row.hits / row.n) * 0.04


### END SOLUTION
q4.check(table.rows, cost)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# On a machine of your own the time of a small model costs next to nothing; errors cost nearly everything. That is why
# this course measures success before speed. Where a decision must come within a millisecond, the time counts after all,
# but not in euros.
#
# ## Recap
#
# You can now
#
# - tell the kinds of agent apart by what they need: a percept, a memory, a goal, a utility, experience
# - break each kind on purpose, and say why it fails: noise, slipping wheels, a wrong map, a taste that changes
# - measure how an agent learns, and what it costs to try things out
# - decide by measured success, time and cost whether a language model is worth it
#
# **Next**: lab 03 looks inside small language models: tokens, sampling, context, and what fits where.

# %%
m.close()
from labkit.testing import finish

finish()
