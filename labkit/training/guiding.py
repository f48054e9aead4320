"""Say where the model has to look, so that its attention can be taught and not only its answers.

A model that chooses among six tools is wrong about one token, the first one of the name. From that alone it learns
very slowly which of some hundred tokens before it should have looked at. But of all that it copies, names of tools,
labels, values and facts, the source is known. After Liu et al., "Neural machine translation with supervised
attention" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence

from labkit.training.encoding import Encoder

CHOICE, VALUE = 0, 1  # which of the guided heads looks
ARROW = "->"  # before a label
Pair = tuple[int, int, int]


class Guide:
    """Find in an encoded text the sources of what the model writes."""

    def __init__(self, encoder: Encoder) -> None:
        self.naming, self.end = encoder.naming, {encoder.end}
        size, decode = encoder.tokenizer.get_vocab_size(), encoder.tokenizer.decode
        self.words = [decode([at], skip_special_tokens=False) for at in range(size)]
        self.quotes, self.stops, self.digits = (
            {at for at, word in enumerate(self.words) if word and word[0] in signs}
            for signs in ('"', ",}]", "0123456789")
        )

    def __call__(self, ids: Sequence[int], mine: Sequence[bool]) -> list[Pair]:
        """Return (head, place, source) for what the model says (`mine`) and has read word for word.

        Those are names of called tools, from where the offer's lines end with them; whole answers, as labels and
        facts are; and, for the other head, values in JSON.
        """
        read, pairs = as_bytes([0 if own else at for at, own in zip(ids, mine, strict=True)]), list[Pair]()
        for at in range(2, len(ids)):
            if mine[at] and (found := self.begins(ids, at, first=not mine[at - 1])):
                head, ends = found
                stop = next((end for end in range(at, len(ids)) if ids[end] in ends), len(ids))
                if places := self.places(ids[at:stop], read[: 2 * at]):
                    labels = [
                        to for to in places if ARROW in self.words[ids[to - 2]] + self.words[ids[to - 1]]
                    ]
                    # A fact stands in the text before the question, a value in the last message.
                    pairs.append((head, at, labels[0] if labels else places[0 if ends is self.end else -1]))
        return pairs

    def begins(self, ids: Sequence[int], at: int, *, first: bool) -> tuple[int, set[int]] | None:
        """Tell whether a name, an answer (at the `first` token of a turn) or a value begins, and what ends it."""
        two, before, word = (self.words[ids[place]] for place in (at - 2, at - 1, at))
        if first:
            return None if word in ("<tool_call>", '{"') else (CHOICE, self.end)
        if ids[at - len(self.naming) : at] == self.naming:
            return CHOICE, self.quotes
        if two.endswith('":') and before in (' "', ' ["'):
            return VALUE, self.quotes
        return (VALUE, self.stops) if two.endswith('":') and before == " " and word.isdigit() else None

    def places(self, ids: Sequence[int], read: bytes) -> list[int]:
        """Return where `ids` stand in what was read; a number only where it is not a part of a longer one."""
        wanted, found, at = as_bytes(ids), list[int](), 0
        while ids and (at := read.find(wanted, at + 1)) >= 0:
            before, after = (int.from_bytes(read[a : a + 2], "big") for a in (at - 2, at + len(wanted)))
            longer = (ids[0] in self.digits and before in self.digits) or (
                ids[-1] in self.digits and after in self.digits
            )
            if at % 2 == 0 and not longer:
                found.append(at // 2)
        return found


def as_bytes(ids: Sequence[int]) -> bytes:
    """Write token ids as two bytes each, so that one text can be looked for in another."""
    return b"".join([at.to_bytes(2, "big") for at in ids])
