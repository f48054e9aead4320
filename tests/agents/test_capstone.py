"""The capstone's parts, on real engines and real data."""

from dataclasses import replace

import pytest

from labkit import load
from labkit.agents.capstone import (
    Candidate,
    Candidates,
    Drill,
    Grade,
    Report,
    cites,
    drills,
    measure,
    writers,
)
from labkit.agents.loop import Run
from labkit.agents.scenarios import Score, by_name, names
from labkit.agents.scenarios.scenario import Task
from labkit.metrics.records import Record

WRITE = {
    "retail": {"add_to_cart", "cancel_order"},
    "service": {"refund_order", "create_ticket", "reset_password"},
    "diagnostics": {"restart_device"},
    "assistant": {"create_reminder", "save_note", "draft_message"},
    "health": {"book_appointment", "renew_prescription"},
}


@pytest.mark.parametrize("name", WRITE)
def test_what_writes_is_found_by_trying(name: str) -> None:
    assert writers(by_name(name)) == WRITE[name]


@pytest.mark.parametrize("name", names())
def test_the_drills_hold_while_a_person_is_asked(name: str) -> None:
    dying, spare = (load("nano", "echo", script=["here I am"]) for _ in range(2))
    found = drills(by_name(name), ..., dying, spare)
    assert [drill.held for drill in found] == [True] * 3, found
    assert "closed" in found[0].seen and "approved" in found[1].seen


def test_a_tool_that_writes_without_asking_fails_a_drill() -> None:
    shop = by_name("retail")
    found = drills(
        shop, WRITE["retail"], load("nano", "echo", script=["x"]), load("nano", "echo", script=["x"])
    )
    assert [drill.held for drill in found] == [True, False, False]
    assert "FAILED" in str(found[1])


def test_a_candidate_is_measured() -> None:
    found = measure("nano", "Q8_0", by_name("retail"), 1, threads=1)
    assert (found.model, found.level, found.tasks) == ("nano", "Q8_0", 1)
    assert found.file_bytes > 1e6 and found.tokens_per_second > 0 and 0 <= found.done <= 1
    assert "nano Q8_0 on" in repr(Candidates((found,)))


ROW = Candidate("nano", "Q8_0", "llamacpp", 5_000_000, 1000.0, 0.02, 6, 12)


def test_a_candidate_is_beaten_in_everything_or_not_at_all() -> None:
    better = replace(ROW, level="Q4_K_M", file_bytes=3_000_000, tokens_per_second=2000.0)
    assert ROW.beaten_by(better) and not better.beaten_by(ROW) and not ROW.beaten_by(ROW)
    assert not ROW.beaten_by(replace(better, done=5))
    assert not ROW.beaten_by(replace(better, tokens_per_second=900.0))


def page(**changes: object) -> Report:
    done = Task("hello"), Run([]), ""
    load = Record("load", {"settings": {"concurrency": 2}}, {"ttft": [0.03]}, {"requests_per_s": 7.0})
    rows = tuple(replace(ROW, level=level) for level in ("Q8_0", "Q4_K_M", "F16"))
    drilled = [Drill(name, True, "seen") for name in "abc"]
    whole = Report(
        "retail",
        rows,
        rows[0],
        Score("retail", (done,) * 30),
        load,
        drilled,
        "bill",
        "100 %",
        "a b c d e f g h",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "points"),
    [
        ({}, 19),
        ({"why": ..., "limits": ...}, 13),
        ({"candidates": (ROW,)}, 17),
        ({"chosen": replace(ROW, model="pico")}, 16),
        ({"candidates": (ROW, replace(ROW, file_bytes=1, tokens_per_second=2e3), replace(ROW, done=1))}, 16),
        ({"served": Record("load", {"settings": {"concurrency": 1}}, {}, {})}, 17),
        ({"served": Record("load", {"settings": {"concurrency": 2}}, {}, {"lost": 1.0})}, 17),
        ({"drills": [Drill("a", False, "x")]}, 16),
        ({"cost": ""}, 18),
        ({"score": Score("retail", ((Task("hello"), Run([]), ""),) * 12)}, 18),
    ],
)
def test_the_rubric(changes: dict[str, object], points: int) -> None:
    grade = Grade(page(**changes))
    assert grade.points == points, repr(grade)
    assert sum(most for *_, most, _ in grade.marks) == 20


def test_the_page_says_what_is_missing() -> None:
    text = page(why=...)._repr_markdown_()
    assert "**Why.** not written yet" in text and "nano Q8_0" in text and "bill" in text
    assert "held: a: seen" in text


def test_a_figure_is_cited_as_its_writer_rounds_it() -> None:
    figures = {"share": 33.333, "ms": 1234.5}
    assert all(cites(text, figures) for text in ("33 %", "33.3", "about 1,230 ms", "1235"))
    assert not any(cites(text, figures) for text in ("", "the best", "40 %", "34.5", "1300 ms"))
