"""nllab dashboard | lab | site | doctor: what is opened, written as pages, and found on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nllab.cli.console import (
    PROBLEM,
    JsonOption,
    errors,
    wide,
)
from nllab.data.report import counted
from nllab.doctor import examine, free
from nllab.errors import NllabError, SettingError
from nllab.tables import table_of

PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Where `app` or `notebooks` lies: inside the installed package, or beside it in a checkout."""
    for place in (PACKAGE / f"_{folder}", PACKAGE.parent / folder):
        if place.is_dir():
            return place
    raise NllabError(f"The folder {folder!r} is missing from this installation; install nllab again.")


def check_port(port: int) -> int:
    """The port, if it is free. Raises SettingError that names one that is."""
    if not 1 <= port <= 65535:
        raise SettingError(f"--port is {port}; a port is a number from 1 to 65535.")
    if not free(port):
        near = next((p for p in range(port + 1, min(port + 100, 65536)) if free(p)), None)
        raise SettingError(f"Port {port} is in use." + (f" Try --port {near}, which is free." if near else ""))
    return port


def dashboard(
    port: Annotated[int, typer.Option(help="Where the page is served.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than this machine need the token in the link.")
    ] = "127.0.0.1",
    base_path: Annotated[str, typer.Option(help="Path that a proxy puts in front, such as /lab.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name under which a proxy is asked for this server; may be repeated.")
    ] = None,
    allow_frame: Annotated[
        list[str] | None, typer.Option(help="Site that may show the lab in a frame, such as https://slides.example.")
    ] = None,
    token: Annotated[
        bool, typer.Option("--token/--no-token", help="Ask for a token, where others than this machine are served.")
    ] = True,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    runs: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder that keeps what is trained, at most 512 MB; none for nothing. Without it, one in your home,"
            " and nothing where others are served.",
        ),
    ] = "",
) -> None:
    """Open the live dashboard."""
    from nllab.hosting import serving

    found = serving(
        shipped("app") / "serve.py",
        check_port(port),
        host=host,
        base_path=base_path,
        allowed_hosts=allow_host or (),
        allowed_frames=allow_frame or (),
        needs_token=token,
        browser=browser,
        runs=runs,
    )
    for warning in found.warnings:
        errors.print(f"Warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    links = " or ".join(found.links)
    errors.print(f"nllab dashboard on {links} (Ctrl+C ends it)", highlight=False, markup=False, soft_wrap=True)
    os.environ |= found.environment
    raise typer.Exit(_call(found.command))


def lab(
    folder: Annotated[Path, typer.Option(help="Where your copy of the notebooks lies.")] = Path("nllab-notebooks"),
    port: Annotated[int, typer.Option(help="Where JupyterLab is served.")] = 8888,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open JupyterLab in a browser.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Show what you have solved, and open nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --check: a file for your teacher, with predictions and answers.")
    ] = None,
    reader: Annotated[str, typer.Option(help="With --out: the name to put into that file.")] = "",
    grade: Annotated[
        list[Path] | None,
        typer.Option(help="A file that --out wrote: run its answers again, and print what passes; may be repeated."),
    ] = None,
) -> None:
    """Open the notebooks in JupyterLab. They are a copy of your own, which is never overwritten."""
    if out and not check:
        raise SettingError("--out goes with --check.")
    if grade:
        _grade(grade)
    elif check:
        _show_progress(folder, out, reader)
    else:
        from nllab.course.copies import copy_notebooks

        check_port(port)
        verbs = {"wrote": "wrote", "kept": "kept your", "offered": "put a new version beside yours:"}
        for copied, how in copy_notebooks(shipped("notebooks"), folder):
            errors.print(f"{verbs[how]} {copied}", highlight=False)
        command = [sys.executable, "-m", "jupyter", "lab", f"--port={port}", f"--notebook-dir={folder}"]
        command += [] if browser else ["--no-browser"]
        if getattr(os, "geteuid", lambda: 1)() == 0:  # as in most containers; Jupyter would refuse to start
            errors.print("You are root, and so is every notebook that you run.", highlight=False)
            command.append("--allow-root")
        raise typer.Exit(_call(command))


def _show_progress(folder: Path, out: Path | None, reader: str) -> None:
    from nllab.course import marks

    progress = marks.collected(folder, reader)
    rows = []
    for name in marks.exercises():
        entry = progress["exercises"].get(name, {})
        cells = (entry.get("solved", "")[:10], *(entry.get(key, "") for key in ("attempts", "prediction", "truth")))
        rows.append((name, *("" if cell is None else str(cell) for cell in cells)))
    title = f"{progress['solved']} of {progress['of']} exercises solved"
    wide().print(table_of(title, ("exercise", "solved", "attempts", "predicted", "came out"), rows, 5))
    if out:
        try:
            out.write_text(json.dumps(progress, indent=1, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            raise SettingError(f"{out} cannot be written: {error.strerror}.") from None
        errors.print(f"wrote {out}", highlight=False, markup=False)


def _grade(files: Sequence[Path]) -> None:
    from nllab.course import marks

    rows = []
    for path in files:
        answers = marks.read_collected(path)
        results = marks.grade(answers)
        passed = [name for name, (good, _) in results.items() if good]
        failed = "; ".join(f"{name}: {sentence}" for name, (good, sentence) in results.items() if not good)
        rows.append((path.name, str(answers.get("reader", "")), f"{len(passed)} of {answers.get('of')}", failed))
    wide().print(table_of("Answers, run again", ("file", "reader", "passed", "what did not"), rows, 4))


def site(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder for the pages.")],
) -> None:
    """Write the course as pages for any static host. They ask for nothing from anywhere."""
    from nllab.course.site import write_site

    for page in write_site(shipped("notebooks"), folder):
        errors.print(f"wrote {page}", highlight=False, markup=False)


def _call(command: list[str]) -> int:
    """Become the command where the system can, so that whoever ends this process ends the server; otherwise wait for
    it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(command[0], command, environment)
    try:
        return subprocess.run(command, check=False, env=environment).returncode
    except KeyboardInterrupt:
        return 0


def doctor(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Saved runs, to say which version wrote them.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what keeps the lab from running here. The status is 2 where something does."""
    report = examine(runs or ())
    try:
        report["dashboard"] = (shipped("app") / "serve.py").is_file()
        report["notebooks"] = len(list(shipped("notebooks").glob("*.ipynb")))
    except NllabError as error:
        report["problems"].append(str(error))
    if as_json:
        print(json.dumps(report))
    else:
        shown = Table(show_header=False)
        for key in ("python", "system", "cores", "packages", "cuda"):
            for name, item in report[key].items() if isinstance(report[key], dict) else [(key, report[key])]:
                shown.add_row(name, "none" if item is None else str(item))
        for saved in report["runs"]:
            by = saved["written_by"] or "a version before 2026-11-28"
            shown.add_row(saved["path"], f"run of format {saved['format']}, written by nllab {by}")
        Console().print(shown)
        for note in report["notes"]:
            print(f"Note: {note}")
        for problem in report["problems"]:
            print(f"Problem: {problem}")
        print(
            counted(len(report["problems"]), "problem") + "."
            if report["problems"]
            else "Everything that the lab needs is here."
        )
    raise typer.Exit(PROBLEM if report["problems"] else 0)
