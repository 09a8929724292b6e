"""The command line: nllab run | export | compare | sweep | bench | dashboard | lab | doctor.

Results go to stdout (with --json one JSON object and nothing else), progress bars to stderr. Bad input ends with status
2 and one message that names the value and what was expected.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nllab.claims import cannot_show, compared
from nllab.doctor import examine, free
from nllab.errors import DataWarning, NllabError, SettingError, unknown
from nllab.events import Step
from nllab.experiment import OPTIMIZERS, PRESETS, Experiment, read_setting
from nllab.methods import HOME
from nllab.methods.setups import SETUPS
from nllab.repeat import read_command
from nllab.runs import SCORES
from nllab.streams import stream_of
from nllab.summary import rank, summarize

if TYPE_CHECKING:
    from nllab.recorder import Plan
    from nllab.trainer import Trainer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A live lab for Nested Learning.",
    rich_markup_mode=None,
)
errors = Console(stderr=True)

PROBLEM = 2  # exit status for anything the caller can put right
INTERRUPTED = 130  # exit status of a run that somebody stopped; it is on disk and can be gone on with
DIVERGED = 3  # exit status of a run whose loss was no longer finite; what it measured until then is printed
TWIN, CEILING = ", frozen twin", ", joint ceiling"  # what a row of a comparison stands beside
SWEPT = ("average_accuracy", "a_after_b", "b_after_b", "mean_online_accuracy")  # what a sweep shows of each setting

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the experiment; may be repeated.")
]
SeedsOption = Annotated[
    int, typer.Option(min=1, max=1000, help="How many seeds, counted up from the experiment's own.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes that share the work; without it, all cores.")]
SchedulerOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler whose workers share the work instead.")
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="TABLE",
        help="A Parquet table that keeps finished runs, such as sweep.parquet; what is in it is not trained again.",
    ),
]
PresetArgument = Annotated[str, typer.Argument(metavar="PRESET", help=f"One of {', '.join(PRESETS)}.")]


def experiment_of(preset: str, settings: Sequence[str], **given: Any) -> Experiment:
    """The preset with `key=value` settings and what was given by options; an option wins over nothing, a setting over
    an option."""
    changes = {key: value for key, value in given.items() if value is not None}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise SettingError(f"--set {setting!r} has no '='; write KEY=VALUE, such as --set epochs=3.")
        changes[key.strip()] = read_setting(key.strip(), value.strip())
    return Experiment.preset(preset, **changes)


@contextmanager
def _progress(label: str, total: int, shown: bool) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not (shown and sys.stderr.isatty())) as bar:
        task = bar.add_task(label, total=total)
        yield lambda events: bar.advance(task, sum(isinstance(event, Step) for event in events))


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
        with _progress(
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
            return bars.enter_context(_progress(f"{plan.experiment.stream} seed {seed}", trainer.planned_steps, True))

        try:
            runs, problems = plan.train(folder, resume=resume, stop=stop, progress=progress)
        except Interrupted as interruption:
            bars.close()
            go_on = shlex.join(["nllab", "run", "--resume", str(folder)])
            errors.print(f"{interruption} Go on with: {go_on}", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
    summary = summarize(plan.experiment, runs, time.perf_counter() - started)
    return summary | {"device": str(pick_device(plan.device))}, problems


def _cell(score: dict[str, Any] | None) -> str:
    if score is None or score["mean"] is None:
        return "–"
    return f"{score['mean']:.3f}" + (f" ± {score['std']:.3f}" if score["std"] is not None else "")


def _table(title: str, results: dict[str, dict[str, Any]]) -> Table:
    """One column for each result, one row for each score that is defined for any of them."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for label in results:
        table.add_column(label, justify="right")
    for name in SCORES:
        cells = [_cell(result["metrics"][name]) for result in results.values()]
        if set(cells) != {"–"}:
            table.add_row(name.replace("_", " "), *cells)
    for i in range(max(len(result["online_accuracy"]) for result in results.values())):
        cells = [
            _cell(result["online_accuracy"][i]) if i < len(result["online_accuracy"]) else "–"
            for result in results.values()
        ]
        table.add_row(f"first 20 batches of experience {i + 1}", *cells)
    for level in next(iter(results.values()))["update_counts"]:
        table.add_row(
            f"writes of {level}", *(f"{result['update_counts'][level]['mean']:.0f}" for result in results.values())
        )
    table.add_row("bytes kept beyond the weights", *(f"{result['bytes_kept']:,}" for result in results.values()))
    table.add_row("seconds", *(f"{result['seconds']:.1f}" for result in results.values()))
    return table


def _print(as_json: bool, result: dict[str, Any], title: str, rows: dict[str, dict[str, Any]]) -> None:
    if as_json:
        print(json.dumps(result, allow_nan=False))
    else:
        _wide().print(_table(title, rows))
        for text in result.get("cannot_show", ()):
            _wide().print(text, highlight=False, markup=False)


def _leave_if_diverged(results: dict[str, dict[str, Any]]) -> None:
    texts = [f"{label}: {text}" for label, result in results.items() for text in result["diverged"]]
    if texts:
        errors.print("\n".join(texts), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(DIVERGED)


@app.command()
def run(
    preset: Annotated[
        str | None, typer.Argument(metavar="PRESET", help=f"One of {', '.join(PRESETS)}; not needed with --resume.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help=f"Who writes: {', '.join(OPTIMIZERS)}.")] = None,
    model: Annotated[str | None, typer.Option(help="cms, hope or mlp.")] = None,
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
    counts = {level: count["mean"] for level, count in summary["update_counts"].items()}
    result = {"preset": preset, **summary, "cannot_show": cannot_show(experiment, counts)}
    label = (
        experiment.optimizer
        + (", hidden levels frozen" if experiment.frozen else "")
        + (", joint" if experiment.joint else "")
    )
    _print(as_json, result, f"{preset}, {seeds} seed{'s' if seeds > 1 else ''}", {label: result})
    if problems:
        errors.print("\n".join(problems), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(PROBLEM)
    _leave_if_diverged({label: result})


@app.command()
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
    """Write a saved run as a page that replays it, as one file or as a table."""
    from nllab import player, run_io

    ways = {
        html: lambda run: player.page(run).encode(),
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
    found = run_io.load_run(source)
    for path, make in wanted.items():
        try:
            path.write_bytes(make(found))
        except OSError as error:
            raise SettingError(f"{path} cannot be written: {error.strerror}.") from None
        errors.print(f"wrote {path}", highlight=False, markup=False)


@app.command()
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
    """Say what the lab makes of data of your own: what it read, left out and converted, and which classes it found."""
    from nllab.data import load

    report = load(paths, apart=apart).report
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        print("\n".join(report.lines()))


@app.command()
def compare(
    preset: PresetArgument,
    optimizers: Annotated[str, typer.Option(help="Names separated by commas.")] = "adam,deep",
    methods: Annotated[str, typer.Option(help=f"Names separated by commas: {', '.join(SETUPS)}.")] = "",
    seeds: SeedsOption = 3,
    device: DeviceOption = "cpu",
    settings: SetOption = None,
    twins: Annotated[
        bool, typer.Option(help="Beside every row its twin: the same with all levels but the head frozen.")
    ] = True,
    joint: Annotated[bool, typer.Option(help="Beside every row its ceiling: all tasks at once.")] = True,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="A Parquet table of a sweep: runs in it are read, others trained and added."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train one preset with several optimizers and methods on the same seeds."""
    from nllab.bench.retention import LEARNS_NO_LEVEL, check_names, difference, learners_table
    from nllab.sweep import results

    if stream_of(base := experiment_of(preset, settings or [])).contexts:
        _compare_contexts(base, seeds, as_json)
        return
    names, wanted = _names(optimizers), _names(methods)
    if not names + wanted:
        raise SettingError(f"--optimizers is {optimizers!r}; give at least one of {', '.join(OPTIMIZERS)}.")
    check_names(wanted, names)
    learners = {name: experiment_of(preset, settings or [], optimizer=name) for name in names}
    learners |= {name: experiment_of(preset, settings or [], **SETUPS[name]) for name in wanted}
    tried = {}
    for name, experiment in learners.items():
        tried[name] = experiment
        if twins and name not in LEARNS_NO_LEVEL:
            tried[name + TWIN] = experiment.but(frozen=True)
        if joint and name in names:
            tried[name + CEILING] = experiment.but(joint=True)
    if jobs or scheduler or table:
        how = {"jobs": jobs or os.cpu_count() or 1, "scheduler": scheduler, "table": table, "device": device}
        rows = results(tried, seeds, tell=_tell, **how)
        if refused := next((row["refused"] for row in rows.values() if "refused" in row), None):
            raise SettingError(refused)
    else:
        rows = {label: run_seeds(one, seeds, device=device, label=label) for label, one in tried.items()}
    lines = {}
    for name, experiment in learners.items():
        own, twin = rows[name], rows.get(name + TWIN)
        told = list(HOME[experiment.method].told)
        lines[name] = {
            **own,
            "told": told,
            "twin": twin,
            "joint": rows.get(name + CEILING),
            "difference_from_twin": difference(own, twin),
        }
    if as_json:
        known = {name: {key: line[key] for key in ("told", "difference_from_twin")} for name, line in lines.items()}
        print(json.dumps({"preset": preset, "seeds": seeds, "rows": rows, "learners": known}, allow_nan=False))
    else:
        _wide().print(learners_table(f"{preset}, {seeds} paired seeds", lines))
        _wide().print("\n".join(compared(lines)), highlight=False, markup=False)
    _leave_if_diverged(rows)


def _compare_contexts(experiment: Experiment, seeds: int, as_json: bool) -> None:
    """Two time scales beside every single one; see bench/contexts.py."""
    import torch

    from nllab.bench import contexts
    from nllab.bench.retention import cell, interval

    torch.set_num_threads(1)
    started = time.perf_counter()
    result = contexts.run_contexts(experiment, seeds, tell=lambda name: errors.print(f"{name} done", highlight=False))
    result = {"preset": experiment.stream, "seeds": seeds, **result, "seconds": time.perf_counter() - started}
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    table = Table(title=f"{experiment.stream}, {seeds} paired seeds", title_justify="left")
    for heading in ("", "chosen on validation data", "online accuracy", "names unchanged", "the worst", "names swapped",
                    "two time scales - it"):  # fmt: skip
        table.add_column(heading)
    for name, row in result["rows"].items():
        cells = (cell(row["scores"][score]) for score in ("online", "unswapped", "worst_unswapped", "swapped"))
        table.add_row(name, row["settings"], *cells, interval(row["behind"]))
    _wide().print(table)
    for text in contexts.sentences(result):
        _wide().print(text)


@app.command()
def sweep(
    presets: Annotated[str, typer.Argument(metavar="PRESETS", help="Names separated by commas.")],
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=VALUE/VALUE/...", help="Values of a setting to try; may be repeated."),
    ] = None,
    optimizers: Annotated[str, typer.Option(help="Names separated by commas; without it the preset's own.")] = "",
    seeds: SeedsOption = 1,
    device: DeviceOption = "cpu",
    settings: SetOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    out: TableOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train every combination of presets, optimizers and settings on all cores; rank them on validation data.

    With --out the finished runs are kept in one Parquet table, and the same command goes on where it was stopped.
    """
    from nllab.sweep import results

    grid = [
        [f"{key}={value}" for value in values.split("/")]
        for key, _, values in (text.partition("=") for text in over or [])
    ]
    usual = ["evaluate_on=validation", "evaluate_every=100000", *(settings or [])]
    places, writers = _names(presets), _names(optimizers)
    if not places:
        raise SettingError(f"PRESETS is {presets!r}; give at least one of {', '.join(PRESETS)}.")
    tried = {}
    for preset, writer, *changes in product(places, writers or [None], *grid):
        shown = [preset] * (len(places) > 1) + [writer or ""] * bool(writers) + changes
        tried[" ".join(shown) or preset] = experiment_of(preset, [*usual, *changes], optimizer=writer)  # type: ignore[arg-type]
    how = {"jobs": jobs or os.cpu_count() or 1, "scheduler": scheduler, "table": out, "device": device, "tell": _tell}
    found = results(tried, seeds, **how)
    refused = {name: row["refused"] for name, row in found.items() if "refused" in row}
    rows = {name: row for name, row in found.items() if name not in refused}
    if not rows:
        raise SettingError(next(iter(refused.values())))
    rows = dict(sorted(rows.items(), key=lambda item: rank(item[1]), reverse=True))
    best = next(iter(rows))
    if as_json:
        told = {"preset": presets, "seeds": seeds, "best": best, "rows": rows, "refused": refused}
        print(json.dumps(told, allow_nan=False))
        return
    table = Table(
        title=f"{presets}, {seeds} paired seeds, {tried[best].evaluate_on} part, best first", title_justify="left"
    )
    for heading in ("settings", *SWEPT):
        table.add_column(heading.replace("_", " "))
    for name, row in rows.items():
        table.add_row(
            name + (", diverged" if row["diverged"] else ""), *(_cell(row["metrics"][score]) for score in SWEPT)
        )
    _wide().print(table)
    for name, reason in refused.items():
        errors.print(f"{name}: {reason}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _tell(line: str) -> None:
    errors.print(line, highlight=False, markup=False, soft_wrap=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _wide() -> Console:
    """Standard output; two hundred columns and more where nobody says how many there are."""
    return Console(width=None if sys.stdout.isatty() else 220)


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="speed, live, retention, formal, recall, names, ablation, optimizers or widths."
        ),
    ],
    device: DeviceOption = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="A small version of the same, under three minutes.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="One row of the table (a language, task, model, optimizer, method or width); repeat for more."
        ),
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="names: your own text file or folder in place of names; twice or more.")
    ] = None,
    seeds: SeedsOption = 3,
    preset: Annotated[str | None, typer.Option(help="retention: the stream, digits-ab without it.")] = None,
    settings: SetOption = None,
    tune: Annotated[
        bool, typer.Option(help="retention: choose settings on validation data; otherwise take the usual ones.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="retention: a .json (which can be resumed) or .csv file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="retention: processes that share the work.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Measure what the lab says, and how fast it is: every table with its seeds."""
    if what not in BENCHES:
        raise unknown("bench", what, BENCHES)
    if only and what in ("speed", "live") or text and what != "names":
        raise SettingError(f"bench {what} takes no --{'text' if text else 'only'}.")
    if what != "retention" and (
        alien := next((name for name, value in (("preset", preset), ("set", settings), ("out", out)) if value), None)
    ):
        raise SettingError(f"bench {what} takes no --{alien}.")
    if what == "speed":
        from nllab.bench.speed import run_speed, speed_tables

        result = run_speed(device=device, quick=quick)
        growth = result["growth"]
        last = (
            f"T times {growth['tokens']:.0f}: time times {growth['time']:.1f}, saved bytes times"
            f" {growth['saved_bytes']:.1f}"
        )
        tables = [*speed_tables(result), last]
    elif what == "live":
        from nllab.bench.live import run_live

        result, tables = run_live(quick=quick), []
    elif what == "retention":
        from nllab.bench.retention import retention_tables

        experiment = experiment_of(preset or "digits-ab", settings or [])
        result = _retention(experiment, quick, only or [], seeds, tune, out, device, jobs)
        tables = retention_tables(result)
    else:
        result, tables = _sequences(what, quick, only, [str(path) for path in text or ()], seeds)
    if as_json:
        print(json.dumps(result, allow_nan=False))
    elif not tables:
        Console().print_json(data=result)
    else:
        _wide().print(*tables, highlight=False)


BENCHES = ("speed", "live", "retention", "formal", "recall", "names", "ablation", "optimizers", "widths")


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


def _sequences(
    what: str, quick: bool, only: list[str] | None, texts: list[str], seeds: int
) -> tuple[dict[str, Any], list[Table]]:
    """The benches that train: the result as JSON can hold it, and its tables. One CPU thread; each training is reported
    to stderr."""
    import torch

    torch.set_num_threads(1)
    choice = {
        "formal": "languages",
        "recall": "tasks",
        "names": "models",
        "ablation": "rows",
        "optimizers": "optimizers",
        "widths": "widths",
    }[what]
    chosen: dict[str, Any] = {"quick": quick, "seeds": seeds}
    chosen["report"] = lambda line: errors.print(line, highlight=False, markup=False)
    bench = import_module(f"nllab.bench.{what}")
    for name in only or ():
        chosen.setdefault("models" if name in getattr(bench, "MODELS", ()) else choice, []).append(name)
    if what != "names":
        result = getattr(bench, f"run_{what}")(**chosen)
        return result, getattr(bench, f"{what}_tables")(result)
    result = bench.run_names(**chosen, texts=texts)
    if texts:
        return result, bench.names_tables(result)
    translated = bench.run_translation(**chosen)
    return {"names": result, "translation": translated}, bench.names_tables(result) + bench.translation_tables(
        translated
    )


def shipped(folder: str) -> Path:
    """Where `app` or `notebooks` lies: inside the installed package, or beside it in a checkout."""
    for place in (Path(__file__).parent / f"_{folder}", Path(__file__).parent.parent / folder):
        if place.is_dir():
            return place
    raise NllabError(f"The folder {folder!r} is missing from this installation; install nllab again.")


def check_port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise SettingError(f"--port is {port}; a port is a number from 1 to 65535.")
    if not free(port):
        near = next((p for p in range(port + 1, min(port + 100, 65536)) if free(p)), None)
        raise SettingError(f"Port {port} is in use." + (f" Try --port {near}, which is free." if near else ""))
    return port


@app.command()
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


@app.command()
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
    """Open the notebooks in JupyterLab, on a copy of your own that is never overwritten."""
    if out and not check:
        raise SettingError("--out goes with --check.")
    if grade:
        _grade(grade)
    elif check:
        _show_progress(folder, out, reader)
    else:
        from nllab.course.copies import copy_notebooks

        check_port(port)
        said = {"wrote": "wrote", "kept": "kept your", "offered": "put a new version beside yours:"}
        for copied, how in copy_notebooks(shipped("notebooks"), folder):
            errors.print(f"{said[how]} {copied}", highlight=False)
        command = [sys.executable, "-m", "jupyter", "lab", f"--port={port}", f"--notebook-dir={folder}"]
        raise typer.Exit(_call(command + ([] if browser else ["--no-browser"])))


def _show_progress(folder: Path, out: Path | None, reader: str) -> None:
    from nllab.course import marks

    found = marks.collected(folder, reader)
    table = Table(title=f"{found['solved']} of {found['of']} exercises solved", title_justify="left")
    for heading in ("exercise", "solved", "attempts", "predicted", "came out"):
        table.add_column(heading)
    for name in marks.exercises():
        entry = found["exercises"].get(name, {})
        cells = (entry.get("solved", "")[:10], *(entry.get(key, "") for key in ("attempts", "prediction", "truth")))
        table.add_row(name, *("" if cell is None else str(cell) for cell in cells))
    _wide().print(table)
    if out:
        try:
            out.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            raise SettingError(f"{out} cannot be written: {error.strerror}.") from None
        errors.print(f"wrote {out}", highlight=False, markup=False)


def _grade(files: Sequence[Path]) -> None:
    from nllab.course import marks

    table = Table(title="Answers, run again", title_justify="left")
    for heading in ("file", "reader", "passed", "what did not"):
        table.add_column(heading)
    for path in files:
        found = marks.read_collected(path)
        results = marks.grade(found)
        passed = [name for name, (good, _) in results.items() if good]
        failed = "; ".join(f"{name}: {sentence}" for name, (good, sentence) in results.items() if not good)
        table.add_row(path.name, str(found.get("reader", "")), f"{len(passed)} of {found.get('of')}", failed)
    _wide().print(table)


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder for the pages.")],
) -> None:
    """Write the course as pages for any static host: they ask for nothing from anywhere."""
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


@app.command()
def doctor(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Saved runs, to say which version wrote them.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say in plain words what keeps the lab from running here; status 2 where something does."""
    report = examine(runs or ())
    try:
        report["dashboard"] = (shipped("app") / "serve.py").is_file()
        report["notebooks"] = len(list(shipped("notebooks").glob("*.ipynb")))
    except NllabError as error:
        report["problems"].append(str(error))
    if as_json:
        print(json.dumps(report))
    else:
        table = Table(show_header=False)
        for key in ("python", "system", "cores", "packages", "cuda"):
            for name, item in report[key].items() if isinstance(report[key], dict) else [(key, report[key])]:
                table.add_row(name, "none" if item is None else str(item))
        for saved in report["runs"]:
            by = saved["written_by"] or "a version before 2026-11-28"
            table.add_row(saved["path"], f"run of format {saved['format']}, written by nllab {by}")
        Console().print(table)
        for note in report["notes"]:
            print(f"Note: {note}")
        for problem in report["problems"]:
            print(f"Problem: {problem}")
        print(
            f"{len(report['problems'])} problems." if report["problems"] else "Everything that the lab needs is here."
        )
    raise typer.Exit(PROBLEM if report["problems"] else 0)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if issubclass(category, DataWarning):
        errors.print(f"Warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def main() -> None:
    """The console script. Errors of the lab become one sentence and status 2, its warnings a sentence."""
    warnings.showwarning = _show_warning
    try:
        app()
    except NllabError as error:
        errors.print(f"Error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(PROBLEM)
