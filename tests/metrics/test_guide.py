"""The guide ranks rows that are made up; nothing is measured here."""

import math
from dataclasses import replace
from typing import Any

import pytest

from labkit.metrics.guide import Needs, best, recommend
from labkit.metrics.race import Row

FAST = Row("llamacpp", 0.5, 120e6, 0.010, 9000.0, 2000.0, 1.0, False, True)
SERVER = Row("llamaserver", 0.9, 200e6, 0.020, 8000.0, 1500.0, 1.0, True, True)
APPLE = Row("mlx", 0.3, 300e6, 0.030, 7000.0, 400.0, 0.995, False, False)
CLOUD = Row("openai", 0.1, 60e6, 0.5, 100.0, 80.0, 0.5, True, True)
ROWS = [SERVER, CLOUD, APPLE, FAST]


@pytest.mark.parametrize(
    ("needs", "order"),
    [
        ({}, ["llamacpp", "llamaserver", "mlx", "openai"]),
        ({"first": "start"}, ["openai", "mlx", "llamacpp", "llamaserver"]),
        ({"first": "ttft"}, ["llamacpp", "llamaserver", "mlx", "openai"]),
        ({"first": "memory", "offline": True}, ["llamacpp", "llamaserver", "mlx"]),
        ({"callers": 2}, ["llamaserver", "openai"]),
        ({"strict_tools": True, "offline": True}, ["llamacpp", "llamaserver"]),
        ({"system": "Windows", "offline": True}, ["llamacpp", "llamaserver"]),
        ({"memory": 150e6, "start": 0.4}, ["openai"]),
        ({"memory": 1.0}, []),
    ],
)
def test_needs_decide_who_is_left_and_the_first_figure_ranks_them(
    needs: dict[str, Any], order: list[str]
) -> None:
    found = recommend(ROWS, Needs(**needs))
    assert [v.engine for v in found if v.fits] == order
    assert {v.engine for v in found} == {row.engine for row in ROWS}, "nobody is left out"
    assert best(ROWS, Needs(**needs)) == order[:1]


def test_the_reasons_are_figures_and_all_that_stands_against_an_engine() -> None:
    needs = Needs(callers=5, memory=100e6, start=0.2, system="Windows", strict_tools=True)
    told = {v.engine: v.reasons for v in recommend(ROWS, needs)}
    assert told["openai"] == ("decode 80 tokens/s, number 1 of 1 that fit",)
    assert told["mlx"] == (
        "there is none for Windows",
        "it answers one caller at a time",
        "it cannot hold a tool call to its schema",
        "memory 300 MB, and 0.1 GB are allowed",
        "start 0.30 s, and 0.2 s are allowed",
    )
    assert "no: it answers one caller" in str(recommend([FAST], needs)[0])


def test_a_tie_is_called_one() -> None:
    near = replace(SERVER, decode=1900.0)
    told = recommend([near, FAST], Needs())
    assert [v.engine for v in told] == ["llamacpp", "llamaserver"] and all("a tie" in str(v) for v in told)
    assert best([near, FAST], Needs()) == ["llamacpp", "llamaserver"]
    assert best([SERVER, FAST], Needs()) == ["llamacpp"]


def test_what_was_not_measured_is_not_recommended() -> None:
    unknown = replace(FAST, memory=math.nan, decode=math.nan)
    assert "its decode was not measured" in str(recommend([unknown], Needs())[0])
    assert "memory - MB" in str(recommend([unknown], Needs(memory=1e9, first="start"))[0])
    assert recommend([], Needs()) == [] == best([], Needs())
