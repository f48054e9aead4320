"""A trace shows a real exchange with its tool call, as text, as a picture and as a tree."""

import json
import xml.etree.ElementTree as ET

import pytest

from labkit import load
from labkit.errors import OptionInvalid
from labkit.metrics.trace import Event
from labkit.types import Usage
from labkit.widgets import AgentTrace, Chat

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rain in {city}"


def exchange() -> Event:
    with load("nano", "echo", script=[CALL, "It rains."], delay=0.01) as model:
        chat = Chat(model, tools=[get_weather])
        chat.ask("The weather in Oslo?")
        chat.wait()
        return chat.exchange.trace


def page(trace: AgentTrace) -> ET.Element:
    text = trace._repr_mimebundle_()["text/html"].replace("<details open ", "<details ")
    return ET.fromstring(f"<div>{text.replace('<br>', '<br/>')}</div>")


def test_a_tool_calling_exchange_is_a_timeline_and_a_tree() -> None:
    event = exchange()
    trace = AgentTrace(event)
    found = page(trace)
    assert len(found.findall("svg/rect")) == len(found.findall(".//details")) == 4
    assert [s.text.split(":")[0] for s in found.findall(".//summary") if s.text] == [
        "run chat",
        "model nano",
        "tool get_weather",
        "model nano",
    ]
    assert len(found.findall("details/details")) == 3
    assert "rain in Oslo" in "".join(found.itertext())
    svg = found.find("svg")
    assert svg is not None and svg.get("role") == "img" and "4 events" in str(svg.get("aria-label"))
    assert repr(trace).count("\n  model nano") == 2


def test_events_follow_one_another_within_the_run() -> None:
    event = exchange()
    first, tool, last = event.children
    assert first.start + first.seconds <= tool.start + 1e-3 and tool.start + tool.seconds <= last.start + 1e-3
    assert last.start + last.seconds <= event.seconds + 1e-3
    used = event.total()
    assert used.completion_tokens == first.tokens.completion_tokens + last.tokens.completion_tokens


def test_bars_stay_in_the_picture() -> None:
    for bar in page(AgentTrace(exchange())).findall("svg/rect"):
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= 642.1


def test_cost_is_quoted_from_a_price_list_that_is_named() -> None:
    run = Event("run", "a", 0, 1, children=(Event("model", "m", 0, 1, Usage(10**6, 0)),))
    shown = repr(AgentTrace(run, price="gpt-4o"))
    assert "would cost 2.500000 USD" in shown and "quoted" in shown and "http" in shown
    with pytest.raises(OptionInvalid, match="gpt-none"):
        AgentTrace(run, price="gpt-none")


def test_handoffs_nest_and_close_again() -> None:
    turn = Event("model", "m", 0.2, 0.1, Usage(3, 4))
    other = Event("handoff", "planner", 0.1, 0.5, children=(turn, Event("tool", "t", 0.3, 0.1)))
    found = page(AgentTrace(Event("run", "a", 0, 1, children=(other, Event("tool", "u", 0.7, 0.1)))))
    assert len(found.findall("details/details/details")) == 2 and len(found.findall("details/details")) == 2


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\x1b[31m", "x" * 10**6]
)
def test_what_events_say_is_escaped_and_cut(text: str) -> None:
    run = Event(
        "run", text, 0, 1, text=text, children=tuple(Event("tool", text, 0, 0, text=text) for _ in range(9))
    )
    bundle = AgentTrace(run)._repr_mimebundle_()
    assert "<script" not in bundle["text/html"] and "<img" not in bundle["text/html"]
    assert "\x1b" not in bundle["text/html"] + bundle["text/plain"]
    assert len(json.dumps(bundle)) < 20_000


def test_a_long_run_is_cut_and_says_so() -> None:
    run = Event("run", "a", 0, 9, children=tuple(Event("tool", f"t{n}", n / 100, 0.001) for n in range(900)))
    trace = AgentTrace(run)
    assert "801 more events are not shown" in repr(trace)
    assert len(json.dumps(trace._repr_mimebundle_())) < 60_000


def test_an_empty_run_has_a_picture() -> None:
    assert len(page(AgentTrace(Event("run", "nothing", 0, 0))).findall("svg/rect")) == 1
