import torch

from tests.course.wrong import wrong


def levels(weights, periods, rate, gradients, steps, *, due=lambda step, period: step % period == 0, share=None):
    weights, history = list(weights), []
    sums = [torch.zeros_like(w) for w in weights]
    for step in range(1, steps + 1):
        found = gradients(weights, step)
        for level, period in enumerate(periods):
            sums[level] = sums[level] + found[level]
            if due(step, period):
                weights[level] = weights[level] - rate * sums[level] / (share(period) if share else 1)
                sums[level] = torch.zeros_like(sums[level])
        history.append(list(weights))
    return history


@wrong("04.1")
def as_the_bounds_are_printed(weights, periods, rate, gradients, steps):
    return levels(weights, periods, rate, gradients, steps, due=lambda step, period: step % (period + 1) == 0)


@wrong("04.1")
def mean_in_place_of_the_sum(weights, periods, rate, gradients, steps):
    return levels(weights, periods, rate, gradients, steps, share=lambda period: period)


@wrong("04.1")
def counts_steps_from_zero(weights, periods, rate, gradients, steps):
    return levels(weights, periods, rate, gradients, steps, due=lambda step, period: (step - 1) % period == 0)


@wrong("04.1")
def drops_what_is_not_due(weights, periods, rate, gradients, steps):
    weights, history = list(weights), []
    for step in range(1, steps + 1):
        found = gradients(weights, step)
        for level, period in enumerate(periods):
            if step % period == 0:
                weights[level] = weights[level] - rate * found[level]
        history.append(list(weights))
    return history


@wrong("04.1")
def never_empties_the_sum(weights, periods, rate, gradients, steps):
    weights, history = list(weights), []
    sums = [torch.zeros_like(w) for w in weights]
    for step in range(1, steps + 1):
        found = gradients(weights, step)
        for level, period in enumerate(periods):
            sums[level] = sums[level] + found[level]
            if step % period == 0:
                weights[level] = weights[level] - rate * sums[level]
        history.append(list(weights))
    return history


@wrong("04.1")
def gradients_at_the_initial_weights(weights, periods, rate, gradients, steps):
    initial = list(weights)
    return levels(weights, periods, rate, lambda now, step: gradients(initial, step), steps)


@wrong("04.1")
def one_list_again_and_again(weights, periods, rate, gradients, steps):
    last = levels(weights, periods, rate, gradients, steps)[-1]
    return [last] * steps


@wrong("04.2")
def counts_from_the_change(period, at, new_period, steps):
    before = [(step, period) for step in range(period, at, period)]
    return before + [(step, new_period) for step in range(at - 1 + new_period, steps + 1, new_period)]


@wrong("04.2")
def drops_what_was_waiting(period, at, new_period, steps):
    found, waiting = [], 0
    for step in range(1, steps + 1):
        if step == at:
            period, waiting = new_period, 0
        waiting += 1
        if step % period == 0:
            found.append((step, waiting))
            waiting = 0
    return found


@wrong("04.2")
def changes_a_step_late(period, at, new_period, steps):
    found, waiting = [], 0
    for step in range(1, steps + 1):
        waiting += 1
        if step % period == 0:
            found.append((step, waiting))
            waiting = 0
        if step == at:
            period = new_period
    return found


@wrong("04.2")
def a_period_full_at_every_write(period, at, new_period, steps):
    due = [step for step in range(1, steps + 1) if step % (period if step < at else new_period) == 0]
    return [(step, period if step < at else new_period) for step in due]


@wrong("04.3")
def random_inputs(dim):
    return torch.nn.functional.normalize(torch.randn(4, dim), dim=-1)


@wrong("04.3")
def the_same_input_four_times(dim):
    return torch.eye(dim)[:1].repeat(4, 1)


@wrong("04.3")
def inputs_of_nothing(dim):
    return torch.zeros(4, dim)


@wrong("04.3")
def two_in_turn(dim):
    return torch.eye(dim)[[0, 1, 0, 1]]


@wrong("04.3")
def too_short_to_matter(dim):
    return 1e-3 * torch.randn(4, dim)
