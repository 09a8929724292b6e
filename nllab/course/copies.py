"""The reader's own copy of the notebooks: nothing that they have touched is ever overwritten. No torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from nllab.errors import SettingError

RECORD = ".nllab-copies.json"  # name of a notebook -> hash of the version that was put there


def copy_notebooks(source: Path, folder: Path) -> list[tuple[Path, str]]:
    """Bring `folder` up to date with the notebooks in `source`; (file, what was done with it).

    "wrote": it was not there, or is as it was copied. "kept": it is the reader's, of this version. "offered": the
    reader's own is of an older version, and the new one was put beside it. Raises SettingError for a folder that cannot
    be written.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"--folder is {str(folder)!r}, which is a file; name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = _read(folder / RECORD)
        found = [_bring(notebook, folder, record) for notebook in sorted(source.glob("*.ipynb"))]
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"--folder is {str(folder)!r}, which cannot be written ({error.strerror}); name another one, such as"
            " --folder ~/nllab-notebooks."
        ) from None
    return found


def _bring(notebook: Path, folder: Path, record: dict[str, str]) -> tuple[Path, str]:
    target, shipped = folder / notebook.name, _hash(notebook)
    if target.exists():
        mine = _hash(target)
        if record.get(notebook.name) == shipped or mine == shipped:
            record[notebook.name] = shipped
            return target, "kept"
        if mine != record.get(notebook.name):
            beside = target.with_name(f"{target.stem}.new.ipynb")
            number = 2
            while beside.exists() and _hash(beside) != shipped:  # an older offer that was edited is the reader's, too
                beside = target.with_name(f"{target.stem}.new-{number}.ipynb")
                number += 1
            shutil.copyfile(notebook, beside)
            return beside, "offered"
    shutil.copyfile(notebook, target)
    record[notebook.name] = shipped
    return target, "wrote"


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # then every notebook that is not as shipped counts as the reader's


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
