"""Averaged gradient episodic memory: no step may raise the mean loss on stored samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods import reservoir
from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective
from nllab.streams.stream import Part


def project(gradient: Tensor, reference: Tensor) -> Tensor:
    """The nearest gradient whose product with the reference is not negative: g - (g.r / r.r) r where g.r < 0, else g
    itself. Shapes: gradient, reference and the result (P,), all parameters in one row."""
    agreement = gradient @ reference
    return gradient - (agreement / (reference @ reference)) * reference if agreement < 0 else gradient


class AGEM(Method):
    """A-GEM: where the batch's gradient would raise the loss on old samples, it is projected until to first order it
    does not.

    Source: Chaudhry et al. 2019, arXiv 1812.00420, Eq. 11.
    Needs: nothing, but it stores samples. Keeps: `buffer` samples with their labels. Buffer 0 is naive, bit for bit.
    Differs from paper: the samples are a reservoir of everything seen instead of so many from each finished task, so no
        boundary is needed; as many of them are drawn at each step as the batch has.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, buffer: int) -> None:
        self.objective, self.generator, self.buffer = objective, generator, buffer
        self.memory = {"offered": 0}
        self._count = 0

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        self._count = len(batch)
        return super().loss(model, batch)

    def before_step(self, model: nn.Module) -> None:
        old = reservoir.draw(self.memory, self._count, self.generator)
        if not old:
            return
        parameters = [p for p in trainable(model).values() if p.grad is not None]
        loss = self.objective(model(old["inputs"]), old["labels"])
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        reference = torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, gradients, strict=True)]
        )
        gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        for p, piece in zip(
            parameters, project(gradient, reference).split([p.numel() for p in parameters]), strict=True
        ):
            p.grad = piece.view_as(p).clone()

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        reservoir.keep(self.memory, self.buffer, self.generator, inputs=batch.inputs, labels=batch.labels)
