"""Pack lessons into rows of one width, so that shared tools are read once and nothing is padded for long.

A lesson is a stem, the tokens its examples have in common, and a branch for each example. A token sees the stem
of its own lesson and what stands before it in its own branch; places are numbered as if each example stood alone.
So a row gives the gradients of separate examples for a fraction of the work.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from labkit.training.data import Example
from labkit.training.encoding import Encoder
from labkit.training.guiding import Guide

POOL = 192
WIDTHS = (768, 1536)
Encoded = tuple[list[int], list[float]]


@dataclass
class Row:
    """Hold the tokens of a row: ids, what each counts if the model is to write it, places, lessons, branches."""

    ids: list[int] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    lessons: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)

    def add(self, encoded: Encoded, start: int, stop: int, lesson: int, branch: int) -> None:
        """Append a part of an encoded example."""
        count = stop - start
        self.ids += encoded[0][start:stop]
        self.own += encoded[1][start:stop]
        self.places += range(start, stop)
        self.lessons += [lesson] * count
        self.branches += [branch] * count

    def extend(self, other: Row) -> None:
        """Append another row, whose lessons are then others than this one's."""
        shift = self.lessons[-1] if self.lessons else 0
        self.ids += other.ids
        self.own += other.own
        self.places += other.places
        self.lessons += [lesson + shift for lesson in other.lessons]
        self.branches += other.branches


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold ids and places (B, T), the mask (B, 1, T, T), and what is scored.

    That is: flat positions (N,), next tokens (N,) and weights (N,) of the loss. `guides` (4, M) tells in which row
    which head should look from which column to which one.
    """

    ids: Tensor
    places: Tensor
    mask: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    guides: Tensor
    tokens: int
    examples: int


def stem_of(encoded: list[Encoded]) -> int:
    """Return how many tokens all examples share, short of what comes before the last thing the model says."""
    if len(encoded) == 1:
        return 0
    end = max(0, min(last_turn(own) for _, own in encoded) - 1)
    first = encoded[0][0]
    return next((at for at in range(end) if any(ids[at] != first[at] for ids, _ in encoded[1:])), end)


def last_turn(own: list[float]) -> int:
    """Return where the last run of the model's own tokens begins."""
    stop = next((at for at in range(len(own), 0, -1) if own[at - 1]), len(own))
    return next((at for at in range(stop, 0, -1) if not own[at - 1]), 0)


def planted(encoded: list[Encoded], width: int) -> Row:
    """Lay out one lesson: its stem, then as many branches as fit into `width`."""
    row, stem = Row(), stem_of(encoded)
    row.add(encoded[0], 0, stem, 1, 0)
    for branch, each in enumerate(encoded, 1):
        if len(row.ids) + len(each[0]) - stem <= width:
            row.add(each, stem, len(each[0]), 1, branch)
    return row


def rows_of(pool: list[Row], width: int) -> list[Row]:
    """Fill rows with lessons, the longest first, each into the fullest row that has room."""
    rows: list[Row] = []
    for lesson in sorted(pool, key=lambda row: -len(row.ids)):
        room = [row for row in rows if len(row.ids) + len(lesson.ids) <= width]
        if not room:
            rows.append(Row())
        max(room, key=lambda row: len(row.ids), default=rows[-1]).extend(lesson)
    return rows


def batches(
    stream: Iterator[list[Example]],
    encoder: Encoder,
    rng: random.Random,
    *,
    tokens: int,
    prompt_weight: float,
    prompt_sample: float,
) -> Iterator[Batch]:
    """Yield batches of about `tokens` tokens, all rows of a batch of one width."""
    guide = Guide(encoder)
    waiting: dict[int, list[Row]] = {width: [] for width in WIDTHS}
    while True:
        pools: dict[int, list[Row]] = {width: [] for width in WIDTHS}
        for lesson in itertools.islice(stream, POOL):
            encoded = [encoder.encode(example) for example in lesson]
            encoded = [each for each in encoded if len(each[0]) <= WIDTHS[-1]]
            if encoded:
                wide = max(len(ids) for ids, _ in encoded) > WIDTHS[0]
                width = WIDTHS[wide]
                pools[width].append(planted(encoded, width))
        groups: list[tuple[list[Row], int]] = []
        for width, pool in pools.items():
            rows, count = waiting[width] + rows_of(pool, width), max(1, tokens // width)
            rng.shuffle(rows)
            while len(rows) >= count:
                groups.append((rows[:count], width))
                del rows[:count]
            waiting[width] = rows
        rng.shuffle(groups)
        for group, width in groups:
            yield collate(group, width, rng, prompt_weight, prompt_sample, guide)


def collate(
    rows: list[Row],
    width: int,
    rng: random.Random,
    prompt_weight: float,
    sample: float,
    guide: Guide | None = None,
) -> Batch:
    """Pad rows on the right and pick what is scored: all of the model's own tokens, a sample of the others."""
    shape = (len(rows), width)
    ids, places, lessons, branches = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    own = np.zeros(shape, dtype=np.float32)
    for at, row in enumerate(rows):
        used = len(row.ids)
        for grid, values in (
            (ids, row.ids),
            (own, row.own),
            (places, row.places),
            (lessons, row.lessons),
            (branches, row.branches),
        ):
            grid[at, :used] = values
    # The next token is one to predict where it goes on with the same text; padding stands still at place 0.
    goes_on = (places[:, 1:] == places[:, :-1] + 1) & (branches[:, 1:] == branches[:, :-1])
    drawn = np.random.default_rng(rng.getrandbits(64)).random(goes_on.shape) < sample
    row_of, column = np.nonzero(goes_on & ((own[:, 1:] > 0) | drawn))
    weights = own[row_of, column + 1]
    weights[weights == 0] = prompt_weight / sample
    spare = -len(column) % 256  # few shapes: each new one costs torch a preparation
    scored = (row_of * width + column, ids[row_of, column + 1], weights)
    positions, targets, weighted = (torch.from_numpy(np.pad(each, (0, spare))) for each in scored)
    guides = [(at, *pair) for at, row in enumerate(rows) for pair in guides_of(row, guide)] if guide else []
    texts = [set(zip(row.lessons, row.branches, strict=True)) for row in rows]
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(places),
        mask(torch.from_numpy(lessons), torch.from_numpy(branches)),
        positions,
        targets,
        weighted,
        torch.tensor(guides, dtype=torch.long).reshape(-1, 4).T,
        sum(len(row.ids) for row in rows),
        sum(branch > 0 for text in texts for _, branch in text),
    )


def guides_of(row: Row, guide: Guide) -> list[tuple[int, int, int]]:
    """Return which head should look from which column of a row to which one."""
    columns: dict[tuple[int, int], list[int]] = defaultdict(list)
    for column, place in enumerate(zip(row.lessons, row.branches, strict=True)):
        columns[place].append(column)
    found = []
    for (lesson, branch), own in columns.items():
        if branch:
            text = columns.get((lesson, 0), []) + own
            pairs = guide([row.ids[c] for c in text], [row.own[c] > 0 for c in text])
            begin = 0 if branch == 1 else len(text) - len(own)  # what examples share counts once
            found += [(head, text[at - 1], text[to]) for head, at, to in pairs if at > begin]
    return found


def mask(lessons: Tensor, branches: Tensor) -> Tensor:
    """Return what to add to attention scores (B, 1, T, T): 0 where a token may look, much less where not."""
    width = lessons.shape[1]
    same = lessons[:, :, None] == lessons[:, None, :]
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    allowed = (same & seen).logical_and_(torch.ones(width, width, dtype=torch.bool).tril())
    return torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill_(~allowed, -1e9).unsqueeze(1)
