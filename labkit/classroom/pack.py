"""What an instructor reads before the day, made from the labs and their checks: an overview, routes, a page a lab.

Three kinds of minutes occur, and each is called what it is. A lab's own minutes are its author's estimate. Seconds of
the machine are measured while the labs are tested (`timing.py`). A section's share of the estimate is computed here,
from its words and exercises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.classroom.mistakes import Question, questions
from labkit.classroom.runner import labs_in, read_notebook
from labkit.classroom.slides import slides
from labkit.classroom.timing import SETUP, heading
from labkit.models.store import atomic_file

WORDS_A_MINUTE, EXERCISE_MINUTES = 150, 5  # weights with which a lab's own minutes are shared out
START, PAUSE, LUNCH, LUNCH_FROM, WORK = 9 * 60, 15, 60, 12 * 60, 90  # minutes of a day's timetable
ROUTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Half a day": (("01", "03", "12", "16"),),
    "One day": (("01", "02", "04", "11", "12", "13", "16"),),
    "Two days": (("01", "02", "03", "04", "11", "12", "13"), ("15", "16", "18", "21", "22")),
}


@dataclass(frozen=True, slots=True)
class Section:
    """Hold a section's heading, its share of the lab's estimated minutes, and its exercises."""

    title: str
    minutes: float
    exercises: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lab:
    """Hold what the notebook says of itself."""

    path: Path
    title: str
    minutes: int
    needs: str
    objectives: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def number(self) -> str:
        """Return "04", or "appendix"."""
        return self.path.stem.partition("_")[0]


def read(path: Path) -> Lab:
    """Read a student's notebook."""
    cells = read_notebook(path).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    minutes = re.search(r"(\d+) minutes", text)
    needs = re.search(r"^\*\*\d+ minutes\*\*\s*·\s*(?:needs )?(.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    able = re.search(r"You will be able to\n\n?((?:- .+\n(?:  .+\n)*)+)", text + "\n", re.IGNORECASE)
    total = int(minutes[1]) if minutes else 0
    return Lab(
        path,
        text.splitlines()[0].lstrip("# "),
        total,
        " ".join(needs[1].split()) if needs else "",
        tuple(" ".join(one.split()) for one in re.split(r"^- ", able[1], flags=re.MULTILINE)[1:])
        if able
        else (),
        tuple(_sections(cells, total)),
    )


def _sections(cells: Sequence[Any], minutes: int) -> Iterator[Section]:
    texts: dict[str, str] = {SETUP: ""}
    name = SETUP
    for cell in cells:
        if cell.cell_type == "markdown":
            name = heading(cell.source) or name
        texts[name] = texts.get(name, "") + "\n" + cell.source
    asked = {
        name: tuple(dict.fromkeys(re.findall(r"^(q\d+)\.check\(", t, re.MULTILINE)))
        for name, t in texts.items()
    }
    weights = {
        n: len(t.split()) / WORDS_A_MINUTE + EXERCISE_MINUTES * len(asked[n]) for n, t in texts.items()
    }
    whole = sum(weights.values()) or 1
    yield from (Section(name, minutes * weights[name] / whole, asked[name]) for name in texts)


def labs(folder: Path) -> list[Lab]:
    """Return all labs of a folder, by number."""
    return [read(path) for path in labs_in(folder)]


Times = dict[tuple[str, str], dict[str, Any]]


def write(folder: Path, found: list[Lab], times: Times, reveal: str = "") -> list[Path]:
    """Write the pack; the same labs and times give the same bytes."""
    pages = {"README.md": overview(found, times), "routes.md": routes(found)}
    for lab in found:
        pages[f"labs/{lab.path.stem}.md"] = page(lab, times)
        pages[f"slides/{lab.path.stem}.slides.html"] = slides(lab.path, reveal)
    for name, text in pages.items():
        with atomic_file(folder / name) as part:
            part.write_text(text, "utf-8", newline="\n")
    return [folder / name for name in pages]


def overview(found: list[Lab], times: Times) -> str:
    """Return the table of all labs."""
    rows = []
    for lab in found:
        measured = times.get((lab.path.stem, "solution"))
        seconds = f"{sum(measured['sections'].values()):.0f}" if measured else "not measured"
        count = sum(len(section.exercises) for section in lab.sections)
        link = f"[{lab.title}](labs/{lab.path.stem}.md)"
        rows.append(f"| {link} | {lab.minutes} | {seconds} | {count} | {lab.needs} |")
    machines = sorted({f"{row['machine']}, {row['when']}" for row in times.values()})
    where = (
        f"Measured on: {'; '.join(machines)}."
        if machines
        else "Nothing was measured yet: `make notebooks` does."
    )
    head = "| lab | minutes (its author's estimate) | seconds of the machine (measured) | exercises | needs |"
    about = (
        "The estimate is for people who read, run and solve. The seconds are those of the solved notebook, "
        "run from top to bottom while nobody reads; they are in the estimate, not on top of it."
    )
    links = (
        "Routes through the labs: [routes.md](routes.md). Slides of each lab: `slides/`; press s for notes."
    )
    return "\n".join(
        ["# For instructors", "", about, where, "", links, "", head, "|---|---|---|---|---|", *rows, ""]
    )


def routes(found: list[Lab]) -> str:
    """Return timetables of half a day, one day and two days."""
    known = {lab.number: lab for lab in found}
    lines = ["# Routes through the labs", "", "Times are the labs' own estimates, with pauses."]
    for name, days in ROUTES.items():
        lines += ["", f"## {name}"]
        for number, numbers in enumerate(days, 1):
            lines += ["", f"Day {number}", ""] if len(days) > 1 else [""]
            lines += [f"- {line}" for line in timetable([known[n] for n in numbers if n in known])]
    return "\n".join([*lines, ""])


def timetable(day: list[Lab]) -> list[str]:
    """Lay labs out from nine o'clock: a pause after 90 minutes of work, lunch after twelve."""
    now, worked, eaten, lines = START, 0, False, []
    for place, lab in enumerate(day):
        lines.append(f"{_clock(now)}–{_clock(now + lab.minutes)} {lab.title}")
        now, worked = now + lab.minutes, worked + lab.minutes
        if place + 1 == len(day):
            break
        lunch = now >= LUNCH_FROM and not eaten
        if lunch or worked >= WORK:
            lines.append(
                f"{_clock(now)}–{_clock(now + (LUNCH if lunch else PAUSE))} {'lunch' if lunch else 'pause'}"
            )
            now, worked, eaten = now + (LUNCH if lunch else PAUSE), 0, eaten or lunch
    return lines


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def page(lab: Lab, times: Times) -> str:
    """Return one lab's page."""
    measured = times.get((lab.path.stem, "solution"), {}).get("sections", {})
    lines = [
        f"# {lab.title}",
        "",
        f"{lab.minutes} minutes (estimate). Needs: {lab.needs}",
        "",
        "## They will be able to",
        "",
    ]
    lines += [f"- {one}" for one in lab.objectives]
    lines += [
        "",
        "## Sections",
        "",
        "| section | minutes (share of the estimate) | seconds (measured) | exercises |",
    ]
    lines.append("|---|---|---|---|")
    for section in lab.sections:
        seconds = f"{measured[section.title]:.1f}" if section.title in measured else "not measured"
        asked = ", ".join(section.exercises) or "–"
        lines.append(f"| {section.title} | {section.minutes:.0f} | {seconds} | {asked} |")
    lines += ["", "## Mistakes that the checks know", ""]
    lines += ["… stands for the student's own value. Which of them are common, your class's live page shows."]
    for question in questions(lab.number):
        lines += ["", *_question(question)]
    return "\n".join([*lines, ""])


def _question(question: Question) -> list[str]:
    told = [f"- {_plain(one)}" for one in question.mistakes] or ["- (it only says right or wrong)"]
    hints = [f"{n}. {_plain(hint)}" for n, hint in enumerate(question.hints, 1)]
    code = ["```python", *question.code.splitlines(), "```"]
    return [
        f"### {question.name}",
        "",
        *told,
        "",
        "Hints, in this order:",
        "",
        *hints,
        "",
        "A solution:",
        "",
        *code,
    ]


def _plain(text: str) -> str:
    """Keep Markdown from reading a sentence's < and * as its own."""
    return re.sub(r"([<*_`])", r"\\\1", " ".join(text.split()))
