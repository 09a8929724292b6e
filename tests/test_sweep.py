"""A sweep loses nothing that was finished, whoever is killed, and trains nothing twice."""

import json
import os
import signal
import subprocess
import sys

import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner
from waiting import PATIENCE, until

from nllab import sweep
from nllab.cli import app
from nllab.errors import NllabError, RunFormatError, SettingError
from nllab.experiment import Experiment
from nllab.summary import summarize
from nllab.trainer import train

SMALL = {"dim": 4, "hidden": 4, "periods": (1,), "batch_size": 100, "evaluate_every": 1000}
SETTINGS = [
    part for key, value in SMALL.items() for part in ("--set", f"{key}={value[0] if key == 'periods' else value}")
]


def experiments(count=3, **changes):
    return [Experiment.preset("digits-ab", **{**SMALL, "optimizer": "adam", "seed": i} | changes) for i in range(count)]


def test_a_row_says_what_training_says(tmp_path):
    (experiment,) = experiments(1)
    rows = sweep.execute([experiment], table=tmp_path / "t.parquet")
    run = train(experiment)
    told = pd.read_parquet(tmp_path / "t.parquet").iloc[0]
    assert told["key"] == sweep.key_of(experiment) and told["status"] == "finished" and told["seconds"] > 0
    assert told["summary"] == rows[told["key"]]["summary"] and told["steps"] == run.steps
    assert told["average_accuracy"] == run.summary["average_accuracy"] and told["a_after_b"] == run.summary["a_after_b"]
    assert Experiment(**json.loads(told["experiment"])) == experiment and json.loads(told["settings"])["dim"] == 4
    whole = sweep.results({"x": experiment}, 1, table=tmp_path / "t.parquet")["x"]
    expected = summarize(experiment, [run], whole["seconds"])
    assert {key: whole[key] for key in expected} == expected


def test_a_second_start_trains_only_what_is_missing(tmp_path, monkeypatch):
    table, told = tmp_path / "t.parquet", []
    first = sweep.execute(experiments(3), table=table)
    (table / f"{sweep.key_of(experiments(3)[1])}.parquet").unlink()
    trained = []
    usual = sweep.record
    monkeypatch.setattr(
        sweep, "record", lambda settings, device: trained.append(settings["seed"]) or usual(settings, device)
    )
    again = sweep.execute(experiments(4), table=table, tell=told.append)
    assert trained == [1, 3] and told[0] == "2 of 4 runs are in the table" and len(again) == 4
    same = [key for key in first if first[key]["summary"] == again[key]["summary"]]
    assert len(same) == 3 and len(sweep.read(table)) == 4


def test_what_cannot_run_costs_itself_alone(tmp_path):
    hopeless = Experiment.preset("names-ab", **{**SMALL, "model": "hope", "optimizer": "adam"})
    found = sweep.results({"good": experiments(1)[0], "bad": hopeless}, 1, table=tmp_path / "t.parquet")
    assert found["good"]["metrics"]["average_accuracy"]["mean"] is not None
    assert "model=hope reads images" in found["bad"]["refused"]
    assert list(sweep.finished(tmp_path / "t.parquet")) == [sweep.key_of(experiments(1)[0])]


def test_a_damaged_or_impossible_table_is_named(tmp_path):
    table = tmp_path / "t.parquet"
    sweep.execute(experiments(1), table=table)
    (table / ".draft").write_bytes(b"half a file")  # of a sweep that was killed: not read
    assert len(sweep.read(table)) == 1 == len(pd.read_parquet(table))
    file = next(table.glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunFormatError, match=f"{file.name} cannot be read .* delete it"):
        sweep.execute(experiments(1), table=table)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFormatError, match="a table of a sweep is a folder"):
        sweep.execute(experiments(1), table=tmp_path / "file")
    with pytest.raises(SettingError, match="cannot be written to"):
        sweep.add(tmp_path / "file" / "t.parquet", sweep.execute(experiments(1)).popitem()[1])


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweep, "SCHEDULER_SECONDS", 0.5)
    with pytest.raises(SettingError, match="No Dask scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"):
        sweep.execute(experiments(1), scheduler="tcp://127.0.0.1:9")


def test_compare_reads_the_table_of_a_sweep(tmp_path):
    table = str(tmp_path / "t.parquet")
    asked = ["--seeds", "2", "--jobs", "1", *SETTINGS, "--json"]
    swept = ["sweep", "digits-ab,digits-aba", "--optimizers", "adam,sgd", "--out", table, "--set", "evaluate_on=test"]
    result = CliRunner().invoke(app, [*swept, "--set", "evaluate_every=1000", *asked])
    rows = json.loads(result.stdout)["rows"]
    assert set(rows) == {f"{preset} {name}" for preset in ("digits-ab", "digits-aba") for name in ("adam", "sgd")}
    before = len(sweep.read(table))
    compared = ["compare", "digits-ab", "--optimizers", "adam,sgd", "--no-twins", "--no-joint", "--table", table]
    found = json.loads(CliRunner().invoke(app, [*compared, *asked]).stdout)["rows"]
    assert before == len(sweep.read(table)) == 8  # nothing was trained again
    assert found["adam"]["metrics"] == rows["digits-ab adam"]["metrics"]


# -- with processes that are killed

SWEEP = ["sweep", "digits-ab", "--optimizers", "adam,sgd", "--seeds", "5", "--set", "epochs=20", *SETTINGS]
RUNS = 10


def started(*arguments, cwd):
    command = [sys.executable, "-c", "from nllab.cli import main; main()", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows_in(table):
    return len(list(table.glob("[!._]*.parquet")))


def workers_of(process):
    """joblib's processes that have trained already."""
    found = [
        child for child in psutil.Process(process.pid).children(recursive=True) if "loky" in " ".join(child.cmdline())
    ]
    return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]


def one_process(tmp_path):
    return sweep.execute([Experiment(**json.loads(e)) for e in sweep.read(tmp_path / "t.parquet")["experiment"]])


def check(tmp_path):
    """Every run is there once, and says what one process says."""
    told = sweep.read(tmp_path / "t.parquet")
    assert len(told) == RUNS and told["key"].is_unique and set(told["status"]) == {"finished"}
    alone = one_process(tmp_path)
    assert all(alone[row["key"]]["summary"] == row["summary"] for row in told.to_dict("records"))


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_runs(tmp_path):
    process = started(*SWEEP, "--jobs", "2", "--out", "t.parquet", cwd=tmp_path)
    until(lambda: rows_in(tmp_path / "t.parquet") >= 3)
    kept = rows_in(tmp_path / "t.parquet")
    workers_of(process)[0].kill()
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    assert kept < RUNS and "a worker was killed; the runs under way begin again" in told
    check(tmp_path)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    process = started(*SWEEP, "--jobs", "2", "--out", "t.parquet", cwd=tmp_path)
    until(lambda: rows_in(tmp_path / "t.parquet") >= 3)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(children, timeout=60)
    kept = rows_in(tmp_path / "t.parquet")
    assert 3 <= kept < RUNS
    _, told = started(*SWEEP, "--jobs", "2", "--out", "t.parquet", cwd=tmp_path).communicate(timeout=PATIENCE)
    assert told.startswith(f"{kept} of {RUNS} runs are in the table")
    assert sum("seed" in line for line in told.splitlines()) == RUNS - kept
    check(tmp_path)


@pytest.mark.slow
def test_a_cluster_of_processes_loses_a_worker_and_finishes(tmp_path):
    pytest.importorskip("distributed")
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "false"}
    address_file = tmp_path / "scheduler.json"

    def launched(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        with open(os.devnull, "w") as hole:
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=hole, stderr=hole)

    quiet = ("--host", "127.0.0.1", "--no-dashboard")
    servers = [launched("dask_scheduler", *quiet, "--port", "0", "--scheduler-file", str(address_file))]
    try:
        until(address_file.exists)
        address = json.loads(address_file.read_text())["address"]
        servers += [launched("dask_worker", address, *quiet, "--no-nanny", "--nthreads", "1") for _ in range(3)]
        process = started(*SWEEP, "--scheduler", address, "--out", "t.parquet", cwd=tmp_path)
        until(lambda: rows_in(tmp_path / "t.parquet") >= 3)
        kept = rows_in(tmp_path / "t.parquet")
        servers[1].kill()
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and kept < RUNS, told
        assert sweep.read(tmp_path / "t.parquet")["worker"].nunique() >= 2
        check(tmp_path)
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_workers_that_die_again_and_again_end_in_a_sentence(monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    def dead(*_):
        raise BrokenProcessPool("a process was terminated")
        yield

    monkeypatch.setattr(sweep, "_trained", dead)
    with pytest.raises(NllabError, match="killed 3 times in a row .* 0 of 1 runs are done; the same command goes on"):
        sweep.execute(experiments(1))
