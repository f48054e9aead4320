"""A student's record, on its way to the instructor: nothing lost, nothing twice, nothing told that should not be."""

import json
import multiprocessing
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from class_server import TOKEN, class_server, losing_answers
from typer.testing import CliRunner

from labkit.checks import journal as journal_module
from labkit.checks import report as report_module
from labkit.checks.core import Exercises, Wrong
from labkit.checks.journal import Journal
from labkit.checks.report import Reporter, pseudonym
from labkit.classroom.board import PAUSE_S, Board, Student, summarize
from labkit.classroom.server import Doors
from labkit.cli import app
from labkit.errors import AnswerInvalid, EngineUnavailable, OptionInvalid

SECRET = "my secret answer"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "progress")


def report(student: str, *events: tuple[str, str, str], name: str = "a seal") -> dict[str, Any]:
    rows = [
        {"id": f"{random.getrandbits(128):032x}", "at": 100.0 + n, "lab": lab, "exercise": q, "what": what}
        for n, (lab, q, what) in enumerate(events)
    ]
    return {"student": student * 32, "name": name, "events": rows}


def test_events_come_back_in_order(journal: Journal) -> None:
    added = [journal.add("01", "q1", "wrong"), journal.add("01", "q1", "right")]
    assert journal.read()[0] == added
    _, half = journal.read(most=1)
    assert journal.read(half)[0] == added[1:]


def test_half_a_line_costs_only_itself(journal: Journal) -> None:
    first = journal.add("01", "q1", "wrong")
    with journal.path.open("ab") as file:
        file.write(b'{"id": "cut o')
    assert journal.read()[0] == [first]
    last = journal.add("01", "q1", "right")
    assert journal.read()[0] == [first, last]


def _write_many(folder: Path, lab: str) -> None:
    for _ in range(50):
        Journal(folder).add(lab, "q1", "wrong")


def test_notebooks_write_at_the_same_time(journal: Journal) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(journal.folder, f"0{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [len([e for e in journal.read()[0] if e.lab == f"0{n}"]) for n in range(3)] == [50, 50, 50]


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.delenv("LABKIT_STRICT", raising=False)
    monkeypatch.setattr(journal_module, "_in_notebook", lambda: True)
    return tmp_path


def answer_an_exercise() -> None:
    def test(answer: str) -> None:
        if answer == SECRET:
            raise Wrong(f"{answer} is not it")

    q1 = Exercises("97").add(test, hints=("a hint",), code="code")
    q1.check(SECRET)
    q1.check(...)
    q1.hint()
    q1.solution()
    q1.check("right")


def test_a_check_in_a_notebook_is_written_down_without_the_answer(in_notebook: Path) -> None:
    answer_an_exercise()
    events = Journal().read()[0]
    assert [e.what for e in events] == ["opened", "wrong", "not attempted", "hint", "solution", "right"]
    assert {e.lab for e in events} == {"97"}
    assert SECRET not in Journal().path.read_text()


def test_nothing_is_written_outside_notebooks_and_by_authors(
    in_notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as strict:
        strict.setenv("LABKIT_STRICT", "1")
        Exercises("97")
    monkeypatch.undo()
    monkeypatch.setenv("LABKIT_HOME", str(in_notebook))
    monkeypatch.delenv("LABKIT_STRICT", raising=False)
    answer_an_exercise()
    assert not Journal().path.exists()


def test_a_full_disk_does_not_stop_a_lesson(in_notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_notebook / "progress").write_text("a file is in the way")
    answer_an_exercise()
    assert "✓ q1 right" in capsys.readouterr().out


def test_only_who_joins_reports_and_only_what_comes_after(tmp_path: Path, journal: Journal) -> None:
    reporter = Reporter(journal)
    journal.add("01", "q1", "wrong")
    assert (reporter.membership, reporter.send(), reporter.unsent()) == (None, 0, 0)
    with class_server(tmp_path / "class") as server:
        member = reporter.join(server.url)
        assert reporter.class_file.stat().st_mode & 0o077 == 0
        journal.add("01", "q2", "right")
        assert (reporter.unsent(), reporter.send(), reporter.unsent(), reporter.send()) == (1, 1, 0, 0)
        (row,) = server.summary()["students"]
        assert (row["name"], row["lab"], row["exercise"], row["solved"]) == (member.name, "01", "q2", 1)
        assert member.student not in json.dumps(server.summary())
        assert reporter.join(server.url, "another name").student == member.student
        assert reporter.leave() and not reporter.leave()
        journal.add("01", "q3", "right")
        assert reporter.send() == 0


def test_without_the_network_events_wait(tmp_path: Path, journal: Journal) -> None:
    reporter = Reporter(journal)
    with class_server(tmp_path / "class") as server:
        reporter.join(server.url)
        server.kill()
        for _ in range(250):
            journal.add("01", "q1", "wrong")
        with pytest.raises(EngineUnavailable, match="does not answer"):
            reporter.send()
        assert reporter.unsent() == 250
        server.start()
        assert (reporter.send(), reporter.unsent()) == (250, 0)
        assert server.summary()["exercises"][0]["wrong"] == 250


def test_a_lost_answer_counts_nothing_twice(tmp_path: Path, journal: Journal) -> None:
    with class_server(tmp_path / "class") as server, losing_answers(server.port, times=2) as url:
        reporter = Reporter(journal)
        reporter.join(url)
        journal.add("01", "q1", "wrong")
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                reporter.send()
            assert (
                server.summary()["exercises"][0]["wrong"] == 1
            )  # the server has it, and the student cannot know
            assert reporter.unsent() == 1
        journal.add("01", "q1", "wrong")
        assert reporter.send() == 2
        assert server.summary()["exercises"][0]["wrong"] == 2


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_server_that_is_killed_again_and_again_has_everything_once(tmp_path: Path) -> None:
    students, events = 8, 40
    with class_server(tmp_path / "class") as server:
        reporters = [Reporter(Journal(tmp_path / f"s{n}")) for n in range(students)]
        for n, reporter in enumerate(reporters):
            reporter.join(server.url, f"student {n}")

        def work(reporter: Reporter) -> None:
            left, deadline = events, time.monotonic() + 500
            while (left or reporter.unsent()) and time.monotonic() < deadline:
                if left:
                    reporter.journal.add("05", f"q{left % 4 + 1}", "wrong")
                    left -= 1
                try:
                    reporter.send()
                except EngineUnavailable:
                    time.sleep(0.05)

        threads = [threading.Thread(target=work, args=(reporter,), daemon=True) for reporter in reporters]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.3)
            server.kill()
            server.start()
        for thread in threads:
            thread.join(600)
        found = server.summary()
    assert [reporter.unsent() for reporter in reporters] == [0] * students
    assert sum(row["wrong"] for row in found["exercises"]) == students * events


def test_the_background_sends_by_itself(in_notebook: Path) -> None:
    with class_server(in_notebook / "class") as server:
        Reporter().join(server.url)
        answer_an_exercise()
        deadline = time.monotonic() + 30
        while Reporter().unsent() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.summary()["students"][0]["what"] == "right"
        Reporter().leave()
    assert list(report_module._threads) == [os.getpid()]


def test_an_open_door_needs_a_key() -> None:
    for key in ("", "short"):
        with pytest.raises(OptionInvalid, match="LABKIT_CLASS_KEY"):
            Doors("0.0.0.0", class_key=key)
    assert "long enough" not in repr(Doors("0.0.0.0", class_key="a key that is long enough"))
    with pytest.raises(OptionInvalid, match="LABKIT_INSTRUCTOR_KEY"):
        Doors(token="short")


def test_who_has_no_key_is_refused(tmp_path: Path, journal: Journal) -> None:
    with class_server(tmp_path / "class", LABKIT_CLASS_KEY="the-key-of-the-class") as server:
        reporter = Reporter(journal)
        reporter.join(server.url, key="the-wrong-key-of-it")
        journal.add("01", "q1", "wrong")
        with pytest.raises(EngineUnavailable, match="wants its key"):
            reporter.send()
        reporter.join(server.url, key="the-key-of-the-class")
        assert reporter.send() == 1


def test_only_the_instructor_sees_the_class(tmp_path: Path) -> None:
    with (
        class_server(tmp_path / "class") as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        assert http.get("/summary").status_code == 401
        assert "The class now" not in http.get("/").text + http.get("/?token=wrong").text
        assert http.get("/page.py").status_code == http.get("/..%2fserver.py").status_code == 404
        page = http.get(f"/?token={TOKEN}", follow_redirects=True)
        assert "The class now" in page.text and TOKEN not in str(page.url)
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert http.get("/summary").status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"{}", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b" " * 200_000, "application/json", 413),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    from fastapi.testclient import TestClient

    from labkit.classroom.server import create_app

    client = TestClient(create_app(Board(tmp_path / "class.sqlite"), Doors()))
    assert client.post("/events", content=body, headers={"Content-Type": kind}).status_code == status


@pytest.mark.parametrize(
    "change",
    [
        {"student": "../../etc"},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 41},
        {"events": [{"id": "1"}]},
        {"events": [7]},
        {"events": None},
    ],
)
def test_a_strange_report_changes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    board = Board(tmp_path / "class.sqlite")
    with pytest.raises(AnswerInvalid):
        board.take({**report("a", ("01", "q1", "right")), **change})
    assert board.students() == []


@pytest.mark.parametrize(
    "change",
    [
        {"lab": "<b>"},
        {"exercise": "q1; drop"},
        {"what": "hacked"},
        {"at": "now"},
        {"at": float("nan")},
        {"x": 1},
    ],
)
def test_a_strange_event_changes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    board, sent = Board(tmp_path / "class.sqlite"), report("a", ("01", "q1", "right"))
    with pytest.raises(AnswerInvalid):
        board.take({**sent, "events": [{**sent["events"][0], **change}]})
    assert board.students() == []


def test_figures_follow_from_events(tmp_path: Path) -> None:
    board = Board(tmp_path / "class.sqlite")
    stuck = report("a", *[("04", "q2", "wrong")] * 3, ("04", "q2", "hint"))
    done = report(
        "b", ("04", "", "opened"), ("04", "q2", "wrong"), ("04", "q2", "right"), ("04", "q2", "right")
    )
    assert (board.take(stuck), board.take(stuck), board.take(done)) == (4, 0, 4)
    first, second = board.students()
    assert (first.name, second.name) == ("a seal", "a seal (2)")
    assert (first.stalls(("04", "q2")), second.stalls(("04", "q2"))) == (True, False)
    (row,) = board.summary()["exercises"]
    assert (row["tried"], row["right"], row["stalls"], row["attempts"], row["wrong"]) == (2, 1, 1, 2, 4)
    assert (row["hint"], row["solution"]) == (1, 0)


def test_minutes_count_work_and_not_the_night() -> None:
    def at(seconds: float, lab: str, what: str) -> journal_module.Event:
        return journal_module.Event("", seconds, lab, "q1" if what != "opened" else "", what)

    student = Student("a", time.time())
    student.follow(
        [at(0, "01", "opened"), at(120, "01", "right"), at(180, "02", "opened"), at(90_000, "02", "wrong")]
    )
    assert student.seconds == {"01": 180.0, "02": PAUSE_S}
    assert summarize([student])["labs"][0]["minutes"] == 3.0


def test_made_up_names_differ() -> None:
    assert len({pseudonym() for _ in range(50)}) > 40


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))

    def call(*words: str) -> str:
        found = CliRunner().invoke(app, ["classroom", *words])
        assert found.exit_code == 0, found.output
        return found.output

    assert "reported to nobody" in call("progress")
    with class_server(tmp_path / "class") as server:
        assert "You are 'red <otter>'" in call("join", server.url, "--name", "red <otter>")
        Journal().add("01", "q1", "right")
        said = call("progress", "--send")
        assert "solved: q1" in said and "1 sent now; 0 events wait" in said
        assert server.summary()["students"][0]["name"] == "red <otter>"
    Journal().add("01", "q2", "right")
    assert "1 events wait" in call("progress")
    assert "sent later" in call("join", server.url)
    assert "have left" in call("leave")
