"""nllab compare | sweep: several learners or settings on the same seeds."""

from __future__ import annotations

import json
import os
import time
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from nllab.claims import compared
from nllab.cli.console import (
    DeviceOption,
    JobsOption,
    JsonOption,
    PresetArgument,
    SchedulerOption,
    SeedsOption,
    SetOption,
    TableOption,
    errors,
    experiment_of,
    leave_if_diverged,
    names_in,
    tell,
    wide,
)
from nllab.cli.training import run_seeds
from nllab.errors import SettingError
from nllab.experiment import OPTIMIZERS, PRESETS, Experiment
from nllab.methods import REGISTRY
from nllab.methods.setups import SETUPS
from nllab.streams import stream_of
from nllab.summary import rank
from nllab.tables import interval, mean_std, table_of

TWIN, CEILING = ", frozen twin", ", joint ceiling"  # what a row of a comparison stands beside
SWEPT = ("average_accuracy", "a_after_b", "b_after_b", "mean_online_accuracy")  # what a sweep shows of each setting


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
    """Compare optimizers and methods on the same seeds of one preset."""
    from nllab.bench.retention import check_names, difference, learners_table
    from nllab.methods import BRINGS_ITS_MODEL
    from nllab.sweep import results

    if stream_of(base := experiment_of(preset, settings or [])).contexts:
        _compare_contexts(base, seeds, jobs or os.cpu_count() or 1, as_json)
        return
    names, wanted = names_in(optimizers), names_in(methods)
    if not names + wanted:
        raise SettingError(f"--optimizers is {optimizers!r}; give at least one of {', '.join(OPTIMIZERS)}.")
    check_names(wanted, names)
    learners = {name: experiment_of(preset, settings or [], optimizer=name) for name in names}
    learners |= {name: experiment_of(preset, settings or [], **SETUPS[name]) for name in wanted}
    tried = {}
    for name, experiment in learners.items():
        tried[name] = experiment
        if twins and name not in BRINGS_ITS_MODEL:
            tried[name + TWIN] = experiment.but(frozen=True)
        if joint and name in names:
            tried[name + CEILING] = experiment.but(joint=True)
    if jobs or scheduler or table:
        how = {"jobs": jobs or os.cpu_count() or 1, "scheduler": scheduler, "table": table, "device": device}
        rows = results(tried, seeds, tell=tell, **how)
        if refused := next((row["refused"] for row in rows.values() if "refused" in row), None):
            raise SettingError(refused)
    else:
        rows = {label: run_seeds(one, seeds, device=device, label=label) for label, one in tried.items()}
    lines = {}
    for name, experiment in learners.items():
        own, twin = rows[name], rows.get(name + TWIN)
        told = list(REGISTRY[experiment.method].privileged)
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
        wide().print(learners_table(f"{preset}, {seeds} paired seeds", lines))
        wide().print("\n".join(compared(lines)), highlight=False, markup=False)
    leave_if_diverged(rows)


def _compare_contexts(experiment: Experiment, seeds: int, jobs: int, as_json: bool) -> None:
    """Two time scales beside every single one; see bench/contexts.py."""
    from nllab.bench import contexts

    started = time.perf_counter()
    result = contexts.run_contexts(experiment, seeds, jobs=jobs, tell=tell)
    result = {"preset": experiment.stream, "seeds": seeds, **result, "seconds": time.perf_counter() - started}
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    heads = ("online accuracy", "names unchanged", "the worst", "names swapped", "two time scales - it")
    rows = [
        (
            *(name, row["settings"]),
            *(mean_std(row["scores"][score]) for score in ("online", "unswapped", "worst_unswapped", "swapped")),
            interval(row["behind"]),
        )
        for name, row in result["rows"].items()
    ]
    title = f"{experiment.stream}, {seeds} paired seeds"
    wide().print(table_of(title, ("", "chosen on validation data", *heads), rows, 2))
    for text in contexts.sentences(result):
        wide().print(text)


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
    """Train all combinations of settings, on all cores. They are ranked on validation data.

    With --out the finished runs are kept in one Parquet table, and the same command goes on where it was stopped.
    """
    from nllab.sweep import results

    grid = [
        [f"{key}={value}" for value in values.split("/")]
        for key, _, values in (text.partition("=") for text in over or [])
    ]
    usual = ["evaluate_on=validation", "evaluate_every=100000", *(settings or [])]
    places, writers = names_in(presets), names_in(optimizers)
    if not places:
        raise SettingError(f"PRESETS is {presets!r}; give at least one of {', '.join(PRESETS)}.")
    tried = {}
    for preset, writer, *changes in product(places, writers or [None], *grid):
        shown = [preset] * (len(places) > 1) + [writer or ""] * bool(writers) + changes
        tried[" ".join(shown) or preset] = experiment_of(preset, [*usual, *changes], optimizer=writer)  # type: ignore[arg-type]
    how = {"jobs": jobs or os.cpu_count() or 1, "scheduler": scheduler, "table": out, "device": device, "tell": tell}
    summaries = results(tried, seeds, **how)
    refused = {name: row["refused"] for name, row in summaries.items() if "refused" in row}
    rows = {name: row for name, row in summaries.items() if name not in refused}
    if not rows:
        raise SettingError(next(iter(refused.values())))
    rows = dict(sorted(rows.items(), key=lambda item: rank(item[1]), reverse=True))
    best = next(iter(rows))
    if as_json:
        result = {"preset": presets, "seeds": seeds, "best": best, "rows": rows, "refused": refused}
        print(json.dumps(result, allow_nan=False))
        return
    lines = [
        (name + (", diverged" if row["diverged"] else ""), *(mean_std(row["metrics"][score]) for score in SWEPT))
        for name, row in rows.items()
    ]
    title = f"{presets}, {seeds} paired seeds, {tried[best].evaluate_on} part, best first"
    wide().print(table_of(title, ("settings", *(score.replace("_", " ") for score in SWEPT)), lines))
    for name, reason in refused.items():
        errors.print(f"{name}: {reason}", style="yellow", highlight=False, markup=False, soft_wrap=True)
