"""The rows of a convolution: every patch of its input, laid out only when and as far as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PART = 2**20  # numbers laid out at once, which a processor's cache holds


class Patches:
    """What a convolution multiplies with its filters, one row for each place of its output, image after image:
    (N, D), with a last 1 where there is a bias. A slice is a tensor.

    given: the padded input (B, C, H, W). · kernel, stride, dilation: (height, width).
    """

    ndim = 2

    def __init__(
        self, given: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], bias: bool
    ) -> None:
        self.given, self.bias = given.contiguous(), bias
        images, channels, *size = given.shape
        places = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)]
        self._shape = images, *places, channels, *kernel
        image, channel, row, column = self.given.stride()
        steps = (row * stride[0], column * stride[1]), (row * dilation[0], column * dilation[1])
        self._strides = image, *steps[0], channel, *steps[1]
        self.places, self.width = places[0] * places[1], channels * kernel[0] * kernel[1]

    def __len__(self) -> int:
        return len(self.given) * self.places

    @property
    def windows(self) -> Tensor:
        """(B, places down, places across, C, *kernel), a view of the input."""
        return self.given.as_strided(self._shape, self._strides)

    def __getitem__(self, some: slice) -> Tensor:
        if some == slice(None):
            rows = self.windows.reshape(len(self), self.width)
        else:
            index = torch.arange(len(self), device=self.given.device)[some]
            image, place = index // self.places, index % self.places
            across = self._shape[2]
            rows = self.windows[image, place // across, place % across].flatten(1)
        return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if self.bias else rows

    def parts(self, weights: Tensor | None = None) -> Iterator[Tensor]:
        """All rows, some images at a time, each times the square root of its weight (N,)."""
        windows, columns = self.windows.permute(3, 4, 5, 0, 1, 2), self.width + self.bias
        images = max(1, PART // (columns * self.places))
        for start in range(0, len(self.given), images):
            some = windows[:, :, :, start : start + images]
            laid = some.new_ones(columns, some.shape[3] * self.places)
            laid[: self.width].view(some.shape).copy_(some)
            if weights is not None:
                laid *= weights[start * self.places :][: laid.shape[1]].to(laid.dtype).sqrt()
            yield laid.T
