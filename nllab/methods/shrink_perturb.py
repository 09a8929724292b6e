"""Shrink and perturb: at every step weights shrink a little and are shaken a little, so that no unit is stuck."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


def shrunk_and_perturbed(weight: Tensor, noise: Tensor, shrink: float, perturb: float) -> Tensor:
    """(1 - shrink) weight + perturb noise, all in one shape."""
    return (1 - shrink) * weight + perturb * noise


class ShrinkAndPerturb(Method):
    """Shrink and perturb: weight <- (1 - shrink) * weight + perturb * noise, normal noise of the size of an initial
    weight (variance 1 / inputs of its unit; none on biases).

    Source: Ash & Adams 2020, arXiv 1910.08475, Section 4.
    Needs: nothing. Keeps: nothing. Shrink and perturb 0 are naive, bit for bit.
    Differs from paper: at every step by a little instead of once when new data arrive, as in Dohare et al. 2024
        (Nature 632), so that no boundary is needed.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, shrink: float, perturb: float) -> None:
        self.objective, self.generator, self.memory = objective, generator, {}
        self.shrink, self.perturb = shrink, perturb

    @torch.no_grad()
    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        if not self.shrink and not self.perturb:
            return
        for p in trainable(model).values():
            scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.0
            noise = scale * torch.randn(p.shape, generator=self.generator, dtype=p.dtype).to(p.device)
            p.copy_(shrunk_and_perturbed(p, noise, self.shrink, self.perturb))
