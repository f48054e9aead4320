"""vLLM: its settings and commands everywhere, and the server itself where its environment is (heavy)."""

import json
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from in_process import QUESTIONS

from labkit import load
from labkit.engines.environments import python_of
from labkit.engines.vllm import Vllm, VllmMetrics, model_folder
from labkit.engines.vllm_templates import TEMPLATES, VllmSettings
from labkit.errors import EngineFailed, EngineUnavailable, ModelNotFound, OptionInvalid
from labkit.metrics.cases import data_folder
from labkit.models.catalog import find


def page() -> str:
    return (data_folder("vllm") / "metrics.txt").read_text("utf-8")


def test_the_five_templates_grow() -> None:
    assert list(TEMPLATES) == ["development", "staging", "production-low", "production-high", "enterprise"]
    for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "gpus"):
        values = [getattr(settings, name) for settings in TEMPLATES.values()]
        assert values == sorted(values), name
    assert [settings.gpus for settings in TEMPLATES.values()] == [1, 1, 1, 2, 8]


def test_settings_become_flags() -> None:
    made = VllmSettings(
        dtype="float32",
        kv_cache_memory_bytes=10**9,
        enable_prefix_caching=False,
        enforce_eager=True,
        speculative_model="/a draft",
        num_speculative_tokens=3,
        structured_outputs_backend="outlines",
    )
    flags = made.arguments()
    assert flags[flags.index("--dtype") + 1] == "float32"
    assert flags[flags.index("--kv-cache-memory-bytes") + 1] == "1000000000"
    assert {"--no-enable-prefix-caching", "--enable-chunked-prefill", "--enforce-eager"} <= set(flags)
    draft = json.loads(flags[flags.index("--speculative-config") + 1])
    assert draft == {"model": "/a draft", "num_speculative_tokens": 3}
    assert json.loads(flags[flags.index("--structured-outputs-config") + 1]) == {"backend": "outlines"}
    plain = VllmSettings().arguments()
    whitespace = {"backend": "xgrammar", "disable_any_whitespace": True}
    assert json.loads(plain[plain.index("--structured-outputs-config") + 1]) == whitespace
    assert not {"--quantization", "--speculative-config", "--enforce-eager", "--no-enforce-eager"} & set(
        plain
    )
    drafted = VllmSettings(speculative_model="ngram").arguments()
    assert json.loads(drafted[drafted.index("--speculative-config") + 1])["method"] == "ngram"


def test_a_command_can_be_pasted_into_a_shell() -> None:
    for settings in TEMPLATES.values():
        line = settings.shell("/with a space/model")
        assert tuple(shlex.split(line.replace("\\\n", ""))) == settings.command("/with a space/model")
        assert "127.0.0.1" in line and "trust" not in line


@pytest.mark.parametrize(
    "bad",
    [
        {"dtype": "float8"},
        {"dtype": ["auto"]},
        {"max_model_len": 0},
        {"max_num_seqs": 1.5},
        {"kv_cache_memory_bytes": 0.5},
        {"gpu_memory_utilization": 1.5},
        {"gpu_memory_utilization": float("nan")},
        {"gpu_memory_utilization": "half"},
        {"tensor_parallel_size": True},
        {"quantization": 4},
        {"enforce_eager": "no"},
        {"threads": -1},
        {"timeout": 0},
        {"n_ctx": 5},
        {"url": "nowhere"},
        {"url": "http://127.0.0.1:1/v1", "max_model_len": 512},
    ],
    ids=str,
)
def test_bad_options_are_refused_before_anything_starts(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid) as caught:
        Vllm.load(find("nano"), "auto", bad)
    assert caught.value.fix


def test_a_level_of_another_engine_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="Q4_K_M") as caught:
        Vllm.load(find("nano"), "Q4_K_M", {})
    assert "float32" in caught.value.fix


def test_without_its_environment_it_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught:
        load("nano", engine="vllm")
    assert caught.value.fix == "labkit engines install vllm"


def test_models_are_shipped_or_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    assert (model_folder(find("nano")) / "model.safetensors").is_file()
    with pytest.raises(ModelNotFound, match="not on this machine") as caught:
        model_folder(find("qwen2.5-0.5b"))
    assert caught.value.fix == "labkit models pull qwen2.5-0.5b --engine vllm"
    with pytest.raises(ModelNotFound):
        model_folder(find("random-0.5b"))


def test_metrics_are_read() -> None:
    read = VllmMetrics.read(page())
    assert read.running >= 0 and read.waiting >= 0 and 0 <= read.kv_cache_usage <= 1
    assert 0 < read.prefix_hits < read.prefix_queries
    assert read.prompt_tokens > read.prefix_hits and read.generation_tokens > 0


def test_metrics_of_something_else_are_an_error() -> None:
    for text in ("", "# nothing\n", "llamacpp:prompt_tokens_total 5\n", "vllm:num_requests_running{} 1.0\n"):
        with pytest.raises(EngineFailed, match="lack") as caught:
            VllmMetrics.read(text)
        assert caught.value.fix


class Running(BaseHTTPRequestHandler):
    """What a client of a running vLLM asks for first."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        models = json.dumps({"data": [{"id": "nano", "owned_by": "vllm"}]})
        answers = {"/v1/models": models, "/metrics": page()}
        self.send_response(200 if self.path in answers else 404)
        self.end_headers()
        self.wfile.write(answers.get(self.path, "").encode())


@pytest.fixture
def running() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Running) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def test_a_running_server_is_used_and_left_running(running: str) -> None:
    for _ in range(2):
        with load("nano", engine="vllm", url=running) as model:
            assert isinstance(model.engine, Vllm)
            assert (model.variant, model.engine.process) == ("auto", None)
            assert model.engine.metrics() == VllmMetrics.read(page())
    with pytest.raises(OptionInvalid):
        load("nano", engine="vllm", variant="float32", url=running)


# What follows needs vLLM.

PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
for words in json.load(sys.stdin):
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(args)
    print(json.dumps([args.model_tag, args.max_model_len, args.tensor_parallel_size, args.enable_prefix_caching]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Vllm's own Python; where it is missing, `require` in the contract suite decides what that means."""
    state = Vllm.available()
    if not state.installed:
        pytest.skip(f"{state.reason}: {state.fix}")
    return python_of("vllm")


def alive(process: psutil.Process) -> bool:
    """Return whether a process still works: one that nobody has asked about (a zombie) does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.heavy
def test_vllm_itself_understands_every_command(python: Path) -> None:
    commands = [settings.command("some/model")[2:] for settings in TEMPLATES.values()]
    done = subprocess.run(
        [python, "-I", "-c", PARSE], input=json.dumps(commands), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert read == [
        ["some/model", s.max_model_len, s.tensor_parallel_size, s.enable_prefix_caching]
        for s in TEMPLATES.values()
    ]


@pytest.mark.heavy
def test_the_development_template_answers_as_llamacpp_does(python: Path, llamacpp_answers: list[str]) -> None:
    settings = {**asdict(TEMPLATES["development"]), "threads": 1, "start_timeout": 1200}
    with load("nano", engine="vllm", variant="float32", **settings) as model:
        assert isinstance(model.engine, Vllm) and model.engine.process
        server = psutil.Process(model.engine.process.pid)
        workers = server.children(recursive=True)
        before = model.engine.metrics()
        answers = [model.chat(question, max_tokens=16).text for question in QUESTIONS]
        after = model.engine.metrics()
        assert after.generation_tokens > before.generation_tokens
        assert after.prompt_tokens > before.prompt_tokens and after.prefix_hits == 0
    same = sum(a == b for a, b in zip(answers, llamacpp_answers, strict=True))
    assert same >= 0.9 * len(answers), "float32 and float16 may part at a near tie, no more"
    psutil.wait_procs([server, *workers], timeout=5)
    assert workers and not any(map(alive, [server, *workers]))
