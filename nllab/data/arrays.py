""".npz and IDX files -> arrays of inputs and labels. Headers are checked before memory is taken; nothing is
unpickled."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data.files import IDX_TYPES, Found, known, member_bytes, members_of, open_zip, read_file
from nllab.data.labels import identities
from nllab.data.limits import LARGEST_NUMBER, MOST_BYTES, MOST_CELLS, MOST_COLUMNS
from nllab.data.pictures import ArrayPictures
from nllab.data.report import Findings, listed, shown
from nllab.data.tables import Table
from nllab.errors import DataError

INPUTS = ("inputs", "X", "x", "images", "data", "x_train", "X_train", "train_images", "features")
LABELS = ("labels", "y", "label", "target", "targets", "y_train", "Y_train", "train_labels", "classes")


def read_npz(found: Found, task: str, findings: Findings) -> Table | ArrayPictures:
    """inputs (N, D), images (N, H, W), (N, H, W, 1 | 3 | 4) or (N, 1 | 3, H, W); labels (N,). Raises DataError."""
    name = shown(found.path.name)
    with open_zip(found.data, name) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in members_of(archive, name)}
        chosen = [next((key for key in keys if key in members), None) for keys in (INPUTS, LABELS)]
        missing = [keys[0] for key, keys in zip(chosen, (INPUTS, LABELS), strict=True) if key is None]
        if missing:
            raise DataError(
                f"{name} lacks {' and '.join(missing)}; it holds {', '.join(m[:40] for m in list(members)[:6])}. Save"
                " np.savez(PATH, inputs=…, labels=…)."
            )
        inputs, labels = (
            array_of(member_bytes(archive, members[str(key)], MOST_BYTES * 4, name), f"{name}: {key}") for key in chosen
        )
        if chosen != ["inputs", "labels"]:
            findings.notes.append(f"{task}: inputs are {chosen[0]!r} and labels {chosen[1]!r}.")
        if others := [key for key in members if key not in chosen]:
            findings.leave_out(task, f"arrays {listed(others)}", "neither inputs nor labels")
    return of_arrays(inputs, labels, task, found.path.name, found.packed + "arrays of NumPy", findings)


def array_of(data: bytes, where: str) -> NDArray[Any]:
    """The array in the bytes of an .npy file whose header has been compared with its length. Raises DataError."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception:  # the header is Python's syntax, and a damaged one raises nearly anything
        raise DataError(f"{where} is damaged or was cut off.") from None
    if dtype.hasobject:
        raise DataError(f"{where} holds pickled objects, which are never opened; save plain arrays of numbers or text.")
    count, left = math.prod(shape), len(data) - stream.tell()
    if any(size < 0 for size in shape) or count * dtype.itemsize != left or len(shape) > 32 or not dtype.itemsize:
        raise DataError(f"{where} says it has the shape {str(shape)[:60]} and holds {left:,} bytes; it was cut off.")
    try:
        return np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:  # an empty array with a dimension that no array can have
        raise DataError(f"{where} has the shape {str(shape)[:60]}, which no array can have ({error}).") from None


def of_arrays(
    inputs: NDArray[Any], labels: NDArray[Any], task: str, filename: str, read_as: str, findings: Findings
) -> Table | ArrayPictures:
    """Raises DataError for shapes and types that are no samples with classes."""
    name = shown(filename)
    shape = str(inputs.shape)[:80]
    if (
        inputs.ndim not in (2, 3, 4)
        or inputs.dtype.kind not in "biuf"
        or 0 in inputs.shape
        or inputs.size > 4 * MOST_CELLS
    ):
        raise DataError(
            f"{name}: inputs are {str(inputs.dtype)[:40]} of shape {shape}; expected numbers of shape (N, D), (N, H, W)"
            " or (N, H, W, 3)."
        )
    if labels.ndim == 2 and 1 in labels.shape and labels.size != 1:  # a column or a row, as MATLAB has them
        labels = labels.reshape(-1)
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "biufUS":
        hint = " Take labels.argmax(1) of one-hot labels." if labels.ndim == 2 and len(labels) == len(inputs) else ""
        if labels.ndim == 1 and len(labels) == inputs.shape[-1]:
            hint = " The samples lie along the last axis: save np.moveaxis(inputs, -1, 0)."
        raise DataError(
            f"{name}: labels are {str(labels.dtype)[:40]} of shape {str(labels.shape)[:80]}; expected whole numbers or"
            f" text of shape ({len(inputs)},).{hint}"
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
        raise DataError(
            f"{name}: labels are fractional or not finite; expected whole numbers or text, a class a sample."
        )
    if labels.dtype.kind == "S":
        texts = [label.decode("utf-8", errors="replace") for label in labels.tolist()]
    else:
        texts = [str(label) for label in labels.tolist()]
    names = identities(texts, task, filename, findings)
    if (names == "").any():
        row = int(np.flatnonzero(names == "")[0])
        raise DataError(f"{name}: the label of sample {row} (from 0) is empty. Name its class or leave the sample out.")
    check_numbers(inputs, name)
    if inputs.ndim == 2:
        if inputs.shape[1] > MOST_COLUMNS or inputs.size > MOST_CELLS:
            raise DataError(
                f"{name}: inputs have the shape {shape}, and at most {MOST_COLUMNS:,} columns and {MOST_CELLS:,}"
                " numbers are read. Take fewer."
            )
        values = inputs.astype(np.float64)
        columns = {f"column {i + 1}": values[:, i] for i in range(values.shape[1])}
        return Table(task, filename, read_as, names, columns, named=False, keeps_places=True)
    if inputs.ndim == 4:
        if inputs.shape[3] not in (1, 3, 4) and inputs.shape[1] in (1, 3):
            inputs = np.moveaxis(inputs, 1, 3)
            findings.notes.append(f"{task}: the images have their colours in the second axis.")
        if inputs.shape[3] not in (1, 3, 4):
            raise DataError(
                f"{name}: inputs are {inputs.dtype} of shape {shape}; expected numbers of shape (N, D), (N, H, W) or"
                " (N, H, W, 3)."
            )
    return ArrayPictures(task, filename, read_as, names, inputs)


def check_numbers(inputs: NDArray[Any], name: str) -> None:
    """Raises DataError for NaN, infinite or huge numbers."""
    if inputs.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore", over="ignore"):
        rows = (np.abs(inputs.reshape(len(inputs), -1)) <= min(LARGEST_NUMBER, float(np.finfo(inputs.dtype).max))).all(
            1
        )
    wrong = np.flatnonzero(~rows)
    if len(wrong):
        raise DataError(
            f"{name}: {len(wrong)} samples hold NaN or infinite numbers (or beyond {LARGEST_NUMBER:g}), the first of"
            f" them sample {wrong[0]} (from 0). Leave them out or fill them in."
        )


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, gzipped or not. Raises DataError if it is not one, or shorter than it says."""
    found = known(path, read_file(path))
    if found.kind != "idx":
        raise DataError(f"{shown(path.name)} is not an IDX file; expected the files of Fashion-MNIST or MNIST.")
    return idx_array(found)


def idx_array(found: Found) -> NDArray[Any]:
    """The array of an IDX file, as MNIST is distributed. Raises DataError where its size is not what its head says."""
    raw, name = found.data, shown(found.path.name)
    start = 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3]))
    dtype = np.dtype(IDX_TYPES[raw[2]])
    if len(raw) < start or len(raw) - start != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"{name} says it holds {shape} bytes and holds {max(0, len(raw) - start):,}; get the file again."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape)


def read_idx_pair(found: Found, task: str, findings: Findings) -> Table | ArrayPictures:
    """The images of an IDX file with the labels that lie beside it under the name MNIST gave them."""
    path = found.path
    partner = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx2", "idx1"))
    if partner == path or not partner.exists():
        raise DataError(
            f"{shown(path.name)} is an IDX file. Name the file of images (…-images-idx3-ubyte), and put that of its"
            f" labels beside it ({shown(partner.name)})."
        )
    return of_arrays(idx_array(found), read_idx(partner), task, path.name, found.packed + "IDX files", findings)


def idx_folder(path: Path) -> list[Path]:
    """The files of images in a folder that holds IDX files, the training part alone where there is one."""
    images = sorted(p for p in path.glob("*images*idx[23]*") if p.is_file())
    return [p for p in images if "train" in p.name] or images
