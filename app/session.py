"""The runs that a browser session has on one page, and what keeps them as the page shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import actions
import shared
import streamlit as st
from actions import Action
from form import read_settings
from settings import START, UNLIMITED

from nllab.errors import NllabError
from nllab.experiment import Experiment

if TYPE_CHECKING:
    from nllab.live import LiveRun

REATTACH_SECONDS = 1.0  # how long a reloaded page waits for its old connection to end
state = st.session_state


@dataclass
class Session:
    """What this browser session has on one page.

    A click starts a new script, while the one before it may still be waiting for something; and any access to
    st.session_state may end a script in favour of a newer one. So a click only adds to `todo`, whichever script gets
    the lock does it, and this is a plain object: no click is lost half-way, no run is opened twice.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)  # title -> id of the run
    was_freed: bool = False
    lost: list[str] = field(default_factory=list)  # the runs that the tab remembers and this server does not have
    is_new: bool = True  # nobody has read yet what could not be used of the address
    todo: list[Action] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def of(name: str) -> Session:
        """What this browser session has on the page of this name; the first of all brings the address's settings."""
        problems = read_settings() if "base" not in state else []
        sessions = state.setdefault("sessions", {})
        if name not in sessions:
            sessions[name] = Session(name, problems)
            if st.context.is_embedded and name != "lessons":  # in a slide nobody presses Play
                sessions[name].ask(actions.play)
        return sessions[name]

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
            if any(run.playing for run in self.live):  # whoever comes to a training trains as well
                for title in missing:
                    if run := shared.runs().get(self.runs[title]):
                        run.play()
        return self.live

    def _free(self, titles: Sequence[str] | Mapping[str, str]) -> None:
        """Let go of these runs: they stand still, and are freed like any that nobody watches. Closed at once, they
        would end the news that the page still listens to."""
        for title in list(titles):
            if run := shared.runs().get(self.runs.pop(title)):
                run.pause()
                if run.ceiling:
                    run.ceiling.pause()

    def sync(self, wanted: Mapping[str, Experiment] | None, speed: float) -> list[str]:
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
                self._try(lambda: self._reattach(tab, usable, speed))
            if self.runs:
                self._try(lambda: waiting.extend(self._reconcile(usable, speed, wanted is not None)))
        return list(dict.fromkeys(waiting))

    def _try(self, something: Callable[[], Any]) -> None:
        try:
            something()
        except NllabError as error:
            self.problems = [str(error)]

    def _reattach(self, tab: str, wanted: Mapping[str, Experiment], speed: float) -> None:
        """The tab has said which runs it remembers: pick them up, unless another tab has them. Otherwise begin new
        ones."""
        ids = [id for id in tab.split(",") if id]
        remembered = [run for id in ids if (run := shared.runs().get(id))]
        self.lost = ids if not remembered else []
        end = time.monotonic() + REATTACH_SECONDS
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
            [name for run, one in zip(runs, wanted.values(), strict=True) for name in actions.reconcile(run, one)]
            if changed
            else []
        )
        actions.apply_stop_conditions(runs)
        actions.sync_joint_baseline(runs)
        return waiting
