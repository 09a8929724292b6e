"""A run: its experiment plus everything that happened, in memory and on disk. No torch.

A run is a list of rows, one dict for each thing that happened, in order. Every row has `kind` and `step`:
    untrained   accuracy of every task before the first step
    switch      experience, task, about: a task's batches begin to arrive with this step
    command     name, value: somebody asked for a change, in force from this step on
    step        task, optimizer (who wrote), loss, online_accuracy (on this batch, before it was learned), levels, and
    on some
                steps accuracy of every task; levels[name] = wrote, writes, update_norm, drift, drift_since_switch,
                gradient_norm and, on those steps, surprise, novelty and conflict of the levels that the deep optimizer
                wrote
    decision    level, saw, did (numbers by name), text: what the deep optimizer's manager saw, what it did from then
        on, and why
    experience  accuracy of every task once an experience is over: a row of the accuracy matrix
    samples     some test samples of each task, once: tasks[name] = labels, and images (a hexadecimal digit a pixel) or
        points of the plane
    answers     the class that the network gives to each of those samples: answers[name]
                (of a stream of texts: names, and `given`, the letters that the network is given of each)
    texts       what the network makes of the beginnings of those names: texts[name]
    surface     for points of the plane: span (left, right, bottom, top) and classes, one string a row from the bottom,
        a character a point
    network     a small network unit by unit (portrait.py): levels[name] = units, incoming, outgoing, scale, weights
                (base64 of signed bytes, units x (incoming + bias + outgoing), 127 = scale) and, once a task is over,
                retained (base64 of bytes, 255 = all); seen = a training sample with its label and scores
    where       how far the blocks of each matrix have moved from their initial values: levels[name] = one grid for each
    matrix end         reason ("finished" or "diverged") and text
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nllab import metrics
from nllab.errors import RunFormatError
from nllab.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Command = tuple[int, str, Any]  # step from which it is in force, name, value
FORMAT = 1
ALL_TASKS = "all"  # the name of the one experience of a joint run
ONLINE_BATCHES = 20  # how many first batches of an experience its online accuracy is averaged over

SIGNALS = ("surprise", "novelty", "conflict")  # of each level, on the steps on which they were measured
SCORES = (
    "average_accuracy",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
    "a_after_a",
    "a_after_b",
    "b_after_b",
)
SCORES += ("mean_online_accuracy", "anytime_accuracy")

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
    "surprise": ("", "mean size of the error signal that arrives at the outputs of the level's layers"),
    "novelty": ("", "how new the level's inputs are to its memory: 1 is what the memory holds on average"),
    "conflict": (
        "fraction",
        "share of the gradient's size that the memory blocks, since old inputs used those directions",
    ),
}


def readable(name: str) -> str:
    """A metric's or a setting's name as people read it: "average accuracy", "A after B"."""
    return " ".join(word.upper() if len(word) == 1 else word for word in name.split("_"))


@dataclass
class Run:
    experiment: Experiment
    tasks: tuple[str, ...]
    levels: dict[str, int]  # name -> period at the start, in the order of the data flow
    rows: list[Row] = field(default_factory=list)
    bytes_kept: int | None = None

    @classmethod
    def begin(cls, experiment: Experiment, tasks: Iterable[str], levels: Mapping[str, int]) -> Run:
        return cls(experiment, tuple(tasks), dict(levels))

    def extend(self, rows: Iterable[Row]) -> None:
        self.rows.extend(rows)

    def of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row["kind"] == kind]

    @property
    def steps(self) -> int:
        return max((row["step"] for row in self.rows if row["kind"] == "step"), default=0)

    @property
    def commands(self) -> list[Command]:
        """(step from which it was in force, name, value), in order: with the experiment all that replaying needs."""
        return [(row["step"], row["name"], row["value"]) for row in self.of_kind("command")]

    @property
    def stopped_at(self) -> int | None:
        """After how many steps somebody stopped it; None where it ended by itself."""
        return None if self.rows and self.rows[-1]["kind"] == "end" else self.steps

    @property
    def visits(self) -> tuple[int, ...]:
        """The task that each finished experience taught; empty for a joint run, which teaches all at once."""
        return tuple(self.tasks.index(row["task"]) for row in self.of_kind("experience") if row["task"] != ALL_TASKS)

    @property
    def accuracy_matrix(self) -> np.ndarray:
        """accuracy_matrix[i, j]: accuracy on task j after experience i, (experiences, tasks)."""
        rows = [[row["accuracy"][task] for task in self.tasks] for row in self.of_kind("experience")]
        return np.array(rows, dtype=float).reshape(-1, len(self.tasks))

    @property
    def update_counts(self) -> dict[str, int]:
        """How often each level's weights changed, counted from the weights."""
        last = next((row for row in reversed(self.rows) if row["kind"] == "step"), None)
        return (
            {name: level["writes"] for name, level in last["levels"].items()} if last else dict.fromkeys(self.levels, 0)
        )

    @property
    def online_accuracy(self) -> list[float]:
        """Mean online accuracy over the first 20 batches of each experience."""
        starts = [row["step"] for row in self.of_kind("switch")]
        steps = self.of_kind("step")
        found = []
        for start, end in zip(starts, [*starts[1:], math.inf], strict=False):
            values = [
                row["online_accuracy"] for row in steps if start <= row["step"] < min(end, start + ONLINE_BATCHES)
            ]
            found.append(float(np.mean(values)) if values else float("nan"))
        return found

    @property
    def anytime_accuracy(self) -> float:
        """Mean over all measurements of the mean accuracy on the tasks taught so far; a joint run is taught all of them
        at once."""
        visits: list[int] = []
        measured, experiences = [], []
        for row in self.rows:
            if row["kind"] == "switch":
                visits.append(-1 if row["task"] == ALL_TASKS else self.tasks.index(row["task"]))
            elif row["kind"] == "step" and "accuracy" in row:
                measured.append([row["accuracy"][task] for task in self.tasks])
                experiences.append(len(visits) - 1)
        if not measured or -1 in visits:
            return float(np.mean(measured)) if measured else float("nan")
        return metrics.anytime_accuracy(measured, experiences, visits)

    @property
    def mean_online_accuracy(self) -> float:
        """Mean online accuracy over all steps: the score of a stream whose data changes as it flows."""
        values = [row["online_accuracy"] for row in self.of_kind("step")]
        return float(np.mean(values)) if values else float("nan")

    @property
    def summary(self) -> dict[str, Any]:
        """The scores of metrics.py, update counts and how it ended; None where a score is undefined.

        A joint run has its average accuracy and, for two tasks, what it knows of each at the end: the ceiling of the
        other runs.
        """
        matrix, visits = self.accuracy_matrix, self.visits
        scores = dict.fromkeys(SCORES, float("nan")) | {name: getattr(self, name) for name in SCORES[-2:]}
        if visits:
            scores |= {
                name: getattr(metrics, name)(matrix, visits)
                for name in ("average_accuracy", "forgetting", "backward_transfer")
            }
            untrained = [row["accuracy"][task] for row in self.of_kind("untrained") for task in self.tasks]
            if untrained:
                scores["forward_transfer"] = metrics.forward_transfer(matrix, visits, untrained)
            scores |= metrics.two_tasks(matrix, visits)
        elif len(matrix):
            scores["average_accuracy"] = float(matrix[-1].mean())
            if len(self.tasks) == 2:
                scores["a_after_b"], scores["b_after_b"] = map(float, matrix[-1])
        ends = self.of_kind("end")
        return {
            "steps": self.steps,
            **{name: None if math.isnan(value) else value for name, value in scores.items()},
            "accuracy_matrix": matrix.tolist(),
            "visits": [self.tasks[task] for task in visits],
            "online_accuracy": self.online_accuracy,
            "update_counts": self.update_counts,
            "bytes_kept": self.bytes_kept,
            "end": ends[-1]["reason"] if ends else None,
        }

    @property
    def events(self) -> pd.DataFrame:
        """All numbers as one tidy table: step, task, metric, subject (a level or a task; empty for the whole model),
        value."""
        import pandas as pd  # a second that a live page does not have

        table = []
        for row in self.rows:
            task = row.get("task", "")
            for name, value in row.get("accuracy", {}).items():
                table.append((row["step"], task, "accuracy", name, value))
            if row["kind"] == "step":
                table += [(row["step"], task, metric, "", row[metric]) for metric in ("loss", "online_accuracy")]
                table += [
                    (row["step"], task, m, level, float(v))
                    for level, found in row["levels"].items()
                    for m, v in found.items()
                ]
        return pd.DataFrame(table, columns=["step", "task", "metric", "subject", "value"])

    @property
    def head(self) -> dict[str, Any]:
        """What a file of rows begins with."""
        return {"format": FORMAT, "tasks": list(self.tasks), "levels": self.levels, "bytes_kept": self.bytes_kept}

    def files(self) -> dict[str, str]:
        """The run as texts by the names of their files: experiment.json, rows.jsonl and summary.json."""
        lines = [
            json.dumps(without_nan(row), separators=(",", ":"), allow_nan=False) for row in [self.head, *self.rows]
        ]
        return {
            "experiment.json": self.experiment.to_json() + "\n",
            "rows.jsonl": "\n".join(lines) + "\n",
            "summary.json": json.dumps(without_nan(self.summary), indent=2) + "\n",
        }

    def save(self, path: str | Path) -> Path:
        """Write the run's files into the folder `path`, which is made if need be."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files().items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder


def without_nan(value: Any) -> Any:
    """The same value with None where a float is not finite, since JSON has no word for those."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value


def load_run(path: str | Path) -> Run:
    """Read a run that `Run.save` wrote. A half-written last line is left out. Raises RunFormatError for anything else
    that is off."""
    folder = Path(path)
    try:
        experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunFormatError(
            f"{folder} is not a run: {error}. A run is a folder with experiment.json and rows.jsonl."
        ) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise RunFormatError(
                    f"{folder / 'rows.jsonl'}: line {number} is damaged; save the run again."
                ) from None
    head = rows[0] if rows and isinstance(rows[0], dict) else {}
    if head.get("format") != FORMAT:
        raise RunFormatError(
            f"{folder} has format {head.get('format')!r}; this version reads format {FORMAT}. Run the experiment again."
        )
    missing = [key for key in ("tasks", "levels", "bytes_kept") if key not in head]
    if missing:
        raise RunFormatError(f"{folder / 'rows.jsonl'}: its first line lacks {', '.join(missing)}; save the run again.")
    return Run(experiment, tuple(head["tasks"]), head["levels"], rows[1:], head["bytes_kept"])
