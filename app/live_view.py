"""The live figures as one component. It is fed by the server's stream of news, so no script runs while it moves."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import streamlit.components.v2 as components

HERE = Path(__file__).parent

_component = components.component(
    "nllab_live",
    css=(HERE / "live_view.css").read_text(encoding="utf-8"),
    js=(HERE / "live_view.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)

HINTS = {
    "collapsed": "The new task has overwritten the old one. Switch on the <b>deep optimizer</b>, press <b>Reset</b>, then <b>Play</b>: "
    "the same network, the same data in the same order.",
    "survived": "The old task is still there. Nothing was replayed, and nobody told the network that the task had changed. "
    "Now ask what its hidden levels contributed: switch on <b>Frozen twin</b> in the settings, <b>Reset</b>, <b>Play</b>.",
    "twin": "This was the frozen twin: all but the output layer stood still. Compare its figures with those of the network that "
    "learned on every level. What hidden levels are worth shows only against it.",
}


def live_view(run: str | None, shown: dict[str, Any], **callbacks: Any) -> Any:
    """Mount the view of the run of this id.

    shown: what of the run's state the page around it shows now; the component asks for a new page when that is no longer so.
    callbacks: on_tab_change, told once which run this tab remembers ("" for none); on_stale_change, when the page is out of date.
    """
    data = {"run": run, "shown": shown, "hints": HINTS, "plotly": f"/assets/plotly.min.js?v={version('plotly')}"}
    return _component(key="live", data=data, **callbacks)
