"""What stands around an agent of Agent Framework: audit, guard, mask, approval, limits, and what its trace tells."""

import asyncio
import gc
import json
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Agent, AgentSession, tool

from labkit import Model, load
from labkit.agents.framework import ChatClient
from labkit.agents.limits import AtMost, run_approved
from labkit.agents.middleware import Audit, Guard, Mask
from labkit.agents.spans import event, record
from labkit.errors import OptionInvalid
from labkit.types import ToolCall


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def echo(*script: str, **options: Any) -> Model:
    return load("nano", engine="echo", script=list(script), **options)


def look_up(order: str) -> str:
    """Look up an order."""
    if order == "broken":
        raise RuntimeError("no such order")
    return f"{order}: card 1234-5678"


def heard(model: Model) -> list[list[dict[str, Any]]]:
    """Return a list that fills with what the model reads."""
    turns: list[list[dict[str, Any]]] = []
    ask = model.engine.stream
    model.engine.stream = lambda read, *rest: (turns.append(list(read)), ask(read, *rest))[1]  # type: ignore[method-assign,func-returns-value]
    return turns


def run(model: Model, *middleware: Any, tools: Any = (look_up,), text: str = "go") -> Any:
    return asyncio.run(Agent(ChatClient(model), tools=list(tools), middleware=list(middleware)).run(text))


def test_the_audit_has_every_call_also_the_refused_and_the_failed(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    script = [
        call("look_up", order="A1"),
        call("look_up", order="X"),
        call("look_up", order="broken"),
        "done",
    ]
    run(echo(*script), audit, Guard(lambda _, given: "not X" if given["order"] == "X" else None))
    rows = audit.rows()
    assert [row["arguments"]["order"] for row in rows] == ["A1", "X", "broken"]
    assert [row["result"] for row in rows] == ["A1: card 1234-5678", "Refused: not X", ""]
    assert "RuntimeError: no such order" in rows[2]["error"] and rows[0]["error"] == ""
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_a_guard_refuses_replaces_and_lets_pass() -> None:
    def rule(name: str, given: dict[str, Any]) -> Any:
        return {"a": "no a", "b": {"order": "B"}, "c": None, "d": ""}[given["order"]]

    model = echo(*(call("look_up", order=name) for name in "abcd"), "done")
    turns = heard(model)
    run(model, Guard(rule))
    results = [turn["content"] for turn in turns[-1] if turn["role"] == "tool"]
    assert results == ["Refused: no a", "B: card 1234-5678", "c: card 1234-5678", "d: card 1234-5678"]


def test_a_rule_that_fails_lets_nothing_pass() -> None:
    asked: list[str] = []

    def spy(order: str) -> str:
        """Note the order."""
        asked.append(order)
        return "ok"

    run(echo(call("spy", order="A1"), "done"), Guard(lambda _, given: given["amount"]), tools=[spy])
    assert asked == []


def test_a_mask_hides_from_the_model_and_not_from_the_session() -> None:
    async def go() -> tuple[list[dict[str, Any]], str]:
        model = echo(call("look_up", order="A1"), "done")
        turns = heard(model)
        agent = Agent(ChatClient(model), tools=[look_up], middleware=[Mask(r"\d{4}-\d{4}", "****")])
        session = agent.create_session()
        await agent.run("My card is 9999-0000.", session=session)
        return turns[-1], json.dumps(session.to_dict())

    turns, saved = asyncio.run(go())
    assert [turn["content"] for turn in turns] == ["My card is ****.", "", "A1: card ****"]
    assert "9999-0000" in saved and "1234-5678" in saved


def test_a_mask_leaves_the_form_of_messages_alone() -> None:
    model = echo(call("look_up", order="A1"), "done")
    turns = heard(model)
    run(model, Mask(r"\w+", "x"), text="hello you")
    assert [(turn["role"], turn["content"]) for turn in turns[-1]] == [
        ("user", "x x"),
        ("assistant", ""),
        ("tool", "x: x x-x"),
    ]


def shop() -> tuple[list[float], Any]:
    paid: list[float] = []

    @tool(approval_mode="always_require")
    def refund(amount: float) -> str:
        """Refund money."""
        paid.append(amount)
        return f"refunded {amount}"

    return paid, refund


@pytest.mark.parametrize(("said", "expected"), [(True, [20.0]), (False, []), (1, []), ("yes", [])])
def test_only_true_lets_a_call_run(said: Any, expected: list[float]) -> None:
    paid, refund = shop()
    agent = Agent(ChatClient(echo(call("refund", amount=20), "done")), tools=[refund])
    asked: list[ToolCall] = []
    response = asyncio.run(
        run_approved(agent, "please", lambda each: (asked.append(each), said)[1], AgentSession())  # type: ignore[func-returns-value]
    )
    assert paid == expected and response.text == "done"
    assert [(each.name, each.arguments) for each in asked] == [("refund", {"amount": 20})]


def test_a_model_that_asks_for_ever_is_given_up() -> None:
    paid, refund = shop()
    agent = Agent(ChatClient(echo(*[call("refund", amount=n) for n in range(20)])), tools=[refund])
    response = asyncio.run(run_approved(agent, "please", lambda each: False, AgentSession(), rounds=3))
    assert paid == [] and len(response.user_input_requests) == 1


def test_an_approval_may_come_after_a_restart() -> None:
    async def go() -> list[float]:
        paid, refund = shop()
        session = AgentSession()
        first = Agent(ChatClient(echo(call("refund", amount=5))), tools=[refund])
        request = (await first.run("please", session=session)).user_input_requests[0]
        session = AgentSession.from_dict(json.loads(json.dumps(session.to_dict())))
        second = Agent(ChatClient(echo("done")), tools=[refund])
        from agent_framework import Message

        await second.run(Message("user", [request.to_function_approval_response(True)]), session=session)
        return paid

    assert asyncio.run(go()) == [5.0]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("stream", [False, True])
def test_at_most_so_many_run_at_a_time(limit: int, stream: bool) -> None:
    gate = AtMost(limit)

    async def one() -> None:
        agent = Agent(ChatClient(echo("one two", delay=0.02)), middleware=[gate])
        if stream:
            async for _ in agent.run("go", stream=True):
                pass
        else:
            await agent.run("go")

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(5)))

    for _ in range(2):  # in a second event loop, too
        asyncio.run(all_of_them())
    assert (gate.most, gate.running) == (limit, 0)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2"])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(OptionInvalid, match="whole number"):
        AtMost(limit)


def test_a_failed_run_gives_its_place_back() -> None:
    gate, model = AtMost(1), echo("x")
    model.close()
    for _ in range(2):
        with pytest.raises(Exception, match="closed"):
            asyncio.run(Agent(ChatClient(model), middleware=[gate]).run("go"))
    assert gate.running == 0


def test_a_stream_that_nobody_reads_on_gives_its_place_back() -> None:
    gate = AtMost(1)

    async def go() -> str:
        agent = Agent(ChatClient(echo("one two three", "four")), middleware=[gate])
        async for _ in agent.run("go", stream=True):
            break
        gc.collect()
        return (await asyncio.wait_for(agent.run("go"), 20)).text

    assert asyncio.run(go()) == "four" and gate.running == 0


def test_spans_become_a_tree_of_events() -> None:
    with record(texts=True) as spans:
        run(echo(call("look_up", order="A1"), "two words"))
    found = event(spans)
    assert [(depth, each.kind, each.name) for depth, each in found.walk()][1:] == [
        (1, "model", "nano"),
        (1, "tool", "look_up"),
        (1, "model", "nano"),
    ]
    assert found.kind == "run" and found.tokens.total_tokens == 0 < found.total().completion_tokens
    assert "A1" in found.children[1].text and "two words" in found.children[2].text
    ends = [each.start + each.seconds for each in found.children]
    assert ends == sorted(ends) and found.seconds >= ends[-1] - 1e-6


def test_words_are_kept_only_where_they_were_asked_for() -> None:
    with record() as spans:
        run(echo(call("look_up", order="A1"), "done"))
    assert "A1" not in repr([dict(span.attributes or {}) for span in spans])
    run(echo("later"))
    count = len(spans)
    with record() as more:
        run(echo("later"))
    assert len(spans) == count and more


def test_no_span_and_many_runs_are_one_event() -> None:
    assert event([]).children == ()
    with record() as spans:
        run(echo("a"))
        run(echo("b"))
    assert [each.kind for each in event(spans).children] == ["run", "run"]
