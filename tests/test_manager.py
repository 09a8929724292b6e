import random

import pytest

from nllab.optim import manager as m
from nllab.optim.manager import Manager


def live(manager, steps, wrong=0.0, novelty=0.7, errors=lambda step: ()):
    """Feed `steps` equal steps; every decision on the way."""
    found = []
    for step in range(steps):
        manager.observe(wrong, novelty, errors(step))
        found.append(manager.decide())
    return [decision for decision in found if decision]


def settled():
    """A manager that has heard ten right answers and makes few errors."""
    manager = Manager(loose=False)
    assert live(manager, 100, wrong=0.02, errors=lambda step: [((step + 1) % 10, step % 10)]) == []
    return manager


def repeating(step):
    return [(i, (i + 1) % 10) for i in range(10)]


def contradicting(step):
    draw = random.Random(step)
    return [(i, draw.choice([j for j in range(10) if j != i])) for i in range(10)]


def neutral(manager):
    return (manager.attention, manager.rate, manager.retention(True), manager.retention(False)) == (0.0, 1.0, 1.0, 1.0)


def test_a_quiet_stream_is_left_alone():
    assert neutral(settled())


def test_the_first_errors_of_a_life_are_no_event():
    manager = Manager()
    found = [live(manager, 1, wrong=max(0.02, 0.9 - 0.03 * i)) for i in range(60)]
    assert not any(found) and neutral(manager)


def test_known_answers_on_new_inputs_let_hidden_levels_loose_and_nothing_is_forgotten():
    manager = settled()
    decisions = live(manager, 5, wrong=0.9, novelty=2.5)
    assert manager.situation == m.WORLD and manager.attention > 0 and manager.rate == 1
    assert manager.retention(True) == manager.retention(False) == 1
    assert "new directions" in decisions[-1].text and decisions[-1].did["attention"] == m.ATTENTION
    assert (
        manager.hidden_rate(0.3, 3 * m.HORIZON) == 3
        and manager.hidden_rate(0.3, 0) == 0.3
        and manager.hidden_rate(0.0, 1e9) == 0
    )
    over = live(manager, 30, wrong=0.02, novelty=1.5)
    assert len(over) == 1 and neutral(manager) and manager.loose, "the inputs are still those of the new task"


def test_new_answers_on_familiar_inputs_are_a_new_task_however_much_their_errors_agree():
    """Two new classes at a time: every error is called one of two things, and still the world has not changed its
    answers."""
    manager = settled()
    live(manager, 10, wrong=1.0, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert manager.situation == m.TASK and manager.retention(True) == 1


def test_new_answers_make_hidden_levels_careful_again():
    manager = settled()
    live(manager, 5, wrong=0.9, novelty=2.5)
    live(manager, 30, wrong=0.02, novelty=1.5)
    live(manager, 10, wrong=1.0, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert manager.situation == m.TASK and not manager.loose and manager.hidden_rate(0.3, 1e9) == 0.3


def test_in_the_first_task_hidden_levels_are_let_loose_until_new_answers_come():
    manager = Manager()
    assert manager.hidden_rate(0.3, 3 * m.HORIZON) == 3
    live(manager, 100, wrong=0.02, errors=lambda step: [((step + 1) % 10, step % 10)])
    assert manager.loose
    live(manager, 10, wrong=1.0, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert manager.situation == m.TASK and not manager.loose


def test_room_is_made_only_for_levels_that_learn():
    manager = settled()
    manager.hidden = False
    live(manager, 3 * m.CROWDED, wrong=0.6, novelty=2.5)
    assert manager.situation == m.WORLD and manager.retention(True) == manager.retention(False) == 1


def test_new_inputs_that_stay_hard_make_room():
    manager = settled()
    live(manager, 3, wrong=0.9, novelty=2.5)
    decisions = live(manager, m.CROWDED + 1, wrong=0.6, novelty=1.5)
    assert (
        manager.situation == m.FULL
        and manager.retention(False) == m.FOLLOW
        and "stand in its way" in decisions[-1].text
    )


def test_new_answers_that_stay_hard_cost_no_old_ones():
    """New classes may be harder than those before; that is no reason to forget."""
    manager = settled()
    live(manager, 5 * m.CROWDED, wrong=0.6, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert manager.situation == m.TASK and manager.retention(True) == manager.retention(False) == 1


def test_errors_that_repeat_on_familiar_inputs_make_the_output_layer_forget_alone():
    manager = settled()
    live(manager, 10, wrong=1.0, errors=repeating)
    assert manager.situation == m.CHANGED
    assert manager.retention(True) == m.FORGET and manager.retention(False) == 1 and manager.rate == 1


def test_a_few_errors_between_classes_that_are_alike_are_no_change():
    manager = settled()
    live(manager, 20, wrong=0.25, errors=lambda step: [(4, 2), (6, 0)])
    assert manager.situation == m.UNSURE and neutral(manager)


def test_errors_that_contradict_each_other_are_noise():
    manager = settled()
    live(manager, 20, wrong=0.9, errors=contradicting)
    assert (
        manager.situation == m.NOISE
        and manager.rate == m.DOUBT
        and manager.retention(True) == 1
        and manager.attention == 0
    )
    live(manager, 30, wrong=0.02)
    assert neutral(manager)


def test_noise_that_turns_out_to_be_a_change_is_told_again():
    manager = settled()
    live(manager, 20, wrong=0.9, errors=contradicting)
    live(manager, 20, wrong=0.9, errors=repeating)
    assert manager.situation == m.CHANGED


def test_inputs_that_get_newer_all_the_time_are_a_drift():
    manager = settled()
    for step in range(200):
        live(manager, 1, wrong=0.04, novelty=1 + 0.01 * step)
    assert manager.situation == m.DRIFT and manager.retention(True) == manager.retention(False) == m.FOLLOW


def test_inputs_hardly_newer_than_what_is_remembered_are_no_drift():
    manager = settled()
    for step in range(400):
        live(manager, 1, wrong=0.04, novelty=1 + 0.0001 * step)
    assert manager.situation == m.STEADY


@pytest.mark.parametrize("jump", [2.0, 5.0])
def test_what_fades_after_a_jump_is_no_drift(jump):
    manager = settled()
    live(manager, 5, wrong=0.9, novelty=jump)
    for step in range(300):
        live(manager, 1, wrong=0.02, novelty=1 + (jump - 1) / (1 + step / 10))
    assert manager.situation == m.STEADY


def test_state_goes_on_where_it_was():
    manager = settled()
    live(manager, 7, wrong=0.9, errors=contradicting)
    again = Manager.of_state(manager.state())
    assert again == manager and again.last_error is not manager.last_error
    assert live(manager, 30, wrong=0.9, errors=repeating) == live(again, 30, wrong=0.9, errors=repeating)
    assert manager == again


def test_what_was_taken_for_noise_is_a_new_task_once_its_inputs_prove_new():
    manager = settled()
    live(manager, 60, wrong=0.9, errors=contradicting)
    assert manager.situation == m.NOISE and manager.rate == m.DOUBT
    live(manager, 5, wrong=0.9, novelty=2.5)
    assert manager.situation == m.WORLD and manager.rate == 1
