"""What is measured on a model: accuracy per task, movement of weights per level. Measuring draws no randomness and
changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm, parameters_to_vector

from nllab.streams.stream import IGNORE, Part, side_by_side

GRID = 8  # blocks on a side in the picture of where weights moved
SURFACE = 40  # points on a side of a decision surface
LONGEST = 32  # characters of a text that a model writes by itself
EVALUATION_BATCH = 1000  # bounds the memory that a measurement takes


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """Share of the labels that are asked for whose score is the highest (0-1); NaN for an empty part."""
    if not len(part):
        return float("nan")
    was_training = model.training
    model.eval()
    pairs = zip(part.inputs.split(EVALUATION_BATCH), part.labels.split(EVALUATION_BATCH), strict=True)
    right = sum(int((model(inputs).argmax(-1) == labels).sum()) for inputs, labels in pairs)
    model.train(was_training)
    return right / int((part.labels != IGNORE).sum())


def renamed(part: Part, names: Sequence[int], *, changed: bool) -> Part:
    """The samples of the classes whose name in this context is another than their own (`changed`), or of the others,
    with the labels of the context."""
    own, called = torch.arange(len(names)), torch.tensor(names)
    some = part[((called != own) == changed).to(part.labels.device)[part.labels]]
    return Part(some.inputs, called.to(part.labels.device)[some.labels])


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Euclidean norm of all gradients of these parameters together, 0 where there is none."""
    return float(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def coarse(matrix: Tensor, size: int = GRID) -> Tensor:
    """Root mean square of a matrix over the blocks of a grid of at most size x size: (out, in) -> (min(size, out),
    min(size, in))."""
    shape = (min(size, matrix.shape[0]), min(size, matrix.shape[1]))
    return F.adaptive_avg_pool2d(matrix.square()[None, None], shape)[0, 0].sqrt()


@torch.no_grad()
def answers(model: nn.Module, inputs: Tensor) -> list[int]:
    """The class with the highest score for each input (N, ...), with dropout and running statistics at rest."""
    was_training = model.training
    model.eval()
    classes = model(inputs).argmax(-1).tolist()
    model.train(was_training)
    return classes


@torch.no_grad()
def continued(
    model: nn.Module, beginnings: Sequence[Sequence[int]], classes: int, window: int, longest: int = LONGEST
) -> list[list[int]]:
    """Each beginning with what the model adds to it, always the class that scores highest, up to class 0 (left out) or
    `longest` classes.

    The model sees the last `window` classes, as `streams.names.windows` has them.
    """
    was_training = model.training
    model.eval()
    texts, open_ = [list(beginning) for beginning in beginnings], set(range(len(beginnings)))
    device = next(model.parameters()).device
    while open_ := {i for i in open_ if len(texts[i]) < longest}:
        order = sorted(open_)
        seen = torch.tensor([([0] * window + texts[i])[-window:] for i in order], device=device)
        for i, label in zip(order, model(side_by_side(seen, classes)).argmax(-1).tolist(), strict=True):
            if label:
                texts[i].append(label)
            else:
                open_.discard(i)
    model.train(was_training)
    return texts


def plane(left: float, right: float, bottom: float, top: float, size: int = SURFACE) -> Tensor:
    """The points of a size x size grid over the rectangle, row by row from the bottom, (size * size, 2)."""
    y, x = torch.meshgrid(torch.linspace(bottom, top, size), torch.linspace(left, right, size), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def in_hex(images: Tensor) -> list[str]:
    """Each image as one hexadecimal digit a pixel, from the darkest of all to the brightest. images (N, pixels)."""
    low, high = images.min(), images.max()
    shades = ((images - low) / (high - low).clamp_min(1e-12) * 15).round().int().tolist()
    return ["".join(f"{shade:x}" for shade in image) for image in shades]


class Movement:
    """How far the weights of one level have gone, measured from their values, never from a clock.

    `observe()` compares with the values at the last call: whether any changed, by how much, and the relative distance
    ||theta - theta_0|| / ||theta_0|| from the initial values and from those at the last `mark()`. Where the initial
    norm is zero (an output layer that starts at zero) the distance itself is given.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.writes = 0
        self.initial = self.last = self.marked = self._values()
        self.drift = self.drift_since_mark = 0.0
        self._scales = self._sizes()

    def _values(self) -> Tensor:
        """All weights of the level as one vector of its own."""
        return parameters_to_vector([p.detach() for p in self.parameters]) if self.parameters else torch.zeros(0)

    def _sizes(self) -> tuple[float, float]:
        """What the two distances are relative to."""
        return float(self.initial.norm()) or 1.0, float(self.marked.norm()) or 1.0

    def observe(self) -> tuple[bool, float]:
        """(whether the level's weights changed since the last call, the norm of the change)."""
        now = self._values()
        if torch.equal(now, self.last):
            return False, 0.0
        away = torch.stack([self.last, self.initial, self.marked]).sub_(now)
        step, *distances = torch.linalg.vector_norm(away, dim=1).tolist()
        self.last, self.writes = now, self.writes + 1
        self.drift, self.drift_since_mark = (d / scale for d, scale in zip(distances, self._scales, strict=True))
        return True, step

    def where(self) -> list[list[list[float]]]:
        """How far the blocks of each matrix of the level have moved, relative to the matrix as it began (or as such, if
        that was 0)."""
        maps, place = [], 0
        for p in self.parameters:
            initial = self.initial[place : place + p.numel()].view(p.shape)
            place += p.numel()
            if p.ndim == 2:
                scale = float(initial.square().mean().sqrt()) or 1.0
                maps.append(
                    [
                        [float(f"{value:.3g}") for value in row]
                        for row in (coarse(p.detach() - initial) / scale).tolist()
                    ]
                )
        return maps

    def mark(self) -> None:
        """Start `drift_since_mark` anew, as at a switch of the task."""
        self.marked, self.drift_since_mark = self.last, 0.0
        self._scales = self._sizes()

    def state(self) -> dict[str, Any]:
        """As `restore` takes it."""
        return {
            name: getattr(self, name) for name in ("writes", "initial", "last", "marked", "drift", "drift_since_mark")
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state."""
        for name, value in state.items():
            setattr(self, name, value)
        self._scales = self._sizes()
