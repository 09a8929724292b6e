"""What the head leaves to the layers below it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer, Level
from nllab.optim.context import Context
from nllab.optim.layers import Matrix
from nllab.optim.leftover import OWN, Head, gain, left_by


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def head_of(past=40, width=6, out=3, rate=1.0):
    """A linear head that is the ridge solution of what it has seen, with its context."""
    layer = nn.Linear(width, out).double()
    matrix, rows = Matrix.of(layer), normal(past, width + 1)
    context = Context.empty(width + 1, 0.1, dtype=torch.float64)
    context.matrix += rows.T @ rows
    solved = torch.linalg.solve(context.matrix, rows.T @ normal(past, out, seed=1)).T
    with torch.no_grad():
        matrix.add_(solved - matrix.tensor())
    return Head(matrix, context, rate)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_sample_is_judged_by_the_head_that_all_others_make(weighted):
    """Squared error, rate 1: the ridge solution of the past and the batch but one, for each of the batch."""
    head, rows, targets = head_of(), normal(9, 7, seed=2), normal(9, 3, seed=3)
    counts = 1 + normal(9, seed=4).abs() if weighted else torch.ones(9, dtype=torch.float64)
    scores = rows @ head.matrix.tensor().T
    left = left_by(head, rows, scores, scores - targets, counts if weighted else None, "squared_error")
    answers = head.context.matrix @ head.matrix.tensor().T

    def without(i):
        kept = [j for j in range(9) if j != i]
        z, y, w = rows[kept], targets[kept], counts[kept, None]
        return torch.linalg.solve(head.context.matrix + (w * z).T @ z, answers + (w * z).T @ y).T

    expected = torch.stack([rows[i] @ without(i).T for i in range(9)])
    assert torch.allclose(left.scores, expected)
    after, before = without(None), head.matrix.tensor()
    change = counts[:, None] * ((expected - targets) @ after - (scores - targets) @ before)
    assert torch.allclose(left.residuals, counts[:, None] * (expected - targets))
    assert torch.allclose(left.change, change[:, :6] * head.matrix.unit)


def test_both_ways_to_the_gain_agree():
    head, rows = head_of(), normal(5, 7, seed=2)
    slow = gain(head.context, rows)
    head.context.past = torch.linalg.inv(head.context.matrix)
    assert torch.allclose(gain(head.context, rows), slow)
    assert torch.allclose(slow, rows @ torch.linalg.inv(head.context.matrix + rows.T @ rows))


@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy", "binary_cross_entropy"])
def test_rows_that_the_loss_did_not_ask_about_leave_nothing(kind):
    head, rows = head_of(), normal(4, 7, seed=2)
    residuals = normal(4, 3, seed=3)
    residuals[1] = 0
    left = left_by(head, rows, rows @ head.matrix.tensor().T, residuals, None, kind)
    assert not left.residuals[1].any() and not left.change[1].any() and left.residuals[0].any()


def test_a_sample_that_stands_alone_in_its_direction_stays_finite():
    head, rows = head_of(past=0), 1e6 * normal(1, 7, seed=2)
    scores = rows @ head.matrix.tensor().T
    left = left_by(head, rows, scores, scores - 1, None, "squared_error")
    assert left.change.isfinite().all() and left.scores.abs().max() <= 2 * (scores.abs().max() + 1) / (1 - OWN)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3)).double()


def batch(i):
    x = normal(10, 8, seed=i)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def unwatched(model, x, y):
    other = copy.deepcopy(model)
    return torch.autograd.grad(F.cross_entropy(other(x), y), list(other.parameters()))


def gradients(optimizer, model, i):
    x, y = batch(i)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return [p.grad.clone() for p in model.parameters()]


def test_hidden_layers_learn_what_the_head_leaves_and_the_head_learns_as_ever():
    model = network()
    optimizer = DeepOptimizer(model, realign_every=0)
    for i in range(3):
        gradients(optimizer, model, i)
        optimizer.step()
    x, y = batch(3)
    plain = unwatched(model, x, y)
    seen = gradients(optimizer, model, 3)
    assert not torch.allclose(seen[0], plain[0]) and torch.allclose(seen[2], plain[2])
    features, head = model[:2](x), Matrix.of(model[2])
    rows = torch.cat([features.detach() * head.unit, torch.ones(10, 1, dtype=torch.float64)], 1)
    scores = model(x).detach()
    context = optimizer.state[model[2].weight]["context"]
    own = gain(context, rows)
    residuals = scores.softmax(1) - F.one_hot(y, 3)
    optimizer.step()
    after, share = head.tensor(), (own * rows).sum(1, keepdim=True)
    alone = (rows @ after.T - share * (scores - 5 * residuals)) / (1 - share)
    delta = (alone.softmax(1) - F.one_hot(y, 3)) @ model[2].weight.detach() / 10
    assert torch.allclose(seen[0], (delta * (1 - features.detach() ** 2)).T @ x)


@pytest.mark.parametrize("acting", [False, True])
def test_who_only_watches_leaves_gradients_alone(acting):
    model = network()
    optimizer = DeepOptimizer(model)
    gradients(optimizer, model, 0)
    optimizer.step()
    optimizer.acting = acting
    x, y = batch(1)
    plain = unwatched(model, x, y)
    same = [torch.allclose(a, b) for a, b in zip(gradients(optimizer, model, 1), plain, strict=True)]
    assert all(same) != acting


def test_a_head_that_writes_seldom_leaves_everything():
    model = network()
    optimizer = DeepOptimizer(model, levels=[Level("all", "*", 4)])
    x, y = batch(1)
    plain = unwatched(model, x, y)
    assert all(torch.allclose(a, b) for a, b in zip(gradients(optimizer, model, 1), plain, strict=True))
