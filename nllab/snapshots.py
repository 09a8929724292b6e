"""What a picture of a moment needs, as events: answers to some test samples, texts written on, the decision surface,
where weights moved, the network unit by unit. Taking one draws no randomness and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nllab import probes
from nllab.events import Answers, Event, Samples, Surface, TaskSamples, Texts, Where
from nllab.levels import Level
from nllab.portrait import Portraitist
from nllab.streams.stream import Part, Stream

MOST_TASKS_SHOWN, POINTS_SHOWN = 5, 100
IMAGES_SHOWN, FEWEST_IMAGES, PIXELS_SHOWN = 80, 12, 40_000  # test images of all tasks together; as many as fit
TEXTS_SHOWN, GIVEN = 12, 3  # test texts that the model continues, of all tasks together, and the letters it is given
SNAPSHOT_BITS = 6  # so many powers of two of measurements have all their pictures; then half, a quarter, and so on


class Snapshots:
    """Takes the pictures of one model on one stream. part: "test" or "validation", where the samples come from."""

    def __init__(self, model: nn.Module, levels: tuple[Level, ...], stream: Stream, part: str, every: int) -> None:
        self.model, self.stream, self.every = model, stream, every
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.plane = stream.features == 2 and not stream.sequences
        few = len(stream.tasks) <= MOST_TASKS_SHOWN and not stream.sequences
        parts = {task.name: getattr(task, part) for task in stream.tasks} if few else {}
        self.samples = self._spread(parts) if stream.image_shape or self.plane else {}
        self.texts = self._texts_of(parts) if stream.letters else {}
        self.portraitist = None if stream.sequences else Portraitist.of(model, levels, self.samples)

    def _spread(self, parts: Mapping[str, Part]) -> dict[str, Part]:
        """Samples spread evenly over each task's."""
        spreads = {}
        for name, part in parts.items():
            fit = min(IMAGES_SHOWN, PIXELS_SHOWN // self.stream.features) // len(parts)
            count = min(len(part), POINTS_SHOWN if self.plane else max(FEWEST_IMAGES, fit))
            if count:
                spreads[name] = part[torch.linspace(0, len(part) - 1, count).long()]
        return spreads

    def _texts_of(self, parts: Mapping[str, Part]) -> dict[str, list[list[int]]]:
        """Texts, as classes, of each task a few that go on beyond what is given."""
        continued = {}
        for name, part in parts.items():
            texts = [text for text in part.texts if GIVEN < len(text) <= probes.LONGEST]
            count = min(TEXTS_SHOWN // len(parts), len(texts))
            continued[name] = [texts[i] for i in torch.linspace(0, len(texts) - 1, count).long().tolist()]
        return {name: texts for name, texts in continued.items() if texts}

    def _spelled(self, text: Iterable[int]) -> str:
        return "".join(self.stream.letters[label - 1] for label in text)

    def due(self, step: int) -> bool:
        """Whether pictures are due at this step: at the measurements, of which in a long run fewer and fewer."""
        number, rest = divmod(step, self.every)
        return rest == 0 and number % (1 << max(0, number.bit_length() - SNAPSHOT_BITS)) == 0

    def begin(self, task: str) -> list[Event]:
        """What is shown before the first step: the samples, and the first portrait."""
        return [*self.shown(), *self._portrait(0, None, task)]

    def shown(self) -> list[Event]:
        """The test samples that are shown one by one."""
        events: list[Event] = []
        if self.samples:
            events.append(
                Samples(step=0, shape=self.stream.image_shape, words=self.stream.class_words, tasks=self._pictures())
            )
        if self.texts:
            names = {
                name: TaskSamples(names=[self._spelled(text) for text in texts]) for name, texts in self.texts.items()
            }
            events.append(Samples(step=0, given=GIVEN, words=self.stream.class_words, tasks=names))
        return events

    def _pictures(self) -> dict[str, TaskSamples]:
        shown = {}
        for name, part in self.samples.items():
            points = [(x, y) for x, y in part.inputs.round(decimals=3).tolist()] if self.plane else None
            images = None if self.plane else probes.in_hex(part.inputs)
            shown[name] = TaskSamples(labels=part.labels.tolist(), images=images, points=points)
        return shown

    def take(
        self, step: int, movements: Mapping[str, probes.Movement], seen: tuple[Part, Tensor] | None, task: str
    ) -> list[Event]:
        """The pictures after this step. seen: a training sample, and its scores before it was learned; task: the one
        that is taught."""
        events: list[Event] = [Where(step=step, levels={name: m.where() for name, m in movements.items()})]
        if given := self._answers():
            events.append(Answers(step=step, answers=given))
        return [*events, *self._texts(step), *self._surface(step), *self._portrait(step, seen, task)]

    def _answers(self) -> dict[str, list[int]]:
        """Task -> classes that the network takes its shown samples for."""
        return {name: probes.answers(self.model, part.inputs) for name, part in self.samples.items()}

    def _texts(self, step: int) -> list[Event]:
        """How the network writes on."""
        if not self.texts:
            return []
        window = self.stream.features // self.stream.classes
        begun = [text[:GIVEN] for texts in self.texts.values() for text in texts]
        continued = map(self._spelled, probes.continued(self.model, begun, self.stream.classes, window))
        return [Texts(step=step, texts={name: [next(continued) for _ in texts] for name, texts in self.texts.items()})]

    def _surface(self, step: int) -> list[Event]:
        """What the network would answer everywhere in the plane."""
        if not self.plane:
            return []
        inputs = torch.cat([task.test.inputs for task in self.stream.tasks])
        low, high = inputs.amin(0).floor().tolist(), inputs.amax(0).ceil().tolist()
        span = (low[0], high[0], low[1], high[1])
        classes = "".join(f"{c:x}" for c in probes.answers(self.model, probes.plane(*span).to(self.device)))
        lines = [classes[i : i + probes.SURFACE] for i in range(0, len(classes), probes.SURFACE)]
        return [Surface(step=step, span=span, classes=lines)]

    def _portrait(self, step: int, seen: tuple[Part, Tensor] | None, task: str) -> list[Event]:
        return [self.portraitist.take(step, seen, task)] if self.portraitist else []

    def portrait(self, step: int, seen: tuple[Part, Tensor] | None, task: str) -> list[Event]:
        """The network as it is now, for somebody who watches: its units, and its answers to the samples shown; of one
        that is too large to be drawn the answers alone. It writes on before the first step only, for that takes as long
        as a step."""
        taken = self._portrait(step, seen, task)
        if self.portraitist:
            given = {name: classes.tolist() for name, classes in self.portraitist.answers.items()}
        else:
            given = self._answers()
        events: list[Event] = [Answers(step=step, answers=given)] if given else []
        return [*events, *([] if step else self._texts(step)), *(self._surface(step) if taken else []), *taken]
