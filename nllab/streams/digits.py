"""scikit-learn's digits: 1,797 real 8x8 images, inside the package, no download. The embedded default of the lab."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from nllab.streams.stream import Images, Part, Stream, Task, class_incremental, letter, permuted, rotated

TEST_FRACTION, VALIDATION_FRACTION = 0.25, 0.1
MEAN, STD = 0.3, 0.38  # of pixels scaled to [0, 1], rounded
BACKGROUND = -MEAN / STD  # a pixel without ink
DEFAULT_CUT = Path(__file__).with_name("digits_cut.npy")  # what `cut` gives for split 0, training rows then test rows
LAPS = 4  # how often the streams without tasks show every image


def cut(labels: np.ndarray, split: int, hold_out: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the training, validation and test parts, stratified by class."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_FRACTION, random_state=split, stratify=labels)
    validation = train[:0]
    if hold_out:
        train, validation = train_test_split(
            train, test_size=VALIDATION_FRACTION, random_state=split, stratify=labels[train]
        )
    return np.asarray(train), np.asarray(validation), np.asarray(test)


@lru_cache(maxsize=8)
def digits(split: int, hold_out: bool) -> Images:
    """The digits, stratified by class. `split` seeds the cut; `hold_out` moves a tenth of the training part into
    validation."""
    spec = find_spec("sklearn")
    assert (
        spec and spec.origin
    )  # a dependency; found without importing it, which takes two seconds that a live page does not have
    table = np.loadtxt(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    pixels, labels = (table[:, :-1] / 16 - MEAN) / STD, table[:, -1].astype(np.int64)
    if split == 0 and not hold_out:
        train, test = np.split(np.load(DEFAULT_CUT), [len(labels) - round(TEST_FRACTION * len(labels) + 0.5)])
        validation = train[:0]
    else:
        train, validation, test = cut(labels, split, hold_out)
    x, y, xv, yv, xt, yt = (array[rows] for rows in (train, validation, test) for array in (pixels, labels))

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


def digits_aba(seed: int, split: int, hold_out: bool) -> Stream:
    """Digits 0-4, then 5-9, then 0-4 again: how fast is what was forgotten learned again?"""
    about = "Digits 0-4, then digits 5-9, then digits 0-4 once more."
    groups = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    return class_incremental(digits(split, hold_out), groups, name="digits-aba", about=about, plan=(0, 1, 0))


def permuted_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, then all digits under another order of the pixels, which the seed draws."""
    about = "All ten digits, then the same images with their pixels in another order."
    return permuted(digits(split, hold_out), 2, seed, name="permuted-digits", about=about)


def permuted_digits_5(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits under five orders of the pixels in turn."""
    about = "All ten digits, then the same images with their pixels in other orders, four times."
    return permuted(digits(split, hold_out), 5, seed, name="permuted-digits-5", about=about)


def permuted_digits_50(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits under fifty orders of the pixels in turn: is the last task as learnable as the first?"""
    about = "All ten digits under fifty orders of the pixels, one after another: a long life."
    return permuted(digits(split, hold_out), 50, seed, name="permuted-digits-50", about=about)


def rotated_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, upright and then turned by 36, 72, 108 and 144 degrees."""
    images = digits(split, hold_out)
    tasks = []
    for i in range(5):
        angle = torch.tensor(36.0 * i)
        parts = [
            rotated(part, angle, images.image_shape, BACKGROUND)
            for part in (images.train, images.validation, images.test)
        ]
        train, validation, test = parts
        tasks.append(Task(letter(i), f"the digits turned by {36 * i} degrees", train, validation, test))
    about = "All ten digits, then the same digits turned further and further."
    return Stream("rotated-digits", about, tuple(tasks), tuple(range(5)), images.classes, images.image_shape)


def remapped_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, then the same images with every label moved on by one: the world changes its answer, so A has to
    go."""
    images = digits(split, hold_out)

    def moved(part: Part) -> Part:
        return Part(part.inputs, (part.labels + 1) % images.classes)

    a = Task("A", "the digits", images.train, images.validation, images.test)
    b = Task("B", "the digits, every label moved on by one", moved(a.train), moved(a.validation), moved(a.test))
    about = "All ten digits, then the same images with other answers: a 3 is now called 4."
    return Stream("remapped-digits", about, (a, b), (0, 1), images.classes, images.image_shape)


def drifting_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, four times over, turning slowly from upright to 90 degrees; tested at 90 degrees."""
    images = digits(split, hold_out)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(images.train), generator=generator) for _ in range(LAPS)])
    train = rotated(images.train[order], torch.linspace(0, 90, len(order)), images.image_shape, BACKGROUND)
    end = [
        rotated(part, torch.tensor(90.0), images.image_shape, BACKGROUND) for part in (images.validation, images.test)
    ]
    task = Task("A", "digits that turn as time goes by", train, *end, in_order=True)
    about = "All ten digits, turning slowly from upright to lying on their side. Tested as they lie at the end."
    return Stream("drifting-digits", about, (task,), (0,), images.classes, images.image_shape)


def noisy_digits(seed: int, split: int, hold_out: bool) -> Stream:
    """All digits, four times over; half way through, a tenth of the stream has random labels. Tested on true labels."""
    images = digits(split, hold_out)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(images.train), generator=generator) for _ in range(LAPS)])
    labels = images.train.labels[order].clone()
    burst = slice(len(order) // 2, len(order) // 2 + len(order) // 10)
    labels[burst] = torch.randint(images.classes, labels[burst].shape, generator=generator)
    task = Task(
        "A",
        "digits with a burst of random labels",
        Part(images.train.inputs[order], labels),
        images.validation,
        images.test,
        in_order=True,
    )
    about = "All ten digits; half way through, a tenth of the stream carries random labels. Tested on true ones."
    return Stream("noisy-digits", about, (task,), (0,), images.classes, images.image_shape)
