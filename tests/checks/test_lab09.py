"""Lab 09's checks accept every right answer and explain the wrong ones."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

ollama = pytest.importorskip("ollama", reason="needs Ollama's client: pip install 'labkit[ollama]'")
for package in ("fastapi", "uvicorn"):
    pytest.importorskip(package, reason="needs the extra serve: pip install 'labkit[serve]'")

from judging import verdict  # noqa: E402

from labkit.checks.lab09 import MINE, need, q1, q2, q3, q4, q5  # noqa: E402
from labkit.engines.llamacpp_files import gguf_file  # noqa: E402
from labkit.engines.ollama import Ollama  # noqa: E402
from labkit.engines.ollama_daemon import TEMPLATE, Daemon  # noqa: E402
from labkit.metrics.alerts import Rule  # noqa: E402
from labkit.models.catalog import find  # noqa: E402
from labkit.serving.endpoint import open_ollama  # noqa: E402

REST = 'SYSTEM Be brief.\nPARAMETER temperature 0\nPARAMETER num_predict 60\nPARAMETER stop "<|im_end|>"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Whoever answers; where nobody does, labkit's endpoint."""
    daemon, started = open_ollama(threads=1)
    yield daemon
    daemon.close()
    if started:
        started.stop()


def test_q1(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    nano = find("nano")
    start = f'FROM {gguf_file(nano, Ollama.default_variant(nano), 2048)}\nTEMPLATE """{TEMPLATE}"""\n'
    for right in (start + REST, f"# mine\n{start}{REST.lower().replace('system', 'SYSTEM')}"):
        state, text = verdict(q1, capsys, daemon, right)
        assert (state, MINE in text) == ("right", True), text
    assert daemon.client.show(MINE).modelfile
    assert verdict(q1, capsys, daemon, ...)[0] == "not attempted"
    for wrong, said in (
        (start, "no SYSTEM"),
        (start + REST.replace("temperature 0", "temperature 1"), "temperature is 1"),
        (start + REST.replace("num_predict 60", "num_predict 600"), "num_predict is 600"),
        (start + REST.replace("stop", "top_k"), "may go on"),
        (REST, "no FROM"),
        ("FROM /nowhere.gguf\n" + REST, "no file"),
        (start + REST + "TEMPERATURE 0", "no line"),
        (7, "checking it raised"),
    ):
        state, text = verdict(q1, capsys, daemon, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    message = SimpleNamespace(content="three plain words")
    answer = SimpleNamespace(
        eval_count=40, eval_duration=20_000_000, total_duration=50_000_000, message=message
    )
    for right in (2000, 2000.4, "2000"):
        assert verdict(q2, capsys, answer, right)[0] == "right"
    for wrong, said in (
        (40 / 20_000_000, "nanoseconds"),
        (1 / 2000, "turn it over"),
        (40 / 0.05, "total_duration"),
        (3 / 0.02, "words are not tokens"),
        (float("nan"), "eval_count"),
    ):
        state, text = verdict(q2, capsys, answer, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    assert need(find("llama-3.2-3b")) < 3e9 < need(find("phi-4-mini"))
    for right in ("llama-3.2-3b", " llama-3.2-3b", find("llama-3.2-3b")):
        assert verdict(q3, capsys, right)[0] == "right"
    for wrong, said in (
        ("phi-4-mini", "with its KV cache"),
        ("phi-3.5-mini", "with its KV cache"),
        ("qwen2.5-0.5b", "none of the class"),
        (3, "none of the class"),
    ):
        state, text = verdict(q3, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def ask(host: str, model: str) -> float:
    began = time.perf_counter()
    with ollama.Client(host, trust_env=False) as client:
        stream = client.chat(model, [{"role": "user", "content": "Hi"}], stream=True)
        next(stream)
        stream.close()
    return time.perf_counter() - began


def listed(host: str) -> list[str]:
    with ollama.Client(host, trust_env=False) as client:
        return [str(found.model) for found in client.list().models]


def right_health(host: str, model: str, limit: float) -> str:
    try:
        if model not in {name.removesuffix(":latest") for name in listed(host)} | set(listed(host)):
            return "no model"
        return "slow" if ask(host, model) > limit else "ok"
    except ConnectionError:
        return "down"


def raising(host: str, model: str, limit: float) -> str:
    return "ok" if model in listed(host) and ask(host, model) < limit else "slow"


def only_up(host: str, model: str, limit: float) -> str:
    try:
        return "ok" if listed(host) else "down"
    except ConnectionError:
        return "down"


def never_slow(host: str, model: str, limit: float) -> str:
    said = right_health(host, model, limit)
    return "ok" if said == "slow" else said


def test_q4(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    nano = find("nano")
    model, _ = daemon.ensure(nano, Ollama.default_variant(nano), 2048)
    daemon.client.copy(model, "labkit-health")
    for name in (model, "labkit-health"):
        state, text = verdict(q4, capsys, daemon, name, right_health)
        assert state == "right", text
    for wrong, said in (
        (raising, "where nobody listens it raised ConnectionError"),
        (only_up, "not there it says 'ok'"),
        (never_slow, "no patience at all it says 'ok'"),
        (lambda host, model, limit: True, "it says True"),
        ("ok", "TypeError"),
    ):
        state, text = verdict(q4, capsys, daemon, model, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_q5(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        Rule("ttft", limit=0.5, window=60),
        Rule("ttft", 0.5, 50, share=0.6, least=4),
        Rule("ttft", limit=0.5, window=40, share=0.34),
    ):
        state, text = verdict(q5, capsys, right)
        assert state == "right", text
    for wrong, said in (
        (Rule("ttft", limit=0.5, window=60, share=0.1, least=1), "one slow answer"),
        (Rule("ttft", limit=0.5, window=60, share=0.9), "keeps quiet"),
        (Rule("ttft", limit=0.5, window=600, share=0.3), "a shorter window"),
        (Rule("ttft", limit=5, window=60), "over 0.5 s"),
        (Rule("load", limit=0.5, window=60), "over 0.5 s"),
        (0.5, "checking it raised"),
    ):
        state, text = verdict(q5, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text
