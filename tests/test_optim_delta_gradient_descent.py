"""Delta gradient descent against its argmin, its printed closed form and its own fixed point; its hooks against every
way to loop."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeltaGradientDescent
from nllab.errors import DivergedError, SettingError
from nllab.optim.delta_gradient_descent import delta_gradient_step


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(columns, rows, bias=False):
    layer = nn.Linear(columns, rows, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(draw(rows, columns, seed=7))
        if bias:
            layer.bias.copy_(draw(rows, seed=8))
    return layer


def half_square(layer, x, y, reduction="mean"):
    """1/2||y_hat - y||^2 per row, so that u = y - y_hat."""
    per_row = (layer(x) - y).square().flatten(0, -2).sum(-1) / 2
    return per_row.mean() if reduction == "mean" else per_row.sum()


@pytest.mark.parametrize("norm", [0.0, 1e-3, 1.0, 1.7, 100.0])
@pytest.mark.parametrize("lr", [0.5, 30.0])
def test_one_input_of_any_norm_is_equation_57_with_the_exact_rate(norm, lr):
    weight, slope, x = draw(3, 5, seed=1), draw(3, seed=2), norm * F.normalize(draw(5, seed=3), dim=0)
    rate = lr / (1 + lr * norm**2)
    closed = weight @ (torch.eye(5, dtype=torch.float64) - rate * torch.outer(x, x)) - rate * torch.outer(slope, x)
    ours = delta_gradient_step(weight, torch.outer(slope, x), torch.outer(x, x), lr=lr)
    torch.testing.assert_close(ours, closed, rtol=0, atol=1e-9)  # the system has condition 3e5 at norm 100
    if norm == 1.7 and lr == 0.5:  # the printed lr / (1 + lr) is another step
        printed = weight - lr / (1 + lr) * (torch.outer(weight @ x, x) + torch.outer(slope, x))
        assert (ours - printed).abs().max() > 0.1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (4,), (40,), (3, 7)])
def test_a_step_is_the_numerical_argmin_of_equation_56(shape, bias, reduction):
    layer, x, y, lr = linear(5, 3, bias), 2 * draw(*shape, 5, seed=1), draw(*shape, 3, seed=2), 0.7
    weight = torch.cat([layer.weight, layer.bias[:, None]], 1).detach() if bias else layer.weight.detach().clone()
    rows = x.reshape(-1, 5)
    rows = torch.cat([rows, torch.ones(len(rows), 1).double()], 1) if bias else rows
    wanted = y.reshape(-1, 3) - rows @ weight.mT
    root = (1 / len(rows) if reduction == "mean" else 1) ** 0.5
    # Both squares of Eq. 56 as rows of one least-squares problem.
    left = torch.cat([root * rows, torch.eye(rows.shape[1], dtype=torch.float64) / lr**0.5])
    argmin = torch.linalg.lstsq(left, torch.cat([root * wanted, weight.mT / lr**0.5])).solution.mT

    optimizer = DeltaGradientDescent(layer, lr=lr, loss_reduction=reduction)
    half_square(layer, x, y, reduction).backward()
    optimizer.step()
    moved = torch.cat([layer.weight, layer.bias[:, None]], 1) if bias else layer.weight
    torch.testing.assert_close(moved.detach(), argmin, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("factor", "lr"), [(1.0, 0.3), (1.0, 30.0), (0.5, 1.0), (0.5, 30.0), (2.0, 0.3)])
def test_on_least_squares_it_converges_to_its_own_fixed_point(factor, lr):
    """W+ = W means W S = -G = factor (C - W S): W is factor / (1 + factor) of least squares, half of it for factor 1.

    The error shrinks per step by (1 - lr factor s) / (1 + lr s) along an eigenvalue s of S: below 1 for every lr if
    factor <= 1.
    """
    x, goal = draw(200, 5, seed=1), draw(3, 5, seed=2)
    layer = linear(5, 3)
    optimizer = DeltaGradientDescent(layer, lr=lr)
    for _ in range(250):
        optimizer.zero_grad()
        (factor * half_square(layer, x, x @ goal.mT)).backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), factor / (1 + factor) * goal, rtol=0, atol=1e-4)


def test_it_leaves_what_the_inputs_do_not_reach():
    layer, x = linear(6, 3), torch.cat([draw(50, 4, seed=1), torch.zeros(50, 2).double()], 1)
    before = layer.weight.detach().clone()
    optimizer = DeltaGradientDescent(layer, lr=1.0)
    half_square(layer, x, draw(50, 3, seed=2)).backward()
    optimizer.step()
    assert torch.equal(layer.weight[:, 4:], before[:, 4:]) and not torch.equal(layer.weight[:, :4], before[:, :4])


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)).double()


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def step(model, optimizer, *batches):
    """One step on one or more batches; several are accumulated, their losses divided by their number."""
    optimizer.zero_grad()
    for batch in batches:
        (F.cross_entropy(model(batch), torch.arange(len(batch)) % 3) / len(batches)).backward()
    optimizer.step()
    return weights(model)


def test_accumulated_batches_make_the_step_of_the_whole_batch():
    whole, parts, x = net(), net(), draw(12, 6, seed=1)
    one = step(whole, DeltaGradientDescent(whole), x)
    torch.testing.assert_close(step(parts, DeltaGradientDescent(parts), x[:6], x[6:]), one, rtol=0, atol=1e-12)


def test_only_inputs_whose_gradients_arrive_are_counted():
    x, noise = draw(12, 6, seed=1), 100 * draw(12, 6, seed=2)
    plain, watched = net(), net()
    optimizer = DeltaGradientDescent(watched)
    watched(noise).sum().backward()  # thrown away by the zero_grad of the step
    watched(noise)  # no backward
    with torch.no_grad():
        watched(noise)
    assert torch.equal(step(watched, optimizer, x), step(plain, DeltaGradientDescent(plain), x))


def test_a_layer_used_twice_is_erased_along_both_inputs():
    layer, x = linear(4, 4), draw(2, 5, 4, seed=1)
    before = layer.weight.detach().clone()
    optimizer = DeltaGradientDescent(layer, lr=0.3)
    (half_square(layer, x[0], x[1]) + half_square(layer, x[1], x[0])).backward()
    gradient, gram = layer.weight.grad.clone(), x.flatten(0, 1).mT @ x.flatten(0, 1) / 10
    optimizer.step()
    torch.testing.assert_close(
        layer.weight.detach(), delta_gradient_step(before, gradient, gram, lr=0.3), rtol=0, atol=1e-12
    )


def test_a_layer_hidden_from_one_step_keeps_its_inputs_for_its_own():
    """As under a level whose period is longer: its gradient and its inputs go on adding up while the other layer
    writes."""
    model, x = net(), draw(2, 12, 6, seed=1)
    optimizer, before = DeltaGradientDescent(model), model[0].weight.detach().clone()
    for turn, batch in enumerate(x):
        F.cross_entropy(model(batch), torch.arange(12) % 3).backward()
        kept = [model[0].weight.grad, model[0].bias.grad]
        if turn == 0:
            model[0].weight.grad = model[0].bias.grad = None
            optimizer.step()
            assert torch.equal(model[0].weight, before)
            model[0].weight.grad, model[0].bias.grad = kept
    gram = torch.cat([x.flatten(0, 1), torch.ones(24, 1).double()], 1)
    joined, slope = torch.cat([before, model[0].bias.detach()[:, None]], 1), torch.cat([kept[0], kept[1][:, None]], 1)
    expected = delta_gradient_step(joined, slope, gram.mT @ gram / 24, lr=0.1)
    optimizer.step()
    torch.testing.assert_close(model[0].weight.detach(), expected[:, :-1], rtol=0, atol=1e-12)


def test_everything_but_linear_layers_takes_the_plain_gradient_step():
    model, x = net(), draw(12, 6, seed=1)
    optimizer = DeltaGradientDescent(model, lr=0.5)
    F.cross_entropy(model(x), torch.arange(12) % 3).backward()
    expected = [p.detach() - 0.5 * p.grad for p in model[2].parameters()]
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model[2].parameters(), expected, strict=True))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_a_frozen_half_of_a_layer_stays_and_the_other_learns(frozen):
    model, x = net(), draw(12, 6, seed=1)
    getattr(model[0], frozen).requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step(model, DeltaGradientDescent(model), x)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(before) - {f"0.{frozen}"}


def test_deepcopy_and_rewind_move_the_hooks_and_never_multiply_them():
    model, x = net(), draw(12, 6, seed=1)
    optimizer = DeltaGradientDescent(model)
    step(model, optimizer, x)
    for _ in range(3):
        model, optimizer = copy.deepcopy((model, optimizer))
    assert optimizer.model is model and len(model[0]._forward_hooks) == 1
    original, twin = copy.deepcopy((model, optimizer)), copy.deepcopy((model, optimizer))
    assert torch.equal(step(*original, x), step(*twin, x)) and not torch.equal(weights(model), weights(twin[0]))


def test_a_copied_model_does_not_feed_the_optimizer_of_its_original():
    model, x = net(), draw(12, 6, seed=1)
    optimizer = DeltaGradientDescent(model)
    copy.deepcopy(model)(x).sum().backward()
    assert not optimizer.seen
    model(x).sum().backward()
    assert len(optimizer.seen) == 2
    del optimizer
    gc.collect()
    model(x).sum().backward()  # its hooks have nobody to tell


def test_inputs_too_large_to_square_are_refused_and_nothing_changes():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer, before = DeltaGradientDescent(model), weights(model)
    (1e-30 * model(torch.full((3, 2), 1e25)).sum()).backward()
    with pytest.raises(DivergedError, match="'[01].weight' hold NaN or infinity.*nothing was changed"):
        optimizer.step()
    assert torch.equal(weights(model), before)


def test_what_it_cannot_work_with_is_named():
    with pytest.raises(SettingError, match="needs the model.*generator"):
        DeltaGradientDescent(net().parameters())
    with pytest.raises(SettingError, match="Unknown loss_reduction 'avg'"):
        DeltaGradientDescent(net(), loss_reduction="avg")
    with pytest.raises(SettingError, match="params is empty"):
        DeltaGradientDescent(nn.ReLU())
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(SettingError, match="share a weight but not the bias"):
        DeltaGradientDescent(tied)
