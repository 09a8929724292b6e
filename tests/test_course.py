"""Exercises: every solution passes, every plausible wrong one, an empty one and a typed constant fail, whatever an
answer does there is a sentence, and what was done is kept."""

import importlib
import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from waiting import PATIENCE

import nllab
from nllab import course
from nllab.course import exercise as tried
from nllab.course.exercise import NOTEBOOKS, Answer, Draw, Exercise, Number, Wrong, exercises_of, judge
from nllab.course.progress import FILE, Progress
from tests.course.right import RIGHT
from tests.course.wrong import WRONG

EXERCISES = {name: one for notebook in NOTEBOOKS for name, one in exercises_of(notebook).items()}
for notebook in sorted({one.notebook for one in EXERCISES.values()}):
    importlib.import_module(f"tests.course.n{notebook}")
CONSTANTS = (0.5, 12, "A", True, [1, 2], (3, 4), torch.zeros(3), np.zeros(3), {"a": 1})


def solved(one):
    """The answer that the solution defines, in a namespace such as a notebook has."""
    names = {"nllab": nllab, "torch": torch, "np": np, "math": math, "F": F}
    exec(one.solution, names)
    return names[one.answer]


TRAINED = {"00.1", "05.3", "10.3", "12.1", "12.4"}  # functions whose check trains networks


def slowly(names):
    """Runs of whole trainings only on request."""
    late = [n for n in names if EXERCISES[n].wants == "run" or n in TRAINED]
    return [pytest.param(n, marks=pytest.mark.slow) if n in late else n for n in names]


@pytest.mark.parametrize("name", slowly(EXERCISES))
def test_the_solution_passes(name):
    answer = solved(EXERCISES[name])
    for seed in range(2 if EXERCISES[name].wants == "function" else 1):
        verdict = judge(EXERCISES[name], answer, seed)
        assert verdict.passed, verdict.sentence


@pytest.mark.parametrize(("name", "answer"), [pytest.param(*one, id=f"{one[0]}-{one[1].__name__}") for one in RIGHT])
def test_another_way_to_the_answer_passes(name, answer):
    for seed in range(2):
        verdict = judge(EXERCISES[name], answer, seed)
        assert verdict.passed, verdict.sentence


@pytest.mark.parametrize("name", slowly(EXERCISES))
def test_wrong_solutions_fail_with_a_sentence(name):
    assert len(WRONG[name]) >= 3
    for label, answer in WRONG[name]:
        made = answer() if EXERCISES[name].wants == "run" else answer
        for seed in range(2):
            verdict = judge(EXERCISES[name], made, seed)
            assert not verdict.passed and not verdict.empty, label
            assert len(verdict.sentence) > 20 and "Traceback" not in verdict.sentence, label


@pytest.mark.parametrize("name", slowly(EXERCISES))
def test_empty_answers_and_typed_constants_fail(name):
    for empty in (..., None, lambda *arguments, **settings: None, lambda *arguments, **settings: ...):
        verdict = judge(EXERCISES[name], empty)
        assert not verdict.passed
    for value in CONSTANTS:
        for answer in (value, lambda *arguments, constant=value, **settings: constant):
            verdict = judge(EXERCISES[name], answer)
            assert not verdict.passed and not verdict.empty, value
            assert verdict.sentence.rstrip().endswith((".", "?", "!")) or "expected" in verdict.sentence


def with_nan(part):
    return torch.full_like(part, torch.nan) if isinstance(part, torch.Tensor) else part * np.nan


def with_an_axis_too_many(part):
    return part[None] if isinstance(part, torch.Tensor | np.ndarray) else [part]


def in_another_dtype(part):
    return part.to(torch.complex64) if isinstance(part, torch.Tensor) else complex(part)


@pytest.mark.parametrize("spoil", [with_nan, with_an_axis_too_many, in_another_dtype])
@pytest.mark.parametrize("name", slowly([n for n, one in EXERCISES.items() if one.wants == "function"]))
def test_solutions_that_return_nan_or_another_shape_or_dtype_fail_with_a_sentence(name, spoil):
    answer, spoiled = solved(EXERCISES[name]), []

    def spoiling(part):
        if isinstance(part, tuple | list):
            return type(part)(map(spoiling, part))
        plain = isinstance(part, torch.Tensor | float | int) and not isinstance(part, bool)
        if plain or (isinstance(part, np.ndarray) and spoil is not in_another_dtype):
            spoiled.append(part)
            return spoil(part)
        return part

    verdict = judge(EXERCISES[name], lambda *arguments: spoiling(answer(*arguments)), 0)
    if spoiled:  # not a run, a stream or an optimizer
        assert not verdict.passed and len(verdict.sentence) > 20 and "Traceback" not in verdict.sentence


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_and_solution_are_there(name):
    one = EXERCISES[name]
    assert len(one.hints) >= 2 and one.answer in one.solution
    assert one.kind in ("predict", "code", "explain") and (one.kind == "predict") == (one.prediction is not None)
    assert all(hint.endswith((".", "?")) and one.solution.strip() not in hint for hint in one.hints)


# What an answer may do.


def attempt(function, *arguments):
    Answer(function, "f").tensor(*arguments, shape=(2,), like=torch.zeros(2))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: 3.0, r"returned 3; a torch tensor of shape \(2,\)"),
        (lambda x: x.numpy(), "a torch tensor"),
        (lambda x: x[:1], r"of shape \(1,\); \(2,\) is wanted"),
        (lambda x: x.double(), "returned torch.float64"),
        (lambda x: x.to("meta"), "on meta; its inputs are on cpu"),
        (lambda x: x / 0 * 0, "NaN or infinite"),
        (lambda x: x.add_(1), "changed its argument in place"),
        (lambda x: 1 / 0, r"f\(\[1.0, 2.0\]\) raised ZeroDivisionError"),
        (lambda: 1, "raised TypeError"),
        (lambda x: exit(), "raised SystemExit"),
        (lambda x: nothing_of_that_name, "Run the cells above first"),  # noqa: F821
    ],
)
def test_what_an_answer_does_is_said_in_a_sentence(function, sentence):
    with pytest.raises(Wrong, match=sentence) as found:
        attempt(function, torch.tensor([1.0, 2.0]))
    (line,) = found.value._render_traceback_()
    assert line.startswith("Not yet. ") and "\n" not in line


def test_an_answer_that_never_returns_is_ended(monkeypatch):
    monkeypatch.setattr(tried, "CALL_SECONDS", 0.2)
    turns = []

    def endless(x):
        while True:
            turns.append(1)

    with pytest.raises(Wrong, match="had not returned after 0.2 seconds"):
        attempt(endless, torch.zeros(2))
    end = time.monotonic() + PATIENCE
    while True:  # the loop itself has ended, not only the wait for it
        before = len(turns)
        time.sleep(0.02)
        if len(turns) == before:
            break
        assert time.monotonic() < end


def test_an_answer_that_sleeps_is_left_behind_and_one_that_waits_for_the_processor_is_not(monkeypatch):
    monkeypatch.setattr(tried, "CALL_SECONDS", 0.1)
    with pytest.raises(Wrong, match="had not returned"):
        attempt(lambda x: time.sleep(60), torch.zeros(2))
    monkeypatch.setattr(tried, "PATIENCE", 600)
    attempt(lambda x: (time.sleep(0.3), x)[1], torch.zeros(2))  # three times as long by the clock, and next to no work


def test_gradients_are_compared_in_every_argument():
    def product(a, b):
        return a * b

    def half_blind(a, b):
        return a * b.detach()

    x = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    Answer(product, "f").gradients(product, x, Draw(0), "no")
    with pytest.raises(Wrong, match="Its gradients are off"):
        Answer(half_blind, "f").gradients(product, x, Draw(0), "Its gradients are off.")
    with pytest.raises(Wrong, match="cannot take gradients through"):
        Answer(lambda a, b: (a * b).detach(), "f").gradients(product, x, Draw(0), "no")


# What is kept.


def doubled(f, draw):
    x = draw.normal(2)
    f.close(f.tensor(x, shape=(2,), like=x), 2 * x, "It is not twice as much.")
    return 0.25


FACTOR = 2


def helper(x):
    return FACTOR * x


def twice(x):
    return helper(x)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """One exercise of a notebook of its own, in an empty folder."""
    one = Exercise("98.1", "predict", "twice", doubled, ("Think.",), "twice = 2", "function", Number(0, 1))
    module = SimpleNamespace(EDITION=2, one=one)
    monkeypatch.setitem(__import__("sys").modules, "nllab.course.n98", module)
    monkeypatch.setattr(tried, "NOTEBOOKS", ("98",))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_prediction_is_kept_and_compared_once_the_answer_is_there(toy, capsys):
    with pytest.raises(Wrong, match="Predict first"):
        course.check("98.1", twice)
    course.predict("98.1")
    assert "Your turn" in capsys.readouterr().out
    for bad in (2, "half", None, float("nan"), True):
        with pytest.raises(Wrong, match="a number from 0 to 1"):
            course.predict("98.1", bad)
    course.predict("98.1", 0.5)
    course.check("98.1", twice)
    course.predict("98.1", 0.25)  # too late
    out = capsys.readouterr().out
    assert "You predicted 0.5; it is 0.25" in out and "stays 0.5" in out
    kept = json.loads((toy / FILE).read_text())["exercises"]["98.1"]
    assert kept["prediction"] == 0.5 and kept["truth"] == 0.25 and kept["attempts"] == 1 and kept["solved"]
    names = {}
    exec(kept["answer"], names)
    assert names["twice"](3) == 6  # what was kept runs on its own


def test_a_wrong_answer_is_counted_and_undoes_nothing(toy):
    course.predict("98.1", 0.5)
    course.check("98.1", twice)
    with pytest.raises(Wrong, match="It is not twice as much"):
        course.check("98.1", lambda x: 3 * x)
    assert Progress().of("98.1")["attempts"] == 2 and Progress().solved("98") == ["98.1"]


def test_edited_cells_and_older_copies_get_a_sentence(toy, capsys):
    for name in ("98.7", "twice", 3, None):
        with pytest.raises(Wrong, match="There is no exercise"):
            course.check(name, twice)
    course.begin("98", edition=1)
    out = capsys.readouterr().out
    assert "0 of 1 exercises solved" in out and "edition 1 and nllab has edition 2" in out


def test_a_damaged_file_is_kept_aside(toy):
    (toy / FILE).write_text("{ not json")
    course.predict("98.1", 0.5)
    assert (toy / "nllab-progress.damaged-1.json").read_text() == "{ not json"
    assert Progress().of("98.1")["prediction"] == 0.5


def test_a_folder_that_cannot_be_written_loses_nothing(toy, capsys, monkeypatch):
    course.predict("98.1", 0.5)

    def refuse(self, *arguments, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    course.check("98.1", twice)
    assert "Right." in (out := capsys.readouterr().out) and "Progress is not kept" in out


def test_claims_print_or_fail(capsys):
    course.claim(torch.tensor(True), "A is lost.")
    assert capsys.readouterr().out == "✓ A is lost.\n"
    course.claim(True, 40 * "long ")
    assert max(map(len, capsys.readouterr().out.splitlines())) < 98  # no word is broken by a page of 1280 pixels
    with pytest.raises(course.ClaimError, match="does not bear it out: A is kept"):
        course.claim(np.bool_(False), "A is kept.")
