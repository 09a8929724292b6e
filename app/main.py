"""What all pages have in common: the title, the menu, the look."""

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent

st.set_page_config(
    page_title="nllab · a live lab for Nested Learning",
    page_icon=str(HERE / "icon.svg"),
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.html(HERE / "main.css")
if st.context.is_embedded:
    st.html(HERE / "embed.css")
PAGES = {  # one list, so that Play is among the first stops of the tab key
    "": [st.Page("page_live.py", title="Watch", icon=":material/play_circle:", default=True)],
    "Learn and compare": [
        st.Page("page_lessons.py", title="Lessons", icon=":material/school:", url_path="lessons"),
        st.Page("page_tour.py", title="Tour", icon=":material/map:", url_path="tour"),
        st.Page("page_compare.py", title="Compare", icon=":material/compare:", url_path="compare"),
        st.Page("page_replay.py", title="Replay", icon=":material/slideshow:", url_path="replay"),
        st.Page("page_room.py", title="Room", icon=":material/groups:", url_path="room"),
        st.Page("page_glossary.py", title="Glossary", icon=":material/menu_book:", url_path="glossary"),
        st.Page("page_mathematics.py", title="Mathematics", icon=":material/function:", url_path="mathematics"),
    ],
}
st.navigation(PAGES, position="top").run()
