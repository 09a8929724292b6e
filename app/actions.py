"""What a click does to the runs of a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import shared
import streamlit as st
from settings import UNLIMITED, commands

from nllab import narration
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.runs import Run

if TYPE_CHECKING:
    from nllab.live import LiveRun

Action = Callable[
    ["Sequence[LiveRun]", Sequence[Experiment], float], None
]  # with the settings and the speed that the page shows
RESET_SECONDS = 3.0
MOST_PINS = 4
state = st.session_state


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


def apply_stop_conditions(runs: Sequence[LiveRun]) -> None:
    """Tell the runs at what to stop by themselves."""
    at, below, above = state.get("stop_at", 0), state.get("stop_below", 0.0), state.get("stop_above", 0.0)
    for run in runs:
        run.stop_when(at=at or None, below=(run.run.tasks[0], below) if below else None, above=above or None)


def sync_joint_baseline(runs: Sequence[LiveRun], speed: float = UNLIMITED) -> None:
    """Give each run the ceiling of its settings, trained beside it, or take it away."""
    for run in runs:
        wanted = shared.applied[run].but(joint=True, order=(), evaluate_every=100_000) if state.get("ceiling") else None
        if run.ceiling and (wanted is None or shared.applied[run.ceiling] != wanted):
            shared.runs().free(run.ceiling.id)
            run.ceiling = None
        if wanted and run.ceiling is None:
            run.ceiling = shared.open_run(wanted, speed)
            run.ceiling.play()


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


def catch_up(runs: Sequence[LiveRun], *_: Any) -> None:
    """Start the run that was put beside others, if they have begun; otherwise all wait for Play."""
    if any(run.playing or run.run.steps for run in runs[:-1]):
        runs[-1].play()


def step(runs: Sequence[LiveRun], *_: Any) -> None:
    for run in runs:
        run.step()


def write(level: str) -> Action:
    """Go on until this level has written."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        for run in runs:
            run.write(level)

    return action


def open_write(level: str) -> Action:
    """Go on until this level has written, and take that write apart."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        if any(run.finished for run in runs):
            raise SettingError(
                "The plan is over, and no write is left to open. Go back to a checkpoint, or press Reset."
            )
        here = max(run.state.step for run in runs)
        for run in runs:  # the same write of all, on the same samples
            run.open_write(level, after=here)
        end = time.monotonic() + RESET_SECONDS
        while any(run.opened is None and not run.error for run in runs) and time.monotonic() < end:
            time.sleep(0.005)

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


def back(step: int) -> Action:
    """Return to the checkpoint at this step, where a run has one."""

    def action(runs: Sequence[LiveRun], *_: Any) -> None:
        before = [run.generation for run in runs]
        for run in runs:
            run.rewind(step)
        _wait_for_change(runs, before)

    return action


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
            state.setdefault("just_pinned", []).append(name)

    return action


def pins() -> dict[str, Run]:
    return state.setdefault("pins", {})
