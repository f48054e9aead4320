"""The book, built with the network off and read from its folder, as a phone and a desktop show it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_app import ROOT, browser_page, shoot
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

ARABIC = "01 · تعرّف على جهازك"
START = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import book
folder = Path(sys.argv[2])
"""
RUN = START + 'print(book.run(["01"], folder / "labs", folder / "runs"))'
BUILD = (
    START
    + """
book.gather(folder / "pages", folder / "labs", folder / "runs")
print(book.build(folder / "pages", folder / "site"))
"""
)
PAGES = (
    "index",
    "labs/01_meet_your_machine",
    "labs/04_quantization",
    "labs/ar/01_meet_your_machine",
    "reference/engines",
)


def without_network() -> list[str]:
    """Return what to put before a command to take its network away."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True).returncode == 0
        ):
            return command
    (pytest.fail if os.environ.get("CI") else pytest.skip)(
        "the network cannot be taken away: no unshare -n here"
    )


def make(folder: Path, script: str, *before: str) -> None:
    """Run a step of the book on `folder`, which must print that nothing is wrong."""
    command = [*before, sys.executable, "-c", script, str(ROOT / "book"), str(folder)]
    environment = {**os.environ, "BOOK_REPOSITORY": "https://github.com/owner/name", "BOOK_BRANCH": "main"}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not made.stdout.endswith("[]\n"):
        pytest.fail(made.stdout + made.stderr, pytrace=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole book, with the outputs of lab 01 and an Arabic page of it."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copytree(ROOT / "labs", folder / "labs")
    lab = json.loads((ROOT / "labs" / "01_meet_your_machine.ipynb").read_text(encoding="utf-8"))
    lab["cells"][0]["source"] = f'<div dir="rtl">\n\n# {ARABIC}\n\nالوكيل يعمل حيث يوجد مستخدمه.\n\n</div>'
    (folder / "labs" / "ar").mkdir(exist_ok=True)
    (folder / "labs" / "ar" / "01_meet_your_machine.ipynb").write_text(json.dumps(lab), encoding="utf-8")
    make(folder, RUN)
    make(folder, BUILD, *without_network())
    return folder / "site"


def test_each_lab_has_its_page_and_its_binder_button(site: Path) -> None:
    for source in (ROOT / "labs" / "source").glob("*.py"):
        page = (site / "labs" / f"{source.stem}.html").read_text(encoding="utf-8")
        assert f"mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/labs/{source.stem}.ipynb" in page
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "labs/22_capstone.html" in index and "labs/ar/index.html" in index


def test_a_page_says_whether_its_lab_ran(site: Path) -> None:
    ran, not_ran = (
        (site / "labs" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("01_meet_your_machine", "02_agent_taxonomy")
    )
    assert "The figures below are of one run" in ran and "q1 right" in ran
    assert "This lab was not run" in not_ran and "right:" not in not_ran
    assert "<svg" in ran.split("Timeline")[-1], "the timeline is a picture"
    assert ran.count("Show an answer") >= 4


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page(height=900) as page:
        yield page


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_load_nothing_from_elsewhere(site: Path, page: Page, width: int) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    for name in PAGES:
        page.goto(f"{(site / name).as_uri()}.html", timeout=120_000)
        expect(page.locator(".bd-article h1").first).to_be_visible()
        shoot(page, f"book-{width}-{name.replace('/', '-')}")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_search_works_from_a_folder(site: Path, page: Page) -> None:
    page.goto(f"{(site / 'search.html').as_uri()}?q=quantization", timeout=120_000)
    expect(page.locator("#search-results a", has_text="04 · Quantization").first).to_be_visible(
        timeout=60_000
    )


def test_light_and_dark(site: Path, page: Page) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto((site / "labs" / "01_meet_your_machine.html").as_uri(), timeout=120_000)
        svg = page.locator(".cell_output svg[role=img]").first
        colours.append(
            svg.evaluate("e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]")
        )
        svg.scroll_into_view_if_needed()
        shoot(page, f"book-{scheme}")
    (ink, paper), (dark_ink, dark_paper) = colours
    assert paper != dark_paper and ink != dark_ink and dark_ink != dark_paper


def test_arabic_runs_from_right_to_left_and_code_does_not(site: Path, page: Page) -> None:
    page.goto((site / "labs" / "ar" / "01_meet_your_machine.html").as_uri(), timeout=120_000)
    title = page.locator(".bd-article h1", has_text=ARABIC)
    assert title.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert title.evaluate("e => e.closest('[lang]').lang") == "ar"
    assert page.locator(".cell pre").first.evaluate("e => getComputedStyle(e).direction") == "ltr"
    assert page.locator(".cell_output").count() > 5, "the outputs are those of the English page"
