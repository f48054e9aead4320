"""Say where the model has to look, so that its attention can be taught and not only its answers.

A model that chooses among six tools is wrong about one token, the first one of the name. From that alone it learns
very slowly which of some hundred tokens before it should have looked at. But of all that it copies, names of tools,
labels, values and facts, the source is known; and where there is none, it should look at nothing, which is the
first token of every prompt. After Liu et al., "Neural machine translation with supervised attention" (2016).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from labkit.training.data import SILENCES
from labkit.training.data.draw import spaced
from labkit.training.encoding import Encoder

# Which of the guided heads looks: for what the offer has, for what was said, and, a layer earlier, for what is known
# of the parameter whose value comes next.
CHOICE, VALUE, SCHEMA = 0, 1, 2
NOTHING = 0  # the place to look at where nothing fits
ARROW = "-> "  # before a label
ASKING = "Please tell me the "
SENTENCE = 40  # tokens to look through for its end
Pair = tuple[int, int, int]


class Guide:
    """Find in an encoded text the sources of what the model writes."""

    def __init__(self, encoder: Encoder) -> None:
        tokenizer = encoder.tokenizer
        size = tokenizer.get_vocab_size()
        self.words = [tokenizer.decode([at], skip_special_tokens=False) for at in range(size)]
        self.naming, self.end = encoder.naming, {encoder.end}
        self.silences = [tokenizer.encode(text).ids for text in SILENCES]
        self.quotes, self.stops, self.digits, self.breaks = (
            {at for at, word in enumerate(self.words) if word.strip(" ") and word.strip(" ")[0] in signs}
            for signs in ('"', ",}]", "0123456789", '.,;:!?\n"<]}')
        )
        self.gaps = {at for at, word in enumerate(self.words) if word == " "}
        self.phrase_ends = self.end | {at for at, word in enumerate(self.words) if word in (".", ",", "and")}

    def __call__(self, ids: Sequence[int], mine: Sequence[bool]) -> list[Pair]:
        """Return (head, place, source) for what the model says (`mine`) and has read word for word."""
        read, pairs = as_bytes([0 if own else at for at, own in zip(ids, mine, strict=True)]), list[Pair]()
        for begin, stop in turns(mine):
            seen = read[: 2 * begin]
            first = self.words[ids[begin]]
            if first == "<tool_call>":
                pairs += self.calls(ids, begin, stop, seen)
            elif first == '{"':
                pairs += self.data(ids, begin, stop, seen)
            else:
                pairs += self.sentence(ids, begin, stop, seen)
        return pairs

    def calls(self, ids: Sequence[int], begin: int, stop: int, read: bytes) -> Iterator[Pair]:
        """Yield names of tools and of parameters, as the offer has them, and values, as the last message does."""
        naming, valued, offer = len(self.naming), False, 0
        for at in range(begin + naming, stop):
            if list(ids[at - naming : at]) == self.naming:
                if places := self.places(self.until(ids, at, self.quotes), read):
                    yield (CHOICE, at, places[-1])
                    if at == begin + naming:  # whether to call at all is the same choice
                        yield (CHOICE, begin, places[-1])
                    # The name stands once more after the tool's JSON; users may say it, too.
                    offer = next((p for p in reversed(places) if self.words[ids[p - 1]].endswith(' "')), 0)
            elif self.words[ids[at - 1]] in (' {"', ' "') and (key := self.key(ids, at)):
                yield from self.argument(ids, at, key, offer, read)
            elif (ends := self.valued(ids, at)) and (places := self.places(self.until(ids, at, ends), read)):
                yield (VALUE, at, places[-1])
                if not valued:  # it may call since there is a value, and need not ask
                    yield (VALUE, begin, places[-1])
                valued = True

    def key(self, ids: Sequence[int], at: int) -> Sequence[int]:
        """Return the tokens of the key in JSON that begins at a place; empty where none does."""
        key = self.until(ids, at, self.quotes)
        ends = ids[at + len(key) : at + len(key) + 1]
        return key if [self.words[i] for i in ends] == ['":'] else ()

    def argument(
        self, ids: Sequence[int], at: int, key: Sequence[int], offer: int, read: bytes
    ) -> Iterator[Pair]:
        """Yield a parameter's name, and the end of its schema for the type and the first letters of its value."""
        for place in reversed(self.places(key, read[: 2 * offer])):
            after = place + len(key)
            if self.words[ids[after]] == '":' and self.words[ids[after + 1]].startswith(" {"):
                if any("\n" in self.words[i] for i in ids[place:offer]):
                    return  # it stands in another tool's schema
                end = self.closed(ids, after + 1)
                yield (CHOICE, at, place)
                yield (SCHEMA, at + len(key) + 1, end)
                yield (SCHEMA, at + len(key) + 2, end)
                return

    def closed(self, ids: Sequence[int], at: int) -> int:
        """Return where the object in JSON that begins at a place ends."""
        depth = 0
        for place in range(at, len(ids)):
            word = self.words[ids[place]]
            depth += word.count("{")
            if "}" in word and (depth := depth - word.count("}")) <= 0:
                return place
        return at

    def data(self, ids: Sequence[int], begin: int, stop: int, read: bytes) -> Iterator[Pair]:
        """Yield values in JSON; that there is one, and whether it needs quotes, shows one token before."""
        for at in range(begin + 2, stop):
            if self.words[ids[at]] == "null":
                source = NOTHING
            elif ends := self.valued(ids, at):
                value = self.until(ids, at, ends)
                places = self.places(value, read)
                if not places:
                    continue
                source = self.known(ids, places[-1], len(value))
            else:
                continue
            yield (VALUE, at, source)
            yield (VALUE, at - 1, source)

    def sentence(self, ids: Sequence[int], begin: int, stop: int, read: bytes) -> Iterator[Pair]:
        """Yield whole answers, as labels and facts are, and what follows "is"."""
        said = list(ids[begin : stop - 1])
        if said in self.silences:
            yield (CHOICE, begin, NOTHING)
        elif "".join(self.words[at] for at in said).startswith(ASKING):
            yield from self.question(ids, begin, stop, read)
        elif self.words[said[-1]] != ".":
            if places := self.places(said, read):
                labels = [
                    at for at in places if "".join(self.words[i] for i in ids[at - 3 : at]).endswith(ARROW)
                ]
                yield (CHOICE, begin, labels[0] if labels else self.known(ids, places[0], len(said)))
        else:
            for at in range(begin + 2, stop):
                if self.words[ids[at - 1]] == " " and self.words[ids[at - 2]] in ("is", "are"):
                    value = self.until(ids, at, self.phrase_ends)
                    if value and self.words[value[-1]] == " ":
                        value = value[:-1]
                    if found := self.places(value, read):
                        yield (VALUE, at, self.known(ids, found[-1], len(value)))

    def question(self, ids: Sequence[int], begin: int, stop: int, read: bytes) -> Iterator[Pair]:
        """Yield the parameters that are asked for, where the tool's schema has them, and the tool to call then."""
        asked = list[tuple[int, int]]()
        for at in range(begin + 2, stop):
            if [self.words[i] for i in ids[at - 2 : at]] == ["the", " "]:
                place = self.parameter(ids, self.until(ids, at, self.phrase_ends), read)
                asked += [(at, place)] if place else []
        for at, place in asked:
            yield (VALUE, at, place)
        if asked:
            first = asked[0][1]
            yield (VALUE, begin, first)
            line = next(at for at in range(first, begin) if "\n" in self.words[ids[at]])
            tool = next(at for at in range(line, 0, -1) if self.words[ids[at - 1]].endswith(' "'))
            yield (CHOICE, begin, tool)

    def parameter(self, ids: Sequence[int], said: Sequence[int], read: bytes) -> int | None:
        """Return where the offer of tools has a parameter last; nothing if several tools have one of that name."""
        name, found = "".join(self.words[at] for at in said).strip(), list[int]()
        for place in self.places(self.until(said, 0, self.gaps), read):
            key = "".join(self.words[at] for at in self.until(ids, place, self.quotes))
            if self.words[ids[place - 1]].endswith('"') and spaced(key) == name:
                found.append(place)
        alone = found and not any("\n" in self.words[at] for at in ids[found[0] : found[-1]])
        return found[-1] if alone else None

    def valued(self, ids: Sequence[int], at: int) -> Container[int]:
        """Return what ends the value in JSON that begins at a place; empty where none does."""
        two, before, word = (self.words[ids[place]] for place in (at - 2, at - 1, at))
        if two.endswith('":') and before in (' "', ' ["'):
            return self.quotes
        return self.stops if two.endswith('":') and before == " " and word.isdigit() else frozenset()

    def until(self, ids: Sequence[int], at: int, ends: Container[int]) -> Sequence[int]:
        """Return the tokens from a place to the first of `ends`."""
        return ids[at : next((stop for stop in range(at, len(ids)) if ids[stop] in ends), len(ids))]

    def known(self, ids: Sequence[int], at: int, length: int) -> int:
        """Return where a reader knows of a value what it is: there, or at the last word of a sentence that goes on.

        In "they wrote 52 as the price" it is the last word that has read both, the number and what it means.
        """
        last = at
        for place in range(at + length, min(at + length + SENTENCE, len(ids))):
            if ids[place] in self.breaks:
                break
            last = place if self.words[ids[place]].strip() else last
        return last

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


def turns(mine: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield where each run of the model's own tokens begins and where it is over."""
    begin = None
    for at, own in enumerate([*mine, False]):
        if own and begin is None:
            begin = at
        elif not own and begin is not None:
            yield begin, at
            begin = None


def as_bytes(ids: Sequence[int]) -> bytes:
    """Write token ids as two bytes each, so that one text can be looked for in another."""
    return b"".join([at.to_bytes(2, "big") for at in ids])
