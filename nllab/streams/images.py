"""Fashion-MNIST (and MNIST) from the usual IDX files: 60,000 real training images and 10,000 test images of 28x28
pixels.

The files are looked for in the folder named by NLLAB_DATA, in the user's cache, where Debian's package
dataset-fashion-mnist puts them, and at last fetched, with a checksum.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pooch
import torch
from numpy.typing import NDArray

from nllab.data.arrays import read_idx
from nllab.errors import DataError
from nllab.streams.stream import Images, Part, Stream, class_incremental, permuted

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
VALIDATION_FRACTION = 0.1
WORDS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def find(name: str) -> Path:
    """Where one of FILES lies, gzipped or not; fetched if it lies nowhere. Raises DataError that says how to get it."""
    cache = Path(pooch.os_cache("nllab"))
    own = os.environ.get("NLLAB_DATA")
    for folder in ([Path(own)] if own else []) + [cache, DEBIAN]:
        for candidate in (folder / name, folder / name.removesuffix(".gz")):
            if candidate.is_file():
                return candidate
    try:
        return Path(pooch.retrieve(ORIGIN + name, FILES[name], fname=name, path=cache, progressbar=False))
    except Exception as error:  # any failure of the network or of the checksum means the same to the reader
        raise DataError(
            f"Fashion-MNIST is not on this machine and could not be fetched ({type(error).__name__}). Put"
            f" {', '.join(FILES)} into a folder and name it in NLLAB_DATA, or on Debian run: apt-get install"
            " dataset-fashion-mnist."
        ) from None


@lru_cache(maxsize=2)
def fashion(split: int, hold_out: bool) -> Images:
    """The 70,000 images, pixels normalised by the training part. `hold_out` moves a tenth of it into validation, seeded
    by `split`."""
    pixels = {part: read_idx(find(f"{part}-images-idx3-ubyte.gz")) for part in ("train", "t10k")}
    labels = {part: read_idx(find(f"{part}-labels-idx1-ubyte.gz")) for part in ("train", "t10k")}
    mean, std = pixels["train"].mean() / 255, pixels["train"].std() / 255

    def part(images: NDArray[np.uint8], classes: NDArray[np.uint8]) -> Part:
        flat = torch.tensor(images.reshape(len(images), -1), dtype=torch.float32)
        return Part((flat / 255 - mean) / std, torch.tensor(classes, dtype=torch.int64))

    whole, test = part(pixels["train"], labels["train"]), part(pixels["t10k"], labels["t10k"])
    rows = np.arange(len(whole))
    kept, held = rows, rows[:0]
    if hold_out:
        from sklearn.model_selection import train_test_split

        kept, held = train_test_split(rows, test_size=VALIDATION_FRACTION, random_state=split, stratify=labels["train"])
    return Images(whole[torch.from_numpy(kept)], whole[torch.from_numpy(held)], test, 10, (28, 28), WORDS)


def fashion_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """Classes 0-4 (tops, trousers, dresses, coats), then 5-9 (sandals, shirts, sneakers, bags, boots)."""
    about = "Five kinds of clothing, then five others. One output layer for all ten."
    return class_incremental(
        fashion(split, hold_out), ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), name="fashion-ab", about=about
    )


def fashion_5x2(seed: int, split: int, hold_out: bool) -> Stream:
    """Five tasks of two kinds of clothing each."""
    groups = tuple((i, i + 1) for i in range(0, 10, 2))
    about = "Two new kinds of clothing at a time, five times. One output layer for all ten."
    return class_incremental(fashion(split, hold_out), groups, name="fashion-5x2", about=about)


def permuted_fashion(seed: int, split: int, hold_out: bool) -> Stream:
    """All ten kinds under five orders of the pixels in turn."""
    about = "All ten kinds of clothing, then the same images with their pixels in other orders, four times."
    return permuted(fashion(split, hold_out), 5, seed, name="permuted-fashion", about=about)
