"""Synaptic intelligence: how much each weight helped to lower the loss, added up along the way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods.ewc import pull
from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


class SI(Method):
    """Synaptic intelligence: springs whose stiffness is each weight's share in the fall of the loss.

    Along the path w_k sums -gradient * change, over a task this is the fall of the loss that weight k brought about; at
    its end Omega += max(w, 0) / (distance^2 + damping), and loss + strength * sum_k Omega_k (weight_k - weight*_k)^2
    protects it.
    Source: Zenke, Poole & Ganguli 2017, arXiv 1703.04200, Eq. 3-5 (paper symbols: c = strength, xi = damping).
    Needs: boundaries. Keeps: three numbers a weight. Strength 0 is naive, bit for bit.
    Differs from paper: negative shares count as none, so that a spring never pushes away.
    """

    boundaries = True

    def __init__(self, objective: Objective, generator: torch.Generator, *, strength: float, damping: float) -> None:
        self.objective, self.generator, self.strength, self.damping = objective, generator, strength, damping
        self.memory = {}
        self._before: dict[str, tuple[Tensor, Tensor]] = {}  # gradient of the task's loss and weight, within a step

    @torch.no_grad()
    def before_step(self, model: nn.Module) -> None:
        parameters = trainable(model)
        if not self.memory:
            self.memory = {
                "share": {name: torch.zeros_like(p) for name, p in parameters.items()},
                "importance": {name: torch.zeros_like(p) for name, p in parameters.items()},
                "anchor": {name: p.detach().clone() for name, p in parameters.items()},
            }
        self._before = {
            name: (p.grad.clone(), p.detach().clone()) for name, p in parameters.items() if p.grad is not None
        }
        pull(model, self.memory["anchor"], self.memory["importance"], 2 * self.strength)

    @torch.no_grad()
    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        parameters = trainable(model)
        for name, (gradient, weight) in self._before.items():
            self.memory["share"][name] -= gradient * (parameters[name] - weight)
        self._before = {}

    @torch.no_grad()
    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        for name, p in trainable(model).items():
            distance = p - self.memory["anchor"][name]
            self.memory["importance"][name] += self.memory["share"][name].clamp_min(0) / (
                distance.square() + self.damping
            )
            self.memory["share"][name].zero_()
            self.memory["anchor"][name].copy_(p)
