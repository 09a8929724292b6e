"""The doctor speaks plainly about a broken place, and never breaks itself."""

import importlib.metadata
import json
import socket
import subprocess
import sys
import webbrowser

import pytest

from nllab import doctor
from nllab.doctor import examine

BROKEN = """
import sys
for name in ("torch", "streamlit", "pandas", "sklearn"):
    sys.modules[name] = None  # importing it fails
sys.argv = ["nllab", "doctor", "--json"]
from nllab.cli import main
main()
"""


def test_without_torch_it_ends_in_a_sentence():
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (problem,) = [text for text in json.loads(done.stdout)["problems"] if "torch" in text]
    assert problem.startswith("torch is installed and cannot be loaded")


@pytest.mark.parametrize(
    ("name", "version", "sentence"),
    [
        ("torch", None, "torch is not installed; run: pip install torch"),
        ("torch", "1.0", "torch is 1.0, and the lab needs 2.6 or later; run: pip install -U torch"),
        ("streamlit", "1.0.0", "streamlit is 1.0.0, and the lab needs 1.67 or later"),
        ("pandas", None, "pandas is not installed"),
    ],
)
def test_missing_and_old_packages_are_named_with_the_command(monkeypatch, name, version, sentence):
    usual = importlib.metadata.version

    def told(package):
        if package != name:
            return usual(package)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(importlib.metadata, "version", told)
    assert any(problem.startswith(sentence) for problem in examine()["problems"])


def test_versions_compare_by_number():
    assert doctor._numbers("2.13.0+cpu") > doctor._numbers("2.6") > doctor._numbers("2.5.1")


def test_a_gpu_that_torch_cannot_use_is_a_note(monkeypatch):
    import torch

    monkeypatch.setattr(doctor, "_has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert any("built for the CPU alone" in note for note in examine()["notes"])
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    assert any("does not serve CUDA 12.9" in note for note in examine()["notes"])


def test_a_port_that_is_taken_and_a_missing_browser_are_notes(monkeypatch):
    def none(*_):
        raise webbrowser.Error("no")

    monkeypatch.setattr(webbrowser, "get", none)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "nllab dashboard"})
        report = examine()
    assert report["ports_free"] == {str(port): False} and not report["problems"]
    assert any(f"Port {port} is taken" in note and "nllab dashboard --port" in note for note in report["notes"])
    assert any("--no-browser" in note for note in report["notes"])


def test_a_home_that_cannot_be_written_to_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.Path, "home", lambda: tmp_path / "gone")
    assert any(p.startswith("Your home folder") and "Set HOME" in p for p in examine()["problems"])


def saved(place, head, name="events.jsonl"):
    place.mkdir(parents=True)
    (place / name).write_text(head + "\n")
    return place


def test_runs_say_which_version_wrote_them(tmp_path):
    saved(tmp_path / "new", json.dumps({"format": 2, "nllab": "0.3.0"}))
    saved(tmp_path / "old" / "seed-0", json.dumps({"format": 1}), "rows.jsonl")
    report = examine([tmp_path])
    assert {(run["format"], run["written_by"]) for run in report["runs"]} == {(2, "0.3.0"), (1, None)}
    assert not report["problems"]
    saved(tmp_path / "later", json.dumps({"format": 9, "nllab": "9.0"}))
    saved(tmp_path / "damaged", '{"format": ')
    saved(tmp_path / "deep", "[" * 100_000)
    problems = examine([tmp_path])["problems"]
    assert any("has format 9, written by nllab 9.0, and this version reads 1, 2" in problem for problem in problems)
    assert sum("the first line of events.jsonl is damaged" in problem for problem in problems) == 2
    (tmp_path / "empty").mkdir()
    assert any("holds no saved run" in problem for problem in examine([tmp_path / "empty"])["problems"])
    assert any("does not exist" in problem for problem in examine([tmp_path / "nothing"])["problems"])
