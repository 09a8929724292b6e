"""Utility-based perturbed gradient descent: useful weights are held, useless ones are shaken."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective


def gates(utilities: dict[str, Tensor]) -> dict[str, Tensor]:
    """1 - sigmoid(utility / largest utility of all weights): 1/2 where a weight is of no use, 0.27 for the most useful.

    A largest utility of 0 or less says nothing: then all gates are 1/2. Each gate has the shape of its weight.
    """
    largest = torch.stack([u.max() for u in utilities.values()]).max()
    if largest <= 0:
        return {name: torch.full_like(u, 0.5) for name, u in utilities.items()}
    return {name: 1 - (u / largest).sigmoid() for name, u in utilities.items()}


class UPGD(Method):
    """UPGD: gradient <- 2 (gradient + noise) (1 - sigmoid(utility / largest utility)).

    The utility of a weight is what the loss would rise without it, to first order -gradient * weight, as a running mean
    over steps (decay, corrected for its start). noise: standard deviation of the perturbation.
    Source: Elsayed & Mahmood 2024, arXiv 2404.00781, Algorithm 1 (global, first order; paper symbols: beta_u = decay,
        sigma = noise).
    Needs: nothing. Keeps: a number a weight.
    Differs from paper: the factor 2, as in its code, so that a weight of no use takes the optimizer's whole step;
        weight decay is left out. With SGD it is the paper's update; any other optimizer gets the gated gradient.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, noise: float, decay: float) -> None:
        self.objective, self.generator, self.noise, self.decay = objective, generator, noise, decay
        self.memory = {}

    @torch.no_grad()
    def before_step(self, model: nn.Module) -> None:
        parameters = {name: p for name, p in trainable(model).items() if p.grad is not None}
        if not self.memory:
            self.memory = {"steps": 0, "utility": {name: torch.zeros_like(p) for name, p in parameters.items()}}
        self.memory["steps"] += 1
        for name, p in parameters.items():
            assert p.grad is not None
            self.memory["utility"][name].lerp_(-p.grad * p, 1 - self.decay)
        corrected = 1 - self.decay ** self.memory["steps"]
        gate = gates({name: self.memory["utility"][name] / corrected for name in parameters})
        for name, p in parameters.items():
            assert p.grad is not None
            noise = torch.randn(p.shape, generator=self.generator, dtype=p.dtype).to(p.device)
            p.grad.add_(noise, alpha=self.noise).mul_(2 * gate[name])
