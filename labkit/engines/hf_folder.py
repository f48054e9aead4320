"""What a Hugging Face folder says of prompts: its chat template, and the tokens that no user may forge.

Engines that run such a folder (onnx, mlx, foundry) share this; llama.cpp has it all in its one file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labkit.engines.llamacpp_files import CHATML
from labkit.errors import ModelFileInvalid, ModelNotFound
from labkit.models import store
from labkit.models.card import ModelCard
from labkit.models.download import pulled_folder
from labkit.models.template import ChatTemplate


def chat_template(folder: Path, *, trusted: bool) -> ChatTemplate:
    """Return the folder's chat template (ChatML where it has none), told which tokens to break in what users say."""
    settings = read_json(folder / "tokenizer_config.json")
    path = folder / "chat_template.jinja"
    source = path.read_text("utf-8") if path.is_file() else settings.get("chat_template", "")
    if isinstance(source, list):  # several, each with a name
        source = next((entry["template"] for entry in source if entry.get("name") == "default"), "")
    source = source or CHATML
    return ChatTemplate(
        source,
        trusted=trusted or source == CHATML,
        bos=_text(settings.get("bos_token")),
        eos=_text(settings.get("eos_token")),
        control_tokens=control_tokens(folder, source),
    )


def pulled(card: ModelCard, engine: str, variant: str, only: str) -> Path:
    """Return a folder that was pulled for an engine; it holds one variant, and another is a `ModelNotFound`."""
    if variant != only:
        raise ModelNotFound(
            f"{card.alias} for {engine} comes only as {only!r}", fix=f"variant={only!r}, or none"
        )
    return pulled_folder(card, engine)


def control_tokens(folder: Path, template: str) -> tuple[str, ...]:
    """Return the special tokens, and those other whole-word tokens that the template writes."""
    added = read_json(folder / "tokenizer.json").get("added_tokens", [])
    return tuple(token["content"] for token in added if token["special"] or token["content"] in template)


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files; raise `ModelFileInvalid` for one that is missing or damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileInvalid(f"cannot read {path}: {error}", fix=store.mend(path)) from error
    if not isinstance(value, dict):
        raise ModelFileInvalid(f"{path} holds no JSON object", fix=store.mend(path))
    return value


def _text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else token or ""
