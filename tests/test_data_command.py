"""`nllab data` says what the lab makes of two paths before anything is trained."""

import json

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from nllab.cli import app
from nllab.data import Report, load
from nllab.data.uploads import keep
from nllab.errors import DataError, NllabError
from nllab.events import Data
from nllab.experiment import Experiment
from nllab.run_io import load_run, pack, unpack
from nllab.trainer import train


def table(path, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=80)
    frame = pd.DataFrame(
        {"x": x, "z": draw.normal(size=80), "label": np.where(x + draw.normal(size=80) > 0, "up", "down")}
    )
    frame.to_csv(path, sep=";", decimal=",")
    return str(path)


def test_it_prints_the_report_as_text_and_as_json(tmp_path):
    paths = [table(tmp_path / "a.csv", 0), table(tmp_path / "b.csv", 1)]
    text = CliRunner().invoke(app, ["data", *paths]).stdout
    assert "A: a.csv, a table separated by semicolons with decimal commas; 80 samples" in text
    assert "left out: A: 1 column without a name (Unnamed)" in text and "shared classes: all" in text
    report = json.loads(CliRunner().invoke(app, ["data", *paths, "--json"]).stdout)
    assert report["inputs"] == "2 columns: 'x', 'z'" and report["shared"] == ["down", "up"]
    assert sum(report["paths"][1]["classes"].values()) == 80
    apart = json.loads(CliRunner().invoke(app, ["data", *paths, "--apart", "--json"]).stdout)
    assert apart["shared"] == [] and "B: up" in apart["paths"][1]["classes"]


def test_what_cannot_be_read_is_an_error_of_the_lab(tmp_path):
    result = CliRunner().invoke(app, ["data", table(tmp_path / "a.csv", 0), str(tmp_path / "none.csv")])
    assert isinstance(result.exception, DataError) and "does not exist" in str(result.exception)


def test_a_run_of_own_data_keeps_the_report(tmp_path):
    paths = [table(tmp_path / "a.csv", 0), table(tmp_path / "b.csv", 1)]
    run = train(Experiment.preset(f"own:{','.join(paths)}", optimizer="adam", dim=8, hidden=8))
    report = load(paths).report
    run.save(tmp_path / "run")
    for kept in (run, load_run(tmp_path / "run"), unpack("run.zip", pack(run))):
        assert Report.model_validate(kept.of(Data)[0].report) == report


def test_an_upload_is_kept_under_a_name_of_ours(tmp_path):
    for name in ("../../etc/passwd", "a,b.csv", "C:\\x\\t.csv.gz", "", "\0", "n" * 5000 + ".csv", "<b>.csv"):
        path = keep(name, b"x,label\n", tmp_path)
        assert path.parent == tmp_path and path.read_bytes() == b"x,label\n" and "," not in path.name
    assert keep("a.csv", b"1", tmp_path) == keep("a.csv", b"1", tmp_path) != keep("a.csv", b"2", tmp_path)


def test_a_message_is_short_whatever_it_quotes():
    long = NllabError("x" * 200_000 + "remedy")
    assert len(str(long)) < 500 and str(long).endswith("remedy")
