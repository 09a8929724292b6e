"""Deep momentum: the memory of past gradients is a small network, trained on the fly to foretell the gradient from its
direction."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nllab.optim.checks import (
    COUNT,
    FRACTION,
    NONNEGATIVE,
    Stepwise,
    as_matrix,
    check_parameters,
    check_settings,
    floor,
)


class DeepMemory(NamedTuple):
    """One network per row of a weight, its first layer shared: m(u) = bias + values^T tanh(keys u)^2 / sqrt(H), H
    hidden units.

    The hidden units are even: a gradient that has turned round finds what it wrote on its way, and the two cancel, as
    they must across a ravine. With odd units the memory answers each direction with itself, which is gradient descent
    without momentum.

    keys (H, columns), values (rows, H, columns), bias (rows, columns).
    """

    keys: Tensor
    values: Tensor
    bias: Tensor


def unit_rows(gradient: Tensor) -> Tensor:
    """u: the direction of each row's gradient, (rows, columns); zero where the gradient is zero."""
    return torch.nn.functional.normalize(gradient, dim=1, eps=floor(gradient.dtype))


def hidden_units(memory: DeepMemory, gradient: Tensor) -> Tensor:
    """tanh(keys u)^2 / sqrt(H), (rows, H), for the directions u of a gradient (rows, columns)."""
    return torch.tanh(unit_rows(gradient) @ memory.keys.mT).square() / max(1, len(memory.keys)) ** 0.5  # (rows, H)


def read(memory: DeepMemory, gradient: Tensor) -> Tensor:
    """m(u), (rows, columns): the step the memory proposes for this gradient's direction."""
    return memory.bias + torch.einsum("rh,rhc->rc", hidden_units(memory, gradient), memory.values)


def inner_loss(memory: DeepMemory, gradient: Tensor) -> Tensor:
    """1/2||m(u) + G||^2: the memory is to answer the direction of a gradient (rows, columns) with the step down it."""
    return (read(memory, gradient) + gradient).square().sum() / 2


def deep_momentum_step(memory: DeepMemory, gradient: Tensor, *, inner_lr: float, retention: float) -> DeepMemory:
    """One descent step of the whole network on `inner_loss`: m <- alpha m - eta dL/dm.

    Source: Eq. 50, arXiv 2512.24695 (alpha=retention, eta=inner_lr). Differs from paper: the objective and the network
        are ours (see `DeepMomentum`), and so is the scale of the step on the keys.
    Shapes: gradient (rows, columns); the memory as in `DeepMemory`.

    The slope on the keys is divided by ||values||^2 + ||bias||^2 + ||G||^2: it is quadratic in the gradient's scale,
    and so its norm stays below 1.1 at any scale. The keys do not decay, or the memory would lose what it is asked by.
    """
    units, root = torch.tanh(unit_rows(gradient) @ memory.keys.mT), max(1, len(memory.keys)) ** 0.5
    hidden, error = units.square() / root, read(memory, gradient) + gradient
    slope = torch.einsum("rc,rhc->rh", error, memory.values) * 2 * units * (1 - units.square()) / root
    scale = memory.values.square().sum() + memory.bias.square().sum() + gradient.square().sum()
    scale = scale.clamp(min=floor(gradient.dtype) ** 2)
    return DeepMemory(
        memory.keys - inner_lr * (slope.mT @ unit_rows(gradient)) / scale,
        retention * memory.values - inner_lr * torch.einsum("rh,rc->rhc", hidden, error),
        retention * memory.bias - inner_lr * error,
    )


class DeepMomentum(Stepwise):
    """Deep momentum gradient descent (DMGD): W <- W + lr m(G), where m is an MLP trained at every step on its inner
    objective.

    Momentum is the best constant forecast of the gradient; this memory forecasts it from its direction.
    Source: Eq. 50, arXiv 2512.24695. Limit: with hidden = 0 only the bias is left, m <- (retention - inner_lr) m -
        inner_lr G: plain momentum, `Momentum(lr=lr * inner_lr, momentum=retention - inner_lr)`.
    Differs from paper: its example objective <m(u), 1> would move every weight along the constant vector 1; the value
        here is -G.
    The MLP is ours (the paper gives none): one per row of a matrix, the first layer shared, asked by the gradient's
    direction.
    Measured (tests/test_optim_table.py): on smooth toys it is slower than momentum, at each one's best rate
    (ill-conditioned bowl 2e-6 against 1e-17, Rosenbrock 3e-5 against 2e-6, valley 3e-3 against 3e-5); on digits they
    are equal (0.970, 0.963).
    Units: lr is weight change per unit of gradient (a constant gradient moves the weights by lr per step in the end);
        inner_lr in [0, 1] is the fraction of its error that the bias corrects per step; retention in [0, 1].
    Cost: (1 + hidden) numbers per weight and hidden per column. Randomness: the first keys, from `seed` and the
        parameter's place.
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-2,
        inner_lr: float = 0.1,
        retention: float = 1.0,
        hidden: int = 4,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "inner_lr": inner_lr, "retention": retention, "hidden": hidden, "seed": seed}
        super().__init__(check_parameters(params), defaults)
        check_settings(self, lr=NONNEGATIVE, inner_lr=FRACTION, retention=FRACTION, hidden=COUNT, seed=COUNT)

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        matrix = as_matrix(gradient)
        if not state:
            every = [id(p) for each in self.param_groups for p in each["params"]]
            generator = torch.Generator().manual_seed(group["seed"] + every.index(id(parameter)))
            keys = torch.randn(group["hidden"], matrix.shape[1], generator=generator).to(matrix)
            state.update(
                keys=keys,
                values=matrix.new_zeros(len(matrix), len(keys), matrix.shape[1]),
                bias=torch.zeros_like(matrix),
            )
        memory = DeepMemory(state["keys"], state["values"], state["bias"])
        memory = deep_momentum_step(memory, matrix, inner_lr=group["inner_lr"], retention=group["retention"])
        state.update(memory._asdict())
        parameter.add_(read(memory, matrix).view_as(parameter), alpha=group["lr"])
