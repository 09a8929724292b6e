"""The scenes of a run: each portrait of the network with what stands beside it, for the view modules. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nllab import figures
from nllab.events import Answers, Event, Network, Samples, Step, Surface, Switch, Texts, jsonable


class Scenes:
    """Reads events in order and keeps what a portrait taken now would stand beside."""

    def __init__(self, drawn: bool = True) -> None:
        self.drawn = drawn  # else a scene is what the network answers
        self.beside: dict[str, Any] = {"written": {}, "held": {}, "task": None, "earlier": None, "acting": ""}
        self._taught: list[str] = []

    def read(self, events: Iterable[Event]) -> Iterator[dict[str, Any]]:
        """The scenes of the portraits among these events."""
        for event in events:
            match event:
                case Switch():
                    earlier = [task for task in self._taught if task != event.task]
                    self.beside |= {"task": event.task, "earlier": earlier[0] if earlier else None}
                    self._taught.append(event.task)
                case Step():
                    self._step(event)
                case Answers():
                    self.beside["answers"] = event.answers
                    yield from self._undrawn(event.step)
                case Texts():
                    self.beside["texts"] = event.texts
                    yield from self._undrawn(event.step)
                case Surface():
                    self.beside["surface"] = {"span": event.span, "classes": event.classes}
                case Network():
                    yield self.scene(event)

    def _undrawn(self, step: int) -> Iterator[dict[str, Any]]:
        if not self.drawn:
            yield {**self.beside, "step": step, "levels": {}}

    def _step(self, event: Step) -> None:
        deep = event.optimizer == "deep"  # any other writes whatever it has computed: nothing is held back
        measured = {name: level for name, level in event.levels.items() if level.conflict is not None}
        held = {name: _shares(level.held or {"": level.conflict or 0.0}) for name, level in measured.items()}
        before = self.beside["held"] if deep else {}
        self.beside |= {
            "written": {name: level.writes for name, level in event.levels.items()},
            "held": before | held if deep else {},
            "acting": event.optimizer,
        }

    def scene(self, portrait: Network) -> dict[str, Any]:
        """This portrait beside what has been read so far."""
        drawing = jsonable(portrait)
        del drawing["kind"]
        return {**self.beside, **drawing}


def _shares(held: Mapping[str, float]) -> dict[str, float]:
    """Of a write, what is held back for each task's sake ("" where nobody knows for whose), without what pushes on."""
    return {task: round(share, 3) for task, share in held.items() if share > 0}


def changed_levels(scene: dict[str, Any], sent: dict[str, str]) -> dict[str, Any]:
    """The scene without the weights that are as they were in `sent` (level -> weights), which is brought up to date."""
    levels = {}
    for name, level in scene["levels"].items():
        same = sent.get(name) == level["weights"]
        sent[name] = level["weights"]
        levels[name] = {key: value for key, value in level.items() if key == "retained"} if same else level
    return {**scene, "levels": levels}


def stage(
    samples: Iterable[Event], levels: Sequence[str], *, weights: int | None = None, drawn: bool
) -> dict[str, Any]:
    """What a stage has to know of a run before anything happens. weights: how many the network has. drawn: whether
    portraits of it come."""
    shown = next((event for event in samples if isinstance(event, Samples)), None)
    opening = jsonable(shown) if shown else {}
    return {
        "classes": opening.get("words", []),
        "samples": {"tasks": opening["tasks"], "shape": opening.get("shape")} if shown else None,
        "given": opening.get("given"),
        "drawn": drawn,
        "weights": weights,
        "shades": figures.level_colours(levels),
    }
