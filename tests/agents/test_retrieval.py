"""Passages are cut, found and measured as their formulas say, on the real corpus and on small texts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from labkit.agents import retrieval
from labkit.agents.retrieval import (
    BM25,
    CORPUS,
    Dense,
    Hybrid,
    Passage,
    Question,
    Shares,
    first_ranks,
    measure,
    minilm,
    read_corpus,
    sections,
    sentences,
    windows,
)
from labkit.errors import EngineUnavailable, LabkitError, OptionInvalid

DOCUMENTS, QUESTIONS = read_corpus()
PASSAGES = sections(DOCUMENTS)
ANSWERABLE = [q for q in QUESTIONS if q.evidence]


def test_the_committed_corpus_is_what_its_script_makes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_corpus", CORPUS / "make.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.build(tmp_path)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == len(DOCUMENTS) + 2 == len(list((CORPUS / "documents").glob("*"))) + 2
    for name in made:
        assert (tmp_path / name).read_bytes() == (CORPUS / name).read_bytes(), (
            f"{name}: python {CORPUS}/make.py"
        )


def test_the_corpus_is_large_enough_and_each_answer_stands_in_one_section() -> None:
    assert len(PASSAGES) >= 150 and len(QUESTIONS) >= 100
    assert {q.kind for q in QUESTIONS} == {"plain", "reworded", "absent"}
    for q in QUESTIONS:
        assert sum(q.answered_by(p) for p in PASSAGES) == (q.kind != "absent")
        assert q.answer in q.evidence or q.kind == "absent"


def test_a_folder_without_corpus_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LabkitError, match="holds no corpus"):
        read_corpus(tmp_path)
    (tmp_path / "questions.jsonl").write_text('{"id": "q1"}\n')
    with pytest.raises(LabkitError, match="holds no corpus"):
        read_corpus(tmp_path)


def test_sections_keep_their_headings() -> None:
    found = sections({"a.md": "# Kettle\n\n## Care\n\nWash it.\nOften.\n\n## Data\n\nIt weighs 2 kg.\n"})
    assert found == [
        Passage("a.md", "Kettle, Care", "Wash it. Often."),
        Passage("a.md", "Kettle, Data", "It weighs 2 kg."),
    ]
    assert str(found[1]) == "Kettle, Data: It weighs 2 kg."


def test_windows_share_words_and_lose_none() -> None:
    text = "# T\n\n## H\n\n" + " ".join(map(str, range(10)))
    assert [p.text for p in windows({"a": text}, 4, 2)] == ["0 1 2 3", "2 3 4 5", "4 5 6 7", "6 7 8 9"]
    assert [p.text for p in windows({"a": text}, 4)] == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert [p.title for p in windows({"a": text}, 99)] == ["T"]
    for size, overlap in ((4, 4), (4, -1), (0, 0)):
        with pytest.raises(OptionInvalid):
            windows({"a": text}, size, overlap)


@pytest.mark.parametrize("size", [15, 30, 47])
def test_no_sentence_is_torn_with_an_overlap_of_all_but_one_of_its_words(size: int) -> None:
    longest = max(len(q.evidence.split()) for q in ANSWERABLE)
    cut = windows(DOCUMENTS, size, longest - 1)
    assert all(any(map(q.answered_by, cut)) for q in ANSWERABLE)


def test_bm25_is_the_formula() -> None:
    scores = BM25(["red kettle", "red red door", "a door"]).scores(["RED!", "nothing", "red door"])
    rarity = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    length = 7 / 3

    def weight(often: int, words: int) -> float:
        return float(rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * words / length)))

    assert scores[0] == pytest.approx([weight(1, 2), weight(2, 3), 0])
    assert scores[1].tolist() == [0, 0, 0]
    assert scores[2] == pytest.approx([weight(1, 2), weight(2, 3) + weight(1, 3), weight(1, 2)])


class Letters:
    """Count the letters a and b of a text."""

    asked = 0

    def embed(self, texts: list[str]) -> tuple[np.ndarray, int]:
        self.asked += len(texts)
        rows = np.array([[text.count("a"), text.count("b")] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), 0


def test_dense_embeds_no_text_twice() -> None:
    letters = Letters()
    old = Dense(letters, ["aa", "ab", "aa"])  # type: ignore[arg-type]
    assert (letters.asked, old.embedded, old.vectors.shape) == (2, 2, (3, 2))
    assert old.scores(["b"])[0] == pytest.approx([0, 0.5**0.5, 0])
    new = Dense(letters, ["ab", "bb"], old.known)  # type: ignore[arg-type]
    assert new.embedded == 1
    with pytest.raises(EngineUnavailable, match="labkit\\[rag\\]"):
        Dense(None, ["ab", "new"], old.known)


def test_fusion_adds_up_reciprocal_ranks() -> None:
    class Fixed:
        def __init__(self, *row: float) -> None:
            self.row = row

        def scores(self, questions: list[str]) -> np.ndarray:
            return np.array([self.row], np.float32)

    fused = Hybrid(Fixed(9, 5, 1), Fixed(0.1, 0.3, 0.2)).scores(["?"])  # type: ignore[arg-type]
    assert fused[0] == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62])


def test_ranks_and_their_table() -> None:
    texts = ["kettle weighs 2 kg", "door", "kettle kettle"]
    passages = [Passage("a.md", "A", text) for text in texts]
    asked = [
        Question("1", "plain", "kettle", "2 kg", "a.md", "weighs 2 kg"),
        Question("2", "plain", "kettle", "2 kg", "b.md", "weighs 2 kg"),
    ]
    ranks = first_ranks(BM25(texts), passages, asked)
    assert ranks.tolist() == [2, np.inf]
    head, row = measure({"BM25": ranks}).cells
    assert head == ["", "recall@1", "recall@3", "recall@5", "MRR"]
    assert row[1].startswith("0.00 (0.00–") and row[2].startswith("0.50 (") and row[4].startswith("0.25 (")


def test_shares_show_wilson_or_bootstrap() -> None:
    table = Shares("t", {"x": {"yes": [True] * 9 + [False], "mean": [0.5] * 10}})
    assert table.cells[1] == ["x", "0.90 (0.60–0.98)", "0.50 (0.50–0.50)"]
    assert "yes: n = 10" in repr(table)


def test_recorded_vectors_stand_in_for_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise EngineUnavailable("not installed: it", fix="pip install it")

    monkeypatch.setattr(retrieval, "Encoder", missing)
    encoder, known, who = minilm()
    assert encoder is None and "recorded vectors, since not installed: it" in who
    dense = Dense(encoder, [str(p) for p in PASSAGES], known)
    dense.embed([part for p in PASSAGES for part in sentences(p.text)])
    words = BM25([str(p) for p in PASSAGES])
    reworded = [q for q in QUESTIONS if q.kind == "reworded"]
    ours, theirs = (first_ranks(index, PASSAGES, reworded) <= 1 for index in (dense, words))
    assert dense.embedded == 0 and ours.mean() > theirs.mean() + 0.2
