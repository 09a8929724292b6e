import copy
import math
import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab.errors import DivergedError, SettingError
from nllab.levels import Level
from nllab.optim.context import REFRESH, Context, context_write
from nllab.optim.deep import DeepOptimizer
from nllab.optim.diagonal import Diagonal
from nllab.optim.rank_n import rank_n

EXACT = 1e-9  # relative, float64: two orders of the same sums


# The plain formula of the tests: ridge 1, and a head that is never realigned (test_realign.py has that).
Plain = partial(DeepOptimizer, ridge=1.0, realign_every=0)


def stream_of_batches(steps, batch=3, fan_in=5, out=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(width):
        return [torch.randn(batch, width, generator=generator, dtype=torch.float64) for _ in range(steps)]

    return list(zip(draw(fan_in), draw(out), strict=True))


def linear(bias=True, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(5, 2, bias=bias).double()


def half_squared_sum(model, x, y):
    return 0.5 * (model(x) - y).square().sum()


def features(x, bias=True):
    scaled = x / x.shape[1] ** 0.5
    return torch.cat([scaled, scaled.new_ones(len(x), 1)], 1) if bias else scaled


def as_features(layer):
    weight = layer.weight.detach() * layer.in_features**0.5
    return torch.cat([weight, layer.bias.detach()[:, None]], 1) if layer.bias is not None else weight


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("steps", [1, 7, REFRESH + 5])
def test_rate_one_is_recursive_least_squares(bias, steps):
    """After any number of batches the layer is the ridge solution over all of them, pulled towards where it began."""
    layer, ridge = linear(bias), 0.3
    start, batches = as_features(layer), stream_of_batches(steps)
    optimizer = DeepOptimizer(layer, ridge=ridge, loss_reduction="sum")
    for x, y in batches:
        optimizer.zero_grad()
        half_squared_sum(layer, x, y).backward()
        optimizer.step()
    rows, targets = features(torch.cat([x for x, _ in batches]), bias), torch.cat([y for _, y in batches])
    gram = rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=rows.dtype)
    closed_form = torch.linalg.solve(gram, rows.T @ targets + ridge * start.T).T
    assert (as_features(layer) - closed_form).norm() <= EXACT * closed_form.norm()
    assert (optimizer.state[layer.weight]["context"].matrix - gram).norm() <= EXACT * gram.norm()


def test_one_write_minimizes_its_objective():
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    context, rate, found = rows.T @ rows + 0.1 * torch.eye(4), 0.7, weight.clone()
    context_write(found, gradient, Context(context), rate)
    step = found.requires_grad_() - weight
    (rate * (step * gradient).sum() + 0.5 * torch.trace(step @ context @ step.T)).backward()
    assert found.grad is not None and found.grad.norm() < 1e-12


def test_the_rank_n_form_equals_the_plain_one():
    generator = torch.Generator().manual_seed(1)
    rows, old, deltas = (
        torch.randn(n, d, generator=generator, dtype=torch.float64) for n, d in ((4, 30), (50, 30), (4, 6))
    )
    before = old.T @ old + torch.eye(30)
    earlier, now = rows.split(2)
    first = rank_n(earlier, torch.linalg.inv(before))
    assert first is not None
    found = rank_n(now, torch.linalg.inv(before), first.factor)
    assert found is not None
    inverse = torch.linalg.inv(before) - first.factor.T @ first.factor - found.factor.T @ found.factor
    after = before + rows.T @ rows
    assert (inverse @ after - torch.eye(30)).norm() < 1e-10
    plain = deltas[2:].T @ now @ torch.linalg.inv(after)
    step = (found.unroot @ deltas[2:]).T @ found.factor
    assert (step - plain).norm() <= 1e-10 * plain.norm()
    assert torch.allclose(found.projector, now @ torch.linalg.inv(after) @ now.T, atol=1e-12)


@pytest.mark.parametrize("periods", [1, 3])
def test_a_write_through_its_rows_is_the_write_through_the_context(periods):
    """Same weights, same context, same inverse as the plain formula, write after write, where a period has several
    passes."""
    ridge, draw = 0.5, torch.Generator().manual_seed(2)
    fast, plain = (torch.zeros(4, 20, dtype=torch.float64) for _ in range(2))
    context = Context.empty(20, ridge, dtype=torch.float64)
    matrix = ridge * torch.eye(20, dtype=torch.float64)
    for _ in range(8):
        gradient = torch.zeros_like(fast)
        for _ in range(periods):
            rows, deltas = (torch.randn(2, d, generator=draw, dtype=torch.float64) for d in (20, 4))
            context.absorb(rows, deltas)
            matrix += rows.T @ rows
            gradient += deltas.T @ rows
        context.close()
        context_write(fast, gradient, context, 0.7)
        plain -= 0.7 * gradient @ torch.linalg.inv(matrix)
        assert (fast - plain).norm() < 1e-10 * plain.norm() and torch.allclose(context.matrix, matrix)
        assert context.inverse is not None and (context.inverse @ matrix - torch.eye(20)).norm() < 1e-9


def train(model, optimizer, batches, loss=half_squared_sum, touch=None):
    for x, y in batches:
        optimizer.zero_grad()
        loss(model, x, y).backward()
        if touch:
            touch(model)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def wide(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 2)).double()


def wide_batches(steps):
    return stream_of_batches(steps, batch=4, fan_in=40)


def same(a, b, tolerance=EXACT):
    return all((x - y).norm() <= tolerance * (1 + y.norm()) for x, y in zip(a, b, strict=True))


def test_fast_and_slow_paths_give_the_same_weights(monkeypatch):
    fast = wide()
    slow = copy.deepcopy(fast)
    found = train(fast, Plain(fast), wide_batches(30))
    monkeypatch.setattr("nllab.optim.context.REFRESH", 1)  # the inverse is dropped at once, so every write factorizes
    assert same(train(slow, Plain(slow), wide_batches(30)), found)


@pytest.fixture
def unit_rates(monkeypatch):
    """Hidden layers write at rate 1, as the plain formula does."""
    monkeypatch.setattr("nllab.optim.deep.hidden_rate", lambda traces: 1.0)
    monkeypatch.setattr("nllab.optim.deep.trusted", lambda rate, own, size: rate)


@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_clipped_gradients_are_obeyed(clip, unit_rates):
    """`.grad` is the truth: a clipped step is the plain formula on the clipped gradient."""
    model = wide()
    twin = copy.deepcopy(model)
    batches = wide_batches(6)
    found = train(model, Plain(model), batches, touch=lambda m: nn.utils.clip_grad_norm_(m.parameters(), clip))
    assert same(by_hand(twin, batches, touch=lambda m: nn.utils.clip_grad_norm_(m.parameters(), clip)), found)


def test_a_gradient_that_is_no_outer_product_is_obeyed(unit_rates):
    model = wide()
    twin = copy.deepcopy(model)
    batches = wide_batches(6)

    def decay(m):
        for p in m.parameters():
            p.grad.add_(p.detach(), alpha=0.1)

    assert same(by_hand(twin, batches, touch=decay), train(model, Plain(model), batches, touch=decay))


def by_hand(model, batches, touch, samples=None):
    """The plain formula with contexts gathered by running the layers themselves; mean loss over the batch of 4."""
    layers = [m for m in model if isinstance(m, nn.Linear)]
    contexts = [torch.eye(m.in_features + 1, dtype=torch.float64) for m in layers]
    for x, y in batches:
        model.zero_grad()
        half_squared_sum(model, x, y).backward()
        touch(model)
        with torch.no_grad():
            inputs = [x, model[1](model[0](x))]
            for i, (layer, rows) in enumerate(zip(layers, map(features, inputs), strict=True)):
                contexts[i] += rows.T @ rows
                gradient = torch.cat([layer.weight.grad / layer.in_features**0.5, layer.bias.grad[:, None]], 1)
                moved = as_features(layer) - len(x) * gradient @ torch.linalg.inv(contexts[i])
                layer.weight.copy_(moved[:, :-1] / layer.in_features**0.5), layer.bias.copy_(moved[:, -1])
    return [p.detach().clone() for p in model.parameters()]


def test_mean_and_sum_losses_take_the_same_step():
    mean, batches = wide(), wide_batches(5)
    total = copy.deepcopy(mean)
    found = train(mean, DeepOptimizer(mean), batches, loss=lambda m, x, y: 0.5 * (m(x) - y).square().sum(1).mean())
    assert same(train(total, DeepOptimizer(total, loss_reduction="sum"), batches), found)


def test_a_period_sums_its_gradients_and_writes_once(unit_rates):
    """With one level of period 3, three batches are one batch of three times the size."""
    model, batches = wide(), wide_batches(9)
    at_once = copy.deepcopy(model)
    merged = [
        (torch.cat([x for x, _ in group]), torch.cat([y for _, y in group]))
        for group in zip(*[iter(batches)] * 3, strict=True)
    ]
    found = train(
        model, DeepOptimizer(model, levels=[Level("all", "*", 3)], loss_reduction="sum", realign_every=0), batches
    )
    plain = DeepOptimizer(at_once, loss_reduction="sum", realign_every=0)
    assert same(train(at_once, plain, merged), found)


def test_levels_are_bit_identical_between_their_writes():
    model = wide()
    levels = [Level("fast", "2"), Level("slow", "0", 4)]
    optimizer = DeepOptimizer(model, levels=levels)
    changed = {"0": [], "2": []}
    for step, (x, y) in enumerate(wide_batches(12), start=1):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train(model, optimizer, [(x, y)])
        for name in changed:
            if not torch.equal(before[f"{name}.weight"], dict(model.named_parameters())[f"{name}.weight"]):
                changed[name].append(step)
    assert changed == {"2": list(range(1, 13)), "0": [4, 8, 12]}


def test_while_it_only_observes_weights_stay_and_the_memory_grows():
    model = wide()
    twin = copy.deepcopy(model)
    watching, acting = DeepOptimizer(model), DeepOptimizer(twin)
    watching.acting = False
    before = [p.detach().clone() for p in model.parameters()]
    after = train(model, watching, wide_batches(3))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    train(twin, acting, wide_batches(3))
    assert torch.allclose(
        watching.state[model[0].weight]["context"].matrix, acting.state[twin[0].weight]["context"].matrix
    )


def test_what_it_watched_is_protected_once_it_acts():
    """A linear layer that learned A while it was only watched keeps A's answers exactly where B's inputs are orthogonal
    to A's."""
    layer = nn.Linear(6, 1, bias=False).double()
    a, b = torch.eye(6, dtype=torch.float64)[:3].repeat(400, 1), torch.eye(6, dtype=torch.float64)[2:].repeat(5, 1)
    optimizer = DeepOptimizer(layer, loss_reduction="sum")
    optimizer.acting = False
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0)[None])
    train(layer, optimizer, [(a, torch.zeros(len(a), 1, dtype=torch.float64))])
    kept = layer.weight.detach().clone()
    optimizer.acting = True
    train(layer, optimizer, [(b, torch.full((len(b), 1), 9.0, dtype=torch.float64))] * 20)
    moved = (layer.weight.detach() - kept).abs()[0]
    # B asks every one of its directions to move to 9; the one it shares with A has 4 of 5 sightings in A, so it goes a
    # fifth of the way.
    assert moved[:2].max() == 0
    assert moved[2] == pytest.approx(7 / 5, rel=0.02) and (layer.weight[0, 3:] - 9).abs().max() < 0.5


def test_a_batch_that_it_rests_through_leaves_no_trace():
    seen, rested = (DeepOptimizer(model, manager=False) for model in (linear(), linear()))
    batches = list(stream_of_batches(3))
    rested.rest()
    half_squared_sum(rested._model, *batches[0]).backward()
    assert not rested._watcher.batch.passes and not rested._watcher.batch.scales
    rested.skip()
    for optimizer in (seen, rested):  # whose zero_grad() ends the rest
        train(optimizer._model, optimizer, batches[1:])
    assert torch.equal(seen._model.weight, rested._model.weight)
    contexts = [optimizer.state[optimizer._model.weight]["context"].matrix for optimizer in (seen, rested)]
    assert torch.equal(*contexts)


def test_retention_keeps_the_ridge():
    """However long one direction stays silent, its resistance never falls below the ridge: no wind-up."""
    layer = linear(bias=False)
    optimizer = DeepOptimizer(layer, retention=0.5, ridge=0.2, loss_reduction="sum")
    silent = torch.zeros(4, 5, dtype=torch.float64)
    silent[:, 0] = 1
    train(layer, optimizer, [(silent, torch.zeros(4, 2, dtype=torch.float64))] * 60)
    context = optimizer.state[layer.weight]["context"].matrix
    assert torch.linalg.eigvalsh(context).min() == pytest.approx(0.2)
    # Geometric sum of what each write leaves: 0.5 + 0.25 + ... of 4 rows of squared length 1/5.
    assert context[0, 0] == pytest.approx(0.2 + 0.8)


def test_retention_zero_is_least_squares_on_the_batch_alone():
    layer, batches = linear(), stream_of_batches(4)
    optimizer = Plain(layer, retention=0.0, loss_reduction="sum")
    train(layer, optimizer, batches[:3])
    start = as_features(layer)
    x, y = batches[3]
    train(layer, optimizer, [(x, y)])
    rows = features(x)
    expected = (
        start - torch.linalg.solve(rows.T @ rows + torch.eye(6, dtype=torch.float64), rows.T @ (rows @ start.T - y)).T
    )
    assert (as_features(layer) - expected).norm() <= EXACT * expected.norm()


def test_a_diagonal_steps_as_adam_in_its_youth_and_as_adagrad_with_age():
    gradients = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for life, momentum in ((1000, 0.5), (1, 0.0), (7, 0.9)):
        held, mean, squares = Diagonal.empty(gradients[0]), 0.0, 0.0
        for count, gradient in enumerate(gradients, start=1):
            held.absorb(gradient)
            mean, squares = momentum * mean + (1 - momentum) * gradient, squares + gradient.square()
            young = mean / (1 - momentum**count) / (squares / count).sqrt()
            old = mean / (1 - momentum**count) / squares.sqrt() * life**0.5
            assert torch.allclose(held.close(momentum, life), young if count <= life else old)


def test_forward_passes_without_a_loss_leave_no_trace():
    model = wide()
    optimizer = Plain(model)
    x, y = wide_batches(1)[0]
    model(x), model(x)
    with torch.no_grad():
        model(x)
    train(model, optimizer, [(x, y)])
    rows = features(x)
    assert torch.allclose(
        optimizer.state[model[0].weight]["context"].matrix, rows.T @ rows + torch.eye(41, dtype=torch.float64)
    )


def test_state_round_trips_to_an_identical_next_step():
    model, levels = wide(), [Level("slow", "0", 4), Level("head", "2")]
    batches = wide_batches(10)
    optimizer = DeepOptimizer(model, levels=levels, retention=0.9)
    train(model, optimizer, batches[:6])
    twin = wide(seed=5)
    twin.load_state_dict(model.state_dict())
    restored = DeepOptimizer(twin, levels=levels)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    pairs = zip(train(model, optimizer, batches[6:]), train(twin, restored, batches[6:]), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_gradients_that_are_not_finite_change_nothing():
    model = wide()
    optimizer = DeepOptimizer(model)
    train(model, optimizer, wide_batches(2))
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    x, y = wide_batches(1)[0]
    half_squared_sum(model, x, y * math.nan).backward()
    with pytest.raises(DivergedError, match="gradient of 0.weight is not finite"):
        optimizer.step()
    now = (model.state_dict(), optimizer.state_dict()["state"])
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), now[0].values(), strict=True))
    assert all(torch.equal(before[1][i]["context"]["matrix"], now[1][i]["context"]["matrix"]) for i in before[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": -1.0}, "rate is -1.0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"retention": 1.1}, "retention is 1.1"),
        ({"ridge": 0.0}, "ridge is 0.0"),
        ({"loss_reduction": "avg"}, "loss_reduction is 'avg'"),
        ({"levels": [Level("a", "nothing")]}, "No level holds|holds no parameter"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        DeepOptimizer(wide(), **settings)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(SettingError, match="no nn.Linear"):
        DeepOptimizer(nn.LayerNorm(3))


def test_drop_in_for_a_users_loop_keeps_the_first_task():
    """One pass over digits 0-4, then 5-9, in a plain loop: Adam loses the first half, this keeps it."""
    from nllab.streams import build

    kept = {}
    for name in ("adam", "deep"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        optimizer = DeepOptimizer(model) if name == "deep" else torch.optim.Adam(model.parameters())
        tasks = build("digits-ab").tasks
        for task in tasks:
            for rows in torch.randperm(len(task.train)).split(10):
                batch = task.train[rows]
                optimizer.zero_grad()
                (0.5 * (model(batch.inputs) - F.one_hot(batch.labels, 10)).square().sum(1).mean()).backward()
                optimizer.step()
        kept[name] = [float((model(t.test.inputs).argmax(1) == t.test.labels).float().mean()) for t in tasks]
    assert kept["adam"][0] < 0.3 and min(kept["deep"]) > 0.9


def test_what_a_step_computed_is_freed_when_it_is_over():
    """Hooks that held the scores would keep every step's graph alive, unseen by the garbage collector."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = DeepOptimizer(model)
    kept = []
    for _ in range(3):
        scores = model(torch.randn(5, 3))
        F.cross_entropy(scores, torch.zeros(5, dtype=torch.long)).backward()
        optimizer.step()
        kept.append(weakref.ref(scores))
    del scores
    assert all(reference() is None for reference in kept)
