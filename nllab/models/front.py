"""A convolutional front end: patches of an image to features, as a level of its own.

`B` batch, `H`, `W` height and width of the images, `F` filters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.checks import check_tensor
from nllab.errors import SettingError, check_sizes, check_whole

CELLS = 3  # of the pooling grid, per axis
THRESHOLD = 0.25  # answers to a patch of unit contrast that count as none
CONTRAST = 0.1  # added to the variance of a patch, so that flat ones are not blown up to noise


def noise_filters(count: int, side: int) -> Tensor:
    """Normal noise of zero mean and unit length, (F, 1, side, side), from torch's own generator."""
    noise = torch.randn(count, side * side)
    noise = noise - noise.mean(1, keepdim=True)
    return (noise / noise.norm(dim=1, keepdim=True)).view(count, 1, side, side)


def mean_and_contrast(images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mean and contrast of every patch of images (B, 1, H, W), (B, 1, H - side + 1, W - side + 1) each."""
    mean = F.avg_pool2d(images, side, 1)
    return mean, ((F.avg_pool2d(images.square(), side, 1) - mean.square()).clamp_min(0) + CONTRAST).sqrt()


def pooled(answers: Tensor) -> Tensor:
    """Answers of filters (B, F, h, w), of either sign beyond the threshold, as means over the grid: (B, 2 * CELLS**2 *
    F)."""
    both = torch.cat([F.relu(answers - THRESHOLD), F.relu(-answers - THRESHOLD)], 1)
    return F.adaptive_avg_pool2d(both, CELLS).flatten(1)


class ConvolutionalFront(nn.Module):
    """Filters on patches of unit contrast, a two-sided threshold, means over a 3 x 3 grid: (B, H * W) -> (B, 18 F).

    Filters start as normal noise of zero mean and unit length, which is a strong start: frozen, with least squares
    behind it, it is the control that an image model has to beat (`rls-conv`). The patches are 6 x 6, or 3 x 3 in images
    below 16 pixels.

    Source: Coates, Lee and Ng 2011 (two-sided threshold, pooled patches). Differs from paper: filters may learn; 3 x 3
        cells, means.
    Raises: SettingError for images smaller than 5 x 5 or no filter; ShapeError if inputs are not (B, H * W).
    """

    def __init__(self, shape: tuple[int, int], filters: int = 64) -> None:
        super().__init__()
        check_sizes("image_shape", shape, 2)
        check_whole("filters", filters)
        self.side = 6 if min(shape) >= 16 else 3
        if min(shape) < self.side + CELLS - 1:
            raise SettingError(f"A convolutional front end is given images of {shape}; it needs 5 x 5 pixels.")
        self.shape, self.width = tuple(shape), 2 * filters * CELLS**2
        self.filters = nn.Conv2d(1, filters, self.side, bias=False)
        with torch.no_grad():
            self.filters.weight.copy_(noise_filters(filters, self.side))

    def forward(self, inputs: Tensor) -> Tensor:
        height, width = self.shape
        check_tensor("ConvolutionalFront: inputs", inputs, ("b", height * width), self.filters.weight)
        images = inputs.view(-1, 1, height, width)
        mean, contrast = mean_and_contrast(images, self.side)
        # The filters' sum is taken out, so that learning cannot make them answer to brightness.
        answers = self.filters(images) - mean * self.filters.weight.sum((2, 3))[None, :, 0, None, None]
        return pooled(answers / contrast)
