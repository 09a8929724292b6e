"""The bench chooses on validation data, runs on test data, pairs every row with its twin, and can go on where it
stopped."""

import csv
import json
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from nllab.bench import retention
from nllab.cli.training import run_seeds
from nllab.errors import DataError, SettingError
from nllab.experiment import LEARNING_RATES, Experiment
from nllab.methods import REGISTRY, check
from nllab.methods.setups import GRIDS, SETUPS, TRIALS, optimizer_grid
from nllab.runs import SCORES
from nllab.summary import paired_difference, spread
from nllab.trainer import Trainer

SMALL = Experiment.preset("digits-ab", dim=16, hidden=16, batch_size=100, evaluate_every=7)
train = partial(run_seeds, bars=False)


def result_of(values, bytes_kept=264_000):
    """What `summarize` says, with these average accuracies."""
    return {
        "metrics": {score: spread(values) for score in SCORES},
        "online_accuracy": [spread(values), spread(values)],
        "bytes_kept": bytes_kept,
        "diverged": [],
    }


def test_what_diverged_says_so_in_the_table(capsys):
    Console(width=200).print(
        retention.learners_table("", {"ewc": {**result_of([0.87]), "diverged": ["early"]}, "er": result_of([0.7])})
    )
    assert [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "│" in line] == [
        "ewc, diverged",
        "er",
    ]


def test_every_method_and_optimizer_has_the_same_number_of_trials_all_different():
    others = {"labels-trick", "low-rate", "owm-adam", "gpm-adam", "joint"}
    assert set(GRIDS) == set(SETUPS) and others == set(SETUPS) - set(REGISTRY)
    for grid in (*GRIDS.values(), optimizer_grid(0.01)):
        assert len(grid) == TRIALS == len({json.dumps(changes) for changes in grid})
    for name, grid in GRIDS.items():
        for changes in grid:
            changed = SMALL.but(**{**SETUPS[name], **changes})
            check(changed.method, changed.method_settings)  # all of them can be used
    for name, grid in GRIDS.items():
        if name in REGISTRY:
            assert all(SETUPS[name]["method"] == name and "method" not in changes for changes in grid)


def test_settings_are_chosen_on_validation_and_reported_on_test():
    asked = []

    def fake(experiment, seeds):
        asked.append((experiment, seeds))
        best = (
            experiment.learning_rate == GRIDS["naive"][3]["learning_rate"]
            and experiment.loss == GRIDS["naive"][3]["loss"]
        )
        if experiment.learning_rate == GRIDS["naive"][1]["learning_rate"]:
            return {**result_of([0.99]), "diverged": ["in the first task, before it could forget anything"]}
        return result_of([0.9 if best else 0.5] * seeds)

    row = retention.row_of("naive", SMALL, [{**SETUPS["naive"], **c} for c in GRIDS["naive"]], 3, 1, fake)
    *trials, real, twin = asked
    assert len(trials) == TRIALS and all(e.evaluate_on == "validation" and n == 1 for e, n in trials)
    assert all(e.evaluate_on == "test" and n == 3 and e.learning_rate == 3e-3 for e, n in (real, twin))
    assert twin[0] == real[0].but(frozen=True)
    assert row["settings"]["learning_rate"] == 3e-3 and row["validation"][1] is None and row["trials"] == TRIALS


def test_replay_at_equal_bytes_takes_what_the_deep_optimizer_keeps():
    a_sample = 64 * 4 + 8
    settings = retention.with_bytes(SMALL, SETUPS["er"], 100 * a_sample + 5)
    assert settings["method_settings"]["buffer"] == 100
    trainer = Trainer(SMALL.but(**settings))
    trainer.run()
    assert trainer.method.bytes_kept() == 100 * a_sample
    assert retention.with_bytes(SMALL, SETUPS["der++"], 100 * (a_sample + 40))["method_settings"]["buffer"] == 100
    assert retention.with_bytes(SMALL, SETUPS["er"], 10**9)["method_settings"]["buffer"] == 1347  # all there is


@pytest.fixture(scope="module")
def small_result():
    names = {"methods": ("naive", "er", "rls", "joint"), "optimizers": ("adam",)}
    few = SMALL.but(batch_size=130, evaluate_every=1000)
    return retention.run_retention(few, seeds=2, train=train, trials=0, rounds=1, **names)


def test_rows_hold_what_the_table_needs(small_result):
    rows = small_result["rows"]
    assert list(rows) == ["deep", "adam", "naive", "er", "rls", "joint", "er at deep's bytes"]
    for name, row in rows.items():
        for found in (row, row["twin"]):
            assert found is None or set(found["metrics"]) == set(SCORES)
        assert (row["twin"] is None) == (name == "rls")
    assert rows["er"]["told"] == ["samples"] and rows["deep"]["told"] == []
    assert rows["deep"]["twin"]["update_counts"]["fast"]["mean"] == 0 < rows["deep"]["update_counts"]["fast"]["mean"]
    own, twin = (found["metrics"]["average_accuracy"]["values"] for found in (rows["deep"], rows["deep"]["twin"]))
    assert rows["deep"]["difference_from_twin"]["values"] == pytest.approx(
        [a - b for a, b in zip(own, twin, strict=True)]
    )
    assert small_result["step_time"]["adam"]["ratio_to_adam"] == 1 and set(small_result["step_time"]) >= {
        "deep",
        "er",
        "rls",
    }
    assert (
        rows["rls"]["metrics"]["average_accuracy"]["mean"]
        > 0.9
        > 0.6
        > rows["naive"]["metrics"]["average_accuracy"]["mean"]
    )
    json.dumps(small_result, allow_nan=False)


def test_the_table_shows_twins_and_intervals(small_result, capsys):
    from rich.console import Console

    for part in retention.retention_tables(small_result):
        Console(width=250).print(part)
    printed = capsys.readouterr().out
    assert (
        printed.count("frozen twin") == 6
        and "A after B" in printed
        and "step / Adam's" in printed
        and "samples" in printed
    )
    assert retention.interval(small_result["rows"]["deep"]["difference_from_twin"]) in printed


def test_the_joint_models_own_drop_is_what_more_classes_cost():
    drop = retention.joint_drop(SMALL.but(**SETUPS["joint"]), 1, "cpu")["values"][0]
    part = Trainer(SMALL.but(**{**SETUPS["joint"], "joint": False})).run().summary["a_after_a"]
    both = Trainer(SMALL.but(**SETUPS["joint"])).run().summary["a_after_b"]
    assert drop == pytest.approx(part - both)


def test_what_was_written_is_not_run_again(tmp_path):
    out, counts = tmp_path / "r.json", []

    def fake(experiment, seeds):
        counts.append(experiment)
        return result_of([0.5] * seeds)

    def go(**changes):
        settings = {
            "seeds": 2,
            "train": fake,
            "trials": 2,
            "rounds": 0,
            "optimizers": (),
            "methods": ("naive",),
            "out": out,
            **changes,
        }
        return retention.run_retention(SMALL, **settings)

    first = go()
    ran = len(counts)
    assert ran == 2 + (2 + 2) and go() == first and len(counts) == ran
    assert list(go(methods=("naive", "ewc"))["rows"]) == ["deep", "naive", "ewc"] and len(counts) == ran + 4
    with pytest.raises(DataError, match="other settings"):
        go(seeds=3)
    out.write_text("{}")
    with pytest.raises(DataError, match="not a result"):
        go()
    table = tmp_path / "r.csv"
    go(out=table)
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert [row[:2] for row in rows[1:]] == [["deep", "False"], ["deep", "True"], ["naive", "False"], ["naive", "True"]]
    assert rows[1][rows[0].index("average_accuracy mean")] == "0.5"


@pytest.mark.slow
def test_processes_give_the_same_rows():
    learners = {name: (SETUPS[name],) for name in ("naive", "low-rate")}
    by_jobs = [dict(retention.rows_of(learners, SMALL, 1, 0, train, jobs)) for jobs in (1, 2)]
    scores = [{name: row["metrics"] for name, row in rows.items()} for rows in by_jobs]
    assert scores[0] == scores[1]


def test_intervals_are_students():
    from scipy import stats

    first, second = [0.9, 0.8, 0.95, 0.85], [0.7, 0.75, 0.8, 0.7]
    found = paired_difference(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(np.mean(first) - np.mean(second))
    assert (found["mean"] - found["half_width"], found["mean"] + found["half_width"]) == pytest.approx(
        (expected.low, expected.high)
    )
    assert paired_difference([0.5], [0.25]) == {"mean": 0.25, "half_width": None, "values": [0.25]}
    assert paired_difference([0.5, None], [0.2, 0.1]) is None and paired_difference([], []) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("ewcc",)}, "Did you mean 'ewc'"),
        ({"optimizers": ("adm",)}, "Did you mean 'adam"),
        ({"out": __import__("pathlib").Path("r.txt")}, "must end in .json or .csv"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(SettingError, match=message):
        retention.run_retention(SMALL, seeds=1, train=train, **changes)


def test_streams_without_images_leave_out_the_convolution():
    found = retention.candidates(Experiment.preset("plane-ab"), 1, tuple(SETUPS), tuple(LEARNING_RATES))
    assert (
        "rls-conv" not in found and "rls" in found and "rls-conv" in retention.candidates(SMALL, 1, tuple(SETUPS), ())
    )
