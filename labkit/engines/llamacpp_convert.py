"""Make GGUF files: from a Hugging Face folder without torch, and from one GGUF level to another.

Only the Llama architecture with a Qwen2-style byte-level tokenizer: what the shipped models use.
"""

from __future__ import annotations

import errno
import json
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.llamacpp_native import library
from labkit.errors import EngineFailed, EngineUnavailable, ModelNotFound

LEVELS = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
    "BF16": 32,
}  # fmt: skip
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def level_of(quant: str) -> int:
    """Return llama.cpp's file type number for a level's name; raise `ModelNotFound` if there is none."""
    try:
        return LEVELS[quant.upper()]
    except KeyError:
        names = ", ".join(LEVELS)
        raise ModelNotFound(f"llama.cpp has no level {quant!r}", fix=f"choose from: {names}") from None


def convert(source: Path, template: str, out: Path, name: str) -> None:
    """Write the weights of the Hugging Face folder `source` to `out` as a float16 GGUF file."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text("utf-8"))
    with closing(GGUFWriter(out, "llama")) as writer:
        writer.add_name(name)
        add_shape(writer, config)
        add_tokenizer(writer, json.loads((source / "tokenizer.json").read_text("utf-8")), config)
        writer.add_chat_template(template)
        writer.add_file_type(LEVELS["F16"])
        for key, weight in load_file(source / "model.safetensors").items():
            writer.add_tensor(gguf_name(key), gguf_weight(key, weight, config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def add_shape(writer: Any, config: dict[str, Any]) -> None:
    """Write the hyperparameters."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """Write vocabulary, merges and token kinds. `qwen2` names the split regex the tokenizer uses."""
    tokens = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    kinds = {t["id"]: CONTROL if t["special"] else USER_DEFINED for t in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kinds.get(id, NORMAL) for _, id in tokens])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)


def gguf_name(key: str) -> str:
    """Translate a Hugging Face weight name: model.layers.3.mlp.up_proj.weight → blk.3.ffn_up.weight."""
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if key in outer:
        return outer[key]
    _, _, layer, rest = key.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def gguf_weight(key: str, weight: NDArray[Any], config: dict[str, Any]) -> NDArray[Any]:
    """Reorder query and key rows (Hugging Face pairs i with i + K/2, llama.cpp 2i with 2i + 1); norms in float32."""
    if weight.ndim == 1:
        return weight.astype(np.float32)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for part, count in heads.items():
        if part in key:
            rows, columns = weight.shape
            halves = weight.reshape(count, 2, rows // count // 2, columns)
            weight = halves.swapaxes(1, 2).reshape(rows, columns)
    return weight.astype(np.float16)


def quantize(source: Path, out: Path, quant: str, threads: int) -> None:
    """Write `source` again at another level; without llama-cpp-python there are F16 and Q8_0.

    Raises `EngineFailed` with llama.cpp's reason, and `OSError` where the file cannot be written.
    """
    if not can_quantize():
        if level_of(quant) != LEVELS["Q8_0"]:
            raise EngineUnavailable(
                f"to make {quant} takes llama-cpp-python",
                fix="variant='Q8_0' or 'F16', or pip install 'labkit[llamacpp]'",
            )
        return write_q8_0(source, out)
    lib, log = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype = level_of(quant)
    params.nthread = threads
    code = lib.llama_model_quantize(str(source).encode(), str(out).encode(), params)
    if code and "iostream" in log.last():
        # C++ keeps the cause of a failed write to itself; a full disk is by far the likeliest.
        raise OSError(errno.ENOSPC, "llama.cpp could not write all of it")
    if code:
        raise EngineFailed(f"llama.cpp could not quantize to {quant} (code {code}): {log.last()}")


def can_quantize() -> bool:
    """Return whether llama.cpp's own quantizer is here: only llama-cpp-python brings it."""
    return find_spec("llama_cpp") is not None


def write_q8_0(source: Path, out: Path) -> None:
    """Write `source` again with every matrix as Q8_0, as llama.cpp does at this level, with numpy alone."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    reader, kind = GGUFReader(source), GGMLQuantizationType.Q8_0
    with closing(GGUFWriter(out, str(reader.fields["general.architecture"].contents()))) as writer:
        for key, field in reader.fields.items():
            if key == "general.file_type":
                writer.add_file_type(LEVELS["Q8_0"])
            elif not key.startswith("GGUF.") and key != "general.architecture":
                inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], inner)
        writer.add_quantization_version(2)
        for tensor in reader.tensors:
            if tensor.data.ndim > 1:
                writer.add_tensor(tensor.name, quants.quantize(tensor.data, kind), raw_dtype=kind)
            else:
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
