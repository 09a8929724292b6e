"""What every optimizer checks: its settings when it is built, its gradients before it changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nllab.errors import DivergedError, SettingError, check_number, check_whole

# What a setting may be: a number in an interval, a whole number of at least so much, or so many of either.
Rule = str | int | tuple[str, ...]
NONNEGATIVE, POSITIVE, FRACTION, BELOW_ONE = "[0, inf)", "(0, inf)", "[0, 1]", "[0, 1)"
COUNT, PERIOD = 0, 1


def check_setting(name: str, value: Any, rule: Rule) -> None:
    """Raise SettingError unless the value is what the rule says."""
    if isinstance(rule, str):
        check_number(name, value, rule)
    elif isinstance(rule, int):
        check_whole(name, value, rule)
    elif not isinstance(value, tuple | list) or len(value) != len(rule):
        raise SettingError(f"{name} is {value!r}; expected {len(rule)} numbers in {rule[0]}.")
    else:
        for part, own in zip(value, rule, strict=True):
            check_number(f"{name}, here {value!r}, has a part that", part, own)


def check_parameters(params: Iterable[Any]) -> list[Any]:
    """The parameters as a list: tensors, (name, tensor) pairs or groups. Raises SettingError for one bare tensor or for
    none."""
    if isinstance(params, Tensor):
        raise SettingError("params is one tensor; pass a list of parameters, e.g. [weight] or model.parameters().")
    if not (held := list(params)):
        raise SettingError("params is empty; an optimizer needs at least one parameter.")
    return held


def check_settings(optimizer: Optimizer, **rules: Rule) -> None:
    """Raises SettingError if a setting of any parameter group breaks its rule; groups already carry the defaults."""
    for group in optimizer.param_groups:
        for name, rule in rules.items():
            check_setting(f"{type(optimizer).__name__}: {name}", group[name], rule)


def check_gradients(optimizer: Optimizer) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
    """(group, parameter, gradient) for every parameter that received a gradient; all are checked before any is
    returned.

    Raises DivergedError naming the first parameter whose gradient is not finite (its name if the optimizer was given
    named parameters, otherwise its place and shape), and SettingError for a sparse or complex gradient.
    """
    checked = []
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            if (gradient := parameter.grad) is None:
                continue
            names = group.get("param_names")
            name = repr(names[place]) if names else f"{place} of group {number}, shape {tuple(parameter.shape)},"
            if gradient.is_sparse or gradient.is_complex():
                raise SettingError(
                    f"The gradient of parameter {name} is sparse or complex; {type(optimizer).__name__} needs dense"
                    " real ones."
                )
            if not gradient.isfinite().all():
                raise DivergedError(
                    f"The gradient of parameter {name} holds NaN or infinity; the step was refused and nothing was"
                    " changed."
                )
            checked.append((group, parameter, gradient))
    return checked


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """The loss a closure recomputes, as in every torch optimizer; None without one."""
    with torch.enable_grad():
        return None if closure is None else closure()


class Stepwise(Optimizer):
    """A torch optimizer that moves one parameter at a time: a subclass says how in `move`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient.

        closure: recomputes the loss, which is returned; None without one.
        Raises: DivergedError for a gradient that is not finite, SettingError for one that is sparse or complex; nothing
            is changed then.
        """
        loss = evaluate(closure)
        for group, parameter, gradient in check_gradients(self):
            self.move(parameter, gradient, group, self.state[parameter])
        return loss

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Write one parameter in place, by the settings of its group; state: what is kept of it."""
        raise NotImplementedError


def as_matrix(tensor: Tensor) -> Tensor:
    """A view with one row per output: (rows, columns). Filters lose their inner axes; a vector or a number is one
    row."""
    return tensor.reshape(1, -1) if tensor.ndim < 2 else tensor.flatten(1)


def floor(dtype: torch.dtype) -> float:
    """The smallest norm worth dividing by: below it (1e-19 in float32) squares vanish, and so does what is divided."""
    return torch.finfo(dtype).tiny ** 0.5
