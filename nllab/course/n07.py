"""Exercises of notebook 07, memory that modifies itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nllab.course.exercise import Answer, Draw, Wrong, exercise
from nllab.memory import rules

EDITION = 1


def token_loop(
    key: Tensor, value: Tensor, memory: Tensor, tokens: Tensor, rate: float, bounded: bool = True, erases: bool = True
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Three linear memories (d x d) that write themselves over tokens (T x d); the reads (T x d), made with the token
    before it is written, and the memories after the last."""
    reads = []
    for x in tokens:
        k, v = F.normalize(key @ x, dim=0), value @ x
        if bounded:
            v = v / (1 + v @ v).sqrt()
        reads.append(memory @ x)
        key, value, memory = (
            (m - rate * torch.outer(m @ k, k) if erases else m) - rate * torch.outer(m @ k - m @ v, k)
            for m in (key, value, memory)
        )
    return torch.stack(reads), (key, value, memory)


@exercise(
    "07.1",
    "code",
    hints=(
        "For each token first make k, v and the read with the memories as they are, then write all three with this k"
        " and this v.",
        "A memory m of the three has its own target, m @ v. Write all three before any of them is used again: make the"
        " new ones in one line, or under new names.",
        "The write is m - rate * outer(m @ k, k) - rate * outer(m @ k - m @ v, k), the erase and the gradient step.",
    ),
    solution="""
def self_modifying(key, value, memory, tokens, rate):
    reads = []
    for x in tokens:
        k, v = F.normalize(key @ x, dim=0), value @ x
        v = v / (1 + v @ v).sqrt()
        reads.append(memory @ x)
        key, value, memory = [
            m - rate * torch.outer(m @ k, k) - rate * torch.outer(m @ k - m @ v, k)
            for m in (key, value, memory)
        ]
    return torch.stack(reads), key, value, memory
""",
)
def self_modifying(f: Answer, draw: Draw) -> None:
    """self_modifying(key, value, memory, tokens, rate): reads (T, d) and the three memories after a sequence (Eq.
    83-93, arXiv 2512.24695, values bounded), tried against `token_loop`, at rate 0 and in two pieces."""

    def run(*arguments: Any) -> list[Tensor]:
        dim, count = len(arguments[0]), len(arguments[3])
        result = f(*arguments)
        if not isinstance(result, tuple | list) or len(result) != 4:
            raise Wrong(f"{f.last} should return four things: the reads and the three memories.")
        shapes = ((count, dim), (dim, dim), (dim, dim), (dim, dim))
        for name, part, shape in zip(("reads", "key", "value", "memory"), result, shapes, strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or part.dtype != torch.float32:
                raise Wrong(f"{f.last}: {name} should be a float tensor of shape {shape}.")
            f.expect(bool(part.isfinite().all()), f"{name} holds NaN or infinite values.")
        return list(result)

    for dim, count in draw.sizes(4, 6):
        memories = [draw.normal(dim, dim) / dim**0.5 for _ in range(3)]
        tokens, rate = draw.normal(count, dim), draw.uniform(0.1, 0.5)
        want, after = token_loop(memories[0], memories[1], memories[2], tokens, rate)
        got = run(*memories, tokens, rate)
        f.close(got[0][0], memories[2] @ tokens[0], "The first read should be of the memory as it was given.")
        kept, _ = token_loop(memories[0], memories[1], memories[2], tokens, rate, erases=False)
        missing = " The first bracket, which erases, is missing." if torch.allclose(got[0], kept) else ""
        f.close(got[0], want, f"The reads are others.{missing}")
        for name, part, other in zip(("key", "value", "main"), got[1:], after, strict=True):
            f.close(part, other, f"The {name} memory is another one in the end.")
        still = run(*memories, tokens, 0.0)
        f.close(torch.stack(still[1:]), torch.stack(memories), "At rate 0 no memory should change.")
        if count > 1:
            first = run(*memories, tokens[:1], rate)
            rest = run(*first[1:], tokens[1:], rate)
            f.close(rest[3], got[3], "A sequence in two pieces, the memories handed on, should end as the whole.")
        other = run(memories[0], memories[1], 2 * memories[2], tokens, rate)
        f.close(other[3], 2 * got[3], "Twice the main memory, and its own target with it, should end at twice as much.")


def _chunk(memory: Tensor, keys: Tensor, values: Tensor, rate: float) -> Tensor:
    start = memory
    for k, v in zip(keys, values, strict=True):
        memory = memory - rate * torch.outer(memory @ k, k) - rate * torch.outer(start @ k - v, k)
    return memory


class _Counting(TorchDispatchMode):
    """How many operations torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@exercise(
    "07.2",
    "code",
    hints=(
        "The lesson has an equation for w_t, what token t takes away. Bring all that holds an unknown w_i to the left.",
        "With the w_t as rows of W it is a triangular system (I + L) W = R, with L_ti = rate * k_t . k_i for i < t.",
        "R = rate * (2 * K B^T - V), with keys and values as rows. torch.linalg.solve_triangular(I + L, R, upper=False,"
        " unitriangular=True) gives W, and the memory ends at B - W^T K.",
    ),
    solution="""
def write_chunk(memory, keys, values, rate):
    overlap = rate * (keys @ keys.T).tril(-1) + torch.eye(len(keys))
    right = rate * (2 * keys @ memory.T - values)
    taken = torch.linalg.solve_triangular(overlap, right, upper=False, unitriangular=True)
    return memory - taken.T @ keys
""",
)
def write_chunk(f: Answer, draw: Draw) -> None:
    """write_chunk(memory, keys, values, rate): the memory after a chunk without a loop over its tokens. Tried against
    the token loop and `dgd_write`, with gradients; operations are counted at 7 and 64 tokens."""
    counts = {}
    for trial, tokens in enumerate((1, 2, 3, 7, 7, 64)):
        keys_wide, values_wide = draw.whole(2, 5), draw.whole(1, 4)
        memory, keys = draw.normal(values_wide, keys_wide), draw.unit(tokens, keys_wide)
        values, rate = draw.normal(tokens, values_wide), draw.uniform(0.1, 0.4)
        shape = (values_wide, keys_wide)
        got = f.tensor(memory, keys, values, rate, shape=shape, like=memory)
        f.close(got, _chunk(memory, keys, values, rate), f"A chunk of {tokens} tokens should end elsewhere.", atol=1e-3)
        f.close(
            got, rules.dgd_write(memory, keys, values, rate, chunk_size=tokens)[1], "nllab ends elsewhere.", atol=1e-3
        )
        if trial < 5:
            f.gradients(_chunk, [memory, keys, values, rate], draw, "Its gradients are not those of the token loop.")
        f.close(
            f.tensor(memory, keys, values, 0.0, shape=shape, like=memory), memory, "At rate 0 nothing should change."
        )
        if tokens in (7, 64):
            counter = _Counting()
            with counter:
                f.function(memory, keys, values, rate)
            counts[tokens] = counter.count
    f.expect(
        counts[64] < 2 * counts[7],
        f"Its numbers are right, but for 7 tokens it asks torch for {counts[7]} operations, for 64 tokens for"
        f" {counts[64]}: that is a loop.",
    )


LIMIT = 1e6  # from here on a memory counts as lost


@exercise(
    "07.3",
    "explain",
    hints=(
        "Let all tokens be alike, and think of one number: the value memory is c, so v = c, and its target is c * v.",
        "A write makes c + 0.5 * c * (c - 2) of it. For which c does it grow for ever?",
        "Tokens along the first axis, and a value memory of 3 times the identity.",
    ),
    solution="""
def runaway(dim):
    tokens = torch.zeros(64, dim)
    tokens[:, 0] = 1.0
    return tokens, 3 * torch.eye(dim)
""",
)
def runaway(f: Answer, draw: Draw) -> None:
    """runaway(dim): tokens (64, dim) and a value memory that diverge unless values are bounded."""
    for trial in range(4):
        dim = trial + 1 if trial < 2 else draw.whole(3, 6)
        result = f(dim)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} should return two things: the tokens and the value memory.")
        for name, part, shape in zip(("tokens", "value memory"), result, ((64, dim), (dim, dim)), strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or part.dtype != torch.float32:
                raise Wrong(f"{f.last}: its {name} should be a float tensor of shape {shape}.")
            f.expect(bool(part.isfinite().all()), f"Its {name} holds NaN or infinite values.")
        tokens, value = (part.detach().double() for part in result)
        f.expect(bool((tokens.norm(dim=1) < 1.001).all()), "Tokens should be no longer than 1.")
        f.expect(torch.linalg.matrix_norm(value, 2) < 3.001, "No singular value of the memory should be above 3.")
        eye = torch.eye(dim, dtype=torch.float64)
        largest = [
            float(torch.stack(token_loop(eye, value, eye, tokens, 0.5, bounded)[1]).abs().max())
            for bounded in (False, True)
        ]
        f.expect(
            not largest[0] < LIMIT and largest[1] < 10,
            f"After 64 tokens the largest number in the memories should be above {LIMIT:.0e} where values are"
            f" unbounded, and below 10 where they are bounded; it is {largest[0]:.3g} and {largest[1]:.3g}.",
        )
