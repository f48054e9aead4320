"""A network so small that a run on it takes seconds; it shares nano's tokenizer, and knows nothing."""

import torch

from labkit.training.encoding import Encoder
from labkit.training.finetune import load_network, model_folder
from labkit.training.network import Llama, Shape

TINY = Shape(hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, feed_forward=64)
QUICK = {"threads": 1, "evaluate_every": 2, "save_every": 2, "rate": 1e-2, "warmup": 1}


def encoder() -> Encoder:
    return load_network(model_folder("nano"))[1]


def tiny(seed: int = 1) -> Llama:
    torch.manual_seed(seed)
    return Llama(TINY)


def says(coder: Encoder, prompt: str, reply: str) -> tuple[list[int], list[bool]]:
    asked = coder.tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n").ids
    told = [*coder.tokenizer.encode(reply).ids, coder.end]
    return asked + told, [False] * len(asked) + [True] * len(told)
