"""Export a model for ONNX Runtime GenAI: `python -m labkit.training.export_onnx nano` (or its folder).

Into the model's folder, whose tokenizer they share, come genai_config.json, onnx/int4.onnx, onnx/fp32.onnx, and
onnx/source.json, which says of which weights they are. The same weights and packages give the same bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from labkit.engines.llamacpp_files import shipped_folder
from labkit.engines.onnx_files import VARIANTS, source_hashes
from labkit.models import store
from labkit.models.catalog import find


def build(source: Path, precision: str, out: Path) -> None:
    """Run ONNX Runtime GenAI's model builder for the CPU, in a process of its own: it prints, and imports torch."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-o", str(out)]
    # It writes the commit of the repository it lies in into the file; in a virtual environment that is this one.
    alone = os.environ | {"GIT_DIR": os.devnull}
    subprocess.run([*command, "-p", precision, "-e", "cpu", "-c", str(out)], check=True, env=alone)


def halve(model: ir.Model) -> None:
    """Store float32 weights that float16 holds exactly as float16, and cast them back when the model is loaded.

    The trained weights are float16, so this loses nothing, and ONNX Runtime folds the casts away: half the file.
    """
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        weight = value.const_value.numpy() if value.const_value else np.zeros(0)
        half = weight.astype(np.float16)
        if weight.dtype != np.float32 or not np.array_equal(half.astype(np.float32), weight):
            continue
        small = ir.val(f"{name}.float16", const_value=ir.tensor(half, name=f"{name}.float16"))
        cast = ir.node("Cast", [small], {"to": int(ir.DataType.FLOAT)}, name=f"{name}.cast")
        full = cast.outputs[0]
        full.name, full.shape, full.dtype = f"{name}.float32", value.shape, ir.DataType.FLOAT
        value.replace_all_uses_with(full)
        del graph.initializers[name]
        graph.register_initializer(small)
        graph.insert_before(graph[0], cast)


def export(folder: Path) -> None:
    """Write both variants of the model in `folder`; source.json comes last, and vouches for them."""
    hashes = source_hashes(folder)
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as temp:
            build(folder, variant, Path(temp))
            config = json.loads((Path(temp) / "genai_config.json").read_text("utf-8"))
            model = ir.load(Path(temp) / "model.onnx")
            ir.external_data.load_to_model(model)
            if variant == "fp32":
                halve(model)
            with store.atomic_file(folder / "onnx" / f"{variant}.onnx") as part:
                ir.save(model, part)
    config["model"]["decoder"]["filename"] = f"onnx/{VARIANTS[0]}.onnx"
    made_by = {name: version(name) for name in ("onnxruntime-genai", "onnx-ir", "torch", "transformers")}
    write(folder / "genai_config.json", config)
    write(folder / "onnx" / "source.json", {"sha256": hashes, "made_by": made_by})


def write(path: Path, value: object) -> None:
    """Write indented JSON."""
    with store.atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    given = sys.argv[1]
    export(Path(given) if Path(given).is_dir() else shipped_folder(find(given).refs["onnx"]))
