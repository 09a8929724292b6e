"""Streaming linear discriminant analysis on frozen features: running means of classes and one covariance for all."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import check_number
from nllab.methods.objective import Objective
from nllab.methods.random_features import OnFrozenFeatures
from nllab.streams.stream import Part

UNSEEN = -1e6  # the score of a class that has not occurred


def discriminant(counts: Tensor, sums: Tensor, gram: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """(W, b) with W_c = Λ μ_c and b_c = -½ μ_cᵀ Λ μ_c: the class whose mean is nearest in the Mahalanobis distance.

    Λ = [(1 - shrinkage) Σ + shrinkage · mean variance · I]⁻¹, Σ the covariance within classes.
    Shapes: counts (K,) · sums of features (K, D) · gram, sum of z zᵀ (D, D) · returns (K, D), (K,).
    """
    seen = counts > 0
    means = sums / counts.clamp_min(1)[:, None]
    within = (gram - (means * counts[:, None]).T @ means) / counts.sum()
    variance = within.diagonal().mean().clamp_min(torch.finfo(within.dtype).tiny)
    eye = torch.eye(len(within), dtype=within.dtype, device=within.device)
    weight = torch.linalg.solve((1 - shrinkage) * within + shrinkage * variance * eye, means.T).T
    return weight, torch.where(seen, -0.5 * (weight * means).sum(1), UNSEEN)


class SLDA(OnFrozenFeatures):
    """Streaming linear discriminant analysis on the head of a model with frozen features; with random Fourier features
    it is RanDumb. Whatever order samples come in, the head is the same.

    Source: Hayes & Kanan 2020, arXiv 1909.01520, Eq. 1-4 (paper symbol: ε = shrinkage); RanDumb: Prabhu et al. 2024,
        arXiv 2402.08823, Section 2.
    Needs: nothing. Keeps: a matrix D x D and a row for each class, in double precision; D the number of features.
    Differs from paper: features are random instead of pretrained (SLDA); the covariance is exact instead of a running
        estimate about moving means, and shrinks towards its own mean variance instead of the identity, so that the
        scale of features plays no part. RanDumb's paper takes 25,000 features.
    """

    names = "slda and randumb"

    def __init__(
        self,
        objective: Objective,
        generator: torch.Generator,
        *,
        shrinkage: float,
        features: int = 0,
        gamma: float = 0.0,
    ) -> None:
        check_number("method_settings: shrinkage", shrinkage, "(0, 1]")
        self.objective, self.generator, self.shrinkage = objective, generator, shrinkage
        self.memory = {}

    @torch.no_grad()
    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        own = self.own(model)
        rows = own.features(batch.inputs).double()
        answers = F.one_hot(batch.labels, scores.shape[1]).to(rows.dtype)
        if not self.memory:
            self.memory = {
                "counts": answers.new_zeros(answers.shape[1]),
                "sums": rows.new_zeros(answers.shape[1], rows.shape[1]),
                "gram": rows.new_zeros(rows.shape[1], rows.shape[1]),
            }
        self.memory["counts"] += answers.sum(0)
        self.memory["sums"] += answers.T @ rows
        self.memory["gram"].addmm_(rows.T, rows)
        weight, bias = discriminant(**self.memory, shrinkage=self.shrinkage)
        own.head.weight.copy_(weight)
        own.head.bias.copy_(bias)
