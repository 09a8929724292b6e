"""Muon: momentum read through an orthogonalising nonlinearity, and AdamW for what is not a hidden matrix."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from nllab.errors import SettingError
from nllab.optim.checks import (
    BELOW_ONE,
    COUNT,
    NONNEGATIVE,
    Stepwise,
    as_matrix,
    check_parameters,
    check_settings,
)
from nllab.optim.momentum import momentum_step
from nllab.optim.newton_schulz import newton_schulz


def hidden_and_other(model: nn.Module, *, head: str | None = None) -> list[dict[str, Any]]:
    """The parameter groups for `Muon` and `M3`: the hidden matrices and filters, and everything else, which AdamW
    takes.

    Everything else: vectors and numbers, embeddings, and the head, the last nn.Linear unless `head` names another
    module.
    A group without parameters is left out.
    Raises: SettingError if the model has no module called `head`.

    ```pycon
    >>> [len(group["params"]) for group in hidden_and_other(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))]
    [1, 3]

    ```
    """
    modules = dict(model.named_modules())
    if head is not None and head not in modules:
        raise SettingError(
            f"The model has no module {head!r} to be the head; it has {', '.join(filter(None, modules))}."
        )
    linears = [module for module in modules.values() if isinstance(module, nn.Linear)]
    last = [modules[head]] if head is not None else linears[-1:]
    others = [module for module in modules.values() if isinstance(module, nn.Embedding | nn.EmbeddingBag)] + last
    kept = {parameter for module in others for parameter in module.parameters()}
    named = list(model.named_parameters())
    hidden = [(name, parameter) for name, parameter in named if parameter.ndim >= 2 and parameter not in kept]
    rest = [(name, parameter) for name, parameter in named if parameter.ndim < 2 or parameter in kept]
    groups = [{"params": hidden, "hidden": True}, {"params": rest, "hidden": False}]
    return [group for group in groups if group["params"]]


def adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """One step of AdamW on one parameter, in place; its moments and steps are kept in `state`.

    Source: Loshchilov and Hutter 2019, arXiv 1711.05101, as torch.optim.AdamW with eps 1e-8. Differs: nothing.
    Shapes: parameter and gradient alike. Units: lr is weight change per step; weight_decay per step and unit of lr.
    """
    state["step"] = step = state.get("step", 0) + 1
    state["first"] = first = torch.lerp(state.get("first", torch.zeros_like(parameter)), gradient, 1 - betas[0])
    state["second"] = second = torch.lerp(
        state.get("second", torch.zeros_like(parameter)), gradient.square(), 1 - betas[1]
    )
    parameter.mul_(1 - lr * weight_decay)
    parameter.sub_(lr / (1 - betas[0] ** step) * first / ((second / (1 - betas[1] ** step)).sqrt() + 1e-8))


class Muon(Stepwise):
    """Momentum orthogonalised by Newton-Schulz, for the hidden matrices and filters of a network.

    Scope: tensors of two or more axes in groups with `hidden` true (the default); vectors and groups with `hidden`
        false (embeddings, heads) are stepped by AdamW. `Muon(hidden_and_other(model))` sorts a model's parameters so.
    Source: Eq. 42 and 52, arXiv 2512.24695: W <- W + lr s NS(m), m <- momentum m - G; nesterov reads
        momentum m - G once more.
    Differs from paper: Eq. 42 has its rate inside m, where Newton-Schulz removes it; here it is outside, with Muon's
        factor s = sqrt(max(1, rows / columns)). The result is torch.optim.Muon's, which rounds to bfloat16 inside.
    Units: lr is spectral norm per step (before s), whatever the gradient's scale; adamw_lr is weight change per step;
        weight_decay is the fraction removed per step, per unit of the rate in use.
    Raises: SettingError for settings out of range; DivergedError for a gradient that is not finite (nothing is
        changed).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        newton_schulz_steps: int = 5,
        weight_decay: float = 0.0,
        adamw_lr: float = 1e-3,
        adamw_betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "newton_schulz_steps": newton_schulz_steps}
        defaults |= {"weight_decay": weight_decay, "adamw_lr": adamw_lr, "adamw_betas": adamw_betas, "hidden": True}
        super().__init__(check_parameters(params), defaults)
        check_settings(self, lr=NONNEGATIVE, momentum=BELOW_ONE, newton_schulz_steps=COUNT)
        check_settings(self, weight_decay=NONNEGATIVE, adamw_lr=NONNEGATIVE, adamw_betas=(BELOW_ONE,) * 2)

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if parameter.ndim < 2 or not group["hidden"]:
            rates = {"lr": group["adamw_lr"], "betas": group["adamw_betas"], "weight_decay": group["weight_decay"]}
            adamw_step(parameter, gradient, state, **rates)
            return
        memory = state.get("memory", torch.zeros_like(parameter))
        state["memory"] = memory = momentum_step(memory, gradient, lr=1, momentum=group["momentum"])
        read = as_matrix(
            momentum_step(memory, gradient, lr=1, momentum=group["momentum"]) if group["nesterov"] else memory
        )
        change = newton_schulz(read, steps=group["newton_schulz_steps"]) * sqrt(max(1, read.shape[0] / read.shape[1]))
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(change.view_as(parameter), alpha=group["lr"])
