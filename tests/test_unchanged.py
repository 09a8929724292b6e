"""Contexts hold fewer inputs than they have seen while nothing has ever changed; all count again once anything does."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer
from nllab.levels import Level
from nllab.optim import policy as m
from nllab.optim.context import WORTH, Context
from nllab.optim.policy import BINS, LONG, SPAN, Policy
from nllab.optim.realign import Realignment

RIDGE = 0.1


def test_what_was_left_out_counts_again_as_what_stayed():
    """With the same rows at every step, those that stay stand for all exactly."""
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, thin = (Context.empty(8, RIDGE, dtype=torch.float64) for _ in range(2))
    for _ in range(40):
        for context in (whole, thin):
            context.absorb(rows, torch.zeros(5, 3, dtype=torch.float64))
            context.close()
            context.seen, context.whole = context.seen + 5, context.whole + 5
        thin.surplus += 5
        thin.leave_out(most=50, ridge=RIDGE)
    assert thin.seen == pytest.approx(45, rel=0.05) and thin.whole == 200
    held = thin.matrix - RIDGE * torch.eye(8, dtype=torch.float64)
    assert torch.allclose(held, thin.seen / 5 * rows.T @ rows)
    assert thin.restore(RIDGE) == pytest.approx(200 / 45, rel=0.05) and thin.seen == thin.whole == 200
    assert torch.allclose(thin.matrix, whole.matrix)
    assert thin.restore(RIDGE) == 1


def test_an_inverse_is_made_anew_only_when_enough_has_come():
    context = Context.empty(8, RIDGE)
    kept = []
    for _ in range(40):
        context.surplus += 1
        kept.append(context.leave_out(most=100, ridge=RIDGE))
    assert [i for i, share in enumerate(kept) if share < 1] == [9, 19, 29, 39] and min(kept) == 1 - WORTH
    context.surplus = 1000
    assert context.leave_out(most=100, ridge=RIDGE) == 0.5


def shares(*classes):
    counts = [0.0] * BINS
    for label in classes:
        counts[label] += 1
    return counts


def live(policy, steps, answers, wrong=0.02):
    found = []
    for step in range(steps):
        policy.look(wrong, answers(step))
        policy.observe(wrong, 0.7, [(0, label) for label in range(3)][: round(wrong * 10)])
        found.append(policy.decide())
    return [decision for decision in found if decision]


def steady(step):
    draw = random.Random(step)
    return shares(*(draw.randrange(3) for _ in range(16)))


def in_turn(step):
    return shares(0, 1, 2, step % 3)


@pytest.mark.parametrize("steady", [steady, in_turn])
def test_a_world_that_has_never_changed_is_noticed_once_and_its_end_at_once(steady):
    policy = Policy()
    assert live(policy, LONG - 1, steady) == [] and policy.settings.span is None
    (begun,) = live(policy, 300, steady)
    assert (
        policy.situation == m.UNCHANGED
        and policy.settings.span == SPAN == begun.did["inputs remembered for each direction"]
    )
    assert f"for {LONG} steps" in begun.text
    (over,) = live(policy, 5, lambda step: shares(0, 1, 5, 5))
    assert "Other answers" in over.text and policy.settings == m.FIXED
    assert live(policy, 1000, steady) == []  # there are two worlds now


def test_errors_that_grow_end_it_too():
    policy = Policy()
    live(policy, LONG, steady)
    live(policy, 5, steady, wrong=0.9)
    assert policy.situation != m.UNCHANGED and policy.changed


def test_without_answers_nothing_is_known_to_be_unchanged():
    policy = Policy()
    assert live(policy, 3 * LONG, lambda step: ()) == []


def test_new_classes_explain_new_inputs_until_they_are_half_of_all():
    seen = {"wrong_usual": 0.1, "wrong_now": 0.1, "rising": 99, "novelty_usual": 2.0}
    policy = Policy(steps=300, first_seen={0: 9, 1: 200}, **seen)
    assert m.judge(policy)[0] == m.STEADY
    policy.steps = 400
    assert m.judge(policy)[0] == m.DRIFT


def batch(step, classes):
    g = torch.Generator().manual_seed(step)
    y = torch.tensor(classes)[torch.arange(32) % len(classes)]
    return torch.randn(32, 6, generator=g) + 3 * F.one_hot(y, 6), y


def train(model, optimizer, steps, classes):
    for step in steps:
        x, y = batch(step, classes)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))


def soon_unchanged(monkeypatch, **settings):
    """A network and its optimizer, which takes the world to be one after 60 steps."""
    monkeypatch.setattr(m, "LONG", 60)
    torch.manual_seed(0)
    model = net()
    return model, DeepOptimizer(model, **settings)


def test_contexts_hold_fewer_inputs_while_nothing_changes_and_all_from_then_on(monkeypatch):
    model, optimizer = soon_unchanged(monkeypatch)
    train(model, optimizer, range(150), (0, 1, 2))
    assert optimizer.policy.situation == m.UNCHANGED
    contexts = [optimizer.state[model[place].weight]["context"] for place in (0, 2)]
    for context, width in zip(contexts, (7, 6), strict=True):
        assert context.seen < 1.2 * SPAN * width and context.whole == 150 * 32
    kept: Realignment = optimizer.state[model[2].weight]["realignment"]
    assert float(kept.inputs[-1, -1]) == pytest.approx(contexts[1].seen, rel=0.3)

    other = net()
    other.load_state_dict(model.state_dict())
    again = DeepOptimizer(other)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((model, optimizer), (other, again)):
        train(one, its, range(150, 160), (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert optimizer.settings.span is None and optimizer.policy.changed
    for context in contexts:
        assert context.seen == context.whole == 160 * 32
    assert float(kept.inputs[-1, -1]) == pytest.approx(160 * 32, rel=0.3)


def test_what_comes_with_the_change_counts_once(monkeypatch):
    """The old counts as all that was seen, the first batch of the new as itself."""
    model, optimizer = soon_unchanged(monkeypatch)
    train(model, optimizer, range(400), (0, 1, 2))
    context = optimizer.state[model[0].weight]["context"]
    assert context.whole > 20 * context.seen
    train(model, optimizer, range(400, 401), (3, 4))
    # The new classes' own inputs: 3 + noise in 16 of 32 rows, noise before.
    held = context.matrix.diagonal()[[3, 4]] * 6
    assert context.seen == context.whole == 401 * 32
    assert (held < 1.3 * (400 * 32 + 16 * 10)).all()


@pytest.mark.parametrize("period", [1, 4])
def test_toggled_off_in_the_middle_all_counts_at_once(monkeypatch, period):
    model, optimizer = soon_unchanged(monkeypatch, levels=[Level("all", "*", period)])
    train(model, optimizer, range(400), (0, 1, 2))
    context = optimizer.state[model[0].weight]["context"]
    assert context.seen < 1.5 * SPAN * 7
    optimizer.acting = False
    train(model, optimizer, range(400, 500), (3, 4))
    assert context.seen == context.whole == 500 * 32 and optimizer.policy.changed
    optimizer.acting = True
    train(model, optimizer, range(500, 600), (3, 4))
    assert context.seen == context.whole == 600 * 32


def test_states_of_before_leave_nothing_out():
    old = {name: value for name, value in Policy(steps=500).state().items() if name != "changed"}
    assert Policy.of_state(old).changed and not Policy.of_state(Policy().state()).changed


def test_a_deep_optimizer_that_only_watches_leaves_nothing_out(monkeypatch):
    model, optimizer = soon_unchanged(monkeypatch)
    optimizer.acting = False
    train(model, optimizer, range(100), (0, 1, 2))
    assert optimizer.state[model[0].weight]["context"].seen == 3200 and optimizer.settings.span is None
