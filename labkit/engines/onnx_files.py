"""Find the ONNX export of a model: shipped in labkit, or pulled."""

from __future__ import annotations

from pathlib import Path

from labkit.engines.hf_folder import pulled, read_json
from labkit.engines.llamacpp_files import shipped_folder
from labkit.errors import ModelNotFound
from labkit.models import store
from labkit.models.card import ModelCard, Ref

VARIANTS = ("int4", "fp32")
SOURCES = ("model.safetensors", "config.json", "tokenizer.json")


def default_variant(card: ModelCard) -> str:
    """Return the first of `VARIANTS`, or the name of the folder on the hub that the card points to."""
    ref = card.refs.get("onnx") or Ref()
    return Path(ref.file or ref.repo).name or VARIANTS[0]


def model_file(card: ModelCard, variant: str) -> tuple[Path, Path]:
    """Return the folder that holds genai_config.json, and the .onnx file to run.

    Raises `ModelNotFound` with what to type where there is none, or none of these weights.
    """
    ref = card.refs.get("onnx") or Ref()
    if ref.repo:
        folder = pulled(card, "onnx", variant, default_variant(card))
        return folder, folder / read_json(folder / "genai_config.json")["model"]["decoder"]["filename"]
    if not ref.package:
        raise ModelNotFound(f"{card.alias} has no ONNX files", fix=f"labkit models info {card.alias}")
    if variant.lower() not in VARIANTS:
        raise ModelNotFound(f"onnx has no variant {variant!r}", fix=f"choose from: {', '.join(VARIANTS)}")
    folder = shipped_folder(ref)
    check_source(folder)
    return folder, folder / "onnx" / f"{variant.lower()}.onnx"


def check_source(folder: Path) -> None:
    """Raise `ModelNotFound` unless a shipped export was made from the weights beside it."""
    path = folder / "onnx" / "source.json"
    if not path.is_file() or read_json(path).get("sha256") != source_hashes(folder):
        raise ModelNotFound(
            f"{folder.name} has no ONNX export of its present weights",
            fix=f"python -m labkit.training.export_onnx {folder.name}   (pip install 'labkit[train]')",
        )


def source_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of the files that an export is made from."""
    return {name: store.hash_file(folder / name) for name in SOURCES}
