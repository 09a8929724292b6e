"""A run back from the table that `run_io.to_csv` writes, also where a spreadsheet or pandas saved it again. No torch.

The table is turned into the head and the lines of a file of events, which are then checked as those are.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from nllab.errors import RunFormatError

WHOLE, TRUTH = ("writes",), ("wrote",)  # the numbers of a level that are no floats
SIZES = ("update_norm", "drift", "drift_since_switch", "gradient_norm")  # left out of the table where not finite
LONGEST_CELL = 1_000_000
REMEDY = "Save the table again with commas and decimal points. Or download the run as .zip and upload that."


def lines(data: bytes, columns: tuple[str, ...]) -> tuple[Any, list[bytes]]:
    """(the head, one line of JSON an event). Raises RunFormatError for what is no such table."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RunFormatError(f"this table is not text in UTF-8. {REMEDY}") from None
    first = text.partition("\n")[0].strip()
    if tuple(first.replace('"', "").split(",")) != columns:
        raise RunFormatError(f"its first line is {first[:100]!r}, and the columns are {', '.join(columns)}. {REMEDY}")
    csv.field_size_limit(LONGEST_CELL)
    try:
        events = [_event(cells) for _, cells in groupby(_rows(text, len(columns)), key=lambda row: row[1][0])]
    except csv.Error as error:
        raise RunFormatError(f"this table cannot be read ({error}). {REMEDY}") from None
    head = events.pop(0) if events else {}
    return head, [json.dumps(event).encode() for event in events]


def _rows(text: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, its cells)."""
    for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1):
        if len(cells) != width:
            raise RunFormatError(f"line {number} has {len(cells)} cells in place of {width}. {REMEDY}")
        if number > 1:
            yield number, cells


def _event(rows: Iterator[tuple[int, list[str]]]) -> dict[str, Any]:
    """One event from its rows."""
    event: dict[str, Any] = {}
    accuracy: dict[str, float] = {}
    levels: dict[str, dict[str, Any]] = {}
    for number, (_, kind, step, task, metric, subject, value, text) in rows:
        if not event:
            event = {"kind": kind, "step": _whole(step, number)} | ({"task": task} if task else {})
        if not metric:
            event |= _object(text, number)
        elif metric == "accuracy":
            accuracy[subject] = _number(value, number)
        elif not subject:
            event[metric] = _number(value, number)
        else:
            size = _number(value, number)
            typed = bool(size) if metric in TRUTH else int(size) if metric in WHOLE else size
            levels.setdefault(subject, dict.fromkeys(SIZES))[metric] = typed
    held = event.pop("held", {}) if levels else {}
    for level, shares in held.items() if isinstance(held, dict) else ():
        levels.setdefault(level, dict.fromkeys(SIZES))["held"] = shares
    return event | ({"accuracy": accuracy} if accuracy else {}) | ({"levels": levels} if levels else {})


def _whole(text: str, number: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RunFormatError(f"line {number}: step is {text[:40]!r}, and it is a whole number. {REMEDY}")
    return int(text)


def _number(text: str, number: int) -> float:
    try:
        value = float(text) if len(text) < 40 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RunFormatError(f"line {number}: {text[:40]!r} is no finite number. {REMEDY}")
    return value


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RunFormatError(f"line {number}: its text is no object in JSON. {REMEDY}")
    return value
