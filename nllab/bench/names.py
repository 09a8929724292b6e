"""Languages, one after another: what a character model still knows of the first when it has learned the last.

Next characters of the names of five languages in turn, or of texts of the reader's own: bits per character on
held-out names of each, after each. translation.py asks for answers instead.

Every row is one model and one optimizer, on the same data in the same order: in sequence, its frozen twin (every level
but the output layer stays at its initial values), and jointly, the ceiling, with as many passes. Nothing but the
characters says which language it is.

Axes: N names, T characters, V alphabet, L languages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from nllab.bench.training import SETTINGS as TRAINED
from nllab.errors import SettingError, check_choice
from nllab.experiment import Experiment
from nllab.levels import Level
from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.models.classifier import CMSClassifier
from nllab.models.hope import HopeLM, LanguageModel, PeerLM
from nllab.optim.deep import DeepOptimizer
from nllab.optim.output_metric import OutputMetric
from nllab.streams.names import FIVE, WINDOW, languages
from nllab.streams.sequences import drawn
from nllab.streams.stream import Drawn, Part, Stream, side_by_side
from nllab.streams.text import END, IGNORE, Alphabet, as_rows, contexts, read_text, shared_characters
from nllab.summary import spread
from nllab.tables import mean_std, table_of
from nllab.trainer import Trainer


@torch.no_grad()
def bits_per_character(model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, batch: int = 256) -> float:
    """Mean -log2 p(next character), the end of a name counted as one; inputs and targets (N, T)."""
    nats = sum(
        F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORE, reduction="sum").item()
        for x, y in zip(inputs.split(batch), targets.split(batch), strict=True)
    )
    return nats / int((targets != IGNORE).sum()) / math.log(2)


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
OPTIMIZERS = tuple(SETTINGS)
KINDS = ("in sequence", "frozen twin", "joint")


class NextCharacter(Method):
    """Cross-entropy of the next character: the mean over those asked for AdamW; summed for the deep optimizer, whose
    gradients the metric of the outputs may precondition before the step.

    Needs: nothing. Keeps: the metric.
    """

    def __init__(self, objective: Objective, summed: bool, metric: OutputMetric | None) -> None:
        self.objective = objective
        self.summed, self.metric, self.memory, self.generator = summed, metric, {}, torch.Generator()

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        scores, labels = model(batch.inputs), batch.labels.flatten()
        loss = F.cross_entropy(scores.flatten(0, 1), labels, ignore_index=IGNORE, reduction="sum")
        return scores, loss if self.summed else loss / (labels != IGNORE).sum()

    def before_step(self, model: nn.Module) -> None:
        if self.metric is not None:
            self.metric.precondition()


def trainer_of(
    model: nn.Module, optimizer: str, setting: Setting, stream: Stream, *, passes: int, seed: int, device: str
) -> Trainer:
    """A trainer of a language model: "adamw", "deep", or "deep, both sides", which has the metric of the outputs as
    well. Levels of a language model write at the end of their periods, on the clock of steps."""
    check_choice("optimizer", optimizer, SETTINGS)
    # A window has one memory level, and the rates that its levels name are for images.
    levels = model.levels() if isinstance(model, LanguageModel) else (Level("all", "*"),)
    summed = optimizer != "adamw"
    metric = OutputMetric(model, damping=setting.damping) if optimizer == "deep, both sides" else None
    deep = DeepOptimizer(
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
    settings = TRAINED | {"optimizer": "deep" if summed else "adamw", "batch_size": setting.batch, "epochs": passes}
    return Trainer(
        Experiment(**settings, seed=seed),
        model=model,
        stream=stream,
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], setting.rate),
        deep=deep,
        method=NextCharacter(Objective("cross_entropy", "all", stream.classes), summed, metric),
        levels=levels,
        device=device,
    )


def freeze_all_but_head(model: nn.Module) -> None:
    """Let nothing but the head of a model be trained, in place."""
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


def stream_of(
    parts: Sequence[tuple[Tensor, Tensor]], tested: Sequence[Part], vocabulary: int, batch: int, seed: int
) -> Stream:
    """Rows to learn from, one after another, as a stream whose every pass has its own batches."""
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: tuple[Tensor, Tensor]) -> Iterator[Part]:
        while True:
            yield from (Part(*drawn) for drawn in batches(*rows, batch, generator))

    sources = [Drawn(len(rows[0]), partial(next, draw(rows))) for rows in parts]
    return drawn("text", sources, tested, vocabulary)


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
    device: str = "cpu",
    score: Callable[[nn.Module, Lesson], Any] = lambda model, lesson: bits_per_character(model, *lesson.test),
) -> list[list[Any]]:
    """Learn lesson after lesson (or all at once) and score every lesson after each: row i is what is known after lesson
    i."""
    check_choice("model", model, MODELS)
    torch.manual_seed(seed)
    net = MODELS[model](vocabulary)
    if frozen:
        freeze_all_but_head(net)
    setting = setting or (JOINT if joint else SETTINGS)[optimizer]
    parts = [together(lessons)] if joint else [lesson.train for lesson in lessons]
    first = [Part(*lesson.test)[:1] for lesson in lessons][: len(parts)]
    stream = stream_of(parts, first, vocabulary, setting.batch, seed)
    trainer = trainer_of(net.train(), optimizer, setting, stream, passes=passes, seed=seed, device=device)
    asked = [replace(lesson, test=tuple(part.to(trainer.device) for part in lesson.test)) for lesson in lessons]
    scores = []
    for number in range(len(parts)):
        while trainer.experience == number and not trainer.done:
            trainer.step()
        net.eval()
        scores.append([score(net, lesson) for lesson in asked])
        net.train()
    return scores


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
    scores = follow(
        lessons, len(letters), model=model, optimizer=optimizer, seed=seed, passes=passes, setting=setting, joint=joint
    )
    return mean(scores[-1])


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


def gap_closed(sequence: float, joint: float, ours: float) -> float | None:
    """Share of the gap between AdamW in sequence and AdamW trained jointly that is closed; None where there is no
    gap."""
    return None if sequence <= joint else (sequence - ours) / (sequence - joint)


def followed(
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
    device: str = "cpu",
) -> dict[str, Any]:
    """Next characters, language after language (or text after text): bits per character as plain numbers, AdamW beside
    deep.

    quick: two languages, one seed, one pass. Raises: see `languages` and `read_text`; SettingError for one text alone.
    """
    for name in models:
        check_choice("model", name, MODELS)
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
                scores, seconds = followed(
                    kind, seeds, lessons, len(letters), model=model, optimizer=optimizer, passes=passes, device=device
                )
                last = [mean(found[-1]) for found in scores]
                row = {
                    "model": model,
                    "optimizer": optimizer,
                    "kind": kind,
                    "average": spread(last),
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


def names_tables(result: dict[str, Any]) -> list[Table]:
    """What `run_names` found, for the terminal: bits per character on each lesson after the last, and when each was
    learned."""
    title = (
        f"bits per character on held-out text, {result['seeds']} seeds, {result['passes']} passes; knowing nothing:"
        f" {result['uniform']:.2f}"
    )
    rows = []
    for row in result["rows"]:
        last = row["bits"][-1]
        learned = [row["bits"][min(i, len(row["bits"]) - 1)][i] for i in range(len(last))]
        cells = [
            f"{now:.2f} (was {then:.2f})" if len(row["bits"]) > 1 else f"{now:.2f}"
            for now, then in zip(last, learned, strict=True)
        ]
        closed = "–" if row["gap_closed"] is None else f"{100 * row['gap_closed']:.0f} %"
        names = (row["model"], row["optimizer"], row["kind"])
        rows.append((*names, *cells, mean_std(row["average"]), closed, f"{row['seconds']:.0f}"))
    heads = ("model", "optimizer", "", *result["lessons"], "average", "gap closed", "seconds")
    return [table_of(title, heads, rows, 3)]
