"""Exercises of notebook 12, your own."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nllab.course.exercise import Answer, Draw, Wrong, described, exercise
from nllab.experiment import Experiment
from nllab.levels import Level, Schedule, assign
from nllab.optim.leveled import Leveled, members_of
from nllab.streams import REGISTRY as STREAMS
from nllab.streams.stream import Part, Stream
from nllab.summary import paired_difference
from nllab.trainer import Trainer, train

EDITION = 2
SEEDS = 4
LEAD = 0.3  # over the twin, in accuracy: more than any preset has
MOST_STEPS = 500


def _rows(part: Part) -> set[tuple[float, ...]]:
    return {tuple(row) for row in part.inputs.flatten(1).tolist()}


def _checked_part(f: Answer, part: Part, classes: int, where: str) -> None:
    inputs, labels = part.inputs, part.labels
    f.expect(inputs.ndim == 2 and inputs.dtype == torch.float32, f"{where}: inputs are float32, a row for each sample.")
    f.expect(inputs.isfinite().all(), f"{where}: inputs hold NaN or infinite values.")
    f.expect(
        labels.dtype == torch.int64 and labels.shape == inputs.shape[:1],
        f"{where}: labels are int64, one for each of its {len(inputs)} rows.",
    )
    f.expect(((labels >= 0) & (labels < classes)).all(), f"{where}: labels are classes from 0 to {classes - 1}.")


@exercise(
    "12.1",
    "code",
    hints=(
        "Stream(name, about, tasks, plan, classes); each Task(name, about, train, validation, test) has three Parts.",
        "Draw inputs and a rule for the labels with torch.Generator().manual_seed(seed): same seed, same stream.",
        "Draw training and test rows in one go, then cut them: random rows never coincide. validation may be empty.",
    ),
    solution="""
def my_stream(seed):
    from nllab.streams.stream import Part, Stream, Task

    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for place, name in enumerate("AB"):
        inputs = torch.randn(500, 8, generator=generator)
        rule = torch.randn(8, generator=generator)
        part = Part(inputs, 2 * place + (inputs @ rule > 0).long())
        tasks.append(Task(name, f"which side of plane {name}", part[:400], part[:0], part[400:]))
    return Stream("planes", "Two half spaces, one after the other.", tuple(tasks), (0, 1), 4)
""",
)
def my_stream(f: Answer, draw: Draw) -> None:
    """my_stream(seed): a Stream of the reader's own, tried for its shapes, for separate test rows, for its seed, and
    for something to learn in every task."""
    seed = draw.whole(0, 10**6)
    stream, again, other = (f(s) for s in (seed, seed, seed + 1))
    if not isinstance(stream, Stream):
        raise Wrong(f"{f.last} should return an nllab Stream, not {described(stream)}.")
    f.expect(stream.name not in STREAMS, "Take a stream of your own, under a name of its own.")
    f.expect(len(stream.tasks) >= 2 and set(stream.plan) == set(range(len(stream.tasks))), "Teach two tasks or more.")
    train_rows: set[tuple[float, ...]] = set()
    for task in stream.tasks:
        for name in ("train", "test"):
            _checked_part(f, getattr(task, name), stream.classes, f"Task {task.name}, {name}")
        f.expect(50 <= len(task.train) <= 2000 and len(task.test) >= 20, "50 to 2,000 rows to learn from, 20 to test.")
        f.expect(task.train.inputs.shape[1] == stream.features, "All tasks have inputs of one width.")
        train_rows |= _rows(task.train)
    for task in stream.tasks:
        shared = len(_rows(task.test) & train_rows)
        f.expect(not shared, f"Of the test rows of task {task.name}, {shared} are among the training rows as well.")
    same = [torch.equal(a.train.inputs, b.train.inputs) for a, b in zip(stream.tasks, again.tasks, strict=True)]
    f.expect(all(same), "The same seed should give the same stream.")
    first, here = (each.tasks[0].train.inputs for each in (other, stream))
    f.expect(first.shape != here.shape or not torch.equal(first, here), "Another seed should give another stream.")
    alone = Experiment(epochs=5, seed=0, optimizer="adam", learning_rate=1e-2, observe=False, evaluate_every=1000)
    for place, task in enumerate(stream.tasks):
        right = Trainer(alone, stream=replace(stream, plan=(place,))).run().accuracy_matrix[-1][place]
        guess = float(task.test.labels.bincount().max()) / len(task.test)
        f.expect(
            right > guess + 0.1,
            f"There is nothing to learn in task {task.name}: taught alone for five passes, a network has {right:.2f} of"
            f" its test rows right, and always guessing the commonest class gives {guess:.2f}.",
        )


def _problem(draw: Draw) -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(nn.Linear(4, 13), nn.Tanh(), nn.Linear(13, 1, bias=False))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * draw.normal(*p.shape))
    return model, draw.normal(12, 4), draw.normal(12, 1)


@torch.no_grad()
def _loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    return float((model(inputs) - targets).square().mean())


def _descend(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, steps: int) -> float:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
    return _loss(model, inputs, targets)


def _strange(value: Any) -> Any:
    """The first part of a state that is neither a tensor, a number, text nor a list or dict of such; None if there is
    none."""
    if isinstance(value, dict | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next((found for part in parts if (found := _strange(part)) is not None), None)
    return None if value is None or isinstance(value, Tensor | int | float | str) else value


@exercise(
    "12.2",
    "code",
    hints=(
        "Write a class on top of torch.optim.Optimizer: its step goes through self.param_groups and their params.",
        "What it remembers of a parameter p goes into self.state[p], as a tensor: only that is in its state_dict.",
        "Momentum will do: state['memory'] = 0.9 * memory + p.grad, then p.sub_(rate * memory), under torch.no_grad().",
    ),
    solution="""
def my_optimizer(parameters, rate):
    class Momentum(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    memory = self.state[p].get("memory", torch.zeros_like(p))
                    self.state[p]["memory"] = 0.9 * memory + p.grad
                    p.sub_(group["lr"] * self.state[p]["memory"])

    return Momentum(parameters, rate)
""",
)
def my_optimizer(f: Answer, draw: Draw) -> None:
    """my_optimizer(parameters, rate): a torch.optim.Optimizer of the reader's own with a state, which must survive a
    state_dict."""
    model, inputs, targets = _problem(draw)
    twin = copy.deepcopy(model)
    optimizer = f(list(model.parameters()), 0.02)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Wrong(f"{f.last} should return a torch.optim.Optimizer, not {described(optimizer)}.")
    home = type(optimizer).__module__.split(".")[0]
    f.expect(home not in ("torch", "nllab"), f"{type(optimizer).__name__} is {home}'s; write one of your own.")
    before = _loss(model, inputs, targets)
    after = _descend(model, optimizer, inputs, targets, 60)
    fell = f"In 60 steps on a small problem its loss should fall; it went from {before:.3g} to {after:.3g}."
    f.expect(after < 0.9 * before, fell)
    f.expect(
        len(optimizer.state) > 0,
        "After 60 steps its self.state is empty: what it is to remember of a parameter p belongs in self.state[p], for"
        " only that is in its state_dict.",
    )

    first = f(list(twin.parameters()), 0.02)
    _descend(twin, first, inputs, targets, 7)
    saved = copy.deepcopy(first.state_dict())
    if (strange := _strange(saved)) is not None:
        raise Wrong(
            f"Its state_dict holds a {type(strange).__name__}; a file holds tensors, numbers and text alone, in"
            " lists and dicts."
        )
    resumed = copy.deepcopy(twin)
    second = f(list(resumed.parameters()), 0.5)  # another rate: the saved one should win
    second.load_state_dict(saved)
    _descend(twin, first, inputs, targets, 7)
    _descend(resumed, second, inputs, targets, 7)
    gap = max(float((a - b).detach().abs().max()) for a, b in zip(twin.parameters(), resumed.parameters(), strict=True))
    sentence = f"Saved after 7 steps and loaded into a new one, it goes another way: {gap:.2g} apart 7 steps on."
    f.expect(gap < 1e-6, sentence)
    plain = copy.deepcopy(model)
    forgetful = f(list(plain.parameters()), 0.02)
    _descend(plain, forgetful, inputs, targets, 3)
    fresh = copy.deepcopy(plain)
    _descend(plain, forgetful, inputs, targets, 3)
    _descend(fresh, f(list(fresh.parameters()), 0.02), inputs, targets, 3)
    gap = max(float((a - b).detach().abs().max()) for a, b in zip(plain.parameters(), fresh.parameters(), strict=True))
    f.expect(gap > 1e-7, "Started anew in the middle it does the same: its state plays no part in its steps.")


class _Blocks(nn.Module):
    """A model of somebody else's: an embedding, blocks one after another, a norm, a head."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)


def _writes(model: nn.Module, levels: list[Level], steps: int) -> dict[str, list[int]]:
    """The steps after which each parameter has changed."""
    schedule = Schedule.of(levels)
    base = Leveled(members_of(model, levels), schedule, lambda given: torch.optim.SGD(given, 0.1))
    found: dict[str, list[int]] = {name: [] for name, _ in model.named_parameters()}
    for step in range(1, steps + 1):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        base.step()
        for name, p in model.named_parameters():
            if not torch.equal(before[name], p.detach()):
                found[name].append(step)
    return found


@exercise(
    "12.3",
    "code",
    hints=(
        "len(model.blocks) says how many blocks there are. A level names modules by patterns: Level('block 0',"
        " 'blocks.0.*', period).",
        "Block i of n has period 2 ** (n - 1 - i): the last one writes at every step, the first is the slowest.",
        "The norm belongs to the head, and the embedding is as slow as the first block. List them from fast to slow.",
    ),
    solution="""
import nllab


def my_levels(model):
    n = len(model.blocks)
    blocks = [nllab.Level(f"block {i}", f"blocks.{i}", 2 ** (n - 1 - i)) for i in reversed(range(n))]
    return [nllab.Level("head", ("norm", "head"), 1), *blocks, nllab.Level("embed", "embed", 2 ** (n - 1))]
""",
)
def my_levels(f: Answer, draw: Draw) -> None:
    """my_levels(model): levels for a model of blocks, tried by the steps after which each parameter changes."""
    for blocks in (1, 2, draw.whole(3, 4), 11):
        model = _Blocks(blocks, draw.whole(1, 3))
        levels = f(model)
        if not isinstance(levels, list | tuple) or not all(isinstance(level, Level) for level in levels):
            raise Wrong(f"{f.last} should return a list of nllab.Level, not {described(levels)}.")
        held = assign(list(levels), [name for name, _ in model.named_parameters()])
        counted = f"{blocks} blocks, the embedding and the head make {blocks + 2} levels, not {len(held)}."
        f.expect(len(held) == blocks + 2, counted)
        periods = [level.period for level in levels]
        f.expect(periods == sorted(periods), f"Levels go from fast to slow; these have periods {periods}.")
        wanted = {"embed": 2 ** (blocks - 1), "norm": 1, "head": 1}
        wanted |= {f"blocks.{i}": 2 ** (blocks - 1 - i) for i in range(blocks)}
        steps = min(2**blocks, 40)
        for name, written in _writes(model, list(levels), steps).items():
            period = next(p for module, p in wanted.items() if name.startswith(module + "."))
            f.expect(
                written == list(range(period, steps + 1, period)),
                f"In a model of {blocks} blocks {name} should write every {period} steps; of {steps} steps it wrote"
                f" after {written[:6]}{' …' if len(written) > 6 else ''}.",
            )


def _score(experiment: Experiment, **changes: Any) -> float:
    return train(experiment.but(evaluate_every=1000, **changes)).summary["average_accuracy"]


@exercise(
    "12.4",
    "code",
    hints=(
        "Where do features matter most: new classes of the same images, or the same classes behind other pixels?",
        "A wide network of random features reads digits well without learning any. Keep it narrow, or ask more of it:"
        " more tasks than features that are never learned can serve.",
        "permuted-digits-5 has five tasks. With batch_size=20 it takes 340 steps.",
    ),
    solution="""
import nllab


def beats_its_twin():
    return nllab.Experiment.preset("permuted-digits-5", batch_size=20)
""",
)
def beats_its_twin(f: Answer, draw: Draw) -> None:
    """beats_its_twin(): an experiment that beats its twin on four fresh seeds, its paired interval above LEAD."""
    experiment = f()
    if not isinstance(experiment, Experiment):
        raise Wrong(f"{f.last} should return an nllab.Experiment, not {described(experiment)}.")
    f.expect(not experiment.frozen and not experiment.joint, "Leave frozen and joint alone; the check makes the twin.")
    f.expect(experiment.model == "cms" and experiment.method == "naive", "A cms without a further method is wanted.")
    steps = Trainer(experiment).planned_steps
    f.expect(steps <= MOST_STEPS, f"It takes {steps} steps and is trained {2 * SEEDS} times; {MOST_STEPS} at most.")
    seeds = draw.numpy.choice(10**6, SEEDS, replace=False).tolist()
    own, twin = ([_score(experiment, seed=seed, frozen=frozen) for seed in seeds] for frozen in (False, True))
    gain = paired_difference(own, twin)
    assert gain is not None
    f.expect(
        gain["mean"] - gain["half_width"] > LEAD,
        f"Over {SEEDS} fresh seeds it differs from its twin by {gain['mean']:+.3f} ± {gain['half_width']:.3f}; the"
        f" whole interval should lie above {LEAD:g}, and it begins at {gain['mean'] - gain['half_width']:+.3f}.",
    )
