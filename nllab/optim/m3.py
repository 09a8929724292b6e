"""M3, multi-scale momentum Muon: a fast and a slow memory of gradients, both orthogonalised, over a second moment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nllab.optim.checks import (
    BELOW_ONE,
    COUNT,
    NONNEGATIVE,
    PERIOD,
    POSITIVE,
    Stepwise,
    as_matrix,
    check_parameters,
    check_settings,
)
from nllab.optim.muon import adamw_step
from nllab.optim.newton_schulz import newton_schulz


class M3(Stepwise):
    """A continuum memory of two levels in the place of Adam's momentum: one is written every step, one every `period`
    steps.

    Source: Algorithm 1 of Behrouz et al. 2025, arXiv 2512.24695 (beta1, beta2, beta3 = betas, alpha = slow_weight,
        f = period, T = newton_schulz_steps), where after every `period` steps the sum of their gradients goes into the
        slow memory M2, which is read from the next step on:

        M1 <- M1 + beta1 g,  V <- V + beta2 g^2,  W <- W - lr (NS(M1) + alpha NS(M2)) / (sqrt(V) + eps)

    literal=True is that, line by line. It forgets nothing (V is AdaGrad's, its step shrinks as 1/sqrt(t)) and its step
    is inverse to the scale of the gradient: lr is weight change times gradient, and must be tuned to the loss. M1, a
    plain sum, is an integrator: on a smooth bowl it circles the minimum and comes closer only as fast as lr falls.
    literal=False reads the betas as the momentum factors the text calls them: M1 <- beta1 M1 + (1 - beta1) g, likewise
    V and M2 (with the mean over the period), V corrected for its start from zero and built from NS(M1) instead of g:
    then the step does not depend on the gradient's scale, and lr is weight change (root mean square) per step.
    second_moment=False leaves V out; with slow_weight 0 what remains is Muon without Nesterov and without its shape
    factor.
    Scope: as `Muon`: vectors and groups with `hidden` false are stepped by AdamW at adamw_lr with the first two betas.
    Differs from paper: the printed bounds sum period + 1 gradients, here exactly period; Eq. 75 (subtracting, with
        beta2) is not followed. The paper gives no values: all defaults are ours. eps is large on purpose: where an
        entry's gradient is nearly zero NS(M1) is not, and the literal quotient explodes (an MLP on digits at lr 1e-3:
        loss 7e7 with eps 1e-8, 1.0 with 1e-2).
    Cost: five tensors per matrix, one Newton-Schulz per step and one more per period.
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.99, 0.9),
        slow_weight: float = 0.5,
        period: int = 10,
        newton_schulz_steps: int = 5,
        eps: float = 1e-2,
        literal: bool = False,
        second_moment: bool = True,
        adamw_lr: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "slow_weight": slow_weight,
            "period": period,
            "newton_schulz_steps": newton_schulz_steps,
        }
        defaults |= {
            "eps": eps,
            "literal": literal,
            "second_moment": second_moment,
            "adamw_lr": adamw_lr,
            "hidden": True,
        }
        super().__init__(check_parameters(params), defaults)
        check_settings(self, lr=NONNEGATIVE, betas=(BELOW_ONE,) * 3, slow_weight=NONNEGATIVE, period=PERIOD)
        check_settings(self, newton_schulz_steps=COUNT, eps=POSITIVE, adamw_lr=NONNEGATIVE)

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if parameter.ndim < 2 or not group["hidden"]:
            adamw_step(
                parameter, gradient, state, lr=group["adamw_lr"], betas=tuple(group["betas"][:2]), weight_decay=0
            )
        else:
            parameter.sub_(m3_step(state, gradient, group), alpha=group["lr"])


def m3_step(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """The direction of descent of one step of Algorithm 1 (arXiv 2512.24695) for one matrix; W <- W - lr * it.

    state: M1, M2, V, the running sum, NS(M2) and the steps so far, written in place. · group: the settings of `M3`.
    Shapes: gradient and the result alike; filters are matrices with one row per output. Differs from paper: see `M3`.
    """
    fast_beta, second_beta, slow_beta = group["betas"]
    literal, period = group["literal"], group["period"]

    def orthogonal(memory: Tensor) -> Tensor:
        return newton_schulz(as_matrix(memory), steps=group["newton_schulz_steps"]).view_as(memory)

    def write(memory: Tensor, beta: float, value: Tensor) -> Tensor:
        return memory + beta * value if literal else beta * memory + (1 - beta) * value

    for name in ("fast", "slow", "second", "sum", "slow_read"):
        state.setdefault(name, torch.zeros_like(gradient))
    state["step"] = step = state.get("step", 0) + 1
    state["fast"] = write(state["fast"], fast_beta, gradient)
    fast_read = orthogonal(state["fast"])
    read = fast_read + group["slow_weight"] * state["slow_read"]
    if group["second_moment"]:
        state["second"] = write(state["second"], second_beta, (gradient if literal else fast_read).square())
        corrected = state["second"] if literal else state["second"] / (1 - second_beta**step)
        read = read / (corrected.sqrt() + group["eps"])
    state["sum"] = state["sum"] + gradient
    if step % period == 0:
        state["slow"] = write(state["slow"], slow_beta, state["sum"] if literal else state["sum"] / period)
        state["slow_read"], state["sum"] = orthogonal(state["slow"]), torch.zeros_like(gradient)
    return read
