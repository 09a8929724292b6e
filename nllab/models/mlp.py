"""Two layers and a rectifier: the plainest network to compare with."""

from __future__ import annotations

from typing import Any

from torch import nn

from nllab.levels import Level


class MLP(nn.Sequential):
    """Inputs (B, features) float -> scores (B, classes), through `dim` hidden units.

    periods: steps between two writes of the two layers.
    """

    def __init__(self, features: int, classes: int, dim: int, periods: tuple[int, int] = (1, 1)) -> None:
        super().__init__(nn.Linear(features, dim), nn.ReLU(), nn.Linear(dim, classes))
        self.periods = periods

    @classmethod
    def for_stream(cls, experiment: Any, features: int, classes: int, image_shape: tuple[int, int] | None) -> MLP:
        """A net of width `dim` for this stream, its layers written at the experiment's input and head periods."""
        return cls(features, classes, experiment.dim, (experiment.input_period, experiment.head_period))

    def levels(self) -> tuple[Level, ...]:
        """Both layers, each a level."""
        return Level("input", "0", self.periods[0]), Level("head", "2", self.periods[1])
