"""The recall tasks, answered by plain lookups that see the tokens so far and nothing else."""

import pytest
import torch

from nllab.bench.recall import TASKS
from nllab.streams.recall import (
    IGNORE,
    accuracy,
    compression,
    fuzzy_recall,
    in_context_recall,
    memorization,
    mqar,
    selective_copying,
)


def draw(task, batch=8, seed=0, scored=True):
    return task.draw(batch, torch.Generator().manual_seed(seed), scored)


@pytest.mark.parametrize("make", TASKS.values())
def test_drawn_again_the_same_and_inside_the_vocabulary(make):
    task = make()
    tokens, targets = draw(task, 4)
    assert torch.equal(tokens, draw(task, 4).tokens) and not torch.equal(tokens, draw(task, 4, seed=1).tokens)
    assert tokens.min() >= 0 and tokens.max() < task.vocabulary
    asked = targets[targets != IGNORE]
    assert len(asked) and asked.min() >= 0 and asked.max() < task.vocabulary


def test_in_context_recall_is_answered_by_looking_back():
    tokens, targets = draw(in_context_recall(length=64))
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        book = {}
        for t, (token, wanted) in enumerate(zip(row, target, strict=True)):
            if t % 2:
                book.setdefault(row[t - 1], token)
                assert book[row[t - 1]] == token >= 8 and wanted == IGNORE
            else:
                assert token < 8 and wanted == book.get(token, IGNORE)


def test_what_is_learned_from_asks_for_every_next_token():
    tokens, targets = draw(in_context_recall(length=32), scored=False)
    assert torch.equal(tokens[:, 1:], targets[:, :-1]) and (targets != IGNORE).all()


def test_fuzzy_recall_is_answered_by_looking_back():
    tokens, targets = draw(fuzzy_recall(length=96))
    found = 0
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        start = next(t for t, token in enumerate(row) if token != 15)
        book, t = {}, start
        while t < len(row):
            key = tuple(row[t : t + 3])
            assert len(key) == 3 and max(key) < 7
            t += 3
            end = next((u for u in range(t, len(row)) if row[u] < 7), len(row))
            value = row[t:end]
            # The last token is a target only, so that the last value is cut short by one.
            known = book.setdefault(key, value)
            asked = target[t - 1 : t - 1 + len(known)]
            if known is not value:
                assert asked == known[: len(asked)] and known[: len(value)] == value
                found += 1
            else:
                assert set(asked) <= {IGNORE}
            t = end
        assert all(wanted == IGNORE for wanted in target[: max(start - 1, 0)])
    assert found > 20


def test_selective_copying_says_the_tokens_in_order():
    tokens, targets = draw(selective_copying(length=64, count=8))
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert row[55] == 15 and row[56:] == [14] * 8
        assert [token for token in row[:55] if token != 14] == target[56:] and set(target[:56]) == {IGNORE}


def test_memorization_is_one_map_for_training_and_test():
    book = {}
    for seed, scored in ((0, False), (1, True), (2, True)):
        tokens, targets = draw(memorization(), 32, seed, scored)
        for key, value in zip(tokens[:, ::2].flatten().tolist(), targets[:, 1::2].flatten().tolist(), strict=True):
            assert book.setdefault(key, value) == value
        assert (targets[:, ::2] == IGNORE).all() and (tokens[:, 1::2] == 255).all()


def test_compression_asks_for_everything_before_the_last_token():
    tokens, targets = draw(compression())
    assert torch.equal(tokens[:, :-1], targets) and (tokens[:, -1] == 15).all() and tokens.shape[1] == 32


def test_mqar_is_answered_by_the_pairs():
    tokens, targets = draw(mqar(length=40, pairs=6))
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        book = dict(zip(row[:12:2], row[1:12:2], strict=True))
        asked = {row[t]: target[t] for t in range(12, 40) if target[t] != IGNORE}
        assert len(book) == 6 and asked == book and set(target[:12]) == {IGNORE}


def test_accuracy_counts_asked_positions_only():
    targets = torch.tensor([[IGNORE, 1, 0], [1, IGNORE, IGNORE]])
    scores = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1], [1, 1, 1]]), 2).float()
    assert accuracy(scores, targets) == pytest.approx(2 / 3)
