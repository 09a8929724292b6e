"""The metric of outputs against its closed form, and with the deep optimizer against Newton's step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nllab.errors import SettingError
from nllab.optim.deep import DeepOptimizer
from nllab.optim.output_metric import OutputMetric, precondition
from nllab.optim.rates import BOUNDED_RATE


def test_it_is_the_mean_of_outer_products_without_padding():
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    metric = OutputMetric(model)
    x, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, -100, -100])
    F.cross_entropy(model(x), target, reduction="sum").backward()
    delta = model(x).softmax(1)[:4] - F.one_hot(target[:4], 4)
    assert torch.allclose(metric.metric(0), delta.T @ delta / 4, atol=1e-6)


def test_a_large_damping_scales_and_nothing_else():
    gradient, metric = torch.randn(4, 5), torch.eye(4) * 0.3
    assert torch.allclose(precondition(gradient, metric, 1e6) * 1e6, gradient, rtol=1e-4)
    assert torch.allclose(
        precondition(gradient, torch.diag(torch.tensor([0.1, 0.4, 0.9, 1.9])), 0.1)[3], gradient[3] / 2
    )


def test_with_the_memory_of_inputs_it_is_newtons_step_where_the_curvature_is_a_product():
    # Logistic regression on one repeated input: the Hessian is exactly G x C, G the Fisher metric at the outputs.
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    nn.init.zeros_(model.weight)
    settings = {"ridge": 1e-6, "realign_every": 0, "manager": False, "loss": "cross_entropy", "loss_reduction": "sum"}
    # Its rate for cross-entropy is in units of its own.
    optimizer, metric = DeepOptimizer(model, rate=1 / BOUNDED_RATE, **settings), OutputMetric(model, damping=1e-6)
    x = torch.tensor([[1.0, 2.0, -1.0]]).double().expand(8, 3)
    target = torch.tensor([0, 1] * 4)
    target[0] = 1
    F.cross_entropy(model(x), target, reduction="sum").backward()
    gradient = model.weight.grad.clone()
    before = model.weight.detach().clone()
    metric.precondition()
    optimizer.step()
    change = (model.weight.detach() - before).flatten()

    def loss(w):
        return F.cross_entropy(x @ w.view(2, 3).T, target, reduction="sum")

    hessian = torch.autograd.functional.hessian(loss, before.flatten())
    # In the directions that the data determine, H change = -gradient; G from the labels equals the Fisher metric at p =
    # 1/2.
    assert torch.allclose(hessian @ change, -gradient.flatten(), rtol=1e-3, atol=1e-6)


def test_gradients_are_all_it_changes_and_frozen_layers_are_left_out():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for p in model[0].parameters():
        p.requires_grad_(False)
    metric = OutputMetric(model)
    before = [p.detach().clone() for p in model.parameters()]
    F.cross_entropy(model(torch.randn(5, 3)), torch.tensor([0, 1, 0, 1, 1])).backward()
    metric.precondition()
    assert len(metric.layers) == 1 and all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_bad_settings():
    with pytest.raises(SettingError, match="damping is 0"):
        OutputMetric(nn.Linear(2, 2), damping=0)
    with pytest.raises(SettingError, match=r"no nn\.Linear"):
        OutputMetric(nn.LayerNorm(3))
