"""What has happened in a run, in plain sentences, from its events alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nllab.claims import Scale, compare, hidden_levels, scales_in
from nllab.events import Command, End, Event, Step, Switch, measured
from nllab.optim import REGISTRY as OPTIMIZERS
from nllab.runs import ONLINE, Run

WRITERS = {name: entry.title for name, entry in OPTIMIZERS.items()} | {"deep": "the deep optimizer"}


def sentence(events: Sequence[Event], tasks: Sequence[str]) -> str:
    """One plain sentence that says what just happened, from the events alone."""
    end = next((event for event in reversed(events[-3:]) if isinstance(event, End)), None)
    if end and end.reason != "finished":
        return end.text
    last = next(measured(reversed(events)), None)
    steps = next((event.step for event in reversed(events) if isinstance(event, Step)), 0)
    place, switch = next(
        ((i, events[i]) for i in range(len(events) - 1, -1, -1) if isinstance(events[i], Switch)), (0, None)
    )
    if last is None or not isinstance(switch, Switch) or not steps:
        return "Nothing has been learned yet."
    at, now, scales = last[0].step, last[1], scales_in(events)
    if end:
        return f"The plan is over after {steps} steps: {_standing(now, tasks)}."
    commands = (event for event in reversed(events) if isinstance(event, Command) and event.name != "teach")
    command = next(commands, None)
    if command and command.step > switch.step:
        known = _standing(now, tasks) if at >= command.step else "nothing has been measured since"
        return f"{_obeyed(command.name, command.value)} at step {command.step}; {known}."
    before = next((accuracy for _, accuracy in measured(events[place::-1])), now)
    taught, ago = switch.task, at - switch.step + 1
    since = f"{ago} {'step' if ago == 1 else 'steps'}"
    earlier = [event.task for event in events[:place] if isinstance(event, Switch)]
    if ago < 1 and earlier:
        return f"Task {taught} replaced task {earlier[-1]} at step {switch.step}; nothing has been measured since."
    if taught not in now:
        return f"All tasks have been taught at once for {since}; {_standing(now, tasks)}."
    gained = _moved(taught, before, now, scales)
    others = [task for task in dict.fromkeys(earlier) if task != taught]
    if not others:
        return f"Task {taught} has been taught for {since}: accuracy on {gained}."
    opening = (
        f"Task {taught} replaced task {earlier[-1]} {since} ago"
        if at == steps
        else (f"{since} after task {taught} replaced task {earlier[-1]}")
    )
    if len(others) == 1:
        return f"{opening}: accuracy on {_moved(others[0], before, now, scales)} while {gained}."
    mean = sum(now[task] for task in others) / len(others)
    return f"{opening}: accuracy on {gained}, and the {len(others)} earlier tasks stand at {mean:.2f} on average."


def contrast(runs: Sequence[Run], asked: str | None = None) -> str:
    """One plain sentence that sets runs of one stream side by side by their first task, or the one that is asked about,
    from their events alone."""
    accuracies = [{event.step: accuracy for event, accuracy in measured(run.log)} for run in runs]
    if not all(accuracies) or not min(map(max, accuracies)):
        question = f" Who will still know task {runs[0].tasks[0]} at the end?" if len(runs[0].tasks) > 1 else ""
        return f"The same samples in the same order, side by side.{question}"
    task = asked if asked in runs[0].tasks else runs[0].tasks[0]
    kinds = [kind_of(run) for run in runs]
    if len(set(kinds)) < len(kinds):
        kinds = [f"in the {place}" for place in ("first", "second", "third", "fourth")]
    if asked == ONLINE:
        means = [run.summary["mean_online_accuracy"] for run in runs]
        parts = [f"{mean:.2f} {kind}" for mean, kind in zip(means, kinds, strict=False)]
        return f"Right before learning each batch, so far: {_listed(parts)}."
    common = max(set.intersection(*map(set, accuracies)), default=0)
    # Runs that train side by side are never more than a measurement apart.
    beside = common > 0 and max(run.steps for run in runs) - common < 2 * runs[0].experiment.evaluate_every
    steps = [common if beside else max(shares) for shares in accuracies]
    parts = [f"{shares[step][task]:.2f} {kind}" for shares, step, kind in zip(accuracies, steps, kinds, strict=False)]
    if not beside:
        parts = [f"{part} (step {step})" for part, step in zip(parts, steps, strict=True)]
    text = f"Accuracy on task {task}{f' at step {common}' if beside else ''}: {_listed(parts)}."
    *_, whole, twin = [None, *runs]
    over = len({run.steps for run in runs}) == 1 and all(run.last(End) for run in (whole, twin) if run)
    if over and whole and twin.experiment == whole.experiment.but(frozen=True):
        scores = [[run.summary["average_accuracy"]] for run in (whole, twin)]
        text += f" {hidden_levels(*scores)}"
    return text


def kind_of(run: Run) -> str:
    """Who wrote last, in words: "with the deep optimizer", "with Adam", "in the frozen twin"."""
    last = run.last(Step)
    writer = last.optimizer if last else run.experiment.optimizer
    name = WRITERS.get(writer, writer)
    return (
        "in the frozen twin" + ("" if writer == "deep" else f" with {name}")
        if run.experiment.frozen
        else f"with {name}"
    )


def _moved(task: str, before: Mapping[str, float], now: Mapping[str, float], scales: Mapping[str, Scale]) -> str:
    old, new = before[task], now[task]
    order = compare(new, old, scales[task].count) if task in scales else None
    if now is before:
        return f"{task} stands at {new:.2f}"
    if order == "alike":
        return f"{task} stays at {new:.2f}" + (f", {old:.2f} before" if f"{old:.2f}" != f"{new:.2f}" else "")
    verb = {"higher": "rose", "lower": "fell", None: "went"}[order]
    return f"{task} {verb} from {old:.2f} to {new:.2f}"


def _standing(accuracy: Mapping[str, float], tasks: Sequence[str]) -> str:
    return _listed([f"{task} stands at {accuracy[task]:.2f}" for task in tasks])


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _obeyed(name: str, value: Any) -> str:
    if name == "optimizer":
        return (
            "The deep optimizer was switched on"
            if value == "deep"
            else f"The deep optimizer was switched off and {value} took over"
        )
    if name == "period":
        return f"The period of the level {value[0]} became {value[1]}"
    return f"The {name.replace('_', ' ')} became {value:g}"
