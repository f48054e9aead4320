"""Find the GGUF file of a model, or make it: shipped weights are converted and quantized here, once.

What labkit made itself is trusted by its record. Any other file is inspected in Python first, then opened by
llama.cpp in a child process: a damaged file may take that one down, never the student's kernel.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from labkit.engines.llamacpp_convert import convert, level_of, quantize
from labkit.engines.llamacpp_random import write_random
from labkit.errors import ModelNotFound, TemplateRejected
from labkit.models import store
from labkit.models.card import ModelCard, Ref
from labkit.models.fit import check_fit
from labkit.models.gguf import inspect
from labkit.models.hardware import free_cores
from labkit.models.template import ChatTemplate
from labkit.models.trial import run_in_child

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIAL_TIMEOUT_S = 60.0


def gguf_file(card: ModelCard, variant: str, context: int) -> Path:
    """Return a GGUF file that was looked at and fits this machine; raise the `LabkitError` that says why not."""
    ref = card.refs.get("llamacpp")
    if ref is None:
        raise ModelNotFound(f"{card.alias} has no GGUF file", fix=f"labkit models info {card.alias}")
    if ref.package:
        path = derived(card, ref, variant.upper())
    else:
        path = local_file(card, ref, variant)
        inspect(path)
    listed = any(v.quant == variant for v in card.variants)
    check_fit(card, variant if listed else "F16", context)
    return path


def try_file(card: ModelCard, path: Path) -> None:
    """Let llama.cpp open a file that labkit did not make in a child process first."""
    if not card.refs["llamacpp"].package:
        run_in_child("labkit.engines.llamacpp_trial", [str(path)], TRIAL_TIMEOUT_S)


def local_file(card: ModelCard, ref: Ref, variant: str) -> Path:
    """Return a file the student named, or one that was pulled."""
    if not ref.repo:
        return Path(ref.file)
    path = store.file_of(card.alias, card.variant(variant).quant)
    if not store.verified(path):
        raise ModelNotFound(f"{card.alias} is not on this machine", fix=f"labkit models pull {card.alias}")
    return path


def derived(card: ModelCard, ref: Ref, quant: str) -> Path:
    """Return the file of a shipped model at `quant`; make it first if it is not there."""
    level_of(quant)
    source = shipped_folder(ref)
    origin = f"labkit/models/{ref.package} {weights_hash(source)[:12]}"
    make, maker = (write_random, "drawn") if ref.random else (convert, "converted")
    half, path = store.file_of(card.alias, "F16"), store.file_of(card.alias, quant)
    if made_from(path, origin):
        return path
    store.require_space(2 * card.variant("F16").file_bytes)
    with store.lock(half):
        if not made_from(half, origin):
            with store.atomic_file(half) as part:
                make(source, shipped_template(ref), part, card.title)
            store.seal(half, origin, f"{maker} by labkit")
        if not made_from(path, origin):
            with store.atomic_file(path) as part:
                quantize(half, part, quant, free_cores())
            store.seal(path, origin, "quantized by llama.cpp")
    return path


def made_from(path: Path, origin: str) -> bool:
    """Return whether `path` is whole and comes from these very weights, not from an older release's."""
    record = store.record_of(path)
    return record is not None and record.made_from == origin and store.verified(path)


def shipped_folder(ref: Ref) -> Path:
    """Return the folder inside labkit that holds a shipped model's weights."""
    return Path(str(files("labkit.models"))) / ref.package


def shipped_template(ref: Ref) -> str:
    """Return the chat template of a shipped model."""
    return (shipped_folder(ref) / "chat_template.jinja").read_text("utf-8")


@cache
def weights_hash(source: Path) -> str:
    """Return the sha256 of a shipped model's files, so that new weights never meet an old GGUF file."""
    digest = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        path = source / name
        if not path.exists():
            raise ModelNotFound(f"{source.name} has no {name}", fix="make nano   trains it (about 2 hours)")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def prompt_template(card: ModelCard, path: Path) -> ChatTemplate:
    """Return a shipped model's own template, or, sandboxed in a child process, the one the file carries."""
    ref = card.refs["llamacpp"]
    if ref.package:
        return ChatTemplate(shipped_template(ref), trusted=True)
    source = inspect(path).chat_template
    if source is None:
        return ChatTemplate(CHATML, trusted=True)
    template = ChatTemplate(source)
    try:
        template.render([{"role": "user", "content": "hi"}])
    except TemplateRejected:
        template.close()
        raise
    return template
