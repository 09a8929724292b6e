"""Pictures of one moment of a run: the accuracy matrix, where weights moved, answers, texts, the plane. No torch.

A picture is a Plotly specification as in figures.py; the numbers behind it are in `meta.table`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

from nllab.events import Answers, Experience, Samples, Surface, Texts, Where
from nllab.figures import INK, MOST_LABELS, SMALLEST_DRIFT, TASK_COLOURS, Spec
from nllab.runs import Run, readable

P = TypeVar("P", Answers, Texts)
MOST_ACROSS = 12  # images of a task in one line
LONGEST_TEXT = 15  # characters of a name that fit into a column


def still(name: str, run: Run, end: int | None = None) -> Spec | None:
    """A picture of one moment: of the last event of its kind among `run.log[:end]`; None if there is none yet.

    The numbers behind it are in `meta.table`: a head and lines.
    """
    past, (kind, draw) = run.upto(end), STILLS[name]
    event = past.last(kind)
    samples = next((event for event in past.log if isinstance(event, Samples)), Samples(step=0, tasks={}))
    return None if event is None else draw(event, samples, past)


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


def _matrix(event: Experience, samples: Samples, run: Run) -> Spec:
    matrix, summary = run.accuracy_matrix, run.summary
    visits = [experience.task for experience in run.of(Experience)]
    scores = [(readable(name), summary[name]) for name in ("forgetting", "backward_transfer", "forward_transfer")]
    sub = " · ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in scores if value is not None)
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


def _where(event: Where, samples: Samples, run: Run) -> Spec:
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


def _surface(event: Surface, samples: Samples, run: Run) -> Spec:
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
            text = str(now) if now == label else f"<b>({now})</b>"
            if then is not None:
                text = (str(then) if then == label else f"({then})") + f"<br>{text}"
            place = {
                "x": k * wide + width / 2 - 0.5,
                "y": i * tall + above - 0.5,
                "yanchor": "bottom",
                "showarrow": False,
            }
            notes.append({**place, "text": text, "font": {"size": 11}})
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
            texts = [whole, *([before.texts[name][k]] if before else []), event.texts[name][k]]
            right += texts[-1] == whole
            line = len(table)
            table.append([name, *texts])
            notes += [
                _cell(_written(text, given, text == whole and i > 0), i, len(columns), line)
                for i, text in enumerate(texts)
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


# Picture -> the kind of event that brings it, and what draws it from that event, the samples shown and the run so far.
STILLS: dict[str, tuple[type, Callable[[Any, Samples, Run], Spec | None]]] = {
    "matrix": (Experience, _matrix),
    "where": (Where, _where),
    "answers": (Answers, _answers),
    "texts": (Texts, _texts),
    "surface": (Surface, _surface),
}
