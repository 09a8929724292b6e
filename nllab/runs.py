"""A run: its experiment and the log of everything that happened (events.py), in memory. No torch.

Scores are computed from the log alone; files are read and written by run_io.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nllab import metrics
from nllab.events import (
    ALL_TASKS,
    Command,
    E,
    End,
    Event,
    Experience,
    LevelStep,
    Step,
    Switch,
    Untrained,
    measured,
    task_of,
)
from nllab.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

ScheduledCommand = tuple[int, str, Any]  # step from which it is in force, name, value
LEVEL_METRICS = {metric.name: metric.default is MISSING for metric in fields(LevelStep)}  # whether every step has it
ONLINE_BATCHES = 20  # how many first batches of an experience its online accuracy is averaged over
ONLINE = "online"  # asked in place of a task: every batch, before it is learned

SCORES = (
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
    "a_after_a",
    "a_after_b",
    "b_after_b",
)
ALONG_THE_WAY = ("mean_online_accuracy", "anytime_accuracy", "stability_gap")
SCORES += ALONG_THE_WAY

# Metric -> (unit, what it means); axis titles, glossary and tables come from here.
METRICS: dict[str, tuple[str, str]] = {
    "loss": ("", "loss on the batch, before learning it"),
    "online_accuracy": ("fraction", "share of the batch that was right before learning it"),
    "accuracy": ("fraction", "share of a task's test samples that are right"),
    "wrote": ("", "1 where the level's weights changed in this step"),
    "writes": ("writes", "how often the level's weights have changed so far, counted from the weights themselves"),
    "update_norm": ("", "size of the change of the level's weights in this step"),
    "drift": ("", "distance of the level's weights from their initial values, relative to the size of those"),
    "drift_since_switch": ("", "the same distance from the weights at the last switch of the task"),
    "gradient_norm": ("", "size of the level's gradient on this batch"),
    "average_accuracy": ("fraction", "mean over the taught tasks of the accuracy at the end"),
    "forgetting": (
        "fraction",
        "how far, on average, earlier tasks have fallen from their best; negative where they have risen since",
    ),
    "backward_transfer": (
        "fraction",
        "what later experiences did to the accuracy on earlier tasks, on average; negative is loss",
    ),
    "forward_transfer": (
        "fraction",
        "accuracy on a task just before it is first taught, above that of the untrained network",
    ),
    "a_after_a": ("fraction", "accuracy on task A when task B begins"),
    "a_after_b": ("fraction", "accuracy on task A once task B has been learned"),
    "b_after_b": ("fraction", "accuracy on task B once it has been learned"),
    "mean_online_accuracy": ("fraction", "online accuracy averaged over all steps"),
    "anytime_accuracy": (
        "fraction",
        "accuracy on the tasks taught so far, averaged over measurements all along the stream",
    ),
    "stability_gap": (
        "fraction",
        "how far earlier tasks fall when another one begins and recover while it is learned, on average",
    ),
    "surprise": ("", "mean size of the error signal that arrives at the outputs of the level's layers"),
    "novelty": ("", "how new the level's inputs are to its memory: 1 is what the memory holds on average"),
    "conflict": (
        "fraction",
        "share of the step asked for that the memory holds back, since old inputs used those directions",
    ),
}


def readable(name: str) -> str:
    """A metric's or a setting's name as people read it: "average accuracy", "A after B"."""
    return " ".join(word.upper() if len(word) == 1 else word for word in name.split("_"))


@dataclass
class Run:
    """A training from start to end: its experiment and the log of its events, from which every figure and score
    follows.

    tasks: in the order of the columns of `accuracy_matrix`. · levels: name -> period at the start, in the order of the
        data flow. · bytes_kept: beyond the weights, when it ended. · interrupted: read from a file that nobody closed.
    """

    experiment: Experiment
    tasks: tuple[str, ...]
    levels: dict[str, int]
    log: list[Event] = field(default_factory=list)
    bytes_kept: int | None = None
    interrupted: bool = field(default=False, compare=False)

    @classmethod
    def begin(cls, experiment: Experiment, tasks: Iterable[str], levels: Mapping[str, int]) -> Run:
        """A run in which nothing has happened yet."""
        return cls(experiment, tuple(tasks), dict(levels))

    def extend(self, events: Iterable[Event]) -> None:
        """Add what happened."""
        self.log.extend(events)

    def upto(self, end: int | None = None) -> Run:
        """The run as it was after the first `end` events, with a log of its own."""
        return replace(self, levels=dict(self.levels), log=self.log[:end])

    def of(self, kind: type[E]) -> list[E]:
        """All events of one class, such as `run.of(Step)`."""
        return [event for event in self.log if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E | None:
        """The last event of a class; None where there is none."""
        return next((event for event in reversed(self.log) if isinstance(event, kind)), None)

    @property
    def steps(self) -> int:
        """Steps taken."""
        last = self.last(Step)
        return last.step if last else 0

    @property
    def commands(self) -> list[ScheduledCommand]:
        """(step from which it was in force, name, value), in order: with the experiment all that replaying needs."""
        return [(command.step, command.name, command.value) for command in self.of(Command)]

    @property
    def stopped_at(self) -> int | None:
        """After how many steps somebody stopped it; None where it ended by itself."""
        return None if self.log and isinstance(self.log[-1], End) else self.steps

    @property
    def visits(self) -> tuple[int, ...]:
        """The task that each finished experience taught; empty for a joint run, which teaches all at once."""
        return tuple(self.tasks.index(event.task) for event in self.of(Experience) if event.task != ALL_TASKS)

    @property
    def accuracy_matrix(self) -> np.ndarray:
        """accuracy_matrix[i, j]: accuracy on task j after experience i, (experiences, tasks)."""
        lines = [[event.accuracy[task] for task in self.tasks] for event in self.of(Experience)]
        return np.array(lines, dtype=float).reshape(-1, len(self.tasks))

    @property
    def update_counts(self) -> dict[str, int]:
        """How often each level's weights changed, counted from the weights."""
        last = self.last(Step)
        return {name: level.writes for name, level in last.levels.items()} if last else dict.fromkeys(self.levels, 0)

    @property
    def online_accuracy(self) -> list[float]:
        """Mean online accuracy over the first 20 batches of each experience."""
        starts, steps = [switch.step for switch in self.of(Switch)], self.of(Step)
        means = []
        for start, end in zip(starts, [*starts[1:], math.inf], strict=False):
            values = [step.online_accuracy for step in steps if start <= step.step < min(end, start + ONLINE_BATCHES)]
            means.append(float(np.mean(values)) if values else float("nan"))
        return means

    def _along_the_way(self) -> tuple[list[list[float]], list[int], list[int]]:
        """All measurements: accuracies by task, the experience of each, and the task of each experience; -1 for all at
        once."""
        visits: list[int] = []
        accuracies, experiences = [], []
        for event in self.log:
            if isinstance(event, Switch):
                visits.append(-1 if event.task == ALL_TASKS else self.tasks.index(event.task))
            elif isinstance(event, Step) and event.accuracy is not None:
                accuracies.append([event.accuracy[task] for task in self.tasks])
                experiences.append(len(visits) - 1)
        return accuracies, experiences, visits

    @property
    def anytime_accuracy(self) -> float:
        """Mean over all measurements of the mean accuracy on the tasks taught so far; a joint run is taught all of them
        at once."""
        accuracies, experiences, visits = self._along_the_way()
        if not accuracies or -1 in visits:
            return float(np.mean(accuracies)) if accuracies else float("nan")
        return metrics.anytime_accuracy(accuracies, experiences, visits)

    @property
    def stability_gap(self) -> float:
        """How far earlier tasks fall at a switch and recover; see metrics.py. NaN without a switch."""
        accuracies, experiences, visits = self._along_the_way()
        if not accuracies or -1 in visits:
            return float("nan")
        return metrics.stability_gap(accuracies, experiences, visits)

    @property
    def mean_online_accuracy(self) -> float:
        """Mean online accuracy over all steps: the score of a stream whose data changes as it flows."""
        values = [step.online_accuracy for step in self.of(Step)]
        return float(np.mean(values)) if values else float("nan")

    @property
    def summary(self) -> dict[str, Any]:
        """The scores of metrics.py, update counts and how it ended; None where a score is undefined.

        A joint run has its average accuracy and, for two tasks, what it knows of each at the end: the ceiling of the
        other runs.
        """
        matrix, visits = self.accuracy_matrix, self.visits
        scores = dict.fromkeys(SCORES, float("nan")) | {name: getattr(self, name) for name in ALONG_THE_WAY}
        if visits:
            scores |= {
                name: getattr(metrics, name)(matrix, visits)
                for name in ("average_accuracy", "forgetting", "backward_transfer")
            }
            untrained = [event.accuracy[task] for event in self.of(Untrained) for task in self.tasks]
            if untrained:
                scores["forward_transfer"] = metrics.forward_transfer(matrix, visits, untrained)
            scores |= metrics.two_tasks(matrix, visits)
        elif len(matrix):
            scores["average_accuracy"] = float(matrix[-1].mean())
            if len(self.tasks) == 2:
                scores["a_after_b"], scores["b_after_b"] = map(float, matrix[-1])
        end = self.last(End)
        return {
            "steps": self.steps,
            **{name: None if math.isnan(value) else value for name, value in scores.items()},
            "accuracy_matrix": matrix.tolist(),
            "visits": [self.tasks[task] for task in visits],
            "online_accuracy": self.online_accuracy,
            "update_counts": self.update_counts,
            "bytes_kept": self.bytes_kept,
            "end": end.reason if end else None,
        }

    @property
    def events(self) -> pd.DataFrame:
        """All numbers as one tidy table: step, task, metric, subject (a level or a task; empty for the whole model),
        value."""
        import pandas as pd  # a second that a live page does not have

        lines = [
            (event.step, task_of(event), metric, subject, float("nan") if value is None else float(value))
            for event in self.log
            for metric, subject, value in numbers(event)
        ]
        return pd.DataFrame(lines, columns=["step", "task", "metric", "subject", "value"])

    def save(self, path: str | Path) -> Path:
        """Write the run's files into the folder `path`, which is made if need be; `load_run` reads them."""
        from nllab.run_io import save

        return save(self, path)


def periods_asked(events: Iterable[Event]) -> dict[str, int]:
    """level -> period, of the levels whose period was changed by a command."""
    asked: list[Any] = [event.value for event in events if isinstance(event, Command) and event.name == "period"]
    return dict(asked)


def numbers(event: Event) -> Iterator[tuple[str, str, float | None]]:
    """(metric, subject, value) for each number of an event."""
    for _, accuracy in measured([event]):
        for task, value in accuracy.items():
            yield "accuracy", task, value
    if isinstance(event, Step):
        yield "loss", "", event.loss
        yield "online_accuracy", "", event.online_accuracy
        for name, level in event.levels.items():
            for metric, always in LEVEL_METRICS.items():
                value = getattr(level, metric)
                if always or isinstance(value, int | float):
                    yield metric, name, value
