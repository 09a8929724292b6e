"""A control: the same training with fewer updates."""

from __future__ import annotations

import torch
from torch import nn

from nllab.methods.method import Method
from nllab.methods.objective import Objective


class FewerUpdates(Method):
    """Learn from every `every`-th batch alone and let the others pass: who learns less, forgets less.

    A method that keeps A better than this at the same accuracy on B does more than to hold still. every = 1 is naive,
    bit for bit.
    Needs: nothing. Keeps: a count.
    """

    def __init__(self, objective: Objective, generator: torch.Generator, *, every: int) -> None:
        self.objective, self.generator, self.every = objective, generator, every
        self.memory = {"batches": 0}

    def before_step(self, model: nn.Module) -> None:
        self.memory["batches"] += 1
        if self.memory["batches"] % self.every:
            for p in model.parameters():
                p.grad = None
