"""What travels between a notebook and its judge, and what does not."""

import enum
import json
import math
import os
import socket
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from afar import wires

import labkit
from labkit import ToolCall
from labkit.agents.scenarios import retail
from labkit.checks.core import Wrong
from labkit.checks.lab02 import q2 as estimate_question
from labkit.checks.lab18 import q3 as patient_question
from labkit.classroom.grading.shapes import annotation, record_class
from labkit.classroom.grading.values import Opaque, Unreadable, Values
from labkit.classroom.grading.wire import MOST_BYTES, Faraway, Hangup, Wire
from labkit.engines.toolschema import tool_schema


def travelled(value: Any) -> Any:
    with wires((value,)) as near:
        return near.ask({"values": []})[0]


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -0.5, "ü\ud800"[:1], b"\0\1", ..., (1, (2,)), [1, [2]], {"a": {1: (2, 3)}}, {1, 2},
        np.float32(0.5), np.int64(7), ToolCall("lookup", {"key": "a"}, "1"), 10**50, math.inf,
    ],
)  # fmt: skip
def test_plain_data_travels_whole(value: Any) -> None:
    assert travelled(value) == value and type(travelled(value)) is type(value)


def test_arrays_views_and_other_numbers_travel() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(travelled(array), array) and travelled(array).dtype == array.dtype
    assert travelled({"a": 1}.keys()) == {"a"} and travelled({"a": 1}.values()) == [1]
    assert travelled(Fraction(1, 4)) == 0.25
    assert travelled(retail.SCENARIO) is retail.SCENARIO


class Yes:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Number(float):
    def __sub__(self, other: float) -> float:
        return 0.0

    def __lt__(self, other: float) -> bool:
        return True


def test_an_object_that_agrees_with_everything_arrives_as_nothing() -> None:
    assert isinstance(travelled(Yes()), Opaque) and travelled(Yes()) != 3
    came = travelled(Number(7))
    assert type(came) is float and came - 1 == 6


class Area(enum.Enum):
    IN = "inside"
    OUT = "outside"


def test_a_function_keeps_its_looks() -> None:
    def book(name: str, people: int | None, area: Literal["a", "b"] = "a", where: Area = Area.IN) -> str:
        """Book a table.

        Args:
            name: Whose.
        """
        return f"{name} {people}"

    with wires((book,)) as near:
        [far] = near.ask({"values": []})
        assert tool_schema(far) == tool_schema(book)
        assert far("Ada", people=2) == "Ada 2"
        with pytest.raises(TypeError, match="missing"):
            far("Ada")


def test_both_ends_can_call_each_other_and_get_their_own_back() -> None:
    def twice(function: Any, value: Any) -> Any:
        return function(function(value))

    def make(function: Any) -> Any:
        return lambda value: function(value) + 1

    with wires((twice, make)) as near:
        far_twice, far_make = near.ask({"values": []})
        assert far_twice(lambda n: n + 2, 1) == 5
        assert far_twice(far_make(lambda n: 10 * n), 1) == 111


def test_what_a_check_raises_cannot_be_hidden() -> None:
    def swallow(function: Any) -> str:
        try:
            function()
        except Exception:
            return "all is well"
        return ""

    def wrong() -> None:
        raise Wrong("seen")

    with wires((swallow,)) as near:
        [far] = near.ask({"values": []})
        with pytest.raises(Wrong, match="seen"):
            far(wrong)


def test_errors_come_through_by_name() -> None:
    def fail(kind: str) -> None:
        raise {"key": KeyError("x"), "own": type("Mine", (Exception,), {})("y"), "stop": StopIteration()}[
            kind
        ]

    with wires((fail,)) as near:
        [far] = near.ask({"values": []})
        with pytest.raises(KeyError):
            far("key")
        with pytest.raises(Faraway, match="Mine: y"):
            far("own")
        with pytest.raises(Faraway):
            far("stop")


def test_real_checks_judge_functions_from_afar() -> None:
    def estimate(place: tuple[int, int]) -> int:
        return abs(place[0] - 19) + abs(place[1] - 13)

    def patient(send: Any, sleep: Any) -> int:
        for _ in range(5):
            status, after = send()
            if status not in (429, 503):
                break
            sleep(after)
        return int(status)

    for question, right, wrong in (
        (estimate_question, estimate, lambda place: 3 * estimate(place)),
        (patient_question, patient, lambda send, sleep: 200),
    ):
        with wires((right, wrong)) as near:
            far_right, far_wrong = near.ask({"values": []})
            assert question._judge((far_right,))[0] == "right"
            assert question._judge((far_wrong,))[0] == "wrong"


@pytest.mark.parametrize(
    "coded",
    [
        {"no": "kind"},
        {"$": "record", "class": ["subprocess", "Popen"], "of": {"args": ["touch", "x"]}},
        {"$": "record", "class": ["labkit.types", "annotations"], "of": {}},
        {"$": "record", "class": ["labkit.classroom.grading.wire", "Wire"], "of": {}},
        {"$": "record", "class": ["labkit.types", "ToolCall"], "of": {"name": "x"}},
        {"$": "constant", "of": ["os", "environ"]},
        {"$": "constant", "of": ["labkit.types", "dataclass"]},
        {"$": "array", "dtype": "O", "shape": [1], "of": "00" * 8},
        {"$": "array", "dtype": "f8", "shape": [10**9], "of": "00" * 8},
        {"$": "yours", "of": 3},
        {"$": "dict", "of": [[[], 1]]},
        {"$": "bytes", "of": "zz"},
    ],
)
def test_what_breaks_the_rules_is_refused(coded: Any) -> None:
    with pytest.raises(Unreadable):
        Values().decode(coded)


def test_a_judge_takes_no_model_but_its_own() -> None:
    false = {"$": "object", "of": {"score": {"$": "unsolved"}}}
    assert isinstance(Values(lambda *a: None).decode(false), Opaque)
    assert isinstance(
        Values(lambda *a: None).decode({"$": "model", "of": ["nano", "llamacpp", "F16"]}), Opaque
    )


def test_a_hint_cannot_run_code() -> None:
    assert annotation("list[int] | None") == list[int] | None
    for text in (
        "__import__('os').getcwd()",
        "(lambda: 1)()",
        "str.__class__",
        "[x for x in ()]",
        "1 +",
        "Area",
    ):
        assert annotation(text) is Any
    assert record_class("labkit.cli.main", "app") is None and record_class("labkit.types", "../x") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack(">I", MOST_BYTES + 1) + b"x" * 100,
        struct.pack(">I", 5) + b"{]}{[",
        struct.pack(">I", 200_000) + b"[" * 200_000,
        struct.pack(">I", 2) + b"[]",
        b"\xff" * 100,
    ],
)
def test_nonsense_on_the_wire_ends_the_talk(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        wire = Wire(ours, lambda *a: None)
        with pytest.raises(Hangup):
            wire.receive()
        wire.close()


def test_an_answer_that_is_too_large_is_an_error() -> None:
    with wires(("x" * MOST_BYTES,)) as near, pytest.raises(OverflowError, match="can travel"):
        near.ask({"values": []})


def test_a_forged_verdict_on_the_wire_is_no_verdict() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        data = json.dumps({"question": "q1", "state": "right", "text": "", "value": []}).encode()
        theirs.sendall(struct.pack(">I", len(data)) + data)
        wire = Wire(ours, lambda *a: None)
        assert wire.ask({"values": ["x"]}) == []
        wire.close()


# What the labs' own tests call right, and no judge can: an array of MLX's, an open server, a class of the student's.
BY_HAND = ["lab07 q1", "lab09 q1", "lab09 q2", "lab09 q4", "lab13 q2", "lab13 q4", "lab15 q1"]


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_all_checks_judge_as_well_from_afar() -> None:
    here = Path(__file__).parent
    paths = f"{here}{os.pathsep}{Path(labkit.__file__).parents[1]}"
    environment = {**os.environ, "PYTHONPATH": paths, "LABKIT_CHECK_AFAR": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "afar", "--timeout=900", here.parents[1] / "checks"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("by hand: ")]
    assert line == f"by hand: {', '.join(BY_HAND)}"
