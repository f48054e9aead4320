"""Rollouts: agents of five makes run unchanged against the recording endpoint, and what is kept of them is true."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'labkit[serve]'")

import openai

from labkit import Model, load
from labkit.engines.toolschema import tool_schemas
from labkit.errors import LabkitError, OptionInvalid, StorageFailed, TrainingFailed
from labkit.training.rollouts import (
    Recorder,
    Rollout,
    RolloutServer,
    Turn,
    examples,
    only,
    read_rollouts,
    write_rollouts,
)
from labkit.types import Usage

QUESTION = "What is the weather in Łódź?"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>'
ANSWER = "It is 3 °C in Łódź."


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: 3 °C"


def echo(*script: str, **options: Any) -> Model:
    return load("nano", engine="echo", script=list(script), **options)


def client(recorder: Recorder) -> openai.OpenAI:
    return openai.OpenAI(base_url=recorder.url, api_key=recorder.key, max_retries=0)


def by_plain_python(recorder: Recorder) -> str:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        with client(recorder) as link:
            asked = link.chat.completions.create(
                model="nano", messages=messages, tools=tool_schemas([get_weather])
            )
        message = asked.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            result = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def by_streams(recorder: Recorder) -> str:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    tools = tool_schemas([get_weather])
    for _ in range(2):
        text, calls, used = "", dict[int, Any](), 0
        with client(recorder) as link:
            for event in link.chat.completions.create(
                model="nano",
                messages=messages,
                tools=tools,
                stream=True,
                stream_options={"include_usage": True},
            ):
                used = event.usage.total_tokens if event.usage else used
                for choice in event.choices:
                    text += choice.delta.content or ""
                    calls |= {call.index: call for call in choice.delta.tool_calls or ()}
        assert used > 0
        made = [{"id": c.id, "type": "function", "function": c.function.model_dump()} for c in calls.values()]
        messages.append({"role": "assistant", "content": text, **({"tool_calls": made} if made else {})})
        for call in made:
            result = get_weather(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return text


def by_agent_framework(recorder: Recorder) -> str:
    framework = pytest.importorskip("agent_framework")
    from agent_framework.openai import OpenAIChatCompletionClient

    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=recorder.url, api_key=recorder.key) as link:
            asked = OpenAIChatCompletionClient(model="nano", async_client=link)
            return str((await framework.Agent(asked, tools=[get_weather]).run(QUESTION)).text)

    return asyncio.run(run())


def by_langgraph(recorder: Recorder) -> str:
    pytest.importorskip("langgraph", reason="needs LangGraph: pip install 'labkit[compare]'")
    from langchain_openai import ChatOpenAI
    from langgraph.graph import MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    asked = ChatOpenAI(model="nano", api_key=recorder.key, base_url=recorder.url).bind_tools([get_weather])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [asked.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([get_weather]))
    graph.set_entry_point("model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return str(graph.compile().invoke({"messages": [("user", QUESTION)]})["messages"][-1].content)


def by_openai_agents(recorder: Recorder) -> str:
    agents = pytest.importorskip("agents", reason="needs OpenAI Agents SDK: pip install 'labkit[compare]'")
    agents.set_tracing_disabled(True)  # it would send traces to OpenAI

    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=recorder.url, api_key=recorder.key) as link:
            model = agents.OpenAIChatCompletionsModel(model="nano", openai_client=link)
            agent = agents.Agent(name="a", model=model, tools=[agents.function_tool(get_weather)])
            return str((await agents.Runner.run(agent, QUESTION)).final_output)

    return asyncio.run(run())


AGENTS = [by_plain_python, by_streams, by_agent_framework]
COMPARED = [pytest.param(agent, marks=pytest.mark.heavy) for agent in (by_langgraph, by_openai_agents)]


@pytest.mark.parametrize("agent", [*AGENTS, *COMPARED])
def test_an_agent_of_any_make_runs_unchanged_and_is_recorded(agent: Callable[[Recorder], str]) -> None:
    with echo(CALL, ANSWER) as model, RolloutServer(model) as server:
        with server.rollout({"city": "Łódź"}) as recorder:
            assert agent(recorder) == ANSWER
            recorder.reward(1)
        (rollout,) = server.rollouts
    assert rollout.reward == 1.0 and rollout.task == {"city": "Łódź"} and not rollout.error
    first, second = rollout.turns
    assert (
        first.messages[-1] == {"role": "user", "content": QUESTION}
        or QUESTION in first.messages[-1]["content"]
    )
    assert first.tools[0]["function"]["name"] == "get_weather" and first.finish_reason == "tool_calls"
    assert json.loads(first.reply["tool_calls"][0]["function"]["arguments"]) == {"city": "Łódź"}
    assert second.messages[-1]["role"] == "tool" and "3 °C" in second.messages[-1]["content"]
    assert second.reply["content"] == ANSWER and second.usage.completion_tokens > 0
    assert 0 <= first.at < second.at and first.agent == "nano"
    (example,) = examples([rollout])
    assert [message["role"] for message in example.messages][-4:] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    from labkit.training.encoding import nano_template

    assert "get_weather" in nano_template().render(example.messages, example.tools)


def test_agents_side_by_side_are_told_apart_by_their_keys() -> None:
    with echo(delay=0.002) as model, RolloutServer(model) as server:

        def run(number: int) -> None:
            with server.rollout(number) as recorder:
                for turn in range(3):
                    ask(recorder, f"{number} asks {turn}")
                recorder.reward(number)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rollouts = server.rollouts
    assert sorted(rollout.task for rollout in rollouts) == list(range(6))
    for rollout in rollouts:
        assert [t.reply["content"] for t in rollout.turns] == [f"{rollout.task} asks {i}" for i in range(3)]
        assert rollout.reward == rollout.task


def ask(recorder: Recorder, text: str = "hi", **body: Any) -> httpx.Response:
    """Ask over plain HTTP, so that a test sees what is really answered."""
    whole = {"model": "nano", "messages": [{"role": "user", "content": text}], **body}
    header = {"Authorization": f"Bearer {recorder.key}"}
    return httpx.post(f"{recorder.url}/chat/completions", json=whole, headers=header, timeout=120)


def test_a_key_opens_its_own_rollout_and_only_while_it_lasts() -> None:
    with echo() as model, RolloutServer(model) as server:
        with server.rollout() as recorder:
            assert server.url.startswith("http://127.0.0.1:")
            assert httpx.get(f"{recorder.address}/models").json()["data"][0]["id"] == "nano"
            for url in (f"{server.url}/models", f"{server.url.replace('/v1', '/x/v1')}/models"):
                assert httpx.get(url).status_code == 401
            header = {"Authorization": "Bearer of nothing"}
            refused = httpx.post(f"{server.url}/chat/completions", json={}, headers=header)
            assert refused.status_code == 401 and "open rollout" in refused.json()["error"]["message"]
        assert httpx.get(f"{recorder.address}/models").status_code == 401
    assert server.rollouts[0].turns == ()


def test_what_cannot_be_obeyed_is_refused_in_openais_form_and_kept() -> None:
    wrong: list[dict[str, Any]] = [
        {"n": 2},
        {"logit_bias": {"5": 1}},
        {"temperature": 9},
        {"temperature": "hot"},
        {"messages": []},
        {"messages": [{"role": "wizard", "content": ""}]},
        {"tools": [{"type": "function"}]},
        {"tools": tool_schemas([get_weather]), "tool_choice": "required"},  # echo cannot be made to
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
    ]
    with echo() as model, RolloutServer(model) as server, server.rollout() as recorder:
        for body in wrong:
            refused = ask(recorder, **body)
            assert refused.status_code == 400, (body, refused.text)
            assert refused.json()["error"]["type"] == "invalid_request_error"
        for raw in (
            b"",
            b"[]",
            b"{",
            b'{"messages": 5}',
            b'{"messages": [5]}',
            b'{"seed": "x", "messages": [{}]}',
        ):
            header = {"Authorization": f"Bearer {recorder.key}"}
            answer = httpx.post(f"{recorder.url}/chat/completions", content=raw, headers=header, timeout=60)
            assert answer.status_code == 400, raw
        assert ask(recorder).status_code == 200
        assert [turn.error != "" for turn in recorder.turns][: len(wrong)] == [True] * len(wrong)
    assert not server.rollouts[0].turns[-1].error


def test_a_full_context_has_the_code_that_clients_look_for() -> None:
    with load("nano", engine="llamacpp", threads=1, context=256) as model, RolloutServer(model) as server:
        with server.rollout() as recorder:
            answer = ask(recorder, "word " * 400)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"


def test_options_of_the_server_hold_and_seeds_differ_by_rollout_and_request() -> None:
    seen = []
    with echo() as model, RolloutServer(model, temperature=0.5, seed=3) as server:
        stream = model.engine.stream
        model.engine.stream = lambda m, t, options: seen.append(options) or stream(m, t, options)  # type: ignore
        for _ in range(2):
            with server.rollout() as recorder:
                for _ in range(2):
                    ask(recorder, temperature=0, max_completion_tokens=7, stop="x")
    assert {o.temperature for o in seen} == {0.5} and {o.max_tokens for o in seen} == {7}
    assert seen[0].stop == ("x",) and len({o.seed for o in seen}) == 4


def test_token_ids_and_logprobs_are_what_the_model_read_and_sampled() -> None:
    import numpy as np

    with load("nano", engine="llamacpp", threads=1) as model:
        with RolloutServer(model, token_ids=True, max_tokens=12) as server, server.rollout() as recorder:
            answer = ask(recorder, "Say hello.").json()
            ask(recorder, "Say hello.", temperature=0)
        free, greedy = server.rollouts[0].turns
        context = model.engine.context  # type: ignore[attr-defined]
        for turn in (free, greedy):
            said = b"".join(context.piece(id) for id in turn.token_ids).decode("utf-8", "replace")
            assert said.strip() == turn.reply["content"]
            assert "Say hello." in b"".join(context.piece(i, True) for i in turn.prompt_ids).decode()
            whole = context.logprobs([*turn.prompt_ids, *turn.token_ids])[len(turn.prompt_ids) :]
            np.testing.assert_allclose(whole, turn.logprobs, atol=2e-3)
    choice = answer["choices"][0]
    assert answer["prompt_token_ids"] == list(free.prompt_ids) and choice["token_ids"] == list(free.token_ids)
    assert [piece["logprob"] for piece in choice["logprobs"]["content"]] == list(free.logprobs)
    with echo() as model, pytest.raises(OptionInvalid, match="token ids"):
        RolloutServer(model, token_ids=True)


def test_a_team_shares_its_reward_and_one_agent_learns_from_it() -> None:
    with echo("billing", "You owe 3 €.", "sales", "Nothing.") as model, RolloutServer(model) as server:
        for reward in (1.0, 0.0):
            with server.rollout("Why the bill?") as recorder:
                ask(recorder, user="router")
                ask(recorder, model="billing")  # who names no user is known by the model asked for
                recorder.reward(reward)
        rollouts = server.rollouts
    routed = only(rollouts, "router")
    assert [turn.reply["content"] for rollout in routed for turn in rollout.turns] == ["billing", "sales"]
    assert [rollout.reward for rollout in routed] == [1.0, 0.0] and only(rollouts, "nobody") == []
    assert [example.messages[-1]["content"] for example in examples(routed)] == ["billing"]
    assert str(rollouts[0]) == "rollout-1: reward 1, 2 requests by router, billing"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "1"])
def test_a_reward_is_a_number(value: Any) -> None:
    with echo() as model, RolloutServer(model) as server, server.rollout() as recorder:
        with pytest.raises(TrainingFailed, match="a reward of"):
            recorder.reward(value)
    assert server.rollouts[0].reward is None


def test_an_agent_that_breaks_off_leaves_what_it_did() -> None:
    with echo() as model, RolloutServer(model) as server:
        with pytest.raises(ZeroDivisionError), server.rollout() as recorder:
            ask(recorder)
            recorder.reward(1 / 0)
    (rollout,) = server.rollouts
    assert rollout.error.startswith("ZeroDivisionError") and len(rollout.turns) == 1
    assert examples([rollout]) == []


def test_rollouts_are_kept_as_json_lines(tmp_path: Path) -> None:
    turn = Turn(
        "a", [{"role": "user", "content": "Łódź"}], [], {"n": 1}, {"content": "x"}, "stop", Usage(1, 2), 0.5
    )
    kept = [Rollout("1", {"q": 1}, (turn, turn), 0.5), Rollout("2", None, (), None, "broken")]
    path = tmp_path / "rollouts.jsonl"
    write_rollouts(path, kept[:1])
    write_rollouts(path, kept[1:])
    assert read_rollouts(path) == kept
    with pytest.raises(OptionInvalid, match="no JSON"):
        write_rollouts(path, [Rollout("3", object(), ())])
    assert len(path.read_text("utf-8").splitlines()) == 2
    for line in ("{", "[]", "{}", '{"turns": [{}]}', '{"turns": [], "x": 1}'):
        path.write_text(line, "utf-8")
        with pytest.raises(LabkitError, match="line 1 is no rollout"):
            read_rollouts(path)
    with pytest.raises(StorageFailed):
        write_rollouts(tmp_path / "no" / "folder", kept)


def test_the_server_ends_and_its_port_with_it() -> None:
    model = echo()
    server = RolloutServer(model)
    server.close()
    server.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/models")
    assert model.chat("still mine").text == "still mine"
