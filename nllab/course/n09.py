"""Exercises of notebook 09, languages one after another."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.course.exercise import Answer, Draw, Wrong, described, exercise, genuine
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.trainer import train

EDITION = 2
IGNORE = -100
# The network of the notebook: one memory level of 64 units, 98 classes of characters.
SMALL = {"dim": 64, "hidden": 64, "periods": (1,)}
BEST = {"optimizer": "adam", "learning_rate": 1e-2, "batch_size": 128}  # of the notebook, on validation names
MORE, PRICE = 0.02, 0.03  # German that is to be kept beyond it, and Turkish that may be given for it


def _bits(scores: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(scores.double(), targets, ignore_index=IGNORE)) / math.log(2)


@exercise(
    "09.1",
    "code",
    hints=(
        "Each row of scores becomes log-probabilities by log_softmax, which stays finite for large scores.",
        "Leave the rows out whose target is -100: asked = targets != -100.",
        "torch counts in nats. One nat is 1 / log(2) bits.",
    ),
    solution="""
import math


def bits_per_character(scores, targets):
    asked = targets != -100
    logs = torch.log_softmax(scores[asked], dim=-1)
    right = logs[torch.arange(int(asked.sum())), targets[asked]]
    return float(-right.mean() / math.log(2))
""",
)
def bits_per_character(f: Answer, draw: Draw) -> None:
    """bits_per_character(scores, targets): mean bits of the targets that are not -100, tried against cross_entropy."""
    for count, classes in draw.sizes(9, 6):
        scores = 2 * draw.normal(count, classes)
        targets = torch.tensor([draw.whole(0, classes - 1) for _ in range(count)])
        got = f.number(scores, targets)
        f.close(got, _bits(scores, targets), "This is not the mean number of bits for the character that came.")
        f.close(f.number(scores + 1000, targets), got, "The same added to all scores of a row should change nothing.")
        f.close(f.number(torch.zeros(count, classes), targets), math.log2(classes), "Equal scores cost log2(classes).")
        more = torch.cat([scores, 3 * draw.normal(2, classes)])
        padded = torch.cat([targets, torch.tensor([IGNORE] * 2)])
        f.close(f.number(more, padded), got, "Rows with the target -100 should not count.")
        sure = torch.full((count, classes), -1000.0)
        sure[torch.arange(count), targets] = 1000.0
        f.close(f.number(sure, targets), 0.0, "Where the right character is certain, nothing is left to say.")
        far = torch.zeros(count, classes)
        far[torch.arange(count), (targets + 1) % classes] = 300.0
        if classes > 1:
            sentence = "A right character 300 behind costs many bits, but a finite number; softmax alone says 0 there."
            f.close(f.number(far, targets), _bits(far, targets), sentence)


def _counts(texts: list[list[int]], classes: int, retention: float) -> Tensor:
    counts = torch.zeros(classes, classes)
    for text in texts:
        for before, after in zip([0, *text], [*text, 0], strict=True):
            counts = retention * counts
            counts[before, after] += 1
    return counts


@exercise(
    "09.2",
    "code",
    hints=(
        "Class 0 stands before the start of a text and is its end: the pairs of [3, 5] are (0, 3), (3, 5), (5, 0).",
        "At each pair: first every count is multiplied by retention, then this pair's count goes up by 1.",
        "At the end add `prior` to all counts and divide each row by its sum.",
    ),
    solution="""
def count_pairs(texts, classes, retention, prior):
    counts = torch.zeros(classes, classes)
    for text in texts:
        for before, after in zip([0, *text], [*text, 0]):
            counts = retention * counts
            counts[before, after] += 1
    counts = counts + prior
    return counts / counts.sum(1, keepdim=True)
""",
)
def count_pairs(f: Answer, draw: Draw) -> None:
    """count_pairs(texts, classes, retention, prior): what follows each character, (classes, classes), from fading
    counts; tried against a loop, at retention 0 and 1."""
    for trial in range(8):
        classes, count = draw.whole(3, 6), 1 if trial == 0 else draw.whole(2, 5)
        texts = [[draw.whole(1, classes - 1) for _ in range(draw.whole(1, 4))] for _ in range(count)]
        retention, prior = round(draw.uniform(0.6, 0.99), 2), round(draw.uniform(0.05, 1), 2)

        def table(given: list[list[int]], keep: float, classes: int = classes, prior: float = prior) -> Tensor:
            return f.tensor(given, classes, keep, prior, shape=(classes, classes), like=torch.empty(0))

        counts = _counts(texts, classes, retention) + prior
        got = table(texts, retention)
        f.close(got.sum(1), torch.ones(classes), "Each row should be probabilities: what follows one character.")
        f.close(got, counts / counts.sum(1, keepdim=True), "These are other probabilities.")
        f.close(table(texts[::-1], 1.0), table(texts, 1.0), "With retention 1 the order of texts should not matter.")
        last = torch.full((classes, classes), prior)
        last[texts[-1][-1], 0] += 1
        last = last / last.sum(1, keepdim=True)
        f.close(table(texts, 0.0), last, "With retention 0 the last pair alone should count.")


@cache
def _to_beat(seed: int) -> dict[str, float]:
    """What the notebook's best Adam reaches, on validation names."""
    about = {"evaluate_on": "validation", "evaluate_every": 1000, "observe": False}
    return train(Experiment.preset("names-ab", seed=seed, **BEST, **SMALL, **about)).summary


@exercise(
    "09.3",
    "code",
    wants="run",
    hints=(
        "German can be learned as in the lesson. What has to change when Turkish begins? That step is"
        " run.of(Switch)[1].step of a run.",
        "A command can change who writes: Adam for German, the deep optimizer, at a rate of your choice, from then on.",
        "Or keep the rate of Adam high for German and lower it, by the command 'learning_rate', for Turkish.",
    ),
    solution="""
import nllab

experiment = nllab.Experiment.preset(
    "names-ab", optimizer="adam", dim=64, hidden=64, periods=(1,), batch_size=128, learning_rate=1e-2,
    evaluate_on="validation", evaluate_every=1000, observe=False)
start_of_turkish = nllab.train(experiment).of(nllab.events.Switch)[1].step
better = nllab.train(experiment, commands=[(start_of_turkish, "learning_rate", 3e-3)])
""",
)
def better(run: Run, draw: Draw) -> None:
    """better: a run of names-ab that keeps more German than the notebook's best, and hardly less Turkish, on
    validation names."""
    del draw
    e = run.experiment
    if e.stream != "names-ab" or e.joint or e.order or e.epochs != 1:
        raise Wrong("One pass over names-ab is wanted, German, then Turkish: epochs 1, no joint training, no order.")
    if (e.model, e.dim, e.hidden, e.periods, e.method) != ("cms", 64, 64, (1,), "naive"):
        raise Wrong(
            "Take the network of this notebook, dim=64, hidden=64, periods=(1,), and no method that keeps samples."
        )
    if e.evaluate_on != "validation":
        raise Wrong("Choose on validation names, evaluate_on='validation'; test names seen are no longer test names.")
    genuine(run)
    if run.summary["end"] != "finished":
        raise Wrong(f"This run stopped at step {run.steps}; let it go to the end of the plan.")
    reached, bar = run.summary, _to_beat(e.seed)
    if reached["a_after_b"] < bar["a_after_b"] + MORE:
        raise Wrong(
            f"German ends at {reached['a_after_b']:.3f}. On the same seed the notebook's best Adam keeps"
            f" {bar['a_after_b']:.3f}, and {MORE} more is wanted."
        )
    if reached["b_after_b"] < bar["b_after_b"] - PRICE:
        raise Wrong(
            f"Turkish ends at {reached['b_after_b']:.3f}. On the same seed the notebook's best Adam has"
            f" {bar['b_after_b']:.3f}, and at most {PRICE} of it may be given for German."
        )


@exercise(
    "09.4",
    "explain",
    hints=(
        "Accuracy asks only who comes first; bits ask how likely the right character was.",
        "Let the first put the right character first by a hair, and wherever it is wrong be sure of the wrong one.",
        "Let the second put another character first by a hair every time, with the right one close behind.",
    ),
    solution="""
def disagree(count, classes):
    targets = torch.arange(count) % classes
    other = (targets + 1) % classes
    first = torch.full((count, classes), 0.001)
    first[torch.arange(count), targets] = 1.0
    first[0] = 1e-30
    first[0, other[0]] = 1.0
    second = torch.full((count, classes), 0.001)
    second[torch.arange(count), targets] = 1.0
    second[torch.arange(count), other] = 1.01
    return first / first.sum(1, keepdim=True), second / second.sum(1, keepdim=True), targets
""",
)
def disagree(f: Answer, draw: Draw) -> None:
    """disagree(count, classes): two tables of probabilities and targets; the first is right more often at more bits."""
    for _ in range(5):
        count, classes = draw.whole(4, 12), draw.whole(3, 6)
        result = f(count, classes)
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise Wrong(f"{f.last} should return three things: two tables of probabilities and the targets.")
        first, second, targets = result
        for part, shape in ((first, (count, classes)), (second, (count, classes)), (targets, (count,))):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape:
                raise Wrong(f"{f.last}: tensors of shapes {(count, classes)}, the same and {(count,)} are wanted.")
        if targets.dtype != torch.int64 or not bool(((targets >= 0) & (targets < classes)).all()):
            raise Wrong(f"{f.last}: targets are classes from 0 to {classes - 1}, as int64, not {described(targets)}.")
        right, bits = [], []
        for table in (first, second):
            f.expect(table.isfinite().all() and (table > 0).all(), "Probabilities are above 0: bits are finite.")
            f.close(table.sum(1), torch.ones(count), "Each row of probabilities should add up to 1.")
            right.append(float((table.argmax(1) == targets).double().mean()))
            bits.append(float(-table[torch.arange(count), targets].double().log2().mean()))
        f.expect(
            right[0] > right[1] and bits[0] > bits[1] + 0.1,
            "The first should have the better accuracy and need more bits, by 0.1 or more. It has"
            f" {right[0]:.2f} right and needs {bits[0]:.2f} bits, the second {right[1]:.2f} and {bits[1]:.2f}.",
        )
