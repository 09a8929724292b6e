import math

import torch

import nllab
from nllab.events import Switch
from tests.course.wrong import wrong

SMALL = {"dim": 64, "hidden": 64, "periods": (1,), "evaluate_every": 1000, "observe": False}


@wrong("09.1")
def nats_in_place_of_bits(scores, targets):
    return float(torch.nn.functional.cross_entropy(scores, targets, ignore_index=-100))


@wrong("09.1")
def ignored_rows_count_as_free(scores, targets):
    total = torch.nn.functional.cross_entropy(scores, targets, ignore_index=-100, reduction="sum")
    return float(total) / len(targets) / math.log(2)


@wrong("09.1")
def softmax_by_hand(scores, targets):
    asked = targets != -100
    chances = scores[asked].exp() / scores[asked].exp().sum(1, keepdim=True)
    return float(-chances[torch.arange(int(asked.sum())), targets[asked]].log2().mean())


@wrong("09.1")
def bits_of_the_mean_probability(scores, targets):
    asked = targets != -100
    chances = scores[asked].softmax(1)[torch.arange(int(asked.sum())), targets[asked]]
    return float(-chances.mean().log2())


@wrong("09.1")
def scores_taken_as_probabilities(scores, targets):
    asked = targets != -100
    return float(-scores[asked].clamp(min=1e-9)[torch.arange(int(asked.sum())), targets[asked]].log2().mean())


def counted(texts, classes, retention, prior, starts=True, ends=True, by_text=False, rows=True):
    counts = torch.zeros(classes, classes)
    for text in texts:
        counts = retention * counts if by_text else counts
        whole = [0] * starts + list(text) + [0] * ends
        for before, after in zip(whole, whole[1:], strict=False):
            counts = counts if by_text else retention * counts
            counts[before, after] += 1
    counts = counts + prior
    return counts / counts.sum(1 if rows else 0, keepdim=True)


@wrong("09.2")
def forgets_the_start_of_a_text(texts, classes, retention, prior):
    return counted(texts, classes, retention, prior, starts=False)


@wrong("09.2")
def forgets_the_end_of_a_text(texts, classes, retention, prior):
    return counted(texts, classes, retention, prior, ends=False)


@wrong("09.2")
def decays_once_a_text(texts, classes, retention, prior):
    return counted(texts, classes, retention, prior, by_text=True)


@wrong("09.2")
def what_came_before_in_place_of_what_comes_next(texts, classes, retention, prior):
    return counted(texts, classes, retention, prior, rows=False)


@wrong("09.2")
def counts_in_place_of_probabilities(texts, classes, retention, prior):
    return counted(texts, classes, retention, prior) * 7


@wrong("09.2")
def decays_the_prior_as_well(texts, classes, retention, prior):
    counts = torch.full((classes, classes), prior)
    for text in texts:
        for before, after in zip([0, *text], [*text, 0], strict=True):
            counts = retention * counts
            counts[before, after] += 1
    return counts / counts.sum(1, keepdim=True)


def names(**changes):
    return nllab.Experiment.preset("names-ab", **{"optimizer": "adam", **SMALL, "evaluate_on": "validation", **changes})


@wrong("09.3")
def adam_at_its_usual_rate():
    return nllab.train(names(batch_size=128))


@wrong("09.3")
def the_best_run_of_the_notebook_again():
    return nllab.train(names(batch_size=128, learning_rate=1e-2))


@wrong("09.3")
def sleeps_through_turkish():
    experiment = names(batch_size=128)
    start = nllab.train(experiment, steps=150).of(Switch)[1].step
    return nllab.train(experiment, commands=[(start, "learning_rate", 0.0)])


@wrong("09.3")
def stopped_before_the_end():
    return nllab.train(names(batch_size=128), steps=150)


@wrong("09.3")
def chosen_on_test_names():
    return nllab.train(names(batch_size=1000, evaluate_on="test"))


@wrong("09.3")
def a_wider_network():
    return nllab.train(names(batch_size=1000, dim=128))


@wrong("09.3")
def both_languages_at_once():
    return nllab.train(names(batch_size=1000, joint=True))


def table(count, classes, targets, right, other=0.0):
    made = torch.full((count, classes), 0.01)
    made[torch.arange(count), targets] = right
    made[torch.arange(count), (targets + 1) % classes] += other
    return made / made.sum(1, keepdim=True)


@wrong("09.4")
def better_in_both(count, classes):
    targets = torch.zeros(count, dtype=torch.int64)
    return table(count, classes, targets, 1.0), table(count, classes, targets, 0.4, 0.5), targets


@wrong("09.4")
def the_same_table_twice(count, classes):
    targets = torch.zeros(count, dtype=torch.int64)
    first = table(count, classes, targets, 1.0)
    return first, first, targets


@wrong("09.4")
def in_the_other_order(count, classes):
    targets = torch.zeros(count, dtype=torch.int64)
    first = table(count, classes, targets, 1.0)
    first[0] = 1e-30
    first[0, 1] = 1 - (classes - 1) * 1e-30
    return table(count, classes, targets, 0.5, 0.51), first, targets


@wrong("09.4")
def certain_where_it_is_wrong(count, classes):
    targets = torch.zeros(count, dtype=torch.int64)
    first = torch.eye(classes)[targets]
    first[0] = torch.eye(classes)[1]
    return first, table(count, classes, targets, 0.5, 0.51), targets
