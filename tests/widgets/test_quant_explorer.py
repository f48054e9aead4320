"""The explorer shows what was measured, measures what was not, and marks where two levels' answers part."""

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ipywidgets.embed import dependency_state

from labkit.engines.registry import load
from labkit.errors import ModelNotFound
from labkit.metrics.agent_eval import Share
from labkit.metrics.levels import Level, LevelTable
from labkit.models.quantize_math import dequantize_q8_0, read_blocks, read_weights
from labkit.widgets import QuantExplorer
from labkit.widgets.side_by_side import parting, side_by_side

FIGURES = {"F16": (16e6, 0.0), "Q8_0": (8e6, 0.002), "Q4_K_M": (6e6, 0.01), "Q2_K": (3e6, 0.2)}
LEVELS = ("F16", "Q2_K")
HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(2)> \x1b[31mred\x1b[0m " + "x" * 10**6


@pytest.fixture
def table() -> LevelTable:
    row = Level("", 0, 8, 0.01, 100, math.nan, 20, 0, 1, Share(10, 5, 0.5, 0.2, 0.8), {})
    rows = tuple(replace(row, level=n, file_bytes=int(size), kl=kl) for n, (size, kl) in FIGURES.items())
    return LevelTable("nano <b>", rows, (), (), ())


def press(explorer: QuantExplorer, name: str) -> None:
    rows = [child.children for child in explorer.children if type(child).__name__ == "HBox"]
    next(one for row in rows for one in row if one.description == name).click()


def shown(explorer: QuantExplorer) -> list[str]:
    return re.findall(r'<th scope="col">(\w+)</th>', explorer.figures.value)


def test_a_level_is_chosen_and_its_figures_are_shown(table: LevelTable) -> None:
    explorer = QuantExplorer("nano", table)
    assert explorer.chosen == ("F16", "Q2_K")
    assert shown(explorer) == ["F16", "Q2_K"]
    explorer.second.value = "Q8_0"
    assert shown(explorer) == ["F16", "Q8_0"]
    assert "Q8_0 ◀" in explorer.figures.value and "Q2_K ◀" not in explorer.figures.value


def test_both_levels_of_nano_answer_and_their_weights_are_counted() -> None:
    explorer = QuantExplorer("nano", levels=LEVELS, threads=1)
    assert "press Measure" in explorer.figures.value
    press(explorer, "Compare")
    explorer.wait(110)
    assert explorer.said.startswith("compared: the ")
    assert all(f'<th scope="col">{level}</th>' in explorer.answers.value for level in LEVELS)
    assert "ffn_up.weight: RMS of the change / RMS of the weights = " in explorer.text
    assert explorer.answers.value.count("<svg ") == 1
    assert explorer.text in repr(explorer)


def test_the_same_level_gives_the_same_answer_and_the_same_weights() -> None:
    explorer = QuantExplorer("nano", levels=["Q8_0"], threads=1)
    explorer.compare()
    explorer.wait(110)
    assert "the same answer" in explorer.said and "= 0.00%" in explorer.text


@pytest.mark.timeout(400)
def test_levels_are_measured_when_asked_for() -> None:
    explorer = QuantExplorer("nano", levels=LEVELS, threads=1)
    bars: list[str] = []
    explorer.bar.observe(lambda change: bars.append(change["new"]), "value")
    explorer.measure(characters=4_000, cases=1, repeat=1)
    explorer.wait(390)
    assert explorer.said == "measured", explorer.said
    assert explorer.table is not None and [row.level for row in explorer.table.rows] == list(LEVELS)
    assert shown(explorer) == list(LEVELS) and bars[-1] == ""
    assert bars[0].endswith("</progress> 1 of 8")


def test_measuring_stops_when_told() -> None:
    explorer = QuantExplorer("nano", levels=LEVELS, threads=1)
    explorer.bar.observe(lambda _: explorer.stop(), "value")
    press(explorer, "Measure")
    explorer.wait(110)
    assert explorer.said.startswith("stopped at") and "Measure begins again" in explorer.said
    assert explorer.table is None and explorer.bar.value == ""


def test_an_answer_stops_in_the_middle() -> None:
    explorer = QuantExplorer("nano", levels=LEVELS, engine="echo", script=["one two " * 30], delay=0.5)
    press(explorer, "Compare")
    press(explorer, "Stop")
    explorer.wait(10)
    assert not explorer.busy and explorer.said.startswith("stopped")


def test_a_model_s_answer_is_text_and_never_markup() -> None:
    explorer = QuantExplorer("nano", levels=LEVELS, engine="echo", script=[HOSTILE])
    explorer.compare()
    explorer.wait(110)
    for page in (explorer.answers.value, explorer._repr_mimebundle_()["text/html"]):
        assert "<script" not in page and "<img" not in page and "\x1b" not in page
        assert "&lt;script&gt;" in page and len(page) < 30_000


def test_an_unknown_model_is_said_and_not_raised() -> None:
    explorer = QuantExplorer("nanoo", levels=LEVELS, threads=1)
    explorer.compare()
    explorer.wait(110)
    assert "there is no model 'nanoo'" in explorer.said and "did you mean nano" in explorer.said


def test_what_only_one_answer_has_is_marked_in_text() -> None:
    page, text = side_by_side(
        ("F16", "Q2_K"), ["The", " sea", " is", " blue"], ["The", " sea", " was", " blue"]
    )
    assert text.splitlines()[:2] == ["F16: The sea⟦ is⟧ blue", "Q2_K: The sea⟦ was⟧ blue"]
    assert "The sea<mark>⟦ is⟧</mark> blue" in page
    assert text.endswith("the first 2 tokens are the same; ⟦…⟧ is in one answer only")
    ET.fromstring(f"<div>{page}</div>")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (["a", "b"], ["a", "b"], "the same answer, 2 tokens"),
        (["a"], ["a", "b"], "the first 1 tokens"),
        ([], [], "the same answer, 0 tokens"),
        (["x"], ["y"], "the first 0 tokens"),
    ],
)
def test_where_answers_part(one: list[str], other: list[str], said: str) -> None:
    assert parting(one, other).startswith(said)


def test_right_to_left_text_has_its_own_direction() -> None:
    page, _ = side_by_side(("a", "b"), ["שלום"], ["مرحبا"])
    assert page.count('dir="auto"') == 2 and page.count("unicode-bidi:plaintext") == 2


def test_weights_are_unpacked_as_our_own_arithmetic_does() -> None:
    with load("nano", "llamacpp", "Q8_0", threads=1) as model:
        path = Path(str(model.engine.file))
    name, weights = read_weights(path, "ffn_up", most=4_096)
    ours = dequantize_q8_0(read_blocks(path, name)[1])
    assert weights.size == 4_096 and np.array_equal(weights.ravel(), ours.ravel()[:4_096])
    with pytest.raises(ModelNotFound, match="no matrix 'ffn_sideways'"):
        read_weights(path, "ffn_sideways")


def test_it_is_text_without_a_front_end_and_small(table: LevelTable) -> None:
    explorer = QuantExplorer("nano", table)
    bundle = explorer._repr_mimebundle_()
    assert "KL [nats]" in bundle["text/plain"] and "<svg " in bundle["text/html"]
    assert "nano &lt;b&gt;" in bundle["text/html"] and "nano <b>" not in bundle["text/html"]
    controls = (explorer.first, explorer.second, explorer.prompt)
    assert [control.description for control in controls] == ["First level", "Second level", "Prompt"]
    assert len(json.dumps(dependency_state([explorer], drop_defaults=True))) < 14_000
    assert len(json.dumps(bundle)) < 14_000
