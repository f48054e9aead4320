"""The report of `labkit doctor` as a table, with what to type where something is missing."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import ipywidgets

from labkit.engines.doctor import doctor, tried
from labkit.engines.report import Report
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr
from labkit.widgets.log import plain

MAX_TEXT = 500
HEADS = ("what", "name", "found", "what to type")


class Doctor(Frame):
    """Show what this machine has, in words; "Try every engine" lets each generate a token, in a thread."""

    def __init__(self, report: Report | None = None) -> None:
        self.report, self.table = report or doctor(), ipywidgets.HTML()
        actions = {"Look again": self._look, "Try every engine": self._try}
        row = {name: lambda task=task: self.work(task) for name, task in actions.items()}
        self.row = buttons({**row, "Stop": self.stop})
        super().__init__("What this machine has", [self.table, self.row])
        self._show()

    def _look(self) -> None:
        self.report = doctor()
        self._show()

    def _try(self) -> None:
        for place, state in enumerate(self.report.engines):
            if self.stopping.is_set():
                return self.say("stopped before {name}", name=state.name)
            if state.runs_models and state.found.installed:
                self.say("trying {name} …", name=state.name)
                engines = list(self.report.engines)
                engines[place] = tried(state)
                self.report = replace(self.report, engines=tuple(engines))
                self._show()
        self.report = replace(self.report, deep=True)
        self._show()

    def _show(self) -> None:
        fixes = {("engines", e.name): e.found.fix for e in self.report.engines if not e.works}
        fixes["cache", "folder"] = self.report.cache.fix
        rows = ((*row, fixes.get(row[:2], "")) for row in self.report.rows())
        body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
        head = "".join(f'<th scope="col" style="text-align:start">{tr(name)}</th>' for name in HEADS)
        self.table.value = (
            '<div style="overflow-x:auto;line-height:1.6" role="region" tabindex="0" '
            f'aria-label="{tr("What this machine has")}"><table><tr>{head}</tr>{body}</table></div>'
        )
        sure = "Ready." if self.report.deep else "Ready, as far as can be seen without trying."
        state = sure if self.report.ok else "Not ready."
        self.say("\n".join([tr(state), *map(str, self.report.problems)]))

    def __repr__(self) -> str:
        return plain(str(self.report))


def _cells(row: tuple[str, str, str, str]) -> str:
    topic, name, found, fix = (escape(plain(cell, MAX_TEXT)) for cell in row)
    typed = f"<code>{fix}</code>" if fix else ""
    return f'<td>{topic}</td><th scope="row" style="text-align:start">{name}</th><td>{found}</td><td>{typed}</td>'
