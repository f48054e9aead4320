"""A translation follows its English lab cell by cell, and shares its code."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from labkit.classroom import translations
from labkit.classroom.release import check, read, release, untranslated
from labkit.cli import app

ROOT = Path(__file__).parents[2]
LANGUAGES = ("ar", "ms", "zh")
FIRST = (
    "01_meet_your_machine",
    "02_agent_taxonomy",
    "03_small_language_models",
    "04_quantization",
    "05_llama_cpp",
)
NOTEBOOKS = sorted(path for name in LANGUAGES for path in (ROOT / "labs" / name).glob("*.ipynb"))
ENGLISH = """# %% [markdown]
# # 01 · A trial
#
# It takes 25 minutes; see [the paper](https://example.org/a).

# %%
x = 1

# %% [markdown]
# ## Run `load`
#
# ```
# labkit doctor  # by hand
# ```
"""
GERMAN = """For people: this stands above the first id, so it is in no cell.

<!-- {} -->
# 01 · Ein Versuch

Er dauert 25 Minuten; siehe [den Aufsatz](https://example.org/a).

<!-- {} -->
## Nimm `load`

```
labkit doctor  # by hand
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    source = tmp_path / "labs" / "source" / "01_trial.py"
    for language in ("de", "he"):
        folder = source.parent / "translations" / language
        folder.mkdir(parents=True)
        source.write_text(ENGLISH, encoding="utf-8")
        ids = [cell.id for cell in read(source) if cell.kind == "markdown"]
        (folder / "01_trial.md").write_text(GERMAN.format(*ids), encoding="utf-8")
        (folder / "note.md").write_text("> Aus dem [Englischen](../{lab}).\n", encoding="utf-8")
    release(tmp_path)
    return tmp_path


def cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return list(notebook.cells)


def test_a_translation_becomes_a_notebook_with_a_note_at_its_head(root: Path) -> None:
    first, code, last = cells(root / "labs" / "de" / "01_trial.ipynb")
    assert first.source.startswith(
        "# 01 · Ein Versuch\n\n> Aus dem [Englischen](../01_trial.ipynb).\n\nEr dauert"
    )
    assert code.source == "x = 1" and last.source.startswith("## Nimm `load`")
    assert check(root) == [] and list(untranslated(root)) == []


def test_prose_runs_from_right_to_left_and_code_does_not(root: Path) -> None:
    last = cells(root / "labs" / "he" / "01_trial.ipynb")[-1].source
    assert last.startswith(
        '<div dir="rtl">\n\n## Nimm <span dir="ltr">`load`</span>\n\n<div dir="ltr">\n\n```\n'
    )
    assert last.endswith("```\n\n</div>\n\n</div>")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("25", "52", "lacks the figure 25"),
        ("25 Minuten", "25 Minuten oder 30", "has the figure 30, its English has not"),
        ("`load`", "load", "lacks the code `load`"),
        ("https://example.org/a", "https://example.org/b", "lacks the link ](https://example.org/a)"),
        ("## Nimm", "### Nimm", "lacks the heading ##"),
        ("  # by hand", "  # von Hand", "lacks the block of code"),
    ],
)
def test_what_must_be_kept(root: Path, old: str, new: str, says: str) -> None:
    path = root / "labs" / "source" / "translations" / "de" / "01_trial.md"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert any(says in problem for problem in check(root)), check(root)


def test_a_change_in_english_makes_its_translations_stale(root: Path) -> None:
    source = root / "labs" / "source" / "01_trial.py"
    source.write_text(ENGLISH.replace("Run `load`", "Now run `load`"), encoding="utf-8")
    release(root)
    new = read(source)[-1].id
    problems = [problem for problem in check(root) if "changed in English" in problem]
    assert len(problems) == 2 and problems[0].startswith("de/01_trial.md: changed in English: <!-- ")
    [todo, _] = untranslated(root)
    assert f"<!-- {new} -->\n## Now run `load`" in todo
    # Until somebody translates it, that cell is English; the others stay as they are.
    first, _, last = cells(root / "labs" / "de" / "01_trial.ipynb")
    assert "Ein Versuch" in first.source and last.source.startswith("## Now run")


def test_missing_extra_and_moved_cells_are_named(root: Path) -> None:
    path = root / "labs" / "source" / "translations" / "de" / "01_trial.md"
    text = path.read_text(encoding="utf-8")
    _, first, one, second, two = translations.MARK.split(text)
    for changed, says in (
        (f"<!-- {first} -->{one}", f"1 cell(s) missing after <!-- {first} -->"),
        (f"<!-- {second} -->{two}", "1 cell(s) missing at the top"),
        (f"{text}\n<!-- {'0' * 12} -->\nEnde\n", "no longer in the lab"),
        (f"<!-- {second} -->{two}\n<!-- {first} -->{one}", "not in this place"),
    ):
        path.write_text(changed, encoding="utf-8")
        assert any(says in problem for problem in check(root)), (says, check(root))


def test_an_empty_file_lists_the_whole_lab_to_translate(root: Path) -> None:
    path = root / "labs" / "source" / "translations" / "de" / "01_trial.md"
    path.write_text("", encoding="utf-8")
    ids = [cell.id for cell in read(root / "labs" / "source" / "01_trial.py") if cell.kind == "markdown"]
    assert translations.MARK.findall("\n".join(untranslated(root))) == ids


def test_the_command_prints_what_waits_for_a_translator() -> None:
    result = CliRunner().invoke(app, ["release", "--translations"])
    assert result.exit_code == 0 and result.output == "every translation is up to date\n"


def test_the_first_labs_are_there_in_every_language() -> None:
    found = {name: {path.stem for path in NOTEBOOKS if path.parent.name == name} for name in LANGUAGES}
    assert all(set(FIRST) <= names for names in found.values()), found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.relative_to(ROOT).as_posix() for p in NOTEBOOKS])
def test_translated_notebook_has_the_code_of_the_english_one(path: Path) -> None:
    ours, english = (json.loads(p.read_text(encoding="utf-8")) for p in (path, ROOT / "labs" / path.name))
    code = [[cell for cell in nb["cells"] if cell["cell_type"] == "code"] for nb in (ours, english)]
    assert code[0] == code[1]
    assert [cell["id"] for cell in ours["cells"]] == [cell["id"] for cell in english["cells"]]
    assert ours["metadata"].pop("labkit") == {"language": path.parent.name}
    assert ours["metadata"] == english["metadata"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.relative_to(ROOT).as_posix() for p in NOTEBOOKS])
def test_translated_prose_is_no_longer_english(path: Path) -> None:
    prose = [
        "".join(c["source"])
        for c in json.loads(path.read_text("utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    ]
    assert f"](../{path.name})" in prose[0] and "`check()`" in prose[0]
    english = re.compile(r"\b(the|and|with|which|Read|Predict|Exercise)\b")
    assert [
        text for text in prose if len(english.findall(re.sub(r"[`\"*].*?[`\"*]|```.*?```", "", text))) > 2
    ] == []
    assert all(text.startswith('<div dir="rtl">') == (path.parent.name == "ar") for text in prose)
