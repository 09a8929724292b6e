import torch

from tests.course.wrong import wrong


def asked(model, tokens, keys, *, carry=False, before=False, fresh=False, scores_alone=False):
    state, found = None, []
    with torch.no_grad():
        for token in tokens:
            last = state
            _, state = model.stream(token.view(1, 1), None if fresh else state)
            row = []
            for key in keys:
                scores, after = model.stream(key.view(1, 1), last if before else state, writes=carry)
                state = after if carry else state
                row.append(scores[0, -1] if scores_alone else scores[0, -1].softmax(-1))
            found.append(torch.stack(row))
    return torch.stack(found)


@wrong("08.1")
def learns_from_being_asked(model, tokens, keys):
    return asked(model, tokens, keys, carry=True)


@wrong("08.1")
def asks_before_the_token_is_read(model, tokens, keys):
    return asked(model, tokens, keys, before=True)


@wrong("08.1")
def begins_anew_at_every_token(model, tokens, keys):
    return asked(model, tokens, keys, fresh=True)


@wrong("08.1")
def scores_in_place_of_probabilities(model, tokens, keys):
    return asked(model, tokens, keys, scores_alone=True)


@wrong("08.1")
def all_keys_as_one_sequence(model, tokens, keys):
    state, found = None, []
    with torch.no_grad():
        for token in tokens:
            _, state = model.stream(token.view(1, 1), state)
            found.append(model.stream(keys.view(1, -1), state)[0][0].softmax(-1))
    return torch.stack(found)


@wrong("08.2")
def reads_before_it_writes(keys, values, queries, ridge):
    memory, context, reads = torch.zeros(values.shape[1], keys.shape[1]), ridge * torch.eye(keys.shape[1]), []
    for k, v, q in zip(keys, values, queries, strict=True):
        reads.append(memory @ q)
        context = context + torch.outer(k, k)
        memory = memory + torch.outer(v - memory @ k, torch.linalg.solve(context, k))
    return torch.stack(reads)


@wrong("08.2")
def adds_up_without_a_context(keys, values, queries, ridge):
    memory, reads = torch.zeros(values.shape[1], keys.shape[1]), []
    for k, v, q in zip(keys, values, queries, strict=True):
        memory = memory + torch.outer(v, k)
        reads.append(memory @ q)
    return torch.stack(reads)


@wrong("08.2")
def the_delta_rule(keys, values, queries, ridge):
    memory, reads = torch.zeros(values.shape[1], keys.shape[1]), []
    for k, v, q in zip(keys, values, queries, strict=True):
        memory = memory + torch.outer(v - memory @ k, k / (ridge + k @ k))
        reads.append(memory @ q)
    return torch.stack(reads)


@wrong("08.2")
def all_pairs_at_once(keys, values, queries, ridge):
    gram = ridge * torch.eye(keys.shape[1]) + keys.T @ keys
    return queries @ torch.linalg.solve(gram, keys.T @ values)


@wrong("08.2")
def takes_the_key_in_after_the_step(keys, values, queries, ridge):
    memory, context, reads = torch.zeros(values.shape[1], keys.shape[1]), ridge * torch.eye(keys.shape[1]), []
    for k, v, q in zip(keys, values, queries, strict=True):
        memory = memory + torch.outer(v - memory @ k, torch.linalg.solve(context, k))
        context = context + torch.outer(k, k)
        reads.append(memory @ q)
    return torch.stack(reads)


@wrong("08.3")
def counts_the_pair_itself(n, keys, values):
    new = (1 - 1 / keys) ** n
    return (1 - new) + new / values


@wrong("08.3")
def never_guesses(n, keys, values):
    return 1 - (1 - 1 / keys) ** (n - 1)


@wrong("08.3")
def every_key_in_turn(n, keys, values):
    seen = min(1.0, (n - 1) / keys)
    return seen + (1 - seen) / values


@wrong("08.3")
def guesses_among_the_keys(n, keys, values):
    new = (1 - 1 / keys) ** (n - 1)
    return (1 - new) + new / (keys + values)
