"""Lab 22's checks accept every right answer and explain the wrong ones."""

from dataclasses import replace
from pathlib import Path

import pytest
from judging import explains, verdict

from labkit.agents.capstone import Candidate, Drill, Grade, Report
from labkit.agents.loop import Run
from labkit.agents.scenarios import Score, by_name, names
from labkit.agents.scenarios.scenario import Data, Task
from labkit.checks.lab22 import CASES, q1, q2, q3, q4
from labkit.metrics.records import Record

READS = {
    "retail": {"get_product", "get_order_status"},
    "service": {"get_order_status"},
    "diagnostics": {"run_diagnostics", "read_sensor"},
    "assistant": {"list_events"},
    "health": {"check_interaction"},
    "market": {tool.__name__ for tool in by_name("market").tools(Data(Path("unused")))},
}


def choose(rows: list[Candidate]) -> Candidate:
    best = max(row.done / row.tasks for row in rows)
    return min((row for row in rows if row.interval[1] >= best), key=lambda row: row.file_bytes)


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (choose, lambda rows: sorted([choose(rows), choose(rows)], key=lambda row: row.done)[0]):
        assert verdict(q1, capsys, right)[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda rows: max(rows, key=lambda row: row.done), "cannot be told"),
        (lambda rows: min(rows, key=lambda row: row.file_bytes), "takes small"),
        (lambda rows: rows[0], "takes big"),
        (lambda rows: rows[0].model, "one of the candidates"),
        ("choose", "the function itself"),
    ):
        explains(q1, capsys, said, wrong)
    assert all(choose(rows).model == right for rows, right, _ in CASES)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (93, 94, 96):
        assert verdict(q2, capsys, right)[0] == "right", right
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (12, "points wide"),
        (90, "points wide"),
        (1000, "so are fewer"),
        (93.0, "whole number"),
        (1, "next to nothing"),
    ):
        explains(q2, capsys, said, wrong)


@pytest.mark.parametrize("name", READS)
def test_q3(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = by_name(name)
    for right in (READS[name], sorted(READS[name])):
        assert verdict(q3, capsys, scenario, right)[0] == "right"
    assert name in names()


def test_q3_explains(capsys: pytest.CaptureFixture[str]) -> None:
    shop = by_name("retail")
    assert verdict(q3, capsys, shop, ...)[0] == "not attempted"
    for wrong, said in (
        ({"get_product"}, "get_order_status only reads"),
        (READS["retail"] | {"cancel_order"}, "cancel_order changes the data"),
        ({"get_price"}, "no tool 'get_price'"),
        ("get_product", "a set of names"),
        (3, "a set of names"),
        (set(), "only reads"),
    ):
        explains(q3, capsys, said, shop, wrong)


def report(why: object = ..., limits: object = ...) -> Report:
    rows = [
        Candidate("nano", level, "llamacpp", size, 1000.0, 0.02, 6, 12)
        for level, size in (("Q8_0", 5), ("F16", 9))
    ]
    small = replace(rows[0], model="pico", done=1)
    done = Task("hello"), Run([]), ""
    score = Score("retail", (done,) * 20 + ((*done[:2], "changed nothing"),) * 10)
    load = Record(
        "load", {"settings": {"concurrency": 2}}, {"ttft": [0.03, 0.05]}, {"requests_per_s": 7.0, "lost": 0.0}
    )
    drills = [Drill(name, True, "seen") for name in "abc"]
    return Report("retail", (*rows, small), rows[0], score, load, drills, "a bill", why, limits)


LIMITS = "Judged on made-up tasks in English, and never on spoken ones."


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    for why in (
        "It does 67 % of the tasks.",
        "First tokens after 40 ms.",
        "66.7 percent done",
        "It does 67% of 30 tasks",
    ):
        assert verdict(q4, capsys, report(why, LIMITS), why, LIMITS)[0] == "right", why
    assert Grade(report(why, LIMITS)).points == 19
    assert verdict(q4, capsys, report(), ..., ...)[0] == "not attempted"
    for why, limits, said in (
        ("It is the best.", LIMITS, "why: 0 of 3"),
        ("It does 93 % of the tasks.", LIMITS, "why: 0 of 3"),
        ("It does 67 % of the tasks.", "none", "limits: 0 of 3"),
        ("It does 67 % of the tasks.", "no " * 9, "limits: 0 of 3"),
    ):
        explains(q4, capsys, said, report(why, limits), why, limits)
    explains(q4, capsys, "has not got your sentences", report(), "67", LIMITS)


def test_the_report_is_one_page_and_can_be_handed_in(tmp_path: Path) -> None:
    page = report("It does 67 % of the tasks.", LIMITS).save(tmp_path / "report.md").read_text("utf-8")
    assert page.startswith("# retail: nano Q8_0") and "67" in page and LIMITS in page
    assert page.count("\n") <= 50  # the bill's dozen lines are not in this one
