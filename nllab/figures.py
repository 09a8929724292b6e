"""From the events of a run to Plotly figures, as plain dicts: the live page, notebooks and a replay draw the very same
ones. No torch.

A figure is `empty(...)` plus what the events add to it, in pieces that can arrive one after another:
    points(name, events, ...)  what each trace is extended by
    ends(name, events, ...)    the labels where the curves end now; they replace the last trace, which holds nothing
    else overlay(name, marks)     the part of the layout that tells when a task or a setting changed
`draw(name, run)` is all of it at once. Colours are those of Okabe and Ito, some darkened until they read on white;
every curve also has a dash and a label of its own, and no background is painted, so that a figure fits light and dark
pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nllab.events import (
    SIGNALS,
    Command,
    End,
    Event,
    Step,
    Switch,
    accuracy_of,
    measured,
    task_of,
)
from nllab.runs import Run

if TYPE_CHECKING:
    from nllab.experiment import Experiment

Spec = dict[str, Any]
FIGURES = ("accuracy", "drift", "raster")
CURVES = FIGURES + SIGNALS
TITLES = {
    "accuracy": "Accuracy on each task", "drift": "How far each level has drifted", "raster": "When each level writes",
    "surprise": "Surprise", "novelty": "Novelty", "conflict": "Held back for earlier tasks",
}  # fmt: skip
ABOUT = {  # what each view means, for somebody who sees it for the first time
    "accuracy": (
        "The share of each task's test images that the network gets right, measured every few steps. A curve that falls"
        " while another task is taught is forgetting. The dotted line is what guessing gives."
    ),
    "drift": (
        "How far the weights of each level have moved from where they began, relative to their size, on a logarithmic"
        " axis. A level that writes seldom moves in stairs. An output layer starts at zero, so for it the distance"
        " itself is shown."
    ),
    "raster": (
        "One lane for each level, with its period in steps; one mark for each step at which its weights changed. Marks"
        " and counts come from the weights themselves, not from a clock. A level collects its gradients between two"
        " marks."
    ),
    "rings": (
        "The same levels as loops inside each other, the fastest innermost. A hand goes round once in a period; when it"
        " is at the top the level writes what it has collected, and its ring lights up."
    ),
    "surprise": (
        "How large the error is that reaches each level, on steps on which its period ended and the deep optimizer"
        " measured it. It jumps when a new task begins and sinks as that is learned."
    ),
    "novelty": (
        "How new the inputs of each level are to what it remembers: 1 is what its memory holds on average. High novelty"
        " with high surprise is a new task; high surprise alone is a changed answer, or noise."
    ),
    "conflict": (
        "The share of the change that a batch asks for which the memory holds back (or would, while it only watches)"
        " because inputs of tasks taught before use those directions. What inputs of the same task use is not counted:"
        " with it, the conflict is nearly 1 wherever many inputs have been seen."
    ),
    "matrix": (
        "Each row was measured after an experience (a visit of a task), each column is a task. Read down a column to"
        " see a task being learned and kept, or lost. Forgetting is how far tasks have fallen from their best; backward"
        " transfer is what later tasks did to earlier ones; forward transfer is what earlier tasks did for later ones."
    ),
    "where": (
        "Each matrix of weights, level by level, cut into a coarse grid: the brighter a cell, the further the weights"
        " in it have moved from where they began, relative to the size of that matrix. Rows are outputs, columns are"
        " inputs."
    ),
    "surface": (
        "What the network would answer at every point of the plane. The dots are test samples, coloured by their true"
        " class: where a dot and its ground differ, it is misread."
    ),
    "answers": (
        "Some test images of each task. Above each stands what the network answered when the last experience ended and,"
        " below that, what it answers now. Brackets mark a wrong answer."
    ),
    "texts": (
        "Names that the network has never seen. It is given the first letters and writes on by itself, always with the"
        " letter it finds likeliest: when the last experience ended, and now. Watch the first language take on the"
        " spelling of the second."
    ),
    "log": (
        "The deep optimizer's manager watches surprise, novelty, conflict and drift of every level, and may change a"
        " level's settings. Each entry says what it saw and what it did. Nothing is here while no manager has decided"
        " anything."
    ),
}
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B26F00")
LEVEL_COLOURS = {  # shades of no task's hue, the slower the darker
    "input": "#8A86A0", "fast": "#8F80D8", "memory": "#8F80D8", "medium": "#7A63CC", "slow": "#6D50BE",
    "head": "#75757F",
}  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
INK, FAINT = "#7A7A7A", "rgba(128,128,128,0.22)"
SMALLEST_DRIFT = 1e-4  # below this the logarithmic axis ends
MOST_LABELS = 8  # tasks and switches that can all be named


def level_colours(levels: Iterable[str]) -> list[str]:
    """The shade of each level, the same in every model."""
    return [LEVEL_COLOURS.get(name.partition("-")[0], INK) for name in levels]


def lane(level: str, period: int) -> str:
    """The label of a level: "slow · every 16 steps"."""
    return f"{level} · every step" if period == 1 else f"{level} · every {period} steps"


def empty(
    name: str, tasks: Sequence[str], levels: Mapping[str, int], *, steps: int | None = None, chance: float | None = None
) -> Spec:
    """The figure before anything has happened: {"data": one trace per task or level, then the labels at their ends,
    "layout": ...}.

    levels: name -> period. steps: how far the axis reaches at first. chance: accuracy of guessing, drawn as a line.
    """
    subjects, colours = (tasks, TASK_COLOURS) if name == "accuracy" else (tuple(levels), level_colours(levels))
    data: list[Spec] = []
    for i, subject in enumerate(subjects):
        line = {"color": colours[i % len(colours)], "width": 2.5, "dash": DASHES[i % len(DASHES)]}
        hover = f"{subject} %{{y:.3f}}<extra></extra>"
        if name == "raster":
            line |= {"width": 2, "dash": "solid"}
            hover = "step %{x}<extra></extra>"
        mode = "lines+markers" if name in SIGNALS else "lines"
        data.append(
            {"type": "scatter", "mode": mode, "name": subject, "x": [], "y": [], "line": line, "hovertemplate": hover}
        )
        if name == "raster":
            data[-1]["meta"] = {"group": 3}  # up and down again: one mark
    data.append(
        {
            "type": "scatter", "mode": "text", "x": [], "y": [], "text": [], "textposition": "middle right",
            "cliponaxis": False,
            "hoverinfo": "skip", "showlegend": False, "meta": {"ends": True},
            "textfont": {"size": 12, "color": [colours[i % len(colours)] for i in range(len(subjects))]},
        }
    )  # fmt: skip
    axis = {"gridcolor": FAINT, "linecolor": FAINT, "zeroline": False, "automargin": False, "ticks": ""}
    x = {**axis, "showgrid": False, "title": {"text": "step", "standoff": 6}, "rangemode": "nonnegative"}
    if steps:
        x["range"] = [0, steps]
    layout: Spec = {
        "title": {
            "text": TITLES[name],
            "font": {"size": 14},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 4},
        },
        "font": {"color": INK, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 44, "r": 64, "t": 44 if name == "accuracy" else 30, "b": 36},
        "height": 260,
        "showlegend": False,
        "hovermode": "x",
        "dragmode": "zoom",
        "uirevision": "kept",
        "xaxis": x,
        "yaxis": _y_axis(name, axis, levels),
        "shapes": [],
        "annotations": [],
    }
    if name == "accuracy" and chance is not None:
        layout["shapes"] = [_level_line(chance)]
        layout["annotations"] = [_level_label(chance, "chance")]
    if name == "raster":
        layout["margin"] = layout["margin"] | {"l": 146}
    return {"data": data, "layout": layout}


def _y_axis(name: str, axis: Spec, levels: Mapping[str, int]) -> Spec:
    if name == "accuracy":
        return {**axis, "range": [-0.03, 1.04], "fixedrange": True, "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    if name == "drift":
        return {**axis, "type": "log", "dtick": 1, "tickformat": "~g", "rangemode": "normal"}
    if name == "conflict":
        return {**axis, "range": [-0.03, 1.04], "fixedrange": True, "tickvals": [0, 0.5, 1]}
    if name in SIGNALS:
        return {**axis, "rangemode": "tozero", "nticks": 5}
    return {**axis, "range": [len(levels) - 0.4, -0.6], "fixedrange": True, "showgrid": False, **lanes(levels)}


def lanes(levels: Mapping[str, int]) -> Spec:
    """The tick labels of the raster, which change with the periods."""
    return {"tickvals": list(range(len(levels))), "ticktext": [lane(level, period) for level, period in levels.items()]}


def points(
    name: str, events: Sequence[Event], tasks: Sequence[str], levels: Mapping[str, int]
) -> list[dict[str, list]]:
    """What the events add to each trace but the last: {"x": [...], "y": [...]} per task or level."""
    if name == "accuracy":
        measurements = list(measured(events))
        return [
            {
                "x": [event.step for event, _ in measurements],
                "y": [round(accuracy[task], 4) for _, accuracy in measurements],
            }
            for task in tasks
        ]
    steps = [event for event in events if isinstance(event, Step)]
    if name == "drift":
        return [
            {"x": [step.step for step in steps], "y": [_on_log_axis(step.levels[level].drift) for step in steps]}
            for level in levels
        ]
    if name in SIGNALS:
        measured_steps = [
            [(step.step, _rounded(value)) for step in steps if (value := _signal(name, step, level)) is not None]
            for level in levels
        ]
        return [{"x": [step for step, _ in pairs], "y": [value for _, value in pairs]} for pairs in measured_steps]
    traces = []
    for i, level in enumerate(levels):
        wrote = [step.step for step in steps if step.levels[level].wrote]
        # One unbroken line that runs along its lane and up at every write: a gap would cost the browser a path of its
        # own for each.
        traces.append(
            {"x": [x for step in wrote for x in (step, step, step)], "y": [i + 0.34, i - 0.34, i + 0.34] * len(wrote)}
        )
    return traces


def ends(name: str, events: Sequence[Event], tasks: Sequence[str], levels: Mapping[str, int]) -> dict[str, list] | None:
    """The labels where the curves end: x, y and text of the last trace; None if the events say nothing about it."""
    for event in reversed(events):
        if name == "accuracy":
            if (accuracy := accuracy_of(event)) is None:
                continue
            values = [accuracy[task] for task in tasks]
            text = [f" {task}  {value:.2f}" for task, value in zip(tasks, values, strict=True)]
            if len(tasks) > MOST_LABELS:  # of a crowd only the task being taught is named
                text = [label if task == task_of(event) else "" for task, label in zip(tasks, text, strict=True)]
                return {"x": [event.step] * len(tasks), "y": values, "text": text}
            return {"x": [event.step] * len(tasks), "y": _apart(values, 0.085), "text": text}
        if not isinstance(event, Step):
            continue
        if name in SIGNALS:
            if any(getattr(level, name) is not None for level in event.levels.values()):
                return _signal_ends(name, events, levels)
        else:
            states = [event.levels[level] for level in levels]
            if name == "raster":
                text = [f" {level.writes}" + (" writes" if i == 0 else "") for i, level in enumerate(states)]
                return {"x": [event.step] * len(states), "y": list(range(len(states))), "text": text}
            drifts = [_on_log_axis(level.drift) for level in states]
            values = [math.log10(drift) if drift else None for drift in drifts]
            finite = [value for value in values if value is not None] or [0.0]
            text = [f" {name}" if drift else "" for name, drift in zip(levels, drifts, strict=True)]
            apart = _apart(values, max(0.16, 0.09 * (max(finite) - min(finite) + 1.2)))
            return {
                "x": [event.step] * len(states),
                "y": [y if y is None else float(f"{10**y:.4g}") for y in apart],
                "text": text,
            }
    return None


def _signal_ends(name: str, events: Sequence[Event], levels: Mapping[str, int]) -> dict[str, list]:
    """The name of each level at its last value among the events, which should reach back far enough for slow levels to
    be among them."""
    steps = [event for event in events if isinstance(event, Step)]
    series = [
        (level, step.step, value)
        for step in steps
        for level in levels
        if (value := _signal(name, step, level)) is not None
    ]
    last = {level: (step, _rounded(value)) for level, step, value in series}
    values = [last.get(level, (0, None))[1] for level in levels]
    reach = 1.0 if name == "conflict" else max((value for _, _, value in series), default=1.0)
    text = ["" if value is None else f" {level}" for level, value in zip(levels, values, strict=True)]
    step = max(step for step, _ in last.values())
    apart = _apart(values, 0.11 * reach)
    over = max(0.0, max(y for y in apart if y is not None) - 1.03 * reach)  # what lies above the axis is not drawn
    return {"x": [step] * len(values), "y": [y if y is None else round(y - over, 4) for y in apart], "text": text}


def _signal(name: str, step: Step, level: str) -> float | None:
    """What is drawn of a level's signal; of a conflict whose accounts are known, that with other tasks."""
    level_step = step.levels[level]
    if name == "conflict" and level_step.held and set(level_step.held) != {""}:
        return max(0.0, sum(share for task, share in level_step.held.items() if task not in ("", step.task)))
    return getattr(level_step, name)


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _on_log_axis(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and SMALLEST_DRIFT <= value < math.inf else None


def _apart(values: Sequence[float | None], gap: float) -> list[Any]:
    """The values moved as little as it takes to lie at least `gap` apart, their order kept; None where there is
    none."""
    places = {i: value for i, value in enumerate(values) if value is not None}
    order = sorted(places, key=lambda i: places[i])
    moved = dict(places)
    for low, high in zip(order, order[1:], strict=False):
        moved[high] = max(moved[high], moved[low] + gap)
    shift = sum(moved[i] - value for i, value in places.items()) / max(len(places), 1)
    return [round(moved[i] - shift, 4) if i in moved else None for i in range(len(values))]


def marks(events: Iterable[Event]) -> list[dict[str, Any]]:
    """What changed and when: {step, kind: "switch" | "command" | "end", text}, in order. A taught task shows as the
    switch it brings."""
    changes = []
    for event in events:
        if isinstance(event, Switch):
            changes.append({"step": event.step, "kind": "switch", "text": f"task {event.task}"})
        elif isinstance(event, Command) and event.name != "teach":
            changes.append({"step": event.step, "kind": "command", "text": _asked(event.name, event.value)})
        elif isinstance(event, End) and event.reason != "finished":
            changes.append({"step": event.step, "kind": "end", "text": "stopped"})
    return changes


def label_marks(experiment: Experiment, steps: int) -> list[dict[str, Any]]:
    """Where the labels of a stream are random or change their meaning, in a plan of so many steps: as marks, in
    order."""
    if experiment.joint or experiment.order:
        return []
    if experiment.stream == "contexts-digits" and experiment.epochs == 1:
        starts = range(experiment.context_length, steps, experiment.context_length)
        words = dict(zip(starts, ("names swap", ""), strict=False))  # said once, there is no room for more
        return [{"step": start + 1, "kind": "context", "text": words.get(start, "")} for start in starts]
    if experiment.stream != "noisy-digits":
        return []
    lap = steps // experiment.epochs  # see streams/digits.py: a tenth, from the middle on
    return [
        {"step": start + place, "kind": "command", "text": text}
        for start in range(0, lap * experiment.epochs, lap)
        for place, text in ((lap // 2 + 1, "random labels"), (-(-6 * lap // 10) + 1, "true labels again"))
    ]


def _asked(name: str, value: Any) -> str:
    if name == "optimizer":
        return "deep optimizer on" if value == "deep" else f"{value} takes over"
    return lane(*value) if name == "period" else f"{name.replace('_', ' ')} {value:g}"


def overlay(
    name: str, found: Iterable[Mapping[str, Any]], *, chance: float | None = None, joint: float | None = None
) -> Spec:
    """The layout's shapes and annotations for these marks: a line each and, on the accuracy figure, its text.

    chance, joint: accuracy of guessing, and of a network that was taught all tasks at once, drawn as lines.
    """
    shapes: list[Spec] = []
    annotations: list[Spec] = []
    for value, text in ((chance, "chance"), (joint, "joint")):
        if name == "accuracy" and value is not None:
            shapes.append(_level_line(value))
            annotations.append(_level_label(value, text))
    found = list(found)
    crowded = sum(mark["kind"] == "switch" for mark in found) > MOST_LABELS
    together: dict[int, list[str]] = {}  # settings changed at one step, whose texts would lie on each other
    for mark in found:
        if mark["kind"] != "switch":
            together.setdefault(mark["step"], []).append(mark["text"])
    for mark in found:
        x = mark["step"] - 0.5  # in force from this step on
        is_switch = mark["kind"] == "switch"
        dash = "solid" if mark["kind"] in ("switch", "context") else "dot"
        shapes.append(
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": FAINT if mark["kind"] == "context" else INK, "width": 1, "dash": dash},
            }
        )
        text = mark["text"] if is_switch else "<br>".join(together.pop(mark["step"], []))
        if name == "accuracy" and text and not (crowded and is_switch):
            annotations.append(
                {
                    "x": x, "yref": "paper", "y": 1.0 if is_switch else 0.93, "text": text, "showarrow": False,
                    "align": "left",
                    "xanchor": "left", "yanchor": "bottom" if is_switch else "top", "xshift": 2, "font": {"size": 12},
                }
            )  # fmt: skip
    return {"shapes": shapes, "annotations": annotations}


def _level_line(value: float) -> Spec:
    line = {"color": INK, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _level_label(value: float, text: str) -> Spec:
    """To the right of the axes for chance; what lies high would collide there with the labels of the curves, and stands
    inside."""
    right = (
        {"x": 1, "xanchor": "left", "yanchor": "middle"}
        if value < 0.5
        else {"x": 0.995, "xanchor": "right", "yanchor": "bottom"}
    )
    return {"xref": "paper", "y": value, "text": f" {text}", "showarrow": False, "font": {"size": 11}, **right}


def thin(events: Sequence[Event], limit: int) -> list[Event]:
    """At most about `limit` steps that stand for all of them: a level that wrote in a left-out step is told in the next
    kept one.

    Events of other kinds and steps with accuracies all stay.
    """
    count = sum(isinstance(event, Step) and event.accuracy is None for event in events)
    stride = math.ceil(count / max(limit, 1))
    if stride <= 1:
        return list(events)
    kept, passed, wrote = [], 0, set()
    for event in events:
        if not isinstance(event, Step):
            kept.append(event)
            continue
        passed += 1
        wrote |= {name for name, level in event.levels.items() if level.wrote}
        if event.accuracy is not None or passed % stride == 0 or event is events[-1]:
            levels = {name: replace(level, wrote=name in wrote) for name, level in event.levels.items()}
            kept.append(replace(event, levels=levels))
            wrote = set()
    return kept


def draw(name: str, run: Run, *, chance: float | None = None) -> Spec:
    """The figure of a run as it stands."""
    spec = empty(name, run.tasks, run.levels, chance=chance)
    for trace, added in zip(spec["data"], points(name, run.log, run.tasks, run.levels), strict=False):
        trace |= added
    spec["data"][-1] |= ends(name, run.log, run.tasks, run.levels) or {}
    spec["layout"] |= overlay(name, marks(run.log), chance=chance)
    return spec


def multiples(name: str, runs: Mapping[str, Run]) -> Spec:
    """The same figure of several runs, by their titles, next to each other on the same axes."""
    data: list[Spec] = []
    layout: Spec = {}
    width = 1 / max(len(runs), 1)
    reach = max((run.steps for run in runs.values()), default=1)
    for i, (title, run) in enumerate(runs.items()):
        spec = draw(name, run)
        number = "" if i == 0 else str(i + 1)
        # Names stand apart by the reach of their own run's axis, which only accuracies share.
        traces = spec["data"] if name == "accuracy" else spec["data"][:-1]
        data += [{**trace, "xaxis": f"x{number}", "yaxis": f"y{number}"} for trace in traces]
        if not layout:
            layout = {
                **spec["layout"],
                "shapes": [],
                "annotations": [],
                "margin": {"l": 44, "r": 16, "t": 62, "b": 40},
                "height": 280,
            }
        x = {
            **spec["layout"]["xaxis"],
            "range": [0, reach],
            "domain": [i * width, (i + 1) * width - (0.06 if name == "accuracy" else 0.02)],
            "anchor": f"y{number}",
        }
        y = {**spec["layout"]["yaxis"], "anchor": f"x{number}"}
        layout[f"xaxis{number}"] = x
        layout[f"yaxis{number}"] = y if i == 0 else {**y, "matches": "y", "showticklabels": False}
        for shape in spec["layout"]["shapes"]:
            layout["shapes"].append({**shape, "xref": f"x{number}", "yref": f"y{number} domain"})
        head = {"text": f"<b>{title}</b>", "showarrow": False, "xref": f"x{number} domain", "yref": f"y{number} domain"}
        layout["annotations"].append({**head, "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 4})
    return {"data": data, "layout": layout}
