"""The code and the command that a run offers train it again, bit for bit, with all that was asked of it on the way."""

import contextlib
import io
import shlex

import pytest
from typer.testing import CliRunner

from nllab import cli
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.reproduce import command_line, read_command, snippet, spelled_command
from nllab.run_io import load_run
from nllab.trainer import Trainer, replay

SMALL = {"dim": 16, "hidden": 16, "batch_size": 100}
COURSES = {
    "to its end": (SMALL, [], None),
    "stopped on the way": ({**SMALL, "optimizer": "adam", "learning_rate": 0.0021, "seed": 3}, [], 7),
    "with the toggle": (
        {**SMALL, "optimizer": "adam"},
        [(5, "optimizer", "deep"), (6, "rate", 0.3), (9, "optimizer", "sgd")],
        None,
    ),
    "taught once more": (SMALL, [(4, "period", ["slow", 3]), (15, "teach", "A"), (17, "retention", 0.9)], 19),
    "diverged": (
        {**SMALL, "optimizer": "sgd", "learning_rate": 1e5, "base_optimizer": "sgd"},
        [(2, "learning_rate", 2e5)],
        None,
    ),
}


@pytest.fixture(scope="module", params=COURSES)
def run(request):
    settings, commands, steps = COURSES[request.param]
    run = Trainer(Experiment(**settings)).run(commands=commands, steps=steps)
    assert run.commands == commands[: len(run.commands)] and run.stopped_at == steps
    return run


def test_the_snippet_gives_the_same_rows(run):
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(snippet(run), names)
    assert names["run"].log == run.log and names["run"].experiment == run.experiment
    assert max(map(len, snippet(run).splitlines())) < 120


def test_the_command_gives_the_same_rows_and_so_does_replay(run, tmp_path):
    words = shlex.split(command_line(run))
    assert words[0] == "nllab"
    CliRunner().invoke(cli.app, [*words[1:], "--json", "--out", str(tmp_path)])
    again = load_run(tmp_path / f"seed-{run.experiment.seed}")
    assert again.log == run.log and again.experiment == run.experiment
    assert replay(run).log == run.log


@pytest.mark.parametrize(
    "text",
    ["69", "x:optimizer=deep", "0:teach=B", "-1:teach=B", "69:optimizer", "9:period=slow", "9:rate=fast", "²:teach=B"],
)
def test_a_command_that_cannot_be_read_is_told_with_an_example(text):
    with pytest.raises(SettingError, match="--at is "):
        read_command(text)


@pytest.mark.parametrize(
    "command", [(69, "optimizer", "deep"), (1, "teach", "B: the 2nd=2"), (7, "period", ["slow", 4]), (2, "rate", 1e-7)]
)
def test_a_command_is_read_as_it_was_spelled(command):
    assert read_command(spelled_command(command)) == command


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([(3, "optimizer", "adma")], "Did you mean 'adam'"),
        ([(99, "rate", 0.5)], "is for step 99, and the plan is over after step 14"),
        ([(15, "teach", "A"), (99, "rate", 0.5)], "over after step 21"),
        ([(0, "rate", 0.5)], "1 or more"),
    ],
)
def test_a_command_that_would_never_come_into_force_is_refused_before_the_first_step(commands, words):
    trainer = Trainer(Experiment(**SMALL))
    with pytest.raises(SettingError, match=words):
        trainer.run(commands=commands)
    assert trainer.steps == 0
