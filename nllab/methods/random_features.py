"""Frozen random features: the strongest simple learner of a stream learns nothing but its output layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import SettingError
from nllab.levels import Level
from nllab.methods.method import Method
from nllab.models.front import CELLS, mean_and_contrast, noise_filters, pooled

SIDE = 6  # of a patch


class DenseFeatures(nn.Module):
    """relu(W x + b), W and b normal and never trained, scaled to a sum of squares near 1: (B, inputs) -> (B,
    features)."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.count = features
        self.weight, self.bias = (
            nn.Buffer(torch.randn(features, inputs) * inputs**-0.5),
            nn.Buffer(torch.randn(features)),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(F.linear(inputs, self.weight, self.bias)) * self.count**-0.5


class FourierFeatures(nn.Module):
    """sqrt(2 / D) cos(W x + b), W normal of variance 2 gamma / inputs, b uniform on a circle, both fixed: (B, inputs)
    -> (B, D). Their products approximate exp(-gamma ||x - y||^2 / inputs).

    Source: Rahimi & Recht 2007, Algorithm 1.
    """

    def __init__(self, inputs: int, features: int, gamma: float) -> None:
        super().__init__()
        self.count = features
        self.weight, self.bias = (
            nn.Buffer(torch.randn(features, inputs) * (2 * gamma / inputs) ** 0.5),
            nn.Buffer(2 * torch.pi * torch.rand(features)),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight, self.bias).cos() * (2 / self.count) ** 0.5


class ConvolutionalFeatures(nn.Module):
    """Random 6x6 filters, a two-sided threshold and a 3x3 grid of means: (B, height * width) -> (B, 18 filters).

    The filters are normal noise of zero mean and unit length. A patch is centred and divided by its own contrast, so
    that what counts is its pattern.
    """

    def __init__(self, shape: tuple[int, int], filters: int) -> None:
        super().__init__()
        if min(shape) < SIDE + CELLS - 1:
            raise SettingError(
                f"method=rls-conv needs images of at least {SIDE + CELLS - 1} x {SIDE + CELLS - 1} pixels; these are"
                f" {shape}."
            )
        self.shape, self.count = shape, 2 * filters * CELLS**2
        self.filters = nn.Buffer(noise_filters(filters, SIDE))

    def forward(self, inputs: Tensor) -> Tensor:
        images = inputs.view(-1, 1, *self.shape)
        _, contrast = mean_and_contrast(images, SIDE)
        return pooled(
            F.conv2d(images, self.filters) / contrast
        )  # filters have zero mean, so a patch need not be centred before


class FrozenFeatures(nn.Module):
    """Features that never learn and a linear head that starts at zero; its only level is the head."""

    def __init__(self, features: DenseFeatures | FourierFeatures | ConvolutionalFeatures, classes: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(features.count, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs))

    def levels(self) -> tuple[Level, ...]:
        """The head alone: nothing else is trained."""
        return (Level("head", "head"),)


class OnFrozenFeatures(Method):
    """A method that solves for the head of `FrozenFeatures` itself. names: of its forms, as a message says them."""

    names: str

    def before_step(self, model: nn.Module) -> None:
        for p in model.parameters():  # nothing is left for the optimizer to write
            p.grad = None

    def own(self, model: nn.Module) -> FrozenFeatures:
        """The model that it brings along. Raises SettingError for any other."""
        if not isinstance(model, FrozenFeatures):
            raise SettingError(
                f"The methods {self.names} train the model they bring along, not a {type(model).__name__}."
            )
        return model
