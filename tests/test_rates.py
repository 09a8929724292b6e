import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer
from nllab.optim.output import bend, recognise
from nllab.optim.rates import (
    AFTER_WATCHING,
    FIRST_LOOK,
    FLAT,
    LOOK,
    TRUST,
    Trace,
    age,
    best_rate,
    energy_by_row,
    hidden_rate,
    lifted,
    mean_bend,
    own_energy,
)
from nllab.optim.watch import Pass


def one_hot(labels):
    return F.one_hot(labels, 4).double()


LOSSES = {
    "squared_error": lambda s, y: 0.5 * (s - one_hot(y)).square().sum(1).mean(),
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": lambda s, y: F.binary_cross_entropy_with_logits(s, one_hot(y)),
    "smoothed": lambda s, y: F.cross_entropy(s, y, label_smoothing=0.1),
}


def drawn(seed=0, rows=32):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=g, dtype=torch.float64)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] * x[:, 2] > 0).long()


def net(hidden=(8, 8)):
    torch.manual_seed(0)
    sizes = [6, *hidden]
    parts = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], 4)).double()


def live(model, optimizer, loss, steps, factor=1.0, seed=0):
    rates = []
    for step in range(steps):
        x, y = drawn(seed + step)
        optimizer.zero_grad()
        (factor * loss(model(x), y)).backward()
        optimizer.step()
        rates.append(hidden_rate(traces(optimizer)))
    return rates


def traces(optimizer):
    return [state["trace"] for state in optimizer.state.values() if "trace" in state]


@pytest.mark.parametrize("kind", LOSSES)
def test_the_bend_of_a_loss_is_that_of_its_hessian_along_the_residuals(kind):
    x, y = drawn()
    scores = (2 * x[:, :4]).requires_grad_()
    loss = {**LOSSES, "binary_cross_entropy": lambda s, y: 4 * LOSSES["binary_cross_entropy"](s, y)}[kind]
    (residual,) = torch.autograd.grad(len(x) * loss(scores, y), scores, create_graph=True)
    (along,) = torch.autograd.grad((residual * residual.detach()).sum(), scores)
    truth = (along * residual.detach()).sum() / residual.detach().square().sum()
    name = "cross_entropy" if kind == "smoothed" else kind
    assert torch.allclose(bend(name, scores.detach(), residual.detach()), truth)


@pytest.mark.parametrize(("kind", "per_row"), [("binary_cross_entropy", 4.0), ("smoothed", 1.0)])
@pytest.mark.parametrize("summed", [False, True])
def test_binary_and_smoothed_losses_are_recognised_with_their_reduction(kind, per_row, summed):
    x, y = drawn()
    scores = x[:, :4].clone().requires_grad_()
    loss = LOSSES[kind](scores, y) * (len(x) * per_row if summed else 1)
    (gradient,) = torch.autograd.grad(loss, scores)
    found = recognise(scores.detach(), gradient)
    assert found is not None and found.kind == ("cross_entropy" if kind == "smoothed" else kind)
    assert found.per_row == pytest.approx(1 / len(x) if summed else per_row)


def test_the_best_rate_minimizes_the_quadratic_model_of_one_layer():
    trace = Trace(signal=6.0, residual=2.0, gain=5.0)
    eta = best_rate([trace])

    def model(eta):
        return -eta * trace.gain + eta**2 / 2 * trace.curvature * trace.gain

    assert eta == pytest.approx(1 / 3) and model(eta) < min(model(0.9 * eta), model(1.1 * eta)) < 0


def test_layers_share_one_rate_and_never_pass_the_bound_of_their_sum():
    alike = [Trace(4.0, 1.0, gain=2.0) for _ in range(3)]
    assert best_rate(alike) == pytest.approx(1 / (3 * 4.0))
    assert best_rate([Trace(4.0, 1.0, 2.0), Trace(9.0, 1.0, 1e-12)]) == pytest.approx(1 / 4, rel=1e-4)
    assert best_rate([]) == best_rate([Trace()]) == math.inf


def test_rates_fall_with_the_samples_that_used_a_direction_and_rise_where_none_has():
    old, new = Trace(4.0, 1.0, 1.0), Trace(4.0, 1.0, 1.0)
    old.write(gain=1000.0, own=1.0, samples=10)
    new.write(gain=1.0, own=1.0, samples=10)
    assert age([old]) == pytest.approx(1000 * age([new])) and hidden_rate([old]) < hidden_rate([new]) / 2


def test_the_energy_of_a_change_is_measured_on_some_rows_for_all():
    change, rows = torch.randn(3, 5), torch.randn(1, 5).expand(1000, 5)
    assert torch.allclose(own_energy(change, rows), (change @ rows.T).square().sum(), rtol=1e-4)
    places = torch.tensor([0, 2, 2])
    assert torch.allclose(own_energy(change, places), (change @ F.one_hot(places, 5).float().T).square().sum())


@pytest.mark.parametrize("kind", LOSSES)
def test_the_scale_of_a_loss_and_of_its_sum_change_nothing(kind):
    first, second = net(), net()
    live(first, DeepOptimizer(first), LOSSES[kind], 5)
    live(second, DeepOptimizer(second), LOSSES[kind], 5, factor=32.0)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("hidden", [(8,), pytest.param((8, 8, 8), marks=pytest.mark.slow), (64, 64)])
def test_no_weight_runs_away_and_the_loss_falls(kind, hidden):
    model = net(hidden)
    start = [p.detach().norm() for p in model.parameters()]
    x, y = drawn(10_000, 500)
    before = LOSSES[kind](model(x), y).item()
    live(model, DeepOptimizer(model), LOSSES[kind], 40)
    assert LOSSES[kind](model(x), y).item() < before
    for p, norm in list(zip(model.parameters(), start, strict=True))[:-2]:
        assert p.detach().norm() < 5 * norm + 1


def test_no_write_moves_the_outputs_of_its_layer_further_than_it_is_trusted():
    """Even where an embedding of tiny numbers stands before a norm, which makes them large."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    with torch.no_grad():
        model[0].weight.mul_(0.01)
    optimizer = DeepOptimizer(model, manager=False)
    for step in range(12):
        places = torch.randint(9, (20,), generator=torch.Generator().manual_seed(step))
        seen = torch.cat([model[0](places).detach(), model[2](model[1](model[0](places))).detach()], 1)
        inner = model[1](model[0](places)).detach()
        optimizer.zero_grad()
        F.cross_entropy(model(places), places % 4).backward()
        optimizer.step()
        now = torch.cat([model[0](places), model[2](inner)], 1).detach()
        for part in (slice(8), slice(8, 16)):
            assert (now - seen)[:, part].norm() <= (1 + 1e-6) * TRUST * seen[:, part].norm()


def test_after_watching_another_optimizer_rates_are_bound_until_it_has_written_as_often():
    model, found = net(), []
    optimizer = DeepOptimizer(model, manager=False)
    for step in range(9):
        optimizer.acting = step >= 3
        live(model, optimizer, LOSSES["squared_error"], 1, seed=step)
        found.append((optimizer._watched, optimizer._hidden))
    assert [watched for watched, _ in found] == [1, 2, 3, 2, 1, 0, 0, 0, 0]
    assert all(rate <= AFTER_WATCHING for watched, rate in found if watched) and found[-1][1] > AFTER_WATCHING


def test_layers_from_which_nothing_but_layers_leads_to_the_head_are_known():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Linear(5, 4), nn.Linear(4, 4)).double()
    optimizer = DeepOptimizer(model)
    live(model, optimizer, LOSSES["squared_error"], 2)
    assert optimizer._watcher.straight_to(model[4]) == {model[3].weight, model[2].weight}
    model[3] = nn.Sequential(model[3], nn.ReLU())
    live(model, optimizer, LOSSES["squared_error"], 1)
    assert optimizer._watcher.straight_to(model[4]) == set()


def test_in_an_ordinary_stream_the_rate_falls_as_life_goes_on():
    model = net()
    rates = live(model, DeepOptimizer(model), LOSSES["cross_entropy"], 120)
    assert rates[-1] < rates[60] < rates[2]


def test_a_sequence_is_one_sample_of_life():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    optimizer = DeepOptimizer(model)
    x, y = drawn(rows=60)
    F.cross_entropy(model(x.view(5, 12, 6)).flatten(0, 1), y).backward()
    optimizer.step()
    assert [trace.samples for trace in traces(optimizer)] == [5]


def looked(signals, gains, others=(), writes=FIRST_LOOK):
    """A trace with rows of these signals and gains in every write, beside other layers of the bends given."""
    trace = Trace(signal=float(signals.sum()), residual=1.0, gain=float(gains.sum()), writes=writes)
    trace.look(signals, gains, mean_bend([trace, *(Trace(signal=b, residual=1.0, gain=b) for b in others)]))
    return trace


def test_rows_that_bend_the_loss_like_others_are_not_lifted():
    rows = torch.tensor([1.0, 0.5, 2.0, 1.5])
    assert looked(rows, rows).lift is None
    assert looked(rows, rows, others=[5 * float(rows.sum())]).lift is None  # the mean layer bends three times as much


def test_a_flat_row_is_lifted_to_its_share_of_the_mean_layer_whatever_the_units():
    signals, gains = torch.tensor([1.0, 1e-6, 0.0, 1.0]), torch.tensor([1.0, 1e-4, 0.0, 1.0])
    for scale in (1.0, 1e3):
        trace = looked(scale * signals, gains / scale, others=[4.0])
        bends = trace.bend * trace.shares.prod(0).sqrt()
        mean = (trace.bend + 4.0) / 2
        assert trace.lift.flatten()[[0, 2, 3]].tolist() == [1, 1, 1]  # one that gains nothing has nowhere to go
        assert float(4 * bends[1] * trace.lift[1]) == pytest.approx(FLAT * mean, rel=1e-5)
        assert float(trace.lift[1]) == pytest.approx(FLAT * 3 / (4 * 1e-5), rel=1e-4)


def test_rows_are_looked_at_from_time_to_time_and_their_shares_are_means():
    trace = Trace()
    looks = []
    for _ in range(FIRST_LOOK + 2 * LOOK):
        trace.write(1.0, 1.0, 1.0)
        looks.append(trace.looks)
    assert [n for n in looks if n] == [1, 2, 3] and looks.index(1) == FIRST_LOOK - 1
    trace = looked(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    trace.writes += LOOK
    trace.look(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]), 1.0)
    assert torch.allclose(trace.shares, torch.full((2, 2), 0.5))


def test_lifted_rows_are_trusted_as_a_layer_of_their_own():
    lift, own = torch.tensor([[1.0], [100.0], [10.0]]), torch.tensor([[1.0], [1e-4], [1e-2]])
    size = torch.tensor([[1.0], [2.0], [2.0]])
    near = lifted(1e-3, 0.5, lift, own, size)
    assert torch.allclose(near, torch.tensor([[0.5], [0.1], [0.01]]))
    far = lifted(1e3, 0.5, lift, own, size)
    moved = (far**2 * own)[1:].sum().sqrt()
    assert far[0] == 0.5 and float(moved) == pytest.approx(TRUST * 2.0) and float(far[1] / far[2]) == pytest.approx(10)


def test_the_energies_of_rows_add_up_to_that_of_the_matrix():
    g = torch.Generator().manual_seed(0)
    change, rows = torch.randn(3, 5, generator=g), torch.randn(7, 5, generator=g)
    passes = [Pass(rows, torch.zeros(7, 3), None), Pass(rows[:2], torch.zeros(2, 3), None)]
    by_row = energy_by_row(change, passes)
    assert by_row.shape == (3, 1) and torch.allclose(
        by_row[:, 0], (change @ torch.cat([rows, rows[:2]]).T).square().sum(1)
    )
    indices = Pass(torch.tensor([1, 1, 4]), torch.zeros(3, 3), None)
    assert torch.allclose(energy_by_row(change, [indices])[:, 0], (change[:, [1, 1, 4]]).square().sum(1))
