"""The page that opens: two small networks side by side, or one with the toggle; its controls, its figures."""

from __future__ import annotations

import re
from html import escape

import controls
import fan_panel
import form
import menus
import own_data
import streamlit as st
from export_panel import export_panel
from session import Session, state
from settings import NETWORKS, OFF, ON, ONE, PAIR, TRIO, TWIN
from tour import guide

from nllab.experiment import PRESETS

ABOUT = {
    "digits-ab": "Two networks learn handwritten digits: 0–4 (**A**), then 5–9 (**B**).",
    "digits-5x2": "Two networks learn handwritten digits two at a time, five tasks in a row.",
    "fashion-ab": "Two networks learn five kinds of clothing (**A**), then five others (**B**).",
    "names-ab": "Two networks write names letter by letter: German (**A**), then Turkish (**B**).",
    "permuted-digits": "Two networks learn digits (**A**), then the same with shuffled pixels (**B**).",
    "plane-ab": "Two networks learn two crescents on the left (**A**), then two on the right (**B**).",
}

MOST_DRAWN = 64  # units of a level that are drawn one by one

session = Session.of("live")
form.follow_preset()
base, unusable = form.shown()
if "networks" not in state:
    state.networks = NETWORKS.get(st.query_params.get("networks", ""), ONE if form.names_writer() else PAIR)
one = state.networks == ONE
wanted = None
if base is not None:
    off = base.but(optimizer=state.plain, frozen=False)
    on = off.but(optimizer="deep", base_optimizer=state.plain, method="naive", method_settings={})
    wanted = {"": base} if one else {OFF: off, ON: on} | ({TWIN: on.but(frozen=True)} if state.networks == TRIO else {})
told = menus.told_by(state.method)
titles = [""] if one else [OFF, ON, *([TWIN] if state.networks == TRIO else [])]
waiting = session.sync(wanted, state.speed)

with st.container(key="opening"):
    st.title("Watch memory being painted over, or not", anchor=False)
    plain: str = {"adam": "Adam", "sgd": "SGD", "adamw": "AdamW"}.get(state.plain, str(state.plain))
    beside = menus.METHOD_NAMES.get(state.method, state.method)
    writer = plain if state.method == "naive" else f"{plain} with {beside}{f', which {told},' if told else ''}"
    drawn = all(run.subject.drawable for run in session.live) and (
        session.live or base is None or base.dim <= MOST_DRAWN
    )
    named = state.stream if state.stream in PRESETS else "your own data"
    group, line = menus.STREAMS.get(state.stream, (named, "one task, then the other"))
    about = ABOUT.get(state.stream, f"Two networks learn {group[0].lower()}{group[1:]}: {line}.")
    if state.networks == TRIO:
        about = about.replace("Two", "Three")
    lit = "<span class='nl-names nl-names-{}'>{}</span>".format
    tiles = f"Each {lit('tiles', 'tile')} is one unit’s weights, in the colour of the task whose answers it keeps. "
    where = "in the middle" if state.networks == TRIO else "right"
    walls = f": the {lit('walls', 'walls')} around each level"
    said = (
        about.replace("Two networks learn", "A network learns").replace("Two networks write", "A network writes")
        + " Switch the deep optimizer on and off while it trains."
        if one
        else f"{about} Same seed, same samples. {tiles if drawn else ''}{lit('off', 'Left')}, {escape(writer)} writes"
        f" whatever the error asks; {lit('on', where)}, the deep optimizer holds back what earlier inputs use"
        f"{walls if drawn else ''}."
    )
    bold = re.sub(r"[*][*](.+?)[*][*]", r"<b>\1</b>", said)
    st.html(f"<p>{bold}</p>")
spotlight = guide(session)
controls.controls(session, toggle=one, networks=NETWORKS)
controls.settings(twin=one)
controls.messages(session, unusable, waiting)
controls.view(session, titles, spotlight)
export_panel(session)
fan_panel.panel(
    None if base is None else base.but(optimizer=state.plain, frozen=False, method="naive", method_settings={}),
    session.live[0].state.planned_steps if session.live else 0,
    len(session.live[0].subject.classes) if session.live else 10,
)
own_data.panel(session)
form.remember(base, pair=None if one else state.networks == PAIR and "2" or "3")
