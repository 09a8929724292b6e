"""The live page: one training, its controls, its figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import shared
import streamlit as st
from live_view import live_view
from settings import SPEEDS, START, UNLIMITED, commands, preset_changes, read_address, speed_name, write_address

from nllab.errors import NllabError, SettingError
from nllab.experiment import LEARNING_RATES, PRESETS, Experiment, read_setting

if TYPE_CHECKING:
    from nllab.live import LiveRun

Action = Callable[["LiveRun", Experiment, float], None]  # with the settings and the speed that the page shows
TASK_BUTTONS = 5  # as many tasks as get a button each
ADOPT_SECONDS = 1.0  # how long a reloaded page waits for its old connection to end
RESET_SECONDS = 3.0
ABOUT = {
    "digits-ab": "A network learns the handwritten digits 0–4 (**task A**), then 5–9 (**task B**).",
    "digits-5x2": "A network learns handwritten digits two at a time, five tasks in a row.",
    "permuted-digits": "A network learns ten handwritten digits (**task A**), then the same with their pixels shuffled (**task B**).",
}
SETTINGS = (  # with a control of the same name
    "stream", "seed", "passes", "batch_size", "loss", "model", "input_period", "head_period", "rate", "retention", "observe", "frozen",
)  # fmt: skip
state = st.session_state


def about(setting: str) -> str:
    text = Experiment.model_fields[setting].description or ""
    return text[:1].upper() + text[1:] + "."


@dataclass
class Session:
    """What this browser session has. A click starts a new script, while the one before it may still be waiting for something; and any
    access to st.session_state may end a script in favour of a newer one. So a click only adds to `todo`, whichever script gets the lock
    does it, and this is a plain object: no click is lost half-way, no run is opened twice."""

    base: Experiment  # what the address said; settings without a control stay as they are here
    problems: list[str]
    run: str | None = None
    was_freed: bool = False
    todo: list[Action] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def start() -> Session:
    """This session; a new one begins with the settings of its address."""
    if "session" not in state:
        experiment, state.speed, problems = read_address(st.query_params)
        experiment = experiment.but(off_optimizer=experiment.plain)
        for name in SETTINGS:
            state[name] = getattr(experiment, name)
        state.deep, state.plain = experiment.optimizer == "deep", experiment.plain
        state.periods = ", ".join(map(str, experiment.periods))
        state.learning_rate = "" if experiment.learning_rate is None else f"{experiment.learning_rate:g}"
        state.session = Session(experiment, problems)
    return state.session


def follow_preset(session: Session) -> None:
    """Another stream brings the settings of its preset along."""
    if state.stream != session.base.stream:
        changes = preset_changes(session.base.stream, state.stream)
        for name in changes.keys() & set(SETTINGS):
            state[name] = changes[name]
        session.base = session.base.but(stream=state.stream, **changes)


def draft() -> Experiment:
    """The settings as the page shows them. Raises SettingError for what cannot be."""
    return state.session.base.but(
        **{name: state[name] for name in SETTINGS},
        optimizer="deep" if state.deep else state.plain,
        off_optimizer=state.plain,
        periods=read_setting("periods", state.periods),
        learning_rate=read_setting("learning_rate", state.learning_rate.strip()),
    )


def current(session: Session) -> LiveRun | None:
    return shared.runs().get(session.run) if session.run else None


def ready(session: Session, wanted: Experiment, speed: float) -> LiveRun:
    """The session's run; a new one if it has none."""
    run = current(session)
    if run is None:
        session.was_freed = session.run is not None
        run = shared.open_run(wanted, speed)
        session.run = run.id
    return run


def renew(run: LiveRun, experiment: Experiment) -> None:
    """Begin anew, and wait until it has: what the page shows next is of the new run."""
    before = run.generation
    run.reset(experiment)
    shared.applied[run] = experiment
    end = time.monotonic() + RESET_SECONDS
    while run.generation == before and time.monotonic() < end:
        time.sleep(0.005)


def play(run: LiveRun, wanted: Experiment, _: float) -> None:
    if run.playing:
        run.pause()
        return
    if run.finished:
        renew(run, wanted)
    run.play()


def step(run: LiveRun, *_: Any) -> None:
    run.step()


def reset(run: LiveRun, wanted: Experiment, _: float) -> None:
    renew(run, wanted)


def set_speed(run: LiveRun, _: Experiment, speed: float) -> None:
    run.set_speed(speed)


def teach(task: str) -> Action:
    def action(run: LiveRun, *_: Any) -> None:
        run.command("teach", task)
        run.play()

    return action


def adopt(session: Session, tab: str, wanted: Experiment, speed: float) -> None:
    """The tab has said which run it remembers: pick it up, unless another tab has it. Otherwise begin one."""
    remembered = shared.runs().get(tab)
    end = time.monotonic() + ADOPT_SECONDS
    while remembered and shared.watchers[remembered.id] and time.monotonic() < end:
        time.sleep(0.05)
    if remembered and not shared.watchers[remembered.id]:
        state.speed = remembered.speed or UNLIMITED
        session.run = remembered.id
    else:
        ready(session, wanted, speed)


def reconcile(run: LiveRun, wanted: Experiment) -> list[str]:
    """Give the run what of `wanted` can change while it runs; the names of the settings that wait for a reset."""
    has = shared.applied[run]
    if wanted == has:
        return []
    if not run.playing and run.status()["step"] == 0:
        renew(run, wanted)
        return []
    given, after, waiting = commands(has, wanted, tuple(run.run.levels))
    for name, value in given:
        run.command(name, value)
    shared.applied[run] = after
    return waiting


def controls(session: Session, run: LiveRun | None) -> None:
    ask = session.todo.append
    playing, finished = bool(run and run.playing), bool(run and run.finished)
    label, icon = ("Pause", "pause") if playing else ("Play again", "replay") if finished else ("Play", "play_arrow")
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="controls"):
        st.button(
            label, key="play", type="primary", icon=f":material/{icon}:", shortcut="Space", on_click=ask, args=(play,),
            help="Train, or stand still. When the plan is over: start over with the settings as they stand.",
        )  # fmt: skip
        st.button(
            "Step", key="step", icon=":material/skip_next:", shortcut="N", on_click=ask, args=(step,),
            disabled=finished, help="Take a single step, on one batch, then stand still.",
        )  # fmt: skip
        st.button(
            "Reset", key="reset", icon=":material/restart_alt:", shortcut="Shift+X", on_click=ask, args=(reset,),
            help="Back to the first step, with the settings as they stand.",
        )  # fmt: skip
        with st.container(key="toggle", width="content"):
            st.toggle(
                "**Deep optimizer**",
                key="deep",
                help="On, it writes in place of the plain optimizer; off, it only watches. Works while the network trains. Shortcut: D",
                persist_state="session",
            )
        tasks = run.run.tasks if run else ("A", "B")
        for number, task in enumerate(tasks if len(tasks) <= TASK_BUTTONS else (), start=1):
            st.button(
                f"Teach {task}", key=f"teach_{task}", shortcut=str(number), on_click=ask,
                args=(teach(task),), help=f"Show task {task} from the next step on, whatever was planned.",
            )  # fmt: skip
        st.selectbox(
            "Speed, steps per second", SPEEDS, key="speed", label_visibility="collapsed", width=118,
            format_func=lambda speed: speed_name(speed) + (" / s" if speed < UNLIMITED else ""), filter_mode=None,
            on_change=ask, args=(set_speed,), persist_state="session",
        )  # fmt: skip


def settings() -> None:
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.sidebar:
        st.subheader("Settings")
        st.selectbox("Stream", list(PRESETS), key="stream", help=about("stream"), **keep)
        st.number_input("Seed", key="seed", step=1, help=about("seed"), **keep)
        st.selectbox("Plain optimizer", list(LEARNING_RATES), key="plain", help="Who writes while the deep optimizer is off.", **keep)
        st.text_input("Periods of the memory levels, in steps", key="periods", help=about("periods"), **keep)
        st.toggle("Frozen twin", key="frozen", help=about("frozen"), **keep)
        with st.expander("More"):
            st.selectbox("Loss", get_args(Experiment.model_fields["loss"].annotation), key="loss", help=about("loss"), **keep)
            st.selectbox("Model", get_args(Experiment.model_fields["model"].annotation), key="model", help=about("model"), **keep)
            st.number_input("Passes", key="passes", step=1, help=about("passes"), **keep)
            st.number_input("Batch size", key="batch_size", step=1, help=about("batch_size"), **keep)
            usual = f"{LEARNING_RATES[state.plain]:g}, its usual one"
            st.text_input("Learning rate", key="learning_rate", placeholder=usual, help=about("learning_rate"), **keep)
            st.number_input("Rate of the deep optimizer", key="rate", step=0.1, help=about("rate"), **keep)
            st.number_input("Retention", key="retention", step=0.01, help=about("retention"), **keep)
            st.number_input("Period of the input level", key="input_period", step=1, help=about("input_period"), **keep)
            st.number_input("Period of the output layer", key="head_period", step=1, help=about("head_period"), **keep)
            st.toggle("Deep optimizer watches while off", key="observe", help=about("observe"), **keep)
        st.caption(
            "Optimizer, periods and rates change while the network trains; everything else waits for a reset. "
            "The address of this page holds all settings: copy it to share them."
        )
        st.caption("Keys: Space plays and pauses, N steps, D toggles the deep optimizer, 1 and 2 teach, Shift+X resets.")


session = start()
follow_preset(session)
speed, tab = state.speed, state.get("live", {}).get("tab")
wanted, waiting, unusable = None, [], []
try:
    wanted = draft()
except SettingError as error:  # the run goes on with what it has
    unusable.append(str(error))
with session.lock:
    run = current(session)
    usable = wanted or (shared.applied[run] if run else START)
    while session.todo:
        session.problems = []
        action = session.todo.pop(0)
        try:
            action(ready(session, usable, speed), usable, speed)
        except NllabError as error:
            session.problems = [str(error)]
    try:
        if session.run is None and tab is not None:
            adopt(session, tab, usable, speed)
        run = ready(session, usable, speed) if session.run else None
        if run and wanted:
            waiting = reconcile(run, wanted)
    except NllabError as error:
        run = current(session)
        unusable.append(str(error))

st.title("Watch a network forget, and not forget", anchor=False)
st.markdown(
    ABOUT.get(state.stream, "A network learns one task after another.")
    + " Press **Play** and watch what becomes of A; then switch on the deep optimizer and play again."
)
controls(session, run)
settings()
for problem in dict.fromkeys([*session.problems, *unusable]):
    st.error(problem, icon=":material/error:")
if run and run.error:
    st.error(run.error, icon=":material/error:")
elif run and run.trainer.diverged:
    st.error(run.run.rows[-1].get("text", "The training diverged. Reset starts it anew."), icon=":material/error:")
if waiting:
    st.info(f"Press **Reset** for the new {', '.join(waiting).replace('_', ' ')}; until then the run goes on as it began.")
if session.was_freed:
    session.was_freed = False
    st.info("Nobody had watched this run for two minutes, so it was freed. This is a new one with the same settings.")

shown = {"playing": bool(run and run.playing), "finished": bool(run and run.finished), "error": run.error if run else None}
live_view(run.id if run else None, shown, on_tab_change=lambda: None, on_stale_change=lambda: None)

if wanted is not None:
    address = write_address(wanted, state.speed)
    if dict(st.query_params) != address:
        st.query_params.from_dict(address)
