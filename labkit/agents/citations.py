"""Let a model answer from passages, and show the sentence that its answer rests on.

Who cites is this program, not the model: it looks for the answer's words in what the model was given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.agents.retrieval import Dense, Passage, Question, sentences, words_of
from labkit.engines.base import Model

SILENT = "The text does not say."  # nano learned these words; another model is told them
INSTRUCTIONS = f"Answer in a few words, from the user's text alone. If it is not there, answer: {SILENT}"
REFUSALS = ("does not say", "not in the text", "not mention", "do not know", "don't know", "no information")
ARTICLES = {"the", "a", "an"}
SUPPORT = 0.6  # of an answer's words must stand in the sentence that is cited
SPAN, CHATTER = 6, 20  # words: the longest span that may be copied; what a right answer says around the value


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Hold an answer, with the passage and the sentence it rests on (None and "" where nothing supports it)."""

    text: str
    source: Passage | None = None
    sentence: str = ""

    @property
    def refused(self) -> bool:
        """Return whether it says that there is no answer."""
        return any(words in self.text.lower() for words in REFUSALS)

    def __repr__(self) -> str:
        cited = f"[{self.source.document}, {self.source.title}] “{self.sentence}”" if self.source else ""
        why = "refused" if self.refused else "unsupported: no sentence holds it"
        return f"{self.text}\n  {cited or why}"


def narrow(dense: Dense, question: str, passage: Passage, keep: int = 1) -> Passage:
    """Return the passage with only those sentences that fit the question best, in their order."""
    parts = sentences(passage.text)
    fit = dense.embed(parts) @ dense.embed([question])[0]
    return passage._replace(text=" ".join(parts[at] for at in sorted(np.argsort(-fit)[:keep])))


def ask(model: Model, question: str, passages: Sequence[Passage], spans: bool = False) -> Answer:
    """Ask with passages and cite; with `spans`, the engine admits nothing but their words, or a refusal.

    A model that does not come with labkit is told so in a system turn. Without passages, nobody is asked.
    """
    if not passages:
        return Answer(SILENT)
    head = [] if model.card.shipped else [{"role": "system", "content": INSTRUCTIONS}]
    text = "\n".join(passage.text for passage in passages)
    held: dict[str, Any] = {"grammar": grammar(text)} if spans else {}
    turn = {"role": "user", "content": f"{text}\n\n{question}"}
    return cite(model.chat([*head, turn], max_tokens=48, **held).text, question, passages)


def grammar(text: str) -> str:
    """Return GBNF for every run of up to 6 words within a sentence of the text, and for the refusal."""
    found = {SILENT}
    for sentence in sentences(text):
        words = sentence.rstrip(".!?").split()
        found |= {
            " ".join(words[a : a + n]).strip(",") for a in range(len(words)) for n in range(1, SPAN + 1)
        }
    return "root ::= " + " | ".join(json.dumps(span, ensure_ascii=False) for span in sorted(found))


def cite(said: str, question: str, passages: Sequence[Passage]) -> Answer:
    """Find the sentence that holds most of an answer's words, and all numbers; of equals, the question's nearest."""
    wanted, asked = set(words_of(said)), set(words_of(question))
    numbers = {word for word in wanted if any(map(str.isdigit, word))}
    best, answer = (SUPPORT, 0), Answer(said)
    for passage in passages if not answer.refused else ():
        for sentence in sentences(passage.text):
            words = set(words_of(f"{passage.title} {sentence}"))
            fit = (len(wanted & words) / max(1, len(wanted)), len(asked & words))
            if numbers <= words and fit >= best:
                best, answer = fit, Answer(said, passage, sentence)
    return answer


def is_right(answer: Answer, question: Question) -> bool:
    """Return whether an answer holds the right value and little else, or refuses where there is none."""
    if question.kind == "absent":
        return answer.refused
    said, right = (
        [w for w in words_of(text) if w not in ARTICLES] for text in (answer.text, question.answer)
    )
    return f" {' '.join(right)} " in f" {' '.join(said)} " and len(said) <= len(right) + CHATTER
