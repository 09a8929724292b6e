"""Learning without forgetting: the network as it was teaches the network as it becomes, on the new inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


def distillation(scores: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """temperature^2 * KL(softmax(taught / temperature) || softmax(scores / temperature)), mean over the batch; 0 where
    both agree. Shapes: scores, taught (B, classes) · returns a number, nats."""
    old, new = (taught / temperature).log_softmax(1), (scores / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(new, old, reduction="batchmean", log_target=True)


class LwF(Method):
    """Learning without forgetting: loss + strength * distillation from the weights at the last boundary, over the
    classes known then.

    Source: Li & Hoiem 2016, arXiv 1606.09282, Eq. 2-4.
    Needs: boundaries. Keeps: one copy of the weights, and which classes were known. Strength 0 is naive, bit for bit.
    Differs from paper: one output layer for all tasks, so the old classes' outputs stand for the old tasks' layers; no
        warm-up; temperature^2 in front, so that the strength means the same at every temperature.
    """

    boundaries = True

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, strength: float, temperature: float
    ) -> None:
        self.objective, self.generator, self.strength, self.temperature = objective, generator, strength, temperature
        self.memory = {}

    def distilled(self, model: nn.Module, inputs: Tensor, scores: Tensor) -> Tensor:
        """How far the scores have gone from what the old weights say of the same inputs."""
        with torch.no_grad():
            taught = functional_call(model, self.memory["weights"], (inputs,))
        known = self.memory["known"]
        return distillation(scores[:, known], taught[:, known], self.temperature)

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        scores, loss = super().loss(model, batch)
        return scores, loss + self.strength * self.distilled(model, batch.inputs, scores) if self.memory else loss

    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.memory = {"weights": weights, "known": self.objective.seen.nonzero().flatten().to(part.labels.device)}
