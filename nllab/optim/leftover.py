"""What the head leaves to the layers below it.

The head's write is exact and comes at once. Whatever it can put right by itself, hidden layers had better leave alone:
each of their moves changes what the head has learned to read. So they learn from the residuals that the head will
leave, through the weights that it will have. With inputs Z and residuals R of a batch, A its context once it has taken
them in, and `rate` that of its write:

    V = W - rate R^T K,   K = Z A^-1                what the head is about to become
    h_i = k_i . z_i                                 how much of its answer to a sample is that sample's own doing
    s_i = (V z_i - h_i t_i) / (1 - h_i)             its answer, had this sample not been there; t_i = W z_i - rate r_i
    δ_i = V^T (residual at s_i)                     in place of W^T r_i

Without the third line a head with more inputs than samples would leave nothing to learn.

Source: variable projection (Golub and Pereyra 1973; Kaufman 1975), leave-one-out residuals of least squares (Allen
1974). Differs from them: one step of the head at a time, and losses other than the squared error by the same formulas.
N rows, D inputs of the head with a last 1 for the bias, out outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nllab.optim import layers
from nllab.optim.context import Context, cholesky_factor
from nllab.optim.groups import group_of
from nllab.optim.output import answer

if TYPE_CHECKING:
    from nllab.optim.deep import DeepOptimizer

OWN = 0.98  # of h, past which a sample is not told from the rest


class Head(NamedTuple):
    """The last linear layer as it is about to be written. rate: factor of G A^-1."""

    matrix: layers.Matrix
    context: Context
    rate: float


def head_of(optimizer: DeepOptimizer | None) -> Head | None:
    """The head as this step will write it; None where it will not be written, writes seldom, or its context is cut into
    blocks."""
    if optimizer is None or not optimizer.acting or (layer := optimizer._holdings.head) is None:
        return None
    group = group_of(optimizer.param_groups, layer.weight)
    if group is None or group["period"] > 1 or layer.weight not in optimizer._holdings.matrices:
        return None
    matrix = optimizer._holdings.matrices[layer.weight]
    context: Context = optimizer._room(layer.weight, "context", lambda: matrix.new_context(group["ridge"]))
    return Head(matrix, context, optimizer._head_rate(group)) if context.base.ndim == 2 else None


class Leftover(NamedTuple):
    """scores: s, (N, out). · residuals: of the loss there, (N, out). · change: of the gradient at the head's inputs,
    (N, inputs), in units of the summed loss."""

    scores: Tensor
    residuals: Tensor
    change: Tensor


def gain(context: Context, rows: Tensor) -> Tensor:
    """K = Z (A + Z^T Z)^-1, (N, D), whichever way is cheaper."""
    if len(rows) < rows.shape[1] and (inverse := context.inverse) is not None:
        projected = rows @ inverse
        inner = projected @ rows.T
        inner.diagonal().add_(1)
        return torch.cholesky_solve(projected, torch.linalg.cholesky(inner))
    return torch.cholesky_solve(rows.T, cholesky_factor(context.matrix + rows.T @ rows)).T


def left_by(head: Head, rows: Tensor, scores: Tensor, residuals: Tensor, weights: Tensor | None, kind: str) -> Leftover:
    """rows Z (N, D) · scores, residuals (N, out): as they are, unweighted · weights (N,): of the samples, 1 where None
    · kind: of the loss."""
    root = torch.ones_like(rows[:, :1]) if weights is None else weights.to(rows.dtype).sqrt()[:, None]
    own = gain(head.context, rows * root)
    before = head.matrix.tensor()
    after = before - head.rate * (root * residuals).T @ own
    share = (own * rows * root).sum(1, keepdim=True).clamp(0, OWN)
    alone = (rows @ after.T - share * (scores - head.rate * residuals)) / (1 - share)
    left = answer(kind, alone) - (answer(kind, scores) - residuals)
    left *= (residuals != 0).any(1, keepdim=True)  # rows that the loss did not ask about stay so
    change = root.square() * (left @ after - residuals @ before)
    return Leftover(alone, root.square() * left, change[:, : head.matrix.fan_in] * head.matrix.unit)
