"""The deep optimizer in other people's loops: schedulers, groups, layers that come and go, saving, compiling, models
called in parts."""

import copy
import io
import pickle
import sys
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedulers
from torch.utils.checkpoint import checkpoint

from nllab.errors import OptimizerWarning, SettingError
from nllab.levels import Level
from nllab.optim.deep import DeepOptimizer
from nllab.optim.notices import PATIENCE
from nllab.optim.watch import TRIES


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = normal(24, 6)
Y = X[:, :3].argmax(1)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3)).double()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(a, b, tolerance=1e-9):
    return all((x - y).norm() <= tolerance * (1 + y.norm()) for x, y in zip(a, b, strict=True))


def fit(model, optimizer, steps=4, loss=lambda m, x, y: F.cross_entropy(m(x), y), x=X):
    for i in range(steps):
        rows = slice(6 * (i % 4), 6 * (i % 4) + 6)
        optimizer.zero_grad()
        loss(model, x[rows], Y[rows]).backward()
        optimizer.step()
    return weights(model)


SCHEDULERS = {
    "StepLR": lambda o: schedulers.StepLR(o, 2, 0.5),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda epoch: (1 + epoch) / 5),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, max_lr=1.0, total_steps=10),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.1, 1.0, step_size_up=2),
    "WarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "Sequential": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=2), schedulers.CosineAnnealingLR(o, 5)], [2]
    ),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0, threshold=10.0),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_sets_the_rate_of_every_write(name):
    """A run under a scheduler is the run in which the rate is set by hand to what the scheduler says."""
    one, two = network(), network()
    scheduled = DeepOptimizer(one, levels=[Level("a", "0", rate=0.5), Level("b", "2")], manager=False)
    by_hand = DeepOptimizer(two, levels=[Level("a", "0", rate=0.5), Level("b", "2")], manager=False)
    scheduler, rates = SCHEDULERS[name](scheduled), []
    for _ in range(5):
        for mine, theirs in zip(by_hand.param_groups, scheduled.param_groups, strict=True):
            assert theirs["rate"] == theirs["lr"]
            mine["rate"] = theirs["lr"]
        rates.append(scheduled.param_groups[1]["lr"])
        fit(two, by_hand, 1)
        fit(one, scheduled, 1)
        scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
    assert len(set(rates)) > 1 and same(weights(one), weights(two), 0.0)


def test_lr_is_another_name_of_the_rate():
    one, two = network(), network()
    assert same(fit(one, DeepOptimizer(one, lr=0.3)), fit(two, DeepOptimizer(two, rate=0.3)), 0.0)
    with pytest.raises(SettingError, match="needs the model itself"):
        DeepOptimizer(one.parameters())  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="rate is -1"):
        DeepOptimizer(one, lr=-1)


def test_a_group_added_later_has_settings_of_its_own():
    model = network()
    optimizer = DeepOptimizer(model, manager=False)
    new = nn.Linear(10, 5).double()
    model[2] = new
    optimizer.zero_grad()  # finds it
    optimizer.add_param_group({"params": new.parameters(), "lr": 0.0})
    assert optimizer.param_groups[1]["rate"] == 0.0 and not {*optimizer.param_groups[0]["params"]} & {*new.parameters()}
    before, first = new.weight.detach().clone(), model[0].weight.detach().clone()
    fit(model, optimizer)
    assert torch.equal(new.weight, before) and not torch.equal(model[0].weight, first)
    with pytest.raises(SettingError, match="retention is 2"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "retention": 2})
    assert len(optimizer.param_groups) == 2


def test_layers_thawed_added_or_replaced_learn_from_their_first_batch():
    """From then on as if they had been there from the start."""
    model = network()
    model[0].requires_grad_(False)
    optimizer = DeepOptimizer(model)
    fit(model, optimizer, 2)
    model[0].requires_grad_(True)
    before = model[0].weight.detach().clone()
    fit(model, optimizer, 1)
    assert not torch.equal(model[0].weight, before) and optimizer.state[model[0].weight]["context"].seen == 6
    model.insert(2, nn.Linear(10, 10).double())
    model[3] = nn.Linear(10, 4).double()
    before = weights(model[2]) + weights(model[3])
    fit(model, optimizer, 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(model[2]) + weights(model[3]), strict=True))
    assert optimizer.state[model[3].weight]["context"].seen == 6


def test_a_state_that_a_library_resets_begins_anew():
    model, other = network(), network()
    optimizer = DeepOptimizer(model, manager=False)
    fit(model, optimizer)
    optimizer.state = defaultdict(dict)
    other.load_state_dict(model.state_dict())
    fresh = DeepOptimizer(other, manager=False)
    assert same(fit(model, optimizer), fit(other, fresh), 1e-7)
    optimizer.state.clear()
    fit(model, optimizer, 1)
    assert optimizer.state[model[0].weight]["context"].seen == 6


def test_step_takes_the_loss_or_a_closure_and_reports_it():
    one, two = network(), network()
    first, second = DeepOptimizer(one), DeepOptimizer(two)

    def closure():
        second.zero_grad()
        loss = F.cross_entropy(two(X[:3]), Y[:3])
        loss.backward()
        return loss

    for _ in range(3):
        first.zero_grad()
        loss = F.cross_entropy(one(X[:3]), Y[:3])
        loss.backward()
        assert first.step(loss=loss) is loss and first.report.value is loss
        assert torch.equal(second.step(closure), loss)
    assert same(weights(one), weights(two), 0.0)
    assert 0 <= first.report.error_rate <= 1 and first.report.loss.kind == "cross_entropy"
    assert set(first.report.levels) == {"all"} and first.report.levels["all"].surprise > 0


USES = {
    "save": lambda m: torch.load(_written(m), weights_only=False),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "deepcopy": copy.deepcopy,
    "script": torch.jit.script,
    "trace": lambda m: torch.jit.trace(m, X),
    "export": lambda m: torch.export.export(m, (X,)).module(),
}


def _written(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*jit.*")
@pytest.mark.parametrize("stepped", [0, 2])
@pytest.mark.parametrize("use", USES)
def test_a_watched_model_is_saved_copied_and_compiled_as_any_other(use, stepped):
    model, twin = network(), network()
    optimizer, undisturbed = DeepOptimizer(model), DeepOptimizer(twin)
    fit(model, optimizer, stepped), fit(twin, undisturbed, stepped)
    other = USES[use](model)
    assert torch.allclose(other(X), model(X))
    optimizer.zero_grad()
    F.cross_entropy(other(X), Y).backward()  # of the copy: nobody watches
    if not (shared := use in ("script", "trace", "export")):
        assert not any(optimizer._watcher.clear().passes)
    model.zero_grad() if shared else None
    assert same(fit(model, optimizer, 2), fit(twin, undisturbed, 2), 0.0)


def test_optimizer_and_model_are_pickled_together_and_go_on():
    model = network()
    optimizer = DeepOptimizer(model, retention=0.99)
    fit(model, optimizer)
    twin, restored = pickle.loads(pickle.dumps((model, optimizer)))
    assert same(fit(model, optimizer), fit(twin, restored), 0.0)
    state = torch.load(_written(optimizer.state_dict()))
    restored.load_state_dict(state)


@pytest.mark.parametrize("stepped", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_is_cast_takes_its_memory_along(dtype, stepped):
    model = network().float()
    optimizer = DeepOptimizer(model, realign_every=1)
    fit(model, optimizer, stepped, x=X.float())
    model.to(dtype)
    before = weights(model)
    fit(model, optimizer, 6, x=X.to(dtype))
    assert not same(before, weights(model), 0.0) and all(w.isfinite().all() for w in weights(model))
    assert optimizer.state[model[0].weight]["context"].seen == 6 * (stepped + 6)
    model.double()
    fit(model, optimizer, 1)
    assert optimizer.state[model[0].weight]["context"].matrix.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:Using `torch.compile", "ignore:The .grad attribute")
def test_a_compiled_model_learns_what_it_learns_uncompiled():
    model, twin = network(), network()
    compiled = torch.compile(model, backend="aot_eager")
    found = fit(model, DeepOptimizer(model), loss=lambda m, x, y: F.cross_entropy(compiled(x), y))
    torch._dynamo.reset()
    assert same(found, fit(twin, DeepOptimizer(twin)))


def test_accumulated_gradients_are_one_larger_batch():
    one, two = network(), network()
    accumulating, plain = DeepOptimizer(one, manager=False), DeepOptimizer(two, manager=False)
    for _ in range(3):
        accumulating.zero_grad()
        for rows in torch.arange(24).split(6):
            (F.cross_entropy(one(X[rows]), Y[rows]) / 4).backward()
        accumulating.step()
        plain.zero_grad()
        F.cross_entropy(two(X), Y).backward()
        plain.step()
    assert same(weights(one), weights(two), 1e-6)


class Parts(nn.Module):
    """A backbone and a head; what it returns is a setting."""

    def __init__(self, returns="logits", reentrant=None):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Sequential(nn.Linear(6, 10), nn.ReLU()).double(), nn.Linear(10, 3).double()
        self.returns, self.reentrant = returns, reentrant

    def forward(self, x, y=None):
        if self.reentrant is None:
            features = self.backbone(x)
        else:
            features = checkpoint(self.backbone, x.requires_grad_(), use_reentrant=self.reentrant)
        logits = self.head(features)
        match self.returns:
            case "loss":
                return F.cross_entropy(logits, y)
            case "loss first":
                return F.cross_entropy(logits, y), logits
            case "dict":
                return {"loss": F.cross_entropy(logits, y), "logits": logits}
            case "log probabilities":
                return F.log_softmax(logits, 1)
        return logits

    def training_step(self, x, y):
        return F.cross_entropy(self.head(self.backbone(x)), y)


CALLS = {
    "in parts": (Parts, lambda m, x, y: F.cross_entropy(m.head(m.backbone(x)), y)),
    "forward": (Parts, lambda m, x, y: F.cross_entropy(m.forward(x), y)),
    "training_step": (Parts, lambda m, x, y: m.training_step(x, y)),
    "data parallel": (Parts, lambda m, x, y: F.cross_entropy(nn.DataParallel(m)(x), y)),
    "loss": (lambda: Parts("loss"), lambda m, x, y: m(x, y)),
    "loss first": (lambda: Parts("loss first"), lambda m, x, y: m(x, y)[0]),
    "dict": (lambda: Parts("dict"), lambda m, x, y: m(x, y)["loss"]),
    "log probabilities": (lambda: Parts("log probabilities"), lambda m, x, y: F.nll_loss(m(x), y)),
    "checkpoint": (lambda: Parts(reentrant=False), lambda m, x, y: F.cross_entropy(m(x), y)),
    "checkpoint, reentrant": (lambda: Parts(reentrant=True), lambda m, x, y: F.cross_entropy(m(x), y)),
}


@pytest.mark.parametrize("call", CALLS)
def test_however_a_model_is_called_its_loss_is_recognised(call):
    """All of them are the same step, but for realignment, which needs the model called as a whole."""
    make, loss = CALLS[call]
    model, twin = make(), Parts()
    optimizer, plain = DeepOptimizer(model, realign_every=0), DeepOptimizer(twin, realign_every=0)
    found = fit(model, optimizer, 30, loss=loss)
    assert optimizer.loss is not None and optimizer.loss.kind == "cross_entropy"
    assert same(found, fit(twin, plain, 30), 1e-6)


def test_a_loss_that_is_not_recognised_is_said_once_with_the_remedy():
    def regression(model, x, y):
        return (model(x) - x[:, :3].sin()).abs().sum(1).mean()

    model = network()
    optimizer = DeepOptimizer(model)
    with pytest.warns(OptimizerWarning, match=r"loss was not recognised.*loss_reduction") as caught:
        fit(model, optimizer, TRIES + 5, loss=regression)
    assert len(caught) == 1
    fit(other := network(), DeepOptimizer(other, loss_reduction="mean"), TRIES + 5, loss=regression)


def test_a_layer_that_never_runs_is_said_once():
    model = Parts()
    model.spare = nn.Linear(4, 4).double()
    optimizer = DeepOptimizer(model)
    with pytest.warns(OptimizerWarning, match="^spare.weight: no gradient in"):
        fit(model, optimizer, PATIENCE + 5)


UNHELD = {
    "packed projections": lambda: nn.MultiheadAttention(6, 2, batch_first=True),
    "grouped": lambda: nn.Conv1d(6, 6, 1, groups=2),
    "recurrent, inner layers": lambda: nn.LSTM(6, 6, num_layers=2),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 6)),
}


class Before(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part, self.head = part, nn.Linear(6, 3)

    def forward(self, x):
        match self.part:
            case nn.MultiheadAttention():
                x = self.part(x[:, None], x[:, None], x[:, None])[0][:, 0]
            case nn.LSTM():
                x = self.part(x[None])[0][0]
            case nn.Conv1d():
                x = self.part(x[:, :, None])[:, :, 0]
            case _:
                x = self.part(x)
        return self.head(x)


@pytest.mark.parametrize("name", UNHELD)
def test_what_no_context_fits_is_named_and_learns(name):
    torch.manual_seed(0)
    model = Before(UNHELD[name]()).double()
    with pytest.warns(OptimizerWarning, match="no context fits"):
        optimizer = DeepOptimizer(model)
    before = weights(model.part)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, optimizer, 40)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(model.part), strict=True))
    assert float((model(X).argmax(1) == Y).double().mean()) > 0.5


@pytest.mark.parametrize("module", [True, False], ids=["two modules", "used directly"])
def test_a_table_that_is_tied_to_the_head_learns(module):
    """The next of nine letters in a circle, which an embedding tied to the output has to learn."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.up = nn.Embedding(9, 12), nn.Linear(12, 12)
            if module:
                self.out = nn.Linear(12, 9, bias=False)
                self.out.weight = self.table.weight

        def forward(self, tokens):
            features = self.up(self.table(tokens))
            return self.out(features) if module else F.linear(features, self.table.weight)

    model, tokens = Tied(), torch.arange(9)
    with pytest.warns(OptimizerWarning, match="table.weight"):
        optimizer = DeepOptimizer(model)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens), (tokens + 1) % 9).backward()
            optimizer.step()
    assert float((model(tokens).argmax(1) == (tokens + 1) % 9).float().mean()) == 1.0
    assert set(optimizer.state[model.table.weight]) == {"diagonal"}


def test_a_sparse_table_is_held_as_a_dense_one():
    def table(sparse):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 3))

    tokens, found = torch.arange(18).view(6, 3) % 9, {}
    for sparse in (False, True):
        model = table(sparse)
        optimizer = DeepOptimizer(model)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens), Y[:6]).backward()
            optimizer.step()
        found[sparse] = weights(model)
    assert same(found[True], found[False], 1e-6)


BATCHES = {
    "a batch of one": (X[:1], Y[:1]),
    "inputs of zero": (torch.zeros_like(X), Y),
    "one class": (X, torch.zeros_like(Y)),
    "an empty gradient": (X, torch.full_like(Y, -100)),
}


@pytest.mark.parametrize("name", BATCHES)
def test_odd_batches_leave_finite_weights(name):
    x, y = BATCHES[name]
    model = network()
    optimizer = DeepOptimizer(model)
    for _ in range(6):
        optimizer.zero_grad()
        if name == "an empty gradient":
            (F.cross_entropy(model(x), y, reduction="sum") + 0 * model(x).sum()).backward()
        else:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()
    fit(model, optimizer, 4)
    assert all(w.isfinite().all() for w in weights(model))


def test_two_losses_and_two_passes_before_a_step():
    """The gradient of each term arrives; the second pass adds to the first."""
    one, two = network(), network()
    first, second = DeepOptimizer(one, manager=False), DeepOptimizer(two, manager=False)
    for _ in range(4):
        first.zero_grad()
        F.cross_entropy(one(X[:12]), Y[:12], reduction="sum").backward()
        F.cross_entropy(one(X[12:]), Y[12:], reduction="sum").backward()
        first.step()
        second.zero_grad()
        scores = two(X)
        loss = F.cross_entropy(scores[:12], Y[:12], reduction="sum")
        (loss + F.cross_entropy(scores[12:], Y[12:], reduction="sum")).backward()
        second.step()
    assert same(weights(one), weights(two), 1e-6)


def test_weight_decay_in_the_loss_is_obeyed_and_recognition_stays():
    model = network()
    optimizer = DeepOptimizer(model)
    fit(model, optimizer, 6, loss=lambda m, x, y: F.cross_entropy(m(x), y) + 1e-4 * m[0].weight.square().sum())
    assert optimizer.loss is not None and optimizer.loss.kind == "cross_entropy"
    assert set(optimizer.state[model[0].weight]) == {"context", "trace"}


def test_trainings_in_threads_do_not_disturb_each_other():
    def train(model):
        optimizer = DeepOptimizer(model)
        return fit(model, optimizer, 60)

    alone, model = train(network()), network()
    every = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as pool:
            makers = [pool.submit(lambda: [DeepOptimizer(network()) for _ in range(120)]) for _ in range(2)]
            beside = pool.submit(train, model).result()
            for maker in makers:
                maker.result()
    finally:
        sys.setswitchinterval(every)
    assert same(beside, alone, 0)


def test_a_state_from_before_the_first_step_can_be_gone_back_to():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = DeepOptimizer(model)
    weights, state = [p.detach().clone() for p in model.parameters()], copy.deepcopy(optimizer.state_dict())
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    ends = []
    for _ in range(2):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in model.parameters()])
        with torch.no_grad():
            for p, before in zip(model.parameters(), weights, strict=True):
                p.copy_(before)
        optimizer.load_state_dict(state)
        assert optimizer.loss is None
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
