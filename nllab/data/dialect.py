"""How a text table is written: encoding, separator, decimal sign, what stands before the rows, header or none.

pandas reads the table; this says with which arguments. Everything is decided from the first rows, by counting.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nllab.data.limits import MOST_CELLS, MOST_COLUMNS
from nllab.data.report import Findings, counted, shown
from nllab.errors import DataError

LABELS = ("label", "labels", "class", "target", "category", "y")  # names of the column of classes, best first
SAMPLE_LINES, SAMPLE_CHARACTERS = 200, 400_000
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "spaces"}
MOST_ABOVE = 20  # lines above a table
BLANK = ' \t,;|"\v\f'  # a line of these holds nothing
CONSISTENT = 0.8  # share of rows that must have the same number of cells
MARKS = (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")
MARKS += (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a mark", "cp1252": "Windows-1252"}

LONGEST_NUMBER = 40  # characters; longer cells are no numbers, and the patterns take their time over them
_LOOSE_NUMBER = re.compile(r"[+-]?[0-9.,' \u00a0\u202f]*[0-9][0-9.,]*([eE][+-]?[0-9]+)?\s*%?")
POINT = re.compile(r"[+-]?([0-9]{1,3}(,[0-9]{3})+\.[0-9]+|0?\.[0-9]+|[0-9]+\.([0-9]{1,2}|[0-9]{4,})([eE][+-]?[0-9]+)?)")
COMMA = re.compile(r"[+-]?([0-9]{1,3}(\.[0-9]{3})+,[0-9]+|0?,[0-9]+|[0-9]+,([0-9]{1,2}|[0-9]{4,})([eE][+-]?[0-9]+)?)")
_THREES = {sign: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}({re.escape(sign)}[0-9]{{3}})+") for sign in ",."}
_TWO_THREES = {sign: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}({re.escape(sign)}[0-9]{{3}}){{2,}}") for sign in ",."}


@dataclass(frozen=True)
class Dialect:
    """separator: for pandas. decimal, thousands: signs, thousands None where there is none. skip: lines before the
    first row of data. header: names of the columns, None where there are none. row_names: rows begin with a name that
    the header has not, as R writes them. encoding: in words."""

    separator: str
    decimal: str
    thousands: str | None
    skip: int
    header: tuple[str, ...] | None
    width: int
    encoding: str
    row_names: bool = False

    def __str__(self) -> str:
        parts = [f"a table separated by {SEPARATORS.get(self.separator, shown(self.separator))}"]
        if self.decimal == ",":
            parts.append("with decimal commas")
        if self.thousands:
            parts.append(f"with {shown(self.thousands)} between thousands")
        parts.append(f"in {self.encoding}" if self.encoding != "UTF-8" else "")
        return " ".join(filter(None, parts)) + ("" if self.header else ", without a header")


def decoded(data: bytes, name: str, findings: Findings, task: str) -> tuple[bytes, str]:
    """The same text in UTF-8 without a mark, and its encoding in words. Raises DataError for what is no text."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            text = _transcoded(data, encoding, name)
            while text.startswith(codecs.BOM_UTF8):  # a program wrote one before what had one
                text = text[len(codecs.BOM_UTF8) :]
            return text, ENCODINGS.get(encoding, encoding.upper())
    start = data[:4096]
    if b"\0" in start:
        for nulls, encoding in ((start[1::2], "utf-16-le"), (start[::2], "utf-16-be")):
            if nulls.count(0) > 0.7 * len(nulls):
                return _transcoded(data, encoding, name), "UTF-16 without a mark"
    if b"\0" in data or sum(byte < 9 or 13 < byte < 32 for byte in start) > len(start) // 100:
        raise DataError(f"{name} is no text: it holds bytes that no table has. {WANTED}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), 2**20):
            decoder.decode(data[at : at + 2**20], final=at + 2**20 >= len(data))
        return data, "UTF-8"
    except UnicodeDecodeError:
        findings.notes.append(
            f"{task}: the text is not UTF-8 and was read as Windows-1252; if names look wrong, save it as UTF-8."
        )
        return _transcoded(data, "cp1252", name), ENCODINGS["cp1252"]


WANTED = "Expected a table: one row a sample, a column 'label', all other columns numbers; saved as CSV in UTF-8."


def _transcoded(data: bytes, encoding: str, name: str) -> bytes:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        pieces = [
            decoder.decode(data[at : at + 2**20], final=at + 2**20 >= len(data)).encode()
            for at in range(0, len(data), 2**20)
        ]
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise DataError(f"{name} is no text in {encoding.upper()}, as which it begins. Save it as UTF-8.") from None
    return b"".join(pieces)


def detect(data: bytes, encoding: str, name: str, findings: Findings, task: str) -> Dialect:
    """The dialect of a table in UTF-8. Raises DataError for what is no table, or one that is too large."""
    lines, places, separator, header_line = _opening(data)
    if not lines:
        raise DataError(f"{name} holds no rows. {WANTED}")
    above = 0
    if separator is None:
        separator, above = _separator_below(lines)
    if separator is None:
        raise DataError(
            f"{name} has one column only, or rows of different lengths: no comma, semicolon, tab or space cuts its"
            f" lines into columns. {WANTED}"
        )
    rows = _cells(lines[above:], separator)
    if above:
        findings.leave_out(task, f"{counted(above, 'line')} above the table", f"such as {shown(lines[0].strip())}")
    width = Counter(map(len, rows)).most_common(1)[0][0]
    first, skip = rows[0], places[above]
    _check_size(data, separator, width, name)
    header = None
    if _is_header(first, rows[1:]):
        header, skip, rows = tuple(first), skip + 1, rows[1:]
    elif header_line and len(named := _cells([header_line], separator)[0]) == width:
        header = tuple(named)
    if not rows:
        raise DataError(f"{name} has a header and no rows. {WANTED}")
    decimal, thousands = _signs(rows, separator, findings, task)
    one_more = header is not None and width == len(header) + 1
    named = one_more and any(row[-1].strip() for row in rows if len(row) == width)
    if named and len({row[0] for row in rows}) < len(rows):  # as names of rows, which R writes, never are
        raise DataError(
            f"{name}: its rows have {width} cells and its header {width - 1} names. Give every column a name, or quote"
            " numbers with a decimal comma."
        )
    return Dialect(separator, decimal, thousands, skip, header, width, encoding, named)


def _separator_below(lines: Sequence[str]) -> tuple[str | None, int]:
    """(the separator, how many lines stand above the table). Lines above a table have fewer cells than its rows, and
    below them comes its header."""
    separator = _separator(lines)
    if separator is not None and len(_cells(lines[:1], separator)[0]) > 1:
        rows = _cells(lines, separator)
        width = Counter(map(len, rows)).most_common(1)[0][0]
        if _filled(rows[0]) >= width - 1:
            return separator, 0
    for above in range(1, min(MOST_ABOVE, len(lines) - 1) + 1):
        found = _separator(lines[above:])
        if found is None:
            continue
        rows = _cells(lines[above:], found)
        width = Counter(map(len, rows)).most_common(1)[0][0]
        narrow = all(_filled(row) < width for row in _cells(lines[:above], found))
        if narrow and len(rows[0]) == width and _is_header(rows[0], rows[1:]) and not any(map(_is_number, rows[0])):
            return found, above
    return separator, 0


def _filled(row: Sequence[str]) -> int:
    """Cells up to the last one that holds something: spreadsheets give every line the width of the widest."""
    return max((i for i, cell in enumerate(row, start=1) if cell.strip()), default=0)


def _opening(data: bytes) -> tuple[list[str], list[int], str | None, str]:
    """The first lines that hold cells, how many lines stand before each, a separator that Excel names in its first line
    (sep=;), and the last comment, which may be the header."""
    text = data[:SAMPLE_CHARACTERS].decode("utf-8", errors="ignore")
    whole = len(data) <= SAMPLE_CHARACTERS
    lines = re.split(r"\r\n|\r|\n", text)
    if not whole and len(lines) > 1:
        lines.pop()
    skip, separator, comment = 0, None, ""
    for line in lines:
        bare = line.strip().strip('"')
        if (match := re.fullmatch(r"sep=(.|\\t)", bare)) and not skip:
            separator = "\t" if match[1] == "\\t" else match[1]
        elif bare.startswith(("#", "%")):
            comment = bare.lstrip("#% ")
        elif bare:
            break
        skip += 1
    kept = [place for place in range(skip, len(lines)) if lines[place].strip(BLANK)][: SAMPLE_LINES + 1]
    return [lines[place] for place in kept], kept, separator, comment


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    csv.field_size_limit(SAMPLE_CHARACTERS * 4)
    if separator == r"\s+":
        return list(csv.reader((" ".join(line.split()) for line in lines), delimiter=" "))
    try:
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _is_number(cell: str) -> bool:
    return len(cell) <= LONGEST_NUMBER and _LOOSE_NUMBER.fullmatch(cell) is not None


def _separator(lines: Sequence[str]) -> str | None:
    """The one that cuts most rows into the same number of cells, and of those the one whose cells are most often
    numbers."""
    best, chosen = (0.0, 0.0), None
    for separator in SEPARATORS:
        rows = _cells(lines, separator)
        widths = Counter(len(row) for row in rows)
        width, hits = widths.most_common(1)[0]
        cells = [cell.strip() for row in rows[:50] for cell in row[:200]]
        numbers = sum(map(_is_number, cells)) / max(1, len(cells))
        consistency = hits / len(rows)
        whole = width > 1 and len(rows[0]) > 1 and consistency >= CONSISTENT
        if whole and (score := (round(consistency, 1), round(numbers, 3))) > best:
            best, chosen = score, separator
    return chosen


def _check_size(data: bytes, separator: str, width: int, name: str) -> None:
    """Before pandas takes memory for it. The longest line may lie behind the rows that were looked at."""
    sign = b" " if separator == r"\s+" else separator.encode()
    width = max(width, data[: data.find(b"\n") if b"\n" in data else len(data)].count(sign) + 1)
    if width > MOST_COLUMNS:
        raise DataError(
            f"{name} has {width:,} columns, and a table may have {MOST_COLUMNS:,}. Choose some of its columns; are its"
            " rows and columns swapped?"
        )
    cells = data.count(sign) + data.count(b"\n")
    if cells > MOST_CELLS:
        raise DataError(f"{name} has about {cells:,} cells, and {MOST_CELLS:,} are read. Take fewer rows.")


def _is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether these cells name columns: they hold no number, or one of them is 'label'; and they are no values of
    their own columns, as y is in a column of y and n."""
    names = [cell.strip().lower() for cell in first]
    others = [[cell.strip("\ufeff \t").lower() for cell in row] for row in rows]
    joined = others.count(names) <= len(others) / 20  # files that were joined with their headers
    values = [{row[i] for row in others if len(row) > i and not (joined and row == names)} for i in range(len(names))]
    is_value = [bool(name) and name in own for name, own in zip(names, values, strict=True)]
    if any(name in LABELS and not value for name, value in zip(names, is_value, strict=True)):
        return True
    return not any(map(_is_number, names)) and sum(is_value) < max(1, len(names) / 2)


def _signs(rows: Sequence[Sequence[str]], separator: str, findings: Findings, task: str) -> tuple[str, str | None]:
    """Decimal sign and sign between thousands. 1,5 and 0,123 are decimal commas, 1,234.5 and 1,234,567 are not; 1,234
    alone can be either."""
    cells = [cell.strip() for row in rows for cell in row if len(cell) <= LONGEST_NUMBER]
    points = sum(bool(POINT.fullmatch(cell)) for cell in cells)
    commas = sum(bool(COMMA.fullmatch(cell)) for cell in cells)
    decimal = "," if commas > points else "."
    other = "." if decimal == "," else ","
    if points or commas:
        return decimal, other if any(_THREES[other].match(cell) and decimal in cell for cell in cells) or any(
            _TWO_THREES[other].fullmatch(cell) for cell in cells
        ) else None
    if any(_TWO_THREES[","].fullmatch(cell) for cell in cells):
        return ".", ","
    if any(_TWO_THREES["."].fullmatch(cell) for cell in cells):
        return ",", "."
    unclear = next((cell for cell in cells if _THREES[","].fullmatch(cell)), None)
    if unclear is None:
        return ".", None
    decimal = "," if separator == ";" else "."
    meant = unclear.replace(",", "." if decimal == "," else "")
    findings.warnings.append(
        f"{task}: {shown(unclear)} was read as {meant}, and nothing else in the table says what the comma stands for."
        " If that is wrong, save the table with decimal points and without a sign between thousands."
    )
    return (",", None) if decimal == "," else (".", ",")


def ragged(error: Exception, name: str) -> DataError:
    """The error for what pandas could not read."""
    match = re.search(r"Expected ([0-9]+) fields in line ([0-9]+), saw ([0-9]+)", str(error))
    if match:
        expected, line, saw = match.groups()
        return DataError(
            f"{name}: line {line} has {counted(int(saw), 'cell')} and the rows before it {expected}. A separator inside"
            " a cell needs quotes around the cell."
        )
    if "EOF inside string" in str(error):
        return DataError(f"{name}: a quotation mark is opened and never closed. Close it, or save the table again.")
    return DataError(f"{name} cannot be read as a table ({' '.join(str(error).split())[:120]}). {WANTED}")
