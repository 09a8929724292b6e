"""A picture of a pure function under sliders; where no widgets are, the picture alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import ipywidgets as widgets
from PIL import Image

from nllab.errors import SettingError
from nllab.place import Place, building

MOST_FRAMES = 40  # pictures that stand in for the sliders on a static page


class Explorer:
    """What `explore` shows: `sliders` by their names, and `draw` redrawn whenever one is moved."""

    def __init__(self, draw: Callable[..., Any], knobs: Mapping[str, Sequence[Any]], start: Mapping[str, Any]) -> None:
        for name, values in knobs.items():
            if len(values) < 2:
                raise SettingError(f"{name} has {len(values)} values; a slider needs two or more.")
            if name in start and start[name] not in values:
                raise SettingError(f"{name} starts at {start[name]!r}, which is none of its values {list(values)}.")
        self.draw, self.knobs = draw, {name: list(values) for name, values in knobs.items()}
        self.sliders = {
            name: widgets.SelectionSlider(
                options=[(_spelled(value), value) for value in values],
                value=start.get(name, values[len(values) // 2]),
                description=name.replace("_", " "),
                style={"description_width": "110px"},
                layout={"width": "420px"},
            )
            for name, values in self.knobs.items()
        }
        self.image = widgets.Image(format="png", value=self._png())
        self.image.add_class("nllab-picture")
        for slider in self.sliders.values():
            slider.observe(lambda _: self._redraw(), "value")
        box = widgets.VBox([*self.sliders.values(), self.image])
        self.place = Place(box, hint="Run this cell to move its sliders.", close=box.close)
        self.place.picture(self.image.value)
        if building():
            self.place.frames = {"frames": self._frames()}

    @property
    def values(self) -> dict[str, Any]:
        """The value of each control now."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def _png(self, **values: Any) -> bytes:
        drawn, packed = io.BytesIO(), io.BytesIO()
        self.draw(**(values or self.values)).savefig(drawn, format="png")
        Image.open(drawn).convert("RGB").quantize(64).save(packed, format="png", optimize=True)  # a third of the size
        return packed.getvalue()

    def _redraw(self) -> None:
        self.image.value = self._png()

    def _frames(self) -> dict[str, Any]:
        """A picture for every place of the sliders, in the order of `product`."""
        combinations = list(product(*self.knobs.values()))
        if len(combinations) > MOST_FRAMES:
            raise SettingError(f"{len(combinations)} pictures for a static page are too many; {MOST_FRAMES} at most.")
        pictures = [
            base64.b64encode(self._png(**dict(zip(self.knobs, values, strict=True)))).decode()
            for values in combinations
        ]
        knobs = [
            [name.replace("_", " "), [_spelled(v) for v in values], values.index(self.sliders[name].value)]
            for name, values in self.knobs.items()
        ]
        return {"knobs": knobs, "pictures": pictures}

    def _ipython_display_(self) -> None:
        self.place.show()


def explore(draw: Callable[..., Any], *, start: Mapping[str, Any] | None = None, **knobs: Sequence[Any]) -> Explorer:
    """Sliders over a pure function: draw(**values) returns a matplotlib figure; knobs: the values of each slider.

    start: where sliders stand at first, the middle unless given. Raises SettingError for a slider of fewer than two
    values, or a start that is none of them.
    """
    return Explorer(draw, knobs, start or {})


def _spelled(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
