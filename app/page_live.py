"""The live page: one training, its controls, its figures."""

from __future__ import annotations

import desk as desks
import streamlit as st
from desk import Desk, state
from keep import keep
from tour import guide

ABOUT = {
    "digits-ab": "A network learns the handwritten digits 0–4 (**task A**), then 5–9 (**task B**).",
    "digits-5x2": "A network learns handwritten digits two at a time, five tasks in a row.",
    "fashion-ab": (
        "A network learns T-shirts, trousers, pullovers, dresses and coats (**task A**), then sandals, shirts,"
        " sneakers, bags and ankle boots (**task B**)."
    ),
    "names-ab": (
        "A network learns to go on with names letter by letter, in German (**task A**), then in Turkish (**task B**)."
    ),
    "permuted-digits": (
        "A network learns ten handwritten digits (**task A**), then the same with their pixels shuffled (**task B**)."
    ),
}

desk = Desk.of("live")
desks.follow_preset()
wanted, unusable = desks.shown()
waiting = desk.attend(None if wanted is None else {"": wanted}, state.speed)

st.title("Watch a network forget, and not forget", anchor=False)
st.markdown(
    ABOUT.get(
        state.stream, next((run.trainer.stream.about for run in desk.live), "A network learns one task after another.")
    )
    + " Press **Play** and watch what becomes of A; then switch on the deep optimizer and play again."
)
with st.container(horizontal=True, gap="xsmall", key="ways"):
    if st.button(
        "See both at once, side by side", key="aha", icon=":material/compare:",
        help="The same network twice, on the same samples in the same order: without the deep optimizer and with it. It begins at once.",
    ):  # fmt: skip
        state.begin_comparison = True
        st.switch_page("page_compare.py")
    if st.button(
        "Begin with a lesson", key="learn", icon=":material/school:", type="tertiary", help="Predict first, then watch."
    ):
        st.switch_page("page_lessons.py")
    if st.button(
        "Take the tour", key="begin_tour", icon=":material/map:", type="tertiary", help="What there is on this page."
    ):
        state.tour = 0
        st.rerun()
spotlight = guide()
desks.controls(desk, toggle=True)
desks.settings(twin=True)
desks.messages(desk, unusable, waiting)
desks.view(desk, [""], spotlight)
keep(desk)
desks.remember(wanted)
