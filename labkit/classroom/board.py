"""What a class has reported, in one SQLite file, and what follows from it: who is where, and what stalls.

An event's id decides whether it is new, so a batch that comes again changes nothing. A batch is written in one
transaction before it is confirmed: a server that is killed has all of it or nothing, and the student sends it again.
"""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from labkit.checks.journal import WHATS, Event
from labkit.checks.report import NAME_MAX
from labkit.errors import AnswerInvalid
from labkit.models.database import make_database, transaction

STALL = 3  # so many wrong attempts without a right one are called a stall
PAUSE_S = 600.0  # a longer gap between two events is a break, and counts as this much work
HERE_S = 300.0  # who has sent something within this time is called active
MAX_STUDENTS, MAX_EVENTS = 2_000, 20_000  # of one student
SCHEMA = """
CREATE TABLE IF NOT EXISTS students (id TEXT PRIMARY KEY, name TEXT, seen REAL);
CREATE TABLE IF NOT EXISTS events (
  id TEXT PRIMARY KEY, student TEXT, at REAL, lab TEXT, exercise TEXT, what TEXT
);
CREATE INDEX IF NOT EXISTS of_student ON events (student);
"""
ID = re.compile(r"[0-9a-f]{32}")
LAB, EXERCISE = re.compile(r"[\w-]{1,20}"), re.compile(r"(q\d{1,3})?")


@dataclass(slots=True)
class Student:
    """Follow one student through their events, in the order in which they happened."""

    name: str
    seen: float
    lab: str = ""
    exercise: str = ""
    what: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    right: set[tuple[str, str]] = field(default_factory=set)
    helped: set[tuple[str, str, str]] = field(default_factory=set)

    def follow(self, events: Iterable[Event]) -> None:
        """Take in all events, oldest first."""
        before = math.inf
        for one in events:
            key = one.lab, one.exercise
            gap = min(max(one.at - before, 0.0), PAUSE_S) if before < math.inf else 0.0
            # The time up to an event belongs to its lab; opening another one ends the work on the last.
            worked = self.lab if one.what == "opened" and self.lab else one.lab
            self.seconds[worked] = self.seconds.get(worked, 0.0) + gap
            self.seconds.setdefault(one.lab, 0.0)
            before, self.lab, self.exercise, self.what = one.at, *key, one.what
            if one.what in ("wrong", "right") and key not in self.right:
                self.attempts[key] = self.attempts.get(key, 0) + 1
            self.right |= {key} if one.what == "right" else set()
            self.helped |= {(*key, one.what)} if one.what in ("hint", "solution") else set()

    def stalls(self, key: tuple[str, str]) -> bool:
        """Say whether this student tries an exercise again and again without success."""
        return key not in self.right and self.attempts.get(key, 0) >= STALL

    def row(self) -> dict[str, Any]:
        """Return the student's row on the page."""
        key = self.lab, self.exercise
        solved = sorted(exercise for lab, exercise in self.right if lab == self.lab)
        return {
            **{"name": self.name, "lab": self.lab, "exercise": self.exercise, "what": self.what},
            **{"attempts": self.attempts.get(key, 0), "stalls": self.stalls(key), "seen": self.seen},
            **{"solved": len(solved), "minutes": self.seconds.get(self.lab, 0.0) / 60},
        }


class Board:
    """Keep reports and sum them up. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._made: tuple[float, dict[str, Any]] = (-math.inf, {})
        make_database(path, SCHEMA)

    def take(self, report: Mapping[str, Any]) -> int:
        """Write one student's batch; return how many events were new. Raise `AnswerInvalid` for what is no report."""
        (found,) = self.take_all([report])
        if isinstance(found, AnswerInvalid):
            raise found
        return found

    def take_all(self, reports: Sequence[Mapping[str, Any]]) -> list[int | AnswerInvalid]:
        """Write many batches in one transaction, which is one flush to disk; return what `take` would of each."""
        with self._lock, transaction(self.path) as db:
            return [self._take(db, report) for report in reports]

    def _take(self, db: sqlite3.Connection, report: Mapping[str, Any]) -> int | AnswerInvalid:
        try:
            student, name, events = _checked(report)
        except AnswerInvalid as error:
            return error
        known = db.execute("SELECT 1 FROM students WHERE id = ?", (student,)).fetchone()
        if not known and db.execute("SELECT count(*) FROM students").fetchone()[0] >= MAX_STUDENTS:
            return AnswerInvalid(f"there are {MAX_STUDENTS} students already")
        had = db.execute("SELECT count(*) FROM events WHERE student = ?", (student,)).fetchone()[0]
        if had + len(events) > MAX_EVENTS:
            return AnswerInvalid(f"a student may report {MAX_EVENTS} events")
        upsert = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, seen = excluded.seen"
        db.execute(f"INSERT INTO students VALUES (?, ?, ?) {upsert}", (student, name, time.time()))
        rows = [(e.id, student, e.at, e.lab, e.exercise, e.what) for e in events]
        return int(db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount)

    def students(self) -> list[Student]:
        """Return all students, each with what follows from their events; of equal names, later ones get a number."""
        with transaction(self.path) as db:
            people = db.execute("SELECT id, name, seen FROM students ORDER BY rowid").fetchall()
            rows = db.execute(
                "SELECT student, id, at, lab, exercise, what FROM events ORDER BY rowid"
            ).fetchall()
        events: dict[str, list[Event]] = {}
        for student, *values in rows:
            events.setdefault(student, []).append(Event(*values))
        found, names = [], dict[str, int]()
        for id, name, seen in people:
            names[name] = names.get(name, 0) + 1
            found.append(Student(f"{name} ({names[name]})" if names[name] > 1 else name, seen))
            found[-1].follow(events.get(id, []))
        return found

    def summary(self, fresh_s: float = 1.0) -> dict[str, Any]:
        """Return what the page shows, as plain values; it may be `fresh_s` seconds old."""
        with self._lock:
            made, found = self._made
            if time.monotonic() - made < fresh_s:
                return found
            found = summarize(self.students())
            self._made = time.monotonic(), found
            return found


def summarize(students: list[Student]) -> dict[str, Any]:
    """Sum a class up: a row for each student, each exercise and each lab."""
    now = time.time()
    tried = sorted({key for s in students for key in s.attempts})
    labs = sorted({lab for s in students for lab in s.seconds})
    active = sum(now - s.seen < HERE_S for s in students)
    return {
        **{"now": now, "active": active, "stall": STALL},
        "students": [s.row() for s in sorted(students, key=lambda s: s.name.casefold())],
        "exercises": [_exercise(students, key) for key in tried],
        "labs": [_lab(students, lab) for lab in labs],
    }


def _exercise(students: list[Student], key: tuple[str, str]) -> dict[str, Any]:
    tries = [s for s in students if key in s.attempts]
    needed = [s.attempts[key] for s in tries if key in s.right]
    counts = {kind: sum((*key, kind) in s.helped for s in students) for kind in ("hint", "solution")}
    return {
        **{"lab": key[0], "exercise": key[1], "tried": len(tries), "right": len(needed), **counts},
        **{"stalls": sum(s.stalls(key) for s in tries), "attempts": median(needed) if needed else None},
        "wrong": sum(s.attempts[key] for s in tries) - len(needed),
    }


def _lab(students: list[Student], lab: str) -> dict[str, Any]:
    there = [s for s in students if lab in s.seconds]
    return {
        **{"lab": lab, "students": len(there), "here": sum(s.lab == lab for s in there)},
        "minutes": median(s.seconds[lab] for s in there) / 60,
        "solved": sum(one == lab for s in there for one, _ in s.right),
    }


def _checked(report: Mapping[str, Any]) -> tuple[str, str, list[Event]]:
    """Read a report strictly: what came over the network may be anything."""
    try:
        student, name, rows = str(report["student"]), str(report["name"]), list(report["events"])
        events = [Event(**{**asdict(Event("", 0.0, "", "", "")), **row}) for row in rows]
        known = ID.fullmatch(student) and 0 < len(name.strip()) <= NAME_MAX and name.isprintable()
        if not known or not all(map(_sound, events)):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError) as exc:
        raise AnswerInvalid("that is no report of a student's progress") from exc
    return student, name.strip(), events


def _sound(event: Event) -> bool:
    texts = (event.id, event.lab, event.exercise, event.what)
    return (
        all(isinstance(text, str) for text in texts)
        and type(event.at) in (int, float)
        and 0 <= event.at < 1e11
        and bool(ID.fullmatch(event.id) and LAB.fullmatch(event.lab) and EXERCISE.fullmatch(event.exercise))
        and event.what in WHATS
    )
