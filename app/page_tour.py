"""The tour's list of stations, and its beginning."""

from __future__ import annotations

import streamlit as st
from desk import state
from tour import STATIONS

st.title("A tour of the lab", anchor=False)
with st.container(key="reading"):
    st.markdown("Nine stops, two minutes. Each frames one part of the live page and says what it is for.")
    if st.button(
        "Begin the tour", key="tour_begin", type="primary", icon=":material/play_arrow:", help="On the page Live."
    ):
        state.tour = 0
        st.switch_page("page_live.py")
    for number, (title, text, _) in enumerate(STATIONS, start=1):
        st.markdown(f"{number}. **{title}.** {text}")
    st.subheader("Keys", anchor=False)
    st.markdown(
        "| key | what it does |\n| --- | --- |\n| Space | play, pause |\n| N | one step |\n| W | one write of the"
        " chosen level |\n| B | back to the checkpoint before |\n| Shift+X | reset |\n| D | deep optimizer on or off"
        " |\n| 1 to 5 | teach a task |\n| P | pin the runs |\n| T | add the frozen twin (Compare) |\n| → | next stop,"
        " next lesson |"
    )
