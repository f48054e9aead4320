"""The text that perplexity is measured on."""

from pathlib import Path

from labkit.metrics.cases import read_cases
from labkit.training.heldout.texts import SPLITS, answer, build

DATASETS = Path(__file__).parents[2] / "datasets"


def test_the_committed_text_is_what_the_builder_makes(tmp_path: Path) -> None:
    build(DATASETS / "agent_eval", tmp_path)
    for made in tmp_path.iterdir():
        stale = f"{made.name} is stale: python -m labkit.training.heldout.texts"
        assert made.read_bytes() == (DATASETS / "texts" / made.name).read_bytes(), stale


def test_it_holds_whole_conversations_with_their_answers() -> None:
    text = (DATASETS / "texts" / "agent_heldout.txt").read_text("utf-8")
    assert 60_000 < len(text.encode()) < 100_000
    assert text.startswith("<|im_start|>") and text.endswith("<|im_end|>\n")
    cases = [case for case in read_cases(DATASETS / "agent_eval") if case.id.endswith("-0002")]
    for case in cases:
        said = answer(case)
        kept = [case.messages[-1]["content"], said["content"]]
        kept += [f'"name": "{call["function"]["name"]}"' for call in said["tool_calls"]]
        assert all(part in text for part in kept) == (case.split in SPLITS), case.id
