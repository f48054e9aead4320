"""Write the text that perplexity is measured on: `python -m labkit.training.heldout.texts [FOLDER]`.

Evaluation cases, each with its right answer, as nano's chat template renders them; the same bytes each time.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.resources import files
from pathlib import Path

from labkit.metrics.cases import Case, choose, read_cases
from labkit.models.template import ChatTemplate
from labkit.types import Message

SPLITS = ("phrasings", "names", "families")  # "seen" is new in its values only
EACH = 2


def answer(case: Case) -> Message:
    """Return the expected turn of a case as a message."""
    calls = [{"type": "function", "function": call} for call in case.expected.get("tool_calls") or []]
    return {"role": "assistant", "content": case.expected.get("content") or "", "tool_calls": calls}


def build(cases: Path, folder: Path) -> None:
    """Write agent_heldout.txt and its card from the cases in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    template = files("labkit.models").joinpath("nano/chat_template.jinja").read_text("utf-8")
    render = ChatTemplate(template, trusted=True).render
    chosen = choose(read_cases(cases), SPLITS, limit=EACH)
    texts = (render([*c.messages, answer(c)], c.tools, add_generation_prompt=False) for c in chosen)
    data = "".join(texts).encode()
    (folder / "agent_heldout.txt").write_bytes(data)
    facts = {"cases": len(chosen), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    card = files("labkit.training.heldout").joinpath("texts_card.md").read_text("utf-8")
    (folder / "README.md").write_text(card.format(**facts), encoding="utf-8", newline="\n")


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("datasets/texts"))
    build(Path("datasets/agent_eval"), parser.parse_args().folder)


if __name__ == "__main__":
    main()
