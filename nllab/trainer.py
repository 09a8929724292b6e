"""The only room where model, optimizers and stream meet: one step at a time, commands while it runs.

A trainer is driven from outside and says what happened in events (events.py); it never knows who watches.
Same experiment, same commands at the same steps, same events: bit for bit on one CPU thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nllab import methods, probes
from nllab.errors import SettingError, check_whole, unknown
from nllab.events import (
    ALL_TASKS,
    COMMANDS,
    Answers,
    Command,
    Data,
    Decision,
    End,
    Event,
    Experience,
    LevelStep,
    Samples,
    Step,
    Surface,
    Switch,
    TaskSamples,
    Texts,
    Untrained,
    Where,
)
from nllab.experiment import LEARNING_RATES, OPTIMIZERS, Experiment
from nllab.levels import Level, Schedule
from nllab.methods.objective import Objective
from nllab.models.classifier import CMSClassifier
from nllab.models.hope import HopeClassifier
from nllab.optim.deep import DeepOptimizer
from nllab.optim.leveled import Leveled, members_of
from nllab.portrait import Portraitist
from nllab.runs import Run, ScheduledCommand
from nllab.streams import build
from nllab.streams.stream import Part, Stream

_PLACE = (
    "steps",
    "plan",
    "experience",
    "waiting",
    "acting",
    "plain_name",
    "learning_rate",
    "diverged",
    "_wrote",
    "_experience_steps",
    "_opened",
    "_untrained_told",
)

_SEEDING = threading.Lock()  # torch draws initial weights from one generator for all threads


MOST_TASKS_SHOWN, POINTS_SHOWN = 5, 100
IMAGES_SHOWN, FEWEST_IMAGES, PIXELS_SHOWN = 80, 12, 40_000  # test images of all tasks together; as many as fit
TEXTS_SHOWN, GIVEN = (
    12,
    3,
)  # test texts that the model continues, of all tasks together, and the letters that it is given of each
VIEWS_BITS = (
    6  # so many powers of two of measurements have all their pictures; from there on half, a quarter, and so on
)
HOPE_HEAD, HOPE_CHUNK = 32, 4  # width of a head and events of an image between two writes of HOPE's memory


def build_model(experiment: Experiment, stream: Stream) -> tuple[nn.Module, tuple[Level, ...]]:
    """The experiment's model and its levels, drawn from the experiment's seed; torch's own generator is left as it
    was."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if (own := methods.model_of(experiment.method, experiment.method_settings, stream)) is not None:
            return own, own.levels()
        if experiment.model == "mlp":
            model: nn.Module = nn.Sequential(
                nn.Linear(stream.features, experiment.dim), nn.ReLU(), nn.Linear(experiment.dim, stream.classes)
            )
            return model, (Level("input", "0", experiment.input_period), Level("head", "2", experiment.head_period))
        if experiment.model == "hope":
            if stream.image_shape is None:
                raise SettingError(
                    f"model=hope reads images row by row, and the stream {stream.name!r} has none. Take model=cms."
                )
            heads = max(1, experiment.dim // HOPE_HEAD) if experiment.dim % HOPE_HEAD == 0 else 1
            settings = {"levels": experiment.periods, "variant": experiment.variant, "hidden": experiment.hidden}
            hope = HopeClassifier(
                stream.image_shape, stream.classes, experiment.dim, heads=heads, chunk_size=HOPE_CHUNK, **settings
            )
            return hope, hope.levels()
        sizes = {"dim": experiment.dim, "hidden": experiment.hidden}
        if experiment.front == "conv" and stream.image_shape is None:
            raise SettingError(f"front=conv reads images, and the stream {stream.name!r} has none. Take front=dense.")
        shape = stream.image_shape if experiment.front == "conv" else None
        joined = {
            "periods": experiment.periods,
            "variant": experiment.variant,
            "image_shape": shape,
            "filters": experiment.filters,
        }
        cms = CMSClassifier(stream.features, stream.classes, **sizes, **joined)
        return cms, cms.levels(input_period=experiment.input_period, head_period=experiment.head_period)


def plain_optimizer(
    name: str, model: nn.Module, parameters: Iterable[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """One of the lab's optimizers by the name it has in an experiment."""
    from nllab.optim.deep_momentum import DeepMomentum
    from nllab.optim.delta_gradient_descent import DeltaGradientDescent
    from nllab.optim.m3 import M3
    from nllab.optim.momentum import DeltaMomentum
    from nllab.optim.muon import Muon, hidden_and_other

    match name:
        case "sgd":
            return torch.optim.SGD(parameters, learning_rate)
        case "adam":
            return torch.optim.Adam(parameters, learning_rate)
        case "adamw":
            return torch.optim.AdamW(parameters, learning_rate)
        case "muon":
            return Muon(hidden_and_other(model), lr=learning_rate)
        case "m3":
            return M3(hidden_and_other(model), lr=learning_rate)
        case "dgd":
            return DeltaGradientDescent(model, lr=learning_rate)
        case "delta-momentum":
            return DeltaMomentum(parameters, lr=learning_rate)
        case "deep-momentum":
            return DeepMomentum(parameters, lr=learning_rate)
    raise unknown("optimizer", name, LEARNING_RATES)


class Trainer:
    """Trains the model of an experiment on its stream, one `step()` at a time.

    model, stream, optimizer: the user's own in place of the experiment's. A model needs `nn.Linear` layers for the deep
        optimizer;
    it may offer `levels()`, otherwise all of it is one level of period 1. An optimizer is
    used as it is, over the parameters that it was given, in place of the plain one.
    device: "cpu", "cuda" or "auto" (CUDA where there is one).
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        model: nn.Module | None = None,
        stream: Stream | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        device: str = "cpu",
    ) -> None:
        self.experiment = experiment
        hold_out = experiment.evaluate_on == "validation"
        stream = stream or build(experiment.stream, seed=experiment.seed, split=experiment.split, hold_out=hold_out)
        self.device = pick_device(device)
        self.stream = stream.to(self.device)
        self._joint = self.stream.joint() if experiment.joint else None
        if model is None:
            self.model, self.levels = build_model(experiment, self.stream)
        else:
            self.model, self.levels = model, model.levels() if hasattr(model, "levels") else (Level("all", "*"),)  # type: ignore[operator]
        self.model.to(self.device)
        if experiment.frozen:
            head = [level for level in self.levels if level.name == "head"]
            if not head:
                raise SettingError(
                    "frozen=true keeps all but the level 'head' at its initial values, and this model has no level of"
                    " that name."
                )
            for name, p in self.model.named_parameters():
                p.requires_grad_(head[0].matches(name))
        members = members_of(self.model, self.levels)
        schedule = Schedule.of(self.levels)
        settings = {
            name: getattr(experiment, name)
            for name in ("retention", "ridge", "error_weight", "manager", "realign_every")
        }
        self.deep = DeepOptimizer(self.model, levels=self.levels, **settings)
        self._set_rate(experiment.rate)
        self.plain_name, self.learning_rate = experiment.plain, experiment.plain_learning_rate
        self.own_optimizer = optimizer is not None
        self.plain = Leveled(members, schedule, lambda parameters: optimizer or self._make_plain(parameters))
        self.acting = experiment.optimizer  # who writes
        self.objective = Objective(experiment.loss, experiment.outputs, self.stream.classes)
        self.method = methods.build(experiment.method, experiment.method_settings, self.objective, experiment.seed)
        if experiment.method != "naive" and self.acting == "deep":
            raise SettingError(
                f"method={experiment.method} works with a plain optimizer, and optimizer is 'deep'. Take optimizer=adam"
                " or sgd."
            )
        self._wrote: set[str] = set()
        self.movements = {name: probes.Movement(parameters) for name, parameters in members.items()}
        self._plane = self.stream.features == 2
        self._samples = self._some_samples()
        self._texts = self._some_texts()
        self.portraitist = Portraitist.of(self.model, self.levels, self._samples)
        self._seen: tuple[Part, Tensor] | None = None  # the last batch's first sample, and its scores
        self.generator = torch.Generator().manual_seed(experiment.seed)
        self.steps = 0
        self.plan = [0] if experiment.joint else self._planned(experiment.order)
        self.experience = 0
        self.waiting: list[tuple[str, Any]] = []
        self._batches: list[Tensor] = []
        self._experience_steps = 0
        self._opened = self._untrained_told = self.diverged = False

    def _planned(self, order: Sequence[str]) -> list[int]:
        """The tasks to visit, in turn. Raises SettingError for one that the stream has not."""
        names = self.stream.task_names
        for task in order:
            if task not in names:
                raise unknown("task", task, names)
        return [names.index(task) for task in order] or list(self.stream.plan)

    def _make_plain(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return plain_optimizer(self.plain_name, self.model, parameters, self.learning_rate)

    def _set_rate(self, factor: float) -> None:
        """The deep optimizer's rate of every level: its own, or 1, times the factor."""
        for level, group in zip(self.levels, self.deep.param_groups, strict=True):
            group["rate"] = factor * (1.0 if level.rate is None else level.rate)

    @property
    def done(self) -> bool:
        """Whether the plan is over (a command `teach` opens it again) or the loss was no longer finite."""
        return self.diverged or (
            self.experience >= len(self.plan) and not any(name == "teach" for name, _ in self.waiting)
        )

    @property
    def task(self) -> int:
        """Index of the task whose batches arrive now, or of the last one when the plan is over."""
        return self.plan[min(self.experience, len(self.plan) - 1)]

    @property
    def planned_steps(self) -> int:
        """Steps of the whole plan as it stands."""
        return self._length(self.plan)

    def _length(self, plan: Iterable[int]) -> int:
        parts = [self._joint] if self._joint is not None else [self.stream.tasks[task].train for task in plan]
        return self.experiment.passes * sum(math.ceil(len(part) / self.experiment.batch_size) for part in parts)

    @property
    def _train_part(self) -> Part:
        return self._joint if self._joint is not None else self.stream.tasks[self.task].train

    @property
    def _task_name(self) -> str:
        return ALL_TASKS if self._joint is not None else self.stream.tasks[self.task].name

    @property
    def steps_per_pass(self) -> int:
        return math.ceil(len(self._train_part) / self.experiment.batch_size)

    def command(self, name: str, value: Any) -> None:
        """Ask for a change at the next step; raises SettingError at once for what cannot be done, and nothing changes
        then.

        optimizer: one of OPTIMIZERS, who writes from now on ("deep" is the toggle switched on, anything else the plain
            side).
        teach: the name of a task; the rest of the plan is replaced by one experience of it.
        period: [level, steps] · learning_rate, rate: number · retention: number in [0, 1].
        """
        self.waiting.append((name, self.check(name, value)))

    def check(self, name: str, value: Any) -> Any:
        """The value of a command as it will be recorded; raises SettingError for what cannot be done. Changes
        nothing."""
        match name:
            case "optimizer":
                if value not in OPTIMIZERS:
                    raise unknown("optimizer", value, OPTIMIZERS)
                if value == "deep" and self.experiment.method != "naive":
                    raise SettingError(
                        f"This run's method is {self.experiment.method!r}, which works with a plain optimizer."
                    )
                if self.own_optimizer and value not in ("deep", self.plain_name):
                    raise SettingError(
                        f"This run trains with an optimizer of your own; switch between 'deep' and {self.plain_name!r}"
                        " (yours)."
                    )
            case "teach":
                if self._joint is not None:
                    raise SettingError("joint=true shows all tasks at once, so there is no single task to teach.")
                if value not in self.stream.task_names:
                    raise unknown("task", value, self.stream.task_names)
            case "period":
                level, period = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, None)
                self.plain.schedule.with_period(level, period)  # type: ignore[arg-type]
                return [level, period]
            case "learning_rate" | "rate":
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                    raise SettingError(f"{name} is {value!r}; it must be a finite number, 0 or more.")
            case "retention":
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                    raise SettingError(f"retention is {value!r}; it lies in [0, 1], and 1 keeps everything.")
            case _:
                raise unknown("command", name, COMMANDS)
        return value

    def _obey(self) -> list[Event]:
        events: list[Event] = []
        for name, value in self.waiting:
            match name:
                case "optimizer":
                    if value not in ("deep", self.plain_name):
                        self.plain_name = value
                        self.learning_rate = LEARNING_RATES[value]
                        self.plain.optimizer = self._make_plain(self.plain.parameters)
                    self.acting = value
                case "teach":
                    events += self._close_experience()
                    self.plan = [*self.plan[: self.experience], self.stream.task_names.index(value)]
                case "period":
                    level, period = value
                    self.plain.schedule = self.plain.schedule.with_period(level, period)
                    next(g for g in self.deep.param_groups if g["level"] == level)["period"] = period
                case "learning_rate":
                    self.learning_rate = value
                    for group in self.plain.optimizer.param_groups:
                        group["lr"] = value
                case "rate":
                    self._set_rate(value)
                case _:
                    for group in self.deep.param_groups:
                        group[name] = value
            events.append(Command(step=self.steps + 1, name=name, value=value))
        self.waiting = []
        return events

    def step(self) -> list[Event]:
        """Train on one batch and say what happened; an empty list once the plan is over."""
        if self.done:
            return []
        events = self._begin()
        events += self._obey()
        if not self._opened:
            events += self._open_experience()
        batch = self._next_batch()
        self.plain.zero_grad()
        self.objective.see(batch.labels)
        scores, loss = self.method.loss(self.model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return [*events, self._give_up(value)]
        self.deep.acting = self.acting == "deep"
        loss.backward()
        gradient_norms = {name: probes.gradient_norm(movement.parameters) for name, movement in self.movements.items()}
        if not all(map(math.isfinite, gradient_norms.values())):
            return [*events, self._give_up(value)]
        self.method.before_step(self.model)
        if self.deep.acting or (self.experiment.observe and self.experiment.method == "naive"):
            self.deep.step()
        else:
            self.deep.skip()
        self.plain.step(write=not self.deep.acting)
        self.method.after_step(self.model, batch, scores.detach())
        self._seen = (batch[:1], scores[0].detach())
        self._wrote.add(self.acting)
        if self.experiment.variant == "nested" and isinstance(self.model, CMSClassifier):
            self.model.memory.restart(self.steps + 1)
        self.steps += 1
        self._experience_steps += 1
        events.append(
            self._tell(value, int((scores.detach().argmax(1) == batch.labels).sum()) / len(batch), gradient_norms)
        )
        if self._has_views:
            events += self._views()
        events += self._decisions()
        if self._experience_steps == self.experiment.passes * self.steps_per_pass:
            events += self._close_experience()
            if self.experience == len(self.plan):
                events.append(End(step=self.steps, reason="finished", text="The plan is over."))
        return events

    def run(
        self,
        on_events: Callable[[list[Event]], None] | None = None,
        *,
        commands: Iterable[ScheduledCommand] = (),
        steps: int | None = None,
    ) -> Run:
        """Step until the plan is over, or `steps` steps have been taken.

        commands: (step from which it is in force, name, value), given on the way. Raises SettingError, before any step,
            for one that
        cannot be done or whose step the plan does not reach.
        """
        run = Run.begin(self.experiment, self.stream.task_names, {level.name: level.period for level in self.levels})
        waiting = self._checked(commands, steps)
        while steps is None or self.steps < steps:
            while waiting and waiting[0][0] == self.steps + 1:
                self.command(*waiting.pop(0)[1:])
            if self.done:
                break
            events = self.step()
            run.extend(events)
            if on_events:
                on_events(events)
        run.bytes_kept = self.bytes_kept()
        return run

    def _checked(self, commands: Iterable[ScheduledCommand], steps: int | None) -> list[ScheduledCommand]:
        if steps is not None:
            check_whole("steps", steps, 0)
        checked = sorted(
            ((at, name, self.check(name, value)) for at, name, value in commands), key=lambda command: command[0]
        )
        end = self.planned_steps
        for at, name, value in checked:
            check_whole(f"The step of the command {name} {value!r}", at, self.steps + 1)
            if name == "teach" and at <= end + 1:
                end = at - 1 + self._length([self.stream.task_names.index(value)])
            elif at > end:
                raise SettingError(
                    f"The command {name} {value!r} is for step {at}, and the plan is over after step {end}."
                )
        return checked

    def _begin(self) -> list[Event]:
        if self._untrained_told:
            return []
        self._untrained_told = True
        events: list[Event] = [Data(report=self.stream.report.to_dict())] if self.stream.report else []
        return [*events, Untrained(step=0, accuracy=self._accuracies()), *self.samples(), *self._portraits()]

    def samples(self) -> list[Event]:
        """The test samples that are shown one by one."""
        events: list[Event] = []
        if self._samples:
            events.append(Samples(step=0, shape=self.stream.image_shape, tasks=self._shown_samples()))
        if self._texts:
            names = {
                name: TaskSamples(names=[self._spelled(text) for text in texts]) for name, texts in self._texts.items()
            }
            events.append(Samples(step=0, given=GIVEN, tasks=names))
        return events

    def _open_experience(self) -> list[Event]:
        self._opened, self._experience_steps, self._batches = True, 0, []
        if self.steps:
            for movement in self.movements.values():
                movement.mark()
        about = "all tasks at once, mixed" if self._joint is not None else self.stream.tasks[self.task].about
        return [Switch(step=self.steps + 1, experience=self.experience, task=self._task_name, about=about)]

    def _close_experience(self) -> list[Event]:
        """Measure every task in full; an experience that saw no batch leaves no row."""
        if not self._opened:
            return []
        self._opened = False
        place = {"step": self.steps, "experience": self.experience, "task": self._task_name}
        finite = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
        if self.method.boundaries and self._experience_steps and finite:
            self.method.end_of_experience(self.model, self._train_part)
        if self.portraitist and self._experience_steps:
            self.portraitist.learned(self._task_name)
        self.experience += 1
        return [Experience(**place, accuracy=self._accuracies()), *([] if self._has_views else self._views())]

    def _some_samples(self) -> dict[str, Part]:
        """The test samples whose answers are told one by one: images, or points of the plane, of a few tasks."""
        found = {}
        if (self.stream.image_shape or self._plane) and len(self.stream.tasks) <= MOST_TASKS_SHOWN:
            for task in self.stream.tasks:
                part = getattr(task, self.experiment.evaluate_on)
                fit = min(IMAGES_SHOWN, PIXELS_SHOWN // self.stream.features) // len(self.stream.tasks)
                count = min(len(part), POINTS_SHOWN if self._plane else max(FEWEST_IMAGES, fit))
                if count:
                    found[task.name] = part[torch.linspace(0, len(part) - 1, count).long()]
        return found

    def _shown_samples(self) -> dict[str, TaskSamples]:
        shown = {}
        for name, part in self._samples.items():
            points = [(x, y) for x, y in part.inputs.round(decimals=3).tolist()] if self._plane else None
            images = None if self._plane else probes.in_hex(part.inputs)
            shown[name] = TaskSamples(labels=part.labels.tolist(), images=images, points=points)
        return shown

    def _some_texts(self) -> dict[str, list[list[int]]]:
        """Test texts, as classes, of a stream that asks for the next character; of each task a few that go on beyond
        what is given."""
        found = {}
        if self.stream.letters and len(self.stream.tasks) <= MOST_TASKS_SHOWN:
            count = TEXTS_SHOWN // len(self.stream.tasks)
            for task in self.stream.tasks:
                texts = getattr(task, self.experiment.evaluate_on).texts
                texts = [text for text in texts if GIVEN < len(text) <= probes.LONGEST]
                found[task.name] = [
                    texts[i] for i in torch.linspace(0, len(texts) - 1, min(count, len(texts))).long().tolist()
                ]
        return {name: texts for name, texts in found.items() if texts}

    def _spelled(self, text: Iterable[int]) -> str:
        return "".join(self.stream.letters[label - 1] for label in text)

    @property
    def _has_views(self) -> bool:
        """Whether pictures are due at this step: at the measurements, which of a long run are thinned more and more."""
        number, rest = divmod(self.steps, self.experiment.evaluate_every)
        return rest == 0 and number % (1 << max(0, number.bit_length() - VIEWS_BITS)) == 0

    def _views(self) -> list[Event]:
        """What the pictures of weights and of answers need."""
        events: list[Event] = [Where(step=self.steps, levels={name: m.where() for name, m in self.movements.items()})]
        if self._samples:
            given = {name: probes.answers(self.model, part.inputs) for name, part in self._samples.items()}
            events.append(Answers(step=self.steps, answers=given))
        if self._texts:
            window = self.stream.features // self.stream.classes
            begun = [text[:GIVEN] for texts in self._texts.values() for text in texts]
            told = map(self._spelled, probes.continued(self.model, begun, self.stream.classes, window))
            texts = {name: [next(told) for _ in texts] for name, texts in self._texts.items()}
            events.append(Texts(step=self.steps, texts=texts))
        return [*events, *self._surface(), *self._portraits()]

    def _surface(self) -> list[Event]:
        """What the network would answer everywhere in the plane."""
        if not self._plane:
            return []
        inputs = torch.cat([task.test.inputs for task in self.stream.tasks])
        low, high = inputs.amin(0).floor().tolist(), inputs.amax(0).ceil().tolist()
        span = (low[0], high[0], low[1], high[1])
        classes = "".join(f"{c:x}" for c in probes.answers(self.model, probes.plane(*span).to(self.device)))
        lines = [classes[i : i + probes.SURFACE] for i in range(0, len(classes), probes.SURFACE)]
        return [Surface(step=self.steps, span=span, classes=lines)]

    def _portraits(self) -> list[Event]:
        return [self.portraitist.take(self.steps, self._seen, self._task_name)] if self.portraitist else []

    def portrait(self) -> list[Event]:
        """The network as it is now, for somebody who watches: its units, and its answers to the samples shown. Empty for
        a network that is too large to be drawn."""
        if self.portraitist is None:
            return []
        taken = self._portraits()
        given = {name: answers.tolist() for name, answers in self.portraitist.answers.items()}
        answers: list[Event] = [Answers(step=self.steps, answers=given)] if given else []
        return [*answers, *self._surface(), *taken]

    def _next_batch(self) -> Part:
        train = self._train_part
        if not self._batches:
            in_order = self._joint is None and self.stream.tasks[self.task].in_order
            order = torch.arange(len(train)) if in_order else torch.randperm(len(train), generator=self.generator)
            self._batches = list(order.split(self.experiment.batch_size))
        return train[self._batches.pop(0)]

    def _accuracies(self) -> dict[str, float]:
        part = self.experiment.evaluate_on
        return {task.name: probes.accuracy(self.model, getattr(task, part)) for task in self.stream.tasks}

    def _tell(self, loss: float, online_accuracy: float, gradient_norms: dict[str, float]) -> Step:
        levels = {}
        measured = self.deep.report.levels if self._measures(self.steps) else {}
        for name, movement in self.movements.items():
            wrote, update_norm = movement.observe()
            levels[name] = LevelStep(
                wrote=wrote,
                writes=movement.writes,
                update_norm=update_norm,
                drift=movement.drift,
                drift_since_switch=movement.drift_since_mark,
                gradient_norm=gradient_norms[name],
                **(measured[name]._asdict() if name in measured else {}),
            )
        return Step(
            step=self.steps,
            task=self._task_name,
            optimizer=self.acting,
            loss=loss,
            online_accuracy=online_accuracy,
            levels=levels,
            accuracy=self._accuracies() if self._measures(self.steps) else None,
        )

    def _measures(self, step: int) -> bool:
        return step % self.experiment.evaluate_every == 0 or step == 1

    def _decisions(self) -> list[Event]:
        """What the deep optimizer's policy decided in the last step."""
        if (decision := self.deep.report.decision) is None:
            return []
        return [Decision(step=self.steps, level="all", **decision._asdict())]

    def _give_up(self, loss: float) -> End:
        """End the run, and say which setting to change."""
        self.diverged = True
        if self.acting == "deep":
            setting, value = "rate", self.deep.param_groups[-1]["rate"]
        else:
            setting, value = "learning_rate", self.learning_rate
        text = (
            f"The loss became {loss} at step {self.steps + 1}, so the run stopped there. Lower {setting} (now {value})"
            " and start again."
        )
        return End(step=self.steps, reason="diverged", text=text)

    def bytes_kept(self) -> int:
        """Bytes that the learner keeps beyond its weights: its method's memory and the states of optimizers that have
        written."""
        plain = [s for state in self.plain.optimizer.state.values() for s in state.values() if isinstance(s, Tensor)]
        deep = self.deep.bytes_kept() if "deep" in self._wrote else 0
        return deep + self.method.bytes_kept() + sum(t.numel() * t.element_size() for t in plain)

    def checkpoint(self) -> dict[str, Any]:
        """Everything needed to go on from here, as values of their own."""
        return {
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "deep": _copied(self.deep.state_dict()),
            "plain": _copied(self.plain.state_dict()),
            "movements": {name: movement.state() for name, movement in self.movements.items()},
            "generator": self.generator.get_state(),
            "method": {
                "memory": _copied(self.method.memory),
                "generator": self.method.generator.get_state(),
                "seen": self.objective.seen.clone(),
            },
            "batches": list(self._batches),
            "references": _copied(self.portraitist.references) if self.portraitist else {},
            "place": {name: _copied(getattr(self, name)) for name in _PLACE},
        }

    def rewind(self, checkpoint: dict[str, Any]) -> None:
        """Return to a checkpoint of this trainer; what follows is what followed then."""
        for name, value in checkpoint["place"].items():
            setattr(self, name, _copied(value))
        self.model.load_state_dict(checkpoint["model"])
        self.deep.load_state_dict(_copied(checkpoint["deep"]))
        if not self.own_optimizer:
            self.plain.optimizer = self._make_plain(self.plain.parameters)
        self.plain.load_state_dict(_copied(checkpoint["plain"]))
        for name, movement in self.movements.items():
            movement.restore(checkpoint["movements"][name])
        self.generator.set_state(checkpoint["generator"])
        self.method.memory = _copied(checkpoint["method"]["memory"])
        self.method.generator.set_state(checkpoint["method"]["generator"])
        self.objective.seen = checkpoint["method"]["seen"].clone()
        self._batches = list(checkpoint["batches"])
        if self.portraitist:
            self.portraitist.references = _copied(checkpoint["references"])
        self._seen = None


# What a checkpoint keeps of the trainer itself, beside model, optimizers, movements and the generator.
def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(_copied(item) for item in value)
    return value


def pick_device(name: str) -> torch.device:
    """The device of this name. Raises SettingError for a name that is not known, or for CUDA where there is none."""
    if name not in ("cpu", "cuda", "auto"):
        raise unknown("device", name, ("cpu", "cuda", "auto"))
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError(
            "device is 'cuda', and torch finds no CUDA device here. Use 'cpu', or 'auto' to take what there is."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(
    experiment: Experiment,
    on_events: Callable[[list[Event]], None] | None = None,
    *,
    commands: Iterable[ScheduledCommand] = (),
    steps: int | None = None,
    device: str = "cpu",
) -> Run:
    """Run an experiment from start to end, or for `steps` steps; commands: (step from which it is in force, name,
    value)."""
    return Trainer(experiment, device=device).run(on_events, commands=commands, steps=steps)


def replay(run: Run) -> Run:
    """Train again from the experiment and the commands of a run, exactly as many steps. On one CPU thread the events are
    equal."""
    return train(run.experiment, commands=run.commands, steps=run.stopped_at)
