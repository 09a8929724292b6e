"""nllab run | export | data: train a preset, keep what happened, look at data of one's own."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nllab.claims import cannot_show
from nllab.cli.console import (
    INTERRUPTED,
    PROBLEM,
    DeviceOption,
    JsonOption,
    SeedsOption,
    SetOption,
    errors,
    experiment_of,
    leave_if_diverged,
    print_result,
    progress_bar,
)
from nllab.errors import SettingError
from nllab.experiment import MODELS, OPTIMIZERS, PRESETS, Experiment
from nllab.reproduce import read_command
from nllab.summary import summarize

if TYPE_CHECKING:
    from nllab.recorder import Plan
    from nllab.trainer import Trainer


def run_seeds(
    experiment: Experiment,
    seeds: int,
    *,
    device: str = "cpu",
    label: str = "",
    bars: bool = True,
    **course: Any,
) -> dict[str, Any]:
    """Train with `seeds` seeds in turn and sum up. One CPU thread, so that every run can be repeated bit for bit.

    course: the commands and the last step of each run, as `Trainer.run` takes them.
    """
    import torch

    from nllab.trainer import Trainer

    torch.set_num_threads(1)
    runs = []
    started = time.perf_counter()
    for number in range(seeds):
        trainer = Trainer(experiment.but(seed=experiment.seed + number), device=device)
        with progress_bar(
            f"{label or experiment.stream} seed {experiment.seed + number}", trainer.planned_steps, bars
        ) as advance:
            runs.append(trainer.run(advance, **course))
    return summarize(experiment, runs, time.perf_counter() - started) | {"device": str(trainer.device)}


def _record_seeds(plan: Plan, folder: Path, *, resume: bool) -> tuple[dict[str, Any], list[str]]:
    """The same, written into a folder as it goes: (the summary, what could not be written). Ctrl+C and SIGTERM end it
    after the step under way with status 130 or 143; nothing that was trained is lost."""
    import torch

    from nllab.recorder import Interrupted, stoppable
    from nllab.trainer import pick_device

    torch.set_num_threads(1)
    started = time.perf_counter()
    with ExitStack() as bars, stoppable(lambda text: errors.print(text, highlight=False)) as stop:

        def progress(seed: int, trainer: Trainer) -> Any:
            bars.close()
            return bars.enter_context(
                progress_bar(f"{plan.experiment.stream} seed {seed}", trainer.planned_steps, True)
            )

        try:
            runs, problems = plan.train(folder, resume=resume, stop=stop, progress=progress)
        except Interrupted as interruption:
            bars.close()
            go_on = shlex.join(["nllab", "run", "--resume", str(folder)])
            errors.print(f"{interruption} Go on with: {go_on}", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
    summary = summarize(plan.experiment, runs, time.perf_counter() - started)
    return summary | {"device": str(pick_device(plan.device))}, problems


def run(
    preset: Annotated[
        str | None, typer.Argument(metavar="PRESET", help=f"One of {', '.join(PRESETS)}; not needed with --resume.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help=f"Who writes the weights: {', '.join(OPTIMIZERS)}.")] = None,
    model: Annotated[str | None, typer.Option(help=f"The network that learns: {', '.join(MODELS)}.")] = None,
    seeds: SeedsOption = 1,
    device: DeviceOption = "cpu",
    settings: SetOption = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP:NAME=VALUE",
            help="A change on the way, such as 69:optimizer=deep or 69:teach=B; may be repeated.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many steps, instead of at the end of the plan.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder into which every run is written while it is trained.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder that --out wrote: go on with what was interrupted there, bit for bit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a preset and print what it learned and what it kept."""
    commands = [read_command(text) for text in at or []]
    problems: list[str] = []
    if preset is None and resume is None:
        raise SettingError(f"Name a preset to train, one of {', '.join(PRESETS)}, or a folder with --resume.")
    if preset is not None:
        experiment = experiment_of(preset, settings or [], optimizer=optimizer, model=model)
    if out is None and resume is None:
        summary = run_seeds(experiment, seeds, device=device, commands=commands, steps=steps)
    else:
        from nllab.recorder import Plan

        if resume is not None:
            if out is not None and out != resume:
                raise SettingError(f"--resume goes on in {resume}, so --out {out} has no use; leave it out.")
            plan = Plan.read(resume)
            if preset is not None and experiment != plan.experiment:
                raise SettingError(
                    f"{resume} was begun with other settings. Leave them out, and --resume takes those that it has."
                )
        else:
            plan = Plan(experiment, seeds, tuple(commands), steps, device)
        summary, problems = _record_seeds(plan, resume or out, resume=resume is not None)  # type: ignore[arg-type]
        experiment, seeds, preset = plan.experiment, plan.seeds, preset or plan.experiment.stream
        commands = list(plan.commands)
    counts = {level: count["mean"] for level, count in summary["update_counts"].items()}
    result = {"preset": preset, **summary, "cannot_show": cannot_show(experiment, counts)}
    label = (
        experiment.optimizer
        + (", hidden levels frozen" if experiment.frozen else "")
        + (", joint" if experiment.joint else "")
    )
    title = f"{preset}, {seeds} seed{'s' if seeds > 1 else ''}"
    title += "".join(f"; from step {step} {name}={value}" for step, name, value in commands)
    print_result(as_json, result, title, {label: result})
    if problems:
        errors.print("\n".join(problems), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(PROBLEM)
    leave_if_diverged({label: result})


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder that --out wrote, or a run downloaded from the dashboard.")
    ],
    html: Annotated[
        Path | None, typer.Option(help="A page that replays the run in any browser, without a server or network.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option("--zip", help="All of it in one file, as the dashboard takes it back.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="All that happened, as a table.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="The same table for pandas, Polars or DuckDB.")] = None,
) -> None:
    """Write a saved run as a page, a file or a table. The page replays it."""
    from nllab import html_export, run_io

    ways = {
        html: lambda run: html_export.page(run).encode(),
        archive: run_io.pack,
        csv: run_io.to_csv,
        parquet: run_io.to_parquet,
    }
    wanted = {path: make for path, make in ways.items() if path}
    if not wanted:
        raise SettingError(
            "Nothing to write: name a file, such as --html run.html, --zip run.zip, --csv run.csv or --parquet"
            " run.parquet."
        )
    loaded = run_io.load_run(source)
    for path, make in wanted.items():
        try:
            path.write_bytes(make(loaded))
        except OSError as error:
            raise SettingError(f"{path} cannot be written: {error.strerror}.") from None
        errors.print(f"wrote {path}", highlight=False, markup=False)


def data(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH_A PATH_B …",
            help="A table, an .npz file, IDX files, or a folder or .zip of images, a task each.",
        ),
    ],
    apart: Annotated[bool, typer.Option(help="Every path's classes are its own, as under own-apart:.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what the lab makes of data of your own. What was read, left out and converted, and the classes."""
    from nllab.data import load

    report = load(paths, apart=apart).report
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        print("\n".join(report.lines()))
