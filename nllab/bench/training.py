"""How the benches train what they compare: by the one trainer, on a task whose batches are drawn as they come."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nllab.experiment import Experiment
from nllab.levels import Level
from nllab.streams.sequences import drawn
from nllab.streams.stream import Drawn, Part
from nllab.trainer import Trainer

SETTINGS: dict[str, Any] = {"loss": "cross_entropy", "optimizer": "adamw", "observe": False, "evaluate_every": 100_000}


def trainer_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    draw: Callable[[], Part],
    tested: Part,
    classes: int,
    *,
    steps: int,
    seed: int,
    levels: tuple[Level, ...] = (Level("all", "*"),),
    device: str = "cpu",
    **settings: Any,
) -> Trainer:
    """A trainer that takes `steps` steps, each on what `draw()` gives, and measures nothing on the way.

    levels: all of the model as one level of period 1 unless they are given. settings: as `Trainer` takes them.
    """
    stream = drawn("what the bench draws", [Drawn(steps, draw)], [tested[:1]], classes)
    experiment = Experiment(**SETTINGS, seed=seed, batch_size=1)
    return Trainer(
        experiment, model=model, stream=stream, optimizer=optimizer, levels=levels, device=device, **settings
    )


def cosine(steps: int, last: float) -> Callable[[int], float]:
    """The factor on a learning rate at each step, counted from 0: from 1 down to `last` along half a cosine."""
    return lambda step: last + (1 - last) * (1 + math.cos(math.pi * step / steps)) / 2
