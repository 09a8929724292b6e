import numpy as np
import torch

import nllab
from nllab.methods.setups import SETUPS
from tests.course.wrong import wrong


@wrong("10.1")
def square_of_the_mean_gradient(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    drawn = torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
    return ((drawn - p).T @ inputs / len(inputs)).square()


@wrong("10.1")
def of_the_likeliest_class_alone(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    drawn = torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
    return (drawn - p).square().T @ inputs.square() / len(inputs)


@wrong("10.1")
def one_draw_for_each_sample(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    drawn = torch.nn.functional.one_hot(torch.multinomial(p, 1)[:, 0], p.shape[1])
    return (drawn - p).square().T @ inputs.square() / len(inputs)


@wrong("10.1")
def the_sum_in_place_of_the_mean(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    return (p * (1 - p)).T @ inputs.square()


@wrong("10.1")
def without_the_chance_of_the_class(weight, inputs):
    p = torch.softmax(inputs @ weight.T, dim=1)
    return ((1 - p).square()).T @ inputs.square() / len(inputs)


@wrong("10.2")
def the_first_ones(stream, capacity, random):
    return [item for n, item in enumerate(stream) if n < capacity]


@wrong("10.2")
def the_last_ones(stream, capacity, random):
    kept = []
    for item in stream:
        kept = [*kept, item][-capacity:]
    return kept


@wrong("10.2")
def always_lets_the_newcomer_in(stream, capacity, random):
    kept = []
    for n, item in enumerate(stream):
        if n < capacity:
            kept.append(item)
        else:
            kept[random.randrange(capacity)] = item
    return kept


@wrong("10.2")
def draws_among_one_too_few(stream, capacity, random):
    kept = []
    for n, item in enumerate(stream):
        if n < capacity:
            kept.append(item)
        elif (slot := random.randrange(n)) < capacity:
            kept[slot] = item
    return kept


@wrong("10.2")
def keeps_neighbours(stream, capacity, random):
    items = list(stream)
    start = random.randrange(len(items)) if items else 0
    return (items + items)[start : start + capacity] if len(items) > capacity else items


@wrong("10.2")
def keeps_the_whole_stream_first(stream, capacity, random):
    items = list(stream)
    return random.sample(items, min(capacity, len(items)))


def replayed(buffer, seed, **changes):
    settings = {**SETUPS["er"], "method_settings": {"strength": 1, "buffer": buffer}, **changes}
    return nllab.train(nllab.Experiment.preset("digits-ab", seed=seed, evaluate_every=1000, **settings))


@wrong("10.3")
def two_hundred_images_whatever_is_allowed(allowed, seed):
    return replayed(200, seed)


@wrong("10.3")
def forgets_what_adam_keeps(allowed, seed):
    return replayed(allowed // 264, seed)


@wrong("10.3")
def always_the_first_seed(allowed, seed):
    spent = replayed(0, 0).bytes_kept
    return replayed((allowed - spent) // 264, 1)


@wrong("10.3")
def the_score_in_place_of_the_run(allowed, seed):
    return replayed(0, seed).summary["average_accuracy"]


@wrong("10.3")
def another_method(allowed, seed):
    return nllab.train(nllab.Experiment.preset("digits-ab", seed=seed, **SETUPS["ewc"]))


@wrong("10.4")
def both_clear(count):
    base = np.full(count, 0.5)
    return ((base + 0.1).tolist(), base.tolist()), ((base + 0.01).tolist(), base.tolist())


@wrong("10.4")
def the_same_pair_twice(count):
    base, large = np.full(count, 0.5), np.full(count, 0.5)
    large[0] += 0.3
    return (large.tolist(), base.tolist()), (large.tolist(), base.tolist())


@wrong("10.4")
def in_the_other_order(count):
    base = np.full(count, 0.5)
    large = base.copy()
    large[0] += 0.04 * count
    return ((base + 0.01).tolist(), base.tolist()), (large.tolist(), base.tolist())


@wrong("10.4")
def as_if_the_groups_were_apart(count):
    scatter = np.linspace(0.2, 0.8, count)
    return ((scatter + 0.1).tolist(), scatter.tolist()), ((scatter + 0.01).tolist(), scatter.tolist())
