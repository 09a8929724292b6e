"""nllab bench: every table that the lab shows, with its seeds, a command each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nllab.cli.console import (
    DeviceOption,
    JsonOption,
    SeedsOption,
    SetOption,
    errors,
    experiment_of,
    tell,
    wide,
)
from nllab.cli.training import run_seeds
from nllab.experiment import Experiment
from nllab.methods.setups import SETUPS

app = typer.Typer(
    no_args_is_help=True, help="Measure what the lab says, and how fast it is. Every table names its seeds."
)

QuickOption = Annotated[bool, typer.Option("--quick", help="A small version of the same, under three minutes.")]


ONLY = "One row of the table ({}); repeat for more."  # help of --only


def rows_option(what: str) -> Any:
    """The option `--only` of a bench; what: what it chooses, in words."""
    return typer.Option("--only", help=ONLY.format(what))


@app.command()
def speed(device: DeviceOption = "cpu", quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Layers of the lab beside those of their peers, in one process: ratios of time and memory."""
    from nllab.bench.speed import run_speed, speed_tables

    result = run_speed(device=device, quick=quick)
    growth = result["growth"]
    last = (
        f"T times {growth['tokens']:.0f}: time times {growth['time']:.1f}, saved bytes times"
        f" {growth['saved_bytes']:.1f}"
    )
    show(result, [*speed_tables(result), last], as_json)


@app.command()
def live(quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Training with the page open beside training alone."""
    from nllab.bench.live import run_live

    show(run_live(quick=quick), [], as_json)


@app.command()
def retention(
    preset: Annotated[str, typer.Option(help="The stream.")] = "digits-ab",
    settings: SetOption = None,
    quick: QuickOption = False,
    only: Annotated[list[str] | None, rows_option("a method or optimizer")] = None,
    seeds: SeedsOption = 3,
    tune: Annotated[
        bool, typer.Option(help="Choose settings on validation data; otherwise take the usual ones.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="A .json (which can be resumed) or .csv file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 2,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Every method and optimizer on one stream: what is kept, in how many bytes, how long a step takes."""
    from nllab.bench.retention import retention_tables

    result = _retention(experiment_of(preset, settings or []), quick, only or [], seeds, tune, out, device, jobs)
    show(result, retention_tables(result), as_json)


def table(name: str, rows: str, what: str, about: str) -> None:
    """Add the command of a bench that takes what all of them take. rows, what: what `--only` chooses, in code and in
    words."""
    one_row: Any = typer.Option(None, "--only", help=ONLY.format(what))

    @app.command(name, help=about)
    def run(
        only: list[str] | None = one_row,
        quick: QuickOption = False,
        seeds: SeedsOption = 3,
        device: DeviceOption = "cpu",
        as_json: JsonOption = False,
    ) -> None:
        trained(name, rows, only, quick, seeds, device, as_json)


table(
    "life",
    "learners",
    "a learner",
    "Eight hundred tasks in turn: is the last as learnable as the first, and what of the recent ones is kept?",
)
table("formal", "languages", "a language or model", "Formal languages, on longer strings than were learned from.")
table("recall", "tasks", "a task or model", "Recall inside one sequence, at equal size.")
table("ablation", "rows", "what is left out", "HOPE without one of its parts at a time.")
table("optimizers", "optimizers", "an optimizer", "M3, Muon and AdamW on a small vision transformer.")
table("widths", "widths", "a width", "What learned levels are worth beside their frozen twin, the wider the net.")


@app.command()
def names(
    only: Annotated[list[str] | None, rows_option("a model")] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="Your own text file or folder in place of names; twice or more.")
    ] = None,
    quick: QuickOption = False,
    seeds: SeedsOption = 3,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Languages one after another: next characters, then translation; or texts of your own."""
    from nllab.bench.names import names_tables, run_names
    from nllab.bench.translation import run_translation, translation_tables

    chosen: dict[str, Any] = {**choice(quick, seeds, device), **({"models": only} if only else {})}
    result = run_names(**chosen, texts=[str(path) for path in text or ()])
    if text:
        show(result, names_tables(result), as_json)
        return
    translated = run_translation(**chosen)
    tables = names_tables(result) + translation_tables(translated)
    show({"names": result, "translation": translated}, tables, as_json)


def choice(quick: bool, seeds: int, device: str) -> dict[str, Any]:
    """What every bench that trains is given. One CPU thread; each training is reported to stderr."""
    import torch

    torch.set_num_threads(1)
    return {"quick": quick, "seeds": seeds, "device": device, "report": lambda line: tell(line)}


def trained(
    what: str, rows: str, only: Sequence[str] | None, quick: bool, seeds: int, device: str, as_json: bool
) -> None:
    """Run the bench of this name. rows: what `only` chooses where it names no model."""
    chosen, bench = choice(quick, seeds, device), import_module(f"nllab.bench.{what}")
    for name in only or ():
        chosen.setdefault("models" if name in getattr(bench, "MODELS", ()) else rows, []).append(name)
    result = getattr(bench, f"run_{what}")(**chosen)
    show(result, getattr(bench, f"{what}_tables")(result), as_json)


def show(result: dict[str, Any], tables: Sequence[Table | str], as_json: bool) -> None:
    """Print a result as one JSON object, or as its tables; all of it where a bench has none."""
    if as_json:
        print(json.dumps(result, allow_nan=False))
    elif not tables:
        Console().print_json(data=result)
    else:
        wide().print(*tables, highlight=False)


def _retention(
    experiment: Experiment,
    quick: bool,
    only: Sequence[str],
    seeds: int,
    tune: bool,
    out: Path | None,
    device: str,
    jobs: int,
) -> dict[str, Any]:
    """`run_retention` with what the command line says; each finished row is reported to stderr."""
    from nllab.bench.retention import QUICK_OPTIMIZERS, run_retention

    chosen: dict[str, Any] = {"trials": 2, "optimizers": QUICK_OPTIMIZERS} if quick else {}
    if only:
        chosen["methods"] = [name for name in only if name in SETUPS]
        chosen["optimizers"] = [name for name in only if name not in SETUPS]
    if not tune:
        chosen["trials"] = 0
    started = time.perf_counter()

    def tell(name: str) -> None:
        errors.print(f"{time.perf_counter() - started:7.0f} s  {name}", highlight=False)

    train = partial(run_seeds, device=device, bars=False)
    jobs = min(jobs, os.cpu_count() or 1) if device == "cpu" else 1
    return run_retention(experiment, seeds=seeds, train=train, out=out, device=device, jobs=jobs, tell=tell, **chosen)
