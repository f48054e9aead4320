"""Where answers part, and how near a tie the model was."""

import numpy as np
import pytest

from labkit.engines.llamacpp import LlamaCpp
from labkit.engines.llamacpp_files import shipped_template
from labkit.metrics.agreement import answer_ids, lead, partings, spelled_out, two_programs
from labkit.metrics.cases import data_folder, read_cases
from labkit.metrics.race import pick
from labkit.models.catalog import find
from labkit.models.template import ChatTemplate
from labkit.types import Availability


def test_a_parting_says_what_both_share_and_what_follows() -> None:
    right = {"a": "in the hall", "b": "same", "c": "longer", "d": "", "e": "only here"}
    given = {"a": "in the barn", "b": "same", "c": "longer still", "d": "words"}
    found = {p.case: p for p in partings("mlx", right, given)}
    assert {case: p.at for case, p in found.items()} == {"a": 7, "c": 6, "d": 0, "e": 0}
    assert str(found["a"]) == "a: after 'in the ' 'hall' follows, on mlx 'barn'"
    assert partings("mlx", right, right) == [] == partings("mlx", {}, given)


def test_tools_spelled_out_are_the_same_prompt() -> None:
    template = ChatTemplate(shipped_template(find("nano").refs["llamacpp"]), trusted=True)
    cases = read_cases(data_folder())[::9]
    for case, plain in zip(cases, spelled_out(cases), strict=True):
        assert plain.tools == [] and plain.id == case.id
        assert template.render(plain.messages) == template.render(case.messages, case.tools or None)
    assert any(case.tools for case in cases) and not all(case.tools for case in cases)
    elsewhere = spelled_out(cases, "qwen2.5-0.5b")
    assert [c.messages for c in elsewhere] == [c.messages for c in cases]


def test_lead_is_the_best_score_less_the_next() -> None:
    scores = np.array([[0.0, 3.0, 1.0], [2.0, 2.0, -1.0], [-5.0, -1.0, -1.5]], np.float32)
    assert lead(scores).tolist() == [2.0, 0.0, 0.5]


def test_two_programs_differ_a_little_and_choose_alike() -> None:
    pytest.importorskip("llama_cpp")
    ours, others, what = two_programs(pick(2))
    assert ours.shape == others.shape and ours.shape[1] == 4096 and "2 answers" in what
    assert 0 < np.abs(ours - others).max() < 1
    assert (ours.argmax(1) == others.argmax(1)).mean() > 0.95
    noise = np.abs(ours - others).max()
    assert not (lead(ours)[ours.argmax(1) != others.argmax(1)] > 2 * noise).any()


def test_an_answer_is_the_models_own_and_ends_with_the_end() -> None:
    pytest.importorskip("llama_cpp")
    from labkit import load

    with load("nano", "llamacpp", "F16", threads=1) as model:
        assert isinstance(model.engine, LlamaCpp)
        ids, first = answer_ids(model.engine, pick(1)[0])
        best = model.window_logits(ids, first).argmax(1)
    same = sum(int(a) == b for a, b in zip(best, ids[first + 1 :], strict=False))
    assert len(best) == len(ids) - first and same >= 0.9 * (len(best) - 1), "greedy: its own favourites"


def test_without_llama_cpp_a_stand_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LlamaCpp, "available", classmethod(lambda cls: Availability(False)))
    ours, others, what = two_programs(pick(1))
    assert "stand-in" in what and "bfloat16" in what and ours.shape == others.shape
    assert 0 < np.abs(ours - others).max()
