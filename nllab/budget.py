"""How much memory a run will take, estimated from its settings before anything is built, and how much it may take."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import nn

from nllab.build import build_model
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.streams import build

FLOAT = 4  # bytes
COPIES = 8  # of the weights: themselves, gradient, two of the optimizer, three to measure movement, one on the way
CHECKPOINTS = 2  # that a run keeps in any case; more go where memory is short
RUN_MEGABYTES = int(os.environ.get("NLLAB_RUN_MB", "600"))
MOST_RATIO = 0.5  # of the machine's memory, for all runs together


def bytes_of(experiment: Experiment) -> int:
    """Bytes that a run with these settings will take beside its data; nothing of that size is made to find out.

    Weights with all that is kept of them, and the deep optimizer's memory: for each layer a square matrix over its
    inputs, once and once more while it is written."""
    return _bytes_of(experiment.but(seed=0).to_json())


@lru_cache(maxsize=256)
def _bytes_of(settings: str) -> int:
    experiment = Experiment.from_json(settings)
    stream = build(experiment.stream, seed=experiment.seed, split=experiment.split)
    with torch.device("meta"):
        model, _ = build_model(experiment, stream)
    weights = sum(parameter.numel() for parameter in model.parameters())
    inputs = [_inputs(module) for module in model.modules()]
    memory = 2 * sum(width**2 for width in inputs)
    return FLOAT * ((COPIES + 3 * CHECKPOINTS) * weights + (1 + CHECKPOINTS) * memory)


def _inputs(module: nn.Module) -> int:
    """Width of what a layer multiplies with its matrix, its bias included; 0 for what is no such layer."""
    if isinstance(module, nn.Linear):
        return module.in_features + (module.bias is not None)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.weight[0].numel() + (module.bias is not None)
    return 0


def total_bytes() -> int:
    """What all runs may take together."""
    if given := os.environ.get("NLLAB_ALL_MB"):
        return int(given) * 2**20
    return int(MOST_RATIO * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if os.name == "posix" else 2**31


def check(experiment: Experiment, taken: int = 0) -> int:
    """Bytes of the run, if they fit beside those that are `taken`. Raises SettingError that says how much they are."""
    needed = bytes_of(experiment)
    if needed > RUN_MEGABYTES * 2**20:
        raise SettingError(
            f"These settings need about {_size(needed)} of memory, and a run here may take"
            f" {_size(RUN_MEGABYTES * 2**20)}. Lower dim, hidden or the number of memory levels; nllab run trains"
            " without this limit."
        )
    if taken + needed > total_bytes():
        raise SettingError(
            f"This run needs about {_size(needed)} of memory, and the runs on this server take {_size(taken)} of"
            f" {_size(total_bytes())}. Close a tab, or try again in a minute."
        )
    return needed


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
