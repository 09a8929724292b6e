"""Somebody's own two files on the live page: what the lab makes of them, and then a training on them. They are held for
this browser session alone: no address names them, and they are gone with it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import actions
import form
import shared
import streamlit as st
from session import Session
from settings import START

from nllab.data import load, uploads
from nllab.errors import DataError, SettingError

MOST_MEGABYTES = 20  # of one upload; the command line reads larger files
state = st.session_state


class Place:
    """A folder that is gone with whoever holds this."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="nllab-own-")
        self.remove = weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


def kept(files: Sequence[Any]) -> list[Path]:
    """These uploads as files of this session, which are gone when it ends. Raises DataError."""
    if "own_place" not in state:
        state.own_place = Place()
    place = Path(state.own_place.name)
    return [uploads.keep(file.name, file.getvalue(), place / str(i)) for i, file in enumerate(files)]


def train(session: Session, paths: Sequence[Path], names: str) -> None:
    """Take these files as the stream of the page and begin anew with it."""
    name = f"own:{','.join(map(str, paths))}"
    try:
        experiment = START.but(stream=name, seed=state.base.seed)
        state.own_streams = state.get("own_streams", {}) | {name: names}
        form.put(experiment, state.speed)
    except SettingError as error:
        session.problems = [str(error)]
        return
    session.ask(actions.reset)


def panel(session: Session) -> None:
    if st.query_params.get("stream", "").startswith("own"):  # an address cannot name files, but here they can be sent
        state.own_asked = True
    with st.expander(
        "Your own data", icon=":material/table_view:", key="own-data", expanded=state.get("own_asked", False)
    ):
        sent = st.file_uploader(
            "Two tables, .npz files or .zip files of images: what A and then B teach",
            key="own_files",
            accept_multiple_files=True,
            max_upload_size=MOST_MEGABYTES,
            help="First see what the lab makes of them, then train. They are held for this session alone.",
        )
        if len(sent) == 1:
            st.info("One more: the first file is task A, the second task B.")
        if len(sent) >= 2:
            try:
                paths = kept(sent[:2])
                st.code("\n".join(load(paths).report.lines()), language=None, wrap_lines=True)
            except DataError as error:
                st.error(shared.as_text(str(error)), icon=":material/error:")
                return
            names = ", then ".join(file.name[:40] for file in sent[:2])
            st.button(
                "Train on them", key="own_train", type="primary", icon=":material/play_arrow:", on_click=train,
                args=(session, paths, names), help="Both networks begin anew, with these two files as tasks A and B.",
            )  # fmt: skip
            with st.expander("The same on your own machine"):
                st.code("nllab run own:PATH_A,PATH_B --optimizer deep --out runs", language="bash")
