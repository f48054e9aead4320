"""Write a trained network as a Hugging Face folder: weights in float16, config, tokenizer settings."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from labkit.training.network import Llama


def export(net: Llama, out: Path) -> None:
    """Write model.safetensors and every JSON file next to it that engines read."""
    weights = {f"model.{name}": w.detach().to(torch.float16).cpu() for name, w in net.state_dict().items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    write_json(out / "config.json", net.s.config(bos, eos))
    write_json(
        out / "generation_config.json",
        {"bos_token_id": bos, "eos_token_id": [eos, bos], "pad_token_id": bos, "do_sample": False},
    )
    template = files("labkit.models").joinpath("nano/chat_template.jinja").read_text("utf-8")
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": net.s.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": template,
        },
    )


def write_json(path: Path, value: object) -> None:
    """Write indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return what `export` wrote into `folder`, as a `Llama` takes it."""
    weights = load_file(folder / "model.safetensors")
    return {name.removeprefix("model."): weight.float() for name, weight in weights.items()}
