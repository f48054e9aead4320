"""LoRA in miniature: it begins at the model, trains little of it, and merges into the same function."""

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'labkit[train]'")

import torch
from tiny import tiny

from labkit.training.lora import LoraLinear, add_lora, merge_lora
from labkit.training.network import Llama

pytestmark = pytest.mark.heavy
IDS = torch.tensor([[5, 6, 7, 8]])


def trained_parameters(net: Llama) -> tuple[int, int]:
    """Return how many numbers are trained, and of how many."""
    counts = [(p.numel(), p.requires_grad) for p in net.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)


def test_it_begins_at_the_model_itself() -> None:
    net = tiny()
    before = net(IDS)
    add_lora(net, 4, 8.0)
    torch.testing.assert_close(net(IDS), before)


def test_few_numbers_are_trained_and_the_rest_is_frozen() -> None:
    net = tiny()
    everything = trained_parameters(net)
    assert everything[0] == everything[1]
    add_lora(net, 4, 8.0)
    trained, total = trained_parameters(net)
    pairs = [each for each in net.modules() if isinstance(each, LoraLinear)]
    assert len(pairs) == 2 * 7
    assert trained == sum(4 * sum(pair.base.weight.shape) for pair in pairs) == total - everything[1]
    net.logits(net(IDS)).sum().backward()
    assert net.embed_tokens.weight.grad is None and pairs[0].b.grad is not None


def test_merged_it_computes_the_same_in_the_old_shape() -> None:
    net = tiny()
    names = list(net.state_dict())
    add_lora(net, 4, 8.0)
    for each in net.modules():
        if isinstance(each, LoraLinear):
            torch.nn.init.normal_(each.b, std=0.1)
    with torch.no_grad():
        before = net(IDS)
        merge_lora(net)
        torch.testing.assert_close(net(IDS), before, atol=1e-4, rtol=1e-4)
    assert list(net.state_dict()) == names
    assert trained_parameters(net)[0] == trained_parameters(net)[1]
