"""The instructor's page with 100 students at once, while the server is killed under them."""

import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from jupyter_app import ROOT, browser_page, shoot
from playwright.sync_api import Page, expect

from labkit.checks.journal import Journal
from labkit.checks.report import Reporter
from labkit.errors import EngineUnavailable

sys.path.append(str(ROOT / "tests" / "classroom"))
from class_server import TOKEN, class_server  # noqa: E402

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]

STUDENTS = 100
EXERCISES = {("01", "q1"): 100, ("01", "q2"): 100, ("03", "q2"): 80}  # and how many get it right
EVIL = "<img src=x onerror='hacked=1'>"
EVILS = ["<script>hacked=1</script>", EVIL, "طالبة", "'; DROP TABLE events; --", "w" * 40]
FAINT = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const behind = n => { for (; n; n = n.parentElement) {
    const c = getComputedStyle(n).backgroundColor
    if (c !== 'rgba(0, 0, 0, 0)') return c }
    return 'rgb(255, 255, 255)' }
  return [...document.querySelectorAll('h1, h2, p, th, td, label')].filter(n => n.textContent.trim()).map(n => {
    const [a, b] = [light(getComputedStyle(n).color), light(behind(n))]
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), n.textContent.trim()]
  }).filter(([ratio]) => ratio < 4.5)
}"""


class Student(threading.Thread):
    """Work on two labs: wrong attempts, then a right one; every fifth never gets lab 03's second exercise."""

    def __init__(self, number: int, folder: Path, url: str) -> None:
        super().__init__(daemon=True)
        self.draw, self.stuck = random.Random(number), number % 5 == 0
        self.reporter = Reporter(Journal(folder))
        name = EVILS[number] if number < len(EVILS) else f"student {number}"
        self.reporter.join(url, name)
        self.wrong: Counter[tuple[str, str]] = Counter()
        self.wait = 0.5

    def run(self) -> None:
        for lab, exercise in EXERCISES:
            stuck = self.stuck and (lab, exercise) == ("03", "q2")
            for _ in range(4 if stuck else self.draw.randrange(3)):
                self.wrong[lab, exercise] += 1
                self.tell(lab, exercise, "wrong")
            self.tell(lab, exercise, "hint" if stuck else "right")
        deadline = time.monotonic() + 300
        while self.reporter.unsent() and time.monotonic() < deadline:
            self.send()

    def tell(self, lab: str, exercise: str, what: str) -> None:
        self.reporter.journal.add(lab, exercise, what)  # type: ignore[arg-type]
        time.sleep(2 * self.draw.random())
        self.send()

    def send(self) -> None:
        try:
            self.reporter.send()
            self.wait = 0.5
        except EngineUnavailable:
            time.sleep(self.wait * (1 + self.draw.random()))
            self.wait = min(2 * self.wait, 15)


def test_a_hundred_students_at_once(tmp_path: Path) -> None:
    with class_server(tmp_path / "class") as server, browser_page(height=1200) as page:
        students = [Student(n, tmp_path / f"{n}", server.url) for n in range(STUDENTS)]
        page.goto(f"{server.url}/?token={TOKEN}")
        assert TOKEN not in page.url
        for student in students:
            student.start()
        expect(page.locator("#students tbody tr").nth(9)).to_be_visible(timeout=300_000)
        server.kill()
        expect(page.get_by_role("status")).to_contain_text("asking again", timeout=180_000)
        server.start()
        for student in students:
            student.join(400)
        expect(page.get_by_role("status")).to_contain_text(
            "100 students, 100 of them active in the last 5 minutes, 20 stall", timeout=180_000
        )
        assert [s.reporter.unsent() for s in students] == [0] * STUDENTS
        look_at_the_figures(page, students)
        look_at_the_page(page)


def look_at_the_figures(page: Page, students: list[Student]) -> None:
    for (lab, exercise), right in EXERCISES.items():
        row = page.locator("#exercises tr", has=page.get_by_role("rowheader", name=f"{lab} {exercise}"))
        told = {
            0: f"{100 - right}",
            1: f"{right} of 100",
            3: f"{sum(s.wrong[lab, exercise] for s in students)}",
        }
        for at, text in told.items():  # the page lags a little behind
            expect(row.locator("td").nth(at)).to_have_text(text, timeout=30_000)
    assert page.locator("#exercises tbody th").first.inner_text() == "03 q2"  # what stalls comes first
    assert page.locator("#students tbody tr").count() == STUDENTS
    for name in EVILS:
        assert page.get_by_role("rowheader", name=name, exact=True).count() == 1
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
    page.get_by_label("Show").select_option("stalls")
    expect(page.locator("#students tbody tr")).to_have_count(20)


def look_at_the_page(page: Page) -> None:
    regions = page.get_by_role("region").filter(has=page.get_by_role("table"))
    assert regions.count() == 3
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        shoot(page, f"classroom-{scheme}")
        assert page.evaluate(FAINT) == []
    page.set_viewport_size({"width": 390, "height": 844})
    shoot(page, "classroom-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "the page itself scrolls sideways"
    )
