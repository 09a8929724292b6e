"""What one step of the deep optimizer saw and did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor

from nllab.errors import DivergedError
from nllab.optim.context import Context, novelty
from nllab.optim.output import Loss
from nllab.optim.policy import Decision
from nllab.optim.rank_n import cholesky_factor
from nllab.optim.watch import Pass

if TYPE_CHECKING:
    from nllab.optim.layers import Matrix


class Due(NamedTuple):
    """A layer at the end of its period. rows, samples: of this step."""

    matrix: Matrix
    group: dict[str, Any]
    context: Context
    gradient: Tensor
    passes: Sequence[Pass]
    head: bool
    rows: int
    samples: int


class LevelReport(NamedTuple):
    """Means over the layers of a level whose period ended, also where the optimizer only watched.

    surprise: size of the error signal at their outputs, per sample. · novelty: of their inputs; 1 is what their
    contexts hold on average. · conflict: the share of the wanted step that the contexts hold back, in [0, 1]; one less
    the share that passes. · held: the same on each account (see `held_by`); their sum is the conflict.
    """

    surprise: float
    novelty: float
    conflict: float
    held: dict[str, float]

    @classmethod
    def mean(cls, layers: Sequence[LevelReport]) -> Self:
        """Of the layers of a level; an account that a layer does not know holds nothing back there."""
        names = dict.fromkeys(name for layer in layers for name in layer.held)
        held = {name: sum(layer.held.get(name, 0.0) for layer in layers) / len(layers) for name in names}
        signals = {name: sum(getattr(layer, name) for layer in layers) / len(layers) for name in cls._fields[:-1]}
        return cls(**signals, held=held)


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
    """One write, or one that was only watched, as it is needed to measure it before the next step.

    passes: what the layer saw. · gradient: G. · context: as it was before it faded or the head was realigned.
    diagonal: the mean of A's. · known: G A^-1, and leverage: x^T A^-1 x of each row as it was weighted, where the write
    has computed them; solved for otherwise, when first read.
    """

    level: str
    layer: Matrix
    outer: bool  # whether the layer is the first or the last
    passes: Sequence[Pass]
    scale: float
    gradient: Tensor
    context: Context
    ridge: float
    diagonal: Tensor
    known: Tensor | None = None
    leverage: Tensor | None = None
    accounts: Mapping[str, Tensor] = field(default_factory=dict)  # of the context

    @classmethod
    def of(cls, layer: Due, step: Tensor | None, scale: float, entry: bool, fades: bool) -> Self:
        """step: G A^-1, None where it was not written. fades: whether A is about to."""
        context, solved = layer.context, layer.context.solved
        base = context.base.clone() if fades else context.base
        kept = replace(context, base=base, late=[*context.late])
        leverage = None if solved is None or solved.leverage is None else solved.leverage[-layer.rows :]
        seen = (layer.passes, scale, layer.gradient, kept, layer.group["ridge"], context.mean_diagonal)
        return cls(layer.group["level"], layer.matrix, layer.head or entry, *seen, step, leverage, context.accounts)

    def measure(self) -> LevelReport:
        """What a level reports, of this layer alone. Raises DivergedError where A has no inverse in its number type."""
        deltas = torch.cat([seen.deltas for seen in self.passes])
        held = held_by(self.gradient, self.step, self.ridge, self.accounts)
        surprise = self.scale * float(deltas.norm(dim=1).mean())
        return LevelReport(surprise, self.novelty, sum(held.values()), held)

    @cached_property
    def rows(self) -> Tensor:
        """The layer's inputs, (N, D)."""
        return torch.cat([seen.rows[:] for seen in self.passes])

    @cached_property
    def step(self) -> Tensor:
        """G A^-1, (out, D)."""
        return self.solve(self.gradient) if self.known is None else self.known

    def solve(self, rows: Tensor) -> Tensor:
        """rows A^-1, (N, D)."""
        return rows @ self._inverse

    @cached_property
    def novelty(self) -> float:
        """Of its inputs, in the mean; 1 is what the context holds on average (see `context.novelty`)."""
        if self.leverage is None:
            leverage = (self.solve(self.rows) * self.rows).sum(1)
        elif any(seen.weights is not None for seen in self.passes):
            ones = self.leverage.new_ones
            weights = [ones(len(seen.rows)) if seen.weights is None else seen.weights for seen in self.passes]
            leverage = self.leverage / torch.cat(weights)
        else:
            leverage = self.leverage
        return float(novelty(leverage, self.rows, self.diagonal - self.ridge))

    @cached_property
    def _inverse(self) -> Tensor:
        """A^-1. Raises DivergedError where A is beyond the reach of its number type."""
        if (known := self.context.inverse) is not None:
            return known
        return torch.cholesky_inverse(cholesky_factor(self.context.matrix.clone()))  # which may put a ridge back


def measurable(
    due: Sequence[Due],
    steps: Sequence[Tensor | None],
    scale: float,
    entry: Tensor | None,
    fades: Callable[[Due], bool],
) -> list[Written]:
    """Of the layers whose inputs one whole context holds. steps: G A^-1 of each, None where nothing was written."""
    return [
        Written.of(layer, step, scale, layer.matrix.weight is entry, fades(layer))
        for layer, step in zip(due, steps, strict=True)
        if layer.passes and not layer.passes[0].hidden and layer.context.base.ndim == 2
    ]


@dataclass(frozen=True)
class Report:
    """One step.

    loss: as recognised, None before. · value: what was passed as step(loss=...) or a closure returned.
    error_rate: share of the samples that the model got wrong, None where the loss does not tell.
    decision: of the policy, None where it stays with what it had decided.
    levels: measured when first read, of the levels whose period ended in this step.
    """

    loss: Loss | None = None
    value: float | None = None
    error_rate: float | None = None
    decision: Decision | None = None
    written: Sequence[Written] = ()

    @cached_property
    def levels(self) -> dict[str, LevelReport]:
        """Level -> means over its layers. Layers whose memory has no inverse are left out, and levels of only such."""
        reports: dict[str, list[LevelReport]] = {}
        for write in self.written:
            with suppress(DivergedError):  # what cannot be measured is not: only a write that is made must not fail
                reports.setdefault(write.level, []).append(write.measure())
        reports = {level: measured for level, measured in reports.items() if measured}
        return {level: LevelReport.mean(layers) for level, layers in reports.items()}
