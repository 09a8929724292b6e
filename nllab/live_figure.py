"""Views of a run below each other as one figure widget, few enough points to be sent again several times a second."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from nllab import figures
from nllab.events import Event, Step, accuracy_of

# Plotly loads nbformat, and that jsonschema, which compiles a grammar of international addresses at import: four of the
# ten seconds of a notebook's first cell. Nothing here has such an address, so jsonschema does not find it.
GRAMMAR = "rfc3987_syntax"
if hidden := GRAMMAR not in sys.modules:
    sys.modules[GRAMMAR] = None  # type: ignore[assignment]
try:
    from plotly.graph_objects import FigureWidget
finally:
    if hidden:
        del sys.modules[GRAMMAR]

POINTS = 1_500  # of a view, about, since its whole arrays are sent again with every redrawing
RASTER_STEPS = 150  # the raster shows the last steps only: five levels that always write are 15 points a step
VIEW_PIXELS, ABOVE_PIXELS, BELOW_PIXELS = 240, 48, 40  # height of a view, and of its title and its step axis within


class Curves(FigureWidget):
    """A figure whose present curves are what a page gets, from its first message on.

    Plotly's own widget is empty when a page first hears of it, and fills it by a message that is lost while its script
    is loading; a page that is loaded again gets the curves of the beginning.
    """

    def __init__(self, spec: figures.Spec) -> None:
        object.__setattr__(self, "_first", spec)  # before plotly's own constructor, which refuses other names
        super().__init__(spec)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        if key is None:
            # Set without telling anybody: pages that are open have these curves already.
            made, first = bool(getattr(self, "_data", None)), vars(self)["_first"]
            self._trait_values["_widget_data"] = deepcopy(self._data if made else first["data"])
            self._trait_values["_widget_layout"] = deepcopy(self._layout if made else first["layout"])
        return super().get_state(key, drop_defaults)


NO_ENDS: dict[str, list] = {"x": [], "y": [], "text": []}


def suffix(place: int) -> str:
    """Plotly counts its axes x, x2, x3."""
    return str(place + 1) if place else ""


def placed(item: dict[str, Any], place: int) -> dict[str, Any]:
    """A shape or a note of a figure of its own, moved to its place in the stack."""
    refs = {
        f"{axis}ref": f"{axis}{suffix(place)}" + (" domain" if item.get(f"{axis}ref") == "paper" else "")
        for axis in "xy"
    }
    return {**item, **refs}


def titles(views: Sequence[str]) -> list[dict[str, Any]]:
    """The titles above views that stand below each other, as Plotly annotations."""
    title = {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "yshift": 22,
        "showarrow": False,
        "font": {"size": 14},
    }
    return [{**title, "yref": f"y{suffix(i)} domain", "text": figures.TITLES[name]} for i, name in enumerate(views)]


def stacked(specs: Sequence[figures.Spec]) -> figures.Spec:
    """Several figures as one, each below the one before, their step axes aligned."""
    height = VIEW_PIXELS * len(specs)
    margin = {"t": 0, "b": 0, "r": 72, "l": max((spec["layout"]["margin"]["l"] for spec in specs), default=0)}
    layout = {
        **(specs[0]["layout"] if specs else {}),
        "height": height,
        "margin": margin,
        "title": None,
        "shapes": [],
        "annotations": [],
    }
    data: list[dict[str, Any]] = []
    for i, spec in enumerate(specs):
        x, y = f"x{suffix(i)}", f"y{suffix(i)}"
        top = height - i * VIEW_PIXELS
        domain = [(top - VIEW_PIXELS + BELOW_PIXELS) / height, (top - ABOVE_PIXELS) / height]
        layout[f"xaxis{suffix(i)}"] = {**spec["layout"]["xaxis"], "anchor": y}
        layout[f"yaxis{suffix(i)}"] = {**spec["layout"]["yaxis"], "anchor": x, "domain": domain}
        data += [{**trace, "xaxis": x, "yaxis": y} for trace in spec["data"]]
    return {"data": data, "layout": layout}


def kept(name: str, log: list[Event], tasks: int, levels: int) -> Sequence[Event]:
    """The events a figure is drawn from, few enough for it to be sent five times a second."""
    steps = [event for event in log if isinstance(event, Step)]
    if name == "raster":
        return steps[-RASTER_STEPS:]
    if name == "drift":
        stride = math.ceil(len(steps) * levels / POINTS)
        return steps[:: max(stride, 1)] + steps[-1:]
    measurements = [event for event in log if accuracy_of(event) is not None]
    stride = math.ceil(len(measurements) * tasks / POINTS)
    return measurements[:: max(stride, 1)] + measurements[-1:]
