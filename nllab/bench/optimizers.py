"""M3, Muon and AdamW on a small vision transformer and Fashion-MNIST: as many steps each, each at the best of its own
rates.

After Fig. 11 of Behrouz et al. 2025 (arXiv 2512.24695: ViT of 24 and 86 million parameters, ImageNet-21K; a plot alone,
in which M3 ends below Muon and Muon below AdamW in test loss). Differs from it: data, size and length, and the rates
tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from nllab.bench.training import cosine, trainer_of
from nllab.errors import check_choice
from nllab.optim.m3 import M3
from nllab.optim.muon import Muon, hidden_and_other
from nllab.streams.images import fashion
from nllab.streams.stream import Images, Part
from nllab.summary import spread
from nllab.tables import mean_std, table_of


class ViT(nn.Module):
    """A vision transformer: square patches, learned places, pre-norm encoder layers, mean, linear head.

    Shapes: images (B, side * side) · returns (B, classes).
    Source: Dosovitskiy et al. 2021. Differs from it: no class token, the patches' mean is classified.
    """

    def __init__(
        self, side: int = 28, patch: int = 4, classes: int = 10, dim: int = 48, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.side, self.patch = side, patch
        self.embed = nn.Linear(patch * patch, dim)
        self.place = nn.Parameter(torch.randn((side // patch) ** 2, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images.view(-1, 1, self.side, self.side), self.patch, stride=self.patch).mT
        return self.head(self.norm(self.layers(self.embed(patches) + self.place)).mean(1))


# Rates tried for the hidden matrices; all else is stepped by AdamW at 1e-3 (Muon, M3), or by AdamW at its own rate.
RATES = {"adamw": (3e-4, 1e-3, 3e-3), "muon": (3e-3, 1e-2, 3e-2), "m3": (3e-4, 1e-3, 3e-3)}


def make(name: str, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimizer of this name; its rate is of the hidden matrices. Raises SettingError for a name that is not
    known."""
    check_choice("optimizer", name, RATES)
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    groups = hidden_and_other(model)
    # The places of the patches are an embedding, not a map.
    for group in groups:
        if group["hidden"]:
            places = [entry for entry in group["params"] if entry[0] == "place"]
            group["params"] = [entry for entry in group["params"] if entry[0] != "place"]
    next(group for group in groups if not group["hidden"])["params"].extend(places)
    if name == "muon":
        return Muon(groups, lr=rate, weight_decay=0.01)
    return M3(groups, lr=rate)


@torch.no_grad()
def measure(model: nn.Module, part: Part) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy."""
    scores = torch.cat([model(rows) for rows in part.inputs.split(500)])
    return F.cross_entropy(scores, part.labels).item(), (scores.argmax(1) == part.labels).float().mean().item()


def train(
    name: str,
    images: Images,
    *,
    rate: float,
    steps: int,
    batch: int,
    seed: int,
    judged: Part,
    device: str = "cpu",
) -> dict[str, float]:
    """One training, the rates falling to a hundredth along a cosine; losses on the first 5,000 training images and on
    `judged`."""
    torch.manual_seed(seed)
    model = ViT()
    optimizer = make(name, model, rate)
    generator, started = torch.Generator().manual_seed(seed), time.perf_counter()
    trainer = trainer_of(
        model,
        optimizer,
        lambda: images.train[torch.randint(len(images.train), (batch,), generator=generator)],
        judged,
        images.classes,
        steps=steps,
        seed=seed,
        learning_rate_factor=cosine(steps, 0.01),
        device=device,
    )
    while not trainer.done:
        trainer.step()
    seconds = time.perf_counter() - started
    judged, learned = judged.to(trainer.device), images.train[:5_000].to(trainer.device)
    (loss_there, accuracy), (loss_here, _) = measure(model.eval(), judged), measure(model, learned)
    return {"loss": loss_there, "accuracy": accuracy, "train_loss": loss_here, "seconds": seconds}


def run_optimizers(
    *,
    optimizers: Sequence[str] = tuple(RATES),
    seeds: int = 3,
    steps: int = 600,
    batch: int = 64,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The table as plain numbers. Rates are chosen by the loss on held-out training images, seed 0. quick: one seed,
    one rate, few steps.

    Raises: SettingError for an unknown optimizer; DataError that says how to get Fashion-MNIST where it is not on this
        machine.
    """
    for name in optimizers:
        check_choice("optimizer", name, RATES)
    images = fashion(0, True)
    if quick:
        seeds, steps = 1, 60
    rows = []
    for name in optimizers:
        rates = RATES[name][1:2] if quick else RATES[name]
        trials = {}
        for rate in rates if len(rates) > 1 else ():
            trials[rate] = train(
                name, images, rate=rate, steps=steps, batch=batch, seed=0, judged=images.validation, device=device
            )["loss"]
            report(f"{name}, rate {rate:g}: validation loss {trials[rate]:.4f}")
        rate = min(trials, key=lambda r: trials[r]) if trials else rates[0]
        runs = [
            train(name, images, rate=rate, steps=steps, batch=batch, seed=seed, judged=images.test, device=device)
            for seed in range(seeds)
        ]
        row: dict[str, Any] = {
            "optimizer": name,
            "rate": rate,
            "trials": {f"{r:g}": loss for r, loss in trials.items()},
        }
        for key in runs[0]:
            row[key] = spread([run[key] for run in runs])
        rows.append(row)
        report(f"{name}: test loss {row['loss']['mean']:.4f}, {row['seconds']['mean']:.0f} s a run")
    parameters = sum(p.numel() for p in ViT().parameters())
    return {
        "seeds": seeds,
        "steps": steps,
        "batch": batch,
        "parameters": parameters,
        "torch": torch.__version__,
        "rows": rows,
    }


def optimizers_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_optimizers` found, for the terminal."""
    size = f"{result['parameters']:,} parameters, {result['steps']} steps of {result['batch']}, {result['seeds']} seeds"
    shown = {"loss": 4, "train_loss": 4, "accuracy": 4, "seconds": 1}  # score: digits
    rows = [
        (row["optimizer"], f"{row['rate']:g}", *(mean_std(row[score], digits) for score, digits in shown.items()))
        for row in result["rows"]
    ]
    heads = ("", "rate", "test loss", "train loss", "test accuracy", "seconds a run")
    return [table_of(f"vision transformer on Fashion-MNIST, {size}", heads, rows)]
