"""Digits whose names change with the context while the digits stay the same: a world with two time scales."""

from __future__ import annotations

from itertools import pairwise

import torch

from nllab.errors import SettingError, check_whole
from nllab.streams.digits import digits
from nllab.streams.stream import Context, Part, Stream, Task

LAPS = 4  # how often the stream shows every image
MOST_PAIRS = 5  # of ten digits


def contexts_digits(
    seed: int, split: int, hold_out: bool, *, context_length: int = 20, pairs: int = 5, batch_size: int = 8
) -> Stream:
    """All digits; every `context_length` batches the context changes, and in every other one pairs of digits swap
    names.

    context_length: batches of `batch_size` samples, at least 1. pairs: swapped pairs, 0 to 5, drawn anew for each
    context by the seed. Nothing announces a change. Tested on the digits under their own names.
    """
    check_whole("context_length", context_length)
    check_whole("batch_size", batch_size)
    check_whole("pairs", pairs, 0)
    if pairs > MOST_PAIRS:
        raise SettingError(f"pairs is {pairs}; ten digits make at most {MOST_PAIRS} pairs.")
    images = digits(split, hold_out)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(images.train), generator=generator) for _ in range(LAPS)])
    labels = images.train.labels[order].clone()
    starts = range(0, len(order), context_length * batch_size)
    contexts = []
    for number, (start, end) in enumerate(pairwise((*starts, len(order)))):
        names = torch.arange(images.classes)
        if number % 2:
            swapped = torch.randperm(images.classes, generator=generator)[: 2 * pairs].view(-1, 2)
            names[swapped] = swapped.flip(1)
        labels[start:end] = names[labels[start:end]]
        contexts.append(Context(start, tuple(names.tolist())))
    task = Task(
        "A", "digits whose names change", Part(images.train.inputs[order], labels), images.validation, images.test, True
    )
    about = (
        f"All ten digits. Every {context_length} batches the context changes, unannounced; in every other one"
        f" {pairs} pairs of digits swap their names. Tested on their own names."
    )
    return Stream("contexts-digits", about, (task,), (0,), images.classes, images.image_shape, contexts=tuple(contexts))
