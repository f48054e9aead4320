"""A personal assistant: reminders, notes, and drafts that only their owner sends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table reminders (text text, day text);
create table notes (text text);
create table drafts (recipient text, text text);
"""
CHORES = (
    "call the dentist",
    "water the plants",
    "pay the rent",
    "buy a gift",
    "renew the passport",
    "book a table",
)
PEOPLE = ("Anna Bell", "Omar Said", "Priya Nair", "Jonas Falk", "Lucia Rossi")
LINES = ("I am ten minutes late", "see you at eight", "the meeting is moved", "thanks for the help")
FACTS = ("the bike code is 4711", "the wifi is called Otter", "the key is under the blue pot", "size 42 fits")


def fill(data: Data, rng: random.Random) -> None:
    """Write down eight reminders."""
    for day in rng.sample(range(1, 29), 8):
        data.rows("insert into reminders values (?, ?)", rng.choice(CHORES), f"2026-12-{day:02}")


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what the assistant can do."""

    def create_reminder(text: str, date: str) -> dict[str, Any]:
        """Remind the user of something."""
        data.rows("insert into reminders values (?, ?)", text, date)
        return {"status": "set"}

    def list_events(date: str) -> dict[str, Any]:
        """List the events of a day."""
        return {
            "events": [row["text"] for row in data.rows("select text from reminders where day = ?", date)]
        }

    def save_note(text: str) -> dict[str, Any]:
        """Write a note."""
        data.rows("insert into notes values (?)", text)
        return {"status": "saved"}

    def draft_message(to: str, text: str) -> dict[str, Any]:
        """Write a draft of a message to somebody; the user sends it."""
        data.rows("insert into drafts values (?, ?)", to, text)
        return {"status": "drafted"}

    return [create_reminder, list_events, save_note, draft_message]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of the owner."""
    known = data.rows("select * from reminders")
    while True:
        chore, day = rng.choice(CHORES), rng.randrange(1, 29)
        person, line, fact = map(rng.choice, (PEOPLE, LINES, FACTS))
        row = rng.choice(known)
        date = f"2026-12-{day:02}"
        asks = [
            f"Remind me on {date}: {chore}.",
            f"Set a reminder for {date}: {chore}.",
            f"I must not forget {chore} on {date}.",
        ]
        yield wish(rng, asks, "remind", "create_reminder", text=chore, date=date)
        asks = [f"What is on my agenda on {row['day']}?", f"What do I have to do on {row['day']}?"]
        yield wish(rng, asks, "agenda", "list_events", row["text"], date=row["day"])
        asks = [f"Write a note: {fact}.", f"Note that {fact}."]
        yield wish(rng, asks, "note", "save_note", text=fact)
        asks = [f"Write {person} a message: {line}.", f"Tell {person}: {line}."]
        yield wish(rng, asks, "draft", "draft_message", to=person, text=line)


ABOUT = "a personal assistant: reminders, notes, drafts"
SCENARIO = Scenario("assistant", ABOUT, SCHEMA, fill, tools, tasks, "You are a helpful assistant.")
