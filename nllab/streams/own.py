"""The user's own data as tasks: `own:PATH_A,PATH_B` or `own-apart:PATH_A,PATH_B`; nllab.data reads the paths.

Under `own` labels that read the same in two paths are one class: disjoint labels make a class-incremental stream, equal
ones a domain-incremental one. Under `own-apart` every path's classes are its own. Parts are cut class by class, seeded
by `split`. Inputs are standardised by the training part of the first task alone, since nothing of B is known while A is
learned.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nllab.data import load
from nllab.data.scale import LIMIT, Scale
from nllab.errors import DataWarning, SettingError
from nllab.streams.stream import Part, Stream, Task, letter

TEST_FRACTION, VALIDATION_FRACTION = 0.25, 0.1
MOST_NAMED = 20  # classes that the sentence about a task names
FAR = 0.01  # share of a column's values far from those of A from which it is said


def own(name: str, split: int, hold_out: bool) -> Stream:
    """The stream of a name such as "own:a.npz,b.npz". What may mislead is said as a DataWarning.

    Raises: SettingError for a name without two paths; DataError for data that cannot be used or not be trusted.
    """
    kind, _, rest = name.partition(":")
    paths = [Path(path.strip()).expanduser() for path in rest.split(",") if path.strip()]
    if len(paths) < 2:
        raise SettingError(
            f"The stream {name[:200]!r} names {len(paths)} path{'s' * (len(paths) != 1)}; write {kind}:PATH_A,PATH_B."
        )
    loaded = load(paths, apart=kind == "own-apart")
    cuts = [stratified(labels, split, hold_out) for labels in loaded.labels]
    first = loaded.inputs[0][cuts[0][0]]
    scale = Scale.of_columns(first) if loaded.image_shape is None else Scale.of_pixels(first)
    report = loaded.report
    for path, values in zip(report.paths[1:], loaded.inputs[1:], strict=True):
        if loaded.image_shape is None and (far := scale.far(values) > FAR).any():
            sentence = f"{path.task}: {int(far.sum())} of its columns lie more than {LIMIT:g} spreads from A's values."
            report = report.model_copy(update={"notes": (*report.notes, sentence + " They are compressed, in order.")})
    for text in report.warnings:
        warnings.warn(text, DataWarning, stacklevel=2)
    index = {label: i for i, label in enumerate(loaded.classes)}
    tasks = []
    for i, (path, values, names, cut) in enumerate(zip(report.paths, loaded.inputs, loaded.labels, cuts, strict=True)):
        inputs = torch.from_numpy(scale(values).reshape(len(values), -1))
        labels = torch.tensor([index[label] for label in names.tolist()])
        train, validation, test = (Part(inputs[rows], labels[rows]) for rows in map(torch.from_numpy, cut))
        held = list(path.classes)
        listed = ", ".join(held[:MOST_NAMED]) + (
            f" and {len(held) - MOST_NAMED} more" if len(held) > MOST_NAMED else ""
        )
        tasks.append(Task(letter(i), f"{path.name}: classes {listed}", train, validation, test))
    about = f"Your own data: {', then '.join(loaded.names)}. One output layer for all {len(loaded.classes)} classes."
    return Stream(
        name, about, tuple(tasks), tuple(range(len(tasks))), len(loaded.classes), loaded.image_shape, report=report
    )


def stratified(
    labels: NDArray[np.str_], split: int, hold_out: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training, validation and test parts: of each class a quarter for testing and, with hold_out, a tenth
    of the rest."""
    generator = np.random.default_rng(split)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in sorted(set(labels.tolist())):
        rows = generator.permutation(np.flatnonzero(labels == label)).tolist()
        tests = max(1, round(TEST_FRACTION * len(rows)))
        held = max(1, round(VALIDATION_FRACTION * (len(rows) - tests))) if hold_out else 0
        parts[2].extend(rows[:tests])
        parts[1].extend(rows[tests : tests + held])
        parts[0].extend(rows[tests + held :])
    train, validation, test = (np.sort(np.array(rows, dtype=np.int64)) for rows in parts)
    return train, validation, test
