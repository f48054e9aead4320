"""The command line, run as a student runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import nbformat
import pytest
from typer.testing import CliRunner, Result

from labkit import __version__
from labkit.cli import app
from labkit.cli.demo import TOOLS, answer
from labkit.engines.toolschema import tool_schemas
from labkit.types import ToolCall

ECHO = ("--engine", "echo")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("LABKIT_DEBUG", raising=False)
    return tmp_path / "home"


def call(*line: str, text: str = "") -> Result:
    return CliRunner().invoke(app, line, input=text)


def start(*line: str, **options: object) -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "labkit", *line], text=True, **{**pipes, **options})  # type: ignore[call-overload,no-any-return]


def run(*line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "labkit", *line], capture_output=True, text=True)


def test_help_lists_every_command_and_is_quick() -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = run("--help")
        times.append(time.perf_counter() - began)
    assert done.returncode == 0
    for name in ("start", "run", "doctor", "engines", "models", "chat", "eval", "grade", "release"):
        assert re.search(rf"^\W*{name}\b", done.stdout, re.MULTILINE), name
    assert median(times) < 1.0


@pytest.mark.parametrize(
    "command", ["start", "run", "doctor", "engines", "models", "chat", "eval", "grade", "release"]
)
def test_every_command_has_help(command: str) -> None:
    assert call(command, "--help").exit_code == 0


def test_version() -> None:
    assert call("--version").stdout == f"labkit {__version__}\n"


# chat


def test_chat_answers_once() -> None:
    done = call("chat", "nano", "Turn on the light in the kitchen", *ECHO)
    assert (done.exit_code, done.stdout) == (0, "Turn on the light in the kitchen\n")


def test_chat_takes_options_and_prints_stats() -> None:
    done = call("chat", "nano", "one two three four", *ECHO, "--max-tokens", "2", "--stats")
    assert done.stdout == "one two\n"
    assert re.search(r"first token .* 2 tokens in .* read \d+", done.stderr)


def test_conversation_goes_on_until_bye() -> None:
    done = call("chat", "nano", *ECHO, text="hello you\n\nagain\nbye\nnever\n")
    assert (done.exit_code, done.stdout) == (0, "hello you\nagain\n")


def test_conversation_ends_with_the_input() -> None:
    assert call("chat", "nano", *ECHO, text="hello").stdout == "hello\n"


def test_tool_calls_are_shown_and_answered() -> None:
    asked = '<tool_call>\n{"name": "light", "arguments": {"room": "kitchen", "on": true}}\n</tool_call>'
    done = call("chat", "nano", asked, *ECHO, "--tools", "demo")
    assert "→ light(room='kitchen', on=True)\n" in done.stdout
    assert '← {"status": "on", "room": "kitchen"}\n' in done.stdout


def test_demo_tools_answer_anything() -> None:
    assert [s["function"]["name"] for s in tool_schemas(list(TOOLS.values()))] == [
        "light",
        "weather",
        "timer",
    ]
    for wrong in (ToolCall("light", {}), ToolCall("light", {"colour": 1}), ToolCall("oven", {})):
        assert "error" in json.loads(answer(wrong))
    assert json.loads(answer(ToolCall("weather", {"place": "Paris"})))["condition"]


def read_until(stream: object, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        letter = stream.read(1)  # type: ignore[attr-defined]
        assert letter, f"ended with {seen!r}"
        seen += letter
    return seen


SLOW = """
import sys
from labkit.engines import echo
say = echo.Echo.stream
def slow(self, *args):
    self.delay = 0.05
    return say(self, *args)
echo.Echo.stream = slow
from labkit.cli import app
app(prog_name="labkit")
"""


def slow_chat(*line: str) -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", SLOW, "chat", "nano", *line, *ECHO]
    return subprocess.Popen(command, text=True, bufsize=1, **pipes)  # type: ignore[call-overload,no-any-return]


def test_answer_streams() -> None:
    with slow_chat("word " * 40) as process:
        read_until(process.stdout, "word")
        assert process.poll() is None, "the first word came before the last one was made"
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process on Windows")
def test_ctrl_c_stops_the_answer_then_the_program() -> None:
    with slow_chat() as process:
        assert process.stdin and process.stderr
        process.stdin.write("word " * 200 + "\n")
        read_until(process.stdout, "word")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "(stopped)")
        assert time.monotonic() - began < 1
        process.stdin.write("still there\n")
        read_until(process.stdout, "still there\n")
        time.sleep(0.5)  # back at the prompt
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process on Windows")
def test_ctrl_c_ends_a_single_answer_with_130() -> None:
    with slow_chat("word " * 200) as process:
        read_until(process.stdout, "word")
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stderr and "Traceback" not in process.stderr.read()


def test_closed_pipe_is_quiet() -> None:
    with slow_chat("word " * 200) as process:
        assert process.stdout and process.stderr
        read_until(process.stdout, "word")
        process.stdout.close()
        process.wait(5)
        assert process.stderr.read() == ""


# errors


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("chat", "nan", "hi", *ECHO), "nano"),
        (("chat", "nano", "hi", "--engine", "nosuch"), "echo"),
        (("chat", "nano", "hi", *ECHO, "--max-tokens", "0"), "max_tokens"),
        (("chat", "nano", "hi", *ECHO, "--temperature", "nan"), "temperature"),
        (("chat", "nano", "hi", *ECHO, "--tools", "all"), "--tools demo"),
        (("models", "info", "nosuch"), "nosuch"),
        (("models", "rm", "nano", "--yes"), "nano"),
        (("models", "quantize", "nano", "Q99"), "Q99"),
    ],
)
def test_errors_say_what_to_do(line: tuple[str, ...], words: str) -> None:
    done = call(*line)
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith("labkit: ") and words in done.stderr and "→" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_DEBUG", "1")
    done = run("chat", "nosuch", "hi", *ECHO)
    assert done.returncode == 1 and "Traceback" in done.stderr


# doctor, engines, models


def test_doctor_exits_with_what_it_found() -> None:
    done = call("doctor", "--json")
    assert done.exit_code == (0 if json.loads(done.stdout)["ok"] else 1)
    assert "memory" in call("doctor").stdout


def test_engines_are_listed() -> None:
    assert re.search(r"^echo +installed", call("engines").stdout, re.MULTILINE)


def test_models_are_listed_and_described() -> None:
    plain = call("models")
    assert plain.exit_code == 0 and plain.stdout == call("models", "list").stdout
    assert re.search(r"^nano ", plain.stdout, re.MULTILINE)
    assert "Q4_K_M" in call("models", "info", "nano").stdout
    card = json.loads(call("models", "info", "nano", "--json").stdout)
    assert card["alias"] == "nano" and card["variants"]


def test_model_is_quantized_listed_and_removed(home: Path) -> None:
    pytest.importorskip("llama_cpp")
    made = call("models", "quantize", "nano", "Q4_0", "Q8_0")
    assert made.exit_code == 0, made.stderr
    assert {p.name for p in home.rglob("*.gguf")} >= {"Q4_0.gguf", "Q8_0.gguf"}
    assert "Q8_0" in call("models").stdout
    kept = call("models", "rm", "nano", text="n\n")
    assert kept.exit_code == 1 and list(home.rglob("*.gguf"))
    assert call("models", "rm", "nano", "--variant", "Q8_0", "--yes").exit_code == 0
    assert not list(home.rglob("Q8_0.gguf")) and list(home.rglob("Q4_0.gguf"))
    assert call("models", "rm", "nano", text="y\n").exit_code == 0
    assert not list(home.rglob("*.gguf"))


# run, release


def write_lab(folder: Path, *cells: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "01_trial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), path)
    return path


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_LABS", str(tmp_path / "labs"))
    write_lab(tmp_path / "labs" / "solutions", "import os\nassert os.environ['LABKIT_STRICT'] == '1'")
    return tmp_path / "labs"


def test_run_writes_html_and_leaves_the_lab_alone(labs: Path, home: Path) -> None:
    before = write_lab(labs, "1 + 1").read_bytes()
    done = call("run", "01")
    path = Path(done.stdout.splitlines()[-1])
    assert done.exit_code == 0 and path == home / "runs" / "01_trial.html" and path.is_file()
    assert "1 code cells in" in done.stdout
    assert (labs / "01_trial.ipynb").read_bytes() == before


def test_run_fails_with_the_cell_and_its_error(labs: Path, tmp_path: Path) -> None:
    write_lab(labs, "a = 1", "a / 0")
    done = call("run", "1", "--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "stopped at cell 2: a / 0\n  ZeroDivisionError: division by zero" in done.stderr
    assert (tmp_path / "out" / "01_trial.html").is_file()


def test_run_of_an_unknown_lab_names_the_others(labs: Path) -> None:
    write_lab(labs)
    done = call("run", "99")
    assert done.exit_code == 1 and "choose from: 01_trial" in done.stderr


def test_run_takes_the_solution_and_can_leave_html_out(labs: Path, home: Path) -> None:
    write_lab(labs, "raise SystemError")
    done = call("run", "01", "--solution", "--no-html")
    assert done.exit_code == 0 and not home.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process on Windows")
def test_ctrl_c_ends_a_run_and_its_kernel(labs: Path, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    write_lab(labs, f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    with start("run", "01") as process:
        until = time.monotonic() + 30
        while not (mark.exists() and mark.read_text()) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr and "Traceback" not in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_release_makes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "labs" / "source" / "01_trial.py"
    source.parent.mkdir(parents=True)
    source.write_text("# %% [markdown]\n# # A trial\n# %%\n### BEGIN SOLUTION\na = 1\n### END SOLUTION\n")
    monkeypatch.chdir(tmp_path)
    stale = call("release", "--check")
    assert stale.exit_code == 1 and "is missing" in stale.stderr
    assert "01_trial.ipynb" in call("release").stdout
    assert call("release", "--check").exit_code == 0
    assert call("release", "--instructor", "theirs").exit_code == 0
    assert (tmp_path / "theirs" / "01_trial.ipynb").is_file()


def test_grades_do_not_go_among_what_was_handed_in(tmp_path: Path) -> None:
    done = call("grade", str(tmp_path), "--out", str(tmp_path / "grades"))
    assert done.exit_code == 1 and "is inside" in done.stderr
    done = call("grade", str(tmp_path), "--labs", str(tmp_path), "--out", str(tmp_path / ".." / "grades"))
    assert done.exit_code == 1 and "asks anything" in done.stderr
