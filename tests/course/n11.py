import torch

from tests.course.wrong import wrong


def along(dim, first=1.0):
    axis = torch.zeros(dim)
    axis[0] = first
    return axis


@wrong("11.1")
def rates_that_a_sigmoid_can_give(dim):
    return along(dim), torch.stack([along(dim)] * 2), torch.tensor([0.0, 1.0]), along(dim)


@wrong("11.1")
def the_symbols_exchanged(dim):
    return along(dim), torch.stack([along(dim)] * 2), torch.tensor([2.0, 0.0]), along(dim)


@wrong("11.1")
def a_rate_a_little_too_small(dim):
    return along(dim), torch.stack([along(dim)] * 2), torch.tensor([0.0, 1.5]), along(dim)


@wrong("11.1")
def the_readout_of_odd_strings(dim):
    return along(dim), torch.stack([along(dim)] * 2), torch.tensor([0.0, 2.0]), along(dim, -1.0)


@wrong("11.1")
def a_rate_of_three_in_place_of_a_shorter_key(dim):
    return along(dim), torch.stack([along(dim)] * 2), torch.tensor([0.0, 3.0]), along(dim)


def memories(gradients, beta, slow_beta, period, literal, first=1, mean=False, rest=False, anew=True):
    def write(memory, factor, value):
        return memory + factor * value if literal else factor * memory + (1 - factor) * value

    fast = slow = total = torch.zeros_like(gradients[0])
    for step, gradient in enumerate(gradients, start=first):
        fast = write(fast, beta, gradient)
        total = total + gradient
        if step % period == 0:
            slow = write(slow, slow_beta, total if literal and not mean else total / period)
            total = torch.zeros_like(gradient) if anew else total
    if rest:
        slow = write(slow, slow_beta, total)
    return fast, slow


@wrong("11.2")
def counts_steps_from_zero(gradients, beta, slow_beta, period, literal):
    return memories(gradients, beta, slow_beta, period, literal, first=0)


@wrong("11.2")
def the_mean_in_both_readings(gradients, beta, slow_beta, period, literal):
    return memories(gradients, beta, slow_beta, period, literal, mean=True)


@wrong("11.2")
def writes_what_is_left_over(gradients, beta, slow_beta, period, literal):
    return memories(gradients, beta, slow_beta, period, literal, rest=True)


@wrong("11.2")
def never_empties_the_sum(gradients, beta, slow_beta, period, literal):
    return memories(gradients, beta, slow_beta, period, literal, anew=False)


@wrong("11.2")
def always_as_printed(gradients, beta, slow_beta, period, literal):
    return memories(gradients, beta, slow_beta, period, True)


@wrong("11.3")
def a_world_that_stays(period):
    return torch.eye(2).repeat(2 * period, 1, 1)


@wrong("11.3")
def turned_for_whole_periods(period):
    return torch.cat([torch.eye(2).repeat(period, 1, 1), -torch.eye(2).repeat(8 * period, 1, 1)])[:100]


@wrong("11.3")
def turned_for_a_single_step(period):
    return torch.cat([torch.eye(2).repeat(period, 1, 1), -0.1 * torch.eye(2)[None]])


@wrong("11.3")
def before_the_first_period_is_over(period):
    return torch.cat([torch.eye(2)[None], -torch.eye(2).repeat(period - 2, 1, 1)])
