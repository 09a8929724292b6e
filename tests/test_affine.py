"""The memory of a norm's scale and shift."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer, Level
from nllab.optim.affine import Channels, Scale, normalized, rows_of
from nllab.optim.rates import trusted


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NORMS = {
    "layer": (nn.LayerNorm(6), (5, 6), lambda x: F.layer_norm(x, (6,))),
    "layer over two axes": (nn.LayerNorm((2, 3)), (5, 2, 3), lambda x: F.layer_norm(x, (2, 3)).flatten(1)),
    "layer without shift": (nn.LayerNorm(6, bias=False), (5, 4, 6), lambda x: F.layer_norm(x, (6,)).flatten(0, 1)),
    "root mean square": (nn.RMSNorm(6, eps=1e-8), (5, 6), lambda x: F.rms_norm(x, (6,), eps=1e-8)),
    "batch": (nn.BatchNorm1d(6), (5, 6), lambda x: F.batch_norm(x, None, None, training=True)),
    "batch of images": (
        nn.BatchNorm2d(6),
        (5, 6, 2, 2),
        lambda x: F.batch_norm(x, None, None, training=True).movedim(1, -1).flatten(0, 2),
    ),
    "group": (nn.GroupNorm(2, 6), (5, 6, 4), lambda x: F.group_norm(x, 2).movedim(1, -1).flatten(0, 1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_inputs_of_channels_are_read_from_what_a_norm_has_made_of_them(name):
    norm, shape, plain = NORMS[name]
    norm = copy.deepcopy(norm).double()
    with torch.no_grad():
        for i, p in enumerate(norm.parameters()):
            p.copy_(1 + normal(*p.shape, seed=i))
        norm.weight.flatten()[0] = 0  # hidden for good
    x = normal(*shape, seed=7)
    seen, expected = normalized(norm, norm(x)), plain(x)
    assert torch.allclose(seen[:, 1:], expected[:, 1:]) and not seen[:, 0].any()


def layered(norm=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), norm or nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()


def train(model, optimizer, steps, first=0):
    for i in range(first, first + steps):
        x = normal(12, 6, seed=i)
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long() + (x[:, 1] > 0).long()).backward()
        optimizer.step()


@pytest.mark.parametrize("period", [1, 3])
def test_each_channel_holds_the_moments_of_all_its_inputs_and_writes_through_them(period):
    model = layered()
    levels = [Level("norm", "1", period), Level("rest", "*")]
    optimizer = DeepOptimizer(model, levels=levels, manager=False, realign_every=0)
    rows, gradient = [], 0
    for i in range(period):
        x = normal(12, 6, seed=i)
        rows.append(normalized(model[1], model[1](model[0](x))))
        before = torch.stack([model[1].weight, model[1].bias], 1).detach().clone()
        optimizer.zero_grad()
        F.cross_entropy(model(x), (x[:, 0] > 0).long() + (x[:, 1] > 0).long()).backward()
        gradient = gradient + 12 * torch.stack([model[1].weight.grad, model[1].bias.grad], 1)
        optimizer.step()
    seen = torch.cat(rows)
    inputs = torch.stack([seen, torch.ones_like(seen)], 2)
    expected = 0.1 * torch.eye(2, dtype=torch.float64) + torch.einsum("nck,ncl->ckl", inputs, inputs)
    channels: Channels = optimizer.state[model[1].weight]["channels"]
    assert torch.allclose(channels.matrix, expected)
    moved = before - torch.stack([model[1].weight, model[1].bias], 1).detach()
    change = torch.linalg.solve(expected, gradient)
    rate = trusted(optimizer._hidden, float(change.square().sum()), float(before[:, 0].square().sum()))
    assert torch.allclose(moved, rate * change) and moved.abs().max() > 0


def test_a_channel_whose_inputs_stay_near_one_point_still_learns_apart_from_the_others():
    """Shift and scale together answer the inputs of a channel exactly: the old ones do not move where another has
    one place of its own."""
    held = Channels.empty(Scale(torch.ones(1), torch.zeros(1)), 1e-9)
    old = torch.tensor([[1.0, 1.0]])
    held.matrix += 1e6 * torch.einsum("nk,nl->kl", old, old)
    new = torch.tensor([[3.0, 1.0]])
    held.matrix += torch.einsum("nk,nl->kl", new, new)
    change = held.solve(new)
    assert (change @ old.T).abs() < 1e-2 < 0.9 < (change @ new.T)


def test_state_round_trips_and_a_norm_used_without_its_layer_is_held_by_its_diagonal():
    model = layered()
    optimizer = DeepOptimizer(model, manager=False)
    train(model, optimizer, 5)
    twin = layered()
    twin.load_state_dict(model.state_dict())
    restored = DeepOptimizer(twin, manager=False)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 4, 5), train(twin, restored, 4, 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))

    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(F.layer_norm(x, (6,), self.norm.weight, self.norm.bias).tanh())

    direct = Direct().double()
    optimizer = DeepOptimizer(direct, warn=False)
    train(direct, optimizer, 3)
    assert set(optimizer.state[direct.norm.weight]) == {"diagonal"} and (direct.norm.weight != 1).any()


def test_rows_follow_the_channels_of_an_input_without_a_batch():
    assert rows_of(nn.InstanceNorm1d(6, affine=True), normal(6, 4)).shape == (4, 6)
