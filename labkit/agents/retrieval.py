"""Cut documents into passages, index them, find those that fit a question, and measure how well that went.

Sources: BM25 in Robertson and Zaragoza 2009 (Foundations and Trends in IR 3.4), its idf as in Lucene; reciprocal rank
fusion in Cormack, Clarke and Büttcher 2009 (SIGIR).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import labkit
from labkit.engines.base import Model
from labkit.engines.onnx_encoder import FIX, Encoder
from labkit.errors import EngineUnavailable, LabkitError, OptionInvalid
from labkit.metrics.intervals import wilson
from labkit.metrics.table import Table

CORPUS = Path(labkit.__file__).parents[1] / "datasets" / "edge_rag"
FUSION, RESAMPLES = 60, 2000
Array = NDArray[np.float32]
# scores(questions): a row for each question, a column for each text.
Index: TypeAlias = "BM25 | Dense | Hybrid"


class Passage(NamedTuple):
    """Hold a piece of a document, and the headings above it."""

    document: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.title}: {self.text}"


@dataclass(frozen=True, slots=True)
class Question:
    """Hold a question, its kind (plain, reworded, absent), the right answer, and the sentence that gives it."""

    id: str
    kind: str
    question: str
    answer: str
    document: str
    evidence: str

    def answered_by(self, passage: Passage) -> bool:
        """Return whether the passage holds the whole sentence that answers."""
        return bool(self.evidence) and passage.document == self.document and self.evidence in passage.text


def read_corpus(folder: Path = CORPUS) -> tuple[dict[str, str], list[Question]]:
    """Return documents by name, and questions about them; raise `LabkitError` where there is none."""
    try:
        lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
        documents = {p.name: p.read_text("utf-8") for p in sorted((folder / "documents").glob("*.md"))}
        return documents, [Question(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as exc:
        raise LabkitError(f"{folder} holds no corpus: {exc}", fix="clone the whole repository") from exc


def sections(documents: Mapping[str, str]) -> list[Passage]:
    """Cut Markdown at its headings of the second level."""
    found = []
    for name, text in documents.items():
        head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
        for part in parts:
            heading, _, body = part.partition("\n")
            title = f"{head.strip().removeprefix('# ')}, {heading}"
            found.append(Passage(name, title, " ".join(body.split())))
    return found


def windows(documents: Mapping[str, str], size: int, overlap: int = 0) -> list[Passage]:
    """Cut every `size` words, whatever they mean; a window repeats the last `overlap` words of the one before."""
    if not 0 <= overlap < size:
        raise OptionInvalid(f"windows of {size} words that share {overlap}", fix="0 ≤ overlap < size")
    found = []
    for name, text in documents.items():
        head, _, body = text.partition("\n")
        words = re.sub(r"^## .*$", "", body, flags=re.MULTILINE).split()
        starts = range(0, max(1, len(words) - overlap), size - overlap)
        found += [Passage(name, head.strip("# "), " ".join(words[at : at + size])) for at in starts]
    return found


def sentences(text: str) -> list[str]:
    """Cut a text after each full stop, question mark or exclamation mark that a space follows."""
    return re.split(r"(?<=[.!?]) ", text)


def words_of(text: str) -> list[str]:
    """Return the words in lower case, signs left out."""
    return re.findall(r"\w+", text.lower())


class BM25:
    """Score by shared words: rare ones count more, repeats less and less (`k1`), long texts are marked down (`b`)."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counts = [Counter(words_of(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], np.float32)
        self.size, self.weights = len(texts), dict[str, Array]()
        for word in set().union(*counts):
            often = np.array([count[word] for count in counts], np.float32)
            holding = np.count_nonzero(often)
            rarity = np.log(1 + (self.size - holding + 0.5) / (holding + 0.5))
            self.weights[word] = (
                rarity * often * (k1 + 1) / (often + k1 * (1 - b + b * lengths / lengths.mean()))
            )

    def scores(self, questions: Sequence[str]) -> Array:
        """Add up the weights of each question's words, text by text."""
        none = np.zeros(self.size, np.float32)
        return np.stack([sum((self.weights.get(w, none) for w in words_of(q)), none) for q in questions])


class Dense:
    """Score by the cosine of vectors, which an embedder makes of every text that is not `known` yet (None: of none)."""

    def __init__(
        self, embedder: Model | Encoder | None, texts: Sequence[str], known: Mapping[str, Array] = {}
    ) -> None:
        self.embedder, self.known, self.embedded = embedder, dict(known), 0
        self.vectors = self.embed(texts)

    def embed(self, texts: Sequence[str]) -> Array:
        """Return one vector of length 1 for each text, shape (N, D); `embedded` counts those that had to be made."""
        new = list(dict.fromkeys(text for text in texts if text not in self.known))
        if new and self.embedder is None:
            raise EngineUnavailable(f"no vector was recorded for {new[0]!r:.60}", fix=FIX)
        if new and self.embedder:
            self.known |= zip(new, self.embedder.embed(new)[0], strict=True)
        self.embedded += len(new)
        return np.stack([self.known[text] for text in texts])

    def scores(self, questions: Sequence[str]) -> Array:
        """Multiply the questions' vectors with those of the texts."""
        return np.asarray(self.embed(questions) @ self.vectors.T)


def minilm() -> tuple[Encoder | None, dict[str, Array], str]:
    """Return the encoder or, where it is not installed, None and recorded vectors; and in words which it is."""
    try:
        encoder = Encoder()
        return encoder, {}, repr(encoder)
    except EngineUnavailable as error:
        with np.load(CORPUS / "minilm.npz") as kept:
            vectors = kept["vectors"].astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            known = dict(zip(kept["texts"].tolist(), vectors, strict=True))
        return None, known, f"all-MiniLM-L6-v2: recorded vectors, since {error}"


class Hybrid:
    """Score by reciprocal rank fusion: 1 / (60 + rank) summed over indexes, whose scores need no common scale."""

    def __init__(self, *indexes: Index) -> None:
        self.indexes = indexes

    def scores(self, questions: Sequence[str]) -> Array:
        """Fuse the ranks that the indexes give."""
        ranks = (
            (-index.scores(questions)).argsort(axis=1, kind="stable").argsort(axis=1)
            for index in self.indexes
        )
        return np.asarray(sum(1 / (FUSION + 1 + rank) for rank in ranks), np.float32)


def first_ranks(
    index: Index, passages: Sequence[Passage], questions: Sequence[Question]
) -> NDArray[np.float64]:
    """Return, for each question, the place (1 is best) of the first passage that answers it; infinity for none."""
    order = (-index.scores([q.question for q in questions])).argsort(axis=1, kind="stable")
    ranks = []
    for question, row in zip(questions, order, strict=True):
        hits = (place for place, at in enumerate(row, 1) if question.answered_by(passages[at]))
        ranks.append(float(next(hits, np.inf)))
    return np.array(ranks)


class Shares(Table):
    """Show means with 95 % intervals: Wilson's for yes and no, a bootstrap's for other figures."""

    def __init__(self, title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.title, self.rows = title, {n: {c: np.asarray(v) for c, v in r.items()} for n, r in rows.items()}

    @property
    def cells(self) -> list[list[str]]:
        """Return each figure as `mean (low–high)`."""
        heads = list(next(iter(self.rows.values())))
        return [["", *heads], *([name, *map(_share, row.values())] for name, row in self.rows.items())]

    @property
    def footer(self) -> list[str]:
        """Say how many cases there are, and what the brackets mean."""
        sizes = {
            f"{column}: n = {len(values)}" for row in self.rows.values() for column, values in row.items()
        }
        return [", ".join(sorted(sizes)), "in brackets: 95 % interval"]


def _share(values: NDArray[np.float64]) -> str:
    if values.dtype == bool:
        low, high = wilson(int(values.sum()), len(values))
    else:
        drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{values.mean():.2f} ({low:.2f}–{high:.2f})"


def measure(ranks: Mapping[str, NDArray[np.float64]], title: str = "Retrieval, measured") -> Shares:
    """Make a table of recall@k (an answering passage among the first k) and MRR (the mean of 1 / first rank)."""
    rows = {n: {**{f"recall@{k}": r <= k for k in (1, 3, 5)}, "MRR": 1 / r} for n, r in ranks.items()}
    return Shares(title, rows)
