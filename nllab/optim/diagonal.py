"""The memory of a parameter that no context fits: the squares of all its gradients, one number a weight.

    W <- W - learning_rate * gain * m / sqrt(mean of all g^2),   gain = sqrt(life / t) from t = life on, 1 before

m is the running mean of the gradients, t the writes so far. In its youth this is Adam; with age every weight steps
less, so that what was learned long ago stays. At life 1 and without momentum it is Adagrad. The scale of the loss plays
no part.

Source: Duchi, Hazan and Singer 2011, Adagrad (squares summed over life) with the momentum of Kingma and Ba 2015, Adam.
Differs from Adagrad: the first `life` writes keep the step of Adam instead of falling from a large one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

LIFE = 300  # writes of youth
TINY = 1e-12  # of a root mean square, below which a weight is taken never to have had a gradient


@dataclass(slots=True)
class Diagonal:
    """squares: sum of g^2, in at least single precision. · mean: running mean of g, not yet corrected for its start.
    weight: what that correction divides by. · count: writes. · gradient: sum of a period that is not over."""

    squares: Tensor
    mean: Tensor
    weight: float = 0.0
    count: float = 0.0
    gradient: Tensor | None = None

    @classmethod
    def empty(cls, parameter: Tensor) -> Self:
        """Before any gradient: zeros in the parameter's shape, in at least single precision."""
        zeros = torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
        return cls(zeros, zeros.clone())

    def absorb(self, gradient: Tensor | None) -> None:
        """Add the gradient of a step, dense or sparse, to those of its period."""
        if gradient is not None:
            came = (gradient.to_dense() if gradient.is_sparse else gradient).to(self.squares.dtype)
            self.gradient = came.clone() if self.gradient is None else self.gradient + came

    def close(self, momentum: float, life: float = LIFE) -> Tensor:
        """End a period; what is subtracted, times a learning rate."""
        gradient, self.gradient = self.gradient, None
        assert gradient is not None
        self.squares.addcmul_(gradient, gradient)
        self.mean.lerp_(gradient, 1 - momentum)
        self.weight = momentum * self.weight + (1 - momentum)
        self.count += 1
        gain = (life / max(life, self.count)) ** 0.5
        return self.mean / (self.squares / self.count).sqrt_().add_(TINY) * (gain / self.weight)

    def fade(self, retention: float) -> None:
        """Forget a share of the past."""
        self.squares.mul_(retention)
        self.count *= retention

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds."""
        return [t for t in (self.squares, self.mean, self.gradient) if t is not None]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type."""
        self.squares, self.mean = self.squares.to(device, dtype), self.mean.to(device, dtype)
        self.gradient = None if self.gradient is None else self.gradient.to(device, dtype)

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        return {name: getattr(self, name) for name in ("squares", "mean", "weight", "count", "gradient")}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        return cls(**state)
