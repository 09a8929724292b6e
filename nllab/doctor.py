"""What keeps the lab from running here, in plain words. It runs where nothing but the command line is installed.

A problem stops something that the lab does; a note only makes it slower or needs another option.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PORTS = {8501: "nllab dashboard", 8888: "nllab lab"}
OLDEST_PYTHON = (3, 11)
MOST_RUNS = 50  # that are looked at in one folder
MOST_HEAD = 1_000_000  # bytes of the first line of a run
FORMATS = {1: "rows.jsonl", 2: "events.jsonl"}  # format of a run -> the file that holds its events


def free(port: int) -> bool:
    """Whether a server could listen on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def examine(paths: Sequence[Path] = ()) -> dict[str, Any]:
    """Everything that is known about this place: problems and notes as sentences, the rest as plain values.

    paths: saved runs, or folders of them, to say which version wrote them.
    """
    problems: list[str] = []
    notes: list[str] = []
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        problems.append(f"Python is {platform.python_version()}, and the lab needs {wanted} or later.")
    packages = _packages(problems)
    cuda = _torch(problems, notes) if packages.get("torch") else None
    ports = {port: free(port) for port in PORTS}
    for port, command in PORTS.items():
        if not ports[port]:
            other = next((p for p in range(port + 1, port + 100) if free(p)), None)
            notes.append(
                f"Port {port} is taken by another program; start with {command}"
                + (f" --port {other}." if other else ".")
            )
    try:
        webbrowser.get()
    except webbrowser.Error:
        notes.append("No browser was found. Start with nllab dashboard --no-browser, and open the address it prints.")
    for place, name in ((Path.home(), "Your home folder"), (Path.cwd(), "This folder")):
        if reason := _cannot_write(place):
            problems.append(
                f"{name} ({place}) cannot be written to ({reason}), so nothing can be kept there. "
                + (
                    "Set HOME to a folder of yours."
                    if place == Path.home()
                    else "Change to another folder, or give --out one of yours."
                )
            )
    runs = [run for path in paths or [Path.cwd()] for run in _runs(path, bool(paths), problems)]
    for run in runs:
        if run["problem"]:
            problems.append(run["problem"])
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "packages": packages,
        "cuda": cuda,
        "ports_free": {str(port): is_free for port, is_free in ports.items()},
        "runs": [{key: run[key] for key in ("path", "format", "written_by")} for run in runs],
        "notes": notes,
        "problems": problems,
    }


def _packages(problems: list[str]) -> dict[str, str | None]:
    """The version of everything that nllab requires; a problem for what is missing or too old."""
    try:
        required = importlib.metadata.requires("nllab") or []
        versions: dict[str, str | None] = {"nllab": importlib.metadata.version("nllab")}
    except importlib.metadata.PackageNotFoundError:
        problems.append("nllab itself is not installed; in its folder run: pip install -e .")
        return {"nllab": None}
    for requirement in required:
        wanted, _, condition = requirement.partition(";")
        if "extra" in condition:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", wanted, maxsplit=1)[0]
        least = "".join(re.findall(r">=\s*([0-9.]+)", wanted)[:1])
        try:
            versions[name] = version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
            problems.append(f"{name} is not installed; run: pip install {name}")
            continue
        if least and _numbers(version) < _numbers(least):
            problems.append(f"{name} is {version}, and the lab needs {least} or later; run: pip install -U {name}")
    return versions


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part)  # type: ignore[index]


def _torch(problems: list[str], notes: list[str]) -> str | None:
    """The name of the GPU that torch can use, if there is one."""
    try:
        import torch

        usable = torch.cuda.is_available()
        name = torch.cuda.get_device_name(0) if usable else None
        built_for = torch.version.cuda
    except Exception as error:  # a half-installed torch raises nearly anything
        reason = " ".join(str(error).split())[:120]
        problems.append(f"torch is installed and cannot be loaded ({reason}); run: pip install --force-reinstall torch")
        return None
    if not usable and _has_gpu():
        notes.append(
            "There is an NVIDIA GPU, and torch cannot use it: "
            + (
                f"its driver does not serve CUDA {built_for}. Update the driver, or install a torch for an older CUDA."
                if built_for
                else "this torch was built for the CPU alone. Install the build for CUDA that pytorch.org names."
            )
        )
    return name


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _cannot_write(folder: Path) -> str | None:
    """Why nothing can be written there; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()


def _runs(path: Path, asked_for: bool, problems: list[str]) -> list[dict[str, Any]]:
    """The saved runs in a folder and below it: format, version that wrote it, what is wrong with reading it."""
    try:
        folders = [path, *(p for p in sorted(path.iterdir()) if p.is_dir())] if path.is_dir() else []
        folders += [p for folder in folders[1:MOST_RUNS] for p in sorted(folder.iterdir()) if p.is_dir()]
        saved = [folder for folder in folders if any((folder / name).is_file() for name in FORMATS.values())]
    except OSError as error:
        if asked_for:
            problems.append(f"{path} cannot be looked at ({error.strerror}).")
        return []
    if not saved and asked_for:
        problems.append(
            f"{path} holds no saved run; a run is a folder that nllab run --out wrote."
            if path.exists()
            else f"{path} does not exist."
        )
    return [_run(folder) for folder in saved[:MOST_RUNS]]


def _run(folder: Path) -> dict[str, Any]:
    file = next(folder / name for name in reversed(FORMATS.values()) if (folder / name).is_file())
    entry: dict[str, Any] = {"path": str(folder), "format": None, "written_by": None, "problem": None}
    try:
        with file.open("rb") as lines:
            head = json.loads(lines.readline(MOST_HEAD))
        entry["format"], entry["written_by"] = head["format"], head.get("nllab")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        entry["problem"] = f"{folder} is no run that can be read: the first line of {file.name} is damaged."
        return entry
    if entry["format"] not in tuple(FORMATS):
        by = f", written by nllab {str(entry['written_by'])[:20]}" if entry["written_by"] else ""
        entry["problem"] = (
            f"{folder} has format {str(entry['format'])[:20]}{by}, and this version reads"
            f" {', '.join(map(str, FORMATS))}. Read it with that version, or update nllab."
        )
    return entry
