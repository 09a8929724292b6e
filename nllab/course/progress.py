"""What a reader has solved, on disk beside their copy of the notebooks. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "nllab-progress.json"
FORMAT = 1


class Progress:
    """Exercises by name: prediction, answer (as source), attempts, solved (when) and the seed it was tried with.

    `problem` says why nothing is kept, where it cannot be; the course goes on without it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or Path.cwd()) / FILE
        self.problem = ""
        self.exercises: dict[str, dict[str, Any]] = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            self.problem = f"{self.path.name} cannot be read ({error})."
            return {}
        try:
            found = json.loads(text)
            exercises = found["exercises"]
            if found["format"] != FORMAT or not all(isinstance(entry, dict) for entry in exercises.values()):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            aside = self._free_name()
            try:
                self.path.replace(aside)
                self.problem = f"{FILE} was damaged or of another version; it was kept as {aside.name}."
            except OSError:
                self.problem = f"{FILE} is damaged and cannot be moved aside, so progress is not kept."
            return {}
        return exercises

    def _free_name(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.damaged-{number}.json")).exists():
            number += 1
        return aside

    def of(self, name: str) -> Mapping[str, Any]:
        """What is kept of an exercise; empty for one that was never tried."""
        return self.exercises.get(name, {})

    def solved(self, notebook: str) -> list[str]:
        """Names of the solved exercises of a notebook ("02"), sorted."""
        return sorted(n for n, e in self.exercises.items() if n.partition(".")[0] == notebook and e.get("solved"))

    def note(self, name: str, **values: Any) -> None:
        """Keep these values of an exercise; what other notebooks wrote meanwhile stays."""
        fresh = Progress(self.path.parent)
        self.problem = fresh.problem
        self.exercises = fresh.exercises
        self.exercises[name] = {**self.exercises.get(name, {}), **values}
        text = json.dumps({"format": FORMAT, "exercises": self.exercises}, indent=1, ensure_ascii=False)
        beside = self.path.with_name(f".{FILE}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            self.problem = f"Progress is not kept, since the folder cannot be written ({error.strerror})."


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
