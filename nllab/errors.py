"""What can go wrong, in words: which value, what was expected, what to do.

NllabError
├── SettingError     a setting, name or argument that cannot be used (also a ValueError)
│   └── ShapeError   a tensor whose rank, size, dtype, device or content does not fit
├── DataError        data that is missing, damaged or not what it claims to be
├── RunFormatError   a saved run that cannot be read
└── DivergedError    a training whose loss or gradient is no longer a finite number
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NllabError(Exception):
    """Root of the tree; the message is one sentence for a person."""


class SettingError(NllabError, ValueError):
    pass


class ShapeError(SettingError):
    pass


class DataError(NllabError):
    pass


class RunFormatError(NllabError):
    pass


class DivergedError(NllabError):
    pass


def unknown(kind: str, name: object, known: Iterable[str]) -> SettingError:
    """The error for a name nobody knows: it names the value, the nearest valid name and all valid names."""
    options = sorted(known)
    near = get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SettingError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(options)}.")
