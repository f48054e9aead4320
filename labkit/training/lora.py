"""LoRA: train a thin pair of matrices beside each frozen one.

After Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021): W stays, and W + (alpha / rank) · B A
is used. B begins at zero, so training begins at the model itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labkit.training.network import Llama


class LoraLinear(nn.Module):
    """A linear layer (R, C) that is frozen, and beside it B (R, rank) times A (rank, C)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = base.weight.shape
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(torch.randn(rank, columns, device=base.weight.device) / columns**0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, C) to (…, R)."""
        return self.base(x) + (x @ self.a.T) @ self.b.T * self.scale

    def merged(self) -> nn.Linear:
        """Return one plain layer that computes the same."""
        with torch.no_grad():
            self.base.weight += self.scale * self.b @ self.a
        return self.base.requires_grad_(True)


def add_lora(net: Llama, rank: int, alpha: float) -> None:
    """Freeze the network and put a LoRA pair beside every matrix of its layers."""
    net.requires_grad_(False)
    for part in list(net.layers.modules()):
        for name, layer in list(part.named_children()):
            if isinstance(layer, nn.Linear) and not isinstance(part, LoraLinear):
                setattr(part, name, LoraLinear(layer, rank, alpha))


def merge_lora(net: Llama) -> None:
    """Fold every LoRA pair into its matrix: the network is then as large, and as fast, as before."""
    for part in list(net.layers.modules()):
        for name, layer in list(part.named_children()):
            if isinstance(layer, LoraLinear):
                setattr(part, name, layer.merged())
    net.requires_grad_(True)
