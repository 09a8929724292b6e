import json

import pytest

from nllab.errors import RunFormatError
from nllab.events import End, Experience, LevelStep, Step, Switch, Untrained
from nllab.experiment import Experiment
from nllab.run_io import load_run
from nllab.runs import Run
from nllab.summary import spread, summarize


def level(wrote, writes):
    sizes = {"update_norm": 0.0, "drift": 0.1, "drift_since_switch": 0.0, "gradient_norm": 1.0}
    return LevelStep(wrote=wrote, writes=writes, **sizes)


def by_hand():
    """Two experiences of two steps each, with numbers one can check."""
    run = Run.begin(Experiment.preset("digits-ab"), ("A", "B"), {"fast": 1})
    run.extend([Untrained(step=0, accuracy={"A": 0.1, "B": 0.2})])
    for experience, (task, start) in enumerate([("A", 1), ("B", 3)]):
        run.extend([Switch(step=start, experience=experience, task=task)])
        for step in (start, start + 1):
            told = {"step": step, "task": task, "optimizer": "deep", "loss": 1.0, "online_accuracy": step / 10}
            run.extend([Step(**told, levels={"fast": level(True, step)})])
        accuracy = {"A": 0.9, "B": 0.3} if task == "A" else {"A": 0.6, "B": 0.8}
        run.extend([Experience(step=start + 1, experience=experience, task=task, accuracy=accuracy)])
    run.extend([End(step=4, reason="finished", text="")])
    return run


def test_scores_by_hand():
    summary = by_hand().summary
    assert summary["accuracy_matrix"] == [[0.9, 0.3], [0.6, 0.8]]
    assert (summary["a_after_a"], summary["a_after_b"], summary["b_after_b"]) == (0.9, 0.6, 0.8)
    assert summary["average_accuracy"] == pytest.approx(0.7) and summary["forgetting"] == pytest.approx(0.3)
    assert summary["backward_transfer"] == pytest.approx(-0.3) and summary["forward_transfer"] == pytest.approx(0.1)
    assert summary["online_accuracy"] == pytest.approx([0.15, 0.35]) and summary["update_counts"] == {"fast": 4}


def test_events_are_one_tidy_table():
    events = by_hand().events
    assert list(events.columns) == ["step", "task", "metric", "subject", "value"]
    writes = events[(events.metric == "writes") & (events.subject == "fast")]
    assert writes.value.tolist() == [1, 2, 3, 4] and writes.task.tolist() == ["A", "A", "B", "B"]


def test_over_seeds_what_is_undefined_is_none_and_never_nan():
    assert spread([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(2**0.5), "values": [1.0, 3.0]}
    assert spread([1.0]) == {"mean": 1.0, "std": None, "values": [1.0]}
    assert spread([None, 1.0]) == {"mean": None, "std": None, "values": [None, 1.0]}
    run = by_hand()
    run.bytes_kept = 5
    unfinished = Run.begin(run.experiment, run.tasks, run.levels)
    unfinished.bytes_kept = 0
    result = summarize(run.experiment, [run, unfinished], 1.0)
    assert result["metrics"]["a_after_b"]["mean"] is None and result["metrics"]["a_after_b"]["values"] == [0.6, None]
    json.dumps(result, allow_nan=False)


def test_a_run_that_was_not_closed_ends_with_its_last_whole_event(tmp_path):
    run = by_hand()
    file = run.save(tmp_path) / "events.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2]) + lines[-2][:9])
    with pytest.raises(RunFormatError, match="was cut after line"):  # its summary says that there was more
        load_run(tmp_path)
    (tmp_path / "summary.json").unlink()
    found = load_run(tmp_path)
    assert found.log == run.log[:-1] and found.interrupted and not run.interrupted


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("events.jsonl", "not json\n{}\n", "first line of events.jsonl is damaged"),
        ("events.jsonl", '{"format": 99}\n', "format 99"),
        ("events.jsonl", "", "its first, is missing"),
        ("events.jsonl", "[1]\n", "its first, is missing"),
        ("events.jsonl", '{"format": 2}\n', "line 1 is damaged"),
        ("events.jsonl", "\udcff", "damaged"),
    ],
)
def test_a_damaged_run_is_refused_in_words(tmp_path, file, content, message):
    folder = by_hand().save(tmp_path)
    (folder / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFormatError, match=message):
        load_run(folder)


def test_a_missing_run_is_refused_in_words(tmp_path):
    with pytest.raises(RunFormatError, match="experiment.json"):
        load_run(tmp_path / "nothing")
