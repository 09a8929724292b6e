"""Levels: groups of parameters that learn at different speeds, and the schedule that says which of them write when.

One clock, counted in *steps* (one step = one batch of a stream, counted from 1). A level of period p collects the sum
of its gradients and writes after every step i with i % p == 0; in between it stays bit-identical, and the forward pass
never looks at the clock (Behrouz et al. 2025, arXiv 2512.24695, Eq. 70-71). Levels are ordered from fast to slow;
"higher" and "lower" are never used, since the paper uses them both ways. Plain Python: a level knows modules by name
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from nllab.errors import SettingError, check_choice, check_number, check_whole


def check_period(name: str, period: object) -> int:
    """The period, if it is a whole number of at least 1. Raises SettingError."""
    check_whole(f"Level {name!r}: period", period)
    return int(period)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Level:
    """A group of modules with its own update period.

    name: how the level is called on every axis and in every event.
    modules: patterns of module or parameter names (`fnmatch`: "blocks.0.*", "head"); a name also matches everything
        below it.
    period: steps between two writes, at least 1.
    rate, retention, ridge: what `DeepOptimizer` uses for this level; None takes the optimizer's own.

    Raises SettingError for an empty name, no patterns, a period below 1, a negative rate, a retention outside [0, 1], a
    ridge not above 0.

    ```pycon
    >>> Level("slow", "blocks.2.*", period=16).matches("blocks.2.up.weight")
    True

    ```
    """

    name: str
    modules: tuple[str, ...] | str
    period: int = 1
    rate: float | None = None
    retention: float | None = None
    ridge: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.modules, str):
            object.__setattr__(self, "modules", (self.modules,))
        object.__setattr__(self, "modules", tuple(self.modules))
        if not self.name:
            raise SettingError("A level needs a name that is not empty.")
        if not self.modules:
            raise SettingError(
                f"Level {self.name!r} names no module; give at least one pattern such as 'blocks.0.*' or '*'."
            )
        object.__setattr__(self, "period", check_period(self.name, self.period))
        for setting, interval in (("rate", "[0, inf)"), ("retention", "[0, 1]"), ("ridge", "(0, inf)")):
            if (value := getattr(self, setting)) is not None:
                check_number(f"Level {self.name!r}: {setting}", value, interval)

    def matches(self, parameter: str) -> bool:
        """Whether a dotted parameter name belongs here: it, or a module that holds it, fits one of the patterns."""
        parts = parameter.split(".")
        names = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.modules)


@dataclass(frozen=True)
class Schedule:
    """When each level writes: after step i (counted from 1) if i is a multiple of its period. Nothing is written at
    step 0.

    ```pycon
    >>> Schedule({"fast": 1, "slow": 16}).due(4), Schedule({"fast": 1, "slow": 16}).due(16)
    (('fast',), ('fast', 'slow'))

    ```
    """

    periods: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "periods", {name: check_period(name, period) for name, period in self.periods.items()})

    @classmethod
    def of(cls, levels: Iterable[Level]) -> Schedule:
        """The schedule that the levels' own periods make."""
        return cls({level.name: level.period for level in levels})

    def due(self, step: int) -> tuple[str, ...]:
        """The levels that write after `step`, in the order in which they were given."""
        return tuple(name for name, period in self.periods.items() if step > 0 and step % period == 0)

    def writes(self, level: str, steps: int) -> list[int]:
        """All steps up to and including `steps` after which `level` writes."""
        return list(range(self.periods[level], steps + 1, self.periods[level]))

    def with_period(self, level: str, period: int) -> Schedule:
        """The schedule in which `level` has another period; gradients already collected are kept and written at its
        next turn."""
        check_choice("level", level, self.periods)
        return replace(self, periods={**self.periods, level: check_period(level, period)})


def with_retention(levels: Iterable[Level], retention: Mapping[str, float]) -> tuple[Level, ...]:
    """The same levels, some with a retention of their own by name. Raises SettingError for a level that is not there
    or a retention outside [0, 1]."""
    held = {level.name: level for level in levels}
    for name in retention:
        check_choice("level", name, held)
    return tuple(replace(level, retention=retention.get(name, level.retention)) for name, level in held.items())


def assign(levels: Sequence[Level], parameters: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which parameters each level holds; where several levels match, the first takes it.

    Raises SettingError if two levels share a name, if a level holds no parameter, or if a parameter belongs to no
    level.

    ```pycon
    >>> assign([Level("head", "head"), Level("rest", "*")], ["up.weight", "head.weight", "head.bias"])
    {'head': ('head.weight', 'head.bias'), 'rest': ('up.weight',)}

    ```
    """
    names = [level.name for level in levels]
    if len(set(names)) != len(names):
        raise SettingError(f"Two levels share a name: {', '.join(names)}. Give each level a name of its own.")
    held: dict[str, list[str]] = {name: [] for name in names}
    homeless = []
    for parameter in (parameters := list(parameters)):
        home = next((level.name for level in levels if level.matches(parameter)), None)
        held[home].append(parameter) if home else homeless.append(parameter)
    if homeless:
        raise SettingError(f"No level holds {', '.join(homeless)}. Add a last level such as Level('rest', '*').")
    for level in levels:
        if not held[level.name]:
            patterns = ", ".join(level.modules)
            raise SettingError(
                f"Level {level.name!r} ({patterns}) holds no parameter of its own. Parameters: {', '.join(parameters)}."
            )
    return {name: tuple(names_held) for name, names_held in held.items()}
