"""The shipped models mean the same to Hugging Face, llama.cpp and ONNX Runtime GenAI."""

import functools
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import labkit
from labkit.engines.llamacpp import LlamaCpp
from labkit.engines.registry import load
from labkit.metrics.cases import Case, choose, read_cases

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
NEAR = 0.1  # logits
MODELS = Path(labkit.__file__).parent / "models"
DATA = Path(__file__).parents[2] / "datasets" / "agent_eval"
ALPHABETS = (
    "abc XYZ",
    "0123456789",
    "  \t\n",
    ".,:;!?-_/\\\"'(){}[]<>|",
    "äéßøŁ",
    "中文字",
    "عربي",
    "देव",
    "🙂🚀",
)


def texts(count: int, seed: int = 1) -> list[str]:
    """Make texts of every kind of sign, tags and control tokens of the prompt format among them."""
    rng = random.Random(seed)
    words = [
        "<tool_call>",
        "</tool_call>",
        "<|im_start|>",
        "<|im_end|>",
        "I'll",
        "don't",
        "café",
        "getTheWeather",
    ]
    made = []
    for _ in range(count):
        parts = [rng.choice(words) if rng.random() < 0.2 else _word(rng) for _ in range(rng.randint(1, 30))]
        made.append(rng.choice(("", " ", "_")).join(parts))
    return made


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(1, 8)))


@pytest.fixture(scope="module", params=["nano", "pico"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def onnx_folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(MODELS / name)]
    options = ["-o", str(out), "-p", "int4", "-e", "cpu", "-c", str(out / "cache")]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return out


def test_token_ids_are_equal(name: str, onnx_folder: Path) -> None:
    import onnxruntime_genai
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))
    onnx = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(onnx_folder)))
    with load(name, engine="llamacpp", variant="F16", threads=1) as model:
        engine = model.engine
        assert isinstance(engine, LlamaCpp)
        cases = [engine.template.render(c.messages, c.tools) for c in choose(read_cases(DATA), limit=3)]
        for text in (*cases, *texts(500)):
            ids = reference.encode(text).ids
            assert engine.context.tokenize(text) == ids, text
            assert [int(i) for i in onnx.encode(text)] == ids, text


def test_greedy_answers_are_those_of_hugging_face(name: str) -> None:
    """At least 97 % of the answers are the same, token by token, and the others part at a near tie.

    Sums in float16 and in another order tip it, and a model that is unsure has more of them: the aim is 99 %.
    """
    cases = choose(read_cases(DATA), limit=3)
    with load(name, engine="llamacpp", variant="F16", threads=1) as model:
        engine = model.engine
        assert isinstance(engine, LlamaCpp)
        answers = [(c, answer_of_llamacpp(engine, c), answer_of_transformers(name, c)) for c in cases]
    differing = {c.id: gap(name, c, one, other) for c, one, other in answers if one != other}
    assert len(differing) <= len(cases) * 0.03, differing
    assert all(abs(between) < NEAR for between in differing.values()), differing


def answer_of_llamacpp(engine: LlamaCpp, case: Case) -> str:
    options = labkit.GenerationOptions(max_tokens=200)
    return "".join(chunk.text for chunk in engine.stream(case.messages, case.tools, options))


@functools.cache
def transformers_model(name: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(MODELS / name), model


def prompt(name: str, case: Case) -> Any:
    return transformers_model(name)[0].apply_chat_template(
        case.messages,
        tools=case.tools or None,
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )


def gap(name: str, case: Case, *answers: str) -> float:
    """Return how far apart, in Hugging Face's logits, the tokens are with which two answers part."""
    import torch

    tokenizer, model = transformers_model(name)
    one, other = (tokenizer.encode(f"{answer}<|im_end|>", add_special_tokens=False) for answer in answers)
    at = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    with torch.inference_mode():
        read = torch.cat([prompt(name, case), torch.tensor([one[:at]], dtype=torch.long)], 1)
        logits = model(read).logits[0, -1]
    return float(logits[one[at]] - logits[other[at]])


def answer_of_transformers(name: str, case: Case) -> str:
    import torch

    tokenizer, model = transformers_model(name)
    ids = prompt(name, case)
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=200, do_sample=False)
    new = out[0, ids.shape[1] :].tolist()
    ends = {tokenizer.convert_tokens_to_ids(end) for end in ("<|im_end|>", "<|endoftext|>")}
    return str(tokenizer.decode([i for i in new if i not in ends], skip_special_tokens=False))
