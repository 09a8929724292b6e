"""What each part of HOPE is worth on a small language-modelling task: one part less, or one more, everything else
equal.

After Table 6 of Behrouz et al. 2025 (arXiv 2512.24695). Differs from it: the task (characters of names, several names
of one language in a row, five languages) and the size (two blocks of width 64 in place of 1.3 billion parameters);
perplexity is per character; the CMS is on the clock of steps; momentum's value is ours, since the paper gives none; q
is static unless a row says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import mean
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from nllab.bench.names import bits_per_character
from nllab.bench.training import cosine, trainer_of
from nllab.errors import check_choice
from nllab.memory.titans import ADAPTIVE
from nllab.models.hope import HopeLM, LanguageModel, PeerLM
from nllab.streams.names import languages
from nllab.streams.stream import Part
from nllab.streams.text import Alphabet
from nllab.summary import spread
from nllab.tables import mean_std, table_of

RATE = 2e-3  # of AdamW
FULL: dict[str, Any] = {
    "heads": 2,
    "chunk_size": 8,
    "momentum": 0.8,
    "max_inner_lr": 0.1,
    "levels": (1, 4, 16),
    "hidden": 64,
}
# What each row changes, and the paper's perplexity: Table 6, arXiv version.
ROWS: dict[str, tuple[dict[str, Any], float]] = {
    "HOPE": ({}, 12.19),
    "without DGD (no erase)": ({"erase": False}, 13.41),
    "without momentum": ({"momentum": 0.0}, 13.58),
    "without retention (weight decay)": ({"retention": False}, 13.71),
    "without CMS (one MLP of its size)": ({"levels": (1,)}, 13.04),
    "static k": ({"adaptive": tuple(name for name in ADAPTIVE if name != "key")}, 13.77),
    "static v": ({"adaptive": tuple(name for name in ADAPTIVE if name != "value")}, 13.90),
    "adaptive q": ({"adaptive": (*ADAPTIVE, "query")}, 12.24),
}


def sequences(length: int, seed: int = 0) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Alphabet]:
    """Training and test sequences (N, length), inputs and targets: names of one language after another, drawn order,
    five languages."""
    tongues = languages(seed=seed)
    letters = Alphabet(name for t in tongues for table in (t.train, t.test) for name in table.values())

    def rows(part: str) -> tuple[Tensor, Tensor]:
        lines = []
        for tongue in tongues:
            names = list(getattr(tongue, part).values())
            Random(seed).shuffle(names)
            text = torch.tensor([token for name in names for token in (0, *letters.encode(name))])
            count = (len(text) - 1) // length
            lines.append((text[: count * length].view(count, length), text[1 : count * length + 1].view(count, length)))
        return torch.cat([inputs for inputs, _ in lines]), torch.cat([targets for _, targets in lines])

    return rows("train"), rows("test"), letters


def build(row: str, vocabulary: int, dim: int = 64) -> LanguageModel:
    """HOPE with what this row changes, all rows of (nearly) the same size. Raises SettingError for a row that is not
    known."""
    check_choice("row", row, ROWS)
    change = ROWS[row][0]
    if "levels" in change:
        size = sum(p.numel() for p in HopeLM(vocabulary, dim, 2, **FULL).parameters())
        rest = {name: value for name, value in FULL.items() if name not in ("levels", "hidden")}
        return PeerLM(vocabulary, dim, 2, mixer="self-modifying", parameters=size, **rest)
    return HopeLM(vocabulary, dim, 2, **{**FULL, **change})


def train(
    model: LanguageModel,
    data: tuple[Tensor, Tensor],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    device: str = "cpu",
) -> None:
    """AdamW with the model's levels on the clock of steps, the rate falling to a tenth along a cosine."""
    part, generator = Part(*data), torch.Generator().manual_seed(seed)
    trainer = trainer_of(
        model,
        torch.optim.AdamW(model.parameters(), rate),
        lambda: part[torch.randint(len(part), (batch,), generator=generator)],
        part,
        model.head.out_features,
        steps=steps,
        seed=seed,
        levels=model.levels(),
        learning_rate_factor=cosine(steps, 0.1),
        clip_norm=1.0,
        device=device,
    )
    while not trainer.done:
        trainer.step()


def run_ablation(
    *,
    rows: Sequence[str] = tuple(ROWS),
    seeds: int = 3,
    steps: int = 600,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The table as plain numbers: perplexity per character on held-out names. quick: one seed, few steps, three
    rows."""
    for row in rows:
        check_choice("row", row, ROWS)
    if quick:
        rows, seeds, steps = rows[:3], 1, 60
    learned, tested, letters = sequences(64)
    results = []
    for row in rows:
        started, values, size = time.perf_counter(), [], 0
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = build(row, len(letters))
            size = sum(p.numel() for p in model.parameters())
            train(model, learned, steps=steps, batch=16, rate=RATE, seed=seed, device=device)
            inputs, targets = (part.to(model.head.weight.device) for part in tested)
            values.append(2 ** bits_per_character(model, inputs, targets))
        results.append(
            {
                "row": row,
                "parameters": size,
                "perplexity": values,
                "mean": mean(values),
                "std": spread(values)["std"],
                "paper": ROWS[row][1],
                "seconds": time.perf_counter() - started,
            }
        )
        report(f"{row}: perplexity {mean(values):.3f} ({results[-1]['seconds']:.0f} s)")
    return {
        "seeds": seeds,
        "steps": steps,
        "rate": RATE,
        "uniform": len(letters),
        "torch": torch.__version__,
        "rows": results,
    }


def ablation_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_ablation` found, for the terminal."""
    first = result["rows"][0]["mean"]
    rows = [
        (
            row["row"],
            f"{row['parameters']:,}",
            mean_std(row),
            f"{row['mean'] - first:+.3f}",
            f"{row['paper']:g}",
            f"{row['seconds']:.0f}",
        )
        for row in result["rows"]
    ]
    title = f"perplexity per character, {result['seeds']} seeds, {result['steps']} steps"
    heads = ("", "parameters", "perplexity", "against HOPE", "paper (perplexity per token)", "seconds")
    return [table_of(title, heads, rows)]
