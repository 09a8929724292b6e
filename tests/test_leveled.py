import copy

import pytest
import torch
from torch import nn

from nllab.errors import SettingError
from nllab.levels import Level, Schedule
from nllab.optim.leveled import Leveled, members_of

MAKERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def leveled(net, periods, make):
    levels = [Level(name, name, period) for name, period in periods.items()]
    return Leveled(members_of(net, levels), Schedule.of(levels), make)


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, 4, generator=generator) for _ in range(count)]


def train(net, optimizer, inputs):
    for x in inputs:
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_period_one_is_the_optimizer_itself(name):
    net, plain = model(), model()
    optimizer = MAKERS[name](plain.parameters())
    train(net, leveled(net, {"0": 1, "2": 1}, MAKERS[name]), batches(5))
    for x in batches(5):
        optimizer.zero_grad()
        plain(x).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))


def test_the_sum_over_a_period_is_written_once_at_its_end():
    """SGD with period 3: the level moves by the learning rate times the sum of three gradients, each taken at the
    weights then."""
    net = model()
    optimizer = leveled(net, {"0": 3, "2": 1}, MAKERS["sgd"])
    start = net[0].weight.detach().clone()
    total = torch.zeros_like(start)
    for x in batches(3):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        total += net[0].weight.grad
        assert torch.equal(net[0].weight, start)
        optimizer.step()
    assert torch.allclose(net[0].weight, start - 0.1 * total, atol=1e-7)


@pytest.mark.parametrize("name", MAKERS)
def test_a_level_is_bit_identical_between_writes(name):
    net = model()
    optimizer = leveled(net, {"0": 4, "2": 1}, MAKERS[name])
    wrote = []
    for step, x in enumerate(batches(13), start=1):
        before = net[0].weight.detach().clone()
        train(net, optimizer, [x])
        if not torch.equal(before, net[0].weight):
            wrote.append(step)
    assert wrote == [4, 8, 12]


def test_the_gradient_of_the_step_stays_visible():
    net = model()
    optimizer = leveled(net, {"0": 4, "2": 1}, MAKERS["sgd"])
    net(batches(1)[0]).square().sum().backward()
    before = net[0].weight.grad.clone()
    optimizer.step()
    assert torch.equal(net[0].weight.grad, before)


def test_a_dropped_write_leaves_weights_and_optimizer_alone():
    net, twin = model(), model()
    optimizer = leveled(net, {"0": 2, "2": 1}, MAKERS["adamw"])
    for x in batches(2):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step(write=False)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert not optimizer.optimizer.state and not optimizer.collected


def test_state_round_trips_in_the_middle_of_a_period():
    net = model()
    optimizer = leveled(net, {"0": 4, "2": 1}, MAKERS["momentum"])
    train(net, optimizer, batches(6))
    twin = copy.deepcopy(net)
    restored = leveled(twin, {"0": 1, "2": 1}, MAKERS["momentum"])
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, batches(7)), train(twin, restored, batches(7))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_levels_that_do_not_cover_the_model_are_refused():
    with pytest.raises(SettingError, match=r"No level holds 2.weight, 2.bias"):
        members_of(model(), [Level("a", "0")])
