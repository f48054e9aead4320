"""Send the journal to an instructor, for a student who has joined a class; without the network it waits.

What goes out: a pseudonym, a random number instead of a student, and the journal's lines from joining on. A batch
counts as sent when the server has said so. If that answer is lost, it is sent again, and the events' ids tell the
server that it knows them. So nothing is lost, and nothing counts twice.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from dataclasses import asdict, dataclass

from labkit.checks.journal import Journal
from labkit.errors import EngineUnavailable, LabkitError, OptionInvalid
from labkit.models.store import atomic_file, storage_errors

BATCH = 100
TIMEOUT_S = 30.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
NAME_MAX = 40
COLOURS = "amber blue coral green grey indigo ivory lilac olive pink red silver teal violet white yellow"
ANIMALS = "badger crane dolphin eagle falcon gecko heron ibex lynx marten otter owl puffin raven seal wren"


@dataclass(frozen=True, slots=True)
class Membership:
    """Say where to report. `student` is random and secret: who knows it could report in this student's name."""

    url: str
    student: str
    name: str
    key: str = ""


class Reporter:
    """Send what one journal holds and the class has not got yet."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal or Journal()
        self.class_file = self.journal.folder / "class.json"
        self.sent_file = self.journal.folder / "sent.json"

    @property
    def membership(self) -> Membership | None:
        """Return the class this student has joined, if any."""
        try:
            return Membership(**json.loads(self.class_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def join(self, url: str, name: str = "", key: str = "") -> Membership:
        """Join a class: from now on events are reported, earlier ones are not. A second time keeps the number."""
        name = name.strip() or pseudonym()
        if not url.startswith(("http://", "https://")):
            raise OptionInvalid(
                f"{url!r:.80} is no address", fix="http://192.0.2.7:8010, as your instructor says"
            )
        if len(name) > NAME_MAX or not name.isprintable():
            raise OptionInvalid(f"{name!r:.60} cannot be a pseudonym", fix=f"at most {NAME_MAX} characters")
        before = self.membership
        member = Membership(url.rstrip("/"), before.student if before else uuid.uuid4().hex, name, key)
        if before is None or before.url != member.url:
            self._note_sent(self.journal.read()[1])
        with atomic_file(self.class_file) as temp:
            temp.chmod(0o600)  # the class's key is in it
            temp.write_text(json.dumps(asdict(member)), "utf-8")
        return member

    def leave(self) -> bool:
        """Stop reporting; return whether there was a class to leave. The journal stays."""
        there = self.class_file.exists()
        with storage_errors(self.class_file, "remove"):
            self.class_file.unlink(missing_ok=True)
        return there

    def unsent(self) -> int:
        """Count the events that wait to be sent."""
        return len(self.journal.read(self._offset())[0]) if self.membership else 0

    def send(self) -> int:
        """Send all that waits; return how many events. Raise `EngineUnavailable` if the class is out of reach."""
        total = 0
        while member := self.membership:
            with self.journal.alone("sending"):
                events, end = self.journal.read(self._offset(), BATCH)
                post(member, [asdict(event) for event in events])
                self._note_sent(end)
            total += len(events)
            if len(events) < BATCH:
                break
        return total

    def _offset(self) -> int:
        try:
            return int(json.loads(self.sent_file.read_text("utf-8"))["offset"])
        except (OSError, ValueError, TypeError, KeyError):
            return 0

    def _note_sent(self, offset: int) -> None:
        # Not flushed to disk as other files are: if it is lost, some events are sent again, which does no harm.
        temp = self.sent_file.with_suffix(".part")
        with storage_errors(self.sent_file):
            temp.parent.mkdir(parents=True, exist_ok=True)
            temp.write_text(json.dumps({"offset": offset}), "utf-8")
            os.replace(temp, self.sent_file)


def post(member: Membership, events: list[dict[str, object]]) -> None:
    """Deliver one batch; raise `EngineUnavailable` unless the server says that it has it."""
    import httpx

    body = {"student": member.student, "name": member.name, "events": events}
    headers = {"Authorization": f"Bearer {member.key}"} if member.key else {}
    secure = member.url.startswith("https")  # without TLS no certificates need to be read
    try:
        answer = httpx.post(
            f"{member.url}/events", json=body, headers=headers, timeout=TIMEOUT_S, verify=secure
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        reason = str(exc) or type(exc).__name__
        raise EngineUnavailable(
            f"the class at {member.url} does not answer: {reason}", fix="nothing: it is sent later"
        ) from exc
    if answer.status_code == 401:
        raise EngineUnavailable(
            f"the class at {member.url} wants its key", fix="LABKIT_CLASS_KEY=… labkit classroom join URL"
        )
    if answer.status_code != 200:
        raise EngineUnavailable(f"{member.url} answers {answer.status_code}", fix="ask your instructor")


def pseudonym() -> str:
    """Make up a name."""
    draw = random.SystemRandom()
    return f"{draw.choice(COLOURS.split())} {draw.choice(ANIMALS.split())} {draw.randrange(100)}"


_wake = threading.Event()
_starting = threading.Lock()
_threads: dict[int, threading.Thread] = {}  # by process: a thread does not survive a fork


def wake() -> None:
    """Send in the background what waits; return at once."""
    if not Reporter().membership:
        return
    _wake.set()
    with _starting:
        if os.getpid() not in _threads:
            thread = threading.Thread(target=_work, name="labkit-report", daemon=True)
            _threads[os.getpid()] = thread
            thread.start()


def _work() -> None:
    wait = FIRST_WAIT_S
    while True:
        _wake.wait()
        _wake.clear()
        try:
            Reporter().send()
            wait = FIRST_WAIT_S
        except LabkitError:  # out of reach, or another notebook of this student is sending
            threading.Event().wait(random.uniform(0.5, 1) * wait)  # 100 students come back one by one
            wait = min(2 * wait, LONGEST_WAIT_S)
            _wake.set()
