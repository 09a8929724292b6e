"""Experience replay: old samples are shown again beside the new ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods import reservoir
from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


class ER(Method):
    """Experience replay: loss on the batch + strength * loss on as many samples drawn from a reservoir of everything
    seen.

    Source: Chaudhry et al. 2019, arXiv 1902.10486 (ER-Reservoir).
    Needs: nothing, but it stores samples. Keeps: `buffer` samples with their labels. Strength 0 is naive, bit for bit.
    Differs from paper: the two losses are means of their own, so that strength 0 is defined; at strength 1 it is twice
        the paper's mean.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, strength: float, buffer: int) -> None:
        self.objective, self.generator, self.strength, self.buffer = objective, generator, strength, buffer
        self.memory = {"offered": 0}

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        scores, loss = super().loss(model, batch)
        if old := reservoir.draw(self.memory, len(batch), self.generator):
            loss = loss + self.strength * self.objective(model(old["inputs"]), old["labels"])
        return scores, loss

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        reservoir.keep(self.memory, self.buffer, self.generator, inputs=batch.inputs, labels=batch.labels)
