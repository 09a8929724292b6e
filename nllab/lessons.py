"""What the notebooks need beside the lab itself: a still picture of a figure, and a check of a reader's answer. No
torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nllab import figures
from nllab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES: dict[str, Any] = {
    "solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), "longdashdot": (0, (8, 3, 2, 3)),
}  # fmt: skip


def still(name: str, run: Run, axes: Axes, *, title: str | None = None) -> None:
    """Draw a figure of figures.py with matplotlib: the same curves as the live one, for readers who see pictures only.

    name: one of `figures.FIGURES`. title: in place of the figure's own.
    """
    spec = figures.draw(name, run)
    layout = spec["layout"]
    *curves, ends = spec["data"]
    for curve in curves:
        x, y = ([float("nan") if v is None else v for v in curve[axis]] for axis in ("x", "y"))
        axes.plot(
            x,
            y,
            color=curve["line"]["color"],
            linestyle=_DASHES[curve["line"]["dash"]],
            linewidth=1.8,
            label=curve["name"],
        )
    for x, y, text, colour in zip(ends["x"], ends["y"], ends["text"], ends["textfont"]["color"], strict=False):
        axes.annotate(text, (x, y), color=colour, va="center", annotation_clip=False)
    for shape in layout["shapes"]:
        axes.axvline(shape["x0"], color=figures.INK, linewidth=0.8, linestyle=_DASHES[shape["line"]["dash"]])
    for note in layout["annotations"]:
        place, above = (note["x"], note["y"]), note["yanchor"] == "bottom"
        axes.annotate(
            note["text"].replace("<br>", "\n"), place,
            xycoords=("data", "axes fraction"), xytext=(3, 2 if above else -2), textcoords="offset points",
            va="bottom" if above else "top", fontsize=9,
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


def check(answer: Any, holds: Callable[[Any], Any], hint: str, *, prediction: Any = ...) -> None:
    """Say whether a reader's answer is right; `...` in place of an answer is not one yet.

    holds: what must be true of the answer. Raises AssertionError with the hint where it is not.
    """
    if answer is ...:
        print("Your turn: put your answer in place of the ... above, then run both cells again.")
        return
    try:
        right = bool(holds(answer))
    except (TypeError, ValueError, IndexError, KeyError) as error:
        right, hint = False, f"{hint} ({type(error).__name__}: {error})"
    if not right:
        raise AssertionError(f"Not yet. {hint}")
    print("Right." if prediction is ... else f"Right. You predicted {prediction}.")
