"""From the events of a run to Plotly figures, as plain dicts: the live page, notebooks and a replay draw the very same
ones. No torch.

A figure is `empty(...)` plus what the events add to it, in pieces that can arrive one after another:
    points(name, events, ...)  what each trace is extended by
    ends(name, events, ...)    the labels where the curves end now; they replace the last trace, which holds nothing else
    overlay(name, marks)     the part of the layout that tells when a task or a setting changed
`draw(name, run)` is all of it at once. Colours are those of Okabe and Ito, some darkened until they read on white;
every curve also has a dash and a label of its own, and no background is painted, so that a figure fits light and dark
pages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, TypeVar

from nllab.events import (
    SIGNALS,
    Answers,
    Command,
    End,
    Event,
    Experience,
    Samples,
    Step,
    Surface,
    Switch,
    Texts,
    Where,
    accuracy_of,
    measured,
    task_of,
)
from nllab.optim import REGISTRY as OPTIMIZERS
from nllab.runs import Run, readable

Spec = dict[str, Any]
P = TypeVar("P", Answers, Texts)
FIGURES = ("accuracy", "drift", "raster")
CURVES = FIGURES + SIGNALS
TITLES = {
    "accuracy": "Accuracy on each task", "drift": "How far each level has drifted", "raster": "When each level writes",
    "surprise": "Surprise", "novelty": "Novelty", "conflict": "Conflict",
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
        "How large the error is that reaches each level, on steps on which it wrote and the deep optimizer measured it."
        " It jumps when a new task begins and sinks as that is learned."
    ),
    "novelty": (
        "How new the inputs of each level are to what it remembers: 1 is what its memory holds on average. High novelty"
        " with high surprise is a new task; high surprise alone is a changed answer, or noise."
    ),
    "conflict": (
        "The share of the change that a batch asks for which the memory holds back, since earlier inputs use those"
        " directions: 0 lets all of it pass, 1 none."
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
WRITERS = {name: entry.title for name, entry in OPTIMIZERS.items()} | {"deep": "the deep optimizer"}
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B26F00")
LEVEL_COLOURS = {  # shades of no task's hue, the slower the darker
    "input": "#8A86A0", "fast": "#8F80D8", "memory": "#8F80D8", "medium": "#7A63CC", "slow": "#6D50BE", "head": "#75757F",
}  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
INK, FAINT = "#7A7A7A", "rgba(128,128,128,0.22)"
SMALLEST_DRIFT = 1e-4  # below this the logarithmic axis ends
MOST_ACROSS = 12  # images of a task in one line
LONGEST_TEXT = 15  # characters of a name that fit into a column
MOST_LABELS = 8  # tasks and switches that can all be named
FALL = 0.05  # a change of accuracy smaller than this is called no change


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
            "type": "scatter", "mode": "text", "x": [], "y": [], "text": [], "textposition": "middle right", "cliponaxis": False,
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
        told = list(measured(events))
        return [
            {"x": [event.step for event, _ in told], "y": [round(accuracy[task], 4) for _, accuracy in told]}
            for task in tasks
        ]
    steps = [event for event in events if isinstance(event, Step)]
    if name == "drift":
        return [
            {"x": [step.step for step in steps], "y": [_on_log_axis(step.levels[level].drift) for step in steps]}
            for level in levels
        ]
    if name in SIGNALS:
        found = [
            [(step.step, _rounded(value)) for step in steps if (value := getattr(step.levels[level], name)) is not None]
            for level in levels
        ]
        return [{"x": [step for step, _ in pairs], "y": [value for _, value in pairs]} for pairs in found]
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
            found = [event.levels[level] for level in levels]
            if name == "raster":
                text = [f" {level.writes}" + (" writes" if i == 0 else "") for i, level in enumerate(found)]
                return {"x": [event.step] * len(found), "y": list(range(len(found))), "text": text}
            drifts = [_on_log_axis(level.drift) for level in found]
            values = [math.log10(drift) if drift else None for drift in drifts]
            told = [value for value in values if value is not None] or [0.0]
            text = [f" {name}" if drift else "" for name, drift in zip(levels, drifts, strict=True)]
            apart = _apart(values, max(0.16, 0.09 * (max(told) - min(told) + 1.2)))
            return {
                "x": [event.step] * len(found),
                "y": [y if y is None else float(f"{10**y:.4g}") for y in apart],
                "text": text,
            }
    return None


def _signal_ends(name: str, events: Sequence[Event], levels: Mapping[str, int]) -> dict[str, list]:
    """The name of each level at its last value among the events, which should reach back far enough for slow levels to be
    among them."""
    steps = [event for event in events if isinstance(event, Step)]
    found = [
        (level, step.step, value)
        for step in steps
        for level in levels
        if (value := getattr(step.levels[level], name)) is not None
    ]
    last = {level: (step, _rounded(value)) for level, step, value in found}
    values = [last.get(level, (0, None))[1] for level in levels]
    reach = 1.0 if name == "conflict" else max((value for _, _, value in found), default=1.0)
    text = ["" if value is None else f" {level}" for level, value in zip(levels, values, strict=True)]
    step = max(step for step, _ in last.values())
    apart = _apart(values, 0.11 * reach)
    over = max(0.0, max(y for y in apart if y is not None) - 1.03 * reach)  # what lies above the axis is not drawn
    return {"x": [step] * len(values), "y": [y if y is None else round(y - over, 4) for y in apart], "text": text}


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _on_log_axis(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and SMALLEST_DRIFT <= value < math.inf else None


def _apart(values: Sequence[float | None], gap: float) -> list[Any]:
    """The values moved as little as it takes to lie at least `gap` apart, their order kept; None where there is
    none."""
    told = {i: value for i, value in enumerate(values) if value is not None}
    order = sorted(told, key=lambda i: told[i])
    moved = dict(told)
    for low, high in zip(order, order[1:], strict=False):
        moved[high] = max(moved[high], moved[low] + gap)
    shift = sum(moved[i] - value for i, value in told.items()) / max(len(told), 1)
    return [round(moved[i] - shift, 4) if i in moved else None for i in range(len(values))]


def marks(events: Iterable[Event]) -> list[dict[str, Any]]:
    """What changed and when: {step, kind: "switch" | "command" | "end", text}, in order. A taught task shows as the
    switch it brings."""
    found = []
    for event in events:
        if isinstance(event, Switch):
            found.append({"step": event.step, "kind": "switch", "text": f"task {event.task}"})
        elif isinstance(event, Command) and event.name != "teach":
            found.append({"step": event.step, "kind": "command", "text": _asked(event.name, event.value)})
        elif isinstance(event, End) and event.reason != "finished":
            found.append({"step": event.step, "kind": "end", "text": "stopped"})
    return found


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
        dash = "solid" if is_switch else "dot"
        shapes.append(
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": INK, "width": 1, "dash": dash},
            }
        )
        text = mark["text"] if is_switch else "<br>".join(together.pop(mark["step"], []))
        if name == "accuracy" and text and not (crowded and is_switch):
            annotations.append(
                {
                    "x": x, "yref": "paper", "y": 1.0 if is_switch else 0.93, "text": text, "showarrow": False, "align": "left",
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


STILLS: dict[type, str] = {  # kind of event -> the picture it brings
    Experience: "matrix",
    Where: "where",
    Answers: "answers",
    Texts: "texts",
    Surface: "surface",
}


def still(name: str, run: Run, end: int | None = None) -> Spec | None:
    """A picture of one moment: of the last event of its kind among `run.log[:end]`; None if there is none yet.

    The numbers behind it are in `meta.table`: a head and lines.
    """
    past = run.upto(end)
    event = past.last(next(kind for kind, picture in STILLS.items() if picture == name))
    samples = next((event for event in past.log if isinstance(event, Samples)), Samples(step=0, tasks={}))
    match event:
        case Experience():
            return _matrix(past)
        case Where():
            return _where(event)
        case Surface():
            return _surface(event, samples)
        case Answers():
            return _answers(event, samples, past)
        case Texts():
            return _texts(event, samples, past)
    return None


def _picture(title: str, sub: str, data: list[Spec], table: list[list[Any]], **layout: Any) -> Spec:
    head = {"text": f'{title}<br><span style="font-size:12px">{sub}</span>' if sub else title, "font": {"size": 14}}
    place = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 16 if sub else 4}}
    plain = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "showlegend": False,
    }
    axis = {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
    axes = {"xaxis": axis | layout.pop("xaxis", {}), "yaxis": axis | layout.pop("yaxis", {})}
    margin = {"l": 64, "r": 12, "t": 56, "b": 36}
    whole = {"title": head | place, **plain, "margin": margin, "height": 300, **axes, **layout}
    return {"data": data, "layout": whole, "meta": {"table": table}}


def _matrix(run: Run) -> Spec:
    matrix, summary = run.accuracy_matrix, run.summary
    visits = [experience.task for experience in run.of(Experience)]
    told = [(readable(name), summary[name]) for name in ("forgetting", "backward_transfer", "forward_transfer")]
    sub = " · ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in told if value is not None)
    cells = matrix.round(3).tolist()
    heat = {
        "type": "heatmap",
        "z": cells,
        "x": list(run.tasks),
        "y": [f"{i} · {task}" for i, task in enumerate(visits, start=1)],
    }
    heat |= {"zmin": 0, "zmax": 1, "colorscale": "Cividis", "showscale": False, "xgap": 2, "ygap": 2}
    heat["hovertemplate"] = "task %{x} after experience %{y}: %{z:.3f}<extra></extra>"
    if matrix.size <= MOST_LABELS**2:
        heat["texttemplate"] = "%{z:.2f}"
    title = {"title": {"text": "accuracy on task", "standoff": 4}, "type": "category"}
    y = {"autorange": "reversed", "type": "category", "title": {"text": "after experience", "standoff": 4}}
    table = [["after", *run.tasks], *([label, *line] for label, line in zip(heat["y"], cells, strict=True))]
    return _picture("Accuracy matrix", sub, [heat], table, xaxis=title, yaxis=y)


def _where(event: Where) -> Spec:
    """Each level is a band of tiles, one for each of its matrices; tiles are set apart by gaps."""
    levels = event.levels
    high = max((len(grid) for grids in levels.values() for grid in grids), default=1) + 1
    wide = max((len(grid[0]) for grids in levels.values() for grid in grids), default=1) + 1
    across = max((len(grids) for grids in levels.values()), default=1)
    cells: list[list[float | None]] = [[None] * (wide * across - 1) for _ in range(high * len(levels) - 1)]
    table: list[list[Any]] = [["level", "matrix", "moved on average", "moved most"]]
    for i, (level, grids) in enumerate(levels.items()):
        for k, grid in enumerate(grids):
            for y, line in enumerate(grid):
                for x, value in enumerate(line):
                    cells[i * high + y][k * wide + x] = value
            flat = [value for line in grid for value in line]
            table.append([level, k + 1, round(sum(flat) / len(flat), 4), max(flat)])
    shades = [[None if v is None else math.log10(max(v, SMALLEST_DRIFT)) for v in line] for line in cells]
    heat = {
        "type": "heatmap",
        "z": shades,
        "customdata": cells,
        "zmin": math.log10(SMALLEST_DRIFT),
        "zmax": 0.5,
        "colorscale": "Cividis",
    }
    ticks = {
        "tickvals": [-4, -3, -2, -1, 0],
        "ticktext": ["0.0001", "0.001", "0.01", "0.1", "1"],
        "thickness": 10,
        "outlinewidth": 0,
    }
    heat |= {"colorbar": ticks, "hoverongaps": False, "hovertemplate": "moved %{customdata:.2g}<extra></extra>"}
    y = {
        "autorange": "reversed",
        "tickvals": [i * high + (high - 2) / 2 for i in range(len(levels))],
        "ticktext": list(levels),
    }
    return _picture(
        "Where the weights moved", f"step {event.step}", [heat], table, yaxis=y, xaxis={"showticklabels": False}
    )


def _surface(event: Surface, samples: Samples) -> Spec:
    left, right, bottom, top = event.span
    ground = [[int(c, 16) for c in line] for line in event.classes]
    size, classes = len(ground), len(TASK_COLOURS)
    bands = [[(i + k) / classes, colour] for i, colour in enumerate(TASK_COLOURS) for k in (0, 1)]
    heat = {
        "type": "heatmap",
        "z": ground,
        "zmin": -0.5,
        "zmax": classes - 0.5,
        "colorscale": bands,
        "opacity": 0.35,
        "showscale": False,
    }
    heat |= {"x0": left, "dx": (right - left) / (size - 1), "y0": bottom, "dy": (top - bottom) / (size - 1)}
    heat["hovertemplate"] = "answer: class %{z}<extra></extra>"
    points = [
        (*xy, label)
        for task in samples.tasks.values()
        for xy, label in zip(task.points or (), task.labels or (), strict=True)
    ]
    x, y, labels = zip(*points, strict=True) if points else ((), (), ())
    marks = {
        "size": 6,
        "color": [TASK_COLOURS[label % classes] for label in labels],
        "symbol": [label % 4 for label in labels],
    }
    marks["line"] = {"width": 0.6, "color": INK}
    dots = {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "marker": marks}
    dots["text"] = [f"class {label}" for label in labels]
    dots["hovertemplate"] = "%{text}<extra></extra>"
    counts = Counter(c for line in ground for c in line)
    table = [["class", "share of the plane"], *([c, round(counts[c] / size**2, 3)] for c in sorted(counts))]
    return _picture("What it would answer everywhere", f"step {event.step}", [heat, dots], table)


def _answers(event: Answers, samples: Samples, run: Run) -> Spec | None:
    """The images next to each other, a line for each task; above each what is read in it, and what was when the last
    experience ended."""
    if not samples.shape:
        return None
    before = _before(event, run)
    height, width = samples.shape
    above = height + 1  # room for two lines of text
    tall, wide = above + height, width + 1 + width // 8
    shown = {name: _spread(len(task.images or ()), MOST_ACROSS) for name, task in samples.tasks.items()}
    across = max(map(len, shown.values()))
    cells: list[list[int | None]] = [[None] * (wide * across) for _ in range(tall * len(samples.tasks))]
    notes: list[Spec] = []
    table: list[list[Any]]
    table, wrong = [["task", "image", "is", "before", "now"]], 0
    for i, (name, task) in enumerate(samples.tasks.items()):
        for sample, (image, label) in enumerate(zip((task.images or ()), task.labels or (), strict=True)):
            now, then = event.answers[name][sample], before.answers[name][sample] if before else None
            table.append([name, sample + 1, label, "–" if then is None else then, now])
            wrong += now != label
            if sample not in shown[name]:
                continue
            k = shown[name].index(sample)
            for y in range(height):
                for x in range(width):
                    cells[i * tall + above + y][k * wide + x] = int(image[y * width + x], 16)
            told = str(now) if now == label else f"<b>({now})</b>"
            if then is not None:
                told = (str(then) if then == label else f"({then})") + f"<br>{told}"
            place = {
                "x": k * wide + width / 2 - 0.5,
                "y": i * tall + above - 0.5,
                "yanchor": "bottom",
                "showarrow": False,
            }
            notes.append({**place, "text": told, "font": {"size": 11}})
    heat = {
        "type": "heatmap",
        "z": cells,
        "colorscale": "Greys",
        "reversescale": True,
        "showscale": False,
        "hoverinfo": "skip",
    }
    lines = [i * tall + above + height // 2 for i in range(len(samples.tasks))]
    y_axis = {"autorange": "reversed", "tickvals": lines, "ticktext": [f"task {name}" for name in samples.tasks]}
    y_axis |= {"scaleanchor": "x", "constrain": "domain"}  # images keep their proportions
    sub = f"step {event.step}: {wrong} of {len(table) - 1} wrong" + (
        f"; above each, step {before.step} and now" if before else ""
    )
    size = 92 + 72 * len(lines)
    hidden = {"showticklabels": False}
    return _picture(
        "What it reads in some test images",
        sub,
        [heat],
        table,
        xaxis=hidden,
        yaxis=y_axis,
        annotations=notes,
        height=size,
    )


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the first `count` whole numbers, evenly spread."""
    return (
        sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(min(count, most))})
        if count > most
        else [*range(count)]
    )


def _before(event: P, run: Run) -> P | None:
    """The event of the same kind when the last experience ended before this one."""
    past = [experience.step for experience in run.of(Experience) if experience.step < event.step]
    return next((other for other in reversed(run.of(type(event))) if past and other.step == past[-1]), None)


def _texts(event: Texts, samples: Samples, run: Run) -> Spec:
    """Unseen names as they are, a line each, and what the network makes of their first letters: at the last
    experience's end, and now."""
    before, given = _before(event, run), samples.given or 0
    columns = ["the name", *([f"step {before.step}"] if before else []), "now"]
    notes: list[Spec] = [_cell(f"<i>{text}</i>", k, len(columns), 0) for k, text in enumerate(columns)]
    table: list[list[Any]] = [["task", *columns]]
    places, labels, right = [], [], 0
    for name, task in samples.tasks.items():
        names = task.names or []
        places.append(len(table) + (len(names) - 1) / 2)
        labels.append(f"task {name}")
        for k, whole in enumerate(names):
            told = [whole, *([before.texts[name][k]] if before else []), event.texts[name][k]]
            right += told[-1] == whole
            line = len(table)
            table.append([name, *told])
            notes += [
                _cell(_written(text, given, text == whole and i > 0), i, len(columns), line)
                for i, text in enumerate(told)
            ]
    y = {"range": [len(table) - 0.5, -0.6], "tickvals": places, "ticktext": labels}
    sub = f"step {event.step}: {right} of {len(table) - 1} as they are spelled; in bold the letters it was given"
    shape = {
        "xaxis": {"range": [0, 1], "showticklabels": False},
        "yaxis": y,
        "annotations": notes,
        "height": 80 + 20 * len(table),
    }
    return _picture("How it goes on with names it has never seen", sub, [], table, **shape)


def _cell(text: str, column: int, columns: int, line: int) -> Spec:
    return {
        "x": column / columns,
        "y": line,
        "xanchor": "left",
        "text": text,
        "showarrow": False,
        "font": {"size": 11},
        "align": "left",
    }


def _written(text: str, given: int, right: bool) -> str:
    """With its given letters in bold, cut to what fits; a tick where it is right."""
    shown = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    return f"<b>{escape(shown[:given])}</b>{escape(shown[given:])}{' ✓' if right else ''}"


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


def sentence(events: Sequence[Event], tasks: Sequence[str]) -> str:
    """One plain sentence that says what just happened, from the events alone."""
    end = next((event for event in reversed(events[-3:]) if isinstance(event, End)), None)
    if end and end.reason != "finished":
        return end.text
    now = next((accuracy for _, accuracy in measured(reversed(events))), None)
    steps = next((event.step for event in reversed(events) if isinstance(event, Step)), 0)
    place, switch = next(
        ((i, events[i]) for i in range(len(events) - 1, -1, -1) if isinstance(events[i], Switch)), (0, None)
    )
    if now is None or not isinstance(switch, Switch) or not steps:
        return "Nothing has been learned yet."
    if end:
        return f"The plan is over after {steps} steps: {_standing(now, tasks)}."
    commands = (event for event in reversed(events) if isinstance(event, Command) and event.name != "teach")
    command = next(commands, None)
    if command and command.step > switch.step:
        return f"{_obeyed(command.name, command.value)} at step {command.step}; {_standing(now, tasks)}."
    before = next((accuracy for _, accuracy in measured(events[place::-1])), now)
    taught, ago = switch.task, steps - switch.step + 1
    since = f"{ago} {'step' if ago == 1 else 'steps'}"
    if taught not in now:
        return f"All tasks have been taught at once for {since}; {_standing(now, tasks)}."
    gained = _moved(taught, before, now)
    earlier = [event.task for event in events[:place] if isinstance(event, Switch)]
    others = [task for task in dict.fromkeys(earlier) if task != taught]
    if not others:
        return f"Task {taught} has been taught for {since}: accuracy on {gained}."
    opening = f"Task {taught} replaced task {earlier[-1]} {since} ago"
    if len(others) == 1:
        return f"{opening}: accuracy on {_moved(others[0], before, now)} while {gained}."
    mean = sum(now[task] for task in others) / len(others)
    return f"{opening}: accuracy on {gained}, and the {len(others)} earlier tasks stand at {mean:.2f} on average."


def contrast(runs: Sequence[Run]) -> str:
    """One plain sentence that sets runs of one stream side by side by their first task, from their events alone."""
    accuracies = [{event.step: accuracy for event, accuracy in measured(run.log)} for run in runs]
    if not all(accuracies) or not min(map(max, accuracies)):
        return "The same samples in the same order, side by side."
    task = runs[0].tasks[0]
    kinds = [kind_of(run) for run in runs]
    if len(set(kinds)) < len(kinds):
        kinds = [f"in the {place}" for place in ("first", "second", "third", "fourth")]
    common = max(set.intersection(*map(set, accuracies)), default=0)
    # Runs that train side by side are never more than a measurement apart.
    beside = common > 0 and max(run.steps for run in runs) - common < 2 * runs[0].experiment.evaluate_every
    steps = [common if beside else max(found) for found in accuracies]
    parts = [f"{found[step][task]:.2f} {kind}" for found, step, kind in zip(accuracies, steps, kinds, strict=False)]
    if not beside:
        parts = [f"{part} (step {step})" for part, step in zip(parts, steps, strict=True)]
    text = f"Accuracy on task {task}{f' at step {common}' if beside else ''}: {_listed(parts)}."
    *_, whole, twin = [None, *runs]
    over = len({run.steps for run in runs}) == 1 and all(run.last(End) for run in (whole, twin) if run)
    if over and whole and twin.experiment == whole.experiment.but(frozen=True):
        gained = whole.summary["average_accuracy"] - twin.summary["average_accuracy"]
        text += (
            f" On average over the tasks, hidden levels that learn brought {gained:+.3f} against the twin, on this"
            " seed."
        )
    return text


def kind_of(run: Run) -> str:
    """Who wrote last, in words: "with the deep optimizer", "with Adam", "in the frozen twin"."""
    last = run.last(Step)
    writer = last.optimizer if last else run.experiment.optimizer
    name = WRITERS.get(writer, writer)
    return (
        "in the frozen twin" + ("" if writer == "deep" else f" with {name}")
        if run.experiment.frozen
        else f"with {name}"
    )


def _moved(task: str, before: Mapping[str, float], now: Mapping[str, float]) -> str:
    old, new = before[task], now[task]
    if abs(new - old) < FALL:
        return f"{task} {'stays' if now is not before else 'stands'} at {new:.2f}"
    return f"{task} {'rose' if new > old else 'fell'} from {old:.2f} to {new:.2f}"


def _standing(accuracy: Mapping[str, float], tasks: Sequence[str]) -> str:
    return _listed([f"{task} stands at {accuracy[task]:.2f}" for task in tasks])


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _obeyed(name: str, value: Any) -> str:
    if name == "optimizer":
        return (
            "The deep optimizer was switched on"
            if value == "deep"
            else f"The deep optimizer was switched off and {value} took over"
        )
    if name == "period":
        return f"The period of the level {value[0]} became {value[1]}"
    return f"The {name.replace('_', ' ')} became {value:g}"
