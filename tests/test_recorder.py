"""Trainings that are killed, stopped, or find no room: nothing that was done is lost, and what goes on is the same
run."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_store import same
from typer.testing import CliRunner

from nllab import checkpoint, recorder, store
from nllab.cli import app
from nllab.errors import RunFormatError, SettingError
from nllab.events import Step
from nllab.experiment import Experiment
from nllab.recorder import Interrupted, Plan
from nllab.run_io import load_run
from nllab.trainer import train

SMALL = Experiment.preset("digits-ab", dim=12, hidden=12, batch_size=100, evaluate_every=20)
COMMANDS = ((3, "optimizer", "adam"), (6, "optimizer", "deep"), (9, "teach", "A"))


def stopped_after(steps):
    """A stop that is set once so many steps have been taken, and what sets it."""
    stop, taken = threading.Event(), [0]

    def progress(seed, trainer):
        def count(events):
            taken[0] += sum(isinstance(event, Step) for event in events)
            if taken[0] >= steps:
                stop.set()

        return count

    return {"stop": stop, "progress": progress}


@pytest.mark.parametrize("method", ["naive", "er"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, method):
    settings = {"method": method, "optimizer": "adam"} if method != "naive" else {}
    plan = Plan(SMALL.but(**settings), seeds=2, commands=() if settings else COMMANDS)
    whole, _ = plan.train(tmp_path / "whole")
    again = tmp_path / "again"
    for number, steps in enumerate((3, 8, 1, 12)):
        with pytest.raises(Interrupted, match=r"Stopped after step \d+"):
            plan.train(again, resume=bool(number), **stopped_after(steps))
        with pytest.raises(SettingError, match="--resume"):
            plan.train(again)
    runs, problems = Plan.read(again).train(again, resume=True)
    assert not problems and [run.log for run in runs] == [run.log for run in whole]
    for seed in (0, 1):
        for name in ("events.jsonl", "summary.json", "experiment.json"):
            assert (again / f"seed-{seed}" / name).read_bytes() == (
                tmp_path / "whole" / f"seed-{seed}" / name
            ).read_bytes()
        (value, more), (expected, also) = (
            checkpoint.from_bytes((folder / f"seed-{seed}" / "checkpoint.safetensors").read_bytes())
            for folder in (again, tmp_path / "whole")
        )
        assert same(value, expected) and more == also
    assert whole[0].log == train(plan.experiment, commands=plan.commands).log


def test_without_its_checkpoint_a_run_is_trained_again_up_to_where_it_was(tmp_path):
    plan = Plan(SMALL)
    with pytest.raises(Interrupted):
        plan.train(tmp_path, **stopped_after(9))
    (tmp_path / "seed-0" / "checkpoint.safetensors").unlink()
    (run,), _ = plan.train(tmp_path, resume=True)
    assert run.log == train(SMALL).log == load_run(tmp_path / "seed-0").log


def test_a_checkpoint_that_was_changed_is_named_and_one_of_another_run_is_not_used(tmp_path):
    plan = Plan(SMALL)
    with pytest.raises(Interrupted):
        plan.train(tmp_path, **stopped_after(9))
    path = tmp_path / "seed-0" / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 64]) + data[-8:])
    with pytest.raises(RunFormatError, match="checkpoint.safetensors is damaged"):
        plan.train(tmp_path, resume=True)
    other = tmp_path / "other"
    with pytest.raises(Interrupted):
        Plan(SMALL.but(seed=1)).train(other, **stopped_after(9))
    path.write_bytes((other / "seed-1" / "checkpoint.safetensors").read_bytes())
    (run,), _ = plan.train(tmp_path, resume=True)
    assert run.log == train(SMALL).log


def test_what_was_trained_on_other_data_cannot_be_gone_on_with(tmp_path, monkeypatch):
    plan = Plan(SMALL)
    with pytest.raises(Interrupted):
        plan.train(tmp_path, **stopped_after(9))
    (tmp_path / "seed-0" / "checkpoint.safetensors").unlink()
    trainer = recorder.Trainer

    def other_data(experiment, **more):
        found = trainer(experiment, **more)
        found.stream.tasks[0].train.inputs.mul_(1.01)
        return found

    monkeypatch.setattr(recorder, "Trainer", other_data)
    with pytest.raises(RunFormatError, match="says something else than training gives now"):
        plan.train(tmp_path, resume=True)


def test_a_place_that_cannot_be_written_is_a_sentence_before_training(monkeypatch):
    monkeypatch.setattr(recorder, "record", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(store.StoreError, match="does not take a run"):
        Plan(SMALL).train(Path("/proc/nothing"))


def test_a_disk_that_fills_up_costs_no_scores(tmp_path, monkeypatch):
    unbroken = train(SMALL)

    def full(path, content):
        raise OSError(28, "No space left on device")

    def no_room(seed, trainer):
        def after(events):
            if trainer.steps == 6:
                limited.setattr(os, "write", full)
                limited.setattr(store, "replace_file", full)

        return after

    with monkeypatch.context() as limited:
        (run,), (problem,) = Plan(SMALL).train(tmp_path, progress=no_room)
    assert run.log == unbroken.log and "no room" in problem
    held = load_run(tmp_path / "seed-0")
    assert held.interrupted and held.log == run.log[: len(held.log)] and held.steps == 6
    (run,), problems = Plan.read(tmp_path).train(tmp_path, resume=True)
    assert run.log == load_run(tmp_path / "seed-0").log == unbroken.log and not problems


def child(folder, seeds):
    recorder.CHECKPOINT_SECONDS = 0.05
    plan = Plan(SMALL, seeds=seeds)
    plan.train(Path(folder), resume=(Path(folder) / "plan.json").exists())


@pytest.mark.slow  # how long it takes depends on when the kills fall
@pytest.mark.parametrize(("chance", "kills", "seeds"), [(0, 3, 1), *((chance, 25, 2) for chance in range(1, 5))])
def test_killed_at_random_moments_every_run_loads_and_ends_as_an_unbroken_one(tmp_path, chance, kills, seeds):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nllab.recorder", "test_recorder"])
    draw, done, round_ = random.Random(chance), 0, 0
    Plan(SMALL, seeds=seeds).train(tmp_path / "whole")
    whole = {seed: load_run(tmp_path / "whole" / f"seed-{seed}").log for seed in range(seeds)}
    start = time.monotonic()
    process = context.Process(target=child, args=(str(tmp_path / "timed"), seeds))
    process.start()
    process.join()
    seconds = time.monotonic() - start
    while done < kills:
        folder, earlier, round_ = tmp_path / f"round-{round_}", {}, round_ + 1
        while True:
            process = context.Process(target=child, args=(str(folder), seeds))
            process.start()
            process.join(draw.uniform(0.02, 0.6) * seconds)
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            done += 1
            for seed in range(seeds):
                if (folder / f"seed-{seed}" / "events.jsonl").exists():
                    run = load_run(folder / f"seed-{seed}")
                    assert run.log == whole[seed][: len(run.log)] and len(run.log) >= earlier.get(seed, 0)
                    earlier[seed] = len(run.log)
        for seed in range(seeds):
            for name in ("events.jsonl", "summary.json", "experiment.json"):
                path = Path(f"seed-{seed}") / name
                assert (folder / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_from_the_command_line_a_termination_ends_tidily_and_resume_prints_what_an_unbroken_run_prints(tmp_path):
    settings = ["dim=12", "hidden=12", "batch_size=40", "evaluate_every=5"]
    words = ["run", "digits-ab", "--json", *(word for setting in settings for word in ("--set", setting))]

    def call(*arguments):
        return CliRunner().invoke(app, arguments)

    def result(*arguments):
        return json.loads(call(*arguments).stdout)

    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", "from nllab.cli import main; main()", *words, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = out / "seed-0" / "events.jsonl"
    while not (log.exists() and log.stat().st_size > 2_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it must not end while the second one tries
    second = call(*words, "--out", str(out))
    assert isinstance(second.exception, store.StoreError) and "being written by another process" in str(
        second.exception
    )
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 130 and printed == "" and f"nllab run --resume {out}" in said
    assert load_run(out / "seed-0").interrupted
    whole = result(*words)
    again = result("run", "--resume", str(out), "--json")
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    assert {**result(*words, "--resume", str(out)), "seconds": 0} == {**whole, "seconds": 0}
    refused = call(*words, "--set", "dim=13", "--resume", str(out))
    assert isinstance(refused.exception, SettingError) and "begun with other settings" in str(refused.exception)
