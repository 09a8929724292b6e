"""Exercises of notebook 11, the paper's tables on a laptop."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Wrong, described, exercise
from nllab.optim.m3 import m3_step
from nllab.optim.newton_schulz import newton_schulz

EDITION = 1
MARGIN = 1e-3  # of what is read from 0
PULL = 0.1  # of an orthogonalized memory along a gradient of length 1


def _said(keys: Tensor, rates: Tensor, state: Tensor, readout: Tensor, strings: Tensor) -> Tensor:
    """What is read after every prefix of strings (N, T) written token by token, s <- s - rate (k . s) k: (N, T + 1)."""
    now, said = state.expand(len(strings), -1), [(state @ readout).expand(len(strings))]
    for symbols in strings.T:
        key = keys[symbols]
        now = now - (rates[symbols] * (key * now).sum(1))[:, None] * key
        said.append(now @ readout)
    return torch.stack(said, 1)


@exercise(
    "11.1",
    "code",
    hints=(
        "A 0 should change nothing: which rate does that? A 1 should turn the sign of what is read.",
        "With |k| = 1 and the state along k, a write of rate r leaves (1 - r) times the state. Which r turns its sign?",
        "Rate 0 for the symbol 0 and rate 2 for the symbol 1, with state, key and readout all along one axis.",
    ),
    solution="""
def parity_memory(dim):
    axis = torch.zeros(dim)
    axis[0] = 1.0
    return axis, torch.stack([axis, axis]), torch.tensor([0.0, 2.0]), axis
""",
)
def parity_memory(f: Answer, draw: Draw) -> None:
    """parity_memory(dim): state, keys, rates and readout of a delta rule that knows the parity of any string, tried on
    all strings up to length 10 and random longer ones."""
    for dim in (1, 2, draw.whole(3, 8)):
        result = f(dim)
        if not isinstance(result, tuple | list) or len(result) != 4:
            raise Wrong(f"{f.last} should return four tensors: state, keys, rates and readout.")
        shapes = ((dim,), (2, dim), (2,), (dim,))
        for name, part, shape in zip(("state", "keys", "rates", "readout"), result, shapes, strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or not part.is_floating_point():
                raise Wrong(f"{f.last}: its {name} should be a float tensor of shape {shape}, not {described(part)}.")
            if not bool(part.isfinite().all()):
                raise Wrong(f"{f.last}: its {name} hold NaN or infinite values.")
        state, keys, rates, readout = (part.detach().double() for part in result)
        f.expect(((rates >= 0) & (rates <= 2)).all(), f"Rates lie from 0 to 2; these are {described(rates)}.")
        f.expect((keys.norm(dim=1) < 1 + 1e-4).all(), "Keys are no longer than 1.")
        short = torch.tensor(list(product((0, 1), repeat=10)))  # and, as their prefixes, all that are shorter
        long = torch.tensor(draw.numpy.integers(0, 2, (200, 40)))
        for strings in (short, torch.cat([long, torch.ones(1, 40, dtype=torch.int64)])):
            said = _said(keys, rates, state, readout, strings)
            odd = torch.nn.functional.pad(strings.cumsum(1), (1, 0)) % 2 == 1
            bad = torch.where(odd, said > -MARGIN, said < MARGIN).nonzero()
            if len(bad):
                row, length = bad[bad[:, 1].argmin()].tolist()
                string, value = strings[row, :length].tolist(), float(said[row, length])
                wanted = f"-{MARGIN:g} or below" if sum(string) % 2 else f"{MARGIN:g} or above"
                raise Wrong(
                    f"With dim {dim}, after {''.join(map(str, string)) or 'the empty string'} ({sum(string)} ones) the"
                    f" readout should be {wanted}; it is {value:.3g}."
                )


def _memories(gradients: Tensor, beta: float, slow_beta: float, period: int, literal: bool) -> tuple[Tensor, Tensor]:
    """M1 and M2 of the lab's own M3 after all gradients."""
    group = {
        "betas": (beta, 0.9, slow_beta), "literal": literal, "period": period, "newton_schulz_steps": 1,
        "slow_weight": 0.0, "second_moment": False, "eps": 1.0,
    }  # fmt: skip
    state: dict[str, Any] = {}
    for gradient in gradients:
        m3_step(state, gradient, group)
    return state["fast"], state["slow"]


@exercise(
    "11.2",
    "code",
    hints=(
        "The fast memory takes every gradient in. The slow one takes in what the last whole period has collected.",
        "Keep a running sum of gradients; when the step (counted from 1) is a multiple of the period, write it and"
        " start the sum anew. What is left over at the end is not written.",
        "literal: M + beta * g, and the sum for the slow one. Otherwise: beta * M + (1 - beta) * g, and the mean.",
    ),
    solution="""
def m3_memories(gradients, beta, slow_beta, period, literal):
    def write(memory, factor, value):
        return memory + factor * value if literal else factor * memory + (1 - factor) * value

    fast = slow = collected = torch.zeros_like(gradients[0])
    for step, gradient in enumerate(gradients, start=1):
        fast = write(fast, beta, gradient)
        collected = collected + gradient
        if step % period == 0:
            slow = write(slow, slow_beta, collected if literal else collected / period)
            collected = torch.zeros_like(gradient)
    return fast, slow
""",
)
def m3_memories(f: Answer, draw: Draw) -> None:
    """m3_memories(gradients, beta, slow_beta, period, literal): M1 and M2 of Algorithm 1 (arXiv 2512.24695), tried
    against `m3_step`."""
    for trial in range(10):
        literal, period = trial % 2 == 0, draw.whole(1, 4)
        steps = draw.whole(1, 3 if trial < 4 else 11)
        rows, columns = draw.whole(1, 3), draw.whole(1, 3)
        gradients, beta, slow_beta = draw.normal(steps, rows, columns), draw.uniform(0.3, 0.95), draw.uniform(0.3, 0.95)

        settings = (beta, slow_beta, period, literal)

        def both(given: Tensor, settings: tuple[Any, ...] = settings) -> tuple[Tensor, Tensor]:
            result = f(given, *settings)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise Wrong(f"{f.last} should return two tensors, the fast and the slow memory.")
            for name, part in zip(("fast", "slow"), result, strict=True):
                if not isinstance(part, Tensor) or part.shape != given[0].shape or part.dtype != given.dtype:
                    raise Wrong(f"{f.last}: its {name} memory should be a {given.dtype} of {tuple(given[0].shape)}.")
            return result[0], result[1]

        fast, slow = both(gradients)
        want = _memories(gradients, *settings)
        reading = "as printed" if literal else "in the reading with means"
        f.close(fast, want[0], f"The fast memory, {reading}, is another one.")
        f.close(slow, want[1], f"The slow memory, {reading}, with period {period} after {steps} steps is another one.")
        whole = steps - steps % period
        if whole:
            f.close(both(gradients[:whole])[1], slow, "What came after the last whole period should not be in it yet.")
        for memory, scaled in zip((fast, slow), both(10 * gradients), strict=True):
            f.close(scaled, 10 * memory, "Ten times the gradients should give ten times the memories.", atol=1e-3)


@exercise(
    "11.3",
    "explain",
    hints=(
        "The slow memory knows only what the last whole periods brought. Let the world turn after that.",
        "A period of gradients G, then fewer than a period of -G. The fast memory must have turned by the end.",
        "With the means, M1 after n gradients G and m of -G is (beta**m (1 - beta**n) - (1 - beta**m)) G. The first"
        " period may bring small gradients: directions alone count for the slow memory.",
    ),
    solution="""
def turned_world(period):
    g = torch.eye(2)
    first = [0.01 * g] * period
    return torch.stack(first + [-g] * (period - 1))
""",
)
def turned_world(f: Answer, draw: Draw) -> None:
    """turned_world(period): gradients at whose end the fast memory of M3 points with the last, the slow one against."""
    for _ in range(5):
        period, beta = draw.whole(3, 12), draw.uniform(0.5, 0.9)
        found = f(period)
        if not isinstance(found, Tensor) or found.ndim != 3 or not found.is_floating_point():
            raise Wrong(f"{f.last} should return float gradients (steps, rows, columns), not {described(found)}.")
        steps, rows, columns = found.shape
        f.expect(min(rows, columns) >= 1 and period <= steps <= 100, f"From {period} to 100 gradients are wanted.")
        lengths = found.flatten(1).norm(dim=1)
        f.expect(found.isfinite().all() and (lengths > 1e-6).all(), "No gradient may be zero or NaN.")
        fast, slow = _memories(found.detach().float(), beta, 0.9, period, False)
        now = found[-1]
        pulls = [float((newton_schulz(memory) * now).sum() / now.norm()) for memory in (fast, slow)]
        f.expect(
            not math.isnan(sum(pulls)) and pulls[0] > PULL and pulls[1] < -PULL,
            f"Along the last gradient the fast memory should pull by more than {PULL:g} and the slow one by less than"
            f" -{PULL:g}; with period {period} and beta {beta:.2f} they pull by {pulls[0]:.2f} and {pulls[1]:.2f}.",
        )
