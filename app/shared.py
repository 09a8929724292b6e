"""What all sessions of one server share: the live runs, and who watches them.

torch takes seconds to load, so it loads beside the server's start and not before its first answer.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nllab.experiment import Experiment

if TYPE_CHECKING:
    from nllab.kept import Keeper
    from nllab.live import LiveRun
    from nllab.pool import LiveRuns
    from nllab.room import Rooms

ALONE = os.environ.get("NLLAB_ALONE") == "1"  # one person's server: all runs that it has kept are this person's
TESTING = os.environ.get("NLLAB_TEST") == "1"
FREE_AFTER = float(os.environ.get("NLLAB_FREE_AFTER", "60"))  # seconds without a page, for sessions and runs

# The settings that a run was last given: those it began with and every change asked for since.
applied: WeakKeyDictionary[LiveRun, Experiment] = WeakKeyDictionary()
stopping = threading.Event()  # the server was asked to stop
watchers: Counter[str] = Counter()  # run id -> open connections

_opening = threading.Lock()
_keeping = threading.Lock()


@cache
def _load() -> LiveRuns:
    from nllab.pool import LiveRuns

    return LiveRuns(
        free_after=FREE_AFTER,
        training=int(os.environ.get("NLLAB_TRAININGS", "4")),
    )


def runs() -> LiveRuns:
    with _opening:
        return _load()


def keeper() -> Keeper | None:
    """Who writes the runs to disk; None where nobody does."""
    with _keeping:
        return _keeper()


@cache
def _keeper() -> Keeper | None:
    from nllab.errors import NllabError
    from nllab.kept import Keeper

    folder = os.environ.get("NLLAB_RUNS", "none")
    if folder == "none":
        return None
    try:
        return Keeper(folder)
    except NllabError as error:
        print(f"Runs are not kept. {error}", file=sys.stderr)
        return None


@cache
def rooms() -> Rooms:
    from nllab.room import Rooms
    from nllab.workers import Pool

    return Rooms(Pool(int(os.environ.get("NLLAB_WORKERS", "2"))))


def as_text(sentence: str) -> str:
    """The sentence with nothing in it read as Markdown: it may quote an address or a file."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|$:~&-])", r"\\\1", sentence)


def check_size(experiment: Experiment, instead_of: LiveRun | None = None) -> None:
    """Raises SettingError where a run of these settings needs more memory than there is for it; instead_of: the run
    whose place it takes."""
    from nllab import budget

    taken = sum(budget.bytes_of(applied[run]) for run in runs().all() if run in applied and run is not instead_of)
    budget.check(experiment, taken)


def warm() -> None:
    """Load torch and the digits, once, in a thread of its own."""

    def load() -> None:
        from nllab.trainer import Trainer

        if kept := keeper():
            kept.watch(runs().all)
        Trainer(Experiment.preset("digits-ab")).step()
        # What is loaded by now stays: a full collection that walked over it would stop every training for a tenth of a
        # second.
        gc.collect()
        gc.freeze()

    threading.Thread(target=load, name="warm", daemon=True).start()


def open_run(experiment: Experiment, speed: float) -> LiveRun:
    """A new run, paused. Raises SettingError where the settings or the server do not allow one."""
    check_size(experiment)
    run = runs().open(experiment, speed=speed)
    applied[run] = experiment
    return run
