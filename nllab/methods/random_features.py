"""Frozen random features: the strongest simple learner of a stream learns nothing but its output layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import SettingError
from nllab.levels import Level

SIDE, CELLS, THRESHOLD = 6, 3, 0.25  # side of a patch, cells of the pooling grid per axis, answers that count as none


class DenseFeatures(nn.Module):
    """relu(W x + b), W and b normal and never trained, scaled to a sum of squares near 1: (B, inputs) -> (B, features)."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.count = features
        self.weight, self.bias = nn.Buffer(torch.randn(features, inputs) * inputs**-0.5), nn.Buffer(torch.randn(features))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(F.linear(inputs, self.weight, self.bias)) * self.count**-0.5


class ConvolutionalFeatures(nn.Module):
    """Random 6x6 filters, a two-sided threshold and a 3x3 grid of means: (B, height * width) -> (B, 18 filters).

    The filters are normal noise of zero mean and unit length. A patch is centred and divided by its own contrast, so that what counts is
    its pattern.
    """

    def __init__(self, shape: tuple[int, int], filters: int) -> None:
        super().__init__()
        if min(shape) < SIDE + CELLS - 1:
            raise SettingError(
                f"method=rls-conv needs images of at least {SIDE + CELLS - 1} x {SIDE + CELLS - 1} pixels; these are {shape}."
            )
        self.shape, self.count = shape, 2 * filters * CELLS**2
        noise = torch.randn(filters, SIDE * SIDE)
        noise = noise - noise.mean(1, keepdim=True)
        self.filters = nn.Buffer((noise / noise.norm(dim=1, keepdim=True)).view(filters, 1, SIDE, SIDE))

    def forward(self, inputs: Tensor) -> Tensor:
        images = inputs.view(-1, 1, *self.shape)
        mean = F.avg_pool2d(images, SIDE, 1)
        variance = (F.avg_pool2d(images.square(), SIDE, 1) - mean.square()).clamp_min(0)
        # Filters have zero mean, so a patch need not be centred before; 0.1 keeps flat patches from being blown up to noise.
        answers = F.conv2d(images, self.filters) / (variance + 0.1).sqrt()
        both = torch.cat([F.relu(answers - THRESHOLD), F.relu(-answers - THRESHOLD)], 1)
        return F.adaptive_avg_pool2d(both, CELLS).flatten(1)


class FrozenFeatures(nn.Module):
    """Features that never learn and a linear head that starts at zero; its only level is the head."""

    def __init__(self, features: DenseFeatures | ConvolutionalFeatures, classes: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(features.count, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.features(inputs))

    def levels(self) -> tuple[Level, ...]:
        return (Level("head", "head"),)
