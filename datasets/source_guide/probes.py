"""What works of the source guide, run by this kit's own code; and what does not, shown in a few lines of our own.

Each probe returns what it saw and raises `AssertionError` if the table's verdict does not hold on this machine. One
that needs a package which is not here raises `ImportError`: then nothing was tested.
"""

import asyncio
import hashlib
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.request import urlopen


def agent() -> str:
    """Run an agent of Agent Framework on labkit's engine, with a tool."""
    from agent_framework import Agent, tool

    from labkit import load
    from labkit.agents.framework import ChatClient

    @tool
    def clock() -> str:
        """Tell the time."""
        return "noon"

    # The scripted engine: what is tested is the framework, not a model.
    scripted = load(
        "nano",
        engine="echo",
        script=['<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>', "It is noon."],
    )
    answer = _wait(Agent(ChatClient(scripted), "You help.", tools=[clock]).run("What time is it?"))
    results = [c.result for m in answer.messages for c in m.contents if c.type == "function_result"]
    assert answer.text == "It is noon." and results, answer
    return f"an agent called its tool, read {str(results[0])!r} and answered {answer.text!r}"


def substring_router() -> str:
    """Let a model say odd things to two routers: one looks for a word in them, this kit's is held to its labels."""
    from labkit import load
    from labkit.agents.intents import SPECIALISTS, by_model

    said = ["this is not for customer_service", "banana", "technical"]
    ours = by_model(load("nano", engine="echo", script=said), held=False)
    routes = [ours("My lamp flickers.") for _ in said]
    loose = ["customer_service" if "customer" in text else "technical" for text in said]
    assert routes == ["", "", "technical"] and loose == ["customer_service", "technical", "technical"]
    return f"{said}: looking for a word gives {loose}, labels of {len(SPECIALISTS)} give {routes}"


def agents_in_a_row() -> str:
    """Run two agents of Agent Framework one after the other."""
    from agent_framework import Agent
    from agent_framework.orchestrations import SequentialBuilder

    from labkit import load
    from labkit.agents.framework import ChatClient

    told = {"first": "The invoice is wrong.", "second": "I have written to them."}
    agents = [
        Agent(ChatClient(load("nano", engine="echo", script=[text])), name=n) for n, text in told.items()
    ]
    result = _wait(SequentialBuilder(participants=agents).build().run("Look at my bill."))
    assert told["second"] in str(result.get_outputs()[-1]), result
    return f"a row of two was built and run; the last one said {told['second']!r}"


def no_such_argument() -> str:
    """Give an agent of the framework limits on resources."""
    from agent_framework import Agent

    from labkit import load
    from labkit.agents.framework import ChatClient

    try:
        Agent(ChatClient(load("nano", engine="echo")), "You help.", resource_limits={"max_memory_mb": 512})  # type: ignore[call-arg]
    except TypeError as error:
        return f"TypeError: {error}"
    raise AssertionError("the framework took resource_limits")


def llamacpp_settings() -> str:
    """Find the settings that the guide gives to Foundry Local where they belong."""
    from labkit.engines.llamacpp_native import LoadOptions

    names = inspect.signature(LoadOptions).parameters
    assert "threads" in names
    return f"the llamacpp engine takes {', '.join(names)}, and the level as variant="


def ollama_api() -> str:
    """Ask labkit's endpoint in Ollama's words, and count the answer's words and tokens."""
    import ollama

    from labkit.serving.endpoint import start_ollama_api

    process, url = start_ollama_api()
    try:
        client = ollama.Client(url)
        answer = client.generate("nano", "Hello! Who are you?", options={"num_predict": 16})
        models = [model.model for model in client.list().models]
        client.close()
    finally:
        process.stop()
    words, tokens = len(answer.response.split()), answer.eval_count
    assert models and answer.eval_duration and tokens and tokens != words
    return (
        f"/api/tags lists {len(models)} models; eval_count says {tokens} tokens where there are {words} words"
    )


def error_in_stream() -> str:
    """Send a failure behind a 200, as a pull does, to the package and to a reader of the status alone."""
    import ollama

    lines = b'{"status": "pulling manifest"}\n{"error": "file does not exist"}\n'
    with _Server(200, lines) as url:
        with urlopen(url) as page:
            status = page.status
        client = ollama.Client(url)
        try:
            for _ in client.pull("nobody/nothing", stream=True):
                pass
        except ollama.ResponseError as error:
            return f"status {status}, and ollama's client raises {type(error).__name__}: {error.error}"
        finally:
            client.close()
    raise AssertionError("a failed pull went through")


def keywords() -> str:
    """Measure a router of keywords on wordings that it was not written for."""
    from labkit.agents.intents import by_keywords, measure, requests

    known, odd = (measure(by_keywords(), requests(60, split)) for split in ("known", "odd"))
    assert odd.hits < known.hits
    return f"keywords hit {known.hits} of 60 in the wordings they were made for, {odd.hits} of 60 in odd ones"


def hash_differs() -> str:
    """Ask two processes for the hash of one text."""
    asked = [sys.executable, "-c", "print(hash('my radio is dead') % 10000)"]
    tickets = [
        subprocess.run(asked, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True).stdout.strip()
        for seed in "12"
    ]
    assert len(set(tickets)) == 2
    return f"two processes made tickets {' and '.join(tickets)} of the same problem"


def fit() -> str:
    """Compare what two models need with what is free here."""
    from labkit import catalog
    from labkit.models.fit import needs, size
    from labkit.models.hardware import memory

    wanted = {name: needs(catalog()[name]).total for name in ("qwen2.5-0.5b", "llama-3.1-8b")}
    free = memory()[1]
    shown = ", ".join(
        f"{name} needs {size(n)} ({'fits' if n < free else 'does not fit'})" for name, n in wanted.items()
    )
    return f"{size(free)} are free: {shown} (estimated)"


def vllm_flags() -> str:
    """Make the commands of the five templates and look for flags that are gone."""
    from labkit.engines.vllm_templates import TEMPLATES

    commands = {name: " ".join(settings.command("MODEL")) for name, settings in TEMPLATES.items()}
    gone = (
        "--speculative-model",
        "--disable-log-requests",
        "--guided-decoding-backend",
        "--trust-remote-code",
    )
    assert len(commands) == 5 and not any(flag in command for command in commands.values() for flag in gone)
    assert "--speculative-config" in commands["production-high"]
    return f"five commands, none with {', '.join(gone)}"


def openai_wants_a_key() -> str:
    """Make a client for a local server without a key."""
    import os

    import openai

    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        openai.OpenAI(base_url="http://127.0.0.1:9/v1")
    except openai.OpenAIError as error:
        return f"{type(error).__name__}: {str(error).split(',')[0]}"
    finally:
        os.environ.update(kept)
    raise AssertionError("a client was made without a key")


def gpu_shares() -> str:
    """Add up the shares of one GPU, the guide's and those of this kit's templates, each of which has its own."""
    from labkit.engines.vllm_templates import TEMPLATES

    three, production = 0.3 + 0.5 + 0.7, 0.4 + 0.6 + 0.3
    words = [word for one in TEMPLATES.values() for word in one.arguments()]
    ours = [float(words[at + 1]) for at, word in enumerate(words) if word == "--gpu-memory-utilization"]
    assert three > 1 and production > 1 and len(ours) == len(TEMPLATES) and max(ours) < 1
    return (
        f"0.3 + 0.5 + 0.7 = {three:.1f}, 0.4 + 0.6 + 0.3 = {production:.1f}; a template takes {max(ours):g}"
    )


def answers_are_the_models() -> str:
    """Ask this kit's gateway four things at once: does everybody get an answer to what was asked?"""
    import concurrent.futures

    _gateway()  # before four threads ask for it
    texts = [f"question {n}" for n in range(4)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = [found.json()["choices"][0]["message"]["content"] for found in pool.map(_ask, texts)]
    assert answers == texts, answers
    return f"four callers at once got {answers}"


def vllm_page() -> str:
    """Read a recorded page of vLLM's metrics."""
    from labkit.engines.prometheus import read_page
    from labkit.metrics.cases import data_folder

    page = read_page((data_folder("vllm") / "metrics.txt").read_text("utf-8"))
    found = [name for name in page if "num_requests" in name]
    assert any("waiting" in name for name in found) and any("running" in name for name in found), found
    return f"a recorded page has {', '.join(sorted(name.split('{')[0] for name in found))}"


def device_runs() -> str:
    """Run a file for one device: a node of its own process answers for its agent."""
    from labkit.deploy.render import FOLDER

    with _cluster((FOLDER / "edge" / "device.yaml").read_text("utf-8")) as cluster:
        answer = cluster.ask("device", "front-desk", "Are you there?", id="r-1")
    assert answer["node"] == "device" and answer["answer"], answer
    return f"read, started, asked: {answer['agent']} on {answer['node']} says {answer['answer']!r}"


def cluster_survives() -> str:
    """Run a file for three nodes, cut one off, ask on both sides, and join them again."""
    from labkit.deploy.render import FOLDER

    with _cluster((FOLDER / "edge" / "cluster.yaml").read_text("utf-8")) as cluster:
        cluster.cut("depot")
        other = cluster.ask("north", "stock", "two lamps", id="r-1")["node"]
        later = cluster.ask("south", "repairs", "mend it", id="r-2")
        cluster.mend("depot")
        same = cluster.in_step()
        answers = [len(cluster.records(node)) for node in cluster.nodes]
    assert (other, later) == ("north", {"queued": "r-2", "for": "depot"}) and same, (other, later)
    return f"cut off: {other} took over, one request waited; together again, the nodes hold {answers} records"


def retail() -> str:
    """Make the shop, look up a product, and draw tasks."""
    return _scenario("retail", lambda data: data.rows("select name from products")[0])


def health() -> str:
    """Make the practice; see that a tool's way out is closed."""
    import socket

    from labkit.agents.tools import Guarded

    def send(patient: str) -> str:
        """Send a patient's data away."""
        with socket.create_connection(("203.0.113.1", 443), timeout=1):
            return "sent"

    result = Guarded(send).start({"patient": "Mira"})()
    assert not result.ok and result.denied, result
    kept = _scenario("health", lambda data: data.rows("select doctor from slots")[0])
    return f"{kept}; a tool that opens a connection is told: {result.text[:80]}"


def asyncio_is_here() -> str:
    """Find asyncio in Python itself."""
    assert "asyncio" in sys.stdlib_module_names
    return "asyncio is in sys.stdlib_module_names"


def health_check() -> str:
    """Ask two servers for their health in one line of Python, as the image does."""
    line = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"
    codes = []
    for status in (200, 503):
        with _Server(status, b"") as url:
            done = subprocess.run(
                [sys.executable, "-c", line, url], capture_output=True, env={"no_proxy": "*"}
            )
        codes.append(done.returncode)
    assert codes == [0, 1]
    return "the check ends with 0 where the server says 200, with 1 where it says 503"


def compose_is_read() -> str:
    """Let docker-compose read this kit's file of that kind."""
    from labkit.deploy.render import render, write
    from labkit.deploy.settings import Deployment
    from labkit.deploy.validators import validate

    with TemporaryDirectory() as folder:
        files = {path.name: path for path in write(render(Deployment(), ("compose",)), Path(folder))}
        said = validate("compose", files["compose.yaml"])
    assert said == "", said
    return "docker-compose reads the whole file of lab 21, with its secrets by reference"


def deployment_has_a_selector() -> str:
    """Ask Kubernetes' schema about this kit's Deployment, and about the same without its selector."""
    sound, without = _kubernetes("selector:\n    matchLabels:\n      app: labkit\n  strategy", "strategy")
    assert sound == "" and "selector" in without, (sound, without)
    return f"whole it passes; without: {without.splitlines()[0][:90]}"


def scaling_is_valid() -> str:
    """Ask Kubernetes' schema about this kit's autoscaler, and about one whose least is a word."""
    sound, wrong = _kubernetes("minReplicas: 2", "minReplicas: two")
    assert sound == "" and wrong
    return f"autoscaling/v2 passes; with a word for a number: {wrong.splitlines()[0][:90]}"


def any_annotation_passes() -> str:
    """Ask Kubernetes' schema about an Ingress with an annotation that nobody reads."""
    made_up = "nginx.ingress.kubernetes.io/rate-limit: '10'\n    nginx.ingress.kubernetes.io/proxy-buffering"
    sound, odd = _kubernetes("nginx.ingress.kubernetes.io/proxy-buffering", made_up)
    assert sound == odd == ""
    return "an Ingress with an annotation that does not exist passes as well as one without"


def ignored_at_the_root() -> str:
    """Ask Docker's own library what two patterns leave out."""
    from docker.utils.build import exclude_paths

    with TemporaryDirectory() as folder:
        inner = Path(folder) / "labkit" / "__pycache__"
        inner.mkdir(parents=True)
        (inner / "a.pyc").touch()
        left = {
            p: "labkit/__pycache__" in exclude_paths(folder, [p]) for p in ("__pycache__", "**/__pycache__")
        }
    assert left == {"__pycache__": True, "**/__pycache__": False}
    return f"is labkit/__pycache__ in the image? {left}"


def sam_is_read() -> str:
    """Let cfn-lint read this kit's template for Lambda."""
    from labkit.deploy.render import render, write
    from labkit.deploy.settings import Deployment
    from labkit.deploy.validators import validate

    with TemporaryDirectory() as folder:
        path = next(p for p in write(render(Deployment(), ("lambda",)), Path(folder)) if p.suffix == ".yaml")
        said = validate("sam", path)
    assert said == "", said
    return "cfn-lint passes the template of lab 21"


def yaml_runs_nothing() -> str:
    """Read a command substitution as YAML does."""
    import yaml

    secret = yaml.safe_load("stringData:\n  jwt: $(openssl rand -hex 32)\n")["stringData"]["jwt"]
    assert secret == "$(openssl rand -hex 32)"
    return f"the secret is the text {secret!r}"


def null_body() -> str:
    """Send an event without a body to a reader that takes a missing one for empty, and to this kit's handler."""
    import os

    from labkit.deploy.render import render
    from labkit.deploy.settings import Deployment

    names: dict[str, Any] = {}
    exec(render(Deployment(), ("lambda",))["lambda/handler.py"], names)
    event = {"rawPath": "/v1/models", "body": None}
    try:
        json.loads(event.get("body", "{}"))  # type: ignore[arg-type]
    except TypeError as error:
        said = f"TypeError: {error}"
    with _Server(401, b'{"error": {}}') as url:
        os.environ["GATEWAY"] = url.rstrip("/")
        answer = names["handler"](event, None)
        del os.environ["GATEWAY"]
    assert answer["statusCode"] == 401 and said
    return f"{said[:60]}…; the handler of lab 21 asks the gateway, and hands its {answer['statusCode']} on"


def closed_stream() -> str:
    """Return a generator out of the block that holds its connection, then read it."""
    import httpx

    async def answer(request: httpx.Request) -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"data: one\n\n"

        return httpx.Response(200, content=pieces())

    async def outside() -> AsyncIterator[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            async with client.stream("GET", "http://cloud") as response:
                return response.aiter_lines()

    async def read() -> str:
        try:
            return "".join([line async for line in await outside()])
        except httpx.StreamError as error:
            return type(error).__name__

    said = _wait(read())
    assert said.startswith("Stream"), said
    return f"reading after the block has ended raises {said}"


def json_has_no_comments() -> str:
    """Read JSON with a comment."""
    try:
        json.loads('// a name\n{"builds": []}')
    except json.JSONDecodeError as error:
        return f"JSONDecodeError: {error}"
    raise AssertionError("JSON took a comment")


def toml_has_other_comments() -> str:
    """Read TOML with a comment of JavaScript's, and with one of its own."""
    assert tomllib.loads('# a name\nname = "edge"')["name"] == "edge"
    try:
        tomllib.loads('// a name\nname = "edge"')
    except tomllib.TOMLDecodeError as error:
        return f"TOMLDecodeError: {error}"
    raise AssertionError("TOML took a comment of another language")


def status_is_handed_on() -> str:
    """Run this kit's Worker in Node, before a gateway that has had enough."""
    import shutil

    from labkit.deploy.render import render
    from labkit.deploy.settings import Deployment

    if not shutil.which("node"):
        raise ImportError("Node is not installed")
    script = (
        'import worker from "./worker.mjs";\n'
        "globalThis.fetch = async () => new Response('{}', { status: 429, headers: { 'retry-after': '7' } });\n"
        "const asked = new Request('http://edge/v1/chat/completions', { method: 'POST', body: '{}' });\n"
        "const answer = await worker.fetch(asked, { GATEWAY: 'http://gateway' });\n"
        "console.log(answer.status, answer.headers.get('retry-after'));\n"
    )
    with TemporaryDirectory() as folder:
        (Path(folder) / "worker.mjs").write_text(
            render(Deployment(), ("worker",))["worker/worker.js"], "utf-8"
        )
        (Path(folder) / "main.mjs").write_text(script, "utf-8")
        done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["429", "7"], done.stderr
    return (
        "the Worker of lab 21, run in Node before a gateway that says 429: the caller gets 429, Retry-After 7"
    )


def comment_behind_backslash() -> str:
    """Let a shell read a line that ends in a backslash and a comment."""
    script = "printf '%s|' one \\  # a comment\nprintf '%s|' two"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout
    assert said == "one| |two|", said
    return f"the shell takes it for two commands: {said!r}"


def pooling() -> str:
    """Average the vectors of a text's tokens."""
    import numpy as np

    states, mask = np.arange(24.0).reshape(2, 3, 4), np.array([[1, 1, 0], [1, 1, 1]])
    pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    assert pooled.shape == (2, 4) and pooled[0, 0] == 2
    return f"states {states.shape} are averaged over the mask to {pooled.shape}, a vector a text"


def semaphore() -> str:
    """Run 30 calls, at most ten at a time, one of which fails."""
    now = most = 0

    async def call(number: int, places: asyncio.Semaphore) -> str:
        nonlocal now, most
        async with places:
            now, most = now + 1, max(most, now + 1)
            await asyncio.sleep(0.001)
            now -= 1
            if number == 7:
                raise ValueError("refused")
            return "text"

    async def run() -> list[Any]:
        places = asyncio.Semaphore(10)
        return await asyncio.gather(*(call(n, places) for n in range(30)), return_exceptions=True)

    found = _wait(run())
    assert most == 10 and isinstance(found[7], ValueError)
    return f"at most {most} at a time; number 7 of the list of texts is {found[7]!r}"


def http2() -> str:
    """Make a client with HTTP/2."""
    from importlib.util import find_spec

    import httpx

    if find_spec("h2"):
        return "h2 is installed here, so http2=True works"
    try:
        httpx.AsyncClient(http2=True)
    except ImportError as error:
        return f"ImportError: {str(error).split('. ')[0]}"
    raise AssertionError("HTTP/2 without h2")


def hash_is_exact() -> str:
    """Ask the gateway's cache for three wordings: by their text, and by their meaning where that is asked for."""
    from labkit.serving.cache import nearest, packed
    from labkit.types import Chunk

    keys = {hashlib.sha256(text.encode()).hexdigest()[:8] for text in ("Who are you?", "who are you?")}
    kept = [packed([Chunk("I am nano.", 1)], (1.0, 0.0))]
    near, far = nearest(kept, (0.99, 0.05), 0.95), nearest(kept, (0.0, 1.0), 0.95)
    assert len(keys) == 2 and near and near.text == "I am nano." and far is None
    return f"a capital letter makes another key ({' and '.join(sorted(keys))}); by vectors, what is near is found"


def key_without_user() -> str:
    """Make this kit's key for one question by two users of two models, with two settings."""
    from labkit.serving.cache import keys_of
    from labkit.serving.openai_api import Ask
    from labkit.types import GenerationOptions

    def key(user: str, model: str, heat: float) -> tuple[str, str]:
        turn = {"role": "user", "content": "my bill?"}
        return keys_of(user, Ask(model, [turn], [], GenerationOptions(temperature=heat)))

    keys = {
        key(*one) for one in (("mira", "a", 0.0), ("tom", "a", 0.0), ("mira", "b", 0.0), ("mira", "a", 1.0))
    }
    alone = {hashlib.md5(b"my bill?").hexdigest() for _ in range(4)}
    assert len(keys) == 4 and len(alone) == 1 and key("mira", "a", 0.0) in keys
    return (
        f"by the question alone: {len(alone)} key for four askers; with user, model and settings: {len(keys)}"
    )


def swallowed() -> str:
    """Let a model call a tool that fails, in code that catches everything, and in this kit's loop."""
    from labkit import load
    from labkit.agents.loop import Agent

    def lamp(room: str) -> str:
        """Turn a lamp on."""
        return call_tool(room)  # type: ignore[name-defined, no-any-return]  # noqa: F821

    try:
        hidden = {"result": lamp("kitchen")}
    except Exception as error:
        hidden = {"result": repr(error)}
    call = '<tool_call>\n{"name": "lamp", "arguments": {"room": "kitchen"}}\n</tool_call>'
    run = Agent(load("nano", engine="echo", script=[call, "It is on."]), [lamp]).run("Light, please.")
    seen = run.calls[0][1]
    assert "NameError" in hidden["result"] and not seen.ok, seen
    return (
        f"caught and hidden it is a result like any other; the loop's is marked as failed: {seen.text[:60]!r}"
    )


def refusal_is_no_stream() -> str:
    """Ask the gateway for a stream of a model that is not there; filter its refusal as if it were a stream."""
    answer = _ask("Hello", model="no-such-model", stream=True)
    whole = _ask("Hello", stream=True).text.split()
    filtered = [line for line in answer.text.splitlines() if line.startswith("data: ")] + ["data: [DONE]"]
    assert answer.status_code == 404 and filtered == ["data: [DONE]"] and whole[-1] == "[DONE]"
    return f"the gateway refuses with {answer.status_code} and no stream; filtered for data, {filtered[0]!r} is left"


def holes() -> str:
    """Cut a talk by skipping what does not fit, and by this kit's way, from the front."""
    from labkit.serving.trim import estimate, trim

    talk = [{"role": "user", "content": word * n} for word, n in (("a", 30), ("b", 300), ("c", 30))]
    room, kept = 50, list[str]()
    for turn in reversed(talk):
        if (cost := estimate(turn)) <= room:
            kept, room = [turn["content"][0], *kept], room - cost
    ours = [turn["content"][0] for turn in trim(talk, 50)]
    assert kept == ["a", "c"] and ours == ["c"]
    return f"of a, b, c the talk keeps {kept} with a hole; cut from the front: {ours}"


def counted_twice() -> str:
    """Count a request at its start and at its end in one counter; then ask the gateway how it counts one."""
    import httpx
    from prometheus_client import CollectorRegistry, Counter

    counter = Counter("requests", "All requests", ["status"], registry=CollectorRegistry())
    for status in ("started", "success"):
        counter.labels(status).inc()
    total = sum(s.value for m in counter.collect() for s in m.samples if s.name.endswith("_total"))
    counts = []
    for _ in range(2):
        page = httpx.get(f"{_gateway()[1]}/metrics", trust_env=False).text
        lines = [line for line in page.splitlines() if line.startswith("labkit_requests_total{")]
        counts.append(sum(float(line.split()[-1]) for line in lines if "/v1/chat" in line))
        _ask("Hello")
    ours = counts[1] - counts[0]
    assert total == 2 and ours == 1, counts
    return f"one request: that counter's sum is {total:g}, the gateway's {ours:g}"


def an_answer_takes_longer() -> str:
    """Say how fast a model must write to keep the table's promises, and how fast the smallest here does."""
    from labkit import load

    wanted = {ms: 100 / (ms / 1000) for ms in (10, 50, 100)}
    with load("nano", threads=1) as model:
        model.chat("Hello!", max_tokens=4)
        timing = model.chat("Who are you?", max_tokens=100, ignore_eos=True).timing
    speed = timing.tokens_per_second
    assert speed > 0 and wanted[50] == 2000
    promised = ", ".join(f"{ms} ms are {rate:,.0f} tokens/s" for ms, rate in wanted.items())
    return f"100 tokens in {promised}; nano, of a few million weights, writes {speed:,.0f} here, alone"


def wheels_name_their_library() -> str:
    """Look for what C library the packages here were built for."""
    from importlib.metadata import distributions

    tags = [
        line
        for d in distributions()
        for line in (d.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag:")
    ]
    kinds = {kind: sum(kind in tag for tag in tags) for kind in ("manylinux", "musllinux")}
    return f"built for glibc (manylinux): {kinds['manylinux']} tags here, for Alpine's musl: {kinds['musllinux']}"


def sizes() -> str:
    """Compute the six sizes from the file format's rules."""
    from labkit.models.sizes import SHAPES, file_bytes

    told = {"F16": 14, "Q8_0": 7.5, "Q5_K_M": 5.2, "Q4_K_M": 4.4, "Q3_K_M": 3.5, "Q2_K": 2.9}
    found = {level: file_bytes(SHAPES["7B"], level) / 1e9 for level in told}
    assert all(found[level] > gb for level, gb in told.items())
    return "told and computed for Qwen2.5 7B, GB: " + ", ".join(
        f"{k} {v} {found[k]:.1f}" for k, v in told.items()
    )


def cost_table() -> str:
    """Compute the second row from the first one's demand."""
    from labkit.deploy.cost import GUIDE, GUIDE_DEMAND, GUIDE_PRICES, fixed, hpa

    first, second = fixed(GUIDE_DEMAND, GUIDE_PRICES), hpa(GUIDE_DEMAND, GUIDE_PRICES)
    assert round(first.fixed) == GUIDE[0].fixed and round(first.elastic) == GUIDE[0].elastic
    told, found = (bill.fixed + bill.elastic for bill in (GUIDE[1], second))
    assert found > told
    return f"the same requests under HPA cost ${found:,.0f}, not ${told:,.0f}"


def thresholds() -> str:
    """Put a slow minute before both rules: calls of 29 s, within requests that take as long."""
    from labkit.metrics.alerts import Rule, alerts

    minute = [{"at": float(n), "request": 29.5, "call": 29.0} for n in range(0, 60, 5)]
    fired = [one.rule.field for one in alerts(minute, [Rule("request", 10, 60), Rule("call", 30, 60)])]
    assert fired == ["request"]
    return (
        f"a minute of calls of 29 s: the alert on the {fired[0]} fires, that on the call inside it never does"
    )


def order_is_no_argument() -> str:
    """Ask pip for a package that is here, and "first", without an index."""
    words = ["pip", "first"]
    asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", *words]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert done.returncode and "requirement first" in done.stderr, done.stderr
    return f"pip, asked for {words}: {next(line for line in done.stderr.splitlines() if 'requirement first' in line)}"


def _scenario(name: str, look: Any) -> str:
    from labkit.agents.scenarios import by_name

    with TemporaryDirectory() as folder:
        place = by_name(name)
        data = place.create(Path(folder) / "data.db")
        row, tools, tasks = look(data), place.tools(data), place.draw(data, 5)
    assert row and tools and len(tasks) == 5
    return f"{name}: {len(tools)} tools on SQLite, and tasks such as {tasks[0].text!r}"


@cache
def _gateway() -> Any:
    """Start this kit's gateway with the engine that repeats, once; it ends with this process."""
    from labkit.serving.endpoint import start_gateway

    return start_gateway("nano=echo")


def _ask(text: str, **more: Any) -> Any:
    """Ask that gateway."""
    import httpx

    body = {"model": "nano", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{_gateway()[1]}/v1/chat/completions", json=body, timeout=30, trust_env=False)


@contextmanager
def _cluster(text: str) -> Iterator[Any]:
    """Run an edge file, with the engine that repeats in the place of each model's."""
    from labkit.deploy.cluster import Cluster

    text = text.replace("{alias: nano}", "{alias: nano, engine: echo}")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "edge.yaml"
        file.write_text(text.replace("alias: nano\n", "alias: nano\n      engine: echo\n"), "utf-8")
        with Cluster(file, Path(folder) / "state") as cluster:
            yield cluster


def _kubernetes(old: str, new: str) -> tuple[str, str]:
    """Return what Kubernetes' schemas say of this kit's objects, and of the same with one place changed."""
    from labkit.deploy.render import render, write
    from labkit.deploy.settings import Deployment
    from labkit.deploy.validators import validate

    with TemporaryDirectory() as folder:
        (path,) = write(render(Deployment(), ("kubernetes",)), Path(folder))
        said, text = validate("kubernetes", path), path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        return said, validate("kubernetes", path)


class _Server:
    """Answer every request with one status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _wait(awaitable: Any) -> Any:
    """Await in a thread of its own: a notebook has a loop already."""
    found: list[Any] = []

    async def run() -> None:
        found.append(await awaitable)

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    assert found, "it failed: see above"
    return found[0]
