"""The live page: one training, its controls, its figures."""

from __future__ import annotations

import desk as desks
import streamlit as st
from desk import Desk, state

ABOUT = {
    "digits-ab": "A network learns the handwritten digits 0–4 (**task A**), then 5–9 (**task B**).",
    "digits-5x2": "A network learns handwritten digits two at a time, five tasks in a row.",
    "permuted-digits": "A network learns ten handwritten digits (**task A**), then the same with their pixels shuffled (**task B**).",
}

desk = Desk.of("live")
desks.follow_preset()
wanted, unusable = desks.shown()
waiting = desk.attend(None if wanted is None else {"": wanted}, state.speed)

st.title("Watch a network forget, and not forget", anchor=False)
st.markdown(
    ABOUT.get(state.stream, "A network learns one task after another.")
    + " Press **Play** and watch what becomes of A; then switch on the deep optimizer and play again."
)
if st.button(
    "See both at once, side by side", key="aha", icon=":material/compare:",
    help="The same network twice, on the same samples in the same order: without the deep optimizer and with it. It begins at once.",
):  # fmt: skip
    state.begin_comparison = True
    st.switch_page("page_compare.py")
desks.controls(desk, toggle=True)
desks.settings(twin=True)
desks.messages(desk, unusable, waiting)
desks.view(desk, [""])
desks.remember(wanted)
