"""A trainer in a thread of its own, with play, pause, step, speed and commands. Knows no user interface.

Whoever watches asks `since(cursor)` for the events that are new to them; training never waits for them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from nllab.anatomy import open_write
from nllab.errors import NllabError, SettingError, check_choice, check_number, check_whole
from nllab.events import Event, Switch, accuracy_of, task_of
from nllab.experiment import Experiment
from nllab.optim.context import bytes_of
from nllab.runs import Run, ScheduledCommand
from nllab.trainer import Trainer
from nllab.turns import Turns

RING = 2_000  # events kept for watchers; the whole run is kept beside them, up to MAX_STEPS
MAX_STEPS = 20_000
FASTEST = 1_000.0  # steps per second above which the speed counts as unlimited
CHECKPOINTS_PER_PLAN = 8  # spread evenly over a plan; the steps at which they lie depend on the plan alone
MOST_CHECKPOINTS = 12
LEEWAY = 2  # steps that a run may be ahead of those it trains beside
POLL_SECONDS = 0.005  # how often a run that waits for others looks again


class State(NamedTuple):
    """What a watcher may know of a trainer, as it was between two steps. A new value is published after each."""

    step: int
    done: bool
    diverged: bool
    task: str
    optimizer: str  # who writes
    planned_steps: int
    periods: dict[str, int]

    @classmethod
    def of(cls, trainer: Trainer) -> State:
        """The state of a trainer between two steps."""
        return cls(
            step=trainer.steps,
            done=trainer.done,
            diverged=trainer.diverged,
            task=trainer.stream.tasks[trainer.task].name,
            optimizer=trainer.acting,
            planned_steps=trainer.planned_steps,
            periods=dict(trainer.base.schedule.periods),
        )


class Subject(NamedTuple):
    """What a watcher may know of a training before anything happens: it stays as it is up to a reset."""

    about: str  # the stream, in words
    classes: tuple[str, ...]  # what they are called
    samples: tuple[Event, ...]  # the test samples that are shown one by one
    weights: int
    drawable: bool  # whether the network is small enough for a portrait

    @classmethod
    def of(cls, trainer: Trainer) -> Subject:
        """What a trainer trains on."""
        return cls(
            about=trainer.stream.about,
            classes=trainer.stream.class_names,
            samples=tuple(trainer.snapshots.shown()),
            weights=sum(p.numel() for p in trainer.model.parameters()),
            drawable=trainer.snapshots.portraitist is not None,
        )


class LiveRun:
    """One training that can be watched and steered while it goes on.

    speed: steps per second, or None for as fast as the machine allows. turns: whom to ask before training; None,
        nobody.
    Every method returns at once; commands are checked at once (SettingError) and take effect at the next step.
    `scheduled_commands` holds commands to be given at their steps, from every start. A run keeps checkpoints as it
    goes; `rewind` returns to one, and what follows is again a run that replays exactly.
    """

    def __init__(
        self, experiment: Experiment, *, speed: float | None = None, id: str | None = None, turns: Turns | None = None
    ) -> None:
        self.id = self.group = id or secrets.token_urlsafe(12)
        self.turns = turns
        self.others: tuple[LiveRun, ...] = ()  # of its group: none gets ahead of another
        self.ceiling: LiveRun | None = None  # the same with all tasks mixed, where somebody asked for it
        self.place = 0  # in line; 0 once it may train
        self.scheduled_commands: Sequence[ScheduledCommand] = ()
        self.asked: str | None = None  # the task that whoever watches asks about; the first one otherwise
        self.stop_at: int | None = None
        self.stop_below: tuple[str, float] | None = None
        self.stop_above: float | None = None
        self.speed: float | None = None
        self.set_speed(speed)
        self.error: str | None = None
        self._wake = threading.Condition()
        self._telling = threading.Lock()  # watchers read events and their count together
        self._inbox: deque[tuple[str, Any]] = deque()
        self._playing = self._closed = False
        self._single = 0
        self._looked_at = False
        self._awaited: str | None = None  # the level whose next write ends a stretch of steps
        self._after = 0  # a step after which that write is to come
        self._opening = False  # whether that write is taken apart
        self._start(Trainer(experiment))
        self._thread = threading.Thread(target=self._loop, name=f"train-{self.id[:6]}", daemon=True)
        self._thread.start()

    def _start(self, trainer: Trainer) -> None:
        experiment = trainer.experiment
        run = Run.begin(experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels})
        with self._telling:
            self.experiment, self._trainer, self.run = experiment, trainer, run
            self.state, self.subject = State.of(trainer), Subject.of(trainer)
            self._ring: deque[Event] = deque(maxlen=RING)
            self._published = 0
            self.checkpoints: dict[
                int, tuple[dict[str, Any], int, int]
            ] = {}  # step -> (what the trainer was, events there were, bytes)
            self.generation = getattr(self, "generation", -1) + 1
            self.error = self.notice = None
            self._was_above, self._was_below = False, True
            self._portrait: list[Event] = []
            self.opened: dict[str, Any] | None = None  # the write that somebody asked to see, as plain values

    @property
    def trainer(self) -> Trainer:
        """What trains, for a script of one's own; its thread moves it on, so a page reads `state` and `run` instead."""
        return self._trainer

    @property
    def playing(self) -> bool:
        """Whether it trains, or will as soon as its turn comes."""
        return self._playing

    @property
    def _wanting(self) -> bool:
        return not self._closed and bool(self._playing or self._single or self._awaited)

    @property
    def closed(self) -> bool:
        """Whether it has been ended for good."""
        return self._closed

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train; a command `teach` changes that."""
        return self.state.done and not any(name == "teach" for name, _ in list(self._inbox))

    def play(self) -> None:
        """Train until somebody pauses it, a stop is reached or the plan is over."""
        with self._wake:
            self._playing, self.notice = True, None
            self.place = self._ask()  # so that nobody is told that it trains before its turn has come
            self._wake.notify()

    def pause(self) -> None:
        """No step begins after the one that is under way."""
        with self._wake:
            self._halt()

    def _halt(self) -> None:
        self._playing, self._single, self._awaited, self._opening = False, 0, None, False

    def step(self, count: int = 1) -> None:
        """Take `count` steps, then stand still."""
        check_whole("count", count)
        with self._wake:
            self._playing, self._awaited, self.notice = False, None, None
            self._single += count
            self._wake.notify()

    def write(self, level: str) -> None:
        """Take steps up to the next one at which this level writes, then stand still. Raises SettingError for an
        unknown level."""
        self._await(level, opening=False)

    def open_write(self, level: str, *, after: int = 0) -> None:
        """The same, with the first write that comes after the step `after`, and take that write apart (see anatomy.py):
        `opened` is what was found."""
        self._await(level, opening=True, after=after)

    def _await(self, level: str, opening: bool, after: int = 0) -> None:
        check_choice("level", level, self.run.levels)
        with self._wake:
            self._halt()
            self._awaited, self._after, self._opening, self.notice = level, after, opening, None
            self.opened = None if opening else self.opened
            self._wake.notify()

    def stop_when(
        self, *, at: int | None = None, below: tuple[str, float] | None = None, above: float | None = None
    ) -> None:
        """Stand still by itself after step `at`, when the accuracy on a task, below = (task, accuracy), falls below a
        value, or when the task being taught has been learned: its accuracy reaches `above`.

        Raises SettingError for a step below 1, an accuracy outside [0, 1] or a task that the stream has not.
        """
        if at is not None:
            check_whole("at, the step at which to stop,", at)
        if below is not None:
            task, value = below
            check_choice("task", task, self.run.tasks)
            check_number("below, an accuracy,", value, "[0, 1]")
        if above is not None:
            check_number("above, an accuracy,", above, "[0, 1]")
        self.stop_at, self.stop_below, self.stop_above = at, below, above

    def set_speed(self, speed: float | None) -> None:
        """Steps per second at the most; None for unlimited. Raises SettingError for a speed that is none."""
        if speed is not None:
            check_number("speed, in steps per second (None is unlimited),", speed, "(0, inf)")
        self.speed = None if speed is None or speed >= FASTEST else float(speed)

    def command(self, name: str, value: Any) -> None:
        """Ask the trainer for a change (see `Trainer.command`); `teach` also opens a plan that was over."""
        self._inbox.append((name, self._trainer.check(name, value)))

    def reset(self, experiment: Experiment | None = None) -> None:
        """Start anew, paused, with the same experiment or another; if that one cannot be built, the run goes on as it
        was."""
        self._begin_anew("reset", Trainer(experiment or self.experiment))

    def rewind(self, step: int) -> None:
        """Return, paused, to the checkpoint at this step; what came after it is undone. Raises SettingError where there
        is none."""
        if step not in self.checkpoints:
            kept = ", ".join(map(str, sorted(self.checkpoints))) or "none yet"
            raise SettingError(f"There is no checkpoint at step {step!r} to go back to. There are: {kept}.")
        self._begin_anew("rewind", step)

    def _begin_anew(self, how: str, what: Any) -> None:
        with self._wake:
            self._halt()
            self._inbox.clear()
            self._inbox.append((how, what))
            self._wake.notify()

    def since(self, cursor: int = 0, generation: int | None = None) -> tuple[int, list[Event]]:
        """(new cursor, events published since `cursor`); after a reset, or to a newcomer, as many of the last events as
        are kept."""
        with self._telling:
            ring, published = list(self._ring), self._published
            if generation is not None and generation != self.generation:
                cursor = 0
        fresh = min(max(published - cursor, 0), len(ring))
        return published, ring[len(ring) - fresh :]

    def portrait(self) -> list[Event]:
        """The newest portrait of the network (see `Trainer.portrait`), taken between two steps because somebody asked;
        this call asks for the next one."""
        taken = self._portrait
        if not taken or taken[-1].step != self.state.step:
            with self._wake:
                self._looked_at = True
                self._wake.notify()
        return taken

    def _sit(self) -> None:
        if self._looked_at and not self._trainer.diverged:
            self._looked_at = False
            self._portrait = self._trainer.portrait()

    def status(self) -> dict[str, Any]:
        """What a watcher needs to know beside the events."""
        state = self.state
        return {
            "id": self.id,
            "generation": self.generation,
            "step": state.step,
            "playing": self._playing,
            "finished": self.finished,
            "task": state.task,
            "optimizer": state.optimizer,
            "speed": self.speed,
            "error": self.error,
            "notice": self.notice,
            "place": self.place,
            "checkpoints": sorted(self.checkpoints),
            "opened": self.opened and f"{self.opened['level']}@{self.opened['step']}",
        }

    @property
    def cpu_seconds(self) -> float:
        """Processor time that its training has taken; 0 where the system does not tell."""
        if not hasattr(time, "pthread_getcpuclockid") or not self._thread.is_alive():
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))  # type: ignore[arg-type]

    def close(self, timeout: float = 5.0) -> None:
        """End it and its thread."""
        with self._wake:
            self._halt()
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _loop(self) -> None:
        torch.set_num_threads(1)  # many runs share the machine, and one thread makes a run repeatable bit for bit
        while not self._closed:
            if not self._wanting:
                self._give_turn_away()
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._wanting or self._anew or self._looked_at)
            self._sit()
            if self._wanting and not self._anew and self._must_wait():
                time.sleep(POLL_SECONDS)
                continue
            started = time.monotonic()
            try:
                self._advance()
            except NllabError as error:
                self._fail(str(error))
            except Exception as error:  # a watcher must learn of any failure, and the page must live on
                self._fail(f"The training stopped with {type(error).__name__}: {error}. Reset starts it anew.")
            if self._playing and self.speed:
                self._rest(started + 1 / self.speed)
        self._give_turn_away()

    def _rest(self, end: float) -> None:
        """Wait until `end` or a pause, and sit for whoever asks for a portrait."""
        while self._playing and not self._closed and (left := end - time.monotonic()) > 0:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or not self._playing or self._looked_at, left)
            self._sit()

    @property
    def _anew(self) -> bool:
        return bool(self._inbox) and self._inbox[0][0] in ("reset", "rewind")

    def _ask(self) -> int:
        return self.turns.ask(self.group) if self.turns else 0

    def _must_wait(self) -> bool:
        self.place = self._ask()
        here = self._trainer.steps
        return bool(self.place) or any(other._wanting and other.state.step + LEEWAY < here for other in self.others)

    def _give_turn_away(self) -> None:
        self.place = 0
        if self.turns and not any(other._wanting for other in self.others):
            self.turns.leave(self.group)

    def _advance(self) -> None:
        if self._inbox and not self._anew or self._wanting and self._trainer.steps % self._spacing == 0:
            self._keep_checkpoint()
        while self._inbox:
            name, value = self._inbox.popleft()
            if name == "reset":
                self._start(value)
                return
            if name == "rewind":
                self._return_to(value)
                return
            self._trainer.command(name, value)
        if not self._wanting:
            return
        for at, name, value in self.scheduled_commands:
            if at == self._trainer.steps + 1:
                self._trainer.command(name, value)
        if self._trainer.done or self._trainer.steps >= MAX_STEPS:
            if not self._trainer.done:
                self.error = (
                    f"This run has taken {MAX_STEPS} steps, which is as many as a live run keeps. Reset starts it anew."
                )
            self.pause()
            return
        alone = self._single and not self._playing
        events = self._take_step()
        if alone:  # one that was under way when it was paused is not the one that was then asked for
            self._single = max(0, self._single - 1)
        with self._telling:
            self.run.extend(events)
            self.state = State.of(self._trainer)
            self._ring.extend(events)
            self._published += len(events)
        if self._awaited and self._is_awaited(self._awaited, self._trainer.steps):
            self.pause()
        if reason := self._reason_to_stop(events):
            self.notice = reason
            for run in (self, *self.others):
                run.pause()
        if self._trainer.done:
            self.pause()

    def _take_step(self) -> list[Event]:
        level = self._awaited
        if not self._opening or level is None or not self._is_awaited(level, self._trainer.steps + 1):
            return self._trainer.step()
        events, opened = open_write(self._trainer, level)
        self.opened = opened or {"step": self._trainer.steps, "level": level}
        return events

    def _is_awaited(self, level: str, step: int) -> bool:
        """Whether the level writes in this step, and somebody waits for that."""
        return step > self._after and step % self._trainer.base.schedule.periods[level] == 0

    def _reason_to_stop(self, events: list[Event]) -> str | None:
        if self._trainer.steps == self.stop_at:
            return f"Stopped after step {self.stop_at}, as asked. Play goes on."
        for event in events:
            if isinstance(event, Switch):
                self._was_below = True
            if (accuracy := accuracy_of(event)) is None:
                continue
            reason = f"Stopped after step {event.step}: the accuracy on"
            if self.stop_below is not None:
                task, value = self.stop_below
                fell = self._was_above and accuracy[task] < value
                self._was_above = accuracy[task] >= value
                if fell:
                    return f"{reason} {task} fell below {value:g}, as asked. Play goes on."
            task, value = task_of(event), self.stop_above
            if value is not None and task in accuracy:
                rose = self._was_below and accuracy[task] >= value
                self._was_below = accuracy[task] < value
                if rose:
                    return f"{reason} {task} reached {value:g}, as asked. Play goes on."
        return None

    @property
    def _spacing(self) -> int:
        return max(1, -(-self._trainer.planned_steps // CHECKPOINTS_PER_PLAN))

    def _keep_checkpoint(self) -> None:
        """Keep one of now; of too many every other goes, but for the first."""
        if self._trainer.steps not in self.checkpoints and not self._trainer.diverged:
            kept = self._trainer.checkpoint()
            self.checkpoints[self._trainer.steps] = (kept, len(self.run.log), bytes_of(kept))
        if len(self.checkpoints) > MOST_CHECKPOINTS:
            self.forget_half()

    def forget_half(self) -> None:
        """Drop every other checkpoint, from the second on."""
        for step in sorted(self.checkpoints)[1::2]:
            self.checkpoints.pop(step, None)

    @property
    def bytes_of_checkpoints(self) -> int:
        """Memory of all its checkpoints."""
        return sum(size for _, _, size in list(self.checkpoints.values()))

    def _return_to(self, step: int) -> None:
        checkpoint, count, _ = self.checkpoints[step]
        self._trainer.rewind(checkpoint)
        run = self.run
        with self._telling:
            self.run = run.upto(count)
            self.state = State.of(self._trainer)
            self._ring = deque(self.run.log, maxlen=RING)
            self._published = count
            self.generation += 1
            self.error = self.notice = None
            self._was_above, self._was_below = False, True
        for later in [kept for kept in self.checkpoints if kept > step]:
            del self.checkpoints[later]

    def _fail(self, text: str) -> None:
        self.error = text
        self._trainer.diverged = True
        self.state = State.of(self._trainer)
        self.pause()
