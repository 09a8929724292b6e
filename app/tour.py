"""The guided tour of the page that opens: one thing at a time, framed while it is spoken of, and trained meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st
from session import Session, state

if TYPE_CHECKING:
    from nllab.live import LiveRun


class Station(NamedTuple):
    title: str
    text: str
    frames: str  # selector of what is framed
    trains: bool = True  # whether the networks train from here on


STATIONS = (
    Station(
        "Two networks, one seed",
        "Both begin with the same weights and see the same images in the same order: first task A, later task B. Nobody"
        " tells them which is which, and old images never come back.",
        ".nl-panels",
        trains=False,
    ),
    Station(
        "They train now",
        "**Play** trains and pauses, **Step** takes one batch. Every number on this page is measured at that moment, on"
        " this machine.",
        ".st-key-controls",
    ),
    Station(
        "The network itself",
        "In the middle stands the image of this step. Around it lie the levels, the fastest innermost; each tile is the"
        " weights of one unit. A frame lights up when its level writes. Point at a tile to enlarge it.",
        ".nl-network",
    ),
    Station(
        "What holds a write back",
        "The deep optimizer remembers which inputs a level has seen, and holds back the part of a write that they would"
        " notice. The bars say how much, and the walls around the frames show it. **Open a write** (O) shows one,"
        " phase by phase.",
        ".nl-levels",
    ),
    Station(
        "Forgotten or learned",
        "Forty test images of each task. A card shows its image while the network reads it, and what it is taken for"
        " otherwise. Watch A when B begins.",
        ".nl-wall",
    ),
    Station(
        "The curve rewinds everything",
        "Point at the curve, drag along it, or use the arrow keys: tiles, walls and cards show that moment.",
        ".nl-card-accuracy",
    ),
    Station(
        "More views, and going back",
        "Below lie the drift of every level, each write, the manager’s log. Checkpoints are kept as the training goes:"
        " press one to return to that step, change a setting, and go on from there.",
        ".nl-more",
    ),
    Station(
        "Everything else",
        "Single writes, undo, reset, pins and one network with the toggle stand here; all settings in the "
        "sidebar, and in the address. Below wait a fan of futures and your own data. Next: the page **Lessons**, where"
        " you predict before you see.",
        ".st-key-controls",
    ),
)


def _train(runs: Sequence[LiveRun], *_: Any) -> None:
    for run in runs:
        if not run.finished:
            run.play()


def go_to(session: Session, place: int | None) -> None:
    """Stand at this station, or end the tour; the networks train where it speaks of them."""
    state.tour = place
    if place is not None and STATIONS[place].trains:
        session.ask(_train)


def guide(session: Session) -> str | None:
    """The station where the visitor stands, and the selector of what it frames; nothing off the tour."""
    place = state.get("tour")
    if place is None:
        return None
    station = STATIONS[place]
    frame = (
        "outline: 3px solid var(--st-primary-color, #0072B2); outline-offset: 4px; border-radius: 4px;"
        " scroll-margin-top: 12rem;"
    )
    st.html(f"<style>{station.frames} {{ {frame} }}</style>")
    with st.container(border=True, key="tour"):
        st.markdown(f"**{place + 1} of {len(STATIONS)} · {station.title}.** {station.text}")
        with st.container(horizontal=True, gap="xsmall"):
            st.button(
                "Previous",
                key="tour_back",
                shortcut="Left",
                disabled=place == 0,
                on_click=go_to,
                args=(session, place - 1),
            )
            if place + 1 < len(STATIONS):
                st.button(
                    "Next", key="tour_next", type="primary", shortcut="Right", on_click=go_to, args=(session, place + 1)
                )
            st.button("End the tour", key="tour_end", shortcut="Escape", on_click=go_to, args=(session, None))
    return station.frames
