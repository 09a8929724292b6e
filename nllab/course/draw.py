"""Pictures of the notebooks: curves and the still picture of a figure of the lab, with matplotlib. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nllab import figures
from nllab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: told apart by all eyes
LINES = ("-", "--", "-.", ":", (0, (8, 3)), (0, (1, 1)))
MARKS = "osD^vP"
_DASHES: dict[str, Any] = {
    "solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), "longdashdot": (0, (8, 3, 2, 3)),
}  # fmt: skip


def canvas(columns: int = 1, *, width: float = 0.0, height: float = 2.8) -> tuple[Figure, Sequence[Axes]]:
    """A white figure of some axes side by side: it can be read on a light page and on a dark one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width or 4.2 * columns + 0.6, height), dpi=72, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def curves(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], *, marks: bool = False, axes: Axes | None = None,
    **axis: Any,
) -> Figure:  # fmt: skip
    """One curve for each label; `axis` is what `Axes.set` takes: xlabel, ylabel, title, xlim, ylim, xscale."""
    figure, own = (axes.figure, axes) if axes is not None else (lambda made: (made[0], made[1][0]))(canvas())
    for i, (label, y) in enumerate(lines.items()):
        style = {"marker": MARKS[i % 6], "markersize": 5} if marks else {}
        own.plot(x, y, color=COLOURS[i % 6], linestyle=LINES[i % 6], linewidth=1.8, label=label, **style)
    own.set(**axis)
    if len(lines) > 1 or any(lines):
        own.legend(frameon=False, fontsize=9)
    return figure  # type: ignore[return-value]


def spots(groups: Mapping[str, Mapping[str, Sequence[float]]], axes: Axes | None = None, **axis: Any) -> Figure:
    """A column for each group, in it a mark for each value of each label: every seed is seen, not only the mean."""
    figure, own = (axes.figure, axes) if axes is not None else (lambda made: (made[0], made[1][0]))(canvas())
    labels = list(dict.fromkeys(label for group in groups.values() for label in group))
    for place, group in enumerate(groups.values()):
        for label, values in group.items():
            i = labels.index(label)
            at = place + 0.14 * (i - (len(labels) - 1) / 2)
            first = label not in own.get_legend_handles_labels()[1]
            style = {"color": COLOURS[i % 6], "marker": MARKS[i % 6], "linestyle": "", "markersize": 5}
            own.plot([at] * len(values), values, label=label if first else None, **style)
    own.set_xticks(range(len(groups)), list(groups))
    own.set(xlim=(-0.5, len(groups) - 0.5), **axis)
    if any(labels):
        own.legend(frameon=False, fontsize=9)
    return figure  # type: ignore[return-value]


def arrows(axes: Axes, vectors: Mapping[str, Any], **axis: Any) -> None:
    """Vectors of the plane from the origin, each with its name at its tip."""
    for (name, tip), colour in zip(vectors.items(), COLOURS, strict=False):
        axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
        axes.annotate(f" {name}", tip, color=colour)
    axes.set(xlim=(-0.2, 1.7), ylim=(-0.3, 1.2), aspect="equal", **axis)


def bars(axes: Axes, groups: Mapping[str, Sequence[float]], names: Sequence[str], **axis: Any) -> None:
    """For each group its numbers as bars side by side; `names` says what they are."""
    wide = 0.8 / len(names)
    for i, name in enumerate(names):
        places = [place + wide * (i - (len(names) - 1) / 2) for place in range(len(groups))]
        axes.bar(places, [float(values[i]) for values in groups.values()], wide, color=COLOURS[i % 6], label=name)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set(**axis)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=9)


def runs(name: str, shown: Mapping[str, Run]) -> Figure:
    """A figure of the lab ("accuracy", "drift" or "raster") of some runs side by side, by their titles."""
    figure, axes = canvas(len(shown))
    for own, (title, run) in zip(axes, shown.items(), strict=True):
        still(name, run, own, title=title)
    return figure


def still(name: str, run: Run, axes: Axes, *, title: str | None = None) -> None:
    """Draw a figure of figures.py with matplotlib: the same curves as the live one, for readers who see pictures only.

    name: one of `figures.FIGURES`. title: in place of the figure's own.
    """
    spec = figures.draw(name, run)
    layout = spec["layout"]
    *lines, ends = spec["data"]
    for line in lines:
        x, y = ([float("nan") if v is None else v for v in line[axis]] for axis in ("x", "y"))
        style = {"color": line["line"]["color"], "linestyle": _DASHES[line["line"]["dash"]], "linewidth": 1.8}
        axes.plot(x, y, label=line["name"], **style)
    for x, y, text, colour in zip(ends["x"], ends["y"], ends["text"], ends["textfont"]["color"], strict=False):
        if y is None:  # nothing has been measured yet
            continue
        axes.annotate(f" {text}", (x, y), color=colour, va="center", annotation_clip=False)
    for shape in layout["shapes"]:
        axes.axvline(shape["x0"], color=figures.INK, linewidth=0.8, linestyle=_DASHES[shape["line"]["dash"]])
    for note in layout["annotations"]:
        place, above = (note["x"], note["y"]), note["yanchor"] == "bottom"
        axes.annotate(
            note["text"].replace("<br>", "\n"), place,
            xycoords=("data", "axes fraction"), xytext=(3, 2 if above else -2), textcoords="offset points",
            va="bottom" if above else "top", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )  # fmt: skip
    y_axis = layout["yaxis"]
    if y_axis.get("type") == "log":
        axes.set_yscale("log")
    if "range" in y_axis:
        axes.set_ylim(y_axis["range"])
    if "tickvals" in y_axis:
        axes.set_yticks(y_axis["tickvals"], y_axis.get("ticktext"))
    axes.set_xlabel("step")
    axes.set_title(title or layout["title"]["text"], loc="left", fontsize=10, pad=14)
