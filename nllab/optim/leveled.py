"""Levels for any torch optimizer: gradients are summed over a level's period and written once at its end (Eq.
70-71)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nllab.levels import Level, Schedule, assign


def members_of(model: nn.Module, levels: Sequence[Level]) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters of each level. Raises SettingError if a level holds nothing, or a parameter has no
    level.

    ```pycon
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> {name: len(held) for name, held in members_of(model, [Level("first", "0"), Level("rest", "*")]).items()}
    {'first': 2, 'rest': 2}

    ```
    """
    named = dict(model.named_parameters())
    return {
        level: [named[n] for n in names if named[n].requires_grad] for level, names in assign(levels, named).items()
    }


class Leveled:
    """Run a torch optimizer so that each level writes at the end of its own period only.

    Between two writes a level is bit-identical: its parameters are hidden from the optimizer, weight decay and momentum
    included.
    `members` says which parameters a level holds, `make` turns all of them into the optimizer.

    Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 71. Differs from paper: the sum has C terms, not the C+1 of the
        printed bounds.
    """

    def __init__(
        self,
        members: Mapping[str, Sequence[nn.Parameter]],
        schedule: Schedule,
        make: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    ) -> None:
        self.members = {level: list(parameters) for level, parameters in members.items()}
        self.schedule = schedule
        self.parameters = [p for parameters in self.members.values() for p in parameters]
        self.optimizer = make(self.parameters)
        self.collected: dict[nn.Parameter, Tensor] = {}
        self.steps = 0

    def zero_grad(self) -> None:
        """Clear this step's gradients. Not through the optimizer, which may keep what a slow level has seen since its
        last write."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, *, write: bool = True) -> None:
        """Add this step's gradients to each level's sum; levels whose period ends write the sum (with write=False they
        drop it)."""
        self.steps += 1
        due = set(self.schedule.due(self.steps))
        own = {p: p.grad for p in self.parameters}
        for level, parameters in self.members.items():
            for p in parameters:
                if level in due:
                    if p in self.collected:
                        before = self.collected.pop(p)
                        p.grad = before if p.grad is None else before.add_(p.grad)
                elif p.grad is not None:
                    if p in self.collected:
                        self.collected[p] += p.grad
                    else:
                        self.collected[p] = p.grad.clone()
                    p.grad = None
        if write and due:
            self.optimizer.step()
        for p, gradient in own.items():
            p.grad = gradient

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and what levels have collected since they wrote last."""
        collected = {i: self.collected[p].clone() for i, p in enumerate(self.parameters) if p in self.collected}
        return {
            "optimizer": self.optimizer.state_dict(),
            "collected": collected,
            "steps": self.steps,
            "periods": dict(self.schedule.periods),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to such a state."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.collected = {self.parameters[i]: value.clone() for i, value in state["collected"].items()}
        self.steps, self.schedule = state["steps"], Schedule(state["periods"])
