"""Record what lab 06 shows where ONNX Runtime is missing: `python tests/bench/record_onnx.py`, on a quiet machine.

Needs onnxruntime-genai and onnxruntime-ep-openvino, so that the table of providers has OpenVINO in it.
"""

import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.classroom.release import read
from labkit.engines import onnx_session
from labkit.engines.onnx_files import VARIANTS
from labkit.engines.onnx_graph import make_graph, read_graph
from labkit.metrics.probes import loaded_machine
from labkit.models.hardware import machine
from labkit.widgets.graphs import Graphs

LAB = Path(__file__).parents[2] / "labs" / "source" / "06_onnx.py"


def main() -> None:
    names: dict[str, Any] = {"make_graph": make_graph, "read_graph": read_graph, "Graphs": Graphs}
    for cell in read(LAB):
        if "tiny = make_graph" in cell.text:
            exec(cell.text, names)  # the lab's own small graph
    assert "OpenVINO" in onnx_session.devices(), "needs onnxruntime-ep-openvino"
    layers = read_graph(onnx_session.nano("int4")).ops["GroupQueryAttention"]
    about = (
        f"{date.today()}, onnxruntime {version('onnxruntime')}, {machine().cpu}, nano with {layers} layers"
    )
    saved: dict[str, Any] = {"about": ", ".join(filter(None, (about, loaded_machine())))}
    saved["tiny"] = onnx_session.levels("tiny", names["tiny"]).rows
    saved["providers"] = onnx_session.providers().rows
    for variant in VARIANTS:
        saved[variant] = onnx_session.levels(variant).rows
        saved[f"operators {variant}"] = onnx_session.operators(variant).rows
    onnx_session.RECORDING.write_text(
        json.dumps(saved, indent=1, default=float, ensure_ascii=False) + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
