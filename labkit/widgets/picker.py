"""Choose an engine, a model and a level; see what fits this machine, and why the rest does not; load it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import ipywidgets

from labkit.engines.base import Model
from labkit.engines.choice import Choice, choose_level, engines_here, levels_of, problem
from labkit.engines.registry import load
from labkit.errors import LabkitError, OptionInvalid
from labkit.models.catalog import catalog
from labkit.models.fit import size
from labkit.models.hardware import memory
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr
from labkit.widgets.progress import Progress


class ModelPicker(Frame):
    """Choose and load a model: `.model` is then ready to chat. `options` are the engine's, as in `threads=1`.

    Load downloads or makes what is missing, and closes the model that it loaded before, to free its memory.
    """

    def __init__(self, engine: str = "", name: str = "nano", **options: Any) -> None:
        self.options, self.cards = options, catalog()
        self.loaded: Model | None = None
        self.engines, self.models, self.levels = (_dropdown(n) for n in ("Engine", "Model", "Level"))
        self.facts = ipywidgets.HTML()
        self.bar = Progress(lambda: self.stopping.is_set(), size, "Load goes on from there")
        row = buttons({"Load": self.load, "Cancel": self.stop})
        super().__init__("Pick a model", [self.engines, self.models, self.levels, self.facts, row, self.bar])
        _offer(self.engines, engines_here(engine), engine)
        self._list_models(name)
        self.engines.observe(lambda _: self._list_models(), "value")
        self.models.observe(lambda _: self._list_levels(), "value")
        self.levels.observe(lambda _: self.show(), "value")

    @property
    def choice(self) -> Choice:
        """Return what is chosen, judged against this machine as it is now."""
        card = self.cards[self.models.value]
        return choose_level(str(self.engines.value), card, str(self.levels.value))

    @property
    def model(self) -> Model:
        """Return the model that was loaded; raise `OptionInvalid` as long as there is none."""
        if self.loaded is None:
            raise OptionInvalid(f"no model is loaded yet: {self.said}", fix="press Load, then run this again")
        return self.loaded

    def load(self) -> None:
        """Get what is chosen and load it, in a thread."""
        choice = self.choice
        if choice.why_not:
            return self.say("cannot be loaded: {why}", why=choice.why_not)
        self.work(lambda: self._load(choice))

    def show(self) -> None:
        """Show what is chosen, what it needs, and whether it can be loaded."""
        facts = ((name, html.escape(text)) for name, text in self.choice.facts.items())
        rows = (f'<tr><th scope="row">{tr(name)}</th><td>{text}</td></tr>' for name, text in facts)
        self.facts.value = f"<table>{''.join(rows)}</table>"

    def _list_models(self, wanted: str = "") -> None:
        engine, free = str(self.engines.value), memory()[1]
        reasons = {name: problem(engine, card, free) for name, card in self.cards.items()}
        _offer(self.models, reasons, wanted)
        self._list_levels()

    def _list_levels(self) -> None:
        engine, card = str(self.engines.value), self.cards[self.models.value]
        reasons = {level: choose_level(engine, card, level).why_not for level in levels_of(engine, card)}
        _offer(self.levels, reasons, card.default_variant)
        self.show()

    def _load(self, choice: Choice) -> None:
        if self.loaded:
            self.loaded.close()
            self.loaded = None
        model, level, engine = choice.card.alias, choice.level, choice.engine
        self.say("getting {model} {level} for {engine} …", model=model, level=level, engine=engine)
        choice.fetch(self.bar.step)
        loaded = load(model, engine, level, **self.options)
        if self.stopping.is_set():
            loaded.close()
            raise LabkitError("cancelled: nothing is loaded")
        self.loaded = loaded
        self.show()
        self.say("loaded: {model}", model=f"{loaded!r}")

    def __repr__(self) -> str:
        facts = (f"  {tr(name):<8} {text}" for name, text in self.choice.facts.items())
        return "\n".join([super().__repr__(), *facts])


def _dropdown(name: str) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(description=tr(name), layout={"width": "auto", "max_width": "100%"})


def _offer(control: ipywidgets.Dropdown, reasons: Mapping[str, str], wanted: str = "") -> None:
    """List names, each with the reason why it cannot be chosen; keep what is chosen, or else take `wanted`."""
    kept = control.value if control.value in reasons else wanted if wanted in reasons else next(iter(reasons))
    control.options = [(f"{name} ({why})" if why else name, name) for name, why in reasons.items()]
    control.value = kept
