"""What can go wrong, in words: which value, what was expected, what to do.

NllabError
├── SettingError     a setting, name or argument that cannot be used (also a ValueError)
│   └── ShapeError   a tensor whose rank, size, dtype, device or content does not fit
├── DataError        data that is missing, damaged or not what it claims to be
├── RunFormatError   a saved run that cannot be read
└── DivergedError    a training whose loss or gradient is no longer a finite number

OptimizerWarning     what an optimizer cannot see or hold of a model, and what to change
DataWarning          what of somebody's data may make results look better or worse than they are
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real

MOST_CHARACTERS = 480  # of a message; a value that it quotes may be of any length


class NllabError(Exception):
    """Root of the tree; the message is one sentence for a person, cut in the middle where it is long."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > MOST_CHARACTERS:
            text = f"{text[:300]} … {text[300 - MOST_CHARACTERS + 3 :]}"
        super().__init__(text)


class SettingError(NllabError, ValueError):
    """A setting, name or argument that cannot be used."""


class ShapeError(SettingError):
    """A tensor whose rank, size, dtype, device or content does not fit."""


class DataError(NllabError):
    """Data that is missing, damaged or not what it claims to be."""


class RunFormatError(NllabError):
    """A saved run that cannot be read."""


class DivergedError(NllabError):
    """A training whose loss or gradient is no longer a finite number."""


class OptimizerWarning(UserWarning):
    """What an optimizer cannot see or hold of a model, and what to change."""


class DataWarning(UserWarning):
    """What of somebody's data may make results look better or worse than they are."""


def unknown(kind: str, name: object, known: Iterable[str]) -> SettingError:
    """The error for a name nobody knows: it names the value, the nearest valid name and all valid names."""
    options = sorted(known)
    near = get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SettingError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(options)}.")


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise SettingError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise SettingError(f"{name} is {value!r}; it must be a whole number, {least} or more.")


def check_wholes(**values: object) -> None:
    """Raise SettingError unless each is a whole number of at least 1."""
    for name, value in values.items():
        check_whole(name, value)


def check_sizes(name: str, values: object, *counts: int) -> None:
    """Whole numbers, 1 or more, as many as one of `counts` (none given: at least one)."""
    if (
        not isinstance(values, Sequence)
        or isinstance(values, str)
        or (len(values) not in counts if counts else not len(values))
    ):
        raise SettingError(
            f"{name} is {values!r}; expected {' or '.join(map(str, counts)) or '1 or more'} whole numbers."
        )
    for value in values:
        check_whole(f"{name}, here {values!r}, has a part that", value)


def check_number(name: str, value: object, interval: str) -> None:
    """A number in an interval as it is written: "[0, 1)" is 0 or more and below 1."""
    low, high = map(float, interval[1:-1].split(","))
    inside = isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high  # type: ignore[operator]
    if not inside or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise SettingError(f"{name} is {value!r}; expected a number in {interval}.")


def check_type(name: str, value: object, kind: type) -> None:
    """Raise SettingError unless the value is of this type."""
    if not isinstance(value, kind):
        raise SettingError(f"{name} is {value!r:.60}; expected a {kind.__name__}.")


def check_choice(kind: str, value: object, known: Collection[str]) -> None:
    """Raise SettingError unless the value is one of those known."""
    if not isinstance(value, str) or value not in known:
        raise unknown(kind, value, known)
