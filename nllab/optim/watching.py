"""Everything about the deep optimizer but its step: what torch.optim and its users expect of any optimizer.

Settings and parameter groups, copies, states saved and loaded, layers that come and go; what hooks have seen is
gathered here until the step (deep.py) takes it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn

from nllab.errors import SettingError
from nllab.levels import Level
from nllab.optim.context import bytes_of
from nllab.optim.groups import Group, Holdings, check, settings_of
from nllab.optim.leveled import members_of
from nllab.optim.notices import Notices
from nllab.optim.output import Loss, check_loss
from nllab.optim.policy import FIXED, Policy, Settings
from nllab.optim.report import Report
from nllab.optim.saving import restore, saved
from nllab.optim.watch import Watcher


class WatchingOptimizer(torch.optim.Optimizer):
    """An optimizer that watches a model's layers; arguments and errors are those of `DeepOptimizer`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        levels: Sequence[Level] | None = None,
        rate: float = 1.0,
        lr: float | None = None,
        retention: float = 1.0,
        ridge: float = 0.1,
        error_weight: float = 0.0,
        manager: bool = True,
        realign_every: int = 16,
        loss: str = "auto",
        loss_reduction: str | None = None,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        warn: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(
                f"DeepOptimizer was given {type(model).__name__}; it needs the model itself, whose layers it watches:"
                " DeepOptimizer(model)."
            )
        own = {"rate": rate if lr is None else lr, "retention": retention, "ridge": ridge, "momentum": momentum}
        own |= {"error_weight": error_weight, "realign_every": realign_every, "learning_rate": learning_rate}
        check(own)
        check_loss(loss, loss_reduction)
        others = {"levels": levels, "manager": manager, "loss": loss, "loss_reduction": loss_reduction, "warn": warn}
        self._made_with = {**own, **others}
        self._levels = tuple(levels) if levels is not None else (Level("all", "*"),)
        self.acting, self.error_weight, self.realign_every = True, error_weight, realign_every
        self.learning_rate, self.report = learning_rate, Report()
        self._model, self._holdings = model, Holdings(model)
        if not self._holdings.matrices:
            raise SettingError(
                "The model has no nn.Linear, nn.Conv1d, nn.Conv2d or nn.Embedding layer with trainable weights, so"
                " there is nothing for a context memory to hold."
            )
        self.policy = Policy() if manager else None
        me, reduction = weakref.ref(self), loss_reduction or "mean"
        self._watcher = Watcher(model, self._holdings.matrices, lambda: _error_weight(me()), loss, reduction)
        self._watcher.scales = self._holdings.scales
        self._steps, self._notices, self._fresh, self._moved = 0, Notices(warn), False, 0.0
        self._hidden, self._watched = 0.0, 0  # rate of hidden layers; steps watched, less those written
        self._found: set[Tensor] = set()  # parameters that came into the model after this was made
        members = members_of(model, self._levels)
        groups = [
            {"params": members[level.name], "level": level.name, "period": level.period, **settings_of(level)}
            for level in self._levels
        ]
        super().__init__(groups, {name: own[name] for name in ("rate", "retention", "ridge", "momentum")})
        for group in self.param_groups:
            for p in self._holdings.matrices.keys() & set(group["params"]):
                self.state[p]["context"] = self._holdings.matrices[p].new_context(group["ridge"])
        if names := self._holdings.unheld():
            self._notices.say(f"{', '.join(names)}: no context fits, so a diagonal of squared gradients holds them.")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Parameters with settings of their own: rate (or lr), retention, ridge, momentum, period.

        What the optimizer has found in the model by itself since it was made moves into the new group.
        Raises SettingError for settings out of range.
        """
        group = Group(level=f"group {len(self.param_groups)}", period=1, steps=0)
        group.update(self.defaults)
        group.update(param_group)
        check(group)
        given = group["params"]
        mine = [given] if isinstance(given, Tensor) else list(given)
        moved = self._found.intersection(mine)
        for other in self.param_groups:
            other["params"] = [p for p in other["params"] if p not in moved]
        group["params"], group["began"] = mine, group["rate"]
        super().add_param_group(group)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy that watches the copy of the model."""
        copy = memo[id(self)] = type(self)(deepcopy(self._model, memo), **self._made_with)
        copy.load_state_dict(self.state_dict())
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self._model, "made_with": self._made_with, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"], **state["made_with"])
        self.load_state_dict(state["state"])

    @property
    def loss(self) -> Loss | None:
        """As given or recognised; None before."""
        return self._watcher.loss

    @property
    def settings(self) -> Settings:
        """What the policy has put in force."""
        return self.policy.settings if self.policy is not None else FIXED

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and what was seen on the way to them."""
        self._refresh()
        self._watcher.clear()
        self._fresh = True
        self.rest(False)
        super().zero_grad(set_to_none)

    def rest(self, resting: bool = True) -> None:
        """Look at nothing until the next zero_grad() or rest(False), so that batches to be skipped cost nothing."""
        self._watcher.resting = resting

    def skip(self) -> None:
        """Let this batch pass unseen: neither weights nor contexts change."""
        self._watcher.clear()
        self.report = Report()

    def _room(self, p: Tensor, name: str, make: Callable[[], Any]) -> Any:
        """What is kept of a parameter, on its device and as its number type asks."""
        state = self.state[p]
        if name not in state:
            state[name] = make()
        kept, dtype = state[name].tensors()[0], torch.promote_types(p.dtype, torch.float32)
        if kept.device != p.device or kept.dtype != dtype:
            for room in state.values():
                if room.tensors():
                    room.to(p.device, dtype)
        return state[name]

    def _refresh(self) -> None:
        """Take in layers that were thawed, added or replaced since the last look."""
        if not self._holdings.refresh():
            return
        known = {p for group in self.param_groups for p in group["params"]}
        for p, name in self._holdings.names.items():
            if p.requires_grad and p not in known:
                place = next((i for i, level in enumerate(self._levels) if level.matches(name)), -1)
                self.param_groups[place]["params"].append(p)
                self._found.add(p)
        self._watcher.weights, self._watcher.scales = self._holdings.matrices, self._holdings.scales

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights, as tensors, numbers and text alone."""
        return saved(self, super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises SettingError if the state is of another optimizer or model; nothing changes then."""
        restore(self, state_dict)

    def bytes_kept(self) -> int:
        """Bytes this optimizer keeps beyond the weights."""
        return sum(bytes_of(kept.tensors()) for state in self.state.values() for kept in state.values())


def _error_weight(optimizer: WatchingOptimizer | None) -> float:
    """The further weight of wrong samples that is in force."""
    if optimizer is None or not optimizer.acting:
        return 0.0
    return optimizer.error_weight + optimizer.settings.error_weight
