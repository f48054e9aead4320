"""`import labkit` is quick and brings nobody's library along."""

import subprocess
import sys
from statistics import median

VENDORS = {
    *("llama_cpp", "xllamacpp", "onnxruntime", "onnxruntime_genai", "mlx", "mlx_lm", "foundry_local_sdk"),
    *("ollama", "openai", "vllm", "torch", "transformers", "tokenizers", "gguf", "safetensors"),
    *("ipywidgets", "anywidget", "plotly", "IPython", "huggingface_hub", "httpx", "numpy"),
}
LIMIT_S = 0.150


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def seconds(statement: str) -> float:
    """Return the median time of nine fresh interpreters: the import alone, without starting Python."""
    code = f"from time import perf_counter as t; s = t(); {statement}; print(t() - s)"
    return median(float(run(code)) for _ in range(9))


def test_import_is_quick() -> None:
    took = seconds("import labkit")
    assert took < LIMIT_S, f"import labkit took {took * 1000:.0f} ms"


def test_import_brings_no_vendor_library() -> None:
    loaded = set(run("import sys, labkit; print(*sys.modules)").split())
    assert loaded & VENDORS == set()


def test_public_names_resolve() -> None:
    assert (
        run("import labkit; [getattr(labkit, n) for n in getattr(labkit, '__all__', ())]; print('ok')")
        == "ok\n"
    )
