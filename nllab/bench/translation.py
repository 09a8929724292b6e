"""Translation, one language after another: English name to name in language X, then in Y, and what is left of X; the
small analogue of Fig. 8 of Behrouz et al. 2025 (arXiv 2512.24695).

Every request names the language it wants ("de Finland"). Rows and twins are those of names.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from nllab.bench.names import KINDS, OPTIMIZERS, SETTINGS, Lesson, Setting, followed
from nllab.models.hope import LanguageModel
from nllab.streams.names import languages, pairs
from nllab.streams.text import END, IGNORE, Alphabet, as_rows
from nllab.summary import spread
from nllab.tables import table_of

TRANSLATING = {**SETTINGS, "adamw": Setting(1e-3, 8)}


def chrf(answers: Sequence[str], wanted: Sequence[str], order: int = 6, beta: float = 2.0) -> float:
    """chrF of a whole test set, 0 to 100: F-score of character n-grams up to `order`, recall weighing `beta` times as
    much; without spaces.

    Precision and recall are averaged over the orders for which both sides have n-grams.
    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".
    """
    precision, recall = [], []
    for n in range(1, order + 1):
        same = ours = theirs = 0
        for a, b in zip(answers, wanted, strict=True):
            grams = [
                Counter(s[i : i + n] for i in range(len(s) - n + 1)) for s in (a.replace(" ", ""), b.replace(" ", ""))
            ]
            same += (grams[0] & grams[1]).total()
            ours += grams[0].total()
            theirs += grams[1].total()
        if ours and theirs:
            precision.append(same / ours)
            recall.append(same / theirs)
    if not any(precision):
        return 0.0
    p, r = mean(precision), mean(recall)
    return 100 * (1 + beta**2) * p * r / (beta**2 * p + r)


ASKS = "\t"  # stands between the request and the answer


def translation_lessons(
    codes: Sequence[str], seed: int = 0
) -> tuple[list[Lesson], Alphabet, dict[str, list[tuple[str, str]]]]:
    """ "de Finland" TAB "Finnland": lessons whose targets are the answers alone; and the held-out pairs of each
    language."""
    tongues = languages(codes, seed=seed)
    books = {
        t.about: tuple([(f"{t.code} {e}{ASKS}", n) for e, n in pairs(part)] for part in (t.train, t.test))
        for t in tongues
    }
    letters = Alphabet(side for parts in books.values() for part in parts for pair in part for side in pair)

    def rows(part: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        inputs, targets = as_rows([request + answer for request, answer in part], letters)
        for target, (request, _) in zip(targets, part, strict=True):
            target[: len(request)] = IGNORE
        return inputs, targets

    return (
        [Lesson(name, rows(train), rows(test)) for name, (train, test) in books.items()],
        letters,
        {n: b[1] for n, b in books.items()},
    )


@torch.no_grad()
def answers(model: nn.Module, requests: Sequence[str], letters: Alphabet, longest: int = 60) -> list[str]:
    """The most likely answer, character by character, to each request."""
    device = model.head.weight.device if isinstance(model, LanguageModel) else "cpu"
    texts: list[str] = [""] * len(requests)
    by_length: dict[int, list[int]] = {}
    for i, request in enumerate(requests):
        by_length.setdefault(len(request), []).append(i)
    for group in by_length.values():
        tokens = torch.tensor([[END, *letters.encode(requests[i])] for i in group], device=device)
        start = tokens.shape[1]
        for _ in range(longest):
            tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], 1)
            if (tokens[:, start:] == END).any(1).all():
                break
        for i, row in zip(group, tokens[:, start:].tolist(), strict=True):
            texts[i] = letters.decode(row)
    return texts


def run_translation(
    *,
    codes: Sequence[str] = ("de", "tr"),
    models: Sequence[str] = ("transformer",),
    seeds: int = 3,
    passes: int = 20,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> dict[str, Any]:
    """English name to name in X, then Y: exact match and chrF on held-out names of each, after each.

    quick: one seed, one pass, an eighth of the test, in sequence alone: enough to see it run, not to translate.
    """
    if quick:
        seeds, passes = 1, 1
    lessons, letters, held = translation_lessons(codes)

    def score(model: nn.Module, lesson: Lesson) -> tuple[float, float]:
        asked = held[lesson.name][:: 8 if quick else 1]
        answered = answers(model, [request for request, _ in asked], letters)
        wanted = [answer for _, answer in asked]
        return mean(a == b for a, b in zip(answered, wanted, strict=True)), chrf(answered, wanted)

    rows = []
    for model in models:
        for optimizer in ("adamw", "deep, both sides") if quick else OPTIMIZERS:
            for kind in KINDS[:1] if quick else KINDS:
                more = {"setting": TRANSLATING[optimizer], "score": score, "device": device}
                runs, seconds = followed(
                    kind, seeds, lessons, len(letters), model=model, optimizer=optimizer, passes=passes, **more
                )
                exact, scored = (
                    [[spread([run[i][j][k] for run in runs]) for j in range(len(lessons))] for i in range(len(runs[0]))]
                    for k in (0, 1)
                )
                row: dict[str, Any] = {"model": model, "optimizer": optimizer, "kind": kind}
                row |= {"exact": exact, "chrf": scored, "seconds": seconds}
                rows.append(row)
                report(
                    f"translation, {model}, {optimizer} {kind}: chrF"
                    f" {[round(cell['mean'], 1) for cell in row['chrf'][-1]]}"
                )
    return {"lessons": [lesson.name for lesson in lessons], "seeds": seeds, "passes": passes, "rows": rows}


def translation_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_translation` found, for the terminal: chrF and exact match on each language after the last, and when it
    was learned."""

    def cell(row: dict[str, Any], i: int, j: int) -> str:
        return f"{row['chrf'][i][j]['mean']:.1f} ({100 * row['exact'][i][j]['mean']:.1f})"

    rows = []
    for row in result["rows"]:
        cells = [
            cell(row, -1, j) + (f", was {cell(row, j, j)}" if len(row["chrf"]) > j + 1 else "")
            for j in range(len(result["lessons"]))
        ]
        rows.append((row["model"], row["optimizer"], row["kind"], *cells, f"{row['seconds']:.0f}"))
    title = f"English name to name: chrF (exact match, percent), {result['seeds']} seeds"
    return [table_of(title, ("model", "optimizer", "", *result["lessons"], "seconds"), rows, 3)]
