"""Carrying a reader over: when the levels below it have written, the layer that reads them is told what their language
means now.

The output layer's memory and weights speak of features as they were when they were seen. Once hidden levels have moved,
old
features z mean what z T means now. T is fitted on dreams: inputs drawn from the Gaussian that the first layer's own
    memory holds of
all inputs so far (their mean and covariance; no sample is kept), read before and after, and on the inputs that came in
between. Then

    C <- T^T C T,    W <- argmin_W sum over old features of ||W (z T) - W_old z||^2 + ridge ||W||^2

so that old answers stay the same in the new features. What was observed in between is added as it was observed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nllab.optim.layers import cholesky_factor

CHUNK_WEIGHT = 0.3  # of an input that came in between, beside a dream's 1
JITTERS = (1e-6, 1e-4, 1e-2)  # of the mean variance
PULL = 1e-3  # towards T = identity, in units of the features' mean square


class Moments(NamedTuple):
    """What a reader knew when a window opened: gram matrix of its inputs and what its weights answer to them.

    gram C (D, D) · answers C W^T + ridge W^T (D, out) · dreams (N, features) as the model takes them · dreamed (N, D):
    what the reader saw of them.
    """

    gram: Tensor
    answers: Tensor
    dreams: Tensor
    dreamed: Tensor


def dream(context: Tensor, ridge: float, count: int, seed: int) -> Tensor:
    """Inputs drawn from the Gaussian with the mean and covariance that a first layer's memory holds, (count, features).

    context: ridge * I + sum of x x^T for inputs x scaled by features^-1/2 with a last 1 (features + 1, features + 1).
    """
    width = len(context) - 1
    exact = context.double()  # the covariance is a small difference of large numbers
    total = exact[-1, -1] - ridge
    mean = exact[-1, :-1] / total
    covariance = (
        exact[:-1, :-1] - ridge * torch.eye(width, dtype=exact.dtype, device=exact.device)
    ) / total - torch.outer(mean, mean)
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype).to(exact.device)
    return ((mean + noise @ _root(covariance).T) * width**0.5).to(context.dtype)


def _root(covariance: Tensor) -> Tensor:
    """L with L L^T = covariance + the least jitter at which there is one: directions that no input used have no
    variance at all."""
    unit = covariance.diagonal().mean().clamp_min(torch.finfo(covariance.dtype).tiny)
    for jitter in JITTERS:
        root, failed = torch.linalg.cholesky_ex(
            covariance + jitter * unit * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        )
        if not failed:
            return root
    return torch.diag(covariance.diagonal().clamp_min(0).sqrt())


def translation(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
    """T with after ~ before T, (D, D): weighted least squares, pulled towards the identity. before, after (N, D);
    weight (N,)."""
    weighted = before * weight[:, None] / len(before)
    gram = weighted.T @ before
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return eye + torch.linalg.solve(gram + PULL * gram.diagonal().mean() * eye, weighted.T @ (after - before))


def carry(context: Tensor, weight: Tensor, old: Moments, turn: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The reader's context (D, D) and weight (out, D) with everything older than the window carried over by T =
    turn."""
    eye = torch.eye(len(context), dtype=context.dtype, device=context.device)
    since = context - ridge * eye - old.gram
    moved = turn.T @ old.gram @ turn
    carried = ridge * eye + (moved + moved.T) / 2 + since
    answers = turn.T @ old.answers + (context @ weight.T - old.answers)
    return carried, torch.cholesky_solve(answers, cholesky_factor(carried)).T
