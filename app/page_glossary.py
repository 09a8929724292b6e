"""Every term and every metric of the lab, from the tables in the code."""

from __future__ import annotations

import streamlit as st

from nllab.terms import glossary

st.title("Glossary", anchor=False)
with st.container(key="reading"):
    wanted = (
        st.text_input(
            "Search", key="search", placeholder="a word, or part of one", help="In terms and in what they mean."
        )
        .strip()
        .lower()
    )
    found = {
        name: meaning for name, meaning in glossary().items() if wanted in name.lower() or wanted in meaning.lower()
    }
    if not found:
        st.info(f"Nothing here holds “{wanted}”. Try a shorter part of the word.")
    for name, meaning in found.items():
        st.markdown(f"**{name}**  \n{meaning}")
