"""Exercises of notebook 03, optimizers are memories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Number, exercise
from nllab.optim.momentum import delta_momentum_step
from nllab.optim.newton_schulz import newton_schulz

EDITION = 1


@exercise(
    "03.1",
    "predict",
    prediction=Number(0, 1000),
    hints=(
        "After n steps a gradient still counts beta ** n. For which n is that 0.5?",
        "Take logarithms on both sides of beta ** n = 0.5.",
    ),
    solution="""
import math


def half_life(beta):
    return math.log(0.5) / math.log(beta)
""",
)
def half_life(f: Answer, draw: Draw) -> float:
    """half_life(beta): steps until a gradient counts half in momentum; the prediction is that of beta = 0.99."""
    for _ in range(12):
        beta = draw.uniform(0.05, 0.999)
        steps = f.number(beta)
        f.close(beta**steps, 0.5, "After so many steps a gradient should count half.", rtol=1e-3, atol=1e-6)
    f.close(f.number(0.5), 1.0, "At beta = 1/2 a gradient counts half after one step.")
    return math.log(0.5) / math.log(0.99)


def _momentum(memory: Tensor, gradient: Tensor, rate: float, beta: float) -> Tensor:
    return beta * memory - rate * gradient


@exercise(
    "03.2",
    "code",
    hints=(
        "Momentum is beta * memory - rate * gradient. Only the first term changes: the memory first forgets what it"
        " holds along the gradient.",
        "memory @ gradient.T @ gradient is what the memory holds along the rows of the gradient; for a gradient of one"
        " row, that part times the row's squared length.",
        "Take erase * (memory @ gradient.T) @ gradient away from what momentum would give.",
    ),
    solution="""
def delta_momentum(memory, gradient, rate, beta, erase):
    along = (memory @ gradient.T) @ gradient
    return beta * memory - erase * along - rate * gradient
""",
)
def delta_momentum(f: Answer, draw: Draw) -> None:
    """delta_momentum(memory, gradient, rate, beta, erase): one step of Eq. 48-49 (arXiv 2512.24695), tried against
    `delta_momentum_step`, as momentum at erase 0, and for a memory that one gradient erases."""

    def want(memory: Tensor, gradient: Tensor, rate: float, beta: float, erase: float) -> Tensor:
        return delta_momentum_step(memory, gradient, gradient, lr=rate, momentum=beta, erase=erase)

    for rows, columns in draw.sizes(4, 5):
        memory, gradient = draw.normal(rows, columns), draw.normal(rows, columns)
        rate, beta, erase = draw.uniform(0.1, 0.9), draw.uniform(0.3, 0.95), draw.uniform(0.1, 0.9)
        given = (memory, gradient, rate, beta, erase)
        got = f.tensor(memory, gradient, rate, beta, 0.0, shape=(rows, columns), like=memory)
        f.close(got, _momentum(memory, gradient, rate, beta), "With erase 0 it should be momentum.")
        got = f.tensor(*given, shape=(rows, columns), like=memory)
        f.close(got, want(*given), "With erase 0 it is momentum, as it should be; what is erased is something else.")
        unit = draw.unit(1, columns)
        held = draw.normal(rows, 1) @ unit
        lifted = torch.cat([unit, torch.zeros(rows - 1, columns)])
        got = f.tensor(held, lifted, 0.0, 1.0, 1.0, shape=(rows, columns), like=held)
        f.close(
            got,
            torch.zeros(rows, columns),
            "A memory that lies along a gradient of length 1 should be gone after erase 1 (rate 0, beta 1).",
        )


@exercise(
    "03.3",
    "code",
    hints=(
        "Start from the matrix divided by its Frobenius norm, so that no singular value is above 1.",
        "One iteration maps every singular value s to 1.5 s - 0.5 s ** 3. As a matrix: 1.5 X - 0.5 X X^T X.",
        "Repeat that `steps` times. No SVD is needed, and the sign of the matrix must survive.",
    ),
    solution="""
def orthogonalize(matrix, steps):
    x = matrix / matrix.norm()
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x
""",
)
def orthogonalize(f: Answer, draw: Draw) -> None:
    """orthogonalize(matrix, steps): cubic Newton-Schulz from matrix / norm, tried against `newton_schulz`, at another
    scale and for singular values near 1 after 30 iterations."""
    for rows, columns in draw.sizes(5, 5):
        matrix = draw.normal(rows, columns) + 0.1 * torch.eye(rows, columns)
        got = f.tensor(matrix, 1, shape=(rows, columns), like=matrix)
        x = matrix / matrix.norm()
        f.close(got, 1.5 * x - 0.5 * x @ x.T @ x, "One iteration from the matrix divided by its norm is another one.")
        steps = draw.whole(2, 6)
        got = f.tensor(matrix, steps, shape=(rows, columns), like=matrix)
        want = newton_schulz(matrix, steps=steps, coefficients=(1.5, -0.5, 0.0))
        f.close(got, want, f"After {steps} iterations it should be another matrix.", atol=1e-3)
        scaled = f.tensor(100 * matrix, steps, shape=(rows, columns), like=matrix)
        f.close(scaled, got, "A matrix a hundred times as large should give the same result.", atol=1e-3)
        u, _, v = torch.linalg.svd(draw.normal(rows, columns), full_matrices=False)
        well = (u * torch.linspace(0.5, 1, min(rows, columns))) @ v
        values = torch.linalg.svdvals(f.tensor(well, 30, shape=(rows, columns), like=well))
        f.expect(
            ((values > 0.99) & (values < 1.01)).all(),
            f"After 30 iterations every singular value should lie near 1; they run from {float(values.min()):.2f} to"
            f" {float(values.max()):.2f}.",
        )


@exercise(
    "03.4",
    "explain",
    hints=(
        "Delta momentum takes away what the memory holds along the new gradient. When does it hold nothing there?",
        "The memory is a sum of earlier gradients. Choose the new one at right angles to all of them, row by row.",
        "With one row each, the gradients are vectors: take different axes, at any length you like.",
    ),
    solution="""
def gradients_without_conflict(count, dim):
    scale = torch.rand(count, 1) + 0.5
    return (scale * torch.eye(dim)[:count]).unsqueeze(1)
""",
)
def gradients_without_conflict(f: Answer, draw: Draw) -> None:
    """gradients_without_conflict(count, dim): gradients (count, 1, dim) on which momentum and delta momentum agree."""
    for trial in range(6):
        dim = trial + 2 if trial < 2 else draw.whole(3, 10)
        count = draw.whole(2, dim)
        found = f.tensor(count, dim, shape=(count, 1, dim), like=torch.empty(0))
        f.expect((found.flatten(1).norm(dim=1) > 0.1).all(), "Every gradient should have a length above 0.1.")
        rate, beta, erase = draw.uniform(0.1, 0.9), draw.uniform(0.5, 0.95), draw.uniform(0.2, 0.9)
        plain = delta = torch.zeros(1, dim)
        for gradient in found:
            plain = _momentum(plain, gradient, rate, beta)
            delta = delta_momentum_step(delta, gradient, gradient, lr=rate, momentum=beta, erase=erase)
        gap = float((plain - delta).abs().max())
        f.expect(gap < 1e-4, f"Momentum and delta momentum (erase {erase:.2f}) end {gap:.2g} apart on these gradients.")
