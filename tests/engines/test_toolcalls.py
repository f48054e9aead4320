"""Tool calls are read out of text however it is cut."""

import json

import pytest

from labkit.engines.stops import StopReader
from labkit.engines.toolcalls import ToolCallReader
from labkit.types import ToolCall

CALL = '<tool_call>\n{"name": "go", "arguments": {"to": "Ålesund 東京", "deep": {"a": [1, "<b>"]}}}\n</tool_call>'
ARGUMENTS = {"to": "Ålesund 東京", "deep": {"a": [1, "<b>"]}}


def read(pieces: list[str]) -> tuple[str, list[ToolCall]]:
    reader = ToolCallReader()
    text, calls = "", []
    for piece in pieces:
        prose, found = reader.feed(piece)
        text, calls = text + prose, calls + list(found)
    prose, found = reader.finish()
    return text + prose, calls + list(found)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_any_cut_gives_the_same(size: int) -> None:
    whole = f"a < b {CALL}\n{CALL} end"
    text, calls = read([whole[i : i + size] for i in range(0, len(whole), size)])
    assert text == "a < b \n end"
    assert calls == [ToolCall("go", ARGUMENTS, "call_0"), ToolCall("go", ARGUMENTS, "call_1")]


def test_prose_is_passed_on_at_once() -> None:
    reader = ToolCallReader()
    assert reader.feed("Hello ") == ("Hello ", ())
    assert reader.feed("1 < 2") == ("1 < 2", ())
    assert reader.feed("<tool") == ("", ())
    assert reader.feed("box>") == ("<toolbox>", ())


def test_a_call_cut_off_before_its_closing_tag_still_counts() -> None:
    text, calls = read([CALL.removesuffix("</tool_call>")])
    assert (text, len(calls)) == ("", 1)


@pytest.mark.parametrize(
    "body",
    ["", "{", "[1]", '{"name": 3}', '{"name": "x", "arguments": "y"}', "[" * 100_000, '{"name": "x"'],
)
def test_what_does_not_parse_stays_text(body: str) -> None:
    whole = f"<tool_call>{body}</tool_call>"
    assert read([whole]) == (whole, [])


def test_a_call_speaks_openai() -> None:
    spoken = ToolCall("go", ARGUMENTS, "call_0").openai()
    assert spoken["id"] == "call_0"
    assert json.loads(spoken["function"]["arguments"]) == ARGUMENTS


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_stop_string_ends_the_text_however_it_is_cut(size: int) -> None:
    whole, reader, shown, stopped = "one STO two STOP three", StopReader(("STOP",)), "", False
    for at in range(0, len(whole), size):
        text, stopped = reader.feed(whole[at : at + size])
        shown += text
        if stopped:
            break
    assert stopped
    assert shown == "one STO two "
