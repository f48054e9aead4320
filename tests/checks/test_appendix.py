"""The appendix' checks accept every right answer and explain the wrong ones."""

import math
from importlib import import_module
from importlib.util import find_spec

import pytest
from judging import explains, verdict

from labkit.checks.appendix import q1, q2, q3


def there(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q1, capsys, there)[0] == "right"
    assert verdict(q1, capsys, lambda module, name: int(there(module, name)))[0] == "right"
    assert verdict(q1, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (lambda module, name: hasattr(import_module(module), name), "ModuleNotFoundError: catch it"),
        (lambda module, name: True, "should be False"),
        (lambda module, name: False, "should be True"),
        (
            lambda module, name: find_spec(module.split(".")[0]) is not None,
            "('json', 'nothing') should be False",
        ),
        ("there", "the function itself"),
    ):
        explains(q1, capsys, said, wrong)


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in ([10, 90, 10], (5, 51, 5), [1, 49, 60, 2]):
        assert verdict(q2, capsys, right)[0] == "right"
    assert verdict(q2, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        ([10, 10, 10], "all of them fit"),
        ([90, 10, 10], "without a gap"),
        ([90, 90], "nothing is kept"),
        ([10, "90"], "whole numbers"),
        ("10", "whole numbers"),
    ):
        explains(q2, capsys, said, wrong)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (40, 40.0, 39.9):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"
    for wrong, said in (
        (0.4, "give percent"),
        (60, "what is left"),
        (37.5, "the whole bill"),
        (66.7, "the first row's"),
        (math.nan, "$500 in the first row"),
    ):
        explains(q3, capsys, said, wrong)
