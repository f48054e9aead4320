"""Read a Modelfile, as `ollama create -f` does on the client's side: the daemon takes the parts, not the text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from labkit.engines.ollama_daemon import Daemon
from labkit.errors import ModelNotFound, OptionInvalid

# An instruction, then a text in triple quotes or the rest of the line; or an empty line; or a comment.
LINE = re.compile(
    r'\s*(?:(FROM|TEMPLATE|SYSTEM|LICENSE|PARAMETER[ \t]+\w+)[ \t]+(?:"""(.*?)"""|([^\n]+))|#[^\n]*)\s*?(?:\n|\Z)',
    re.DOTALL | re.IGNORECASE,
)


def read_modelfile(text: str) -> dict[str, Any]:
    """Return FROM, TEMPLATE, SYSTEM, LICENSE and PARAMETER as `from_`, `template`, … of the client's `create`.

    Raises `OptionInvalid` with the line that cannot be read.
    """
    made: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    at, text = 0, text.strip()
    while at < len(text):
        found = LINE.match(text, at)
        if not found:
            known = "FROM, TEMPLATE, SYSTEM, LICENSE, PARAMETER name value"
            line = text[at:].strip().splitlines()[0]
            raise OptionInvalid(f"a Modelfile has no line {line!r:.80}", fix=f"it may have: {known}")
        at = found.end()
        word, _, name = (found[1] or "").lower().partition(" ")
        value = found[2] if found[2] is not None else (found[3] or "").strip()
        if name:
            parameters[name.strip()] = _value(name, value, parameters)
        elif word:
            made["from_" if word == "from" else word] = value
    if "from_" not in made:
        raise OptionInvalid("the Modelfile has no FROM", fix="FROM /path/of/a.gguf, or FROM a-model")
    return made | ({"parameters": parameters} if parameters else {})


def _value(name: str, text: str, before: dict[str, Any]) -> Any:
    """Return a number or a text; `stop` may be given several times."""
    if name.strip() == "stop":
        return [*before.get("stop", []), text.strip('"')]
    return json.loads(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text.strip('"')


def create(daemon: Daemon, name: str, modelfile: str) -> None:
    """Create a model in the daemon from a Modelfile's text; a GGUF file that it names is uploaded first."""
    parts = read_modelfile(modelfile)
    path = Path(parts["from_"]).expanduser()
    with daemon.errors():
        if path.suffix == ".gguf":
            if not path.is_file():
                raise ModelNotFound(f"there is no file {path}", fix="correct the line FROM")
            del parts["from_"]
            parts["files"] = {path.name: daemon.client.create_blob(path)}
        daemon.client.create(name, **parts)
