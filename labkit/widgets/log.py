"""Text that a model, a tool or a file wrote, made safe to show: as text, never as markup, and cut to what fits."""

from __future__ import annotations

import re

import anywidget
import traitlets

from labkit.widgets.language import tr

LONGEST = 10_000
TERMINAL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b]*\x07?|.?)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Jupyter's own variables follow its theme; nothing here moves by itself, so there is no motion to reduce.
STYLE = """
.labkit, .labkit-log { color: var(--jp-ui-font-color1, CanvasText); }
.labkit td, .labkit th { text-align: start; padding: 1px 12px 1px 0; }
.labkit-log { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24em; overflow-y: auto;
  line-height: 1.4; }
.labkit-log[role=log] { border-inline-start: 3px solid; padding-inline: .8em; min-height: 3em; }
.labkit-log div + div { margin-top: .4em; }
.labkit-log span { display: block; unicode-bidi: plaintext; }
.labkit-log b:empty { display: none; }
.labkit-rtl { direction: rtl; }
.labkit-rtl svg, .labkit-rtl code { direction: ltr; unicode-bidi: isolate; }
.labkit .widget-html-content { line-height: 1.5; min-width: 0; }
"""
SCRIPT = """export default { render({ model, el }) {
  const box = document.createElement("div"), role = model.get("role");
  box.className = "labkit-log";
  box.setAttribute("role", role);
  box.setAttribute("aria-label", model.get("label"));
  if (role === "log") box.tabIndex = 0;  // what scrolls must be within the keyboard's reach
  el.append(box);
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const show = () => {
    const blocks = model.get("blocks"), tail = model.get("tail");
    while (box.children.length > blocks.length) box.lastChild.remove();
    blocks.forEach(([head, text], n) => {
      if (!box.children[n]) {
        box.append(document.createElement("div"));
        box.children[n].append(document.createElement("b"), document.createElement("span"));
      }
      put(box.children[n].firstChild, head);
      put(box.children[n].lastChild, n === blocks.length - 1 ? text + tail : text);
    });
    box.setAttribute("aria-busy", model.get("busy"));  // read aloud when it is whole, not word by word
    box.scrollTop = box.scrollHeight;
  };
  for (const name of ["blocks", "tail", "busy"]) model.on(`change:${name}`, show);
  show();
} };"""


def plain(text: str, longest: int = LONGEST) -> str:
    """Return text without terminal codes and control characters, cut to what a page can hold."""
    kept = TERMINAL.sub("", text[:longest])
    more = len(text) - longest
    return f"{kept} {tr('… ({n:,} more characters)', n=more)}" if more > 0 else kept


class Log(anywidget.AnyWidget):
    """Show blocks of [heading, text], read aloud as they come; `tail` grows the last one. Markup stays text."""

    _esm, _css = SCRIPT, STYLE
    blocks: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    tail = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)
    role = traitlets.Unicode("log").tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
