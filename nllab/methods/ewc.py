"""Elastic weight consolidation: weights that mattered for old tasks are held by springs whose stiffness is their Fisher
information."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


def fisher_diagonal(
    model: nn.Module, part: Part, objective: Objective, generator: torch.Generator
) -> dict[str, Tensor]:
    """Diagonal of the Fisher information, mean over samples of (d log p(y | x) / d weight)^2 with y drawn from the
    model itself.

    The model's likelihood is softmax over the counted outputs for cross-entropy and a unit normal for half the squared
    error. One draw a sample, one backward pass a sample: the obvious form, for any model.
    """
    parameters = trainable(model)
    counted = objective.counted(part.labels)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for inputs in part.inputs.split(1):
        scores = model(inputs)
        seen = scores.detach()
        if objective.kind == "cross_entropy":
            chances = (seen if counted is None else seen.masked_fill(~counted, -torch.inf)).softmax(1)
            drawn = torch.multinomial(chances.cpu(), 1, generator=generator).to(seen.device)
            residual = chances.scatter_add(1, drawn, -torch.ones_like(chances[:, :1]))
        else:
            residual = torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)
            residual = residual if counted is None else residual * counted
        gradients = torch.autograd.grad(scores, list(parameters.values()), residual, allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
    return {name: value / len(part) for name, value in total.items()}


@torch.no_grad()
def pull(model: nn.Module, anchor: Mapping[str, Tensor], stiffness: Mapping[str, Tensor], strength: float) -> None:
    """Add the gradient of strength / 2 * sum stiffness * (weight - anchor)^2 to what is in `.grad`.

    anchor, stiffness: by the parameter's name, each in its shape.
    """
    for name, p in trainable(model).items():
        force = stiffness[name] * (p - anchor[name])
        p.grad = strength * force if p.grad is None else p.grad.add_(force, alpha=strength)


def some_of(part: Part, count: int, generator: torch.Generator) -> Part:
    """At most `count` samples, drawn without replacement."""
    return part[torch.randperm(len(part), generator=generator)[:count].to(part.labels.device)]


class EWC(Method):
    """Elastic weight consolidation, one spring for every old task: loss + strength / 2 * sum_tasks sum_i F_i (w_i -
    w*_i)^2.

    Source: Kirkpatrick et al. 2017, arXiv 1612.00796, Eq. 3. F is measured at the end of each task on `samples` of its
        samples.
    Needs: boundaries. Keeps: weights and Fisher diagonal of every old task, so it grows. Strength 0 is naive, bit for
        bit.
    Differs from paper: the Fisher information of the output layer counts only the outputs that the loss counts.
    """

    boundaries = True

    def __init__(self, objective: Objective, generator: torch.Generator, *, strength: float, samples: int) -> None:
        self.objective, self.generator, self.strength, self.samples = objective, generator, strength, samples
        self.memory = {"tasks": []}

    def before_step(self, model: nn.Module) -> None:
        for task in self.memory["tasks"]:
            pull(model, task["anchor"], task["fisher"], self.strength)

    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        fisher = fisher_diagonal(model, some_of(part, self.samples, self.generator), self.objective, self.generator)
        anchor = {name: p.detach().clone() for name, p in trainable(model).items()}
        self.memory["tasks"].append({"anchor": anchor, "fisher": fisher})


class OnlineEWC(Method):
    """Elastic weight consolidation with one spring for the whole past: F <- decay * F + F_task, anchored at the latest
    weights.

    Source: Schwarz et al. 2018, arXiv 1805.06370, Eq. 9.
    Needs: boundaries. Keeps: two numbers a weight. Strength 0 is naive, bit for bit.
    Differs from paper: as in `EWC`; F_task is not normalised to one scale.
    """

    boundaries = True

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, strength: float, samples: int, decay: float
    ) -> None:
        self.objective, self.generator, self.strength = objective, generator, strength
        self.samples, self.decay = samples, decay
        self.memory = {}

    def before_step(self, model: nn.Module) -> None:
        if self.memory:
            pull(model, self.memory["anchor"], self.memory["fisher"], self.strength)

    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        fisher = fisher_diagonal(model, some_of(part, self.samples, self.generator), self.objective, self.generator)
        if self.memory:
            fisher = {name: self.decay * self.memory["fisher"][name] + value for name, value in fisher.items()}
        self.memory = {"anchor": {name: p.detach().clone() for name, p in trainable(model).items()}, "fisher": fisher}
