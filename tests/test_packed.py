"""Weights that a module uses inside itself."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer
from nllab.optim.packed import signal

X = torch.randn(40, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X[:, -1, 0] > 0).long() + (X[:, 0, 1] > 0).long()
PARTS = {
    "self-attention": (lambda: nn.MultiheadAttention(6, 2, batch_first=True), ["in_proj_weight"]),
    "attention elsewhere": (lambda: nn.MultiheadAttention(6, 2, batch_first=True), ["in_proj_weight"]),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(6, 2, kdim=3, vdim=3, batch_first=True),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight"],
    ),
    "LSTM": (lambda: nn.LSTM(6, 8, batch_first=True), ["weight_ih_l0", "weight_hh_l0"]),
    "GRU": (lambda: nn.GRU(6, 8), ["weight_ih_l0", "weight_hh_l0"]),
    "RNN without bias": (lambda: nn.RNN(6, 8, bias=False), ["weight_ih_l0", "weight_hh_l0"]),
    "LSTM of two layers": (lambda: nn.LSTM(6, 8, num_layers=2), ["weight_ih_l0"]),
    "both ways": (lambda: nn.GRU(6, 8, bidirectional=True), ["weight_ih_l0", "weight_ih_l0_reverse"]),
}


class Model(nn.Module):
    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.name, self.part = name, PARTS[name][0]()
        width = 6 if "attention" in name else 16 if name == "both ways" else 8
        self.head = nn.Linear(width, 3)
        self.double()

    def forward(self, x):
        if isinstance(self.part, nn.MultiheadAttention):
            other = {"attention elsewhere": x.flip(1), "attention of other widths": x[..., :3]}.get(self.name, x)
            return self.head(self.part(x, other, other)[0].mean(1))
        if self.part.batch_first:
            return self.head(self.part(x)[0][:, -1])
        return self.head(self.part(x.transpose(0, 1))[0][-1])


def rows(tensor, bias=True):
    flat = tensor.detach().reshape(-1, tensor.shape[-1]) * tensor.shape[-1] ** -0.5
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1) if bias else flat


def expected(name, weight, x, states):
    """The inputs that a weight multiplies, from outside."""
    if name == "attention elsewhere":
        return torch.cat([rows(x), rows(x.flip(1))])
    if name == "attention of other widths":
        return rows(x if weight.startswith("q") else x[..., :3], bias=False)
    if "hh" in weight:
        return rows(torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1), bias=name != "RNN without bias")
    return rows(x, bias=name != "RNN without bias")


@pytest.mark.parametrize("name", PARTS)
def test_the_inputs_of_inner_weights_are_absorbed_and_their_gradient_is_written(name):
    model = Model(name)
    optimizer = DeepOptimizer(model, warn=False, manager=False)
    with torch.no_grad():
        states = None
        if isinstance(model.part, nn.RNNBase):
            first = model.part.batch_first
            states = model.part(X if first else X.transpose(0, 1))[0]
            states = states if first else states.transpose(0, 1)
    before = {n: p.detach().clone() for n, p in model.part.named_parameters()}
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    held = {n for n, p in model.part.named_parameters() if "context" in optimizer.state[p]}
    assert held == set(PARTS[name][1])
    for weight in held:
        p = model.part.get_parameter(weight)
        seen = expected(name, weight, X, states)
        matrix = 0.1 * torch.eye(seen.shape[1], dtype=torch.float64) + seen.T @ seen
        assert torch.allclose(optimizer.state[p]["context"].matrix, matrix)
        fan_in = p.shape[1]
        bias = model.part._parameters.get("in_proj_bias" if "proj" in weight else weight.replace("weight", "bias"))
        bias = None if weight[0] in "qkv" else bias
        gradient = 40 * torch.cat([p.grad * fan_in**-0.5, *([bias.grad[:, None]] if bias is not None else [])], 1)
        step = torch.linalg.solve(matrix, gradient.T).T[:, :fan_in] * fan_in**-0.5
        moved = before[weight] - p
        assert torch.allclose(moved / moved.norm(), step / step.norm()) and moved.norm() > 0


@pytest.mark.parametrize("name", PARTS)
def test_inner_weights_learn_without_running_away(name):
    model = Model(name)
    optimizer = DeepOptimizer(model, warn=False)
    start = [p.detach().norm() for p in model.part.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(40):
            optimizer.zero_grad()
            some = torch.randperm(40, generator=torch.Generator().manual_seed(i))[:20]
            loss = F.cross_entropy(model(X[some]), Y[some])
            loss.backward()
            optimizer.step()
    assert F.cross_entropy(model(X), Y) < 0.9
    assert all(p.norm() < 5 * norm + 5 for p, norm in zip(model.part.parameters(), start, strict=True))


def test_hidden_error_signals_are_measured_by_their_gradient():
    g = torch.Generator().manual_seed(0)
    deltas, seen = torch.randn(4000, 3, generator=g), torch.randn(4000, 5, generator=g)
    assert signal(deltas.T @ seen, seen) == pytest.approx(float(deltas.square().sum()), rel=0.6)
    alike = torch.ones(50, 5)
    assert signal(deltas[:50].abs().T @ alike, alike) >= float(deltas[:50].square().sum())


def test_attention_called_by_names_is_held_by_its_diagonal():
    model = Model("self-attention")
    model.forward = lambda x: model.head(model.part(query=x, key=x, value=x)[0].mean(1))
    optimizer = DeepOptimizer(model, warn=False)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    assert set(optimizer.state[model.part.in_proj_weight]) == {"diagonal"}
