"""The page that replays a run from a file. Nothing in the file is trusted; nothing of it is executed or written
anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import actions
import export_panel
import form
import kept_runs
import shared
import streamlit as st
import streamlit.components.v2 as components
from live_view import HERE
from session import Session, state
from settings import ONE, SPEED, START

from nllab import html_export, run_io
from nllab.errors import RunFormatError
from nllab.experiment import PRESETS
from nllab.runs import Run

MOST_RUNS = 4

_player = components.component(
    "nllab_player",
    css=html_export.style(),
    js=html_export.script() + (HERE / "replay.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def settings_on_the_live_page() -> None:
    form.put(next(iter(state.replayed.values())).experiment, SPEED)
    state.networks = ONE
    Session.of("live").ask(actions.reset)
    state.go_live = True


if state.pop("go_live", False):
    st.switch_page("page_live.py")


@st.cache_resource(show_spinner="Training a sample: two small networks, with and without the deep optimizer …")
def sample() -> list[dict[str, Any]]:
    """A comparison trained once for this server, to look at until somebody sends a run of their own."""
    from nllab.trainer import train

    deep = START.but(optimizer="deep")
    return html_export.recordings({"Deep optimizer off": train(START), "Deep optimizer on": train(deep)})


def read(files: Sequence[Any]) -> dict[str, Run]:
    """The runs in these files, by their names. Raises RunFormatError for one that holds none."""
    return {file.name[:80]: run_io.unpack(file.name[:80], file.getvalue()) for file in files[:MOST_RUNS]}


st.title("Replay a run", anchor=False)
st.markdown(
    "Any run that was kept with **Share and keep**, as its `.zip`; several are played side by side. They are read here"
    " and kept nowhere."
)
sent = st.file_uploader(
    "Runs of the lab", key="sent", max_upload_size=run_io.MOST_FILE_BYTES // 2**20, label_visibility="collapsed",
    accept_multiple_files=True, help=f"Up to {MOST_RUNS} .zip files that the lab has written.",
)  # fmt: skip
chosen = {} if sent else kept_runs.chosen(MOST_RUNS)
files = ",".join([*(file.file_id for file in sent), *chosen])
if not files:
    state.pop("replayed", None)
elif state.get("replayed_files") != files or "replayed" not in state:
    state.replayed_files = files
    try:
        runs = read(sent) if sent else kept_runs.read(chosen)
        state.replayed = runs
        state.recordings = html_export.recordings(runs if len(runs) > 1 else {"": next(iter(runs.values()))})
    except RunFormatError as error:
        state.pop("replayed", None)
        state.refused = str(error)
replayed: dict[str, Run] | None = state.get("replayed")
if replayed is not None:
    _player(key="player", data={"id": files, "recordings": state.recordings})
    first = next(iter(replayed.values()))
    if first.experiment.stream in PRESETS:
        st.button(
            "Train it again, live", key="train_again", icon=":material/play_circle:",
            on_click=settings_on_the_live_page,
            help="Opens the page Watch with the settings that the first run began with.",
        )  # fmt: skip
    for name, run in replayed.items():
        export_panel.downloads(lambda run=run: run, f"replayed-{name}")
elif files:
    st.error(shared.as_text(state.refused), icon=":material/error:")
else:
    st.caption("Nothing sent yet. This is a sample, trained just now on this machine: play it, or drag along a curve.")
    _player(key="player", data={"id": "sample", "recordings": sample()})
