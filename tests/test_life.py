"""A long life: what is measured of it, on lives short enough to follow by hand."""

import pytest
import torch

from nllab.bench import life
from nllab.errors import SettingError
from nllab.streams.stream import Images, Part


@pytest.fixture(scope="module")
def images():
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 8, generator=draw)
    labels = torch.arange(3).repeat(40)
    inputs = centres[labels] + 0.1 * torch.randn(120, 8, generator=draw)
    part = Part(inputs, labels)
    return Images(part, part[:0], part[:30], classes=3, image_shape=(2, 4))


def test_every_task_has_an_order_of_its_own_and_seeds_draw_others(images):
    orders = [train.inputs[0].tolist() for train, _ in life.tasks_of(images, 4, 0)]
    assert len({tuple(row) for row in orders}) == 4 and all(sorted(row) == sorted(orders[0]) for row in orders)
    assert [train.inputs[0].tolist() for train, _ in life.tasks_of(images, 4, 0)] == orders
    assert next(life.tasks_of(images, 1, 1))[0].inputs[0].tolist() != orders[0]
    for train, test in life.tasks_of(images, 2, 0):
        assert torch.equal(train.inputs[:30], test.inputs)  # both parts in the same order


@pytest.mark.parametrize("learner", ["deep", "adam"])
def test_a_life_counts_before_it_learns_and_keeps_constant_memory(images, learner, monkeypatch):
    monkeypatch.setattr(life, "ENDS", 6)  # by then the first window of realignment is open
    monkeypatch.setattr(life, "RECENT", 2)
    changes = {"optimizer": "adam", "learning_rate": 1e-3, "loss": "cross_entropy"}
    found = life.live(learner, changes, images, 12, 0)
    assert len(found.online) == 12 and len(found.learned) == len(found.kept) == 2 and not found.diverged
    assert found.learned[-1] == found.kept[-1]  # nothing came after the last task
    assert found.bytes[0] > 0 and found.bytes[1] <= 1.5 * found.bytes[0]
    assert found == life.live(learner, changes, images, 12, 0)


def test_a_life_that_diverges_says_so_and_has_no_scores(images):
    found = life.live("sgd", {"optimizer": "sgd", "learning_rate": 1e6, "loss": "squared_error"}, images, 3, 0)
    assert found.diverged and set(life.scores_of(found).values()) == {None}


def test_scores_are_shares_of_the_first_tasks_and_of_what_was_learned():
    online = [0.5] * 100 + [0.1] * 600 + [0.4] * 100
    found = life.scores_of(life.Life(online, [0.8, 0.6], [0.4, 0.3], (1, 1), False))
    assert found["lasting"] == pytest.approx(0.8) and found["share_kept"] == pytest.approx(0.5)


def test_settings_are_chosen_under_orders_that_are_not_reported(images, monkeypatch):
    asked = []

    def fake(learner, changes, images, tasks, seed):
        asked.append((changes["learning_rate"], seed))
        return life.Life([0.0, changes["learning_rate"]], [], [], (0, 0), changes["learning_rate"] > 2e-3)

    monkeypatch.setattr(life, "live", fake)
    best, scores = life.chosen("adam", images, 6, 2)
    assert best["optimizer"] == "adam" and best["learning_rate"] == 1e-3  # 3e-3 diverged
    assert len(scores) == 6 and None in scores and {seed for _, seed in asked} == {life.OTHER_LIFE}
    assert life.chosen("deep", images, 6, 2) == ({}, [])


def test_an_unknown_learner_is_named():
    with pytest.raises(SettingError, match="Did you mean 'adam'"):
        life.run_life(learners=["adm"])
