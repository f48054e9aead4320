# %% [markdown]
# # 21 · Deploying
#
# **50 minutes** · needs only this kit; the tools that check files (Kubernetes' schemas, nginx, systemd, …) are used
# where they are installed; no network, no GPU, no account
#
# A service that runs in a notebook is not deployed. Somebody must start it, see whether it works, stop it without
# cutting anybody off, and bring in the next version. In this lab you render the files for that, let the programs that
# will read them find mistakes, cut a node off a small cluster, and ask a running service hard questions.
#
# You will be able to
#
# - render a deployment from typed settings, and let each file's own tool check it
# - say how many replicas an autoscaler asks for, and why
# - run agents on several nodes, cut one off, and show that no record is lost or doubled
# - go through a checklist against a running service, and judge a gradual roll-out by numbers

# %%
from labkit.checks.lab21 import answers, q1, q2, q3, q4
from labkit.deploy.render import KINDS, render
from labkit.deploy.settings import Deployment

# %% [markdown]
# ## 1 · From settings to files
#
# The same few facts (name, host, port, memory, seconds to stop) stand in a Dockerfile, in a systemd unit, in five
# Kubernetes objects. Copied by hand, they soon disagree. So there is one place for them, `Deployment`, and every file
# is rendered from it.

# %%
d = Deployment()
files = render(d)
print(", ".join(KINDS))
print(len(files), "files,", sum(text.count("\n") for text in files.values()), "lines")

# %% [markdown]
# **Predict**: what should happen to an image called `labkit:latest`? And to a host name with a line break in it?

# %%
from labkit.errors import OptionInvalid

for wrong in ({"image": "labkit:latest"}, {"host": "a.example\nServer: b"}, {"grace": "20"}):
    try:
        Deployment(**wrong)
    except OptionInvalid as error:
        print(error)

# %% [markdown]
# **Read the messages.** The type refuses what would do harm later: `latest` is another image tomorrow, and a line
# break in a value could add a line to a file.
#
# Now look at how a pod ends. Kubernetes takes it off the list of addresses and runs `preStop` at the same time, then
# sends SIGTERM, and kills what is still there at the end of the grace period, which began with `preStop`.
#
# **Predict**: streams get 20 seconds to end. What must the grace period be at least?

# %%
import yaml

pod = next(yaml.safe_load_all(files["kubernetes/gateway.yaml"]))["spec"]["template"]["spec"]
box = pod["containers"][0]
print("preStop:", *box["lifecycle"]["preStop"]["exec"]["command"])
print("after SIGTERM:", *(one["value"] for one in box["env"] if one["name"] == "LABKIT_SERVE_GRACE"), "s")
print("killed after", pod["terminationGracePeriodSeconds"], "s in all")

# %% [markdown]
# **Read the three numbers**: the last must be more than the first two together, or an update cuts people off. It is
# rendered from one setting, `grace`, as is the second.
#
# ### Exercise 1
#
# A clinic wants the service at `ai.clinic.example`. One replica may be drained while another one fails, and one must
# remain. Its model needs 4 GB a replica, and an answer may take a minute, which an update must not cut off. Give the
# settings; `help(Deployment)` lists them.

# %%
### BEGIN SOLUTION
clinic = Deployment(host="ai.clinic.example", replicas=3, grace=60, memory_gb=4)
### END SOLUTION
q1.check(clinic)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2 · Let their readers read them
#
# A file that looks right is a guess. Each kind has a tool that knows: Kubernetes' schemas, `docker-compose config`,
# `systemd-analyze verify`, `nginx -t`, promtool. `validate` returns what such a tool says, and nothing when it is
# content. The next cell takes some seconds: each tool is started.

# %%
from pathlib import Path
from tempfile import mkdtemp
from labkit.deploy.render import write
from labkit.deploy.validators import kind_of, validate
from labkit.errors import EngineUnavailable


def said(path):
    try:
        return validate(kind_of(path), path) or "nothing to object to"
    except EngineUnavailable as missing:
        return f"not checked: {missing.what}"


# %%
folder = Path(mkdtemp())
for path in write(render(d, ("docker", "compose", "kubernetes", "systemd", "edge")), folder):
    print(f"{str(path.relative_to(folder)):24} {kind_of(path):12} {said(path)}")

# %% [markdown]
# **Predict**: here are two mistakes in an edge file. An agent asks a model that its node does not have; and a word is
# misspelled. What will be said?

# %%
good = render(d, ("edge",))["edge/device.yaml"]
for name, old, new in (("a", "scenario: retail", "model: pico"), ("b", "agents:", "agnets:")):
    broken = write({f"edge/{name}.yaml": good.replace(old, new)}, folder)[0]
    print(said(broken), "\n")

# %% [markdown]
# **Read them.** A reader that ignored unknown words would have started a node without agents. All readers here are
# strict. The kit's tests break a file of every kind and demand that its tool says so: a check that never fails checks
# nothing. And what no reader sees, they try: the Dockerfile's steps are done in an empty folder until the health check
# answers, nginx must not hold back a stream, the Worker runs in the program that Cloudflare runs it in.
#
# ### The autoscaler
#
# No tool can tell whether the *numbers* are good. The HPA looks at two figures, each as a mean over replicas: requests
# that wait (target `queue_target`), and percent of the processor (target `cpu_target`). For each it computes
#
# *replicas × figure / target*, rounded up,
#
# takes the larger one, and stays between `replicas` and `max_replicas`. (It also leaves things alone within 10 % of a
# target; leave that out.)
#
# ### Exercise 2
#
# Write `wanted(replicas, queue, cpu, d)`.

# %%
import math

### BEGIN SOLUTION


def wanted(replicas, queue, cpu, d):
    wish = max(replicas * queue / d.queue_target, replicas * cpu / d.cpu_target)
    return min(max(math.ceil(wish), d.replicas), d.max_replicas)


### END SOLUTION
q2.check(wanted)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# Why the queue, and not the processor alone? An engine that batches keeps its cores busy with one request as with
# eight. The queue is what users feel.
#
# ## 3 · A cluster at the edge, and a cut
#
# Two shops and a depot: each node is a process with its own model and agents. They tell each other what happened.
# Between two nodes runs a line that we can cut; a customer stands in front of a node, and is served in any case. The
# lines are relays in this notebook. Root on Linux can give each node a network of its own and take its cable out:
# `Cluster(path, namespaces=True)`, or `labkit deploy up cluster.yaml --namespaces` in a terminal. There nobody is told
# that a line is dead; packets just do not arrive.

# %%
print(render(d, ("edge",))["edge/cluster.yaml"])

# %%
from labkit.deploy.cluster import Cluster

path = write(render(d, ("edge",)), folder)[0]
cluster = Cluster(path)
print(cluster.network)
for node in cluster.nodes:
    print(cluster.status(node))

# %% [markdown]
# **Predict**: `repairs` works in the depot alone. You ask for it in the north. Who answers?

# %%
answer = cluster.ask("north", "repairs", "Where is my ticket T-1?", id="r-1")
print(answer)

# %% [markdown]
# **Read** `node`, not the text: a small model may answer well or badly (lab 12), but who did the work is certain. The
# request travelled. Its answer is a *record*, and all nodes get it.

# %%
print(cluster.in_step())
print({node: answers(cluster.records(node)) for node in cluster.nodes})

# %% [markdown]
# Now the line to the depot is cut, in the middle of the day.
#
# **Predict**, for each request: answered by whom, or not yet?
# 1. the north asks for `stock` (agents in the north and in the depot)
# 2. the depot asks for `repairs`, its own agent
# 3. the south asks for `repairs`
# 4. the depot asks for `front-desk`, which it does not have

# %%
cluster.cut("depot")
asked = (("north", "stock"), ("depot", "repairs"), ("south", "repairs"), ("depot", "front-desk"))
for number, (node, agent) in enumerate(asked, start=2):
    got = cluster.ask(node, agent, "How is order A10001?", id=f"r-{number}")
    print(f"{node} asks for {agent}:", got.get("node") or got)

# %% [markdown]
# **Read it.** Both sides went on with what they have. What needs the other side is *queued*: written to disk in the
# node's *outbox*, and promised. Impatient customers press the button again: the same id is the same request.

# %%
cluster.ask("south", "repairs", "How is order A10001?", id="r-4")
print({node: cluster.status(node)["waiting"] for node in cluster.nodes})

# %% [markdown]
# **Predict**: the line is mended. How many answers will each node know, of five requests?

# %%
cluster.mend("depot")
print("in step:", cluster.in_step())
print({node: answers(cluster.records(node)) for node in cluster.nodes})

# %%
for record in cluster.records("south"):
    print(f"{record.id:9} written in the {record.node:6} {record.body['agent']}")

# %% [markdown]
# **Read the ledger.** Nothing is lost, since a record stays in the outbox until the other node has confirmed it.
# Nothing is there twice, since its id decides whether it is new, so sending again does no harm. The *work* may be done
# twice, when a node dies after working and before writing. No protocol can exclude that. So a tool that does harm when
# it runs twice needs the id, too.
#
# ### Exercise 3
#
# The heart of it is a merge. A ledger maps an id to (node, what). Write `merge(here, there)`: all records of both; of
# two with one id, the one of the node whose name comes first. Order and repetition must not matter.

# %%
### BEGIN SOLUTION


def merge(here, there):
    both = dict(here)
    for id, record in there.items():
        both[id] = min(record, both.get(id, record))
    return both


### END SOLUTION
q3.check(merge)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4 · Ready for others?
#
# The checklist asks a running service: does it want keys, does it refuse what is too large, are there figures, an
# audit log, a backup, an orderly end? It believes nothing that it has not seen.
#
# **Predict**: our node in the north runs well. Which lines will it pass?

# %%
from labkit.deploy.checklist import Service, go_through

findings = go_through(Service(cluster.url("north"), key="lk-any"))
print(*findings, sep="\n")

# %% [markdown]
# **Read the evidence**, not only the verdict. The node works, and it is not fit for others: 404 says that it has
# neither OpenAI's routes nor a page of figures, and it asks nobody for a key. That is why it listens to its own machine
# only. "Not checked" is not "passed": the line says what it would need.
#
# The gateway of lab 18 is made for others. It gets two keys, and a word that nobody may ask about. (Its engine only
# repeats: the checklist asks about the service, not about the model.)

# %%
from labkit.serving.endpoint import start_gateway
from labkit.serving.keys import Keys

state = folder / "state"
(_, key), (_, admin) = (Keys(state / "keys.sqlite").add(*who) for who in (("Mira",), ("Ada", "admin")))
gateway, url = start_gateway("nano=echo", profile="prod", state=state, deny="poison")

# %% [markdown]
# **Predict**: it is not told of a backup, and it may not send a burst of requests. Two lines cannot pass, then. Do the
# others? (`stop=True` ends the service while somebody is still listening.)

# %%
asked = {"state": state, "pid": gateway.pid, "forbidden": "poison", "stop": True}
findings = go_through(Service(url, key, admin, **asked))
print(*findings, sep="\n")

# %% [markdown]
# **Read it.** What is "not checked" is yours to show: make a backup (`labkit serve backup FILE`) and name it;
# `burst=200` asks until the key's limit is reached, and then waits as long as it is told. In a terminal it is
# `labkit deploy check URL --state FOLDER --backup FILE --pid … --burst 200`, with the keys in two variables. A test of
# this kit takes each of these things away from a service, and demands that its line, and no other, fails.
#
# ### The next version
#
# A new version first gets 5 % of the requests, then 25 %, then 50 % (`rollout/`). After each step somebody decides: go
# on, go back, or wait for more requests. An interval says what the counts can tell (lab 03).

# %%
from labkit.metrics.intervals import wilson

for bad, n in ((0, 20), (1, 400), (30, 400)):
    print(
        f"{bad} of {n} failed: the true share is between {wilson(bad, n)[0]:.1%} and {wilson(bad, n)[1]:.1%}"
    )

# %% [markdown]
# ### Exercise 4
#
# Write `judge(bad, n, canary_bad, canary_n)`. Compare the intervals of the old version and of the new one (the
# *canary*):
#
# - `"go back"` when the canary's low end is above the old version's high end: it is clearly worse;
# - `"go on"` when the canary's high end is at most 0.02 above the old version's high end;
# - `"wait"` otherwise.

# %%
### BEGIN SOLUTION


def judge(bad, n, canary_bad, canary_n):
    old, new = wilson(bad, n), wilson(canary_bad, canary_n)
    if new[0] > old[1]:
        return "go back"
    return "go on" if new[1] <= old[1] + 0.02 else "wait"


### END SOLUTION
q4.check(judge)

# %%
# q4.hint()
# q4.solution()

# %% [markdown]
# ## Recap
#
# You can now
#
# - render a deployment from typed settings, and let each file's own tool check it
# - say how many replicas an autoscaler asks for, and why
# - run agents on several nodes, cut one off, and show that no record is lost or doubled
# - go through a checklist against a running service, and judge a gradual roll-out by numbers
#
# **Next**: lab 22, in which you choose a place, and build, serve, watch and break an agent for it.

# %%
cluster.stop()
gateway.stop()
from labkit.testing import finish

finish()
