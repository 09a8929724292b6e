"""Run the notebooks from top to bottom and keep what a reader needs: `python notebooks/build.py [FILE ...]`.

Written back are source, text and pictures; what changes from run to run (timing, widget state, execution counts of the
machine that ran it) is left out, so that a notebook differs only where its results do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent
KEPT = ("text/plain", "image/png")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(notebook: NotebookNode, timeout_seconds: int = 300) -> NotebookNode:
    """Run every cell in a fresh kernel; raises nbclient's CellExecutionError at the first that fails."""
    where = {"metadata": {"path": str(HERE)}}
    return NotebookClient(
        notebook, timeout=timeout_seconds, kernel_name="python3", resources=where, coalesce_streams=True
    ).execute()


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without anything that only this execution knows."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = [_kept(output) for output in cell.outputs]
            cell.execution_count = None
    return notebook


def _kept(output: NotebookNode) -> NotebookNode:
    if "data" in output:
        output.data = {kind: value for kind, value in output.data.items() if kind in KEPT}
        output.metadata = {}
    if "execution_count" in output:
        output.execution_count = None
    return output


def build(path: Path) -> None:
    notebook = clean(execute(nbformat.read(path, as_version=4)))
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        build(Path(name))
        print(f"{name}: {Path(name).stat().st_size / 1024:.0f} kB")
