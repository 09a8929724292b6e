"""The context of a layer: everything its inputs were, as one matrix, and the write that this matrix governs.

For a layer y = W x with N new inputs X (N, D), one row each:

    A <- A + X^T X                       `absorb`
    W <- W - rate * G A^-1               `context_write`
    A <- retention * (A - ridge I) + ridge I     `fade`

A starts at ridge * I. G (out, D) is the gradient of the summed loss over all that was absorbed since the last write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from nllab.optim.patches import Patches
from nllab.optim.rank_n import cholesky_factor, proportion, rank_n

WIDE = 2048  # inputs past which a context is cut into blocks
LATE = 256  # rows that A and A^-1 take in at once, since one large product costs less than several small ones
BLOCK = 256  # columns of a gram matrix that are computed at once
WORTH = 0.1  # of what a context may hold, that it leaves out at once
REFRESH = 200  # writes after which A^-1 is computed anew, so that rounding errors of the rank-N form cannot add up


class Writable(Protocol):
    """A matrix (out, D) that is written in place: a tensor, or a layer's weight and bias seen as one (layers.py)."""

    def add_(self, other: Tensor, *, alpha: float) -> Any:
        """Add alpha * other, (out, D), in place."""


def context_write(weight: Writable, gradient: Tensor, context: Context, rate: float | Tensor) -> Tensor:
    """W <- W - rate * G A^-1 in place, the exact minimizer of

        <W - W_t, G> rate + 1/2 tr((W - W_t) A (W - W_t)^T)

    Directions that many inputs used cost much to change, directions that none has used are free. At rate 1, retention 1
    and squared error this is recursive least squares; with A = ridge * I it is gradient descent.

    Shapes: weight, gradient (out, D) · rate: a number, or one for each row, (out, 1) · returns G A^-1 (out, D).
    Raises: DivergedError where A is beyond the reach of its number type; the weight is unchanged then.
    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the retention term is ours; the paper leaves it open.
    """
    step = context.solve(gradient)
    if isinstance(rate, Tensor):
        weight.add_(rate * step, alpha=-1.0)
    else:
        weight.add_(step, alpha=-rate)
    return step


class Solved(NamedTuple):
    """G, and step = G A^-1 (out, D); through rows X (N, D) also moved = step X^T (out, N) and leverage = x^T A^-1 x
    (N,) of each row, for the A that holds them."""

    gradient: Tensor
    step: Tensor
    moved: Tensor | None = None
    leverage: Tensor | None = None


@dataclass(slots=True)
class Context:
    """All inputs that a layer has seen, as A = ridge * I + sum of x x^T.

    base: A but for the rows in `late`, (D, D); in K blocks (K, D / K, D / K) past WIDE inputs; its diagonal (D,) for
        one-hot inputs. · past: where A^-1 is known, (D, D) with A^-1 = past - V^T V, V = `factors` (N, D) or None.
    squares: sum of the squares of the rows in `late`.
    age: writes since it was computed from A.
    seen: samples absorbed, discounted as the context fades. · whole: the same but for what it only leaves out
        for now. · surplus: rows absorbed since it last left any out.
    gradient: sum of the gradients of a period that is not over. · rows: its inputs and error signals, (N, D) and
        (N, out), as long as writing through them is cheaper than through A. · count: rows of the period so far.
    accounts: name -> the part of A - ridge I that came in while this was going on, of what is over.
    solved: of the period that has just been closed.
    """

    base: Tensor
    late: list[Tensor] = field(default_factory=list)
    squares: Tensor | float = 0.0
    past: Tensor | None = None
    factors: Tensor | None = None
    age: int = 0
    seen: float = 0
    whole: float = 0
    surplus: int = 0
    gradient: Tensor | None = None
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    count: int = 0
    accounts: dict[str, Tensor] = field(default_factory=dict)
    solved: Solved | None = None
    _fresh: tuple[Tensor, Tensor] | None = None

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

    @property
    def matrix(self) -> Tensor:
        """A as a whole. Reading it changes nothing, not even by rounding."""
        if not self.late:
            return self.base
        whole = self.base.clone()
        observe(whole, torch.cat(self.late))
        return whole

    @matrix.setter
    def matrix(self, whole: Tensor) -> None:
        """Replace A; no rows are late then."""
        self.base, self.late, self.squares = whole, [], 0.0

    @property
    def inverse(self) -> Tensor | None:
        """A^-1 as a whole, where it is known."""
        if self.past is None or self.factors is None:
            return self.past
        return torch.addmm(self.past, self.factors.T, self.factors, alpha=-1)

    @property
    def moved(self) -> Tensor | None:
        """D x (out, N) of the rows that the last write went through, for D = G A^-1."""
        return None if self.solved is None else self.solved.moved

    @property
    def mean_diagonal(self) -> Tensor:
        """Mean of A's diagonal: ridge + mean square of all inputs."""
        diagonal = self.base if self.base.ndim == 1 else self.base.diagonal(dim1=-2, dim2=-1)
        return diagonal.mean() + self.squares / diagonal.numel()

    def absorb(self, rows: Tensor | Patches, deltas: Tensor, weights: Tensor | None = None, scale: float = 1.0) -> None:
        """Take in inputs (N, D), or one-hot indices (N,), with the error signals (N, out) that arrived for them.

        weights (N,): of each sample, 1 where None; the error signals carry them already.
        scale: turns the error signals into those of the summed loss.
        """
        if self.base.ndim == 1:
            observe(self.base, rows, weights)
            return
        self.count += len(rows)
        if self.base.ndim == 2 and self.count < len(self.base) / 2:
            rows = rows[:]
            if weights is not None:
                root = weights.to(rows.dtype).sqrt()[:, None]
                rows, deltas = rows * root, deltas / root
            self.rows.append((rows, scale * deltas))
            return
        for earlier, _ in self.rows:
            observe(self.base, earlier)
        self.rows.clear()
        observe(self.base, rows, weights)

    def close(self) -> None:
        """End a period: what waited is absorbed, and the next write may go through it."""
        self._fresh = self.solved = None
        if self.rows:
            rows, deltas = zip(*self.rows, strict=True)
            self._fresh = self.rows[0] if len(rows) == 1 else (torch.cat(rows), torch.cat(deltas))
            self.late.append(self._fresh[0])
            self.squares += self._fresh[0].square().sum()
            if self._many(sum(map(len, self.late))):
                self.settle()
        self.gradient, self.rows, self.count = None, [], 0

    def _many(self, rows: int) -> bool:
        return rows >= min(LATE, len(self.base) / 3)

    def settle(self) -> None:
        """Let A hold all rows that it has been late with."""
        if self.late:
            observe(self.base, torch.cat(self.late))
            self.late, self.squares = [], 0.0

    def solve(self, gradient: Tensor) -> Tensor:
        """G A^-1, (out, D): through the rows of the period that has just been closed where that is cheaper, and equal.
        Asked again for the same tensor before A changes, it answers at once.

        Raises DivergedError where A is beyond the reach of its number type.
        """
        if self.solved is None or self.solved.gradient is not gradient:
            self.solved = self._solve(gradient)
        return self.solved.step

    def _solve(self, gradient: Tensor) -> Solved:
        if self.base.ndim == 1:
            return Solved(gradient, gradient / self.base)
        fresh, self._fresh = self._fresh, None
        if fresh and self.past is not None and (solved := self._through_rows(gradient, *fresh)) is not None:
            return solved
        self.settle()
        factor = cholesky_factor(self.base)
        step = torch.cholesky_solve(in_blocks(gradient, self.base).mT, factor).mT
        self.forget_inverse()
        if not fresh:
            return Solved(gradient, from_blocks(step, gradient.shape[1]))
        self.past, self.age = torch.cholesky_inverse(factor), 0
        return Solved(gradient, step, step @ fresh[0].T, ((fresh[0] @ self.past) * fresh[0]).sum(1))

    def _through_rows(self, gradient: Tensor, rows: Tensor, deltas: Tensor) -> Solved | None:
        """G A^-1 by the rank-N form, and the new A^-1; None where rounding has made the old one useless."""
        assert self.past is not None
        update = rank_n(rows, self.past, self.factors)
        if update is None:
            return None
        self.factors = update.factor if self.factors is None else torch.cat([self.factors, update.factor])
        # `.grad` is the truth: clipping may have scaled it, and anything else that touched it takes the slow form.
        scale = proportion(gradient, rows, deltas)
        if scale is None:
            step = torch.addmm(gradient @ self.past, gradient @ self.factors.T, self.factors, alpha=-1)
            moved = step @ rows.T
        else:
            deltas = scale * deltas
            step, moved = (update.unroot @ deltas).T @ update.factor, deltas.T @ update.projector
        self.age += 1
        if self.age >= REFRESH:
            self.forget_inverse()
        elif self._many(len(self.factors)):
            observe(self.past, self.factors, sign=-1)
            self.factors = None
        return Solved(gradient, step, moved, update.projector.diagonal())

    def close_account(self, name: str, ridge: float) -> None:
        """Put what has come in since the last call, as far as it is still held, to the account of `name`."""
        if self.base.ndim != 2:
            return  # a diagonal or blocks: nothing is told apart
        rest = self.matrix - ridge * torch.eye(len(self.base), dtype=self.base.dtype, device=self.base.device)
        for held in self.accounts.values():
            rest -= held
        self.accounts[name] = rest + self.accounts[name] if name in self.accounts else rest

    def forget_inverse(self) -> None:
        """After a change of A that no write followed."""
        self.past = self.factors = self._fresh = self.solved = None

    def fade(self, retention: float, ridge: float) -> None:
        """A <- retention * (A - ridge I) + ridge I."""
        self.settle()
        fade(self.base, retention, ridge)
        self.accounts = {name: retention * held for name, held in self.accounts.items()}
        self.seen *= retention
        self.whole *= retention
        self.forget_inverse()

    def leave_out(self, most: float, ridge: float) -> float:
        """Hold about the last `most` rows for now; they stand for all, which `restore` lets them count as again.

        Returns what is kept: 1 until so many have come that it is worth a new inverse.
        """
        share, whole = min(self.surplus / most, 0.5), self.whole
        if share < WORTH:
            return 1.0
        self.fade(1 - share, ridge)
        self.whole, self.surplus = whole, 0
        return 1 - share

    def restore(self, ridge: float) -> float:
        """Let what is held count as much as everything that was absorbed; returns by how much it counts more."""
        more, whole = self.whole / self.seen if self.seen > 0 else 1.0, self.whole
        if more > 1:
            self.fade(more, ridge)
            self.seen = self.whole = whole
        self.surplus = 0
        return more

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds."""
        rows = (t for pair in self.rows for t in pair)
        kept = [self.base, *self.late, self.past, self.factors, self.gradient, *rows]
        return [t for t in kept if t is not None]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type."""
        self.settle()
        self.base = self.base.to(device, dtype)
        self.gradient = None if self.gradient is None else self.gradient.to(device, dtype)
        self.accounts = {name: held.to(device, dtype) for name, held in self.accounts.items()}
        self.rows = [
            (rows.to(device, dtype if rows.is_floating_point() else None), deltas.to(device, dtype))
            for rows, deltas in self.rows
        ]
        self.forget_inverse()

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        names = (
            "late",
            "squares",
            "factors",
            "age",
            "seen",
            "whole",
            "surplus",
            "gradient",
            "rows",
            "count",
            "accounts",
        )
        return {"matrix": self.base, "inverse": self.past, **{name: getattr(self, name) for name in names}}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """States of before A and its inverse took rows in late lack `late` and `factors`, older ones `whole`."""
        kept = {"whole": state["seen"], **state, "rows": [(rows, deltas) for rows, deltas in state["rows"]]}
        return cls(base=kept.pop("matrix"), past=kept.pop("inverse"), **kept)


def close_accounts(optimizer: torch.optim.Optimizer, name: str) -> None:
    """From now on tell apart what the contexts of an optimizer have taken in since the last call. For reports alone:
    nothing that is learned depends on it."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if isinstance(context := optimizer.state.get(p, {}).get("context"), Context):
                context.close_account(name, group["ridge"])


def novelty(leverage: Tensor, rows: Tensor, held: Tensor | float) -> Tensor:
    """How new inputs are to a context that has just absorbed them: mean of x^T A^-1 x before it did, a number.

    Shapes: leverage x^T A^-1 x (N,) · rows x (N, D) · held: what A holds on average, the mean of its diagonal less the
    ridge. 1 is what it holds on average. A single row before: h / (1 - h) with h = x^T A^-1 x after, exactly.
    """
    after = leverage.clamp(0, 1 - 1e-6)
    before = after / (1 - after) / rows.square().sum(1).clamp_min(1e-30)
    return before.mean() * held


def observe(matrix: Tensor, rows: Tensor | Patches, weights: Tensor | None = None, *, sign: int = 1) -> None:
    """A <- A + sign * X^T X in place.

    rows (N, D), or those of a convolution; for a diagonal, indices (N,). weights (N,): of each row, 1 where None.
    """
    if matrix.ndim == 1:
        assert isinstance(rows, Tensor)
        ones = torch.ones(len(rows), dtype=matrix.dtype, device=matrix.device)
        matrix.index_add_(0, rows, ones if weights is None else weights.to(matrix.dtype))
        return
    if isinstance(rows, Patches):
        for part in rows.parts(weights):
            observe(matrix, part, sign=sign)
        return
    if weights is not None:
        rows = rows * weights.to(rows.dtype).sqrt()[:, None]
    if matrix.ndim == 3:
        cut = in_blocks(rows, matrix)
        matrix.baddbmm_(cut.mT, cut, alpha=sign * len(matrix))
        return
    for start in range(0, len(matrix), BLOCK):  # the half below the diagonal is the other half
        end = start + BLOCK
        lower = matrix[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end], alpha=sign)
        matrix[:start, start:end] = lower[:, :start].T


def fade(matrix: Tensor, retention: float, ridge: float) -> None:
    """A <- retention * (A - ridge I) + ridge I in place: the ridge stays, so that nothing winds up in directions that
    fall silent. Shapes: (D, D), blocks (K, d, d), or a diagonal (D,)."""
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


def bytes_of(value: Any) -> int:
    """Bytes that the numbers of all tensors in nested containers take."""
    return sum(t.numel() * t.element_size() for t in tree_leaves(value) if isinstance(t, Tensor))
