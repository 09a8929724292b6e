"""Tables on the terminal, and how they write a score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table


def table_of(title: str | None, headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A table with a title; all columns but the first `left` hold figures and end at the right."""
    made = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="left" if place < left else "right")
    for cells in rows:
        made.add_row(*cells)
    return made


def mean_std(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Mean ± standard deviation of what `summary.spread` returns; a dash where there is no mean."""
    return _with_error(score, "std", f".{digits}f")


def interval(difference: Mapping[str, Any] | None) -> str:
    """Mean ± half the interval of what `summary.paired_difference` returns; a dash for None."""
    return _with_error(difference, "half_width", "+.3f")


def _with_error(score: Mapping[str, Any] | None, error: str, form: str) -> str:
    if score is None or score["mean"] is None:
        return "–"
    return f"{score['mean']:{form}}" + ("" if score[error] is None else f" ± {score[error]:{form.lstrip('+')}}")
