"""The table of levels: on nano, then its views on figures that are made up."""

import math
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

import labkit
from labkit.engines.registry import load
from labkit.errors import EngineUnavailable, LabkitError, ModelNotFound, OptionInvalid
from labkit.metrics import levels
from labkit.metrics.levels import COLUMNS, LevelTable, measure_levels
from labkit.metrics.quality import perplexity

SMALL = {"characters": 4_000, "cases": 2, "repeat": 1, "threads": 1}


@pytest.fixture(scope="module")
def table() -> LevelTable:
    return measure_levels("nano", ["F16", "q8_0", "Q2_K"], **SMALL)


def test_one_row_a_level_with_the_base_first(table: LevelTable) -> None:
    base, middle, small = table.rows
    assert [row.level for row in table.rows] == ["F16", "Q8_0", "Q2_K"]
    assert base.kl == 0 and base.same_top == 1
    assert 0 < middle.kl < small.kl and middle.same_top > small.same_top
    assert base.file_bytes > middle.file_bytes > small.file_bytes
    assert base.bits == pytest.approx(16, abs=0.1) and 8 < middle.bits < 9 and 2 < small.bits < 4
    assert all(row.tg > 0 and row.load_time > 0 and row.calls.n == 2 for row in table.rows)


def test_figures_are_those_of_the_modules_that_measure(table: LevelTable) -> None:
    text = levels._text(SMALL["characters"])
    with load("nano", "llamacpp", "Q2_K", threads=1) as model:
        assert perplexity(model, text).figures["ppl"] == pytest.approx(table.rows[2].ppl)
    assert [record.kind for record in table.records] == ["bench", "kl"] * 3
    assert [scores.by()["all"] for scores in table.scores] == [row.calls for row in table.rows]


def test_views_have_every_figure_and_its_formula(table: LevelTable) -> None:
    bundle = table._repr_mimebundle_()
    for text in bundle.values():
        assert "Q2_K" in text and f"{table.rows[2].file_bytes / 1e6:.2f}" in text
        assert all(column.formula.split("‖")[0][:20] in text for column in COLUMNS.values())
    assert len(set(map(len, table.cells))) == 1
    assert len(bundle["text/html"]) < 8_000


def test_a_busy_machine_is_noted_and_the_progress_bar_reaches_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(levels, "loaded_machine", lambda: "the load is 9.0 on 2 cores")
    assert "not to be trusted: the load is 9.0" in repr(measure_levels("nano", ["F16"], **SMALL))
    assert "5/5" in capsys.readouterr().out


def test_what_was_not_measured_is_a_dash(table: LevelTable) -> None:
    from dataclasses import replace

    row = replace(table.rows[0], peak_memory=math.nan, errors={})
    assert levels._cell(row, "peak_memory") == "-"
    assert "±" not in levels._cell(row, "ppl")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"levels": []}, OptionInvalid),
        ({"levels": "F16"}, OptionInvalid),
        ({"levels": ["F16", "Q9_9"]}, ModelNotFound),
        ({"characters": 100}, OptionInvalid),
        ({"characters": None}, OptionInvalid),
        ({"cases": 0}, OptionInvalid),
        ({"cases": 1.5}, OptionInvalid),
        ({"repeat": 0}, OptionInvalid),
        ({"threads": -1}, OptionInvalid),
        ({"name": "nothing of that name"}, (ModelNotFound, EngineUnavailable)),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(
    arguments: dict[str, object], kind: type[LabkitError]
) -> None:
    with pytest.raises(kind):
        measure_levels(**{**SMALL, **arguments})  # type: ignore[arg-type]


def test_a_place_without_datasets_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labkit, "__file__", str(tmp_path / "labkit" / "__init__.py"))
    with pytest.raises(LabkitError, match="datasets"):
        measure_levels("nano", ["F16"], **SMALL)
