"""Portraits of small networks: what they show is what the network is, and taking one changes nothing."""

import base64
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from waiting import PATIENCE

from nllab import run_io
from nllab.errors import RunFormatError
from nllab.events import Network
from nllab.experiment import Experiment
from nllab.live import LiveRun
from nllab.trainer import Trainer

SMALL = Experiment.preset("digits-ab", dim=32, hidden=32, optimizer="adam", batch_size=40, evaluate_every=8)


def level(row, name):
    """(units, numbers) in the scale of the weights, and what is retained of each unit."""
    found = row.levels[name]
    bytes_ = np.frombuffer(base64.b64decode(found.weights), np.int8).reshape(found.units, -1)
    retained = np.frombuffer(base64.b64decode(found.retained or ""), np.uint8) / 255
    return bytes_ / 127 * found.scale, retained


def portraits(run):
    return run.of(Network)


def test_a_portrait_holds_the_weights_unit_by_unit():
    trainer = Trainer(SMALL)
    trainer.run(steps=20)
    shown, _ = level(trainer.portrait()[-1], "fast")
    block = trainer.model.memory.blocks["fast"]
    true = torch.cat([block.up.weight, block.up.bias[:, None], block.down.weight.T], 1).detach().numpy()
    assert shown.shape == (32, 32 + 1 + 32)
    assert np.abs(shown - true).max() <= np.abs(true).max() / 127


def test_the_frozen_twin_never_changes_below_its_head_and_a_learner_does():
    learner, twin = (portraits(Trainer(SMALL.but(frozen=frozen)).run(steps=20)) for frozen in (False, True))
    for name in ("input", "fast", "medium", "slow"):
        assert len({row.levels[name].weights for row in twin}) == 1
        assert len({row.levels[name].weights for row in learner}) > 1
    assert len({row.levels["head"].weights for row in twin}) > 1


def test_what_is_retained_is_all_when_a_task_ends_and_less_with_adam_than_with_the_deep_optimizer():
    left = {}
    for optimizer in ("adam", "deep"):
        rows = portraits(Trainer(SMALL.but(optimizer=optimizer)).run())
        switch = next(i for i, row in enumerate(rows) if row.levels["input"].retained)
        assert all(row.levels["head"].retained is None for row in rows[:switch])
        assert level(rows[switch], "input")[1].mean() > 0.3
        left[optimizer] = {name: level(rows[-1], name)[1].mean() for name in rows[-1].levels}
    assert all(left["deep"][name] > left["adam"][name] for name in left["deep"])


def test_a_task_that_is_just_over_is_retained_whole():
    trainer = Trainer(SMALL)
    trainer.run(steps=trainer.planned_steps)
    trainer.snapshots.portraitist.learned("A")
    assert all((level(trainer.portrait()[-1], name)[1] == 1).all() for name in ("input", "slow", "head"))


def test_the_sample_seen_has_the_scores_from_before_it_was_learned():
    trainer = Trainer(SMALL)
    trainer.run(steps=11)
    untouched = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    part = trainer.batches[0][:1]
    sample = trainer._train_part[part]
    scores = trainer.model(sample.inputs)[0].detach()
    trainer.step()
    seen = trainer.portrait()[-1].seen
    assert seen.label == int(sample.labels[0])
    assert np.allclose(seen.scores, scores, atol=2e-3)
    assert any(not torch.equal(p, untouched[name]) for name, p in trainer.model.state_dict().items())


def test_taking_portraits_changes_nothing_and_a_rewound_run_has_the_same_ones():
    watched, alone = Trainer(SMALL.but(optimizer="deep")), Trainer(SMALL.but(optimizer="deep"))
    rows, again = [], []
    for step in range(25):
        if step == 20:  # within B
            kept = watched.checkpoint()
        rows += watched.step()
        watched.portrait()
        again += alone.step()
    assert rows == again
    last = watched.portrait()
    watched.rewind(kept)
    for _ in range(5):
        watched.step()
    assert watched.portrait() == last


def test_of_a_large_network_only_what_it_answers_is_shown():
    trainer = Trainer(SMALL.but(dim=256, hidden=256))
    (shown,) = trainer.portrait()
    assert shown.kind == "answers" and set(shown.answers) == {"A", "B"} and not portraits(trainer.run(steps=9))
    names = Trainer(Experiment.preset("names-ab", dim=32, hidden=32))
    assert [event.kind for event in names.portrait()] == ["texts"]
    names.step()
    assert names.portrait() == []  # it takes as long as a step


def test_a_run_that_stands_still_sits_for_whoever_looks_and_keeps_its_pace():
    run = LiveRun(SMALL, speed=2.0)
    try:
        end = time.monotonic() + PATIENCE
        while not (taken := run.portrait()) and time.monotonic() < end:
            time.sleep(0.01)
        assert isinstance(taken[-1], Network) and taken[-1].step == 0
        begun = time.monotonic()
        run.play()
        while run.state.step < 3 and time.monotonic() < end:
            run.portrait()
            time.sleep(0.01)
        assert time.monotonic() - begun > 0.9  # two waits of half a second, however often somebody looks
        while run.portrait()[-1].step < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert run.portrait()[-1].step >= 3
    finally:
        run.close()


@pytest.mark.parametrize(
    "change", [{"weights": "AAAA"}, {"weights": "not base64!"}, {"units": -1}, {"retained": "AAAA"}]
)
def test_a_damaged_portrait_is_refused(change):
    run = Trainer(SMALL).run(steps=9)
    assert run_io.unpack("run.zip", run_io.pack(run)).log == run.log
    portrait = run.of(Network)[0]
    portrait.levels["fast"] = replace(portrait.levels["fast"], **change)
    with pytest.raises(RunFormatError):
        run_io.unpack("run.zip", run_io.pack(run))
