"""Dark experience replay: old samples are shown again, with what the network said of them then."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.methods import reservoir
from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


class DERpp(Method):
    """DER++: loss + alpha * mean squared distance to stored scores + beta * loss on stored labels, on two draws from
    one reservoir.

    Source: Buzzega et al. 2020, arXiv 2004.07211, Eq. 6. The scores are stored as they were when the sample was
        learned.
    Needs: nothing, but it stores samples. Keeps: `buffer` samples with labels and scores. alpha = beta = 0 is naive,
        bit for bit.
    Differs from paper: nothing (the squared distance is a mean over the outputs, as in its code).
    """

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, alpha: float, beta: float, buffer: int
    ) -> None:
        self.objective, self.generator = objective, generator
        self.alpha, self.beta, self.buffer = alpha, beta, buffer
        self.memory = {"offered": 0}

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        scores, loss = super().loss(model, batch)
        if old := reservoir.draw(self.memory, len(batch), self.generator):
            loss = loss + self.alpha * F.mse_loss(model(old["inputs"]), old["scores"])
            again = reservoir.draw(self.memory, len(batch), self.generator)
            loss = loss + self.beta * self.objective(model(again["inputs"]), again["labels"])
        return scores, loss

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        reservoir.keep(
            self.memory, self.buffer, self.generator, inputs=batch.inputs, labels=batch.labels, scores=scores.detach()
        )
