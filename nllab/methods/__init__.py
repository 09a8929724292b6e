"""The usual continual-learning methods to compare with, by name. `build` makes one; the names are known without loading
torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from nllab.errors import SettingError, check_choice, unknown

if TYPE_CHECKING:
    from nllab.methods.method import Method
    from nllab.methods.objective import Objective
    from nllab.methods.random_features import FrozenFeatures
    from nllab.streams.stream import Stream


class Entry(NamedTuple):
    """Where a method lives, its settings with their defaults, and the privileged information that it gets beside the
    batches."""

    module: str
    name: str
    settings: dict[str, float]
    privileged: tuple[str, ...] = ()  # of "boundaries" and "samples"


REGISTRY = {
    "naive": Entry("method", "Naive", {}),
    "fewer-updates": Entry("fewer_updates", "FewerUpdates", {"every": 4}),
    "ewc": Entry("ewc", "EWC", {"strength": 100, "samples": 200}, ("boundaries",)),
    "online-ewc": Entry("ewc", "OnlineEWC", {"strength": 100, "samples": 200, "decay": 1}, ("boundaries",)),
    "si": Entry("si", "SI", {"strength": 1, "damping": 0.1}, ("boundaries",)),
    "lwf": Entry("lwf", "LwF", {"strength": 1, "temperature": 2}, ("boundaries",)),
    "er": Entry("er", "ER", {"strength": 1, "buffer": 200}, ("samples",)),
    "a-gem": Entry("a_gem", "AGEM", {"buffer": 200}, ("samples",)),
    "der++": Entry("der", "DERpp", {"alpha": 0.5, "beta": 1, "buffer": 200}, ("samples",)),
    "owm": Entry("owm", "OWM", {"strength": 10, "average": 0, "gradient": 0}, ("boundaries",)),
    "gpm": Entry("gpm", "GPM", {"threshold": 0.99, "samples": 300, "gradient": 0}, ("boundaries",)),
    "l2-init": Entry("l2_init", "L2Init", {"strength": 0.01}),
    "shrink-and-perturb": Entry("shrink_perturb", "ShrinkAndPerturb", {"shrink": 1e-4, "perturb": 1e-3}),
    "upgd": Entry("upgd", "UPGD", {"noise": 0.001, "decay": 0.999}),
    "continual-backprop": Entry(
        "continual_backprop", "ContinualBackprop", {"replacement": 1e-3, "maturity": 100, "decay": 0.99}
    ),
    "slda": Entry("slda", "SLDA", {"shrinkage": 1e-2, "features": 1000}),
    "randumb": Entry("slda", "SLDA", {"shrinkage": 1e-2, "features": 1000, "gamma": 10.0}),
    "rls": Entry("rls", "RLS", {"ridge": 0.01, "features": 1000}),
    "rls-conv": Entry("rls", "RLS", {"ridge": 1, "filters": 64}),
}
METHODS = tuple(REGISTRY)
BRINGS_ITS_MODEL = ("slda", "randumb", "rls", "rls-conv")  # frozen features and a head


def check(name: str, settings: Mapping[str, float]) -> dict[str, float]:
    """The method's settings, given or default. Raises SettingError for an unknown method, an unknown setting or a
    negative value."""
    check_choice("method", name, REGISTRY)
    known = REGISTRY[name].settings
    for key, value in settings.items():
        if key not in known:
            if not known:
                raise SettingError(f"The method {name!r} has no settings, and {key}={value} was given.")
            raise unknown(f"setting of the method {name!r}", key, known)
        whole = key in ("every", "samples", "buffer", "features", "filters", "maturity")
        least = 1 if key in ("every", "samples", "features", "filters") else 0
        if not least <= value < float("inf") or (whole and value != int(value)):
            expected = f"a whole number, {least} or more" if whole else "a finite number, 0 or more"
            raise SettingError(f"method_settings: {key} of {name!r} is {value!r}; it must be {expected}.")
    for key in ("threshold", "decay", "average", "gradient", "shrink", "replacement", "shrinkage"):
        if settings.get(key, 0) > 1:
            raise SettingError(f"method_settings: {key} of {name!r} is {settings[key]!r}; it lies in [0, 1].")
    return {
        key: int(v) if isinstance(d, int) and v == int(v) else v
        for key, d in known.items()
        for v in [settings.get(key, d)]
    }


def build(name: str, settings: Mapping[str, float], objective: Objective, seed: int) -> Method:
    """The method of this name; all that it draws comes from `seed`. Raises SettingError for what cannot be used."""
    import torch

    checked = check(name, settings)
    entry = REGISTRY[name]
    make = getattr(importlib.import_module(f"nllab.methods.{entry.module}"), entry.name)
    return make(objective, torch.Generator().manual_seed(seed), **checked)


def model_of(name: str, settings: Mapping[str, float], stream: Stream) -> FrozenFeatures | None:
    """The model that a method brings along, drawn from torch's own generator; None where it trains the experiment's."""
    if name not in BRINGS_ITS_MODEL:
        return None
    from nllab.methods.random_features import ConvolutionalFeatures, DenseFeatures, FourierFeatures, FrozenFeatures

    checked = check(name, settings)
    if name == "randumb":
        features = FourierFeatures(stream.features, int(checked["features"]), checked["gamma"])
        return FrozenFeatures(features, stream.classes)
    if name in ("slda", "rls"):
        return FrozenFeatures(DenseFeatures(stream.features, int(checked["features"])), stream.classes)
    if stream.image_shape is None:
        raise SettingError(f"method=rls-conv reads images, and the stream {stream.name!r} has none. Take method=rls.")
    return FrozenFeatures(ConvolutionalFeatures(stream.image_shape, int(checked["filters"])), stream.classes)
