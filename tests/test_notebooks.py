"""The notebooks of the course: their sources are well formed, what is committed was built from them, they run from top
to bottom with every exercise solved, and a lesson whose claim is no longer true cannot be built."""

import ast
import base64
import builtins
import io
import re
import resource
import runpy
import symtable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from nllab.course.exercise import exercises_of

FOLDER = Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]-*.py"))
LESSON_CELLS, EXERCISE_CELLS, LONGEST_FUNCTION, WIDEST = 18, 3, 15, 98
SECONDS = 60
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name[:2])
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Proactor", "ignore:Kernel is running")


@cache
def building():
    """What notebooks/build.py defines, and imports: nbformat takes seconds, too long for collecting tests."""
    return runpy.run_path(str(FOLDER / "build.py"))


def committed(source):
    return building()["nbformat"].read(source.with_suffix(".ipynb"), as_version=4)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def words(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def printed(notebook):
    """All lines that the claims of a built notebook printed."""
    texts = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream"]
    whole = [re.sub(r"\n  (?=\S)", " ", text) for text in texts]  # long ones go on in the next line
    return [line for text in whole for line in text.splitlines() if line.startswith("✓ ")]


@each
def test_committed_notebook_was_built_from_its_source(source):
    notebook = committed(source)
    assert notebook.metadata["nllab"]["built_from"] == building()["fingerprint"](source), "run notebooks/build.py"
    fresh = building()["read"](source)
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in fresh.cells]
    writes = building()["nbformat"].writes
    assert writes(building()["clean"](committed(source))) == writes(notebook)


def test_every_notebook_has_a_source():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SOURCES}


@each
def test_committed_outputs_show_results_and_no_error_or_path_of_a_machine(source):
    notebook = committed(source)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(printed(notebook)) >= 3
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr", output
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        if "image/png" in output.get("data", {}):  # a white sheet: readable in a dark theme as well
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGBA")
            assert picture.getpixel((0, 0)) == (255, 255, 255, 255)
        assert not re.search(r"(/home/|/root/|/work/|/tmp/|/usr/|[A-Z]:\\)", text), text
    assert source.with_suffix(".ipynb").stat().st_size < 900_000


@each
def test_cells_are_few_and_short(source):
    notebook = building()["read"](source)
    names = exercises_of(source.name[:2])
    asked = [tagged(notebook, tag) for tag in ("exercise", "answer", "check")]
    assert [len(cells) for cells in asked] == [len(names)] * EXERCISE_CELLS and len(names) >= 3
    assert len(notebook.cells) - sum(map(len, asked)) <= LESSON_CELLS
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert max(map(len, cell.source.splitlines())) <= WIDEST
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None and node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@each
def test_it_opens_with_what_a_reader_needs_and_ends_with_sources(source):
    notebook = building()["read"](source)
    first, prose = notebook.cells[0].source, words(notebook)
    assert re.match(r"# \d\d · .+\?$", first.splitlines()[0]), "the title asks a question"
    assert "You need:" in first and "At the end you can" in first
    asked = sum(map(int, re.findall(r"^### .*?(\d+) minutes\)$", prose, re.M)))
    assert re.search(rf"\*\*About \d+ minutes\.\*\* The exercises take another {asked}\.", first)
    assert f'begin("{source.name[:2]}"' in notebook.cells[1].source
    assert "## Sources" in prose and "2512.24695" in prose and re.search(r"Eq\. \d", prose)
    for word in ("higher level", "lower level", "tier", "meta-params", "hidden state"):
        assert not re.search(rf"\b{word}s?\b", prose.lower()), word


@each
def test_exercises_are_named_stubbed_and_checked_in_order(source):
    notebook, known = building()["read"](source), exercises_of(source.name[:2])
    cells = zip(known.values(), *(tagged(notebook, tag) for tag in ("exercise", "answer", "check")), strict=True)
    for one, statement, answer, check in cells:
        assert statement.source.startswith(f"### {one.name} ") and re.search(r"\d+ minutes\)", statement.source)
        assert f'check("{one.name}", {one.answer})' in check.source
        assert one.answer in answer.source and "..." in answer.source
        assert (f'predict("{one.name}", ...)' in answer.source) == (one.prediction is not None)


def assigned(node):
    """Names that are bound as this code runs, not those inside its functions."""
    if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return set()
    own = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
    return own.union(*map(assigned, ast.iter_child_nodes(node)))


def read(scope):
    """Names that a function looks up in the notebook."""
    own = {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    return own.union(*map(read, scope.get_children()))


@each
def test_what_a_slider_draws_does_not_change_when_cells_below_are_run(source):
    cells = [cell.source for cell in building()["read"](source).cells if cell.cell_type == "code"]
    bound = [assigned(ast.parse(cell)) for cell in cells]
    for place, cell in enumerate(cells):
        below = set().union(*bound[place + 1 :])
        for scope in symtable.symtable(cell, source.name, "exec").get_children():
            if scope.get_name() not in ("listcomp", "setcomp", "dictcomp", "genexpr"):
                assert not read(scope) & below, f"{scope.get_name()} reads what a later cell binds anew"


def rebuilt(source, change=lambda notebook: None):
    notebook = building()["read"](source)
    change(notebook)
    return building()["execute"](notebook)


def computed():
    """Seconds of processor time that kernels which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@quiet
@each
def test_it_runs_in_a_minute_and_says_what_is_committed(source):
    before = computed()
    assert printed(rebuilt(source)) == printed(committed(source))
    assert computed() - before < SECONDS


def errors_of(notebook):
    """(what each failed cell showed, without colours) in order."""
    found = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    return [re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(o.traceback)).strip() for o in found]


@pytest.mark.slow  # a kernel that loads torch
@quiet
def test_what_goes_wrong_in_a_notebook_is_one_sentence():
    cells = [
        'from nllab.course import begin, check\nbegin("02", edition=0)',
        'check("02.1", delta_write)',  # its cell was deleted, or not yet run
        "def delta_write(memory, key, value, rate):\n    return memory",
        'check("02.1", delta_write)',
        'check("02.9", delta_write)',  # an edited cell
        "def delta_write(memory, key, value, rate):\n    return helper(memory)",
        'check("02.1", delta_write)',
    ]
    nbformat = building()["nbformat"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    notebook.metadata["kernelspec"] = building()["METADATA"]["kernelspec"]
    for cell in notebook.cells[1:]:
        cell.metadata["tags"] = ["raises-exception"]
    done = building()["execute"](notebook)
    opening = done.cells[0].outputs[0].text
    assert "0 of 3 exercises solved" in opening and "edition 0 and nllab has edition" in opening
    deleted, wrong, edited, missing = errors_of(done)
    assert (
        deleted == "'delta_write' is not there yet. Run the cells above first (menu Run, Run All Above Selected Cell)."
    )
    assert wrong.startswith("Not yet. ") and edited.startswith("Not yet. There is no exercise '02.9'")
    assert missing.startswith("Not yet. delta_write uses a name that is not there: name 'helper' is not defined.")
    assert all("\n" not in sentence and "File" not in sentence for sentence in (wrong, edited, missing))


def bound(tree):
    """The names that a piece of code makes."""
    imports = [one for one in ast.walk(tree) if isinstance(one, (ast.Import, ast.ImportFrom))]
    names = {name.asname or name.name for one in imports for name in one.names}
    names |= {one.name for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    names |= {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
    return names | {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


@each
def test_a_solution_uses_what_its_notebook_has_or_brings_it(source):
    cells = [cell.source for cell in building()["read"](source).cells if cell.cell_type == "code"]
    there = set(dir(builtins)).union(*map(bound, map(ast.parse, cells)))
    for one in exercises_of(source.name[:2]).values():
        tree = ast.parse(one.solution)
        used = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
        assert used <= there | bound(tree), one.name


@pytest.mark.slow
@quiet
@each
def test_its_exercises_can_be_solved_in_it(source):
    known = list(exercises_of(source.name[:2]).values())

    def solve(notebook):
        for one, cell in zip(known, tagged(notebook, "answer"), strict=True):
            guess = one.prediction and (getattr(one.prediction, "low", None), *getattr(one.prediction, "options", ()))
            predicted = f"predict({one.name!r}, {[g for g in guess if g is not None][0]!r})\n" if guess else ""
            cell.source = predicted + one.solution

    done = rebuilt(source, solve)
    for cell in tagged(done, "check"):
        assert cell.outputs[-1].data["text/plain"].startswith("Right."), cell


# What a saboteur does to a run, as a cell put behind the first: the notebook must then fail at a claim.
SABOTAGE = {
    "toggle disconnected": """
from nllab.trainer import Trainer
command = Trainer.command
def deaf(self, name, value):
    if name != "optimizer":
        command(self, name, value)
Trainer.command = deaf
""",
    "labels shuffled": """
import dataclasses, torch, nllab.streams, nllab.trainer
whole = nllab.streams.build
def shuffled(*arguments, **settings):
    stream, tasks = whole(*arguments, **settings), []
    for task in stream.tasks:
        order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(1))
        part = dataclasses.replace(task.train, labels=task.train.labels[order])
        tasks.append(dataclasses.replace(task, train=part))
    return dataclasses.replace(stream, tasks=tuple(tasks))
nllab.streams.build = shuffled
""",
    "a level frozen": """
import nllab.trainer
made = nllab.trainer.build_model
def frozen(*arguments, **settings):
    model, levels = made(*arguments, **settings)
    for name, p in model.named_parameters():
        p.requires_grad_(not levels[0].matches(name))
    return model, levels
nllab.trainer.build_model = frozen
""",
}
SABOTAGED = {
    "00": ("toggle disconnected", "labels shuffled", "a level frozen"),
    "04": ("a level frozen",),
    "05": ("labels shuffled",),
    "06": ("labels shuffled",),
}


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("number, how", [(number, how) for number, ways in SABOTAGED.items() for how in ways])
def test_a_sabotaged_lesson_cannot_be_built(number, how):
    (source,) = [path for path in SOURCES if path.name.startswith(number)]

    def sabotage(notebook):
        notebook.cells.insert(2, building()["nbformat"].v4.new_code_cell(SABOTAGE[how]))

    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="ClaimError"):
        rebuilt(source, sabotage)
