# %% [markdown]
# # 18 · A production service
#
# **60 minutes** · needs only this kit (its extra `serve`): no network, no GPU, no account
#
# One machine, one model, thirty students. Between them stands a *gateway*: it knows who asks, how much they may ask,
# which engine is free, and what to say when none is. In this lab you start one, and then you break everything
# behind it, one thing after the other, and read what your users would have seen.
#
# You will be able to
#
# - start a gateway, and ask it with any OpenAI client
# - give users keys and quotas, and compute what each of them may use
# - kill an engine under load, and read in the audit log what became of every request
# - write a client that obeys Retry-After, and choose settings for a site
#
# Nothing here leaves your machine: every server listens on 127.0.0.1 alone.

# %%
from labkit import load
from labkit.checks.lab18 import q1, q2, q3, q4
from labkit.serving.endpoint import start_gateway

# %% [markdown]
# ## 1 · One door
#
# A gateway needs a *backend*: an engine that it starts itself, or the URL of a server. `auto` takes the engine on
# this machine that serves several callers best. The cache is off, so that every answer is a new one. In a terminal the
# same is `labkit serve`.

# %%
gateway, url = start_gateway("main=auto;model=nano;threads=1", cache="off")
url

# %% [markdown]
# It speaks OpenAI's protocol, so every program that can talk to OpenAI can talk to it: students use `load` with a
# `url`, others the `openai` package, and Ollama's clients find `/api/chat` on the same port.

# %%
m = load("nano", engine="openai", url=f"{url}/v1")
print(m.chat("Hello! Who are you?"))

# %% [markdown]
# Underneath it is one HTTP request. **Predict**: which of these three will the gateway refuse, and with which status?
# (400: your request is wrong. 404: there is no such thing. 413: too large.)

# %%
import httpx

http = httpx.Client(base_url=url, timeout=60, trust_env=False)
hello = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
for change in ({}, {"temperature": -1}, {"model": "gpt-17"}):
    answer = http.post("/v1/chat/completions", json=hello | change)
    print(answer.status_code, answer.json().get("error", {}).get("message", "an answer"))

# %% [markdown]
# **Read the answers.** What is wrong is refused *before* an engine is asked: bad requests cost nothing but this
# answer, however many come. And a message says what to do, since its reader is a student at eleven in the evening.
#
# ## 2 · Who asks, and how much
#
# The next gateway is for others, so it demands keys (`--profile prod` does, too). It keeps only a hash of each key:
# who steals its database has no key. Ada may send 5 requests a minute. The engine is `echo`, which
# repeats what it is told and needs no time, so that what you see is the gateway alone.

# %%
import tempfile
from pathlib import Path

from labkit.serving.keys import Keys

state = tempfile.mkdtemp()
keys = Keys(Path(state, "keys.sqlite"))
user, key = keys.add("Ada", role="student", requests=5)
user, key[:6] + "…"

# %%
guarded, guarded_url = start_gateway("main=echo", state=state, keys=True)


def status(text, key):
    body = {"model": "nano", "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {key}"}
    return http.post(f"{guarded_url}/v1/chat/completions", json=body, headers=headers).status_code


# %% [markdown]
# **Predict**: somebody tries 50 keys. Then Ada sends 8 different questions. Which statuses will you see?
# (401: who are you? 429: too many requests.)

# %%
from collections import Counter

print("guesses:", Counter(status("Hello", f"lk-guess-{i}") for i in range(50)))
print("Ada:    ", [status(f"Question {i}", key) for i in range(8)])

# %% [markdown]
# **Read the statuses.** Guesses get no further than the door. Ada got what she may have; if her list has more than
# five times 200, a new minute began in between. What was handed out is in SQLite *before* it is used, so killing the
# gateway and starting it again gives nobody a new quota.
#
# ### Exercise 1
#
# A token quota should be what the machine can give. The cell measures `speed`, the tokens per second that one caller
# gets. How many tokens **a day** may each of 30 students have, if they work 8 hours a day and share that speed evenly?
# (An engine that batches gives a class more than one caller gets. This is the careful answer.)

# %%
from labkit.metrics.load import measure

measured = measure(f"{url}/v1", concurrency=1, requests=8, max_tokens=100, ignore_eos=True)
speed = round(measured.figures["throughput"])
### BEGIN SOLUTION
share = speed * 8 * 3600 / 30
### END SOLUTION
q1.check(speed, share)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 3 · Kill an engine
#
# Engines die: out of memory, a bug, somebody's `kill`. So there are two, and a gateway in front. Here each engine is
# a server of its own that you can kill; the gateway only knows their URLs.

# %%
a, url_a = start_gateway("main=echo;delay=0.02", cache="off", requests_per_minute=0)
b, url_b = start_gateway("main=echo;delay=0.02", cache="off", requests_per_minute=0)
logs = tempfile.mkdtemp()
front, front_url = start_gateway(
    f"a={url_a}/v1", f"b={url_b}/v1", state=logs, cache="off", requests_per_minute=0
)

# %% [markdown]
# **Predict**: 60 requests come, 6 at a time. After a second engine *a* is killed (`SIGKILL`: no farewell). How many
# of your users see an error?

# %%
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil


def one(i):
    body = {"model": "nano", "messages": [{"role": "user", "content": f"Say {i} back to me please"}]}
    return http.post(f"{front_url}/v1/chat/completions", json=body).status_code


threading.Timer(0.7, psutil.Process(a.pid).kill).start()
with ThreadPoolExecutor(6) as students:
    seen = Counter(students.map(one, range(60)))
seen

# %% [markdown]
# **Read the count.** A request whose engine dies before its student saw a word is given to another engine: nobody
# notices.
# The gateway tries at most three times, and after three failures in a row a *breaker* keeps requests away from that
# engine, until a probe (one token, really generated) succeeds. It never takes away the last engine that is left.
#
# What is already on a student's screen is another matter. A stream that breaks off ends with an *error event* and
# without `[DONE]`: to go on with another engine's words would look like an answer and might be none.
#
# All of it is in the audit log: one JSON line a request, without what was asked.

# %%
import json

lines = [json.loads(line) for line in Path(logs, "audit.jsonl").read_text().splitlines()]
lines[-1]

# %% [markdown]
# ### Exercise 2
#
# How many requests were **rescued**: tried on more than one backend, and answered with 200 in the end?

# %%
### BEGIN SOLUTION
rescued = sum(line["status"] == 200 and len(line.get("tried") or []) > 1 for line in lines)
### END SOLUTION
q2.check(lines, rescued)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 4 · Fill the line
#
# More questions than slots: the rest stand in line. A line without an end is worse than a refusal, because whoever
# waits a minute asks again meanwhile. So the line is short, and who finds it full is told at once when to come back.
# This gateway lets one work and four wait; an answer takes about half a second.

# %%
slow, slow_url = start_gateway("main=echo;delay=0.1", slots=1, queue=4, cache="off", requests_per_minute=0)


def patience(i):
    body = {"model": "nano", "messages": [{"role": "user", "content": "one two three four five"}]}
    answer = http.post(f"{slow_url}/v1/chat/completions", json=body)
    return answer.status_code, answer.headers.get("retry-after"), round(answer.elapsed.total_seconds(), 2)


# %% [markdown]
# **Predict**: ten ask at once. How many are answered, and who waits longest: those who are answered, or those who
# are refused?

# %%
with ThreadPoolExecutor(10) as students:
    for seen in sorted(students.map(patience, range(10)), key=lambda answer: answer[2]):
        print("status {}  Retry-After {}  after {} s".format(*seen))

# %% [markdown]
# **Read the list.** A refusal comes faster than any answer. Its `Retry-After` is an estimate: the line ahead, at its
# recent pace. A good client obeys it. One that asks again at once, in a loop, with all its friends, makes a slow
# minute into an outage: a *retry storm*.
#
# ### Exercise 3
#
# Write that good client. `send()` asks once and returns a status and the seconds of its Retry-After; `sleep(seconds)`
# waits. Return the last status. Which statuses are worth another try, and when do you give up?


# %%
### BEGIN SOLUTION
def patient(send, sleep):
    for _ in range(5):
        status, after = send()
        if status not in (429, 503):
            break
        sleep(after)
    return status


### END SOLUTION
q3.check(patient)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 5 · A full disk, and an orderly end
#
# The audit log must be complete, or it is worth little. So what if the disk is full? A limit on the size of files
# stands in for that here (Windows has none: there the cell says so).
#
# **Predict**: the disk has room for half a line. What is in the file afterwards?

# %%
from labkit.serving.audit import Audit

audit = Audit(Path(tempfile.mkdtemp()))
audit.write({"request": 1})
audit.flush()

# %%
try:
    import resource

    size, usual = audit.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    audit.write({"request": 2})
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8, usual[1]))
    audit.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    print("full:", audit.full, "·", audit.path.read_text().splitlines())
except ImportError:
    print("no limits on file sizes on this system")

# %% [markdown]
# **Read the file.** Half a line is worse than none: it was taken back, and waits in memory. While the log is full,
# the gateway's `/ready` says 503 and it takes no new requests: better no service than one that leaves no trace.
# (Whether that is right depends on the site. For a game you would decide otherwise.) Once there is room, the line is
# written:

# %%
audit.flush()
print("full:", audit.full, "·", audit.path.read_text().splitlines())
audit.close()

# %% [markdown]
# At the end of the day somebody stops the service. `SIGTERM` is the polite signal: the gateway takes nothing new, and
# what is under way may end. **Predict**: this answer takes 3 seconds, and the signal comes after one. Will it be
# complete?

# %%
long = "one two three four five six seven eight nine ten " * 3
asked = {"model": "nano", "messages": [{"role": "user", "content": long}]}
with ThreadPoolExecutor(1) as student:
    answer = student.submit(http.post, f"{slow_url}/v1/chat/completions", json=asked)
    threading.Event().wait(1)
    psutil.Process(slow.pid).terminate()
    words = answer.result().json()["choices"][0]["message"]["content"].split()
print(f"{len(words)} of {len(long.split())} words")

# %% [markdown]
# ### Exercise 4
#
# A clinic puts a gateway on its ward's network. Nurses ask from tablets (so `host` must be reachable: "0.0.0.0" is
# every network of the machine). Write its settings: keys are demanded; the first word comes within 5 seconds or not
# at all; nothing that was asked about patients is kept, neither in the cache nor in the log; e-mail addresses are
# blotted out of answers (`mask` is a regular expression); the connection is encrypted with the files `ward.pem` and
# `ward.key`. `help(Settings)` says what there is.

# %%
from labkit.serving.settings import Settings

### BEGIN SOLUTION
site = Settings(
    host="0.0.0.0",
    keys=True,
    wait=5,
    cache="off",
    mask=r"\S+@\S+\.\w+",
    tls_cert="ward.pem",
    tls_key="ward.key",
)
### END SOLUTION
q4.check(site)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# ## Recap
#
# You can now
#
# - start a gateway, and ask it with any OpenAI client
# - give users keys and quotas, and compute what each of them may use
# - kill an engine under load, and read in the audit log what became of every request
# - write a client that obeys Retry-After, and choose settings for a site
#
# **Next**: lab 19 watches such a service: figures, alerts that fire while you break it again, and a dashboard.

# %%
m.close()
http.close()
for server in (gateway, guarded, a, b, front, slow):
    server.stop()
from labkit.testing import finish

finish()
