"""Convolutions, embeddings, wide layers, losses and loops: whatever the layer, the memory does what least squares on
its rows does."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab.errors import OptimizerWarning, SettingError
from nllab.levels import Level
from nllab.optim import layers
from nllab.optim.context import observe
from nllab.optim.deep import DeepOptimizer
from nllab.optim.output import Loss, recognise, targets
from nllab.streams import build


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(2, 3, 3),
    "strided": lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=2),
    "same": lambda: nn.Conv2d(2, 3, (3, 5), padding="same", bias=False),
    "line": lambda: nn.Conv1d(2, 3, 4, padding=2, stride=2),
    "line, same": lambda: nn.Conv1d(2, 3, 5, padding="same", dilation=2),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_its_patches_times_its_matrix(name):
    torch.manual_seed(0)
    layer = CONVOLUTIONS[name]().double()
    x = normal(4, 2, 9, 8) if isinstance(layer, nn.Conv2d) else normal(4, 2, 9)
    out = layer(x)
    by_rows = layers.rows_of(layer, x) @ layers.Matrix.of(layer).tensor().T
    assert torch.allclose(by_rows, layers.deltas_of(layer, out), atol=1e-12)
    out.backward(delta := normal(*out.shape, seed=1))
    outer = layers.deltas_of(layer, delta).T @ layers.rows_of(layer, x)
    found = layers.Matrix.of(layer).gradient()
    assert found is not None and torch.allclose(found, outer, atol=1e-10)


@pytest.mark.parametrize(
    "make", [lambda: nn.Conv1d(2, 3, 3), lambda: nn.Conv2d(2, 3, 2, bias=False), lambda: nn.Linear(6, 3)]
)
def test_one_layer_of_any_kind_is_recursive_least_squares_on_its_rows(make):
    torch.manual_seed(0)
    layer, ridge = make().double(), 0.3
    start = layers.Matrix.of(layer).tensor().clone()
    optimizer = DeepOptimizer(layer, ridge=ridge, loss_reduction="sum")
    rows, wanted = [], []
    for step in range(6):
        x = normal(3, *{nn.Conv1d: (2, 6), nn.Conv2d: (2, 5, 5)}.get(type(layer), (6,)), seed=step)
        y = normal(*layer(x).shape, seed=100 + step)
        optimizer.zero_grad()
        (0.5 * (layer(x) - y).square().sum()).backward()
        optimizer.step()
        rows.append(layers.rows_of(layer, x))
        wanted.append(layers.deltas_of(layer, y))
    x, y = torch.cat(rows), torch.cat(wanted)
    gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(gram, x.T @ y + ridge * start.T).T
    assert (layers.Matrix.of(layer).tensor() - solution).norm() <= 1e-9 * solution.norm()


def test_an_embedding_is_the_same_as_a_linear_layer_on_one_hot_rows():
    torch.manual_seed(0)
    table, dense = nn.Embedding(7, 3).double(), nn.Linear(7, 3, bias=False).double()
    with torch.no_grad():
        dense.weight.copy_(table.weight.T)
    # One-hot rows have norm 1 in an embedding's memory, and 7^-1/2 in that of a dense layer.
    optimizers = DeepOptimizer(table, ridge=0.7), DeepOptimizer(dense, ridge=0.7 / 7)
    for step in range(5):
        tokens = torch.randint(7, (4,), generator=torch.Generator().manual_seed(step))
        y = normal(4, 3, seed=step)
        for layer, optimizer, x in zip(
            (table, dense), optimizers, (tokens, F.one_hot(tokens, 7).double()), strict=True
        ):
            optimizer.zero_grad()
            (layer(x) - y).square().sum(1).mean().backward()
            optimizer.step()
    assert torch.allclose(table.weight.T, dense.weight, atol=1e-10)


def test_blocks_are_a_safe_bound_and_one_block_is_the_whole(monkeypatch):
    """In blocks a memory resists at least as much as the whole: A_blocks - A is positive semi-definite. Learning still
    converges."""
    monkeypatch.setattr("nllab.optim.context.WIDE", 4)
    torch.manual_seed(0)
    layer = nn.Linear(10, 2).double()
    optimizer = DeepOptimizer(layer, ridge=0.1, loss_reduction="sum")
    context = optimizer.state[layer.weight]["context"].matrix
    assert context.shape == (3, 4, 4)
    x, y = normal(40, 10), normal(40, 2, seed=1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = 0.5 * (layer(x) - y).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(b <= a + 1e-9 for a, b in zip(losses, losses[1:], strict=False)) and losses[-1] < 0.8 * losses[0]
    rows = layers.rows_of(layer, x)
    fresh = layers.Matrix.of(layer).new_context(0.1).matrix
    observe(fresh, rows)
    whole = rows.T @ rows + 0.1 * torch.eye(11, dtype=torch.float64)
    slack = torch.linalg.eigvalsh(torch.block_diag(*fresh)[:11, :11] - whole)
    assert slack.min() > -1e-9


LOSSES = {
    "cross-entropy, mean": (lambda s, y: F.cross_entropy(s, y), "cross_entropy", lambda n, c: 1.0),
    "cross-entropy, sum": (lambda s, y: F.cross_entropy(s, y, reduction="sum"), "cross_entropy", lambda n, c: 1 / n),
    "mse, mean": (
        lambda s, y: F.mse_loss(s, F.one_hot(y, s.shape[1]).to(s.dtype)),
        "squared_error",
        lambda n, c: c / 2,
    ),
    "half squared, mean": (
        lambda s, y: 0.5 * (s - F.one_hot(y, s.shape[1])).square().sum(1).mean(),
        "squared_error",
        lambda n, c: 1.0,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_losses_are_recognised_with_their_reduction(name, accuracy):
    """Whether the model knows nothing or nearly everything: kind, scale and the right answers are read from the
    gradient."""
    loss, kind, per_row = LOSSES[name]
    y = torch.arange(12) % 5
    scores = (0.3 * normal(12, 5) + accuracy * F.one_hot(y, 5) * (8 if kind == "cross_entropy" else 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(scores, y), scores)
    found = recognise(scores, gradient)
    assert found is not None and found.kind == kind and found.per_row == pytest.approx(per_row(12, 5), rel=1e-6)
    assert torch.equal(targets(kind, scores.detach(), gradient, found.per_row * 12), y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_recognised_in_half_precision(name, dtype):
    loss, kind, per_row = LOSSES[name]
    y = torch.arange(12) % 5
    scores = normal(12, 5).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(scores.float(), y), scores)
    found = recognise(scores, gradient)
    assert (
        found is not None
        and found.kind == kind
        and found.per_row == pytest.approx(per_row(12, 5), rel=torch.finfo(dtype).eps)
    )
    assert recognise(scores, gradient + 0.02 * gradient.abs().max()) == Loss("unknown", 0.0)


def test_padding_rows_do_not_count_and_a_zero_gradient_says_nothing():
    scores, y = normal(6, 4).requires_grad_(), torch.tensor([0, 1, -100, 3, -100, 2])
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, y), scores)
    found = recognise(scores, gradient)
    assert found is not None and found.kind == "cross_entropy" and found.per_row == pytest.approx(1.0)
    assert recognise(scores, torch.zeros_like(gradient)) is None
    assert recognise(scores, normal(6, 4, seed=3)) == Loss("unknown", 0.0)


def test_all_patches_of_an_image_are_one_sample_to_the_policy():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    optimizer = DeepOptimizer(model)
    for i in range(2):  # gradients of two batches of five, added up
        F.cross_entropy(model(normal(5, 1, 6, 6, seed=i)), torch.tensor([0, 1, 2, 0, 1])).backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["context"].seen == optimizer.state[model[3].weight]["context"].seen == 10


def test_padding_is_no_error():
    model = nn.Linear(4, 3).double()
    optimizer = DeepOptimizer(model)
    x = normal(8, 4)
    right = model(x).argmax(1)
    F.cross_entropy(model(x), torch.where(torch.arange(8) < 4, right, -100)).backward()
    optimizer.step()
    assert optimizer.policy is not None and optimizer.policy.wrong_now == 0


def classifier(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 4)).double()


def batches(steps=8, size=6):
    return [
        (normal(size, 8, seed=i), torch.randint(4, (size,), generator=torch.Generator().manual_seed(i)))
        for i in range(steps)
    ]


def fit(model, optimizer, data, loss=F.cross_entropy):
    for x, y in data:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b, tolerance=0.0):
    return all((x - y).norm() <= tolerance * (1 + y.norm()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "scaled",
    [lambda s, y: F.cross_entropy(s, y, reduction="sum"), lambda s, y: F.cross_entropy(s, y) / 3],
    ids=["sum", "a third"],
)
def test_the_reduction_of_a_recognised_loss_makes_no_difference(scaled):
    one, two = classifier(), classifier()
    assert equal(fit(one, DeepOptimizer(one), batches()), fit(two, DeepOptimizer(two), batches(), scaled), 1e-6)


def test_loss_scaling_makes_no_difference():
    """What `torch.amp.GradScaler` does: a loss times 2^16, gradients divided before the step."""
    one, two = classifier(), classifier()
    plain, scaled = DeepOptimizer(one), DeepOptimizer(two)
    fit(one, plain, batches())
    for x, y in batches():
        scaled.zero_grad()
        (2.0**16 * F.cross_entropy(two(x), y)).backward()
        for p in two.parameters():
            assert p.grad is not None
            p.grad /= 2.0**16
        scaled.step()
    assert equal(one.parameters(), two.parameters(), 1e-6)


def test_weighing_a_sample_is_showing_it_more_often():
    """error_weight = 1 on a wrong sample equals a batch that holds it twice: same weights, same memory."""
    torch.manual_seed(0)
    one = nn.Linear(5, 3).double()
    two = copy.deepcopy(one)
    x, y = normal(4, 5), torch.tensor([0, 1, 2, 0])
    wrong = one(x).argmax(1) != y
    assert wrong.any() and not wrong.all()

    def loss(scores, labels):
        return 0.5 * (scores - F.one_hot(labels, 3)).square().sum()

    weighted, doubled = DeepOptimizer(one, error_weight=1.0, manager=False), DeepOptimizer(two, manager=False)
    fit(one, weighted, [(x, y)], loss)
    fit(two, doubled, [(torch.cat([x, x[wrong]]), torch.cat([y, y[wrong]]))], loss)
    assert equal(one.parameters(), two.parameters(), 1e-9)
    assert torch.allclose(weighted.state[one.weight]["context"].matrix, doubled.state[two.weight]["context"].matrix)


def test_a_copied_pair_goes_on_alike_and_apart():
    model = classifier()
    optimizer = DeepOptimizer(model)
    fit(model, optimizer, batches())
    twin, other = copy.deepcopy((model, optimizer))
    before = [p.detach().clone() for p in twin.parameters()]
    found = fit(model, optimizer, batches())
    assert equal(twin.parameters(), before) and not equal(found, before)
    assert equal(fit(twin, other, batches()), found)


def test_a_copied_model_alone_is_watched_by_nobody():
    model = classifier()
    optimizer = DeepOptimizer(model)
    lonely = copy.deepcopy(model)
    x, y = batches(1)[0]
    F.cross_entropy(lonely(x), y).backward()
    assert all(
        torch.equal(s["context"].matrix, 0.1 * torch.eye(len(s["context"].matrix), dtype=torch.float64))
        for s in optimizer.state.values()
    )


def test_an_optimizer_that_is_gone_leaves_no_hook():
    model = classifier()
    optimizer = DeepOptimizer(model)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None and not any(m._forward_hooks for m in model.modules())


def test_zero_grad_drops_what_was_seen_on_the_way_to_the_gradient():
    """A batch that is thrown away, as under loss scaling with infinite gradients, leaves no trace."""
    one, two = classifier(), classifier()
    first, second = DeepOptimizer(one), DeepOptimizer(two)
    x, y = batches(1)[0]
    F.cross_entropy(one(3 * x), y).backward()
    assert equal(fit(one, first, batches()), fit(two, second, batches()))


def test_state_comes_back_exactly_and_a_foreign_state_is_refused():
    model = classifier().float()
    optimizer = DeepOptimizer(model)
    data = [(x.float(), y) for x, y in batches()]
    fit(model, optimizer, data)
    saved, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
    found = fit(model, optimizer, data)
    model.load_state_dict(weights)
    optimizer.load_state_dict(saved)
    assert equal(fit(model, optimizer, data), found)

    torch.manual_seed(0)
    other = DeepOptimizer(nn.Sequential(nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 4)))
    held = other.state_dict()
    with pytest.raises(SettingError, match=r"memory of 0.weight has shape \(9, 9\), not \(10, 10\)"):
        other.load_state_dict(saved)
    with pytest.raises(SettingError, match="lacks"):
        other.load_state_dict({"state": {}, "param_groups": []})
    assert all(
        torch.equal(a["context"]["matrix"], b["context"].matrix)
        for a, b in zip(held["state"].values(), other.state.values(), strict=False)
        if a
    )


def test_loaded_state_lies_where_the_parameters_lie():
    """In the middle of a period, when rows wait to be written; the device without numbers stands for any other."""
    model, levels = classifier(), [Level("slow", "0", 8), Level("head", "2")]
    optimizer = DeepOptimizer(model, levels=levels)
    fit(model, optimizer, batches(1, size=3))
    other = DeepOptimizer(copy.deepcopy(model).to("meta"), levels=levels)
    other.load_state_dict(optimizer.state_dict())
    kept = [room for state in other.state.values() for room in state.values()]
    tensors = [t for room in kept for t in room.tensors()]
    assert other.state[other.param_groups[0]["params"][0]]["context"].rows
    assert {t.device.type for t in tensors} == {"meta"}


def test_a_weight_that_is_used_without_its_layer_is_named():
    model = classifier()
    optimizer = DeepOptimizer(model)
    first = model[0].get_parameter("weight")
    (first.sum() + F.cross_entropy(model[2](normal(3, 40)), torch.tensor([0, 1, 2]))).backward()
    before = first.detach().clone()
    with pytest.warns(OptimizerWarning, match="0.weight has a gradient that its layer does not account for"):
        optimizer.step()
    assert set(optimizer.state[first]) == {"diagonal"} and not torch.equal(first, before)


def test_layers_that_cannot_be_held_are_left_to_adamw():
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3), nn.LSTM(3, 3, batch_first=True)
    )
    held = {id(m) for m in layers.supported_layers(model)}
    assert held == {id(model[3])}
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    names = {
        name for name, m in attention.named_modules() if any(m is found for found in layers.supported_layers(attention))
    }
    assert names == {"linear1", "linear2"}


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, lambda s, y: F.mse_loss(s, F.one_hot(y, 10).float())], ids=["cross_entropy", "mse_loss"]
)
@pytest.mark.parametrize("kind", ["dense", pytest.param("convolutional", marks=pytest.mark.slow)])
def test_dropped_into_a_plain_loop_it_keeps_the_first_task(kind, loss):
    """Digits 0-4, then 5-9, in a loop of one's own: what Adam loses, the deep optimizer keeps, with either loss."""
    stream, kept = build("digits-ab", seed=0, split=0, hold_out=False), {}
    for name, make in {"adam": lambda m: torch.optim.Adam(m.parameters()), "deep": DeepOptimizer}.items():
        torch.manual_seed(0)
        if kind == "dense":
            model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        else:
            model = nn.Sequential(
                nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)
            )
        optimizer = make(model)
        for task in stream.tasks:
            fit(model, optimizer, zip(task.train.inputs.split(10), task.train.labels.split(10), strict=True), loss)
        with torch.no_grad():
            kept[name] = [
                float((model(task.test.inputs).argmax(1) == task.test.labels).float().mean()) for task in stream.tasks
            ]
    assert kept["adam"][0] < 0.3 and min(kept["deep"]) > 0.9


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, lambda s, y: F.mse_loss(s, F.one_hot(y, 10).float())], ids=["cross_entropy", "mse_loss"]
)
@pytest.mark.parametrize("dtype", [pytest.param(torch.bfloat16, marks=pytest.mark.slow), torch.float16])
def test_in_half_precision_with_a_scaled_loss_the_first_task_is_kept(dtype, loss, device):
    """A plain loop with autocast and GradScaler, whose first scale is too large for float16: those steps are
    skipped."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    optimizer, scaler = DeepOptimizer(model), torch.amp.GradScaler(device, init_scale=2.0**24)
    tasks = build("digits-ab", seed=0, split=0, hold_out=False).to(torch.device(device)).tasks
    for task in tasks:
        for x, y in zip(task.train.inputs.split(10), task.train.labels.split(10), strict=True):
            optimizer.zero_grad()
            with torch.autocast(device, dtype):
                found = loss(model(x), y)
            scaler.scale(found).backward()
            scaler.step(optimizer)
            scaler.update()
    assert (scaler.get_scale() < 2.0**24) == (dtype is torch.float16)
    with torch.no_grad():
        kept = [float((model(task.test.inputs).argmax(1) == task.test.labels).float().mean()) for task in tasks]
    assert min(kept) > 0.9 and optimizer.state[model[0].weight]["context"].matrix.dtype == torch.float32
