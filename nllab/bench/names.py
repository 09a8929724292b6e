"""Languages, one after another: what a character model still knows of the first when it has learned the last.

    names      next characters of the names of five languages in turn; bits per character on held-out names of each,
    after each
    translate  English name to name in language X, then in Y: what is left of X; the small analogue of the paper's Fig.
        8
    texts      the same as names on two texts of the reader's own

Every row is one model and one optimizer, on the same data in the same order: in sequence, its frozen twin (every level
but the output layer stays at its initial values), and jointly, the ceiling, with as many passes. Nothing but the
characters says which language it is, except in translation, where the request names it ("de Finland").

Axes: N names, T characters, V alphabet, L languages.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from nllab.errors import SettingError, unknown
from nllab.levels import Level, Schedule
from nllab.models.classifier import CMSClassifier
from nllab.models.hope import HopeLM, LanguageModel, PeerLM
from nllab.optim.deep import DeepOptimizer
from nllab.optim.leveled import Leveled, members_of
from nllab.optim.output_metric import OutputMetric
from nllab.streams.names import FIVE, WINDOW, languages, pairs
from nllab.streams.stream import side_by_side
from nllab.streams.text import END, IGNORE, Alphabet, as_rows, contexts, read_text, shared_characters


@torch.no_grad()
def bits_per_character(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, batch: int = 256) -> float:
    """Mean -log2 p(next character), the end of a name counted as one; inputs and targets (N, T)."""
    nats = sum(
        F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORE, reduction="sum").item()
        for x, y in zip(inputs.split(batch), targets.split(batch), strict=True)
    )
    return nats / int((targets != IGNORE).sum()) / math.log(2)


def chrf(found: Sequence[str], wanted: Sequence[str], order: int = 6, beta: float = 2.0) -> float:
    """chrF of a whole test set, 0 to 100: F-score of character n-grams up to `order`, recall weighing `beta` times as
    much; without spaces.

    Precision and recall are averaged over the orders for which both sides have n-grams.
    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".
    """
    precision, recall = [], []
    for n in range(1, order + 1):
        same = ours = theirs = 0
        for a, b in zip(found, wanted, strict=True):
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


@dataclass(frozen=True)
class Lesson:
    """One language: what is learned from and what is tested on, rows of characters (N, T) each. in_order: rows are read
    in their order."""

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class CharacterWindow(CMSClassifier):
    """Scores of the next character (B, T, V) at every place of texts (B, T), from the last `window` characters alone.

    Before the first character of a text stands its end, as in the streams of names.
    """

    def __init__(self, vocabulary: int, window: int = WINDOW, dim: int = 256) -> None:
        super().__init__(window * vocabulary, vocabulary, dim=dim, periods=(1,))
        self.vocabulary, self.window = vocabulary, window

    def forward(self, inputs: Tensor) -> Tensor:
        seen = F.pad(inputs, (self.window - 1, 0), value=END).unfold(1, self.window, 1)
        return super().forward(side_by_side(seen.flatten(0, 1), self.vocabulary)).unflatten(0, inputs.shape)


def hope_attention(levels: int, vocabulary: int) -> nn.Module:
    """Attention before 1 to 4 memory levels, which share 288 hidden units."""
    return HopeLM(vocabulary, 96, 2, mixer="attention", heads=4, levels=(1, 4, 16, 64)[:levels], hidden=288 // levels)


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "window": CharacterWindow,
    "transformer": lambda v: PeerLM(v, 96, 2, mixer="attention", heads=4, parameters=SIZE),
    "hope-attention": partial(hope_attention, 3),
    "hope": lambda v: HopeLM(v, 96, 2, heads=2, chunk_size=4, levels=(1, 4, 16), hidden=96),
    **{f"hope-attention-{levels}": partial(hope_attention, levels) for levels in (1, 2, 4)},
}
SIZE = 250_000


class Setting(NamedTuple):
    """How an optimizer is used: its rate, names in a step (some 12 characters each), the ridge of the deep optimizer's
    memory, and the damping of its metric of the outputs."""

    rate: float
    batch: int
    ridge: float = 1.0
    damping: float = 0.03


# Each by its own best `validate` (LOG.md); AdamW trained jointly has the rate that is best for that.
SETTINGS = {"adamw": Setting(1e-4, 8), "deep": Setting(1.4, 16), "deep, both sides": Setting(0.07, 16, damping=0.02)}
JOINT = {**SETTINGS, "adamw": Setting(1e-3, 8)}
# In translation, where the request names the language.
TRANSLATING = {**SETTINGS, "adamw": Setting(1e-3, 8)}
OPTIMIZERS = tuple(SETTINGS)
KINDS = ("in sequence", "frozen twin", "joint")


class Writer:
    """An optimizer and the loss it wants: "adamw", "deep", or "deep, both sides", which has the metric of the outputs
    as well.

    Levels of a language model write at the end of their periods, on the clock of steps.
    """

    def __init__(self, name: str, model: nn.Module, setting: Setting) -> None:
        if name not in SETTINGS:
            raise unknown("optimizer", name, SETTINGS)
        self.metric = OutputMetric(model, damping=setting.damping) if name == "deep, both sides" else None
        self.summed = name != "adamw"
        # A window has one memory level, and the rates that its levels name are for images.
        levels = model.levels() if isinstance(model, LanguageModel) else (Level("all", "*"),)
        if self.summed:
            self.optimizer: DeepOptimizer | Leveled = DeepOptimizer(
                model,
                levels=levels,
                rate=setting.rate,
                ridge=setting.ridge,
                realign_every=0,
                warn=False,
                manager=False,
                loss="cross_entropy",
                loss_reduction="sum",
            )
        else:
            members = members_of(model, levels)
            self.optimizer = Leveled(
                members, Schedule.of(levels), lambda parameters: torch.optim.AdamW(parameters, setting.rate)
            )

    def write(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        """One step on the cross-entropy of the next character: the mean over those asked, for the deep optimizer the
        same summed."""
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        self.optimizer.zero_grad()
        (loss if self.summed else loss / (targets != IGNORE).sum()).backward()
        if self.metric is not None:
            self.metric.precondition()
        self.optimizer.step()


def freeze_all_but_head(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))


def batches(inputs: Tensor, targets: Tensor, size: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Rows of like length side by side, cut to the longest of each batch; the order of the batches is drawn."""
    asked = targets != IGNORE
    lengths = asked.shape[1] - asked.flip(1).int().argmax(1)  # up to the last character that is asked for
    # Ties are broken by chance, so that passes differ.
    order = (lengths + torch.rand(len(lengths), generator=generator)).argsort()
    parts = list(order.split(size))
    return [
        (inputs[rows, : int(lengths[rows].max())], targets[rows, : int(lengths[rows].max())])
        for rows in (parts[int(i)] for i in torch.randperm(len(parts), generator=generator))
    ]


def learn(
    model: nn.Module,
    writer: Writer,
    rows: tuple[Tensor, Tensor],
    *,
    passes: int,
    batch: int,
    generator: torch.Generator,
) -> None:
    for _ in range(passes):
        for inputs, targets in batches(*rows, batch, generator):
            writer.write(model, inputs, targets)


def together(lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """All lessons' training rows as one, padded to the same length."""
    longest = max(lesson.train[0].shape[1] for lesson in lessons)

    def joined(part: int, filler: int) -> Tensor:
        return torch.cat(
            [F.pad(lesson.train[part], (0, longest - lesson.train[part].shape[1]), value=filler) for lesson in lessons]
        )

    return joined(0, END), joined(1, IGNORE)


def follow(
    lessons: Sequence[Lesson],
    vocabulary: int,
    *,
    model: str,
    optimizer: str,
    seed: int,
    passes: int,
    setting: Setting | None = None,
    joint: bool = False,
    frozen: bool = False,
    score: Callable[[nn.Module, Lesson], Any] = lambda model, lesson: bits_per_character(model, *lesson.test),
) -> list[list[Any]]:
    """Learn lesson after lesson (or all at once) and score every lesson after each: row i is what is known after lesson
    i."""
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    torch.manual_seed(seed)
    net = MODELS[model](vocabulary)
    if frozen:
        freeze_all_but_head(net)
    setting = setting or (JOINT if joint else SETTINGS)[optimizer]
    writer, generator = Writer(optimizer, net, setting), torch.Generator().manual_seed(seed)
    found = []
    for rows in [together(lessons)] if joint else [lesson.train for lesson in lessons]:
        learn(net.train(), writer, rows, passes=passes, batch=setting.batch, generator=generator)
        net.eval()
        found.append([score(net, lesson) for lesson in lessons])
    return found


def name_lessons(codes: Sequence[str], seed: int = 0, validation: bool = False) -> tuple[list[Lesson], Alphabet]:
    """The names of each language as lessons, and the alphabet of all of them; with `validation`, those that settings
    are chosen on."""
    tongues = languages(codes, seed=seed, validation=validation)
    letters = Alphabet(name for tongue in tongues for table in (tongue.train, tongue.test) for name in table.values())
    return [
        Lesson(t.about, as_rows([*t.train.values()], letters), as_rows([*t.test.values()], letters)) for t in tongues
    ], letters


def validate(
    optimizer: str, setting: Setting, *, model: str = "window", joint: bool = False, passes: int = 3, seed: int = 0
) -> float:
    """Bits per character, average over five languages after the last, on names held out from the training names: what
    settings are chosen by."""
    lessons, letters = name_lessons(FIVE, validation=True)
    found = follow(
        lessons, len(letters), model=model, optimizer=optimizer, seed=seed, passes=passes, setting=setting, joint=joint
    )
    return mean(found[-1])


def text_lessons(paths: Sequence[str], context: int = 64) -> tuple[list[Lesson], Alphabet, str]:
    """Texts of the reader's own as lessons, and what their alphabets have in common, in words.

    Raises: DataError for a text that cannot be used, see `read_text`.
    """
    texts = [read_text(path, context=context) for path in paths]
    letters = Alphabet(text.train for text in texts)
    return (
        [Lesson(t.name, contexts(t.train, letters, context), contexts(t.test, letters, context)) for t in texts],
        letters,
        shared_characters(texts[0].train, texts[1].train),
    )


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
    found: list[str] = [""] * len(requests)
    by_length: dict[int, list[int]] = {}
    for i, request in enumerate(requests):
        by_length.setdefault(len(request), []).append(i)
    for group in by_length.values():
        tokens = torch.tensor([[END, *letters.encode(requests[i])] for i in group])
        start = tokens.shape[1]
        for _ in range(longest):
            tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], 1)
            if (tokens[:, start:] == END).any(1).all():
                break
        for i, row in zip(group, tokens[:, start:].tolist(), strict=True):
            found[i] = letters.decode(row)
    return found


def gap_closed(sequence: float, joint: float, ours: float) -> float | None:
    """Share of the gap between AdamW in sequence and AdamW trained jointly that is closed; None where there is no
    gap."""
    return None if sequence <= joint else (sequence - ours) / (sequence - joint)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else None, "values": list(values)}


def _followed(
    kind: str, seeds: int, lessons: Sequence[Lesson], characters: int, **settings: Any
) -> tuple[list[Any], float]:
    """What `follow` returns for each seed of one of KINDS, and the seconds it took."""
    started = time.perf_counter()
    settings |= {"joint": kind == "joint", "frozen": kind == "frozen twin"}
    return [follow(lessons, characters, seed=seed, **settings) for seed in range(seeds)], time.perf_counter() - started


def run_names(
    *,
    codes: Sequence[str] = FIVE,
    texts: Sequence[str] = (),
    models: Sequence[str] = ("window",),
    seeds: int = 3,
    passes: int = 3,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Next characters, language after language (or text after text): bits per character as plain numbers, AdamW beside
    deep.

    quick: two languages, one seed, one pass. Raises: see `languages` and `read_text`; SettingError for one text alone.
    """
    for name in models:
        if name not in MODELS:
            raise unknown("model", name, MODELS)
    if len(texts) == 1:
        raise SettingError(f"One text was given, {texts[0]!r}; learning one after another takes two or more.")
    if quick:
        codes, seeds, passes = codes[:2], 1, 1
    about = "Names of places, languages and currencies (CLDR)."
    if texts:
        lessons, letters, about = text_lessons(texts)
        report(about)
    else:
        lessons, letters = name_lessons(codes)
    rows = []
    for model in models:
        for optimizer in OPTIMIZERS:
            for kind in KINDS:
                scores, seconds = _followed(
                    kind, seeds, lessons, len(letters), model=model, optimizer=optimizer, passes=passes
                )
                last = [mean(found[-1]) for found in scores]
                row = {
                    "model": model,
                    "optimizer": optimizer,
                    "kind": kind,
                    "average": _summary(last),
                    "bits": [
                        [mean(s[i][j] for s in scores) for j in range(len(lessons))] for i in range(len(scores[0]))
                    ],
                    "seconds": seconds,
                }
                rows.append(row)
                report(
                    f"{model}, {optimizer} {kind}: {row['average']['mean']:.3f} bits per character"
                    f" ({row['seconds']:.0f} s)"
                )
        here = {(row["optimizer"], row["kind"]): row["average"]["mean"] for row in rows if row["model"] == model}
        for row in rows[-len(KINDS) * len(OPTIMIZERS) :]:
            row["gap_closed"] = gap_closed(here["adamw", "in sequence"], here["adamw", "joint"], row["average"]["mean"])
    return {
        "about": about,
        "lessons": [lesson.name for lesson in lessons],
        "characters": len(letters),
        "uniform": math.log2(len(letters)),
        "seeds": seeds,
        "passes": passes,
        "settings": {name: setting._asdict() for name, setting in SETTINGS.items()},
        "rows": rows,
    }


def run_translation(
    *,
    codes: Sequence[str] = ("de", "tr"),
    models: Sequence[str] = ("transformer",),
    seeds: int = 3,
    passes: int = 20,
    quick: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """English name to name in X, then Y: exact match and chrF on held-out names of each, after each.

    quick: one seed, one pass, an eighth of the test, in sequence alone: enough to see it run, not to translate.
    """
    if quick:
        seeds, passes = 1, 1
    lessons, letters, held = translation_lessons(codes)

    def score(model: nn.Module, lesson: Lesson) -> tuple[float, float]:
        asked = held[lesson.name][:: 8 if quick else 1]
        found = answers(model, [request for request, _ in asked], letters)
        wanted = [answer for _, answer in asked]
        return mean(a == b for a, b in zip(found, wanted, strict=True)), chrf(found, wanted)

    rows = []
    for model in models:
        for optimizer in ("adamw", "deep, both sides") if quick else OPTIMIZERS:
            for kind in KINDS[:1] if quick else KINDS:
                more = {"setting": TRANSLATING[optimizer], "score": score}
                runs, seconds = _followed(
                    kind, seeds, lessons, len(letters), model=model, optimizer=optimizer, passes=passes, **more
                )
                row = {
                    "model": model,
                    "optimizer": optimizer,
                    "kind": kind,
                    "exact": [
                        [_summary([run[i][j][0] for run in runs]) for j in range(len(lessons))]
                        for i in range(len(runs[0]))
                    ],
                    "chrf": [
                        [_summary([run[i][j][1] for run in runs]) for j in range(len(lessons))]
                        for i in range(len(runs[0]))
                    ],
                    "seconds": seconds,
                }
                rows.append(row)
                report(
                    f"translation, {model}, {optimizer} {kind}: chrF"
                    f" {[round(cell['mean'], 1) for cell in row['chrf'][-1]]}"
                )
    return {"lessons": [lesson.name for lesson in lessons], "seeds": seeds, "passes": passes, "rows": rows}


def names_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_names` found, for the terminal: bits per character on each lesson after the last, and when each was
    learned."""
    title = (
        f"bits per character on held-out text, {result['seeds']} seeds, {result['passes']} passes; knowing nothing:"
        f" {result['uniform']:.2f}"
    )
    table = Table(title=title, title_justify="left")
    for column in ("model", "optimizer", "", *result["lessons"], "average", "gap closed", "seconds"):
        table.add_column(column, justify="left" if column in ("model", "optimizer", "") else "right")
    for row in result["rows"]:
        last, average = row["bits"][-1], row["average"]
        spread = "" if average["std"] is None else f" ± {average['std']:.3f}"
        learned = [row["bits"][min(i, len(row["bits"]) - 1)][i] for i in range(len(last))]
        cells = [
            f"{now:.2f} (was {then:.2f})" if len(row["bits"]) > 1 else f"{now:.2f}"
            for now, then in zip(last, learned, strict=True)
        ]
        closed = "–" if row["gap_closed"] is None else f"{100 * row['gap_closed']:.0f} %"
        table.add_row(
            row["model"],
            row["optimizer"],
            row["kind"],
            *cells,
            f"{average['mean']:.3f}{spread}",
            closed,
            f"{row['seconds']:.0f}",
        )
    return [table]


def translation_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_translation` found, for the terminal: chrF and exact match on each language after the last, and when it
    was learned."""
    table = Table(
        title=f"English name to name: chrF (exact match, percent), {result['seeds']} seeds", title_justify="left"
    )
    for column in ("model", "optimizer", "", *result["lessons"], "seconds"):
        table.add_column(column, justify="left" if column in ("model", "optimizer", "") else "right")

    def cell(row: dict[str, Any], i: int, j: int) -> str:
        return f"{row['chrf'][i][j]['mean']:.1f} ({100 * row['exact'][i][j]['mean']:.1f})"

    for row in result["rows"]:
        cells = []
        for j in range(len(result["lessons"])):
            was = f", was {cell(row, j, j)}" if len(row["chrf"]) > j + 1 else ""
            cells.append(cell(row, -1, j) + was)
        table.add_row(row["model"], row["optimizer"], row["kind"], *cells, f"{row['seconds']:.0f}")
    return [table]
