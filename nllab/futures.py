"""A fan of futures: one training, branched at many moments or with many values of a knob, each branch to its end.

The stem is trained once. Where a branch leaves it, everything is kept in a checkpoint, the branch's commands are given,
and it is trained to the end of the plan; then the stem goes on from the checkpoint as if nothing had been.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nllab.errors import check_whole, unknown
from nllab.events import measured

if TYPE_CHECKING:
    from nllab.trainer import Trainer

KNOBS = ("toggle", "retention")
RETENTIONS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
AFTER_A_SWITCH = (1, 3, 6, 11, 21)  # steps of a new task in which the moment of the toggle matters most


class Branch(NamedTuple):
    """value: where it stands on the knob's axis. at: the step from which its commands are in force."""

    value: float
    at: int
    commands: tuple[tuple[str, Any], ...]


class Future(NamedTuple):
    """A branch and its accuracies on every task as they were measured, the last ones at the end of the plan."""

    branch: Branch
    curve: list[tuple[int, dict[str, float]]]


def branches(trainer: Trainer, knob: str, count: int = 20) -> list[Branch]:
    """What to try with a fresh trainer: the deep optimizer switched on at `count` moments of the plan, or from the
    first step with several retentions. Raises SettingError for an unknown knob."""
    check_whole("count", count)
    match knob:
        case "toggle":
            return [Branch(at, at, (("optimizer", "deep"),)) for at in moments(trainer, count)]
        case "retention":
            return [Branch(r, 1, (("optimizer", "deep"), ("retention", r))) for r in RETENTIONS]
    raise unknown("knob", knob, KNOBS)


def moments(trainer: Trainer, count: int) -> list[int]:
    """At most `count` steps of the plan, in order: some early in each task after the first, the rest spread evenly."""
    end = trainer.planned_steps
    ends = list(itertools.accumulate(trainer.length([task]) for task in trainer.plan))
    early = [switch + since for switch in ends[:-1] for since in AFTER_A_SWITCH if switch + since <= end]
    early = early[:: max(1, -(-len(early) // max(1, count // 2)))]
    rest = max(2, count - len(early))
    even = [1 + round(i * (end - 1) / (rest - 1)) for i in range(rest)]
    return sorted({*early, *even})[:count]


def grow(trainer: Trainer, wanted: Iterable[Branch]) -> Iterator[Future]:
    """Train every branch to its end, in the order in which they leave the stem. Raises SettingError, before any step,
    for a command that cannot be given."""
    ordered: Sequence[Branch] = sorted(wanted, key=lambda branch: branch.at)
    for branch in ordered:
        for name, value in branch.commands:
            trainer.check(name, value)
    for at, group in itertools.groupby(ordered, key=lambda branch: branch.at):
        while trainer.steps + 1 < at and not trainer.done:
            trainer.step()
        kept = trainer.checkpoint()
        for branch in group:
            for name, value in branch.commands:
                trainer.command(name, value)
            curve = []
            while not trainer.done:
                curve += [(event.step, dict(accuracy)) for event, accuracy in measured(trainer.step())]
            yield Future(branch, curve)
            trainer.rewind(kept)
