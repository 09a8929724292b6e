"""Recall inside one sequence: HOPE, Titans, Transformer, DeltaNet, linear attention, equal in parameters, on the tasks
of MAD and MQAR.

After Table 4 of Behrouz et al. 2025 (arXiv 2512.24695). Differs from it: MAD's score is a mean over difficulties with
12,800 training strings, 200 passes and a sweep of rates and weight decay; here it is the baseline setting of each task
alone, fresh batches, fewer steps and one trial per rate, so the figures compare with each other and not with the
paper's. MQAR is not in the paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from nllab.bench.training import cosine, trainer_of
from nllab.errors import check_choice
from nllab.models.hope import HopeLM, LanguageModel, PeerLM
from nllab.streams.recall import (
    Task,
    accuracy,
    compression,
    fuzzy_recall,
    in_context_recall,
    memorization,
    mqar,
    selective_copying,
)
from nllab.streams.stream import Part
from nllab.tables import table_of

DIM, LAYERS = 64, 2
# The main memory is written at every token, so that a key is known again at once, the projections every 64, which costs
# less than a chunk of 4 for all; a maximal inner rate of 1 overwrites a key in one write.
HOPE: dict[str, Any] = {
    "heads": 2,
    "chunk_size": 1,
    "projection_chunk_size": 64,
    "max_inner_lr": 1.0,
    "levels": (1, 8),
    "hidden": 64,
}
PEERS: dict[str, dict[str, Any]] = {
    "Titans": {"mixer": "titans", "heads": 2},
    "Transformer": {"mixer": "attention", "heads": 2},
    "DeltaNet": {"mixer": "delta", "heads": 2},
    "linear attention": {"mixer": "linear", "heads": 2},
}
MODELS = ("HOPE", *PEERS)
RATES = (1e-3, 3e-3)
TASKS: dict[str, Callable[[], Task]] = {
    "compression": compression,
    "in-context recall": in_context_recall,
    "fuzzy recall": fuzzy_recall,
    "selective copying": selective_copying,
    "memorization": memorization,
    "MQAR": mqar,
}
# Percent: Table 4, arXiv version; means over MAD's difficulties.
PAPER = {
    "HOPE": dict(zip(TASKS, (51.2, 100.0, 52.1, 99.7, 85.2), strict=False)),
    "Titans": dict(zip(TASKS, (49.8, 100.0, 50.0, 99.4, 83.4), strict=False)),
    "Transformer": dict(zip(TASKS, (49.4, 100.0, 47.9, 96.2, 83.7), strict=False)),
}


class Rebuilder(nn.Module):
    """Scores for every token of a sequence from its last state alone: a small MLP is asked about each place in turn.
    (B, T) -> (B, n, V)"""

    def __init__(self, encoder: LanguageModel, count: int) -> None:
        super().__init__()
        dim, vocabulary = encoder.embed.embedding_dim, encoder.head.out_features
        self.encoder = encoder
        self.encoder.head = nn.Identity()  # type: ignore[assignment]
        # As large as the state: an eighth of it is not heard, and no model gets beyond how often each token came.
        self.place = nn.Parameter(torch.randn(count, dim))
        self.decoder = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.encoder(tokens)[:, -1:] + self.place)


def build(name: str, task: Task) -> nn.Module:
    """A model for a task; all have as many parameters as HOPE has. Raises SettingError for a name that is not known."""
    check_choice("model", name, MODELS)
    model = HopeLM(task.vocabulary, DIM, LAYERS, **HOPE)
    if name != "HOPE":
        model = PeerLM(
            task.vocabulary, DIM, LAYERS, parameters=sum(p.numel() for p in model.parameters()), **PEERS[name]
        )
    return Rebuilder(model, task.rebuilds) if task.rebuilds else model


def fit(
    model: nn.Module,
    task: Task,
    *,
    rate: float,
    steps: int,
    batch: int,
    seed: int,
    check: int = 50,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train on fresh batches, the rate falling to a hundredth along a cosine; accuracy on 256 test sequences every
    `check` steps.

    Ends early when a check is right everywhere. The last check is the score.
    """
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    generator, started = torch.Generator().manual_seed(seed), time.perf_counter()
    tested = Part(*task.draw(256, torch.Generator().manual_seed(1_000_003 + seed), True))
    curve: list[tuple[int, float]] = []
    trainer = trainer_of(
        model,
        optimizer,
        lambda: Part(*task.draw(batch, generator, False)),
        tested,
        task.vocabulary,
        steps=steps,
        seed=seed,
        learning_rate_factor=cosine(steps, 0.01),
        clip_norm=1.0,
        device=device,
    )
    tested = tested.to(trainer.device)
    for step in range(1, steps + 1):
        trainer.step()
        if step % check == 0 or step == steps:
            with torch.no_grad():
                scores = torch.cat([model(part) for part in tested.inputs.split(64)])
            curve.append((step, accuracy(scores, tested.labels)))
            if curve[-1][1] == 1:
                break
    return {"accuracy": curve[-1][1], "curve": curve, "steps": curve[-1][0], "seconds": time.perf_counter() - started}


def run_recall(
    *,
    tasks: Sequence[str] = tuple(TASKS),
    models: Sequence[str] = MODELS,
    seeds: int = 3,
    steps: int = 1500,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The table as plain numbers. Each model tries each rate on seed 0 and goes on with the better.

    quick: in-context recall, half as long, one seed and one rate, few steps. Raises SettingError for a task or model
        that is not known.
    """
    for name in tasks:
        check_choice("task", name, TASKS)
    made = {name: TASKS[name]() for name in tasks}
    rates = RATES
    if quick:
        made, seeds, steps, rates = {"in-context recall": in_context_recall(length=64)}, 1, 150, (3e-3,)
    rows = []
    for title, task in made.items():
        for name in models:

            def train(rate: float, seed: int, name: str = name, task: Task = task) -> dict[str, Any]:
                torch.manual_seed(seed)
                outcome = fit(build(name, task), task, rate=rate, steps=steps, batch=32, seed=seed, device=device)
                report(
                    f"{task.name}, {name}, rate {rate:g}, seed {seed}: {100 * outcome['accuracy']:.1f}"
                    f" ({outcome['seconds']:.0f} s)"
                )
                return outcome

            trials: dict[float, dict[str, Any]] = {}
            for rate in rates:
                trials[rate] = train(rate, 0)
                if trials[rate]["accuracy"] == 1:
                    break
            rate = max(trials, key=lambda r: trials[r]["accuracy"])
            fits = [trials[rate], *(train(rate, seed) for seed in range(1, seeds))]
            rows.append(
                {
                    "task": title,
                    "model": name,
                    "parameters": sum(p.numel() for p in build(name, task).parameters()),
                    "rate": rate,
                    "trials": len(trials),
                    "accuracy": [f["accuracy"] for f in fits],
                    "steps": [f["steps"] for f in fits],
                    "seconds": sum(f["seconds"] for f in fits),
                    "paper": PAPER.get(name, {}).get(title),
                }
            )
    return {"seeds": seeds, "steps": steps, "rates": rates, "torch": torch.__version__, "rows": rows}


def recall_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_recall` found, for the terminal: mean over the seeds in percent, beside the paper's (a mean over harder
    settings)."""
    rows = [
        (
            row["task"],
            row["model"],
            f"{row['parameters']:,}",
            f"{100 * mean(row['accuracy']):.1f}",
            " ".join(f"{100 * value:.1f}" for value in row["accuracy"]),
            "–" if row["paper"] is None else f"{row['paper']:g}",
            f"{row['rate']:g}",
            f"{mean(row['steps']):.0f}",
            f"{row['seconds']:.0f}",
        )
        for row in result["rows"]
    ]
    title = f"accuracy in percent at the baseline settings, {result['seeds']} seeds"
    heads = ("task", "model", "parameters", "mean", "seeds", "paper", "rate", "steps", "seconds")
    return [table_of(title, heads, rows, 2)]
