"""Trainings that are written to disk while they go on, and go on where they were stopped, bit for bit.

`record` trains one run into a folder of its own (store.py says what lies there). `Plan` is a whole command: as many
seeds, each in `seed-N`, and `plan.json` from which `nllab run --resume` reads what to do. What the log of an
interrupted run has and its checkpoint has not is trained once more and compared, event by event: a continuation is the
same run or an error.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nllab import checkpoint, run_io, store
from nllab.errors import NllabError, RunFormatError, SettingError
from nllab.events import Event, jsonable
from nllab.experiment import Experiment
from nllab.runs import Run, ScheduledCommand
from nllab.trainer import Trainer

CHECKPOINT_SECONDS = 30.0  # between two checkpoints; what lies between is trained again after a kill
PLAN = "plan.json"


class Interrupted(NllabError):
    """Somebody stopped the training; what it did until then is on disk."""


@dataclass(frozen=True)
class Plan:
    """What `nllab run` was asked for."""

    experiment: Experiment
    seeds: int = 1
    commands: tuple[ScheduledCommand, ...] = ()
    steps: int | None = None
    device: str = "cpu"

    def write(self, folder: Path) -> None:
        """Raises StoreError where the folder does not take it."""
        plan = {
            "experiment": self.experiment.model_dump(mode="json"),
            "seeds": self.seeds,
            "commands": self.commands,
            "steps": self.steps,
            "device": self.device,
        }
        store.write_file(folder / PLAN, json.dumps(plan, indent=2).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Raises SettingError where the folder has none, RunFormatError where it is damaged."""
        try:
            plan = json.loads((folder / PLAN).read_bytes())
            commands = tuple((at, name, value) for at, name, value in plan["commands"])
            experiment = Experiment(**plan["experiment"])
            return cls(experiment, plan["seeds"], commands, plan["steps"], plan["device"])
        except OSError as error:
            raise SettingError(
                f"{folder} holds no runs to go on with: {PLAN} cannot be read ({error.strerror}). Name a folder that"
                " --out wrote."
            ) from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunFormatError(
                f"{folder / PLAN} is damaged ({str(error)[:100]}). Run the experiment again."
            ) from None

    def train(
        self,
        folder: Path,
        *,
        resume: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[int, Trainer], Callable[[list[Event]], None] | None] = lambda seed, trainer: None,
    ) -> tuple[list[Run], list[str]]:
        """(the runs of all seeds, what could not be written of them).

        Before any training raises StoreError where the folder does not take runs, SettingError where it holds an
        interrupted one and `resume` is false. Raises Interrupted once `stop` is set.
        """
        torch.set_num_threads(1)  # more would add in another order, and a continuation would be another run
        with store.locked(folder):
            store.check_folder(folder)
            seeds = range(self.experiment.seed, self.experiment.seed + self.seeds)
            if not resume:
                for seed in seeds:
                    if store.unfinished(_of_seed(folder, seed)) is not None:
                        raise SettingError(
                            f"{_of_seed(folder, seed)} holds a run that was interrupted. Go on with it by --resume"
                            f" {folder}, or name another folder."
                        )
                self.write(folder)
            runs, problems = [], []
            for seed in seeds:
                trainer = Trainer(self.experiment.but(seed=seed), device=self.device)
                run, problem = record(
                    trainer,
                    _of_seed(folder, seed),
                    commands=self.commands,
                    steps=self.steps,
                    resume=resume,
                    stop=stop,
                    on_events=progress(seed, trainer),
                )
                runs.append(run)
                problems += [problem] if problem else []
        return runs, problems


def _of_seed(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def record(
    trainer: Trainer,
    folder: Path,
    *,
    commands: Iterable[ScheduledCommand] = (),
    steps: int | None = None,
    resume: bool = False,
    stop: threading.Event | None = None,
    on_events: Callable[[list[Event]], None] | None = None,
) -> tuple[Run, str | None]:
    """(the run, why not all of it could be written or None). The trainer is a new one.

    resume: go on with the interrupted run in the folder; one that is whole already is read, and where there is none
    training begins. Raises StoreError before training where the folder does not take a run, RunFormatError where what
    is there is damaged or differs from what training gives now, Interrupted once `stop` is set.
    """
    commands = sorted(commands, key=lambda command: command[0])
    begun = Run.begin(
        trainer.experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels}
    )
    head = run_io.head(begun) | {"course": {"commands": [list(command) for command in commands], "steps": steps}}
    if resume and (whole := _whole(folder, head)):
        return whole, None
    writer = store.Writer(folder, head, resume=resume and store.unfinished(folder) is not None)
    try:
        if writer.log:
            begun.log = _go_on(trainer, writer)
            if on_events:
                on_events(begun.log)
        kept = time.monotonic()

        def write(events: list[Event]) -> None:
            nonlocal kept
            writer.append([jsonable(event) for event in events])
            if on_events:
                on_events(events)
            stopped = stop is not None and stop.is_set() and not trainer.done
            if stopped or time.monotonic() - kept > CHECKPOINT_SECONDS:
                _keep(trainer, writer)
                kept = time.monotonic()
            if stopped:
                where = f"Stopped after step {trainer.steps}; all of it is in {folder}."
                raise Interrupted(where + (f" But: {writer.problem}" if writer.problem else ""))

        run = trainer.run(write, commands=[c for c in commands if c[0] > trainer.steps], steps=steps)
        run.log = begun.log + run.log
        try:
            _keep(trainer, writer)
            writer.close(run_io.copies(run), bytes_kept=run.bytes_kept)
        except store.StoreError as error:
            return run, f"{error} What was written until then is there and can be gone on with."
        return run, None
    finally:
        writer.leave()


def _whole(folder: Path, head: store.Record) -> Run | None:
    """The run in this folder, if it is this one and nothing of it is missing."""
    if not (folder / store.LOG).exists():
        return None
    log = store.read(folder)
    same = all(log.head.get(key) == head[key] for key in head if key not in store.FREE)
    return run_io.of_log(log) if log.is_closed and same else None


def _keep(trainer: Trainer, writer: store.Writer) -> None:
    writer.keep(checkpoint.to_bytes(trainer.checkpoint(), lines=str(writer.lines), after=writer.last_sum))


def _go_on(trainer: Trainer, writer: store.Writer) -> list[Event]:
    """Bring the trainer to the last checkpoint; the events until then. Without one it begins at the first step."""
    assert writer.log
    data = writer.checkpoint()
    if data is None:
        return []
    value, more = checkpoint.from_bytes(data, str(writer.folder / store.CHECKPOINT))
    lines = int(more.get("lines", "0"))
    if writer.sum_at(lines) != more.get("after"):
        return []  # of a run that lay here before
    try:
        if value["place"].keys() != trainer.checkpoint()["place"].keys():
            raise ValueError("it is of another version")
        trainer.rewind(value)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RunFormatError(
            f"{writer.folder / store.CHECKPOINT} does not fit this run ({str(error)[:100]}). Remove it: the run is then"
            " trained again up to where it was."
        ) from None
    writer.skip(lines)
    return run_io.of_log(writer.log).log[:lines]


@contextmanager
def stoppable(tell: Callable[[str], Any] = lambda text: None) -> Iterator[threading.Event]:
    """An event that Ctrl+C and SIGTERM set; the second one ends at once. Outside of the main thread nothing sets it."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        tell("Stopping after this step …")

    before: Sequence[tuple[int, Any]] = [(n, signal.signal(n, asked)) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)
