"""Where a widget stands in a notebook: a cell's HTML output with its last picture, and the live widget shown inside it.

A saved notebook then holds pictures and words alone. Reloaded while its kernel goes on, the live widget is there again;
without one, the picture is there and says how to go on. With `widgets.py` the only room that knows ipywidgets.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

BUILDING = "NLLAB_BUILD"  # set while the notebooks are built: then pictures for every place of a slider are drawn
FRAMES = "application/vnd.nllab+json"  # what a static page needs to stand in for a live widget
_live: dict[str, tuple[str, list[Place]]] = {}  # cell -> (the execution that made them, what it shows)


class Mount(anywidget.AnyWidget):
    """Finds the placeholder `place` in the page and shows `child` in it (mount.js)."""

    _esm = Path(__file__).parent / "mount.js"
    place = traitlets.Unicode().tag(sync=True)
    child = traitlets.Instance(widgets.Widget).tag(sync=True, **widgets.widget_serialization)
    ended = traitlets.Bool(False).tag(sync=True)


class Place:
    """One widget in one cell. Run again, a cell ends what it showed before.

    hint: how to go on, for readers of a saved notebook. close: called once the cell has been run again. again:
    called for a page that has just loaded the widget, and missed the messages before.
    """

    def __init__(self, child: widgets.Widget, *, hint: str, close: Any = None, again: Any = None) -> None:
        self.id = f"nllab-{secrets.token_hex(6)}"
        self.hint, self._close, self._picture, self._shown = hint, close, b"", False
        self.frames: dict[str, Any] = {}
        self.mount = Mount(place=self.id, child=child)
        if again:
            self.mount.on_msg(lambda *_: again())
        cell, execution = _cell()
        if cell:
            made, before = _live.get(cell, (execution, []))
            if made != execution:
                for place in before:
                    place.replaced()
                before = []
            _live[cell] = (execution, [*before, self])

    def replaced(self) -> None:
        """Close what stands here: its cell has been run again."""
        if self._close:
            self._close()

    def bundle(self) -> dict[str, Any]:
        """The output of the cell, by MIME type."""
        encoded = base64.b64encode(self._picture).decode()
        picture = f'<img alt="" src="data:image/png;base64,{encoded}">' if encoded else ""
        still = f'<div class="nllab-still">{picture}<p><em>{self.hint}</em></p></div>'
        content: dict[str, Any] = {
            "text/plain": self.hint,
            "text/html": f'<div id="{self.id}">{still}<div class="nllab-live"></div></div>',
        }
        if self.frames:
            content[FRAMES] = self.frames
        return content

    def show(self) -> None:
        """Put what stands here into the cell's output."""
        from IPython.display import display

        self._shown = True
        if _in_vs_code():  # its outputs do not share a page, and it forgets widgets by itself
            display(self.mount.child)
        else:
            display(self.bundle(), raw=True, display_id=self.id)

    def picture(self, png: bytes) -> None:
        """The picture that a saved notebook shows."""
        if png == self._picture:
            return
        self._picture = png
        if self._shown and not _in_vs_code():
            from IPython.display import update_display

            update_display(self.bundle(), display_id=self.id, raw=True)

    def end(self) -> None:
        """The widget is no longer shown; its picture and its hint are."""
        self.mount.ended = True


def building() -> bool:
    """Whether the notebook is being executed to be saved, with nobody looking."""
    return bool(os.environ.get(BUILDING))


def _shell() -> Any:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _in_vs_code() -> bool:
    shell = _shell()
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


def _cell() -> tuple[str, str]:
    """(the notebook's name for the cell that runs now, this execution of it); empty outside a notebook."""
    kernel = getattr(_shell(), "kernel", None)
    parent = kernel.get_parent() if kernel is not None and hasattr(kernel, "get_parent") else None
    if not parent:
        return "", ""
    return str(parent.get("metadata", {}).get("cellId", "")), str(parent.get("header", {}).get("msg_id", ""))
