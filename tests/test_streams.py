import pytest
import torch

from nllab.errors import DataError, SettingError
from nllab.streams import HOME, build
from nllab.streams.stream import Part, Task, letter


def rows(part):
    return {tuple(row.tolist()) for row in part.inputs}


@pytest.mark.parametrize("name", HOME)
def test_parts_share_no_sample_and_every_task_has_them(name):
    stream = build(name, hold_out=True)
    assert stream.name == name and set(stream.plan) == set(range(len(stream.tasks)))
    for task in stream.tasks:
        train, validation, test = (rows(part) for part in (task.train, task.validation, task.test))
        assert train and validation and test
        assert not (train & test or train & validation or validation & test)


def test_holding_out_takes_from_training_alone():
    whole, held = build("digits-ab"), build("digits-ab", hold_out=True)
    for a, b in zip(whole.tasks, held.tasks, strict=True):
        assert torch.equal(a.test.inputs, b.test.inputs)
        assert rows(a.train) == rows(b.train) | rows(b.validation)


def test_digits_ab_brings_new_classes_and_5x2_two_at_a_time():
    ab, five = build("digits-ab"), build("digits-5x2")
    assert [set(task.train.labels.tolist()) for task in ab.tasks] == [{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}]
    assert [set(task.test.labels.tolist()) for task in five.tasks] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}]
    assert sum(len(task.train) + len(task.test) for task in ab.tasks) == 1797


def test_permutation_keeps_images_and_moves_their_pixels_by_seed():
    a, b = build("permuted-digits", seed=1).tasks
    assert torch.equal(a.train.labels, b.train.labels) and not torch.equal(a.train.inputs, b.train.inputs)
    assert torch.equal(a.train.inputs.sort(1).values, b.train.inputs.sort(1).values)
    assert torch.equal(b.train.inputs, build("permuted-digits", seed=1).tasks[1].train.inputs)
    assert not torch.equal(b.train.inputs, build("permuted-digits", seed=2).tasks[1].train.inputs)


def test_another_split_cuts_other_samples():
    assert rows(build("digits-ab", split=0).tasks[0].test) != rows(build("digits-ab", split=1).tasks[0].test)


def test_names_and_empty_tasks():
    assert [letter(i) for i in (0, 1, 25, 26, 52)] == ["A", "B", "Z", "A2", "A3"]
    with pytest.raises(SettingError, match="Did you mean 'digits-ab'"):
        build("digit-ab")
    some, none = Part(torch.zeros(2, 3), torch.zeros(2)), Part(torch.zeros(0, 3), torch.zeros(0))
    with pytest.raises(DataError, match="'A' has an empty train part"):
        Task("A", "", none, none, some)
