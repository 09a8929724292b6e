import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from nllab import cli
from nllab.cli.serving import check_port
from nllab.errors import SettingError
from nllab.experiment import OPTIMIZERS
from nllab.runs import SCORES

SMALL = [word for setting in ("dim=16", "hidden=16", "batch_size=200") for word in ("--set", setting)]
FEWEST = [*SMALL[:-1], "batch_size=400"]


def nllab(*arguments, **settings):
    command = [sys.executable, "-c", "from nllab.cli import main; main()", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"}, **settings
    )


def ended(*arguments):
    """The command in this process, as it ended. Errors of the lab are raised."""
    return CliRunner().invoke(cli.app, [*arguments], catch_exceptions=False)


def called(*arguments):
    """Its stdout, where it went well."""
    result = ended(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_run_prints_one_json_object_and_nothing_else():
    done = ended("run", "digits-ab", "--optimizer", "deep", "--seeds", "2", "--json", *SMALL)
    assert done.exit_code == 0 and done.stderr == ""
    result = json.loads(done.stdout)
    assert {
        "preset",
        "experiment",
        "seeds",
        "metrics",
        "accuracy_matrix",
        "online_accuracy",
        "update_counts",
        "bytes_kept",
        "seconds",
    } <= set(result)
    assert result["preset"] == "digits-ab" and result["seeds"] == [0, 1] and result["experiment"]["dim"] == 16
    assert set(result["metrics"]) == set(SCORES)
    contract = {
        "average_accuracy",
        "forgetting",
        "backward_transfer",
        "forward_transfer",
        "a_after_a",
        "a_after_b",
        "b_after_b",
    }
    assert contract <= set(SCORES)
    for score in result["metrics"].values():
        assert set(score) == {"mean", "std", "values"} and len(score["values"]) == 2
    matrices = result["accuracy_matrix"]
    assert result["metrics"]["a_after_b"]["values"] == [matrix[1][0] for matrix in matrices]
    assert result["update_counts"]["head"]["values"] == [8, 8]


def test_what_is_undefined_for_a_stream_is_null():
    result = json.loads(called("run", "digits-5x2", "--json", *SMALL))
    assert result["metrics"]["a_after_b"] == {"mean": None, "std": None, "values": [None]}
    assert result["metrics"]["average_accuracy"]["std"] is None and len(result["accuracy_matrix"][0]) == 5


def test_runs_are_saved_where_asked(tmp_path):
    from nllab.run_io import load_run

    printed = json.loads(called("run", "digits-ab", "--json", "--out", str(tmp_path), *SMALL))
    assert load_run(tmp_path / "seed-0").accuracy_matrix.tolist() == printed["accuracy_matrix"][0]


def test_compare_pairs_seeds_and_shows_twin_and_ceiling():
    few = ("dim=32", "hidden=32", "batch_size=100", "learning_rate=0.02")
    quick = [word for setting in few for word in ("--set", setting)]  # Adam forgets within the seven steps of B
    result = json.loads(called("compare", "digits-ab", "--optimizers", "adam,deep", "--seeds", "1", "--json", *quick))
    rows = result["rows"]
    assert list(rows) == [
        name + suffix for name in ("adam", "deep") for suffix in ("", ", frozen twin", ", joint ceiling")
    ]
    assert rows["deep, frozen twin"]["update_counts"]["fast"]["mean"] == 0
    a_after_b = {name: row["metrics"]["a_after_b"]["mean"] for name, row in rows.items()}
    assert a_after_b["adam"] < 0.5 < a_after_b["deep"]
    table = called("compare", "digits-ab", "--optimizers", "adam", "--seeds", "1", "--no-twins", "--no-joint", *SMALL)
    assert "A after B" in table and "first 20 of B" in table and "twin" not in table.splitlines()[-3]


def test_compare_puts_methods_beside_optimizers():
    names = ["--methods", "er,rls,labels-trick", "--optimizers", "deep", "--no-joint"]
    result = json.loads(called("compare", "digits-ab", "--seeds", "2", "--json", *names, *FEWEST))
    assert list(result["rows"]) == [
        "deep",
        "deep, frozen twin",
        "er",
        "er, frozen twin",
        "rls",
        "labels-trick",
        "labels-trick, frozen twin",
    ]
    assert (
        result["rows"]["er"]["experiment"]["method"] == "er"
        and result["rows"]["labels-trick"]["experiment"]["outputs"] == "batch"
    )
    assert result["learners"]["er"]["told"] == ["samples"] and result["learners"]["rls"]["difference_from_twin"] is None
    assert len(result["learners"]["deep"]["difference_from_twin"]["values"]) == 2
    only = called("compare", "digits-ab", "--methods", "er", "--optimizers", "", "--seeds", "1", "--no-twins", *FEWEST)
    assert "samples" in only and "deep" not in only


def test_a_sweep_ranks_every_combination_on_validation_data():
    asked = ["--over", "rate=0/1", "--over", "retention=1/0.9", *FEWEST, "--jobs", "1"]
    result = json.loads(called("sweep", "digits-ab", *asked, "--json"))
    scores = [row["metrics"]["average_accuracy"]["mean"] for row in result["rows"].values()]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True) and result["best"].startswith("rate=1 ")
    assert {row["experiment"]["evaluate_on"] for row in result["rows"].values()} == {"validation"}
    assert "retention=1 rate=0" in called(
        "sweep", "digits-ab", *asked[2:], "--over", "rate=0", "--set", "evaluate_on=test"
    )


def test_bench_retention_writes_and_prints(tmp_path):
    arguments = [
        "bench",
        "retention",
        "--quick",
        "--seeds",
        "1",
        "--no-tune",
        "--only",
        "naive",
        "--only",
        "joint",
        "--jobs",
        "1",
    ]
    out = tmp_path / "r.json"
    printed = called(*arguments, "--out", str(out), *FEWEST)
    assert "frozen twin" in printed and "Forgetting of the joint model itself" in printed
    again = json.loads(called(*arguments, "--out", str(out), "--json", *FEWEST))
    assert list(again["rows"]) == ["deep", "naive", "joint"] and again["rows"] == json.loads(out.read_text())["rows"]


def test_a_bench_of_sequences_takes_rows_and_models():
    found = json.loads(called("bench", "formal", "--quick", "--only", "LSTM", "--only", "aa", "--json"))
    assert [(row["model"], row["language"]) for row in found["rows"]] == [("LSTM", "aa")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digtis-ab"], "Unknown preset 'digtis-ab'. Did you mean 'digits-ab'?"),
        (["run", "digits-ab", "--optimizer", "depe"], "Unknown optimizer 'depe'. Did you mean 'deep'?"),
        (["run", "digits-ab", "--model", "hop"], "Unknown model 'hop'. Did you mean 'hope'?"),
        (["run", "digits-ab", "--set", "batchsize=3"], "Did you mean 'batch_size'?"),
        (["run", "digits-ab", "--set", "periods=0,4,16"], "periods is '0'"),
        (["run", "digits-ab", "--set", "rate=-1"], "rate is '-1'"),
        (["run", "digits-ab", "--set", "seed=x"], "seed is 'x'"),
        (["run", "digits-ab", "--set", "rate"], "has no '='"),
        (["run", "digits-ab", "--device", "tpu"], "Unknown device 'tpu'"),
        (["compare", "digits-ab", "--optimizers", "adam,sgdd"], "Did you mean 'sgd'?"),
        (["compare", "digits-ab", "--optimizers", ","], "give at least one"),
        (["compare", "digits-ab", "--methods", "ewcc"], "Did you mean 'ewc'?"),
        (["run", "digits-ab", "--set", "method=gmp"], "Did you mean 'gpm'?"),
        (["run", "digits-ab", "--set", "method_settings=strength"], "method_settings is ''"),
        (["bench", "retention", "--preset", "digits-ac"], "Did you mean 'digits-ab'?"),
        (["bench", "retention", "--only", "ewcc"], "Unknown optimizer 'ewcc'"),
        (["bench", "retention", "--out", "r.txt"], "must end in .json or .csv"),
        (["bench", "formal", "--only", "party"], "Unknown language 'party'. Did you mean 'parity'?"),
        (["bench", "recall", "--only", "recal"], "Unknown task 'recal'"),
        (["bench", "ablation", "--only", "static w"], "Unknown row 'static w'. Did you mean 'static v'?"),
        (["bench", "optimizers", "--only", "munon"], "Did you mean 'muon'?"),
        (["bench", "names", "--only", "windows"], "Did you mean 'window'?"),
        (["bench", "names", "--text", "one.txt"], "takes two or more"),
        (["dashboard", "--port", "99999"], "--port is 99999"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(SettingError) as error:
        called(*arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed", "--out", "r.json"], "No such option: --out"),
        (["speed", "--only", "x"], "No such option: --only"),
        (["formal", "--text", "one.txt"], "No such option: --text"),
        (["sped"], "No such command 'sped'"),
    ],
)
def test_a_bench_takes_its_own_options_alone(arguments, message):
    done = ended("bench", *arguments)
    assert done.exit_code == 2 and message in done.stderr.replace("\n", " ")


def test_bad_input_ends_with_status_two_and_one_message():
    done = nllab("run", "digits-ab", "--optimizer", "depe")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "Error: Unknown optimizer 'depe'. Did you mean 'deep'? Valid: " + ", ".join(sorted(OPTIMIZERS)) + ".\n"
    )
    assert ended("run", "digits-ab", "--seeds", "x").exit_code == 2


def test_a_port_in_use_is_named_with_one_that_is_free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"Port {port} is in use. Try --port"):
            check_port(port)


def test_a_run_that_diverges_prints_what_it_measured_and_fails():
    done = ended("run", "digits-ab", "--optimizer", "sgd", "--set", "learning_rate=100000", "--json", *SMALL)
    assert done.exit_code == 3 and "Lower learning_rate" in done.stderr
    assert json.loads(done.stdout)["metrics"]["a_after_b"]["mean"] is None


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_first_dashboard_of_a_life_asks_nothing_and_says_only_where_it_is(tmp_path):
    import pty

    from nllab.bench.live import fetch, free_port

    port, (terminal, screen) = free_port(), pty.openpty()
    command = [sys.executable, "-c", "from nllab.cli import main; main()", "dashboard", "--port", str(port)]
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "BROWSER": "true",
        "DISPLAY": ":0",
    }  # a browser that does nothing
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdin=screen, stdout=screen, stderr=screen, start_new_session=True
    )
    try:
        while fetch(f"http://127.0.0.1:{port}") is None:
            assert process.poll() is None and time.monotonic() - begun < 180
            time.sleep(0.2)
        told = os.read(terminal, 10_000).decode()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        os.close(terminal), os.close(screen)
    assert f"127.0.0.1:{port}" in told and "mail" not in told.lower() and "statistics" not in told


def test_doctor_finds_everything_in_place():
    report = json.loads(called("doctor", "--json"))
    assert report["problems"] == [] and report["dashboard"] and report["notebooks"] >= 3
