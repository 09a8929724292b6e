"""Whether colour tells classes apart: all images of a stream are grey, or all have three colours side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nllab.data.report import Findings

COLOUR_STEP = 0.06  # channels that differ by more are a colour; JPEG makes greys differ a little
BLOCKS = 4  # on a side of the grid over which colours are averaged to see what they tell


def one_kind(
    images: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.str_]], findings: Findings
) -> tuple[list[NDArray[np.float32]], str]:
    """All images grey (N, H, W), or all with red, green and blue side by side (N, H, 3 W); and which, in words."""
    if all(image.shape[3] == 1 or not _is_coloured(image) for image in images):
        return [_grey(image) for image in images], "grey"
    spreads = [_told_by(image, names) for image, names in zip(images, labels, strict=True) if image.shape[3] == 3]
    brightness, colour = max(a for a, _ in spreads), max(b for _, b in spreads)
    says = f"between classes lie {colour:.0%} of the differences in colour and {brightness:.0%} of those in brightness"
    if colour < 0.02 or colour < brightness / 2:
        findings.convert("", "colours", f"to grey, since they tell little of the classes ({says})")
        return [_grey(image) for image in images], "grey"
    findings.notes.append(f"Colours are kept, red, green and blue side by side: {says}.")
    wide = [image if image.shape[3] == 3 else np.repeat(image, 3, axis=3) for image in images]
    return [
        np.concatenate([image[..., c] for c in range(3)], axis=2) for image in wide
    ], "in three colours side by side"


def _grey(images: NDArray[np.float32]) -> NDArray[np.float32]:
    if images.shape[3] == 1:
        return images[..., 0]
    return images @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's mode L


def _is_coloured(images: NDArray[np.float32]) -> bool:
    spread = images.max(axis=3)
    spread -= images.min(axis=3)
    return bool((spread > COLOUR_STEP).mean() > 0.001)


def _told_by(images: NDArray[np.float32], labels: NDArray[np.str_]) -> tuple[float, float]:
    """Share of the variance that lies between classes (epsilon squared), of brightness and of colour, at the place of a
    coarse grid where it is largest."""
    count, height, width, _ = images.shape
    rows, columns = (np.linspace(0, side, min(BLOCKS, side) + 1).astype(int)[:-1] for side in (height, width))
    coarse = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2).reshape(count, -1, 3)
    coarse = coarse.astype(np.float64)
    grey = coarse @ np.array([0.299, 0.587, 0.114])
    colours = np.concatenate([coarse[..., 0] - grey, coarse[..., 2] - grey], axis=1)
    return _epsilon_squared(grey, labels), _epsilon_squared(colours, labels)


def _epsilon_squared(values: NDArray[np.float64], labels: NDArray[np.str_]) -> float:
    names, index = np.unique(labels, return_inverse=True)
    total = ((values - values.mean(0)) ** 2).sum(0)
    within = sum(((values[index == k] - values[index == k].mean(0)) ** 2).sum(0) for k in range(len(names)))
    free = max(1, len(values) - len(names))
    shares = 1 - (within / free) / np.maximum(total / max(1, len(values) - 1), 1e-12)
    return float(np.clip(np.where(total > 1e-9, shares, 0.0).max(), 0, 1))
