"""The seam between a trainer and a continual-learning method.

A trainer calls, for every batch: `loss` (its gradient is taken), `before_step` (gradients are there, nothing is written
yet), writes with its optimizer, `after_step`; and `end_of_experience` only for a method that needs task boundaries. All
that a method remembers beyond the weights is the dictionary `memory`, all that it draws comes from `generator`: whoever
keeps these two can go on from there.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nllab.methods.objective import Objective
from nllab.optim.context import bytes_of
from nllab.streams.stream import Part


class Method(Protocol):
    """What every method can do; as it stands here, plain training."""

    objective: Objective
    generator: torch.Generator
    memory: dict[str, Any]
    boundaries = False  # whether `end_of_experience` is called

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        """(scores of the batch (B, classes), loss whose gradient the optimizer gets)."""
        scores = model(batch.inputs)
        return scores, self.objective(scores, batch.labels)

    def before_step(self, model: nn.Module) -> None:
        """Change the gradients, or note the weights, before the optimizer writes."""
        return

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        """Change the weights after the optimizer has written, or store something. scores: of the batch, as they were in
        `loss`."""
        return

    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        """An experience is over; part: its training samples. Called only where `boundaries` is true."""
        return

    def bytes_kept(self) -> int:
        """Bytes it keeps from step to step beyond the weights."""
        return bytes_of(self.memory)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, of those that learn."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Naive(Method):
    """Plain training, one batch after another: what every method is compared with.

    Needs: nothing. Keeps: nothing.
    """

    def __init__(self, objective: Objective, generator: torch.Generator) -> None:
        self.objective, self.generator, self.memory = objective, generator, {}
