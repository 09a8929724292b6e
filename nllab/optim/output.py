"""What the gradient at a model's output says: which loss it came from, in which units, and which samples surprised the
model.

An optimizer is told neither loss nor labels, and the memory needs the gradient of the *summed* loss. Both are written
in the first
backward pass: for cross-entropy gradient * scale = softmax(scores) - onehot, for half the squared distance gradient *
    scale =
scores - onehot, with one scale for all rows (the batch size for a mean over samples). What is neither is not
recognised.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import torch
from torch import Tensor

SCALED = 2.0**-12  # a scale this small is taken to be the work of loss scaling: the sum over a batch of 4,096 samples
CLOSE = 1e-3  # relative; residuals this close to one of the two forms, or as their precision allows, are taken to be it
LOSSES = ("squared_error", "cross_entropy")


class Loss(NamedTuple):
    """kind: one of LOSSES or "unknown". per_row: gradient of the summed loss / gradient that arrived, for each row of
    the batch."""

    kind: str
    per_row: float


def recognise(scores: Tensor, gradient: Tensor) -> Loss | None:
    """The loss whose gradient this is, for one-hot targets; None if it is zero or not finite and says nothing. scores,
    gradient (N, C)."""
    if not bool((gradient != 0).any() & gradient.isfinite().all()):
        return None
    if scores.ndim < 2 or scores.shape[-1] < 2:
        return Loss("unknown", 0.0)
    close = max(CLOSE, torch.finfo(gradient.dtype).eps)
    scores, gradient = (t.detach().reshape(-1, t.shape[-1]).double() for t in (scores, gradient))
    used = gradient.abs().amax(1) > 0
    scores, gradient = scores[used], gradient[used]
    for kind in LOSSES:
        answer = scores.softmax(1) if kind == "cross_entropy" else scores
        target = gradient.argmin(1)
        for _ in range(
            10
        ):  # what is nearly right may be lowered most elsewhere: with the scale better known, targets are read again
            residual = answer - torch.nn.functional.one_hot(target, scores.shape[1])
            scale = (residual * gradient).sum() / gradient.square().sum()
            target = (answer - scale * gradient).argmax(1)
        if scale > 0 and (scale * gradient - residual).norm() <= close * residual.norm():
            return Loss(kind, _without_loss_scaling(float(scale) / len(scores), scores.shape[1], close))
    return Loss("unknown", 0.0)


def _without_loss_scaling(per_row: float, classes: int, close: float) -> float:
    """`torch.amp.GradScaler` multiplies a loss by a large power of two, and takes it out of the gradients before the
    step."""
    if per_row > SCALED:
        return per_row
    return next((mean for mean in (1.0, classes / 2) if abs((log2(per_row / mean) + 0.5) % 1 - 0.5) < close), per_row)


def targets(kind: str, scores: Tensor, gradient: Tensor, scale: float) -> Tensor:
    """The class that each row was to be given, (N,): read from scores and gradient (N, C), where scale * gradient is
    the row's own."""
    if kind == "cross_entropy":
        return gradient.argmin(-1)
    return (scores.to(gradient.dtype) - scale * gradient).argmax(-1)
