"""Lab 01 in Arabic in a real JupyterLab: prose and widgets run from right to left, code from left to right."""

import shutil
from pathlib import Path

import pytest
from jupyter_app import ROOT, TOKEN, browser_page, run_notebook, serving, shoot

pytestmark = pytest.mark.heavy

# The computed direction of every element that is found, without repeats.
DIRECTIONS = """selector => [...new Set(
  [...document.querySelectorAll(selector)].map(element => getComputedStyle(element).direction))]"""
# JupyterLab's own style aligns paragraphs to the left.
LEFT_ALIGNED = """() => [...document.querySelectorAll('.jp-RenderedMarkdown p')].filter(p => {
  const text = document.createRange()
  text.selectNodeContents(p)
  const ends = [...text.getClientRects()].map(box => box.right)
  return p.getBoundingClientRect().right - Math.max(...ends) > 2
}).map(p => p.innerText)"""
# A heading of Markdown that was not recognised would stand there with its signs.
PROSE = ".jp-RenderedMarkdown :is(h1, h2, p, li, blockquote)"


def test_arabic_lab_01_runs_from_right_to_left(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "labs", tmp_path / "labs")
    with serving(tmp_path) as url, browser_page() as page:
        page.goto(f"{url}/lab/tree/labs/ar/01_meet_your_machine.ipynb?token={TOKEN}&reset", timeout=180_000)
        run_notebook(page)
        try:
            directions = {
                name: page.evaluate(DIRECTIONS, selector)
                for name, selector in {
                    "prose": PROSE,
                    "code in prose": ".jp-RenderedMarkdown code",
                    "code cells": ".jp-CodeCell .cm-content",
                    "widgets": ".labkit",
                    "what widgets say": ".labkit :is(.labkit-log, button, .widget-label)",
                    "pictures": "svg[viewBox][role=img]",
                }.items()
            }
            assert page.locator(".jp-RenderedMarkdown h2").count() >= 4
            assert "##" not in "".join(page.locator(".jp-RenderedMarkdown").all_inner_texts())
            assert page.evaluate(LEFT_ALIGNED) == []
            page.get_by_role("button", name="احتمالات الرموز").scroll_into_view_if_needed()
            shoot(page, "arabic-widgets")
            page.locator(".jp-RenderedMarkdown h1").scroll_into_view_if_needed()
        finally:
            shoot(page, "arabic")
    left, right = ["ltr"], ["rtl"]
    assert directions == {
        "prose": right,
        "code in prose": left,
        "code cells": left,
        "widgets": right,
        "what widgets say": right,
        "pictures": left,
    }
