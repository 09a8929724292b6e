"""A branch is the training that it stands for, bit for bit, and the stem does not notice."""

import pytest

from nllab.errors import SettingError
from nllab.events import measured
from nllab.experiment import Experiment
from nllab.futures import Branch, branches, grow, moments
from nllab.trainer import Trainer
from nllab.workers import Pool

SMALL = Experiment.preset("digits-ab", optimizer="adam", dim=8, hidden=8, batch_size=150, evaluate_every=4)


def test_a_future_is_the_training_with_that_command():
    wanted = [Branch(at, at, (("optimizer", "deep"),)) for at in (10, 3, 7)]
    found = list(grow(Trainer(SMALL), wanted))
    assert [future.branch.at for future in found] == [3, 7, 10]
    for future in found:
        run = Trainer(SMALL).run(commands=[(future.branch.at, "optimizer", "deep")])
        assert future.curve[-1] == next((event.step, accuracy) for event, accuracy in measured(reversed(run.log)))
        told = [(event.step, accuracy) for event, accuracy in measured(run.log) if event.step >= future.branch.at]
        assert future.curve == told


def test_a_knob_is_turned_from_the_first_step():
    found = {f.branch.value: f.curve[-1] for f in grow(Trainer(SMALL), branches(Trainer(SMALL), "retention"))}
    run = Trainer(SMALL.but(optimizer="deep")).run(commands=[(1, "retention", 0.8)])
    assert found[0.8] == next((event.step, accuracy) for event, accuracy in measured(reversed(run.log)))
    assert found[0.8] != found[1.0]


def test_moments_are_dense_where_a_task_begins_and_cover_the_plan():
    trainer = Trainer(Experiment.preset("digits-ab"))
    found = moments(trainer, 20)
    assert len(found) <= 20 and found == sorted(set(found)) and found[0] == 1 and found[-1] == trainer.planned_steps
    assert {69, 71, 74, 79, 89} <= set(found)
    many = moments(Trainer(Experiment.preset("permuted-digits-5", epochs=1)), 20)
    assert len(many) <= 20 and many[0] == 1
    with pytest.raises(SettingError, match="knob"):
        branches(trainer, "luck")


@pytest.mark.slow  # a process that loads torch
def test_a_worker_trains_them_in_the_background():
    pool = Pool(1)
    try:
        job = pool.submit("somebody", SMALL, knob="toggle", count=3)
        while not job.is_over:
            job.over.wait(60)
        assert job.error is None and job.tasks == ("A", "B") and len(job.futures) == 3
        (first, *_), direct = job.futures, list(grow(Trainer(SMALL), [Branch(1, 1, (("optimizer", "deep"),))]))[0]
        assert first["value"] == 1 and first["curve"][-1] == [direct.curve[-1][0], direct.curve[-1][1]]
        assert pool.submit("somebody", SMALL, knob="luck").over.wait(60)
    finally:
        pool.close()
