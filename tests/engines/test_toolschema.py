"""Python functions become OpenAI tools."""

import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from labkit.engines.toolschema import tool_schema, tool_schemas
from labkit.errors import OptionInvalid


class Mode(Enum):
    ECO = "eco"
    BOOST = "boost"


def book(
    day: str,
    seats: int,
    price: float | None = None,
    quiet: bool = False,
    seat: Literal["aisle", "window"] = "aisle",
    names: list[str] | None = None,
    mode: Mode = Mode.ECO,
    note: Annotated[str, "Said to the driver"] = "",
) -> str:
    """Book seats on a train.

    Args:
        day: Date as YYYY-MM-DD
        seats (int): How many
    """
    return f"{day} {seats} {price} {quiet} {seat} {names} {mode} {note}"


def test_every_hint_becomes_its_schema() -> None:
    function = tool_schema(book)["function"]
    assert function["name"] == "book"
    assert function["description"] == "Book seats on a train."
    assert function["parameters"] == {
        "type": "object",
        "properties": {
            "day": {"type": "string", "description": "Date as YYYY-MM-DD"},
            "seats": {"type": "integer", "description": "How many"},
            "price": {"type": "number"},
            "quiet": {"type": "boolean"},
            "seat": {"type": "string", "enum": ["aisle", "window"]},
            "names": {"type": "array", "items": {"type": "string"}},
            "mode": {"type": "string", "enum": ["eco", "boost"]},
            "note": {"type": "string", "description": "Said to the driver"},
        },
        "required": ["day", "seats"],
    }


def test_ready_dicts_come_out_in_one_form() -> None:
    """A missing description is empty, and the keys stand in one order: every engine then shows one prompt."""
    tool = {"function": {"strict": True, "parameters": {"type": "object"}, "name": "a.b-c"}}
    made = tool_schemas([tool])
    written = {"name": "a.b-c", "description": "", "parameters": {"type": "object"}, "strict": True}
    assert json.dumps(made) == json.dumps([{"type": "function", "function": written}])
    assert tool_schemas(made) == made


def untyped(city):  # type: ignore[no-untyped-def]
    """Do nothing."""


def starred(*cities: str) -> None:
    """Do nothing."""


def strange(city: complex) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "tools",
    [
        [untyped],
        [starred],
        [strange],
        [lambda city: city],
        [book, book],
        book,
        "book",
        [{"name": "x"}],
        [{"type": "function", "function": {"name": "drop table;"}}],
        [{"type": "function", "function": {"name": "x", "parameters": []}}],
        [3],
    ],
)
def test_what_is_no_tool_is_refused_with_a_remedy(tools: Any) -> None:
    with pytest.raises(OptionInvalid) as caught:
        tool_schemas(tools)
    assert caught.value.fix
