"""Build the notebooks from their sources: `python notebooks/build.py [FILE ...]`.

A source is a script in jupytext's percent format (02-memory.py); the notebook beside it (02-memory.ipynb) is the same
executed from top to bottom. Written are source, text and pictures; what changes from run to run (timing, widget state,
the numbers of cells) is left out, so that a notebook differs only where its results do.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from nllab.course.exercise import exercises_of

HERE = Path(__file__).parent
KEPT = ("text/plain", "text/html", "image/png", "application/vnd.nllab+json")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    return sorted(HERE.glob("[0-9][0-9]-*.py"))


def fingerprint(source: Path) -> str:
    """Of all that a reader sees: the source, and what its exercises say."""
    known = exercises_of(source.name[:2]).values()
    shown = [(e.name, e.answer, e.hints, e.solution, repr(e.prediction)) for e in known]
    return hashlib.sha256(
        f"{source.read_text(encoding='utf-8')}\0{shown!r}".encode()
    ).hexdigest()


def read(source: Path) -> NotebookNode:
    """The notebook of a source, not executed."""
    return nbformat.from_dict(jupytext.read(source, fmt="py:percent"))


def execute(notebook: NotebookNode, timeout_seconds: int = 300) -> NotebookNode:
    """Run every cell in a fresh kernel and an empty folder; raises nbclient's CellExecutionError at the first that
    fails."""
    os.environ["NLLAB_BUILD"] = "1"  # inherited by the kernel (nllab/place.py)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        return NotebookClient(
            notebook,
            timeout=timeout_seconds,
            kernel_name="python3",
            resources=where,
            coalesce_streams=True,
        ).execute()


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without anything that only this execution knows."""
    notebook.metadata = nbformat.from_dict(
        {**METADATA, "nllab": notebook.metadata.get("nllab", {})}
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict(
            {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        )
        if cell.cell_type == "code":
            cell.outputs = [_kept(output) for output in cell.outputs]
            cell.execution_count = None
    return notebook


def _kept(output: NotebookNode) -> NotebookNode:
    if "data" in output:
        output.data = {kind: value for kind, value in output.data.items() if kind in KEPT}
        output.metadata = {}
    output.pop("transient", None)
    if "execution_count" in output:
        output.execution_count = None
    return output


def built(source: Path) -> NotebookNode:
    """The notebook of a source, executed and clean."""
    notebook = execute(read(source))
    notebook.metadata["nllab"] = {"built_from": fingerprint(source)}
    notebook = clean(notebook)
    nbformat.validate(notebook)
    return notebook


def build(source: Path) -> Path:
    target = source.with_suffix(".ipynb")
    nbformat.write(built(source), target)
    return target


if __name__ == "__main__":
    for name in sys.argv[1:] or sources():
        started = time.perf_counter()
        written = build(Path(name).with_suffix(".py"))
        print(
            f"{written}: {written.stat().st_size / 1024:.0f} kB, {time.perf_counter() - started:.0f} s"
        )
