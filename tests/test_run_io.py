"""A run survives every way out of the lab and back; whatever else is handed in becomes one sentence."""

import io
import json
import random
import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from nllab import run_io, run_log
from nllab.errors import RunFormatError
from nllab.events import Decision, End, Step, Texts, Where, jsonable
from nllab.experiment import Experiment
from nllab.run_io import COLUMNS, files, head, load_run, pack, to_csv, to_parquet, unpack
from nllab.runs import numbers
from nllab.trainer import Trainer

OLD = Path(__file__).parent / "data" / "v1"  # files as the version of 2026-11-27 wrote them, format 1


@pytest.fixture(scope="module")
def run():
    """With everything a run can hold: commands, a picture, a decision, an end."""
    experiment = Experiment(dim=16, hidden=16, batch_size=40, optimizer="adam", periods=(1, 2), evaluate_every=4)
    run = Trainer(experiment).run(
        commands=[(3, "optimizer", "deep"), (4, "period", ["slow", 3]), (20, "teach", "A")], steps=24
    )
    decision = Decision(step=24, level="slow", saw={"novelty": 0.5}, did={"rate": 2.0}, text='It said "go", so …')
    where = Where(step=24, levels=dict.fromkeys(run.levels, [[[0.5, 0.25], [1.0, 0.0]]]))
    run.extend([where, decision, End(step=24, reason="finished", text="The plan is over.")])
    return run


def test_a_run_comes_back_equal_from_folder_and_zip(run, tmp_path):
    again = unpack("run.zip", pack(run))
    assert again == run and again.summary == run.summary and pack(again) == pack(run)
    (tmp_path / "run.zip").write_bytes(pack(run))
    assert load_run(tmp_path / "run.zip") == run == load_run(run.save(tmp_path / "folder"))


def test_names_written_on_come_back():
    run = Trainer(Experiment.preset("names-ab", dim=16, hidden=16, evaluate_every=4)).run(steps=4)
    assert run.of(Texts) and run.of(Step)[0].levels["head"].surprise is not None
    assert unpack("run.zip", pack(run)) == run


def test_the_zip_unfolds_to_a_saved_run(run, tmp_path):
    with zipfile.ZipFile(io.BytesIO(pack(run))) as archive:
        archive.extractall(tmp_path)
    assert load_run(tmp_path) == run and "nllab.train(" in (tmp_path / "repeat.py").read_text()


def test_the_table_is_tidy_and_holds_the_numbers_of_the_run(run):
    import pandas as pd

    table = pd.read_csv(io.BytesIO(to_csv(run)))
    assert tuple(table.columns) == COLUMNS
    drift = table[(table.metric == "drift") & (table.subject == "slow")]
    assert drift.value.tolist() == [step.levels["slow"].drift for step in run.of(Step)]
    assert pd.read_parquet(io.BytesIO(to_parquet(run))).value.equals(table.value)


def test_numbers_that_are_not_finite_go_out_as_gaps_and_come_back(run):
    step = next(step for step in run.of(Step) if step.accuracy is None)
    odd, gap = (
        replace(step, levels=step.levels | {"slow": replace(step.levels["slow"], drift=drift)})
        for drift in (float("inf"), None)
    )
    assert unpack("run.zip", pack(replace(run, log=[odd]))).log == [gap]
    assert to_csv(replace(run, log=[odd])) == to_csv(replace(run, log=[gap]))


# -- files of before
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(OLD.glob("*.zip")), ids=lambda path: path.stem)
def test_runs_of_format_1_load_with_the_scores_they_had(path):
    run = load_run(path)
    with zipfile.ZipFile(path) as archive:
        saved = json.loads(archive.read("summary.json"))
        assert {name: run.summary[name] for name in saved} == saved
        lines = archive.read("rows.jsonl").decode().splitlines()[1:]
    told = [{key: value for key, value in json.loads(line).items() if value is not None} for line in lines]
    assert [jsonable(event) for event in run.log] == told  # nothing is lost but an absent shape, written as null then
    assert unpack("again.zip", pack(run)) == run


def test_a_folder_of_format_1_loads_and_so_does_one_cut_off_while_writing(tmp_path):
    whole = load_run(OLD / "folder")
    assert whole == load_run(OLD / "digits-ab-commands.zip") and whole.commands[1] == (4, "period", ["slow", 3])
    cut = shutil.copytree(OLD / "folder", tmp_path / "cut") / "rows.jsonl"
    cut.write_bytes(cut.read_bytes()[:-20])
    assert load_run(cut.parent).log == whole.log[:-1]


def test_a_damaged_run_of_format_1_is_refused_in_one_sentence(tmp_path):
    folder = shutil.copytree(OLD / "folder", tmp_path / "run")
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    for changed, words in [
        (["{}\n", *lines[1:]], "its first, is missing"),
        ([*lines[:5], lines[5][:30] + "\n", *lines[6:]], "line 6 of rows.jsonl: it is damaged"),
        ([*lines[:5], *lines[6:], lines[5]], "step is"),
        ([line.replace('"adam"', '"adamant"') for line in lines], "optimizer of the event step is 'adamant'"),
        ([line.replace('"format":1', '"format":7') for line in lines], "format 7.*reads formats 1 to 2"),
    ]:
        (folder / "rows.jsonl").write_text("".join(changed))
        with pytest.raises(RunFormatError, match=words):
            load_run(folder)


# -- what is not a run
# ------------------------------------------------------------------------------------------------------------


def zipped(files, **settings):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, **settings)
    return out.getvalue()


def lines_of(run, change):
    """The run's zip with the lines of its events changed."""
    lines = files(run)["events.jsonl"].decode().splitlines()
    return zipped({**files(run), "events.jsonl": "\n".join(change(lines))})


def summed(run, *texts, **changes):
    """The zip of a run of these lines in JSON, every one with its sum; changes: of its head."""
    lines, before = [], ""
    for text in (json.dumps({**head(run), **changes}), *texts, f'{{"kind":"closed","lines":{len(texts) + 1}}}'):
        before = run_log.chained(before, text.encode())
        lines.append(f'{text[:-1]},"sum":"{before}"}}\n')
    return zipped({**files(run), "events.jsonl": "".join(lines)})


def with_event(run, **changes):
    return summed(run, json.dumps({**jsonable(run.of(Step)[2]), **changes}))


def with_signal(run, value):
    levels = jsonable(run.of(Step)[2].levels)
    return with_event(run, levels=levels | {"slow": levels["slow"] | {"surprise": value}})


def bad_files(run):
    texts = [json.dumps(jsonable(event)) for event in run.log]
    nan = [text.replace('"loss":', '"loss":NaN,"was":', 1) for text in texts]
    hide = zipped({"experiment.json": "{}", "events.jsonl": "x"}).replace(b"\x00\x00\x08\x00", b"\x01\x00\x08\x00")
    return {
        "nothing": (b"", "a run is a zip"),
        "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "a run is a zip"),
        "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\xff", "a run is a zip"),
        "a text": (b"Dear lab,\nplease train.", "a run is a zip"),
        "an experiment": (run.experiment.to_json().encode(), "without what happened in it"),
        "a table with semicolons": (to_csv(run).replace(b",", b";"), "saved with semicolons"),
        "a table cut short": (to_csv(run)[:-30], "cells in place of|no object in JSON|cannot be read"),
        "a table of before": (b"row,kind,step,task,metric,subject,value,text\n0,run,0,,,,,{}\n", "export only"),
        "a Parquet table": (to_parquet(run), "export only"),
        "other json": (b'[{"a": 1}]', "a run is a zip"),
        "deep json": (b"[" * 900_000, "a run is a zip"),
        "a zip of something else": (zipped({"a.txt": "a"}), "no experiment.json"),
        "an empty zip": (zipped({}), "no experiment.json"),
        "a cut zip": (pack(run)[:-40], "cut off"),
        "two runs": (zipped({f"{n}/{name}": text for n in (1, 2) for name, text in files(run).items()}), "has 2 experiment.json"),  # noqa: E501
        "a path upwards": (zipped({**files(run), "../../events.jsonl": "x"}), "names the path '../../events.jsonl'"),
        "a path of the system": (zipped({**files(run), "/etc/cron.d/x": "x"}), "names the path"),
        "a path of Windows": (zipped({**files(run), "C:\\x": "x"}), "names the path"),
        "many members": (zipped({**files(run), **{str(i): "" for i in range(60)}}), "members, and a run has four"),
        "very many members": (zipped({str(i): "" for i in range(20_000)}), "more members than a run"),
        "another packing": (zipped(files(run), compress_type=zipfile.ZIP_LZMA), "packed in a way"),
        "an encrypted zip": (hide, "encrypted|damaged"),
        "another version": (zipped({**files(run), "events.jsonl": '{"format": 3}'}), "format 3.*Open it with the version"),  # noqa: E501
        "a strange setting": (summed(run, experiment={"sede": 1}), "Did you mean 'seed'"),
        "a setting out of bounds": (summed(run, experiment={"dim": 1e9}), "dim is"),
        "settings that are a list": (summed(run, experiment=[]), "experiment cannot be used"),
        "no events": (zipped({**files(run), "events.jsonl": ""}), "its first, is missing"),
        "NaN": (summed(run, *nan), "finite"),
        "too large a number": (with_event(run, loss=10**400), "finite"),
        "half a line": (lines_of(run, lambda lines: [*lines[:-1], lines[-1][:9]]), "cut off"),
        "a line of its middle cut": (lines_of(run, lambda lines: [*lines[:5], lines[5][:9], *lines[6:]]), "line 6 is damaged"),  # noqa: E501
        "a line less": (lines_of(run, lambda lines: [*lines[:5], *lines[6:]]), "line 6 does not follow"),
        "a line twice": (lines_of(run, lambda lines: [*lines[:5], *lines[4:]]), "line 6 is line 5 once more"),
        "other settings beside": (zipped({**files(run), "experiment.json": "{}"}), "experiment.json was changed"),
        "another summary": (zipped({**files(run), "summary.json": "{}"}), "summary.json was changed"),
        "steps backwards": (summed(run, *texts[:9], *texts[:8:-1]), "step is"),
        "another kind": (with_event(run, kind="hack"), "kind is 'hack'"),
        "another task": (with_event(run, task="<img src=x>"), "no task of that name"),
        "an accuracy of 7": (with_event(run, accuracy={"A": 7, "B": 0}), "less than or equal to 1"),
        "a missing level": (with_event(run, levels={}), "every level"),
        "a level of words": (with_event(run, levels=dict.fromkeys(run.levels, {"wrote": "yes"})), "valid boolean"),
        "a matrix without a line": (with_event(run, kind="where", levels=dict.fromkeys(run.levels, [[]])), "at least 1 item"),  # noqa: E501
        "a matrix of words": (with_event(run, kind="where", levels=dict.fromkeys(run.levels, [[["x"]]])), "valid number"),  # noqa: E501
        "an image cut short": (
            with_event(run, kind="samples", shape=[2, 2], tasks={"A": {"labels": [0], "images": ["abc"]}}), "hexadecimal digits",  # noqa: E501
        ),
        "a signal of words": (with_signal(run, "much"), "valid number"),
        "names that are no names": (with_event(run, kind="samples", given=3, tasks={"A": {"names": [3]}}), "valid string"),  # noqa: E501
        "texts of no names": (with_event(run, kind="texts", texts={"A": ["x"]}), "no samples were shown"),
        "answers to nothing": (with_event(run, kind="answers", answers={"A": [1]}), "no samples were shown"),
        "a name with a link": (summed(run, tasks=["<a href=x>"]), "names of its tasks"),
    }  # fmt: skip


def test_what_is_not_a_run_is_one_sentence_that_says_what_and_what_to_do(run):
    for name, (data, words) in bad_files(run).items():
        with pytest.raises(RunFormatError, match=f"(?s)^upload: .*({words})") as told:
            unpack("upload", data)
        text = str(told.value)
        assert len(text) < 500 and "\n" not in text.replace("\\n", ""), name
        assert any(word in text for word in ("ownload", "Upload", "Open it", "Replay", "Take")), name


def test_too_large_a_file_is_refused_before_it_is_looked_at():
    with pytest.raises(RunFormatError, match="larger than 32 MB"):
        unpack("big.zip", b"PK" + bytes(run_io.MOST_FILE_BYTES))


@pytest.mark.parametrize("member", ["events.jsonl", "experiment.json"])
def test_a_bomb_is_not_unpacked(run, member):
    bomb = zipped({**files(run), member: b" " * (100 * 2**20)})
    assert len(bomb) < 2**18
    tracemalloc.start()
    with pytest.raises(RunFormatError, match="unpacks to more than 64 MB"):
        unpack("bomb.zip", bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * run_io.MOST_BYTES


@pytest.mark.parametrize("way", ["zip", "stored"])
def test_a_file_damaged_anywhere_is_a_run_or_a_sentence(run, way):
    data = pack(run) if way == "zip" else zipped(files(run), compress_type=zipfile.ZIP_STORED)
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            again = unpack("upload", bytes(damaged))
            _ = again.summary
        except RunFormatError:
            pass


def test_a_missing_file_is_a_sentence(tmp_path):
    for path in (tmp_path / "no.zip", tmp_path / "nowhere" / "run"):
        with pytest.raises(RunFormatError, match="is not a run: No such file"):
            load_run(path)


def test_a_table_saved_again_by_a_spreadsheet_or_pandas_is_the_same_run(run):
    import io

    import pandas as pd

    plain = to_csv(run)
    again = pd.read_csv(io.BytesIO(plain))
    saved = again.to_csv(index=False, encoding="utf-8-sig", lineterminator="\r\n").encode("utf-8-sig")
    assert unpack("run.csv", plain).log == run.log
    found = unpack("run.csv", saved)  # pandas reads a number to its last digit but one
    assert found.experiment == run.experiment and list(map(type, found.log)) == list(map(type, run.log))
    for one, other in zip(found.log, run.log, strict=True):
        assert json.dumps(jsonable(one))[:40] == json.dumps(jsonable(other))[:40]
        assert [n[:2] for n in numbers(one)] == [n[:2] for n in numbers(other)]
        values = [[n[2] for n in numbers(event) if n[2] is not None] for event in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-14)
    assert found.summary["accuracy_matrix"] == run.summary["accuracy_matrix"]


def test_a_folder_of_one_run_is_that_run_and_of_several_asks_which(tmp_path, run):
    run.save(tmp_path / "out" / "seed-0")
    (tmp_path / "out" / "plan.json").write_text("{}")
    assert load_run(tmp_path / "out").log == run.log
    run.save(tmp_path / "out" / "seed-1")
    with pytest.raises(RunFormatError, match="holds 2 runs; name one of them, such as seed-0"):
        load_run(tmp_path / "out")
