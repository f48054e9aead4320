"""An Ollama daemon: where it is, who answers there, and how nano gets into it. Chats are `ollama.py`'s."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkit.errors import (
    ContextOverflow,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    LabkitError,
    ModelNotFound,
    NotEnoughMemory,
    OptionInvalid,
)
from labkit.models import store
from labkit.models.card import ModelCard

DEFAULT_PORT, CONNECT_S = 11434, 5.0
WAYS_OUT = "ollama serve   or, without Ollama: labkit serve --api ollama"
TOO_LONG = re.compile(r"(input|prompt|context).{0,40}(length|size|window|too long|exceed)", re.IGNORECASE)
# nano's chat template in Go's template language, which is what Ollama reads. It says what chat_template.jinja says,
# but for the blanks between a tool's JSON tokens: those are Go's. A message may not look ahead, so a tool's result
# opens a turn where the message before it was none, and whatever follows closes it. Ollama takes the first text
# within `if .ToolCalls` for the tag of a call in an answer: nothing may stand before it.
TEMPLATE = """\
{{- if or .System .Tools }}<|im_start|>system
{{ .System }}{{ if .Tools }}{{ if .System }}
{{ end }}<tools>
{{ range .Tools }}{{ .Function }} "{{ .Function.Name }}"
{{ end }}</tools>{{ end }}<|im_end|>
{{ end }}{{ $before := "" }}{{ range .Messages }}
{{- if and (eq $before "tool") (ne .Role "tool") }}<|im_end|>
{{ end }}
{{- if eq .Role "tool" }}{{ if ne $before "tool" }}<|im_start|>user{{ end }}
<tool_response>
{{ .Content }}
</tool_response>
{{- else if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}{{ $calls := .ToolCalls }}{{ if and .Content $calls }}
{{ end }}{{ if .ToolCalls }}{{ range $i, $call := .ToolCalls }}<tool_call>
{"name": "{{ $call.Function.Name }}", "arguments": {{ $call.Function.Arguments }}}
</tool_call>{{ if gt (len (slice $calls $i)) 1 }}
{{ end }}{{ end }}{{ end }}<|im_end|>
{{ end }}{{ $before = .Role }}{{ end }}
{{- if eq $before "tool" }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
STOPS = ["<|im_end|>"]


class Daemon:
    """Speak to the daemon at `host` (OLLAMA_HOST, else this machine). `client` is Ollama's own; `http` is httpx's.

    `who` says what answers there: a daemon's version, or labkit's endpoint.
    """

    def __init__(self, host: str | None = None, timeout: float = 300.0) -> None:
        import httpx
        import ollama

        self.url, self.timeout = address(host), timeout
        local = httpx.URL(self.url).host in ("127.0.0.1", "localhost", "::1")
        # No proxy on the way to this machine; without TLS no certificates need to be read.
        settings: dict[str, Any] = {"trust_env": not local, "verify": self.url.startswith("https")}
        settings["timeout"] = httpx.Timeout(timeout, connect=CONNECT_S)
        key = os.environ.get("OLLAMA_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.client = ollama.Client(self.url, **settings)
        self.http = httpx.Client(base_url=self.url, headers=headers, **settings)
        try:
            with self.errors():
                version = str(self.http.get("/api/version").raise_for_status().json()["version"])
        except BaseException:
            self.close()
            raise
        name = "labkit's endpoint" if "labkit" in version else "Ollama"
        self.who = f"{name} {version[:40]} at {self.url}"

    def ensure(self, card: ModelCard, variant: str, context: int) -> tuple[str, Path]:
        """Create a shipped model in the daemon from our GGUF file, unless that very file is there already."""
        from labkit.engines.llamacpp_files import gguf_file

        path, name = gguf_file(card, variant, context), f"labkit-{card.alias}:{variant.lower()}"
        record = store.record_of(path)
        digest = record.sha256 if record else hashlib.sha256(path.read_bytes()).hexdigest()
        with self.errors():
            listed = {model.model for model in self.client.list().models}
            shown = self.client.show(name) if name in listed else None
            if shown is None or digest not in (shown.modelfile or "") or shown.template != TEMPLATE:
                files = {path.name: self.client.create_blob(path)}
                self.client.create(name, files=files, template=TEMPLATE, parameters={"stop": STOPS})
        return name, path

    def close(self) -> None:
        """Close the connections; the daemon stays."""
        self.client.close()
        self.http.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the client and httpx raise, and what cannot be read, into `LabkitError`s."""
        import httpx
        import ollama

        try:
            yield
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise EngineUnavailable(f"no Ollama answers at {self.url}", fix=WAYS_OUT) from exc
        except httpx.TimeoutException as exc:
            raise EngineTimeout(
                f"{self.url} did not answer in {self.timeout:g} s",
                fix=f"see whether it is busy, or load(…, timeout={2 * self.timeout:g})",
            ) from exc
        except ollama.ResponseError as exc:
            raise error_of(exc.status_code, exc.error) from exc
        except httpx.HTTPStatusError as exc:
            raise error_of(exc.response.status_code, f"{self.url} is no Ollama: {exc}") from exc
        except httpx.HTTPError as exc:
            raise EngineFailed(f"{self.url} broke off ({type(exc).__name__})", fix="ask again") from exc
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
            raise EngineFailed(
                f"{self.url} sent what is no Ollama answer ({type(exc).__name__})", fix="correct host="
            ) from exc


def address(host: str | None) -> str:
    """Return the URL of a host as Ollama writes it: "127.0.0.1", "nas:11434", "https://…"."""
    import httpx

    text = (host or os.environ.get("OLLAMA_HOST") or "127.0.0.1").strip().rstrip("/")
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as exc:
        raise OptionInvalid(f"{text!r:.80} is no host: {exc}", fix='host="127.0.0.1:11434"') from exc
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise OptionInvalid(f"{url.host!r:.80} is no host", fix='host="127.0.0.1:11434"')
    if url.host == "0.0.0.0":  # what a daemon listens on, by OLLAMA_HOST, is no place to connect to
        url = url.copy_with(host="127.0.0.1")
    return str(url if url.port or "://" in text else url.copy_with(port=DEFAULT_PORT)).rstrip("/")


def error_of(status: int, words: str) -> LabkitError:
    """Return the error that the daemon's status and words mean. Errors in mid-stream have no status."""
    what = f"Ollama answered: {words:.300}" if status < 0 else f"Ollama answered {status}: {words:.300}"
    if status == 404:
        return ModelNotFound(what, fix="ollama list   shows what is there; ollama pull NAME gets it")
    if TOO_LONG.search(words):
        return ContextOverflow(what, fix="shorten the messages, or load(…, context=…) with more tokens")
    if "memory" in words:
        return NotEnoughMemory(what, fix="a smaller context= or model; ollama ps shows what is loaded")
    if status in (429, 503):
        return EngineUnavailable(what, fix="wait, then ask again: it has too much to do")
    if 400 <= status < 500:
        return OptionInvalid(what, fix="leave out, or correct, what it objects to")
    return EngineFailed(what, fix="ask again; if it stays, see the daemon's log")


def pull(card: ModelCard) -> str:
    """Let the daemon download a model, with a bar, and return its tag."""
    from tqdm import tqdm

    tag = tag_of(card)
    daemon, bars = Daemon(), dict[str, Any]()
    try:
        with daemon.errors():
            for step in daemon.client.pull(tag, stream=True):
                if step.digest and step.total:
                    bar = bars.get(step.digest) or tqdm(desc=tag, total=step.total, unit="B", unit_scale=True)
                    bars[step.digest] = bar
                    bar.update((step.completed or 0) - bar.n)
    finally:
        for bar in bars.values():
            bar.close()
        daemon.close()
    return tag


def tag_of(card: ModelCard) -> str:
    """Return the tag under which Ollama's library has a model."""
    ref = card.refs.get("ollama")
    if ref is None or not ref.repo:
        raise ModelNotFound(f"Ollama's library has no {card.alias}", fix="load(…, model=TAG), or engine=")
    return ref.repo
