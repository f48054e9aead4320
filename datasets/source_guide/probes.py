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
from collections.abc import AsyncIterator
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
    """Look for a word in an answer, as a router does that is not held to its labels."""
    routes = {
        said: "customer" if "customer" in said else "technical"
        for said in ("not for customer service", "banana")
    }
    assert routes == {"not for customer service": "customer", "banana": "technical"}
    return f"looking for the word customer routes so: {routes}"


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
    """Send a failure behind a 200, as a pull does."""
    with (
        _Server(200, b'{"status": "pulling manifest"}\n{"error": "file does not exist"}\n') as url,
        urlopen(url) as page,
    ):
        lines = [json.loads(line) for line in page.read().splitlines()]
    assert page.status == 200 and "error" in lines[-1]
    return f"status {page.status}, and the last line says {lines[-1]}"


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
    """Add up the shares of one GPU."""
    three, production = 0.3 + 0.5 + 0.7, 0.4 + 0.6 + 0.3
    assert three > 1 and production > 1
    return f"0.3 + 0.5 + 0.7 = {three:.1f}; 0.4 + 0.6 + 0.3 = {production:.1f}: neither fits one GPU"


def future_never_read() -> str:
    """Put work into a queue with a place for its answer, and answer without looking there."""

    async def ask() -> str:
        place: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        place.set_result("the model's answer")
        await asyncio.sleep(0)
        return "processed"

    said = _wait(ask())
    assert said == "processed"
    return f"the caller reads {said!r}, whatever the model said"


def vllm_page() -> str:
    """Read a recorded page of vLLM's metrics."""
    from labkit.engines.prometheus import read_page
    from labkit.metrics.cases import data_folder

    page = read_page((data_folder("vllm") / "metrics.txt").read_text("utf-8"))
    found = [name for name in page if "num_requests" in name]
    assert any("waiting" in name for name in found) and any("running" in name for name in found), found
    return f"a recorded page has {', '.join(sorted(name.split('{')[0] for name in found))}"


def yaml_is_only_data() -> str:
    """Read a deployment's YAML; something has to act on it."""
    import yaml

    read = yaml.safe_load("deployment: {type: distributed-edge, coordination: {failover: automatic}}")
    assert read["deployment"]["coordination"]["failover"] == "automatic"
    return f"reading it gives {read}, and that is all"


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


def yaml_reads_compose() -> str:
    """Read the part of a compose file that says who waits for whom."""
    import yaml

    text = "services: {agent: {depends_on: {db: {condition: service_healthy}}}, db: {healthcheck: {test: [CMD, ok]}}}"
    waits = yaml.safe_load(text)["services"]["agent"]["depends_on"]["db"]["condition"]
    assert waits == "service_healthy"
    return (
        "the form of depends_on and healthcheck is plain YAML; lab 21 has docker-compose look at a whole file"
    )


def deployment_has_a_selector() -> str:
    """Ask a Deployment for what the API requires of it."""
    needed = {"selector", "template"}  # required in DeploymentSpec, apps/v1
    without = {"template": {"spec": {"containers": [{"name": "a", "image": "b:1"}]}}}
    whole = {"selector": {"matchLabels": {"app": "a"}}, **without}
    assert needed - set(whole) == set() and needed - set(without) == {"selector"}
    return "a spec of a template alone lacks the required selector"


def yaml_runs_nothing() -> str:
    """Read a command substitution as YAML does."""
    import yaml

    secret = yaml.safe_load("stringData:\n  jwt: $(openssl rand -hex 32)\n")["stringData"]["jwt"]
    assert secret == "$(openssl rand -hex 32)"
    return f"the secret is the text {secret!r}"


def null_body() -> str:
    """Take the body of an event that has none."""
    event = {"body": None}
    try:
        json.loads(event.get("body", "{}"))  # type: ignore[arg-type]
    except TypeError as error:
        return f"TypeError: {error}"
    raise AssertionError("a null body was read")


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


def status_is_lost() -> str:
    """Make a new response of a refusal's body alone."""
    import httpx

    refused = httpx.Response(429, json={"error": "too many"})
    passed = httpx.Response(200, content=refused.content)  # 200 is what a new response has unless told
    assert passed.is_success and "error" in passed.json()
    return f"a {refused.status_code} is handed on as {passed.status_code} with the body {passed.json()}"


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
    """Hash two wordings of one question."""
    keys = {hashlib.sha256(text.encode()).hexdigest()[:8] for text in ("Who are you?", "who are you?")}
    assert len(keys) == 2
    return f"a capital letter makes another key: {' and '.join(sorted(keys))}"


def key_without_user() -> str:
    """Make the key of one question by two users of two models."""
    keys = {
        hashlib.md5(prompt.encode()).hexdigest()
        for _, _, prompt in (("mira", "a", "my bill?"), ("tom", "b", "my bill?"))
    }
    assert len(keys) == 1
    return "two users of two models share one key, and so one answer"


def swallowed() -> str:
    """Call a function that does not exist where everything is caught."""

    def run(name: str) -> dict[str, str]:
        try:
            return {"result": globals()["call_tool"](name)}
        except Exception as error:
            return {"error": repr(error)}

    found = [run(name) for name in ("a", "b")]
    assert all("error" in each for each in found)
    return f"no exception is seen, and every result is {found[0]}"


def refusal_looks_complete() -> str:
    """Filter a refusal's lines as if they were a stream's."""
    lines = ['{"error": {"message": "no such key"}}']
    sent = [line for line in lines if line.startswith("data: ")] + ["data: [DONE]"]
    usage = json.loads('{"choices": [], "usage": {"total_tokens": 9}}')
    assert sent == ["data: [DONE]"] and usage["choices"] == []
    return "of a refusal the reader gets only [DONE]; a last chunk with usage has no first choice"


def holes() -> str:
    """Keep the newest messages that fit, and go on past one that does not."""
    sizes, kept, room = {"first": 10, "second": 90, "third": 10}, [], 50
    for name, cost in reversed(sizes.items()):
        if cost <= room:
            kept, room = [name, *kept], room - cost
    assert kept == ["first", "third"]
    return f"of {list(sizes)} the talk keeps {kept}"


def counted_twice() -> str:
    """Count a request at its start and at its end in one counter."""
    from prometheus_client import CollectorRegistry, Counter

    counter = Counter("requests", "All requests", ["status"], registry=CollectorRegistry())
    for status in ("started", "success"):
        counter.labels(status).inc()
    total = sum(s.value for m in counter.collect() for s in m.samples if s.name.endswith("_total"))
    assert total == 2
    return f"one request, and the counter's sum is {total:g}"


def an_answer_takes_longer() -> str:
    """Say how fast a model must write to keep the table's promises."""
    wanted = {ms: 100 / (ms / 1000) for ms in (10, 50, 100)}
    assert wanted[50] == 2000
    return "100 tokens in " + ", ".join(f"{ms} ms are {rate:,.0f} tokens/s" for ms, rate in wanted.items())


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
    """Set the two thresholds of latency beside each other."""
    whole, part = 10, 30
    assert part > whole
    return f"a part may take {part} s before anybody is called, the whole {whole} s"


def order_is_no_argument() -> str:
    """Let a shell split the line."""
    words = "pip install torch first".split()
    assert words[2:] == ["torch", "first"]
    return f"two packages are asked for: {words[2:]}"


def _scenario(name: str, look: Any) -> str:
    from labkit.agents.scenarios import by_name

    with TemporaryDirectory() as folder:
        place = by_name(name)
        data = place.create(Path(folder) / "data.db")
        row, tools, tasks = look(data), place.tools(data), place.draw(data, 5)
    assert row and tools and len(tasks) == 5
    return f"{name}: {len(tools)} tools on SQLite, and tasks such as {tasks[0].text!r}"


class _Server:
    """Answer every request with one status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

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
