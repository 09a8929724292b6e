"""Exercises of notebook 02, everything is an associative memory."""

from __future__ import annotations

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Wrong, exercise

EDITION = 1


def _delta(memory: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
    return memory - rate * torch.outer(memory @ key - value, key)


@exercise(
    "02.1",
    "code",
    hints=(
        "What the memory says now at this key is memory @ key. How far is that from what it should say?",
        "The error is a vector of the size of a value. Which matrix changes the answer at this key, and leaves alone"
        " every answer at a key at right angles to it?",
        "torch.outer(error, key) has the shape of the memory. Mind the sign, and the rate.",
    ),
    solution="""
def delta_write(memory, key, value, rate):
    error = memory @ key - value
    return memory - rate * torch.outer(error, key)
""",
)
def delta_write(f: Answer, draw: Draw) -> None:
    """delta_write(memory (values, keys), key, value, rate): one step of the delta rule (Eq. 65, arXiv 2512.24695).
    Tried against the formula and its gradients, and for recall at rate 1 and keys at right angles."""
    for keys, values in draw.sizes(6, 6):
        memory, key, value = draw.normal(values, keys), draw.normal(keys), draw.normal(values)
        rate = draw.uniform(0.2, 0.9)
        got = f.tensor(memory, key, value, rate, shape=(values, keys), like=memory)
        f.close(got, _delta(memory, key, value, rate), "This is not one step of the delta rule.")
        f.gradients(_delta, [memory, key, value, rate], draw, "Its gradients are not those of the delta rule.")
        unit = draw.unit(keys)
        got = f.tensor(memory, unit, value, 1.0, shape=(values, keys), like=memory)
        f.close(got @ unit, value, "Written at rate 1, a key of length 1 should read back its value.")
        other = draw.normal(keys)
        other = other - (other @ unit) * unit
        f.close(got @ other, memory @ other, "A key at right angles to the one that was written should read as before.")
        got = f.tensor(memory, key, value, 0.0, shape=(values, keys), like=memory)
        f.close(got, memory, "At rate 0 nothing should change.")


def _linear_attention(query: Tensor, key: Tensor, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        memory = memory + torch.outer(v, k)
        outputs.append(memory @ q)
    return torch.stack(outputs), memory


@exercise(
    "02.2",
    "code",
    hints=(
        "Go through the tokens in order. Each token first writes, then reads; so it sees itself and what came before.",
        "Writing is the Hebbian rule: memory + torch.outer(value[t], key[t]). Reading is memory @ query[t].",
        "Collect the reads in a list, torch.stack them, and return (outputs, memory). Start from the memory that was"
        " given, or a sequence cut in two will not be the whole.",
    ),
    solution="""
def linear_attention(query, key, value, memory):
    outputs = []
    for t in range(len(query)):
        memory = memory + torch.outer(value[t], key[t])
        outputs.append(memory @ query[t])
    return torch.stack(outputs), memory
""",
)
def linear_attention(f: Answer, draw: Draw) -> None:
    """linear_attention(query, key, value, memory): the reads (T, values) and the memory after T Hebbian writes (Eq.
    14-18, arXiv 2512.24695). Tried against (Q K^T, lower half) V, in two pieces, and for causality."""

    def run(query: Tensor, key: Tensor, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        result = f(query, key, value, memory)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} should return two things: the outputs and the memory.")
        for name, part, like in zip(("outputs", "memory"), result, (value, memory), strict=True):
            if not isinstance(part, Tensor) or part.shape != like.shape or part.dtype != like.dtype:
                found = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
                raise Wrong(f"{f.last}: its {name} should be a tensor of shape {tuple(like.shape)}, not {found}.")
        return result[0], result[1]

    for tokens, keys, values in draw.sizes(7, 5, 5):
        query, key, value = draw.normal(tokens, keys), draw.normal(tokens, keys), draw.normal(tokens, values)
        empty, memory = torch.zeros(values, keys), draw.normal(values, keys)
        outputs, after = run(query, key, value, empty)
        by_hand = ((query @ key.mT).tril() @ value) if tokens else value
        f.close(outputs, by_hand, "From an empty memory this is not causal linear attention, (Q K^T, lower half) V.")
        outputs, after = run(query, key, value, memory)
        want, state = _linear_attention(query, key, value, memory)
        f.close(outputs, want, "The memory that was given takes no part, or not the right one.")
        f.close(after, state, "The memory returned is not the one after the last token.")
        cut = draw.whole(1, tokens)
        if cut < tokens:
            first, between = run(query[:cut], key[:cut], value[:cut], memory)
            second, end = run(query[cut:], key[cut:], value[cut:], between)
            f.close(torch.cat([first, second]), outputs, f"Cut after token {cut}, the two pieces are not the whole.")
            f.close(end, after, f"Cut after token {cut}, the memory at the end is another one.")
        changed = value.clone()
        changed[-1] += 1
        f.close(run(query, key, changed, memory)[0][:-1], outputs[:-1], "The last token changed what came before it.")


def _hebbian(keys: Tensor, values: Tensor) -> Tensor:
    return values.mT @ keys


@exercise(
    "02.3",
    "explain",
    hints=(
        "The delta rule takes away what the memory already says at a key. When does it say nothing there?",
        "If every new key is at right angles to all the earlier ones, the memory says 0 at it. How many such keys fit"
        " into dim dimensions?",
        "torch.linalg.qr of a random square matrix gives an orthogonal one; take some of its rows.",
    ),
    solution="""
def agreeable_keys(count, dim):
    orthogonal = torch.linalg.qr(torch.randn(dim, dim)).Q
    return orthogonal[:count]
""",
)
def agreeable_keys(f: Answer, draw: Draw) -> None:
    """agreeable_keys(count, dim): unit keys (count, dim) on which the delta and the Hebbian rule end at one memory."""
    for trial in range(6):
        dim = trial + 2 if trial < 2 else draw.whole(3, 12)
        count = draw.whole(2, dim)
        keys = f.tensor(count, dim, shape=(count, dim), like=torch.empty(0))
        f.expect(torch.allclose(keys.norm(dim=-1), torch.ones(count), atol=1e-3), "Every key should have length 1.")
        values, memory = draw.normal(count, 3), torch.zeros(3, dim)
        for key, value in zip(keys, values, strict=True):
            memory = _delta(memory, key, value, 1.0)
        gap = float((memory - _hebbian(keys, values)).abs().max())
        f.expect(gap < 1e-2, f"With random values the two memories end {gap:.2f} apart on these keys.")
