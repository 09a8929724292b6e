"""The base optimizers by name. `build` makes one; names and learning rates are known without loading torch.

A new optimizer is its file and one line in REGISTRY.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from nllab.errors import unknown

if TYPE_CHECKING:
    import torch


class Entry(NamedTuple):
    """Where an optimizer is, its usual learning rate, how a sentence calls it, and what it is built over: the
    parameters, the whole model, or the groups of `hidden_and_other`."""

    module: str
    name: str
    learning_rate: float
    title: str
    over: str = "parameters"


# Each learning rate is the best of a grid on the validation part of digits-ab's task A (LOG.md).
REGISTRY = {
    "sgd": Entry("torch.optim", "SGD", 0.01, "SGD"),
    "adam": Entry("torch.optim", "Adam", 1e-3, "Adam"),
    "adamw": Entry("torch.optim", "AdamW", 1e-3, "AdamW"),
    "muon": Entry("nllab.optim.muon", "Muon", 0.01, "Muon", over="groups"),
    "m3": Entry("nllab.optim.m3", "M3", 1e-3, "M3", over="groups"),
    "dgd": Entry("nllab.optim.delta_gradient_descent", "DeltaGradientDescent", 0.003, "DGD", over="model"),
    "delta-momentum": Entry("nllab.optim.momentum", "DeltaMomentum", 0.003, "delta-momentum"),
    "deep-momentum": Entry("nllab.optim.deep_momentum", "DeepMomentum", 0.01, "deep-momentum"),
}
LEARNING_RATES = {name: entry.learning_rate for name, entry in REGISTRY.items()}


def build(
    name: str, model: torch.nn.Module, parameters: Iterable[torch.nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The base optimizer of this name over the parameters, which are the model's. Raises SettingError for a name that
    is not known."""
    if name not in REGISTRY:
        raise unknown("optimizer", name, REGISTRY)
    entry = REGISTRY[name]
    make = getattr(importlib.import_module(entry.module), entry.name)
    if entry.over == "groups":
        from nllab.optim.muon import hidden_and_other

        return make(hidden_and_other(model), lr=learning_rate)
    return make(model if entry.over == "model" else parameters, lr=learning_rate)
