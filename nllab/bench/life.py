"""A long life: hundreds of tasks in turn, no replay, no boundaries, memory that does not grow. Is the last task as
learnable as the first, and what of the recent ones is still there?

Each task is all of scikit-learn's digits under an order of the pixels of its own, seen once. Beside the deep optimizer:
its frozen twin, plain optimizers, and the methods made for plasticity, each at the best of its own settings. They are
chosen by online accuracy on a shorter life under other orders of pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import nn

from nllab.bench.steps import mlp
from nllab.build import pick_device
from nllab.errors import DivergedError, check_choice
from nllab.events import Step
from nllab.experiment import Experiment
from nllab.methods.setups import GRIDS, SETUPS, Changes
from nllab.probes import accuracy
from nllab.streams.digits import digits
from nllab.streams.sequences import drawn
from nllab.streams.stream import Drawn, Images, Part
from nllab.summary import spread
from nllab.tables import mean_std, table_of
from nllab.trainer import Trainer

LEARNERS = ("deep", "twin", "adam", "sgd", "l2-init", "shrink-and-perturb", "continual-backprop", "upgd")
TASKS, BATCH, HIDDEN = 800, 32, (128, 128)
ENDS, RECENT = 100, 50  # tasks that count as the first and the last; tasks asked for at the end
SETTINGS: dict[str, Any] = {"optimizer": "deep", "loss": "cross_entropy", "observe": False}
SETTINGS |= {"batch_size": 1, "evaluate_every": 100_000}  # each row of the source is a batch
TRIALS, TRIAL_TASKS, OTHER_LIFE = 6, 40, 1_000_000  # the seed of trials is this much further


class Life(NamedTuple):
    """online: accuracy on each task's batches before they are learned, by task. · learned, kept: accuracy on the test
    part of the last tasks, right after each and at the end. · bytes: kept beyond the weights when the first tasks are
    over, and at the end."""

    online: list[float]
    learned: list[float]
    kept: list[float]
    bytes: tuple[int, int]
    diverged: bool


def tasks_of(images: Images, count: int, seed: int) -> Iterator[tuple[Part, Part]]:
    """(training, test) parts of tasks under orders of the pixels that the seed draws."""
    draw = torch.Generator().manual_seed(seed)
    width = images.train.inputs.shape[1]
    for _ in range(count):
        order = torch.randperm(width, generator=draw)
        yield tuple(Part(part.inputs[:, order], part.labels) for part in (images.train, images.test))  # type: ignore[misc]


def live(learner: str, changes: Changes, images: Images, tasks: int, seed: int) -> Life:
    """One life of a learner with these settings; it ends early where the loss is no longer finite."""
    torch.manual_seed(seed)
    model, draw = mlp(images.train.inputs.shape[1], *HIDDEN, images.classes), torch.Generator().manual_seed(seed)
    if learner == "twin":
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]:
            layer.requires_grad_(False)
    waiting: list[Part] = []
    steps = tasks * math.ceil(len(images.train) / BATCH)
    source = Drawn(steps, lambda: waiting.pop(0))
    stream = drawn("digits under many orders of the pixels", [source], [images.test[:1]], images.classes)
    experiment = Experiment(**{**SETTINGS, **changes}, seed=seed)
    trainer = Trainer(experiment, model=model, stream=stream, device=str(images.train.inputs.device))
    online: list[float] = []
    asked: list[tuple[Part, float]] = []
    early = late = 0
    for number, (train, test) in enumerate(tasks_of(images, tasks, seed)):
        waiting += [train[rows] for rows in torch.randperm(len(train), generator=draw).split(BATCH)]
        right = 0
        for size in [len(batch) for batch in waiting]:
            try:
                events = trainer.step()
            except DivergedError:
                trainer.diverged = True
            if trainer.diverged:
                return Life(online, [], [], (early, late), True)
            right += sum(round(event.online_accuracy * size) for event in events if isinstance(event, Step))
        online.append(right / len(train))
        late = trainer.bytes_kept()
        early = late if number < min(ENDS, tasks) else early
        if number >= tasks - RECENT:
            asked.append((test, accuracy(model, test)))
    learned, still = [share for _, share in asked], [accuracy(model, test) for test, _ in asked]
    return Life(online, learned, still, (early, late), False)


def chosen(learner: str, images: Images, trials: int, tasks: int) -> tuple[Changes, list[float | None]]:
    """The settings of a learner with the best online accuracy in the second half of a life of its own, and the score of
    each that was tried (None where it diverged); the deep optimizer has one default."""
    if learner in ("deep", "twin"):
        return {}, []
    name = "naive" if learner in ("adam", "sgd") else learner
    grid = [{**SETUPS[name], **changes} for changes in GRIDS[name]]
    grid = [c for c in grid if learner not in ("adam", "sgd") or c["optimizer"] == learner][: max(trials, 1)]
    if trials < 2:
        return grid[0], []
    scores: list[float | None] = []
    for changes in grid:
        life = live(learner, changes, images, tasks, OTHER_LIFE)
        scores.append(None if life.diverged else mean(life.online[tasks // 2 :]))
    best = max(range(len(grid)), key=lambda i: -1.0 if scores[i] is None else scores[i])  # type: ignore[arg-type, return-value]
    return grid[best], scores


def scores_of(life: Life) -> dict[str, float | None]:
    """First and last: online accuracy of the tasks at either end. · lasting: last / first. · learned, kept: of the last
    tasks, and kept / learned. All None for a life that ended early."""
    if life.diverged:
        return dict.fromkeys(("first", "last", "lasting", "learned", "kept", "share_kept"))
    ends = min(ENDS, max(1, len(life.online) // 4))
    first, last = mean(life.online[:ends]), mean(life.online[-ends:])
    learned, kept = mean(life.learned), mean(life.kept)
    scores = {"first": first, "last": last, "lasting": last / first, "learned": learned, "kept": kept}
    return {**scores, "share_kept": kept / learned if learned else None}


def run_life(
    *,
    learners: Sequence[str] = LEARNERS,
    seeds: int = 3,
    tasks: int = TASKS,
    quick: bool = False,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """A row for each learner: its settings, its scores over the seeds (see `scores_of`), the course of its online
    accuracy in ten parts, bytes kept early and late. quick: one seed, forty tasks, usual settings.

    Raises: SettingError for an unknown learner.
    """
    for name in learners:
        check_choice("learner", name, LEARNERS)
    place, drawn = pick_device(device), digits(0, False)
    train, test = (Part(part.inputs.to(place), part.labels.to(place)) for part in (drawn.train, drawn.test))
    images = replace(drawn, train=train, test=test)
    if quick:
        seeds, tasks = 1, 40
    rows = []
    for name in learners:
        started = time.perf_counter()
        changes, tried = chosen(name, images, 0 if quick else TRIALS, TRIAL_TASKS)
        lives = [live(name, changes, images, tasks, seed) for seed in range(seeds)]
        scores = [scores_of(life) for life in lives]
        part = max(1, tasks // 10)
        row = {
            "learner": name,
            "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in changes.items()},
            "validation": tried,
            **{key: spread([score[key] for score in scores]) for key in scores[0]},
            "course": [mean(life.online[i : i + part]) for life in lives[:1] for i in range(0, len(life.online), part)],
            "bytes_kept": list(lives[0].bytes),
            "diverged": any(life.diverged for life in lives),
            "seconds": time.perf_counter() - started,
        }
        rows.append(row)
        report(f"{name}: {', '.join(f'{share:.3f}' for share in row['course'])}; {row['seconds']:.0f} s")
    return {"tasks": tasks, "seeds": seeds, "batch": BATCH, "hidden": list(HIDDEN), "rows": rows}


def life_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_life` found, for the terminal."""
    ends, recent = min(ENDS, max(1, result["tasks"] // 4)), min(RECENT, result["tasks"])
    rows = []
    for row in result["rows"]:
        scores = [mean_std(row[key]) for key in ("first", "last", "lasting", "learned", "kept", "share_kept")]
        early, late = row["bytes_kept"]
        name = row["learner"] + (", diverged" if row["diverged"] else "")
        rows.append((name, *scores, f"{early:,}", f"{late:,}", f"{row['seconds']:.0f}"))
    title = f"{result['tasks']} tasks in turn: digits under as many orders of the pixels, {result['seeds']} seeds"
    heads = ("", f"online, first {ends}", f"last {ends}", "last / first", f"last {recent} when learned", "at the end")
    return [table_of(title, (*heads, "share kept", "bytes kept early", "at the end", "seconds"), rows)]
