"""Muon, an optimizer for matrices: momentum, then the nearest matrix whose singular values are all about one.

After Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). torch has it too
(`torch.optim.Muon`), one matrix at a time; a network as small as nano spends a sixth of its training there,
and half of that where matrices of one shape are done together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Update matrices (R, C) with Nesterov momentum, orthogonalized; `lr` is the step of a square matrix."""

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradients at hand."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                alike[tuple(matrix.shape)].append(matrix)
            for matrices in alike.values():
                moved = orthogonal(torch.stack([self.nesterov(each, group["momentum"]) for each in matrices]))
                rows, columns = matrices[0].shape
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                for matrix, step in zip(matrices, moved, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=rate)

    def nesterov(self, matrix: Tensor, momentum: float) -> Tensor:
        """Return the gradient that the momentum foresees."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["momentum"], momentum)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices (N, R, C) near one, by `steps` of a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(matrices.dtype)
