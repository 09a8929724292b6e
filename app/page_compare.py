"""The page that compares: the same network on the same samples in the same order, without and with the deep optimizer,
and its twin."""

from __future__ import annotations

import actions
import controls
import form
import streamlit as st
from export_panel import export_panel
from session import Session, state
from settings import OFF, ON, TWIN

from nllab import figures, narration
from nllab.summary import differences

session = Session.of("compare")
form.follow_preset()
state.setdefault("twin", st.query_params.get("twin") == "1")
base, unusable = form.shown()
wanted = None
if base is not None:
    off = base.but(optimizer=state.plain, frozen=False)
    on = off.but(optimizer="deep", base_optimizer=state.plain, method="naive", method_settings={})
    wanted = {OFF: off, ON: on} | ({TWIN: on.but(frozen=True)} if state.twin else {})
if state.pop("begin_comparison", False) and not any(run.playing for run in session.live):
    session.ask(actions.play)
waiting = session.sync(wanted, state.speed)
titles = [OFF, ON, *([TWIN] if state.twin else [])]


def add_twin() -> None:
    state.twin = True
    session.ask(actions.catch_up)


def take_away(name: str) -> None:
    actions.pins().pop(name, None)


def rename(number: int, name: str) -> None:
    """Give a pinned run the name that was typed, at its place among the others."""
    typed = state[f"pin_name_{number}_{name}"].strip()
    if typed and typed not in actions.pins():
        state.pins = {typed if kept == name else kept: run for kept, run in actions.pins().items()}


st.title("Side by side", anchor=False)
st.markdown(
    "The same network, the same samples in the same order: first the plain optimizer writes, beside it the deep"
    " optimizer does. Nothing is replayed and nobody says when the task changes."
)
controls.controls(session)
controls.settings(twin=False)
controls.messages(session, unusable, waiting)
with st.container(horizontal=True, vertical_alignment="center", key="question"):
    st.markdown(
        "**So what did the hidden levels learn?** The frozen twin keeps all but the output layer as it was drawn.",
        width="stretch",
    )
    if state.twin:
        st.button(
            "Take the twin away", key="twin_away", icon=":material/close:", on_click=lambda: state.update(twin=False)
        )
    else:
        st.button(
            "Add the frozen twin", key="twin_add", icon=":material/ac_unit:", shortcut="T", on_click=add_twin,
            help="A third network on the same samples, of which only the output layer learns.",
        )  # fmt: skip
controls.view(session, titles)
export_panel(session)
pins = actions.pins()
st.subheader("Pinned runs", anchor=False)
if not pins:
    st.caption(
        "None yet. **Pin** keeps a run as it stands, here and on the page Watch, so that up to four can be laid side by"
        " side."
    )
else:
    for number, name in enumerate(list(pins)):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="xsmall"):
            st.text_input(
                "Name of a pinned run", name, key=f"pin_name_{number}_{name}", max_chars=40, width=320,
                label_visibility="collapsed", on_change=rename, args=(number, name),
            )  # fmt: skip
            st.button(
                "Take away", key=f"unpin_{name}", icon=":material/close:", on_click=take_away, args=(name,),
                help=f"Takes away “{name}”.",
            )  # fmt: skip
    for figure in ("accuracy", "drift"):
        scores = "; ".join(f"{name}: {narration.sentence(run.log, run.tasks)}" for name, run in pins.items())
        st.plotly_chart(
            figures.multiples(figure, pins), key=f"pinned_{figure}", config={"displayModeBar": False}, alt=scores
        )
    st.markdown(controls.table(differences(pins)))
form.remember(base, **({"twin": "1"} if state.twin else {}))
