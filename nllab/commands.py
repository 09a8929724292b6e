"""What can be asked of a trainer while it runs: checked at once, carried out at the next step.

optimizer: one of OPTIMIZERS, who writes from now on ("deep" is the toggle switched on, anything else the base side).
teach: the name of a task; the rest of the plan is replaced by one experience of it.
period: [level, steps] · learning_rate, rate: number · retention: number in [0, 1].
A new command is a branch in `check` and in `carry_out`, and its name in events.COMMANDS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nllab.errors import SettingError, check_choice, check_number, check_whole, unknown
from nllab.events import COMMANDS, Command, Event
from nllab.experiment import OPTIMIZERS
from nllab.optim import LEARNING_RATES
from nllab.runs import ScheduledCommand

if TYPE_CHECKING:
    from nllab.trainer import Trainer


def check(trainer: Trainer, name: str, value: Any) -> Any:
    """The value of a command as it will be recorded; raises SettingError for what cannot be done. Changes nothing."""
    match name:
        case "optimizer":
            _check_optimizer(trainer, value)
        case "teach":
            if trainer.experiment.joint:
                raise SettingError("joint=true shows all tasks at once, so there is no single task to teach.")
            check_choice("task", value, trainer.stream.task_names)
        case "period":
            level, period = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, None)
            trainer.base.schedule.with_period(level, period)  # type: ignore[arg-type]
            return [level, period]
        case "learning_rate" | "rate":
            check_number(name, value, "[0, inf)")
        case "retention":
            check_number(name, value, "[0, 1]")
        case _:
            raise unknown("command", name, COMMANDS)
    return value


def _check_optimizer(trainer: Trainer, value: Any) -> None:
    check_choice("optimizer", value, OPTIMIZERS)
    if value == "deep" and trainer.experiment.method != "naive":
        raise SettingError(f"This run's method is {trainer.experiment.method!r}, which works with a plain optimizer.")
    if trainer.own_optimizer and value not in ("deep", trainer.base_name):
        raise SettingError(
            f"This run trains with an optimizer of your own; switch between 'deep' and {trainer.base_name!r} (yours)."
        )


def carry_out(trainer: Trainer) -> list[Event]:
    """Carry out what was asked since the last step."""
    events: list[Event] = []
    for name, value in trainer.waiting:
        match name:
            case "optimizer":
                if value not in ("deep", trainer.base_name):
                    trainer.base_name, trainer.learning_rate = value, LEARNING_RATES[value]
                    trainer.base.optimizer = trainer.make_base(trainer.base.parameters)
                trainer.acting = value
            case "teach":
                events += trainer.close_experience()
                trainer.plan = [*trainer.plan[: trainer.experience], trainer.stream.task_names.index(value)]
            case "period":
                level, period = value
                trainer.base.schedule = trainer.base.schedule.with_period(level, period)
                next(g for g in trainer.deep.param_groups if g["level"] == level)["period"] = period
            case "learning_rate":
                trainer.learning_rate = value
                for group in trainer.base.optimizer.param_groups:
                    group.update({key: value for key in ("lr", "initial_lr") if key in group})
            case "rate":
                trainer.set_rate(value)
            case _:
                for group in trainer.deep.param_groups:
                    group[name] = value
        events.append(Command(step=trainer.steps + 1, name=name, value=value))
    trainer.waiting = []
    return events


def checked(trainer: Trainer, wanted: Iterable[ScheduledCommand], steps: int | None) -> list[ScheduledCommand]:
    """Commands for later in the order of their steps, the commands of one step as they were given. Raises SettingError
    for one that cannot be done or whose step the plan does not reach."""
    if steps is not None:
        check_whole("steps", steps, 0)
    values = [(at, name, check(trainer, name, value)) for at, name, value in wanted]
    end = trainer.planned_steps
    for at, name, value in (ordered := sorted(values, key=lambda command: command[0])):
        check_whole(f"The step of the command {name} {value!r}", at, trainer.steps + 1)
        if name == "teach" and at <= end + 1:
            end = at - 1 + trainer.length([trainer.stream.task_names.index(value)])
        elif at > end:
            raise SettingError(f"The command {name} {value!r} is for step {at}, and the plan is over after step {end}.")
    return ordered
