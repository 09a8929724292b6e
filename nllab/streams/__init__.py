"""The streams by name. `build` makes one; the names are known without loading torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nllab.errors import unknown

if TYPE_CHECKING:
    from nllab.experiment import Experiment
    from nllab.streams.stream import Stream

REGISTRY = {
    "digits-ab": ("digits", "digits_ab"),
    "digits-5x2": ("digits", "digits_5x2"),
    "digits-aba": ("digits", "digits_aba"),
    "permuted-digits": ("digits", "permuted_digits"),
    "permuted-digits-5": ("digits", "permuted_digits_5"),
    "permuted-digits-50": ("digits", "permuted_digits_50"),
    "rotated-digits": ("digits", "rotated_digits"),
    "remapped-digits": ("digits", "remapped_digits"),
    "drifting-digits": ("digits", "drifting_digits"),
    "noisy-digits": ("digits", "noisy_digits"),
    "contexts-digits": ("contexts", "contexts_digits"),
    "fashion-ab": ("images", "fashion_ab"),
    "fashion-5x2": ("images", "fashion_5x2"),
    "permuted-fashion": ("images", "permuted_fashion"),
    "plane-ab": ("plane", "plane_ab"),
    "names-ab": ("names", "names_ab"),
    "names-5": ("names", "names_5"),
    "letters-ab": ("sequences", "letters_ab"),
    "facts-ab": ("sequences", "facts_ab"),
}


OWN = ("own", "own-apart")  # own:PATH_A,PATH_B (own.py)


def is_known(name: str) -> bool:
    """Whether a stream of this name can be built: one of the lab's, or somebody's own."""
    return name in REGISTRY or (":" in name and name.partition(":")[0] in OWN)


def build(name: str, *, seed: int = 0, split: int = 0, hold_out: bool = False, **contexts: int) -> Stream:
    """The stream of this name. `seed` draws what is random in it, `split` cuts train from test, `hold_out` fills the
    validation parts. contexts: context_length, pairs and batch_size of a stream of contexts; others take no notice.

    Raises SettingError for a name that is not known, DataError for data of one's own that cannot be used.

    ```pycon
    >>> stream = build("digits-ab")
    >>> stream.task_names, stream.classes, stream.features
    (('A', 'B'), 10, 64)

    ```
    """
    if not is_known(name):
        raise unknown("stream", name, REGISTRY)
    if name not in REGISTRY:
        return importlib.import_module("nllab.streams.own").own(name, split, hold_out)
    module, function = REGISTRY[name]
    settings = contexts if module == "contexts" else {}
    return getattr(importlib.import_module(f"nllab.streams.{module}"), function)(seed, split, hold_out, **settings)


def stream_of(experiment: Experiment) -> Stream:
    """The stream of an experiment, as its settings draw it."""
    return build(
        experiment.stream,
        seed=experiment.seed,
        split=experiment.split,
        hold_out=experiment.evaluate_on == "validation",
        context_length=experiment.context_length,
        pairs=experiment.pairs,
        batch_size=experiment.batch_size,
    )
