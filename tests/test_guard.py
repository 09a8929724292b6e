"""Numbers that other tests would let change in silence, each against its definition."""

import json

import pytest
import torch
from torch import nn

from nllab import DeepOptimizer, figures, methods, probes
from nllab.build import build_model
from nllab.events import Context, jsonable, read
from nllab.experiment import Experiment
from nllab.levels import Level
from nllab.methods.ewc import fisher_diagonal
from nllab.methods.objective import Objective
from nllab.optim import policy, rates
from nllab.optim.context import Context as Memory
from nllab.optim.context import novelty
from nllab.optim.policy import Policy
from nllab.optim.rates import BOUNDED_RATE, Trace
from nllab.optim.report import LevelReport, held_by
from nllab.runs import ONLINE_BATCHES, Run
from nllab.streams import build
from nllab.streams.stream import IGNORE, Part
from nllab.trainer import Trainer

SMALL = {"dim": 8, "hidden": 8, "batch_size": 40, "evaluate_every": 1000}


def small(**changes):
    return Experiment.preset("digits-ab", **{**SMALL, **changes})


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(inputs=5, outputs=3):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=False).double()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_accuracy_is_measured_on_the_part_asked_for(part):
    trainer = Trainer(small(evaluate_on=part))
    with torch.no_grad():
        trainer.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    task = trainer.stream.tasks[0]
    found = {name: probes.accuracy(trainer.model, getattr(task, name)) for name in ("validation", "test")}
    (untrained,) = trainer._begin()[:1]
    assert untrained.accuracy["A"] == found[part] and found["validation"] != found["test"]
    assert untrained.samples["A"] == len(getattr(task, part)) and len(task.validation) != len(task.test)


def test_initial_weights_follow_the_seed_and_nothing_else():
    stream = build("digits-ab")
    first, again, other = (build_model(small(seed=seed), stream)[0].input.weight for seed in (0, 0, 1))
    torch.manual_seed(77)
    assert torch.equal(first, again) and (first - other).abs().mean() > 0.01
    assert torch.equal(build_model(small(seed=1), stream)[0].input.weight, other)


def test_the_signals_of_a_write_are_their_definitions():
    """conflict = 1 - ridge <G A^-1, G> / |G|^2; novelty = x^T A^-1 x / |x|^2 before, times what A holds after."""
    ridge, layer = 0.3, linear()
    optimizer = DeepOptimizer(layer, ridge=ridge, loss_reduction="sum")
    old, x, y = normal(7, 5), normal(1, 5, seed=1), normal(1, 3, seed=2)
    for rows, targets in ((old, normal(7, 3, seed=3)), (x, y)):
        optimizer.zero_grad()
        output = layer(rows)
        delta = (output - targets).detach()
        (0.5 * (output - targets).square().sum()).backward()
        optimizer.step()
    before = old.T @ old / 5 + ridge * torch.eye(
        5, dtype=torch.float64
    )  # the ridge is in units of one input of unit mean square
    after, gradient = before + x.T @ x / 5, delta.T @ x
    (found,) = optimizer.report.levels.values()
    blocked = 1 - ridge * (gradient @ torch.linalg.inv(after) * gradient).sum() / gradient.square().sum()
    newness = (x @ torch.linalg.inv(before) @ x.T).item() / x.square().sum() * (after.diagonal().mean() - ridge)
    assert found.conflict == pytest.approx(float(blocked), rel=1e-9)
    assert found.novelty == pytest.approx(float(newness), rel=1e-6)
    assert found.surprise == pytest.approx(float(delta.norm()), rel=1e-9)


def test_a_context_fades_once_a_period_and_not_at_every_step():
    ridge, layer = 0.2, linear()
    levels = [Level("all", "*", 3)]
    optimizer = DeepOptimizer(layer, levels=levels, ridge=ridge, retention=0.5, loss_reduction="sum", manager=False)
    rows = [normal(2, 5, seed=i) for i in range(6)]
    for each in rows:
        optimizer.zero_grad()
        (0.5 * layer(each).square().sum()).backward()
        optimizer.step()
    first, second = (sum(x.T @ x / 5 for x in rows[i : i + 3]) for i in (0, 3))
    expected = 0.5 * (0.5 * first + second) + ridge * torch.eye(5)
    assert torch.allclose(optimizer.state[layer.weight]["context"].matrix, expected, rtol=1e-9)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_padding_does_not_count_in_the_scale_of_the_loss(loss):
    """Of a mean over three asked rows among eight, three times the gradient is that of the sum."""
    x, labels = normal(2, 4, 5), torch.tensor([[0, 2, IGNORE, 1], [IGNORE, IGNORE, IGNORE, IGNORE]])
    layer = linear()
    start, optimizer = layer.weight.detach().clone(), DeepOptimizer(layer, manager=False)
    Objective(loss, "all", 3)(layer(x), labels).backward()
    gradient = 3 * layer.weight.grad
    optimizer.step()
    kept = optimizer.state[layer.weight]["context"].matrix
    rate = BOUNDED_RATE if loss == "cross_entropy" else 1.0
    assert torch.allclose(start - layer.weight.detach(), rate * gradient @ torch.linalg.inv(5 * kept), rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_mode_of_the_model(training):
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)).train(training)
    part = Part(normal(50, 4).float(), torch.randint(3, (50,), generator=torch.Generator().manual_seed(0)))
    seen = [probes.accuracy(model, part) for _ in range(3)]
    assert model.training is training and model[1].training is training and len(set(seen)) == 1
    probes.answers(model, part.inputs)
    assert model.training is training and model[1].training is training


def test_a_rewind_remembers_which_classes_were_seen():
    trainer = Trainer(small(outputs="seen"))
    trainer.step()
    saved, seen = trainer.checkpoint(), trainer.objective.seen.clone()
    trainer.objective.see(torch.arange(10))
    trainer.rewind(saved)
    assert torch.equal(trainer.objective.seen, seen) and 0 < int(seen.sum()) <= 5


def test_online_accuracy_is_the_mean_of_the_first_twenty_batches():
    run = Trainer(small(batch_size=20)).run(steps=30)
    steps = [event for event in run.log if event.kind == "step"]
    assert ONLINE_BATCHES == 20 and run.online_accuracy[0] == pytest.approx(
        sum(step.online_accuracy for step in steps[:20]) / 20
    )
    assert isinstance(run, Run) and len({step.online_accuracy for step in steps[10:30]}) > 1


def test_online_ewc_keeps_the_decayed_past_and_the_new():
    layer, objective = linear(4).float(), Objective("squared_error", "all", 3)
    parts = [Part(normal(9, 4, seed=i).float(), torch.arange(9) % 3) for i in range(2)]
    method = methods.build("online-ewc", {"samples": 9, "decay": 0.25}, objective, 0)
    twin = torch.Generator().set_state(method.generator.get_state())
    expected = torch.zeros(3, 4)
    for part in parts:
        method.end_of_experience(layer, part)
        order = torch.randperm(9, generator=twin)
        expected = 0.25 * expected + fisher_diagonal(layer, part[order], objective, twin)["weight"]
    assert torch.allclose(method.memory["fisher"]["weight"], expected, rtol=1e-6)


def test_the_line_of_guessing_lies_at_one_in_so_many_classes():
    shapes = figures.overlay("accuracy", [], chance=0.1)["shapes"]
    assert [shape["y0"] for shape in shapes] == [shape["y1"] for shape in shapes] == [0.1]
    untrained = Trainer(small())._begin()[0]
    assert untrained.classes == 10


def usual(novelty, wrong, errors, steps=10):
    """What a settled policy makes of some steps."""
    found = Policy()
    for step in range(100):
        found.observe(0.02, 0.7, [((step + 1) % 10, step % 10)])
        found.decide()
    for step in range(steps):
        found.observe(wrong, novelty, errors(step))
        found.decide()
    return found


def test_inputs_half_as_new_again_are_new_and_a_quarter_are_not():
    again = [(i, (i + 1) % 10) for i in range(10)]
    assert usual(0.7 * 1.8, 0.9, lambda step: again).situation == policy.NEW_INPUTS
    assert usual(0.7 * 1.1, 0.9, lambda step: again, 30).situation == policy.LABEL_SHIFT


def test_while_labels_shift_the_head_keeps_most_of_its_context_and_not_all():
    settings = usual(0.7, 0.9, lambda step: [(i, (i + 1) % 10) for i in range(10)], 30).settings
    assert 0.8 <= settings.head_retention <= 0.95 and settings.hidden_retention == 1
    assert 0.5 <= settings.error_weight <= 2


def test_shares_held_back_are_each_tasks_own_and_add_up_with_what_passes():
    ridge = 0.3
    old, new, gradient = normal(6, 4), normal(5, 4, seed=1), normal(3, 4, seed=2)
    grams = [x.T @ x for x in (old, new)]
    whole = grams[0] + grams[1] + ridge * torch.eye(4, dtype=torch.float64)
    step = gradient @ torch.linalg.inv(whole)
    found = held_by(gradient, step, ridge, {"A": grams[0]})
    along = [float((step @ gram * gradient).sum() / gradient.square().sum()) for gram in grams]
    assert [found["A"], found[""]] == pytest.approx(along) and along[0] > 0.1
    passed = ridge * float((step * gradient).sum() / gradient.square().sum())
    assert sum(found.values()) + passed == pytest.approx(1)


def test_a_gradient_where_only_a_was_is_held_back_on_its_account_alone():
    context = Memory.empty(3, 0.5, dtype=torch.float64)
    for name, direction in (("A", 0), ("B", 1)):
        context.absorb(torch.eye(3, dtype=torch.float64)[[direction] * 4], torch.zeros(4, 2, dtype=torch.float64))
        context.close()
        context.close_account(name, 0.5)
    gradient = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=torch.float64)
    assert held_by(gradient, context.solve(gradient), 0.5, context.accounts) == pytest.approx(
        {"A": 4 / 4.5, "B": 0, "": 0}
    )
    free = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    assert held_by(free, context.solve(free), 0.5, context.accounts) == pytest.approx({"A": 0, "B": 0, "": 0})


def test_a_measured_step_says_on_which_tasks_account_each_level_is_held_back():
    run = Trainer(small(evaluate_every=5, manager=False, realign_every=0)).run()
    steps = [event for event in run.log if event.kind == "step"]
    measured = [step for step in steps if step.accuracy]
    first, last = measured[0], measured[-1]
    assert set(first.levels["head"].held) == {"A"} and set(last.levels["head"].held) == {"A", "B"}
    for step in measured:
        for level in step.levels.values():
            if level.held is not None:
                assert sum(level.held.values()) == pytest.approx(level.conflict, abs=1e-3)
    switch = next(step for step in measured if step.task == "B")
    assert switch.levels["input"].held["A"] > switch.levels["input"].held["B"] > 0
    assert read(json.dumps(jsonable(last)), Context(run.tasks, tuple(run.levels))) == last


def test_accounts_fade_with_the_context_and_a_task_that_returns_adds_to_its_own():
    context = Memory.empty(2, 0.5, dtype=torch.float64)
    for name, row in (("A", [2.0, 0.0]), ("B", [0.0, 1.0]), ("A", [0.0, 3.0])):
        context.absorb(torch.tensor([row], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
        context.close()
        context.fade(0.5, 0.5)
        context.close_account(name, 0.5)
    assert context.accounts["A"].diagonal().tolist() == pytest.approx([4 / 8, 9 / 2])
    assert context.accounts["B"].diagonal().tolist() == pytest.approx([0, 1 / 4])
    assert torch.allclose(sum(context.accounts.values()), context.matrix - 0.5 * torch.eye(2, dtype=torch.float64))
    again = Memory.of_state(context.state())
    assert again.accounts.keys() == context.accounts.keys()


# (what was seen, beside a settled policy, and the situation that fits), on both sides of every number of the table
CALLS = [
    ({"wrong_now": 0.9, "steps": 19}, policy.STEADY),
    ({"wrong_now": 0.9, "steps": 20}, policy.UNSURE),
    ({"wrong_now": 0.24}, policy.STEADY),
    ({"wrong_now": 0.26}, policy.UNSURE),
    ({"wrong_now": 0.26, "novelty_now": 1.39, "novelty_usual": 1.0}, policy.UNSURE),
    ({"wrong_now": 0.26, "novelty_now": 1.41, "novelty_usual": 1.0}, policy.NEW_INPUTS),
    ({"wrong_now": 0.26, "novelty_now": 2.0, "novelty_usual": 1.0, "fresh": 0.21}, policy.UNSURE),
    ({"wrong_now": 0.26, "fresh": 0.5}, policy.UNSURE),
    ({"wrong_now": 0.26, "fresh": 0.51}, policy.NEW_CLASSES),
    ({"rising": 29, "novelty_usual": 1.2}, policy.STEADY),
    ({"rising": 30, "novelty_usual": 1.2}, policy.DRIFT),
    ({"rising": 99, "situation": policy.DRIFT}, policy.DRIFT),
    ({"wrong_now": 0.14, "situation": policy.NOISE}, policy.STEADY),
    ({"wrong_now": 0.16, "situation": policy.NOISE}, policy.NOISE),
    ({"wrong_now": 0.16, "situation": policy.NEW_INPUTS, "agreement": 0.9, "errors": 99}, policy.NEW_INPUTS),
    ({"wrong_now": 0.9, "situation": policy.UNSURE, "agreement": 0.41, "errors": 29}, policy.UNSURE),
    ({"wrong_now": 0.9, "situation": policy.UNSURE, "agreement": 0.41, "errors": 30}, policy.LABEL_SHIFT),
    ({"wrong_now": 0.9, "situation": policy.NOISE, "agreement": 0.41, "errors": 30}, policy.LABEL_SHIFT),
    ({"wrong_now": 0.39, "situation": policy.UNSURE, "agreement": 0.41, "errors": 30}, policy.UNSURE),
    ({"wrong_now": 0.41, "situation": policy.UNSURE, "agreement": 0.41, "errors": 30}, policy.LABEL_SHIFT),
    ({"wrong_now": 0.9, "situation": policy.UNSURE, "agreement": 0.4, "errors": 30}, policy.NOISE),
    ({"wrong_now": 0.9, "situation": policy.UNSURE, "agreement": 0.1, "errors": 29}, policy.UNSURE),
    ({"wrong_now": 0.9, "situation": policy.NOISE, "agreement": 0.1, "errors": 99}, policy.NOISE),
    ({"wrong_now": 0.9, "situation": policy.UNSURE, "fresh": 0.6}, policy.NEW_CLASSES),
    ({"wrong_now": 0.9, "situation": policy.NOISE, "novelty_now": 1.5, "novelty_usual": 1.0}, policy.NEW_INPUTS),
    ({"wrong_now": 0.9, "situation": policy.LABEL_SHIFT, "fresh": 0.6}, policy.LABEL_SHIFT),
]


@pytest.mark.parametrize(("seen", "situation"), CALLS)
def test_each_number_of_the_policys_table_divides_two_situations(seen, situation):
    found, reason = policy.judge(Policy(**{"steps": 100, "wrong_usual": 0.1} | seen))
    assert found == situation and bool(reason) == (situation != seen.get("situation", policy.STEADY))


def test_what_the_policy_sees_are_running_means_of_their_spans():
    seen, wrong, novelty = Policy(), [0.8, 0.2, 0.5, 0.1, 0.9], [1.0, 3.0, 2.0, 4.0, 0.5]
    errors = [[(0, 1)], [(0, 1), (2, 1)], [], [(0, 3)], [(2, 1)]]
    now = usual = recent_novelty = 0.0
    for i in range(5):
        seen.observe(wrong[i], novelty[i], errors[i])
        now += (wrong[i] - now) / min(i + 1, 3)
        usual += (wrong[i] - usual) / (i + 1)
        recent_novelty += (novelty[i] - recent_novelty) / min(i + 1, 3)
    agreement = 0.0
    for same in (0, 1, 0, 0, 1):  # an error repeats the last one that was made with the same answer
        agreement += (same - agreement) / 30
    assert (seen.wrong_now, seen.wrong_usual) == pytest.approx((now, usual))
    assert seen.novelty_now == pytest.approx(recent_novelty) and seen.novelty_usual == pytest.approx(2.1)
    assert seen.agreement == pytest.approx(agreement) and seen.errors == 5 and seen.last_error == {0: 3, 2: 1}
    assert seen.first_seen == {1: 1, 3: 4} and seen.novelties == 5
    seen.observe(0.1, None, [])
    assert seen.novelties == 5 and seen.steps == 6
    assert Policy.of_state(seen.state()) == seen


def test_long_means_look_back_fifty_steps_and_five_hundred_while_something_goes_on():
    for situation, span in ((policy.STEADY, 50), (policy.DRIFT, 50), (policy.UNSURE, 500), (policy.NOISE, 500)):
        seen = Policy(situation=situation, steps=1000, wrong_usual=0.1, novelties=1000, novelty_recent=1.0)
        seen.observe(0.6, 2.0, [])
        assert seen.wrong_usual == pytest.approx(0.1 + 0.5 / span) and seen.wrong_now == pytest.approx(0.2)
        assert seen.novelty_recent == pytest.approx(1 + 1 / 15) and seen.novelty_usual == pytest.approx(2 / 50)


def test_a_rise_counts_up_by_one_and_down_by_two_above_what_is_remembered():
    def after(recent, usual, situation=policy.STEADY):
        seen = Policy(situation=situation, steps=99, novelties=99, novelty_recent=recent, novelty_usual=usual, rising=5)
        seen.observe(0.1, usual, [])
        return seen.rising

    assert after(1.3, 1.1) == 6 and after(1.3, 1.1, policy.DRIFT) == 6 and after(1.3, 1.1, policy.NOISE) == 3
    assert after(1.0, 1.1) == 3 and after(1.3, 1.04) == 3 and after(1.3, 1.06) == 6


def test_a_decision_says_what_was_seen_and_what_is_in_force():
    seen = Policy(steps=100, wrong_usual=0.1, wrong_now=0.9, novelty_now=0.7, agreement=0.5, errors=40)
    seen.novelty_usual = 0.7
    seen.situation = policy.UNSURE
    decision = seen.decide()
    assert decision.saw == {"surprise": 0.9, "usual": 0.1, "novelty": 0.7, "agreement": 0.5, "new classes": 0.0}
    assert decision.did == {
        "error weight": 1.0, "rate": 1.0, "retention of the head": 0.9, "retention of the others": 1.0
    }  # fmt: skip
    assert seen.situation == policy.LABEL_SHIFT and seen.since == 100 and seen.errors == 40 and seen.decide() is None
    seen.wrong_now, seen.rising, seen.novelty_recent = 0.1, 9, 3.0
    assert seen.decide().did["rate"] == 1.0 and (seen.rising, seen.novelty_usual) == (0, 3.0)
    seen.wrong_now, seen.last_error = 0.9, {1: 2}
    seen.decide()
    assert seen.situation == policy.UNSURE and (seen.errors, seen.agreement, seen.last_error) == (0, 0.0, {})


def test_the_rate_of_hidden_layers_by_hand():
    """4 / (1 + n / 500) * sum g / (sum sqrt(rho g))^2; n = 0.1 * samples * gain / own, of the recent."""
    traces = [
        Trace(signal=800.0, residual=2.0, gain=4.0, recent_gain=10.0, recent_own=2.0, samples=300.0),
        Trace(signal=900.0, residual=1.0, gain=1.0, recent_gain=2.0, recent_own=1.0, samples=200.0),
        Trace(),  # has never written
    ]
    best = 5 / (40 + 30) ** 2
    assert rates.best_rate(traces) == pytest.approx(best)
    assert rates.age(traces) == pytest.approx(0.1 * 300 * 12 / 3)
    assert rates.hidden_rate(traces) == pytest.approx(4 / (1 + 120 / 500) * best)
    assert rates.hidden_rate([Trace()]) == rates.best_rate([Trace()]) == float("inf")
    assert rates.trusted(9.0, own=4.0, size=25.0) == pytest.approx(0.1 * 2.5)  # outputs move by a tenth of their size
    assert rates.trusted(0.2, own=4.0, size=25.0) == 0.2
    assert rates.trusted(9.0, own=4.0, size=0.0) == rates.trusted(9.0, own=0.0, size=0.0) == 8.0
    assert rates.age([]) == rates.age([Trace()]) == 0 and Trace(3.0, 0.0).curvature == 0


def test_a_trace_sums_a_life_and_keeps_nine_tenths_of_the_recent_at_each_write():
    trace = Trace()
    trace.see(6.0, 2.0, 0.5)
    trace.see(1.0, 3.0, 2.0)
    trace.write(1.0, 2.0, 3.0)
    trace.write(10.0, 20.0, 30.0)
    assert (trace.signal, trace.residual, trace.curvature, trace.gain) == (5.0, 5.0, 1.0, 11.0)
    assert (trace.recent_gain, trace.recent_own, trace.samples) == pytest.approx((10.9, 21.8, 32.7))
    assert Trace.of_state(trace.state()) == trace and trace.tensors() == []


def test_a_levels_signals_are_means_over_its_layers_and_accounts_it_does_not_know_hold_nothing():
    layers = [LevelReport(1.0, 2.0, 0.5, {"A": 0.4, "": 0.1}), LevelReport(3.0, 0.0, 0.1, {"": 0.1})]
    mean = LevelReport.mean(layers)
    assert mean[:3] == pytest.approx((2.0, 1.0, 0.3)) and mean.held == pytest.approx({"A": 0.2, "": 0.1})


def test_a_memory_that_only_watches_is_measured_as_one_that_writes():
    found = []
    for acting in (True, False):
        layer = linear()
        optimizer = DeepOptimizer(layer, loss_reduction="sum", manager=False)
        optimizer.acting = acting
        (0.5 * (layer(normal(4, 5)) - normal(4, 3, seed=1)).square().sum()).backward()
        optimizer.step()
        found.append(optimizer.report.levels["all"])
    assert found[0][:3] == pytest.approx(found[1][:3]) and found[0].held == pytest.approx(found[1].held)


@pytest.mark.parametrize("row", [[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]])
def test_a_novelty_before_is_found_from_the_one_after(row):
    rows = torch.tensor([row], dtype=torch.float64)
    before = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    after = torch.linalg.inv(before + rows.T @ rows)
    wanted = (rows @ torch.linalg.inv(before) @ rows.T / rows.square().sum()).item()
    leverage = (rows @ after @ rows.T).flatten()
    assert novelty(leverage, rows, 3.0).item() == pytest.approx(3 * wanted)
    two = novelty(torch.cat([leverage, torch.zeros(1)]), torch.cat([rows, torch.zeros_like(rows)]), 1.0).item()
    assert two == pytest.approx(wanted / 2)
