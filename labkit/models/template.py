"""Chat templates: from messages and tools to the prompt a model was trained on.

A template inside a model file is a program by a stranger. It renders in a child process (`template_worker`),
in a sandbox with a deadline and limits on memory and output. The templates that labkit ships render here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from labkit.errors import TemplateRejected
from labkit.models import template_worker
from labkit.types import Message, Tool

START_S = 15.0
DEADLINE_S = 0.7
MAX_SOURCE = 2**20
MAX_TRUSTED_OUTPUT = 2**26
MAX_ANSWER = 2**24
BREAK = "·"
UNTRUSTED_ROLES = ("user", "tool")
# All a worker needs to start; tokens and keys in the environment stay out of a stranger's reach.
KEEP_ENV = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TZ")


class ChatTemplate:
    """Render chat messages with a Jinja template, as Hugging Face's `apply_chat_template` does.

    `trusted` is for templates that come with labkit. `control_tokens` are broken (`neutralise`) where they
    occur in what a user or a tool said. Close it, or let it go, and its child process ends.
    """

    def __init__(
        self,
        source: str,
        *,
        trusted: bool = False,
        bos: str = "",
        eos: str = "",
        control_tokens: Sequence[str] = (),
    ) -> None:
        if len(source) > MAX_SOURCE:
            raise _rejected(f"it is {len(source):,} characters long")
        self.source = source
        self.trusted = trusted
        self.tokens = {"bos_token": bos, "eos_token": eos}
        self.control_tokens = tuple(control_tokens)
        self._worker = None if trusted else _Worker()

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        add_generation_prompt: bool = True,
        **extra: Any,
    ) -> str:
        """Return the prompt.

        Raises `TemplateRejected`, with the reason, when the template is wrong, refuses the messages, leaves
        its sandbox, or takes more than 0.7 s, 512 MB, or 1 MB of output beyond its input.
        """
        values = {
            "messages": [self._prepare(message) for message in messages],
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self.tokens,
            **extra,
        }
        if self._worker:
            return self._worker.render(self.source, values)
        try:
            return template_worker.render(self.source, values, MAX_TRUSTED_OUTPUT)
        except Exception as error:  # Jinja, and whatever a message of a wrong type leads to
            raise _rejected(template_worker.explain(error)) from error

    def close(self) -> None:
        """End the child process, if there is one; a later `render` starts another."""
        if self._worker:
            self._worker.close()

    def _prepare(self, message: Message) -> Message:
        prepared = dict(message)
        if message.get("role") in UNTRUSTED_ROLES and self.control_tokens:
            prepared["content"] = _neutralise_content(message.get("content"), self.control_tokens)
        if message.get("tool_calls"):
            prepared["tool_calls"] = [_with_parsed_arguments(call) for call in message["tool_calls"]]
        return prepared


def neutralise(text: str, control_tokens: Sequence[str]) -> str:
    """Break control tokens in `text` with a visible dot: `<|im_end|>` becomes `<·|im_end|>`.

    A tokenizer then reads them as plain characters, so that a user or a web page cannot end its own turn.
    """
    tokens = sorted((t for t in control_tokens if len(t) > 1), key=len, reverse=True)
    if not tokens:
        return text
    pattern = re.compile("|".join(map(re.escape, tokens)))
    # Tokens may overlap ("ab" and "bc" in "abc"), so look again until none is left.
    while pattern.search(text):
        text = pattern.sub(lambda found: found[0][0] + BREAK + found[0][1:], text)
    return text


def _neutralise_content(content: Any, control_tokens: Sequence[str]) -> Any:
    if isinstance(content, str):
        return neutralise(content, control_tokens)
    if isinstance(content, list):
        return [
            {**part, "text": neutralise(part["text"], control_tokens)}
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return content


def _with_parsed_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a call's arguments from a JSON string, as OpenAI writes them, into the dict templates expect."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def _rejected(why: str) -> TemplateRejected:
    return TemplateRejected(
        f"the chat template was refused: {why}", fix="take another model file, or pass a template of your own"
    )


class _Worker:
    """Own one child process: start it when needed, end it when it is late."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def render(self, source: str, values: Mapping[str, Any]) -> str:
        try:
            line = json.dumps({"source": source, "values": values}).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise _rejected(f"the messages are not JSON ({error})") from error
        with self._busy:
            answer = self._ask(self._running(), line, DEADLINE_S)
        if "text" not in answer:
            raise _rejected(str(answer.get("error", "it spoiled its answer")))
        return str(answer["text"])

    def close(self) -> None:
        if self._finalizer:
            self._finalizer()
        self._child = self._finalizer = None

    def _running(self) -> subprocess.Popen[bytes]:
        child = self._child
        # After a fork the pipes belong to the parent: this process needs a worker of its own.
        if child and child.poll() is None and self._owner == os.getpid():
            return child
        self.close()
        child = subprocess.Popen(
            [sys.executable, "-P", str(Path(template_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in KEEP_ENV if name in os.environ},
            start_new_session=True,
        )
        self._child, self._owner = child, os.getpid()
        # A finalizer also runs when Python exits, so that no worker outlives its owner.
        self._finalizer = weakref.finalize(self, _end, child, self._owner)
        self._ask(child, b"", START_S)
        return child

    def _ask(self, child: subprocess.Popen[bytes], line: bytes, seconds: float) -> dict[str, Any]:
        assert child.stdin and child.stdout
        late = threading.Event()

        def stop() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(line)
            child.stdin.flush()
            answer = json.loads(child.stdout.readline(MAX_ANSWER + 8 * len(line)))
            return cast(dict[str, Any], answer)
        except (OSError, ValueError):  # the pipe broke, or half a line came
            self.close()
            raise _rejected(f"it took longer than {seconds:g} s" if late.is_set() else "it crashed") from None
        except BaseException:  # an answer is still under way, so this child cannot be asked again
            self.close()
            raise
        finally:
            timer.cancel()


def _end(child: subprocess.Popen[bytes], owner: int) -> None:
    if owner == os.getpid():
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            try:
                pipe.close()
            except OSError:
                pass  # what was not sent no longer matters
