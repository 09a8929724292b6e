"""nllab: a live lab for Nested Learning. Public names load on first use, so that importing the package loads no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Level": "levels",
    "Schedule": "levels",
    "NllabError": "errors",
}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from nllab.errors import NllabError as NllabError
    from nllab.levels import Level as Level
    from nllab.levels import Schedule as Schedule


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nllab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nllab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
