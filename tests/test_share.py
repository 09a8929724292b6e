"""Sharing and keeping on the pages: links, downloads, code that repeats a run, and runs that come back from files."""

import functools
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

APP = Path(__file__).parents[1] / "app"
sys.path.insert(0, str(APP))

import export_panel  # noqa: E402
import settings  # noqa: E402
from streamlit.testing.v1 import AppTest  # noqa: E402
from test_app import button, opened, run_of, runs_of, toggle, until  # noqa: E402

from nllab import html_export, run_io  # noqa: E402
from nllab.experiment import Experiment  # noqa: E402
from nllab.trainer import Trainer  # noqa: E402


@functools.cache
def trained():
    return Trainer(Experiment(dim=16, hidden=16, batch_size=40, evaluate_every=4, seed=5)).run(
        commands=[(3, "optimizer", "sgd")], steps=6
    )


@pytest.fixture
def page():
    found = AppTest.from_file(str(APP / "page_live.py"), default_timeout=PATIENCE)
    found.query_params["networks"] = "1"
    yield found
    for run in runs_of(found):
        run.close()


@pytest.fixture
def replay():
    return AppTest.from_file(str(APP / "page_replay.py"), default_timeout=PATIENCE).run()


def test_the_code_on_the_page_repeats_the_run_with_its_toggle(page):
    run = run_of(opened(page))
    toggle(page, "deep").set_value(True).run()
    button(page, "step").click().run()
    until(lambda: run.run.steps == 2)
    page.run()
    python, command = (found.value for found in page.code)
    names = {}
    exec(python, names)
    assert names["run"].log == run.run.log and run.run.commands == [(2, "optimizer", "deep")]
    assert command == "nllab run digits-ab --set optimizer=adam --set evaluate_every=4 --at 2:optimizer=deep --steps 2"


def test_a_run_that_trains_can_be_downloaded_and_has_no_code_yet(page):
    page.run()
    button(page, "play").click().run()
    assert [found.key for found in page.download_button] == [f"keep-live--{ending}" for ending in export_panel.WAYS]
    assert not page.code and any("Pause for the code" in found.value for found in page.caption)
    assert all(found.help for found in page.download_button) and not page.exception


def test_downloads_come_back_through_the_replay_page(replay):
    replay.file_uploader[0].upload("run.zip", export_panel.WAYS["zip"][2](trained())).run()
    assert replay.session_state["replayed"] == {"run.zip": trained()} and not replay.error and not replay.exception
    assert replay.session_state["recordings"] == html_export.recordings({"": trained()})
    assert [found.key for found in replay.download_button] == [
        f"keep-replayed-run.zip-{ending}" for ending in export_panel.WAYS
    ]
    replay.file_uploader[0].set_value([]).run()
    assert "replayed" not in replay.session_state and not replay.download_button


def test_a_wrong_file_is_one_sentence_and_the_page_lives_on(replay):
    good = run_io.pack(trained())
    for name, content, words in [
        ("holiday.png", b"\x89PNG\xff\xfe", "a run is a zip"),
        ("run.zip", good[:-30], "cut off"),
        ("experiment.json", trained().experiment.to_json().encode(), "without what happened in it"),
        ("![x](https://example.org/x.png) **b**.csv", b"a,b\n1,2\n", "a run is a zip"),
    ]:
        replay.file_uploader[0].set_value([]).upload(name, content).run()
        assert (
            len(replay.error) == 1
            and f"{name}: " in (told := replay.error[0].value.replace("\\", ""))
            and words in told
        )
        assert "![x]" not in replay.error[0].value  # a file's name is no Markdown
        assert not replay.exception and "replayed" not in replay.session_state
        replay.run()
        assert len(replay.error) == 1  # still said when the page runs again
    replay.file_uploader[0].set_value([]).upload("run.zip", good).run()
    assert not replay.error and replay.session_state["replayed"] == {"run.zip": trained()}


def test_an_address_cannot_ask_for_files_of_the_server(page):
    page.query_params["stream"] = "own:/etc/passwd,/etc/hosts"
    page.query_params["seed"] = "4"
    page.run()
    assert "cannot ask for files on the server" in page.error[0].value and not page.exception
    button(page, "step").click().run()
    assert (run_of(page).experiment.stream, run_of(page).experiment.seed) == ("digits-ab", 4)


@pytest.mark.parametrize("rate", [0.00123456789, 1e-7])
def test_a_learning_rate_survives_the_controls_to_its_last_digit(page, rate):
    wanted = settings.START.but(learning_rate=rate)
    for key, value in settings.write_address(wanted, 40.0).items():
        page.query_params[key] = value
    page.run()
    button(page, "step").click().run()
    assert run_of(page).experiment == wanted.but(base_optimizer="adam") and not page.error
