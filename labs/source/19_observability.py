# %% [markdown]
# # 19 · Observability
#
# **55 minutes** · needs an engine (llama.cpp, best as its server: `labkit[llamaserver]`) and the gateway
# (`labkit[serve]`); no network, no GPU, no account. A Prometheus server is used where one is installed (Debian,
# Ubuntu: `apt install prometheus`); without it the lab shows what one said, a recording.
#
# Thirty students share a gateway, and one of them says: "it is slow today". Is it? For whom, since when, and why? A
# service that many depend on must answer such questions by itself, and ring before anybody asks. You make one talk,
# break it on purpose, and watch it help itself.
#
# You will be able to
#
# - read a page of metrics, and compute rates and means from two of them
# - compute a percentile from a histogram's buckets, and say what a label costs
# - set an alert rule that rings for a state and not for chance, and let an alert act
# - follow one request through the service by its trace

# %%
from labkit import load
from labkit.checks.lab19 import q1, q2, q3, q4, q5
from labkit.serving.endpoint import start_gateway

# %% [markdown]
# ## 1 · What a gateway tells
#
# This starts a gateway in a process of its own, with two backends. *main* is nano on the best engine here. Behind
# the name pico stands no model today, but the engine *echo*, which says your words back to you, one every 50 ms, to
# one caller at a time. Its speed never changes, so what it shows in section 4 is the queue and nothing else.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp(prefix="lab19-"))
backends = ("main=auto;model=nano", "parrot=echo;model=pico;delay=0.05")
settings = {"state": folder, "slots": 4, "queue": 8, "cache": "off", "requests_per_minute": 0}
server, url = start_gateway(*backends, **settings, traces=folder / "spans.jsonl")


# %% [markdown]
# Ask it three things, with a tool at hand. To a program it is a server that speaks OpenAI's protocol.


# %%
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return "18 degrees"


m = load("nano", "openai", url=f"{url}/v1")
for question in ("Hello! Who are you?", "What is the weather in Paris?", "What is the weather in Oslo?"):
    print(m.chat(question, tools=[get_weather], max_tokens=40))

# %% [markdown]
# Everything the gateway did since it started is on one page, as text. A line is a *series*: a name, labels in braces,
# a number. Here is a part.

# %%
import httpx

http = httpx.Client(base_url=url, timeout=60, trust_env=False)
page = http.get("/metrics").text
wanted = ("labkit_requests_total", "labkit_tokens_total", "labkit_tool_calls_total", "labkit_queue_depth ")
print("\n".join(line for line in page.splitlines() if line.startswith(wanted)))

# %% [markdown]
# **Read the lines.** Names that end in `_total` are *counters*: they only grow, until the process starts again.
# `labkit_queue_depth` is a *gauge*: how many wait now. Who asked for `/ready`, and was told 503? This notebook, until
# the models were loaded. A tool call is `ok` when it names a tool that was offered, with arguments that fit. Whether it
# was the *right* call, the gateway cannot know: that takes an evaluation (lab 12).
#
# What is **not** there: who asked, and what. Labels have few values, and texts have none.
#
# A counter alone says little; two looks at it say how fast it grows. `fetch` reads the page with its labels, and
# `since` subtracts an earlier one.
#
# **Predict**: three callers ask nano 60 times. How many tokens a second will they get together?

# %%
import time

from labkit.metrics.load import measure
from labkit.serving.figures import fetch

before, began = fetch(url), time.perf_counter()
run = measure(f"{url}/v1", concurrency=3, requests=60, max_tokens=32, warmup=0)
after, seconds = fetch(url), time.perf_counter() - began
grown = after.since(before)

# %%
print(f"in {seconds:.1f} s:", grown.by("route", "labkit_requests_total"), "requests by route")
print(grown.by("kind", "labkit_tokens_total"), "tokens by kind")
print(f"first outputs: {grown.total('labkit_ttft_seconds_count'):.0f}", end=", ")
print(f"waits for them, summed: {grown.total('labkit_ttft_seconds_sum'):.3f} s")

# %% [markdown]
# ### Exercise 1
#
# From `grown` and `seconds`: how many tokens per second were **written** (kind `completion`)? And what was the mean
# time to first token, in seconds (`mean_ttft`)?

# %%
### BEGIN SOLUTION
written = grown.by("kind", "labkit_tokens_total")["completion"] / seconds
mean_ttft = grown.total("labkit_ttft_seconds_sum") / grown.total("labkit_ttft_seconds_count")
### END SOLUTION
q1.check(grown, seconds, written, mean_ttft)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Tokens are what clouds charge for; a box of your own charges for time. Both can be read off the page: the tokens,
# and the seconds in which an engine was at work.

# %%
from labkit.metrics.cost import Box
from labkit.models.cloud import cloud_models

tokens, cloud = grown.by("kind", "labkit_tokens_total"), cloud_models()["gpt-4o-mini"]
busy = grown.total("labkit_engine_busy_seconds_total")
print(f"at work {busy / seconds:.0%} of the time: ${busy * Box().usd_per_second:.6f} (assumed: {Box()})")
price = cloud.cost(int(tokens["prompt"]), int(tokens["completion"]))
print(f"the same tokens from {cloud.title}: ${price:.6f} (quoted, {cloud.as_of})")

# %% [markdown]
# The two answers differ in quality, too. What this page can say is which of the two would cost less for *your* class.
#
# ## 2 · Percentiles from buckets
#
# A mean hides the student who waited ten times as long. But a gateway cannot keep every wait it ever saw. It keeps a
# *histogram*: for each bound `le`, how many waits were **at most** that long. So the counts grow from bound to bound.

# %%
from labkit.widgets.charts import Chart, Series, bars

waits = grown.by("le", "labkit_ttft_seconds_bucket")
within = {f"≤{bound}": count for bound, count in waits.items()}
bars(within, "First token within so many seconds, measured", "requests")

# %% [markdown]
# From the counts Prometheus estimates a percentile: it finds the bucket in which it must be, and goes as far into it as
# its place among the waits there: linear interpolation.
#
# ### Exercise 2
#
# Of 100 waits, 20 were at most 0.1 s, 60 at most 0.25 s, 90 at most 0.5 s, 98 at most 1 s, and all at most 2.5 s.
# What is the 95th percentile by that rule, in seconds (`p95`)?

# %%
### BEGIN SOLUTION
p95 = 0.5 + (1.0 - 0.5) * (95 - 90) / (98 - 90)
### END SOLUTION
q2.check(p95)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# How good is the estimate? The gateway's audit log has every wait. **Predict**: how far off will it be for your run, in
# percent?

# %%
import json

import numpy as np

log = [json.loads(line) for line in (folder / "audit.jsonl").read_text("utf-8").splitlines()]
true = [entry["ttft"] for entry in log if entry.get("ttft")][-60:]
for share in (0.5, 0.95):
    estimate = grown.quantile(share, "labkit_ttft_seconds")
    print(
        f"p{100 * share:.0f}: {np.quantile(true, share) * 1e3:6.1f} ms; from buckets {estimate * 1e3:6.1f} ms"
    )

# %% [markdown]
# **Read the difference.** All that is sure is the bucket. So put a bound where your promise is: a promise of one
# second needs a bound at 1.0, and this gateway has one.
#
# Buckets have a price. Each is a series of its own, for *every* combination of labels: with *b* bounds, a histogram
# has *b* + 3 series for each (one bucket more for what is beyond the last bound, the sum, and the count). Prometheus
# keeps all of them in memory.
#
# ### Exercise 3
#
# `labkit_request_seconds` has 13 bounds and the label `route`. A gateway has 4 routes. Somebody wants a label `user`,
# too, to see who is slow; the school has 300 students. How many series will the histogram have **before** and
# **after**, if each student uses each route?

# %%
### BEGIN SOLUTION
series_before = 4 * (13 + 3)
series_after = 4 * 300 * (13 + 3)
### END SOLUTION
q3.check(series_before, series_after)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# That is one figure of 23. What is about *one* user belongs into the log, where it is looked up when it is needed.
#
# ## 3 · Watch it, and kill an engine
#
# The same page feeds every view. `LiveMetrics` draws it; `labkit serve top` shows it in a terminal; a Grafana
# dashboard that comes with the kit (`labkit/serving/dashboards/labkit.json`) asks Prometheus for it.

# %%
from labkit.widgets import LiveMetrics

live = LiveMetrics(url)
live

# %%
class_work = measure(f"{url}/v1", concurrency=8, requests=80, max_tokens=32)
live.stop()
live

# %% [markdown]
# Eight callers came to four places: **look at** *requests running* and *requests waiting*. And this is what `top`
# shows, here for the time since exercise 1:

# %%
from labkit.cli.top import table

now, passed = fetch(url), time.perf_counter() - began - seconds
table(url, now, now.since(after), passed)

# %% [markdown]
# Now break something. nano's engine is a process of its own: kill it, without a warning. **Predict**: how long is the
# backend down, and who brings it back?

# %%
import psutil

family = psutil.Process(server.pid).children(recursive=True)
engines = [each for each in family if not each.children() and "llamaserver" in " ".join(each.cmdline())]
for engine in engines:
    engine.kill()
print(f"killed {len(engines)} engine" if engines else "the engine here lives in the gateway: nothing to kill")

# %%
began, states = time.perf_counter(), []
while time.perf_counter() - began < 6:
    states.append(fetch(url).by("backend", "labkit_backend_up")["main"])
    time.sleep(0.25)
print("up (1) or down (0), every quarter of a second:", *[f"{state:.0f}" for state in states])
print("a request now:", m.chat("Hello!", max_tokens=5).usage)

# %% [markdown]
# **Read the states.** The gateway saw that its engine was gone and started another. This figure is set once a second:
# a short gap may not show at all. Should somebody be woken for this? No: it mended itself. An alert is for what does
# **not** pass.
#
# ## 4 · Alerts that act
#
# One bad value may be chance; a share of a window is a state. A `Rule` fires when at least `share` of the samples of
# the last `window` seconds are over its `limit`. Here are two minutes of a queue, **simulated**, a sample every two
# seconds: in the first, a row of students presses Enter at once, twice; in the second, a class begins an exercise
# after 60 s.

# %%
from labkit.checks.lab19 import BLIPS, RUSH

x = [sample["at"] for sample in RUSH]
drawn = [
    Series(name, "steps", x, [s["queue_share"] for s in samples])
    for name, samples in (("blips", BLIPS), ("rush", RUSH))
]
Chart("Share of the queue that is taken (simulated)", "seconds", "share", tuple(drawn))

# %% [markdown]
# ### Exercise 4
#
# Write a rule for `queue_share` that never fires in `BLIPS`, and fires within **20 seconds** of the rush's beginning.

# %%
from labkit.metrics.alerts import Rule

### BEGIN SOLUTION
rule = Rule("queue_share", limit=0.8, window=10, share=0.5)
### END SOLUTION
q4.check(rule)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# In Prometheus' words such a rule is an expression and a time `for` which it must hold. The kit's rules are in
# `labkit/serving/alerts.yml`; this is one of them.

# %%
from labkit.serving import alerts

rules = Path(alerts.__file__).with_name("alerts.yml").read_text("utf-8")
print("      - alert: QueueFilling" + rules.split("- alert: QueueFilling")[1].split("      - alert")[0])

# %% [markdown]
# Its label `action` says what shall happen. *shed load*: only a quarter of the queue may be used, and who finds it
# full is told at once, with status 503 and a time to wait. Prometheus sends the alert to the gateway, which acts.
# The gateway also judges three such rules by itself, every two seconds: a box in a school has no Prometheus.

# %%
from labkit.errors import EngineUnavailable
from labkit.serving.prometheus import Prometheus

try:
    prometheus = Prometheus(url.removeprefix("http://"))
except EngineUnavailable as error:
    prometheus = None
    print(error)

# %% [markdown]
# Fill the queue: for 24 seconds, six requests arrive each second, and the parrot ends about two. **Predict**: how
# many of eight places will be taken after 5, and after 20 seconds? And what happens to the wait of those who get in?

# %%
from concurrent.futures import ThreadPoolExecutor

from labkit.metrics.request import Server

words = [[{"role": "user", "content": "one two three four five six seven eight nine ten"}]]
target, pages = Server(f"{url}/v1", "pico"), [(0.0, fetch(url), {})]
with ThreadPoolExecutor(1) as pool:
    began, crowd = time.perf_counter(), pool.submit(measure, target, words, rate=6, requests=144, warmup=0)
    while not crowd.done():
        time.sleep(3)
        rings = prometheus.alerts() if prometheus else {}
        pages.append((time.perf_counter() - began, fetch(url), rings))

# %%
from labkit.serving.figures import steps

story = steps([(at, page) for at, page, _ in pages])
for step, (*_, rings) in zip(story, pages[1:], strict=True):
    print(step, rings or "")

# %%
at, waiting, wait = zip(*((step.at, step.waiting, step.wait) for step in story), strict=True)
drawn = Series("in line", "steps", at, waiting), Series("wait, s", "steps", at, wait)
Chart("The queue, and the wait of those answered, measured", "seconds", "requests, seconds", drawn)

# %% [markdown]
# **Read both.** The queue fills within seconds. Then the rule fires, `shed_load` comes into force, and the queue falls
# to a quarter. As many are answered as before: two a second is all there is. But those who get in wait about half as
# long, and the others know at once. The wait for first tokens was over a second, so `smaller_model` may be in force,
# too: it moves students to the smallest model. (You are no student but the machine's owner.) Both end by themselves,
# half a minute after the last look at which their rules fired.
#
# Where there is a Prometheus, its alerts stand in braces. *Pending* means that the expression holds, but not yet for
# the time `for`. It looks at the page every two seconds, and the gateway at itself as often: whoever is first acts,
# and what is mended before its time never fires.
#
# With Prometheus, the same can be asked in its language, PromQL, and for any time in the past.

# %%
asked = "histogram_quantile(0.95, sum by (le) (rate(labkit_ttft_seconds_bucket[1m])))"
print(asked, "=", prometheus.query(asked) if prometheus else "{'': 9.2} (recorded)")
if prometheus:
    prometheus.stop()

# %% [markdown]
# Every rule of the kit is proven twice: on scripted series (`promtool test rules`), where it must fire and must keep
# quiet, and by a Prometheus server that watches a gateway while it is broken. A rule that nobody saw fire is a hope.
#
# ## 5 · Follow one request
#
# Metrics say *that* something is slow; a *trace* says where, for one request. Its caller invents a number and sends
# it along in a header, `traceparent`. Everybody on the way notes what they did under that number: a *span* has a
# beginning, a length, and a parent.

# %%
import secrets

trace, span = secrets.token_hex(16), secrets.token_hex(8)
headers = {"traceparent": f"00-{trace}-{span}-01"}
body = {"model": "nano", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 40}
sent = time.perf_counter()
answer = http.post("/v1/chat/completions", json=body, headers=headers)
seen = time.perf_counter() - sent

# %%
time.sleep(2)  # spans are written in batches
lines = [json.loads(line) for line in (folder / "spans.jsonl").read_text("utf-8").splitlines()]
spans = sorted((each for each in lines if each["trace"] == trace), key=lambda each: each["start"])
print(f"{seen * 1e3:7.1f} ms  the caller")
for depth, each in enumerate(spans, 1):
    print(f"{each['seconds'] * 1e3:7.1f} ms  {'   ' * depth}{each['name']}, below {each['parent']}")

# %% [markdown]
# ### Exercise 5
#
# From `spans` and `seen`: how many milliseconds did the **gateway** itself take, without the engine (`own_ms`)? And
# how many passed outside the gateway, on the way there and back (`way_ms`)?

# %%
### BEGIN SOLUTION
gateway, chat = spans
own_ms = (gateway["seconds"] - chat["seconds"]) * 1e3
way_ms = (seen - gateway["seconds"]) * 1e3
### END SOLUTION
q5.check(spans, seen, own_ms, way_ms)

# %%
# q5.hint()
# q5.solution()

# %% [markdown]
# **Read the split.** On a slow day this is the first question: is it the model, the gateway, or the network? The
# gateway sends the header on, so an engine or an agent that makes spans, too, joins the same trace (lab 13 has an
# agent's). With `LABKIT_SERVE_TRACES=http://…` the spans go to a collector that speaks OpenTelemetry's protocol.
#
# ## Recap
#
# You can now
#
# - read a page of metrics, and compute rates and means from two of them
# - compute a percentile from a histogram's buckets, and say what a label costs
# - set an alert rule that rings for a state and not for chance, and let an alert act
# - follow one request through the service by its trace
#
# **To go on**: `labkit serve`, then `prometheus --config.file=labkit/serving/prometheus.yml` beside it, and import
# the dashboard into Grafana. **Next**: lab 20 asks how many students one box can bear, and when to add a second.

# %%
import shutil

http.close()
server.stop()
shutil.rmtree(folder, ignore_errors=True)
from labkit.testing import finish

finish()
