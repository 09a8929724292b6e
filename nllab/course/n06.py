"""Exercises of notebook 06, from delta gradient descent to the deep optimizer."""

from __future__ import annotations

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Wrong, exercise
from nllab.course.n05 import stepped

EDITION = 1


def _dgd(weight: Tensor, x: Tensor, signal: Tensor, rate: float) -> Tensor:
    step = rate / (1 + rate * x @ x)
    return weight - step * torch.outer(weight @ x + signal, x)


@exercise(
    "06.1",
    "code",
    hints=(
        "Set the derivative of the objective with respect to W to zero: (W x - u) x^T + (W - W_t) / rate = 0.",
        "Multiply by x from the right. What is W x, in terms of W_t x, u and the squared length of x?",
        "W x - u = (W_t x - u) / (1 + rate * |x|^2). Put that back into the first line, and remember u = -signal.",
    ),
    solution="""
def dgd_step(weight, x, signal, rate):
    step = rate / (1 + rate * (x @ x))
    return weight - step * torch.outer(weight @ x + signal, x)
""",
)
def dgd_step(f: Answer, draw: Draw) -> None:
    """dgd_step(weight, x, signal, rate): the exact step of delta gradient descent (Eq. 56-57, arXiv 2512.24695), tried
    against the slope of its objective and in the limits of the rate."""
    for outputs, inputs in draw.sizes(4, 5):
        weight, x, signal = draw.normal(outputs, inputs), draw.normal(inputs), draw.normal(outputs)
        rate = draw.uniform(0.2, 3.0)
        got = f.tensor(weight, x, signal, rate, shape=(outputs, inputs), like=weight)
        slope = torch.outer(got @ x + signal, x) + (got - weight) / rate
        f.close(slope, torch.zeros_like(slope), "The objective still has a slope there; it is not the minimum.")
        f.close(got, _dgd(weight, x, signal, rate), "This is not the exact step.")
        got = f.tensor(weight, x, signal, 1e-6, shape=(outputs, inputs), like=weight)
        f.close(got, weight, "At a tiny rate the weights should hardly move.")
        unit = draw.unit(inputs)
        got = f.tensor(weight, unit, signal, 1e6, shape=(outputs, inputs), like=weight)
        f.close(got @ unit, -signal, "At a huge rate the layer should say -signal at x.", atol=1e-2)


@exercise(
    "06.2",
    "code",
    hints=(
        "First let the memory take the input in: context + outer(x, x). The step uses the memory after that.",
        "The error is target - weight @ x. The direction is not x, but the solution z of (new context) z = x.",
        "torch.linalg.solve(context, x) gives the direction; the weights move by outer(error, direction).",
    ),
    solution="""
def learn(weight, context, x, target):
    context = context + torch.outer(x, x)
    direction = torch.linalg.solve(context, x)
    return weight + torch.outer(target - weight @ x, direction), context
""",
)
def learn(f: Answer, draw: Draw) -> None:
    """learn(weight, context, x, target) returns both after a sample: recursive least squares, tried against least
    squares on all samples at once, in either order."""

    def whole(inputs: Tensor, targets: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        outputs, dim = targets.shape[1], inputs.shape[1]
        weight, context = torch.zeros(outputs, dim), ridge * torch.eye(dim)
        for x, target in zip(inputs, targets, strict=True):
            result = f(weight, context, x, target)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise Wrong(f"{f.last} should return two things: the weights and the context.")
            for name, part, like in zip(("weights", "context"), result, (weight, context), strict=True):
                if not isinstance(part, Tensor) or part.shape != like.shape or part.dtype != like.dtype:
                    raise Wrong(f"{f.last}: its {name} should be a float tensor of shape {tuple(like.shape)}.")
                if not bool(part.isfinite().all()):
                    raise Wrong(f"{f.last}: its {name} hold NaN or infinite values.")
            weight, context = result
        return weight, context

    for count, dim, outputs in draw.sizes(9, 4, 3):
        ridge = draw.uniform(0.2, 1.0)
        inputs, targets = draw.normal(count, dim), draw.normal(count, outputs)
        weight, context = whole(inputs, targets, ridge)
        gram = ridge * torch.eye(dim) + inputs.mT @ inputs
        f.close(context, gram, "The context should be the ridge plus the outer products of all inputs.", atol=1e-3)
        at_once = torch.linalg.solve(gram, inputs.mT @ targets).mT
        sentence = f"After {count} samples the weights should be those of least squares on all {count} at once."
        f.close(weight, at_once, sentence, rtol=1e-2, atol=1e-3)
        back = whole(inputs.flip(0), targets.flip(0), ridge)[0]
        f.close(back, weight, "In the reverse order the same samples should end at the same weights.", atol=1e-2)


@exercise(
    "06.3",
    "code",
    hints=(
        "Build the context of all past inputs: ridge * I + past.T @ past.",
        "x . inverse(context) . x is small where past inputs lie along x. Scale so that it is 1 where there are none.",
        "With no past the context is ridge * I, and x . inverse(context) . x is |x|^2 / ridge.",
    ),
    solution="""
def novelty(past, x, ridge):
    context = ridge * torch.eye(len(x)) + past.T @ past
    return float(ridge * x @ torch.linalg.solve(context, x) / (x @ x))
""",
)
def novelty(f: Answer, draw: Draw) -> None:
    """novelty(past, x, ridge): 1 where nothing lies along x, near 0 where much does, ridge x^T A^-1 x / |x|^2."""
    for count, dim in draw.sizes(8, 5):
        ridge, past, x = draw.uniform(0.05, 0.5), draw.normal(count, dim), draw.normal(dim)
        f.close(f.number(torch.zeros(0, dim), x, ridge), 1.0, "Where nothing has been seen, everything is new.")
        context = ridge * torch.eye(dim) + past.mT @ past
        want = float(ridge * x @ torch.linalg.solve(context, x) / (x @ x))
        got = f.number(past, x, ridge)
        f.close(got, want, "This is another novelty.")
        f.close(f.number(past, 3 * x, ridge), got, "Three times as long an input is not newer.")
        f.expect(f.number(x.repeat(500, 1), x, ridge) < 0.05, "An input seen 500 times should have a novelty near 0.")
        more = torch.cat([past, draw.normal(2, dim)])
        f.expect(f.number(more, x, ridge) <= got + 1e-4, "Seeing more should never make an input newer.")
        if dim > 1:
            seen = past - torch.outer(past @ x, x) / (x @ x)
            f.close(f.number(seen, x, ridge), 1.0, "At right angles to all that was seen, an input is wholly new.")


def _last_error(inputs: Tensor, targets: Tensor, retention: float) -> float:
    """Error at the last sample, before it is learned, of a memory that forgets by `retention` at each step."""
    return abs(float(targets[-1] - stepped(inputs[:-1], targets[:-1], retention, 0.1) @ inputs[-1]))


@exercise(
    "06.4",
    "explain",
    hints=(
        "A memory that keeps everything answers with the mean of all answers it was given at an input. When is the mean"
        " a bad guess?",
        "Let the world change its mind half way: the same inputs, with other answers from then on.",
        "All inputs alike (ones), answers 0 in the first half and 1 in the second, for example.",
    ),
    solution="""
def changed_world(count, dim):
    inputs = torch.ones(count, dim)
    targets = torch.zeros(count)
    targets[count // 2:] = 1.0
    return inputs, targets
""",
)
def changed_world(f: Answer, draw: Draw) -> None:
    """changed_world(count, dim): a stream on which forgetting more than halves the last error of a memory."""
    for trial in range(5):
        count, dim = draw.whole(12, 40), 1 if trial == 0 else draw.whole(2, 5)
        result = f(count, dim)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} should return two things: inputs and targets.")
        for name, part, shape in zip(("inputs", "targets"), result, ((count, dim), (count,)), strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or part.dtype != torch.float32:
                raise Wrong(f"{f.last}: its {name} should be a float tensor of shape {shape}.")
            if not bool(part.isfinite().all()):
                raise Wrong(f"{f.last}: its {name} hold NaN or infinite values.")
        inputs, targets = result
        keeps, forgets = (_last_error(inputs, targets, retention) for retention in (1.0, 0.5))
        f.expect(
            keeps > 0.2 and forgets < keeps / 2,
            "At the last sample a memory that keeps everything should be off by more than 0.2, and one of retention"
            f" 0.5 by less than half of that; they are off by {keeps:.2f} and {forgets:.2f}.",
        )
