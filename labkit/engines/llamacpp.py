"""llama.cpp inside this process, through llama-cpp-python's low-level functions.

The library's own `create_completion` detokenizes the whole answer again at every token, which costs O(n²). Here a
token goes once through decode, sample and an incremental UTF-8 decoder. The context keeps the tokens it has read,
so that the next turn of a conversation only reads what is new.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labkit.engines.base import Engine, installed
from labkit.engines.llamacpp_draft import Drafter
from labkit.engines.llamacpp_embed import cut, mean_states, unit
from labkit.engines.llamacpp_files import gguf_file, prompt_template, try_file
from labkit.engines.llamacpp_native import Context, LoadOptions
from labkit.engines.llamacpp_sampling import sampler
from labkit.engines.settings import settings_of
from labkit.engines.stops import StopReader
from labkit.errors import ContextOverflow
from labkit.models.card import ModelCard
from labkit.models.template import ChatTemplate
from labkit.types import (
    Availability,
    Chunk,
    FinishReason,
    GenerationOptions,
    Message,
    TokenScore,
    Tool,
    Usage,
)

INSTALL = "pip install 'labkit[llamacpp]'   (needs a C++ compiler; conda-forge has it ready-built)"


class LlamaCpp(Engine):
    """Run a GGUF file in this process."""

    name = "llamacpp"
    tools = score = logits = embed = constrained = raw_speed = True

    @classmethod
    def available(cls) -> Availability:
        """Look for the package without importing it."""
        return installed("llama-cpp-python", INSTALL)

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Find or make the GGUF file, then load it."""
        chosen = settings_of(LoadOptions, cls.name, options)
        path = gguf_file(card, variant, context=chosen.context)
        with ExitStack() as undo:
            template = prompt_template(card, path)
            undo.callback(template.close)
            try_file(card, path)
            context = Context(path, chosen)
            undo.callback(context.free)
            engine = cls(context, template, Drafter(context, chosen) if chosen.draft else None)
            undo.pop_all()
        return engine

    def __init__(self, context: Context, template: ChatTemplate, drafter: Drafter | None) -> None:
        self.context, self.template, self.drafter, self.file = context, template, drafter, context.path
        template.tokens = {"bos_token": context.bos, "eos_token": context.eos}
        template.control_tokens = context.control_tokens(template.source)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
        """Render the chat template and tokenize it; raise `ContextOverflow` if no room is left to answer."""
        ids = self.context.tokenize(self.template.render(list(messages), list(tools) or None))
        self._check_room("prompt", ids, 1)
        return ids

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Read the prompt, then yield a chunk for each token that is sampled."""
        context = self.context
        ids = self.prompt(messages, () if options.tool_choice == "none" else tools)
        chain = sampler(context, options, tools)
        is_end = context.lib.llama_vocab_is_eog
        decode_text = codecs.getincrementaldecoder("utf-8")("replace").decode
        stops = StopReader(options.stop)
        limit = min(options.max_tokens, context.size - len(ids))
        reason: FinishReason = "length"
        end: tuple[int, ...] = ()
        written, stopped = 0, False
        try:
            cached = context.read(ids)
            for token in (self.drafter or context).tokens(chain, limit):
                if not options.ignore_eos and is_end(context.vocab, token):
                    reason, end = "stop", (token,)
                    break
                written += 1
                text, stopped = stops.feed(decode_text(context.piece(token)))
                yield Chunk(text, 1, ids=(token,))
                if stopped:
                    reason = "stop"
                    break
            tail = "" if stopped else stops.held + decode_text(b"", True)
            yield Chunk(tail, 0, finish_reason=reason, usage=Usage(len(ids), written, cached), ids=end)
        finally:
            context.lib.llama_sampler_free(chain)

    def score_text(self, text: str) -> list[TokenScore]:
        """Return each token of `text` with ln p(token | tokens before it)."""
        ids = self.context.tokenize(text)
        self._check_room("text", ids)
        values = self.context.logprobs(ids)
        pieces = [self.context.piece(i, special=True).decode("utf-8", "replace") for i in ids]
        return [TokenScore(i, p, float(v)) for i, p, v in zip(ids, pieces, values, strict=True)]

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Return token ids; control tokens in `text` stay plain text without `special`."""
        return self.context.tokenize(text, special)

    def window_logits(self, ids: Sequence[int], first: int) -> NDArray[np.float32]:
        """Return the scores of what may follow ids[first], …, ids[-1], shape (len(ids) - first, V)."""
        self._check_room("text", ids)
        rows = [raw.copy() for _, raw in self.context.scores(self.context.with_bos(ids), first)]
        return np.concatenate(rows)

    def time_raw(self, prompt: int, generate: int) -> tuple[float, float]:
        """Return seconds to read `prompt` random tokens, and to write `generate`; the cache is empty after."""
        self._check_room("text", range(max(prompt, generate)))
        return self.context.time_reading(prompt), self.context.time_writing(generate)

    def embed_texts(self, texts: Sequence[str], truncate: bool) -> tuple[NDArray[np.float32], int]:
        """Return the mean of the last layer's states for each text, and the tokens read."""
        ids = cut([self.context.tokenize(text, special=False) for text in texts], self.context.size, truncate)
        return unit(mean_states(self.context, ids)), sum(map(len, ids))

    def _check_room(self, what: str, ids: Sequence[int], more: int = 0) -> None:
        if len(ids) + more > self.context.size:
            raise ContextOverflow(
                f"the {what} has {len(ids)} tokens, the context {self.context.size}",
                fix=f"load(…, context={2 ** len(ids).bit_length()})",
            )

    def close(self) -> None:
        """Free models, contexts and the template's worker."""
        if self.drafter:
            self.drafter.free()
        self.context.free()
        self.template.close()
