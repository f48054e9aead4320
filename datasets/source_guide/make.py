"""Write the card of this folder from its table: `python datasets/source_guide/make.py` (`--check` only compares)."""

import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
VERDICTS = {"runs": "runs as written", "gone": "does not exist any more", "now": "works like this now"}
PARTS = {
    "000": "000: the guide",
    "003": "003: the appendix on deployment, its code",
    "003-T": "003: its tables",
    "004": "004: a plan for Agent Lightning",
}
CARD = """# source_guide: what became of the code in the guide that these labs are after

{count} blocks of code and tables of three documents, each with a heading, a verdict, the reason, and what works now.

| part | how many |
|---|---|
{parts}

**Verdicts.** *Runs as written*: it does what its heading says, given the files and servers that it names. *Does not
exist any more*: it is about something that today's packages do not have (whether they ever had is not said). *Works
like this now*: it fails or does something else, and there is a way that works.

**Origin.** Written for this project in November 2026. `blocks.toml` holds our own words, and of the guide only the
first 16 digits of each block's sha256. What can be tested is tested: names are looked up in the installed packages,
and `probes.py` runs what works, on this kit's own code. `labs/appendix_source_guide.ipynb` does it before your eyes.
What was only read says where.

**Licence.** MIT, as the rest of the project.

**Limits.** A verdict holds for the versions that are installed; packages change.
{tables}"""


def part(id: str) -> str:
    """Return the part of the guide that a block is in."""
    return id[:5] if "-T" in id else id[:3]


def card() -> str:
    """Return the card's text."""
    rows = tomllib.loads((FOLDER / "blocks.toml").read_text("utf-8"))["block"]
    parts = {name: [row for row in rows if part(row["id"]) == name] for name in PARTS}
    tables = [
        f"\n## {PARTS[name]}\n\n| block | heading | verdict |\n|---|---|---|\n"
        + "\n".join(map(line, found))
        + "\n"
        for name, found in parts.items()
    ]
    counts = "\n".join(f"| {PARTS[name]} | {len(found)} |" for name, found in parts.items())
    return CARD.format(count=len(rows), parts=counts, tables="".join(tables))


def line(row: dict[str, str]) -> str:
    """Return a block's line of a table."""
    return f"| {row['id']} | {row['heading']} | {VERDICTS[row['verdict']]} |"


if __name__ == "__main__":
    path = FOLDER / "README.md"
    if "--check" not in sys.argv:
        path.write_text(card(), encoding="utf-8", newline="\n")
    elif path.read_text("utf-8") != card():
        sys.exit("README.md differs from blocks.toml: run python datasets/source_guide/make.py")
