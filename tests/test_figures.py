"""Figures and sentences say what the rows say, no more and no less, whole or piece by piece."""

import json
import math
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from nllab import Trainer, figures, narration, pictures
from nllab.events import (
    Answers,
    Command,
    End,
    Experience,
    LevelStep,
    Samples,
    Step,
    Switch,
    TaskSamples,
    Texts,
    Untrained,
    accuracy_of,
)
from nllab.experiment import Experiment
from nllab.runs import Run

LEVELS = {"input": 1, "slow": 4, "head": 1}
MEASURED = dict.fromkeys(figures.SIGNALS, 0.9) | {"surprise": 0.4, "novelty": 1.2}
TASKS = ("A", "B")


def step(number, *, task="A", optimizer="adam", accuracy=None, drift=0.1):
    levels = {
        name: LevelStep(
            wrote=number % period == 0,
            writes=number // period,
            update_norm=0.1,
            drift=drift * (i + 1) * number,
            drift_since_switch=0.0,
            gradient_norm=1.0,
            **(MEASURED if accuracy and optimizer == "deep" and number % period == 0 else {}),
        )
        for i, (name, period) in enumerate(LEVELS.items())
    }
    return Step(
        step=number,
        task=task,
        optimizer=optimizer,
        loss=1.0,
        online_accuracy=0.5,
        levels=levels,
        accuracy=dict(zip(TASKS, accuracy, strict=True)) if accuracy else None,
    )


def switch(number, task):
    return Switch(step=number, experience=0, task=task)


def command(number, name, value):
    return Command(step=number, name=name, value=value)


def experience(number, task, accuracy):
    return Experience(step=number, experience=0, task=task, accuracy=dict(zip(TASKS, accuracy, strict=True)))


def lesson():
    """Task A for 12 steps, then B for 12; A is forgotten."""
    rows = [Untrained(step=0, accuracy={"A": 0.1, "B": 0.0}, classes=10, samples={"A": 200, "B": 200}), switch(1, "A")]
    rows += [step(i, accuracy=(0.9, 0.0) if i % 2 == 0 else None) for i in range(1, 13)]
    rows += [experience(12, "A", (0.99, 0.0)), switch(13, "B")]
    rows += [step(i, task="B", accuracy=(0.03, 0.97) if i % 2 == 0 else None) for i in range(13, 25)]
    return rows


def run_of(rows):
    return Run(Experiment(), TASKS, LEVELS, rows)


@pytest.mark.parametrize("name", figures.CURVES)
def test_points_told_in_pieces_are_those_told_at_once(name):
    rows = [*lesson(), *(step(i, optimizer="deep", accuracy=(0.9, 0.9)) for i in range(25, 37))]
    whole = figures.points(name, rows, TASKS, LEVELS)
    pieces = [figures.points(name, rows[i : i + 5], TASKS, LEVELS) for i in range(0, len(rows), 5)]
    for i, trace in enumerate(whole):
        for axis in ("x", "y"):
            assert [value for piece in pieces for value in piece[i][axis]] == trace[axis]


def test_the_raster_marks_every_write_and_nothing_else():
    traces = figures.points("raster", lesson(), TASKS, LEVELS)
    for trace, period in zip(traces, LEVELS.values(), strict=True):
        assert trace["x"][::3] == [i for i in range(1, 25) if i % period == 0]
        assert trace["x"][::3] == trace["x"][1::3] == trace["x"][2::3]
    assert traces[1]["y"][:3] == pytest.approx([1.34, 0.66, 1.34])  # up and down in its own lane
    assert figures.ends("raster", lesson(), TASKS, LEVELS)["text"] == [" 24 writes", " 6", " 24"]


def test_drift_and_accuracy_are_the_measured_values():
    drift = figures.points("drift", lesson(), TASKS, LEVELS)[1]
    assert drift["x"] == list(range(1, 25)) and drift["y"] == pytest.approx([0.2 * i for i in range(1, 25)])
    a, b = figures.points("accuracy", lesson(), TASKS, LEVELS)
    assert (a["x"][0], a["y"][0], a["y"][-1], b["y"][-1]) == (0, 0.1, 0.03, 0.97)


def test_no_drift_is_a_gap_on_the_logarithmic_axis():
    assert figures.points("drift", [step(1, drift=0.0)], TASKS, LEVELS)[0]["y"] == [None]


def test_labels_at_the_ends_keep_their_order_and_their_distance():
    found = figures.ends("accuracy", [step(2, accuracy=(0.970, 0.972))], TASKS, LEVELS)
    assert found["y"][1] - found["y"][0] == pytest.approx(0.085, abs=1e-3)
    assert sum(found["y"]) / 2 == pytest.approx(0.971, abs=1e-3)
    assert figures.ends("accuracy", [step(1)], TASKS, LEVELS) is None


def test_marks_are_the_switches_and_the_commands():
    rows = [
        *lesson(),
        command(25, "optimizer", "deep"),
        command(26, "teach", "A"),
        switch(26, "A"),
        command(27, "period", ["slow", 8]),
    ]
    assert [(mark["step"], mark["kind"], mark["text"]) for mark in figures.marks(rows)] == [
        (1, "switch", "task A"),
        (13, "switch", "task B"),
        (25, "command", "deep optimizer on"),
        (26, "switch", "task A"),
        (27, "command", "slow · every 8 steps"),
    ]
    layout = figures.overlay("raster", figures.marks(rows))
    assert [shape["x0"] for shape in layout["shapes"]] == [0.5, 12.5, 24.5, 25.5, 26.5] and not layout["annotations"]


def test_settings_changed_at_one_step_share_one_label():
    rows = [*lesson(), command(25, "period", ["slow", 8]), command(25, "rate", 2.0)]
    layout = figures.overlay("accuracy", figures.marks(rows))
    assert [note["text"] for note in layout["annotations"]] == ["task A", "task B", "slow · every 8 steps<br>rate 2"]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_plotly_takes_every_figure_and_colour_is_never_the_only_sign(name):
    spec = figures.draw(name, run_of(lesson()), chance=0.1)
    go.Figure(spec)  # raises for any key that Plotly does not know
    json.dumps(spec, allow_nan=False)
    curves = spec["data"][:-1]
    signs = (
        {curve["line"]["dash"] for curve in curves} if name != "raster" else {tuple(curve["y"][:2]) for curve in curves}
    )
    assert len(signs) == len(curves) == len({curve["line"]["color"] for curve in curves})
    assert len(spec["data"][-1]["text"]) == len(curves)


def test_chance_is_drawn_where_it_is_known():
    def lines(chance):
        return [
            s["y0"]
            for s in figures.draw("accuracy", run_of(lesson()), chance=chance)["layout"]["shapes"]
            if s.get("xref") == "paper"
        ]

    assert lines(0.1) == [0.1] and lines(None) == []


def test_colours_stand_out_on_white_and_on_near_black():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in (*figures.TASK_COLOURS, *figures.LEVEL_COLOURS.values(), figures.INK):
        for ground in ("#FFFFFF", "#14171C"):
            dark, light = sorted((luminance(colour), luminance(ground)))
            assert (light + 0.05) / (dark + 0.05) >= 2.95, (colour, ground)


@pytest.mark.parametrize("limit", [1, 5, 24])
def test_thinning_keeps_accuracies_events_and_writes(limit):
    rows = lesson()
    kept = figures.thin(rows, limit)
    assert [row for row in kept if not isinstance(row, Step)] == [row for row in rows if not isinstance(row, Step)]
    assert [row.step for row in kept if accuracy_of(row) is not None] == [
        row.step for row in rows if accuracy_of(row) is not None
    ]
    steps = [row.step for row in kept if isinstance(row, Step)]
    for level, period in LEVELS.items():
        for wrote in (i for i in range(1, 25) if i % period == 0):
            told = next(row for row in kept if isinstance(row, Step) and row.step >= wrote)
            assert told.levels[level].wrote
    assert len(steps) <= 12 + limit and steps[-1] == 24


def test_the_sentence_tells_a_fall_a_toggle_and_the_end():
    say = narration.sentence
    rows = lesson()
    assert say([], TASKS) == say(rows[:2], TASKS) == "Nothing has been learned yet."
    assert say(rows[:8], TASKS) == "Task A has been taught for 6 steps: accuracy on A rose from 0.10 to 0.90."
    assert (
        say(rows, TASKS)
        == "Task B replaced task A 12 steps ago: accuracy on A fell from 0.99 to 0.03 while B rose from 0.00 to 0.97."
    )
    toggled = [*rows, command(25, "optimizer", "deep"), step(25, task="B", optimizer="deep")]
    switched = "The deep optimizer was switched on at step 25;"
    assert say(toggled, TASKS) == f"{switched} nothing has been measured since."
    toggled += [step(26, task="B", optimizer="deep", accuracy=(0.03, 0.97))]
    assert say(toggled, TASKS) == f"{switched} A stands at 0.03 and B stands at 0.97."
    off = [*rows, command(25, "optimizer", "adam"), step(25, task="B")]
    assert say(off, TASKS).startswith("The deep optimizer was switched off and adam took over at step 25;")
    over = [*rows, experience(24, "B", (0.03, 0.98)), End(step=24, reason="finished", text="")]
    assert say(over, TASKS) == "The plan is over after 24 steps: A stands at 0.03 and B stands at 0.98."
    diverged = [*rows, End(step=24, reason="diverged", text="The loss became nan at step 25.")]
    assert say(diverged, TASKS) == "The loss became nan at step 25."


def test_no_sentence_speaks_of_a_step_at_which_nothing_was_measured():
    rows = [row for row in lesson() if row.step <= 13]
    rows = [replace(row, accuracy=None) if isinstance(row, Step) and row.step > 12 else row for row in rows]
    said = narration.sentence(rows, TASKS)
    assert said == "Task B replaced task A at step 13; nothing has been measured since."
    rows += [step(14, task="B", accuracy=(0.98, 0.5)), *(step(i, task="B") for i in range(15, 21))]
    said = narration.sentence(rows, TASKS)
    assert said.startswith("2 steps after task B replaced task A: accuracy on A stays at 0.98, 0.99 before")


def test_the_sentence_for_many_tasks_and_for_all_at_once():
    tasks = ("A", "B", "C")
    accuracies = [dict(zip(tasks, values, strict=True)) for values in ((0.9, 0, 0), (0.2, 0.9, 0), (0.1, 0.3, 0.9))]
    rows = [Untrained(step=0, accuracy=dict.fromkeys(tasks, 0.0), classes=10, samples=dict.fromkeys(tasks, 200))]
    for i, (task, accuracy) in enumerate(zip(tasks, accuracies, strict=True)):
        rows += [
            switch(4 * i + 1, task),
            *(replace(step(4 * i + k, task=task), accuracy=accuracy) for k in range(1, 5)),
        ]
    assert (
        narration.sentence(rows, tasks)
        == "Task C replaced task B 4 steps ago: accuracy on C rose from 0.00 to 0.90, and the 2 earlier tasks stand at"
        " 0.20 on average."
    )
    joint = [switch(1, "all"), step(1, task="all", accuracy=(0.5, 0.25))]
    assert (
        narration.sentence(joint, TASKS)
        == "All tasks have been taught at once for 1 step; A stands at 0.50 and B stands at 0.25."
    )


def test_rows_of_a_real_run_make_figures():
    trainer = Trainer(Experiment.preset("digits-ab", evaluate_every=4))
    run = Run.begin(
        trainer.experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels}
    )
    for _ in range(8):
        run.extend(trainer.step())
    drawn = {name: figures.draw(name, run) for name in figures.FIGURES}
    writes = [len(trace["x"]) // 3 for trace in drawn["raster"]["data"][:-1]]
    assert writes == list(run.update_counts.values())
    assert all(math.isfinite(y) for trace in drawn["accuracy"]["data"][:-1] for y in trace["y"])


def test_runs_are_set_side_by_side_in_one_sentence():
    first, second = (
        run_of(lesson()),
        run_of([step(24, optimizer="deep", accuracy=(0.8, 0.1)), step(25, optimizer="deep")]),
    )
    assert (
        narration.contrast([first, second])
        == "Accuracy on task A at step 24: 0.03 with Adam and 0.80 with the deep optimizer."
    )
    assert "on task B" in narration.contrast([first, second], "B") and "0.10 with" in narration.contrast(
        [first, second], "B"
    )
    assert narration.contrast([run_of([]), second]).startswith("The same samples")
    assert "0.03 in the first and 0.03 in the second" in narration.contrast([first, first])


def test_numbers_of_different_steps_each_say_their_own():
    ahead, behind = (
        run_of(lesson()),
        run_of([step(2, optimizer="deep", accuracy=(0.8, 0.1)), step(3, optimizer="deep")]),
    )
    assert (
        narration.contrast([ahead, behind])
        == "Accuracy on task A: 0.03 with Adam (step 24) and 0.80 with the deep optimizer (step 2)."
    )


def test_the_gain_over_the_twin_is_said_once_both_have_ended():
    def ended(accuracy, **settings):
        rows = [switch(1, "A"), step(1, optimizer="deep", accuracy=accuracy), experience(1, "A", accuracy)]
        return Run(Experiment(**settings), TASKS, LEVELS, [*rows, End(step=1, reason="finished", text="")])

    whole, twin = ended((0.9, 0.0)), ended((0.8, 0.0), frozen=True)
    assert "brought +0.100 against the twin on this seed; one seed does not say" in narration.contrast([whole, twin])
    assert "brought" not in narration.contrast([run_of([step(9, accuracy=(0.9, 0.0))]), whole, twin])
    twin.log.pop()
    assert "brought" not in narration.contrast([whole, twin])


@pytest.mark.parametrize("name", figures.FIGURES)
def test_small_multiples_share_their_axes(name):
    longer = run_of([*lesson(), step(40)])
    spec = figures.multiples(name, {"one": run_of(lesson()), "two": longer})
    drawn = go.Figure(spec)
    assert drawn.layout.xaxis.range == drawn.layout.xaxis2.range == (0, 40) and drawn.layout.yaxis2.matches == "y"
    assert [note.text for note in drawn.layout.annotations] == ["<b>one</b>", "<b>two</b>"]
    assert {trace.xaxis for trace in drawn.data} == {"x", "x2"}
    assert [trace.xaxis for trace in drawn.data if trace.mode == "text" and any(trace.text)] == ["x", "x2"] * (
        name == "accuracy"
    )


@pytest.fixture(scope="module")
def pictured():
    return Trainer(
        Experiment.preset("digits-ab", optimizer="adam", dim=32, hidden=32, batch_size=40, evaluate_every=8)
    ).run()


@pytest.mark.parametrize("name", pictures.STILLS)
def test_a_picture_of_a_moment_is_a_figure_with_its_numbers(pictured, name):
    assert pictures.still(name, pictured, 1) is None
    spec = pictures.still(name, pictured)
    if name in ("surface", "texts"):
        assert spec is None
        return
    go.Figure({"data": spec["data"], "layout": spec["layout"]})
    json.dumps(spec, allow_nan=False)
    head, *lines = spec["meta"]["table"]
    assert lines and all(len(line) == len(head) for line in lines)


def test_the_matrix_says_what_was_forgotten(pictured):
    spec = pictures.still("matrix", pictured)
    assert spec["data"][0]["z"] == pictured.accuracy_matrix.round(3).tolist() and spec["data"][0]["y"] == [
        "1 · A",
        "2 · B",
    ]
    assert f"forgetting {pictured.summary['forgetting']:.2f}" in spec["layout"]["title"]["text"]


def test_what_is_misread_now_is_told_with_what_was_read_before(pictured):
    spec = pictures.still("answers", pictured)
    a, b = sorted({note["y"] for note in spec["layout"]["annotations"]})
    cell = (spec["layout"]["height"] - spec["layout"]["margin"]["t"] - spec["layout"]["margin"]["b"]) / len(
        spec["data"][0]["z"]
    )
    assert (b - a - 8) * cell > 30  # two lines of text lie above an image of 8 rows, not on the one before
    lines = spec["meta"]["table"][1:]
    told = pictured.of(Answers)
    end_of_a = next(row for row in told if row.step == pictured.of(Experience)[0].step)
    assert [line[3] for line in lines if line[0] == "A"] == end_of_a.answers["A"]
    assert [line[4] for line in lines if line[0] == "A"] == told[-1].answers["A"]
    right = [sum(line[2] == line[column] for line in lines if line[0] == "A") for column in (3, 4)]
    assert right[0] > right[1]


@pytest.mark.parametrize("name", figures.SIGNALS)
def test_signals_stand_where_they_were_measured_and_end_in_the_name_of_their_level(name):
    rows = [step(i, optimizer="deep", accuracy=(0.9, 0.9) if i % 2 == 0 else None) for i in range(1, 9)]
    spec = figures.draw(name, run_of(rows))
    assert [trace["x"] for trace in spec["data"][:-1]] == [[2, 4, 6, 8], [4, 8], [2, 4, 6, 8]]
    assert all(value == MEASURED[name] for trace in spec["data"][:-1] for value in trace["y"])
    assert spec["data"][-1]["text"] == [" input", " slow", " head"] and spec["data"][-1]["x"] == [8, 8, 8]
    heights = sorted(spec["data"][-1]["y"])
    assert all(
        high - low >= 0.1 * MEASURED[name] for low, high in zip(heights, heights[1:], strict=False)
    )  # none lies on another
    go.Figure(spec)
    assert figures.ends(name, lesson(), TASKS, LEVELS) is None  # Adam measures nothing


def test_names_are_written_on_before_and_now():
    small = {"dim": 16, "hidden": 16, "batch_size": 1024, "evaluate_every": 8}
    run = Trainer(Experiment.preset("names-ab", optimizer="adam", **small)).run(steps=20)
    spec = pictures.still("texts", run)
    head, *lines = spec["meta"]["table"]
    switch = run.of(Switch)[1].step - 1
    assert head == ["task", "the name", f"step {switch}", "now"] and len(lines) == 12
    then = next(row for row in run.of(Texts) if row.step == switch).texts
    now = run.of(Texts)[-1].texts
    assert [line[2:] for line in lines if line[0] == "B"] == [
        list(pair) for pair in zip(then["B"], now["B"], strict=True)
    ]
    assert all(told.startswith(line[1][:3]) for line in lines for told in line[2:])
    go.Figure({"data": spec["data"], "layout": spec["layout"]})
    samples = Samples(step=0, given=2, tasks={"A": TaskSamples(names=["<b>&x"])})
    spec = pictures.still("texts", run_of([samples, Texts(step=1, texts={"A": ["<script>"]})]))
    assert all("<script" not in note["text"] and "<b>&x" not in note["text"] for note in spec["layout"]["annotations"])


def test_the_ceiling_is_a_line_beside_chance():
    spec = figures.overlay("accuracy", [], chance=0.1, joint=0.97)
    assert [(shape["y0"], note["text"]) for shape, note in zip(spec["shapes"], spec["annotations"], strict=True)] == [
        (0.1, " chance"), (0.97, " joint")
    ]  # fmt: skip
    assert figures.overlay("drift", [], chance=0.1, joint=0.97)["shapes"] == []


def test_random_labels_are_marked_where_the_stream_has_them():
    trainer = Trainer(Experiment.preset("noisy-digits"))
    begin, end = figures.label_marks(trainer.experiment, trainer.planned_steps)
    size, part = trainer.experiment.batch_size, trainer.stream.tasks[0].train
    noisy, lap = part.labels, len(part)
    once = zip(part.inputs[: lap // 4], noisy[: lap // 4], strict=True)
    clean = {tuple(row.tolist()): int(label) for row, label in once}
    wrong = [
        step
        for step in range(1, trainer.planned_steps + 1)
        for place in range((step - 1) * size, min(step * size, lap))
        if clean[tuple(part.inputs[place].tolist())] != int(noisy[place])
    ]
    assert begin["step"] <= min(wrong) <= begin["step"] + 1 and end["step"] - 3 <= max(wrong) < end["step"]
    assert figures.label_marks(Experiment.preset("digits-ab"), 136) == []


def test_changes_of_names_are_marked_where_the_stream_has_them():
    trainer = Trainer(Experiment.preset("contexts-digits"))
    found = figures.label_marks(trainer.experiment, trainer.planned_steps)
    starts = [context.start for context in trainer.stream.contexts[1:]]
    assert [(mark["step"] - 1) * trainer.experiment.batch_size for mark in found] == starts
    assert [mark["text"] for mark in found if mark["text"]] == ["names swap"]
