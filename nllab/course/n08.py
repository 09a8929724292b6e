"""Exercises of notebook 08, learning in context."""

from __future__ import annotations

import torch
from torch import Tensor

from nllab.context import recalled
from nllab.course.exercise import Answer, Draw, Number, exercise
from nllab.models.hope import HopeLM, LanguageModel

EDITION = 1
ASKED_AT, KEYS = 5, 8  # what is predicted: the fifth pair of a sequence over eight keys and eight values


def _small_model(vocabulary: int, draw: Draw) -> LanguageModel:
    """A HOPE of random weights that writes at every token, strongly enough that each question would leave a trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.whole(0, 10**6))
        return HopeLM(vocabulary, 8, 1, levels=(1,), chunk_size=1, conv_window=0, max_inner_lr=1.0)


@exercise(
    "08.1",
    "code",
    hints=(
        "Go through the tokens one by one: scores, state = model.stream(token.view(1, 1), state) reads one and learns.",
        "After each, ask every key from the state as it is: model.stream(key.view(1, 1), state, writes=False). Throw"
        " away the state that comes back: the one you passed in is as it was, without a copy.",
        "scores[0, -1].softmax(-1) are probabilities; torch.stack them over the keys, then over the tokens, under"
        " torch.no_grad().",
    ),
    solution="""
def probe(model, tokens, keys):
    state, found = None, []
    with torch.no_grad():
        for token in tokens:
            _, state = model.stream(token.view(1, 1), state)
            row = []
            for key in keys:
                scores, _ = model.stream(key.view(1, 1), state, writes=False)
                row.append(scores[0, -1].softmax(-1))
            found.append(torch.stack(row))
    return torch.stack(found)
""",
)
def probe(f: Answer, draw: Draw) -> None:
    """probe(model, tokens, keys): what the model would answer to each key after each token, (T, keys, vocabulary),
    asked without a trace; tried against `recalled`."""
    for trial in range(4):
        vocabulary = draw.whole(3, 6)
        model = _small_model(vocabulary, draw)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        tokens = torch.randint(vocabulary, (trial + 1,), generator=draw.generator)
        keys = torch.randperm(vocabulary, generator=draw.generator)[: draw.whole(2, 3)]
        shape = (len(tokens), len(keys), vocabulary)
        got = f.tensor(model, tokens, keys, shape=shape)
        sums = got.detach().sum(-1)
        f.close(sums, torch.ones_like(sums), "Probabilities of all tokens should sum to 1.")
        f.close(got, recalled(model, tokens, keys), "The answers are others.")
        order = torch.arange(len(keys)).flip(0)
        turned = f.tensor(model, tokens, keys[order], shape=shape)
        f.close(turned, got[:, order], "Asked in another order, the keys should have the same answers.")
        first = f.tensor(model, tokens, keys[:1], shape=(len(tokens), 1, vocabulary))
        f.close(first[:, 0], got[:, 0], "A key should have the same answer whether others are asked as well or not.")
        same = all(torch.equal(p.detach(), before[name]) for name, p in model.named_parameters())
        f.expect(same, "The weights of the model should be as they were.")


def _least_squares(keys: Tensor, values: Tensor, queries: Tensor, ridge: float) -> Tensor:
    reads = []
    for t in range(1, len(keys) + 1):
        gram = ridge * torch.eye(keys.shape[1]) + keys[:t].mT @ keys[:t]
        reads.append(queries[t - 1] @ torch.linalg.solve(gram, keys[:t].mT @ values[:t]))
    return torch.stack(reads)


@exercise(
    "08.2",
    "code",
    hints=(
        "Keep a memory (d_v x d_k), zero at first, and a context (d_k x d_k), the ridge times the identity at first.",
        "Each token takes its key into the context, context + outer(k, k), then moves the memory by"
        " outer(v - memory @ k, direction) with the direction solve(context, k).",
        "Then it reads: memory @ query. Stack the reads.",
    ),
    solution="""
def exact_memory(keys, values, queries, ridge):
    memory = torch.zeros(values.shape[1], keys.shape[1])
    context, reads = ridge * torch.eye(keys.shape[1]), []
    for k, v, q in zip(keys, values, queries):
        context = context + torch.outer(k, k)
        memory = memory + torch.outer(v - memory @ k, torch.linalg.solve(context, k))
        reads.append(memory @ q)
    return torch.stack(reads)
""",
)
def exact_memory(f: Answer, draw: Draw) -> None:
    """exact_memory(keys, values, queries, ridge): reads (T, d_v) of ridge regression on all pairs so far, tried against
    least squares and for causality."""
    for tokens, wide, out in draw.sizes(8, 5, 4):
        keys, values, queries = draw.normal(tokens, wide), draw.normal(tokens, out), draw.normal(tokens, wide)
        ridge, shape = draw.uniform(0.1, 0.5), (tokens, out)
        got = f.tensor(keys, values, queries, ridge, shape=shape, like=keys)
        want = _least_squares(keys, values, queries, ridge)
        f.close(got, want, "The reads are not those of ridge regression on all pairs so far.", rtol=1e-2, atol=1e-3)
        later = values.clone()
        later[-1] += 1
        changed = f.tensor(keys, later, queries, ridge, shape=shape, like=keys)
        f.close(changed[:-1], got[:-1], "Another last value should leave all earlier reads as they are.")
        if tokens > 1:
            order = torch.cat([torch.randperm(tokens - 1, generator=draw.generator), torch.tensor([tokens - 1])])
            turned = f.tensor(keys[order], values[order], queries, ridge, shape=shape, like=keys)
            f.close(turned[-1], got[-1], "The last read should not depend on the order of the pairs.", atol=1e-2)
    keys, values = torch.linalg.qr(draw.normal(5, 5))[0] + 0.1 * draw.normal(5, 5), draw.normal(5, 3)
    got = f.tensor(keys, values, keys[-1:].repeat(5, 1), 1e-4, shape=(5, 3), like=keys)
    f.close(got[-1], values[-1], "With hardly any ridge, 5 pairs in 5 dimensions should be recalled.", atol=0.05)


@exercise(
    "08.3",
    "predict",
    prediction=Number(0, 1),
    hints=(
        "At pair number n there were n - 1 keys before, each of them this one with probability 1 / keys.",
        "None of them is this one with probability (1 - 1 / keys) ** (n - 1). Then one guess in `values` is right.",
    ),
    solution="""
def ceiling(n, keys, values):
    new = (1 - 1 / keys) ** (n - 1)
    return (1 - new) + new / values
""",
)
def ceiling(f: Answer, draw: Draw) -> float:
    """ceiling(n, keys, values): how often a perfect memory is right at pair n, tried in 20,000 random sequences."""
    for trial in range(6):
        keys, values = draw.whole(2, 9), draw.whole(2, 9)
        n = 1 if trial == 0 else draw.whole(2, 12)
        said = f.number(n, keys, values)
        # A perfect memory in 20,000 sequences: what it has seen it knows, else it guesses.
        drawn = draw.numpy.integers(keys, size=(20_000, n))
        seen = (drawn[:, :-1] == drawn[:, -1:]).any(1)
        lucky = draw.numpy.integers(values, size=20_000) == 0
        right = float((seen | lucky).mean())
        f.close(said, right, f"A perfect memory is right in {right:.2f} of 20,000 sequences.", rtol=0, atol=0.02)
        if trial == 0:
            f.close(said, 1 / values, "At the first pair there is nothing to recall: one guess among the values.")
    return f.number(ASKED_AT, KEYS, KEYS)
