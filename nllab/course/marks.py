"""Progress as a table, as a file that a teacher collects, and that file tried again. No torch until it is tried.

A collected file holds, for each exercise, the prediction, the answer as Python and whether it passed. `grade` runs the
answers again, each in a process of its own with a limit in time and in an empty folder; they are other people's
programs, so grade on a machine on which you would run them by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nllab import __version__
from nllab.course.progress import FILE, Progress
from nllab.errors import SettingError

FORMAT = 1
SECONDS = 180  # for one answer; runs are trained again
TRY_AGAIN = """
import json, math, sys
import numpy as np, torch, nllab
from torch.nn import functional as F
from nllab.course.exercise import find, judge
torch.set_num_threads(1)
name, source = json.load(sys.stdin)
one, names = find(name), {"np": np, "torch": torch, "F": F, "math": math, "nllab": nllab}
exec(source, names)
verdict = judge(one, names.get(one.answer))
print("\\n" + json.dumps({"passed": verdict.passed, "sentence": verdict.sentence}))
"""


def exercises() -> list[str]:
    """The names of all exercises of the course."""
    from nllab.course.exercise import NOTEBOOKS, exercises_of

    return [name for notebook in NOTEBOOKS for name in exercises_of(notebook)]


def collected(folder: Path, reader: str = "") -> dict[str, Any]:
    """All that a teacher needs of one reader, as JSON can hold it. Raises SettingError for a folder that is no copy of
    the notebooks."""
    progress = Progress(folder)
    if progress.problem:
        raise SettingError(progress.problem)
    if not progress.exercises and not any(folder.glob("[0-9][0-9]-*.ipynb")):
        raise SettingError(f"{folder} has neither notebooks nor {FILE}; name the folder of your copy with --folder.")
    asked = exercises()
    solved = [name for name in asked if progress.of(name).get("solved")]
    found = {"format": FORMAT, "nllab": __version__, "reader": reader, "solved": len(solved), "of": len(asked)}
    return {**found, "exercises": {name: dict(progress.of(name)) for name in asked if progress.of(name)}}


def read_collected(path: Path) -> dict[str, Any]:
    """Raises SettingError for a file that `collected` did not make."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not all(isinstance(e, dict) for e in found["exercises"].values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SettingError(f"{path} is not what `nllab lab --check --out FILE` writes.") from None
    return found


def grade(found: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    """Exercise -> (whether its answer passes now, a sentence where it does not)."""
    return {name: _again(name, entry.get("answer", "")) for name, entry in sorted(found["exercises"].items())}


def _again(name: str, source: Any) -> tuple[bool, str]:
    if not isinstance(source, str) or not source.strip():
        return False, "No answer was kept that could be run."
    with tempfile.TemporaryDirectory() as folder:
        command, given = [sys.executable, "-c", TRY_AGAIN], json.dumps([name, source])
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=folder
            )
        except subprocess.TimeoutExpired:
            return False, f"It had not ended after {SECONDS} seconds."
    try:
        verdict = json.loads(done.stdout.splitlines()[-1])
        return bool(verdict["passed"]), verdict["sentence"]
    except (IndexError, ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return False, f"It could not be run: {last[0][:200]}"
