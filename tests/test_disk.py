"""Runs on file systems that are really full, really read-only, or limit the size of a file."""

import resource
import subprocess
from contextlib import contextmanager

import pytest
from test_store import EVENTS, FILES, HEAD

from nllab import run_io, store
from nllab.experiment import Experiment
from nllab.recorder import Plan
from nllab.trainer import train

SMALL = Experiment.preset("digits-ab", dim=12, hidden=12, batch_size=80, evaluate_every=20, front="dense")


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode == 0


@contextmanager
def file_system(place, kilobytes):
    """A file system of this size of its own."""
    place.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", place):
        pytest.skip("needs the right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_system_that_fills_up_keeps_what_was_written_and_goes_on_once_it_has_room(tmp_path):
    with file_system(tmp_path / "small", 160) as place:
        writer = store.Writer(place / "run", HEAD)
        (place / "other").write_bytes(bytes(120 * 1024))
        while writer.problem is None:
            writer.append([EVENTS[writer.lines % len(EVENTS)]])
            assert writer.lines < 5_000
        assert "no room" in writer.problem and len(writer.problem) < 500
        held = store.read(place / "run").records
        assert 0 < len(held) < writer.lines
        (place / "other").unlink()
        writer.append(EVENTS[:1])
        assert writer.problem is None
        writer.close(FILES)
        assert len(store.read(place / "run").records) == writer.lines


def test_a_whole_training_on_a_full_file_system_has_its_scores_and_is_gone_on_with_later(tmp_path):
    whole = train(SMALL)

    def fills_up(seed, trainer):
        def after(events):
            if trainer.steps == 6:
                with pytest.raises(OSError), (place / "other").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))

        return after

    with file_system(tmp_path / "small", 2048) as place:
        (run,), (problem,) = Plan(SMALL).train(place / "out", progress=fills_up)
        assert run.log == whole.log and "no room" in problem
        held = run_io.load_run(place / "out" / "seed-0")
        assert held.interrupted and held.log == whole.log[: len(held.log)] and held.steps >= 5
        (place / "other").unlink()
        (run,), problems = Plan.read(place / "out").train(place / "out", resume=True)
        assert not problems and run.log == run_io.load_run(place / "out" / "seed-0").log == whole.log


def test_a_read_only_file_system_is_a_sentence_before_training_and_harms_no_older_run(tmp_path):
    with file_system(tmp_path / "small", 512) as place:
        store.save(place / "run", HEAD, EVENTS, FILES)
        assert mount("-o", "remount,ro", place)
        for write in (
            lambda: Plan(SMALL).train(place / "run"),
            lambda: store.Writer(place / "run", HEAD),
            lambda: store.save(place / "run", HEAD, EVENTS[:3], FILES),
        ):
            with pytest.raises(store.StoreError, match="Read-only file system. Name a folder"):
                write()
        assert store.read(place / "run").records == EVENTS


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path):
    writer = store.Writer(tmp_path, HEAD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.PROBE_BYTES, before[1]))
    try:
        while writer.problem is None:
            writer.append(EVENTS)
            assert writer.lines < 50_000
        assert "no room" in writer.problem
        with pytest.raises(store.StoreError, match="no room"):
            writer.close(FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    held = store.read(tmp_path)
    assert not held.is_closed and 0 < held.size <= store.PROBE_BYTES
