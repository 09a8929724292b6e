"""What is measured on a model: accuracy per task, movement of weights per level. Measuring draws no randomness and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nllab.streams.stream import Part

EVALUATION_BATCH = 1000  # bounds the memory that a measurement takes


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """Share of the samples whose highest score is that of their label (0-1); NaN for an empty part."""
    if not len(part):
        return float("nan")
    was_training = model.training
    model.eval()
    pairs = zip(part.inputs.split(EVALUATION_BATCH), part.labels.split(EVALUATION_BATCH), strict=True)
    right = sum(int((model(inputs).argmax(-1) == labels).sum()) for inputs, labels in pairs)
    model.train(was_training)
    return right / len(part)


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([norm.double() for norm in torch._foreach_norm(list(tensors))]).norm()) if tensors else 0.0


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    return _norm([p.grad for p in parameters if p.grad is not None])


class Movement:
    """How far the weights of one level have gone, measured from their values, never from a clock.

    `observe()` compares with the values at the last call: whether any changed, by how much, and the relative distance
    ||theta - theta_0|| / ||theta_0|| from the initial values and from those at the last `mark()`. Where the initial norm is zero
    (an output layer that starts at zero) the distance itself is given.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.writes = 0
        self.initial = self._copy()
        self.last = self._copy()
        self.marked = self._copy()
        self.drift = self.drift_since_mark = 0.0

    @torch.no_grad()
    def _copy(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def _relative(self, origin: list[Tensor]) -> float:
        return _norm(torch._foreach_sub([p.detach() for p in self.parameters], origin)) / (_norm(origin) or 1.0)

    @torch.no_grad()
    def observe(self) -> tuple[bool, float]:
        """(whether the level's weights changed since the last call, the norm of the change)."""
        if all(torch.equal(p, before) for p, before in zip(self.parameters, self.last, strict=True)):
            return False, 0.0
        step = _norm(torch._foreach_sub([p.detach() for p in self.parameters], self.last))
        torch._foreach_copy_(self.last, [p.detach() for p in self.parameters])
        self.writes += 1
        self.drift, self.drift_since_mark = self._relative(self.initial), self._relative(self.marked)
        return True, step

    def mark(self) -> None:
        """Start `drift_since_mark` anew, as at a switch of the task."""
        self.marked = self._copy()
        self.drift_since_mark = 0.0

    def state(self) -> Mapping[str, object]:
        return {
            "writes": self.writes,
            "initial": [t.clone() for t in self.initial],
            "last": [t.clone() for t in self.last],
            "marked": [t.clone() for t in self.marked],
            "drift": (self.drift, self.drift_since_mark),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        self.writes = state["writes"]  # type: ignore[assignment]
        for name in ("initial", "last", "marked"):
            setattr(self, name, [t.clone() for t in state[name]])  # type: ignore[attr-defined]
        self.drift, self.drift_since_mark = state["drift"]  # type: ignore[misc]
