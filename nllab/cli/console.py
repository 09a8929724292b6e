"""What the commands share: where they print, the options of several, and tables of scores.

Results go to stdout (with --json one JSON object and nothing else), progress and problems to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nllab.errors import SettingError
from nllab.events import Step
from nllab.experiment import PRESETS, Experiment, read_setting
from nllab.runs import SCORES
from nllab.tables import mean_std, table_of

errors = Console(stderr=True)

PROBLEM = 2  # exit status for anything the caller can put right
INTERRUPTED = 130  # exit status of a run that somebody stopped; it is on disk and can be gone on with
DIVERGED = 3  # exit status of a run whose loss was no longer finite; what it measured until then is printed

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
def progress_bar(label: str, total: int, shown: bool) -> Iterator[Any]:
    """A bar over `total` steps on stderr, where that is a terminal; called with events it counts their steps."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not (shown and sys.stderr.isatty())) as bar:
        task = bar.add_task(label, total=total)
        yield lambda events: bar.advance(task, sum(isinstance(event, Step) for event in events))


def scores_table(title: str, results: dict[str, dict[str, Any]]) -> Table:
    """One column for each result, one row for each score that is defined for any of them."""
    summaries = list(results.values())
    rows = {name.replace("_", " "): [mean_std(one["metrics"][name]) for one in summaries] for name in SCORES}
    rows = {name: cells for name, cells in rows.items() if set(cells) != {"–"}}
    for i in range(max(len(one["online_accuracy"]) for one in summaries)):
        cells = [mean_std(one["online_accuracy"][i] if i < len(one["online_accuracy"]) else None) for one in summaries]
        rows[f"first 20 batches of experience {i + 1}"] = cells
    for level in summaries[0]["update_counts"]:
        rows[f"writes of {level}"] = [f"{one['update_counts'][level]['mean']:.0f}" for one in summaries]
    rows["bytes kept beyond the weights"] = [f"{one['bytes_kept']:,}" for one in summaries]
    rows["seconds, all seeds"] = [f"{one['seconds']:.1f}" for one in summaries]
    return table_of(title, ("", *results), [(name, *cells) for name, cells in rows.items()])


def print_result(as_json: bool, result: dict[str, Any], title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a result as one JSON object, or as a table with a column for each of `rows`."""
    if as_json:
        print(json.dumps(result, allow_nan=False))
    else:
        wide().print(scores_table(title, rows))
        for text in result.get("cannot_show", ()):
            wide().print(text, highlight=False, markup=False)


def leave_if_diverged(results: dict[str, dict[str, Any]]) -> None:
    """End with status 3, and the reasons on stderr, where a run diverged."""
    texts = [f"{label}: {text}" for label, result in results.items() for text in result["diverged"]]
    if texts:
        errors.print("\n".join(texts), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(DIVERGED)


def tell(line: str) -> None:
    """One line of progress on stderr."""
    errors.print(line, highlight=False, markup=False, soft_wrap=True)


def names_in(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def wide() -> Console:
    """Standard output; two hundred columns and more where nobody says how many there are."""
    return Console(width=None if sys.stdout.isatty() else 220)
