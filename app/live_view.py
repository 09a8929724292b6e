"""The live figures as one component. It is fed by the server's stream of news, so no script runs while it moves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit.components.v2 as components

from nllab import figures, narration, view

if TYPE_CHECKING:
    from nllab.live import LiveRun

HERE = Path(__file__).parent
SAYS = ("playing", "finished", "error", "notice", "opened")  # of a run, what the page around its view shows
SCRIPTS = ("panel.js", "screen.js", "live_view.js")
PLOTLY = f"assets/plotly.min.js?v={version('plotly')}"

_component = components.component(
    "nllab_live",
    css=view.style() + (HERE / "live_view.css").read_text(encoding="utf-8"),
    js="\n".join([view.bundle(), *((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)]),
    isolate_styles=False,
)

HINTS = {
    "collapsed": (
        "Most of it was overwritten. Switch on the <b>deep optimizer</b>, press <b>Reset</b>, then <b>Play</b>: the"
        " same network, the same data in the same order."
    ),
    "survived": (
        "Nothing was replayed, and nobody told the network that the task had changed. Now ask what its hidden levels"
        " contributed: switch on <b>Frozen twin</b> in the settings, <b>Reset</b>, <b>Play</b>."
    ),
    "lost": (
        "Its memory holds linear, convolutional and embedding layers; what a model computes otherwise, and rates that"
        " are too high, it does not guard. The figure Conflict shows which share of each level's steps was held back."
    ),
    "twin": (
        "This was the frozen twin: all but the output layer stood still. Compare its figures with those of the network"
        " that learned on every level. What hidden levels are worth shows only against it."
    ),
}
BESIDE = HINTS | {  # where another network stands beside it
    "collapsed": (
        "Most of it was overwritten: nothing held a write back. To see one, press <b>Play again</b>, pause while B is"
        " taught, and <b>Open a write</b>."
    ),
    "survived": (
        "Nothing was replayed, and nobody told the network that the task had changed. Now ask what its hidden levels"
        " contributed: choose <b>Three: and the frozen twin</b> above, then <b>Play</b>."
    ),
}


def live_view(
    name: str,
    runs: Mapping[str, LiveRun | None],
    *,
    single: bool = False,
    spotlight: str | None = None,
    note: str = "",
    **callbacks: Any,
) -> Any:
    """Mount the view of these runs, by the titles that stand above them; None for one that is still to be opened.

    name: of the page. single: no title above. spotlight: the selector of what to bring into sight.
    note: what to say in place of runs that cannot be opened.
    callbacks: on_tab_change, told once which runs this tab remembers ("" for none); on_stale_change, when the page
        around no longer says what is the case; on_back_change, with the step of a checkpoint that was pressed;
        on_open_change, with the level of which a write is to be opened.
    """
    opened = [run for run in runs.values() if run]
    complete = len(opened) == len(runs)
    data = {
        "runs": [run.id for run in opened] if complete else [],
        "titles": ["" if single else title for title in runs],
        "shown": [{key: run.status()[key] for key in SAYS} for run in opened],
        "hints": {} if name != "live" else HINTS if single else BESIDE,
        "spotlight": spotlight,
        "note": note,
        "opened": [run.opened for run in opened],
        "about": figures.ABOUT,
        "writers": narration.WRITERS | {"deep": "deep optimizer"},
        "plotly": PLOTLY,
    }
    return _component(key=f"view-{name}", data=data, **callbacks)
