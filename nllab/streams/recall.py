"""Recall inside one sequence: the synthetic tasks of MAD at their baseline settings, and multi-query associative
recall.

Source: Poli et al. 2024, "Mechanistic Design and Scaling of Hybrid Architectures" (MAD), whose tasks Table 4 of Behrouz
    et al. 2025
(arXiv 2512.24695) reports; Arora et al. 2024, "Zoology", for MQAR, which the paper does not report.
Differs from MAD: choices that its description leaves are named at the task. Every batch is drawn afresh, not from
    12,800 fixed ones.

Axes: B sequences, T tokens. Targets are IGNORE where nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

IGNORE = -100


class Batch(NamedTuple):
    """tokens (B, T); targets (B, T), or (B, tokens to rebuild) for compression: what is asked at each position."""

    tokens: Tensor
    targets: Tensor


Draw = Callable[[int, torch.Generator, bool], Batch]


@dataclass(frozen=True)
class Task:
    """name; vocabulary; `draw(batch, generator, scored)`: a batch to learn from, or (scored=True) one to be tested on.

    rebuilds: tokens to be rebuilt from the last state (compression), 0 for next-token tasks.
    fixed: whether the answers lie in the task and not in the sequence (memorization): then training and test share
        them.
    """

    name: str
    vocabulary: int
    draw: Draw
    rebuilds: int = 0
    fixed: bool = False


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of the asked positions answered right; scores (B, T, V), targets (B, T)."""
    asked = targets != IGNORE
    return (scores.argmax(-1) == targets)[asked].float().mean().item()


def next_tokens(tokens: Tensor, asked: Tensor, scored: bool) -> Batch:
    """Inputs and targets of a sequence: to learn from, every next token; to be scored on, only the tokens where `asked`
    is true."""
    targets = tokens[:, 1:]
    return Batch(tokens[:, :-1], targets.masked_fill(~asked[:, 1:], IGNORE) if scored else targets)


def in_context_recall(vocabulary: int = 16, length: int = 128) -> Task:
    """Keys (first half of the vocabulary) and values (second half) in turn, one map a sequence. Asked: values of keys
    seen before."""
    keys = vocabulary // 2

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        values = torch.randint(keys, vocabulary, (batch, keys), generator=generator)
        key = torch.randint(keys, (batch, length // 2), generator=generator)
        tokens = torch.stack([key, values.gather(1, key)], 2).flatten(1)
        again = (
            (key[:, :, None] == key[:, None]) & torch.ones(length // 2, length // 2, dtype=torch.bool).tril(-1)
        ).any(-1)
        return next_tokens(tokens, torch.stack([torch.zeros_like(again), again], 2).flatten(1), scored)

    return Task("in-context recall", vocabulary, draw)


def fuzzy_recall(vocabulary: int = 16, length: int = 128, motif: int = 3, pool: int = 8) -> Task:
    """As in-context recall, but keys and values are motifs of 1 to `motif` tokens, padded on the left; scored keys have
    full length.

    Differs from MAD: each sequence draws its keys from a pool of its own, so that they recur.
    """
    padding, keys = vocabulary - 1, (vocabulary - 1) // 2

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        rows = []
        for _ in range(batch):

            def size(full: bool) -> int:
                return motif if full else int(torch.randint(1, motif + 1, (), generator=generator))

            book: dict[tuple[int, ...], list[int]] = {}
            while len(book) < pool:
                key = tuple(torch.randint(keys, (size(scored),), generator=generator).tolist())
                book.setdefault(key, torch.randint(keys, padding, (size(False),), generator=generator).tolist())
            entries, row, asked, seen = list(book.items()), [], [], set()
            while True:
                key, value = entries[int(torch.randint(pool, (), generator=generator))]
                if len(row) + len(key) + len(value) > length:
                    break
                row += [*key, *value]
                asked += [False] * len(key) + [key in seen] * len(value)
                seen.add(key)
            space = length - len(row)
            rows.append(([padding] * space + row, [False] * space + asked))
        tokens, asked = (torch.tensor(part) for part in zip(*rows, strict=True))
        return next_tokens(tokens, asked, scored)

    return Task("fuzzy recall", vocabulary, draw)


def selective_copying(vocabulary: int = 16, length: int = 256, count: int = 16) -> Task:
    """`count` tokens among blanks, the copy token, then blanks in whose place the tokens are to be said in order."""
    blank, copy, symbols = vocabulary - 2, vocabulary - 1, vocabulary - 2

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        room = length - count - 1
        symbols_drawn = torch.randint(symbols, (batch, count), generator=generator)
        place = torch.rand(batch, room, generator=generator).argsort(1)[:, :count].sort(1).values
        reading = torch.full((batch, room), blank).scatter(1, place, symbols_drawn)
        tokens = torch.cat([reading, torch.full((batch, 1), copy), torch.full((batch, count), blank)], 1)
        targets = torch.full((batch, length), IGNORE)
        targets[:, -count:] = symbols_drawn
        return Batch(tokens, targets)

    return Task("selective copying", vocabulary, draw)


def memorization(vocabulary: int = 256, length: int = 32, seed: int = 0) -> Task:
    """A map from keys to values that never changes: (key, insert token) pairs, the value is asked at the insert
    token."""
    insert, keys = vocabulary - 1, (vocabulary - 1) // 2
    book = torch.randint(keys, insert, (keys,), generator=torch.Generator().manual_seed(seed))

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        key = torch.randint(keys, (batch, length // 2), generator=generator)
        tokens = torch.stack([key, torch.full_like(key, insert)], 2).flatten(1)
        targets = torch.stack([torch.full_like(key, IGNORE), book[key]], 2).flatten(1)
        return Batch(tokens, targets)

    return Task("memorization", vocabulary, draw, fixed=True)


def compression(vocabulary: int = 16, length: int = 32) -> Task:
    """Random tokens and a last [c]: all of them are to be rebuilt from the state at [c] alone."""
    symbols = vocabulary - 1

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        drawn = torch.randint(symbols, (batch, length - 1), generator=generator)
        return Batch(torch.cat([drawn, torch.full((batch, 1), symbols)], 1), drawn)

    return Task("compression", vocabulary, draw, rebuilds=length - 1)


def mqar(vocabulary: int = 64, length: int = 64, pairs: int = 8) -> Task:
    """Multi-query associative recall: key-value pairs first, then the keys again in random order among fillers; asked:
    each key's value.

    Source: Arora et al. 2024. Differs from it: the queries' places are uniform, not power-law.
    """
    keys = (vocabulary - 1) // 2
    filler = vocabulary - 1

    def draw(batch: int, generator: torch.Generator, scored: bool) -> Batch:
        key = torch.rand(batch, keys, generator=generator).argsort(1)[:, :pairs]
        value = torch.randint(keys, filler, (batch, pairs), generator=generator)
        room = length - 2 * pairs
        place = torch.rand(batch, room, generator=generator).argsort(1)[:, :pairs]
        queries = torch.full((batch, room), filler).scatter(1, place, key)
        answers = torch.full((batch, room), IGNORE).scatter(1, place, value)
        tokens = torch.cat([torch.stack([key, value], 2).flatten(1), queries], 1)
        return Batch(tokens, torch.cat([torch.full((batch, 2 * pairs), IGNORE), answers], 1))

    return Task("MQAR", vocabulary, draw)
