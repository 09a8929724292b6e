"""The code and the command that repeat a run exactly: its settings, what was asked of it on the way, and where it
stopped. No torch."""

from __future__ import annotations

import re
import shlex
from textwrap import indent

from nllab.errors import SettingError
from nllab.events import NUMERIC_COMMANDS
from nllab.experiment import Experiment, spelled
from nllab.runs import Run, ScheduledCommand


def snippet(run: Run) -> str:
    """Python code that trains the run again: on one CPU thread of the same machine its rows are the same, bit for
    bit."""
    settings = {
        key: value
        for key, value in run.experiment.model_dump().items()
        if value != Experiment.model_fields[key].default
    }
    parts = [_laid_out("nllab.Experiment(", [f"{key}={value!r}" for key, value in settings.items()], ")")]
    if run.commands:
        parts.append(_laid_out("commands=[", [repr(command) for command in run.commands], "]"))
    if run.stopped_at is not None:
        parts.append(f"steps={run.stopped_at}")
    lines = [
        "import torch",
        "",
        "import nllab",
        "",
        "torch.set_num_threads(1)  # so that it can be repeated bit for bit",
    ]
    return "\n".join([*lines, _laid_out("run = nllab.train(", parts, ")"), "print(run.summary)", ""])


def _laid_out(opening: str, parts: list[str], closing: str) -> str:
    """On one line, or with each part on a line of its own where that would be too long."""
    line = opening + ", ".join(parts) + closing
    if len(line) < 110 and "\n" not in line:
        return line
    return "\n".join([opening, *(indent(part, "    ") + "," for part in parts), closing])


def command_line(run: Run) -> str:
    """The `nllab run` that trains the run again."""
    preset = Experiment.preset(run.experiment.stream)
    changes = {key: value for key, value in run.experiment.model_dump().items() if value != getattr(preset, key)}
    words = ["nllab", "run", run.experiment.stream]
    for key, value in changes.items():
        words += ["--set", f"{key}={spelled(value)}"]
    for command in run.commands:
        words += ["--at", spelled_command(command)]
    if run.stopped_at is not None:
        words += ["--steps", str(run.stopped_at)]
    return shlex.join(words)


def spelled_command(command: ScheduledCommand) -> str:
    """As `read_command` reads it: "69:optimizer=deep", "80:period=slow:4"."""
    at, name, value = command
    return f"{at}:{name}={':'.join(map(str, value)) if name == 'period' else value}"


def read_command(text: str) -> ScheduledCommand:
    """What a person means by STEP:NAME=VALUE. Raises SettingError; whether the command can be done is for the trainer
    to say.

    ```pycon
    >>> read_command("69:optimizer=deep")
    (69, 'optimizer', 'deep')

    ```
    """
    at, colon, rest = text.partition(":")
    name, sign, value = rest.partition("=")
    at, name, value = at.strip(), name.strip(), value.strip()
    if not (colon and sign and re.fullmatch("[1-9][0-9]{0,8}", at)):
        raise SettingError(
            f"--at is {text!r}; write STEP:NAME=VALUE, such as 69:optimizer=deep, 69:teach=B or 69:period=slow:4."
        )
    if name == "period":
        level, _, steps = value.rpartition(":")
        if not re.fullmatch("[0-9]{1,9}", steps):
            raise SettingError(f"--at is {text!r}; write a level and its period in steps, such as {at}:period=slow:4.")
        return int(at), name, [level, int(steps)]
    if name not in NUMERIC_COMMANDS:
        return int(at), name, value
    try:
        return int(at), name, float(value)
    except ValueError:
        raise SettingError(f"--at is {text!r}; {name} is a number.") from None
