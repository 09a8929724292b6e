import torch

from tests.course.wrong import wrong


@wrong("06.1")
def the_printed_rate(weight, x, signal, rate):
    step = rate / (1 + rate)
    return weight - step * torch.outer(weight @ x + signal, x)


@wrong("06.1")
def gradient_descent(weight, x, signal, rate):
    return weight - rate * torch.outer(signal, x)


@wrong("06.1")
def forgets_the_erase(weight, x, signal, rate):
    return weight - rate / (1 + rate * (x @ x)) * torch.outer(signal, x)


@wrong("06.1")
def wrong_sign_of_the_target(weight, x, signal, rate):
    return weight - rate / (1 + rate * (x @ x)) * torch.outer(weight @ x - signal, x)


@wrong("06.2")
def takes_the_input_in_after_the_step(weight, context, x, target):
    direction = torch.linalg.solve(context, x)
    return weight + torch.outer(target - weight @ x, direction), context + torch.outer(x, x)


@wrong("06.2")
def plain_gradient(weight, context, x, target):
    return weight + 0.1 * torch.outer(target - weight @ x, x), context + torch.outer(x, x)


@wrong("06.2")
def never_writes_the_memory(weight, context, x, target):
    return weight + torch.outer(target - weight @ x, torch.linalg.solve(context + torch.outer(x, x), x)), context


@wrong("06.2")
def only_the_diagonal(weight, context, x, target):
    context = context + torch.outer(x, x)
    return weight + torch.outer(target - weight @ x, x / context.diagonal()), context


@wrong("06.3")
def length_of_the_whitened_input(past, x, ridge):
    context = ridge * torch.eye(len(x)) + past.T @ past
    return float(x @ torch.linalg.solve(context, x))


@wrong("06.3")
def one_minus_the_cosine_with_the_mean(past, x, ridge):
    mean = past.mean(0) if len(past) else torch.zeros(len(x))
    return float(1 - torch.nn.functional.cosine_similarity(mean, x, dim=0))


@wrong("06.3")
def distance_to_the_nearest(past, x, ridge):
    return float(torch.cdist(past, x[None]).min() / x.norm()) if len(past) else 1.0


@wrong("06.3")
def number_seen(past, x, ridge):
    return 1 / (1 + len(past))


@wrong("06.4")
def random_answers(count, dim):
    return torch.ones(count, dim), torch.randn(count)


@wrong("06.4")
def a_world_that_stays(count, dim):
    return torch.ones(count, dim), torch.ones(count)


@wrong("06.4")
def new_inputs_for_the_new_answers(count, dim):
    inputs = torch.nn.functional.one_hot(torch.arange(count) * dim // count, dim).float()
    return inputs, (torch.arange(count) >= count // 2).float()


@wrong("06.4")
def one_exception_at_the_end(count, dim):
    targets = torch.zeros(count)
    targets[-1] = 1
    return torch.ones(count, dim), targets
