"""What one watcher of a live run is told, message by message: only what is new, as what to add to the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nllab import claims, figures, narration, pictures
from nllab.events import Command, Decision, End, Event, Experience, Step, Switch, Untrained, jsonable, measured
from nllab.runs import periods_asked
from nllab.scenes import Scenes, changed_levels, stage

if TYPE_CHECKING:
    from nllab.live import LiveRun
    from nllab.runs import Run

STEPS_PER_MESSAGE = 60  # more than this in one message is finer than a screen
STILLS_OF_THE_PAST = 30  # of each picture
STILLS = {Experience: "matrix"}  # kind of event -> picture; the others are the stage's
STEPS_OF_THE_PAST = 1_000  # for a watcher who comes late
LOOK_BACK = 400  # events in which a level that writes seldom was measured at least once
TURNS = (Untrained, Switch, Command, Experience, End)  # kinds of events after which the whole overlay is drawn anew
SHOWN = ("step", "playing", "finished", "task", "optimizer", "error", "notice", "place", "checkpoints", "opened")


class Feed:
    """`news()` gives the next message for a watcher; `place` is where it ended, so that a lost line resumes there."""

    def __init__(self, live: LiveRun, place: str = "") -> None:
        self.live = live
        generation, _, cursor = place.partition(":")
        self.generation = int(generation) if generation.isdigit() else -1
        self.cursor = int(cursor) if cursor.isdigit() else 0
        self._is_new = True
        self._status: dict[str, Any] = {}
        self._told_joint: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._scenes, self._sent, self._portrait = Scenes(self.live.subject.drawable), {}, (-1, -1)

    @property
    def place(self) -> str:
        return f"{self.generation}:{self.cursor}"

    def news(self) -> dict[str, Any] | None:
        """What has happened since the last message, or None if nothing has."""
        message: dict[str, Any] = {}
        run, state = self.live.run, self.live.state
        chance = 1 / len(self.live.subject.classes)
        if opened := self.live.generation != self.generation:
            self.generation, self.cursor = self.live.generation, 0
            self._forget()
            shape = {"steps": state.planned_steps, "chance": chance}
            message["open"] = {
                "figures": {name: figures.empty(name, run.tasks, run.levels, **shape) for name in figures.CURVES},
                "tasks": run.tasks,
                "levels": list(run.levels),
                "stage": _stage(self.live),
            }
        elif self._is_new:  # a line that was lost resumes: what stands beside its next portraits was told before
            list(self._scenes.read(run.log[: self.cursor]))
        events = run.log[self.cursor :]
        if stills := self._stills(run, events):
            message["stills"] = stills
        self.cursor += len(events)
        if portraits := self._portraits(events, bool(opened)):
            message["scenes"] = portraits
        if events:
            kept = figures.thin(events, STEPS_OF_THE_PAST if opened else STEPS_PER_MESSAGE)
            message["add"] = {name: figures.points(name, kept, run.tasks, run.levels) for name in figures.CURVES}
            message["ends"] = {name: found for name in figures.CURVES if (found := self._ends(name, run, events))}
            steps = [event.levels for event in events if isinstance(event, Step)]
            if steps:
                message["wrote"] = [name for name in run.levels if any(levels[name].wrote for levels in steps)]
                message["writes"] = {name: steps[-1][name].writes for name in run.levels}
                message["held"] = self._scenes.beside["held"]
            message["log"] = [jsonable(event) for event in events if isinstance(event, Decision)]
        ceiling = self._ceiling()
        joint = sum(ceiling.values()) / len(ceiling) if ceiling else None
        eventful = (
            opened or self._is_new or joint != self._told_joint or any(isinstance(event, TURNS) for event in events)
        )
        self._told_joint = joint
        if eventful:
            found = [*figures.marks(run.log), *figures.label_marks(run.experiment, state.planned_steps)]
            message["overlay"] = {
                name: figures.overlay(name, found, chance=chance, joint=joint) for name in figures.CURVES
            }
            message["periods"] = _periods(run)
            message["lanes"] = figures.lanes(message["periods"])
        past = run.log[: self.cursor]  # the training goes on meanwhile, and sentence and numbers are of one moment
        if eventful or events:
            message["sentence"] = (
                narration.sentence(past, run.tasks) if past else "Press Play: the network has learned nothing yet."
            )
        if eventful or any(measured(events)):
            message["hint"] = claims.hint(run)
            told = (claims.what_became(run, ceiling), claims.why_it_loses(run))
            message["became"] = " ".join(filter(None, told)) or None
        status = self.live.status()
        now = {key: status[key] for key in SHOWN}
        now["step"] = next((event.step for event in reversed(past) if isinstance(event, Step)), now["step"])
        now["taught"] = list(dict.fromkeys(event.task for event in past if isinstance(event, Switch)))
        now["accuracy"] = next((accuracy for _, accuracy in measured(reversed(past))), {})
        if now != self._status:
            self._status = message["now"] = now
        self._is_new = False
        return message or None

    def _portraits(self, events: Sequence[Event], past: bool) -> list[dict[str, Any]]:
        """The scenes that are new: those of the past for a newcomer, then the network as it is now."""
        recorded = list(self._scenes.read(events))
        found = recorded if past or not self._scenes.drawn else []
        now = self.live.portrait()
        if now and (place := (self.live.generation, now[-1].step)) != self._portrait:
            self._portrait = place
            found = [*found, *self._scenes.read(now)]
        return [changed_levels(scene, self._sent) for scene in found]

    def _ends(self, name: str, run: Run, events: Sequence[Event]) -> dict[str, list] | None:
        """The labels where the curves end; slow levels were measured some time ago."""
        found = figures.ends(name, events, run.tasks, run.levels)
        if found and name in figures.SIGNALS:
            return figures.ends(name, run.log[max(0, self.cursor - LOOK_BACK) : self.cursor], run.tasks, run.levels)
        return found

    def _stills(self, run: Run, events: Sequence[Event]) -> list[tuple[str, int, figures.Spec]]:
        """The pictures that these events, from the cursor on, bring; of a long past every so many."""
        found = []
        for kind, name in STILLS.items():
            places = [i for i, event in enumerate(events) if isinstance(event, kind)]
            stride = -(-len(places) // STILLS_OF_THE_PAST) or 1
            for i in reversed(places[::-1][::stride]):
                spec = pictures.still(name, run, self.cursor + i + 1)
                if spec:
                    found.append((name, events[i].step, spec))
        return found

    def _ceiling(self) -> dict[str, float] | None:
        """What joint training reaches on each task, where somebody asked for it and it has been trained."""
        ceiling = self.live.ceiling
        told = ceiling.run.last(Experience) if ceiling else None
        return told.accuracy if told else None


def together(feeds: Sequence[Feed]) -> dict[str, Any] | None:
    """The news of all runs of a page in one message, and how they compare, or None if nothing has happened."""
    runs = [feed.news() for feed in feeds]
    if not any(runs):
        return None
    message: dict[str, Any] = {"runs": runs}
    if len(feeds) > 1 and any(news and "hint" in news for news in runs):
        message["together"] = narration.contrast([feed.live.run for feed in feeds], feeds[0].live.asked)
    return message


def _stage(live: LiveRun) -> dict[str, Any]:
    """What a stage has to know of a run before anything happens."""
    subject = live.subject
    return stage(
        list(subject.samples),
        list(live.run.levels),
        weights=subject.weights,
        drawn=subject.drawable,
    )


def _periods(run: Run) -> dict[str, int]:
    return run.levels | periods_asked(run.log)
