"""The live runs of one server: as many as fit, and none that nobody watches."""

from __future__ import annotations

import ctypes
import gc
import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.live import LiveRun
from nllab.turns import Turns

TIDY_SECONDS, TIDY_EVERY = 60.0, 10.0  # how long, and how often, memory is given back after a run has gone


def _trim() -> None:
    """Give free memory back to the system, where the C library can."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


class LiveRuns:
    """The live runs of one server. A run that nobody watches is paused, later freed; whoever returns in between picks
    it up.

    pause_after, free_after: seconds without `seen`; limit: how many runs may be kept at once; training: how many may
        train at once, the others wait in line; checkpoint_bytes: how much all checkpoints may take together.
    """

    def __init__(
        self,
        *,
        pause_after: float = 3.0,
        free_after: float = 120.0,
        limit: int = 96,
        training: int = 4,
        checkpoint_bytes: int = 2**29,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pause_after, self.free_after, self.limit, self.clock = pause_after, free_after, limit, clock
        self.turns, self.checkpoint_bytes = Turns(training, clock=clock), checkpoint_bytes
        self._runs: dict[str, LiveRun] = {}
        self._seen: dict[str, float] = {}
        self._paused_for_absence: set[str] = set()
        self._held: set[tuple[str, int]] = set()
        self._tidy_from = self._tidy_until = -math.inf
        self._lock = threading.Lock()
        self._reaper: threading.Thread | None = None

    def open(self, experiment: Experiment, *, speed: float | None = None) -> LiveRun:
        """A new run, paused. Where as many as the limit are kept, the one that nobody has watched for longest goes;
        raises SettingError if all are watched."""
        self._make_room()
        self._refuse_beyond_limit()
        run = LiveRun(
            experiment, speed=speed, turns=self.turns
        )  # before the lock, which every watcher takes many times a second
        with self._lock:
            try:
                self._refuse_beyond_limit()
            except SettingError:
                run.close()
                raise
            self._runs[run.id], self._seen[run.id] = run, self.clock()
            if self._reaper is None:
                self._reaper = threading.Thread(target=self._reap_for_ever, name="reaper", daemon=True)
                self._reaper.start()
        return run

    def group(self, runs: Sequence[LiveRun]) -> None:
        """Let these train side by side: as one group in line, none ahead of another."""
        for run in runs:
            run.group = runs[0].id
            run.others = tuple(other for other in runs if other is not run)

    def free(self, id: str) -> None:
        """Close this run now."""
        with self._lock:
            run = self._runs.pop(id, None)
            self._seen.pop(id, None)
            self._paused_for_absence.discard(id)
        if run:
            run.close()

    def _make_room(self) -> None:
        with self._lock:
            unseen = min(self._runs, key=lambda id: self._seen[id]) if len(self._runs) >= self.limit else None
            if unseen is None or self.clock() - self._seen[unseen] <= self.pause_after:
                return
        self.free(unseen)

    def _refuse_beyond_limit(self) -> None:
        if len(self._runs) >= self.limit:
            raise SettingError(
                f"{self.limit} runs are open on this server, which is its limit. Close a tab and try again in two"
                " minutes."
            )

    def get(self, id: str | None) -> LiveRun | None:
        """The run of this id; None where it is gone."""
        return self._runs.get(id) if id else None

    def seen(self, id: str) -> None:
        """Somebody watches this run now; one that was paused because nobody did goes on."""
        with self._lock:
            run = self._runs.get(id)
            if run is None:
                return
            self._seen[id] = self.clock()
            if id in self._paused_for_absence:
                self._paused_for_absence.discard(id)
                run.play()

    def reap(self) -> None:
        """Pause what nobody has watched for `pause_after` seconds, free what nobody has for `free_after`."""
        now, gone = self.clock(), []
        with self._lock:
            for id, run in list(self._runs.items()):
                unseen = now - self._seen[id]
                if unseen > self.free_after:
                    gone.append(self._runs.pop(id))
                    del self._seen[id]
                    self._paused_for_absence.discard(id)
                elif unseen > self.pause_after and run.playing:
                    run.pause()
                    self._paused_for_absence.add(id)
        for run in gone:
            run.close()
        held = {(run.id, run.generation) for run in self.all()}
        if self._held - held:  # a trainer was let go of: it refers to itself, and the allocator keeps what it had
            self._tidy_from, self._tidy_until = now, now + TIDY_SECONDS
        if self._tidy_from <= now <= self._tidy_until:  # again, since a session that ends may hold on to it for a while
            self._tidy_from = now + TIDY_EVERY
            gc.collect()
            _trim()
        self._held = held
        kept = [run for run in self.all() if len(run.checkpoints) > 1]
        if kept and sum(run.bytes_of_checkpoints for run in kept) > self.checkpoint_bytes:
            max(kept, key=lambda run: run.bytes_of_checkpoints).forget_half()

    def _reap_for_ever(self) -> None:
        for _ in itertools.count():
            time.sleep(0.5)
            self.reap()

    def all(self) -> list[LiveRun]:
        """All that are kept."""
        return list(self._runs.values())

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all that are kept."""
        return sum(run.cpu_seconds for run in self.all())

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """Id -> what a run says of itself."""
        return {id: run.status() for id, run in list(self._runs.items())}
