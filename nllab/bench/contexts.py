"""Two time scales beside every single one, on a stream whose names change while what they name stays.

Every row's retention is chosen from one grid on validation data, that of the two time scales for its fast level alone,
by online accuracy over the first half of the stream; the choices are then run on test data with paired seeds. Every row
is asked, at the end of every context, for the names that have not changed and for those that have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nllab.claims import hidden_levels
from nllab.events import Step
from nllab.experiment import Experiment
from nllab.streams import stream_of
from nllab.summary import paired_difference, spread

RETENTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
TUNED_ON = 0.5  # of the stream
TWO, SAME, LEARNING, SINGLE, TWIN, ADAM = (
    "two time scales",
    "the same levels, one retention",
    "no context level, one retention",
    "a single level that learns, one retention",
    "two time scales, frozen twin",
    "adam",
)


def candidates(experiment: Experiment) -> dict[str, list[Experiment]]:
    """The grid of each row: of the two time scales, and of single ones with and without the fast level."""
    one = experiment.but(retention_by_level={})
    without = one.but(context_level=False)
    two = experiment.retention_by_level.keys() & {"context"} and experiment.context_level
    return {
        TWO: [experiment.but(retention_by_level=experiment.retention_by_level | {"context": r}) for r in RETENTIONS]
        if two
        else [experiment],
        SAME: [one.but(retention=r) for r in RETENTIONS],
        LEARNING: [without.but(retention=r) for r in RETENTIONS],
        SINGLE: [without.but(retention=r, frozen=True) for r in RETENTIONS],
    }


def trained(experiment: Experiment, share: float = 1.0) -> dict[str, float | None]:
    """Mean online accuracy of a run on the first `share` of the stream, and its accuracy at the ends of contexts on
    classes with and without new names."""
    import torch

    from nllab import probes
    from nllab.trainer import Trainer

    torch.set_num_threads(1)
    trainer = Trainer(experiment)
    stream, last = trainer.stream, math.ceil(share * trainer.planned_steps)
    test = getattr(stream.tasks[0], experiment.evaluate_on)
    ends = {-(-context.start // experiment.batch_size): names for context, names in _until_next(stream.contexts)}
    online, unswapped, swapped = [], [], []
    while trainer.steps < last and not trainer.done:
        online += [event.online_accuracy for event in trainer.step() if isinstance(event, Step)]
        if (names := ends.get(trainer.steps)) is not None or trainer.done:
            names = names or stream.contexts[-1].names
            for changed, found in ((False, unswapped), (True, swapped)):
                part = probes.renamed(test, names, changed=changed)
                found += [probes.accuracy(trainer.model, part)] if len(part) else []
    return {
        "online": float(np.mean(online)),
        "unswapped": float(np.mean(unswapped)) if unswapped else None,
        "worst_unswapped": float(np.min(unswapped[1:] or unswapped)) if unswapped else None,
        "swapped": float(np.mean(swapped)) if swapped else None,
    }


def _all_trained(experiments: Sequence[Experiment], share: float, jobs: int) -> Iterator[dict[str, float | None]]:
    """What `trained` says of each, in their order, as it is known."""
    from joblib import Parallel, delayed

    seldom = (experiment.but(evaluate_every=100_000) for experiment in experiments)
    pool = Parallel(n_jobs=jobs, return_as="generator")
    yield from pool(delayed(trained)(experiment, share) for experiment in seldom)  # type: ignore[misc]


def _until_next(contexts: Any) -> list[tuple[Any, tuple[int, ...]]]:
    """Each context but the first with the names of the one before it, whose end it is."""
    return [(now, before.names) for before, now in zip(contexts, contexts[1:], strict=False)]


def run_contexts(
    experiment: Experiment, seeds: int, *, jobs: int = 1, tell: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """rows: name -> settings that differ, scores by name with mean, std and values; differences of the two time scales
    from every other row, paired. tried: name -> online accuracy of each setting on validation data. What a stream of a
    single context cannot show is said in `cannot_show`. jobs: processes that train at once."""
    grids = candidates(experiment)
    asked = [one.but(evaluate_on="validation") for grid in grids.values() for one in grid]
    scores = iter([lives["online"] for lives in _all_trained(asked, TUNED_ON, jobs)])
    learners, tried = {}, {}
    for name, grid in grids.items():
        reached = [next(scores) for _ in grid]
        learners[name] = grid[int(np.argmax(reached))]  # type: ignore[arg-type]
        tried[name] = {_settings(e, experiment): round(score, 4) for e, score in zip(grid, reached, strict=True)}  # type: ignore[arg-type]
    tell("retentions chosen on validation data")
    learners[TWIN] = learners[TWO].but(frozen=True)
    learners[ADAM] = experiment.but(optimizer="adam", observe=False)
    paired = [learner.but(seed=learner.seed + k) for learner in learners.values() for k in range(seeds)]
    results = _all_trained(paired, 1.0, jobs)
    rows: dict[str, Any] = {}
    for name, learner in learners.items():
        lives = [next(results) for _ in range(seeds)]
        scores_of = {score: spread([f[score] for f in lives]) for score in lives[0]}
        rows[name] = {"settings": _settings(learner, experiment), "scores": scores_of}
        tell(name)
    own = rows[TWO]["scores"]["online"]["values"]
    for name, row in rows.items():
        row["behind"] = None if name == TWO else paired_difference(own, row["scores"]["online"]["values"])
    return {"rows": rows, "tried": tried, "cannot_show": cannot_show(experiment)}


def _settings(experiment: Experiment, base: Experiment) -> str:
    own, other = experiment.model_dump(), base.model_dump()
    return " ".join(f"{key}={value}" for key, value in own.items() if value != other[key] and key != "observe")


def cannot_show(experiment: Experiment) -> str | None:
    """Why this stream or model says nothing about time scales, if it does not."""
    stream = stream_of(experiment)
    if len(stream.contexts) < 2:
        return (
            f"The stream ends within its first context ({experiment.context_length} batches), so that no name ever"
            " changes and nothing here tells time scales apart."
        )
    if not experiment.pairs:
        return "No pair swaps its names, so that the contexts do not differ."
    if not experiment.context_level or len({*experiment.retention_by_level.values(), experiment.retention}) == 1:
        return "All levels of this model keep the same share at each write: it has one time scale."
    return None


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the rows bear out, and nothing else."""
    if result["cannot_show"]:
        return [result["cannot_show"]]
    text = []
    for name in (SAME, LEARNING, SINGLE):
        gap = result["rows"][name]["behind"]
        best = result["rows"][name]["settings"]
        if gap is None or gap["half_width"] is None:
            text.append(f"One seed has no interval; take more seeds to compare with {name}.")
        elif abs(gap["mean"]) <= gap["half_width"]:
            text.append(f"Two time scales and {name} ({best}) differ by less than they vary ({_points(gap)}).")
        else:
            where = "above" if gap["mean"] > 0 else "below"
            text.append(f"Two time scales are {_points(gap)} {where} the best of {name} ({best}).")
    own, twin = (result["rows"][name]["scores"]["online"]["values"] for name in (TWO, TWIN))
    return [*text, *([told] if (told := hidden_levels(own, twin)) else [])]


def _points(gap: Mapping[str, Any]) -> str:
    return f"{100 * abs(gap['mean']):.1f} ± {100 * gap['half_width']:.1f} points"
