"""From an experiment to what trains: the device, the model with its levels, and the frozen twin."""

from __future__ import annotations

import importlib
import threading

import torch
from torch import nn

from nllab import methods
from nllab.errors import SettingError, check_choice
from nllab.experiment import Experiment
from nllab.levels import Level
from nllab.models import REGISTRY
from nllab.streams.stream import Stream

READOUTS = ("head", "context")  # levels that learn in a frozen twin
_SEEDING = threading.Lock()  # torch draws initial weights from one generator for all threads


def pick_device(name: str) -> torch.device:
    """The device of this name. Raises SettingError for a name that is not known, or for CUDA where there is none."""
    check_choice("device", name, ("cpu", "cuda", "auto"))
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError(
            "device is 'cuda', and torch finds no CUDA device here. Use 'cpu', or 'auto' to take what there is."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def build_model(experiment: Experiment, stream: Stream) -> tuple[nn.Module, tuple[Level, ...]]:
    """The experiment's model and its levels, drawn from the experiment's seed; torch's own generator is left as it
    was."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = methods.model_of(experiment.method, experiment.method_settings, stream)
        if model is None:
            module, name = REGISTRY[experiment.model]
            kind = getattr(importlib.import_module(f"nllab.models.{module}"), name)
            if stream.sequences != getattr(kind, "reads_tokens", False):
                fitting = "hope-lm" if stream.sequences else "cms"
                wanted = "sequences of tokens" if stream.sequences else "samples"
                raise SettingError(
                    f"The stream {stream.name!r} has {wanted}, which model={experiment.model} does not read. Take"
                    f" model={fitting}."
                )
            try:
                model = kind.for_stream(experiment, stream.features, stream.classes, stream.image_shape)
            except SettingError as error:
                raise SettingError(f"The stream {stream.name!r} does not fit: {error}") from None
    return model, levels_of(model)


def levels_of(model: nn.Module) -> tuple[Level, ...]:
    """The model's own levels; all of it as one level of period 1 where it names none."""
    return tuple(model.levels()) if hasattr(model, "levels") else (Level("all", "*"),)  # type: ignore[operator]


def freeze_hidden_levels(model: nn.Module, levels: tuple[Level, ...]) -> None:
    """Keep every level but the head, and what reads its scores, at its initial values: the twin that shows what
    learning below the head brings."""
    learning = [level for level in levels if level.name in READOUTS]
    if not learning:
        raise SettingError(
            "frozen=true keeps all but the level 'head' at its initial values, and this model has no level of that"
            " name."
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(level.matches(name) for level in learning))
