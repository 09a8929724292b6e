"""Recursive least squares on frozen features: at every moment the ridge regression on everything seen so far, in
whatever order it came."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import check_number
from nllab.methods.objective import Objective
from nllab.methods.random_features import OnFrozenFeatures
from nllab.streams.stream import Part


def rls_write(weight: Tensor, inverse: Tensor, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(weight, inverse) after N more rows: W <- W + (Y - X W^T)^T G, P <- P - (X P)^T G, G = (I + X P X^T)^-1 X P.

    Started from W = 0 and P = I / ridge this is the ridge regression on all rows so far, in batches or one by one.
    Shapes: weight (K, D) · inverse (D, D) · rows (N, D) · targets (N, K).
    """
    projected = rows @ inverse
    inner = torch.eye(len(rows), dtype=rows.dtype, device=rows.device) + projected @ rows.T
    gain = torch.cholesky_solve(projected, torch.linalg.cholesky(inner))
    return weight + (targets - rows @ weight.T).T @ gain, inverse - projected.T @ gain


class RLS(OnFrozenFeatures):
    """Recursive least squares on the head of a model with frozen features: exact, one pass, no rate to choose.

    Source: the streaming form of analytic continual learning (Zhuang et al. 2022, arXiv 2205.14922, Theorem 1) and of
        RanPAC (McDonnell et al. 2023, arXiv 2307.02251), on features drawn at random instead of learned on a first task
        or beforehand.
    Needs: nothing. Keeps: one matrix D x D in double precision, D the number of features and one for the bias.
    Differs from paper: no first task to learn features from; the bias is penalised like any weight.
    """

    names = "rls and rls-conv"

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, ridge: float, features: int = 0, filters: int = 0
    ) -> None:
        check_number("method_settings: ridge", ridge, "(0, inf)")
        self.objective, self.generator, self.ridge = objective, generator, ridge
        self.memory = {}

    @torch.no_grad()
    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        own = self.own(model)
        rows = own.features(batch.inputs).double()
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        if not self.memory:
            eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
            self.memory = {"weight": rows.new_zeros(scores.shape[1], rows.shape[1]), "inverse": eye / self.ridge}
        targets = F.one_hot(batch.labels, scores.shape[1]).to(rows.dtype)
        self.memory["weight"], self.memory["inverse"] = rls_write(
            self.memory["weight"], self.memory["inverse"], rows, targets
        )
        own.head.weight.copy_(self.memory["weight"][:, :-1])
        own.head.bias.copy_(self.memory["weight"][:, -1])
