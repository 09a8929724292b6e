"""The head, realigned to features that have drifted."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from nllab.errors import SettingError
from nllab.levels import Level
from nllab.optim.deep import DeepOptimizer
from nllab.optim.layers import Matrix
from nllab.optim.realign import (
    DRIFT,
    FIRST_PACE,
    GROWTH,
    PULL,
    Moments,
    Realignment,
    fit_feature_map,
    pseudo_inputs,
    realign,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memory_of(inputs, ridge):
    rows = torch.cat([inputs * inputs.shape[1] ** -0.5, inputs.new_ones(len(inputs), 1)], 1)
    return ridge * torch.eye(rows.shape[1], dtype=rows.dtype) + rows.T @ rows


def test_pseudo_inputs_have_the_mean_and_covariance_of_what_was_seen():
    inputs = normal(4000, 6) @ normal(6, 6, seed=1) + 3 * normal(6, seed=2)
    inputs[:, 4] = 1.5  # a pixel that never changes
    drawn = pseudo_inputs(memory_of(inputs, 0.2), 0.2, 200_000, seed=0)
    assert (drawn.mean(0) - inputs.mean(0)).abs().max() < 0.05
    assert (torch.cov(drawn.T) - torch.cov(inputs.T)).abs().max() < 0.05 * torch.cov(inputs.T).abs().max()
    assert drawn[:, 4].std() < 0.05


def test_pseudo_inputs_depend_on_the_seed_alone_and_survive_a_single_sample():
    memory = memory_of(normal(50, 6), 0.1)
    assert torch.equal(pseudo_inputs(memory, 0.1, 5, seed=3), pseudo_inputs(memory, 0.1, 5, seed=3))
    assert not torch.equal(pseudo_inputs(memory, 0.1, 5, seed=3), pseudo_inputs(memory, 0.1, 5, seed=4))
    assert pseudo_inputs(memory_of(normal(1, 6), 0.1), 0.1, 5, seed=0).isfinite().all()


def test_a_linear_move_of_the_features_is_found_and_none_leaves_the_identity():
    before, turn = normal(500, 5), torch.eye(5, dtype=torch.float64) + 0.1 * normal(5, 5, seed=1)
    trust = torch.ones(500, dtype=torch.float64)
    assert (fit_feature_map(before, before @ turn, trust) - turn).norm() < 2 * PULL
    assert torch.equal(fit_feature_map(before, before, trust), torch.eye(5, dtype=torch.float64))


def test_after_a_linear_move_the_realigned_head_is_the_ridge_solution_in_the_new_features():
    """Old samples seen through z T, new ones as they came: realigning needs no old sample and gives what all samples
    would give."""
    turn, ridge = torch.eye(5, dtype=torch.float64) + 0.2 * normal(5, 5, seed=1), 0.3
    old, new, old_y, new_y = normal(80, 5), normal(30, 5, seed=2), normal(80, 3, seed=3), normal(30, 3, seed=4)

    def solved(rows, targets):
        gram = rows.T @ rows
        return gram, torch.linalg.solve(gram + ridge * torch.eye(5), rows.T @ targets).T

    gram, weight = solved(old, old_y)
    moments = Moments(gram, (gram + ridge * torch.eye(5)) @ weight.T, old[:0], old[:0])
    both, weight_of_both = solved(torch.cat([old, new]), torch.cat([old_y, new_y]))
    context, turned = realign(both + ridge * torch.eye(5), weight_of_both, moments, turn)
    expected_gram, expected = solved(torch.cat([old @ turn, new]), torch.cat([old_y, new_y]))
    assert torch.allclose(context, expected_gram + ridge * torch.eye(5)) and torch.allclose(turned, expected)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 60), nn.ReLU(), nn.Dropout(0.0), nn.Linear(60, 3)).double()


def train(model, optimizer, steps, first=0):
    for i in range(first, first + steps):
        x = normal(6, 3, 4, seed=i)
        optimizer.zero_grad()
        (0.5 * (model(x) - x.flatten(1)[:, :3].sin()).square().sum(1).mean()).backward()
        optimizer.step()


def test_where_nothing_below_moves_realigning_changes_nothing():
    """Rate 0 below the head: T is the identity, so memory and weights are those of a run that never realigns."""
    found = []
    for every in (0, 5):
        model = network()
        optimizer = DeepOptimizer(
            model, levels=[Level("below", "1", rate=0.0), Level("head", "4")], realign_every=every
        )
        train(model, optimizer, 23)
        found.append((Matrix.of(model[4]).tensor(), optimizer.state[model[4].weight]["context"].matrix))
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(*found, strict=True))


def test_the_head_is_realigned_the_sooner_the_faster_its_features_move():
    """And pseudo-inputs are drawn anew only when more has been seen by a share."""
    closed, drawn = {}, {}
    for rate in (0.01, 3.0):
        model = network()
        levels = [Level("below", "1", rate=rate), Level("head", "4")]
        optimizer = DeepOptimizer(model, levels=levels, realign_every=30, manager=False, loss_reduction="mean")
        steps, seen = [], set()
        for i in range(60):
            train(model, optimizer, 1, first=i)
            kept: Realignment = optimizer.state[model[4].weight]["realignment"]
            assert kept.pace * kept.travelled < DRIFT
            steps += [i] if kept.steps == 0 else []
            seen.add(kept.drawn_at)
        closed[rate], drawn[rate] = len(steps), seen
    assert closed[0.01] == 2 and closed[3.0] > 2 * closed[0.01]
    assert all(b > a * GROWTH for a, b in pairwise(sorted(drawn[3.0])))


def test_realigning_keeps_old_answers_while_the_features_move():
    """Nothing is asked of the head any more, the level below walks away: the answers to the first inputs must
    stay."""
    drift = {}
    for every in (0, 4):
        model = network()
        optimizer = DeepOptimizer(model, realign_every=every, manager=False, loss_reduction="mean")
        train(model, optimizer, 40)
        probe = normal(200, 3, 4, seed=99)
        before = model(probe).detach()
        optimizer.acting, walk = True, torch.Generator().manual_seed(5)
        for group in optimizer.param_groups:
            group["rate"] = 1e-9
        for i in range(16):
            train(model, optimizer, 1, first=40 + i)
            with torch.no_grad():
                model[1].weight.add_(0.01 * torch.randn(60, 12, generator=walk, dtype=torch.float64))
        train(model, optimizer, 4, first=60)
        drift[every] = float((model(probe).detach() - before).norm() / before.norm())
    assert drift[4] < 0.75 * drift[0]


def test_while_it_only_observes_the_context_is_realigned_and_no_weight_moves():
    model = network()
    optimizer = DeepOptimizer(model, realign_every=4)
    optimizer.acting = False
    adam, held = torch.optim.Adam(model.parameters(), 0.05), []
    for i in range(12):
        train(model, optimizer, 1, first=i)
        held.append(model[4].weight.detach().clone())
        adam.step()
    assert not torch.equal(held[0], held[-1])  # Adam moved the features
    plain = DeepOptimizer(copy_of := network(), realign_every=0)
    plain.acting = False
    adam = torch.optim.Adam(copy_of.parameters(), 0.05)
    for i in range(12):
        train(copy_of, plain, 1, first=i)
        adam.step()
    assert torch.equal(copy_of[4].weight, model[4].weight)
    contexts = [o.state[m[4].weight]["context"].matrix for o, m in ((optimizer, model), (plain, copy_of))]
    assert not torch.allclose(*contexts)


def test_where_another_optimizer_writes_windows_are_the_shorter_the_faster_it_moves_the_features():
    closed = {}
    for rate in (1e-5, 0.03):
        model = network()
        optimizer = DeepOptimizer(model, realign_every=20, manager=False)
        optimizer.acting = False
        adam, closed[rate] = torch.optim.Adam(model.parameters(), rate), []
        for i in range(48):
            train(model, optimizer, 1, first=i)
            adam.step()
            kept: Realignment = optimizer.state[model[4].weight]["realignment"]
            closed[rate] += [i] if kept.steps == 0 else []
        optimizer.acting = True
        train(model, optimizer, 1, first=48)
        assert kept.pace == FIRST_PACE and not kept.watched  # what another's steps moved says nothing of its own
    # Windows of 4, until it is seen that nothing moves, then the longest there are; and windows of a step or two.
    assert closed[1e-5] == [0, 4, 24, 44] and len(closed[0.03]) > 20


def test_what_another_optimizer_wrote_within_a_window_is_not_taken_for_least_squares():
    """Switched on in the middle of a window in which Adam moved features and head, it begins with the weights that
    Adam left."""
    model = network()
    optimizer = DeepOptimizer(model, realign_every=8, manager=False)
    optimizer.acting = False
    adam = torch.optim.Adam(model.parameters(), 0.05)
    for i in range(12):
        train(model, optimizer, 1, first=i)
        adam.step()
    left = model[4].weight.detach().clone()
    optimizer.acting = True
    for group in optimizer.param_groups:
        group["rate"] = 0.0
    train(model, optimizer, 6, first=12)
    assert torch.equal(model[4].weight, left)


def test_a_window_ends_only_when_the_heads_level_is_due():
    model = network()
    optimizer = DeepOptimizer(
        model, levels=[Level("below", "1"), Level("head", "4", 6)], realign_every=4, manager=False
    )
    wrote = []
    for i in range(18):
        before = model[4].weight.detach().clone()
        train(model, optimizer, 1, first=i)
        if not torch.equal(before, model[4].weight):
            wrote.append(i + 1)
    assert wrote == [6, 12, 18]


def test_state_round_trips_in_the_middle_of_a_window():
    model = network()
    optimizer = DeepOptimizer(model, realign_every=5, manager=False)
    train(model, optimizer, 13)
    twin = network(seed=1)
    twin.load_state_dict(model.state_dict())
    restored = DeepOptimizer(twin, realign_every=5, manager=False)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 9, first=13), train(twin, restored, 9, first=13)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_realigning_leaves_modes_and_torchs_generator_alone():
    model = network()
    model[3].eval()
    optimizer = DeepOptimizer(model, realign_every=2, manager=False)
    before = torch.get_rng_state()
    train(model, optimizer, 8)
    assert model.training and not model[3].training and torch.equal(before, torch.get_rng_state())


def test_a_model_that_reads_tokens_is_trained_without_realigning():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(12, 20), nn.Flatten(), nn.Linear(60, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    optimizer = DeepOptimizer(model, realign_every=2, manager=False)
    for i in range(6):
        optimizer.zero_grad()
        tokens = torch.randint(12, (6, 3), generator=torch.Generator().manual_seed(i))
        model(tokens).square().sum(1).mean().backward()
        optimizer.step()
    assert "realignment" not in optimizer.state[model[4].weight]


def test_a_convolutional_model_is_realigned_as_well():
    """Filters that turn within a window move features by a linear map, which is found: old answers stay."""
    images, targets = normal(60, 1, 6, 6, seed=1), normal(60, 2, seed=2)
    errors = {}
    for every in (0, 2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2)).double()
        levels = [Level("filters", "0", rate=0.0), Level("head", "2")]
        optimizer = DeepOptimizer(model, levels=levels, realign_every=every, loss_reduction="mean", manager=False)
        for step, rows in enumerate(torch.arange(60).split(5)):
            if step == 10:
                before = model(images).detach()
                with torch.no_grad():
                    turn = torch.eye(4) + 0.3 * normal(4, 4)
                    model[0].weight.copy_((turn @ model[0].weight.flatten(1)).view(4, 1, 3, 3))
            optimizer.zero_grad()
            (0.5 * (model(images[rows]) - targets[rows]).square().sum(1).mean()).backward()
            optimizer.step()
        errors[every] = float((model(images).detach() - before)[:50].square().mean())
    assert errors[2] < errors[0] / 2


@pytest.mark.parametrize("every", [-1, 1.5, True, "16"])
def test_an_impossible_window_is_named(every):
    with pytest.raises(SettingError, match="realign_every is"):
        DeepOptimizer(network(), realign_every=every)
