"""How far a layer steps: its level's rate in the units of the loss, with what the policy grants."""

from __future__ import annotations

from nllab.optim.output import Loss
from nllab.optim.policy import Settings

# Steps are in units of the exact minimizer of a squared error; the residual of cross-entropy is bounded by 1 and its
# curvature by a half, so that the same step learns too little. Chosen on validation data (LOG.md).
CROSS_ENTROPY_RATE = 5.0
HORIZON = 2000.0  # samples: while unconstrained, a hidden layer learns as if it had seen no more than these


def layer_rate(rate: float, *, head: bool, loss: Loss | None, seen: float, settings: Settings) -> float:
    """The factor of G A^-1 in a layer's write.

    rate: of its level. · head: whether it is the last layer. · seen: samples that its context holds.
    """
    if settings.unconstrained and rate and not head:
        rate = max(rate, seen / HORIZON)
    unit = CROSS_ENTROPY_RATE if loss is not None and loss.kind == "cross_entropy" else 1.0
    return unit * settings.rate * rate
