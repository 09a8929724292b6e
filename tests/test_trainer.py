import math

import pytest
import torch
from torch import nn

from nllab.errors import SettingError
from nllab.events import Answers, End, Experience, Network, Samples, Step, Surface, Switch, Where
from nllab.experiment import BASE_OPTIMIZERS, Experiment
from nllab.run_io import load_run
from nllab.streams import build
from nllab.trainer import Trainer, replay, train

SMALL = {"dim": 32, "hidden": 32, "batch_size": 40}


def small(**changes):
    return Experiment.preset("digits-ab", **{**SMALL, **changes})


@pytest.fixture(scope="module")
def measured():
    """A run that was measured on the way, for tests that only read it."""
    return train(small(evaluate_every=20))


def steps_of(rows):
    return [row for row in rows if isinstance(row, Step)]


def test_same_experiment_same_rows_bit_for_bit():
    first, again, other = (train(small(batch_size=100, seed=seed)).log for seed in (0, 0, 1))
    assert first == again != other


def test_measuring_draws_no_randomness_and_changes_nothing():
    often, seldom = (train(small(batch_size=100, evaluate_every=every)) for every in (1, 1000))
    for run in (often, seldom):
        run.log = [
            row for row in run.log if not isinstance(row, (Where, Answers, Network))
        ]  # pictures are measurements too
        for row in run.of(Step):
            row.accuracy = None
            for level in row.levels.values():
                level.surprise = level.novelty = level.conflict = level.held = None
    assert often.log == seldom.log


def test_a_trainer_leaves_torchs_own_generator_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    Trainer(small()).step()
    assert torch.equal(before, torch.get_rng_state())


def test_writes_are_measured_from_the_weights_and_follow_the_schedule():
    run = train(small(periods=(1, 3, 7), input_period=2, optimizer="adam"))
    writes = {name: [row.step for row in steps_of(run.log) if row.levels[name].wrote] for name in run.levels}
    # The head starts at zero, so nothing reaches the levels below in the first batch: period 1 starts to write at step
    # 2.
    expected = {
        "input": range(2, 35, 2),
        "fast": range(2, 35),
        "medium": range(3, 35, 3),
        "slow": range(7, 35, 7),
        "head": range(1, 35),
    }
    assert run.steps == 34 and writes == {name: list(steps) for name, steps in expected.items()}
    assert run.update_counts == {name: len(steps) for name, steps in expected.items()}


def test_drift_is_the_relative_distance_of_the_weights():
    trainer = Trainer(small())
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    rows = [row for _ in range(20) for row in trainer.step()]
    now = dict(trainer.model.named_parameters())

    def distance(level, origin):
        names = [name for name in start if name.startswith(level)]
        moved = torch.cat([(now[name].detach() - origin[name]).flatten() for name in names])
        return float(moved.norm() / torch.cat([origin[name].flatten() for name in names]).norm())

    last = steps_of(rows)[-1].levels
    assert last["input"].drift == pytest.approx(distance("input", start), rel=1e-5)
    assert last["fast"].drift == pytest.approx(distance("memory.blocks.fast", start), rel=1e-5)
    switched = steps_of(rows)[17].levels["input"]  # task B began with step 18
    assert 0 < switched.drift_since_switch < switched.drift


def test_commands_take_effect_at_the_next_step_and_replay_gives_the_same_rows():
    trainer = Trainer(small())
    rows = [row for _ in range(5) for row in trainer.step()]
    trainer.command("optimizer", "sgd")
    trainer.command("period", ["slow", 2])
    rows += trainer.step()
    trainer.command("learning_rate", 0.2)
    trainer.command("optimizer", "deep")
    trainer.command("rate", 0.5)
    trainer.command("retention", 0.9)
    rows += trainer.step()
    trainer.command("teach", "B")
    while not trainer.done:
        rows += trainer.step()
    trainer.command("teach", "A")
    rows += [row for _ in range(3) for row in trainer.step()]
    from nllab.runs import Run

    run = Run.begin(
        trainer.experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels}
    )
    run.extend(rows)
    assert run.commands[:2] == [(6, "optimizer", "sgd"), (6, "period", ["slow", 2])]
    writers = [row.optimizer for row in steps_of(rows)]
    assert writers[:7] == ["deep"] * 5 + ["sgd", "deep"]
    assert steps_of(rows)[5].levels["slow"].wrote
    assert [row.task for row in run.of(Switch)] == ["A", "B", "A"]
    assert replay(run).log == run.log


@pytest.mark.parametrize("after", [2, 9, 11])  # within A, at its end, within B
def test_rewinding_repeats_what_followed(after):
    trainer = Trainer(small(optimizer="adam", batch_size=80))
    for _ in range(after):
        trainer.step()
    checkpoint = trainer.checkpoint()
    trainer.command("optimizer", "deep")
    trainer.command("period", ["medium", 2])
    first = [trainer.step() for _ in range(5)]
    for _ in range(2):
        trainer.rewind(checkpoint)
        trainer.command("optimizer", "deep")
        trainer.command("period", ["medium", 2])
        assert [trainer.step() for _ in range(5)] == first


def test_the_frozen_twin_writes_its_head_alone():
    run = train(small(frozen=True, batch_size=100))
    assert run.update_counts == {"input": 0, "fast": 0, "medium": 0, "slow": 0, "head": run.steps}
    assert run.of(Step)[-1].levels["slow"].drift == 0


def test_a_joint_run_is_one_experience_of_everything():
    run = train(small(joint=True, batch_size=100))
    assert [row.task for row in run.of(Switch)] == ["all"] and run.steps == math.ceil(1347 / 100)
    assert run.summary["a_after_a"] is None and run.summary["average_accuracy"] > 0.8


def test_hope_reads_images_row_by_row_and_its_levels_keep_their_periods():
    fast = {"optimizer": "adam", "learning_rate": 0.01, "evaluate_every": 1000, "observe": False}
    run = train(small(model="hope", periods=(1, 2), dim=16, hidden=16, **fast))
    assert run.levels == {"input": 1, "mixer": 1, "fast": 1, "slow": 2, "head": 1} and run.accuracy_matrix[0, 0] > 0.5
    assert run.update_counts == {
        "input": run.steps - 1,
        "mixer": run.steps - 1,
        "fast": run.steps - 1,
        "slow": run.steps // 2,
        "head": run.steps,
    }
    with pytest.raises(SettingError, match="plane-ab.*Take model=cms"):
        Trainer(Experiment.preset("plane-ab", model="hope"))


def test_memory_levels_may_stand_side_by_side():
    run = train(small(variant="independent", periods=(1, 2, 5), batch_size=100))
    assert run.accuracy_matrix[0, 0] > 0.9 and run.update_counts["slow"] == 2


def test_nested_levels_start_anew_when_the_next_slower_one_has_written():
    trainer = Trainer(small(variant="nested", periods=(1, 2, 8), optimizer="adam"))
    start = trainer.model.memory.flat("fast").detach().clone()
    anew = [i for i in range(1, 18) if trainer.step() and torch.equal(trainer.model.memory.flat("fast"), start)]
    assert anew == [1, *range(2, 18, 2)]  # at step 1 no gradient has come through the head yet
    with pytest.raises(SettingError, match="each dividing the next"):
        Trainer(small(variant="nested", periods=(2, 3)))


@pytest.mark.parametrize("name", BASE_OPTIMIZERS)
def test_every_plain_optimizer_learns_task_a(name):
    trainer = Trainer(small(optimizer=name, epochs=2, batch_size=30, evaluate_every=1000, observe=False))
    run = trainer.run(steps=trainer.experience_length)
    assert run.accuracy_matrix[0, 0] > 0.7


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_its_events():
    trainer = Trainer(small(optimizer="sgd", learning_rate=1e5))
    run = trainer.run()
    end = run.of(End)[0]
    assert trainer.done and end.reason == "diverged" and "Lower learning_rate (now 100000.0)" in end.text
    assert 0 < run.steps == end.step and all(math.isfinite(row.loss) for row in steps_of(run.log))


def test_a_user_may_bring_model_stream_and_optimizer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    trainer = Trainer(small(optimizer="sgd"), model=model, stream=build("digits-5x2"), optimizer=optimizer)
    run = trainer.run()
    assert run.levels == {"all": 1} and run.tasks == ("A", "B", "C", "D", "E") and run.accuracy_matrix.shape == (5, 5)
    with pytest.raises(SettingError, match="optimizer of your own"):
        trainer.command("optimizer", "adam")


def test_without_observation_the_memory_starts_at_the_toggle():
    watched, blind = Trainer(small(optimizer="adam")), Trainer(small(optimizer="adam", observe=False))
    for trainer in (watched, blind):
        for _ in range(3):
            trainer.step()
    head = {trainer: trainer.deep.state[trainer.model.head.weight]["context"].matrix for trainer in (watched, blind)}
    assert torch.equal(head[blind], 0.1 * torch.eye(33)) and not torch.equal(head[watched], 0.1 * torch.eye(33))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer", "adma", "Did you mean 'adam'"),
        ("teach", "C", "Unknown task 'C'"),
        ("period", ["slow", 0], "period is 0"),
        ("period", ["slwo", 3], "Did you mean 'slow'"),
        ("period", "slow", "period is None"),
        ("learning_rate", -1, "learning_rate is -1"),
        ("rate", math.inf, "rate is inf"),
        ("retention", 2, "retention is 2"),
        ("speed", 2, "Unknown command 'speed'"),
    ],
)
def test_impossible_commands_are_named_and_change_nothing(name, value, message):
    trainer = Trainer(small())
    with pytest.raises(SettingError, match=message):
        trainer.command(name, value)
    assert not trainer.waiting


def test_a_saved_run_comes_back_whole(tmp_path, measured):
    again = load_run(measured.save(tmp_path / "run"))
    assert again == measured and again.summary == measured.summary
    assert again.events.equals(measured.events)


def test_pictures_say_where_weights_moved_and_what_is_answered(measured):
    run = measured
    drift = {name: level.drift for name, level in run.of(Step)[-1].levels.items()}
    last = run.of(Where)[-1]
    assert last.step == run.steps and set(last.levels) == set(run.levels)
    (grid,) = last.levels["input"]
    mean_square = sum(value**2 for line in grid for value in line) / sum(map(len, grid))
    assert mean_square**0.5 == pytest.approx(
        drift["input"], rel=0.2
    )  # equal blocks of one matrix; its bias is not in the picture
    samples, told = run.of(Samples)[0].tasks, run.of(Answers)[-1].answers
    assert {name: len(task.labels) for name, task in samples.items()} == {"A": 40, "B": 40}
    right = {name: sum(a == b for a, b in zip(told[name], samples[name].labels, strict=True)) / 40 for name in told}
    accuracy = run.of(Experience)[-1].accuracy
    assert all(abs(right[name] - accuracy[name]) < 0.3 for name in "AB")
    assert len(samples["A"].images[0]) == 64 and set("".join(samples["A"].images)) <= set("0123456789abcdef")


def test_the_pictures_of_a_long_run_stay_few():
    trainer = Trainer(small(evaluate_every=1, epochs=1000))
    told = 0
    for trainer.steps in range(1, 20_001):
        told += trainer.snapshots.due(trainer.steps)
    assert told < 400


def test_the_surface_is_what_the_model_answers():
    trainer = Trainer(Experiment(stream="plane-ab", dim=16, hidden=16, batch_size=50, evaluate_every=10))
    run = trainer.run()
    last = run.of(Surface)[-1]
    left, _, bottom, _ = last.span
    assert int(last.classes[0][0], 16) == int(trainer.model(torch.tensor([[left, bottom]])).argmax())
    assert len(last.classes) == len(last.classes[0]) == 40 and len(run.of(Samples)[0].tasks["A"].points) == 100


def test_tasks_are_taught_in_the_order_asked_for():
    run = train(small(batch_size=200, order=("B", "A", "B")))
    assert [row.task for row in run.of(Switch)] == ["B", "A", "B"] and run.visits == (1, 0, 1)
    assert replay(run).log == run.log
    with pytest.raises(SettingError, match="Unknown task 'C'"):
        Trainer(small(order=("A", "C")))
