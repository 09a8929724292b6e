"""Exercises of notebook 05, fast and slow, and its smallest world: one scale that changes over weights that do not."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Wrong, described, exercise
from nllab.levels import Level, Schedule
from nllab.optim.leveled import Leveled

EDITION = 1
RETENTIONS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


def errors_of(inputs: ArrayLike, targets: ArrayLike, slow: float, fast: float | None = None) -> list[float]:
    """Squared error at each sample before it is learned: a slow level, least squares that keeps `slow` of its memory at
    each write, and behind it a fast one, a single number that scales what the slow one says and keeps `fast` (None:
    no such level)."""
    x, y = np.asarray(inputs, dtype=float), np.asarray(targets, dtype=float)
    dim = x.shape[1]
    weights, seen, ridge = np.zeros(dim), np.zeros((dim, dim)), 0.1 * np.eye(dim)
    scale, heard, found = 1.0, 0.0, []
    for row, target in zip(x, y, strict=True):
        said = row @ weights
        found.append(float((target - scale * said) ** 2))
        if fast is not None:
            heard = fast * heard + said**2
            scale += (target - scale * said) * said / (0.1 + heard)
        seen = slow * seen + np.outer(row, row)
        weights = weights + (target - said) * np.linalg.solve(ridge + seen, row)
    return found


def share_left(inputs: ArrayLike, targets: ArrayLike, slow: float, fast: float | None = None) -> float:
    """Squared error over the second half of a stream, in parts of what saying 0 would cost: 0 is perfect."""
    y = np.asarray(targets, dtype=float)
    late = len(y) // 2
    return float(np.sum(errors_of(inputs, y, slow, fast)[late:]) / np.sum(y[late:] ** 2))


def _counted(sizes: list[int], periods: list[int], steps: int) -> tuple[int, int]:
    """Writes and numbers changed, counted from weights that changed under nllab's own schedule."""
    weights = {f"level {i}": [torch.nn.Parameter(torch.zeros(size))] for i, size in enumerate(sizes)}
    levels = [Level(name, "*", period) for name, period in zip(weights, periods, strict=True)]
    leveled = Leveled(weights, Schedule.of(levels), lambda p: torch.optim.SGD(p, lr=1.0))
    writes = numbers = 0
    for _ in range(steps):
        before = {name: weight.detach().clone() for name, (weight,) in weights.items()}
        for (weight,) in weights.values():
            weight.grad = torch.ones_like(weight)
        leveled.step()
        changed = [int((weight.detach() != before[name]).sum()) for name, (weight,) in weights.items()]
        writes, numbers = writes + sum(count > 0 for count in changed), numbers + sum(changed)
    return writes, numbers


@exercise(
    "05.1",
    "code",
    hints=(
        "A level of period p has written steps // p times after so many steps.",
        "Each of its writes changes as many numbers as the level has. Sum up both over the levels.",
    ),
    solution="""
def cost_of_writes(sizes, periods, steps):
    writes = [steps // period for period in periods]
    return sum(writes), sum(size * count for size, count in zip(sizes, writes))
""",
)
def cost_of_writes(f: Answer, draw: Draw) -> None:
    """cost_of_writes(sizes, periods, steps): writes, and numbers changed, counted under nllab's own schedule."""
    for trial in range(8):
        count = trial + 1 if trial < 2 else draw.whole(1, 4)
        sizes = [draw.whole(1, 30) for _ in range(count)]
        periods, steps = sorted(draw.whole(1, 9) for _ in range(count)), draw.whole(5, 40)
        result = f(sizes, periods, steps)
        try:
            writes, numbers = (float(value) for value in result)
        except (TypeError, ValueError):
            raise Wrong(f"{f.last} should return two numbers, not {described(result)}.") from None
        want = _counted(sizes, periods, steps)
        f.expect(writes == want[0], f"Counted are {want[0]} writes, and not {writes:g}.")
        f.expect(numbers == want[1], f"Counted are {want[1]} numbers changed, and not {numbers:g}.")


def _weighted(inputs: Tensor, targets: Tensor, retention: float, ridge: float) -> Tensor:
    ages = torch.arange(len(inputs) - 1, -1, -1.0)
    weight = (retention**ages).unsqueeze(1)
    gram = ridge * torch.eye(inputs.shape[1]) + inputs.mT @ (weight * inputs)
    return torch.linalg.solve(gram, inputs.mT @ (weight.squeeze(1) * targets))


def stepped(inputs: Tensor, targets: Tensor, retention: float, ridge: float) -> Tensor:
    """The weights (dim,) to which the steps of a level lead, from zero weights over inputs (N, dim) and targets (N,):
    near the fit at a retention below 1, and another thing."""
    weights, seen = torch.zeros(inputs.shape[1]), torch.zeros(inputs.shape[1], inputs.shape[1])
    for x, y in zip(inputs, targets, strict=True):
        seen = retention * seen + torch.outer(x, x)
        weights = weights + (y - weights @ x) * torch.linalg.solve(ridge * torch.eye(len(x)) + seen, x)
    return weights


@exercise(
    "05.2",
    "code",
    hints=(
        "The newest sample counts 1, the one before it `retention`, the one before that retention squared.",
        "Minimize sum of weight_i * (x_i . w - y_i)^2 + ridge * |w|^2. Its derivative is zero where"
        " (ridge I + X^T D X) w = X^T D y, with the weights on the diagonal of D.",
        "Ages are torch.arange(len(inputs)).flip(0), and retention ** ages are the weights (0 ** 0 is 1).",
        "Going from sample to sample, fade the sums of x x^T and of y x, never the ridge, and solve at the end. The"
        " step at the top of the notebook is off in the third digit for a retention below 1: its ridge pulls towards"
        " the weights of the step before, and the ridge of this sum towards 0.",
    ),
    solution="""
def faded_fit(inputs, targets, retention, ridge):
    ages = torch.arange(len(inputs)).flip(0)
    weight = torch.tensor(float(retention)) ** ages
    gram = ridge * torch.eye(inputs.shape[1]) + inputs.T @ (weight[:, None] * inputs)
    return torch.linalg.solve(gram, inputs.T @ (weight * targets))
""",
)
def faded_fit(f: Answer, draw: Draw) -> None:
    """faded_fit(inputs, targets, retention, ridge): ridge regression (dim,) in which a sample of age a counts
    retention ** a; tried at retention 0, 1 and between."""
    for count, dim in draw.sizes(12, 4):
        inputs, targets = draw.normal(count, dim), draw.normal(count)
        retention, ridge = draw.uniform(0.3, 0.95), draw.uniform(0.1, 0.5)
        got = f.tensor(inputs, targets, retention, ridge, shape=(dim,), like=inputs)
        steps = torch.allclose(got, stepped(inputs, targets, retention, ridge), rtol=1e-3, atol=1e-4)
        sentence = "These are the weights that the level's steps lead to, not those of the fit." if steps else ""
        f.close(got, _weighted(inputs, targets, retention, ridge), sentence or "These are other weights.")
        whole = f.tensor(inputs, targets, 1.0, ridge, shape=(dim,), like=inputs)
        at_once = torch.linalg.solve(ridge * torch.eye(dim) + inputs.mT @ inputs, inputs.mT @ targets)
        f.close(whole, at_once, "With retention 1 it is ridge regression on all samples.")
        last = f.tensor(inputs, targets, 0.0, ridge, shape=(dim,), like=inputs)
        x = inputs[-1]
        f.close(last, targets[-1] * x / (ridge + x @ x), "With retention 0 the last sample alone counts.")
        sentence = "Twice the answers should give twice the weights."
        f.close(f.tensor(inputs, 2 * targets, retention, ridge, shape=(dim,), like=inputs), 2 * got, sentence)


@exercise(
    "05.3",
    "explain",
    hints=(
        "Where nothing ever changes, a memory that keeps everything is best: answers inputs @ w with one w for all.",
        "Two time scales help where something that takes long to learn stays, while something small between it and the"
        " answer changes quickly.",
        "Multiply the answers by 1.5 in one block of 20 samples, by 0.5 in the next, and so on.",
    ),
    solution="""
def two_worlds(count, dim):
    inputs = torch.randn(count, dim)
    answers = inputs @ torch.randn(dim)
    scale = torch.where(torch.arange(count) // 20 % 2 == 0, 1.5, 0.5)
    return inputs, answers, scale * answers
""",
)
def two_worlds(f: Answer, draw: Draw) -> None:
    """two_worlds(count, dim): inputs and the answers of two worlds. In the first one time scale is enough, in the
    second two leave less than 0.7 of the error."""
    count, dim = 320, draw.whole(6, 10)
    result = f(count, dim)
    if not isinstance(result, tuple | list) or len(result) != 3:
        raise Wrong(f"{f.last} should return three things: inputs, and the answers in the one and the other world.")
    for name, part, shape in zip(
        ("inputs", "first", "second"), result, ((count, dim), (count,), (count,)), strict=True
    ):
        if not isinstance(part, Tensor) or tuple(part.shape) != shape or part.dtype != torch.float32:
            raise Wrong(f"{f.last}: {name} should be a float tensor of shape {shape}.")
        f.expect(bool(part.isfinite().all()), f"{name} holds NaN or infinite values.")
        f.expect(bool(part.abs().max() <= 1000), f"{name} holds values above 1000.")
    inputs, *worlds = (part.detach().numpy() for part in result)
    f.expect(
        all(np.square(answers[count // 2 :]).mean() > 1e-3 for answers in worlds),
        "In both worlds there should be something to learn in the second half: the answers there are all 0.",
    )
    single = [min(share_left(inputs, answers, keep) for keep in RETENTIONS) for answers in worlds]
    both = [min(share_left(inputs, answers, 1.0, keep) for keep in (0.3, 0.5, 0.7)) for answers in worlds]
    f.expect(
        single[0] < both[0] + 0.01 and single[0] < 0.5,
        "In the first world the best single time scale should do, with less than half of the error left; it leaves"
        f" {single[0]:.2f}, two time scales leave {both[0]:.2f}.",
    )
    f.expect(
        both[1] < 0.7 * single[1],
        "In the second world two time scales should leave less than 0.7 of what the best single one leaves; they"
        f" leave {both[1]:.2f}, the single one {single[1]:.2f}.",
    )
