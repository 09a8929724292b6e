"""What a deep optimizer refuses before anything changes, and says once: what it cannot see or hold of a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from nllab.errors import DivergedError, OptimizerWarning
from nllab.optim.groups import Holdings
from nllab.optim.watch import Batch, explains

if TYPE_CHECKING:
    from nllab.optim.watching import WatchingOptimizer

PATIENCE = 50  # steps after which a layer that never had a gradient is named
USED_DIRECTLY = (
    "{} has a gradient that its layer does not account for: the model uses the weight directly. So a diagonal of"
    " squared gradients holds it; run the layer itself for a context."
)
UNRECOGNISED = (
    "The loss was not recognised. It is taken as a mean over the rows of the model's output; say what it is with"
    " loss='cross_entropy' or 'squared_error', or loss_reduction='mean' or 'sum'."
)


class Notices:
    """Sentences for the person who trains, each said once, as an OptimizerWarning."""

    def __init__(self, wanted: bool) -> None:
        self.wanted, self.said = wanted, set[str]()

    def say(self, text: str) -> None:
        """Warn with this sentence, unless it was said before or warnings are not wanted."""
        if self.wanted and text not in self.said:
            self.said.add(text)
            warnings.warn(text, OptimizerWarning, stacklevel=4)


def refuse_what_is_not_finite(groups: Iterable[Mapping[str, Any]], holdings: Holdings) -> None:
    """Raises DivergedError that names the first parameter whose gradient is not finite."""
    seen = [p for group in groups for p in group["params"] if p.grad is not None]
    gradients = [p.grad.coalesce().values() if p.grad.is_sparse else p.grad for p in seen]
    if torch.isfinite(get_total_norm(gradients)):
        return
    names = (holdings.names.get(p, "a parameter outside the model") for p in seen)
    bad = (name for name, gradient in zip(names, gradients, strict=True) if not torch.isfinite(gradient).all())
    raise DivergedError(
        f"The gradient of {next(bad, 'the whole model')} is not finite; weights and memory stay as they were. Lower the"
        " rate, or look for NaN in the data."
    )


def unexplained(holdings: Holdings, state: Mapping[Any, Any], batch: Batch) -> list[Tensor]:
    """Weights whose first gradient does not come from their layer alone, so that no context fits them."""
    unseen = [
        weight
        for weight in holdings.scales
        if weight.grad is not None and "channels" not in state[weight] and weight not in batch.norms
    ]
    return unseen + [
        weight
        for weight, matrix in holdings.matrices.items()
        if weight.grad is not None and not _ran(state, weight) and not explains(matrix, batch.of(weight))
    ]


def never_ran(holdings: Holdings, state: Mapping[Any, Any]) -> list[str]:
    """Names of the weights whose layers have seen nothing."""
    return [holdings.names[weight] for weight in holdings.matrices if not _ran(state, weight)]


def _ran(state: Mapping[Any, Any], weight: Tensor) -> bool:
    known = state[weight].get("context")
    return known is not None and known.seen > 0


def look_closely(optimizer: WatchingOptimizer, batch: Batch) -> None:
    """Hold by its diagonal what no context fits; say once what cannot be seen."""
    holdings, watcher, notices = optimizer._holdings, optimizer._watcher, optimizer._notices
    for weight in unexplained(holdings, optimizer.state, batch):
        optimizer.state.pop(weight, None)
        holdings.release(weight)
        watcher.weights, watcher.scales = holdings.matrices, holdings.scales
        notices.say(USED_DIRECTLY.format(holdings.names[weight]))
    if watcher.unrecognised and optimizer._made_with["loss_reduction"] is None:
        notices.say(UNRECOGNISED)
    if optimizer._steps == PATIENCE and (idle := never_ran(holdings, optimizer.state)):
        notices.say(f"{', '.join(idle)}: no gradient in {PATIENCE} steps, so nothing is learned there.")
