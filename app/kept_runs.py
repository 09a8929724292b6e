"""Runs that this server, or the one before it, has written to disk: offered where they can be replayed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import shared
import streamlit as st

from nllab import narration, run_io
from nllab.errors import RunFormatError
from nllab.kept import Kept
from nllab.runs import Run

MOST_OFFERED = 200


def _offered(ids: Sequence[str] | None) -> list[Kept]:
    keeper = shared.keeper()
    return keeper.offered(ids)[:MOST_OFFERED] if keeper else []


def name(kept: Kept) -> str:
    when = datetime.fromtimestamp(kept.time)
    day = "" if time.time() - kept.time < 12 * 3600 else f"{when:%d %B} "
    experiment = kept.experiment
    who = narration.kind_of(Run.begin(experiment, (), {})).removeprefix("with ").removeprefix("in ")
    return f"{experiment.stream}, {who}, seed {experiment.seed}, {kept.steps} steps, {day}{when:%H:%M:%S}"


def chosen(most: int) -> dict[str, Path]:
    """The folders of the runs that were chosen, by what they are called. On a server of several people only those are
    offered that this tab had."""
    found: dict[str, Path] = {}
    for kept in _offered(None if shared.ALONE else st.session_state.get("lost", ())):
        called = name(kept)
        others = sum(one == called or one.startswith(f"{called}, no. ") for one in found)
        found[f"{called}, no. {others + 1}" if others else called] = kept.path
    if (keeper := shared.keeper()) and keeper.problem:
        st.warning(shared.as_text(f"Runs are not kept at the moment. {keeper.problem}"), icon=":material/warning:")
    if not found:
        return {}
    picked = st.multiselect(
        "Runs that were trained here",
        list(found),
        key="kept",
        max_selections=most,
        placeholder="Choose runs to replay; they are there after a crash of the server as well",
    )
    return {one: found[one] for one in picked if one in found}


def read(folders: Mapping[str, Path]) -> dict[str, Run]:
    """Raises RunFormatError that names no path."""
    found = {}
    for called, folder in folders.items():
        try:
            found[called] = run_io.load_run(folder)
        except RunFormatError as error:
            raise RunFormatError(str(error).replace(str(folder), called)) from None
    return found


def lost(ids: Sequence[str]) -> None:
    """What to say to a tab whose runs are no longer live: that they are on disk, if they are."""
    st.session_state.lost = tuple(ids)
    if kept := _offered(ids):
        steps = max(one.steps for one in kept)
        st.info(
            f"The server ended while this page trained. What it had done, {steps} steps, is kept: replay it, or press"
            " Play for a new run.",
            icon=":material/history:",
        )
        st.page_link("page_replay.py", label="Replay what was kept", icon=":material/slideshow:")
