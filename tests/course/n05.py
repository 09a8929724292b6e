import torch

from tests.course.wrong import wrong


@wrong("05.1")
def one_write_too_many(sizes, periods, steps):
    writes = [steps // period + 1 for period in periods]
    return sum(writes), sum(size * count for size, count in zip(sizes, writes, strict=True))


@wrong("05.1")
def every_level_at_every_step(sizes, periods, steps):
    return steps * len(sizes), steps * sum(sizes)


@wrong("05.1")
def in_parts_of_a_write(sizes, periods, steps):
    writes = [steps / period for period in periods]
    return sum(writes), sum(size * count for size, count in zip(sizes, writes, strict=True))


@wrong("05.1")
def the_fastest_level_alone(sizes, periods, steps):
    return steps // periods[0], sizes[0] * (steps // periods[0])


def fit(inputs, targets, weight, ridge):
    gram = ridge * torch.eye(inputs.shape[1]) + inputs.T @ (weight[:, None] * inputs)
    return torch.linalg.solve(gram, inputs.T @ (weight * targets))


@wrong("05.2")
def the_oldest_counts_most(inputs, targets, retention, ridge):
    return fit(inputs, targets, torch.tensor(float(retention)) ** torch.arange(len(inputs)), ridge)


@wrong("05.2")
def the_newest_has_faded_once(inputs, targets, retention, ridge):
    return fit(inputs, targets, torch.tensor(float(retention)) ** (torch.arange(len(inputs)).flip(0) + 1), ridge)


@wrong("05.2")
def fades_the_answers_alone(inputs, targets, retention, ridge):
    weight = torch.tensor(float(retention)) ** torch.arange(len(inputs)).flip(0)
    gram = ridge * torch.eye(inputs.shape[1]) + inputs.T @ inputs
    return torch.linalg.solve(gram, inputs.T @ (weight * targets))


@wrong("05.2")
def the_ridge_fades_as_well(inputs, targets, retention, ridge):
    weight = torch.tensor(float(retention)) ** torch.arange(len(inputs)).flip(0)
    return fit(inputs, targets, weight, max(ridge * float(retention) ** len(inputs), 1e-3))


@wrong("05.2")
def never_fades(inputs, targets, retention, ridge):
    return fit(inputs, targets, torch.ones(len(inputs)), ridge)


@wrong("05.3")
def the_same_world_twice(count, dim):
    inputs = torch.randn(count, dim)
    answers = inputs @ torch.randn(dim)
    return inputs, answers, answers


@wrong("05.3")
def noise_in_the_second(count, dim):
    inputs = torch.randn(count, dim)
    return inputs, inputs @ torch.randn(dim), torch.randn(count)


@wrong("05.3")
def a_change_that_comes_once(count, dim):
    inputs = torch.randn(count, dim)
    answers = inputs @ torch.randn(dim)
    return inputs, answers, torch.where(torch.arange(count) < count // 4, 1.0, 0.5) * answers


@wrong("05.3")
def all_weights_change(count, dim):
    inputs = torch.randn(count, dim)
    weights = torch.randn(count // 20 + 1, dim)[torch.arange(count) // 20]
    return inputs, inputs @ torch.randn(dim), (inputs * weights).sum(1)


@wrong("05.3")
def the_worlds_exchanged(count, dim):
    inputs = torch.randn(count, dim)
    answers = inputs @ torch.randn(dim)
    scale = torch.where(torch.arange(count) // 20 % 2 == 0, 1.5, 0.5)
    return inputs, scale * answers, answers


@wrong("05.3")
def nothing_to_learn(count, dim):
    return torch.randn(count, dim), torch.zeros(count), torch.zeros(count)
