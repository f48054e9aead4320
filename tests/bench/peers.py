"""llama.cpp's own llama-bench and llama-perplexity, built once from the source package of the installed
llama-cpp-python, on the libraries that it carries (`llama_cpp_tools/CMakeLists.txt`).

    python tests/bench/peers.py     builds them now: a few minutes on two free cores
"""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from labkit.engines.llamacpp_native import has_amx
from labkit.models import store

PACKAGE = "llama-cpp-python"
NAMES = ("llama-bench", "llama-perplexity")


def command(name: str, *arguments: object) -> list[str]:
    """Return a tool's command line, with the buffers that labkit uses; build both tools if they are not there."""
    build = store.home() / "peers" / f"{PACKAGE}-{version(PACKAGE)}"
    if not all((build / "bin" / tool).exists() for tool in NAMES):
        _build(build)
    no_repack = {"llama-bench": ["--repack", "0"], "llama-perplexity": ["--no-repack"]}
    return [str(build / "bin" / name), *(no_repack[name] if has_amx() else []), *map(str, arguments)]


def _build(build: Path) -> None:
    import llama_cpp

    with TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "-d", folder]
        subprocess.run([*pip, f"{PACKAGE}=={version(PACKAGE)}"], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as package:
            package.extractall(folder, filter="data")
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "SOURCE": next(Path(folder).glob("*/vendor/llama.cpp")),
            "LIBRARIES": Path(str(llama_cpp.__file__)).parent / "lib",
        }
        defined = [f"-D{key}={value}" for key, value in settings.items()]
        recipe = Path(__file__).parent / "llama_cpp_tools"
        subprocess.run(["cmake", "-S", recipe, "-B", build, *defined], check=True)
        subprocess.run(["cmake", "--build", build, "-j2", "--target", *NAMES], check=True)


if __name__ == "__main__":
    for name in NAMES:
        print(*command(name))
