"""Right answers by exercise that go another way than the solution: a check must not ask for one way of writing it."""

import numpy as np
import torch
from torch.nn import functional as F

RIGHT = []


def right(exercise):
    """Keep a right answer to an exercise; the name of the function says which way it goes."""

    def kept(answer):
        RIGHT.append((exercise, answer))
        return answer

    return kept


@right("00.3")
def one_input_twice_the_other(dim):
    inputs = torch.zeros(2, dim)
    inputs[:, -1] = torch.tensor([1.0, -2.0])
    return inputs, torch.tensor([5.0, 5.0])


@right("01.2")
def with_the_t_test_of_scipy(first, second):
    from scipy import stats

    interval = stats.ttest_rel(first, second).confidence_interval(0.95)
    return np.subtract(first, second).mean(), (interval.high - interval.low) / 2


@right("02.1")
def erases_with_a_matrix(memory, key, value, rate):
    return memory @ (torch.eye(len(key)) - rate * key[:, None] * key) + rate * value[:, None] * key


@right("02.2")
def all_tokens_at_once(query, key, value, memory):
    return (query @ key.T).tril() @ value + query @ memory.T, memory + value.T @ key


@right("02.3")
def the_first_axes(count, dim):
    return torch.eye(count, dim)


@right("03.3")
def on_the_shorter_side(matrix, steps):
    tall = len(matrix) > matrix.shape[1]
    x = (matrix.T if tall else matrix) / matrix.square().sum().sqrt()
    for _ in range(steps):
        x = 1.5 * x - 0.5 * (x @ x.T) @ x
    return x.T if tall else x


@right("05.1")
def step_by_step(sizes, periods, steps):
    wrote = [
        size for step in range(1, steps + 1) for size, period in zip(sizes, periods, strict=True) if step % period == 0
    ]
    return len(wrote), sum(wrote)


@right("05.2")
def least_squares_with_rows_for_the_ridge(inputs, targets, retention, ridge):
    count, dim = inputs.shape
    root = torch.tensor([retention ** (count - 1 - i) for i in range(count)]).sqrt()
    rows = torch.cat([root[:, None] * inputs, ridge**0.5 * torch.eye(dim)])
    return torch.linalg.lstsq(rows, torch.cat([root * targets, torch.zeros(dim)])[:, None]).solution[:, 0]


@right("05.2")
def sample_by_sample(inputs, targets, retention, ridge):
    dim = inputs.shape[1]
    seen, sums = torch.zeros(dim, dim), torch.zeros(dim)
    for x, y in zip(inputs, targets, strict=True):
        seen, sums = retention * seen + torch.outer(x, x), retention * sums + y * x
    return torch.linalg.solve(ridge * torch.eye(dim) + seen, sums)


@right("06.1")
def where_the_slope_is_zero(weight, x, signal, rate):
    curvature = torch.outer(x, x) + torch.eye(len(x)) / rate
    return torch.linalg.solve(curvature, (weight / rate - torch.outer(signal, x)).T).T


@right("06.3")
def with_the_inverse(past, x, ridge):
    context = ridge * torch.eye(len(x))
    for row in past:
        context = context + torch.outer(row, row)
    return float(ridge * (x @ torch.linalg.inv(context) @ x) / x.norm() ** 2)


@right("06.4")
def the_last_six_are_others(count, dim):
    targets = torch.ones(count)
    targets[-6:] = -1
    return torch.ones(count, dim), targets


@right("07.1")
def erases_before_it_adds(key, value, memory, tokens, rate):
    reads = []
    for x in tokens:
        k, v = F.normalize(key @ x, dim=0), value @ x
        v = v / torch.sqrt(1 + v.norm() ** 2)
        reads.append(memory @ x)
        keeps = torch.eye(len(k)) - rate * torch.outer(k, k)
        key, value, memory = [m @ keeps - rate * torch.outer(m @ k - m @ v, k) for m in (key, value, memory)]
    return torch.stack(reads), key, value, memory


@right("07.2")
def inverts_the_triangle(memory, keys, values, rate):
    overlap = torch.eye(len(keys)) + rate * (keys @ keys.T).tril(-1)
    return memory - (torch.linalg.inv(overlap) @ (rate * (2 * keys @ memory.T - values))).T @ keys
