"""What can happen in a run: one class for each kind of event, defined here and nowhere else. No torch.

Whoever trains builds events unchecked, at the price of a dict (frozen they would cost seven times that). What comes
through a door, from a file or an upload, goes through `read`, which checks every value, also against the run that it
belongs to. A new kind of event is one class, named in `Event`; its `kind` is its name in files. A field that may be
missing has the default None and is left out of files then. `schema()` is the JSON schema of all kinds.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, ValidationInfo

from nllab.errors import RunFormatError
from nllab.experiment import OPTIMIZERS

ALL_TASKS = "all"  # the name of the one task of a joint run
SIGNALS = ("surprise", "novelty", "conflict")  # of each level, on the steps on which they were measured
NUMERIC_COMMANDS = ("learning_rate", "rate", "retention")  # commands whose value is a number
COMMANDS = ("optimizer", "teach", "period", *NUMERIC_COMMANDS)
MOST_STEP, MOST_SAMPLES, MOST_TEXT, MOST_NAME = 10**8, 200, 20_000, 60


@dataclass
class Context:
    """What an event may refer to: the tasks and levels of its run, and the samples that came before it."""

    tasks: tuple[str, ...]
    levels: tuple[str, ...]
    samples: Samples | None = None


def _must(condition: bool, words: str) -> None:
    if not condition:
        raise ValueError(words)


def _task_of_run(name: str, info: ValidationInfo) -> str:
    _must(info.context is None or name in (*info.context.tasks, ALL_TASKS), "the run has no task of that name")
    return name


def _every_task(values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    _must(info.context is None or set(values) == set(info.context.tasks), "it does not name every task of the run")
    return values


def _taught_tasks(values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    for name in values:
        _task_of_run(name, info)
    return values


def _report(value: dict[str, Any]) -> dict[str, Any]:
    from nllab.data.report import Report

    return Report.model_validate(value, strict=False).to_dict()


def _some_tasks(values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    _must(info.context is None or set(values) <= set(info.context.tasks), "the run has no task of that name")
    return values


def _every_level(values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    _must(info.context is None or set(values) == set(info.context.levels), "it does not name every level of the run")
    return values


def _optimizer(name: str) -> str:
    _must(name in OPTIMIZERS, f"expected one of {', '.join(OPTIMIZERS)}")
    return name


def _command_name(name: str) -> str:
    _must(name in COMMANDS, f"expected one of {', '.join(COMMANDS)}")
    return name


def _command_value(value: Any, info: ValidationInfo) -> Any:
    name, context = info.data.get("name"), info.context
    if name == "optimizer":
        good = value in OPTIMIZERS
    elif name == "teach":
        good = isinstance(value, str) and (context is None or value in context.tasks)
    elif name == "period":
        level, period = value if isinstance(value, list) and len(value) == 2 else (None, None)
        good = isinstance(period, int) and period >= 1 and (context is None or level in context.levels)
    else:
        good = isinstance(value, int | float) and value >= 0
    _must(good, f"the command {name} has no such value")
    return value


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


def _known_levels(values: dict[str, LevelUnits], info: ValidationInfo) -> dict[str, LevelUnits]:
    _must(info.context is None or set(values) <= set(info.context.levels), "the run has no level of that name")
    for units in values.values():
        held = len(base64.b64decode(units.weights))
        _must(held == units.units * (units.incoming + 1 + units.outgoing), "weights are as many bytes as they say")
        retained = len(base64.b64decode(units.retained or ""))
        _must(units.retained is None or retained == units.units, "retained is a byte for each unit")
    return values


def _rectangle(grid: list[list[float]]) -> list[list[float]]:
    _must(len({len(line) for line in grid}) == 1, "the lines of a grid are equally long")
    return grid


def _shown_samples(tasks: dict[str, TaskSamples], info: ValidationInfo) -> dict[str, TaskSamples]:
    shape, given = info.data.get("shape"), info.data.get("given")
    for shown in _some_tasks(tasks, info).values():
        if given is not None:
            _must(bool(shown.names), "texts are shown by their names")
            continue
        drawn = shown.images if shape else shown.points
        _must(bool(drawn) and len(drawn or ()) == len(shown.labels or ()), "every sample needs a label and a picture")
        size = shape[0] * shape[1] if shape else 0
        _must(
            not shape or all(re.fullmatch(f"[0-9a-f]{{{size}}}", image) for image in shown.images or ()),
            f"an image is {size} hexadecimal digits",
        )
    return tasks


def _one_for_each_sample(values: dict[str, list], info: ValidationInfo) -> dict[str, list]:
    if info.context is not None:
        samples = info.context.samples
        shown = {} if samples is None else {name: task.names or task.labels for name, task in samples.tasks.items()}
        _must(bool(shown), "no samples were shown before")
        counts = {name: len(found) for name, found in values.items()}
        _must(counts == {name: len(found or ()) for name, found in shown.items()}, "there is one for each sample shown")
    return values


def _span(span: tuple[float, ...]) -> tuple[float, ...]:
    _must(span[0] < span[1] and span[2] < span[3], "a span is left, right, bottom, top")
    return span


def _square(lines: list[str]) -> list[str]:
    _must(all(re.fullmatch(f"[0-9a-f]{{{len(lines)}}}", line) for line in lines), "a surface is as wide as it is high")
    return lines


Whole = Annotated[int, Field(ge=0, lt=2**53)]
StepNumber = Annotated[int, Field(ge=0, le=MOST_STEP)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Name = Annotated[str, Field(max_length=MOST_NAME)]
TaskName = Annotated[str, AfterValidator(_task_of_run)]
Optimizer = Annotated[str, AfterValidator(_optimizer)]
Accuracies = Annotated[dict[str, Fraction], AfterValidator(_every_task)]
Counts = Annotated[dict[str, Whole], AfterValidator(_every_task)]
Values = Annotated[Mapping[str, Number | bool | Name | None], Field(max_length=200)]
Grid = Annotated[
    list[Annotated[list[Size], Field(min_length=1, max_length=64)]],
    Field(min_length=1, max_length=64),
    AfterValidator(_rectangle),
]
Labels = Annotated[list[Annotated[int, Field(ge=0, lt=1000)]], Field(max_length=MOST_SAMPLES)]
Names = Annotated[list[Name], Field(max_length=MOST_SAMPLES)]
Bytes = Annotated[str, Field(max_length=500_000), AfterValidator(_base64)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Side = Annotated[int, Field(ge=1, le=128)]


@dataclass(slots=True, kw_only=True)
class LevelStep:
    """What one level did in a step. Sizes are None where they were not finite."""

    wrote: bool  # whether its weights changed
    writes: Whole  # how often they have changed so far
    update_norm: Size | None
    drift: Size | None
    drift_since_switch: Size | None
    gradient_norm: Size | None
    surprise: Number | None = None  # the signals of the deep optimizer, on steps on which they were measured
    novelty: Number | None = None
    conflict: Number | None = None
    held: Annotated[dict[str, Number], AfterValidator(_taught_tasks)] | None = None  # the conflict, by task so far


@dataclass(slots=True, kw_only=True)
class TaskSamples:
    """Samples of one task: labels with images (a hexadecimal digit a pixel) or points of the plane, or else names."""

    labels: Labels | None = None
    images: Annotated[list[str], Field(max_length=MOST_SAMPLES)] | None = None
    points: Annotated[list[tuple[Number, Number]], Field(max_length=MOST_SAMPLES)] | None = None
    names: Names | None = None


@dataclass(slots=True, kw_only=True)
class Untrained:
    """Accuracy on every task before the first step."""

    kind: Literal["untrained"] = "untrained"
    step: Annotated[int, Field(ge=0, le=0)]
    accuracy: Accuracies
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # guessing is right one time in so many
    samples: Counts | None = None  # how many an accuracy is measured on, by task


@dataclass(slots=True, kw_only=True)
class Switch:
    """The batches of a task begin to arrive with this step."""

    kind: Literal["switch"] = "switch"
    step: StepNumber
    experience: Whole
    task: TaskName
    about: Text = ""


@dataclass(slots=True, kw_only=True)
class Command:
    """Somebody asked for a change, in force from this step on."""

    kind: Literal["command"] = "command"
    step: StepNumber
    name: Annotated[str, AfterValidator(_command_name)]
    value: Annotated[Number | Name | list[Name | int], AfterValidator(_command_value)]


@dataclass(slots=True, kw_only=True)
class Step:
    """One batch was learned. `loss` and `online_accuracy` are of this batch before it was; `accuracy`, on some steps,
    is of every task after it."""

    kind: Literal["step"] = "step"
    step: StepNumber
    task: TaskName
    optimizer: Optimizer  # who wrote
    loss: Number
    online_accuracy: Fraction
    levels: Annotated[dict[str, LevelStep], AfterValidator(_every_level)]
    accuracy: Accuracies | None = None


@dataclass(slots=True, kw_only=True)
class Decision:
    """What the deep optimizer's manager saw, what it did from then on, and why."""

    kind: Literal["decision"] = "decision"
    step: StepNumber
    level: Name
    saw: Values
    did: Values
    text: Text


@dataclass(slots=True, kw_only=True)
class Experience:
    """An experience, one visit of a task, is over: a row of the accuracy matrix."""

    kind: Literal["experience"] = "experience"
    step: StepNumber
    experience: Whole
    task: TaskName
    accuracy: Accuracies


@dataclass(slots=True, kw_only=True)
class Samples:
    """Some test samples of each task, once. given: of texts, the first letters that the network is given. words: what
    the classes are called, where that is not their number."""

    kind: Literal["samples"] = "samples"
    step: StepNumber
    shape: tuple[Side, Side] | None = None
    given: Annotated[int, Field(ge=1, le=MOST_NAME)] | None = None
    words: Annotated[list[Name], Field(max_length=1000)] | None = None
    tasks: Annotated[dict[str, TaskSamples], Field(min_length=1), AfterValidator(_shown_samples)]


@dataclass(slots=True, kw_only=True)
class Answers:
    """The class that the network gives to each of those samples."""

    kind: Literal["answers"] = "answers"
    step: StepNumber
    answers: Annotated[dict[str, Labels], AfterValidator(_one_for_each_sample)]


@dataclass(slots=True, kw_only=True)
class Texts:
    """What the network makes of the beginnings of those names."""

    kind: Literal["texts"] = "texts"
    step: StepNumber
    texts: Annotated[dict[str, Names], AfterValidator(_one_for_each_sample)]


@dataclass(slots=True, kw_only=True)
class Surface:
    """The class that the network gives to each point of the plane: a string a row from the bottom, a character each."""

    kind: Literal["surface"] = "surface"
    step: StepNumber
    span: Annotated[tuple[Number, Number, Number, Number], AfterValidator(_span)]  # left, right, bottom, top
    classes: Annotated[list[str], Field(min_length=2, max_length=MOST_SAMPLES), AfterValidator(_square)]


@dataclass(slots=True, kw_only=True)
class Where:
    """How far the blocks of each matrix of each level have moved from their initial values, one grid for each
    matrix."""

    kind: Literal["where"] = "where"
    step: StepNumber
    levels: Annotated[dict[str, Annotated[list[Grid], Field(max_length=50)]], AfterValidator(_every_level)]


@dataclass(slots=True, kw_only=True)
class LevelUnits:
    """The units of a level: a row of its first matrix each. weights: signed bytes, units x (incoming, bias, outgoing),
    127 stands for `scale`. retained: once a task is over, a byte for each unit, 255 for all of its response."""

    units: Count
    incoming: Count
    outgoing: Count
    scale: Size
    weights: Bytes
    retained: Bytes | None = None


@dataclass(slots=True, kw_only=True)
class SeenSample:
    """A training sample, with its label and the scores that the network gave it before it learned from it."""

    label: Whole
    scores: Annotated[list[Number], Field(max_length=1000)]
    image: Annotated[str, Field(max_length=MOST_TEXT)] | None = None
    point: tuple[Number, Number] | None = None


@dataclass(slots=True, kw_only=True)
class Network:
    """A small network unit by unit (portrait.py)."""

    kind: Literal["network"] = "network"
    step: StepNumber
    levels: Annotated[dict[str, LevelUnits], AfterValidator(_known_levels)]
    seen: SeenSample | None = None


@dataclass(slots=True, kw_only=True)
class Data:
    """What was understood of the user's own data, before the first step: a `nllab.data.Report` as a dict."""

    kind: Literal["data"] = "data"
    step: Literal[0] = 0
    report: Annotated[dict[str, Any], AfterValidator(_report)]


@dataclass(slots=True, kw_only=True)
class End:
    """The run is over."""

    kind: Literal["end"] = "end"
    step: StepNumber
    reason: Literal["finished", "diverged"]
    text: Text


Event = (
    Untrained | Switch | Command | Step | Decision | Experience | Samples | Answers | Texts | Surface | Where | Network
    | Data | End
)  # fmt: skip
KINDS: dict[str, type] = {fields(kind)[0].default: kind for kind in Event.__args__}  # type: ignore[misc]
E = TypeVar("E")


def accuracy_of(event: Event) -> dict[str, float] | None:
    """Accuracy on every task, where the event tells it."""
    return getattr(event, "accuracy", None)


def task_of(event: Event) -> str:
    """The task that the event is about, or the empty string."""
    return getattr(event, "task", "")


def jsonable(value: Any) -> Any:
    """An event, or any value, as JSON can hold it: fields that are missing are left out, and numbers that are not
    finite are None."""
    if is_dataclass(value):
        values = {field.name: (field.default, getattr(value, field.name)) for field in fields(value)}
        return {key: jsonable(held) for key, (usual, held) in values.items() if held is not usual or key == "kind"}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def schema() -> dict[str, Any]:
    """The JSON schema of an event: what a watcher may read."""
    return _adapter().json_schema()


def read(line: str | bytes, context: Context | None = None) -> Any:
    """The event in a line of JSON, checked. Raises RunFormatError that names the field, its value and what is wrong.

    context: the run that it belongs to; the samples of an event that shows some are remembered in it.
    """
    try:
        event = _adapter().validate_json(line, strict=True, context=context)
    except ValidationError as error:
        raise RunFormatError(_sentence(error)) from None
    if context is not None and isinstance(event, Samples):
        context.samples = event
    return event


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place, shown = [str(part) for part in problem["loc"]], repr(problem["input"])[:60]
    kind = place.pop(0) if place else ""
    if problem["type"] == "json_invalid":
        return "it is damaged or was cut off"
    if problem["type"] == "union_tag_invalid":
        return f"kind is {str(problem.get('ctx', {}).get('tag'))[:40]!r}, which this version of nllab does not know"
    if not kind:
        return f"{shown} is not an event"
    words = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)[:80] or kind} of the event {kind} is {shown}: {words[:1].lower()}{words[1:]}"


def measured(log: Iterable[Event]) -> Iterator[tuple[Event, dict[str, float]]]:
    """The events that tell the accuracy on every task, with it."""
    for event in log:
        if (accuracy := accuracy_of(event)) is not None:
            yield event, accuracy
