"""The context of a layer: everything its inputs were, as one matrix, and the write that this matrix governs.

For a layer y = W x with N new inputs X (N, D), one row each:

    A <- A + X^T X                       `absorb`
    W <- W - rate * G A^-1               `context_write`
    A <- retention * (A - ridge I) + ridge I     `fade`

A starts at ridge * I. G (out, D) is the gradient of the summed loss over all that was absorbed since the last write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.errors import DivergedError

WIDE = 2048  # inputs past which a context is cut into blocks
EXACT = 1e-5  # relative; a gradient this close to its own outer products is taken to be them, in float32
REFRESH = 200  # writes after which A^-1 is computed anew, so that rounding errors of the rank-N form cannot add up


class Writable(Protocol):
    """A matrix (out, D) that is written in place: a tensor, or a layer's weight and bias seen as one (layers.py)."""

    def add_(self, other: Tensor, *, alpha: float) -> Any: ...


def context_write(weight: Writable, gradient: Tensor, context: Context, rate: float) -> Tensor:
    """W <- W - rate * G A^-1 in place, the exact minimizer of

        <W - W_t, G> rate + 1/2 tr((W - W_t) A (W - W_t)^T)

    Directions that many inputs used cost much to change, directions that none has used are free. At rate 1, retention 1
    and squared error this is recursive least squares; with A = ridge * I it is gradient descent.

    Shapes: weight, gradient (out, D) · returns G A^-1 (out, D).
    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the retention term is ours; the paper leaves it open.
    """
    step = context.solve(gradient)
    weight.add_(step, alpha=-rate)
    return step


@dataclass(slots=True)
class Context:
    """All inputs that a layer has seen, as A = ridge * I + sum of x x^T.

    matrix: A, (D, D); in K blocks (K, D / K, D / K) past WIDE inputs; its diagonal (D,) for one-hot inputs.
    inverse: A^-1 where it is known, (D, D). · age: writes since it was computed from A.
    seen: samples absorbed, discounted as the context fades.
    gradient: sum of the gradients of a period that is not over. · rows: its inputs and error signals, (N, D) and
        (N, out), as long as writing through them is cheaper than through A. · count: rows of the period so far.
    accounts: name -> the part of A - ridge I that came in while this was going on, of what is over.
    """

    matrix: Tensor
    inverse: Tensor | None = None
    age: int = 0
    seen: float = 0
    gradient: Tensor | None = None
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    count: int = 0
    accounts: dict[str, Tensor] = field(default_factory=dict)
    _fresh: tuple[Tensor, Tensor] | None = None
    _solved: tuple[Tensor, Tensor] | None = None

    @classmethod
    def empty(cls, width: int, ridge: float, *, one_hot: bool = False, **like: Any) -> Self:
        """The context before any input.

        One-hot inputs have a diagonal gram matrix, so there the diagonal is exact. Blocks are not: they forget what
        inputs of different blocks do together, and count each block K times to stay on the safe side, since
        X^T X <= K blockdiag(X^T X).
        """
        if one_hot:
            return cls(torch.full((width,), ridge, **like))
        if width <= WIDE + 1:
            return cls(ridge * torch.eye(width, **like))
        blocks = ceil(width / WIDE)
        return cls((ridge * torch.eye(ceil(width / blocks), **like)).repeat(blocks, 1, 1))

    def absorb(self, rows: Tensor, deltas: Tensor, weights: Tensor | None = None, scale: float = 1.0) -> None:
        """Take in inputs (N, D), or one-hot indices (N,), with the error signals (N, out) that arrived for them.

        weights (N,): of each sample, 1 where None; the error signals carry them already.
        scale: turns the error signals into those of the summed loss.
        """
        if self.matrix.ndim == 1:
            observe(self.matrix, rows, weights)
            return
        if weights is not None:
            root = weights.to(rows.dtype).sqrt()[:, None]
            rows, deltas = rows * root, deltas / root
        self.count += len(rows)
        if self.matrix.ndim == 2 and self.count < len(self.matrix) / 2:
            self.rows.append((rows, scale * deltas))
            return
        for earlier, _ in self.rows:
            observe(self.matrix, earlier)
        self.rows.clear()
        observe(self.matrix, rows)

    def close(self) -> None:
        """End a period: what waited is absorbed, and the next write may go through it."""
        self._fresh = self._solved = None
        if self.rows:
            rows, deltas = zip(*self.rows, strict=True)
            self._fresh = self.rows[0] if len(rows) == 1 else (torch.cat(rows), torch.cat(deltas))
            observe(self.matrix, self._fresh[0])
        self.gradient, self.rows, self.count = None, [], 0

    def solve(self, gradient: Tensor) -> Tensor:
        """G A^-1, (out, D): through the rows of the period that has just been closed where that is cheaper, and equal.
        Asked again for the same tensor before A changes, it answers at once.

        Raises DivergedError where A is beyond the reach of its number type.
        """
        if self._solved is None or self._solved[0] is not gradient:
            self._solved = gradient, self._solve(gradient)
        return self._solved[1]

    def _solve(self, gradient: Tensor) -> Tensor:
        if self.matrix.ndim == 1:
            return gradient / self.matrix
        fresh, self._fresh = self._fresh, None
        if fresh and self.inverse is not None and (step := self._through_rows(gradient, *fresh)) is not None:
            return step
        factor = cholesky_factor(self.matrix)
        step = torch.cholesky_solve(in_blocks(gradient, self.matrix).mT, factor).mT
        self.inverse, self.age = torch.cholesky_inverse(factor) if fresh else None, 0
        return from_blocks(step, gradient.shape[1])

    def _through_rows(self, gradient: Tensor, rows: Tensor, deltas: Tensor) -> Tensor | None:
        """G A^-1 by the rank-N form, and the new A^-1; None where rounding has made the old one useless."""
        assert self.inverse is not None
        try:
            gain, inverse = low_rank_gain(rows, self.inverse)
        except RuntimeError:  # torch.linalg.LinAlgError
            return None
        # `.grad` is the truth: clipping may have scaled it, and anything else that touched it takes the slow form.
        outer = deltas.T @ rows
        flat = outer.flatten()
        factor = torch.dot(flat, gradient.flatten()) / torch.dot(flat, flat).clamp_min(1e-30)
        exact = torch.addcmul(gradient, outer, factor, value=-1).norm() <= EXACT * gradient.norm()
        step = factor * (deltas.T @ gain) if exact else gradient @ inverse
        self.age += 1
        self.inverse = inverse if self.age < REFRESH else None
        return step

    def close_account(self, name: str, ridge: float) -> None:
        """Put what has come in since the last call, as far as it is still held, to the account of `name`."""
        if self.matrix.ndim != 2:
            return  # a diagonal or blocks: nothing is told apart
        rest = self.matrix - ridge * torch.eye(len(self.matrix), dtype=self.matrix.dtype, device=self.matrix.device)
        for held in self.accounts.values():
            rest -= held
        self.accounts[name] = rest + self.accounts[name] if name in self.accounts else rest

    def forget_inverse(self) -> None:
        """After a change of A that no write followed."""
        self.inverse = self._fresh = self._solved = None

    def fade(self, retention: float, ridge: float) -> None:
        """A <- retention * (A - ridge I) + ridge I."""
        fade(self.matrix, retention, ridge)
        self.accounts = {name: retention * held for name, held in self.accounts.items()}
        self.seen *= retention
        self.forget_inverse()

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds."""
        found = [self.matrix, self.inverse, self.gradient, *(t for pair in self.rows for t in pair)]
        return [t for t in found if t is not None]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type."""
        self.matrix = self.matrix.to(device, dtype)
        self.gradient = None if self.gradient is None else self.gradient.to(device, dtype)
        self.accounts = {name: held.to(device, dtype) for name, held in self.accounts.items()}
        self.rows = [
            (rows.to(device, dtype if rows.is_floating_point() else None), deltas.to(device, dtype))
            for rows, deltas in self.rows
        ]
        self.forget_inverse()

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        names = ("matrix", "inverse", "age", "seen", "gradient", "rows", "count", "accounts")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        return cls(**{**state, "rows": [(rows, deltas) for rows, deltas in state["rows"]]})


def close_accounts(optimizer: torch.optim.Optimizer, name: str) -> None:
    """From now on tell apart what the contexts of an optimizer have taken in since the last call. For reports alone:
    nothing that is learned depends on it."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if isinstance(context := optimizer.state.get(p, {}).get("context"), Context):
                context.close_account(name, group["ridge"])


def low_rank_gain(rows: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """X (A + X^T X)^-1 and (A + X^T X)^-1 from A^-1, at the cost of N new rows (the identity of Woodbury).

    Shapes: rows (N, D) · inverse (D, D) · returns (N, D), (D, D).
    """
    projected = rows @ inverse
    inner = projected @ rows.T
    inner.diagonal().add_(1)
    gain = torch.cholesky_solve(projected, torch.linalg.cholesky(inner))
    return gain, torch.addmm(inverse, projected.T, gain, alpha=-1)


def novelty(rows: Tensor, inverse: Tensor, held: Tensor | float) -> Tensor:
    """How new inputs are to a context that has just absorbed them: mean of x^T A^-1 x before it did, a number.

    Shapes: rows (N, D) · inverse (D, D) · held: what A holds on average, the mean of its diagonal less the ridge.
    1 is what it holds on average. A single row before: h / (1 - h) with h = x^T A^-1 x after, exactly.
    """
    after = ((rows @ inverse) * rows).sum(1).clamp(0, 1 - 1e-6)
    before = after / (1 - after) / rows.square().sum(1).clamp_min(1e-30)
    return before.mean() * held


def observe(matrix: Tensor, rows: Tensor, weights: Tensor | None = None) -> None:
    """A <- A + X^T X in place. rows (N, D); for a diagonal, indices (N,), each of which may have a weight (N,)."""
    if matrix.ndim == 1:
        ones = torch.ones(len(rows), dtype=matrix.dtype, device=matrix.device)
        matrix.index_add_(0, rows, ones if weights is None else weights.to(matrix.dtype))
    elif matrix.ndim == 2:
        matrix.addmm_(rows.T, rows)
    else:
        cut = in_blocks(rows, matrix)
        matrix.baddbmm_(cut.mT, cut, alpha=len(matrix))


def fade(matrix: Tensor, retention: float, ridge: float) -> None:
    """A <- retention * (A - ridge I) + ridge I in place: the ridge stays, so that nothing winds up in directions that
    fall silent."""
    matrix.mul_(retention)
    (matrix if matrix.ndim == 1 else matrix.diagonal(dim1=-2, dim2=-1)).add_((1 - retention) * ridge)


def in_blocks(rows: Tensor, matrix: Tensor) -> Tensor:
    """(N, D) -> (K, N, D / K) for a context in K blocks, padded with zeros; as it is for any other."""
    if matrix.ndim < 3:
        return rows
    blocks, width, _ = matrix.shape
    return F.pad(rows, (0, blocks * width - rows.shape[1])).view(-1, blocks, width).transpose(0, 1)


def from_blocks(rows: Tensor, width: int) -> Tensor:
    """The inverse of `in_blocks`: (K, N, D / K) -> (N, width)."""
    return rows if rows.ndim < 3 else rows.transpose(0, 1).flatten(1)[:, :width]


def cholesky_factor(matrix: Tensor) -> Tensor:
    """The Cholesky factor of A, (.., D, D). After very many samples rounding may eat the ridge: then what is lost is
    put back, in place.

    Raises DivergedError if that does not help, as it is when the features themselves have grown out of all bounds.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(4 * torch.finfo(matrix.dtype).eps * diagonal.sum())
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed.any():
            raise DivergedError(
                "A layer's memory holds inputs beyond the reach of its number type; training has diverged. Lower the"
                " rate."
            )
    return factor


def bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
