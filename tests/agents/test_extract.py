"""Text into checked objects: what a model writes is held to a schema, then to the class."""

import json
from typing import Any, Literal

import pytest

pydantic = pytest.importorskip("pydantic", reason="needs pydantic: pip install 'labkit[serve]'")

from labkit import load  # noqa: E402
from labkit.agents.extract import bare, extract  # noqa: E402
from labkit.engines.base import Model  # noqa: E402
from labkit.errors import AnswerInvalid, OptionInvalid  # noqa: E402


class Item(pydantic.BaseModel):  # type: ignore[name-defined,misc]
    title: str
    count: int = pydantic.Field(ge=1, le=9)


class Order(pydantic.BaseModel):  # type: ignore[name-defined,misc]
    kind: Literal["in shop", "online"]
    items: list[Item]


RIGHT = {"kind": "online", "items": [{"title": "lamp", "count": 2}]}


def says(*script: str) -> Model:
    return load("nano", "echo", script=list(script))


def test_an_object_comes_back_checked() -> None:
    order = extract(says(json.dumps(RIGHT)), "Two lamps, online.", Order)
    assert (order.kind, order.items[0].count) == ("online", 2)


@pytest.mark.parametrize("around", ["Here it is:\n```json\n{}\n```", "{} Anything else?"])
def test_prose_around_it_is_cut_off(around: str) -> None:
    assert extract(says(around.replace("{}", json.dumps(RIGHT))), "Two lamps.", Order).kind == "online"


def test_a_wrong_answer_is_sent_back_once() -> None:
    wrong = json.dumps({"kind": "online", "items": [{"title": "lamp", "count": 20}]})
    model = says(wrong, json.dumps(RIGHT))
    assert extract(model, "Two lamps.", Order).items[0].count == 2
    with pytest.raises(
        AnswerInvalid, match=r"no Order: items.0.count: .*less than or equal to 9.*'count'|20"
    ):
        extract(says(wrong, wrong), "Two lamps.", Order)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I do not know.", "JSON"),
        ("", "JSON"),
        ('{"kind": "online"}', "items: Field required"),
        ("[1]", "object"),
        ("{" * 5000, "JSON"),
    ],
)
def test_what_is_no_object_is_explained(text: str, said: str) -> None:
    with pytest.raises(AnswerInvalid, match="no Order") as caught:
        extract(says(text, text), "Two lamps.", Order, repairs=0, max_tokens=9000)
    assert said in caught.value.what and len(caught.value.what) < 1200


def test_the_schema_that_is_shown_has_no_titles_but_keeps_a_field_of_that_name() -> None:
    shown = json.dumps(bare(Order.model_json_schema()))
    assert '"title": {"type": "string"}' in shown and '"Order"' not in shown and "$defs" in shown


def test_an_engine_that_cannot_constrain_says_so() -> None:
    with pytest.raises(OptionInvalid, match="cannot constrain"):
        extract(says("{}"), "x", Order, constrained=True)


def test_nano_is_held_to_the_form() -> None:
    class Light(pydantic.BaseModel):  # type: ignore[name-defined,misc]
        room: Literal["kitchen", "hall"]
        on: bool

    with load("nano", "llamacpp", threads=1) as nano:
        made: Any = extract(nano, "Turn on the light in the kitchen.", Light, max_tokens=64)
    assert made.room in ("kitchen", "hall") and isinstance(made.on, bool)
