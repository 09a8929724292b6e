"""Text and Excel files -> the labels and the columns of a table, each as numbers where it holds numbers."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data import dialect
from nllab.data.dialect import LABELS, WANTED
from nllab.data.files import Found
from nllab.data.labels import identities
from nllab.data.limits import MOST_CELLS, MOST_COLUMNS
from nllab.data.report import Findings, counted, listed, shown
from nllab.errors import DataError

# What people and programs write where a number is missing. In the column of labels these are names like any other.
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none", "-", "--", "?", ".", "#N/A", "#NV"]
MISSING += ["#DIV/0!", "#VALUE!", "#WERT!", "#REF!", "#NUM!", "<NA>", "n.a.", "N.A.", "\\N", "NaT"]
NUMERIC = 0.95  # share of a column's cells that must be numbers; the others are then missing
FEW = 3  # columns of nothing but None and NA that may be labels
UNLABELLED = 0.1  # share of rows without a label that may be left out
_WHOLE_WITH_COMMA = r"^\s*([+-]?[0-9]+),0+\s*$"  # 1,0 for 1, as spreadsheets write it where decimals have a comma
_UNIT = r"^[+-]?[0-9][0-9.,]*([A-Za-z°µμ/²³]{1,8})$"
_SIGNED = r"^([$€£]?)[(+-]*[0-9][0-9.,']*\)?([A-Za-z°µμ/²³%$€£]{0,8})$"
_ZONE = r":[0-9]{2}[0-9.]*\s*(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})$"
_DATE = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}([ T].*)?|[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")


@dataclass
class Table:
    """What one path holds. columns: by name, in order, numbers as float64 with NaN where a cell is empty, anything else
    as text. named: whether the names are the file's own; otherwise columns are matched by place. units: of columns
    whose cells all have the same one."""

    task: str
    name: str
    read_as: str
    labels: NDArray[np.str_]
    columns: dict[str, NDArray[Any]]
    named: bool = True
    keeps_places: bool = False
    units: dict[str, str] = field(default_factory=dict)


def read_text(found: Found, task: str, findings: Findings) -> Table:
    """Raises DataError."""
    name = shown(found.path.name)
    data, encoding = dialect.decoded(found.data, name, findings, task)
    if re.search(rb'\\"[^,;\t|\r\n"]', data) and not re.search(
        rb'[^\\,;\t|\r\n]""[^,;\t|\r\n"]', data
    ):  # as MySQL writes a quotation mark within a cell
        data = data.replace(b'\\"', b'""')
    syntax = dialect.detect(data, encoding, name, findings, task)
    frame = _frame(data, syntax, name)
    if syntax.header is None:
        for i in [i for i in frame if frame[i].isna().all()][:FEW]:
            frame[i] = _frame(data, syntax, name, i)[i]
        if frame[place := _nameless_labels(frame, name)].isna().any():
            frame = _frame(data, syntax, name, place)  # None and NA are classes
    return _table(frame, syntax, found.packed + str(syntax), task, found.path.name, findings)


def _frame(data: bytes, syntax: dialect.Dialect, name: str, position: int | None = None) -> Any:
    """The cells, the labels in column `position` as text."""
    import pandas as pd

    options: dict[str, Any] = {"sep": syntax.separator, "decimal": syntax.decimal, "thousands": syntax.thousands}
    if syntax.header:
        position = label_column(syntax.header, name) + syntax.row_names
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pd.read_csv(
                io.BytesIO(data),
                header=None,
                skiprows=syntax.skip,
                dtype=None if position is None else {position: str},
                na_values={i: MISSING for i in range(syntax.width) if i != position},
                keep_default_na=False,
                skipinitialspace=True,
                skip_blank_lines=True,
                low_memory=False,
                encoding_errors="replace",
                **options,
            )
    except (ValueError, OverflowError, csv.Error) as error:  # pandas' own errors are ValueErrors
        raise dialect.ragged(error, name) from None


def read_excel(found: Found, task: str, findings: Findings) -> Table:
    """The first table among the sheets of an .xlsx file. Raises DataError, also where openpyxl is missing."""
    import pandas as pd

    name = shown(found.path.name)
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise DataError(
            f"{name} is an Excel file, and reading those needs openpyxl: pip install openpyxl. Or save the sheet as"
            " .csv."
        ) from None
    try:
        with warnings.catch_warnings(), pd.ExcelFile(io.BytesIO(found.data), engine="openpyxl") as book:
            warnings.simplefilter("ignore")
            sheets = [str(sheet) for sheet in book.sheet_names]
            for chosen in sheets:  # the first that is a table; others may hold notes
                cells: Any = book.parse(chosen, header=None, dtype=object, na_filter=False)
                if min((cells != "").any(axis=1).sum(), (cells != "").any(axis=0).sum()) > 1:
                    break
            else:
                raise DataError(f"{name}: none of its sheets ({listed(sheets)}) holds a table of rows and columns.")
    except DataError:
        raise
    except Exception as error:  # a damaged file makes openpyxl raise nearly anything
        raise DataError(f"{name} cannot be read as an Excel file ({' '.join(str(error).split())[:100]}).") from None
    if cells.shape[1] > MOST_COLUMNS or cells.size > MOST_CELLS:
        raise DataError(f"{name} has {cells.shape[1]:,} columns, and a table may have {MOST_COLUMNS:,}.")
    if len(sheets) > 1:
        others = [sheet for sheet in sheets if sheet != chosen]
        findings.leave_out(task, f"sheets {listed(others)}", f"only the first table, {shown(chosen)}, is read")
    text = cells.to_csv(index=False, header=False, quoting=csv.QUOTE_MINIMAL).encode(errors="replace")
    table = read_text(Found(found.path, "text", text), task, findings)
    if empty := [one for one, values in table.columns.items() if values.dtype == float and np.isnan(values).all()]:
        findings.warnings.append(
            f"{task}: {counted(len(empty), 'column')} ({listed(empty)}) of the Excel file hold no values. Formulas have"
            " none before a spreadsheet has calculated and saved them."
        )
    table.read_as = f"{found.packed}sheet {shown(chosen)} of an Excel file"
    return table


def label_column(header: Sequence[str], name: str) -> int:
    """Where the labels stand. Raises DataError that names the columns."""
    names = [cell.strip().lower() for cell in header]
    for wanted in LABELS:
        places = [i for i, found in enumerate(names) if found == wanted]
        if len(places) > 1:
            raise DataError(f"{name} has {len(places)} columns named {shown(wanted)}; rename all but the classes.")
        if wanted == "y" and places and "x" in names and len(names) > 2:
            raise DataError(
                f"{name} has columns 'x' and 'y', which may be places, and none named 'label'; its columns are"
                f" {listed(header)}. Name the column of the classes 'label'."
            )
        if places and len(names) > 1:
            return places[0]
    raise DataError(
        f"{name} needs a column 'label' and at least one more; its columns are {listed(header)}. Name the column of the"
        " classes 'label'."
    )


def _table(frame: Any, syntax: dialect.Dialect, read_as: str, task: str, filename: str, findings: Findings) -> Table:
    name, width, header = shown(filename), frame.shape[1], syntax.header
    if header is None:
        place = _nameless_labels(frame, name)
        findings.notes.append(f"{task}: without a header, column {place + 1} was taken for the classes.")
        names = [f"column {i + 1}" for i in range(width)]
    else:
        extra = width - len(header)
        if extra > 1 and not frame.iloc[:, len(header) :].isna().all().all():
            raise DataError(
                f"{name}: its rows have {width} cells and its header {len(header)} names. Give every column a name."
            )
        front = syntax.row_names
        names = [""] * front + [cell.strip() for cell in header] + [""] * max(0, extra - front)
        place = label_column(header, name) + front
        if names[place].lower() != "label":
            findings.notes.append(f"{task}: the classes are those of the column {shown(names[place])}.")
        if also := [one for i, one in enumerate(names) if one.lower() in LABELS and i != place]:
            findings.notes.append(f"{task}: {listed(also)} may hold classes as well and stays an input.")
        for i in range(width, len(names)):
            frame[i] = np.nan
    if header is not None and (again := _headers_again(frame, names, place)).any():
        findings.leave_out(task, counted(int(again.sum()), "row"), "the header once more")
        frame = frame[~again]
    texts = frame[place]
    if syntax.decimal == ",":
        texts = texts.astype("object").where(
            texts.isna(), texts.astype(str).str.replace(_WHOLE_WITH_COMMA, r"\1", regex=True)
        )
    blank = texts.isna() | (texts.astype(str).str.strip() == "")
    texts, rows = texts.astype(str).where(~blank, ""), np.ones(len(frame), dtype=bool)
    if blank.any():
        empty = frame.drop(columns=place)[blank].isna().all(axis=1)
        if int(empty.sum()):
            findings.leave_out(task, counted(int(empty.sum()), "row"), "nothing stands in them")
        unlabelled = int(blank.sum() - empty.sum())
        if unlabelled > UNLABELLED * (len(frame) - int(empty.sum())):
            first = int(np.flatnonzero(blank.to_numpy())[0])
            raise DataError(
                f"{name}: the label is missing in {unlabelled:,} rows, the first of them row {first} (from 0). Fill"
                " them in or leave these rows out."
            )
        if unlabelled:
            findings.leave_out(task, counted(unlabelled, "row"), "without a label")
        rows = ~blank.to_numpy()
    labels = identities(texts[rows].tolist(), task, name, findings)
    if syntax.encoding == dialect.ENCODINGS["cp1252"] and (
        strange := [text for text in [*sorted(set(labels.tolist())), *names] if not text.isascii()]
    ):
        findings.warnings.append(
            f"{task}: the text is not UTF-8 and was read as Windows-1252, so that names such as {shown(strange[0])}"
            " may be wrong. If they are, save it as UTF-8."
        )
    columns: dict[str, NDArray[Any]] = {}
    units: dict[str, str] = {}
    nameless = 0
    for i, column in enumerate(names):
        if i == place:
            continue
        if not column or re.fullmatch(r"Unnamed: [0-9]+(\.[0-9]+)*(_level_[0-9]+)?", column):
            nameless += 1
            continue
        again = 2
        while column in columns:
            column, again = f"{names[i]} ({again})", again + 1
        columns[column], units[column] = _values(frame[i][rows], syntax.decimal, task, column, findings)
    if nameless:
        findings.leave_out(
            task,
            counted(nameless, "column without a name", "columns without a name") + " (Unnamed)",
            "a row number that a program wrote, or nothing that can be matched between tables",
        )
    if not columns:
        raise DataError(f"{name} has no column with a name besides the labels. {WANTED}")
    return Table(task, filename, read_as, labels, columns, header is not None, units=units)


def _headers_again(frame: Any, names: Sequence[str], place: int) -> NDArray[np.bool_]:
    """Rows that repeat the names of the columns, as where files were joined with all of their lines."""
    again = frame[place].astype(str).str.strip("\ufeff ") == names[place]
    for i, name in enumerate(names):
        if name and i < frame.shape[1]:
            again &= frame[i].astype(str).str.strip("\ufeff ") == name
    return again.to_numpy()


def _nameless_labels(frame: Any, name: str) -> int:
    """Which column of a table without a header holds the labels: the only text, or else the first or the last column,
    where one of them alone holds few whole numbers."""
    texts = [i for i in frame if frame[i].dtype.kind not in "biuf" and not frame[i].isna().all()]
    places = texts
    if not texts:
        ends = dict.fromkeys((frame.shape[1] - 1, 0))
        few = {i: frame[i].nunique() for i in ends if (frame[i] == frame[i].round()).all()}
        places = [i for i, count in few.items() if 2 <= count <= max(2, min(100, len(frame) // 10))]
    if len(places) != 1 or frame.shape[1] < 2:
        raise DataError(
            f"{name} has no header, and which of its {frame.shape[1]} columns holds the classes is not clear. Write a"
            " first line that names the columns, that of the classes 'label'."
        )
    return places[0]


def _values(column: Any, decimal: str, task: str, name: str, findings: Findings) -> tuple[NDArray[Any], str]:
    """A column as float64, or as text where it does not hold numbers or times; and the unit of its cells."""
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64), ""
    missing = column.isna().to_numpy()
    text = column.astype(str).str.strip()
    some = text[~missing].iloc[:1000].tolist()
    if some and sum(bool(_DATE.fullmatch(cell)) for cell in some) >= NUMERIC * len(some):
        times = _times(text, missing, task, name, findings)
        if np.isfinite(times[~missing]).mean() >= NUMERIC:  # what only looks like times are codes and versions
            findings.convert(task, f"column {shown(name)}", f"from times such as {shown(some[0])} to seconds")
            zones = text[~missing].str.contains(_ZONE)
            if zones.any() and not zones.all():
                findings.warnings.append(
                    f"{task}: some times of column {shown(name)} have a time zone and others, such as"
                    f" {shown(text[~missing][~zones].iloc[0])}, have none and were taken for UTC. Write all alike."
                )
            return times, "in times with a time zone" if zones.any() else "in times without a time zone"
    if mixed := _two_decimal_signs(text[~missing]):
        findings.warnings.append(
            f"{task}: column {shown(name)} holds {shown(mixed[0])} and {shown(mixed[1])}; both were read with decimal"
            " signs. If one stands between thousands, take it out."
        )
        text = text.where(text.str.count("[.,]") > 1, text.str.replace(",", "."))
    numbers, unit = _numbers(text, missing, decimal), _unit_of(text[~missing])
    present = int((~missing).sum())
    read = int(np.isfinite(numbers[~missing]).sum())
    if present and read >= NUMERIC * present and (read == present or read > 1):
        if read < present:
            strange = text[~missing][~np.isfinite(numbers[~missing])].iloc[0]
            findings.convert(
                task,
                f"column {shown(name)}",
                f"{counted(present - read, 'cell')} such as {shown(strange)} taken as missing",
            )
        elif not np.isfinite(_as_numbers(text[~missing])).all():
            findings.convert(task, f"column {shown(name)}", f"from text such as {shown(some[0])} to numbers")
        return numbers, unit
    return text.where(~missing, "").to_numpy(dtype=object), ""


def _two_decimal_signs(text: Any) -> tuple[str, str] | None:
    """A number with a decimal point and one with a decimal comma, where a column has both."""
    single = text[text.str.count("[.,]") == 1].unique()
    examples = [next(filter(pattern.fullmatch, single), None) for pattern in (dialect.POINT, dialect.COMMA)]
    return (examples[0], examples[1]) if examples[0] and examples[1] else None


def _unit_of(text: Any) -> str:
    """The unit, sign of a currency or % that every cell has."""
    units = set(
        text.str.replace(r"[\s\u00a0\u202f\u2009]", "", regex=True).str.extract(_SIGNED).fillna("").agg("".join, axis=1)
    )
    return units.pop() if len(units) == 1 else ""


def _numbers(text: Any, missing: NDArray[np.bool_], decimal: str) -> NDArray[np.float64]:
    """The numbers in cells such as 12 %, € 1'234.50, 1 234,5, (12.50) for -12.50, or 12 kg where all have one unit; NaN
    for anything else. decimal: the sign in the rest of the table; the other one then stands between thousands."""
    bare = text.str.replace(r"[%€$£\s'\u00a0\u202f\u2009]", "", regex=True).str.replace("\u2212", "-")
    bare = bare.str.replace(r"^\(([0-9.,]+)\)$", r"-\1", regex=True)
    if len(units := set(bare[~missing].str.extract(_UNIT)[0])) == 1 and isinstance(unit := units.pop(), str):
        bare = bare.str.removesuffix(unit)
    ways = [_as_points(bare, decimal), bare, _as_points(bare, "." if decimal == "," else ",")]
    best = max(map(_as_numbers, ways), key=lambda one: int(np.isfinite(one[~missing]).sum()))
    return np.where(missing, np.nan, best)


def _as_points(text: Any, decimal: str) -> Any:
    """The same numbers with decimal points, and nothing between thousands."""
    other = "." if decimal == "," else ","
    grouped = text.str.fullmatch(rf"[+-]?[1-9][0-9]{{0,2}}({re.escape(other)}[0-9]{{3}})+({re.escape(decimal)}[0-9]+)?")
    return text.str.replace(other, "").where(grouped, text).str.replace(decimal, ".")


def _as_numbers(text: Any) -> NDArray[np.float64]:
    import pandas as pd

    numbers: Any = pd.to_numeric(text, errors="coerce")
    return numbers.to_numpy(np.float64, na_value=np.nan)


def _times(text: Any, missing: NDArray[np.bool_], task: str, name: str, findings: Findings) -> NDArray[np.float64]:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if ":" in text[~missing].iloc[0][:3]:
            clock = text.where(text.str.count(":") > 1, text + ":00")
            seconds = pd.to_timedelta(clock, errors="coerce").dt.total_seconds().to_numpy(np.float64)
        else:
            day_first = _day_first(text[~missing], task, name, findings)
            times = pd.to_datetime(text, errors="coerce", dayfirst=day_first, format="mixed", utc=True)
            since = times - pd.Timestamp("1970-01-01", tz="UTC")
            seconds = since.dt.total_seconds().to_numpy(np.float64)
    return np.where(missing, np.nan, seconds)


def _day_first(text: Any, task: str, name: str, findings: Findings) -> bool:
    """Whether 03/04/2026 is 3 April: days above 12 tell, points as well; failing these, the same column elsewhere."""
    first = text.iloc[0]
    if re.match("[0-9]{4}", first):
        return False
    parts = text.str.extract(r"^([0-9]+)[./-]([0-9]+)")
    one, two = _as_numbers(parts[0]), _as_numbers(parts[1])
    days, months = bool((one > 12).any()), bool((two > 12).any())
    if days != months or "." in first:
        findings.day_first[name] = days or "." in first
    elif name not in findings.day_first:
        findings.unclear_days.add(name)
        month, day = re.split("[/-]", first)[:2]
        findings.warnings.append(
            f"{task}: the times of column {shown(name)} do not tell days from months; {shown(first)} was read as day"
            f" {day} of month {month}. Write dates as 2026-12-31."
        )
    return findings.day_first.get(name, False)
