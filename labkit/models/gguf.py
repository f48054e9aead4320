"""What is inside a GGUF file: architecture, quantization, size, context, chat template.

Only the header is read, never the weights; `gguf_header` does the reading and the distrusting.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import ModelFileInvalid, ModelNotFound
from labkit.models.ggml import FILE_TYPES
from labkit.models.gguf_header import Header, Tensor
from labkit.models.store import storage_errors


@dataclass(frozen=True, slots=True)
class GGUFInfo:
    """Describe a GGUF file. Arrays of more than 64 items stand in `metadata` as an `Array`."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    file_bytes: int

    @property
    def architecture(self) -> str:
        """Return the network's family, as in "llama"."""
        return str(self.metadata["general.architecture"])

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(t.parameters for t in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Return 8 × tensor bytes / weights (0 for a file without tensors)."""
        return 8 * sum(t.size for t in self.tensors) / self.parameters if self.parameters else 0.0

    @property
    def quantization(self) -> str:
        """Return the level by `general.file_type`, or else the type that holds most weights."""
        named = FILE_TYPES.get(self.number("general.file_type", -1))
        if named or not self.tensors:
            return named or "unknown"
        held: dict[str, int] = {}
        for tensor in self.tensors:
            held[tensor.type.name] = held.get(tensor.type.name, 0) + tensor.parameters
        return max(held, key=lambda name: held[name])

    @property
    def context_length(self) -> int:
        """Return how many tokens the model was made for (0 if the file does not say)."""
        return self.number(f"{self.architecture}.context_length")

    @property
    def chat_template(self) -> str | None:
        """Return the chat template, which nobody has vetted, or None."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def number(self, key: str, default: int = 0) -> int:
        """Return a whole number from the metadata, or `default` where it is missing or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) else default


def inspect(path: Path | str) -> GGUFInfo:
    """Read and check the header of a GGUF file.

    Takes under a second and a few megabytes beyond the header, whatever the file says. Raises `ModelNotFound`
    where there is no file, `ModelFileInvalid` where it is not a sound GGUF file.
    """
    path = Path(path)
    with storage_errors(path, "read"):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
            raise ModelNotFound(
                f"there is no file {str(path)!r}", fix="see what there is: labkit models"
            ) from None
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise ModelFileInvalid(f"{path} is {kind}", fix="give the path of a .gguf file")
        with path.open("rb") as file:
            header = Header(path, file)
            header.read()
    return GGUFInfo(path, header.version, header.metadata, tuple(header.tensors.values()), header.size)
