"""What one step of the deep optimizer saw and did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nllab.optim.context import novelty
from nllab.optim.output import Loss
from nllab.optim.policy import Decision
from nllab.optim.watch import Pass


class LevelReport(NamedTuple):
    """Means over the layers of a level that wrote.

    surprise: size of the error signal at their outputs, per sample. · novelty: of their inputs; 1 is what their
    contexts hold on average. · conflict: the share of the gradient's size that the contexts hold back, in [0, 1].
    """

    surprise: float
    novelty: float
    conflict: float


def held_by(gradient: Tensor, step: Tensor, ridge: float, accounts: Mapping[str, Tensor]) -> dict[str, float]:
    """On whose account a memory holds back a step: name -> share of the wanted step G, for the rest under "".

    With D = G A^-1 and A = ridge I + sum of C_k the wanted step is the sum of what passes and of what each C_k holds
    back, G = ridge D + sum of D C_k; of each the part along G, <D C_k, G> / |G|^2, so that all shares and the one that
    passes, ridge <D, G> / |G|^2, add up to 1. A share is below 0 where a memory alone would push the step further.

    Shapes: gradient, step (out, D) · accounts: C_k (D, D) each.
    """
    size = gradient.square().sum().clamp_min(1e-30)
    rest = gradient - ridge * step
    shares = {}
    for name, held in accounts.items():
        part = step @ held
        shares[name] = float((part * gradient).sum() / size)
        rest = rest - part
    return shares | {"": float((rest * gradient).sum() / size)}


@dataclass(frozen=True)
class Written:
    """One write, as it is needed to measure it: what the layer saw, G, G A^-1, A^-1 and the mean of A's diagonal."""

    level: str
    outer: bool  # whether the layer is the first or the last
    passes: Sequence[Pass]
    scale: float
    gradient: Tensor
    step: Tensor
    inverse: Tensor
    ridge: float
    diagonal: Tensor

    def measure(self) -> LevelReport:
        deltas = torch.cat([seen.deltas for seen in self.passes])
        held_back = 1 - float(self.ridge * self.step.norm() / self.gradient.norm().clamp_min(1e-30))
        return LevelReport(self.scale * float(deltas.norm(dim=1).mean()), self.novelty, held_back)

    @cached_property
    def novelty(self) -> float:
        rows = torch.cat([seen.rows for seen in self.passes])
        return float(novelty(rows, self.inverse, self.diagonal - self.ridge))


@dataclass(frozen=True)
class Report:
    """One step.

    loss: as recognised, None before. · value: what was passed as step(loss=...) or a closure returned.
    error_rate: share of the samples that the model got wrong, None where the loss does not tell.
    decision: of the policy, None where it stays with what it had decided.
    levels: measured when first read, of the levels that wrote through their inputs in this step.
    """

    loss: Loss | None = None
    value: float | None = None
    error_rate: float | None = None
    decision: Decision | None = None
    written: Sequence[Written] = ()

    @cached_property
    def levels(self) -> dict[str, LevelReport]:
        found: dict[str, list[LevelReport]] = {}
        for write in self.written:
            found.setdefault(write.level, []).append(write.measure())
        return {
            level: LevelReport(*(sum(values) / len(values) for values in zip(*measured, strict=True)))
            for level, measured in found.items()
        }
