"""All paths of a stream, read and brought to one form, with the report of what was understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data import colours, columns, overlap, pictures
from nllab.data.arrays import idx_folder, read_idx_pair, read_npz
from nllab.data.files import find, known, read_file
from nllab.data.labels import check_classes, natural, spelling_variants
from nllab.data.limits import COSTLY_INPUTS
from nllab.data.pictures import ArrayPictures, FilePictures
from nllab.data.report import Findings, PathReport, Report, counted, listed, shown
from nllab.data.tables import Table, read_excel, read_text
from nllab.errors import DataError

ENOUGH_IMAGES = 100

Held = Table | FilePictures | ArrayPictures


@dataclass(frozen=True)
class Loaded:
    """inputs: of each path, columns (N, D) float64 or images (N, H, W) float32. labels: of each path (N,)."""

    names: tuple[str, ...]
    inputs: tuple[NDArray[Any], ...]
    labels: tuple[NDArray[np.str_], ...]
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None
    report: Report


def _telling_pixel(images: NDArray[np.float32], labels: NDArray[np.str_]) -> str | None:
    """The first pixel of images (N, H, W) that alone tells all classes apart."""
    width, flat = images.shape[2], images.reshape(len(images), -1)
    places = [f"row {i // width}, column {i % width}" for i in range(flat.shape[1])]
    whole = [place for place, share in columns.giveaways(flat, places, labels).items() if share == 1]
    if len(images) < ENOUGH_IMAGES:  # among so few one pixel of many may do so by chance, unless it stands still
        count = len(set(labels.tolist()))
        whole = [place for place in whole if len(np.unique(flat[:, places.index(place)])) == count]
    return whole[0] if whole else None


def load(paths: Sequence[str | Path], *, apart: bool = False) -> Loaded:
    """Read what lies at these paths as tasks A, B, … of one stream.

    apart: every path's classes are its own, even where labels read the same.
    Raises: DataError that names the file, what is wrong and what to do.
    """
    findings = Findings()
    tasks = [overlap.letter(i) for i in range(len(paths))]
    held = [read(Path(path), task, findings) for path, task in zip(paths, tasks, strict=True)]
    if findings.unclear_days & findings.day_first.keys():  # a later path tells how dates are written
        findings = Findings(findings.day_first)
        held = [read(Path(path), task, findings) for path, task in zip(paths, tasks, strict=True)]
    for one in held:
        check_classes(one.labels, shown(one.name))
    tables, images = [h for h in held if isinstance(h, Table)], [h for h in held if not isinstance(h, Table)]
    if tables and images:
        raise DataError(
            f"{shown(tables[0].name)} holds columns and {shown(images[0].name)} holds images; all tasks of a stream"
            " share one kind of input."
        )
    shape = None
    if tables:
        inputs, names = columns.joined(tables, findings)
        text = f"{counted(len(names), 'column')}: {listed(names, 8)}"
        for values, table in zip(inputs, tables, strict=True):
            alone = columns.giveaways(values, names, table.labels)
            if whole := [name for name, share in alone.items() if share == 1]:
                findings.warnings.append(columns.giveaway(table.task, whole))
            elif alone:
                findings.warnings.append(columns.giveaway(table.task, list(alone), min(max(alone.values()), 0.994)))
        overlap.compare_columns(inputs, names, findings)
    else:
        size = pictures.common_size(images, findings)
        decoded = [h.decode(size, findings) for h in images]
        for one in images:
            check_classes(one.labels, shown(one.name))  # some images may have turned out to be damaged
        inputs, seen = colours.one_kind(decoded, [h.labels for h in images], findings)
        shape = (inputs[0].shape[1], inputs[0].shape[2])
        text = f"images of {size[0]} x {size[1]} pixels, {seen}"
        for values, one in zip(inputs, images, strict=True):
            if (values == values[:1]).all():
                raise DataError(f"{shown(one.name)}: all its images are the same, so there is nothing to learn from.")
            if pixel := _telling_pixel(values, one.labels):
                findings.warnings.append(
                    f"{one.task}: the pixel at {pixel} alone tells all classes apart. If it belongs to a frame, a"
                    " mark or a date, cut it off."
                )
        overlap.compare_pixels(inputs, findings)
    if inputs[0][0].size > COSTLY_INPUTS:
        findings.notes.append(
            f"{inputs[0][0].size:,} inputs: a step with the deep optimizer takes some tenths of a second to a second."
            " Smaller images or fewer columns are faster."
        )
    labels = [h.labels for h in held]
    variants = spelling_variants({label for own in labels for label in own.tolist()})
    for group in sorted(map(sorted, variants))[:5]:
        findings.warnings.append(
            f"The labels {listed(group)} are different classes and may be spellings of one. If so, write them alike."
        )
    if apart:
        labels = [np.char.add(f"{task}: ", own) for task, own in zip(tasks, labels, strict=True)]
    else:
        overlap.compare_classes(labels, findings)
    overlap.compare_samples(inputs, labels, findings)
    report = _report(held, labels, text, findings)
    classes = tuple(sorted(report.classes, key=natural))
    return Loaded(tuple(h.name for h in held), tuple(inputs), tuple(labels), classes, shape, report)


def read(path: Path, task: str, findings: Findings) -> Held:
    """What one path holds. Raises DataError."""
    found = find(path)
    match found.kind:
        case "folder":
            return _read_folder(path, task, findings)
        case "text":
            return read_text(found, task, findings)
        case "excel":
            return read_excel(found, task, findings)
        case "npz":
            return read_npz(found, task, findings)
        case "idx":
            return read_idx_pair(found, task, findings)
        case "pictures":
            return pictures.read_archive(found, task, findings)


def _read_folder(path: Path, task: str, findings: Findings) -> Held:
    try:
        idx = idx_folder(path)
        if len(idx) == 1:
            return read_idx_pair(known(idx[0], read_file(idx[0])), task, findings)
        return pictures.read_folder(path, task, findings)
    except OSError as error:
        raise DataError(f"{shown(path.name)} cannot be read ({error.strerror}).") from None


def _report(held: Sequence[Held], labels: Sequence[NDArray[np.str_]], inputs: str, findings: Findings) -> Report:
    paths = []
    for one, own in zip(held, labels, strict=True):
        names, counts = np.unique(own, return_counts=True)
        classes = dict(sorted(zip(names.tolist(), map(int, counts), strict=True), key=lambda item: natural(item[0])))
        paths.append(
            PathReport(task=one.task, name=one.name[:120], read_as=one.read_as, samples=len(own), classes=classes)
        )
    report = Report(paths=tuple(paths), inputs=inputs)
    return report.model_copy(
        update={
            "left_out": tuple(findings.left_out),
            "converted": tuple(findings.converted),
            "shared": tuple(name for name, counts in report.classes.items() if sum(n > 0 for n in counts) > 1),
            "notes": tuple(findings.notes),
            "warnings": tuple(findings.warnings),
        }
    )
