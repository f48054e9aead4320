"""The production checklist, gone through against a running service: pass or fail, each with what was seen.

Nothing is believed: what can be asked of the service is asked. What it cannot show from outside (its audit log, its
backups, how it stops) is looked up in its state folder and its process, where the caller has them.
"""

from __future__ import annotations

import json
import re
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from labkit.engines.prometheus import read_page
from labkit.errors import EngineUnavailable, OptionInvalid

Verdict = Literal["pass", "fail", "not checked"]
NEEDED = ("labkit_requests_total", "labkit_queue_depth", "labkit_backend_up")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BODY_BYTES, BACKUP_S = 32 * 2**20, 86_400 * 2
LOGGED = {"at", "id", "user", "status", "total", "prompt_tokens", "completion_tokens"}
QUESTION = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one line of the checklist: what was asked, the verdict, and the evidence for it."""

    name: str
    verdict: Verdict
    evidence: str

    def __str__(self) -> str:
        return f"{self.verdict:11} {self.name:16} {self.evidence}"


@dataclass(frozen=True, slots=True)
class Service:
    """Say where a service is, and what the checks may use: a key, an admin's key, its state, its backup, its process.

    `burst` requests are sent at once, to reach the key's limit; `forbidden` is a text that the service must refuse.
    Its end is asked for with `stop=True`, and is the last that is looked at.
    """

    url: str
    key: str = ""
    admin_key: str = ""
    model: str = "nano"
    state: Path | None = None
    backup: Path | None = None
    pid: int = 0
    stop: bool = False
    burst: int = 0
    forbidden: str = ""
    verify: bool | str = True

    def ask(self, method: str, path: str, key: str = "", **more: Any) -> httpx.Response:
        """Send one request; raise `EngineUnavailable` when nothing answers."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with httpx.Client(verify=self.verify, timeout=30, trust_env=False) as client:
                return client.request(method, self.url + path, headers=headers, **more)
        except httpx.HTTPError as exc:
            raise EngineUnavailable(
                f"{self.url}{path}: {type(exc).__name__} {exc}", fix="labkit serve"
            ) from exc

    def chat(self, key: str, **more: Any) -> httpx.Response:
        """Ask the model something short."""
        return self.ask("POST", "/v1/chat/completions", key, json={"model": self.model, **QUESTION, **more})


Check = Callable[[Service], tuple[bool | None, str]]


def health(s: Service) -> tuple[bool | None, str]:
    """A running program says so, and whether it takes requests."""
    alive, ready = s.ask("GET", "/health"), s.ask("GET", "/ready")
    return (
        alive.status_code == ready.status_code == 200,
        f"/health {alive.status_code}, /ready {ready.status_code}",
    )


def keys(s: Service) -> tuple[bool | None, str]:
    """No key, and a wrong key, get 401."""
    codes = [s.chat(key).status_code for key in ("", "lk-wrong")]
    return codes == [401, 401], f"no key {codes[0]}, a wrong key {codes[1]}"


def tls(s: Service) -> tuple[bool | None, str]:
    """Keys do not travel in the clear, except inside this machine."""
    kind, local = httpx.URL(s.url).scheme, httpx.URL(s.url).host in LOOPBACK
    return kind == "https" or local, kind + (", inside this machine" if local else "")


def answers(s: Service) -> tuple[bool | None, str]:
    """A valid key gets an answer from the model."""
    if not s.key:
        return None, "give it a key"
    answer = s.chat(s.key)
    return answer.status_code == 200, f"{answer.status_code} in {answer.elapsed.total_seconds():.2f} s"


def limits(s: Service) -> tuple[bool | None, str]:
    """What is too large, or out of range, is refused before a model sees it."""
    if not s.key:
        return None, "give it a key"
    large = s.ask("POST", "/v1/chat/completions", s.key, content=b" " * BODY_BYTES).status_code
    wild = s.chat(s.key, max_tokens=10**9).status_code
    return large == 413 and wild == 400, f"a body of {BODY_BYTES >> 20} MiB {large}, a billion tokens {wild}"


def errors(s: Service) -> tuple[bool | None, str]:
    """What is wrong is said in the API's shape, and nothing of the program's inside."""
    if not s.key:
        return None, "give it a key"
    told = [s.ask("POST", "/v1/chat/completions", s.key, content=b"{"), s.chat(s.key, model="no-such-model")]
    codes = [answer.status_code for answer in told]
    shaped = all(answer.text.startswith('{"error"') and "Traceback" not in answer.text for answer in told)
    odd = "" if shaped else ", not in the shape of the API"
    return shaped and codes == [400, 404], f"half a body {codes[0]}, an unknown model {codes[1]}{odd}"


def content(s: Service) -> tuple[bool | None, str]:
    """What must not be asked is refused before a model sees it."""
    if not (s.key and s.forbidden):
        return None, "give it a key and a text that it must refuse"
    answer = s.chat(s.key, messages=[{"role": "user", "content": s.forbidden}])
    refused = "content_filter" in answer.text
    good = answer.status_code == 400 and refused
    return good, f"{answer.status_code}, {'' if refused else 'not '}by the filter"


def started(s: Service) -> tuple[bool | None, str]:
    """It was started for production, and no key stands on its command line, where everybody on the machine reads it."""
    if not s.pid:
        return None, "give it the process id"
    process = psutil.Process(s.pid)
    line, profile = " ".join(process.cmdline()), process.environ().get("LABKIT_SERVE_PROFILE", "")
    found = re.search(r"--profile[ =](\w+)", line)
    profile, leak = found[1] if found else profile, any(key and key in line for key in (s.key, s.admin_key))
    return (
        profile == "prod" and not leak,
        f"profile {profile or 'dev'}{'; A KEY IS ON ITS COMMAND LINE' * leak}",
    )


def rate(s: Service) -> tuple[bool | None, str]:
    """Who asks too often is told to wait, and for how long; afterwards the key works again."""
    if not (s.key and s.burst):
        return None, "give it a key and how many requests to send (burst)"
    for n in range(1, s.burst + 1):
        answer = s.chat(s.key, max_tokens=1)
        if answer.status_code == 429:
            wait = float(answer.headers.get("retry-after", "nan"))
            time.sleep(min(wait, 60.0) if wait > 0 else 0.0)
            again = s.chat(s.key, max_tokens=1).status_code
            return wait > 0 and again != 429, f"request {n} got 429, Retry-After {wait:g} s, then {again}"
    return False, f"{s.burst} requests in a row, and none was refused"


def metrics(s: Service) -> tuple[bool | None, str]:
    """Figures are there for the monitoring, and for nobody else."""
    page = s.ask("GET", "/metrics", s.admin_key)
    missing = [name for name in NEEDED if name not in read_page(page.text)]
    others = s.ask("GET", "/metrics").status_code
    said = f"{page.status_code}, {', '.join(missing) or 'nothing'} missing; without a key {others}"
    return page.status_code == 200 and not missing and others in (401, 403), said


def audit(s: Service) -> tuple[bool | None, str]:
    """Every request leaves a line that says who asked what it cost, and never the key."""
    if not (s.state and s.key):
        return None, "give it the state folder and a key"
    before = _lines(s.state)
    s.chat(s.key)
    until = time.monotonic() + 5
    while len(lines := _lines(s.state)) <= len(before) and time.monotonic() < until:
        time.sleep(0.05)
    if len(lines) <= len(before):
        return False, f"{len(before)} lines before and after a request"
    told, leak = json.loads(lines[-1]), any(k and k in line for line in lines for k in (s.key, s.admin_key))
    good = told.keys() >= LOGGED and not leak
    return good, f"{len(lines)} lines; the last has {', '.join(told)}{'; A KEY IS IN THE LOG' * leak}"


def private(s: Service) -> tuple[bool | None, str]:
    """Keys and logs are readable by the service alone."""
    if not s.state:
        return None, "give it the state folder"
    files = [path for path in s.state.iterdir() if path.is_file() and path.suffix in (".sqlite", ".jsonl")]
    loose = [path.name for path in files if path.stat().st_mode & 0o077]
    return bool(files) and not loose, f"{len(files)} files, open to others: {', '.join(loose) or 'none'}"


def backup(s: Service) -> tuple[bool | None, str]:
    """There is a backup, it can be read, and it is not old."""
    if not s.backup:
        return None, "give it the backup's file"
    try:
        with tarfile.open(s.backup) as tar:
            names = [member.name for member in tar.getmembers() if len(tar.extractfile(member).read())]  # type: ignore[union-attr]
    except (OSError, EOFError, tarfile.TarError) as exc:
        return False, f"{s.backup.name}: {type(exc).__name__}"
    age = time.time() - s.backup.stat().st_mtime
    return age < BACKUP_S and "keys.sqlite" in names, f"{', '.join(names)}; {age / 3600:.1f} h old"


def shutdown(s: Service) -> tuple[bool | None, str]:
    """On SIGTERM a stream under way ends properly, and the process ends with it."""
    if not (s.stop and s.pid and s.key):
        return None, "ends the service: asked for with stop=True, a process id and a key"
    process, got, began = psutil.Process(s.pid), list[str](), threading.Event()

    def listen() -> None:
        body = {"model": s.model, **QUESTION, "max_tokens": 64, "stream": True}
        asked: dict[str, Any] = {"json": body, "headers": {"Authorization": f"Bearer {s.key}"}, "timeout": 60}
        try:
            url = f"{s.url}/v1/chat/completions"
            with httpx.stream("POST", url, verify=s.verify, **asked) as answer:
                for line in answer.iter_lines():
                    got.append(line)
                    began.set()
        except httpx.HTTPError as exc:
            got.append(type(exc).__name__)
        began.set()

    reader = threading.Thread(target=listen)
    reader.start()
    began.wait(30)
    process.send_signal(signal.SIGTERM)
    reader.join(60)
    gone = not psutil.wait_procs([process], timeout=30)[1]
    told = any(line.startswith("data: ") and ("[DONE]" in line or '"error"' in line) for line in got)
    return (
        told and gone,
        f"stream {'ended properly' if told else 'broke off'}, process {'gone' if gone else 'still there'}",
    )


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        health, keys, tls, started, answers, limits, errors, content, metrics, audit, private, backup, rate, shutdown,
    )
}  # fmt: skip


def go_through(service: Service) -> list[Finding]:
    """Go through the whole list; what raises is a failure, with its reason as the evidence."""
    if not service.url.startswith(("http://", "https://")):
        raise OptionInvalid(f"{service.url!r:.80} is no URL", fix="https://agents.example.org")
    return [_finding(name, check, service) for name, check in CHECKS.items()]


def _finding(name: str, check: Check, service: Service) -> Finding:
    try:
        good, evidence = check(service)
    except (EngineUnavailable, psutil.Error, OSError, ValueError) as exc:
        good, evidence = False, str(exc).splitlines()[0]
    return Finding(name, "not checked" if good is None else "pass" if good else "fail", evidence)


def _lines(state: Path) -> list[str]:
    return [
        line for log in sorted(state.glob("audit*.jsonl")) for line in log.read_text("utf-8").splitlines()
    ]
