import threading
import time
import weakref

import pytest
from waiting import PATIENCE, until

from nllab.errors import SettingError
from nllab.events import Step
from nllab.experiment import Experiment
from nllab.live import LiveRun
from nllab.pool import LiveRuns
from nllab.trainer import replay, train
from nllab.turns import Turns


def small(**changes):
    return Experiment.preset("digits-ab", **{"dim": 32, "hidden": 32, "batch_size": 40, **changes})


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
    run = live(small(batch_size=100))
    run.play()
    until(lambda: run.finished and not run.playing)
    assert run.run.log == train(run.experiment).log


def test_steered_live_and_replayed_give_the_same_rows(live):
    run = live(speed=100)
    run.play()
    until(lambda: run.state.step > 3)
    run.command("optimizer", "adam")
    until(lambda: run.state.step > 8)
    run.command("teach", "B")
    run.command("period", ["slow", 3])
    until(lambda: run.finished and not run.playing)
    assert {name for _, name, _ in run.run.commands} == {"optimizer", "teach", "period"}
    assert replay(run.run).log == run.run.log


def test_a_step_asked_for_while_one_is_under_way_is_not_lost(live, monkeypatch):
    run = live()
    under_way, go_on, begin = threading.Event(), threading.Event(), run._trainer.step

    def step():
        under_way.set()
        assert go_on.wait(10)
        return begin()

    monkeypatch.setattr(run._trainer, "step", step)
    run.play()
    assert under_way.wait(10)
    run.step()
    go_on.set()
    until(lambda: not run._wanting)
    assert run.state.step == 2


def test_pause_freezes_and_step_takes_exactly_as_many(live):
    run = live()
    run.step(3)
    until(lambda: run.state.step == 3)
    time.sleep(0.1)
    assert run.state.step == 3 and not run.playing
    run.play()
    until(lambda: run.state.step > 5)
    run.pause()
    time.sleep(0.5)  # the step under way may end
    frozen = run.state.step
    time.sleep(0.2)
    assert run.state.step == frozen


def test_watchers_get_each_row_once_and_latecomers_what_is_kept(live):
    run = live(small(batch_size=100))
    cursor, seen = 0, []
    run.play()
    while not (run.finished and not run.playing):
        cursor, rows = run.since(cursor)
        seen += rows
        time.sleep(1e-4)
    seen += run.since(cursor)[1]
    assert seen == run.run.log == run.since(0)[1]
    assert run.since(run.since(0)[0])[1] == []


def test_reset_starts_anew_and_a_setting_that_cannot_be_built_leaves_the_run_alone(live):
    run = live()
    run.step(4)
    until(lambda: run.state.step == 4)
    with pytest.raises(SettingError, match="Unknown stream"):
        run.reset(small().model_copy(update={"stream": "gone"}))  # a copy skips validation
    assert run.state.step == 4
    before = run.generation
    run.reset(small(seed=5, batch_size=100))
    until(lambda: run.generation == before + 1)
    assert run.experiment.seed == 5 and run.state.step == 0 and run.since(99, before)[1] == []
    run.play()
    until(lambda: run.finished and not run.playing)
    assert run.run.log == train(run.experiment).log


def test_a_failure_is_told_and_the_run_can_be_reset(live, monkeypatch):
    run = live()
    monkeypatch.setattr(run._trainer, "step", lambda: 1 / 0)
    run.play()
    until(lambda: run.error is not None)
    assert "ZeroDivisionError" in run.error and "Reset" in run.error and not run.playing
    run.reset()
    until(lambda: run.error is None)
    run.step()
    until(lambda: run.state.step == 1)


def test_a_diverged_run_keeps_its_rows(live):
    run = live(small(optimizer="sgd", learning_rate=1e5))
    run.play()
    until(lambda: run.finished and not run.playing)
    assert run.run.log[-1].reason == "diverged" and run.run.steps > 0


def test_a_closed_run_leaves_no_thread():
    before = threading.active_count()
    runs = [LiveRun(small()) for _ in range(8)]
    for run in runs:
        run.play()
    for run in runs:
        run.close()
    until(lambda: threading.active_count() == before)


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_an_impossible_speed_is_named(live, speed):
    with pytest.raises(SettingError, match="None is unlimited"):
        live().set_speed(speed)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_run_nobody_watches_is_paused_then_freed_and_picked_up_in_between():
    clock = Clock()
    runs = LiveRuns(pause_after=3, free_after=120, clock=clock)
    run = runs.open(small(epochs=100), speed=50)
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
    runs = LiveRuns(limit=1, pause_after=PATIENCE)
    run = runs.open(small())
    try:
        with pytest.raises(SettingError, match="1 runs are open"):
            runs.open(small())
    finally:
        run.close()


# -- one write, stops, going back
# -------------------------------------------------------------------------------------------------


def test_one_write_of_a_level_ends_with_that_write(live):
    run = live()
    run.write("slow")
    until(lambda: run.run.update_counts["slow"] == 1 and not run._wanting)
    assert run.state.step == 16 and run.run.log[-1].levels["slow"].wrote
    run.write("medium")
    until(lambda: run.state.step == 20 and not run._wanting)
    with pytest.raises(SettingError, match="Unknown level 'slwo'. Did you mean 'slow'"):
        run.write("slwo")


@pytest.mark.parametrize("steer", [lambda run: None, lambda run: run.command("optimizer", "adam")])
def test_going_back_to_a_checkpoint_undoes_what_came_after_and_the_rest_replays_exactly(live, steer):
    run = live()
    run.play()
    until(lambda: run.finished and not run.playing)
    whole = list(run.run.log)
    back = sorted(run.checkpoints)[3]
    run.rewind(back)
    until(lambda: run.generation == 1)
    assert run.run.steps == back and not run.playing and not run.finished
    assert run.run.log == whole[: len(run.run.log)] and max(run.checkpoints) == back
    steer(run)
    run.play()
    until(lambda: run.finished and not run.playing)
    assert (run.run.log == whole) == (not run.run.commands)
    assert replay(run.run).log == run.run.log


def test_a_step_without_a_checkpoint_is_named(live):
    with pytest.raises(SettingError, match="no checkpoint at step 3.*none yet"):
        live().rewind(3)


def test_a_command_can_be_undone(live):
    run = live()
    run.step(3)
    until(lambda: run.state.step == 3)
    run.command("optimizer", "adam")
    run.step()
    until(lambda: run.state.step == 4 and not run._wanting)
    run.rewind(3)
    until(lambda: run.generation == 1)
    run.step()
    until(lambda: run.state.step == 4)
    assert run.run.commands == [] and run.run.log == train(small(), steps=4).log


def test_checkpoints_stay_few(live):
    run = live(small(epochs=4, optimizer="adam", observe=False))
    for _ in range(60):
        run.command("rate", 1.0)
        before = run.state.step
        run.step()
        until(lambda before=before: run.state.step == before + 1)
    assert len(run.checkpoints) <= 12 and 0 in run.checkpoints


def test_a_run_stops_by_itself_where_it_was_asked_to(live):
    run = live(small(optimizer="adam", observe=False, evaluate_every=1))
    run.stop_when(at=5)
    run.play()
    until(lambda: run.notice and not run.playing)
    assert run.state.step == 5 and "step 5" in run.notice
    run.stop_when(below=("A", 0.5))
    run.play()
    until(lambda: run.notice and not run.playing)
    told = [row.accuracy["A"] for row in run.run.of(Step)]
    assert told[-1] < 0.5 <= told[-2] and run.run.of(Step)[-1].task == "B"
    run.stop_when(above=0.5)
    run.reset()
    until(lambda: run.state.step == 0)
    for task in ("A", "B"):  # each once it is learned, and no more
        run.play()
        until(lambda: run.notice and not run.playing)
        row = run.run.of(Step)[-1]
        assert row.task == task and row.accuracy[task] >= 0.5 and f"{task} reached 0.5" in run.notice
    run.stop_when()
    run.play()  # goes on past it
    until(lambda: run.finished and not run.playing)


@pytest.mark.parametrize(
    "wrong", [{"at": 0}, {"at": 1.5}, {"below": ("C", 0.5)}, {"below": ("A", 2.0)}, {"above": 1.5}]
)
def test_an_impossible_stop_is_named(live, wrong):
    with pytest.raises(SettingError):
        live().stop_when(**wrong)


# -- side by side, and in line
# ----------------------------------------------------------------------------------------------------


def test_runs_beside_each_other_keep_step_and_change_nothing():
    runs = LiveRuns(pause_after=PATIENCE)  # nobody watches, however slow the machine is
    pair = [runs.open(small(optimizer=name, batch_size=100)) for name in ("adam", "deep")]
    try:
        runs.group(pair)
        for run in pair:
            run.play()
        apart, end = 0, time.monotonic() + PATIENCE
        while not all(run.finished and not run.playing for run in pair):
            assert time.monotonic() < end
            apart = max(apart, abs(pair[0].state.step - pair[1].state.step))
            time.sleep(1e-4)  # a loop without a pause would hold back the very threads it waits for
        assert 0 < apart <= 4
        assert [run.run.log for run in pair] == [train(run.experiment).log for run in pair]
    finally:
        for run in pair:
            run.close()


def test_only_so_many_train_and_the_rest_wait_in_line():
    runs = LiveRuns(training=2, pause_after=PATIENCE)
    opened = [runs.open(small(epochs=50)) for _ in range(4)]
    try:
        for run in opened[:2]:
            run.play()
        until(lambda: all(run.state.step > 2 for run in opened[:2]))
        for run in opened[2:]:
            run.play()
            until(lambda run=run: run.place)
        assert [run.place for run in opened] == [0, 0, 1, 2] and [run.state.step for run in opened[2:]] == [0, 0]
        opened[0].pause()
        until(lambda: opened[2].state.step > 2)
        until(lambda: opened[3].place == 1)
        opened[2].close()  # whoever leaves makes room
        until(lambda: opened[3].state.step > 2)
    finally:
        for run in opened:
            run.close()


def test_those_side_by_side_take_one_turn_together():
    runs = LiveRuns(training=1, pause_after=PATIENCE)
    pair = [runs.open(small(optimizer=name, batch_size=100)) for name in ("adam", "deep")]
    try:
        runs.group(pair)
        for run in pair:
            run.play()
        until(lambda: all(run.finished and not run.playing for run in pair))
        until(lambda: not runs.turns._line)
    finally:
        for run in pair:
            run.close()


def test_who_presses_play_stands_in_line_at_once():
    """Before its thread has looked, so that no page says that it trains."""
    runs = LiveRuns(training=1, pause_after=PATIENCE)
    opened = [runs.open(small(epochs=50, batch_size=100)) for _ in range(3)]
    try:
        for run in opened:
            run.play()
        assert [run.place for run in opened] == [0, 1, 2]
    finally:
        for run in opened:
            run.close()


def test_who_trains_long_while_others_wait_goes_to_the_end_of_the_line():
    clock = Clock()
    turns = Turns(limit=1, seconds=60, clock=clock)
    assert [turns.ask("a"), turns.ask("b"), turns.ask("c")] == [0, 1, 2]
    clock.now = 61
    assert [turns.ask("a"), turns.ask("b"), turns.ask("c")] == [2, 0, 1]
    clock.now = 300
    turns.leave("b")
    turns.leave("c")
    assert turns.ask("a") == 0
    clock.now = 900
    assert turns.ask("a") == 0  # nobody waits


def test_a_trainer_that_was_reset_is_gone():
    runs = LiveRuns(pause_after=PATIENCE)  # nobody watches, however slow the machine is
    run = runs.open(small())
    runs.reap()
    before = weakref.ref(run._trainer)
    run.step()
    until(lambda: run.state.step == 1)
    run.reset()
    until(lambda: run.generation == 1)
    runs.reap()
    assert before() is None and run.cpu_seconds >= 0
    runs.free(run.id)


def test_all_checkpoints_together_stay_within_their_memory():
    runs = LiveRuns(pause_after=PATIENCE)  # nobody watches, however slow the machine is
    run = runs.open(small())
    try:
        run.play()
        until(lambda: run.finished and not run.playing)
        kept, runs.checkpoint_bytes = len(run.checkpoints), 1
        for _ in range(5):
            runs.reap()
        assert kept > 4 and sorted(run.checkpoints) == [0]
    finally:
        run.close()
