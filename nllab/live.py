"""A trainer in a thread of its own, with play, pause, step, speed and commands. Knows no user interface.

Whoever watches asks `since(cursor)` for the rows that are new to them; training never waits for them.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nllab.errors import NllabError, SettingError
from nllab.experiment import Experiment
from nllab.runs import Row, Run
from nllab.trainer import Trainer

RING = 2_000  # rows kept for watchers; the whole run is kept beside them, up to MAX_STEPS
MAX_STEPS = 20_000
FASTEST = 1_000.0  # steps per second above which the speed counts as unlimited


class LiveRun:
    """One training that can be watched and steered while it goes on.

    speed: steps per second, or None for as fast as the machine allows.
    Every method returns at once; commands are checked at once (SettingError) and take effect at the next step.
    """

    def __init__(self, experiment: Experiment, *, speed: float | None = None, id: str | None = None) -> None:
        self.id = id or secrets.token_urlsafe(12)
        self.speed: float | None = None
        self.set_speed(speed)
        self.error: str | None = None
        self._wake = threading.Condition()
        self._telling = threading.Lock()  # watchers read rows and their count together
        self._inbox: deque[tuple[str, Any]] = deque()
        self._playing = self._closed = False
        self._single = 0
        self._start(Trainer(experiment))
        self._thread = threading.Thread(target=self._loop, name=f"train-{self.id[:6]}", daemon=True)
        self._thread.start()

    def _start(self, trainer: Trainer) -> None:
        experiment = trainer.experiment
        run = Run.begin(experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels})
        with self._telling:
            self.experiment, self.trainer, self.run = experiment, trainer, run
            self._ring: deque[Row] = deque(maxlen=RING)
            self._told = 0
            self.generation = getattr(self, "generation", -1) + 1
            self.error = None

    @property
    def playing(self) -> bool:
        return self._playing

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train; a command `teach` changes that."""
        return self.trainer.done and not any(name == "teach" for name, _ in list(self._inbox))

    def play(self) -> None:
        with self._wake:
            self._playing = True
            self._wake.notify()

    def pause(self) -> None:
        """No step begins after the one that is under way."""
        with self._wake:
            self._playing, self._single = False, 0

    def step(self, count: int = 1) -> None:
        """Take `count` steps, then stand still."""
        if count < 1:
            raise SettingError(f"count is {count}; take 1 step or more.")
        with self._wake:
            self._playing = False
            self._single += count
            self._wake.notify()

    def set_speed(self, speed: float | None) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise SettingError(f"speed is {speed!r}; it must be a number of steps per second above 0, or None for unlimited.")
        self.speed = None if speed is None or speed >= FASTEST else float(speed)

    def command(self, name: str, value: Any) -> None:
        """Ask the trainer for a change (see `Trainer.command`); `teach` also opens a plan that was over."""
        self._inbox.append((name, self.trainer.check(name, value)))

    def reset(self, experiment: Experiment | None = None) -> None:
        """Start anew, paused, with the same experiment or another; if that one cannot be built, the run goes on as it was."""
        fresh = Trainer(experiment or self.experiment)
        with self._wake:
            self._playing, self._single = False, 0
            self._inbox.clear()
            self._inbox.append(("reset", fresh))
            self._wake.notify()

    def since(self, cursor: int = 0, generation: int | None = None) -> tuple[int, list[Row]]:
        """(new cursor, rows told since `cursor`); after a reset, or to a newcomer, as many of the last rows as are kept."""
        with self._telling:
            ring, told = list(self._ring), self._told
            if generation is not None and generation != self.generation:
                cursor = 0
        fresh = min(max(told - cursor, 0), len(ring))
        return told, ring[len(ring) - fresh :]

    def status(self) -> dict[str, Any]:
        """What a watcher needs to know beside the rows."""
        trainer = self.trainer
        return {
            "id": self.id,
            "generation": self.generation,
            "step": trainer.steps,
            "playing": self._playing,
            "finished": self.finished,
            "task": trainer.stream.tasks[trainer.task].name,
            "optimizer": trainer.acting,
            "speed": self.speed,
            "error": self.error,
        }

    def close(self, timeout: float = 5.0) -> None:
        with self._wake:
            self._closed, self._playing, self._single = True, False, 0
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _loop(self) -> None:
        torch.set_num_threads(1)  # many runs share the machine, and one thread makes a run repeatable bit for bit
        while not self._closed:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._playing or self._single or self._inbox and self._inbox[0][0] == "reset")
            started = time.monotonic()
            try:
                self._advance()
            except NllabError as error:
                self._fail(str(error))
            except Exception as error:  # a watcher must learn of any failure, and the page must live on
                self._fail(f"The training stopped with {type(error).__name__}: {error}. Reset starts it anew.")
            if self._playing and self.speed:
                with self._wake:
                    self._wake.wait_for(lambda: self._closed or not self._playing, max(0.0, 1 / self.speed - (time.monotonic() - started)))

    def _advance(self) -> None:
        while self._inbox:
            name, value = self._inbox.popleft()
            if name == "reset":
                self._start(value)
                return
            self.trainer.command(name, value)
        if not (self._playing or self._single) or self._closed:
            return
        if self.trainer.done or self.trainer.steps >= MAX_STEPS:
            if not self.trainer.done:
                self.error = f"This run has taken {MAX_STEPS} steps, which is as many as a live run keeps. Reset starts it anew."
            self.pause()
            return
        rows = self.trainer.step()
        self._single = max(0, self._single - 1)
        with self._telling:
            self.run.extend(rows)
            self._ring.extend(rows)
            self._told += len(rows)
        if self.trainer.done:
            self.pause()

    def _fail(self, text: str) -> None:
        self.error = text
        self.trainer.diverged = True
        self.pause()


class LiveRuns:
    """The live runs of one server. A run that nobody watches is paused, later freed; whoever returns in between picks it up.

    pause_after, free_after: seconds without `seen`; limit: how many runs may be kept at once.
    """

    def __init__(
        self, *, pause_after: float = 3.0, free_after: float = 120.0, limit: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pause_after, self.free_after, self.limit, self.clock = pause_after, free_after, limit, clock
        self._runs: dict[str, LiveRun] = {}
        self._seen: dict[str, float] = {}
        self._paused_for_absence: set[str] = set()
        self._lock = threading.Lock()
        self._reaper: threading.Thread | None = None

    def open(self, experiment: Experiment, *, speed: float | None = None) -> LiveRun:
        """A new run, paused. Raises SettingError if as many as the limit are kept already."""
        self._refuse_beyond_limit()
        run = LiveRun(experiment, speed=speed)  # before the lock, which every watcher takes many times a second
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

    def _refuse_beyond_limit(self) -> None:
        if len(self._runs) >= self.limit:
            raise SettingError(f"{self.limit} runs are open on this server, which is its limit. Close a tab and try again in two minutes.")

    def get(self, id: str | None) -> LiveRun | None:
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

    def _reap_for_ever(self) -> None:
        for _ in itertools.count():
            time.sleep(0.5)
            self.reap()

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        return {id: run.status() for id, run in list(self._runs.items())}
