"""Let ONNX Runtime optimize, time and profile graphs: what the engine `onnx` does inside, one step at a time.

Where it is not installed, a table is the recording beside this file, and its title says so.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from labkit.engines.hf_folder import read_json
from labkit.engines.onnx import Onnx
from labkit.engines.onnx_files import model_file
from labkit.engines.onnx_graph import Model, read_graph
from labkit.engines.tokens import vendor_errors
from labkit.errors import EngineFailed, EngineUnavailable
from labkit.models.catalog import find

HERE = Onnx.available().installed
RECORDING = Path(__file__).with_name("onnx_recorded.json")
LEVELS = {
    "disable": "DISABLE_ALL",
    "basic": "ENABLE_BASIC",
    "extended": "ENABLE_EXTENDED",
    "all": "ENABLE_ALL",
}
PLUGINS = {"OpenVINO": "onnxruntime_ep_openvino", "WebGPU": "onnxruntime_ep_webgpu"}
PAST = 32  # tokens in the KV cache before the one that is timed
Row = Mapping[str, str | float]


@dataclass(frozen=True, slots=True, repr=False)
class Figures:
    """Hold rows of named figures; the first column names the row."""

    title: str
    rows: Sequence[Row]

    def column(self, heading: str) -> dict[str, float]:
        """Return one column's figures by the name of their row."""
        return {str(next(iter(row.values()))): float(row[heading]) for row in self.rows}

    def __repr__(self) -> str:
        cells = [list(self.rows[0]), *([_cell(value) for value in row.values()] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
        return "\n".join([self.title, "", *(line.rstrip() for line in lines)])


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def nano(variant: str) -> Path:
    """Return the .onnx file of nano, "int4" or "fp32"."""
    return model_file(find("nano"), variant)[1]


def levels(name: str, model: Model | None = None) -> Figures:
    """Optimize a graph at every level and time it: a variant of nano, or `model` under a name of its own."""
    return _figures(name, f"{name}, one thread", lambda: _levels(model or nano(name)))


def providers(recorded: bool = False) -> Figures:
    """Make one token with nano's int4 graph on every provider here; `recorded` shows where more were tried."""
    return _figures("providers", "nano int4, one token", _providers, recorded)


def operators(variant: str) -> Figures:
    """Profile nano's graph while it makes one token: the time of each operator, and its share, longest first."""
    return _figures(
        f"operators {variant}", f"nano {variant}, one token, one thread, medians", lambda: _operators(variant)
    )


def _figures(key: str, title: str, measure: Callable[[], list[Row]], recorded: bool = False) -> Figures:
    if recorded or not HERE:
        saved = read_json(RECORDING)
        return Figures(f"{title}: recorded ({saved['about']})", saved[key])
    return Figures(f"{title}: measured", measure())


@cache
def devices() -> dict[str, list[Any]]:
    """Return the devices of every execution provider by its name; installed plug-ins are registered first."""
    with vendor_errors(EngineUnavailable, "onnxruntime cannot be imported", "pip install 'labkit[onnx]'"):
        import onnxruntime as ort
    for name, package in PLUGINS.items():
        with suppress(Exception):  # not installed, or of no use here: either way it brings no device
            ort.register_execution_provider_library(name, import_module(package).get_library_path())
    found = defaultdict(list)
    for device in (d for d in ort.get_ep_devices() if "." not in d.ep_name):  # "X.AUTO" is X once more
        found[device.ep_name.removesuffix("ExecutionProvider")].append(device)
    return dict(found)


def open_graph(model: Model, level: str = "all", provider: str = "CPU", **settings: Any) -> Any:
    """Return ONNX Runtime's session of a graph, on one thread; `settings` are fields of its SessionOptions."""
    device = devices()[provider][:1]
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{LEVELS[level]}")
    for name, value in {"intra_op_num_threads": 1, "log_severity_level": 4, **settings}.items():
        setattr(options, name, value)
    with vendor_errors(EngineFailed, "ONNX Runtime refuses the graph", "mend it, or take another provider"):
        options.add_provider_for_devices(device, {})
        return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options)


def optimize(model: Model, level: str) -> bytes:
    """Return the graph as ONNX Runtime rewrites it before it runs."""
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp) / "optimized.onnx"
        open_graph(model, level, optimized_model_filepath=str(path))
        return path.read_bytes()


def inputs_for(session: Any, new: int = 1) -> dict[str, Any]:
    """Return ones in the shapes that a session takes, for `new` tokens after `PAST` others."""
    head = read_json(nano("int4").parents[1] / "genai_config.json")["model"]["decoder"]["head_size"]
    sizes = {"batch_size": 1, "kv_cache_dim": head, "sequence_length": new, "past_sequence_length": PAST}
    sizes["total_sequence_length"] = new + PAST
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    shapes = {entry.name: [sizes.get(size, size) for size in entry.shape] for entry in session.get_inputs()}
    return {entry.name: np.ones(shapes[entry.name], kinds[entry.type]) for entry in session.get_inputs()}


def time_runs(sessions: Mapping[str, Any], repeat: int = 40) -> dict[str, dict[str, float]]:
    """Run sessions of one graph in turn, in random order; return median and least milliseconds, the first run apart."""
    inputs = inputs_for(next(iter(sessions.values())))
    ms: dict[str, list[float]] = {name: [] for name in sessions}
    order = random.Random(0)
    for _ in range(repeat + 1):
        for name in order.sample(list(sessions), len(sessions)):
            began = time.perf_counter()
            sessions[name].run(None, inputs)
            ms[name].append(1e3 * (time.perf_counter() - began))
    return {
        name: {"ms (median)": statistics.median(t[1:]), "ms (least)": min(t[1:])} for name, t in ms.items()
    }


def _levels(model: Model) -> list[Row]:
    speed = time_runs({level: open_graph(model, level) for level in LEVELS})
    rows: list[Row] = []
    for level in LEVELS:
        graph = read_graph(optimize(model, level))
        ops = ", ".join(f"{op}{f' ×{n}' * (n > 1)}" for op, n in graph.ops.most_common())
        size = {"nodes": len(graph.nodes), "kB": graph.file_bytes / 1e3}
        rows.append({"level": level, **size, **speed[level], "operators": shorten(ops, 56, placeholder=" …")})
    return rows


def _providers() -> list[Row]:
    rows: list[Row] = []
    base = open_graph(nano("int4"))
    expected = base.run(["logits"], inputs_for(base))[0]
    for name, (device, *_) in devices().items():
        began = time.perf_counter()
        session = open_graph(nano("int4"), provider=name)
        loaded = time.perf_counter() - began
        apart = abs(session.run(["logits"], inputs_for(session))[0] - expected).max()
        speed = time_runs({name: session})[name]
        place = {"provider": name, "on": device.device.type.name}
        rows.append({**place, "load [s]": loaded, **speed, "largest Δ logit": apart})
    return rows


def _operators(variant: str, runs: int = 30) -> list[Row]:
    with tempfile.TemporaryDirectory() as temp:
        session = open_graph(nano(variant), enable_profiling=True, profile_file_prefix=f"{temp}/trace")
        inputs = inputs_for(session)
        for _ in range(runs + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    nodes = len(kernels) // (runs + 1)
    found = defaultdict(list)
    for place in range(nodes):  # a node's median, so that what disturbs a run now and then does not count
        same = kernels[nodes + place :: nodes]
        found[same[0]["args"]["op_name"]].append(statistics.median(event["dur"] for event in same))
    whole = sum(map(sum, found.values()))
    longest = sorted(found.items(), key=lambda item: -sum(item[1]))
    return [{"operator": op, "nodes": len(t), "µs": sum(t), "share": sum(t) / whole} for op, t in longest]
