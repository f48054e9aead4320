"""ONNX Runtime GenAI inside this process: the same graph on every vendor's execution provider.

Prompts are rendered by labkit's own `ChatTemplate`, as for llama.cpp. The library can also hold output to a JSON
schema or a Lark grammar, but not to GBNF, and its byte tokens go wrong there (0.18): so this engine does neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from labkit.engines.base import Engine, installed
from labkit.engines.hf_folder import chat_template, read_json
from labkit.engines.onnx_files import default_variant, model_file
from labkit.engines.settings import settings_of
from labkit.engines.tokens import chunks_of, room, vendor_errors
from labkit.errors import EngineFailed, EngineUnavailable, ModelFileInvalid, OptionInvalid
from labkit.models import store
from labkit.models.card import ModelCard
from labkit.models.fit import check_fit
from labkit.models.hardware import free_cores
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool, require_whole

PACKAGES = ("onnxruntime-genai", "onnxruntime-genai-cuda", "onnxruntime-genai-directml")
PREFILL_SLICE = 64  # tokens read at once: Ctrl-C is seen between two slices
MAX_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Settle how a model is loaded.

    `context` is tokens, 0 for all the model has; 0 threads are the cores that are free. `provider` is "auto"
    (what the export is made for), "cpu", or ONNX Runtime GenAI's name of another.
    """

    context: int = 0
    threads: int = 0
    provider: str = "auto"

    def __post_init__(self) -> None:
        require_whole("context", self.context, 0, 10**7)
        require_whole("threads", self.threads, 0, 512)
        if not isinstance(self.provider, str):
            raise OptionInvalid.of("provider", self.provider, "provider='cpu'")


class Onnx(Engine):
    """Run an ONNX export in this process."""

    name = "onnx"

    @classmethod
    def available(cls) -> Availability:
        """Look for one of the packages, which differ in their execution providers, without importing it."""
        found = [installed(package, "pip install 'labkit[onnx]'") for package in PACKAGES]
        return next((state for state in found if state.installed), found[0])

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Return "int4", or the name of the folder that the card points to."""
        return default_variant(card)

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Find the export and load it with the chosen execution provider."""
        chosen = settings_of(LoadOptions, cls.name, options)
        folder, file = model_file(card, variant)
        check_fit(card, None, chosen.context or None)
        return cls(folder, file, chosen, trusted=card.shipped)

    def __init__(self, folder: Path, file: Path, options: LoadOptions, *, trusted: bool) -> None:
        with vendor_errors(EngineUnavailable, "onnxruntime-genai cannot be imported", "labkit doctor --deep"):
            import onnxruntime_genai as og
        og.disable_telemetry_events()
        self.og, self.file = og, file
        settings = read_json(folder / "genai_config.json")["model"]
        self.context: int = min(settings["context_length"], options.context or settings["context_length"])
        self.vocabulary: int = settings["vocab_size"]
        provider, reason = choose_provider(settings["decoder"], options.provider)
        self.device = f"{provider} ({reason})"
        config = self._config(folder, provider, options)
        with vendor_errors(ModelFileInvalid, f"ONNX Runtime cannot load {file}", store.mend(file)):
            self.model = og.Model(config)
            self.tokenizer = og.Tokenizer(self.model)
        self.ends = {int(token) for token in self.tokenizer.eos_token_ids}
        self.template = chat_template(folder, trusted=trusted)

    def _config(self, folder: Path, provider: str, options: LoadOptions) -> Any:
        assert self.file is not None
        session = {"intra_op_num_threads": options.threads or free_cores(), "inter_op_num_threads": 1}
        decoder = {"filename": self.file.relative_to(folder).as_posix(), "session_options": session}
        what = f"this onnxruntime-genai does not run on {provider!r}"
        fix = "provider='cpu', or in its place: pip install onnxruntime-genai-cuda (NVIDIA), …-directml (Windows)"
        with vendor_errors(EngineUnavailable, what, fix):
            config = self.og.Config(str(folder))
            config.overlay(json.dumps({"model": {"decoder": decoder}}))
            if options.provider != "auto":
                config.clear_providers()
                if provider.lower() != "cpu":
                    config.append_provider(provider)
                    self.og.Model(config)  # only loading shows whether the provider is really there
        return config

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Read the prompt, then sample and yield; one token at a time."""
        if options.min_p:
            raise OptionInvalid("onnx has no min_p", fix="min_p=0, or load(…, engine='llamacpp')")
        offered = () if options.tool_choice == "none" else tools
        with vendor_errors(EngineFailed, "ONNX Runtime failed", "close() the model and load it again"):
            ids = self.tokenizer.encode(self.template.render(list(messages), list(offered) or None))
            limit = room(len(ids), self.context, options.max_tokens)
            tokens = self.draw(ids, limit, options)
            decode = self.tokenizer.create_stream().decode
            yield from chunks_of(tokens, decode, self.ends, options, len(ids), limit)

    def draw(self, ids: Any, limit: int, options: GenerationOptions) -> Iterator[int]:
        """Read `ids`, then yield the tokens that are drawn; the generator frees its cache when it is dropped."""
        length = len(ids) + limit
        search: dict[str, Any] = {"max_length": length, "repetition_penalty": options.repeat_penalty}
        search["min_length"] = length if options.ignore_eos else 0  # until then, no end may be drawn
        if options.temperature > 0:
            search |= {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p}
            search |= {"top_k": min(options.top_k, self.vocabulary)}
            search |= {"random_seed": (options.seed or 0) & MAX_SEED}
        params = self.og.GeneratorParams(self.model)
        params.set_search_options(**search)
        generator = self.og.Generator(self.model, params)
        for at in range(0, len(ids), PREFILL_SLICE):
            generator.append_tokens(ids[at : at + PREFILL_SLICE])
        while not generator.is_done():
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])

    def close(self) -> None:
        """Free the model and the template's worker."""
        self.model = self.tokenizer = None
        self.template.close()


def choose_provider(decoder: Mapping[str, Any], wanted: str) -> tuple[str, str]:
    """Return the execution provider and the reason: what was asked for, or what the export is made for."""
    if wanted != "auto":
        return wanted, "asked for"
    named = [name for entry in decoder["session_options"].get("provider_options", ()) for name in entry]
    return named[0] if named else "cpu", "what this export is made for"
