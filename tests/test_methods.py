"""Each method's mechanism does what its paper says, and with its strength at 0 it is plain training, bit for bit."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import methods
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.methods import (
    BRINGS_ITS_MODEL,
    REGISTRY,
    a_gem,
    continual_backprop,
    ewc,
    lwf,
    owm,
    projection,
    reservoir,
    rls,
    shrink_perturb,
    slda,
    upgd,
)
from nllab.methods.gpm import extended
from nllab.methods.objective import Objective, loss_of
from nllab.streams.stream import Part, Stream, Task
from nllab.trainer import Trainer, train

SMALL = {
    "dim": 16,
    "hidden": 16,
    "batch_size": 100,
    "optimizer": "adam",
    "loss": "cross_entropy",
    "evaluate_every": 1000,
}
NOTHING = {
    "fewer-updates": {"every": 1},
    "ewc": {"strength": 0, "samples": 5},
    "online-ewc": {"strength": 0, "samples": 5},
    "si": {"strength": 0},
    "lwf": {"strength": 0},
    "er": {"strength": 0},
    "a-gem": {"buffer": 0},
    "der++": {"alpha": 0, "beta": 0},
    "owm": {"strength": 0},
    "gpm": {"threshold": 0},
    "l2-init": {"strength": 0},
    "shrink-and-perturb": {"shrink": 0, "perturb": 0},
    "continual-backprop": {"replacement": 0},
}


def small(method="naive", settings=None, **changes):
    return Experiment.preset("digits-ab", method=method, method_settings=settings or {}, **{**SMALL, **changes})


def trained(experiment):
    trainer = Trainer(experiment)
    trainer.run()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def made(name, kind="cross_entropy", outputs="all", classes=3, **settings):
    objective = Objective(kind, outputs, classes)
    objective.see(torch.arange(classes))
    return methods.build(name, settings, objective, 0)


def gaussian(count, features=4, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Part(
        torch.randn(count, features, generator=generator), torch.randint(classes, (count,), generator=generator)
    )


def linear(features=4, classes=3, seed=0, bias=True):
    torch.manual_seed(seed)
    return nn.Linear(features, classes, bias=bias)


def step(method, model, part, optimizer):
    optimizer.zero_grad()
    scores, loss = method.loss(model, part)
    loss.backward()
    method.before_step(model)
    optimizer.step()
    method.after_step(model, part, scores.detach())
    return loss


@pytest.fixture(scope="module")
def naive():
    return trained(small(batch_size=200))


@pytest.mark.parametrize("name", NOTHING)
def test_at_strength_zero_it_is_plain_training_bit_for_bit_and_else_it_is_not(name, naive):
    assert torch.equal(trained(small(name, NOTHING[name], batch_size=200)), naive)
    some = {
        "ewc": {"samples": 5},
        "online-ewc": {"samples": 5},
        "continual-backprop": {"replacement": 0.5, "maturity": 1},
    }
    settings = some.get(name, {})
    assert not torch.equal(trained(small(name, settings, batch_size=200)), naive)


WITH_HOPE = ("ewc", "er", "gpm")  # the others run with -m slow


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(model, name, marks=[] if model == "mlp" or name in WITH_HOPE else pytest.mark.slow)
        for model in ("mlp", "hope")
        for name in REGISTRY
        if name not in BRINGS_ITS_MODEL
    ],
)
def test_it_trains_any_classifier_of_the_lab_and_goes_on_from_a_checkpoint(name, model):
    settings = {"samples": 3} if "samples" in REGISTRY[name].settings else {}
    trainer = Trainer(small(name, settings, model=model, dim=8, batch_size=170, observe=False))
    for _ in range(6):  # the fifth step begins task B
        trainer.step()
    checkpoint = trainer.checkpoint()
    first = [row for _ in range(2) for row in trainer.step()]
    trainer.rewind(checkpoint)
    assert [row for _ in range(2) for row in trainer.step()] == first


def test_who_is_told_of_boundaries_is_who_the_table_says(monkeypatch):
    for name, home in REGISTRY.items():
        told = []
        few = {"samples": 3, "features": 5, "filters": 2}
        trainer = Trainer(small(name, {key: few[key] for key in home.settings if key in few}, batch_size=400))
        monkeypatch.setattr(
            trainer.method, "end_of_experience", lambda model, part, told=told: told.append(len(part)), raising=True
        )
        trainer.run()
        assert bool(told) == ("boundaries" in home.privileged), name
        stores = any(
            isinstance(value, torch.Tensor) and value.shape[1:] == (64,) for value in trainer.method.memory.values()
        )
        assert stores == ("samples" in home.privileged), name
        assert trainer.bytes_kept() >= trainer.method.bytes_kept()


def test_a_joint_run_has_no_boundary():
    trainer = Trainer(small("ewc", {"samples": 3}, joint=True, batch_size=400))
    trainer.run()
    assert trainer.method.memory["tasks"] != [] and len(trainer.method.memory["tasks"]) == 1  # the one at its very end


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "ewcc"}, "Did you mean 'ewc'"),
        ({"method": "ewc", "method_settings": {"stregth": 1}}, "Did you mean 'strength'"),
        ({"method_settings": {"strength": 1}}, "has no settings"),
        ({"method": "er", "method_settings": {"buffer": 1.5}}, "buffer of 'er' is 1.5"),
        ({"method": "er", "method_settings": {"buffer": -1}}, "method_settings is -1"),
        ({"method": "gpm", "method_settings": {"threshold": 2}}, "threshold of 'gpm' is 2"),
        ({"method": "rls", "method_settings": {"ridge": 0}}, "ridge is 0"),
        ({"method": "ewc", "optimizer": "deep"}, "optimizer is 'deep'"),
        ({"method": "rls-conv", "stream": "plane-ab"}, "has none"),
    ],
)
def test_bad_settings_are_named_before_anything_is_computed(settings, message):
    with pytest.raises(SettingError, match=message):
        Trainer(Experiment(**{"optimizer": "adam", **settings}))


def test_the_toggle_is_refused_around_a_method():
    with pytest.raises(SettingError, match="method is 'ewc'"):
        Trainer(small("ewc")).command("optimizer", "deep")


# What is counted by the loss


def test_the_labels_trick_leaves_absent_classes_alone_and_seen_grows():
    scores = torch.randn(6, 5, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    for kind in ("cross_entropy", "squared_error"):
        objective = Objective(kind, "batch", 5)
        objective.see(torch.tensor([3]))
        objective.see(labels)
        (gradient,) = torch.autograd.grad(objective(scores, labels), scores)
        assert (gradient[:, 2:] == 0).all() and (gradient[:, :2] != 0).all()
        objective.outputs = "seen"
        (gradient,) = torch.autograd.grad(objective(scores, labels), scores)
        assert (gradient[:, [2, 4]] == 0).all() and (gradient[:, 3] != 0).all()
        objective.see(torch.arange(5))
        assert torch.equal(objective(scores, labels), loss_of(scores, labels, kind))
    first_two = loss_of(scores.detach(), labels, "cross_entropy", torch.arange(5) < 2)
    assert float(first_two) == pytest.approx(float(F.cross_entropy(scores.detach()[:, :2], labels)))


def test_fewer_updates_learn_from_every_nth_batch_alone():
    run = train(small("fewer-updates", {"every": 5}, periods=(1,)))
    assert run.steps == 14 and run.update_counts["head"] == 2


# EWC and SI


def test_fisher_of_a_linear_model_is_its_closed_form():
    model, part = linear().double(), gaussian(1500)
    part = Part(part.inputs.double(), part.labels)
    generator = torch.Generator().manual_seed(0)
    fisher = ewc.fisher_diagonal(model, part, Objective("squared_error", "all", 3), generator)
    expected = part.inputs.square().mean(0)  # E[r^2] = 1 for every output
    assert torch.allclose(fisher["weight"], expected.expand(3, 4), rtol=0.3)
    chances = model(part.inputs).softmax(1).detach()
    fisher = ewc.fisher_diagonal(model, part, Objective("cross_entropy", "all", 3), generator)
    expected = (chances * (1 - chances)).T @ part.inputs.square() / len(part)
    assert torch.allclose(fisher["weight"], expected, rtol=0.3)


@pytest.mark.parametrize("name", ["ewc", "online-ewc"])
def test_ewc_pulls_back_along_the_fisher_information(name):
    model, part = linear(), gaussian(50)
    method = made(name, strength=3.0, samples=50)
    method.end_of_experience(model, part)
    method.end_of_experience(model, part)
    tasks = method.memory["tasks"] if name == "ewc" else [method.memory]
    anchor = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(torch.randn(3, 4))
    model.zero_grad()
    method.before_step(model)
    penalty = sum(1.5 * (task["fisher"]["weight"] * (model.weight - anchor).square()).sum() for task in tasks)
    (gradient,) = torch.autograd.grad(penalty, model.weight)
    assert torch.allclose(model.weight.grad, gradient, rtol=1e-5) and (gradient * (model.weight - anchor) >= 0).all()
    assert gradient.norm() > 0


def test_online_ewc_keeps_two_numbers_a_weight_however_many_tasks():
    model = linear()
    method = made("online-ewc", samples=50, decay=0)
    for seed in range(2):
        method.end_of_experience(model, gaussian(50, seed=seed))
    assert method.bytes_kept() == 2 * 15 * 4  # its decay: tests/test_guard.py


def test_si_sums_the_fall_of_the_loss_along_the_path():
    model, part = linear(bias=False).double(), gaussian(30)
    part = Part(part.inputs.double(), part.labels)
    method = made("si", kind="squared_error", strength=1.0)
    start = method.loss(model, part)[1].item()
    optimizer = torch.optim.SGD(model.parameters(), 2e-4)
    for _ in range(1000):
        step(method, model, part, optimizer)
    fall = start - method.loss(model, part)[1].item()
    assert fall > 0.05 and float(method.memory["share"]["weight"].sum()) == pytest.approx(fall, rel=1e-3)
    distance = model.weight - method.memory["anchor"]["weight"]
    expected = method.memory["share"]["weight"].clamp_min(0) / (distance.square() + 0.1)
    method.end_of_experience(model, part)
    assert torch.allclose(method.memory["importance"]["weight"], expected.detach())


def test_si_counts_the_gradient_of_the_task_and_not_of_its_own_springs():
    model, part = linear(), gaussian(30)
    method = made("si", strength=1000.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    step(method, model, part, optimizer)
    method.end_of_experience(model, part)
    with torch.no_grad():
        model.weight.add_(0.1)
    (gradient,) = torch.autograd.grad(method.loss(model, part)[1], model.weight)
    before = model.weight.detach().clone()
    step(method, model, part, optimizer)
    assert torch.allclose(
        method.memory["share"]["weight"], -gradient * (model.weight.detach() - before), rtol=1e-4, atol=1e-7
    )


# LwF


def test_distillation_begins_at_zero_and_grows_as_the_model_leaves_its_past():
    model, part = linear(), gaussian(20)
    method = made("lwf", strength=1.0)
    method.end_of_experience(model, part)
    scores = model(part.inputs)
    distilled = method.distilled(model, part.inputs, scores)
    assert distilled.item() == pytest.approx(0, abs=1e-6)
    assert torch.autograd.grad(distilled, model.weight)[0].norm() < 1e-5
    with torch.no_grad():
        model.weight.add_(torch.randn(3, 4))
    assert method.distilled(model, part.inputs, model(part.inputs)).item() > 0.01


def test_distillation_holds_known_classes_only_and_is_free_of_a_common_shift():
    old, new = torch.randn(8, 4), torch.randn(8, 4)
    assert float(lwf.distillation(old + 3, old, 2.0)) == pytest.approx(0, abs=1e-6)
    expected = (
        4 * (torch.softmax(old / 2, 1) * (torch.log_softmax(old / 2, 1) - torch.log_softmax(new / 2, 1))).sum(1).mean()
    )
    assert float(lwf.distillation(new, old, 2.0)) == pytest.approx(expected.item(), rel=1e-5)
    trainer = Trainer(small("lwf"))
    while trainer.experience == 0:
        trainer.step()
    assert trainer.method.memory["known"].tolist() == [0, 1, 2, 3, 4]


# Replay


def test_the_reservoir_is_uniform_over_everything_offered():
    capacity, offered, trials = 5, 40, 1000
    counts = torch.zeros(offered)
    generator = torch.Generator().manual_seed(0)
    for _ in range(trials):
        memory = {"offered": 0}
        for start in range(0, offered, 8):
            reservoir.keep(memory, capacity, generator, number=torch.arange(start, start + 8))
        assert len(memory["number"]) == capacity == len(set(memory["number"].tolist()))
        counts[memory["number"]] += 1
    expected, chance = trials * capacity / offered, capacity / offered
    assert (counts - expected).abs().max() < 4 * math.sqrt(trials * chance * (1 - chance))


def test_the_reservoir_keeps_columns_together_and_takes_any_capacity():
    memory, generator = {"offered": 0}, torch.Generator().manual_seed(0)
    for start in range(0, 60, 7):
        rows = torch.arange(start, start + 7)
        reservoir.keep(memory, 9, generator, a=rows, b=-rows.float())
    drawn = reservoir.draw(memory, 100, generator)
    assert len(drawn["a"]) == 9 and torch.equal(drawn["a"].float(), -drawn["b"])
    assert reservoir.draw({"offered": 3}, 5, generator) == {}


def test_der_stores_scores_as_they_were():
    model, part = linear(), gaussian(10)
    method = made("der++", buffer=10)
    said = model(part.inputs).detach()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    step(method, model, part, optimizer)
    assert torch.equal(method.memory["scores"], said)
    step(method, model, gaussian(3, seed=1), optimizer)
    rows = [
        int((part.inputs == x).all(1).nonzero()) for x in method.memory["inputs"] if (part.inputs == x).all(1).any()
    ]
    kept = [i for i, x in enumerate(method.memory["inputs"]) if (part.inputs == x).all(1).any()]
    assert rows and torch.equal(method.memory["scores"][kept], said[rows])
    assert not torch.allclose(model(part.inputs), said)


def test_er_adds_the_loss_on_what_it_kept():
    model, first, second = linear(), gaussian(6), gaussian(6, seed=1)
    method = made("er", strength=0.7, buffer=6)
    method.after_step(model, first, model(first.inputs))
    loss = method.loss(model, second)[1]
    expected = method.objective(model(second.inputs), second.labels) + 0.7 * method.objective(
        model(first.inputs), first.labels
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_gem_never_steps_against_its_memory():
    generator = torch.Generator().manual_seed(0)
    blocked = 0
    for _ in range(200):
        gradient, reference = torch.randn(2, 5, generator=generator)
        projected = a_gem.project(gradient, reference)
        assert float(projected @ reference) >= -1e-5
        if gradient @ reference >= 0:
            assert torch.equal(projected, gradient)
        else:
            blocked += 1
            assert float(projected @ reference) == pytest.approx(0, abs=1e-5) and projected.norm() <= gradient.norm()
    assert 50 < blocked < 150


def test_a_gem_in_a_step_keeps_the_loss_on_its_memory_from_rising():
    model, old = linear(), gaussian(20)
    method = made("a-gem", buffer=20)
    against = Part(old.inputs, (old.labels + 1) % 3)
    method.after_step(model, old, model(old.inputs))
    method._count = 20
    method.objective(model(against.inputs), against.labels).backward()
    raw = model.weight.grad.clone()
    reference = torch.autograd.grad(method.objective(model(old.inputs), old.labels), list(model.parameters()))
    method.before_step(model)
    product = sum((p.grad * r).sum() for p, r in zip(model.parameters(), reference, strict=True))
    assert float(product) >= -1e-5 and not torch.equal(raw, model.weight.grad)


# Projections


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(6, 3),
        nn.Linear(6, 3, bias=False),
        nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, (2, 3)), nn.Flatten()),
    ],
    ids=["linear", "no bias", "convolution"],
)
@pytest.mark.parametrize("name", ["owm", "gpm"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_projected_updates_leave_the_answers_to_old_inputs(name, optimizer, model):
    torch.manual_seed(0)
    classes = 3
    settings = {"owm": {"strength": 1e6}, "gpm": {"threshold": 1.0}}[name]
    method = made(name, classes=classes, **settings)
    old = Part(torch.randn(20, 2) @ torch.randn(2, 6), torch.randint(classes, (20,)))  # two directions of six
    makes = optimizer(model.parameters(), 0.05)
    step(method, model, old, makes)
    method.end_of_experience(model, old)
    said = model(old.inputs).detach()
    new = Part(torch.randn(20, 6), torch.randint(classes, (20,)))
    before = model(new.inputs).detach()
    for _ in range(5):
        step(method, model, new, makes)
    moved = (model(new.inputs) - before).norm()
    assert (model(old.inputs) - said).norm() < 0.01 * moved and moved > 0.1


def test_owm_at_the_boundary_is_the_papers_recursion():
    rows = torch.randn(12, 5, dtype=torch.float64)
    alpha, projector = 0.3, torch.eye(5, dtype=torch.float64)
    for x in rows:
        gain = projector @ x / (alpha + x @ projector @ x)
        projector = projector - torch.outer(gain, x @ projector)
    assert torch.allclose(torch.eye(5) - owm.used_directions(rows.T @ rows, 1 / alpha), projector)


def test_owm_counts_the_mean_of_a_batch_where_asked():
    part, model = gaussian(7), linear(bias=False)
    for average, expected in (
        (0, part.inputs.T @ part.inputs),
        (1, torch.outer(part.inputs.mean(0), part.inputs.mean(0))),
    ):
        method = made("owm", average=average)
        method.loss(model, part)
        assert torch.allclose(method.memory["gram"][""].float(), expected, atol=1e-5)


def test_gpm_keeps_directions_until_they_hold_the_threshold():
    basis = torch.linalg.qr(torch.randn(6, 6)).Q
    rows = torch.randn(200, 6) @ torch.diag(torch.tensor([10.0, 5.0, 1.0, 0.1, 0.1, 0.1])) @ basis.T
    for threshold in (0.5, 0.9, 0.99, 0.9999):
        kept = extended(None, rows, threshold)
        assert torch.allclose(kept.T @ kept, torch.eye(kept.shape[1]), atol=1e-5)
        held = (rows @ kept).square().sum() / rows.square().sum()
        fewer = (rows @ kept[:, :-1]).square().sum() / rows.square().sum()
        assert held >= threshold > fewer
    more = extended(kept, rows @ basis, 0.99)
    assert torch.equal(more[:, : kept.shape[1]].abs() > 1e9, kept.abs() > 1e9) and torch.allclose(
        more @ (more.T @ kept), kept, atol=1e-4
    )
    assert extended(more, rows, 0.5) is more


def test_a_convolution_reads_its_patches():
    layer, images = nn.Conv2d(2, 3, 3, stride=2, padding=1), torch.randn(4, 2, 7, 7)
    rows = projection.rows_of(layer, images)
    answers = (rows @ projection.matrix_of(layer).T).view(4, -1, 3).transpose(1, 2)
    assert torch.allclose(answers.reshape(4, 3, 4, 4), layer(images), atol=1e-5)


# Frozen features with recursive least squares


def ridge_solution(rows, targets, ridge):
    return torch.linalg.solve(rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=rows.dtype), rows.T @ targets).T


def test_streaming_least_squares_is_ridge_regression_in_any_pieces_and_order():
    generator = torch.Generator().manual_seed(0)
    rows, targets = (
        torch.randn(60, 8, dtype=torch.float64, generator=generator),
        torch.randn(60, 3, dtype=torch.float64, generator=generator),
    )
    expected = ridge_solution(rows, targets, 0.5)
    for size in (1, 7, 60):
        order = torch.randperm(60, generator=generator)
        weight, inverse = torch.zeros(3, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64) / 0.5
        for piece in order.split(size):
            weight, inverse = rls.rls_write(weight, inverse, rows[piece], targets[piece])
        assert torch.allclose(weight, expected, rtol=1e-9) and torch.allclose(inverse, inverse.T, atol=1e-12)


@pytest.mark.parametrize("name", ["rls", "rls-conv"])
def test_after_a_stream_the_head_is_the_ridge_regression_on_all_of_it(name):
    trainer = Trainer(small(name, {"features": 50, "ridge": 0.1} if name == "rls" else {"filters": 4, "ridge": 0.1}))
    features = {key: value.clone() for key, value in trainer.model.features.state_dict().items()}
    trainer.run()
    whole = trainer.stream.joint()
    rows = trainer.model.features(whole.inputs).double()
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    expected = ridge_solution(rows, F.one_hot(whole.labels, 10).double(), 0.1)
    assert torch.allclose(trainer.model.head.weight.double(), expected[:, :-1], atol=1e-4)
    assert torch.allclose(trainer.model.head.bias.double(), expected[:, -1], atol=1e-4)
    assert all(torch.equal(value, features[key]) for key, value in trainer.model.features.state_dict().items())


def test_convolutional_features_ignore_contrast_and_count_as_said():
    torch.manual_seed(0)
    from nllab.methods.random_features import ConvolutionalFeatures

    features = ConvolutionalFeatures((28, 28), 64)
    images = 5 * torch.randn(3, 784)
    assert features(images).shape == (3, 1152)
    assert torch.allclose(features(images), features(3 * images + 1), rtol=0.02, atol=1e-3)
    with pytest.raises(SettingError, match="at least 8 x 8"):
        ConvolutionalFeatures((4, 8), 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", list(REGISTRY))
def test_it_runs_on_cuda_and_agrees_with_the_cpu(name):
    experiment = small(name, batch_size=170)
    first, other = [Trainer(experiment, device=device).run() for device in ("cpu", "cuda")]
    assert first.summary["end"] == other.summary["end"] == "finished"
    assert abs(first.accuracy_matrix[-1] - other.accuracy_matrix[-1]).max() < 0.06  # a few of some 150 test samples


def test_streams_of_the_users_own_go_through_any_method():
    part = gaussian(30)
    stream = Stream("mine", "", (Task("A", "", part, part[:0], part), Task("B", "", part, part[:0], part)), (0, 1), 3)
    run = Trainer(small("ewc", {"samples": 3}), stream=stream).run()
    assert run.summary["end"] == "finished"


def test_l2_init_pulls_towards_where_weights_began():
    """Gradient descent on strength * |w - w0|^2 alone shrinks the distance by 1 - 2 lr strength."""
    model, method = linear(), made("l2-init", strength=0.3)
    start = model.weight.detach().clone()
    method.before_step(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    model.zero_grad()
    method.before_step(model)
    torch.optim.SGD(model.parameters(), 0.5).step()
    assert torch.allclose(model.weight - start, torch.full_like(start, 1 - 2 * 0.5 * 0.3))


def test_shrink_and_perturb_is_its_equation_with_the_noise_of_a_fresh_layer():
    torch.manual_seed(0)
    model, method = nn.Linear(400, 300), made("shrink-and-perturb", shrink=0.1, perturb=0.5)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    method.after_step(model, gaussian(1), torch.zeros(1, 3))
    noise = (model.weight - 0.9 * weight) / 0.5
    assert abs(noise.std() * 20 - 1) < 0.01 and abs(noise.mean()) < 1e-3
    assert torch.allclose(model.bias, 0.9 * bias)
    assert torch.equal(shrink_perturb.shrunk_and_perturbed(weight, noise, 0, 0), weight)


def test_upgd_holds_what_the_loss_would_miss():
    """Its gates against the definition: 2 (g + noise) (1 - sigmoid(u / max u)), u the corrected mean of -g w."""
    model, method = linear(bias=False), made("upgd", noise=0, decay=0.9)
    mean = torch.zeros_like(model.weight)
    for step_number in range(1, 4):
        model.weight.grad = torch.randn(model.weight.shape, generator=torch.Generator().manual_seed(step_number))
        g = model.weight.grad.clone()
        mean = 0.9 * mean - 0.1 * g * model.weight.detach()
        utility = mean / (1 - 0.9**step_number)
        method.before_step(model)
        expected = 2 * g * (1 - 1 / (1 + torch.exp(-utility / utility.max())))
        assert torch.allclose(model.weight.grad, expected, atol=1e-6)
    assert upgd.gates({"w": -torch.ones(3)})["w"].tolist() == [0.5] * 3  # nothing is of use: plain steps


def hidden_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def test_continual_backprop_renews_the_least_useful_of_the_old_units_and_disturbs_little():
    model, part = hidden_net(), gaussian(20)
    method = made("continual-backprop", replacement=0.5, maturity=2, decay=0)
    with torch.no_grad():
        model[2].weight[:, 4] = 0  # a unit that nobody reads
    before = model(part.inputs)
    for _ in range(3):
        scores, _ = method.loss(model, part)
        ages = {name: age.clone() for name, age in method.memory["age"].items()}
        weights = model[0].weight.detach().clone()
        method.after_step(model, part, scores)
    assert set(ages) == {"0", "2"} and ages["0"].tolist() == [2] * 6
    renewed = (model[0].weight != weights).any(1)
    assert int(renewed.sum()) == 3 and bool(renewed[4])  # half of the six units, the unread one among them
    assert method.memory["age"]["0"].tolist() == [0 if r else 3 for r in renewed]
    others = method.memory["age"]["2"] > 0  # units behind it that were not drawn anew in the same step
    assert bool((model[2].weight[others][:, renewed] == 0).all()) and bool((model[0].weight.abs() <= 0.5).all())
    assert not torch.allclose(model(part.inputs), before)
    lone = hidden_net()
    with torch.no_grad():
        lone[2].weight[:, 4] = 0
        said = lone(part.inputs)
        continual_backprop.start_anew(lone[0], lone[2], torch.tensor([4]), torch.Generator().manual_seed(0))
        assert torch.equal(lone(part.inputs), said)


def test_units_behind_more_than_an_activation_are_left_alone():
    model, part = hidden_net(), gaussian(5)
    normed = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 3))
    for net, names in ((model, {"0", "2"}), (normed, set())):
        with continual_backprop.hidden_units(net) as found:
            net(part.inputs)
        assert set(found) == names


def test_slda_is_the_discriminant_of_all_samples_at_once_in_any_order():
    features, labels = (t.clone() for t in (gaussian(60).inputs.double(), gaussian(60).labels))
    means = torch.stack([features[labels == c].mean(0) for c in range(3)])
    rest = features - means[labels]
    covariance = rest.T @ rest / 60
    variance = covariance.diagonal().mean()
    inverse = torch.linalg.inv(0.8 * covariance + 0.2 * variance * torch.eye(4, dtype=torch.float64))
    one_hot = F.one_hot(labels, 4).double()  # the fourth class has not occurred
    weight, bias = slda.discriminant(one_hot.sum(0), one_hot.T @ features, features.T @ features, 0.2)
    scores = features @ weight.T + bias
    distances = torch.stack([((features - m) @ inverse * (features - m)).sum(1) for m in means], 1)
    assert torch.equal(scores.argmax(1), distances.argmin(1))
    gaps = scores[:, :3] - scores[:, :1] + 0.5 * (distances - distances[:, :1])
    assert gaps.abs().max() < 1e-9 and bool((scores[:, 3] == slda.UNSEEN).all())


@pytest.mark.parametrize("name", ["slda", "randumb"])
def test_a_discriminant_does_not_depend_on_the_order_of_samples(name):
    heads = []
    for joint in (False, True):
        trainer = Trainer(small(name, {"features": 20}, joint=joint, batch_size=400))
        trainer.run()
        heads.append(trainer.model.head.weight.detach())
    assert torch.allclose(*heads, rtol=1e-3, atol=1e-3 * float(heads[0].abs().max()))


def test_fourier_features_approximate_the_kernel_they_stand_for():
    from nllab.methods.random_features import FourierFeatures

    torch.manual_seed(0)
    features, x = FourierFeatures(4, 20_000, 0.8), gaussian(5).inputs
    kernel = torch.exp(-0.8 * torch.cdist(x, x).square() / 4)
    assert torch.allclose(features(x) @ features(x).T, kernel, atol=0.03)


@pytest.mark.parametrize("name", ["owm", "gpm"])
def test_projected_gradients_protect_under_sgd_and_not_under_adam(name):
    """With the inputs of a finished task in half of all directions, answers to them stay under SGD, by either way, and
    under Adam only where the written change is projected."""
    old, new = gaussian(40), gaussian(40, seed=1)
    old.inputs[:, 2:] = 0
    for kind, gradient, kept in (("sgd", 1, True), ("sgd", 0, True), ("adam", 0, True), ("adam", 1, False)):
        settings = {"owm": {"strength": 1e6}, "gpm": {"threshold": 1.0, "samples": 40}}[name]
        model, method = linear(), made(name, gradient=gradient, **settings)
        step(method, model, old, torch.optim.SGD(model.parameters(), 0.0))
        method.end_of_experience(model, old)
        said, make = model(old.inputs).detach(), {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]
        optimizer = make(model.parameters(), 0.05)
        for _ in range(20):
            step(method, model, new, optimizer)
        change = (model(old.inputs) - said).abs().max()
        assert (change < 1e-3) if kept else (change > 0.1), (kind, gradient, float(change))
