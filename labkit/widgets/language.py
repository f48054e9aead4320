"""Say what a widget says in the language of its reader: `LABKIT_LANG`, or that of the folder `labs/zh` it runs in.

English stands in the code and is the key; `messages/zh.json` and its like hold the rest. What the library or a model
says (errors, names of levels, answers) stays as it is.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

MESSAGES = Path(__file__).parent / "messages"
LANGUAGES = ("ar", "ms", "zh")


def language() -> str:
    """Return the language of widgets: "ar", "ms" or "zh", and "en" where none of these is wanted."""
    here = Path.cwd()
    chosen = os.environ.get("LABKIT_LANG") or (here.name if here.parent.name == "labs" else "")
    return next((name for name in LANGUAGES if chosen.lower().startswith(name)), "en")


def tr(message: str, **values: object) -> str:
    """Return a message in the reader's language, with its `{values}` filled in; what is not known stays as it is."""
    text = _catalog(language()).get(message, message)
    # A name or a path among Arabic words keeps its own direction: isolated (Unicode FSI, PDI).
    if right_to_left():
        values = {k: v if isinstance(v, int | float) else f"\u2068{v}\u2069" for k, v in values.items()}
    return text.format(**values) if values else text


def right_to_left() -> bool:
    """Return whether the reader's language runs from right to left."""
    return language() == "ar"


def turned(page: str) -> str:
    """Return a piece of HTML in the direction of the reader's language; pictures keep theirs."""
    if not right_to_left():
        return page
    page = page.replace("<svg ", '<svg direction="ltr" ')
    return f'<div dir="rtl" lang="{language()}">{page}</div>'


@cache
def _catalog(name: str) -> dict[str, str]:
    if name not in LANGUAGES:
        return {}
    found: dict[str, str] = json.loads((MESSAGES / f"{name}.json").read_text(encoding="utf-8"))
    return found
