"""Several runs of one experiment, summed up over their seeds. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nllab.events import End, jsonable
from nllab.experiment import Experiment
from nllab.runs import SCORES, Run, readable


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, sample standard deviation and the values; None where a number is undefined (a spread needs two values).

    ```pycon
    >>> spread([0.5, 0.7])["mean"]
    0.6

    ```
    """
    known = [float(v) for v in values if v is not None and np.isfinite(v)]
    complete = len(known) == len(values) and known
    return {
        "mean": float(np.mean(known)) if complete else None,
        "std": float(np.std(known, ddof=1)) if complete and len(known) > 1 else None,
        "values": jsonable(list(values)),
    }


def rank(summary: Mapping[str, Any]) -> float:
    """What settings are ranked by, of what `summarize` says: average accuracy; -inf where it is undefined or training
    diverged, since a run that ended early has an average, too: of the tasks that it came to."""
    score = summary["metrics"]["average_accuracy"]["mean"]
    return -math.inf if score is None or summary["diverged"] else score


def differences(runs: Mapping[str, Run]) -> list[list[str]]:
    """What sets these runs apart, by their titles: a head, a row for each setting that differs, one for each score that
    some have."""
    settings = {title: run.experiment.model_dump() for title, run in runs.items()}
    summaries = {title: run.summary for title, run in runs.items()}
    table = [["", *runs]]
    for key in Experiment.model_fields:
        values = [given[key] for given in settings.values()]
        if any(value != values[0] for value in values):
            table.append([readable(key), *map(_told, values)])
    for key in ("steps", *SCORES):
        values = [summary[key] for summary in summaries.values()]
        if any(value is not None for value in values):
            table.append([readable(key), *map(_told, values)])
    table.append(
        [
            "writes by level",
            *(", ".join(f"{k} {v}" for k, v in summary["update_counts"].items()) for summary in summaries.values()),
        ]
    )
    changes = [
        ", ".join(f"{name} {value} at step {step}" for step, name, value in run.commands) or "none"
        for run in runs.values()
    ]
    if set(changes) != {"none"}:
        table.append(["changed while running", *changes])
    return table


def _told(value: Any) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.3f}"
        if isinstance(value, float)
        else ", ".join(map(str, value))
        if isinstance(value, tuple)
        else str(value)
    )


def paired_difference(values: Sequence[float | None], others: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean of values - others over paired seeds, with the half width of its 95 % interval (Student's t); None where a
    value is missing.

    One pair has a difference and no interval.

    ```pycon
    >>> found = paired_difference([0.9, 0.8, 0.85], [0.7, 0.65, 0.6])
    >>> f"{found['mean']:.2f} ± {found['half_width']:.2f}"
    '0.20 ± 0.12'

    ```
    """
    if len(values) != len(others) or not values or any(v is None for v in (*values, *others)):
        return None
    differences = np.subtract(np.array(values, dtype=float), np.array(others, dtype=float))
    half_width = None
    if len(differences) > 1:
        from scipy.special import stdtrit  # a third of a second that a live page does not have

        half_width = float(stdtrit(len(differences) - 1, 0.975) * differences.std(ddof=1) / len(differences) ** 0.5)
    return {"mean": float(differences.mean()), "half_width": half_width, "values": differences.tolist()}


def summarize(experiment: Experiment, runs: Sequence[Run], seconds: float) -> dict[str, Any]:
    """What `nllab run --json` prints: scores over seeds, accuracy matrices, online accuracy, update counts, bytes,
    seconds."""
    diverged = [end.text for run in runs for end in run.of(End) if end.reason == "diverged"]
    totals = sum_up([run.experiment for run in runs], [run.summary for run in runs], seconds, diverged)
    return totals | {"experiment": experiment.model_dump(mode="json")}


def sum_up(
    experiments: Sequence[Experiment], summaries: Sequence[Mapping[str, Any]], seconds: float, diverged: Sequence[str]
) -> dict[str, Any]:
    """The same of experiments that differ in their seeds, from what `Run.summary` said of each."""
    experiences = min(len(summary["online_accuracy"]) for summary in summaries)
    return {
        "experiment": experiments[0].model_dump(mode="json"),
        "seeds": [experiment.seed for experiment in experiments],
        "metrics": {name: spread([summary[name] for summary in summaries]) for name in SCORES},
        "accuracy_matrix": jsonable([summary["accuracy_matrix"] for summary in summaries]),
        "online_accuracy": [
            spread([summary["online_accuracy"][i] for summary in summaries]) for i in range(experiences)
        ],
        "update_counts": {
            level: spread([summary["update_counts"][level] for summary in summaries])
            for level in summaries[0]["update_counts"]
        },
        "bytes_kept": max(summary["bytes_kept"] for summary in summaries),
        "seconds": seconds,
        "diverged": list(diverged),
    }
