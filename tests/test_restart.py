"""The server is killed while thirty sessions train: its successor offers all thirty runs. Run with -m slow."""

import os
import signal
import time
from contextlib import ExitStack

import pytest
from test_closed_sessions import process_at
from test_load import Session, until

from nllab import run_io, store
from nllab.bench.live import fetch, serving, stat
from nllab.kept import Keeper

pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.slow
SESSIONS = int(os.environ.get("NLLAB_SESSIONS_KILLED", "30"))


def test_a_killed_server_loses_no_run(tmp_path):
    with ExitStack() as stack:
        address = stack.enter_context(serving(NLLAB_RUNS=str(tmp_path), NLLAB_TRAININGS="30"))
        until(lambda: fetch(f"{address}/stat"))
        sessions = [Session(address, stack) for _ in range(SESSIONS)]
        for session in sessions:
            session.rerun()
            session.rerun("play")
            session.watch()
        ids = {id for session in sessions for id in session.runs}
        assert len(ids) == 2 * SESSIONS  # two networks on every page
        until(lambda: all(run["step"] > 5 for run in stat(address)["runs"].values()))
        seen, begun = {id: run["step"] for id, run in stat(address)["runs"].items()}, time.monotonic()
        kept = Keeper(tmp_path)  # which looks and writes nothing
        until(
            lambda: (
                (found := {one.id: one.steps for one in kept.offered()}).keys() == ids
                and all(found[id] >= seen[id] for id in ids)
            )
        )
        print(f"\nwhat {len(ids)} runs had done was on disk {time.monotonic() - begun:.1f} s later", end="; ")
        seen = {id: run["step"] for id, run in stat(address)["runs"].items()}
        os.kill(process_at(address).pid, signal.SIGKILL)
        for session in sessions:
            session.closing.set()
    offered = {one.id: one for one in Keeper(tmp_path).offered()}
    assert offered.keys() == ids
    lost = {}
    for id, one in offered.items():
        run = run_io.load_run(one.path)
        assert run.interrupted and run.steps == one.steps
        lost[id] = seen[id] - run.steps
        assert store.unfinished(one.path) == ""
    print(f"killed: {max(lost.values())} steps lost at most, {sum(lost.values()) / len(lost):.1f} on average")
    with ExitStack() as stack:
        address = stack.enter_context(serving(NLLAB_RUNS=str(tmp_path)))
        until(lambda: fetch(f"{address}/stat"))
        page = Session(address, stack)
        page.rerun(page="replay")
        assert len(page.offers) == 2 * SESSIONS
        page.rerun(page="replay", choose=page.offers[:2])
        assert not page.errors and page.played
