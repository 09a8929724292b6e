"""Many runs on all cores, or on the workers of a Dask scheduler, as rows of one Parquet table.

A table is a folder (`sweep.parquet`) with one small Parquet file a run, which pandas, Polars and DuckDB read as one
table. Each file is written whole or not at all by the process that runs the sweep, under a name that the experiment
decides: whatever is killed, finished runs stay, a second start trains only what is missing, and two sweeps may share a
table. joblib distributes the runs. Where a worker is killed, the runs under way begin again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllab import __version__
from nllab.errors import NllabError, RunFormatError, SettingError
from nllab.events import End
from nllab.experiment import Experiment
from nllab.runs import SCORES
from nllab.summary import jsonable, sum_up

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]
Tell = Callable[[str], None]
TEXTS = ("key", "stream", "optimizer", "method", "model", "status", "reason", "worker", "nllab")
TEXTS += ("settings", "experiment", "summary")  # in JSON
WHOLE = ("seed", "steps", "bytes_kept")
COLUMNS = (*TEXTS, *WHOLE, "seconds", *SCORES)
DONE = ("finished", "diverged")  # status of runs that a second start leaves alone
MOST_DEATHS = 3  # times that workers may be killed in a row before a single run has finished
SCHEDULER_SECONDS = 10  # that a Dask scheduler has to answer


def key_of(experiment: Experiment) -> str:
    """The name of a run in a table: the same for the same experiment, seed included."""
    return hashlib.sha256(experiment.to_json().encode()).hexdigest()[:24]


def record(settings: Mapping[str, Any], device: str = "cpu") -> Record:
    """Train one experiment and say how it went, as a row of the table. Runs in a worker; raises nothing."""
    import torch

    from nllab.trainer import Trainer

    torch.set_num_threads(1)  # so that a run is the same wherever it runs
    experiment = Experiment(**settings)
    started = time.perf_counter()
    row: Record = dict.fromkeys(COLUMNS) | {
        "key": key_of(experiment),
        **{name: getattr(experiment, name) for name in ("stream", "optimizer", "method", "model", "seed")},
        "settings": json.dumps({k: v for k, v in experiment.model_dump(mode="json").items() if _is_changed(k, v)}),
        "experiment": json.dumps(experiment.model_dump(mode="json")),
        "worker": f"{platform.node()}:{os.getpid()}",
        "nllab": __version__,
    }
    try:
        run = Trainer(experiment, device=device).run()
    except NllabError as error:
        return row | {"status": "refused", "reason": str(error)}
    except Exception as error:  # one run that fails must not end the others
        return row | {"status": "failed", "reason": f"{type(error).__name__}: {str(error)[:300]}"}
    summary = jsonable(run.summary)
    ends = run.of(End)
    row |= {name: summary[name] for name in (*SCORES, "steps", "bytes_kept")}
    row |= {"status": "diverged" if ends and ends[-1].reason == "diverged" else "finished"}
    row |= {"reason": ends[-1].text if row["status"] == "diverged" else None, "summary": json.dumps(summary)}
    return row | {"seconds": time.perf_counter() - started}


def _is_changed(name: str, value: Any) -> bool:
    default = Experiment.model_fields[name].default
    return name not in ("stream", "seed") and value != (list(default) if isinstance(default, tuple) else default)


# -- the table


def add(table: Path, row: Record) -> None:
    """Write one row as a file of its own, whole or not at all. Raises SettingError where it cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.string() for name in TEXTS} | {name: pa.int64() for name in WHOLE}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])
    target, draft = table / f"{row['key']}.parquet", table / f".{row['key']}.{os.getpid()}"
    try:
        table.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row], schema=schema), draft)
        os.replace(draft, target)
    except OSError as error:
        raise SettingError(f"{table} cannot be written to: {error.strerror}. Name another place with --out.") from None


def read(table: str | Path) -> pd.DataFrame:
    """The table, a row a run, in the order of their keys. Raises RunFormatError that names a file that is damaged."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    folder = Path(table)
    if folder.exists() and not folder.is_dir():
        raise RunFormatError(f"{folder} is a file, and a table of a sweep is a folder. Name another place.")
    for file in sorted(folder.glob("[!._]*.parquet")):
        try:
            tables.append(pq.read_table(file, columns=list(COLUMNS)))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:120]
            raise RunFormatError(
                f"{file} cannot be read ({reason}); delete it, and the sweep trains it again."
            ) from None
    return pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame(columns=list(COLUMNS))


def finished(table: Path | None) -> dict[str, Record]:
    """The rows of runs that need not be trained again, by their keys."""
    if table is None or not table.exists():
        return {}
    frame = read(table)
    rows = frame[frame["status"].isin(DONE)].astype(object).to_dict("records")  # type: ignore[call-overload]
    return {str(row["key"]): {str(k): None if v != v else v for k, v in row.items()} for row in rows}


# -- the work


def execute(
    experiments: Sequence[Experiment],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    table: Path | None = None,
    device: str = "cpu",
    tell: Tell = lambda line: None,
) -> dict[str, Record]:
    """The row of every experiment by its key; those that the table holds are not trained again.

    jobs: processes on this machine; scheduler: address of a Dask scheduler whose workers do the work instead.
    Raises: NllabError where workers are killed MOST_DEATHS times in a row without finishing a run, or the scheduler is
        not reached.
    """
    rows = finished(table)
    wanted = {key_of(experiment): experiment for experiment in experiments}
    rows = {key: row for key, row in rows.items() if key in wanted}
    if rows:
        tell(f"{len(rows)} of {len(wanted)} runs are in the table")
    deaths = 0
    with _workers(jobs, scheduler) as deadly:
        while missing := [experiment for key, experiment in wanted.items() if key not in rows]:
            try:
                for record in _trained(missing, device, jobs, scheduler):
                    if table is not None:
                        add(table, record)
                    rows[record["key"]] = record
                    deaths = 0
                    who = f"{record['stream'][:60]} {record['optimizer']} seed {record['seed']}"
                    tell(f"{len(rows)}/{len(wanted)} {who}: {_score(record)}")
            except deadly as error:
                deaths += 1
                if deaths == MOST_DEATHS:
                    reason = " ".join(str(error).split())[:150]
                    raise NllabError(
                        f"Workers were killed {deaths} times in a row ({reason}). {len(rows)} of {len(wanted)} runs are"
                        " done; the same command goes on with the others. Give it fewer --jobs if memory ran out."
                    ) from None
                tell("a worker was killed; the runs under way begin again")
    return rows


def _trained(experiments: Sequence[Experiment], device: str, jobs: int, scheduler: str | None) -> Iterator[Record]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="dask") if scheduler else nullcontext():
        pool = Parallel(n_jobs=-1 if scheduler else jobs, batch_size=1, return_as="generator_unordered")  # type: ignore[arg-type]
        yield from pool(delayed(record)(e.model_dump(mode="json"), device) for e in experiments)  # type: ignore[misc]


@contextmanager
def _workers(jobs: int, scheduler: str | None) -> Iterator[tuple[type[Exception], ...]]:
    """The exceptions that mean a killed worker, while there are workers."""
    if scheduler is None:
        yield (BrokenProcessPool,)
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise SettingError("--scheduler needs Dask; run: pip install distributed") from None
    try:
        client = Client(scheduler, timeout=SCHEDULER_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SettingError(
            f"No Dask scheduler answers at {scheduler[:80]!r} ({reason}). Start one with: dask scheduler; and workers"
            " with: dask worker ADDRESS"
        ) from None
    with client:
        yield (KilledWorker,)


def _score(row: Record) -> str:
    score = row["average_accuracy"]
    return row["status"] if score is None else f"{score:.3f}" + (", diverged" if row["status"] == "diverged" else "")


def results(tried: Mapping[str, Experiment], seeds: int, **how: Any) -> dict[str, dict[str, Any]]:
    """What `summarize` says of each experiment over its seeds, by its label; `refused` of those that could not run.

    how: as `execute` takes it.
    """
    runs = {label: [one.but(seed=one.seed + i) for i in range(seeds)] for label, one in tried.items()}
    rows = execute([one for several in runs.values() for one in several], **how)
    scored = {}
    for label, several in runs.items():
        records = [rows[key_of(one)] for one in several]
        if broken := [row for row in records if row["status"] not in DONE]:
            scored[label] = {"refused": broken[0]["reason"]}
            continue
        summaries = [json.loads(row["summary"]) for row in records]
        diverged = [row["reason"] for row in records if row["status"] == "diverged"]
        scored[label] = sum_up(several, summaries, sum(row["seconds"] for row in records), diverged)
        scored[label]["device"] = how.get("device", "cpu")
    return scored
