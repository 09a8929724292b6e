"""The user's own data as tasks: `own:PATH_A,PATH_B` or `own-apart:PATH_A,PATH_B`, each path an .npz file, a CSV file or
a folder.

.npz    `inputs` (N, D) or images (N, H, W), `labels` (N,) of whole numbers or text. Pickled objects are refused.
.csv    one row a sample, a column `label`, all other columns numbers; the first row names the columns.
folder  one folder a class, named after it, with images of one size (png, jpg, bmp, gif, tif, webp); colours become
grey.

Under `own` labels that read the same in two paths are one class: disjoint labels make a class-incremental stream, equal
ones a domain-incremental one. Under `own-apart` every path's classes are its own. Parts are cut class by class, seeded
by `split`. Inputs are normalised by the training part of the first task alone, since nothing of B is known while A is
learned.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nllab.errors import DataError, SettingError
from nllab.streams.stream import Part, Stream, Task, letter

TEST_FRACTION, VALIDATION_FRACTION = 0.25, 0.1
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FEWEST = 3  # samples of a class: one to train on, one to validate, one to test


class Own(NamedTuple):
    """What one path holds: inputs (N, D) or images (N, H, W) as float32, and the name of each sample's class (N,)."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.str_]


def own(name: str, split: int, hold_out: bool) -> Stream:
    """The stream of a name such as "own:a.npz,b.npz".

    Raises: SettingError for a name without two paths; DataError for data that is missing, damaged, not finite, of one
        class only, or of
    another shape than that of the first path.
    """
    kind, _, rest = name.partition(":")
    paths = [Path(path.strip()).expanduser() for path in rest.split(",") if path.strip()]
    if len(paths) < 2:
        raise SettingError(
            f"The stream {name!r} names {len(paths)} path{'s' * (len(paths) != 1)}; write {kind}:PATH_A,PATH_B."
        )
    held = [read(path) for path in paths]
    for path, other in zip(paths[1:], held[1:], strict=True):
        if other.inputs.shape[1:] != held[0].inputs.shape[1:]:
            raise DataError(
                f"{path.name} has samples of shape {other.inputs.shape[1:]} and {paths[0].name} of"
                f" {held[0].inputs.shape[1:]}; all tasks of a stream share one shape."
            )
    if kind == "own-apart":
        held = [Own(h.inputs, np.char.add(f"{letter(i)}: ", h.labels)) for i, h in enumerate(held)]
    classes = sorted(set().union(*(h.labels.tolist() for h in held)), key=_natural)
    cuts = [stratified(h.labels, split, hold_out) for h in held]
    first = held[0].inputs[cuts[0][0]]
    # One mean and one spread for all pixels of an image; a table's columns have units of their own.
    axes = None if first.ndim == 3 else 0
    mean, spread = first.mean(axes, dtype=np.float64), first.std(axes, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    tasks = []
    for i, (path, h, cut) in enumerate(zip(paths, held, cuts, strict=True)):
        inputs = torch.tensor(((h.inputs - mean) / spread).reshape(len(h.inputs), -1), dtype=torch.float32)
        labels = torch.tensor([classes.index(label) for label in h.labels.tolist()])
        train, validation, test = (Part(inputs[rows], labels[rows]) for rows in map(torch.from_numpy, cut))
        tasks.append(
            Task(
                letter(i),
                f"{path.name}: classes {', '.join(sorted(set(h.labels.tolist()), key=_natural))}",
                train,
                validation,
                test,
            )
        )
    about = (
        f"Your own data: {', then '.join(path.name for path in paths)}. One output layer for all {len(classes)}"
        " classes."
    )
    shape = (first.shape[1], first.shape[2]) if first.ndim == 3 else None
    return Stream(name, about, tuple(tasks), tuple(range(len(tasks))), len(classes), shape)


def _natural(label: str) -> tuple[float, str]:
    """Numbers by value, then text by letters."""
    return (float(label), label) if label.lstrip("-").isdigit() else (math.inf, label)


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


def read(path: Path) -> Own:
    """What a path holds. Raises DataError that names the path and what is wrong with it."""
    if path.is_dir():
        found = read_folder(path)
    elif not path.is_file():
        raise DataError(
            f"{path} does not exist; name an .npz file, a .csv file or a folder with one folder of images for each"
            " class."
        )
    elif path.suffix == ".npz":
        found = read_npz(path)
    elif path.suffix == ".csv":
        found = read_csv(path)
    else:
        raise DataError(f"{path.name} is neither an .npz file nor a .csv file nor a folder.")
    wrong = np.flatnonzero(~np.isfinite(found.inputs.reshape(len(found.inputs), -1)).all(1))
    if len(wrong):
        raise DataError(
            f"{path.name}: {len(wrong)} samples hold NaN or infinite numbers, the first of them sample {wrong[0]}"
            " (from 0)."
        )
    names, counts = np.unique(found.labels, return_counts=True)
    if len(names) < 2:
        raise DataError(
            f"{path.name} holds {'one class only' if len(names) else 'no samples'}; a task needs at least two classes."
        )
    if counts.min() < FEWEST:
        raise DataError(
            f"{path.name}: class {str(names[counts.argmin()])!r} has {counts.min()} samples; every class needs at least"
            f" {FEWEST}."
        )
    return found


def read_npz(path: Path) -> Own:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in ("inputs", "labels") if key not in archive]
            if missing:
                raise DataError(
                    f"{path.name} lacks {' and '.join(missing)}; it holds {', '.join(archive.files) or 'nothing'}."
                )
            inputs, labels = archive["inputs"], archive["labels"]
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path.name} cannot be read: {error}.") from None
    except ValueError:
        raise DataError(
            f"{path.name} holds pickled objects, which are never opened; save plain arrays of numbers or text."
        ) from None
    if inputs.ndim not in (2, 3) or inputs.dtype.kind not in "biuf" or 0 in inputs.shape[1:]:
        raise DataError(
            f"{path.name}: inputs are {inputs.dtype} of shape {inputs.shape}; expected numbers of shape (N, D) or (N,"
            " H, W)."
        )
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "biuU":
        raise DataError(
            f"{path.name}: labels are {labels.dtype} of shape {labels.shape}; expected whole numbers or text of shape"
            f" ({len(inputs)},)."
        )
    return Own(
        inputs.astype(np.float32), (labels.astype(np.int64) if labels.dtype.kind == "b" else labels).astype(np.str_)
    )


def read_csv(path: Path) -> Own:
    import pandas as pd  # a second that other streams do not have

    try:
        table = pd.read_csv(path, dtype={"label": str}, keep_default_na=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read as a table: {error}.") from None
    if "label" not in table or len(table.columns) < 2:
        raise DataError(
            f"{path.name} needs a column 'label' and at least one more; its columns are"
            f" {', '.join(map(str, table.columns))}."
        )
    missing = np.flatnonzero(table["label"].isna().to_numpy())
    if len(missing):
        raise DataError(
            f"{path.name}: the label is missing in {len(missing)} rows, the first of them row {missing[0]} (from 0)."
        )
    values = table.drop(columns="label")
    words = [str(name) for name in values if not pd.api.types.is_numeric_dtype(values[name])]
    if words:
        raise DataError(f"{path.name}: the columns {', '.join(words)} hold something else than numbers.")
    return Own(values.to_numpy(np.float32), table["label"].to_numpy(dtype=str).astype(np.str_))


def read_folder(path: Path) -> Own:
    from PIL import Image, UnidentifiedImageError

    files = [
        (file, place.name) for place in sorted(path.iterdir()) if place.is_dir() for file in sorted(place.iterdir())
    ]
    files = [(file, label) for file, label in files if file.suffix.lower() in PICTURES]
    if not files:
        raise DataError(
            f"{path} holds no images; put those of each class into a folder of its own, named after the class."
        )
    pictures = []
    for file, _ in files:
        try:
            with Image.open(file) as picture:
                pictures.append(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{file} cannot be read as an image: {error}.") from None
        if pictures[-1].shape != pictures[0].shape:
            raise DataError(
                f"{file} has {pictures[-1].shape} pixels and {files[0][0]} has {pictures[0].shape}; all images share"
                " one size."
            )
    return Own(np.stack(pictures), np.array([label for _, label in files], dtype=np.str_))
