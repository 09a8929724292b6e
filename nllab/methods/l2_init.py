"""L2-init: weights are pulled towards where they began, where they could learn anything."""

from __future__ import annotations

import torch
from torch import nn

from nllab.methods.ewc import pull
from nllab.methods.method import Method, trainable
from nllab.methods.objective import Objective


class L2Init(Method):
    """Regenerative regularization: loss + strength * sum (weight - initial weight)^2.

    Source: Kumar, Marklund & Van Roy 2023, arXiv 2308.11958, Section 4.
    Needs: nothing. Keeps: the initial weights. Strength 0 is naive, bit for bit.
    Differs from paper: nothing.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, strength: float) -> None:
        self.objective, self.generator, self.strength = objective, generator, strength
        self.memory = {}

    def before_step(self, model: nn.Module) -> None:
        if not self.memory:
            parameters = trainable(model)
            self.memory = {
                "start": {name: p.detach().clone() for name, p in parameters.items()},
                "ones": {name: p.new_ones(()) for name, p in parameters.items()},
            }
        pull(model, self.memory["start"], self.memory["ones"], 2 * self.strength)
