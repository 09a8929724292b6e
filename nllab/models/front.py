"""A convolutional front end: patches of an image to features, as a level of its own.

`B` batch, `H`, `W` height and width of the images, `F` filters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import SettingError, ShapeError

CELLS = 3  # of the pooling grid, per axis
THRESHOLD = 0.25  # answers to a patch of unit contrast that count as none
CONTRAST = 0.1  # added to the variance of a patch, so that flat ones are not blown up to noise


class ConvolutionalFront(nn.Module):
    """Filters on patches of unit contrast, a two-sided threshold, means over a 3 x 3 grid: (B, H * W) -> (B, 18 F).

    Filters start as normal noise of zero mean and unit length, which is a strong start: frozen, with least squares behind it, it is
    the control that an image model has to beat (`rls-conv`). The patches are 6 x 6, or 3 x 3 in images below 16 pixels.

    Source: Coates, Lee and Ng 2011 (two-sided threshold, pooled patches). Differs from paper: filters may learn; 3 x 3 cells, means.
    Raises: SettingError for images smaller than 5 x 5 or no filter; ShapeError if inputs are not (B, H * W).
    """

    def __init__(self, shape: tuple[int, int], filters: int = 64) -> None:
        super().__init__()
        self.side = 6 if min(shape) >= 16 else 3
        if min(shape) < self.side + CELLS - 1 or filters < 1:
            raise SettingError(f"A convolutional front end is given images of {shape} and {filters} filters; it needs 5 x 5 pixels and 1.")
        self.shape, self.width = tuple(shape), 2 * filters * CELLS**2
        self.filters = nn.Conv2d(1, filters, self.side, bias=False)
        with torch.no_grad():
            noise = torch.randn_like(self.filters.weight).flatten(1)
            noise -= noise.mean(1, keepdim=True)
            self.filters.weight.copy_((noise / noise.norm(dim=1, keepdim=True)).view_as(self.filters.weight))

    def forward(self, inputs: Tensor) -> Tensor:
        height, width = self.shape
        if inputs.ndim != 2 or inputs.shape[1] != height * width:
            raise ShapeError(f"ConvolutionalFront: inputs have shape {tuple(inputs.shape)}; expected (batch, {height * width}).")
        images = inputs.view(-1, 1, height, width)
        mean = F.avg_pool2d(images, self.side, 1)
        variance = (F.avg_pool2d(images.square(), self.side, 1) - mean.square()).clamp_min(0)
        # The filters' sum is taken out, so that learning cannot make them answer to brightness.
        answers = self.filters(images) - mean * self.filters.weight.sum((2, 3))[None, :, 0, None, None]
        answers = answers / (variance + CONTRAST).sqrt()
        both = torch.cat([F.relu(answers - THRESHOLD), F.relu(-answers - THRESHOLD)], 1)
        return F.adaptive_avg_pool2d(both, CELLS).flatten(1)
