"""Microsoft Agent Framework runs on labkit's engines: tools, streams, sessions, structured output, workflows."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Agent, AgentSession, Message
from agent_framework.orchestrations import SequentialBuilder
from pydantic import BaseModel, Field

from labkit import Model, load
from labkit.agents.framework import ChatClient, openai_turns
from labkit.engines.registry import engine_class
from labkit.errors import EngineFailed, OptionInvalid

IN_PROCESS = ["llamacpp", "onnx", "mlx", "foundry"]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Łódź"}}\n</tool_call>'


def weather(city: str) -> str:
    """Get the weather of a city."""
    return json.dumps({"city": city, "temperature": 3})


def echo(*script: str, **options: Any) -> Model:
    return load("nano", engine="echo", script=list(script), **options)


def kinds(response: Any) -> list[str]:
    return [
        content.type
        for message in response.messages
        for content in message.contents
        if content.type != "usage"
    ]


@pytest.mark.parametrize("engine", IN_PROCESS)
def test_a_tool_goes_round_on_every_engine_in_this_process(engine: str) -> None:
    state = engine_class(engine).available()
    if not state.installed:
        if os.environ.get("CI"):
            pytest.fail(f"{engine} has to run in CI: {state.reason}")
        pytest.skip(state.reason)
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        asked.append(city)
        return weather(city)

    with load("nano", engine=engine) as model:
        agent = Agent(ChatClient(model), name="guide", tools=[get_weather])
        response = asyncio.run(agent.run("What is the weather in Hanoi?"))
    assert asked == ["Hanoi"]
    assert kinds(response) == ["function_call", "function_result", "text"]
    assert response.text and response.usage_details["output_token_count"] > 0


def test_a_stream_brings_calls_results_and_text_in_order() -> None:
    async def run() -> tuple[list[str], Any]:
        stream = Agent(ChatClient(echo(CALL, "It is 3 °C.")), tools=[weather]).run("Łódź?", stream=True)
        texts = [update.text async for update in stream if update.text]
        return texts, await stream.get_final_response()

    texts, response = asyncio.run(run())
    assert texts == ["It", " is", " 3", " °C."] and response.text == "It is 3 °C."
    assert kinds(response) == ["function_call", "function_result", "text"]


def test_whoever_stops_reading_stops_the_engine() -> None:
    model = echo("word " * 1_000, delay=0.01)

    async def first() -> str:
        stream = Agent(ChatClient(model)).run("go", stream=True)
        async for update in stream:
            return update.text
        return ""

    assert asyncio.run(first()) == "word"
    gc.collect()
    began = time.monotonic()
    assert model.chat("next").text == "next"
    assert time.monotonic() - began < 3  # the whole script would take 10 s


def test_a_session_goes_on_after_a_restart() -> None:
    async def run() -> list[dict[str, Any]]:
        session = Agent(ChatClient(echo("Hello Mira."))).create_session()
        await Agent(ChatClient(echo("Hello Mira."))).run("I am Mira.", session=session)
        restored = AgentSession.from_dict(json.loads(json.dumps(session.to_dict())))
        seen: list[dict[str, Any]] = []
        model = echo("Mira.")
        ask = model.engine.stream
        model.engine.stream = lambda turns, *rest: (seen.extend(turns), ask(turns, *rest))[1]  # type: ignore[method-assign,func-returns-value]
        await Agent(ChatClient(model)).run("Who am I?", session=restored)
        return seen

    assert [turn["content"] for turn in asyncio.run(run())] == ["I am Mira.", "Hello Mira.", "Who am I?"]


CONTINUE = """
import asyncio, json, sys
from agent_framework import Agent, AgentSession
from labkit import load
from labkit.agents.framework import ChatClient, openai_turns
session = AgentSession.from_dict(json.load(open(sys.argv[1])))
asyncio.run(Agent(ChatClient(load("nano", engine="echo", script=["Mira."]))).run("Who am I?", session=session))
print(json.dumps([turn["content"] for turn in openai_turns(session.state["in_memory"]["messages"], None)]))
"""


def test_a_session_from_disk_goes_on_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "session.json"

    async def first() -> None:
        agent = Agent(ChatClient(echo(CALL, "It is 3 °C, Mira.")), tools=[weather])
        session = agent.create_session()
        await agent.run("I am Mira. Łódź?", session=session)
        file.write_text(json.dumps(session.to_dict()), encoding="utf-8")

    asyncio.run(first())
    done = subprocess.run([sys.executable, "-c", CONTINUE, file], capture_output=True, text=True, check=True)
    result = '{"city": "\\u0141\\u00f3d\\u017a", "temperature": 3}'
    assert json.loads(done.stdout) == [
        "I am Mira. Łódź?",
        "",
        result,
        "It is 3 °C, Mira.",
        "Who am I?",
        "Mira.",
    ]


def test_calls_of_a_session_have_names_of_their_own() -> None:
    async def run() -> list[str]:
        agent = Agent(ChatClient(echo(CALL, "a", CALL, "b")), tools=[weather])
        session = agent.create_session()
        responses = [await agent.run("Łódź?", session=session) for _ in range(2)]
        found = [c for r in responses for m in r.messages for c in m.contents if c.type == "function_call"]
        return [str(content.call_id) for content in found]

    assert len(set(asyncio.run(run()))) == 2


def test_one_call_is_one_call_where_only_one_is_allowed() -> None:
    asked: list[str] = []

    def look(city: str) -> str:
        """Look."""
        asked.append(city)
        return "seen"

    two = "\n".join(CALL.replace("weather", "look").replace("Łódź", city) for city in ("Rome", "Oslo"))
    agent = Agent(
        ChatClient(echo(two, "done")), tools=[look], default_options={"allow_multiple_tool_calls": False}
    )
    asyncio.run(agent.run("go"))
    assert asked == ["Rome"]


class Weather(BaseModel):
    city: str = Field(max_length=20)  # so that the JSON ends, whatever the model would go on to say
    temperature: int


def test_an_answer_becomes_a_pydantic_object() -> None:
    if not engine_class("llamacpp").available().installed:
        pytest.skip("needs an engine that can be held to a schema")
    with load("nano", engine="llamacpp", threads=1) as model:
        response = asyncio.run(
            Agent(ChatClient(model)).run("Hanoi has 31 °C", options={"response_format": Weather})
        )
    assert isinstance(response.value, Weather)


def test_workflows_hand_on_an_answer_that_the_next_agent_reads_as_said_to_it() -> None:
    agents = [Agent(ChatClient(echo()), name=name) for name in ("first", "second")]
    result = asyncio.run(SequentialBuilder(participants=agents).build().run("pass it on"))
    assert "pass it on" in result.get_outputs()[-1].text


def test_messages_become_chat_dicts() -> None:
    turns = openai_turns([Message("user", ["a"]), Message("assistant", ["b"])], "Be brief.")
    assert turns == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]


@pytest.mark.parametrize("options", [{"logit_bias": {1: 2.0}}, {"seed": -1}])
def test_options_no_engine_knows_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid):
        asyncio.run(Agent(ChatClient(echo("x")), default_options=options).run("hi"))


def test_a_closed_model_says_so() -> None:
    model = echo("x")
    model.close()
    with pytest.raises(EngineFailed):
        asyncio.run(Agent(ChatClient(model)).run("hi"))
