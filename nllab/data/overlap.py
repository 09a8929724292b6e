"""Whether A and B can be one stream: the same units, the same names for classes, other samples. General guards, which
look at numbers and labels whatever kind of file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data.report import Findings, counted, listed, shown

UNITS = 20.0  # times as wide or as narrow as in A, from which two tables may not be in one unit
EXAMINED = 10_000  # rows
APART = 3.0  # of A's spreads between the middles of A and B


def letter(index: int) -> str:
    """As stream.letter, which is torch's side of the house."""
    turn, rest = divmod(index, 26)
    return chr(ord("A") + rest) + (str(turn + 1) if turn else "")


def compare_columns(inputs: Sequence[NDArray[np.float64]], names: Sequence[str], findings: Findings) -> None:
    """Names the columns that do not vary in B, or vary there by another order of magnitude than in A."""
    bounds = [np.quantile(own[:: 1 + len(own) // EXAMINED], (0.1, 0.5, 0.9), axis=0) for own in inputs]
    low, _, high = bounds[0]
    for i in range(1, len(inputs)):
        task, (other_low, _, other_high) = letter(i), bounds[i]
        still = (inputs[i] == inputs[i][:1]).all(0) & (inputs[0] != inputs[0][:1]).any(0)
        if still.any():
            findings.notes.append(f"{task}: {listed(np.array(names)[still])} does not vary here and does in A.")
        with np.errstate(divide="ignore", invalid="ignore"):
            times = (other_high - other_low) / (high - low)
        strange = np.isfinite(times) & (times > 0) & ((times > UNITS) | (times < 1 / UNITS))
        if strange.any():
            k = int(np.flatnonzero(strange)[0])
            findings.warnings.append(
                f"{task}: {counted(int(strange.sum()), 'column')} may be in another unit than in A, such as"
                f" {shown(names[k])}: mostly {other_low[k]:.4g} to {other_high[k]:.4g}, in A {low[k]:.4g} to"
                f" {high[k]:.4g}. If so, convert them to one unit."
            )


def compare_pixels(images: Sequence[NDArray[np.float32]], findings: Findings) -> None:
    """Names images of another range of values than A's: of another depth, centred on 0, or with white for black."""
    few = [own[:: 1 + len(own) // 1_000] for own in images]
    low, high, middle, spread = (
        [float(one) for one in found]
        for found in zip(*((*np.quantile(own, (0.005, 0.995)), own.mean(), own.std()) for own in few), strict=True)
    )
    for i in range(1, len(images)):
        times = (high[i] - low[i]) / max(high[0] - low[0], 1e-12)
        if (
            not 0.2 < times < 5
            or (low[i] < -0.01) != (low[0] < -0.01)
            or abs(middle[i] - middle[0]) > APART * spread[0]
        ):
            findings.warnings.append(
                f"{letter(i)}: its pixels lie mostly from {low[i]:.2g} to {high[i]:.2g}, those of A from {low[0]:.2g}"
                f" to {high[0]:.2g} (means {middle[i]:.2g} and {middle[0]:.2g}). If black and white should mean the"
                " same in both, bring them to one range."
            )


def compare_classes(labels: Sequence[NDArray[np.str_]], findings: Findings) -> None:
    """Where tasks share no class and one writes numbers where the other writes names."""
    first = sorted(set(labels[0].tolist()))
    for i, own in enumerate(labels[1:], start=1):
        other = sorted(set(own.tolist()))
        if set(first) & set(other) or len(first) != len(other):
            continue
        if _are_numbers(first) != _are_numbers(other) or _are_truths(first) != _are_truths(other):
            findings.warnings.append(
                f"A has the classes {listed(first, 4)} and {letter(i)} {listed(other, 4)}, none in common. If they mean"
                " the same, write them alike."
            )


def _are_numbers(labels: Sequence[str]) -> bool:
    return all(label.lstrip("+-").isdigit() for label in labels)


def _are_truths(labels: Sequence[str]) -> bool:
    return {label.lower() for label in labels} in ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})


def compare_samples(inputs: Sequence[NDArray[Any]], labels: Sequence[NDArray[np.str_]], findings: Findings) -> None:
    """Says where samples repeat within a task, with another label as well, and where B is A."""
    for i, (own, names) in enumerate(zip(inputs, labels, strict=True)):
        seen: dict[bytes, set[str]] = {}
        keys = [_key(row) for row in own]
        for key, name in zip(keys, names.tolist(), strict=True):
            seen.setdefault(key, set()).add(name)
        again = len(own) - len(seen)
        if again > len(own) // 10:
            findings.notes.append(
                f"{letter(i)}: {again:,} of {counted(len(own), 'sample')} repeat the inputs of another one, so what is"
                " tested was partly trained on."
            )
        if (torn := sum(len(seen[key]) > 1 for key in keys)) > len(own) // 20:
            findings.warnings.append(
                f"{letter(i)}: {torn:,} of {counted(len(own), 'sample')} have the same inputs as a sample of another"
                " class, so not all of them can be told apart."
            )
    first = set(map(_key, inputs[0]))
    for i, other in enumerate(inputs[1:], start=1):
        again = sum(_key(row) in first for row in other)
        if again > len(other) // 10:
            findings.notes.append(
                f"{letter(i)}: {again:,} of {counted(len(other), 'sample')} have the same inputs as samples of A."
            )


def _key(row: NDArray[Any]) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()
