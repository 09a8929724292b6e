"""A fan of futures on the live page: what would have come of it had the deep optimizer been switched on at another
moment, or with another retention; trained in the background, each future to its end."""

from __future__ import annotations

import secrets

import shared
import streamlit as st
import streamlit.components.v2 as components
from live_view import HERE

from nllab import view
from nllab.errors import SettingError
from nllab.experiment import Experiment

COUNT = 20  # moments
MOST_STEPS = 2_500  # of a plan whose futures are trained on the page
REFRESH_SECONDS = 0.7
KNOBS = {"toggle": "the moment of the toggle", "retention": "retention"}
state = st.session_state

_fan = components.component(
    "nllab_fan",
    css=view.style(),
    js=view.bundle() + (HERE / "fan.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def panel(base: Experiment | None, planned_steps: int, classes: int) -> None:
    """base: the settings, with the plain optimizer as the one that begins."""
    with st.expander("What if? A fan of futures", icon=":material/call_split:", key="futures"):
        if base is None or planned_steps > MOST_STEPS:
            st.caption(
                f"For plans of up to {MOST_STEPS} steps: some twenty futures are trained, and this plan has"
                f" {planned_steps}."
            )
            return
        st.markdown(
            "The same network, the same samples: where would A and B stand at the end, had the deep optimizer been"
            " switched on at another moment, or with a memory that fades?"
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            knob = st.selectbox(
                "What is changed", list(KNOBS), key="futures_knob", format_func=KNOBS.__getitem__, width=240,
                label_visibility="collapsed", filter_mode=None,
            )  # fmt: skip
            st.button(
                "Train the futures", key="futures_train", on_click=_begin, args=(base, knob), type="primary",
                help="In the background: some twenty trainings, each to its end.",
            )  # fmt: skip
        if problem := state.pop("futures_problem", None):
            st.error(shared.as_text(problem), icon=":material/error:")
        job = state.get("futures_job")
        if job is not None:
            st.fragment(_progress, run_every=None if job.is_over else REFRESH_SECONDS)(planned_steps, classes)


def _begin(base: Experiment, knob: str) -> None:
    owner = state.setdefault("futures_owner", secrets.token_urlsafe(8))
    experiment = base.but(observe=True, evaluate_every=max(4, base.evaluate_every))
    try:
        shared.check_size(experiment)
        state.futures_job = shared.rooms().pool.submit(owner, experiment, knob=knob, count=COUNT)
    except SettingError as error:
        state.futures_problem = str(error)


def _progress(planned_steps: int, classes: int) -> None:
    job = state.get("futures_job")
    if job is None:
        return
    if job.error:
        st.error(shared.as_text(job.error), icon=":material/error:")
        return
    if place := shared.rooms().pool.place(job):
        st.info(f"Place {place} in line. Training begins by itself.", icon=":material/hourglass:")
    data = {
        "futures": list(job.futures),
        "knob": job.knob,
        "tasks": list(job.tasks),
        "last": job.planned_steps or planned_steps,
        "chance": 1 / classes,
    }
    _fan(key="fan", data=data)
    if not job.is_over:
        st.caption(f"{len(job.futures)} futures are at their end; the next one is being trained.")
    elif state.get("futures_shown") is not job:
        state.futures_shown = job
        st.rerun()  # the last one has come: no need to look again
