"""What the gradient at a model's output says: which loss it came from, in which units, how it bends, and which samples
surprised the model.

An optimizer is told neither loss nor labels, and the memory needs the gradient of the *summed* loss. All is written in
the first backward pass: gradient * scale = answer(scores) - target, with one scale for all rows (the batch size for a
mean over samples):

    half the squared distance      answer = scores             target one-hot
    cross-entropy                  answer = softmax(scores)    target one-hot, or one-hot smoothed by any amount
    binary cross-entropy           answer = sigmoid(scores)    target 0 or 1 for each class

What is none of these is not recognised.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import torch
from torch import Tensor

from nllab.errors import SettingError, unknown

SCALED = 2.0**-12  # a scale this small is taken to be the work of loss scaling: the sum over a batch of 4,096 samples
CLOSE = 1e-3  # relative; residuals this close to one of the two forms, or as their precision allows, are taken to be it
LOSSES = ("squared_error", "cross_entropy", "binary_cross_entropy")


class Loss(NamedTuple):
    """kind: one of LOSSES or "unknown". per_row: gradient of the summed loss / gradient that arrived, for each row of
    the batch."""

    kind: str
    per_row: float

    @property
    def bounded(self) -> bool:
        """Whether residuals lie between -1 and 1, and the curvature below a half."""
        return self.kind in ("cross_entropy", "binary_cross_entropy")


def check_loss(loss: str, reduction: str | None) -> None:
    """Raises SettingError for a loss or a reduction that there is not."""
    if loss not in ("auto", *LOSSES):
        raise unknown("loss", loss, ("auto", *LOSSES))
    if reduction not in (None, "mean", "sum"):
        raise SettingError(
            f"loss_reduction is {reduction!r}; it must be 'mean' or 'sum', as the loss itself is reduced."
        )


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
    for kind in ("squared_error", "cross_entropy"):
        answer = scores.softmax(1) if kind == "cross_entropy" else scores
        target = gradient.argmin(1)
        # What is nearly right may be lowered most elsewhere: with the scale better known, targets are read again.
        for _ in range(10):
            residual = answer - torch.nn.functional.one_hot(target, scores.shape[1])
            scale = (residual * gradient).sum() / gradient.square().sum()
            target = (answer - scale * gradient).argmax(1)
        if scale > 0 and (scale * gradient - residual).norm() <= close * residual.norm():
            return Loss(kind, _without_loss_scaling(float(scale) / len(scores), scores.shape[1], close))
    residual = scores.sigmoid() - (gradient < 0).to(scores.dtype)
    scale = (residual * gradient).sum() / gradient.square().sum()
    if scale > 0 and (scale * gradient - residual).norm() <= close * residual.norm():
        return Loss("binary_cross_entropy", _without_loss_scaling(float(scale) / len(scores), scores.shape[1], close))
    if scores.shape[1] > 2 and (scale := _smoothed(scores.softmax(1), gradient, close)) is not None:
        return Loss("cross_entropy", _without_loss_scaling(scale / len(scores), scores.shape[1], close))
    return Loss("unknown", 0.0)


def _smoothed(answer: Tensor, gradient: Tensor, close: float) -> float | None:
    """The scale of a cross-entropy with smoothed labels: all targets but the right one are alike; None if they are not.

    answer, gradient (N, C), C > 2.
    """
    others = torch.ones_like(gradient, dtype=torch.bool).scatter_(1, gradient.argmin(1, keepdim=True), False)
    a, g = (t[others].view(len(t), -1) for t in (answer, gradient))
    a, g = a - a.mean(1, keepdim=True), g - g.mean(1, keepdim=True)
    scale = (a * g).sum() / g.square().sum().clamp_min(torch.finfo(g.dtype).tiny)
    fits = scale > 0 and (scale * g - a).norm() <= close * a.norm()
    balanced = gradient.sum(1).norm() <= close * gradient.norm()
    return float(scale) if fits and balanced else None


def bend(kind: str, scores: Tensor, residual: Tensor) -> Tensor:
    """r^T H r / ||r||² in the mean: how the loss bends in the direction of its residuals; 1 where it is not recognised.

    scores, residual (..., C) · H: Hessian of the loss in the scores, diag p - p p^T for a cross-entropy.
    """
    square = residual.square()
    if kind == "cross_entropy":
        p = scores.softmax(-1).to(residual.dtype)
        curved = (p * square).sum() - (p * residual).sum(-1).square().sum()
    elif kind == "binary_cross_entropy":
        p = scores.sigmoid().to(residual.dtype)
        curved = (p * (1 - p) * square).sum()
    else:
        return residual.new_ones(())
    return curved / square.sum().clamp_min(torch.finfo(residual.dtype).tiny)


def _without_loss_scaling(per_row: float, classes: int, close: float) -> float:
    """`torch.amp.GradScaler` multiplies a loss by a large power of two, and takes it out of the gradients before the
    step."""
    if per_row > SCALED:
        return per_row
    return next((mean for mean in (1.0, classes / 2) if abs((log2(per_row / mean) + 0.5) % 1 - 0.5) < close), per_row)


def targets(kind: str, scores: Tensor, gradient: Tensor, scale: float) -> Tensor:
    """The class that each row was to be given, (N,): read from scores and gradient (N, C), where scale * gradient is
    the row's own."""
    if kind != "squared_error":
        return gradient.argmin(-1)
    return (scores.to(gradient.dtype) - scale * gradient).argmax(-1)
