"""What every optimizer checks: its settings when it is built, its gradients before it changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nllab.errors import DivergedError, SettingError


def _number(value: object, low: float = -inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < inf


def _betas(count: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, tuple | list) and len(value) == count and all(_number(b, 0) and b < 1 for b in value)
    )


# What a setting may be: in words for the error, and as a test.
Rule = tuple[str, Callable[[Any], bool]]
NONNEGATIVE: Rule = ("a finite number, 0 or more", lambda value: _number(value, 0))
POSITIVE: Rule = ("a finite number above 0", lambda value: _number(value, 0) and value > 0)
FRACTION: Rule = ("a number in [0, 1]", lambda value: _number(value, 0) and value <= 1)
BELOW_ONE: Rule = ("a number in [0, 1)", lambda value: _number(value, 0) and value < 1)
BETAS: Rule = ("two numbers in [0, 1)", _betas(2))
THREE_BETAS: Rule = ("three numbers in [0, 1)", _betas(3))
COUNT: Rule = ("a whole number, 0 or more", lambda value: _number(value, 0) and isinstance(value, Integral))
PERIOD: Rule = ("a whole number, 1 or more", lambda value: _number(value, 1) and isinstance(value, Integral))


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
        for name, (words, fits) in rules.items():
            if not fits(group[name]):
                raise SettingError(f"{type(optimizer).__name__}: {name} is {group[name]!r}; it must be {words}.")


def check_gradients(optimizer: Optimizer) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
    """(group, parameter, gradient) for every parameter that received a gradient; all are checked before any is
    returned.

    Raises DivergedError naming the first parameter whose gradient is not finite (its name if the optimizer was given
    named parameters, otherwise its place and shape), and SettingError for a sparse or complex gradient.
    """
    found = []
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
            found.append((group, parameter, gradient))
    return found


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """The loss a closure recomputes, as in every torch optimizer; None without one."""
    with torch.enable_grad():
        return None if closure is None else closure()


def as_matrix(tensor: Tensor) -> Tensor:
    """A view with one row per output: (rows, columns). Filters lose their inner axes; a vector or a number is one
    row."""
    return tensor.reshape(1, -1) if tensor.ndim < 2 else tensor.flatten(1)


def floor(dtype: torch.dtype) -> float:
    """The smallest norm worth dividing by: below it (1e-19 in float32) squares vanish, and so does what is divided."""
    return torch.finfo(dtype).tiny ** 0.5
