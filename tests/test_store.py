"""The run on disk: nothing that is damaged passes, nothing that was written is lost."""

import errno
import os
import random

import pytest
import torch

from nllab import checkpoint, store
from nllab.errors import RunFormatError, SettingError

HEAD = {"kind": "run", "format": 2, "tasks": ["A"], "levels": {"fast": 1}}
EVENTS = [{"kind": "step", "step": i, "loss": 0.1 + i / 3, "task": "A"} for i in range(1, 21)]
FILES = {"experiment.json": b'{"seed": 0}\n', "summary.json": b'{"steps": 20}\n'}


def saved(folder, events=EVENTS):
    return store.save(folder, HEAD, events, FILES, bytes_kept=7)


def test_what_was_saved_comes_back(tmp_path):
    log = store.read(saved(tmp_path / "run"))
    assert (log.head, log.records) == (HEAD, EVENTS) and log.is_closed and log.closing["bytes_kept"] == 7


@pytest.mark.parametrize("name", ["events.jsonl", *FILES])
def test_every_cut_and_every_changed_byte_of_every_file_is_noticed(tmp_path, name):
    path = saved(tmp_path) / name
    whole = path.read_bytes()
    draw = random.Random(0)
    wrong = [whole[: draw.randrange(len(whole))] for _ in range(100)]
    for _ in range(300):
        at = draw.randrange(len(whole))
        wrong.append(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
    for content in wrong:
        path.write_bytes(content)
        with pytest.raises(RunFormatError, match=name.replace(".", "[.]")):
            store.read(tmp_path)
    path.write_bytes(whole)
    assert store.read(tmp_path).records == EVENTS


def test_every_line_that_is_missing_doubled_or_moved_is_noticed_and_named(tmp_path):
    path = saved(tmp_path) / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for i in range(len(lines)):
        for wrong in (lines[:i] + lines[i + 1 :], lines[: i + 1] + lines[i:], [*lines[:i], *lines[i:][::-1]]):
            if wrong != lines:
                path.write_bytes(b"".join(wrong))
                with pytest.raises(RunFormatError, match=r"line|behind"):
                    store.read(tmp_path)
    path.write_bytes(b"".join([*lines[:5], lines[4], *lines[5:]]))
    with pytest.raises(RunFormatError, match="line 6 is line 5 once more"):
        store.read(tmp_path)


def test_an_interrupted_run_is_there_up_to_its_last_whole_event(tmp_path):
    writer = store.Writer(tmp_path, HEAD)
    writer.append(EVENTS[:7])
    path = tmp_path / "events.jsonl"
    assert store.read(tmp_path).records == EVENTS[:7]  # while it is written
    path.write_bytes(path.read_bytes()[:-30])  # as if the process had been killed inside a write
    log = store.read(tmp_path)
    assert log.records == EVENTS[:6] and not log.is_closed
    writer.leave()


def test_a_run_is_gone_on_with_and_then_equals_an_unbroken_one(tmp_path):
    writer = store.Writer(tmp_path / "a", HEAD)
    writer.append(EVENTS[:7])
    writer.leave()
    path = tmp_path / "a" / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SettingError, match="--resume"):
        store.Writer(tmp_path / "a", HEAD)
    with pytest.raises(SettingError, match="its tasks differs"):
        store.Writer(tmp_path / "a", {**HEAD, "tasks": ["B"]}, resume=True)
    writer = store.Writer(tmp_path / "a", HEAD, resume=True)
    writer.skip(3)  # a checkpoint lay there
    writer.append(EVENTS[3:])
    writer.close(FILES, bytes_kept=7)
    whole = saved(tmp_path / "b") / "events.jsonl"
    assert path.read_bytes() == whole.read_bytes()
    with pytest.raises(SettingError, match="no interrupted run"):
        store.Writer(tmp_path / "a", HEAD, resume=True)


def test_a_continuation_that_differs_from_what_was_is_refused(tmp_path):
    writer = store.Writer(tmp_path, HEAD)
    writer.append(EVENTS[:7])
    writer.leave()
    writer = store.Writer(tmp_path, HEAD, resume=True)
    with pytest.raises(RunFormatError, match="line 3 says something else"):
        writer.append([EVENTS[0], {**EVENTS[1], "loss": 0.5}])
    writer.leave()
    assert store.read(tmp_path).records == EVENTS[:7]


def test_an_older_run_is_there_until_the_new_one_is_whole(tmp_path):
    saved(tmp_path, EVENTS[:5])
    writer = store.Writer(tmp_path, HEAD)
    writer.append(EVENTS[:7])
    writer.leave()
    assert store.read(tmp_path).records == EVENTS[:5]
    writer = store.Writer(tmp_path, HEAD, resume=True)
    writer.append(EVENTS)
    writer.keep(b"weights")
    writer.close(FILES)
    assert store.read(tmp_path).records == EVENTS
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"weights"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == [
        "checkpoint.safetensors", "events.jsonl", "experiment.json", "summary.json",
    ]  # fmt: skip


def test_killed_between_any_two_calls_of_a_save_one_of_the_two_runs_is_there_whole(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    ways = [(os, "replace"), (os, "fsync"), (type(tmp_path), "unlink")]
    for call in range(60):
        folder = saved(tmp_path / str(call), EVENTS[:5])
        count = 0

        def counted(real, at=call):
            def made(*arguments, **more):
                nonlocal count
                count += 1
                if count > at:
                    raise Killed
                return real(*arguments, **more)

            return made

        with monkeypatch.context() as patch:
            for where, name in ways:
                patch.setattr(where, name, counted(getattr(where, name)))
            try:
                saved(folder)
            except Killed:
                pass
            else:
                assert call > 10
                break
        found = store.read(folder)
        assert found.is_closed and found.records in (EVENTS[:5], EVENTS)
        saved(folder)
        assert store.read(folder).records == EVENTS
    else:
        pytest.fail("the save never ended")


def test_two_writers_into_one_folder(tmp_path):
    writer = store.Writer(tmp_path, HEAD)
    for another in (lambda: store.Writer(tmp_path, HEAD), lambda: saved(tmp_path)):
        with pytest.raises(store.StoreError, match="being written by another process"):
            another()
    writer.append(EVENTS)
    writer.close(FILES)
    assert store.read(saved(tmp_path)).records == EVENTS


@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/run"])
def test_an_impossible_place_is_a_sentence_at_once(place):
    for write in (lambda: store.Writer(place, HEAD), lambda: saved(place), lambda: store.check_folder(place)):
        with pytest.raises(store.StoreError, match=r"does not take a run.*Name a folder"):
            write()


def full_disk(monkeypatch, after):
    """From now on a file takes `after` more bytes, then the disk is full; returns what makes room again."""
    left = [after]
    real = os.write

    def write(descriptor, data):
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, bytes(data)[: left[0]])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", write)
    return lambda: left.__setitem__(0, 10**9)


def test_on_a_full_disk_no_half_line_stays_and_nothing_is_lost_once_there_is_room(tmp_path, monkeypatch):
    writer = store.Writer(tmp_path, HEAD)
    room = full_disk(monkeypatch, 300)
    for event in EVENTS[:10]:
        writer.append([event])
    assert "no room" in writer.problem
    held = store.read(tmp_path).records
    assert 0 < len(held) < 10 and held == EVENTS[: len(held)]
    assert (tmp_path / "events.jsonl").read_bytes().endswith(b"\n")
    room()
    writer.append(EVENTS[10:])
    assert writer.problem is None
    writer.close(FILES)
    assert store.read(tmp_path).records == EVENTS


def test_a_run_that_could_not_be_closed_is_kept_and_can_be_gone_on_with(tmp_path, monkeypatch):
    writer = store.Writer(tmp_path, HEAD)
    with monkeypatch.context() as patch:
        full_disk(patch, 300)
        writer.append(EVENTS)
        with pytest.raises(store.StoreError, match="no room"):
            writer.close(FILES)
    writer = store.Writer(tmp_path, HEAD, resume=True)
    writer.append(EVENTS)
    writer.close(FILES, bytes_kept=7)
    assert store.read(tmp_path).records == EVENTS


def test_a_folder_that_vanishes_is_made_anew_with_all_that_was_in_it(tmp_path):
    folder = tmp_path / "run"
    writer = store.Writer(folder, HEAD)
    writer.append(EVENTS[:7])
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    writer.append(EVENTS[7:])
    writer.close(FILES)
    assert store.read(folder).records == EVENTS


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_a_checkpoint_comes_back_value_for_value_and_every_changed_byte_is_noticed():
    value = {
        "model": {"0.weight": torch.randn(3, 4), "scalar": torch.tensor(0.1, dtype=torch.float64)},
        3: [torch.arange(5), torch.zeros(0), torch.tensor([True, False])],
        "place": {"plan": [0, 1], "pair": (1, 2.5), "wrote": {"adam", "deep"}, "nan": float("nan"), "none": None},
        "third": 1 / 3,
    }
    data = checkpoint.to_bytes(value, lines="12")
    found, more = checkpoint.from_bytes(data)
    assert same(found, value) and more == {"lines": "12"}
    draw = random.Random(0)
    for _ in range(300):
        at = draw.randrange(len(data))
        with pytest.raises(RunFormatError, match="damaged"):
            checkpoint.from_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :])
        with pytest.raises(RunFormatError, match="damaged"):
            checkpoint.from_bytes(data[:at])
