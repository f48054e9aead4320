"""Chat templates: right like Hugging Face's, and harmless when hostile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.errors import TemplateRejected
from labkit.models.template import ChatTemplate, neutralise

ROOT = Path(__file__).parents[2]
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL = ("<|im_start|>", "<|im_end|>", "</tool_response>")


@pytest.fixture(params=[True, False], ids=["trusted", "untrusted"])
def trusted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def render(source: str, trusted: bool = True, messages: list[dict[str, Any]] = HELLO, **more: Any) -> str:
    template = ChatTemplate(source, trusted=trusted, bos="<s>", eos="</s>")
    try:
        return template.render(messages, **more)
    finally:
        template.close()


def test_chatml(trusted: bool) -> None:
    expected = "<|im_start|>user\nHello<|im_end|>\n"
    assert render(CHATML, trusted) == expected + "<|im_start|>assistant\n"
    assert render(CHATML, trusted, add_generation_prompt=False) == expected


def test_what_hugging_face_templates_use(trusted: bool) -> None:
    source = (
        "{{ bos_token }}{% generation %}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{{ {'z': 'é<', 'a': 1} | tojson }}{{ [1] | tojson(indent=2) }}{% endfor %}{% endgeneration %}"
        "{{ thinking }}{{ tools is none }}{{ strftime_now('%Y') | length }}{{ eos_token }}"
    )
    text = render(source, trusted, [*HELLO, *HELLO], thinking="no")
    assert text == '<s>{"z": "é<", "a": 1}[\n  1\n]noTrue4</s>'


def test_blocks_leave_no_blank_lines(trusted: bool) -> None:
    assert render("  {% if true %}\nyes\n  {% endif %}\n", trusted) == "yes\n"


def test_tool_call_arguments_become_objects(trusted: bool) -> None:
    source = "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
    calls = [{"function": {"name": "f", "arguments": text}} for text in ('{"city": "Paris"}', "{not json")]
    said = [{"role": "assistant", "content": "", "tool_calls": calls}]
    assert render(source, trusted, said) == '{"city": "Paris"}"{not json"'
    assert said[0]["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'


def test_the_shipped_template_renders_a_whole_conversation(trusted: bool) -> None:
    source = files("labkit.models").joinpath("nano/chat_template.jinja").read_text("utf-8")
    call = {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    turns = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
    ]
    text = render(source, trusted, turns, tools=[{"type": "function", "function": {"name": "weather"}}])
    assert '<tools>\n{"name": "weather"} "weather"\n</tools>' in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>' in text
    assert text.endswith("<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_the_template_can_refuse_and_the_reason_is_passed_on(trusted: bool) -> None:
    with pytest.raises(TemplateRejected, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", trusted)


def test_a_syntax_error_names_its_line(trusted: bool) -> None:
    with pytest.raises(TemplateRejected, match="line 2"):
        render("fine\n{% if %}", trusted)


def test_a_message_of_a_wrong_shape_is_refused(trusted: bool) -> None:
    with pytest.raises(TemplateRejected):
        render(CHATML, trusted, [{"role": "user", "content": None}])


def test_control_tokens_are_broken_for_users_and_tools_only() -> None:
    template = ChatTemplate(CHATML, trusted=True, control_tokens=CONTROL)
    turns = [{"role": role, "content": "a<|im_end|>b"} for role in ("system", "user", "tool", "assistant")]
    text = template.render(turns)
    for role, content in zip(
        ("system", "user", "tool", "assistant"),
        ("a<|im_end|>b", "a<·|im_end|>b", "a<·|im_end|>b", "a<|im_end|>b"),
        strict=True,
    ):
        assert f"<|im_start|>{role}\n{content}<|im_end|>\n" in text
    parts = [{"type": "text", "text": "<|im_end|>"}, {"type": "image_url"}]
    shown = ChatTemplate("{{ messages[0].content }}", trusted=True, control_tokens=CONTROL)
    assert "<·|im_end|>" in shown.render([{"role": "user", "content": parts}])


@pytest.mark.parametrize("text", ["<|im_end|>", "x<|im_<|im_end|>end|>y", "<|im_end|><|im_start|>" * 9])
def test_no_control_token_survives_neutralising(text: str) -> None:
    broken = neutralise(text, CONTROL)
    assert not any(token in broken for token in CONTROL)
    assert broken.replace("·", "") == text


def test_overlapping_tokens_and_plain_text() -> None:
    assert "bc" not in neutralise("abc", ["ab", "bc"]) and "ab" not in neutralise("abc", ["ab", "bc"])
    assert neutralise("1 < 2", CONTROL) == "1 < 2"
    assert neutralise("<", ["<", ""]) == "<"


HOSTILE = {
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "globals by attr": "{{ (lipsum | attr('__globals__'))['os'] }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class alone": "{{ ''.__class__ }}",
    "format string": "{{ '{0.__class__.__mro__}'.format('') }}",
    "function internals": "{{ raise_exception.__globals__ }}",
    "mutation": "{{ messages.append(1) }}",
    "include": "{% include '/etc/passwd' %}",
    "endless loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "endless recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "huge number": "{{ 9 ** (9 ** 9) }}",
    "100 MB of output": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "100 MB at once": "{{ 'x' * 100000000 }}",
    "10 GB string": "{{ 'a' * 10 ** 10 }}",
    "wide format": "{{ '%1000000000d' % 1 }}",
    "wide center": "{{ 'a'.center(10 ** 9) | length }}",
    "wide filter": "{{ 'a' | center(1000000000) }}",
    "long range": "{{ range(10 ** 9) | list | length }}",
    "doubling": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "deep syntax": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
}


@pytest.fixture(scope="module")
def victim() -> Iterator[ChatTemplate]:
    template = ChatTemplate("")
    template.render(HELLO)
    yield template
    template.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_time(name: str, victim: ChatTemplate) -> None:
    victim.source = "ok"
    assert victim.render(HELLO) == "ok"  # so that the child is up: its start is not what is timed
    victim.source = HOSTILE[name]
    memory = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with pytest.raises(TemplateRejected):
        victim.render(HELLO)
    assert time.perf_counter() - start < 1
    assert psutil.Process().memory_info().rss - memory < 64 * 2**20


def test_a_template_too_long_to_be_one_is_refused() -> None:
    with pytest.raises(TemplateRejected, match="characters long"):
        ChatTemplate("x" * 2_000_000)


def test_a_long_prompt_is_not_taken_for_hostile_output(trusted: bool) -> None:
    turns = [{"role": "user", "content": "x" * 3_000_000}]
    assert len(render(CHATML, trusted, turns)) > 3_000_000


def workers() -> set[psutil.Process]:
    """Return the children of this process that render templates."""
    return {p for p in psutil.Process().children() if "template_worker" in " ".join(p.cmdline())}


def test_secrets_in_the_environment_do_not_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    template = ChatTemplate("ok")
    others = workers()
    template.render(HELLO)
    (child,) = workers() - others
    assert "HF_TOKEN" not in child.environ()
    template.close()
    assert not child.is_running()


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TemplateRejected, match="not JSON"):
        render("ok", False, [{"role": "user", "content": object()}])


def test_a_killed_worker_is_replaced() -> None:
    template, others = ChatTemplate("ok"), workers()
    assert template.render(HELLO) == "ok"
    for child in workers() - others:
        child.send_signal(signal.SIGKILL)
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    assert template.render(HELLO) == "ok"
    template.close()
    assert template.render(HELLO) == "ok"
    template.close()


def test_many_threads_get_their_own_answers() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = template.render([{"role": "user", "content": f"{number}"}])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    [t.start() for t in threads]  # type: ignore[func-returns-value]
    [t.join() for t in threads]  # type: ignore[func-returns-value]
    template.close()
    assert answers == {n: f"{n}" for n in range(16)}


SCRIPT = """
import json, os, psutil, signal, sys, threading
from labkit.models.template import ChatTemplate
template = ChatTemplate({source!r})
template.source, loop = "ok", template.source
assert template.render([]) == "ok"
print(psutil.Process().children()[0].pid, flush=True)
template.source = loop
if {interrupt}:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        template.render([])
    except KeyboardInterrupt:
        template.source = "fine"
        print(template.render([]), flush=True)
if {die}:
    template.render([]) if os.fork() else os.kill(os.getppid(), signal.SIGKILL)
"""


def run_script(**values: Any) -> tuple[int, str]:
    """Run a program that uses a template; return the worker's pid and what else it printed."""
    source = HOSTILE["endless loop"]
    code = textwrap.dedent(SCRIPT).format(**{"interrupt": False, "die": False, "source": source} | values)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    pid, _, rest = done.stdout.partition("\n")
    assert pid, done.stderr
    return int(pid), rest


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_no_worker_is_left_when_a_program_ends_without_closing() -> None:
    pid, _ = run_script()
    assert gone(pid, 2)


def test_ctrl_c_during_a_render_is_passed_on_and_the_next_render_works() -> None:
    pid, rest = run_script(interrupt=True)
    assert rest.strip() == "fine" and gone(pid, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process the Unix way")
def test_a_worker_in_an_endless_loop_ends_though_its_owner_was_killed() -> None:
    pid, _ = run_script(die=True)
    assert gone(pid, 8)


def test_json_of_the_answer_is_not_confused_by_the_template(trusted: bool) -> None:
    nasty = json.dumps({"text": 'x"values": null'}) + "\n\u2028é\U0001f600"
    assert render("{{ messages[0].content }}", trusted, [{"role": "user", "content": nasty}]) == nasty
