"""Every text of a widget is known in every language, with the same places for values."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import ipywidgets
import pytest

from labkit import load
from labkit.agents.taxonomy.episode import play
from labkit.agents.taxonomy.language import Row
from labkit.agents.taxonomy.thermostat import Room
from labkit.engines.choice import choose_level
from labkit.models.catalog import catalog
from labkit.widgets import (
    AgentTrace,
    Chat,
    Doctor,
    EngineRace,
    LiveMetrics,
    ModelPicker,
    QuantExplorer,
    Timeline,
    doctor,
    language,
    sparklines,
    training_curve,
    worlds,
)
from labkit.widgets.charts import bars
from labkit.widgets.language import LANGUAGES, MESSAGES, tr
from labkit.widgets.log import Log

CODE = [ast.parse(path.read_text(encoding="utf-8")) for path in MESSAGES.parent.glob("*.py")]
CATALOGS = {name: json.loads((MESSAGES / f"{name}.json").read_text(encoding="utf-8")) for name in LANGUAGES}


def said() -> Iterator[str]:
    """Yield every English text that is handed to `tr`, `say`, `buttons` or a frame's title."""
    for node in (node for tree in CODE for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ("tr", "say", "__init__", "_dropdown", "buttons"):
            for part in node.args[:1]:
                found = (
                    [part.body, part.orelse] if isinstance(part, ast.IfExp) else getattr(part, "keys", [part])
                )
                yield from (
                    p.value for p in found if isinstance(p, ast.Constant) and isinstance(p.value, str)
                )
    yield from (*doctor.HEADS, *worlds.HEADS, *sparklines.NAMES.values(), *training_curve.TITLES.values())
    yield from (name for name, *_ in worlds.SIGNS.values())
    yield from choose_level("llamacpp", catalog()["nano"], "Q4_K_M").facts


def places(message: str) -> set[tuple[str | None, str | None, str | None]]:
    return {place[1:] for place in Formatter().parse(message) if place[1]}


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_message_is_translated_with_the_same_places(name: str) -> None:
    found = CATALOGS[name]
    assert set(said()) - set(found) == set()
    assert [m for m, text in found.items() if places(m) != places(text) or not text.strip()] == []
    assert [m for m, text in found.items() if re.findall(r"\d+", m) != re.findall(r"\d+", text)] == []


def test_no_translation_is_left_over() -> None:
    texts = {n.value for tree in CODE for n in ast.walk(tree) if isinstance(n, ast.Constant)} | set(said())
    composed = {"recorded as good in {path}", "recorded as bad in {path}"}
    assert all(set(found) - texts == composed for found in CATALOGS.values())


def test_the_language_is_the_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for wanted, got in (("", "en"), ("zh", "zh"), ("zh_CN.UTF-8", "zh"), ("AR", "ar"), ("fr", "en")):
        monkeypatch.setenv("LABKIT_LANG", wanted)
        assert language.language() == got
    monkeypatch.delenv("LABKIT_LANG")
    folder = tmp_path / "labs" / "ms"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert language.language() == "ms" and tr("Stop") == "Henti"
    assert tr("{done} of {total}", done=1, total=2) == "1 daripada 2"
    assert tr("what nobody translated {yet}") == "what nobody translated {yet}"


def texts(widget: ipywidgets.Widget) -> Iterator[str]:
    """Yield what a reader sees or hears of a widget and all within it."""
    for child in getattr(widget, "children", ()):
        yield from texts(child)
    if isinstance(widget, Log):
        yield widget.label
    elif isinstance(widget, ipywidgets.Button | ipywidgets.Text | ipywidgets.Dropdown):
        yield widget.description


@pytest.mark.parametrize("name", ["ar", "zh"])
def test_widgets_speak_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LABKIT_LANG", name)
    with load("nano", "echo") as m:
        exchange = Chat(m)
        exchange.ask("Hello")
        exchange.wait()
        pages = [Timeline(m.chat("Hello")), AgentTrace(exchange.exchange.trace), bars({"a": 1.0}, "t", "u")]
        frames = [exchange, Doctor(), EngineRace([m]), LiveMetrics(), ModelPicker(), QuantExplorer()]
    frames[3].stop()
    frames[3].wait()
    assert [text for frame in frames for text in texts(frame) if re.fullmatch(r"[ -~]+", text)] == []
    assert [frame.title for frame in frames if re.fullmatch(r"[ -~]+", frame.title)] == []
    assert all(("labkit-rtl" in frame._dom_classes) == (name == "ar") for frame in frames)
    turned = [page._repr_mimebundle_()["text/html"].startswith('<div dir="rtl"') for page in pages]
    assert turned == [name == "ar"] * len(pages)


def test_a_comparison_and_a_world_speak_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_LANG", "ms")
    shown = repr(worlds.Comparison((Row("room", "classical", 1, 2, 0.1, 3.0),)))
    assert (
        shown.startswith("Keputusan, diukur pada mesin ini") and "bahagian (selang keyakinan 95 %)" in shown
    )
    room = Room()
    picture = worlds.view(room, lambda percept: 0, list(play(room, lambda percept: 0)))
    assert picture.x_title == "minit" and "pemanas bertukar 0 kali" in picture.title
