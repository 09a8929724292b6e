"""The README is what a newcomer has: its tree names every file, its example prints what it says, its commands exist."""

import contextlib
import io
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import typer

from nllab import cli
from nllab.experiment import OPTIMIZERS, PRESETS
from nllab.methods.setups import SETUPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = runpy.run_path(str(ROOT / "docs" / "build.py"))["WRITTEN"]


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.split()


def block(language, marker):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
    return next(content for name, content in blocks if name == language and marker in content)


def test_the_tree_names_every_folder_in_a_line_of_its_own():
    named, above = {}, []
    for line in block("", "app/  ").splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, purpose = re.split(r"\s{2,}", line.strip())
        above = [*above[:depth], name]
        named["".join(above).rstrip("/")] = purpose
    folders = {str(parent) for name in tracked() for parent in Path(name).parents} - {"."}
    assert set(named) == {folder for folder in folders if not folder.startswith("tests/")}
    assert len(set(named.values())) == len(named)


def test_the_example_prints_what_it_says():
    code = block("python", "Experiment.preset")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    said = re.findall(r"# (adam|deep): A after A ([\d.]+), A after B ([\d.]+), B after B ([\d.]+)", code)
    found = re.findall(r"(adam|deep): A after A ([\d.]+), A after B ([\d.]+), B after B ([\d.]+)", printed.getvalue())
    assert len(said) == len(found) == 2
    for (name, *numbers), (other, *others) in zip(said, found, strict=True):
        # Another processor may round otherwise, and a run amplifies that.
        assert name == other and [float(n) for n in numbers] == pytest.approx([float(n) for n in others], abs=0.03)
    assert re.search(r"^# (\{.*\})$", code, re.M)[1] == printed.getvalue().splitlines()[-1]


def test_the_loop_of_your_own_keeps_what_it_says():
    code, printed = block("python", "DeepOptimizer"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    said, found = (re.findall(r"(. after B) ([\d.]+)", text) for text in (code.split("\n# ", 1)[1], printed.getvalue()))
    assert [name for name, _ in said] == [name for name, _ in found] == ["A after B", "B after B"]
    for (_, number), (_, other) in zip(said, found, strict=True):
        assert float(number) == pytest.approx(float(other), abs=0.03)


def test_commands_optimizers_and_links_exist():
    commands = set(typer.main.get_command(cli.app).commands)
    assert set(re.findall(r"`nllab (\w+)", README)) <= commands
    for name in re.findall(r"`([a-z]+-[a-z0-9-]+)`", README):
        assert name in PRESETS or name in OPTIMIZERS or name in SETUPS, name
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", WRITTEN)
def test_pages_made_from_the_code_are_as_it_is_now(name):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == WRITTEN[name](), "run docs/build.py"


def test_nothing_names_a_place_on_somebodys_machine():
    for name in tracked():
        if Path(name).suffix in (".py", ".md", ".ipynb", ".toml", ".js", ".css"):
            found = re.findall(r"/(?:home|root|tmp|work|Users)/\w+", (ROOT / name).read_text(encoding="utf-8"))
            assert not found, (name, found)
