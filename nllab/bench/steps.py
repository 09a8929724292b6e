"""What a whole training step costs, forward, backward and write, beside the same step with Adam."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.optim.deep import DeepOptimizer
from nllab.tables import table_of

BATCH, INPUTS, CLASSES = 64, 784, 10
WINDOW = 16  # steps that are timed at once: what the deep optimizer does every so many steps belongs to all of them


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with rectifiers between them."""
    linear = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*(part for layer in linear[:-1] for part in (layer, nn.ReLU())), linear[-1])


def small_conv() -> nn.Sequential:
    """Two 5 x 5 convolutions of 16 and 32 filters, pooled, and a dense layer of 128."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, CLASSES)),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "784-256-256-10": lambda: mlp(INPUTS, 256, 256, CLASSES),
    "784-64-10": lambda: mlp(INPUTS, 64, CLASSES),
    "conv 5x5 x 2, dense 128": small_conv,
}


def training(make: Callable[[], nn.Module], optimizer: str, device: torch.device) -> Callable[[], None]:
    """A function that trains a fresh net for `WINDOW` steps on batches of its own, cross-entropy."""
    torch.manual_seed(0)
    model, draw = make().to(device), torch.Generator().manual_seed(1)
    chosen = DeepOptimizer(model, warn=False) if optimizer == "deep" else torch.optim.Adam(model.parameters(), 1e-3)
    centres = torch.rand(CLASSES, INPUTS, generator=draw)

    def batch() -> tuple[Tensor, Tensor]:
        labels = torch.randint(CLASSES, (BATCH,), generator=draw)
        inputs = centres[labels] * torch.rand(BATCH, INPUTS, generator=draw)
        return inputs.to(device), labels.to(device)

    batches = [batch() for _ in range(WINDOW)]

    def window() -> None:
        for inputs, labels in batches:
            chosen.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            chosen.step()

    return window


def step_rows(rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """One row for each net and optimizer: milliseconds of a step, and the median over rounds of its ratio to Adam's."""
    from nllab.bench.speed import alternate

    rows = []
    for name, make in NETS.items():
        windows = {optimizer: training(make, optimizer, device) for optimizer in ("adam", "deep")}
        wall, cpu = alternate(windows, rounds, device)
        took = wall if device.type == "cuda" else cpu
        for optimizer, seconds in took.items():
            rows.append(
                {
                    "group": "step",
                    "name": name,
                    "optimizer": optimizer,
                    "batch": BATCH,
                    "milliseconds": 1e3 * median(seconds) / WINDOW,
                    "ratio": median(own / other for own, other in zip(seconds, took["adam"], strict=True)),
                }
            )
    return rows


def steps_table(rows: list[dict[str, Any]], device: str) -> Table:
    """The rows of `step_rows`, for people."""
    shown = [(row["name"], row["optimizer"], f"{row['milliseconds']:.2f}", f"{row['ratio']:.2f}") for row in rows]
    title = f"A training step, batch {BATCH} ({device}); ratio 1 is Adam"
    return table_of(title, ("", "optimizer", "ms", "ratio"), shown, 2)
