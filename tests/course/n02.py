import torch

from tests.course.wrong import wrong


@wrong("02.1")
def adds_without_erasing(memory, key, value, rate):
    return memory + rate * torch.outer(value, key)


@wrong("02.1")
def wrong_sign(memory, key, value, rate):
    return memory + rate * torch.outer(memory @ key - value, key)


@wrong("02.1")
def forgets_the_rate(memory, key, value, rate):
    return memory - torch.outer(memory @ key - value, key)


@wrong("02.1")
def divides_by_the_length_of_the_key(memory, key, value, rate):
    return memory - rate * torch.outer(memory @ key - value, key) / (key @ key)


@wrong("02.1")
def writes_into_the_memory_it_was_given(memory, key, value, rate):
    memory -= rate * torch.outer(memory @ key - value, key)
    return memory


@wrong("02.1")
def takes_no_gradient_through_the_error(memory, key, value, rate):
    return memory - rate * torch.outer((memory @ key - value).detach(), key)


@wrong("02.2")
def reads_before_it_writes(query, key, value, memory):
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        outputs.append(memory @ q)
        memory = memory + torch.outer(v, k)
    return torch.stack(outputs), memory


@wrong("02.2")
def sees_the_future(query, key, value, memory):
    after = memory + value.mT @ key
    return query @ after.mT, after


@wrong("02.2")
def starts_empty_whatever_it_is_given(query, key, value, memory):
    memory = torch.zeros_like(memory)
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        memory = memory + torch.outer(v, k)
        outputs.append(memory @ q)
    return torch.stack(outputs), memory


@wrong("02.2")
def softmax_in_place_of_the_sum(query, key, value, memory):
    scores = (query @ key.mT).masked_fill(torch.ones(len(query), len(query)).triu(1).bool(), -torch.inf)
    return scores.softmax(-1) @ value, memory + value.mT @ key


@wrong("02.3")
def random_directions(count, dim):
    return torch.nn.functional.normalize(torch.randn(count, dim), dim=-1)


@wrong("02.3")
def one_key_again_and_again(count, dim):
    return torch.eye(dim)[:1].repeat(count, 1)


@wrong("02.3")
def no_keys_at_all(count, dim):
    return torch.zeros(count, dim)


@wrong("02.3")
def at_right_angles_but_longer(count, dim):
    return 2 * torch.eye(dim)[:count]
