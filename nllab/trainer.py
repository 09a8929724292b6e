"""The only room where model, optimizers and stream meet: one step at a time, commands while it runs.

A trainer is driven from outside and says what happened in events (events.py); it never knows who watches. It serves
streams of samples and of sequences alike: a part's labels are (N,) or, token by token, (N, T).
Same experiment, same commands at the same steps, same events: bit for bit on one CPU thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nllab import checkpoint, methods, optim, probes, streams
from nllab import commands as orders
from nllab.build import build_model, freeze_hidden_levels, levels_of, pick_device
from nllab.commands import carry_out, checked
from nllab.errors import SettingError, check_choice
from nllab.events import ALL_TASKS, Data, Decision, End, Event, Experience, LevelStep, Step, Switch, Untrained
from nllab.experiment import Experiment
from nllab.levels import Level, Schedule, with_retention
from nllab.measuring import due
from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.optim.context import bytes_of, close_accounts
from nllab.optim.deep import DeepOptimizer
from nllab.optim.leveled import Leveled, members_of
from nllab.optim.report import LevelReport
from nllab.runs import Run, ScheduledCommand
from nllab.snapshots import MOST_TASKS_SHOWN, Snapshots
from nllab.streams.stream import Part, Stream, share_right


class Trainer:
    """Trains the model of an experiment on its stream, one `step()` at a time.

    model, stream, optimizer, deep, method: the user's own in place of the experiment's. A model needs `nn.Linear`
        layers for the deep optimizer; it may offer `levels()`, otherwise all of it is one level of period 1, and
        `after_step(step)`. An optimizer is used as it is, over the parameters that it was given, as the base
        optimizer; `deep` is the deep optimizer, with levels and rates of its own; a method says what is minimized.
    levels: in place of the model's own.
    learning_rate_factor, clip_norm: the base optimizer's learning rates are multiplied by the factor of each step
        (counted from 0), and gradients are cut to this norm; None leaves them alone.
    device: "cpu", "cuda" or "auto" (CUDA where there is one).
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        model: nn.Module | None = None,
        stream: Stream | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        deep: DeepOptimizer | None = None,
        method: Method | None = None,
        levels: Sequence[Level] | None = None,
        learning_rate_factor: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        device: str = "cpu",
    ) -> None:
        self.experiment = experiment
        self.device = pick_device(device)
        self.stream = (stream or streams.stream_of(experiment)).to(self.device)
        self._joint = self.stream.joint() if experiment.joint else None
        self.model, self.levels = build_model(experiment, self.stream) if model is None else (model, levels_of(model))
        self.levels = self.levels if levels is None else tuple(levels)
        self.levels = with_retention(self.levels, experiment.retention_by_level)
        self.model.to(self.device)
        if experiment.frozen:
            freeze_hidden_levels(self.model, self.levels)
        members = members_of(self.model, self.levels)
        settings = {
            name: getattr(experiment, name)
            for name in ("retention", "ridge", "error_weight", "manager", "realign_every")
        }
        self.deep = deep or DeepOptimizer(self.model, levels=self.levels, warn=False, **settings)
        if deep is None:
            self.set_rate(experiment.rate)
        self.base_name, self.learning_rate = experiment.base, experiment.base_learning_rate
        self.own_optimizer = optimizer is not None
        self.base = Leveled(members, Schedule.of(self.levels), lambda given: optimizer or self.make_base(given))
        self.learning_rate_factor, self.clip_norm = learning_rate_factor, clip_norm
        self.acting = experiment.optimizer  # who writes
        self.objective = Objective(experiment.loss, experiment.outputs, self.stream.classes)
        self.method = method or methods.build(
            experiment.method, experiment.method_settings, self.objective, experiment.seed
        )
        if experiment.method != "naive" and self.acting == "deep":
            raise SettingError(
                f"method={experiment.method} works with a plain optimizer, and optimizer is 'deep'. Take optimizer=adam"
                " or sgd."
            )
        self.written_by: set[str] = set()
        self.movements = {name: probes.Movement(parameters) for name, parameters in members.items()}
        self.snapshots = Snapshots(
            self.model, self.levels, self.stream, experiment.evaluate_on, experiment.evaluate_every
        )
        self.seen: tuple[Part, Tensor] | None = None  # the last batch's first sample, and its scores
        self.generator = torch.Generator().manual_seed(experiment.seed)
        self.steps = 0
        self.plan = [0] if experiment.joint else self._planned(experiment.order)
        self.experience = 0
        self.waiting: list[tuple[str, Any]] = []
        self.batches: list[Tensor] = []
        self.changed = 1  # the step at which a task or a setting changed last
        self.experience_steps = 0  # taken in the experience that is under way
        self.opened = self.begun = self.diverged = False

    def _planned(self, order: Sequence[str]) -> list[int]:
        """The tasks to visit, in turn. Raises SettingError for one that the stream has not."""
        names = self.stream.task_names
        for task in order:
            check_choice("task", task, names)
        return [names.index(task) for task in order] or list(self.stream.plan)

    def make_base(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A new base optimizer of these parameters, at the rate in force."""
        return optim.build(self.base_name, self.model, parameters, self.learning_rate)

    def set_rate(self, factor: float) -> None:
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
    def task_name(self) -> str:
        """The name of the task that is being taught."""
        return ALL_TASKS if self._joint is not None else self.stream.tasks[self.task].name

    @property
    def learned_tasks(self) -> list[str]:
        """The tasks of experiences that are over, each once."""
        over = self.plan[: self.experience] if self._joint is None else []
        return list(dict.fromkeys(self.stream.tasks[task].name for task in over))

    @property
    def planned_steps(self) -> int:
        """Steps of the whole plan as it stands."""
        return self.length(self.plan)

    def length(self, plan: Iterable[int]) -> int:
        """Steps of a plan."""
        parts = [self._joint] if self._joint is not None else [self.stream.tasks[task].train for task in plan]
        return self.experiment.epochs * sum(math.ceil(len(part) / self.experiment.batch_size) for part in parts)

    @property
    def _train_part(self) -> Part:
        return self._joint if self._joint is not None else self.stream.tasks[self.task].train

    @property
    def experience_length(self) -> int:
        """Steps of the experience that is under way."""
        return self.length([self.task])

    def command(self, name: str, value: Any) -> None:
        """Ask for a change at the next step (see commands.py); raises SettingError at once for what cannot be done, and
        nothing changes then."""
        self.waiting.append((name, self.check(name, value)))

    def check(self, name: str, value: Any) -> Any:
        """The value of a command as it will be recorded; raises SettingError for what cannot be done."""
        return orders.check(self, name, value)

    def step(self) -> list[Event]:
        """Train on one batch and say what happened; an empty list once the plan is over."""
        if self.done:
            return []
        events = self._begin()
        changes = carry_out(self)
        if not self.opened:
            changes += self._open_experience()
        if changes:
            self.changed = self.steps + 1
        events += changes
        batch = self._next_batch()
        self.base.zero_grad()
        self.deep.acting = self.acting == "deep"
        observed = self.deep.acting or (self.experiment.observe and self.experiment.method == "naive")
        self.deep.rest(not observed)
        self.objective.see(batch.labels)
        scores, loss = self.method.loss(self.model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return [*events, self._give_up(value)]
        loss.backward()
        gradient_norms = {name: probes.gradient_norm(movement.parameters) for name, movement in self.movements.items()}
        if not all(map(math.isfinite, gradient_norms.values())):
            return [*events, self._give_up(value)]
        self.method.before_step(self.model)
        self._write(observed)
        self.method.after_step(self.model, batch, scores.detach())
        self.seen = (batch[:1], scores[0].detach())
        self.steps += 1
        self.experience_steps += 1
        if hasattr(self.model, "after_step"):
            self.model.after_step(self.steps)  # type: ignore[operator]
        events.append(self._record(value, share_right(scores.detach(), batch.labels), gradient_norms))
        if self.snapshots.due(self.steps):
            events += self.snapshots.take(self.steps, self.movements, self.seen, self.task_name)
        events += self._decisions()
        if self.experience_steps == self.experience_length:
            events += self.close_experience()
            if self.experience == len(self.plan):
                events.append(End(step=self.steps, reason="finished", text="The plan is over."))
        return events

    def _write(self, observed: bool) -> None:
        """Let the optimizer that acts write; the deep one observes the other, unless it is asked not to."""
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        if self.learning_rate_factor is not None:
            for group in self.base.optimizer.param_groups:
                for key in {"lr", "adamw_lr"} & group.keys():  # Muon and M3 have a rate for each of their two parts
                    group[key] = group.setdefault(f"initial_{key}", group[key]) * self.learning_rate_factor(self.steps)
        if observed:
            self.deep.step()
        else:
            self.deep.skip()
        self.base.step(write=not self.deep.acting)
        self.written_by.add(self.acting)

    def run(
        self,
        on_events: Callable[[list[Event]], None] | None = None,
        *,
        commands: Iterable[ScheduledCommand] = (),
        steps: int | None = None,
    ) -> Run:
        """Step until the plan is over, or `steps` steps have been taken.

        commands: (step from which it is in force, name, value), given on the way. Raises SettingError, before any step,
            for one that cannot be done or whose step the plan does not reach.
        """
        run = Run.begin(self.experiment, self.stream.task_names, {level.name: level.period for level in self.levels})
        waiting = checked(self, commands, steps)
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

    def _begin(self) -> list[Event]:
        if self.begun:
            return []
        self.begun = True
        report: list[Event] = [Data(report=self.stream.report.to_dict())] if self.stream.report else []
        samples = {task.name: len(getattr(task, self.experiment.evaluate_on)) for task in self.stream.tasks}
        untrained = Untrained(step=0, accuracy=self._accuracies(), classes=self.stream.classes, samples=samples)
        return [*report, untrained, *self.snapshots.begin(self.task_name)]

    def _open_experience(self) -> list[Event]:
        self.opened, self.experience_steps, self.batches = True, 0, []
        if self.steps:
            for movement in self.movements.values():
                movement.mark()
        about = "all tasks at once, mixed" if self._joint is not None else self.stream.tasks[self.task].about
        return [Switch(step=self.steps + 1, experience=self.experience, task=self.task_name, about=about)]

    def close_experience(self) -> list[Event]:
        """Measure every task in full; an experience that saw no batch leaves no event."""
        if not self.opened:
            return []
        self.opened = False
        place = {"step": self.steps, "experience": self.experience, "task": self.task_name}
        finite = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
        if self.method.boundaries and self.experience_steps and finite:
            self.method.end_of_experience(self.model, self._train_part)
        if self.snapshots.portraitist and self.experience_steps:
            self.snapshots.portraitist.learned(self.task_name)
        if self.experience_steps and len(self.stream.tasks) <= MOST_TASKS_SHOWN:
            close_accounts(self.deep, self.task_name)
        self.experience += 1
        due = self.snapshots.due(self.steps)
        pictures = [] if due else self.snapshots.take(self.steps, self.movements, self.seen, self.task_name)
        return [Experience(**place, accuracy=self._accuracies()), *pictures]

    def portrait(self) -> list[Event]:
        """The network as it is now, for somebody who watches (see `Snapshots.portrait`)."""
        return self.snapshots.portrait(self.steps, self.seen, self.task_name)

    def _next_batch(self) -> Part:
        train = self._train_part
        if not self.batches:
            in_order = self._joint is None and self.stream.tasks[self.task].in_order
            order = torch.arange(len(train)) if in_order else torch.randperm(len(train), generator=self.generator)
            self.batches = list(order.split(self.experiment.batch_size))
        return train[self.batches.pop(0)]

    def _accuracies(self) -> dict[str, float]:
        part = self.experiment.evaluate_on
        return {task.name: probes.accuracy(self.model, getattr(task, part)) for task in self.stream.tasks}

    def _record(self, loss: float, online_accuracy: float, gradient_norms: dict[str, float]) -> Step:
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
                **(self._signals(measured[name]) if name in measured else {}),
            )
        return Step(
            step=self.steps,
            task=self.task_name,
            optimizer=self.acting,
            loss=loss,
            online_accuracy=online_accuracy,
            levels=levels,
            accuracy=self._accuracies() if self._measures(self.steps) else None,
        )

    def _signals(self, report: LevelReport) -> dict[str, Any]:
        """What the deep optimizer measured on a level, by task: what came since the last one ended is the present's."""
        held = dict(report.held)
        present = held.pop("", 0.0)
        held[self.task_name] = held.get(self.task_name, 0.0) + present
        return {**report._asdict(), "held": {task: round(share, 4) for task, share in held.items()}}

    def _measures(self, step: int) -> bool:
        return due(step, self.changed, self.experiment.evaluate_every)

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
        deep = self.deep.bytes_kept() if "deep" in self.written_by else 0
        base = bytes_of([*self.base.optimizer.state.values()])
        return deep + self.method.bytes_kept() + base

    def checkpoint(self) -> dict[str, Any]:
        """Everything needed to go on from here, as values of their own."""
        return checkpoint.capture(self)

    def rewind(self, saved: dict[str, Any]) -> None:
        """Return to a checkpoint of this trainer; what follows is what followed then."""
        checkpoint.restore(self, saved)


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
    """Train again from the experiment and the commands of a run, exactly as many steps. On one CPU thread the events
    are equal."""
    return train(run.experiment, commands=run.commands, steps=run.stopped_at)
