"""Trainings in a few processes of their own, in line: none holds up whoever waits for a page. No torch on this side.

A worker is `python -m nllab.workers`: an experiment, and what to do with it, comes in as one line of JSON, what happens
goes out line by line. It starts with the first job and ends once there has been none for a while, which gives its
memory back.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nllab.errors import NllabError, SettingError
from nllab.experiment import Experiment

IDLE_SECONDS = 60.0  # without a job, after which a worker ends


@dataclass(eq=False)
class Job:
    """One training. curve: (step, accuracy on every task) as it was measured; summary: the scores, once it is over.

    knob: where it is not one training but a fan of `count` futures (futures.py), what they differ in; futures: {value,
    at, curve} of each that has come to its end.
    """

    owner: str
    experiment: Experiment
    knob: str | None = None
    count: int = 0
    futures: list[Mapping[str, Any]] = field(default_factory=list)
    step: int = 0
    planned_steps: int = 0
    tasks: tuple[str, ...] = ()
    curve: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    summary: Mapping[str, Any] | None = None
    error: str | None = None
    started: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether it has a summary or an error."""
        return self.summary is not None or self.error is not None


class Pool:
    """At most `processes` trainings at a time, the others in line. Turns are fair: whoever has had fewer comes first,
    among equals whoever asked first. limit: how many may wait."""

    def __init__(self, processes: int = 2, limit: int = 200, idle_seconds: float = IDLE_SECONDS) -> None:
        self.processes, self.limit, self.idle_seconds = processes, limit, idle_seconds
        self._waiting: list[Job] = []
        self._turns: Counter[str] = Counter()  # owner -> jobs that were begun
        self._workers: dict[threading.Thread, subprocess.Popen | None] = {}
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, owner: str, experiment: Experiment, *, knob: str | None = None, count: int = 20) -> Job:
        """A training in line, or a fan of futures over a knob.

        Raises SettingError where the line is as long as it may be, or the owner's last training is not over.
        """
        with self._changed:
            if any(job.owner == owner for job in self._waiting):
                raise SettingError("This training is in line already.")
            if len(self._waiting) >= self.limit:
                raise SettingError(f"{self.limit} trainings are in line, which is the limit. Try again in a minute.")
            job = Job(owner, experiment, knob, count)
            self._waiting.append(job)
            if len(self._workers) < self.processes and not self._closed:
                thread = threading.Thread(target=self._work, name="pool", daemon=True)
                self._workers[thread] = None
                thread.start()
            self._changed.notify()
        return job

    def place(self, job: Job) -> int:
        """How many are before this job and itself, 0 once it has begun."""
        with self._changed:
            return self._in_order().index(job) + 1 if job in self._waiting else 0

    def _in_order(self) -> list[Job]:
        return sorted(self._waiting, key=lambda job: self._turns[job.owner])

    def close(self) -> None:
        """End all workers; jobs that wait are dropped."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            workers = [worker for worker in self._workers.values() if worker]
        for worker in workers:
            worker.kill()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, self.idle_seconds)
            if not self._waiting:
                self._workers.pop(threading.current_thread())  # under the lock: whoever submits now starts another
                return None
            job = self._in_order()[0]
            self._waiting.remove(job)
            self._turns[job.owner] += 1
            job.started = True
            return job

    def _work(self) -> None:
        worker = None
        while job := self._next():
            worker = worker or _worker()
            with self._changed:
                self._workers[threading.current_thread()] = worker
            alive = _run(worker, job)
            job.over.set()
            if not alive:
                _end(worker)
                worker = None
        if worker is not None:
            _end(worker)


def _worker() -> subprocess.Popen:
    root = str(Path(__file__).parents[1])  # of a checkout that is not installed
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        _command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def _command() -> list[str]:
    return [sys.executable, "-m", "nllab.workers"]


def _end(worker: subprocess.Popen) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _run(worker: subprocess.Popen, job: Job) -> bool:
    """Have the worker train this job, which says what became of it in any case; whether the worker is still there."""
    assert worker.stdin and worker.stdout
    try:
        asked = {"experiment": job.experiment.model_dump(mode="json"), "knob": job.knob, "count": job.count}
        worker.stdin.write(json.dumps(asked) + "\n")
        worker.stdin.flush()
        for line in worker.stdout:
            message = json.loads(line)
            job.step = message.get("step", job.step)
            job.planned_steps = message.get("planned_steps", job.planned_steps)
            job.tasks = tuple(message.get("tasks", job.tasks))
            if "future" in message:
                job.futures.append(message["future"])
            if "accuracy" in message:
                job.curve.append((message["step"], message["accuracy"]))
            job.error = message.get("error")
            job.summary = message.get("summary")
            if job.is_over:
                return True
    except (OSError, ValueError):
        pass
    job.error = "The process that trained this ended. Start it again."
    return False


def _serve() -> None:
    """The worker's side: experiments come in on stdin, what happens goes out on stdout."""
    import torch

    from nllab import futures
    from nllab.events import jsonable, measured
    from nllab.trainer import Trainer

    torch.set_num_threads(1)

    def tell(**message: Any) -> None:
        print(json.dumps(jsonable(message)), flush=True)

    for line in sys.stdin:
        try:
            asked = json.loads(line)
            trainer = Trainer(Experiment(**asked["experiment"]))
            tell(step=0, planned_steps=trainer.planned_steps, tasks=list(trainer.stream.task_names))

            if asked["knob"]:
                for future in futures.grow(trainer, futures.branches(trainer, asked["knob"], asked["count"])):
                    tell(future={"value": future.branch.value, "at": future.branch.at, "curve": future.curve})
                tell(summary={})
                continue

            def news(events: list) -> None:
                for event, accuracy in measured(events):
                    tell(step=event.step, accuracy=accuracy)

            tell(summary=trainer.run(news).summary)
        except NllabError as error:
            tell(error=str(error))
        except Exception as error:  # the next training must not be lost with this one
            tell(error=f"The training stopped with {type(error).__name__}.")


if __name__ == "__main__":
    _serve()
