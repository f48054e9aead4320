"""The race: two real engines in processes of their own, one that fails, and what is made of the records."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp")

from labkit.errors import EngineUnavailable, LabkitError, ModelNotFound, OptionInvalid
from labkit.metrics import race as race_module
from labkit.metrics import records
from labkit.metrics.race import COLUMNS, FULL, Race, entrants, pick, race, result
from labkit.types import Availability


@pytest.fixture(scope="module")
def run() -> tuple[Race, list[int]]:
    done: list[int] = []
    found = race(
        "nano", ["echo", "llamacpp"], prompts=3, repeat=2, threads=1, progress=lambda: done.append(1)
    )
    return found, done


def test_each_engine_has_a_row_and_the_fullest_comes_first(run: tuple[Race, list[int]]) -> None:
    found, done = run
    assert [row.engine for row in found.rows] == ["llamacpp", "echo"] and found.missing == {}
    assert len(done) == 4, "each of two engines, once to warm up and once to count"
    llamacpp, echo = found.rows
    assert all(row.start > 0 and row.memory > 10e6 and row.ttft > 0 for row in found.rows)
    assert (llamacpp.same, llamacpp.constrained, llamacpp.concurrent) == (1, True, False)
    assert echo.same < 1


def test_records_keep_every_sample_and_every_answer(run: tuple[Race, list[int]], tmp_path: Path) -> None:
    found = run[0]
    for record in found.records:
        counts = {name: len(many) for name, many in record.samples.items()}
        assert (counts["start"], counts["tree_memory"], counts["ttft"]) == (1, 1, 2)
        assert list(record.about["answers"]) == [case.id for case in pick(3)]
        assert record.about["variant"] == ("F16" if record.about["engine"] == "llamacpp" else "Q4_K_M")
    records.write(tmp_path / "race.jsonl", found.records)
    again = result(records.read(tmp_path / "race.jsonl"), found.missing, found.title)
    assert again.cells == found.cells and again.partings == found.partings


def test_the_table_has_every_figure_its_formula_and_where_answers_part(run: tuple[Race, list[int]]) -> None:
    found = run[0]
    shown = repr(found)
    assert all(column.formula in shown for column in COLUMNS.values())
    assert {parting.engine for parting in found.partings} == {"echo"}
    assert found.partings[0].case in str(found.partings[0])
    assert set(found._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_one_that_breaks_is_a_line_and_the_race_goes_on() -> None:
    found = race("nano", ["openai", "echo"], prompts=1, repeat=1)
    assert [row.engine for row in found.rows] == ["echo"]
    assert " → " in found.missing["openai"] and "\n" not in found.missing["openai"]
    assert f"openai did not run: {found.missing['openai']}" in repr(found)


def test_starts_are_samples_and_figures_are_their_medians(run: tuple[Race, list[int]]) -> None:
    llamacpp = run[0].records[0]
    turns = [
        replace(
            llamacpp, samples={"start": [s], "tree_memory": [1e6], "ttft": [t], "prefill": [1], "tpot": []}
        )
        for s, t in ((1.0, 0.1), (3.0, 0.2), (2.0, 0.6))
    ]
    row = result([race_module._pooled(turns)], {}).rows[0]
    assert (row.start, row.ttft) == (2.0, 0.2) and math.isnan(row.decode)
    assert result([race_module._pooled(turns)], {}).cells[1][5] == "-"


def test_who_is_not_installed_is_told_how_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"mlx": Availability(False, reason="no mlx", fix="pip install mlx")}
    here = Availability(True, "1")
    monkeypatch.setattr(race_module, "availability", lambda name: absent.get(name, here))
    names, missing = entrants()
    assert names == [name for name in FULL if name != "mlx"] and missing == {
        "mlx": "no mlx → pip install mlx"
    }
    with pytest.raises(EngineUnavailable, match="labkit doctor"):
        entrants(["mlx"])


def test_a_busy_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_module, "loaded_machine", lambda: "the load is 9.0 on 2 cores")
    found = race("nano", ["echo"], prompts=1, repeat=1)
    assert "not to be trusted: the load is 9.0" in found.title and len(found.rows) == 1


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"engines": ["no such engine"]}, EngineUnavailable),
        ({"name": "no such model"}, ModelNotFound),
        ({"prompts": 0}, OptionInvalid),
        ({"repeat": -1}, OptionInvalid),
        ({"starts": True}, OptionInvalid),
        ({"threads": "two"}, OptionInvalid),
    ],
)
def test_what_is_wrong_is_found_before_any_work(arguments: dict[str, Any], kind: type[LabkitError]) -> None:
    with pytest.raises(kind) as caught:
        race(**{"engines": ["echo"], **arguments})
    assert caught.value.fix


def test_cases_come_from_everywhere_in_the_set() -> None:
    assert len(pick(200)) == 200 and pick(0) == [] and pick(5) == pick(5)
    assert len({case.split for case in pick(40)}) == 4 and len({case.skill for case in pick(200)}) >= 8
