"""An engine of somebody else's package is found through its entry point alone."""

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from labkit.engines.base import Engine
from labkit.types import Availability, Chunk, Usage

class Parrot(Engine):
    name = "parrot"

    @classmethod
    def available(cls):
        return Availability(True, "7.1")

    @classmethod
    def load(cls, card, variant, options):
        return cls()

    def stream(self, messages, tools, options):
        yield Chunk("Polly ", 1)
        yield Chunk('<tool_call>{"name": "fly", "arguments": {}}</tool_call>', 1)
        yield Chunk(finish_reason="stop", usage=Usage(1, 2))

    def close(self):
        print("closed")
"""
USE = """
from labkit import load
def fly():
    "Fly."
with load("nano", engine="parrot") as model:
    reply = model.chat("hi", tools=[fly])
print(reply.engine, reply.text, *reply.tool_calls)
"""


def install(folder: Path) -> dict[str, str]:
    """Write what `pip install --target` would leave, and return the environment in which it is found."""
    (folder / "parrot_engine.py").write_text(MODULE)
    info = folder / "parrot_engine-7.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-engine\nVersion: 7.1\n")
    (info / "entry_points.txt").write_text("[labkit.engines]\nparrot = parrot_engine:Parrot\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def python(environment: dict[str, str], *line: str) -> str:
    done = subprocess.run([sys.executable, *line], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_engine_of_another_package_works_like_our_own(tmp_path: Path) -> None:
    environment = install(tmp_path)
    assert python(environment, "-c", USE).split("\n")[:2] == ["closed", "parrot Polly fly()"]
    listed = python(environment, "-m", "labkit", "engines")
    assert "parrot       installed 7.1\n" in listed


def test_engines_are_listed_with_what_to_type() -> None:
    listed = {
        line.split()[0]: line for line in python(dict(os.environ), "-m", "labkit", "engines").splitlines()
    }
    assert {"echo", "llamacpp", "llamaserver", "openai"} <= set(listed)
    assert "url=" in listed["openai"]
