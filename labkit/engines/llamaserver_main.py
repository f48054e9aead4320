"""Serve one GGUF file: `python -m labkit.engines.llamaserver_main JSON`, with the settings as a JSON object."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

WARNINGS = 2


def main() -> int:
    """Serve until the process is ended; return 1, after llama.cpp has said why, if that cannot be."""
    settings = json.loads(sys.argv[1])
    try:
        import xllamacpp
    except (ImportError, OSError) as exc:
        print(f"xllamacpp cannot be imported: {exc}", file=sys.stderr)
        return 1
    try:
        server = xllamacpp.Server(parameters(xllamacpp, settings))
    except RuntimeError:
        return 1
    print(f"serving {settings['path']} at {server.listening_address}", flush=True)
    threading.Event().wait()
    return 0


def parameters(library: Any, settings: dict[str, Any]) -> Any:
    """Translate labkit's settings into the library's own."""
    params = library.CommonParams()
    params.model.path, params.model_alias = settings["path"], {settings["alias"]}
    params.hostnames, params.port = ["127.0.0.1"], settings["port"]
    params.n_parallel, params.n_ctx = settings["slots"], settings["context"] * settings["slots"]
    params.n_batch = params.n_ubatch = min(settings["batch"], settings["context"])
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_threads_http = settings["slots"] + 2  # a stream holds one; health and metrics must go through
    params.fit_params = False  # the context is what was asked for, or an error
    params.cache_ram_mib = 0  # no copies of idle prompts beside the slots
    params.endpoint_metrics, params.ui, params.verbosity = True, False, WARNINGS
    params.embedding = settings["embeddings"]
    if params.embedding:
        params.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # A thought stays in the text, as in the engine llamacpp.
    params.reasoning_format = library.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    return params


if __name__ == "__main__":
    sys.exit(main())
