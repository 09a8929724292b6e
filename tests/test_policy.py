import random

import pytest

from nllab.optim import policy as m
from nllab.optim.policy import Policy, Settings


def live(policy, steps, wrong=0.0, novelty=0.7, errors=lambda step: ()):
    """Feed `steps` equal steps; every decision on the way."""
    found = []
    for step in range(steps):
        policy.observe(wrong, novelty, errors(step))
        found.append(policy.decide())
    return [decision for decision in found if decision]


def settled():
    """A policy that has seen ten classes and makes few errors."""
    policy = Policy()
    assert live(policy, 100, wrong=0.02, errors=lambda step: [((step + 1) % 10, step % 10)]) == []
    return policy


def repeating(step):
    return [(i, (i + 1) % 10) for i in range(10)]


def contradicting(step):
    draw = random.Random(step)
    return [(i, draw.choice([j for j in range(10) if j != i])) for i in range(10)]


def neutral(policy):
    return policy.settings == Settings()


def test_a_quiet_stream_is_left_alone():
    assert neutral(settled())


def test_the_first_errors_of_a_life_are_no_event():
    policy = Policy()
    found = [live(policy, 1, wrong=max(0.02, 0.9 - 0.03 * i)) for i in range(60)]
    assert not any(found) and neutral(policy)


def test_known_answers_on_new_inputs_are_a_new_task_and_nothing_is_forgotten():
    policy = settled()
    decisions = live(policy, 5, wrong=0.9, novelty=2.5)
    assert policy.situation == m.NEW_INPUTS and neutral(policy) and "new directions" in decisions[-1].text
    assert len(live(policy, 30, wrong=0.02, novelty=1.5)) == 1 and policy.situation == m.STEADY


def test_new_inputs_that_stay_hard_are_neither_noise_nor_a_shift_of_labels():
    policy = settled()
    live(policy, 60, wrong=0.6, novelty=2.5, errors=repeating)
    assert policy.situation == m.NEW_INPUTS and neutral(policy)


def test_new_answers_on_familiar_inputs_are_a_new_task_however_much_their_errors_agree():
    """Two new classes at a time: every error is called one of two things, and still the world has not changed its
    answers."""
    policy = settled()
    live(policy, 10, wrong=1.0, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert policy.situation == m.NEW_CLASSES and neutral(policy)


def test_new_answers_that_stay_hard_cost_no_old_ones():
    """New classes may be harder than those before; that is no reason to forget."""
    policy = settled()
    live(policy, 50, wrong=0.6, errors=lambda step: [(i, 10 + i % 2) for i in range(10)])
    assert policy.situation == m.NEW_CLASSES and neutral(policy)


def test_errors_that_repeat_on_familiar_inputs_make_the_head_forget_alone():
    policy = settled()
    live(policy, 10, wrong=1.0, errors=repeating)
    assert policy.situation == m.LABEL_SHIFT
    assert policy.settings == Settings(1.0, 1.0, 0.9, 1.0)


def test_a_few_errors_between_classes_that_are_alike_are_no_change():
    policy = settled()
    live(policy, 20, wrong=0.25, errors=lambda step: [(4, 2), (6, 0)])
    assert policy.situation == m.UNSURE and neutral(policy)


def test_errors_that_contradict_each_other_are_noise():
    policy = settled()
    live(policy, 20, wrong=0.9, errors=contradicting)
    assert policy.situation == m.NOISE and policy.settings == Settings(rate=0.1)
    live(policy, 30, wrong=0.02)
    assert neutral(policy)


def test_noise_that_turns_out_to_be_a_change_is_reported_again():
    policy = settled()
    live(policy, 20, wrong=0.9, errors=contradicting)
    live(policy, 20, wrong=0.9, errors=repeating)
    assert policy.situation == m.LABEL_SHIFT


def test_inputs_that_get_newer_all_the_time_are_a_drift():
    policy = settled()
    for step in range(200):
        live(policy, 1, wrong=0.04, novelty=1 + 0.01 * step)
    assert policy.situation == m.DRIFT and policy.settings == Settings(0.0, 1.0, 0.99, 0.99)


def test_inputs_hardly_newer_than_what_is_remembered_are_no_drift():
    policy = settled()
    for step in range(400):
        live(policy, 1, wrong=0.04, novelty=1 + 0.0001 * step)
    assert policy.situation == m.STEADY


@pytest.mark.parametrize("jump", [2.0, 5.0])
def test_what_fades_after_a_jump_is_no_drift(jump):
    policy = settled()
    live(policy, 5, wrong=0.9, novelty=jump)
    for step in range(300):
        live(policy, 1, wrong=0.02, novelty=1 + (jump - 1) / (1 + step / 10))
    assert policy.situation == m.STEADY


def test_state_goes_on_where_it_was():
    policy = settled()
    live(policy, 7, wrong=0.9, errors=contradicting)
    again = Policy.of_state(policy.state())
    assert again == policy and again.last_error is not policy.last_error
    assert live(policy, 30, wrong=0.9, errors=repeating) == live(again, 30, wrong=0.9, errors=repeating)
    assert policy == again


def test_what_was_taken_for_noise_is_a_new_task_once_its_inputs_prove_new():
    policy = settled()
    live(policy, 60, wrong=0.9, errors=contradicting)
    assert policy.situation == m.NOISE and policy.settings.rate == 0.1
    live(policy, 5, wrong=0.9, novelty=2.5)
    assert policy.situation == m.NEW_INPUTS and policy.settings.rate == 1
