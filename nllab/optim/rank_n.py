"""The identity of Woodbury, what a few new rows change of an inverse at the cost of those rows; and a factor of A."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from nllab.errors import DivergedError

EXACT = 1e-5  # relative; a gradient this close to its own outer products is taken to be them, in float32


class RankN(NamedTuple):
    """factor V (N, D) with (A + X^T X)^-1 = A^-1 - V^T V · unroot L^-1 (N, N), where L L^T = I + X A^-1 X^T ·
    projector X (A + X^T X)^-1 X^T (N, N)."""

    factor: Tensor
    unroot: Tensor
    projector: Tensor


def rank_n(rows: Tensor, past: Tensor, factors: Tensor | None = None) -> RankN | None:
    """What N new rows X change of A^-1 = past - F^T F, F the factors (Woodbury 1950, in Cholesky form);
    None where A^-1 is not positive any more, by rounding.

    X (A + X^T X)^-1 = L^-T V, so that a gradient delta^T X takes the step (L^-1 delta)^T V.
    Shapes: rows (N, D) · past (D, D) · factors (M, D).
    """
    projected = rows @ past
    if factors is not None:
        projected.addmm_(rows @ factors.T, factors, alpha=-1)
    inner = projected @ rows.T
    eye = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    root, failed = torch.linalg.cholesky_ex(inner + eye)
    if failed:
        return None
    unroot = torch.linalg.solve_triangular(root, eye, upper=False)
    return RankN(unroot @ projected, unroot, unroot.T @ (unroot @ inner))


def proportion(gradient: Tensor, rows: Tensor, deltas: Tensor) -> Tensor | None:
    """c with gradient = c * deltas^T rows, compared on a random combination of the columns; None if there is none.

    Shapes: gradient (out, D) · rows (N, D) · deltas (N, out) · returns a number.
    """
    probe = _probe(rows.shape[1], rows.dtype, rows.device)
    projected, outer = gradient @ probe, deltas.T @ (rows @ probe)
    scale = torch.dot(projected, outer) / torch.dot(outer, outer).clamp_min(1e-30)
    return scale if (projected - scale * outer).norm() <= EXACT * projected.norm() else None


@lru_cache(maxsize=64)
def _probe(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device, dtype)


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
