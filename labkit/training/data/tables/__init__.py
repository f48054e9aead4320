"""Read the word lists and tool families, which are text files in this folder.

A family reads: `@key : verbs : nouns` (keys with the same first part are close relatives), then a line each:

    # a description of the tool
    ! a required parameter, ? an optional one: slot = type kind : names : descriptions : fragments
    > a request, - a request that lacks something
    = the keys and kinds of a result

`(a|b)` is a choice, `{slot}` a value. A request ending in `?` is a question, one ending in `.` a statement, any
other one an order, to be wrapped politely.
"""

from __future__ import annotations

from importlib.resources import files


def blocks(name: str) -> list[str]:
    """Return the blocks of one table, each without the `@` it begins with."""
    return files(__name__).joinpath(f"{name}.txt").read_text("utf-8").split("@")[1:]
