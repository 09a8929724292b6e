"""Points in the plane: small enough that the decision surface itself can be drawn."""

from __future__ import annotations

import math

import torch

from nllab.streams.stream import Part, Stream, Task

SAMPLES = {"train": 1000, "validation": 200, "test": 500}  # per task
NOISE = 0.12


def moons(count: int, centre: float, first_class: int, generator: torch.Generator) -> Part:
    """Two crescents that reach into each other, of the classes first_class and first_class + 1, about (centre, 0)."""
    which = torch.randint(2, (count,), generator=generator)
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
    points = torch.where(which[:, None] == 0, upper, -upper) + NOISE * torch.randn(count, 2, generator=generator)
    points[:, 0] += centre
    return Part(points, first_class + which)


def plane_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """Two crescents on the left (classes 0, 1), then two on the right (classes 2, 3). `split` draws the points."""
    tasks = []
    for name, centre, first_class in (("A", -2.0, 0), ("B", 2.0, 2)):
        generator = torch.Generator().manual_seed(2 * split + first_class // 2)
        train, validation, test = (moons(count, centre, first_class, generator) for count in SAMPLES.values())
        side = "left" if centre < 0 else "right"
        tasks.append(
            Task(name, f"two crescents on the {side}", train, validation if hold_out else validation[:0], test)
        )
    about = "Two crescents on the left, then two others on the right. One output layer for all four."
    return Stream("plane-ab", about, tuple(tasks), (0, 1), classes=4)
