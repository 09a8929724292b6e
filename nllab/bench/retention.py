"""Who keeps A while learning B: every method and every optimizer on one stream, with paired seeds, each beside its
frozen twin.

Settings are tuned on validation data, the same number of trials for each method and plain optimizer; the deep optimizer
has one default and no trials. The chosen settings are then run on test data over the seeds. Training itself is the
caller's function.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from nllab import metrics
from nllab.errors import DataError, SettingError, check_choice
from nllab.experiment import LEARNING_RATES, Experiment
from nllab.methods import BRINGS_ITS_MODEL, REGISTRY
from nllab.methods.setups import GRIDS, SETUPS, TRIALS, Changes, optimizer_grid
from nllab.runs import SCORES
from nllab.streams import stream_of
from nllab.summary import paired_difference, rank, spread
from nllab.tables import interval, mean_std, table_of

Trainee = Callable[[Experiment, int], dict[str, Any]]  # (experiment, seeds) -> what `summarize` says of it
Told = Callable[[str], None]  # called with the name of a learner whose row is there

EQUAL = " at deep's bytes"  # replay whose buffer takes as many bytes as the deep optimizer's memory
REPLAY = ("er", "der++")
QUICK_OPTIMIZERS = ("sgd", "adam")
FORMAT = 1


def run_retention(
    experiment: Experiment,
    *,
    seeds: int,
    train: Trainee,
    trials: int = TRIALS,
    tuning_seeds: int = 1,
    methods: Sequence[str] = tuple(SETUPS),
    optimizers: Sequence[str] = tuple(LEARNING_RATES),
    rounds: int = 20,
    out: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    tell: Told = lambda name: None,
) -> dict[str, Any]:
    """One row for the deep optimizer, each optimizer and each method; see `row_of` for what a row holds.

    experiment: the stream and what all learners share. trials: 0 takes the usual settings. out: a .json or .csv file,
        written after every row; rows that a .json file of the same settings holds already are not run again. jobs:
        processes that share the learners, in which case `train` must be a function of a module.
    """
    check_names(methods, optimizers)
    if out is not None and out.suffix not in (".json", ".csv"):
        raise SettingError(f"--out is {str(out)!r}; its name must end in .json or .csv.")
    shared = {
        "experiment": experiment.model_dump(mode="json"),
        "seeds": seeds,
        "trials": trials,
        "tuning_seeds": tuning_seeds,
    }
    result: dict[str, Any] = {
        "format": FORMAT,
        **shared,
        "rows": rows_already(out, shared),
        "joint_drop": None,
        "step_time": {},
    }
    done = result["rows"]

    def run(learners: Mapping[str, Sequence[Changes]]) -> None:
        left = {name: grid for name, grid in learners.items() if name not in done}
        for name, row in rows_of(left, experiment, seeds, tuning_seeds, train, jobs):
            done[name] = row
            write(out, result)
            tell(name)

    run(candidates(experiment, trials, methods, optimizers))
    run(
        {
            name + EQUAL: (with_bytes(experiment, done[name]["settings"], done["deep"]["bytes_kept"]),)
            for name in REPLAY
            if name in done
        }
    )
    if "joint" in result["rows"]:
        result["joint_drop"] = joint_drop(experiment.but(**result["rows"]["joint"]["settings"]), seeds, device)
    chosen = {
        name: experiment.but(**row["settings"], evaluate_every=100_000)
        for name, row in result["rows"].items()
        if name != "joint"
    }
    result["step_time"] = step_times(chosen, rounds, device) if rounds else {}
    write(out, result)
    return result


def check_names(methods: Sequence[str], optimizers: Sequence[str]) -> None:
    """Raise SettingError for a method or optimizer that is not known."""
    for name in methods:
        check_choice("method", name, SETUPS)
    for name in optimizers:
        check_choice("optimizer", name, (*LEARNING_RATES, "deep"))


def candidates(
    experiment: Experiment, trials: int, methods: Sequence[str], optimizers: Sequence[str]
) -> dict[str, tuple[Changes, ...]]:
    """Learner -> the settings to choose from; the deep optimizer first, with its one default."""
    settings: dict[str, tuple[Changes, ...]] = {"deep": ({"optimizer": "deep"},)}
    for name in optimizers:
        if name != "deep":
            usual: Changes = {"optimizer": name, "observe": False}
            settings[name] = tuple(
                {**usual, **changes} for changes in optimizer_grid(LEARNING_RATES[name])[:trials]
            ) or (usual,)
    for name in methods:
        if name == "rls-conv" and not has_images(experiment):
            continue
        settings[name] = tuple({**SETUPS[name], **changes} for changes in GRIDS[name][:trials]) or (SETUPS[name],)
    return settings


def has_images(experiment: Experiment) -> bool:
    """Whether the stream shows images that random filters fit into."""
    from nllab.methods.random_features import CELLS, SIDE

    shape = stream_of(experiment).image_shape
    return shape is not None and min(shape) >= SIDE + CELLS - 1


def rows_of(
    learners: Mapping[str, Sequence[Changes]],
    experiment: Experiment,
    seeds: int,
    tuning_seeds: int,
    train: Trainee,
    jobs: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """`row_of` for each learner, in their order, by `jobs` processes."""
    if jobs == 1:
        for name, grid in learners.items():
            yield name, row_of(name, experiment, grid, seeds, tuning_seeds, train)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        result = {
            name: pool.submit(row_of, name, experiment, grid, seeds, tuning_seeds, train)
            for name, grid in learners.items()
        }
        for name, row in result.items():
            yield name, row.result()


def row_of(
    name: str, experiment: Experiment, grid: Sequence[Changes], seeds: int, tuning_seeds: int, train: Trainee
) -> dict[str, Any]:
    """Choose from the grid on validation data, then run the choice and its frozen twin on test data.

    Returns settings (the choice), trials and their validation scores, told, what `train` says, the twin's, and the
    paired difference.
    """
    scores = []
    if len(grid) > 1:
        for changes in grid:
            tried = experiment.but(**changes, evaluate_on="validation", evaluate_every=100_000)
            scores.append(rank(train(tried, tuning_seeds)))
    chosen = grid[int(np.argmax(scores))] if scores else grid[0]
    row = train(experiment.but(**chosen), seeds)
    twin = None
    if name not in BRINGS_ITS_MODEL:  # hidden levels of those are frozen already
        twin = train(experiment.but(**chosen, frozen=True), seeds)
    return {
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()},
        "trials": len(scores),
        "validation": [score if math.isfinite(score) else None for score in scores],
        "told": list(REGISTRY[chosen.get("method", "naive")].privileged),
        **row,
        "twin": twin,
        "difference_from_twin": difference(row, twin),
    }


def difference(row: Mapping[str, Any], twin: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Paired difference of the average accuracy of a row and its twin."""
    if twin is None:
        return None
    return paired_difference(
        row["metrics"]["average_accuracy"]["values"], twin["metrics"]["average_accuracy"]["values"]
    )


def with_bytes(experiment: Experiment, settings: Changes, size: int) -> Changes:
    """The settings of a replay method with a buffer of `size` bytes, which holds at most all training samples that
    there are."""
    stream = stream_of(experiment)
    a_sample = stream.features * 4 + 8 + (stream.classes * 4 if settings["method"] == "der++" else 0)
    buffer = min(size // a_sample, sum(len(task.train) for task in stream.tasks))
    return {**settings, "method_settings": {**settings["method_settings"], "buffer": buffer}}


def joint_drop(experiment: Experiment, seeds: int, device: str) -> dict[str, Any]:
    """Forgetting of the joint model: row i of its matrix is a fresh model trained on all tasks up to i at once,
    mixed."""
    from nllab.trainer import Trainer

    drops = []
    for seed in range(experiment.seed, experiment.seed + seeds):
        seeded = experiment.but(seed=seed, joint=True, evaluate_every=100_000)
        stream = stream_of(seeded)
        visits = list(metrics.first_visits(stream.plan))
        matrix = np.full((len(visits), len(stream.tasks)), np.nan)
        for i in range(len(visits)):
            tasks = tuple(stream.tasks[task] for task in visits[: i + 1])
            part = replace(stream, tasks=tasks, plan=tuple(range(i + 1)))
            matrix[i, visits[: i + 1]] = Trainer(seeded, stream=part, device=device).run().accuracy_matrix[-1]
        drops.append(metrics.forgetting(matrix, visits))
    return spread(drops)


def step_times(experiments: Mapping[str, Experiment], rounds: int, device: str) -> dict[str, Any]:
    """Time of a step while the second experience is taught, all learners in turn; median ratio to Adam's of the same
    round."""
    from nllab.bench.speed import alternate
    from nllab.build import pick_device
    from nllab.trainer import Trainer

    trainers = {}
    reference = {"adam": next(iter(experiments.values())).but(**{**SETUPS["naive"], "optimizer": "adam"})}
    for name, experiment in {**reference, **experiments}.items():
        trainer = trainers[name] = Trainer(experiment, device=device)
        first = trainer.experience_length
        while trainer.steps < (first + 2 if len(trainer.plan) > 1 else first // 2) and not trainer.diverged:
            trainer.step()
    trainers = {name: trainer for name, trainer in trainers.items() if not trainer.diverged}
    left = min(trainer.experience_length - trainer.experience_steps for trainer in trainers.values())
    rounds = min(rounds, left - 2)
    if rounds < 1 or "adam" not in trainers:
        return {}
    place = pick_device(device)
    wall, cpu = alternate({name: trainer.step for name, trainer in trainers.items()}, rounds, place)
    took = wall if place.type == "cuda" else cpu  # processor time, since other programs take turns on it
    return {
        name: {
            "milliseconds": 1e3 * median(own),
            "ratio_to_adam": median(a / b for a, b in zip(own, took["adam"], strict=True)),
        }
        for name, own in took.items()
    }


def rows_already(out: Path | None, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of an earlier run with the same settings. Raises DataError for a file that is something else."""
    if out is None or out.suffix != ".json" or not out.exists():
        return {}
    try:
        saved = json.loads(out.read_text(encoding="utf-8"))
        same = saved["format"] == FORMAT and all(saved[key] == value for key, value in shared.items())
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{out} is not a result of this bench; name a new file.") from None
    if not same:
        raise DataError(f"{out} holds a result of other settings; name a new file, or delete it.")
    return saved["rows"]


def write(out: Path | None, result: Mapping[str, Any]) -> None:
    """Write the result to a .json file whole or its rows to a .csv file; None writes nothing."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".json":
        out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        head = ["learner", "twin", "told", "settings"]
        head += [f"{score} {what}" for score in SCORES for what in ("mean", "std")]
        lines.writerow([*head, "first 20 batches of B mean", "bytes kept", "step time relative to Adam's"])
        for name, row in result["rows"].items():
            for is_twin, part in ((False, row), (True, row["twin"])):
                if part is not None:
                    scores = [part["metrics"][score][what] for score in SCORES for what in ("mean", "std")]
                    ratio = result["step_time"].get(name, {}).get("ratio_to_adam")
                    online = part["online_accuracy"][1]["mean"] if len(part["online_accuracy"]) > 1 else None
                    settings = json.dumps(row["settings"])
                    lines.writerow(
                        [name, is_twin, " ".join(row["told"]), settings, *scores, online, part["bytes_kept"], ratio]
                    )


# What the table shows of every learner, where it is defined for any of them: score -> heading.
COLUMNS = {
    "a_after_a": "A after A",
    "a_after_b": "A after B",
    "b_after_b": "B after B",
    "average_accuracy": "average",
    "anytime_accuracy": "anytime",
    "stability_gap": "stability gap",
    "forgetting": "forgetting",
    "mean_online_accuracy": "online",
}


def learners_table(
    title: str, rows: Mapping[str, Mapping[str, Any]], step_time: Mapping[str, Any] | None = None
) -> Table:
    """One line for each learner, its twin beneath it. rows: results with, where known, told, twin, joint and
    difference_from_twin."""
    lines: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
    for name, row in rows.items():
        lines.append((name, row, row))
        lines += [
            (f"  {suffix}", row[key], {})
            for key, suffix in (("twin", "frozen twin"), ("joint", "joint ceiling"))
            if row.get(key)
        ]
    shown = {
        score: head
        for score, head in COLUMNS.items()
        if any(found["metrics"][score]["mean"] is not None for _, found, _ in lines)
    }
    heads = ("told", *shown.values(), "first 20 of B", "bytes kept", "average - twin's")
    made = table_of(title, ("", *heads, *(["step / Adam's"] if step_time else [])), (), 2)
    made.columns[0].no_wrap = True
    for name, found, row in lines:
        online = found["online_accuracy"]
        cells = [", ".join(row.get("told", ())), *(mean_std(found["metrics"][score]) for score in shown)]
        cells += [
            mean_std(online[1]) if len(online) > 1 else "–",
            f"{found['bytes_kept']:,}",
            interval(row.get("difference_from_twin")) if row else "",
        ]
        if step_time:
            cells.append(f"{step_time[name]['ratio_to_adam']:.2f}" if name in step_time else "")
        made.add_row(name + (", diverged" if found["diverged"] else ""), *cells)
    return made


def retention_tables(result: Mapping[str, Any]) -> list[Any]:
    """What `run_retention` returned, for people: the learners, then what was chosen for each."""
    experiment, epochs = result["experiment"], result["experiment"]["epochs"]
    shared = f"{result['seeds']} paired seeds, {epochs} epoch{'s' * (epochs > 1)}, test part"
    chosen = []
    for name, row in result["rows"].items():
        known = [score for score in row["validation"] if score is not None]
        chosen.append((name, str(row["trials"]), f"{max(known):.3f}" if known else "–", _short(row["settings"])))
    tried = f"Chosen on the validation part from at most {result['trials']} trials each"
    return [
        learners_table(f"{experiment['stream']}, {shared}", result["rows"], result["step_time"]),
        table_of(tried, ("", "trials", "validation", "settings"), chosen, 4),
        "± is a standard deviation over seeds; average - twin's is paired over seeds with its 95 % interval"
        " (Student's t).",
        "Forgetting of the joint model itself (a fresh one for each prefix of the tasks):"
        f" {mean_std(result['joint_drop'])}.",
    ]


def _short(settings: Mapping[str, Any]) -> str:
    hidden = ("observe", "periods", "method", "joint", "method_settings")
    flat = {key: value for key, value in settings.items() if key not in hidden} | settings.get("method_settings", {})
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in flat.items()
        if value is not None
    )
