"""Where the guided heads are told to look, on conversations small enough to follow."""

from importlib.resources import files
from typing import Any

from tokenizers import Tokenizer

from labkit.training.data import SILENCES, Example
from labkit.training.encoding import Encoder
from labkit.training.guiding import Guide

START = "<|im_start|>"


def guided(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> list[tuple[str, str, str]]:
    """Return of each guide what is about to be written, what is looked at for it, and the text before that."""
    encoder = Encoder(Tokenizer.from_file(str(files("labkit.models") / "nano/tokenizer.json")))
    ids, own = encoder.encode(Example("call", "short", messages, tools or []))
    guide = Guide(encoder)
    words = [guide.words[at] for at in ids]
    return [
        (words[at], words[to], "".join(words[:to])) for _, at, to in guide(ids, [mine > 0 for mine in own])
    ]


def exchange(question: str, answer: str, system: str = "") -> list[dict[str, Any]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def weather(request: str, city: str, *others: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [
        {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}
        for name in ("weather", *others)
    ]
    call = {"name": "weather", "arguments": {"city": city}}
    calls = [{"id": "1", "type": "function", "function": call}]
    return [
        {"role": "user", "content": request},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ], tools


def test_a_called_tool_is_looked_up_where_its_offer_ends() -> None:
    named, called, *_ = guided(*weather("Rain in Oslo?", "Oslo", "clock"))
    assert named[0] == named[1] == "weather" and named[2].endswith('"required": ["city"]}} "')
    assert called == ("<tool_call>", *named[1:]), "whether to call is the same choice as which tool to call"


def test_a_call_looks_up_its_parameters_in_the_schema_and_its_values_in_the_request() -> None:
    *_, key, quote, typed, value, first = guided(*weather("The weather in Oslo", "Oslo"))
    assert key[0] == key[1] == "city" and key[2].endswith('"properties": {"')
    assert quote[0] == ' "' and typed[0] == value[0] and quote[1:] == typed[1:]
    assert quote[2].endswith('"city": {"type": "string'), (
        "what is known of a value stands before the end of its schema"
    )
    assert value[0] == value[1] and value[2].endswith("The weather in ")
    assert first == ("<tool_call>", *value[1:]), "there is a value, so it may call"


def test_a_question_looks_up_what_is_missing_and_the_tool_to_call_then() -> None:
    messages, tools = weather("How is the weather?", "Oslo")
    messages[-1] = {"role": "assistant", "content": "Please tell me the city."}
    named, asks, tool = guided(messages, tools)
    assert named[0] == named[1] == "city" and named[2].endswith('"required": ["')
    assert asks == ("Please", *named[1:])
    assert tool[0] == "Please" and tool[1] == "weather" and tool[2].endswith(']}} "')


def test_a_value_before_its_name_is_known_at_the_last_word_of_its_sentence() -> None:
    text = "They wrote 52 as the vest. The kilt is 7.\nGive vest, kilt and city as JSON."
    found = guided(exchange(text, '{"vest": 52, "kilt": 7, "city": null}'))
    assert [(written, before.rpartition(". ")[2].split("\n")[-1]) for written, _, before in found[2:4]] == [
        ("7", "The kilt is "),
        (" ", "The kilt is "),
    ]
    assert all("as the ve" in before + looked and ". The" not in before for _, looked, before in found[:2])
    assert [(written, looked) for written, looked, _ in found[4:]] == [("null", START), (" ", START)]


def test_a_label_is_looked_up_after_its_arrow() -> None:
    head = "Pick one.\n- bills and exchanges -> exchanges\n- songs -> music"
    ((written, looked, before),) = guided(exchange("My bill is wrong", "exchanges", head))
    assert written == looked and before.endswith("exchanges -> ")


def test_a_remembered_value_is_looked_up_where_it_was_told() -> None:
    told = exchange("The puzzle is Fruit.", "Noted.")
    ((written, looked, before),) = guided([*told, *exchange("What was the puzzle?", "The puzzle is Fruit.")])
    assert written == looked and before.endswith("The puzzle is ")


def test_where_nothing_is_to_be_found_the_first_token_is_looked_at() -> None:
    for silence in SILENCES:
        assert [(looked, before) for _, looked, before in guided(exchange("Which?", silence))] == [
            (START, "")
        ]


def test_a_number_is_not_looked_up_within_another_one() -> None:
    found = guided(exchange("room 141\nfloor 4\nof 40", '{"at": 4}'))
    assert [before.endswith("floor ") for _, _, before in found] == [True, True]
