import threading
import time

import pytest

from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.live import LiveRun, LiveRuns
from nllab.trainer import replay, train


def small(**changes):
    return Experiment.preset("digits-ab", **{"dim": 32, "hidden": 32, "batch_size": 40, **changes})


def wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def live():
    opened = []

    def open_run(experiment=None, **settings):
        opened.append(LiveRun(experiment or small(), **settings))
        return opened[-1]

    yield open_run
    for run in opened:
        run.close()


def test_live_and_headless_give_the_same_rows(live):
    run = live()
    run.play()
    wait(lambda: run.finished and not run.playing)
    assert run.run.rows == train(small()).rows


def test_steered_live_and_replayed_give_the_same_rows(live):
    run = live(speed=100)
    run.play()
    wait(lambda: run.trainer.steps > 3)
    run.command("optimizer", "adam")
    wait(lambda: run.trainer.steps > 8)
    run.command("teach", "B")
    run.command("period", ["slow", 3])
    wait(lambda: run.finished and not run.playing)
    assert {name for _, name, _ in run.run.commands} == {"optimizer", "teach", "period"}
    assert replay(run.run).rows == run.run.rows


def test_pause_freezes_and_step_takes_exactly_as_many(live):
    run = live()
    run.step(3)
    wait(lambda: run.trainer.steps == 3)
    time.sleep(0.1)
    assert run.trainer.steps == 3 and not run.playing
    run.play()
    wait(lambda: run.trainer.steps > 5)
    run.pause()
    time.sleep(0.05)  # the step under way may end
    frozen = run.trainer.steps
    time.sleep(0.2)
    assert run.trainer.steps == frozen


def test_watchers_get_each_row_once_and_latecomers_what_is_kept(live):
    run = live()
    cursor, seen = 0, []
    run.play()
    while not (run.finished and not run.playing):
        cursor, rows = run.since(cursor)
        seen += rows
    seen += run.since(cursor)[1]
    assert seen == run.run.rows == run.since(0)[1]
    assert run.since(run.since(0)[0])[1] == []


def test_reset_starts_anew_and_a_setting_that_cannot_be_built_leaves_the_run_alone(live):
    run = live()
    run.step(4)
    wait(lambda: run.trainer.steps == 4)
    with pytest.raises(SettingError, match="Unknown stream"):
        run.reset(small().model_copy(update={"stream": "gone"}))  # a copy skips validation
    assert run.trainer.steps == 4
    before = run.generation
    run.reset(small(seed=5))
    wait(lambda: run.generation == before + 1)
    assert run.experiment.seed == 5 and run.trainer.steps == 0 and run.since(99, before)[1] == []
    run.play()
    wait(lambda: run.finished and not run.playing)
    assert run.run.rows == train(small(seed=5)).rows


def test_a_failure_is_told_and_the_run_can_be_reset(live, monkeypatch):
    run = live()
    monkeypatch.setattr(run.trainer, "step", lambda: 1 / 0)
    run.play()
    wait(lambda: run.error is not None)
    assert "ZeroDivisionError" in run.error and "Reset" in run.error and not run.playing
    run.reset()
    wait(lambda: run.error is None)
    run.step()
    wait(lambda: run.trainer.steps == 1)


def test_a_diverged_run_keeps_its_rows(live):
    run = live(small(optimizer="sgd", learning_rate=1e5))
    run.play()
    wait(lambda: run.finished and not run.playing)
    assert run.run.rows[-1]["reason"] == "diverged" and run.run.steps > 0


def test_a_closed_run_leaves_no_thread():
    before = threading.active_count()
    runs = [LiveRun(small()) for _ in range(8)]
    for run in runs:
        run.play()
    for run in runs:
        run.close()
    wait(lambda: threading.active_count() == before)


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_an_impossible_speed_is_named(live, speed):
    with pytest.raises(SettingError, match="speed is"):
        live().set_speed(speed)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_run_nobody_watches_is_paused_then_freed_and_picked_up_in_between():
    clock = Clock()
    runs = LiveRuns(pause_after=3, free_after=120, clock=clock)
    run = runs.open(small(passes=100), speed=50)
    try:
        run.play()
        clock.now = 2.9
        runs.reap()
        assert run.playing
        clock.now = 3.1
        runs.reap()
        assert not run.playing and runs.get(run.id) is run
        runs.seen(run.id)
        assert run.playing
        clock.now += 121
        runs.reap()
        assert run.closed and runs.get(run.id) is None and not runs.status()
    finally:
        run.close()


def test_a_run_that_a_person_paused_stays_paused_when_they_return():
    clock = Clock()
    runs = LiveRuns(clock=clock)
    run = runs.open(small())
    try:
        clock.now = 60
        runs.reap()
        runs.seen(run.id)
        assert not run.playing
    finally:
        run.close()


def test_the_limit_of_a_server_is_told():
    runs = LiveRuns(limit=1)
    run = runs.open(small())
    try:
        with pytest.raises(SettingError, match="1 runs are open"):
            runs.open(small())
    finally:
        run.close()
