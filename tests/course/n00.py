import torch

import nllab
from nllab.events import Switch
from tests.course.wrong import wrong


def adam(**changes):
    return nllab.Experiment.preset("digits-ab", optimizer="adam", evaluate_every=1000, **changes)


def start_of_b():
    return nllab.train(adam(), steps=80).of(Switch)[1].step


@wrong("00.1")
def never_switches(step):
    return nllab.train(adam(), steps=20)


@wrong("00.1")
def one_step_late(step):
    return nllab.train(adam(), commands=[(step + 1, "optimizer", "deep")])


@wrong("00.1")
def deep_from_the_start(step):
    return nllab.train(nllab.Experiment.preset("digits-ab"), steps=20)


@wrong("00.1")
def the_score_in_place_of_the_run(step):
    return 0.5


@wrong("00.2")
def a_memory_that_watched():
    return nllab.train(adam(), commands=[(start_of_b(), "optimizer", "deep")])


@wrong("00.2")
def never_switched():
    return nllab.train(adam(observe=False))


@wrong("00.2")
def switched_before_b_began():
    return nllab.train(adam(observe=False), commands=[(start_of_b() - 10, "optimizer", "deep")])


@wrong("00.2")
def stopped_before_the_end():
    begins = start_of_b()
    return nllab.train(adam(observe=False), commands=[(begins, "optimizer", "deep")], steps=begins + 5)


@wrong("00.2")
def another_stream():
    return nllab.train(nllab.Experiment.preset("permuted-digits", optimizer="adam", observe=False), steps=5)


@wrong("00.3")
def two_facts_at_right_angles(dim):
    return torch.eye(max(dim, 2))[:2, :dim], torch.tensor([1.0, -1.0])


@wrong("00.3")
def the_same_fact_twice(dim):
    return torch.ones(2, dim), torch.ones(2)


@wrong("00.3")
def twice_the_input_twice_the_answer(dim):
    return torch.stack([torch.ones(dim), 2 * torch.ones(dim)]), torch.tensor([1.0, 2.0])


@wrong("00.3")
def inputs_of_nothing(dim):
    return torch.zeros(2, dim), torch.tensor([1.0, -1.0])
