"""What was understood of somebody's data, as a value that can be printed, kept with a run and shown on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

NAMES_SHOWN = 6  # of a list of columns or files
LONGEST_NAME = 40


def shown(name: object, longest: int = LONGEST_NAME) -> str:
    """The name in quotes, cut where it is long."""
    text = str(name)
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")


def listed(names: Iterable[object], most: int = NAMES_SHOWN) -> str:
    """'a', 'b' and 3 more."""
    names = list(names)
    head = ", ".join(shown(name) for name in names[:most])
    return head + (f" and {len(names) - most:,} more" if len(names) > most else "")


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 row, 2 rows."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


class Note(BaseModel):
    """path: the task's letter, or empty for all. what was left out, converted or found; why, or into what."""

    model_config = ConfigDict(frozen=True)

    path: str = ""
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.path + ': ' if self.path else ''}{self.what}: {self.why}"


class PathReport(BaseModel):
    """One path: task (its letter), name of the file, how it was read, samples, samples of each class."""

    model_config = ConfigDict(frozen=True)

    task: str
    name: str
    read_as: str
    samples: int
    classes: dict[str, int]


class Report(BaseModel):
    """inputs: what the network sees of a sample. shared: classes that more than one path has. warnings: what may make
    results look better or worse than they are."""

    model_config = ConfigDict(frozen=True)

    paths: tuple[PathReport, ...]
    inputs: str
    left_out: tuple[Note, ...] = ()
    converted: tuple[Note, ...] = ()
    shared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Samples of each class in each path."""
        names = dict.fromkeys(name for path in self.paths for name in path.classes)
        return {name: tuple(path.classes.get(name, 0) for path in self.paths) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return self.model_dump(mode="json")

    def lines(self) -> list[str]:
        """The report as plain text, a fact a line."""
        text = [f"{p.task}: {p.name}, {p.read_as}; {counted(p.samples, 'sample')}" for p in self.paths]
        text.append(f"inputs: {self.inputs}")
        text += [f"left out: {note}" for note in self.left_out]
        text += [f"converted: {note}" for note in self.converted]
        text.append("classes (samples in " + ", ".join(p.task for p in self.paths) + "):")
        text += [f"  {name}: {', '.join(map(str, counts))}" for name, counts in self.classes.items()]
        text.append("shared classes: " + (_all_or_some(self.shared, self.classes)))
        text += [f"note: {note}" for note in self.notes]
        text += [f"WARNING: {warning}" for warning in self.warnings]
        return text


def _all_or_some(shared: Sequence[str], classes: dict[str, tuple[int, ...]]) -> str:
    if not shared:
        return "none; every task brings classes of its own"
    return "all" if len(shared) == len(classes) else ", ".join(shared)


class Findings:
    """Gathers what a report will say while files are read."""

    def __init__(self, day_first: dict[str, bool] | None = None) -> None:
        self.left_out: list[Note] = []
        self.converted: list[Note] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.day_first = dict(day_first or {})  # by column of times: whether days come before months
        self.unclear_days: set[str] = set()

    def leave_out(self, path: str, what: str, why: str) -> None:
        """Note that a file or column is not used."""
        self.left_out.append(Note(path=path, what=what, why=why))

    def convert(self, path: str, what: str, why: str) -> None:
        """Note that a file or column is read as something else than it is."""
        self.converted.append(Note(path=path, what=what, why=why))
