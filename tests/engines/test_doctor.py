"""Doctor looks without touching, says what to type, and never fails itself."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint, PackageNotFoundError
from pathlib import Path
from statistics import median

import pytest

from labkit.engines import doctor as doctor_module
from labkit.engines import registry
from labkit.engines.doctor import availability, cache, doctor, tried
from labkit.engines.ports import look, ports
from labkit.engines.report import Cache, EngineState, Report
from labkit.types import Availability

VENDORS = ("llama_cpp", "torch", "onnxruntime", "huggingface_hub", "httpx", "IPython", "tokenizers", "gguf")
LIMIT_S = 1.5


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(tmp_path_factory.mktemp("home")))
        yield doctor()


def test_report_has_every_part(report: Report) -> None:
    topics = {topic for topic, _, _ in report.rows()}
    assert {"machine", "engines", "ports", "cache"} <= topics
    assert {e.name for e in report.engines} == set(registry.entries())
    assert [p.number for p in report.ports] == [8000, 8080, 8888, 11434]
    assert report.machine.memory_total >= report.machine.memory_available > 0
    assert all(e.usable is None for e in report.engines), "nothing is called usable that was not tried"


def test_report_reads_well(report: Report) -> None:
    text = str(report)
    assert not [name for topic, name, words in report.rows() if topic == "engines" and "usable" in words]
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert len(repr(report)) < 80
    html = report._repr_html_()
    assert "<table>" in html and "color" not in html and "<script" not in html


def test_html_is_escaped(report: Report) -> None:
    bad = replace(report, cache=Cache(Path("/<b>x"), 0, "<script>alert(1)</script>", "<i>type this</i>"))
    assert not {"<script>", "<b>x", "<i>"} & set(bad._repr_html_().split())
    assert "&lt;script&gt;" in bad._repr_html_() and "&lt;i&gt;" in bad._repr_html_()


def test_json_is_plain(report: Report) -> None:
    data = report.json()
    assert json.loads(json.dumps(data)) == data
    assert data["ok"] is report.ok and {"machine", "engines", "models", "ports", "cache"} <= set(data)


def engines(**states: Availability) -> tuple[EngineState, ...]:
    return tuple(EngineState(name, state, name != "echo") for name, state in states.items())


HERE, AWAY = Availability(True, "1.0"), Availability(False, reason="not there", fix="pip install it")


def test_ready_needs_an_engine_for_models_and_a_cache(report: Report) -> None:
    assert replace(report, engines=engines(echo=HERE, some=HERE)).ok
    without = replace(report, engines=engines(echo=HERE, some=AWAY))
    assert not without.ok and "pip install it" in str(without)
    shut = replace(
        report, engines=engines(some=HERE), cache=Cache(Path("x"), 0, "read-only", "set LABKIT_HOME")
    )
    assert not shut.ok and ("read-only", "set LABKIT_HOME") in [(p.what, p.fix) for p in shut.problems]


def test_an_absent_engine_is_listed_with_what_to_type(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("labkit.engines.base.version", absent)
    found = availability("llamaserver")
    assert not found.installed and "xllamacpp" in found.reason and "labkit[llamaserver]" in found.fix
    without = replace(report, engines=(EngineState("llamaserver", found),))
    assert not without.ok and found.fix in str(without)


def test_an_engine_that_only_asks_servers_makes_no_machine_ready(report: Report) -> None:
    openai = next(e for e in report.engines if e.name == "openai")
    assert openai.found.installed and not openai.runs_models and "url=" in str(openai)
    assert not replace(report, engines=(openai,)).ok


def test_deep_tells_working_from_installed(report: Report) -> None:
    broken = EngineState("some", replace(HERE, reason="no such symbol", fix="reinstall it"), usable=False)
    works = EngineState("other", HERE, usable=True, seconds=0.5)
    assert not replace(report, engines=(broken,)).ok
    both = replace(report, engines=(broken, works), deep=True)
    assert both.ok and "usable 1.0" in str(both) and "no such symbol" in str(both)
    assert [p.fix for p in both.problems if p.what.startswith("some")] == ["reinstall it"]


def test_deep_runs_nano_on_every_engine_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    states = {e.name: e for e in doctor(deep=True).engines}
    assert states["llamacpp"].usable is True and states["llamacpp"].seconds > 0
    assert states["echo"].usable is None


def test_engine_that_breaks_is_reported_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken_engine.py"
    broken.write_text(
        "from labkit.engines.echo import Echo\n"
        "class Broken(Echo):\n"
        "    def stream(self, messages, tools, options):\n"
        "        raise ZeroDivisionError('inside')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", "broken_engine:Broken", registry.GROUP)
    absent = EntryPoint("absent", "no_such_module:Engine", registry.GROUP)
    for module in (registry, doctor_module):
        monkeypatch.setattr(module, "entries", lambda: {"broken": entry, "absent": absent})
    states = {e.name: e for e in doctor_module.engine_states()}
    assert not states["absent"].found.installed and "cannot be imported" in states["absent"].found.reason
    state = tried(states["broken"])
    assert state.usable is False and "ZeroDivisionError" in state.found.reason


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.recv(1024)
                link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nOllama is running", "Ollama"),
        (b"HTTP/1.1 302 Found\r\nServer: TornadoServer/6.5\r\n\r\n", "TornadoServer/6.5"),
        (b"HTTP/1.1 200 OK\r\nServer: a\x1b[31mb\r\n\r\n", ""),
        (b"", ""),
    ],
)
def test_port_says_who_answers(answer: bytes, name: str) -> None:
    with listener(answer) as number:
        port = look(number, "somebody")
    assert port.taken and port.answers == name
    assert "taken" in str(port)


def test_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    assert not look(number).taken


def test_ports_are_looked_at_together() -> None:
    start = time.perf_counter()
    ports()
    assert time.perf_counter() - start < 0.5


def test_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    found = cache()
    assert found.problem and "LABKIT_HOME" in found.fix


def run_doctor(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-X", "importtime", "-m", "labkit", "doctor", *flags]
    environment = {**os.environ, "LABKIT_HOME": str(home)}
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def test_quick_doctor_is_quick_and_imports_no_vendor(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = run_doctor(tmp_path, "--json")
        times.append(time.perf_counter() - start)
    assert median(times) < LIMIT_S
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & set(VENDORS)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
