"""What the pages with a live training share: the runs that a browser session has there, the settings, the controls,
what a click does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import shared
import streamlit as st
from live_view import live_view
from settings import SPEEDS, START, UNLIMITED, commands, preset_changes, read_address, speed_name, write_address

from nllab import narration
from nllab.errors import NllabError, SettingError
from nllab.events import End
from nllab.experiment import LEARNING_RATES, MODELS, PRESETS, Experiment, read_setting
from nllab.runs import Run

if TYPE_CHECKING:
    from nllab.live import LiveRun

Action = Callable[
    ["Sequence[LiveRun]", Sequence[Experiment], float], None
]  # with the settings and the speed that the page shows
TASK_BUTTONS = 5  # as many tasks as get a button each
ADOPT_SECONDS = 1.0  # how long a reloaded page waits for its old connection to end
RESET_SECONDS = 3.0
MOST_PINS = 4
MOST_LEVELS = 8
START_LEVELS = ("input", "fast", "medium", "slow", "head")  # of the experiment that the page starts with
SETTINGS = (  # with a control of the same name
    "stream", "seed", "epochs", "batch_size", "loss", "model", "input_period", "head_period", "rate", "retention",
    "observe", "frozen", "manager", "front",
)  # fmt: skip
state = st.session_state


def about(setting: str) -> str:
    text = Experiment.model_fields[setting].description or ""
    return text[:1].upper() + text[1:] + "."


@dataclass
class Desk:
    """What this browser session has on one page. A click starts a new script, while the one before it may still be
    waiting for something; and any access to st.session_state may end a script in favour of a newer one. So a click only
    adds to `todo`, whichever script gets the
    lock does it, and this is a plain object: no click is lost half-way, no run is opened twice."""

    name: str
    problems: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)  # title -> id of the run
    was_freed: bool = False
    is_new: bool = True  # nobody has read yet what could not be used of the address
    todo: list[Action] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def of(name: str) -> Desk:
        """This session's desk on the page of this name; the first of all brings the settings of the address."""
        problems = _begin() if "base" not in state else []
        desks = state.setdefault("desks", {})
        if name not in desks:
            desks[name] = Desk(name, problems)
            if st.context.is_embedded and name != "lessons":  # in a slide nobody presses Play
                desks[name].ask(play)
        return desks[name]

    def ask(self, action: Action) -> None:
        self.todo.append(action)

    @property
    def live(self) -> list[LiveRun]:
        """The runs that are open, in the order of their titles."""
        return [run for id in self.runs.values() if (run := shared.runs().get(id))]

    def clear(self) -> None:
        """Give up all runs."""
        with self.lock:
            self.todo.clear()
            self._free(self.runs)

    def ready(self, wanted: Mapping[str, Experiment], speed: float) -> list[LiveRun]:
        """One run for each title; new ones where there is none, and none for a title that is no longer wanted."""
        if len(self.live) < len(self.runs):
            self.was_freed = True
            self._free(self.runs)
        self._free([title for title in self.runs if title not in wanted])
        missing = [title for title in wanted if title not in self.runs]
        for title in missing:
            self.runs[title] = shared.open_run(wanted[title], speed).id
        if missing:
            self.runs = {title: self.runs[title] for title in wanted}
            shared.runs().group(self.live)
        return self.live

    def _free(self, titles: Sequence[str] | Mapping[str, str]) -> None:
        """Let go of these runs: they stand still, and are freed like any that nobody watches. Closed at once, they
        would end the news that the page still listens to."""
        for title in list(titles):
            if run := shared.runs().get(self.runs.pop(title)):
                run.pause()
                if run.ceiling:
                    run.ceiling.pause()

    def attend(self, wanted: Mapping[str, Experiment] | None, speed: float) -> list[str]:
        """Do what was asked for, pick up the runs that this tab remembers, give every run what can change while it
        runs.

        wanted: title -> the settings that the page shows; None while they cannot be used, and the runs go on with what
            they have.
        Returns the settings that wait for a reset.
        """
        tab = state.get(f"view-{self.name}", {}).get("tab")
        waiting: list[str] = []
        with self.lock:
            usable = (
                wanted
                or {title: shared.applied[run] for title, run in zip(self.runs, self.live, strict=False)}
                or {"": START}
            )
            while self.todo:
                self.problems = self.problems if self.is_new else []
                action = self.todo.pop(0)
                self._try(lambda action=action: action(self.ready(usable, speed), list(usable.values()), speed))
            self.is_new = False
            if not self.runs and tab is not None:
                self._try(lambda: self._adopt(tab, usable, speed))
            if self.runs:
                self._try(lambda: waiting.extend(self._reconcile(usable, speed, wanted is not None)))
        return list(dict.fromkeys(waiting))

    def _try(self, something: Callable[[], Any]) -> None:
        try:
            something()
        except NllabError as error:
            self.problems = [str(error)]

    def _adopt(self, tab: str, wanted: Mapping[str, Experiment], speed: float) -> None:
        """The tab has said which runs it remembers: pick them up, unless another tab has them. Otherwise begin new
        ones."""
        remembered = [run for id in tab.split(",") if (run := shared.runs().get(id))]
        end = time.monotonic() + ADOPT_SECONDS
        while any(shared.watchers[run.id] for run in remembered) and time.monotonic() < end:
            time.sleep(0.05)
        if len(remembered) == len(wanted) and not any(shared.watchers[run.id] for run in remembered):
            state.speed = remembered[0].speed or UNLIMITED
            self.runs = {title: run.id for title, run in zip(wanted, remembered, strict=True)}
        else:
            self.ready(wanted, speed)

    def _reconcile(self, wanted: Mapping[str, Experiment], speed: float, changed: bool) -> list[str]:
        runs = self.ready(wanted, speed)
        waiting = (
            [name for run, one in zip(runs, wanted.values(), strict=True) for name in reconcile(run, one)]
            if changed
            else []
        )
        heed_stops(runs)
        raise_ceiling(runs)
        return waiting


def _begin() -> list[str]:
    """Fill the controls with the settings of the address; what could not be used of it."""
    experiment, speed, problems = read_address(st.query_params)
    put(experiment, speed)
    return problems


def put(experiment: Experiment, speed: float) -> None:
    """Fill the controls with these settings."""
    state.base = experiment.but(base_optimizer=experiment.plain)  # settings without a control stay as they are here
    state.speed = speed
    for name in SETTINGS:
        state[name] = getattr(state.base, name)
    state.deep, state.plain = experiment.optimizer == "deep", experiment.plain
    state.periods = ", ".join(map(str, experiment.periods))
    state.order = ", ".join(experiment.order)
    state.learning_rate = "" if experiment.learning_rate is None else str(experiment.learning_rate)


def follow_preset() -> None:
    """Another stream brings the settings of its preset along."""
    if state.stream != state.base.stream:
        changes = preset_changes(state.base.stream, state.stream)
        for name in changes.keys() & set(SETTINGS):
            state[name] = changes[name]
        state.base = state.base.but(stream=state.stream, **changes)


def draft() -> Experiment:
    """The settings as the page shows them. Raises SettingError for what cannot be."""
    return state.base.but(
        **{name: state[name] for name in SETTINGS},
        optimizer="deep" if state.deep else state.plain,
        base_optimizer=state.plain,
        periods=read_setting("periods", state.periods),
        order=read_setting("order", state.order),
        learning_rate=read_setting("learning_rate", state.learning_rate.strip()),
    )


def reconcile(run: LiveRun, wanted: Experiment) -> list[str]:
    """Give the run what of `wanted` can change while it runs; the names of the settings that wait for a reset."""
    has = shared.applied[run]
    if wanted == has:
        return []
    if not run.playing and run.status()["step"] == 0:
        renew([run], [wanted])
        return []
    given, after, waiting = commands(has, wanted, tuple(run.run.levels))
    for name, value in given:
        run.command(name, value)
    shared.applied[run] = after
    return waiting


def heed_stops(runs: Sequence[LiveRun]) -> None:
    """Tell the runs at what to stop by themselves."""
    at, below, above = state.get("stop_at", 0), state.get("stop_below", 0.0), state.get("stop_above", 0.0)
    for run in runs:
        run.stop_when(at=at or None, below=(run.run.tasks[0], below) if below else None, above=above or None)


def raise_ceiling(runs: Sequence[LiveRun], speed: float = UNLIMITED) -> None:
    """Give each run the ceiling of its settings, trained beside it, or take it away."""
    for run in runs:
        wanted = shared.applied[run].but(joint=True, order=(), evaluate_every=100_000) if state.get("ceiling") else None
        if run.ceiling and (wanted is None or shared.applied[run.ceiling] != wanted):
            shared.runs().free(run.ceiling.id)
            run.ceiling = None
        if wanted and run.ceiling is None:
            run.ceiling = shared.open_run(wanted, speed)
            run.ceiling.play()


def add_level() -> None:
    periods = [part.strip() for part in state.periods.split(",")]
    if len(periods) < MOST_LEVELS and periods[-1].isdigit():
        state.periods = ", ".join([*periods, str(min(4 * int(periods[-1]), 100_000))])


def drop_level() -> None:
    periods = state.periods.split(",")
    if len(periods) > 1:
        state.periods = ",".join(periods[:-1])


# -- what a click does
# ------------------------------------------------------------------------------------------------------------


def renew(runs: Sequence[LiveRun], wanted: Sequence[Experiment]) -> None:
    """Begin anew, and wait until all have: what the page shows next is of the new runs."""
    before = [run.generation for run in runs]
    for run, experiment in zip(runs, wanted, strict=True):
        shared.check_size(experiment, instead_of=run)
        run.reset(experiment)
        shared.applied[run] = experiment
    _wait_for_change(runs, before)


def _wait_for_change(runs: Sequence[LiveRun], before: Sequence[int]) -> None:
    end = time.monotonic() + RESET_SECONDS
    while any(run.generation == old for run, old in zip(runs, before, strict=True)) and time.monotonic() < end:
        time.sleep(0.005)


def play(runs: Sequence[LiveRun], wanted: Sequence[Experiment], _: float) -> None:
    if any(run.playing for run in runs):
        for run in runs:
            run.pause()
        return
    if all(run.finished for run in runs):
        renew(runs, wanted)
    for run in runs:
        if not run.finished:
            run.play()


def step(runs: Sequence[LiveRun], *_: Any) -> None:
    for run in runs:
        run.step()


def write(level: str) -> Action:
    """Go on until this level has written."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        for run in runs:
            run.write(level)

    return action


def undo(runs: Sequence[LiveRun], *rest: Any) -> None:
    """Back to the last checkpoint that all runs have behind them."""
    here = min(run.state.step for run in runs)
    common = set.intersection(*(set(run.checkpoints) for run in runs))
    before = [step for step in common if step < here]
    if not before:
        raise SettingError("There is no checkpoint to go back to yet: train a little first.")
    back(max(before))(runs, *rest)


def reset(runs: Sequence[LiveRun], wanted: Sequence[Experiment], _: float) -> None:
    renew(runs, wanted)


def set_speed(runs: Sequence[LiveRun], _: Any, speed: float) -> None:
    for run in runs:
        run.set_speed(speed)


def teach(task: str) -> Action:
    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        for run in runs:
            run.command("teach", task)
            run.play()

    return action


# -- runs kept for comparing
# ------------------------------------------------------------------------------------------------------


def pin() -> Action:
    """Keep the runs as they stand, under names of their own."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        pins = state.setdefault("pins", {})
        taken = [run for run in runs if run.run.steps]
        if not taken:
            raise SettingError("There is nothing to pin yet: train a little first.")
        if (over := len(pins) + len(taken) - MOST_PINS) > 0:
            raise SettingError(
                f"{MOST_PINS} pinned runs are as many as fit. {len(pins)} {'is' if len(pins) == 1 else 'are'} pinned"
                f" and this would add {len(taken)}: take {over} away below on the page Compare."
            )
        for run in taken:
            state.pinned = state.get("pinned", 0) + 1
            kept = run.run
            name = f"{state.pinned}: {narration.kind_of(kept).removeprefix('with ').removeprefix('in ')}"
            pins[name] = kept.upto()

    return action


def pins() -> dict[str, Run]:
    return state.setdefault("pins", {})


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; its first row is the head."""
    head, *lines = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


# -- what the page shows
# ----------------------------------------------------------------------------------------------------------


def names_writer() -> bool:
    """Whether the address of this page says who writes, as that of a single network does."""
    return bool({"optimizer", "frozen", "joint", "method"} & set(st.query_params))


def controls(
    desk: Desk,
    *,
    toggle: bool = False,
    teaching: bool = True,
    locked: str = "",
    networks: Mapping[str, str] | None = None,
) -> None:
    """The row of buttons, and below it, on request, the others. toggle, teaching: whether those for the deep optimizer
    and for the tasks are among them. locked: why nothing can be trained yet. networks: how many may stand side by
    side, by their keys in an address."""
    runs = desk.live
    playing, finished = any(run.playing for run in runs), bool(runs) and all(run.finished for run in runs)
    label, icon = ("Pause", "pause") if playing else ("Play again", "replay") if finished else ("Play", "play_arrow")
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="controls"):
        st.button(
            label, key="play", type="primary", icon=f":material/{icon}:", shortcut="Space", on_click=desk.ask,
            args=(play,), disabled=bool(locked), help=locked or None,
        )  # fmt: skip
        st.button(
            "Step", key="step", icon=":material/skip_next:", shortcut="N", on_click=desk.ask, args=(step,),
            disabled=finished or bool(locked), help="Take a single step, on one batch, then stand still.",
        )  # fmt: skip
        st.selectbox(
            "Speed, steps per second", SPEEDS, key="speed", label_visibility="collapsed", width=118,
            format_func=lambda speed: speed_name(speed) + (" / s" if speed < UNLIMITED else ""), filter_mode=None,
            on_change=desk.ask, args=(set_speed,), persist_state="session",
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
                on_click=lambda: desk.ask(write(state.level)), disabled=finished or bool(locked),
                help="Train until this level has written once more, then "
                "stand still.",
            )  # fmt: skip
            st.selectbox(
                "Level", levels, key="level", label_visibility="collapsed", width=112, filter_mode=None,
                persist_state="session",
            )  # fmt: skip
        st.button(
            "Undo", key="undo", icon=":material/undo:", shortcut="B", on_click=desk.ask, args=(undo,),
            help="Return to the checkpoint before this step; what came after it is undone. Below the figures "
            "stand all.",
        )  # fmt: skip
        st.button(
            "Reset", key="reset", icon=":material/restart_alt:", shortcut="Shift+X", on_click=desk.ask, args=(reset,),
            help="Back to the first step, with the settings as they stand.",
        )  # fmt: skip
        tasks = runs[0].run.tasks if runs else ("A", "B")
        for number, task in enumerate(tasks if teaching and len(tasks) <= TASK_BUTTONS else (), start=1):
            st.button(
                f"Teach {task}", key=f"teach_{task}", shortcut=str(number), on_click=desk.ask,
                args=(teach(task),), help=f"Show task {task} from the next step on, whatever was planned.",
            )  # fmt: skip
        st.button(
            "Pin", key="pin", icon=":material/keep:", shortcut="P", on_click=lambda: desk.ask(pin()),
            help="Keep what has been trained so far, to lay it beside up to three others on the page Compare.",
        )  # fmt: skip


def settings(*, twin: bool) -> None:
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.sidebar, st.container(key="settings"):
        st.subheader("Settings")
        st.selectbox("Stream", list(PRESETS), key="stream", help=about("stream"), **keep)
        st.number_input("Seed", key="seed", step=1, help=about("seed"), **keep)
        st.selectbox(
            "Plain optimizer",
            list(LEARNING_RATES),
            key="plain",
            help="Who writes while the deep optimizer is off.",
            **keep,
        )
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
            "Keys: Space plays and pauses, N steps, W writes, B goes back, D toggles the deep optimizer, 1 and 2 teach,"
            " P pins, Shift+X resets."
        )


def messages(desk: Desk, unusable: Sequence[str], waiting: Sequence[str]) -> None:
    for problem in dict.fromkeys([*desk.problems, *unusable]):
        st.error(shared.as_text(problem), icon=":material/error:")
    for title, run in zip(desk.runs, desk.live, strict=False):
        failed = run.error or run.state.diverged and (ending := run.run.last(End)) and ending.text
        if failed:
            said = shared.as_text(str(failed))
            st.error(f"**{title}.** {said}" if title else said, icon=":material/error:")
    notices = dict.fromkeys(run.notice for run in desk.live if run.notice)
    for notice in notices:
        st.info(shared.as_text(notice), icon=":material/pause_circle:")
    if waiting:
        st.info(
            f"Press **Reset** for the new {', '.join(waiting).replace('_', ' ')}; until then the run goes on as it"
            " began."
        )
    if desk.was_freed:
        desk.was_freed = False
        st.info("Nobody had watched this run for a minute, so it was freed. This is a new one with the same settings.")


def view(desk: Desk, titles: Sequence[str], spotlight: str | None = None) -> None:
    """The live figures of the desk's runs."""
    runs = {title: shared.runs().get(desk.runs.get(title, "")) for title in titles}
    key = f"view-{desk.name}"

    def go_back() -> None:
        if (step := state.get(key, {}).get("back")) is not None:
            desk.ask(back(step))

    heard = {"on_tab_change": lambda: None, "on_stale_change": lambda: None, "on_back_change": go_back}
    note = (
        "These settings cannot be trained: above stands why, and what to change."
        if desk.problems and not all(runs.values())
        else ""
    )
    live_view(desk.name, runs, single=len(titles) == 1, spotlight=spotlight, note=note, **heard)


def back(step: int) -> Action:
    """Return to the checkpoint at this step, where a run has one."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        before = [run.generation for run in runs]
        for run in runs:
            run.rewind(step)
        _wait_for_change(runs, before)

    return action


def remember(wanted: Experiment | None, *, pair: str | None = None, **more: str) -> None:
    """Write the settings into the address. pair: how many networks stand side by side, of which each has its own
    writer; None for one, whose writer the address names."""
    if wanted is None:
        return
    address = write_address(wanted, state.speed) | more
    if pair:
        for key in ("optimizer", "frozen"):
            address.pop(key, None)
        if state.plain != START.optimizer:
            address["base_optimizer"] = state.plain
    if pair and pair != "2":
        address["networks"] = pair
    if not pair and "optimizer" not in address and not more:
        address["networks"] = "1"
    if "present" in st.query_params:
        address["present"] = "1"
    if dict(st.query_params) != address:
        st.query_params.from_dict(address)


def shown() -> tuple[Experiment | None, list[str]]:
    """(the settings that the controls show, why they cannot be used); None in place of settings that cannot."""
    try:
        return draft(), []
    except SettingError as error:
        return None, [str(error)]
