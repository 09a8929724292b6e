"""A run as files to hand on, and back from a file that anybody may have sent. No torch.

Out: `pack` (a zip of what `Run.save` writes and of the code that repeats the run), `to_csv` and `to_parquet` (the same,
    as a table).
Back: `unpack`. Nothing in the file is trusted, executed, unpickled or written anywhere; what is not a run raises
    RunFormatError with one
sentence that says what is wrong and what to do.

The table has a line for each number (metric, subject, value) and, for what is not a number, a line with `text` in JSON;
lines of one `row` belong to one row of the run. Line 0 is the run's own: format, experiment, tasks, levels.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from nllab.errors import NllabError, RunFormatError
from nllab.experiment import OPTIMIZERS, Experiment
from nllab.repeat import NUMBERS, command_line, snippet
from nllab.runs import FORMAT, SIGNALS, Row, Run, load_run, without_nan

COLUMNS = ("row", "kind", "step", "task", "metric", "subject", "value", "text")
MOST_BYTES = 64 * 2**20  # of a run once it is unpacked; as many steps as a live run keeps take a third of it
MOST_FILE_BYTES = 32 * 2**20
MOST_LINE = 1_000_000
MOST_MEMBERS = 50
MOST_OF_A_ROW = 10_000
MOST_SHOWN, LONGEST_NAME = 60, 60  # names of a task that are written on, and their characters
MOST_ROWS, MOST_STEP, MOST_NAMES = 200_000, 10**8, 200
SECONDS = 60.0  # for a Parquet file
LARGEST = sys.float_info.max
NAME = re.compile(r"\w[^<>&\"'`\x00-\x1f]{0,59}")  # of a task or a level: figures read a little HTML in names
AGAIN = "Download the run once more from the lab and upload that file as it is."
NUMBERS_OF = {"step": ("loss", "online_accuracy", "levels")}  # what has lines of its own in the table
PICTURES = ("samples", "answers", "texts", "surface", "where", "network")  # kinds of rows that only pictures need
LEVEL = {"wrote": bool, "writes": int}  # the type of a level's number, where it is not float
SIZES = ("update_norm", "drift", "drift_since_switch", "gradient_norm")


# -- out
# --------------------------------------------------------------------------------------------------------------------------


def pack(run: Run) -> bytes:
    """The run as a zip, the same bytes for the same run: what `Run.save` writes, and the code and command that repeat
    it."""
    files = run.files() | {"repeat.py": f"# or: {command_line(run)}\n\n{snippet(run)}"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def table(run: Run) -> Iterator[tuple[int, str, int, str, str, str, float | None, str]]:
    """The lines of the run's table, in the order of COLUMNS. Numbers that are not finite are left out."""
    head = run.head | {"experiment": run.experiment.model_dump(mode="json")}
    yield (0, "run", 0, "", "", "", None, json.dumps(head))
    for i, row in enumerate(run.rows, start=1):
        place = (i, row["kind"], row["step"], row.get("task", ""))
        numbers = [("accuracy", task, value) for task, value in row.get("accuracy", {}).items()]
        if row["kind"] == "step":
            numbers += [(metric, "", row[metric]) for metric in ("loss", "online_accuracy")]
            numbers += [
                (metric, level, value) for level, found in row["levels"].items() for metric, value in found.items()
            ]
        rest = {
            key: value
            for key, value in row.items()
            if key not in ("kind", "step", "task", "accuracy", *NUMBERS_OF.get(row["kind"], ()))
        }
        if rest or not numbers:
            yield (*place, "", "", None, json.dumps(without_nan(rest)) if rest else "")
        for metric, subject, value in numbers:
            if value is not None and math.isfinite(value):
                yield (*place, metric, subject, float(value), "")


def to_csv(run: Run) -> bytes:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(table(run))
    return out.getvalue().encode()


def to_parquet(run: Run) -> bytes:
    import pyarrow
    import pyarrow.parquet

    types = {"row": pyarrow.int64(), "step": pyarrow.int64(), "value": pyarrow.float64()}
    columns = zip(COLUMNS, zip(*table(run), strict=True), strict=True)
    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({name: pyarrow.array(values, types.get(name, pyarrow.string())) for name, values in columns}),
        out,
        compression="zstd",
    )
    return out.getvalue()


# -- back
# -------------------------------------------------------------------------------------------------------------------------


def open_run(path: str | Path) -> Run:
    """The run in a folder or file of one's own."""
    path = Path(path)
    if path.is_dir():
        return examined(load_run(path))
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise RunFormatError(_too_large(path.name))
        return unpack(path.name, path.read_bytes())
    except OSError as error:
        raise RunFormatError(
            f"{path} is not a run: {error.strerror}. Name a folder or a file in which a run was saved."
        ) from None


def unpack(name: str, data: bytes) -> Run:
    """The run in a file as `pack`, `to_csv` or `to_parquet` writes it; what it is shows from its content, the name is
    for messages only."""
    if len(data) > MOST_FILE_BYTES:
        raise RunFormatError(_too_large(name))
    try:
        if data[:2] == b"PK":
            return examined(_from_zip(data))
        if data[:4] == b"PAR1":
            data = _parquet_as_csv(data)
        return examined(_from_text(data))
    except RunFormatError as error:
        raise RunFormatError(f"{name}: {error}") from None


def _too_large(name: str) -> str:
    return (
        f"{name} is larger than {MOST_FILE_BYTES // 2**20} MB, and no run of the lab is. Download the run as .zip and"
        " upload that."
    )


def _from_zip(data: bytes) -> Run:
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
            for member in members:
                if (
                    member.filename.startswith(("/", "\\"))
                    or ".." in re.split(r"[/\\]", member.filename)
                    or ":" in member.filename
                ):
                    raise RunFormatError(
                        f"this zip names the path {member.filename[:60]!r}, which no run of the lab does. {AGAIN}"
                    )
            experiment, rows = (_member(archive, members, wanted) for wanted in ("experiment.json", "rows.jsonl"))
    except RunFormatError:
        raise
    except Exception:  # a damaged archive makes its reader raise nearly anything
        raise RunFormatError(f"this zip is damaged or was cut off. {AGAIN}") from None
    if rows.count(b"\n") > MOST_ROWS + 1:
        raise RunFormatError(
            f"it has more than {MOST_ROWS} rows, which is as many as can be shown. Replay a shorter run."
        )
    lines = _decoded(rows).split("\n")
    if not lines[-1]:
        del lines[-1]
    head = _json(lines[0], "the first line of rows.jsonl") if lines else {}
    found = [_json(line, f"line {number} of rows.jsonl") for number, line in enumerate(lines[1:], start=2)]
    return _run(head, _json(_decoded(experiment), "experiment.json"), found)


def _member(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], wanted: str) -> bytes:
    found = [m for m in members if m.filename.split("/")[-1] == wanted and not m.filename.startswith("__MACOSX/")]
    if len(found) != 1:
        raise RunFormatError(f"this zip has {len(found) or 'no'} {wanted}, and a run has one. {AGAIN}")
    if found[0].flag_bits & 1 or found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RunFormatError(f"{wanted} in this zip is encrypted or packed in a way that the lab does not use. {AGAIN}")
    with archive.open(found[0]) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RunFormatError(
            f"{wanted} unpacks to more than {MOST_BYTES // 2**20} MB, and no run of the lab does. {AGAIN}"
        )
    return content


def _parquet_as_csv(data: bytes) -> bytes:
    command = [sys.executable, "-I", str(Path(__file__).with_name("parquet_as_csv.py")), str(MOST_BYTES), *COLUMNS]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RunFormatError(f"reading this Parquet file took longer than {SECONDS:g} seconds. {AGAIN}") from None
    if done.returncode == 3:
        raise RunFormatError(f"this Parquet file is not a run: {done.stderr.decode(errors='replace')[:300]}. {AGAIN}")
    if done.returncode:
        raise RunFormatError(f"this Parquet file is damaged or was cut off. {AGAIN}")
    return done.stdout


def _from_text(data: bytes) -> Run:
    text = _decoded(data)
    if text.lstrip()[:1] in ("{", "["):
        found = _json(text[: MOST_LINE + 1], "this file")
        if isinstance(found, dict) and set(found) <= set(Experiment.model_fields):
            raise RunFormatError(
                "this is an experiment, the settings of a run without what happened in it. Upload the run's .zip, .csv"
                " or .parquet."
            )
        raise RunFormatError(f"this JSON file is not a run. {AGAIN}")
    head = text.partition("\n")[0].strip().split(",")
    if tuple(head) != COLUMNS:
        shown = ", ".join(head)[:120]
        raise RunFormatError(f"its first line is {shown!r}, and the columns of a run are {', '.join(COLUMNS)}. {AGAIN}")
    csv.field_size_limit(MOST_LINE)
    try:
        rows = list(_rows(csv.reader(io.StringIO(text, newline=""), strict=True)))
    except csv.Error as error:
        raise RunFormatError(f"this table cannot be read ({error}). {AGAIN}") from None
    head = rows.pop(0) if rows and rows[0]["kind"] == "run" else {}
    return _run(head, head.get("experiment"), rows)


def _rows(reader: Iterable[list[str]]) -> Iterator[Row]:
    for count, (_, group) in enumerate(groupby(_numbered(reader), key=lambda line: line[1][0])):
        lines = list(islice(group, MOST_OF_A_ROW))
        if count > MOST_ROWS or len(lines) == MOST_OF_A_ROW:
            raise RunFormatError(f"it has more rows, or more in a row, than can be shown. {AGAIN}")
        yield _gathered(lines)


def _numbered(reader: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, its cells), checked for their number."""
    for number, cells in enumerate(reader, start=1):
        if number > 1:
            if len(cells) != len(COLUMNS):
                raise RunFormatError(
                    f"line {number} has {len(cells)} cells in place of {len(COLUMNS)}, so it was cut off or edited."
                    f" {AGAIN}"
                )
            yield number, cells


def _gathered(lines: list[tuple[int, list[str]]]) -> Row:
    """One row from its lines."""
    number, (_, kind, step, task, *_) = lines[0]
    where = f"line {number}"
    row: Row = {"kind": kind, "step": _whole(step, f"line {number}")} | ({"task": task} if task else {})
    numbers: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    levels: dict[str, dict[str, Any]] = {}
    for number, (_, _, _, _, metric, subject, value, text) in lines:
        where = f"line {number}"
        if not metric:
            more = _json(text, where) if text else {}
            if not isinstance(more, dict):
                raise RunFormatError(f"{where}: text is not an object in JSON. {AGAIN}")
            row |= more
        elif metric == "accuracy":
            accuracy[subject] = _number(value, where, metric)
        elif not subject:
            numbers[metric] = _number(value, where, metric)
        else:
            levels.setdefault(subject, {})[metric] = LEVEL.get(metric, float)(_number(value, where, metric))
    for found in levels.values():
        found |= {size: None for size in SIZES if size not in found}
    return row | numbers | ({"accuracy": accuracy} if accuracy else {}) | ({"levels": levels} if levels else {})


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RunFormatError(f"this is not a file of the lab: it is neither zip, Parquet nor text. {AGAIN}") from None


def _json(text: str, where: str) -> Any:
    def refuse(word: str) -> Any:
        raise RunFormatError(f"{where}: it holds {word}, and every number of a run is finite. {AGAIN}")

    if len(text) > MOST_LINE:
        raise RunFormatError(f"{where} is longer than any of a run. {AGAIN}")
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise RunFormatError(f"{where} is damaged or was cut off. {AGAIN}") from None


def _whole(text: str, where: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RunFormatError(f"{where}: step is {text[:40]!r}, and it is a whole number. {AGAIN}")
    return int(text)


def _number(text: str, where: str, metric: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RunFormatError(f"{where}: {metric[:40]} is {text[:40]!r}, and every number of a run is finite. {AGAIN}")
    return value


def _run(head: Any, settings: Any, rows: list[Any]) -> Run:
    if not isinstance(head, dict) or "format" not in head:
        raise RunFormatError(f"the line that says what run this is, its first, is missing. {AGAIN}")
    if head["format"] != FORMAT:
        what = f"it has format {str(head['format'])[:20]}, and this version of nllab reads format {FORMAT}"
        raise RunFormatError(f"{what}. Open it with the version that wrote it, or run the experiment again.")
    try:
        experiment = Experiment(**settings)
    except (NllabError, TypeError) as error:
        raise RunFormatError(f"its experiment cannot be used: {str(error)[:300]} {AGAIN}") from None
    tasks, levels = head.get("tasks"), head.get("levels")
    if not (isinstance(tasks, list) and isinstance(levels, dict)):
        raise RunFormatError(f"the line that says what run this is names no tasks or no levels. {AGAIN}")
    kept = head.get("bytes_kept")
    return Run(experiment, tuple(tasks), levels, rows, kept if _is_whole(kept) else None)


# -- what a run must be
# -----------------------------------------------------------------------------------------------------------


def examined(run: Run) -> Run:
    """The same run, once all of it is known to be what the lab itself could have written. Raises RunFormatError."""
    for kind, names in (("tasks", run.tasks), ("levels", run.levels)):
        good = all(isinstance(name, str) and NAME.fullmatch(name) for name in names) and 1 <= len(names) <= MOST_NAMES
        if not good or len(set(names)) < len(names):
            raise RunFormatError(f"the names of its {kind} are not those of a run. {AGAIN}")
    if not isinstance(run.levels, dict) or not all(_is_whole(period, 1) for period in run.levels.values()):
        raise RunFormatError(f"the periods of its levels are not whole numbers. {AGAIN}")
    if len(run.rows) > MOST_ROWS:
        raise RunFormatError(
            f"it has {len(run.rows)} rows, and {MOST_ROWS} is as many as can be shown. Replay a shorter run."
        )
    before, samples = 0, None
    for number, row in enumerate(run.rows, start=1):
        wrong = "it is not an object" if not isinstance(row, dict) else _wrong(row, run, before)
        if not wrong and row["kind"] in PICTURES and not _is_picture(row, samples, run):
            wrong = f"this is not what a row of kind {row['kind']} holds"
        if wrong:
            raise RunFormatError(f"row {number}: {wrong}. {AGAIN}")
        before = row["step"]
        samples = row if row["kind"] == "samples" and samples is None else samples
    return run


def _wrong(row: Row, run: Run, before: int) -> str | None:
    """What is wrong with a row, or None."""
    step, kind = row.get("step"), row.get("kind")
    if not _is_whole(step) or not before <= step <= MOST_STEP:  # type: ignore[operator]
        return f"step is {_shown(step)}, after {before}"
    if "task" in row and row["task"] not in (*run.tasks, "all"):
        return f"task is {_shown(row['task'])}, and the run's tasks are others"
    if "accuracy" in row or kind in ("untrained", "experience"):
        accuracy = row.get("accuracy")
        if not isinstance(accuracy, dict) or set(accuracy) != set(run.tasks):
            return "accuracy does not name every task"
        if not all(_is_number(value, 0, 1) for value in accuracy.values()):
            return f"accuracy is {_shown(accuracy)}, and it lies between 0 and 1"
    rest = {key: value for key, value in row.items() if key not in ("accuracy", *NUMBERS_OF.get(str(kind), ()))}
    if not (_is_plain(rest, 6, 20_000) if kind in PICTURES else _is_plain(rest)):
        return "it holds a number that is not finite, or more than a row can hold"
    match kind:
        case "step":
            return _wrong_step(row, run)
        case "switch":
            good = "task" in row and _is_whole(row.get("experience"))
        case "experience":
            good = "task" in row and _is_whole(row.get("experience"))
        case "command":
            good = _is_command(row.get("name"), row.get("value"), run)
        case "end":
            good = all(isinstance(row.get(key), str) for key in ("reason", "text"))
        case "decision":
            good = all(isinstance(row.get(key), str) for key in ("level", "text"))
        case "untrained":
            good = step == 0
        case _ if kind in PICTURES:
            good = True
        case _:
            return f"kind is {_shown(kind)}, which this version does not know; open it with the version that wrote it"
    return None if good else f"this is not what a row of kind {kind} holds"


def _wrong_step(row: Row, run: Run) -> str | None:
    if row.get("optimizer") not in OPTIMIZERS or "task" not in row:
        return f"optimizer is {_shown(row.get('optimizer'))}, which is none of the lab's, or its task is missing"
    if not _is_number(row.get("loss")) or not _is_number(row.get("online_accuracy"), 0, 1):
        return "loss or online_accuracy is not a finite number"
    levels = row.get("levels")
    if not isinstance(levels, dict) or set(levels) != set(run.levels):
        return "levels does not name every level"
    for name, found in levels.items():
        if (
            not isinstance(found, dict)
            or not isinstance(found.get("wrote"), bool)
            or not _is_whole(found.get("writes"))
        ):
            return f"the level {name} does not say whether it wrote"
        sized = all(key in found and (found[key] is None or _is_number(found[key], 0)) for key in SIZES)
        signalled = all(found[key] is None or _is_number(found[key]) for key in SIGNALS if key in found)
        if not (sized and signalled and _is_plain(found)):
            return f"a number of the level {name} is missing or not finite"
    return None


def _is_command(name: Any, value: Any, run: Run) -> bool:
    if name == "optimizer":
        return value in OPTIMIZERS
    if name == "teach":
        return value in run.tasks
    if name == "period":
        return isinstance(value, list) and len(value) == 2 and value[0] in tuple(run.levels) and _is_whole(value[1], 1)
    return name in NUMBERS and _is_number(value, 0)


def _is_picture(row: Row, samples: Row | None, run: Run) -> bool:
    """Whether a picture can be drawn from this row, given the samples that it speaks of."""
    if row["kind"] == "where":
        levels = row.get("levels")
        return (
            isinstance(levels, dict)
            and tuple(levels) == tuple(run.levels)
            and all(_are_grids(grids) for grids in levels.values())
        )
    if row["kind"] == "network":
        levels = row.get("levels")
        return isinstance(levels, dict) and set(levels) <= set(run.levels) and all(map(_are_units, levels.values()))
    if row["kind"] == "samples":
        if "given" in row:
            return _are_names(row, run)
        tasks, shape = row.get("tasks"), row.get("shape")
        sized = shape is None or (
            isinstance(shape, list) and len(shape) == 2 and all(_is_whole(side, 1) and side <= 64 for side in shape)
        )
        known = isinstance(tasks, dict) and bool(tasks) and set(tasks) <= set(run.tasks)
        return sized and known and all(_are_samples(found, shape) for found in tasks.values())  # type: ignore[union-attr]
    if samples is None or (row["kind"] == "texts") != ("given" in samples):
        return False
    if row["kind"] == "texts":
        texts = row.get("texts")
        expected = {name: len(found["names"]) for name, found in samples["tasks"].items()}
        good = isinstance(texts, dict) and all(
            isinstance(found, list) and all(map(_is_text, found)) for found in texts.values()
        )
        return good and {name: len(found) for name, found in texts.items()} == expected  # type: ignore[union-attr]
    counts = {name: len(found["labels"]) for name, found in samples["tasks"].items()}
    if row["kind"] == "answers":
        answers = row.get("answers")
        return isinstance(answers, dict) and {name: _count(given) for name, given in answers.items()} == counts
    span, classes = row.get("span"), row.get("classes")
    ordered = (
        isinstance(span, list)
        and len(span) == 4
        and all(map(_is_number, span))
        and span[0] < span[1]
        and span[2] < span[3]
    )
    drawn = isinstance(classes, list) and 2 <= len(classes) <= 200 and all(isinstance(line, str) for line in classes)
    return (
        ordered
        and drawn
        and not samples.get("shape")
        and all(re.fullmatch(f"[0-9a-f]{{{len(classes)}}}", line) for line in classes or ())  # type: ignore[arg-type]
    )


def _count(labels: Any) -> int | None:
    """How many classes these are, or None if they are no classes."""
    return (
        len(labels)
        if isinstance(labels, list) and len(labels) <= 200 and all(_is_whole(c) and c < 1000 for c in labels)
        else None
    )


def _are_samples(found: Any, shape: list[int] | None) -> bool:
    count = _count(found.get("labels")) if isinstance(found, dict) else None
    told = found.get("images" if shape else "points") if count else None
    if not isinstance(told, list) or len(told) != count:
        return False
    if shape:
        return all(
            isinstance(image, str) and re.fullmatch(f"[0-9a-f]{{{shape[0] * shape[1]}}}", image) for image in told
        )
    return all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in told)


def _are_names(row: Row, run: Run) -> bool:
    tasks = row.get("tasks")
    if not isinstance(tasks, dict) or not tasks or not set(tasks) <= set(run.tasks):
        return False
    if not _is_whole(row["given"], 1) or row["given"] > LONGEST_NAME:
        return False
    lists = [found.get("names") if isinstance(found, dict) else None for found in tasks.values()]
    return all(
        isinstance(names, list) and 1 <= len(names) <= MOST_SHOWN and all(map(_is_text, names)) for names in lists
    )


def _are_units(found: Any) -> bool:
    """The units of a level, as many bytes as they say."""
    if not isinstance(found, dict) or not _is_number(found.get("scale"), 0):
        return False
    sizes = [found.get(key) for key in ("units", "incoming", "outgoing")]
    if not all(_is_whole(size) and size <= 10_000 for size in sizes):  # type: ignore[operator]
        return False
    units, incoming, outgoing = sizes  # type: ignore[misc]
    whole = _bytes_in(found.get("weights")) == units * (incoming + 1 + outgoing)  # type: ignore[operator]
    return whole and _bytes_in(found.get("retained", "")) in (0, units)


def _bytes_in(text: Any) -> int | None:
    """How many bytes this base64 holds, or None if it is none."""
    try:
        return len(base64.b64decode(text, validate=True)) if isinstance(text, str) else None
    except ValueError:
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _are_grids(grids: Any) -> bool:
    """Matrices of numbers, none of them empty, no larger than a picture can show."""
    if not isinstance(grids, list) or len(grids) > 50:
        return False
    for grid in grids:
        if not isinstance(grid, list) or not 1 <= len(grid) <= 64 or not all(isinstance(line, list) for line in grid):
            return False
        if not 1 <= len(grid[0]) <= 64 or any(
            len(line) != len(grid[0]) or not all(_is_number(v, 0) for v in line) for line in grid
        ):
            return False
    return True


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_plain(value: Any, depth: int = 3, most: int = 200) -> bool:
    """Whether this is a value of JSON whose numbers are finite, with no more than `most` parts each of which is as
    plain."""
    if isinstance(value, Mapping):
        inner = [*value, *value.values()]
    elif isinstance(value, list):
        inner = value
    else:
        return (
            value is None
            or isinstance(value, bool)
            or (isinstance(value, str) and len(value) <= 20_000)
            or _is_number(value)
        )
    return depth > 0 and len(inner) <= most and all(_is_plain(item, depth - 1, most) for item in inner)


def _shown(value: Any) -> str:
    return repr(value)[:60]
