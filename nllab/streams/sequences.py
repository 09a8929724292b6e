"""Streams of sequences: what comes next, token by token, and answers that are asked for inside a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from nllab.streams.names import languages
from nllab.streams.recall import Task as Recall
from nllab.streams.recall import memorization
from nllab.streams.stream import Drawn, Part, Stream, Task, letter
from nllab.streams.text import Alphabet, as_rows

LETTERS = ("de", "tr")
FACTS, LEARNED, TESTED = 32, 512, 128  # tokens of a task; sequences to learn from and to be tested on


def next_tokens(name: str, about: str, tasks: dict[str, tuple[Part, Part, Part]], vocabulary: int) -> Stream:
    """A stream of sequences; tasks: what each teaches -> its parts to learn from, to choose by and to be tested on."""
    made = tuple(Task(letter(i), words, *parts) for i, (words, parts) in enumerate(tasks.items()))
    return Stream(name, about, made, tuple(range(len(made))), vocabulary)


def drawn(name: str, learned: Sequence[Drawn], tested: Sequence[Part], classes: int) -> Stream:
    """A stream whose tasks are drawn as they are learned, one after another."""
    tasks = tuple(
        Task(letter(i), name, cast(Part, source), part[:0], part, in_order=True)
        for i, (source, part) in enumerate(zip(learned, tested, strict=True))
    )
    return Stream(name, f"{name}.", tasks, tuple(range(len(tasks))), classes)


def letters_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """Names in German, then in Turkish, whole: every letter is asked for, given those before it."""
    tongues = languages(LETTERS, seed=split, validation=hold_out)
    letters = Alphabet(name for tongue in tongues for table in (tongue.train, tongue.test) for name in table.values())

    def part(table: dict[str, str]) -> Part:
        return Part(*as_rows([*table.values()], letters))

    tasks = {}
    for tongue in tongues:
        learned, tested = part(tongue.train), part(tongue.test)
        tasks[f"names in {tongue.about}"] = (learned, tested if hold_out else learned[:0], tested)
    return next_tokens("letters-ab", "A network writes names letter by letter.", tasks, len(letters))


def facts_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """Facts, then other facts: keys in turn, and the value of each is asked for inside the sequence."""
    tasks = {}
    for i, words in enumerate(("facts about some tokens", "facts about other tokens")):
        drawn = [
            _drawn(memorization(FACTS, seed=seed + i), count, part_seed, scored, i * FACTS)
            for count, part_seed, scored in ((LEARNED, 3 * split, False), (TESTED, 3 * split + 1, True))
        ]
        learned, tested = drawn
        tasks[words] = (learned, tested if hold_out else tested[:0], tested)
    return next_tokens("facts-ab", "A network learns facts by heart.", tasks, 2 * FACTS)


def _drawn(task: Recall, count: int, seed: int, scored: bool, shift: int) -> Part:
    tokens, targets = task.draw(count, torch.Generator().manual_seed(seed), scored)
    return Part(tokens + shift, _shifted(targets, shift))


def _shifted(targets: Tensor, shift: int) -> Tensor:
    return torch.where(targets < 0, targets, targets + shift)
