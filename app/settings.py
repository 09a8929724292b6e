"""From the address to an experiment and back, and what of an experiment can change while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from nllab.errors import SettingError
from nllab.experiment import PRESETS, Experiment, read_setting, renamed, spelled
from nllab.streams import is_known

# What the page shows to somebody who comes without settings: the overwrite problem first. Measured as often
# as costs under a tenth of the training time.
START = Experiment.preset("digits-ab", optimizer="adam", evaluate_every=4)
UNLIMITED = 1_000.0  # as a live run understands it
MOST_SEED = 2**31 - 1
OTHER_KEYS = ("twin", "lesson", "answer", "networks", "present")  # of an address, which pages read for themselves
SPEEDS = (0.5, 1.0, 2.0, 6.0, 15.0, 40.0, 100.0, 300.0, UNLIMITED)  # steps per second
SPEED = 6.0
ONE, PAIR, TRIO = "One, with the toggle", "Two: off and on", "Three: and the frozen twin"
OFF, ON, TWIN = "Deep optimizer off", "Deep optimizer on", "Frozen twin"  # their titles
NETWORKS = {"1": ONE, "2": PAIR, "3": TRIO}  # how many stand side by side, by their keys in an address
MOST_PROBLEMS = 5  # of an address that are all told


def speed_name(speed: float) -> str:
    return "unlimited" if speed >= UNLIMITED else f"{speed:g}"


def read_address(query: Mapping[str, str]) -> tuple[Experiment, float, list[str]]:
    """(experiment, speed, what could not be used) of an address; what cannot be used falls back to its default.

    An address that names no optimizer starts with the plain one, as every stream of the menu does.
    """
    pairs, problems = {key: value for key, value in query.items() if key not in OTHER_KEYS}, []
    speed = pairs.pop("speed", speed_name(SPEED))
    by_name = {speed_name(value): value for value in SPEEDS}
    if speed not in by_name:
        problems.append(f"speed is {speed!r}; it must be one of {', '.join(by_name)}.")
    if not pairs:
        return START, by_name.get(speed, SPEED), problems
    kept: dict[str, str] = {}
    for key, value in pairs.items():
        if key == "stream" and value not in PRESETS and is_known(value):
            problems.append(
                f"stream is {value!r}; an address cannot ask for files on the server. Train on your own data with nllab"
                " run."
            )
            continue
        try:
            Experiment(**{key: read_setting(key, value)})
            kept |= renamed({key: value})
        except SettingError as error:
            problems.append(str(error))
    try:
        experiment = _preset_of(kept).but(**_read(kept)) if kept else START
    except SettingError as error:  # each part is fine, together they are not
        experiment = START
        problems.append(str(error))
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [
            f"{len(problems) - MOST_PROBLEMS} more parts of this address could not be used either."
        ]
    return experiment, by_name.get(speed, SPEED), problems


def _preset_of(kept: Mapping[str, str]) -> Experiment:
    """The preset of the stream that an address names, with a plain optimizer."""
    return Experiment.preset(kept.get("stream", START.stream), optimizer=kept.get("base_optimizer", START.optimizer))


def _read(kept: Mapping[str, str]) -> dict[str, object]:
    return {key: read_setting(key, value) for key, value in kept.items()}


def preset_changes(old: str, new: str) -> dict[str, object]:
    """What a page that goes from one preset to another has to set: the settings in which either differs from the
    rest."""
    wanted = (
        START
        if new == START.stream
        else Experiment.preset(new, evaluate_every=PRESETS[new].get("evaluate_every", START.evaluate_every))
        if new in PRESETS
        else START.but(stream=new)  # own data
    )
    return {key: getattr(wanted, key) for key in {"evaluate_every", *PRESETS.get(old, {}), *PRESETS.get(new, {})}}


def write_address(experiment: Experiment, speed: float) -> dict[str, str]:
    """The query whose `read_address` gives these back; empty for what the page starts with."""
    preset = Experiment.preset(experiment.stream).model_dump()
    pairs = {key: spelled(value) for key, value in experiment.model_dump().items() if value != preset[key]}
    stream = {} if experiment.stream == START.stream else {"stream": experiment.stream}
    pairs = {} if experiment == START else stream | pairs | {"optimizer": experiment.optimizer}
    return pairs | ({} if speed == SPEED else {"speed": speed_name(speed)})


def commands(
    old: Experiment, new: Experiment, levels: tuple[str, ...]
) -> tuple[list[tuple[str, object]], Experiment, list[str]]:
    """How a run that has `old` comes to `new`: (commands to give now, what it has after them, settings that need a
    reset).

    levels: the names of the run's levels, from the input to the head.
    """
    given: list[tuple[str, object]] = []
    changes = {key: value for key, value in new.model_dump().items() if value != getattr(old, key)}
    after: dict[str, object] = {}
    memories = levels[1:-1]
    for level, key in ((levels[0], "input_period"), (levels[-1], "head_period")):
        if key in changes:
            given.append(("period", [level, changes[key]]))
            after[key] = changes[key]
    if "periods" in changes and len(new.periods) == len(old.periods) == len(memories):
        pairs = zip(memories, old.periods, new.periods, strict=True)
        given += [("period", [level, period]) for level, before, period in pairs if period != before]
        after["periods"] = new.periods
    for key in ("rate", "retention"):
        if key in changes:
            given.append((key, changes[key]))
            after[key] = changes[key]
    if new.optimizer != old.optimizer:
        given.append(("optimizer", new.optimizer))
    after |= {key: changes[key] for key in ("optimizer", "base_optimizer") if key in changes}
    taken_over = new.optimizer not in ("deep", old.optimizer)  # by a plain optimizer, which starts at its usual rate
    if "learning_rate" in changes or (taken_over and new.learning_rate is not None):
        given.append(("learning_rate", new.base_learning_rate))
        after["learning_rate"] = new.learning_rate
    return given, old.but(**after), [key for key in changes if key not in after]
