"""The live page: one training, its controls, its figures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

import shared
import streamlit as st
from live_view import live_view
from settings import SPEEDS, commands, read_address, speed_name, write_address

from nllab.errors import NllabError, SettingError
from nllab.experiment import LEARNING_RATES, PRESETS, Experiment, read_setting

if TYPE_CHECKING:
    from nllab.live import LiveRun

TASK_BUTTONS = 5  # as many tasks as get a button each
ADOPT_SECONDS = 1.0  # how long a reloaded page waits for its old connection to end
RESET_SECONDS = 3.0
ABOUT = {
    "digits-ab": "A network learns the handwritten digits 0–4 (**task A**), then 5–9 (**task B**).",
    "digits-5x2": "A network learns handwritten digits two at a time, five tasks in a row.",
    "permuted-digits": "A network learns ten handwritten digits (**task A**), then the same with their pixels shuffled (**task B**).",
}
SETTINGS = (
    "stream",
    "seed",
    "passes",
    "batch_size",
    "loss",
    "model",
    "input_period",
    "head_period",
    "rate",
    "retention",
    "observe",
    "frozen",
)
state = st.session_state


def about(setting: str) -> str:
    text = Experiment.model_fields[setting].description or ""
    return text[:1].upper() + text[1:] + "."


def start() -> None:
    """What a new browser session begins with: the settings of its address."""
    if "base" in state:
        return
    experiment, speed, state.problems = read_address(st.query_params)
    experiment = experiment.but(off_optimizer=experiment.plain)
    state.base, state.speed = experiment, speed
    for name in SETTINGS:
        state[name] = getattr(experiment, name)
    state.deep, state.plain = experiment.optimizer == "deep", experiment.plain
    state.periods = ", ".join(map(str, experiment.periods))
    state.learning_rate = "" if experiment.learning_rate is None else f"{experiment.learning_rate:g}"


def draft() -> Experiment:
    """The settings as the page shows them. Raises SettingError for what cannot be."""
    return state.base.but(
        **{name: state[name] for name in SETTINGS},
        optimizer="deep" if state.deep else state.plain,
        off_optimizer=state.plain,
        periods=read_setting("periods", state.periods),
        learning_rate=read_setting("learning_rate", state.learning_rate.strip()),
    )


def current() -> LiveRun | None:
    return shared.runs().get(state.run) if "run" in state else None


def take(run: LiveRun) -> LiveRun:
    state.run = run.id
    return run


def ready() -> LiveRun:
    """The session's run; a new one if it has none."""
    run = current()
    if run is None:
        state.was_freed = "run" in state
        run = take(shared.open_run(draft(), state.speed))
    return run


def attempt(action) -> None:
    """Do what a control asks for; what cannot be done is said on the page, and the run goes on."""
    state.problems = []
    try:
        action(ready())
    except NllabError as error:
        state.problems = [str(error)]


def renew(run: LiveRun, experiment: Experiment) -> None:
    """Begin anew, and wait until it has: what the page shows next is of the new run."""
    before = run.generation
    run.reset(experiment)
    shared.applied[run] = experiment
    end = time.monotonic() + RESET_SECONDS
    while run.generation == before and time.monotonic() < end:
        time.sleep(0.005)


def play(run: LiveRun) -> None:
    if run.playing:
        run.pause()
        return
    if run.finished:
        renew(run, draft())
    run.play()


def teach(run: LiveRun, task: str) -> None:
    run.command("teach", task)
    run.play()


def adopt() -> None:
    """The tab has said which run it remembers: pick it up, unless another tab has it. Otherwise begin one."""
    if current():
        return
    remembered = shared.runs().get(state.live.tab)
    end = time.monotonic() + ADOPT_SECONDS
    while remembered and shared.watchers[remembered.id] and time.monotonic() < end:
        time.sleep(0.05)
    if remembered and not shared.watchers[remembered.id]:
        state.speed = remembered.speed
        take(remembered)
    else:
        problems = state.problems
        attempt(lambda run: None)
        state.problems = problems + state.problems


def reconcile(run: LiveRun, wanted: Experiment) -> list[str]:
    """Give the run what can change while it runs; the names of the settings that wait for a reset."""
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


def controls(run: LiveRun | None) -> None:
    playing, finished = bool(run and run.playing), bool(run and run.finished)
    label, icon = ("Pause", "pause") if playing else ("Play again", "replay") if finished else ("Play", "play_arrow")
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="controls"):
        st.button(
            label, key="play", type="primary", icon=f":material/{icon}:", shortcut="Space", on_click=attempt, args=(play,),
            help="Train, or stand still. When the plan is over: start over with the settings as they stand.",
        )  # fmt: skip
        st.button(
            "Step", key="step", icon=":material/skip_next:", shortcut="N", on_click=attempt, args=(lambda run: run.step(),),
            disabled=finished, help="Take a single step, on one batch, then stand still.",
        )  # fmt: skip
        st.button(
            "Reset", key="reset", icon=":material/restart_alt:", shortcut="Shift+X", on_click=attempt,
            args=(lambda run: renew(run, draft()),), help="Back to the first step, with the settings as they stand.",
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
                f"Teach {task}", key=f"teach_{task}", shortcut=str(number), on_click=attempt,
                args=(lambda run, task=task: teach(run, task),), help=f"Show task {task} from the next step on, whatever was planned.",
            )  # fmt: skip
        st.selectbox(
            "Speed, steps per second", SPEEDS, key="speed", label_visibility="collapsed", width=118,
            format_func=lambda speed: speed_name(speed) + (" / s" if speed else ""), filter_mode=None,
            on_change=attempt, args=(lambda run: run.set_speed(state.speed),), persist_state="session",
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


start()
problems, waiting, wanted = list(state.problems), [], None
run = current()
try:
    if run is None and "run" in state:
        run = ready()
    wanted = draft()
    if run:
        waiting = reconcile(run, wanted)
except SettingError as error:
    problems.append(str(error))

st.title("Watch a network forget, and not forget", anchor=False)
st.markdown(
    ABOUT.get(state.stream, "A network learns one task after another.")
    + " Press **Play** and watch what becomes of A; then switch on the deep optimizer and play again."
)
controls(run)
settings()
for problem in problems:
    st.error(problem, icon=":material/error:")
if run and run.error:
    st.error(run.error, icon=":material/error:")
elif run and run.trainer.diverged:
    st.error(run.run.rows[-1].get("text", "The training diverged. Reset starts it anew."), icon=":material/error:")
if waiting:
    st.info(f"Press **Reset** for the new {', '.join(waiting).replace('_', ' ')}; until then the run goes on as it began.")
if state.pop("was_freed", False):
    st.info("Nobody had watched this run for two minutes, so it was freed. This is a new one with the same settings.")

shown = {"playing": bool(run and run.playing), "finished": bool(run and run.finished), "error": run.error if run else None}
live_view(run.id if run else None, shown, on_tab_change=adopt, on_stale_change=lambda: None)

if wanted is not None:
    address = write_address(wanted, state.speed)
    if dict(st.query_params) != address:
        st.query_params.from_dict(address)
