import gc
import json
import subprocess
import sys
import threading
import time
import weakref

import pytest
from waiting import until

from nllab import live_figure, place
from nllab.errors import SettingError
from nllab.events import Switch
from nllab.experiment import Experiment
from nllab.stage_widget import StageWidget
from nllab.trainer import replay
from nllab.widgets import LiveLab


def small(**changes):
    return Experiment.preset("digits-ab", **{"dim": 16, "hidden": 16, "batch_size": 40, "observe": False, **changes})


@pytest.fixture
def lab():
    opened = []

    def open_lab(experiment=None, **settings):
        opened.append(LiveLab(experiment or small(), **{"speed": None, **settings}))
        return opened[-1]

    yield open_lab
    for one in opened:
        one.close()


def finish(lab):
    lab.play.click()
    until(lambda: lab.live.finished and not lab.live.playing)
    lab.refresh()


def test_play_moves_the_step_and_pause_freezes_it(lab):
    lab = lab(speed=50.0)
    assert lab.live.state.step == 0 and lab.play.description == "Play"
    lab.play.click()
    until(lambda: lab.live.state.step > 2)
    until(lambda: lab.play.description == "Pause")
    lab.play.click()
    time.sleep(0.5)  # the step under way may end
    frozen = lab.live.state.step
    time.sleep(0.2)
    assert lab.live.state.step == frozen
    lab.step.click()
    until(lambda: lab.live.run.steps == frozen + 1)


def test_figures_grow_while_it_trains_and_end_where_the_run_ended(lab):
    lab = lab(speed=50.0)
    accuracy = lab.traces("accuracy")
    lab.play.click()
    until(lambda: len(accuracy[0].x) >= 2)
    first = len(accuracy[0].x)
    until(lambda: len(accuracy[0].x) > first)
    lab.speed.value = None
    until(lambda: lab.live.finished and not lab.live.playing)
    lab.refresh()
    matrix = lab.live.run.accuracy_matrix
    assert [round(trace.y[-1], 4) for trace in accuracy] == [round(value, 4) for value in matrix[-1]]
    drift = {trace.name: trace.y[-1] for trace in lab.traces("drift")}
    assert list(drift) == list(lab.live.run.levels) and all(value > 0 for value in drift.values())
    assert "The plan is over" in lab.sentence.value and lab.play.disabled


def test_raster_draws_one_mark_for_each_write(lab):
    lab = lab()
    finish(lab)
    counts = {trace.name: len(trace.x) // 3 for trace in lab.traces("raster")}
    assert counts == lab.live.run.update_counts


def test_toggle_is_recorded_and_the_run_can_be_replayed(lab):
    lab = lab(speed=100.0)
    lab.play.click()
    until(lambda: lab.live.state.step > 2)
    lab.toggle.value = False
    until(lambda: lab.live.state.optimizer == "adam")
    lab.toggle.value = True
    until(lambda: lab.live.state.optimizer == "deep")
    lab.speed.value = None
    until(lambda: lab.live.finished and not lab.live.playing)
    assert [(name, value) for _, name, value in lab.live.run.commands] == [("optimizer", "adam"), ("optimizer", "deep")]
    assert replay(lab.live.run).log == lab.live.run.log
    assert lab.toggle.description == "Deep optimizer is on"


def test_teach_opens_a_plan_that_is_over(lab):
    lab = lab()
    finish(lab)
    assert lab.play.disabled
    before = lab.live.state.step
    lab.teach["A"].click()
    until(lambda: lab.live.state.step > before and lab.live.finished and not lab.live.playing)
    assert lab.live.run.visits == (0, 1, 0)


def test_knobs_command_the_trainer(lab):
    lab = lab(small(optimizer="adam"), knobs=("learning_rate", "periods"))
    lab.learning_rate.value = 0.01
    lab.periods["slow"].value = 2
    lab.step.click()
    until(lambda: lab.live.run.steps == 1)
    assert lab.live.run.commands == [(1, "learning_rate", 0.01), (1, "period", ["slow", 2])]
    lab.refresh()
    assert "slow · every 2 steps" in lab.figure.layout.yaxis3.ticktext


def test_reset_starts_anew_from_where_the_knobs_stand(lab):
    lab = lab(knobs=("optimizer", "periods"))
    finish(lab)
    lab.toggle.value, lab.seed.value, lab.periods["slow"].value = False, 3, 32
    lab.reset.click()
    until(lambda: lab.live.state.step == 0 and lab.live.experiment.seed == 3)
    lab.refresh()
    assert lab.live.experiment.optimizer == "adam" and lab.live.experiment.periods == (1, 4, 32)
    assert len(lab.traces("accuracy")[0].x or ()) == 0 and not lab.play.disabled
    assert lab.live.run.commands == []


def test_what_cannot_be_done_is_said_and_changes_nothing(lab):
    lab = lab(knobs=("periods",))
    lab.periods["fast"].value = 64
    lab.reset.click()  # memory levels go from fast to slow
    assert "must not fall" in lab.sentence.value
    lab.step.click()
    until(lambda: lab.live.run.steps == 1)
    with pytest.raises(SettingError, match="'toggel'.*"):
        LiveLab(small(), knobs=("toggel",))


def test_long_runs_stay_small_enough_to_send(lab, monkeypatch):
    monkeypatch.setattr(live_figure, "POINTS", 100)
    monkeypatch.setattr(live_figure, "RASTER_STEPS", 7)
    lab = lab(small(epochs=3, optimizer="adam", evaluate_every=1))
    finish(lab)
    assert lab.live.run.steps > 100
    for view in lab.views:
        traces = lab.traces(view)
        assert sum(len(trace.x) for trace in traces) <= 110, view
        assert max(x for trace in traces for x in trace.x if x) == lab.live.run.steps, view


def test_views_stand_below_each_other_and_marks_where_they_belong(lab):
    lab = lab(views=("raster", "accuracy"))
    lab.toggle.value = False
    finish(lab)
    layout = lab.figure.layout
    assert layout.yaxis.domain[0] > layout.yaxis2.domain[1]
    assert [note.text for note in layout.annotations if note.yref == "y2 domain"][1:] == [
        "adam takes over",
        "task A",
        "task B",
    ]
    switch = next(row.step for row in lab.live.run.of(Switch) if row.task == "B")
    for axis in ("x", "x2"):
        assert switch - 0.5 in [shape.x0 for shape in layout.shapes if shape.xref == axis]


def test_close_leaves_no_thread():
    before = set(threading.enumerate())
    for _ in range(5):
        with LiveLab(small(), speed=20.0) as lab:
            lab.play.click()
    assert set(threading.enumerate()) == before
    assert lab.play.disabled


def test_a_lab_that_nobody_can_reach_any_more_ends():
    lab = LiveLab(small(passes=50))
    live, gone = lab.live, weakref.ref(lab)
    lab.play.click()
    until(lambda: live.run.steps > 2)
    del lab
    until(lambda: gc.collect() is None or gone() is None)
    until(lambda: live.closed and not live._thread.is_alive())


def shell_with(monkeypatch, cell, execution):
    parent = {"metadata": {"cellId": cell}, "header": {"msg_id": execution}}
    monkeypatch.setattr(place, "_cell", lambda: (parent["metadata"]["cellId"], parent["header"]["msg_id"]))


def test_a_cell_that_is_run_again_replaces_its_lab_and_no_other(lab, monkeypatch):
    shell_with(monkeypatch, "a", "1")
    first, beside = lab(), lab()
    shell_with(monkeypatch, "b", "2")
    elsewhere = lab()
    assert not first.live.closed and not beside.live.closed
    shell_with(monkeypatch, "a", "3")
    again = lab()
    assert first.live.closed and beside.live.closed and not elsewhere.live.closed and not again.live.closed
    for ended in (first, beside):
        assert not ended._watcher.is_alive() and not ended.live._thread.is_alive()


def test_a_page_loaded_again_gets_the_curves_as_they_stand(lab):
    lab = lab()
    finish(lab)
    sent = lab.figure.get_state()
    lengths = [len(trace.get("x", ())) for trace in sent["_widget_data"]]
    assert lengths[0] > 5 and lengths[0] == len(lab.traces(lab.views[0])[0].x)


def test_a_page_that_missed_messages_is_sent_the_curves_once_more(lab):
    lab, sent = lab(), []
    finish(lab)
    before = lab.figure.to_dict()
    told = ["_py2js_update", "_py2js_relayout"]
    lab.figure.observe(lambda change: change["new"] and sent.append(change["new"]), told)
    lab.place.mount._handle_custom_msg({"ready": True}, [])
    curves = [message["style_data"]["x"] for message in sent if "x" in message.get("style_data", {})]
    assert [list(x) for x in curves[-1]] == [list(trace.x) for trace in lab.figure.data]
    marks = [key for message in sent for key in message.get("relayout_data", message.get("layout_data"))]
    assert {"shapes", "annotations"} <= set(marks) and lab.figure.to_dict() == before


def test_a_saved_notebook_holds_the_last_picture_and_how_to_go_on(lab):
    lab = lab(views=("accuracy",))
    assert "<img" not in lab.place.bundle()["text/html"]
    finish(lab)
    until(lambda: lab.refresh() is None and "<img" in lab.place.bundle()["text/html"])
    bundle = lab.place.bundle()
    assert "digits-ab" in bundle["text/plain"] and "Run this cell" in bundle["text/html"]
    assert not [kind for kind in bundle if "widget" in kind]


def test_rate_and_retention_steer_and_the_manager_waits_for_a_reset(lab):
    lab = lab(knobs=("rate", "retention", "manager"))
    lab.rate.value, lab.retention.value = 0.1, 0.5
    lab.step.click()
    until(lambda: lab.live.run.steps == 1)
    assert [(name, value) for _, name, value in lab.live.run.commands] == [("rate", 0.1), ("retention", 0.5)]
    lab.manager.value = False
    lab.reset.click()
    until(lambda: lab.live.run.steps == 0 and not lab.live.experiment.manager)
    assert (lab.live.experiment.rate, lab.live.experiment.retention) == (0.1, 0.5)


def test_the_network_stands_above_the_figure_and_follows_the_training():
    with LiveLab(Experiment(evaluate_every=4), network=True, views=("accuracy",)) as lab:
        assert lab.network is not None and lab.network.opened["drawn"] and lab.network.opened["tasks"] == ["A", "B"]
        lab.live.step(3)
        until(lambda: lab.live.state.step == 3)
        until(lambda: lab.refresh() or lab.network.scene.get("step") == 3)
        scene = lab.network.scene
        assert scene["levels"].keys() == lab.live.run.levels.keys() and scene["written"]["head"] == 3
        assert all(level["weights"] for level in scene["levels"].values())  # whole: a page may be loaded at any time
        assert "export default { render }" in StageWidget._esm and "class Stage" in StageWidget._esm
        json.dumps([scene, lab.network.opened])
        lab.live.reset()
        until(lambda: lab.live.generation == 1)
        until(lambda: lab.refresh() or lab.network.scene.get("step") == 0)


@pytest.mark.slow  # loads torch and plotly once more
def test_the_first_cell_of_a_notebook_compiles_no_grammar():
    code = "import sys, nllab.widgets; print('plotly' in sys.modules, 'rfc3987_syntax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["True", "False"], done.stderr
