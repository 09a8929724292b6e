"""Live runs on disk: what a crash leaves, what a reset and a rewind make of it, how large it grows."""

import os
import time
from pathlib import Path

import pytest
from waiting import until

from nllab import kept, run_io, run_log, store
from nllab.errors import RunFormatError
from nllab.experiment import Experiment
from nllab.kept import Keeper
from nllab.live import LiveRun

APP = Path(__file__).parents[1] / "app"
SMALL = Experiment.preset("digits-ab", dim=12, hidden=12, batch_size=80, evaluate_every=5)


def trained(run, steps):
    """Train up to this step."""
    run.step(steps - run.state.step)
    until(lambda: run.state.step == steps and not run._single)


@pytest.fixture
def live():
    run = LiveRun(SMALL)
    yield run
    run.close()


def test_what_a_crash_leaves_is_the_run_as_far_as_it_was_written(live, tmp_path):
    keeper = Keeper(tmp_path)
    keeper.look([live])
    assert not list(tmp_path.iterdir())  # nothing has been trained
    trained(live, 3)
    keeper.look([live])
    trained(live, 4)
    keeper.look([live])
    assert keeper.offered() == []  # it goes on
    # the process is killed: nothing is closed, and another server comes
    (found,) = Keeper(tmp_path).offered()
    assert (found.id, found.steps, found.experiment) == (live.id, 4, SMALL)
    run = run_io.load_run(found.path)
    assert run.interrupted and run.log == live.run.log
    assert Keeper(tmp_path).offered([live.id]) and not Keeper(tmp_path).offered(["another"])


def test_a_run_that_is_freed_is_closed_and_a_reset_begins_another(live, tmp_path):
    keeper = Keeper(tmp_path)
    trained(live, 2)
    keeper.look([live])
    first = live.run
    live.reset()
    until(lambda: live.run is not first)
    keeper.look([live])
    trained(live, 1)
    keeper.look([live])
    keeper.look([])
    later, earlier = keeper.offered()
    assert (later.steps, earlier.steps) == (1, 2)
    assert run_io.load_run(earlier.path).log == first.log and not run_io.load_run(later.path).interrupted
    with store.locked(later.path):
        pass  # nobody holds it


def test_what_a_rewind_undoes_is_not_kept(live, tmp_path):
    keeper = Keeper(tmp_path)
    trained(live, live._spacing + 3)
    keeper.look([live])
    before = live.generation
    live.rewind(live._spacing)
    until(lambda: live.generation > before)
    keeper.look([live])
    keeper.close()
    (found,) = keeper.offered()
    assert found.steps == live._spacing and run_io.load_run(found.path).log == live.run.log


def test_the_oldest_go_where_there_are_too_many_or_too_large_and_those_being_written_stay(tmp_path):
    keeper, lives = Keeper(tmp_path, most_runs=2), []
    for _ in range(3):
        lives.append(LiveRun(SMALL))
        trained(lives[-1], 1)
        keeper.look(lives)
        time.sleep(0.01)
    other = Keeper(tmp_path, most_runs=1)
    other.tidy()
    assert len(other.offered()) == 3  # all of them are being written
    keeper.look(lives[:1])
    for hour, run in enumerate(lives):  # a file system's clock may not tell them apart
        (folder,) = tmp_path.glob(f"run-{run.id}.*")
        os.utime(folder / store.LOG, (1e9 + 3600 * hour,) * 2)
    keeper.tidy()
    assert [one.id for one in Keeper(tmp_path).offered()] == [lives[2].id, lives[0].id]
    keeper.most_bytes = 1
    keeper.tidy()
    assert [one.id for one in Keeper(tmp_path).offered()] == [lives[0].id]
    for run in lives:
        run.close()
    keeper.close()


def test_a_disk_that_fails_reaches_no_training_and_what_was_missed_is_written_later(live, tmp_path, monkeypatch):
    keeper = Keeper(tmp_path)
    trained(live, 1)
    keeper.look([live])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as at_fault:
        at_fault.setattr(store.os, "write", full)
        trained(live, 2)
        keeper.look([live])
        assert "no room" in keeper.problem
    keeper.look([live])
    trained(live, 3)
    keeper.look([live])
    assert keeper.problem is None
    assert run_io.load_run(next(tmp_path.glob("run-*"))).log == live.run.log


def test_damaged_folders_are_not_offered_and_are_a_sentence(live, tmp_path):
    keeper = Keeper(tmp_path)
    trained(live, 2)
    keeper.look([live])
    keeper.close()
    (found,) = keeper.offered()
    log = found.path / run_log.LOG
    log.write_bytes(log.read_bytes().replace(b'"loss":', b'"lass":', 1))
    with pytest.raises(RunFormatError, match="changed"):
        run_io.load_run(found.path)
    log.write_bytes(b"\xff" * 1000)
    assert keeper.offered() == []


def test_the_thread_writes_by_itself(live, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "EVERY", 0.01)
    keeper = Keeper(tmp_path)
    keeper.watch(lambda: [live])
    trained(live, 2)
    until(lambda: any(b'"step":2' in (path / run_log.LOG).read_bytes() for path in tmp_path.glob("run-*")))
    keeper.close()


def test_the_page_offers_what_was_kept_and_plays_it(live, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(APP))
    monkeypatch.setenv("NLLAB_RUNS", str(tmp_path))
    monkeypatch.setattr("nllab.trainer.train", lambda *_: live.run)  # in place of the sample
    import shared
    from streamlit.testing.v1 import AppTest

    trained(live, 3)
    before = Keeper(tmp_path)
    before.look([live])
    shared._keeper.cache_clear()
    try:
        page = AppTest.from_file(str(APP / "page_replay.py"), default_timeout=60).run()
        assert not page.multiselect  # a server of several people: nobody is shown what others trained
        monkeypatch.setattr(shared, "ALONE", True)
        page.run()
        (offer,) = page.multiselect
        assert offer.options[0].startswith("digits-ab, the deep optimizer, seed 0, 3 steps, ")
        offer.select(offer.options[0]).run()
        assert not page.exception and not page.error
        assert "Train it again, live" in [button.label for button in page.button]
        assert page.session_state["replayed"][offer.options[0]].log == live.run.log
        log = next(tmp_path.glob("run-*")) / run_log.LOG
        log.write_bytes(b'"lass":'.join(log.read_bytes().rsplit(b'"loss":', 1)))
        offer.set_value([]).run()
        (offer,) = page.multiselect
        offer.select(offer.options[0]).run()
        assert "changed" in page.error[0].value and str(tmp_path) not in page.error[0].value
    finally:
        shared._keeper.cache_clear()


def test_a_run_on_somebodys_own_files_leaves_no_copy(tmp_path):
    for name, offset in (("a", 0), ("b", 3)):
        rows = [f"{i % 7 + offset};{i * 37 % 11};{'up' if i % 3 else 'down'}" for i in range(60)]
        (tmp_path / f"{name}.csv").write_text("x;y;label\n" + "\n".join(rows))
    run = LiveRun(SMALL.but(stream=f"own:{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}", batch_size=10))
    try:
        trained(run, 3)
        keeper = Keeper(tmp_path / "kept")
        keeper.look([run])
        assert not list((tmp_path / "kept").glob("run-*")) and keeper.problem is None
    finally:
        run.close()
