"""What the grammars of tool calls let pass, asked of llama.cpp itself."""

from collections.abc import Iterator
from typing import Literal

import pytest

from labkit import load
from labkit.engines.base import Model
from labkit.engines.toolgrammar import call_grammar, copying_grammar, grammar_for
from labkit.engines.toolschema import tool_schemas
from labkit.types import Message

pytest.importorskip("llama_cpp")

from labkit.engines.llamacpp_sampling import admits

SAID: list[Message] = [
    {"role": "system", "content": "You serve a shop. Today is 2026-12-01."},
    {
        "role": "user",
        "content": "Put 3 of the \"red kettle\" and two of Tom's lamps (the café's) in my cart!",
    },
    {"role": "assistant", "content": "Which shop?"},
    {"role": "user", "content": "The one at https://a.b/c?x=1, with 2.5 % off."},
]


def add_to_cart(
    item: str, quantity: int, size: Literal["small", "large"] = "small", gift: bool = False
) -> None:
    """Add an item to the cart."""


def discount(percent: float, items: list[str]) -> None:
    """Take something off the price."""


TOOLS = tool_schemas([add_to_cart, discount])


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with load("nano", engine="llamacpp", threads=1) as model:
        yield model


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize(
    "text",
    [
        "Which size do you want?",
        call("add_to_cart", '{"item": "red kettle", "quantity": 3}'),
        call("add_to_cart", '{"item": "Tom", "quantity": 2, "size": "large"}'),
        call("add_to_cart", '{"item": "lamps", "quantity": 3, "gift": true}'),
        call("add_to_cart", '{"item": "café", "quantity": 2}'),
        call("discount", '{"percent": 2.5, "items": ["https://a.b/c?x=1", "red kettle"]}'),
        "At once. " + call("discount", '{"percent": 3, "items": []}') + "\n"
        + call("add_to_cart", '{"item": "red kettle\\" and two of Tom", "quantity": 2026}'),
    ],
)  # fmt: skip
def test_what_was_said_may_be_copied(nano: Model, text: str) -> None:
    assert admits(nano.engine.context, copying_grammar(TOOLS, SAID), text)
    assert admits(nano.engine.context, call_grammar(TOOLS), text)


@pytest.mark.parametrize(
    "arguments",
    [
        '{"item": "red ketle", "quantity": 3}',  # a misspelt value
        '{"item": "ed kettle", "quantity": 3}',  # a part of a word
        '{"item": "Which shop", "quantity": 3}',  # what the model itself said
        '{"item": "red kettle", "quantity": 4}',
        '{"item": "lamps", "quantity": 2.5}',
    ],
)
def test_nothing_else_may_be_copied(nano: Model, arguments: str) -> None:
    assert not admits(nano.engine.context, copying_grammar(TOOLS, SAID), call("add_to_cart", arguments))


@pytest.mark.parametrize(
    "text",
    [
        call("add_to_basket", '{"item": "red kettle", "quantity": 3}'),  # no such tool
        call("add_to_cart", '{"item": "red kettle"}'),  # something required is missing
        call("add_to_cart", '{"item": "red kettle", "quantity": 3, "size": "huge"}'),
        call("add_to_cart", '{"item": "red kettle", "quantity": "3"}'),
    ],
)
def test_both_grammars_keep_to_the_schemas(nano: Model, text: str) -> None:
    assert not admits(nano.engine.context, copying_grammar(TOOLS, SAID), text)
    assert not admits(nano.engine.context, call_grammar(TOOLS), text)


def test_where_no_number_was_said_any_is_admitted(nano: Model) -> None:
    grammar = copying_grammar(TOOLS, [{"role": "user", "content": "More lamps, please."}])
    assert admits(nano.engine.context, grammar, call("add_to_cart", '{"item": "lamps", "quantity": 17}'))
    silent = copying_grammar(TOOLS, [{"role": "user", "content": ""}])
    assert admits(nano.engine.context, silent, call("add_to_cart", '{"item": "a \\"b\\"", "quantity": -1}'))


def test_no_tools_and_no_wish_give_no_grammar() -> None:
    assert grammar_for((), SAID, True) is None and grammar_for(TOOLS, SAID, False) is None
    assert grammar_for(TOOLS, SAID, True) == call_grammar(TOOLS)
    assert grammar_for(TOOLS, SAID, "copy") == copying_grammar(TOOLS, SAID)


def test_a_required_call_leaves_no_room_for_words(nano: Model) -> None:
    said = call("add_to_cart", '{"item": "red lamp", "quantity": 3}')
    for held in (True, "copy"):
        grammar = grammar_for(TOOLS, SAID, held, required=True)
        assert grammar and not admits(nano.engine.context, grammar, "Hello!")
        assert not admits(nano.engine.context, grammar, f"Well, {said}")
    free, required = (grammar_for(TOOLS, SAID, True, required=must) for must in (False, True))
    assert free and required and free.partition("calls ::=")[2] == required.partition("calls ::=")[2]


def test_without_llama_cpp_python_calls_are_held_to_the_schemas_all_the_same(
    nano: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labkit.engines.toolgrammar.find_spec", lambda name: None)
    grammar = call_grammar(TOOLS)
    assert admits(nano.engine.context, grammar, call("add_to_cart", '{"item": "any", "quantity": 17}'))
    assert not admits(nano.engine.context, grammar, call("add_to_cart", '{"item": "any"}'))
