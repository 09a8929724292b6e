"""scikit-learn's digits: 1,797 real 8x8 images, inside the package, no download. The embedded default of the lab."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nllab.streams.stream import Images, Part, Stream, class_incremental, permuted

TEST_FRACTION, VALIDATION_FRACTION = 0.25, 0.1
MEAN, STD = 0.3, 0.38  # of pixels scaled to [0, 1], rounded


@lru_cache(maxsize=8)
def digits(split: int, hold_out: bool) -> Images:
    """The digits, stratified by class. `split` seeds the cut; `hold_out` moves a tenth of the training part into validation."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16 - MEAN) / STD
    x, xt, y, yt = train_test_split(pixels, labels, test_size=TEST_FRACTION, random_state=split, stratify=labels)
    xv, yv = x[:0], y[:0]
    if hold_out:
        x, xv, y, yv = train_test_split(x, y, test_size=VALIDATION_FRACTION, random_state=split, stratify=y)

    def part(inputs, labels) -> Part:
        return Part(torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))

    return Images(part(x, y), part(xv, yv), part(xt, yt), classes=10, image_shape=(8, 8))


def digits_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """Digits 0-4, then 5-9, one 10-way head."""
    about = "Digits 0-4, then digits 5-9. One output layer for all ten; nobody says which half is being shown."
    return class_incremental(digits(split, hold_out), ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), name="digits-ab", about=about)


def digits_5x2(seed: int, split: int, hold_out: bool) -> Stream:
    """Five tasks of two digits each."""
    groups = tuple((i, i + 1) for i in range(0, 10, 2))
    about = "Two new digits at a time, five times. One output layer for all ten."
    return class_incremental(digits(split, hold_out), groups, name="digits-5x2", about=about)


def permuted_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, then all digits under another order of the pixels, which the seed draws."""
    about = "All ten digits, then the same images with their pixels in another order."
    return permuted(digits(split, hold_out), 2, seed, name="permuted-digits", about=about)
