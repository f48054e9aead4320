"""Turn examples into token ids, with a weight for every token: how much it counts that the model writes it."""

from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer

from labkit.engines.toolschema import tool_schemas
from labkit.models.template import ChatTemplate
from labkit.training.data import Example, Level, examples
from labkit.training.tokenizer import train_tokenizer

# The first token of a called tool's name is the choice among tools; all that follows in the name is copied.
CHOICE_WEIGHT = 3.0
TOKENIZER_EXAMPLES = 20_000
TOKENIZER_MIX: dict[Level, float] = {"short": 0.2, "full": 0.8}


def nano_template() -> ChatTemplate:
    """Return the chat template that ships with nano."""
    source = files("labkit.models").joinpath("nano/chat_template.jinja").read_text("utf-8")
    return ChatTemplate(source, trusted=True)


def make_tokenizer(path: Path, seed: int) -> Tokenizer:
    """Load the tokenizer at `path`, or learn one from generated examples and keep it there."""
    if not path.exists():
        template = nano_template()
        stream = itertools.islice(examples(seed, TOKENIZER_MIX), TOKENIZER_EXAMPLES)
        texts = (template.render(e.messages, e.tools, add_generation_prompt=False) for e in stream)
        train_tokenizer(texts).save(str(path))
    return Tokenizer.from_file(str(path))


class Encoder:
    """Encode examples with one tokenizer and nano's template."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.template = nano_template()
        self.opening = tokenizer.encode("<|im_start|>assistant\n").ids
        self.naming = tokenizer.encode('<tool_call>\n{"name": "').ids
        self.end = tokenizer.token_to_id("<|im_end|>")

    def encode(self, example: Example) -> tuple[list[int], list[float]]:
        """Return token ids (T,) and weights (T,): 0 but for the assistant's own, its closing <|im_end|> included."""
        tools = tool_schemas(example.tools)  # as they are given to every engine
        text = self.template.render(example.messages, tools, add_generation_prompt=False)
        ids = self.tokenizer.encode(text).ids
        weights, at, width = [0.0] * len(ids), 0, len(self.opening)
        while at < len(ids):
            if ids[at] == self.opening[0] and ids[at : at + width] == self.opening:
                at += width
                while at < len(ids):
                    chosen = ids[at - len(self.naming) : at] == self.naming
                    weights[at] = CHOICE_WEIGHT if chosen else 1.0
                    at += 1
                    if ids[at - 1] == self.end:
                        break
            else:
                at += 1
        return ids, weights
