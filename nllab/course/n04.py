"""Exercises of notebook 04, nested loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Wrong, described, exercise
from nllab.levels import Level, Schedule
from nllab.optim.leveled import Leveled

EDITION = 1
Gradients = Callable[[list[Tensor], int], list[Tensor]]


def _entangled(levels: int, draw: Draw) -> tuple[Gradients, list[int]]:
    """Gradients of levels that all depend on each other's weights and on the step, and the steps they were asked at."""
    noise, asked = draw.normal(64, levels), []

    def gradients(weights: list[Tensor], step: int) -> list[Tensor]:
        asked.append(step)
        together = torch.stack([w.mean() for w in weights]).sum()
        return [torch.sin(w + together + noise[step % 64, i]) for i, w in enumerate(weights)]

    return gradients, asked


def _levels(weights: list[Tensor], periods: list[int], rate: float, gradients: Gradients, steps: int) -> list[Any]:
    weights, sums, history = list(weights), [torch.zeros_like(w) for w in weights], []
    for step in range(1, steps + 1):
        sums = [s + g for s, g in zip(sums, gradients(weights, step), strict=True)]
        for i, period in enumerate(periods):
            if step % period == 0:
                weights[i], sums[i] = weights[i] - rate * sums[i], torch.zeros_like(sums[i])
        history.append(list(weights))
    return history


@exercise(
    "04.1",
    "code",
    hints=(
        "Keep beside each level a sum of its gradients. At every step ask for the gradients of all levels once, at the"
        " weights as they are now, and add them.",
        "A level writes after step i where i % period == 0: weights minus rate times its sum. Then its sum is empty.",
        "Work on list(weights), make new tensors (w - rate * s, not w -= ...), and append list(weights) each time.",
    ),
    solution="""
def run_levels(weights, periods, rate, gradients, steps):
    weights, history = list(weights), []
    sums = [torch.zeros_like(w) for w in weights]
    for step in range(1, steps + 1):
        found = gradients(weights, step)
        for level, period in enumerate(periods):
            sums[level] = sums[level] + found[level]
            if step % period == 0:
                weights[level] = weights[level] - rate * sums[level]
                sums[level] = torch.zeros_like(sums[level])
        history.append(list(weights))
    return history
""",
)
def run_levels(f: Answer, draw: Draw) -> None:
    """run_levels(weights, periods, rate, gradients, steps): the weights of every level after each step (Eq. 70-71,
    arXiv 2512.24695). Tried against a loop, with gradients in which all levels depend on each other."""
    for count, size in draw.sizes(3, 4):
        weights = [draw.normal(size) for _ in range(count)]
        periods, rate = sorted(draw.whole(1, 5) for _ in range(count)), draw.uniform(0.1, 0.5)
        steps = draw.whole(3 * max(periods), 4 * max(periods))
        gradients, asked = _entangled(count, draw)
        got = f(list(weights), periods, rate, gradients, steps)
        if not isinstance(got, list | tuple) or len(got) != steps:
            raise Wrong(f"{f.last} should return a list of {steps} entries, one for each step.")
        for row in got:
            good = isinstance(row, list | tuple) and len(row) == count
            if not good or not all(
                isinstance(w, Tensor) and w.shape == v.shape for w, v in zip(row, weights, strict=True)
            ):
                raise Wrong(f"{f.last}: each entry should be a list of {count} tensors, the weights of each level.")
            f.expect(all(bool(w.isfinite().all()) for w in row), "Some weights are NaN or infinite.")
        f.expect(sorted(set(asked)) == list(range(1, steps + 1)), "Gradients are wanted at every step, from 1 on.")
        for level, period in enumerate(periods):
            line = [weights[level], *(row[level] for row in got)]
            for step in range(1, steps + 1):
                same = torch.equal(line[step], line[step - 1])
                if step % period:
                    f.expect(
                        same, f"A level of period {period} moved after step {step}; between writes it stands still."
                    )
                else:
                    f.expect(not same, f"A level of period {period} should write after step {step}.")
        want = _levels(weights, periods, rate, gradients, steps)
        for step in range(steps):
            for level, period in enumerate(periods):
                sentence = f"After step {step + 1} the level of period {period} is another one."
                f.close(got[step][level], want[step][level], sentence)


def _counted(period: int, at: int, new_period: int, steps: int) -> list[tuple[int, int]]:
    """The writes of one weight under nllab's own schedule, whose gradient is 1 at every step."""
    weight = torch.nn.Parameter(torch.zeros(()))
    leveled = Leveled(
        {"slow": [weight]}, Schedule.of([Level("slow", "*", period)]), lambda p: torch.optim.SGD(p, lr=1.0)
    )
    found, before = [], 0.0
    for step in range(1, steps + 1):
        if step == at:
            leveled.schedule = leveled.schedule.with_period("slow", new_period)
        weight.grad = torch.ones(())
        leveled.step()
        now = float(weight.detach())
        if now != before:
            found.append((step, round(before - now)))
            before = now
    return found


@exercise(
    "04.2",
    "code",
    hints=(
        "Go through the steps one by one with a counter of the gradients that wait; at step `at` change the period.",
        "The clock is not set back: after step i the level writes if i is a multiple of the period that holds now.",
        "A write takes all gradients that have waited since the write before, however many; then the counter is 0.",
    ),
    solution="""
def writes_after_change(period, at, new_period, steps):
    found, waiting = [], 0
    for step in range(1, steps + 1):
        if step == at:
            period = new_period
        waiting += 1
        if step % period == 0:
            found.append((step, waiting))
            waiting = 0
    return found
""",
)
def writes_after_change(f: Answer, draw: Draw) -> None:
    """writes_after_change(period, at, new_period, steps): (step, gradients in it) of each write, counted under nllab's
    own schedule."""
    for trial in range(12):
        period, new_period = draw.whole(1, 4 + trial), draw.whole(1, 4 + trial)
        at, steps = draw.whole(1, 12), draw.whole(15, 40)
        result = f(period, at, new_period, steps)
        try:
            got = [(int(step), int(count)) for step, count in result]
        except (TypeError, ValueError):
            raise Wrong(f"{f.last} should return a list of pairs (step, gradients), not {described(result)}.") from None
        want = _counted(period, at, new_period, steps)
        steps_got, steps_want = [step for step, _ in got], [step for step, _ in want]
        f.expect(steps_got == steps_want, f"It should write after the steps {steps_want}; yours are {steps_got}.")
        f.expect(got == want, f"The writes hold {[n for _, n in want]} gradients, and not {[n for _, n in got]}.")


def slow_write(inputs: Tensor, targets: Tensor, fast: Tensor, slow: Tensor, rate: float, writes: bool) -> Tensor:
    """What a slow layer over a fast one sums up over all samples, y = slow (fast x) and squared error; the fast layer
    writes after each sample, or never."""
    total = torch.zeros_like(slow)
    for x, target in zip(inputs, targets, strict=True):
        error = slow @ (fast @ x) - target
        total = total + torch.outer(error, fast @ x)
        if writes:
            fast = fast - rate * torch.outer(slow.mT @ error, x)
    return total


@exercise(
    "04.3",
    "explain",
    hints=(
        "The fast layer's write at x changes what it says at another input y by something times x . y.",
        "So what must hold for every two of the four inputs?",
        "torch.eye(dim)[:4] are four inputs of length 1, each at right angles to all others.",
    ),
    solution="""
def deaf_inputs(dim):
    return torch.eye(dim)[:4]
""",
)
def deaf_inputs(f: Answer, draw: Draw) -> None:
    """deaf_inputs(dim): inputs (4, dim) at which a fast layer's writes leave the slow one's sum as it was."""
    for trial in range(6):
        dim = 4 if trial == 0 else draw.whole(4, 9)
        inputs = f.tensor(dim, shape=(4, dim))
        lengths = inputs.norm(dim=1)
        f.expect(bool(((lengths > 0.5) & (lengths < 2)).all()), "Each input should have a length between 0.5 and 2.")
        fast, slow, targets = draw.normal(3, dim), draw.normal(2, 3), draw.normal(4, 2)
        heard, alone = (slow_write(inputs, targets, fast, slow, 0.3, writes) for writes in (True, False))
        off = float((heard - alone).norm() / alone.norm())
        f.expect(
            off < 1e-3,
            f"With the fast layer writing after each sample, the sum of the slow one is {off:.0%} off what one batch of"
            " all four gives.",
        )
