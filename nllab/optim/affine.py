"""The memory of a norm's scale and shift: what each channel's normalized inputs were, exactly, as a 2 x 2 matrix.

A norm answers y_c = w_c z_c + b_c for normalized inputs z. So each of its C channels is a layer of its own with inputs
(z_c, 1), and the write of every other layer is its write:

    A_c <- A_c + sum of (z_c, 1)^T (z_c, 1),    (w_c, b_c) <- (w_c, b_c) - rate * G_c A_c^-1

N rows: places that are normalized. K inputs a channel: 2, or 1 where the norm has no shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from nllab.optim.context import fade

if TYPE_CHECKING:
    from nllab.optim.rates import Trace
    from nllab.optim.watch import Batch

SCALED = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
)
DEAD = 1e-6  # a scale this small hides what it multiplies


class Seen(NamedTuple):
    """One backward pass through a norm: its inputs z (N, C), their weights (N,) and the sum of the squares of the error
    signals at its output."""

    rows: Tensor
    weights: Tensor | None
    signal: float

    def moments(self, inputs: int) -> Tensor:
        """Sum of (z_c, 1)^T (z_c, 1), (C, K, K) for K inputs."""
        rows, weights = self.rows, self.weights
        weighted = rows if weights is None else rows * weights.to(rows.dtype)[:, None]
        squares = (weighted * rows).sum(0)
        if inputs == 1:
            return squares[:, None, None]
        ones = weighted.new_tensor(len(rows) if weights is None else float(weights.sum())).expand_as(squares)
        sums = weighted.sum(0)
        return torch.stack([squares, sums, sums, ones], 1).view(-1, 2, 2)


def rows_of(norm: nn.Module, output: Tensor) -> Tensor:
    """A norm's output with its channels last, (N, C)."""
    channels = norm.weight.numel()  # type: ignore[union-attr,operator]
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm) and output.ndim > 1:
        output = output.movedim(1 if output.shape[1] == channels else 0, -1)
    return output.reshape(-1, channels)


def normalized(norm: nn.Module, output: Tensor) -> Tensor:
    """z, (N, C), read from what the norm has made of it; 0 where its scale hides it."""
    weight: Tensor = norm.weight.detach().flatten()  # type: ignore[union-attr,operator]
    shift = getattr(norm, "bias", None)
    rows = rows_of(norm, output.detach()).to(torch.promote_types(output.dtype, torch.float32))
    rows = rows if shift is None else rows - shift.detach().flatten()
    return torch.where(weight.abs() > DEAD, rows / weight, 0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Scale:
    """Scale and shift of a norm as one matrix (C, K)."""

    weight: Tensor
    bias: Tensor | None = None

    @classmethod
    def of(cls, norm: nn.Module) -> Self | None:
        """None for a norm without a trainable scale of its own."""
        weight, bias = (norm._parameters.get(name) for name in ("weight", "bias"))
        if weight is None or not weight.requires_grad:
            return None
        return cls(weight, bias if bias is not None and bias.requires_grad else None)

    @property
    def inputs(self) -> int:
        """K: 2, or 1 where the norm has no trainable shift."""
        return 1 + (self.bias is not None)

    def gradient(self, scale: float) -> Tensor | None:
        """Its gradient times `scale`, a new tensor; None if nothing arrived."""
        if self.weight.grad is None:
            return None
        parts = [self.weight.grad.flatten()]
        if self.bias is not None:
            parts.append(torch.zeros_like(parts[0]) if self.bias.grad is None else self.bias.grad.flatten())
        return torch.stack(parts, 1).to(torch.promote_types(self.weight.dtype, torch.float32)) * scale

    def add_(self, other: Tensor, *, alpha: float) -> None:
        """Add alpha * other, (C, K), in place."""
        self.weight.add_(other[:, 0].view_as(self.weight), alpha=alpha)
        if self.bias is not None:
            self.bias.add_(other[:, 1].view_as(self.bias), alpha=alpha)


class Scaled(NamedTuple):
    """A norm at the end of its period. change: G_c A_c^-1 of each channel, (C, K)."""

    scale: Scale
    group: dict[str, Any]
    change: Tensor


@dataclass(slots=True)
class Channels:
    """matrix: A of every channel, (C, K, K), begins at ridge * I. · seen: samples. · gradient: of a period so far."""

    matrix: Tensor
    seen: float = 0
    gradient: Tensor | None = None

    @classmethod
    def empty(cls, of: Scale, ridge: float) -> Self:
        """Before any input: A = ridge * I for each of the C channels, (C, K, K), in at least single precision."""
        dtype = torch.promote_types(of.weight.dtype, torch.float32)
        eye = torch.eye(of.inputs, dtype=dtype, device=of.weight.device)
        return cls((ridge * eye).repeat(of.weight.numel(), 1, 1))

    def take_in(self, scale: Scale, group: dict[str, Any], trace: Trace, batch: Batch) -> list[Scaled]:
        """Absorb what a norm saw in a step; at the end of its period its change is due."""
        gradient, passes = scale.gradient(batch.scale), batch.norms.get(scale.weight, ())
        moments = [seen.moments(scale.inputs) for seen in passes]
        samples = batch.samples or sum(len(seen.rows) for seen in passes)
        for seen, came in zip(passes, moments, strict=True):
            self.matrix += came
            trace.see(batch.scale**2 * seen.signal, batch.residual or batch.scale**2 * seen.signal, batch.bend)
        self.seen += samples if passes else 0
        if self.gradient is not None:
            gradient = self.gradient if gradient is None else gradient + self.gradient
        self.gradient = gradient
        if gradient is None or group["steps"] % group["period"]:
            return []
        self.gradient, change = None, self.solve(gradient)
        own = sum(float(torch.einsum("ck,ckl,cl->", change, came, change)) for came in moments)
        trace.write(float((gradient * change).sum()), own, samples)
        return [Scaled(scale, group, change)]

    def solve(self, gradient: Tensor) -> Tensor:
        """G_c A_c^-1 of every channel, (C, K)."""
        return torch.linalg.solve(self.matrix, gradient)

    def fade(self, retention: float, ridge: float) -> None:
        """A <- retention * (A - ridge I) + ridge I."""
        fade(self.matrix, retention, ridge)
        self.seen *= retention

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds."""
        return [self.matrix] if self.gradient is None else [self.matrix, self.gradient]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type."""
        self.matrix = self.matrix.to(device, dtype)
        self.gradient = None if self.gradient is None else self.gradient.to(device, dtype)

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        return {"matrix": self.matrix, "seen": self.seen, "gradient": self.gradient}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        return cls(**state)
