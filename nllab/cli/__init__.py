"""The command line: nllab run | export | data | compare | sweep | bench | dashboard | lab | site | doctor.

Bad input ends with status 2 and one message that names the value and what was expected.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from nllab import __version__
from nllab.cli import benches, comparing, serving, training
from nllab.cli.console import PROBLEM, errors
from nllab.errors import DataWarning, NllabError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"nllab {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A live lab for Nested Learning."""


for command in (training.run, training.export, training.data, comparing.compare, comparing.sweep):
    app.command()(command)
app.add_typer(benches.app, name="bench")
for command in (serving.dashboard, serving.lab, serving.site, serving.doctor):
    app.command()(command)


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
