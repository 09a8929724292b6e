"""Who may know whom. Data flows one way: experiment -> trainer -> rows -> run -> figures -> notebook, page or
report."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import nllab

PACKAGE = Path(nllab.__file__).parent
MODULES = {
    ".".join(("nllab", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in PACKAGE.rglob("*.py")
    if "_app" not in str(path)
}
WITHOUT_TORCH = [
    "nllab",
    "nllab.runs",
    "nllab.metrics",
    "nllab.figures",
    "nllab.claims",
    "nllab.measuring",
    "nllab.narration",
    "nllab.pictures",
    "nllab.levels",
    "nllab.experiment",
    "nllab.summary",
    "nllab.reproduce",
    "nllab.events",
    "nllab.run_io",
    "nllab.html_export",
    "nllab.scenarios",
    "nllab.terms",
    "nllab.cli",
    "nllab.data",
]


@functools.cache
def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_importing_these_loads_no_torch():
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *WITHOUT_TORCH], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


WATCHERS = ("nllab.live", "nllab.figures", "nllab.widgets", "nllab.cli", "nllab.html_export")


@pytest.mark.parametrize(
    ("who", "knows_nothing_of"),
    [
        ("nllab.memory", ("nllab.models", "nllab.optim", "nllab.streams", "nllab.trainer")),
        ("nllab.optim", ("nllab.models", "nllab.streams", "nllab.trainer")),
        ("nllab.models", ("nllab.streams", "nllab.trainer", "nllab.optim")),
        ("nllab.data", ("nllab.models", "nllab.optim", "nllab.streams", "nllab.trainer", "torch")),
        ("nllab.streams", ("nllab.models", "nllab.optim", "nllab.trainer", "nllab.memory")),
        ("nllab.methods", ("nllab.trainer", "nllab.live", "nllab.figures")),
        *((f"nllab.{one}", WATCHERS) for one in ("build", "commands", "checkpoint", "snapshots", "trainer")),
        *((f"nllab.{one}", ("nllab.cli", "nllab.widgets", "nllab.live")) for one in ("bench", "anatomy", "futures")),
        *((f"nllab.{one}", ("torch", "nllab.trainer")) for one in ("events", "runs", "run_io", "run_log", "store")),
        *((f"nllab.{one}", ("torch", "nllab.trainer", "nllab.live")) for one in ("metrics", "figures", "pictures")),
        *((f"nllab.{one}", ("torch", "nllab.trainer", "nllab.live")) for one in ("narration", "scenes", "scenarios")),
        ("nllab.live", ("nllab.figures", "nllab.widgets", "nllab.cli")),
        ("nllab.course", ("nllab.cli",)),
    ],
)
def test_imports_go_one_way(who, knows_nothing_of):
    room = {name: path for name, path in MODULES.items() if name == who or name.startswith(who + ".")}
    assert room
    for name, path in room.items():
        assert not {i for i in imported(path) if i.startswith(knows_nothing_of)}, name


def test_only_what_is_shown_in_notebooks_knows_ipywidgets_and_nobody_streamlit():
    for name, path in MODULES.items():
        roots = {i.partition(".")[0] for i in imported(path)}
        assert "streamlit" not in roots, name
        assert "ipywidgets" not in roots or name in ("nllab.widgets", "nllab.place", "nllab.explore")


def test_nothing_unpickles():
    for name, path in MODULES.items():
        assert "pickle" not in imported(path) and "torch.load" not in path.read_text(encoding="utf-8"), name


def test_every_public_name_can_be_had():
    assert nllab.__all__ == sorted(set(nllab.__all__))
    for name in nllab.__all__:
        assert getattr(nllab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = nllab.Nothing


# Why a file is longer than 400 lines; whoever shortens one takes it out.
LONG = {
    "nllab/events.py": "one class for each kind of event, read one at a time",
    "nllab/figures.py": "what each view means in words, beside how it is drawn",
    "nllab/live.py": "one class that a thread and its watchers share",
    "nllab/models/hope.py": "the blocks and the models made of them",
}


def test_no_file_is_longer_than_400_lines_but_for_a_reason():
    root = Path(__file__).parent.parent
    paths = [path for end in ("py", "js") for top in ("nllab", "app") for path in (root / top).rglob(f"*.{end}")]
    long = {
        path.relative_to(root).as_posix()
        for path in paths
        if len(path.read_text(encoding="utf-8").splitlines()) > 400 and "__pycache__" not in path.parts
    }
    assert long == set(LONG)


def test_watchers_read_what_a_run_publishes_and_never_its_trainer():
    root = Path(__file__).parent.parent
    for path in [*(root / "app").glob("*.py"), PACKAGE / "widgets.py", PACKAGE / "pool.py", PACKAGE / "scenes.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr in ("trainer", "_trainer")), path


# What these do is said once, where the protocol or the base class defines them.
OVERRIDES = {"forward", "backward", "loss", "before_step", "after_step", "end_of_experience", "get_state", "move"}
OVERRIDES |= {"sizes", "coloured", "decode"}  # of pictures (nllab/data/pictures.py)


def public(node, name):
    """(name, definition) of each public function and class in a module or class."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and not part.name.startswith("_"):
            yield f"{name}.{part.name}", part
            if isinstance(part, ast.ClassDef):
                yield from public(part, f"{name}.{part.name}")


def test_every_public_name_says_what_it_is():
    for module, path in MODULES.items():
        for name, part in public(ast.parse(path.read_text(encoding="utf-8")), module):
            assert ast.get_docstring(part) or part.name in OVERRIDES, name
