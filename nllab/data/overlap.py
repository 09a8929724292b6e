"""Whether A and B can be one stream: the same units, the same names for classes, other samples. General guards, which
look at numbers and labels whatever kind of file they came from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data.report import Findings, counted, listed, shown

UNITS = 20.0  # times as wide or as narrow as in A, from which two tables may not be in one unit
EXAMINED = 10_000  # rows
APART = 3.0  # of A's spreads between the middles of A and B
_MONTH = r"(jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez)[a-z]*\.?"
_DATE = re.compile(
    rf"[0-9]{{1,2}}[. -]+{_MONTH}|{_MONTH}[ -][0-9]{{2}}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}( 00:00:00)?", re.I
)


def letter(index: int) -> str:
    """As stream.letter, which is torch's side of the house."""
    turn, rest = divmod(index, 26)
    return chr(ord("A") + rest) + (str(turn + 1) if turn else "")


def compare_columns(inputs: Sequence[NDArray[np.float64]], names: Sequence[str], findings: Findings) -> None:
    """Names the columns that do not vary in B, vary there by another order of magnitude than in A, or lie elsewhere."""
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
            findings.warnings.append(
                f"{task}: {counted(int(strange.sum()), 'column')} may be in another unit than in A,"
                f" {_such_as(strange, names, bounds[i], bounds[0])} If so, convert them to one unit."
            )
        gap = np.maximum(other_low - high, low - other_high)
        elsewhere = ~strange & (high > low) & (gap > high - low)
        if elsewhere.any():
            findings.notes.append(
                f"{task}: {counted(int(elsewhere.sum()), 'column')} lie outside of A's range,"
                f" {_such_as(elsewhere, names, bounds[i], bounds[0])}"
            )


def _such_as(found: NDArray[np.bool_], names: Sequence[str], own: NDArray[Any], first: NDArray[Any]) -> str:
    """The first column that was found, and where most of it lies, here and in A; own, first: (3, D), as quantiles."""
    k = int(np.flatnonzero(found)[0])
    here, there = (f"{low[k]:.4g} to {high[k]:.4g}" for low, _, high in (own, first))
    return f"such as {shown(names[k])}: mostly {here}, in A {there}."


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
            or _is_negative((low[0], middle[0], high[0]), (low[i], middle[i], high[i]))
        ):
            findings.warnings.append(
                f"{letter(i)}: its pixels lie mostly from {low[i]:.2g} to {high[i]:.2g}, those of A from {low[0]:.2g}"
                f" to {high[0]:.2g} (means {middle[i]:.2g} and {middle[0]:.2g}). If black and white should mean the"
                " same in both, bring them to one range."
            )


def _is_negative(first: Sequence[float], other: Sequence[float]) -> bool:
    """Whether images look like A's with black and white exchanged: one mean lies as far from white as the other from
    black."""
    low, middle, high = first
    width = max(high - low, 1e-12)
    alike = max(abs(other[0] - low), abs(other[2] - high)) < 0.1 * width
    return alike and abs(low + high - middle - other[1]) < 0.1 * width and abs(middle - other[1]) > 0.3 * width


def compare_classes(labels: Sequence[NDArray[np.str_]], findings: Findings) -> None:
    """Where classes may have been meant as one: numbers for names, names within names, counts from 0 and from 1; and
    where a spreadsheet may have made dates of them."""
    classes = [sorted(set(own.tolist())) for own in labels]
    first = classes[0]
    for i, names in enumerate(classes):
        if dates := [name for name in names if _DATE.fullmatch(name)]:
            findings.warnings.append(
                f"{letter(i)}: the classes {listed(dates, 3)} are dates, into which spreadsheets turn names such as"
                " MARCH1 or 3-4. If they were names, write them again, as text."
            )
    for i, other in enumerate(classes[1:], start=1):
        if len(first) == len(other) and {_from_zero(first), _from_zero(other)} == {0, 1}:
            findings.warnings.append(
                f"The classes of A are {first[0]} to {len(first) - 1 + int(first[0])} and those of {letter(i)}"
                f" {other[0]} to {len(other) - 1 + int(other[0])}. If both count the same classes, once from 0 and once"
                " from 1, let them begin alike."
            )
        if set(first) & set(other) or len(first) != len(other):
            continue
        if (
            _are_numbers(first) != _are_numbers(other)
            or _are_truths(first) != _are_truths(other)
            or _are_parts(first, other)
        ):
            findings.warnings.append(
                f"A has the classes {listed(first, 4)} and {letter(i)} {listed(other, 4)}, none in common. If they mean"
                " the same, write them alike."
            )


def _are_numbers(labels: Sequence[str]) -> bool:
    return all(label.lstrip("+-").isdigit() for label in labels)


def _from_zero(labels: Sequence[str]) -> int | None:
    """0 or 1 where the labels are all whole numbers from there on."""
    numbers = sorted(map(int, labels)) if all(re.fullmatch("[0-9]{1,9}", label) for label in labels) else []
    start = numbers[0] if numbers else None
    return start if start in (0, 1) and numbers == list(range(start, start + len(numbers))) else None


def _are_parts(first: Sequence[str], other: Sequence[str]) -> bool:
    """Whether each label of one side is written within exactly one of the other, as setosa is in Iris-setosa."""
    for short, long in ((first, other), (other, first)):
        within = [[b for b in long if a.casefold() in b.casefold()] for a in short if len(a) > 2]
        if len(within) == len(short) and all(len(found) == 1 for found in within):
            return len({found[0] for found in within}) == len(long)
    return False


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
