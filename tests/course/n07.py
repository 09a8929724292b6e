import torch
from torch.nn import functional as F

from tests.course.wrong import wrong


def loop(key, value, memory, tokens, write, *, bound=True, after=False):
    reads = []
    for x in tokens:
        k, v = F.normalize(key @ x, dim=0), value @ x
        v = v / (1 + v @ v).sqrt() if bound else v
        before = memory
        key, value, memory = (write(m, k, v) for m in (key, value, memory))
        reads.append((memory if after else before) @ x)
    return torch.stack(reads), key, value, memory


def own(rate):
    return lambda m, k, v: m - rate * torch.outer(m @ k, k) - rate * torch.outer(m @ k - m @ v, k)


@wrong("07.1")
def one_target_for_all(key, value, memory, tokens, rate):
    def write(m, k, v):
        return m - rate * torch.outer(m @ k, k) - rate * torch.outer(m @ k - v, k)

    return loop(key, value, memory, tokens, write)


@wrong("07.1")
def reads_what_it_has_just_written(key, value, memory, tokens, rate):
    return loop(key, value, memory, tokens, own(rate), after=True)


@wrong("07.1")
def forgets_the_erase(key, value, memory, tokens, rate):
    return loop(key, value, memory, tokens, lambda m, k, v: m - rate * torch.outer(m @ k - m @ v, k))


@wrong("07.1")
def values_without_a_bound(key, value, memory, tokens, rate):
    return loop(key, value, memory, tokens, own(rate), bound=False)


@wrong("07.1")
def only_the_main_memory_is_written(key, value, memory, tokens, rate):
    reads = []
    for x in tokens:
        k, v = F.normalize(key @ x, dim=0), value @ x
        reads.append(memory @ x)
        memory = own(rate)(memory, k, v / (1 + v @ v).sqrt())
    return torch.stack(reads), key, value, memory


@wrong("07.1")
def writes_the_keys_first_and_uses_them(key, value, memory, tokens, rate):
    reads = []
    for x in tokens:
        reads.append(memory @ x)
        v = value @ x
        v = v / (1 + v @ v).sqrt()
        key = own(rate)(key, F.normalize(key @ x, dim=0), v)
        k = F.normalize(key @ x, dim=0)
        value, memory = own(rate)(value, k, v), own(rate)(memory, k, v)
    return torch.stack(reads), key, value, memory


@wrong("07.2")
def a_loop_over_the_tokens(memory, keys, values, rate):
    start = memory
    for k, v in zip(keys, values, strict=True):
        memory = memory - rate * torch.outer(memory @ k, k) - rate * torch.outer(start @ k - v, k)
    return memory


@wrong("07.2")
def all_tokens_at_once(memory, keys, values, rate):
    return memory - rate * (2 * keys @ memory.T - values).T @ keys


@wrong("07.2")
def with_the_diagonal(memory, keys, values, rate):
    overlap = rate * (keys @ keys.T).tril() + torch.eye(len(keys))
    return memory - torch.linalg.solve(overlap, rate * (2 * keys @ memory.T - values)).T @ keys


@wrong("07.2")
def gradient_without_the_erase(memory, keys, values, rate):
    overlap = rate * (keys @ keys.T).tril(-1) + torch.eye(len(keys))
    return memory - torch.linalg.solve(overlap, rate * (keys @ memory.T - values)).T @ keys


@wrong("07.2")
def sees_the_future(memory, keys, values, rate):
    overlap = rate * (keys @ keys.T).triu(1) + torch.eye(len(keys))
    return memory - torch.linalg.solve(overlap, rate * (2 * keys @ memory.T - values)).T @ keys


@wrong("07.3")
def a_memory_that_is_too_small(dim):
    tokens = torch.zeros(64, dim)
    tokens[:, 0] = 1
    return tokens, torch.eye(dim)


@wrong("07.3")
def random_tokens(dim):
    return F.normalize(torch.randn(64, dim), dim=-1), torch.eye(dim)


@wrong("07.3")
def tokens_of_a_length_of_ten(dim):
    tokens = torch.zeros(64, dim)
    tokens[:, 0] = 10
    return tokens, torch.eye(dim)


@wrong("07.3")
def nothing_to_begin_with(dim):
    return F.normalize(torch.randn(64, dim), dim=-1), torch.zeros(dim, dim)
