"""How far a layer steps.

The head's write is exact in units of its loss. A hidden layer's change D = G A^-1 is the minimizer for a loss that
bends by 1 behind it. How much it really bends is seen in the backward pass: error signals δ at the layer's output are
J^T r for residuals r at the scores, so that for residuals of all directions

    curvature  ρ = sum of ||δ||² / sum of ||r||² · r^T H r / ||r||²        H: Hessian of the loss in the scores

Along η D_l in all hidden layers l at once, with gains g_l = <G_l, D_l>, the quadratic model of everything remembered is
at most -η Σ g_l + η²/2 (Σ √(ρ_l g_l))² (triangle inequality), and falls furthest at

    η* = Σ g_l / (Σ √(ρ_l g_l))²

Where the model is wrong, old inputs are not there to tell, and damage adds up while gain dies away with the samples n
that have used the directions of D. So hidden layers step by

    η = BOLD / (1 + n / SPAN) · η*,      n = samples · <G, D> / sum of ||D x||² over the batch's inputs x:

all the change that D means for what is remembered, in units of what it means for the samples at hand. Inputs in new
directions make n small again, so that a layer learns fast where nothing old is in the way.

No quadratic model reaches far. So no write moves the outputs W x of its layer on its own batch by more than a share
TRUST of their size: η_l = min(η, TRUST √(sum of ||W x||² / sum of ||D x||²)). Where nothing but linear layers leads
from a layer to the scores the model is the truth, and a layer that has answered nothing but zero has no size to be
compared with; both take CAP times the exact minimizer at most.

One η for all leaves rows of W behind, behind whose outputs the loss hardly bends: those of queries and keys, which at
first move nothing, would stand still for ever. Row i of layer l takes the share √(s_i γ_i) of its layer's √(ρ_l g_l),
with s_i and γ_i its shares of the layer's signal and gain. One that would bend the loss by less than FLAT of what the
mean layer does, were all rows of its layer like it, is lifted to that: it steps c_i times as far,

    c_i = max(1, FLAT · mean of √(ρ g) over layers / (out √(ρ_l g_l) √(s_i γ_i)))

and the lifted rows of a layer are trusted as a layer of their own.

Source: ours. Kin: K-FAC (Martens and Grosse 2015) keeps the curvature behind a layer as a matrix; here it is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import sqrt
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from nllab.optim.output import Loss
from nllab.optim.patches import Patches

if TYPE_CHECKING:
    from nllab.optim.watch import Pass

# Steps of the head are in units of the exact minimizer of a squared error; the residual of a cross-entropy is bounded
# by 1 and its curvature by a half, so that the same step learns too little. Chosen on validation data (LOG.md).
BOUNDED_RATE = 5.0
# Of η*; samples; of a layer's outputs; of the exact minimizer. Chosen on validation data, one of each for all nets and
# losses (LOG.md).
BOLD, SPAN, TRUST, CAP = 4.0, 500.0, 0.1, 8.0
# Times the exact minimizer, until an optimizer that has watched another one has written as often: no trace knows what
# the other's writes met.
AFTER_WATCHING = 4.0
RECENT = 0.9  # what the sums over recent writes keep at each
FLAT = 0.03  # of the mean layer's bend
LOOK = 16  # writes of a layer between two looks at its rows
MEMORY = 10  # looks that a row's shares are the mean of
HIGHEST = 1e6  # that a row is lifted
FIRST_LOOK = 160  # before, their shares are those of a network that has hardly begun
ROWS = 64  # of a batch that are enough to measure ||D x||²


def head_rate(loss: Loss | None) -> float:
    """The factor of G A^-1 in the head's write, in units of its level's rate."""
    return BOUNDED_RATE if loss is not None and loss.bounded else 1.0


@dataclass(slots=True)
class Trace:
    """What the writes of one hidden layer have met so far.

    signal, residual: life sums of ||δ||² r^T H r / ||r||² and ||r||². · gain: life sum of <G, D>.
    recent_gain, recent_own, samples: running sums over recent writes of <G, D>, of ||D x||² over the batch's inputs,
        and of its samples. · writes: so far.
    shares: s and γ of each row, the mean of those looked at, (2, out). · lift: c (out, 1), or None where all are 1.
    """

    signal: float = 0.0
    residual: float = 0.0
    gain: float = 0.0
    recent_gain: float = 0.0
    recent_own: float = 0.0
    samples: float = 0.0
    writes: int = 0
    shares: Tensor | None = None
    lift: Tensor | None = None

    @property
    def curvature(self) -> float:
        """ρ, how much the loss bends behind the layer; 0 before any residual was seen."""
        return self.signal / self.residual if self.residual > 0 else 0.0

    def see(self, signal: float, residual: float, bend: float) -> None:
        """A batch: sum of ||δ||², sum of ||r||², mean of r^T H r / ||r||²."""
        self.signal += bend * signal
        self.residual += residual

    def write(self, gain: float, own: float, samples: float) -> None:
        """A change D that is about to be written."""
        self.gain += gain
        self.recent_gain = RECENT * self.recent_gain + gain
        self.recent_own = RECENT * self.recent_own + own
        self.samples = RECENT * self.samples + samples
        self.writes += 1

    @property
    def bend(self) -> float:
        """√(ρ g)."""
        return sqrt(self.curvature * max(self.gain, 0.0))

    @property
    def looks(self) -> int:
        """How often its rows have been looked at, this write included; 0 where this write is none to look at."""
        since = self.writes - FIRST_LOOK
        return since // LOOK + 1 if since >= 0 and since % LOOK == 0 else 0

    def look(self, signals: Tensor, gains: Tensor, mean_bend: float) -> None:
        """Compare rows with the mean layer. signals, gains: of each row in this write, (out,)."""
        seen = torch.stack([signals / signals.sum(), gains / gains.sum()]).nan_to_num(0.0).clamp_min(0.0)
        self.shares = seen if self.shares is None else self.shares + (seen - self.shares) / min(self.looks, MEMORY)
        bends = len(signals) * self.bend * self.shares.prod(0).sqrt()
        lift = torch.where(bends > 0, FLAT * mean_bend / bends, 1.0).clamp(1.0, HIGHEST)
        self.lift = lift[:, None] if bool((lift > 1).any()) else None

    def tensors(self) -> list[Tensor]:
        """All tensors that it holds."""
        return [kept for kept in (self.shares, self.lift) if kept is not None]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type."""
        self.shares = None if self.shares is None else self.shares.to(device, dtype)
        self.lift = None if self.lift is None else self.lift.to(device, dtype)

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        return cls(**state)


def through(matrix: Tensor, rows: Tensor | Patches) -> Tensor:
    """M x, (out, n), for at most about `ROWS` of a layer's inputs, evenly spaced.

    Shapes: matrix (out, width) · rows (N, width), or indices (N,) of one-hot inputs.
    """
    some = rows[:: max(1, len(rows) // ROWS)]
    return matrix[:, some] if rows.ndim == 1 else matrix @ some.T


def own_energy(change: Tensor, rows: Tensor | Patches) -> Tensor:
    """Sum of ||D x||² over the inputs of a batch, from at most `ROWS` of them, evenly spaced.

    Shapes: change D (out, width) · rows (N, width), or indices (N,) of one-hot inputs · returns a number.
    """
    moved = through(change, rows)
    return moved.square().sum() * (len(rows) / moved.shape[1])


def passes_energy(change: Tensor, passes: Sequence[Pass], moved: Tensor | None) -> Tensor:
    """`own_energy` over all passes of a step. moved: D x of its rows, the last of (out, N), where the write has found
    them on its way; else they are computed."""
    if moved is None:
        return _sum([own_energy(change, seen.rows) for seen in passes])
    counts = [len(seen.rows) for seen in passes]
    energies = []
    for seen, each in zip(passes, moved.square().sum(0)[-sum(counts) :].split(counts), strict=True):
        own = each if seen.weights is None else each / seen.weights
        some = own[:: max(1, len(own) // ROWS)]
        energies.append(some.sum() * (len(own) / len(some)))
    return _sum(energies)


def energy_by_row(matrix: Tensor, passes: Sequence[Pass]) -> Tensor:
    """Sum of (M x)_i² over the inputs of all passes for each row i of a matrix (out, width), (out, 1)."""
    total = matrix.new_zeros(len(matrix), 1)
    for seen in passes:
        moved = through(matrix, seen.rows)
        total += moved.square().sum(1, keepdim=True) * (len(seen.rows) / moved.shape[1])
    return total


def _sum(numbers: list[Tensor]) -> Tensor:
    return numbers[0] if len(numbers) == 1 else torch.stack(numbers).sum()


def best_rate(traces: Iterable[Trace]) -> float:
    """η*, the joint minimizer of the quadratic model along the changes of all hidden layers; inf where all is flat."""
    known = [trace for trace in traces if trace.gain > 0]
    bend = sum(sqrt(trace.curvature * trace.gain) for trace in known) ** 2
    return sum(trace.gain for trace in known) / bend if bend > 0 else float("inf")


def age(traces: Iterable[Trace]) -> float:
    """n, the samples that have used the directions in which hidden layers are changing now."""
    met = [trace for trace in traces if trace.recent_own > 0]
    if not met:
        return 0.0
    gain, own = sum(trace.recent_gain for trace in met), sum(trace.recent_own for trace in met)
    return (1 - RECENT) * max(trace.samples for trace in met) * gain / own


def hidden_rate(traces: Iterable[Trace]) -> float:
    """η, the factor of G A^-1 in a hidden layer's write, in units of its level's rate; inf where all is flat."""
    traces = list(traces)
    return BOLD / (1 + age(traces) / SPAN) * best_rate(traces)


def mean_bend(traces: Iterable[Trace]) -> float:
    """Mean of √(ρ g) over the layers that have gained anything; 0 without any."""
    bends = [trace.bend for trace in traces if trace.gain > 0]
    return sum(bends) / len(bends) if bends else 0.0


def lifted(rate: float, plain: float, lift: Tensor, own: Tensor, size: Tensor) -> Tensor:
    """The factor of each row's write, (out, 1).

    rate: η. · plain: the factor of rows that are not lifted. · lift: c. · own, size: `energy_by_row` of D and of W.
    """
    high = lift > 1
    moved, whole = float((lift.square() * own)[high].sum()), float(size[high].sum())
    return torch.where(high, trusted(rate, moved, whole) * lift if whole > 0 else plain, plain)


def trusted(rate: float, own: float, size: float) -> float:
    """The rate at which a write stays where its quadratic model holds.

    own, size: sums of ||D x||² and of ||W x||² over the batch; size 0 where it holds everywhere, or is not known.
    """
    return min(rate, TRUST * sqrt(size / own) if own > 0 and size > 0 else CAP)
