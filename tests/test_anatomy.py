"""One write opened: the bend of a gradient by what was seen, against the closed form; what spills over, against the
outputs themselves; both on the lab's own networks."""

import pytest
import torch
from waiting import until

from nllab.anatomy import bend, open_write, spill
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.live import LiveRun
from nllab.trainer import Trainer

USED = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)  # the direction that old inputs have used


def metric(weight=99.0):
    return torch.eye(4, dtype=torch.float64) + weight * USED.outer(USED)


def solver(matrix):
    return lambda rows: torch.linalg.solve(matrix, rows.T).T


def test_a_gradient_turns_away_from_what_was_seen():
    matrix, gradient = metric(), torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    found = bend(gradient, solver(matrix))
    assert found.axes[:, 0].abs().tolist() == pytest.approx([1, 0, 0, 0], abs=1e-9)  # long axis: what was seen
    assert found.gradient.tolist() == pytest.approx([1, 1]) and found.passed.tolist() == pytest.approx([0.01, 1])
    assert found.ellipse == pytest.approx((1, 0.1))
    truth = torch.linalg.solve(matrix, gradient)
    assert torch.allclose(found.axes @ found.passed, truth / truth[1])


def test_a_plane_holds_gradient_and_bent_step_whole_for_any_metric():
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        seen = torch.randn(6, 9, generator=generator, dtype=torch.float64)
        matrix = 0.1 * torch.eye(9, dtype=torch.float64) + seen.T @ seen
        gradient = torch.randn(9, generator=generator, dtype=torch.float64)
        found = bend(gradient, solver(matrix))
        truth = torch.linalg.solve(matrix, gradient)
        assert torch.allclose(found.axes @ found.gradient, gradient)
        passed = found.axes @ found.passed
        assert torch.allclose(passed / passed.norm(), truth / truth.norm())
        assert torch.allclose(found.axes.T @ found.axes, torch.eye(2, dtype=torch.float64))
        assert 0 <= found.passed[0] <= found.gradient[0] + 1e-9
        assert float(found.passed[1]) == pytest.approx(float(found.gradient[1]))


def test_where_nothing_was_seen_the_arrow_goes_straight_through():
    found = bend(torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64), solver(torch.eye(3, dtype=torch.float64)))
    assert found.passed.tolist() == pytest.approx(found.gradient.tolist()) and found.ellipse == pytest.approx((1, 1))


def test_spill_is_the_change_of_outputs_elsewhere_by_that_at_hand():
    layer = torch.nn.Linear(5, 3, bias=False).double()
    change = torch.randn(3, 5, dtype=torch.float64)
    here, elsewhere = torch.randn(7, 5, dtype=torch.float64), torch.randn(11, 5, dtype=torch.float64)
    before = [layer(x).detach() for x in (here, elsewhere)]
    with torch.no_grad():
        layer.weight -= change
        pairs = zip((here, elsewhere), before, strict=True)
        moved = [float((layer(x) - y).square().sum(1).mean().sqrt()) for x, y in pairs]
    assert spill(change, elsewhere, here) == pytest.approx(moved[1] / moved[0])


def opened(optimizer, *wanted, **settings):
    """The writes opened at (level, after so many steps), one training for all."""
    trainer = Trainer(Experiment.preset("digits-ab", optimizer=optimizer, **settings))
    if optimizer == "sgd":  # without momentum, which adds earlier gradients
        trainer.base.optimizer = torch.optim.SGD(trainer.base.parameters, lr=0.05)
    found = []
    for level, steps in wanted:
        while trainer.steps < steps:
            trainer.step()
        found.append(open_write(trainer, level)[1])
    return trainer, found


def test_the_memory_spares_a_and_gradient_descent_does_not():
    early_in_b = ("input", 69), ("medium", 71)
    for deep in opened("deep", *early_in_b)[1]:
        assert deep["earlier"] == ["A"] and deep["task"] == "B"
        spills = deep["spill"]["A"]
        assert spills["bent"] < 0.5 * spills["gradient"]
        assert spills["written"] == pytest.approx(spills["bent"], rel=1e-3)  # it wrote what the memory let pass
        assert deep["held_by"]["A"] > 0.3 and 0.9 < sum(deep["held_by"].values()) <= 1 + 1e-5
        assert deep["plane"]["written"] == pytest.approx(unit(deep["plane"]["passed"]), abs=1e-3)
    for plain in opened("sgd", *early_in_b)[1]:
        assert plain["plane"]["written"] == pytest.approx(unit(plain["plane"]["gradient"]), abs=1e-3)
        assert plain["spill"]["A"]["written"] == pytest.approx(plain["spill"]["A"]["gradient"], rel=1e-3)


def unit(vector):
    return [value / sum(one**2 for one in vector) ** 0.5 for value in vector]


def test_opening_a_write_changes_nothing_and_says_what_it_cannot_see():
    looked, (found,) = opened("deep", ("fast", 5))
    other = Trainer(Experiment.preset("digits-ab", optimizer="deep"))
    for _ in range(6):
        other.step()
    for one, two in zip(looked.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert looked.step()[0].loss == other.step()[0].loss
    assert len(found["pictures"]["gradient"]) == 32 and max(map(abs, found["pictures"]["gradient"])) <= 127
    assert found["spill"].keys() == {"A", "B"} and len(found["scores_after"]) == 10
    assert opened("adam", ("fast", 5), observe=False)[1] == [None]  # a blind memory
    assert opened("deep", ("slow", 5))[1] == [None]  # it does not write in this step
    with pytest.raises(SettingError, match="level"):
        open_write(looked, "nobody")


def test_what_is_measured_while_watching_is_what_its_write_would_be():
    acting = Trainer(Experiment.preset("digits-ab", optimizer="sgd", evaluate_every=4))
    for _ in range(15):
        acting.step()
    watching = Trainer(acting.experiment)
    watching.rewind(acting.checkpoint())
    acting.command("optimizer", "deep")
    steps = [next(event for event in trainer.step() if event.kind == "step") for trainer in (acting, watching)]
    for name, wrote in steps[0].levels.items():
        watched = steps[1].levels[name]
        assert wrote.conflict is not None and wrote.conflict == pytest.approx(watched.conflict, rel=1e-3), name
        assert wrote.novelty == pytest.approx(watched.novelty, rel=1e-2)
        assert wrote.surprise == pytest.approx(watched.surprise, rel=1e-6)


def test_a_live_run_opens_the_next_write_of_a_level_and_stands_still():
    run = LiveRun(Experiment.preset("digits-ab", optimizer="deep"))
    try:
        run.open_write("medium")
        until(lambda: run.opened)
        assert run.opened["step"] == 4 == run.state.step and not run.playing
        run.open_write("fast", after=6)
        until(lambda: run.opened)
        assert run.opened["step"] == 7 == run.state.step
        run.reset()
        until(lambda: run.generation == 1)
        assert run.opened is None
    finally:
        run.close()
