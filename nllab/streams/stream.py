"""What a stream is: tasks with training, validation and test parts, and the order in which a learner meets them.

The learner sees batches alone: no task identity, no boundary signal. One output layer serves all tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.data.report import Report
from nllab.errors import DataError

IGNORE = -100  # in place of a label where nothing is asked; torch's own


def share_right(scores: Tensor, labels: Tensor) -> float:
    """Share of the labels that are asked for whose score is the highest. scores (..., classes), labels (...)."""
    asked = labels != IGNORE
    return int(((scores.argmax(-1) == labels) & asked).sum()) / max(int(asked.sum()), 1)


def side_by_side(seen: Tensor, classes: int) -> Tensor:
    """Windows of classes (..., W) one-hot side by side, (..., W * classes), of unit mean square."""
    return F.one_hot(seen, classes).flatten(-2).float() * classes**0.5


@dataclass(frozen=True)
class Part:
    """Inputs (N, D) float32 and class labels (N,) int64; or, of sequences, tokens (N, T) int64 and labels (N, T),
    IGNORE where nothing is asked."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor | slice) -> Part:
        return Part(self.inputs[rows], self.labels[rows])

    @property
    def texts(self) -> list[list[int]]:
        """The labels cut where class 0 ends a text: the texts behind a stream of next characters."""
        texts: list[list[int]] = [[]]
        for label in self.labels.tolist():
            if label:
                texts[-1].append(label)
            else:
                texts.append([])
        return texts[:-1]

    def to(self, device: torch.device) -> Part:
        """On another device."""
        return Part(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Drawn:
    """A training part that is not kept but drawn: whichever rows are asked for, `draw()` gives the next batch.

    count: the samples of a pass. What `draw` remembers is its own, so that a run on it cannot go back to a checkpoint.
    """

    count: int
    draw: Callable[[], Part]
    device: torch.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Tensor | slice) -> Part:
        return self.draw().to(self.device)

    def to(self, device: torch.device) -> Drawn:
        """The same source, whose batches are on another device."""
        return replace(self, device=device)


@dataclass(frozen=True)
class Task:
    """One task: its name on every axis, what it teaches in words, and its three parts (validation may be empty).

    in_order: the training samples arrive in the order in which they lie here, in every pass; otherwise each pass draws
        an order.
    """

    name: str
    about: str
    train: Part
    validation: Part
    test: Part
    in_order: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            if not len(getattr(self, part)):
                raise DataError(
                    f"Task {self.name!r} has an empty {part} part; every task needs at least one sample in it."
                )


@dataclass(frozen=True)
class Context:
    """From training sample `start` on, in the order of the stream, class c is called names[c]."""

    start: int
    names: tuple[int, ...]

    @property
    def swapped(self) -> tuple[int, ...]:
        """The classes that have another name than their own."""
        return tuple(c for c, name in enumerate(self.names) if c != name)


@dataclass(frozen=True)
class Stream:
    """Tasks and the plan of visits; plan[i] is the index of the task that experience i teaches.

    A stream of several tasks is scored by its accuracy matrix. A stream of one task, whose data changes as it flows, is
    scored by the mean online accuracy and by the accuracy on clean test data at the end (the 1 x 1 accuracy matrix).
    letters: of a stream that asks for the next character, what its classes from 1 on stand for; class 0 ends a text.
    report: of the user's own data, what was understood of it.
    words: what the classes are called, where that is not their number.
    contexts: of a stream of one task in order, what its classes are called from which sample on.
    """

    name: str
    about: str
    tasks: tuple[Task, ...]
    plan: tuple[int, ...]
    classes: int
    image_shape: tuple[int, int] | None = None
    letters: str = ""
    report: Report | None = None
    words: tuple[str, ...] = ()
    contexts: tuple[Context, ...] = ()

    @property
    def features(self) -> int:
        """Width of an input; of sequences, their length."""
        return self.tasks[0].test.inputs.shape[1]

    @property
    def class_words(self) -> list[str] | None:
        """What the classes are called, by words or letters (class 0 ends a text); None where by their numbers."""
        return list(self.words) or (["end", *self.letters] if self.letters else None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, by their numbers if need be."""
        return tuple(self.class_words or map(str, range(self.classes)))

    @property
    def sequences(self) -> bool:
        """Whether its inputs are sequences of tokens, with a label for each."""
        return self.tasks[0].test.labels.ndim == 2

    def to(self, device: torch.device) -> Stream:
        """On another device."""
        moved = (
            replace(t, train=t.train.to(device), validation=t.validation.to(device), test=t.test.to(device))
            for t in self.tasks
        )
        return replace(self, tasks=tuple(moved))

    def joint(self) -> Part:
        """The training samples of all tasks together."""
        parts = [task.train for task in self.tasks]
        return Part(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))

    @property
    def task_names(self) -> tuple[str, ...]:
        """In the order of the columns of an accuracy matrix."""
        return tuple(task.name for task in self.tasks)


@dataclass(frozen=True)
class Images:
    """A labelled image set cut into parts that share no sample; inputs are flat rows of pixels, already normalised."""

    train: Part
    validation: Part
    test: Part
    classes: int
    image_shape: tuple[int, int] = field(default=(8, 8))
    words: tuple[str, ...] = ()


def class_incremental(
    images: Images, groups: tuple[tuple[int, ...], ...], *, name: str, about: str, plan: tuple[int, ...] | None = None
) -> Stream:
    """Tasks that bring new classes: task i holds the samples whose label is in groups[i]. plan: the visits; empty, each
    once."""

    def of(part: Part, group: tuple[int, ...]) -> Part:
        return part[torch.isin(part.labels, torch.tensor(group))]

    tasks = tuple(
        Task(
            letter(i),
            "classes " + ", ".join(map(str, group)),
            of(images.train, group),
            of(images.validation, group),
            of(images.test, group),
        )
        for i, group in enumerate(groups)
    )
    return Stream(
        name, about, tasks, plan or tuple(range(len(tasks))), images.classes, images.image_shape, words=images.words
    )


def permuted(images: Images, count: int, seed: int, *, name: str, about: str) -> Stream:
    """Tasks that share all classes and differ in the order of the pixels; the first keeps the order of the images."""
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for i in range(count):
        order = (
            torch.arange(images.train.inputs.shape[1])
            if i == 0
            else torch.randperm(images.train.inputs.shape[1], generator=generator)
        )
        parts = (replace(part, inputs=part.inputs[:, order]) for part in (images.train, images.validation, images.test))
        train, validation, test = parts
        tasks.append(
            Task(
                letter(i),
                "the images as they are" if i == 0 else f"the images under pixel order {i}",
                train,
                validation,
                test,
            )
        )
    return Stream(
        name, about, tuple(tasks), tuple(range(count)), images.classes, images.image_shape, words=images.words
    )


def rotated(part: Part, degrees: Tensor, shape: tuple[int, int], background: float) -> Part:
    """Images turned about their middle, each by its own angle (N,) or all by one, bilinear; what turns in from outside
    is background."""
    if not len(part):
        return part
    turn = torch.deg2rad(degrees.expand(len(part)))
    zero = torch.zeros_like(turn)
    rows = [torch.stack([turn.cos(), -turn.sin(), zero], 1), torch.stack([turn.sin(), turn.cos(), zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [len(part), 1, *shape], align_corners=False)
    images = part.inputs.reshape(-1, 1, *shape) - background
    return replace(part, inputs=(F.grid_sample(images, grid, align_corners=False) + background).flatten(1))


def letter(index: int) -> str:
    """The name of task `index`: A, B, ... Z, then A2, B2, ..."""
    turn, rest = divmod(index, 26)
    return chr(ord("A") + rest) + (str(turn + 1) if turn else "")
