"""The guided tour: what there is on the live page, one thing at a time, each framed while it is spoken of."""

from __future__ import annotations

import streamlit as st
from desk import state

STATIONS = (  # (title, what is said, what is framed)
    ("Two tasks, one network", "Images arrive in small batches: first those of task A, later those of task B. Nobody tells the "
    "network which "
     "is which, and old images never come back. These numbers say where it stands now.", ".nl-numbers"),
    ("Play and pause", "**Play** trains, **Step** takes one batch, **One write** goes on until the level of your choice has changed its "
     "weights. Every training on this page happens at that moment, on this machine.", ".st-key-controls"),
    ("Accuracy on each task", "The share of test images that are right, task by task. Watch A when B begins. Zoom by dragging, double "
     "click to see all.",
     ".nl-card-accuracy"),
    ("The deep optimizer", "The toggle decides who writes: the plain optimizer, or one with a memory of everything each layer has "
    "seen. Switch "
     "it whenever you like; a dotted line marks the step.", ".st-key-toggle"),
    ("When each level writes", "Each lane is a level, each mark a change of its weights. Fast levels write at every step, slow ones "
     "seldom.",
     ".nl-card-raster"),
    ("How far each level has drifted", "The distance of every level from where it began. Slow levels move in stairs.", ".nl-card-drift"),
    ("Loops inside each other", "The same levels as rings. A hand that reaches the top writes, and its ring lights up.", ".nl-card-rings"),
    ("Going back", "Checkpoints are kept as the training goes. Press one to return to that step, change a setting, and go on from there.",
     ".nl-back"),
    ("Everything else", "All settings are here, and in the address of this page. Next: the page **Lessons**, where you predict before "
    "you see.",
     ".st-key-settings"),
)  # fmt: skip


def guide() -> str | None:
    """The station where the visitor stands, and the selector of what it frames; nothing off the tour."""
    place = state.get("tour")
    if place is None:
        return None
    title, text, what = STATIONS[place]
    frame = (
        "outline: 3px solid var(--st-primary-color, #0072B2); outline-offset: 6px; border-radius: 4px;"
        " scroll-margin-top: 12rem;"
    )
    st.html(f"<style>{what} {{ {frame} }}</style>")
    with st.container(border=True, key="tour"):
        st.markdown(f"**{place + 1} of {len(STATIONS)} · {title}.** {text}")
        with st.container(horizontal=True, gap="xsmall"):
            st.button(
                "Back",
                key="tour_back",
                shortcut="Left",
                disabled=place == 0,
                on_click=lambda: state.update(tour=place - 1),
            )
            if place + 1 < len(STATIONS):
                st.button(
                    "Next",
                    key="tour_next",
                    type="primary",
                    shortcut="Right",
                    on_click=lambda: state.update(tour=place + 1),
                )
            st.button("End the tour", key="tour_end", shortcut="Escape", on_click=lambda: state.update(tour=None))
    return what
