"""The notebooks run from top to bottom, their exercises can be solved and failed, and what is committed is clean."""

import ast
import re
import runpy
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BUILD = runpy.run_path(str(FOLDER / "build.py"))
LONGEST_FUNCTION = 15
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])

WRONG = """
import numpy as np
answer_{n} = np.full(np.shape(answer_{n}), -7.0)
try:
{check}
except AssertionError as error:
    assert str(error).startswith("Not yet.")
else:
    raise RuntimeError("a wrong answer to exercise {n} passes")
"""


def read(path):
    return nbformat.read(path, as_version=4)


def tagged(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def indented(code):
    return "\n".join(f"    {line}" for line in code.splitlines())


def test_the_course_is_there():
    assert [path.name[:2] for path in NOTEBOOKS] == ["00", "01", "02"]


@each
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Proactor")
def test_runs_from_top_to_bottom_and_its_exercises_can_be_solved_and_failed(path, monkeypatch):
    monkeypatch.setenv("NLLAB_FAST", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(path)
    solutions = [re.search(r"```python\n(.*?)```", text, re.DOTALL) for text in tagged(notebook, "solution")]
    checks = tagged(notebook, "check")
    assert len(solutions) == len(checks) == len(tagged(notebook, "exercise")) == 3
    for n, (solution, check) in enumerate(zip(solutions, checks, strict=True), start=1):
        assert solution is not None
        added = (solution[1], check, WRONG.format(n=n, check=indented(check)))
        notebook.cells += [nbformat.v4.new_code_cell(code) for code in added]
    done = BUILD["execute"](notebook)
    passed = [cell.outputs[-1].text for cell in done.cells[-8::3]]
    assert all(text.startswith("Right. You predicted") for text in passed), passed


@each
def test_committed_as_it_was_built(path):
    notebook = read(path)
    before = nbformat.writes(notebook)
    assert nbformat.writes(BUILD["clean"](notebook)) == before, "run notebooks/build.py"
    assert "widgets" not in notebook.metadata and path.stat().st_size < 200_000


@each
def test_committed_outputs_are_there_and_show_no_error_or_path_of_a_machine(path):
    outputs = [output for cell in read(path).cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert sum("The live lab on" in output.get("data", {}).get("text/plain", "") for output in outputs) == 1
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr", output
        words = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"(/home/|/root/|/work/|/tmp/|/usr/|[A-Z]:\\)", words), words


@each
def test_code_is_short(path):
    for cell in read(path).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None and node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@each
def test_words_are_those_of_the_house(path):
    prose = " ".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown").lower()
    assert (
        prose.startswith("# ")
        and "## sources" in prose
        and "2512.24695" in prose
        and re.search(r"eq(\.|uations?) \d", prose)
    )
    for word in ("higher level", "lower level", "tier", "meta-params", "hidden state"):
        assert not re.search(rf"\b{word}s?\b", prose), word
