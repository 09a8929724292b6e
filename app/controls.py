"""The controls of a page with a live training, its messages and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import actions
import kept_runs
import menus
import shared
import streamlit as st
from form import about, add_level, drop_level
from live_view import live_view
from session import Session
from settings import SPEEDS, UNLIMITED, speed_name

from nllab.events import End
from nllab.experiment import LEARNING_RATES, MODELS, PRESETS, Experiment
from nllab.methods import METHODS

TASK_BUTTONS = 5  # as many tasks as get a button each
START_LEVELS = ("input", "fast", "medium", "slow", "head")  # of the experiment that the page starts with
state = st.session_state


def controls(
    session: Session,
    *,
    toggle: bool = False,
    teaching: bool = True,
    locked: str = "",
    networks: Mapping[str, str] | None = None,
) -> None:
    """The row of buttons, and below it, on request, the others. toggle, teaching: whether those for the deep optimizer
    and for the tasks are among them. locked: why nothing can be trained yet. networks: how many may stand side by
    side, by their keys in an address."""
    runs = session.live
    playing, finished = any(run.playing for run in runs), bool(runs) and all(run.finished for run in runs)
    label, icon = ("Pause", "pause") if playing else ("Play again", "replay") if finished else ("Play", "play_arrow")
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="controls"):
        st.button(
            label, key="play", type="primary", icon=f":material/{icon}:", shortcut="Space", on_click=session.ask,
            args=(actions.play,), disabled=bool(locked), help=locked or None,
        )  # fmt: skip
        st.button(
            "Step", key="step", icon=":material/skip_next:", shortcut="N", on_click=session.ask, args=(actions.step,),
            disabled=finished or bool(locked), help="Take a single step, on one batch, then stand still.",
        )  # fmt: skip
        st.selectbox(
            "Speed, steps per second", SPEEDS, key="speed", label_visibility="collapsed", width=118,
            format_func=lambda speed: speed_name(speed) + (" / s" if speed < UNLIMITED else ""), filter_mode=None,
            on_change=session.ask, args=(actions.set_speed,), persist_state="session",
        )  # fmt: skip
        st.button(
            "Open a write", key="open_write", icon=":material/biotech:", shortcut="O",
            on_click=lambda: session.ask(actions.open_write(state.get("opened_level", START_LEVELS[0]))),
            disabled=finished or bool(locked),
            help="Take the next step and see one write of it in slow motion: what the error asks, what is held back.",
        )  # fmt: skip
        if networks:
            st.selectbox(
                "Networks", list(networks.values()), key="networks", label_visibility="collapsed", width=215,
                filter_mode=None, persist_state="session",
            )  # fmt: skip
        if toggle:
            with st.container(key="toggle", width="content"):
                st.toggle(
                    "Deep optimizer",
                    key="deep",
                    help=(
                        "On, it writes in place of the plain optimizer; off, it only watches. Works while the network"
                        " trains. Shortcut: D"
                    ),
                    persist_state="session",
                )
        st.button(
            "Fewer controls" if state.get("more_controls") else "More controls", key="more", type="tertiary",
            icon=f":material/{'expand_less' if state.get('more_controls') else 'expand_more'}:",
            on_click=lambda: state.update(more_controls=not state.get("more_controls")),
            help="Single writes, undo, reset, teaching a task, pins. Their keys work in any case.",
        )  # fmt: skip
    # What is not asked for stays on the page, unseen, so that its keys work.
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap="xsmall",
        key="controls_more" if state.get("more_controls") else "controls_hidden",
    ):
        levels = list(runs[0].run.levels) if runs else list(START_LEVELS)
        if state.get("level") not in levels:
            state.level = next((level for level in reversed(levels) if level != "head"), levels[-1])
        with st.container(horizontal=True, gap=None, key="write", width="content", vertical_alignment="center"):
            st.button(
                "One write of", key="one_write", icon=":material/edit:", shortcut="W",
                on_click=lambda: session.ask(actions.write(state.level)), disabled=finished or bool(locked),
                help="Train until this level has written once more, then "
                "stand still.",
            )  # fmt: skip
            st.selectbox(
                "Level", levels, key="level", label_visibility="collapsed", width=112, filter_mode=None,
                persist_state="session",
            )  # fmt: skip
        st.button(
            "Undo", key="undo", icon=":material/undo:", shortcut="B", on_click=session.ask, args=(actions.undo,),
            help="Return to the checkpoint before this step; what came after it is undone. Below the figures "
            "stand all.",
        )  # fmt: skip
        st.button(
            "Reset", key="reset", icon=":material/restart_alt:", shortcut="Shift+X", on_click=session.ask,
            args=(actions.reset,),
            help="Back to the first step, with the settings as they stand.",
        )  # fmt: skip
        tasks = runs[0].run.tasks if runs else ("A", "B")
        for number, task in enumerate(tasks if teaching and len(tasks) <= TASK_BUTTONS else (), start=1):
            st.button(
                f"Teach {task}", key=f"teach_{task}", shortcut=str(number), on_click=session.ask,
                args=(actions.teach(task),), help=f"Show task {task} from the next step on, whatever was planned.",
            )  # fmt: skip
        st.button(
            "Pin", key="pin", icon=":material/keep:", shortcut="P", on_click=lambda: session.ask(actions.pin()),
            help="Keep what has been trained so far, to lay it beside up to three others on the page Compare.",
        )  # fmt: skip


def settings(*, twin: bool) -> None:
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.sidebar, st.container(key="settings"):
        st.subheader("Settings")
        st.selectbox("Stream", list(PRESETS), key="stream", help=about("stream"), format_func=menus.stream_line, **keep)
        st.number_input("Seed", key="seed", step=1, help=about("seed"), **keep)
        st.selectbox(
            "Plain optimizer",
            list(LEARNING_RATES),
            key="plain",
            help="Who writes while the deep optimizer is off.",
            **keep,
        )
        methods = [name for name in METHODS if name not in menus.OWN_MODEL or name == state.get("method")]
        st.selectbox(
            "Method beside it", methods, key="method", format_func=menus.method_line, **keep,
            help="A usual continual-learning method around the plain optimizer, and what it is told. The deep optimizer"
            " is told nothing and stores no samples. Waits for a reset.",
        )  # fmt: skip
        st.text_input("Periods of the memory levels, in steps", key="periods", help=about("periods"), **keep)
        with st.container(horizontal=True, gap="xsmall"):
            st.button(
                "Add a slower level",
                key="level_add",
                icon=":material/add:",
                on_click=add_level,
                help="Before the start, or for a reset.",
            )
            st.button(
                "Remove the slowest level",
                key="level_drop",
                icon=":material/remove:",
                on_click=drop_level,
                help="Before the start, or for a reset.",
            )
        if twin:
            st.toggle("Frozen twin", key="frozen", help=about("frozen"), **keep)
        st.toggle(
            "Joint ceiling", key="ceiling", on_change=lambda: None, persist_state="session",
            help="Train the same network on all tasks at once, mixed, in the background, and draw what it "
            "reaches as a line.",
        )  # fmt: skip
        with st.expander("Stop by itself"):
            st.number_input(
                "After step",
                key="stop_at",
                min_value=0,
                max_value=100_000,
                step=1,
                help="0: never. Play goes on from there.",
                **keep,
            )
            st.number_input(
                "When the accuracy on the first task falls below", key="stop_below", min_value=0.0,
                max_value=1.0, step=0.05, help="0: never. Play goes on from there.", **keep,
            )  # fmt: skip
            st.number_input(
                "When the task being taught is learned to", key="stop_above", min_value=0.0, max_value=1.0, step=0.05,
                help="An accuracy; 0: never. Play goes on from there.", **keep,
            )  # fmt: skip
        with st.expander("More"):
            st.text_input(
                "Order of the tasks", key="order", placeholder="as the stream has them", help=about("order"), **keep
            )
            st.selectbox(
                "Loss", get_args(Experiment.model_fields["loss"].annotation), key="loss", help=about("loss"), **keep
            )
            st.selectbox("Model", list(MODELS), key="model", help=about("model"), **keep)
            st.selectbox(
                "Input level",
                get_args(Experiment.model_fields["front"].annotation),
                key="front",
                help=about("front"),
                **keep,
            )
            st.number_input("Epochs", key="epochs", step=1, help=about("epochs"), **keep)
            st.number_input("Batch size", key="batch_size", step=1, help=about("batch_size"), **keep)
            usual = f"{LEARNING_RATES[state.plain]:g}, its usual one"
            st.text_input("Learning rate", key="learning_rate", placeholder=usual, help=about("learning_rate"), **keep)
            st.number_input("Rate of the deep optimizer", key="rate", step=0.1, help=about("rate"), **keep)
            st.number_input("Retention", key="retention", step=0.01, help=about("retention"), **keep)
            st.number_input("Period of the input level", key="input_period", step=1, help=about("input_period"), **keep)
            st.number_input("Period of the output layer", key="head_period", step=1, help=about("head_period"), **keep)
            st.toggle("Deep optimizer watches while off", key="observe", help=about("observe"), **keep)
            st.toggle("Manager", key="manager", help=about("manager"), **keep)
        st.caption(
            "Optimizer, periods and rates change while the network trains; everything else waits for a reset. "
            "The address of this page holds all settings: copy it to share them."
        )
        st.caption(
            "Keys: Space plays and pauses, N steps, O opens a write, W writes, B goes back, D toggles the deep"
            " optimizer, 1 and 2 teach, P pins, Shift+X resets."
        )


def messages(session: Session, unusable: Sequence[str], waiting: Sequence[str]) -> None:
    for problem in dict.fromkeys([*session.problems, *unusable]):
        st.error(shared.as_text(problem), icon=":material/error:")
    for title, run in zip(session.runs, session.live, strict=False):
        failed = run.error or run.state.diverged and (ending := run.run.last(End)) and ending.text
        if failed:
            said = shared.as_text(str(failed))
            st.error(f"**{title}.** {said}" if title else said, icon=":material/error:")
    if named := state.pop("just_pinned", None):
        said = f"Pinned: {', '.join(named)}. The page Compare draws pinned runs on the same axes."
        st.toast(said, icon=":material/keep:")
    notices = dict.fromkeys(run.notice for run in session.live if run.notice)
    for notice in notices:
        st.info(shared.as_text(notice), icon=":material/pause_circle:")
    if waiting:
        st.info(
            f"Press **Reset** for the new {', '.join(waiting).replace('_', ' ')}; until then the run goes on as it"
            " began."
        )
    if session.lost and not any(run.state.step for run in session.live):
        kept_runs.lost(session.lost)
    if session.was_freed:
        session.was_freed = False
        st.info("Nobody had watched this run for a minute, so it was freed. This is a new one with the same settings.")


def view(session: Session, titles: Sequence[str], spotlight: str | None = None) -> None:
    """The live figures of the session's runs."""
    runs = {title: shared.runs().get(session.runs.get(title, "")) for title in titles}
    key = f"view-{session.name}"

    def go_back() -> None:
        if (step := state.get(key, {}).get("back")) is not None:
            session.ask(actions.back(step))

    def open_write() -> None:
        if (level := state.get(key, {}).get("open")) is not None:
            state.opened_level = level
            session.ask(actions.open_write(level))

    heard = {"on_tab_change": lambda: None, "on_stale_change": lambda: None}
    heard |= {"on_back_change": go_back, "on_open_change": open_write}
    note = (
        "These settings cannot be trained: above stands why, and what to change."
        if session.problems and not all(runs.values())
        else ""
    )
    live_view(session.name, runs, single=len(titles) == 1, spotlight=spotlight, note=note, **heard)


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; its first row is the head."""
    head, *lines = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])
