"""A run on disk, as files to hand on, and back from a file that anybody may have sent. No torch.

Out: `save` (a folder), `pack` (the same as a zip, with the code that repeats the run), `to_csv` and `to_parquet` (every
number and every event as one table).
Back: `load_run` (a folder or zip of one's own), `unpack` (an upload). Nothing in a file is trusted, executed, unpickled
or written anywhere; what is not a run raises RunFormatError with one sentence that says what is wrong and what to do.

A run is events.jsonl (a head, then one event a line, every line with its checksum: store.py) with experiment.json and
summary.json beside it. Format 1, written up to 2026-11-27, is experiment.json and rows.jsonl, without checksums.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nllab import __version__, run_log, run_table, store
from nllab.errors import NllabError, RunFormatError
from nllab.events import ALL_TASKS, Context, Event, Experience, Step, Switch, Untrained, jsonable, read, task_of
from nllab.experiment import Experiment
from nllab.reproduce import command_line, snippet
from nllab.runs import Run, numbers

FORMAT = 2
EVENT_FILES = {1: "rows.jsonl", 2: "events.jsonl"}  # format -> the file that holds the events
COLUMNS = ("event", "kind", "step", "task", "metric", "subject", "value", "text")
MOST_BYTES = 64 * 2**20  # of a run once it is unpacked; as many steps as a live run keeps take a third of it
MOST_FILE_BYTES = 32 * 2**20
MOST_LINE = 1_000_000
MOST_MEMBERS = 50
MOST_EVENTS, MOST_NAMES = 200_000, 200
NAME = re.compile(r"\w[^<>&\"'`\x00-\x1f]{0,59}")  # of a task or a level: figures read a little HTML in names
AGAIN = "Download the run once more from the lab and upload that file as it is."


def head(run: Run) -> dict[str, Any]:
    """The first line of a file of events."""
    header = {"tasks": list(run.tasks), "levels": run.levels, "experiment": run.experiment.model_dump(mode="json")}
    return {"format": FORMAT, "nllab": __version__, **header}


def copies(run: Run) -> dict[str, bytes]:
    """What lies beside the file of events, for people."""
    texts = {
        "experiment.json": run.experiment.to_json(),
        "summary.json": json.dumps(jsonable(run.summary), indent=2),
    }
    return {name: f"{text}\n".encode() for name, text in texts.items()}


def files(run: Run) -> dict[str, bytes]:
    """The run as the contents of its files, by their names."""
    records, beside = [head(run), *map(jsonable, run.log)], copies(run)
    closing = run_log.closing_line(len(records), beside, bytes_kept=run.bytes_kept)
    return {run_log.LOG: b"".join(run_log.encode([*records, closing])), **beside}


def save(run: Run, path: str | Path) -> Path:
    """Write the run into the folder `path`, which is made if need be; a run that lies there is there until this one is.
    Raises StoreError where the folder does not take it."""
    return store.save(path, head(run), [*map(jsonable, run.log)], copies(run), bytes_kept=run.bytes_kept)


def pack(run: Run) -> bytes:
    """The run as a zip, the same bytes for the same run."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        code = f"# or: {command_line(run)}\n\n{snippet(run)}".encode()
        for name, text in (files(run) | {"repeat.py": code}).items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def table(run: Run) -> Iterator[tuple[int, str, int, str, str, str, float | None, str]]:
    """The lines of the run's table, in the order of COLUMNS: one for each number and, for what is no number, one with
    `text` in JSON. Line 0 is the run's own. Numbers that are not finite are left out."""
    header = head(run) | {"bytes_kept": run.bytes_kept}
    yield (0, "run", 0, "", "", "", None, json.dumps(header))
    for i, event in enumerate(run.log, start=1):
        place = (i, event.kind, event.step, task_of(event))
        values = list(numbers(event))
        counted = (
            "kind",
            "step",
            "task",
            "accuracy",
            *(("loss", "online_accuracy", "levels") * isinstance(event, Step)),
        )
        rest = {key: value for key, value in jsonable(event).items() if key not in counted}
        if isinstance(event, Step) and (held := {name: one.held for name, one in event.levels.items() if one.held}):
            rest["held"] = held
        if rest or not values:
            yield (*place, "", "", None, json.dumps(rest) if rest else "")
        for metric, subject, value in values:
            if value is not None and math.isfinite(value):
                yield (*place, metric, subject, float(value), "")


def to_csv(run: Run) -> bytes:
    """The tidy table of a run (see COLUMNS), as CSV."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(table(run))
    return out.getvalue().encode()


def to_parquet(run: Run) -> bytes:
    """The tidy table of a run, as Parquet."""
    import pyarrow
    import pyarrow.parquet

    types = {"event": pyarrow.int64(), "step": pyarrow.int64(), "value": pyarrow.float64()}
    columns = zip(COLUMNS, zip(*table(run), strict=True), strict=True)
    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({name: pyarrow.array(values, types.get(name, pyarrow.string())) for name, values in columns}),
        out,
        compression="zstd",
    )
    return out.getvalue()


def load_run(path: str | Path) -> Run:
    """The run in a folder that `Run.save` or `nllab run --out` wrote, or in a zip. One that was interrupted, whose
    `interrupted` is true then, ends with its last whole event. Raises RunFormatError that names what was changed, cut
    or is missing."""
    path = Path(path)
    try:
        if not path.is_dir():
            if path.stat().st_size > MOST_FILE_BYTES:
                raise RunFormatError(_too_large(path.name))
            return unpack(path.name, path.read_bytes())
        if not any((path / name).exists() for name in EVENT_FILES.values()) and (seeds := sorted(path.glob("seed-*"))):
            if len(seeds) > 1:
                raise RunFormatError(f"it holds {len(seeds)} runs; name one of them, such as {seeds[0].name}")
            return load_run(seeds[0])
        if not (path / EVENT_FILES[1]).exists() or (path / run_log.LOG).exists():
            with (path / run_log.LOG).open("rb") as file:
                first = file.readline(MOST_LINE)
            _check_head(first, run_log.LOG)
            return of_log(store.read(path))
        settings = (path / "experiment.json").read_bytes()
        log = (path / EVENT_FILES[1]).read_bytes()
    except OSError as error:
        raise RunFormatError(
            f"{path} is not a run: {error.strerror} ({Path(error.filename or path).name}). A run is a folder with"
            f" experiment.json and {EVENT_FILES[FORMAT]}, or a zip of those."
        ) from None
    except RunFormatError as error:
        raise RunFormatError(f"{path}: {error}") from None
    try:
        return _of_format_1(settings, log[: log.rfind(b"\n") + 1] if b"\n" in log else log)
    except RunFormatError as error:
        raise RunFormatError(f"{path}: {error}") from None


def unpack(name: str, data: bytes) -> Run:
    """The run in a zip as `pack` writes it, or in a table of `to_csv`; its content shows which, the name is for
    messages only."""
    if len(data) > MOST_FILE_BYTES:
        raise RunFormatError(_too_large(name))
    try:
        if data.removeprefix(b"\xef\xbb\xbf").startswith(b"event,kind,"):
            header, lines = run_table.lines(data, COLUMNS)
            _check_head(json.dumps(header).encode(), "this table")
            return _with_events(_begun(header, header.get("experiment"), header.get("bytes_kept")), lines, "its events")
        if data[:2] != b"PK":
            raise RunFormatError(_not_a_zip(data))
        return _of_members(_members(data))
    except RunFormatError as error:
        raise RunFormatError(f"{name}: {error}") from None


def _too_large(name: str) -> str:
    return (
        f"{name} is larger than {MOST_FILE_BYTES // 2**20} MB, and no run of the lab is. Download the run as .zip and"
        " upload that."
    )


def _not_a_zip(data: bytes) -> str:
    upload = "Download the run as .zip and upload that."
    if data.removeprefix(b"\xef\xbb\xbf").startswith(b"event;kind;"):
        return f"this is a run's table, saved with semicolons; save it with commas and decimal points. {upload}"
    if data[:4] == b"PAR1" or data.startswith(b"row,kind,step,task,metric"):
        return f"this is a run's table, which is an export only and cannot be replayed. {upload}"
    if data.lstrip()[:1] == b"{":
        try:
            if set(json.loads(data)) <= set(Experiment.model_fields):
                return f"this is an experiment, the settings of a run without what happened in it. {upload}"
        except (ValueError, RecursionError):
            pass
    return f"this is not a run: a run is a zip as the lab writes it. {upload}"


def _members(data: bytes) -> dict[str, bytes]:
    """The contents of a zip's experiment.json, file of events and, where it has one, summary.json."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or len(data) < end + 22:
        raise RunFormatError(
            f"the end of this zip is missing, so the upload was cut off or the file is damaged. {AGAIN}"
        )
    if (
        int.from_bytes(data[end + 12 : end + 16], "little") > 200 * MOST_MEMBERS
    ):  # the size of its list of members, before reading it
        raise RunFormatError(f"this zip has more members than a run, which has four. {AGAIN}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MOST_MEMBERS:
                raise RunFormatError(f"this zip has {len(members)} members, and a run has four. {AGAIN}")
            for name in (member.filename for member in members):
                if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name:
                    raise RunFormatError(
                        f"this zip names the path {name[:60]!r}, which no run of the lab does. {AGAIN}"
                    )
            wanted = [("experiment.json",), tuple(EVENT_FILES.values())]
            if any(member.filename.split("/")[-1] == "summary.json" for member in members):
                wanted.append(("summary.json",))
            return dict(_member(archive, members, names) for names in wanted)
    except RunFormatError:
        raise
    except Exception:  # a damaged archive makes its reader raise nearly anything
        raise RunFormatError(f"this zip is damaged or was cut off. {AGAIN}") from None


def _member(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], names: Sequence[str]) -> tuple[str, bytes]:
    matching = [m for m in members if m.filename.split("/")[-1] in names and not m.filename.startswith("__MACOSX/")]
    if len(matching) != 1:
        raise RunFormatError(f"this zip has {len(matching) or 'no'} {names[-1]}, and a run has one. {AGAIN}")
    name = matching[0].filename.split("/")[-1]
    if matching[0].flag_bits & 1 or matching[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RunFormatError(f"{name} in this zip is encrypted or packed in a way that the lab does not use. {AGAIN}")
    with archive.open(matching[0]) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RunFormatError(
            f"{name} unpacks to more than {MOST_BYTES // 2**20} MB, and no run of the lab does. {AGAIN}"
        )
    return name, content


def _json(data: bytes, where: str) -> Any:
    def refuse(word: str) -> Any:
        raise RunFormatError(f"{where}: it holds {word}, and every number of a run is finite. {AGAIN}")

    if len(data) > MOST_LINE:
        raise RunFormatError(f"{where} is longer than any of a run. {AGAIN}")
    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise RunFormatError(f"{where} is damaged or was cut off. {AGAIN}") from None


def _of_members(members: dict[str, bytes]) -> Run:
    if EVENT_FILES[1] in members:
        return _of_format_1(members["experiment.json"], members[EVENT_FILES[1]])
    data = members[run_log.LOG]
    _check_head(data.partition(b"\n")[0], run_log.LOG)
    log = run_log.decode(data)
    if not log.is_closed:
        raise RunFormatError(f"{run_log.LOG} was cut off: the line that closes the run is missing. {AGAIN}")
    for name in store.COPIES:
        if name in members and (wrong := store.wrong_copy(log, name, members[name])):
            raise RunFormatError(f"{name} {wrong}")
    return of_log(log)


def _of_format_1(settings: bytes, data: bytes) -> Run:
    name = EVENT_FILES[1]
    first, *lines = data.removesuffix(b"\n").split(b"\n")
    header = _check_head(first, name)
    return _with_events(_begun(header, _json(settings, "experiment.json"), header.get("bytes_kept")), lines, name)


def of_log(log: run_log.Log) -> Run:
    """The run of a log that was read, checked event by event. Raises RunFormatError."""
    kept = (log.closing or {}).get("bytes_kept")
    run = _with_events(_begun(log.head, log.head.get("experiment"), kept), log.events, run_log.LOG)
    run.interrupted = not log.is_closed
    return run


def _with_events(run: Run, lines: Sequence[bytes], name: str) -> Run:
    """The run with these events, once all of it is known to be what the lab itself could have written."""
    if len(lines) > MOST_EVENTS:
        raise RunFormatError(f"it has more than {MOST_EVENTS} events, as many as can be shown. Replay a shorter run.")
    context, before, begun, joint = Context(run.tasks, tuple(run.levels)), 0, False, False
    for number, line in enumerate(lines, start=2):
        try:
            if len(line) > MOST_LINE:
                raise RunFormatError("it is longer than any of a run")
            event: Event = read(line, context)
            if event.step < before:
                raise RunFormatError(f"step is {event.step}, after {before}")
            if isinstance(event, Untrained) and any(isinstance(earlier, Untrained) for earlier in run.log):
                raise RunFormatError("the untrained network is measured a second time")
            if isinstance(event, Switch | Experience):
                if begun and (event.task == ALL_TASKS) != joint:
                    raise RunFormatError("a run teaches its tasks one by one or all at once, and this one does both")
                begun, joint = True, event.task == ALL_TASKS
            elif isinstance(event, Step) and event.accuracy is not None and not begun:
                raise RunFormatError("it measures accuracy, and no task has begun")
        except RunFormatError as error:
            raise RunFormatError(f"line {number} of {name}: {error}. {AGAIN}") from None
        before = event.step
        run.log.append(event)
    return run


def _check_head(line: bytes, name: str) -> dict[str, Any]:
    """The first line of a file of events, whose format is one that this version reads."""
    header = _json(line, f"the first line of {name}") if line.strip() else {}
    if not isinstance(header, dict) or "format" not in header:
        raise RunFormatError(f"the line that says what run this is, its first, is missing. {AGAIN}")
    if header["format"] not in tuple(EVENT_FILES):
        what = f"it has format {str(header['format'])[:20]}, and this version of nllab reads formats 1 to {FORMAT}"
        raise RunFormatError(f"{what}. Open it with the version that wrote it, or run the experiment again.")
    return header


def _begun(header: Any, settings: Any, bytes_kept: Any) -> Run:
    """The run of this head, before its first event."""
    try:
        experiment = Experiment(**settings)
    except (NllabError, TypeError) as error:
        raise RunFormatError(f"its experiment cannot be used: {str(error)[:300]} {AGAIN}") from None
    tasks: Any = header.get("tasks")
    levels: Any = header.get("levels")
    for kind, names in (("tasks", tasks), ("levels", levels)):
        good = isinstance(names, list if kind == "tasks" else dict) and 1 <= len(names) <= MOST_NAMES
        if not good or not all(isinstance(n, str) and NAME.fullmatch(n) for n in names) or len({*names}) < len(names):
            raise RunFormatError(f"the names of its {kind} are not those of a run. {AGAIN}")
    if not all(type(period) is int and period >= 1 for period in levels.values()):
        raise RunFormatError(f"the periods of its levels are not whole numbers. {AGAIN}")
    return Run(experiment, tuple(tasks), levels, [], bytes_kept if type(bytes_kept) is int else None)
