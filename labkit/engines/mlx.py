"""MLX inside this process: Apple's array library, made for Apple silicon; its CPU build runs the same on Linux.

The first answer is slow: MLX compiles its kernels when they are first needed, and keeps them for the next time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from labkit.engines.base import Engine
from labkit.engines.hf_folder import chat_template, pulled
from labkit.engines.llamacpp_files import made_from, shipped_folder, weights_hash
from labkit.engines.llamacpp_sampling import PENALTY_WINDOW
from labkit.engines.settings import settings_of
from labkit.engines.tokens import chunks_of, room, vendor_errors
from labkit.errors import EngineFailed, EngineUnavailable, ModelFileInvalid, ModelNotFound
from labkit.models import store
from labkit.models.card import ModelCard, Ref
from labkit.models.fit import check_fit
from labkit.types import Availability, Chunk, GenerationOptions, Message, Tool, require_whole

TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
BITS = {"8bit": 8, "4bit": 4}
GROUP = 64  # weights that share a scale and an offset: MLX's own default
PREFILL_SLICE = 64  # tokens read at once: Ctrl-C is seen between two slices
LEAST_TOP_P = 1e-6  # MLX takes 0 for "off"; everywhere else it means "the likeliest only"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Settle how a model is loaded. `context` is tokens, 0 for all the model has."""

    context: int = 0

    def __post_init__(self) -> None:
        require_whole("context", self.context, 0, 10**7)


class Mlx(Engine):
    """Run a model in MLX's format in this process."""

    name = "mlx"

    @classmethod
    def available(cls) -> Availability:
        """Look for the packages without importing them."""
        try:
            return Availability(True, f"{version('mlx-lm')} (mlx {version('mlx')})")
        except PackageNotFoundError:
            return Availability(False, reason="mlx-lm is not installed", fix="pip install 'labkit[mlx]'")

    @classmethod
    def default_variant(cls, card: ModelCard) -> str:
        """Return "4bit", or the name of the repository that the card points to."""
        ref = card.refs.get("mlx")
        return ref.repo.rpartition("/")[2] if ref and ref.repo else "4bit"

    @classmethod
    def load(cls, card: ModelCard, variant: str, options: Mapping[str, Any]) -> Self:
        """Find the model's folder, or make it from the shipped weights, then load it."""
        chosen = settings_of(LoadOptions, cls.name, options)
        with vendor_errors(EngineUnavailable, "mlx-lm cannot be imported", "pip install 'labkit[mlx]'"):
            import mlx_lm.generate  # noqa: F401
        check_fit(card, None, chosen.context or None)
        with vendor_errors(EngineFailed, "MLX cannot convert the model", f"labkit models rm {card.alias}"):
            folder = model_folder(card, variant, cls.default_variant(card))
        return cls(folder, chosen, trusted=card.shipped)

    def __init__(self, folder: Path, options: LoadOptions, *, trusted: bool) -> None:
        import mlx.core as mx
        from mlx_lm.utils import load_model
        from tokenizers import Tokenizer

        with vendor_errors(ModelFileInvalid, f"MLX cannot load {folder}", store.mend(folder / "config.json")):
            self.model, config = load_model(folder)
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.device = "GPU (Apple's Metal)"
        if mx.default_device() != mx.gpu:
            self.device = "cpu (MLX finds no Apple GPU here)"
            self.model.set_dtype(mx.float32)  # MLX computes float16 on a CPU up to 40 times slower
        mx.eval(self.model.parameters())  # MLX is lazy, and another thread could not do this thread's work
        longest = int(config.get("max_position_embeddings") or 2048)
        self.context = min(longest, options.context or longest)
        self.vocabulary = int(config["vocab_size"])
        ends = config.get("eos_token_id")
        self.ends = set(ends) if isinstance(ends, list) else {ends}
        self.file = folder / "model.safetensors"
        self.template = chat_template(folder, trusted=trusted)

    def stream(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions
    ) -> Iterator[Chunk]:
        """Read the prompt, then sample and yield; one token at a time."""
        from tokenizers.decoders import DecodeStream

        offered = () if options.tool_choice == "none" else tools
        with vendor_errors(EngineFailed, "MLX failed", "close() the model and load it again"):
            text = self.template.render(list(messages), list(offered) or None)
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            limit = room(len(ids), self.context, options.max_tokens)
            pieces, tokenizer = DecodeStream(skip_special_tokens=True), self.tokenizer

            def decode(token: int) -> str:
                return pieces.step(tokenizer, token) or ""  # None while a character is not complete

            tokens = self.draw(ids, limit, options)
            yield from chunks_of(tokens, decode, self.ends, options, len(ids), limit)

    def draw(self, ids: Sequence[int], limit: int, options: GenerationOptions) -> Iterator[int]:
        """Read `ids`, then yield the tokens that are drawn."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step
        from mlx_lm.sample_utils import make_logits_processors, make_sampler

        mx.random.seed(options.seed or 0)
        sampler = make_sampler(
            options.temperature,
            top_p=max(options.top_p, LEAST_TOP_P),
            min_p=options.min_p,
            top_k=options.top_k if options.top_k < self.vocabulary else 0,
        )
        penalty = options.repeat_penalty if options.repeat_penalty != 1 else None
        processors = make_logits_processors(None, penalty, PENALTY_WINDOW)
        how = {"sampler": sampler, "logits_processors": processors, "prefill_step_size": PREFILL_SLICE}
        for token, _ in generate_step(mx.array(ids), self.model, max_tokens=limit, **how):
            yield int(token)

    def close(self) -> None:
        """Free the model and the template's worker."""
        import mlx.core as mx

        self.model = None
        mx.clear_cache()
        self.template.close()


def model_folder(card: ModelCard, variant: str, default: str) -> Path:
    """Return the folder of a model in MLX's format: pulled, or made from the weights that labkit ships."""
    ref = card.refs.get("mlx") or Ref()
    if ref.repo:
        return pulled(card, "mlx", variant, default)
    variant = variant.lower()
    if not ref.package:
        raise ModelNotFound(f"{card.alias} has no MLX files", fix=f"labkit models info {card.alias}")
    if variant not in TYPES and variant not in BITS:
        names = ", ".join([*TYPES, *BITS])
        raise ModelNotFound(f"mlx has no variant {variant!r:.40}", fix=f"choose from: {names}")
    source = shipped_folder(ref)
    origin = f"labkit/models/{ref.package} {weights_hash(source)[:12]}"
    folder = store.path_of(card.alias, f"mlx-{variant}")
    weights = folder / "model.safetensors"
    with store.lock(folder):
        if not made_from(weights, origin):
            store.require_space(2 * card.variant("F16").file_bytes)
            convert(source, folder, variant)
            store.seal(weights, origin, "converted by mlx")
    return folder


def convert(source: Path, folder: Path, variant: str) -> None:
    """Write the Hugging Face folder `source` in MLX's format; the weights come last, and their seal after them."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    model, config = load_model(source, lazy=True)
    if variant in BITS:
        config["quantization"] = {"group_size": GROUP, "bits": BITS[variant]}
        nn.quantize(model, **config["quantization"])
    else:
        model.set_dtype(getattr(mx, TYPES[variant]))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        with store.atomic_file(folder / name) as part:
            shutil.copyfile(source / name, part)
    with store.atomic_file(folder / "config.json") as part:
        part.write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    with store.atomic_file(folder / "model.safetensors") as part, part.open("wb") as file:
        mx.save_safetensors(file, dict(tree_flatten(model.parameters())), {"format": "mlx"})
