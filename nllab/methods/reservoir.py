"""A uniform sample of everything that has come by, in a buffer of fixed size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def slots(seen: int, count: int, capacity: int, generator: torch.Generator) -> list[int]:
    """Where each of `count` newcomers goes when `seen` came before them: a slot of the buffer, or -1 for nowhere.

    Source: algorithm R, Vitter 1985: newcomer number n takes slot n while there is room, then a random slot with chance
        capacity / n.
    """
    places = []
    for n in range(seen, seen + count):
        slot = n if n < capacity else int(torch.randint(n + 1, (1,), generator=generator))
        places.append(slot if slot < capacity else -1)
    return places


def keep(memory: dict[str, Any], capacity: int, generator: torch.Generator, **columns: Tensor) -> None:
    """Offer rows to the buffer in `memory`, columns of equal length (B, ...); it grows until it is full."""
    count = len(next(iter(columns.values())))
    for row, slot in enumerate(slots(memory["offered"], count, capacity, generator)):
        for name, column in columns.items():
            if name not in memory and slot >= 0:
                memory[name] = column[:0].clone()
            if slot == len(memory.get(name, ())):
                memory[name] = torch.cat([memory[name], column[row : row + 1]])
            elif slot >= 0:
                memory[name][slot] = column[row]
    memory["offered"] += count


def draw(memory: dict[str, Any], count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """At most `count` rows of the buffer, drawn without replacement; nothing from an empty one."""
    columns = {name: value for name, value in memory.items() if isinstance(value, Tensor)}
    if not columns:
        return {}
    first = next(iter(columns.values()))
    rows = torch.randperm(len(first), generator=generator)[:count].to(first.device)
    return {name: value[rows] for name, value in columns.items()}
