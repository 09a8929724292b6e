"""Inputs standardised by the training part of A alone, since nothing of B is known while A is learned.

A column's centre and spread are the mean and the standard deviation of its values in A, each held within ten
interquartile ranges of the quartiles, so that one wild value does not flatten the rest; computed in float64, so that a
time in seconds since 1970 keeps its digits. Values further than LIMIT spreads from the centre are compressed
(LIMIT + log of the rest): they keep their order and do not drown the other columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 30.0  # spreads: B may lie far from A, and one column should still not outweigh a thousand others
REACH = 10.0  # interquartile ranges
QUARTILE_ROWS = 10_000  # so many rows, evenly spaced, give the quartiles


@dataclass(frozen=True)
class Scale:
    """centre, spread: of each column (D,), or one number for all pixels; spread is infinite where A does not vary."""

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of_columns(cls, values: NDArray[np.float64]) -> Scale:
        """Mean and deviation of each column of values (N, D), outliers drawn in to a reach beyond the quartiles."""
        step = max(1, len(values) // QUARTILE_ROWS)
        low, high = np.quantile(values[::step], (0.25, 0.75), axis=0)
        reach = np.where(high > low, REACH * (high - low), np.inf)
        held = np.clip(values, low - reach, high + reach)
        centre, spread = held.mean(0), held.std(0)
        still = (values == values[0]).all(0)
        if (tiny := (spread == 0) & ~still).any():  # whose squares are too small for a float64
            size = np.abs(held[:, tiny] - centre[tiny]).max(0)
            spread[tiny] = ((held[:, tiny] - centre[tiny]) / np.where(size > 0, size, 1)).std(0) * size
        return cls(np.where(still, values[0], centre), np.where(still | (spread == 0), np.inf, spread))

    @classmethod
    def of_pixels(cls, images: NDArray[np.float32]) -> Scale:
        """Mean and deviation of all numbers of all images (N, D) together."""
        spread = images.std(dtype=np.float64)
        return cls(images.mean(dtype=np.float64), np.where(spread > 0, spread, np.inf))

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, D) float32."""
        scaled = np.empty(values.shape, dtype=np.float32)
        for at in range(0, len(values), QUARTILE_ROWS):  # bounds the memory in float64
            standard = (values[at : at + QUARTILE_ROWS] - self.centre) / self.spread
            size = np.abs(standard)
            scaled[at : at + QUARTILE_ROWS] = np.where(
                size > LIMIT, np.sign(standard) * (LIMIT + np.log1p(np.maximum(size - LIMIT, 0))), standard
            )
        return scaled

    def far(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The share of values of each column that is compressed."""
        return (np.abs((values - self.centre) / self.spread) > LIMIT).mean(0)
