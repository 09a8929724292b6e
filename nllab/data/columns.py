"""The columns of all tables of a stream, matched by name and turned into numbers; what is no measurement is left out.

Left out: nameless and counting columns, those that do not vary in A, that only one table has, that grow from row to
row in every table (a clock), that are mostly empty, and texts that are different nearly every time (identifiers).
Converted: times to seconds, texts of a few values to one column a value, empty cells to A's median.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nllab.data.limits import LARGEST_NUMBER
from nllab.data.report import Findings, counted, listed, shown
from nllab.data.tables import Table
from nllab.errors import DataError

SHARED = 0.5  # share of A's columns that every table must have
MOST_MISSING = 0.2  # share of a column's cells that may be empty
GAP = 2.0  # times the range of all others, at which a number of nines is outside of them
MOST_VALUES = 12  # of a text that becomes one column a value
COUNTING_ROWS = 10  # so many rows in equal steps are a count
ROWS_TO_JUDGE = 20  # so many rows that grow, or that one column divides into classes, are no accident (2 / 20! at most)
IN_STEP = 0.9  # share of rows that are one more than the row before, at which a column counts them
NEARLY = 0.99  # share of samples whose class one column tells, from which it is named
IDENTIFIER = re.compile(
    r"(^|[\s_.-])(id|uid|uuid|guid|idx|index|key|nr|no|num|number|record|row)[.:]?$|^(#|№|rowid|rownum|rn|n°)$", re.I
)
CAMEL = re.compile(r"[a-z](ID|Id|Nr|No|Index)$")
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "holdout"}
GLANCE = 200  # rows, and columns, from which a look at that many rows comes first
EXAMINED = 5_000  # rows in which a single column is looked for that predicts everything


def joined(tables: Sequence[Table], findings: Findings) -> tuple[list[NDArray[np.float64]], list[str]]:
    """(the numbers of each table (N, D), names of the D columns). Raises DataError where tables do not belong together
    or nothing is left to learn from."""
    names = _matched(tables, findings)
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    _compare_units(tables, findings)
    kept: dict[str, list[NDArray[np.float64]]] = {}
    for name, columns in names.items():
        if any(column.dtype == object for column in columns):
            kept |= _categories(name, columns, tables, notes, findings)
            continue
        columns = _filled(name, columns, tables, notes, findings)
        if columns is None:
            continue
        if told_missing := _stands_for_missing(columns):
            findings.warnings.append(
                f"Column {shown(name)}: {told_missing} lies far from all others, as programs write a missing value. If"
                " it is one, leave these cells empty."
            )
        reason = _counts_in_place(columns) if tables[0].keeps_places else _no_measurement(name, columns)
        if reason:
            notes["", reason].append(name)
            continue
        if (columns[0] == columns[0][0]).all():
            moves = any((column != columns[0][0]).any() for column in columns[1:])
            why = "does not vary in A, so A says nothing of its scale" if moves else "has the same value everywhere"
            notes["", why].append(name)
            if not tables[0].keeps_places:
                continue
        kept[name] = columns
    for (task, why), left in notes.items():
        findings.leave_out(task, f"{counted(len(left), 'column')} ({listed(left)})", why)
    if not kept or all((columns[0] == columns[0][0]).all() for columns in kept.values()):
        reasons = "; ".join(f"{listed(left, 2)} {why}" for (_, why), left in list(notes.items())[:3])
        raise DataError(
            f"{shown(tables[0].name)}: no column is left to learn from. {reasons[:250]}. Add a column of measurements"
            " that vary."
        )
    return [np.stack([columns[i] for columns in kept.values()], axis=1) for i in range(len(tables))], list(kept)


def _compare_units(tables: Sequence[Table], findings: Findings) -> None:
    """Names the columns whose cells have one unit in A and another in B, or a time zone in one of them alone."""
    first = {key: tables[0].units.get(name, "") for key, name in _keys(tables[0]).items()}
    for table in tables[1:]:
        for key, name in _keys(table).items():
            one, other = first.get(key), table.units.get(name, "")
            if one is not None and one != other and (one and other or "%" in (one, other)):
                was, now = (shown(unit) if unit else "without a sign" for unit in (one, other))
                findings.warnings.append(
                    f"{table.task}: column {shown(name)} is {now} and in A {was}. Numbers were read as they stand:"
                    " convert them to one unit."
                )


def _stands_for_missing(columns: Sequence[NDArray[np.float64]]) -> str | None:
    """A number of nines, such as -999, that several cells hold and that lies outside of all other values."""
    values, counts = np.unique(np.concatenate(columns), return_counts=True)
    if len(values) < MOST_VALUES:
        return None
    for value, count, others in ((values[0], counts[0], values[1:]), (values[-1], counts[-1], values[:-1])):
        gap = np.abs(others - value).min()
        if count > 1 and re.fullmatch(r"-?9{2,}\.0", str(value)) and gap > GAP * (others[-1] - others[0]):
            return f"{value:.0f}, which {count:,} cells hold,"
    return None


def _matched(tables: Sequence[Table], findings: Findings) -> dict[str, list[NDArray[Any]]]:
    """A's columns with those of the same name in the other tables; by place where no table names its columns."""
    first = tables[0]
    if len({table.named for table in tables}) > 1:
        bare = next(table for table in tables if not table.named)
        raise DataError(
            f"{shown(bare.name)} has no names of columns and another table has; which belong together is not clear."
            " Give all of them the same header."
        )
    if not first.named:
        for table in tables[1:]:
            if len(table.columns) != len(first.columns):
                raise DataError(
                    f"{shown(table.name)} has samples of shape ({len(table.columns)},) and {shown(first.name)} of"
                    f" ({len(first.columns)},); all tasks of a stream share one shape."
                )
        return {name: [list(t.columns.values())[i] for t in tables] for i, name in enumerate(first.columns)}
    keys = [_keys(table) for table in tables]
    common = [key for key in keys[0] if all(key in other for other in keys[1:])]
    for table, own in zip(tables[1:], keys[1:], strict=True):
        shared = [key for key in keys[0] if key in own]
        if len(shared) < SHARED * max(len(keys[0]), 1):
            raise DataError(
                f"{shown(table.name)} and {shown(first.name)} share {len(shared)} of {counted(len(keys[0]), 'column')};"
                f" {listed([keys[0][k] for k in keys[0] if k not in own], 3)} in the one,"
                f" {listed([own[k] for k in own if k not in keys[0]], 3)} in the other. Give columns that mean the same"
                " the same name."
            )
    for table, own in zip(tables, keys, strict=True):
        alone = [own[key] for key in own if key not in common]
        if alone:
            findings.leave_out(table.task, f"{counted(len(alone), 'column')} ({listed(alone)})", "not in every table")
        if [key for key in own if key in common] != common:
            findings.notes.append(f"{table.task}: its columns stand in another order and were matched by name.")
    return {keys[0][key]: [t.columns[own[key]] for t, own in zip(tables, keys, strict=True)] for key in common}


def _keys(table: Table) -> dict[str, str]:
    """Names as they are compared -> names as they are; case and spaces count only where they tell columns apart."""
    plain = {name: " ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in table.columns}
    if len(set(plain.values())) < len(plain):
        plain = {name: name for name in table.columns}
    return {key: name for name, key in plain.items()}


def _filled(
    name: str,
    columns: list[NDArray[Any]],
    tables: Sequence[Table],
    notes: dict[tuple[str, str], list[str]],
    findings: Findings,
) -> list[NDArray[np.float64]] | None:
    """The columns without holes, or None where they have too many. Raises DataError for numbers that are infinite."""
    for column, table in zip(columns, tables, strict=True):
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(np.abs(column) > LARGEST_NUMBER)
        if len(wrong):
            raise DataError(
                f"{shown(table.name)}: column {shown(name)} holds {len(wrong)} infinite numbers or beyond"
                f" {LARGEST_NUMBER:g}, the first of them in row {wrong[0]} (from 0). Leave these rows out or leave the"
                " cells empty."
            )
    missing = [np.isnan(column) for column in columns]
    if not any(gaps.any() for gaps in missing):
        return columns
    if any(gaps.mean() > MOST_MISSING for gaps in missing):
        notes["", f"more than {MOST_MISSING:.0%} of the cells are empty"].append(name)
        return None
    middle = float(np.median(columns[0][~missing[0]]))
    for gaps, table in zip(missing, tables, strict=True):
        if gaps.any():
            what = f"{counted(int(gaps.sum()), 'empty cell')} of column {shown(name)}"
            findings.convert(table.task, what, f"to its median in A, {middle:.4g}")
    return [np.where(gaps, middle, column) for gaps, column in zip(missing, columns, strict=True)]


def _no_measurement(name: str, columns: Sequence[NDArray[np.float64]]) -> str:
    if reason := _counts_in_place(columns):
        return reason
    if all(len(column) >= ROWS_TO_JUDGE and _is_count(column) for column in columns):
        return "counts the rows: whole numbers, each of a range once"
    if all(len(column) >= ROWS_TO_JUDGE and _counts_in_blocks(column) for column in columns):
        return "counts the rows, beginning anew now and then"
    steps = [np.diff(column) for column in columns]
    if all(len(step) >= ROWS_TO_JUDGE and ((step > 0).all() or (step < 0).all()) for step in steps):
        return "grows or falls from row to row like a clock, so it tells the order of the rows"
    if (IDENTIFIER.search(name) or CAMEL.search(name)) and all(_each_once(column) for column in columns):
        return "an identifier: whole numbers, each once, under a name for such"
    return ""


def _counts_in_place(columns: Sequence[NDArray[np.float64]]) -> str:
    for column in columns:
        steps = np.diff(column)
        equal = len(column) >= COUNTING_ROWS and steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-6, atol=0)
        if not equal:
            return ""
    return "counts the rows in equal steps"


def _counts_in_blocks(column: NDArray[np.float64]) -> bool:
    return bool((column == np.round(column)).all()) and float((np.diff(column) == 1).mean()) >= IN_STEP


def _is_count(column: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(np.diff(np.sort(column)), np.ones(len(column) - 1))) and float(column[0]).is_integer()


def _each_once(column: NDArray[np.float64]) -> bool:
    return bool((column == np.round(column)).all()) and len(np.unique(column)) == len(column) >= COUNTING_ROWS


def _categories(
    name: str,
    columns: Sequence[NDArray[Any]],
    tables: Sequence[Table],
    notes: dict[tuple[str, str], list[str]],
    findings: Findings,
) -> dict[str, list[NDArray[np.float64]]]:
    """A text column as one column for each of its values in A, or as nothing."""
    texts = [np.array([_plain(cell) for cell in column], dtype=object) for column in columns]
    values = sorted({text for text in texts[0] if text})
    if not values:
        notes["", "is empty in A"].append(name)
        return {}
    if len(values) > 1 and {value.lower() for value in values} <= PARTS:
        notes["", "says what is for training and what for tests; the lab cuts its own parts"].append(name)
        return {}
    if len(values) == 1:
        notes["", "has the same text everywhere in A"].append(name)
        return {}
    rows = len(texts[0])
    if len(values) > MOST_VALUES or len(values) > max(2, rows // 5):
        different = len(values) > 0.9 * rows
        why = (
            "an identifier: a different text nearly every time"
            if different
            else f"text of {len(values):,} different values"
        )
        if sum(value[0].isdigit() or value[:2].strip("<>+-~≈±")[:1].isdigit() for value in values) > len(values) / 2:
            why = f"text such as {shown(values[0])}; if these are measurements, write them as numbers alone"
        notes["", why].append(name)
        return {}
    strange = [int(sum(text not in values for text in column)) for column in texts]
    more = f" ({counted(sum(strange[1:]), 'cell')} of other tables hold none of these)" if sum(strange[1:]) else ""
    for count, column, table in zip(strange, texts, tables, strict=True):
        if count > len(column) / 2:
            other = next(text for text in column if text not in values)
            findings.warnings.append(
                f"{table.task}: column {shown(name)} holds {shown(other)} and others where A holds {listed(values, 3)}."
                " If they mean the same, write them alike."
            )
        pairs = set(zip(column.tolist(), table.labels.tolist(), strict=True))
        if len(column) >= ROWS_TO_JUDGE and len(pairs) == len({text for text, _ in pairs}):
            findings.warnings.append(giveaway(table.task, [name]))
    told_as = values[1:] if len(values) == 2 else values
    notes["", f"as text; in its place stands 1 or 0 for each of {listed(values)}{more}"].append(name)
    return {f"{name} = {value}": [(text == value).astype(np.float64) for text in texts] for value in told_as}


def giveaway(task: str, names: Sequence[str], share: float = 1.0) -> str:
    """The warning of columns that tell the classes apart alone, or `share` of the samples."""
    column = "Column" if len(names) == 1 else "Each of the columns"
    what = "tells all classes apart" if share == 1 else f"tells the classes of {share:.0%} of the samples"
    return (
        f"{task}: {column} {listed(names, 3)} alone {what}. If it was written after the label was known, leave it out."
    )


def _plain(cell: object) -> str:
    return "" if cell is None or cell != cell else " ".join(str(cell).split())[:200]


def giveaways(values: NDArray[Any], names: Sequence[str], labels: NDArray[np.str_]) -> dict[str, float]:
    """The columns each of which alone tells the class of nearly every sample, and of how many: sorted by it, every
    class is one run of rows but for a few."""
    if len(values) < ROWS_TO_JUDGE:
        return {}
    if len(values) > 2 * GLANCE and len(names) > GLANCE:  # a glance at few rows spares most columns the rest
        step = len(values) // GLANCE
        near = giveaways(values[::step], names, labels[::step])
        kept = [i for i, name in enumerate(names) if name in near]
        values, names = values[:, kept], [names[i] for i in kept]
    rows = np.linspace(0, len(values) - 1, min(len(values), EXAMINED)).astype(int)
    _, classes = np.unique(labels[rows], return_inverse=True)
    count = int(classes.max()) + 1
    shares = {}
    for i, name in enumerate(names):
        order = np.lexsort((classes, values[rows, i]))
        if np.count_nonzero(np.diff(classes[order])) > count - 1 + 4 * (1 - NEARLY) * len(rows):
            continue
        _, places = np.unique(values[rows, i], return_inverse=True)
        held = np.zeros((places.max() + 1, count), dtype=np.int64)
        np.add.at(held, (places, classes), 1)
        most = held.argmax(1)  # the class of most samples that share a value
        if len(set(most.tolist())) == count:
            right = _in_one_run_each(most.tolist(), held.max(1).tolist(), count)
            if right >= NEARLY * len(rows):
                shares[name] = right / len(rows)
    return shares


def _in_one_run_each(classes: Sequence[int], sizes: Sequence[int], count: int) -> int:
    """How many samples are left once the smallest runs of a class are taken out until each class is one run."""
    runs: list[list[int]] = []
    for one, size in zip(classes, sizes, strict=True):
        if runs and runs[-1][0] == one:
            runs[-1][1] += size
        else:
            runs.append([one, size])
    while len(runs) > count:
        at = min(range(len(runs)), key=lambda i: runs[i][1])
        del runs[at]
        if 0 < at < len(runs) and runs[at - 1][0] == runs[at][0]:
            runs[at - 1][1] += runs.pop(at)[1]
    return sum(size for _, size in runs) if len({one for one, _ in runs}) == count else 0
