import math

import torch

from tests.course.wrong import wrong


@wrong("03.1")
def logarithm_of_the_wrong_thing(beta):
    return math.log(beta) / math.log(0.5)


@wrong("03.1")
def time_constant_in_place_of_half_life(beta):
    return 1 / (1 - beta)


@wrong("03.1")
def half_of_the_weight_in_all(beta):
    return math.log(0.5) / math.log(beta) - 1


@wrong("03.2")
def momentum_alone(memory, gradient, rate, beta, erase):
    return beta * memory - rate * gradient


@wrong("03.2")
def erases_after_writing(memory, gradient, rate, beta, erase):
    written = beta * memory - rate * gradient
    return written - erase * (written @ gradient.T) @ gradient


@wrong("03.2")
def gram_on_the_left(memory, gradient, rate, beta, erase):
    return beta * memory - erase * (gradient @ gradient.T) @ memory - rate * gradient


@wrong("03.2")
def erases_beta_times_the_memory(memory, gradient, rate, beta, erase):
    return beta * (memory - erase * (memory @ gradient.T) @ gradient) - rate * gradient


@wrong("03.3")
def without_the_norm(matrix, steps):
    x = matrix
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


@wrong("03.3")
def divides_by_the_largest_singular_value(matrix, steps):
    x = matrix / torch.linalg.matrix_norm(matrix, 2)
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


@wrong("03.3")
def the_polar_factor_whatever_the_steps(matrix, steps):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


@wrong("03.3")
def one_iteration_too_few(matrix, steps):
    x = matrix / matrix.norm()
    for _ in range(steps - 1):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


@wrong("03.4")
def random_directions(count, dim):
    return torch.randn(count, 1, dim)


@wrong("03.4")
def the_same_again_and_again(count, dim):
    return torch.ones(count, 1, dim)


@wrong("03.4")
def nothing_at_all(count, dim):
    return torch.zeros(count, 1, dim)


@wrong("03.4")
def there_and_back(count, dim):
    signs = torch.tensor([(-1.0) ** i for i in range(count)])
    return signs.view(-1, 1, 1) * torch.eye(dim)[:1].expand(count, 1, dim)
