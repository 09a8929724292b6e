"""The page that replays a run from a file. Nothing in the file is trusted; nothing of it is executed or written
anywhere."""

from __future__ import annotations

import re

import desk as desks
import keep
import streamlit as st
import streamlit.components.v2 as components
from desk import Desk, state
from live_view import HERE, PLOTLY
from settings import SPEED

from nllab import player, run_io
from nllab.errors import RunFormatError
from nllab.experiment import PRESETS
from nllab.runs import Run

_player = components.component(
    "nllab_player",
    css=(player.HERE / player.STYLE).read_text(encoding="utf-8"),
    js=(player.HERE / player.SCRIPT).read_text(encoding="utf-8") + (HERE / "replay.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def as_text(sentence: str) -> str:
    """The sentence with nothing in it read as Markdown: it may quote a file."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|$:~&-])", r"\\\1", sentence)


def settings_on_the_live_page() -> None:
    desks.put(state.replayed.experiment, SPEED)
    Desk.of("live").ask(desks.reset)
    state.go_live = True


if state.pop("go_live", False):
    st.switch_page("page_live.py")
st.title("Replay a run", anchor=False)
st.markdown("Any run that was kept with **Share and keep**: its `.zip`. It is read here and kept nowhere.")
sent = st.file_uploader(
    "A run of the lab", key="sent", max_upload_size=run_io.MOST_FILE_BYTES // 2**20, label_visibility="collapsed",
    help="A .zip that the lab has written.",
)  # fmt: skip
if sent is None:
    state.pop("replayed", None)
elif state.get("replayed_file") != sent.file_id or "replayed" not in state:
    state.replayed_file = sent.file_id
    try:
        state.replayed = run_io.unpack(sent.name[:80], sent.getvalue())
        state.recording = player.recording(state.replayed)
    except RunFormatError as error:
        state.pop("replayed", None)
        state.refused = str(error)
run: Run | None = state.get("replayed")
if run is not None:
    _player(key="player", data={"id": state.replayed_file, "recording": state.recording, "plotly": PLOTLY})
    with st.container(horizontal=True, gap="xsmall"):
        if run.experiment.stream in PRESETS:
            st.button(
                "Train it again, live", key="train_again", icon=":material/play_circle:", on_click=settings_on_the_live_page,
                help="Opens the page Live with the settings that this run began with.",
            )  # fmt: skip
    keep.downloads(lambda run=run: run, "replayed")
elif sent is not None:
    st.error(as_text(state.refused), icon=":material/error:")
