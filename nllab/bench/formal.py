"""Formal languages: what HOPE, LSTM, Transformer, linear attention and DeltaNet learn of them, and whether it holds for longer strings.

After Table 5 of Behrouz et al. 2025 (arXiv 2512.24695), whose widths, rates and chunk size for HOPE are not given; the protocol is that of
Irie et al. 2023: sequence accuracy on the training range and on longer strings, no positional encoding, Adam with betas (0.9, 0.995).
Differs from it: every model has the same few trials (three, on seed 0; the best on validation strings is trained with the other
seeds), fewer steps, gradients clipped at norm 1, and the checkpoint is the one best on validation strings of both ranges, tested on others.
In languages of few strings validation and test are all of them. Training begins with short strings and goes on to longer ones as these
are understood, at the latest by half of the steps, and the rate falls once the training range is right: ours, the same for every model.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import nn

from nllab.errors import unknown
from nllab.models.hope import HopeLM, PeerLM
from nllab.streams.formal import IGNORE, LANGUAGES, Language, sequence_accuracy

DIM = 32
# Four heads that start at inner rates from a thousandth to half of the largest (slow ones count, fast ones turn around); or one head.
SPREAD, ONE = (-7.0, -5.0, -3.0, 0.0), (-1.4,)
SIZE = 14_000  # parameters of every model but HOPE, which has 6.2 thousand
STEPS = 400
BATCH = 32
SETTLE = 0.8  # of the rate is left after each check that finds the training range all right
SHORT = 8.0  # length of the longest strings at the start
# Sequence accuracy in percent, training range / longer strings: Table 5, arXiv version.
PAPER = {
    "HOPE": dict.fromkeys(LANGUAGES, (100.0, 100.0)),
    "LSTM": dict.fromkeys(LANGUAGES, (100.0, 100.0)),
    "Transformer": dict.fromkeys(LANGUAGES, (100.0, 100.0)) | {"parity": (46.4, 0.0), "aa": (0.0, 0.0), "abab": (0.0, 0.0)},
    "linear attention": dict.fromkeys(LANGUAGES, (100.0, 100.0)) | {"parity": (78.1, 0.0), "aa": (0.0, 0.0), "abab": (0.0, 0.0)},
    "DeltaNet": dict.fromkeys(LANGUAGES, (100.0, 100.0)) | {"parity": (98.2, 10.1), "aa": (0.0, 0.0), "abab": (0.0, 0.0)},
}


def build(name: str, language: Language, **settings: Any) -> nn.Module:
    """A model that answers one of the language's classes at every position. Raises SettingError for a name that is not known."""
    symbols, classes = len(language.symbols), len(language.answers)
    if name == "HOPE":
        settings = TRIALS["HOPE"][0].settings | settings
        biases, inner = settings["rate_biases"], settings["max_inner_lr"]
        own = {"heads": len(biases), "chunk_size": 1, "conv_window": 0, "max_inner_lr": inner}
        model = HopeLM(symbols, DIM, 1, levels=(1,), outputs=classes, **own)
        with torch.no_grad():
            model.blocks[0].mixer.rate_bias.copy_(torch.tensor(biases))  # type: ignore[union-attr, operator]
        return model
    peers: dict[str, dict[str, Any]] = {
        "LSTM": {"mixer": "lstm", "layers": 1},
        "Transformer": {"mixer": "attention", "layers": 2, "rotary": False},
        "linear attention": {"mixer": "linear", "layers": 2, "conv_window": 1},
        "DeltaNet": {"mixer": "delta", "layers": 2, "conv_window": 1},
    }
    if name not in peers:
        raise unknown("model", name, ("HOPE", *peers))
    return PeerLM(symbols, DIM, outputs=classes, parameters=SIZE, **peers[name])


class Trial(NamedTuple):
    """What is tried: a learning rate, and settings of the model."""

    rate: float
    settings: dict[str, Any]


# Three for each model, tried in this order on seed 0 until one is right on all validation strings; the best goes on with the other seeds.
# A maximal inner rate of 1 lets a write reflect the memory, which is what parity takes; the usual 0.5 settles sooner on a cycle.
TRIALS = {name: tuple(Trial(rate, {}) for rate in (3e-3, 1e-2, 1e-3)) for name in PAPER} | {
    "HOPE": (
        Trial(3e-3, {"rate_biases": SPREAD, "max_inner_lr": 1.0}),
        Trial(3e-3, {"rate_biases": ONE, "max_inner_lr": 0.5}),
        Trial(1e-2, {"rate_biases": SPREAD, "max_inner_lr": 1.0}),
    )
}


class Strings(NamedTuple):
    """What a language is learned from, chosen by, and tested on; two ranges each but for the first."""

    learn: list[str]
    validation: tuple[list[str], list[str]]
    test: tuple[list[str], list[str]]


def draw(language: Language, *, learn: int = 10_000, validation: int = 400, test: int = 2_000) -> Strings:
    """Strings of a language, no string in two parts unless there are only few."""
    if language.few:
        ranges = (language.strings(learn, language.train, 0), language.strings(learn, language.longer, 0))
        return Strings(ranges[0], ranges, ranges)
    train = language.strings(learn + validation + test, language.train, 0)
    longer = language.strings(validation + test, language.longer, 0)
    return Strings(
        train[:learn], (train[learn : learn + validation], longer[:validation]), (train[learn + validation :], longer[validation:])
    )


class Fit(NamedTuple):
    """One training: sequence accuracy on test strings of both ranges, on validation strings, at which step, and how long it took."""

    train: float
    longer: float
    validation: tuple[float, float]
    step: int
    seconds: float


@torch.no_grad()
def score(model: nn.Module, language: Language, strings: Sequence[str], batch: int = 250) -> float:
    """Sequence accuracy; strings of like length are read together."""
    ordered = sorted(strings, key=len)
    right = 0.0
    for start in range(0, len(ordered), batch):
        part = language.encode(ordered[start : start + batch])
        right += sequence_accuracy(model(part.tokens), part.targets) * len(part.tokens)
    return right / len(ordered)


def fit(model: nn.Module, language: Language, strings: Strings, *, rate: float, steps: int, batch: int, seed: int, check: int = 25) -> Fit:
    """Train until both ranges of the validation strings are right, or for `steps`; test the best checkpoint.

    The strings of a batch are of like length. The longest allowed grows by a tenth whenever 95 percent of a batch are right.
    """
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.995), eps=1e-9)
    generator, started = torch.Generator().manual_seed(seed), time.perf_counter()
    best, best_step, kept = (-1.0, -1.0), 0, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learn = sorted(strings.learn, key=len)
    lengths = [len(string) for string in learn]
    allowed = max(SHORT, lengths[0])
    for step in range(1, steps + 1):
        count = bisect_right(lengths, max(allowed, 2 * lengths[-1] * step / steps))
        middle = int(torch.randint(count, (), generator=generator))
        first = max(min(middle - batch // 2, count - batch), 0)
        tokens, targets = language.encode(learn[first : min(first + batch, count)])
        scores = model(tokens)
        if sequence_accuracy(scores, targets) >= 0.95:
            allowed *= 1.1
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % check == 0 or step == steps:
            near = score(model, language, strings.validation[0])
            # Who does not know the training range does not know more.
            far = score(model, language, strings.validation[1]) if near > 0.9 else 0.0
            if (near + far, near) > (sum(best), best[0]):
                best, best_step = (near, far), step
                kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            if best == (1.0, 1.0):
                break
            if near == 1:
                # Nothing new is to be learned here; what is left is to settle.
                for group in optimizer.param_groups:
                    group["lr"] *= SETTLE
    model.load_state_dict(kept)
    near, far = best if language.few else tuple(score(model, language, part) for part in strings.test)
    return Fit(near, far, best, best_step, time.perf_counter() - started)


def run_formal(
    *,
    languages: Sequence[str] = tuple(LANGUAGES),
    models: Sequence[str] = tuple(PAPER),
    seeds: int = 3,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The table as plain numbers. `report` is told of each training as it ends. quick: one language, one seed, one rate, fewer steps.

    Raises SettingError for a language or model that is not known.
    """
    for name in languages:
        if name not in LANGUAGES:
            raise unknown("language", name, LANGUAGES)
    for name in models:
        if name not in PAPER:
            raise unknown("model", name, PAPER)
    if quick:
        languages, seeds = languages[:1], 1
    rows = []
    for language in (LANGUAGES[name] for name in languages):
        strings = draw(language, learn=2_000 if quick else 10_000, validation=200 if quick else 400, test=200 if quick else 2_000)
        for name in models:

            def train(number: int, seed: int, name: str = name, language: Language = language, strings: Strings = strings) -> Fit:
                torch.manual_seed(seed)
                rate, settings = TRIALS[name][number]
                model = build(name, language, **settings)
                found = fit(
                    model, language, strings, rate=rate, seed=seed, steps=200 if quick else STEPS, batch=4 if language.few else BATCH
                )
                report(
                    f"{language.name}, {name}, trial {number + 1}, seed {seed}: {100 * found.train:.1f} / {100 * found.longer:.1f} "
                    f"(step {found.step}, {found.seconds:.0f} s)"
                )
                return found

            trials: list[Fit] = []
            for number in range(1 if quick else len(TRIALS[name])):
                trials.append(train(number, 0))
                if trials[-1].validation == (1.0, 1.0):
                    break
            chosen = max(range(len(trials)), key=lambda n: (sum(trials[n].validation), -trials[n].step))
            fits = [trials[chosen], *(train(chosen, seed) for seed in range(1, seeds))]
            rows.append(
                {
                    "language": language.name,
                    "model": name,
                    "parameters": sum(p.numel() for p in build(name, language).parameters()),
                    "trial": TRIALS[name][chosen]._asdict(),
                    "chosen": chosen + 1,
                    "trials": len(trials),
                    "train": [f.train for f in fits],
                    "longer": [f.longer for f in fits],
                    "steps": [f.step for f in fits],
                    "seconds": [f.seconds for f in fits],
                    "paper": PAPER[name][language.name],
                }
            )
    return {"seeds": seeds, "torch": torch.__version__, "rows": rows}


def formal_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_formal` found, for the terminal: mean over the seeds (best seed), beside the paper's figures."""
    table = Table(title=f"sequence accuracy in percent, training range / longer strings, {result['seeds']} seeds", title_justify="left")
    for column in ("language", "model", "mean", "best seed", "paper", "trial", "steps", "seconds"):
        table.add_column(column, justify="left" if column in ("language", "model") else "right")
    for row in result["rows"]:
        best = max(zip(row["longer"], row["train"], strict=True))
        table.add_row(
            row["language"],
            row["model"],
            f"{100 * mean(row['train']):.1f} / {100 * mean(row['longer']):.1f}",
            f"{100 * best[1]:.1f} / {100 * best[0]:.1f}",
            " / ".join(f"{value:g}" for value in row["paper"]),
            f"{row['chosen']} of {row['trials']}",
            f"{mean(row['steps']):.0f}",
            f"{sum(row['seconds']):.0f}",
        )
    return [table]
