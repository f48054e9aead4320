"""The book's link check finds what it is for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
from links import problems
from reference import packages

ROOT = Path(__file__).parents[1]
GOOD = {
    "index.html": '<a href="labs/a.html#one">a</a> <a href="https://example.org/x">out</a> <img src="p.png">',
    "labs/a.html": '<h2 id="one">1</h2> <a href="#one">up</a> <a href="../index.html">home</a>',
    "p.png": "",
    "_static/s.css": "body { background: url(p.png) }",
}


def site(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_a_good_site_has_no_problems(tmp_path: Path) -> None:
    assert problems(site(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("index.html", '<a href="labs/b.html">b</a>', "index.html: labs/b.html is not there"),
        ("index.html", '<img src="q.png">', "index.html: q.png is not there"),
        (
            "index.html",
            '<a href="labs/a.html#two">',
            "index.html: labs/a.html#two: the page has no such place",
        ),
        ("labs/a.html", '<b id="one"></b><a href="#up">', "labs/a.html: #up: the page has no such place"),
        (
            "index.html",
            '<script src="https://cdn.example/x.js">',
            "index.html would load https://cdn.example/x.js",
        ),
        (
            "index.html",
            '<link rel="stylesheet" href="//cdn.example/x.css">',
            "index.html would load //cdn.example/x.css",
        ),
        ("_static/s.css", "@import 'https://fonts.example/f'", "_static/s.css would load from another host"),
    ],
)
def test_a_broken_site_has_one(tmp_path: Path, name: str, text: str, problem: str) -> None:
    assert problems(site(tmp_path, GOOD | {name: text})) == [problem]


def test_the_reference_has_every_public_module() -> None:
    text = "\n".join(packages(ROOT / "labkit").values())
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "labkit").rglob("*.py"))
    public = {".".join(p) for p in parts if p[1] != "cli" and not any(part.startswith("_") for part in p)}
    assert sorted(name for name in public if f".. automodule:: {name}\n" not in text) == []
