"""The log of a run as bytes: checked JSON lines. No torch.

Its first line, the head, says what run it is; then comes one line for each event; a run that was written to its end
closes with a line that counts the lines and holds the hashes of the files beside it. Every line ends in `"sum"`, a hash
of its text and of the sum before it, so that a line that was changed, cut, dropped or doubled does not fit its
neighbours. A log without a closing line was interrupted: it holds all up to the last whole event.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nllab.errors import RunFormatError

Record = dict[str, Any]
LOG = "events.jsonl"
CLOSED = "closed"  # kind of the last line
_CLOSING = b'{"kind":"closed"'
SUM = re.compile(rb',"sum":"([0-9a-f]{16})"}')
SUM_BYTES = len(',"sum":"0123456789abcdef"}')
MOST_LINE_BYTES = 4_000_000
AGAIN = "Take the run from a copy, download it once more, or run the experiment again."


def chained(before: str, text: bytes) -> str:
    """The sum of a line with this text after a line with the sum `before`: 16 hexadecimal digits."""
    return hashlib.blake2b(before.encode() + text, digest_size=8).hexdigest()


def hash_of(content: bytes) -> str:
    """16 bytes of BLAKE2b, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def encode(records: Iterable[Record], before: str = "") -> Iterator[bytes]:
    """One line for each record, every one with its sum; `before` is the sum of the line that they follow."""
    for record in records:
        text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        before = chained(before, text)
        yield b'%s,"sum":"%s"}\n' % (text[:-1], before.encode())


@dataclass
class Log:
    """What a log holds. events: the text of each, in JSON, sums taken away; closing: its last line, None for an
    interrupted run; sums: of every line, the head's first; size: bytes up to the end of the last whole line."""

    head: Record
    events: list[bytes]
    closing: Record | None
    sums: list[str]
    size: int
    name: str = LOG

    @property
    def is_closed(self) -> bool:
        """Whether the run that wrote it came to its end."""
        return self.closing is not None

    @property
    def records(self) -> list[Record]:
        """Its events as plain values. Raises RunFormatError for a damaged line."""
        return [_object(text, f"{self.name}: line {number}") for number, text in enumerate(self.events, start=2)]


def decode(data: bytes, name: str = LOG) -> Log:
    """The log in these bytes; of an interrupted one the last line, where it is not whole, is dropped.

    Raises RunFormatError that names the line which was changed or is missing.
    """
    *lines, torn = data.split(b"\n")
    texts: list[bytes] = []
    sums: list[str] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        match = SUM.fullmatch(line[-SUM_BYTES:])
        if not match or len(line) > MOST_LINE_BYTES:
            raise RunFormatError(f"{name}: line {number} is damaged: it does not end in its checksum. {AGAIN}")
        text, before = line[:-SUM_BYTES] + b"}", sums[-1] if sums else ""
        own = chained(before, text)
        if own.encode() != match[1]:
            raise RunFormatError(f"{name}: {_misfit(number, match[1].decode(), sums)} {AGAIN}")
        sums.append(own)
        size += len(line) + 1
        texts.append(text)
    if not texts:
        raise RunFormatError(f"{name}: the line that says what run this is, its first, is missing. {AGAIN}")
    closed = [number for number, text in enumerate(texts) if text.startswith(_CLOSING)]
    closing = _object(texts.pop(), f"{name}: the last line") if closed and closed[-1] == len(texts) - 1 else None
    if len(closed) > (closing is not None) or closing is not None and (torn or closing.get("lines") != len(texts)):
        raise RunFormatError(f"{name}: there is something behind the line that closes the run. {AGAIN}")
    return Log(_object(texts[0], f"{name}: line 1"), texts[1:], closing, sums, size, name)


def _misfit(number: int, stated: str, sums: Sequence[str]) -> str:
    if stated in sums:
        return f"line {number} is line {sums.index(stated) + 1} once more."
    return f"line {number} does not follow from the line before: it was changed, or a line between them is missing."


def _object(text: bytes, where: str) -> Record:
    def refuse(word: str) -> Any:
        raise RunFormatError(f"{where} holds {word}, and every number of a run is finite. {AGAIN}")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise RunFormatError(f"{where} is damaged: it is not JSON. {AGAIN}") from None
    if not isinstance(value, dict):
        raise RunFormatError(f"{where} is damaged: it is not an object. {AGAIN}")
    return value


def closing_line(lines: int, files: Mapping[str, bytes], **more: Any) -> Record:
    """The record that closes a run of so many lines, the head's included."""
    return {"kind": CLOSED, "lines": lines, "files": {name: hash_of(text) for name, text in files.items()}, **more}


def closed_at(path: Path) -> Log | None:
    """The log at this path, if there is one and it is closed."""
    try:
        log = decode(path.read_bytes(), str(path))
    except (OSError, RunFormatError):
        return None
    return log if log.is_closed else None
