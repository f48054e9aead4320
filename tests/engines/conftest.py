"""For the engines that run nano in this process: its ONNX export, a home of their own, and llama.cpp's answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import QUESTIONS

from labkit import load
from labkit.engines import onnx_files
from labkit.engines.llamacpp_files import shipped_folder
from labkit.errors import ModelNotFound
from labkit.models.card import Ref


@pytest.fixture(scope="session")
def llamacpp_answers() -> list[str]:
    """What llama.cpp says at F16, greedily, 16 tokens at most."""
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'labkit[llamacpp]'")
    with load("nano", engine="llamacpp", variant="F16", threads=1) as model:
        return [model.chat(question, max_tokens=16).text for question in QUESTIONS]


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nano's folder with an ONNX export of its weights: the shipped one, or, where that is old, one made now."""
    folder = shipped_folder(Ref(package="nano"))
    try:
        onnx_files.check_source(folder)
        yield folder
    except ModelNotFound:
        pytest.importorskip(
            "torch", reason="nano's ONNX export is old: python -m labkit.training.export_onnx nano"
        )
        from labkit.training.export_onnx import export

        copy = tmp_path_factory.mktemp("export") / "nano"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("onnx"))
        export(copy)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_files, "shipped_folder", lambda ref: copy)
            yield copy
