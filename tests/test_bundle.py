"""A run survives every way out of the lab and back; whatever else is handed in becomes one sentence."""

import io
import json
import random
import tracemalloc
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from nllab import bundle
from nllab.bundle import COLUMNS, open_run, pack, to_csv, to_parquet, unpack
from nllab.errors import RunFormatError
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.trainer import Trainer

WAYS = {"zip": pack, "csv": to_csv, "parquet": to_parquet}


@pytest.fixture(scope="module")
def run():
    """With everything a run can hold: commands, a picture, a decision, an end."""
    experiment = Experiment(dim=16, hidden=16, batch_size=40, optimizer="adam", periods=(1, 2), evaluate_every=4)
    run = Trainer(experiment).run(
        commands=[(3, "optimizer", "deep"), (4, "period", ["slow", 3]), (20, "teach", "A")], steps=24
    )
    decision = {
        "kind": "decision",
        "step": 24,
        "level": "slow",
        "saw": {"novelty": 0.5},
        "did": {"rate": 2.0},
        "text": 'It said "go", so …',
    }
    end = {"kind": "end", "step": 24, "reason": "finished", "text": "The plan is over."}
    where = {"kind": "where", "step": 24, "levels": dict.fromkeys(run.levels, [[[0.5, 0.25], [1.0, 0.0]]])}
    run.extend([where, decision, end])
    return run


def remade(run, **changes):
    return Run(
        **{"experiment": run.experiment, "tasks": run.tasks, "levels": run.levels, "rows": list(run.rows)} | changes
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_run_comes_back_equal_from_every_download(run, way, tmp_path):
    again = unpack(f"run.{way}", WAYS[way](run))
    assert again == run and again.summary == run.summary
    (tmp_path / f"run.{way}").write_bytes(WAYS[way](run))
    assert open_run(tmp_path / f"run.{way}") == run
    assert WAYS[way](again) == WAYS[way](run)  # and the file depends on the run alone


def test_names_written_on_come_back(tmp_path):
    run = Trainer(Experiment.preset("names-ab", evaluate_every=20)).run(steps=20)
    assert run.of_kind("texts") and "surprise" in run.of_kind("step")[0]["levels"]["head"]
    for way, out in WAYS.items():
        assert unpack(way, out(run)) == run


def test_the_zip_unfolds_to_a_saved_run(run, tmp_path):
    with zipfile.ZipFile(io.BytesIO(pack(run))) as archive:
        archive.extractall(tmp_path)
    assert open_run(tmp_path) == run and "nllab.train(" in (tmp_path / "repeat.py").read_text()


def test_the_table_is_tidy_and_holds_the_numbers_of_the_run(run):
    import pandas as pd

    table = pd.read_csv(io.BytesIO(to_csv(run)))
    assert tuple(table.columns) == COLUMNS
    drift = table[(table.metric == "drift") & (table.subject == "slow")]
    assert drift.value.tolist() == [row["levels"]["slow"]["drift"] for row in run.of_kind("step")]
    assert pd.read_parquet(io.BytesIO(to_parquet(run))).value.equals(table.value)


def test_numbers_that_are_not_finite_go_out_as_gaps_and_come_back(run):
    step = run.of_kind("step")[5]
    odd = {**step, "levels": step["levels"] | {"slow": step["levels"]["slow"] | {"drift": float("inf")}}}
    gap = {**step, "levels": step["levels"] | {"slow": step["levels"]["slow"] | {"drift": None}}}
    for way, out in WAYS.items():
        assert unpack(way, out(remade(run, rows=[odd]))).rows == [gap]


# -- what is not a run
# ------------------------------------------------------------------------------------------------------------


def zipped(files, **settings):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, **settings)
    return out.getvalue()


def lines_of(run, change):
    """The run's zip with its rows.jsonl changed."""
    lines = run.files()["rows.jsonl"].splitlines()
    return zipped({**run.files(), "rows.jsonl": "\n".join(change(lines))})


def with_row(run, **changes):
    row = {**run.of_kind("step")[2], **changes}
    return zipped({**run.files(), "rows.jsonl": "\n".join([json.dumps(run.head), json.dumps(row)])})


def with_signal(run, value):
    levels = run.of_kind("step")[2]["levels"]
    return with_row(run, levels=levels | {"slow": levels["slow"] | {"surprise": value}})


def parquet_of(**columns):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def bad_files(run):
    csv, jsonl = to_csv(run).decode(), run.files()["rows.jsonl"]
    head = run.head
    nan = jsonl.replace('"loss":', '"loss":NaN,"was":', 1)
    first_number = next(line for line in csv.splitlines() if ",loss,," in line)
    hide = zipped({"experiment.json": "{}", "rows.jsonl": "x"}).replace(b"\x00\x00\x08\x00", b"\x01\x00\x08\x00")
    return {
        "nothing": (b"", "columns of a run"),
        "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "neither zip, Parquet nor text"),
        "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\xff", "neither zip, Parquet nor text"),
        "a text": (b"Dear lab,\nplease train.", "'Dear lab,"),
        "an experiment": (run.experiment.to_json().encode(), "without what happened in it"),
        "other json": (b'[{"a": 1}]', "not a run"),
        "deep json": (b"[" * 900_000, "damaged"),
        "a table of something else": (b"a,b,c\n1,2,3\n", "the columns of a run are row, kind"),
        "more columns": (csv.replace("text\n", "text,more\n", 1).encode(), "the columns of a run are"),
        "a cut table": (csv[: len(csv) // 2].rsplit(",", 3)[0].encode(), "cells in place of 8"),
        "a table without its head": ("\n".join(csv.splitlines()[:1] + csv.splitlines()[2:]).encode(), "its first, is missing"),
        "a table with NaN": (csv.replace(first_number, first_number.rsplit(",", 2)[0] + ",nan,", 1).encode(), "loss is 'nan'"),
        "a table with quotes": (csv.replace(",switch,", ',"swi"tch,', 1).encode(), "cannot be read"),
        "a zip of something else": (zipped({"a.txt": "a"}), "no experiment.json"),
        "an empty zip": (zipped({}), "no experiment.json"),
        "a cut zip": (pack(run)[:-40], "cut off"),
        "two runs": (zipped({f"{n}/{name}": text for n in (1, 2) for name, text in run.files().items()}), "has 2 experiment.json"),
        "a path upwards": (zipped({**run.files(), "../../rows.jsonl": "x"}), "names the path '../../rows.jsonl'"),
        "a path of the system": (zipped({**run.files(), "/etc/cron.d/x": "x"}), "names the path"),
        "a path of Windows": (zipped({**run.files(), "C:\\x": "x"}), "names the path"),
        "many members": (zipped({**run.files(), **{str(i): "" for i in range(60)}}), "members, and a run has four"),
        "very many members": (zipped({str(i): "" for i in range(20_000)}), "more members than a run"),
        "another packing": (zipped(run.files(), compress_type=zipfile.ZIP_LZMA), "packed in a way"),
        "an encrypted zip": (hide, "encrypted|damaged"),
        "another version": (zipped({**run.files(), "rows.jsonl": '{"format": 2}'}), "format 2.*Open it with the version"),
        "a strange setting": (zipped({**run.files(), "experiment.json": '{"sede": 1}'}), "Did you mean 'seed'"),
        "a setting out of bounds": (zipped({**run.files(), "experiment.json": '{"dim": 1e9}'}), "dim is"),
        "settings that are a list": (zipped({**run.files(), "experiment.json": "[]"}), "experiment cannot be used"),
        "no rows": (zipped({**run.files(), "rows.jsonl": ""}), "its first, is missing"),
        "NaN": (zipped({**run.files(), "rows.jsonl": nan}), "it holds NaN"),
        "too large a number": (with_row(run, loss=10**400), "finite"),
        "half a line": (lines_of(run, lambda lines: [*lines[:-1], lines[-1][:9]]), "damaged"),
        "steps backwards": (lines_of(run, lambda lines: [lines[0], *lines[:0:-1]]), "step is|row of kind"),
        "another kind": (with_row(run, kind="hack"), "kind is 'hack'"),
        "another task": (with_row(run, task="<img src=x>"), "task is"),
        "an accuracy of 7": (with_row(run, accuracy={"A": 7, "B": 0}), "between 0 and 1"),
        "a missing level": (with_row(run, levels={}), "every level"),
        "a level of words": (with_row(run, levels=dict.fromkeys(run.levels, {"wrote": "yes"})), "whether it wrote"),
        "a matrix without a line": (with_row(run, kind="where", levels=dict.fromkeys(run.levels, [[]])), "row of kind where"),
        "a matrix of words": (with_row(run, kind="where", levels=dict.fromkeys(run.levels, [[["x"]]])), "row of kind where"),
        "an image cut short": (
            with_row(run, kind="samples", shape=[2, 2], tasks={"A": {"labels": [0], "images": ["abc"]}}), "row of kind samples",
        ),
        "a signal of words": (with_signal(run, "much"), "not finite"),
        "names that are no names": (with_row(run, kind="samples", given=3, tasks={"A": {"names": [3]}}), "row of kind samples"),
        "texts of no names": (with_row(run, kind="texts", texts={"A": ["x"]}), "row of kind texts"),
        "answers to nothing": (with_row(run, kind="answers", answers={"A": [1]}), "row of kind answers"),
        "a name with a link": (
            zipped({**run.files(), "rows.jsonl": json.dumps({**head, "tasks": ["<a href=x>"]})}), "names of its tasks",
        ),
        "a parquet of something else": (parquet_of(a=[1], b=["x"]), "columns are a, b"),
        "a cut parquet": (to_parquet(run)[:-100], "damaged or was cut off"),
        "a parquet of zeros": (b"PAR1" + bytes(10_000) + b"PAR1", "damaged or was cut off"),
        "a parquet bomb": (
            parquet_of(
                **{
                    name: pyarrow.repeat(pyarrow.scalar("x" * 4_000), 50_000) if name in ("text", "kind") else [0] * 50_000
                    for name in COLUMNS
                }
            ),
            "more than a run can hold|damaged",
        ),
    }  # fmt: skip


def test_what_is_not_a_run_is_one_sentence_that_says_what_and_what_to_do(run):
    for name, (data, words) in bad_files(run).items():
        with pytest.raises(RunFormatError, match=f"(?s)^upload: .*({words})") as told:
            unpack("upload", data)
        text = str(told.value)
        assert len(text) < 500 and "\n" not in text.replace("\\n", ""), name
        assert any(word in text for word in ("Download", "Upload", "Open it", "Replay")), name


def test_too_large_a_file_is_refused_before_it_is_looked_at():
    with pytest.raises(RunFormatError, match="larger than 32 MB"):
        unpack("big.zip", b"PK" + bytes(bundle.MOST_FILE_BYTES))


@pytest.mark.parametrize("member", ["rows.jsonl", "experiment.json"])
def test_a_bomb_is_not_unpacked(run, member):
    bomb = zipped({**run.files(), member: b" " * (100 * 2**20)})
    assert len(bomb) < 2**18
    tracemalloc.start()
    with pytest.raises(RunFormatError, match="unpacks to more than 64 MB"):
        unpack("bomb.zip", bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * bundle.MOST_BYTES


@pytest.mark.parametrize("way", ["zip", "csv"])
def test_a_file_damaged_anywhere_is_a_run_or_a_sentence(run, way):
    data = WAYS[way](run)
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
            open_run(path)
