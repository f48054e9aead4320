# %% [markdown]
# # 20 · Scaling
#
# **50 minutes** · needs llama.cpp's server (`pip install 'labkit[llamaserver]'` in a terminal, where it is missing) and
# the gateway (`labkit[serve]`); no network, no GPU. What Ray Serve (`labkit[ray]`, about 500 MB) does is shown by a
# recording: it need not be installed.
#
# How many students can share one box? When the answer is "too few": do you buy a faster box, or a second one? Both
# questions have answers that you can compute before you spend money, from numbers that you measure in a minute.
#
# You will be able to
#
# - measure how fast one box is when many ask at once, and bound the students it can bear
# - find the students per box who are answered in time, by simulating a class
# - decide from recorded metrics whether to scale up, out or down, and give the reason
# - choose settings of autoscaling by replaying a day, and say what happens when a machine dies

# %%
from labkit import load
from labkit.checks.lab20 import q1, q2, q3, q4
from labkit.metrics.load import Plan, measure

# %% [markdown]
# ## 1 · One box
#
# The box is this machine, with nano on llama.cpp's server: eight requests at a time, in one batch. A request is a
# chat of 150 tokens. One caller asks again as soon as it was answered; then two callers do, then four, then eight.
#
# **Predict**: how many times as many requests per second will eight callers get through as one?

# %%
from labkit.metrics.probes import loaded_machine

print(loaded_machine() or "The machine is quiet enough to measure on.")
m = load("nano", "llamaserver", slots=8)
chat = {"max_tokens": 150, "ignore_eos": True}
runs = [measure(m.engine.url, concurrency=n, requests=4 * n, **chat) for n in (1, 2, 4, 8)]

# %%
from labkit.serving.speed import Speed
from labkit.widgets.charts import bars

speed = Speed.of(runs)
rates = {f"{n} at once": rate for n, rate in zip(speed.callers, speed.rates, strict=True)}
bars(rates, "Requests ended per second, measured", "requests/s")

# %% [markdown]
# **Read the bars.** A second caller costs less than the first: the processor reads the weights once for both. That
# ends when arithmetic runs out, on two cores soon. From there on the bars stop growing, and more callers only wait
# longer. That bend is the *knee*. (If the first line said that this machine is busy, wait, and measure again: all that
# follows rests on these bars.)
#
# `Speed` is all that the rest of this lab knows of the box: requests per second for each number at once, and which
# share of a request's time passes before its first token.
#
# A student reads, thinks and types. Say that each asks **once in 30 seconds**. Then *Little's law* bounds the class:
# requests per second × seconds between two questions of a student = students.
#
# ### Exercise 1
#
# How many students can ask once in 30 seconds, if the box ends as many requests per second as it can at its best?

# %%
### BEGIN SOLUTION
bound = int(max(speed.rates) * 30)
### END SOLUTION
q1.check(speed, bound)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · A class in time
#
# The bound says that all are answered at some time. Students want their first token within **one second**. They do
# not take turns, either: sometimes nobody asks, sometimes ten do.
#
# So let a class ask, in simulated time. `class_trace` draws when each student asks, for five minutes. `replay` serves
# them: whoever runs gets an equal part of the box's speed, whoever finds all eight places taken waits.
#
# **Predict**: at half of the bound, does anybody wait? At nine tenths?

# %%
from labkit.serving.simulation import replay
from labkit.serving.sizing import class_trace

most = max(speed.rates) * 30
shares = (50, 70, 80, 90, 95, 100, 105)
waits = [replay(class_trace(max(1, round(most * share / 100))), speed).p95 for share in shares]

# %%
shown = {f"{share} %": wait for share, wait in zip(shares, waits, strict=True)}
bars(shown, "First token after (p95), by students in % of the bound, simulated", "seconds")

# %% [markdown]
# **Read the bars.** For long nothing happens, and then everything. A service that is 70 % full feels like an empty
# one. At the bound it is lost: chance makes a queue, and there is no spare time in which it could shrink again. This
# is why a service is watched by its *queue*, and not by whether it still answers.
#
# A simulation is a claim. Test it: sixty requests arrive by chance, at 60 % of the best rate, on the real box. The
# simulation gets the very same moments.

# %%
plan = {"rate": 0.6 * max(speed.rates), "requests": 60, **chat}
real = measure(m.engine.url, **plan)

# %%
from statistics import median
from labkit.serving.simulation import Arrival

copy = replay([Arrival(at) for at in Plan(**plan).due()], speed)
rows = {"measured": (real.samples["ttft"], real.samples["e2el"]), "simulated": (copy.ttft, copy.total)}
for name, (first, whole) in rows.items():
    print(f"{name:9}: first token after {median(first):.3f} s, all after {median(whole):.3f} s (medians)")

# %% [markdown]
# **Read the medians.** They do not agree to the millisecond: the simulation knows neither the length of a prompt nor
# the load generator beside the box, and its speed was measured in a few seconds. The *whole* time should be near. If
# it is off by more than a factor of two, ask what else this machine was doing, and measure its speed again.
#
# ### Exercise 2
#
# How many students get 95 of 100 first tokens within one second? Try numbers with
# `replay(class_trace(students), speed).p95`, or halve the interval until you have it.

# %%
### BEGIN SOLUTION
from labkit.serving.sizing import most_students

in_time = most_students(speed, target=1.0)
### END SOLUTION
q2.check(speed, in_time)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# nano is tiny, so this is a large class. A model a thousand times its size has a thousandth of the speed, and the
# same arithmetic. The rest of the lab uses such a box. Its speed is **assumed**: one request per second alone, four
# when eight are in.

# %%
box = Speed(callers=(1, 2, 4, 8), rates=(1.0, 1.8, 3.0, 4.0), first=0.2)
for n in (1, 4, 8):
    print(f"{n} at a time: first token after {box.ttft(n):.2f} s, all after {1 / box.each[n]:.2f} s")

# %% [markdown]
# ## 3 · Up, out or down
#
# Nobody counts students in a running service. It counts itself: at `/metrics` the gateway tells how many requests it
# answered and how many wait. Two looks at that page make a *window*. Start a gateway before the box, and give it
# work.

# %%
from tempfile import mkdtemp
from labkit.serving.endpoint import start_gateway

state = mkdtemp()
gateway, url = start_gateway(
    f"box={m.engine.url};model=nano", state=state, cache="off", requests_per_minute=0
)

# %%
import httpx
from labkit.engines.prometheus import read_page

pages = [read_page(httpx.get(f"{url}/metrics").text)]
record = measure(f"{url}/v1", rate=0.3 * max(speed.rates), requests=30, **chat)
pages.append(read_page(httpx.get(f"{url}/metrics").text))

# %%
from labkit.serving.sizing import Window, recommend

window = Window.between(*pages, seconds=record.figures["wall_time"])
advice = recommend(window, speed, target=1.0)
print(window, advice, sep="\n")

# %% [markdown]
# Advice is a claim, too. The gateway's audit log has a line for each request: who asked, when, and how many tokens
# were written. Replay what really came, on as many boxes as it advises:

# %%
from labkit.serving.sizing import read_trace

came = read_trace(f"{state}/audit.jsonl", tokens=150)
print(replay(came, speed, advice.replicas))

# %% [markdown]
# **Read the reason**, not only the advice. `recommend` knows three moves:
#
# - **out**: more boxes. Requests that wait for others find a free place. Nobody's own request gets faster.
# - **up**: a faster box or a smaller model. The only move that helps when *one* request alone is too slow.
# - **down**: fewer boxes, when those that are left could bear a quarter more than now.
#
# How many? Little's law again: requests per second × seconds at work = places in use on average. Twice the square
# root of that is held free for chance (Halfin and Whitt, 1981). **Predict**: a hundred times the load needs how many
# times the boxes?

# %%
import numpy as np

for rate in (1, 10, 100, 1000):
    advice = recommend(Window(seconds=60, answered=60 * rate), box, target=0.5)
    gaps = np.random.default_rng(0).exponential(1 / rate, 15 * rate)
    p95 = replay(map(Arrival, np.cumsum(gaps)), box, advice.replicas).p95
    print(
        f"{rate:5,} requests/s: {advice.replicas:3} boxes, {rate / advice.replicas:.1f} for each, p95 {p95:.2f} s"
    )

# %% [markdown]
# **Read the requests per second of each box.** The more boxes, the more each may do: chance evens out among many.
# That is why one large service is cheaper than ten small ones. And each row was replayed: is every p95 within the
# half second?
#
# ### Exercise 3
#
# Four services with such boxes want their first token within the seconds given. What does each need: `"up"`, `"out"`,
# `"down"` or `"stay"`? Say it before you ask `recommend`.

# %%
services = {
    "library": (Window(seconds=60, answered=120, replicas=6), 0.5),
    "dictation": (Window(seconds=60, answered=12, replicas=4), 0.15),
    "exam": (Window(seconds=60, answered=480, waiting=300, replicas=2), 0.5),
    "homework": (Window(seconds=60, answered=60, replicas=1), 0.5),
}

# %%
### BEGIN SOLUTION
moves = {"library": "down", "dictation": "up", "exam": "out", "homework": "stay"}
### END SOLUTION
q3.check(services, box, moves)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4 · A day, and a machine that dies
#
# A school is full at ten and empty at four. Boxes that are only there when they are needed cost less. Here is a
# short day: ten lessons of five minutes, with these numbers of students.
#
# **Predict**: which costs less, six boxes all day or boxes that come and go? And who waits?

# %%
lessons = (20, 400, 600, 20, 20, 20, 300, 20, 20, 20)
day = [Arrival(a.at + 300 * n) for n, students in enumerate(lessons) for a in class_trace(students)]
always = replay(day, box, replicas=6)
print(f"{always}; {always.replica_seconds:,.0f} box-seconds")

# %%
from labkit.serving.simulation import Autoscale

scale = Autoscale(least=1, most=10, ongoing=4, up_after=30, down_after=60, start=20)
scaled = replay(day, box, scale.least, scale)
print(f"{scaled}; {scaled.replica_seconds:,.0f} box-seconds")

# %%
from labkit.widgets.charts import Chart, Series

seconds, boxes = zip(*scaled.sizes, (scaled.seconds, scaled.sizes[-1][1]), strict=True)
line = Series("boxes", "steps", [at / 60 for at in seconds], boxes)
Chart("Boxes over the day, simulated", "minutes", "boxes", (line,))

# %% [markdown]
# **Read both.** It is cheap, and the students pay: boxes come when the lesson has long begun. `up_after` lets 30
# seconds pass before a rush is believed, and a new box needs 20 seconds to `start`. Until then a queue grows, and it
# stays for a while. `ongoing` is the number of requests, running or waiting, for which one box is held: a smaller one
# calls boxes earlier, and more of them. `down_after` keeps them for a while. The teeth in the picture: boxes go when
# the queue is gone, and then it comes back.
#
# ### Exercise 4
#
# Choose settings with which 95 of 100 first tokens come within **one second**, for at most **80 %** of the
# box-seconds of six boxes all day. `most` stays 10 and `start` 20.

# %%
### BEGIN SOLUTION
mine = Autoscale(least=1, most=10, ongoing=2, up_after=0, down_after=60, start=20)
### END SOLUTION
q4.check(day, box, mine)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# What you tried in a simulation, a cluster does. `labkit.serving.ray_app` puts the gateway on **Ray Serve**: each
# replica is the same app with an engine of its own, Ray starts and ends replicas by the queue, and one address leads
# to all of them. Your settings in its words:

# %%
from labkit.serving.ray_app import autoscaling

autoscaling(scale if mine is ... else mine)

# %% [markdown]
# And when a machine dies? A **recording**: a cluster of two nodes, eight callers, an engine that repeats its
# question. The queue called a second replica; then the node under it was killed while both worked.
#
# **Predict**: how many of the requests fail? All that ran there, some, or none?

# %%
import json
from labkit.metrics.cases import data_folder

for line in (data_folder("ray_serve") / "node_killed.jsonl").read_text("utf-8").splitlines():
    print(" ".join(f"{name} {value};" for name, value in json.loads(line).items()))

# %% [markdown]
# **Read the counts.** `failed` got an error, `cut` a stream that broke off, `lost` no answer at all. What a machine
# has in hand dies with it, and no cluster can hand over half a stream: the words that are out cannot be taken back.
# What counts is that each request got *one* clear end, that the callers could ask again, and that afterwards all is
# well. So plan one box more than the load needs, and let clients repeat what failed.

# %% [markdown]
# ## Recap
#
# You can now
#
# - measure how fast one box is when many ask at once, and bound the students it can bear
# - find the students per box who are answered in time, by simulating a class
# - decide from recorded metrics whether to scale up, out or down, and give the reason
# - choose settings of autoscaling by replaying a day, and say what happens when a machine dies
#
# **Next**: lab 21 puts what you have built where it shall work, at the edge.

# %%
gateway.stop()
m.close()
from labkit.testing import finish

finish()
