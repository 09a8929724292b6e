"""Exercises of notebook 10, how good is it really?"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nllab.course.exercise import Answer, Choice, Draw, Wrong, described, exercise, genuine
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.summary import paired_difference
from nllab.trainer import train

EDITION = 1
SEEDS = 3


def _gradients(weight: Tensor, inputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(chance of a class, gradient of its log-probability) for every sample and class, by autograd."""
    for x in inputs:
        leaf = weight.detach().clone().requires_grad_()
        logs = torch.log_softmax(leaf @ x, 0)
        for log in logs:
            (gradient,) = torch.autograd.grad(log, leaf, retain_graph=True)
            yield log.detach().exp(), gradient


@exercise(
    "10.1",
    "code",
    hints=(
        "With p = softmax(W x), the gradient of log p_y with respect to W is (onehot_y - p) x^T.",
        "Square it entry by entry, and average over y with the weights p_y: the mean of (onehot_y - p)_c ** 2 under p.",
        "That mean is p_c (1 - p_c). What is left is p_c (1 - p_c) x_d ** 2, averaged over the samples.",
    ),
    solution="""
def fisher_diagonal(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    return (p * (1 - p)).T @ inputs.square() / len(inputs)
""",
)
def fisher_diagonal(f: Answer, draw: Draw) -> None:
    """fisher_diagonal(weight, inputs): mean over samples and classes of squared gradients, (classes, dim), tried
    against autograd."""
    for count, classes, dim in draw.sizes(6, 4, 5):
        classes += 1  # of one class alone there is nothing to know
        weight, inputs = draw.normal(classes, dim), 1.5 * draw.normal(count, dim)
        want = sum((p * g.square() for p, g in _gradients(weight, inputs)), torch.zeros_like(weight)) / count
        got = f.tensor(weight, inputs, shape=(classes, dim), like=weight)
        f.close(got, want, "This is not the mean of the squared gradients, with y drawn from the model itself.")
        twice = f.tensor(weight, inputs.repeat(2, 1), shape=(classes, dim), like=weight)
        f.close(twice, got, "The same samples twice over should change nothing: it is a mean.")
        shifted = f.tensor(weight + draw.normal(dim), inputs, shape=(classes, dim), like=weight)
        f.close(shifted, got, "The same added to every row of the weights changes no probability, and nothing here.")
        f.expect((got >= 0).all(), "Information is not negative.")


class _Item:
    """Something that knows its place in the stream, and of which one can tell whether it is still held."""

    def __init__(self, place: int) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"item {self.place}"


def _passing(count: int, alive: weakref.WeakSet[_Item], most: list[int]) -> Iterator[_Item]:
    for place in range(count):
        item = _Item(place)
        alive.add(item)
        most[0] = max(most[0], len(alive))
        yield item
        del item


@exercise(
    "10.2",
    "code",
    hints=(
        "While there is room, keep the item.",
        "Item number n (counted from 0) of a longer stream must end in the buffer with chance capacity / (n + 1).",
        "Draw slot = random.randrange(n + 1). If slot < capacity, the item takes the place of what is there.",
    ),
    solution="""
def reservoir(stream, capacity, random):
    kept = []
    for n, item in enumerate(stream):
        if n < capacity:
            kept.append(item)
        else:
            slot = random.randrange(n + 1)
            if slot < capacity:
                kept[slot] = item
    return kept
""",
)
def reservoir(f: Answer, draw: Draw) -> None:
    """reservoir(stream, capacity, random): a fair sample of a stream. Tried by how often items and pairs are kept, and
    by how many items it holds at once."""

    def sound(result: Any, count: int, capacity: int) -> list[int]:
        if not isinstance(result, list) or not all(isinstance(item, int) for item in result):
            raise Wrong(f"{f.last} returned {described(result)}; a list of items of the stream is wanted.")
        if len(result) != min(count, capacity) or len(set(result)) != len(result):
            raise Wrong(f"{f.last} kept {described(result)}; {min(count, capacity)} different items are wanted.")
        f.expect(all(0 <= item < count for item in result), "Only items of the stream can be kept.")
        return result

    count, capacity, rounds = draw.whole(8, 12), draw.whole(2, 4), 1500
    for length, room in ((3, 5), (0, 2), (count, capacity)):
        # An iterator, whose length nobody knows and which can be read once.
        sound(f(_Named(iter(range(length)), length), room, Random(draw.whole(0, 99))), length, room)
    rounds_at_once = Answer(
        lambda seeds: [f.function(iter(range(count)), capacity, Random(int(seed))) for seed in seeds], f.name
    )
    hits = np.zeros(count)
    pairs = np.zeros((count, count))
    for result in rounds_at_once(draw.numpy.integers(0, 2**31, rounds)):
        kept = sound(result, count, capacity)
        hits[kept] += 1
        pairs[np.ix_(kept, kept)] += 1
    chance = capacity / count
    # Six standard deviations: a right answer fails by chance in less than one of ten million checks.
    slack = 6 * math.sqrt(chance * (1 - chance) / rounds)
    for place, share in enumerate(hits / rounds):
        f.expect(
            abs(share - chance) < slack,
            f"In {rounds} rounds item {place} of {count} was kept in a share of {share:.2f}; with room for {capacity},"
            f" {chance:.2f} is fair.",
        )
    both = capacity * (capacity - 1) / (count * (count - 1))
    slack = 6 * math.sqrt(both * (1 - both) / rounds)
    shares = pairs[~np.eye(count, dtype=bool)] / rounds
    f.expect(
        bool((np.abs(shares - both) < slack).all()),
        f"Each item is kept as often as it should be, but not each pair: from {shares.min():.2f} to"
        f" {shares.max():.2f} of the rounds, where {both:.2f} is fair.",
    )
    alive, most = weakref.WeakSet[_Item](), [0]
    f(_Named(_passing(200, alive, most), 200), 5, Random(draw.whole(0, 10**6)))
    f.expect(most[0] <= 10, f"With room for 5 it held {most[0]} items at once; a stream may be longer than any memory.")


class _Named:
    """An iterator that a sentence can name and nobody can copy its items from."""

    def __init__(self, items: Iterator[Any], count: int) -> None:
        self.items, self.count = items, count

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def __next__(self) -> Any:
        return next(self.items)

    def __repr__(self) -> str:
        return f"<stream of {self.count} items>"

    def __deepcopy__(self, memo: Any) -> _Named:
        return self


@cache
def _of_the_memory(seed: int) -> Run:
    return train(Experiment.preset("digits-ab", seed=seed, evaluate_every=1000))


@exercise(
    "10.3",
    "predict",
    prediction=Choice(("replay", "memory", "neither")),
    hints=(
        "A kept image takes 64 numbers of 4 bytes, and its label 8 bytes more.",
        "Adam keeps two numbers for every weight; they count as well. Train once with a buffer of 0 to see how many.",
        "buffer = (allowed - what Adam keeps) // 264, in method_settings={'strength': 1, 'buffer': buffer}.",
    ),
    solution="""
import nllab


def replay_within(allowed, seed):
    def run(buffer, steps=None):
        settings = {**SETUPS["er"], "method_settings": {"strength": 1, "buffer": buffer}}
        experiment = nllab.Experiment.preset("digits-ab", seed=seed, evaluate_every=1000, **settings)
        return nllab.train(experiment, steps=steps)

    from nllab.methods.setups import SETUPS
    spent = run(0, steps=2).bytes_kept
    return run(max(0, (allowed - spent) // (64 * 4 + 8)))
""",
)
def replay_within(f: Answer, draw: Draw) -> str:
    """replay_within(allowed, seed): a run of ER that fills so many bytes. Returns which of replay and the deep
    optimizer is better over three seeds: what the prediction is compared with."""
    scores: dict[str, list[float]] = {"replay": [], "memory": []}
    # Once with fewer bytes, which no buffer that is written down can follow; then at the bytes of the memory itself.
    for seed, less in ((0, 264 * draw.whole(5, 40)), *((seed, 0) for seed in range(SEEDS))):
        memory = _of_the_memory(seed)
        assert memory.bytes_kept is not None
        allowed = memory.bytes_kept - less
        run = f(allowed, seed)
        if not isinstance(run, Run):
            raise Wrong(f"{f.last} should return a run, as nllab.train(...) returns it, not a {type(run).__name__}.")
        e = run.experiment
        other = e.joint or e.frozen or e.order or e.epochs > 1
        if e.stream != "digits-ab" or e.method != "er" or e.seed != seed or other:
            raise Wrong(f"{f.last} should train digits-ab once with method='er' and this seed.")
        if (e.dim, e.hidden) != (32, 32) or run.summary["end"] != "finished":
            raise Wrong(f"{f.last} should train the usual network, 32 units wide, to the end of the plan.")
        assert run.bytes_kept is not None  # it is finished
        if run.bytes_kept > allowed:
            raise Wrong(f"{f.last} kept {run.bytes_kept:,} bytes beyond the weights; {allowed:,} are allowed.")
        if run.bytes_kept < allowed - 600:
            raise Wrong(
                f"{f.last} kept {run.bytes_kept:,} bytes of {allowed:,}; there is room for more images, and the"
                " comparison is at equal bytes."
            )
        if less:
            genuine(run)
            continue
        scores["replay"].append(run.summary["average_accuracy"])
        scores["memory"].append(memory.summary["average_accuracy"])
    gain = paired_difference(scores["replay"], scores["memory"])
    assert gain is not None
    print(f"Replay less memory at equal bytes, {SEEDS} seeds: {gain['mean']:+.3f} ± {gain['half_width']:.3f}.")
    if abs(gain["mean"]) <= gain["half_width"]:
        return "neither"
    return "replay" if gain["mean"] > 0 else "memory"


@exercise(
    "10.4",
    "explain",
    hints=(
        "The interval is wide where the differences differ from seed to seed, whatever their mean.",
        "Large mean, unclear: let one seed carry all of it. Small mean, clear: nearly the same on every seed.",
        "Differences such as (0.5, 0, 0, ...) against 0.01 with a little scatter.",
    ),
    solution="""
import numpy as np


def clear_and_unclear(count):
    base = np.full(count, 0.5)
    large = base.copy()
    large[0] += 0.04 * count if count < 12 else 0.49
    small = base + 0.01 + 0.001 * (np.arange(count) % 2)
    return (large.tolist(), base.tolist()), (small.tolist(), base.tolist())
""",
)
def clear_and_unclear(f: Answer, draw: Draw) -> None:
    """clear_and_unclear(count): two pairs of scores; the larger mean difference has an interval that holds zero."""
    for _ in range(5):
        count = draw.whole(3, 9)
        result = f(count)
        try:
            pairs = [tuple(np.asarray(scores, dtype=float) for scores in pair) for pair in result]
            fits = [len(pair) == 2 and all(s.shape == (count,) for s in pair) for pair in pairs] == [True, True]
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise Wrong(f"{f.last} should return two pairs of lists of {count} scores, not {described(result)}.")
        found = []
        for one, other in pairs:
            scores = np.concatenate([one, other])
            f.expect(bool(((scores >= 0) & (scores <= 1)).all()), "Scores are accuracies between 0 and 1.")
            gain = paired_difference(list(one), list(other))
            assert gain is not None
            found.append((gain["mean"], gain["half_width"]))
        (large, wide), (small, narrow) = found
        f.expect(
            large <= wide and small > narrow and large > 2 * small,
            "The first pair should differ at least twice as much as the second, with an interval that holds zero, the"
            f" second with one that lies above it; they are {large:.3f} ± {wide:.3f} and {small:.3f} ± {narrow:.3f}.",
        )
