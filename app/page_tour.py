"""The tour's list of stations, and its beginning."""

from __future__ import annotations

import streamlit as st
from session import state
from settings import PAIR
from tour import STATIONS

st.title("A tour of the lab", anchor=False)
with st.container(key="reading"):
    st.markdown("Eight stops, two minutes. Two networks train while each stop frames one thing and says what it is.")
    if st.button(
        "Begin the tour", key="tour_begin", type="primary", icon=":material/play_arrow:", help="On the page Watch."
    ):
        state.tour, state.networks = 0, PAIR
        st.switch_page("page_live.py")
    for number, station in enumerate(STATIONS, start=1):
        st.markdown(f"{number}. **{station.title}.** {station.text}")
    st.subheader("Keys", anchor=False)
    st.markdown(
        "| key | what it does |\n| --- | --- |\n| Space | play, pause |\n| N | one step |\n"
        "| O | one write in slow motion; ← and → go through it, Esc closes it |\n| W | one write of the"
        " chosen level |\n| B | back to the checkpoint before |\n| Shift+X | reset |\n| F | presentation: "
        "figures alone, in large type |\n| D | deep optimizer on or off"
        " |\n| 1 to 5 | teach a task |\n| P | pin the runs |\n| T | add the frozen twin (Compare) |\n| → | next stop,"
        " next lesson |"
    )
