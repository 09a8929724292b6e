"""From a path to bytes: what kind of file it is, told by its content, and unpacked within limits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from nllab.data.limits import MOST_BYTES, MOST_FILES, MOST_SHEET_BYTES
from nllab.data.report import shown
from nllab.errors import DataError

Kind = Literal["text", "excel", "npz", "idx", "pictures", "folder"]
KINDS = (
    "Name a table (.csv, .tsv, .txt, .xlsx, also packed), an .npz file, a folder or .zip with one folder of images for"
    " each class, or IDX files."
)
IDX_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # by its third byte
MOST_LAYERS = 2  # of packing, such as a .csv.gz within a .zip
LZMA_MEMORY = 256 * 2**20
FOREIGN = {  # first bytes -> what it is and what to do
    b"\x93NUMPY": "one NumPy array. Save inputs and labels together: np.savez(PATH, inputs=…, labels=…).",
    b"\xd0\xcf\x11\xe0": "an old Excel file. Save it as .xlsx or .csv.",
    b"PAR1": "a Parquet file. Save it as a table: pandas.read_parquet(PATH).to_csv(…, index=False).",
    b"\x89HDF": "an HDF5 file. Save inputs and labels with np.savez(PATH, inputs=…, labels=…).",
    b"%PDF": "a PDF. Save the table as .csv.",
    b"\x89PNG": "one image. Name the folder that holds one folder of images for each class.",
    b"\xff\xd8\xff": "one image. Name the folder that holds one folder of images for each class.",
    b"SQLite format 3": "a database. Save the table as .csv.",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard. Unpack it, or pack it with gzip.",
    b"7z\xbc\xaf": "a 7-Zip archive. Unpack it, or pack it as .zip.",
    b"Rar!": "a RAR archive. Unpack it, or pack it as .zip.",
    b"MATLAB": "a MATLAB file. Save it as .csv, or with np.savez(PATH, inputs=…, labels=…).",
}
FOREIGN_TEXT = {
    b"{": "JSON. Save it as a table: pandas.read_json(PATH).to_csv(…, index=False).",
    b"[{": "JSON. Save it as a table: pandas.read_json(PATH).to_csv(…, index=False).",
    b"[[": "JSON. Save it as a table: pandas.read_json(PATH).to_csv(…, index=False).",
    b"<!doctype": "a web page. Save the table in it as .csv.",
    b"<html": "a web page. Save the table in it as .csv.",
    b"<table": "a web page. Save the table in it as .csv.",
    b"<?xml": "a file of XML. Save the table in it as .csv.",
    b"version https://git-lfs": "a pointer of Git LFS. Fetch the file itself: git lfs pull.",
    b"@relation": "an ARFF file. Save it as .csv, with a first line that names the columns.",
}
HIDDEN = (".", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")  # how such names begin
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


@dataclass(frozen=True)
class Found:
    """What lies at a path: its kind, its bytes (none for a folder), and how it was packed, in words."""

    path: Path
    kind: Kind
    data: bytes = b""
    packed: str = ""


def find(path: Path) -> Found:
    """Raises DataError for what is not there, no plain file or folder, too large, or of a kind that cannot be read."""
    name = shown(path.name or path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened ({_said(error)})"
        if re.match("[a-z]{2,}:/", str(path)):
            reason = "is an address and not a file. Download it and name its path"
        raise DataError(f"{shown(path, 120)} {reason}. {KINDS}") from None
    if stat.S_ISDIR(status.st_mode):
        return Found(path, "folder")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{name} is neither a file nor a folder but a device or a pipe. {KINDS}")
    return known(path, read_file(path))


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file of at most `most` bytes. Raises DataError."""
    name = shown(path.name)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{name} is not a plain file.")
            data = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({_said(error)}).") from None
    if len(data) > most:
        raise DataError(f"{name} is larger than {most // 2**20} MB. Take fewer rows, columns or pixels.")
    return data


def known(path: Path, data: bytes, packed: str = "", layers: int = 0) -> Found:
    """What these bytes are. Raises DataError for what cannot be read."""
    name = shown(path.name)
    if not data.strip(b"\0 \t\r\n"):
        raise DataError(f"{name} is empty.")
    for opening, how in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz")):
        if data.startswith(opening):
            if layers == MOST_LAYERS:
                raise DataError(f"{name} is packed more than {MOST_LAYERS} times over. Unpack it first.")
            return known(path, _unpacked(data, how, name), f"{how}, " + packed, layers + 1)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path, data, packed, layers)
    if data[:2] == b"\0\0" and len(data) > 3 and data[2] in IDX_TYPES and data[3] in (1, 2, 3, 4):
        return Found(path, "idx", data, packed)
    for opening, what in FOREIGN.items():
        if data.startswith(opening):
            raise DataError(f"{name} is {what}")
    if data.startswith(PICKLES):
        raise DataError(f"{name} holds pickled objects, which are never opened. Save it as .csv or with np.savez.")
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for opening, what in FOREIGN_TEXT.items():
        if start.startswith(opening):
            raise DataError(f"{name} is {what}")
    if re.match(rb"([^\n]*\n)?\s*[|+]?[ :|+=-]*---[ :|+=-]*\r?\n", start):
        raise DataError(f"{name} is a table drawn with lines, as in Markdown. Save it as .csv.")
    if (conflict := data.find(b"\n<<<<<<< ")) >= 0 and data.find(b"\n>>>>>>> ", conflict) >= 0:
        line = data.count(b"\n", 0, conflict + 1) + 1
        raise DataError(f"{name}: line {line} begins a merge conflict of Git. Settle it first.")
    if data[257:262] == b"ustar":
        raise DataError(f"{name} is a tar archive. Unpack it, or pack it as .zip.")
    return Found(path, "text", data, packed)


def _unpacked(data: bytes, how: str, name: str) -> bytes:
    try:
        if how == "gzip":
            content = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES + 1)
        elif how == "bzip2":
            content = bz2.BZ2File(io.BytesIO(data)).read(MOST_BYTES + 1)
        else:
            content = lzma.LZMADecompressor(memlimit=LZMA_MEMORY).decompress(data, MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{name} cannot be unpacked ({_said(error)}); it is damaged or was cut off.") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"{name} unpacks to more than {MOST_BYTES // 2**20} MB. Take fewer rows or columns.")
    return content


def _zip(path: Path, data: bytes, packed: str, layers: int) -> Found:
    name = shown(path.name)
    with open_zip(data, name) as archive:
        members = members_of(archive, name)
        names = [member.filename for member in members]
        if any(one.endswith(".npy") for one in names):
            return Found(path, "npz", data, packed)
        if "xl/workbook.xml" in names:
            if sum(member.file_size for member in members) > MOST_SHEET_BYTES:
                raise DataError(
                    f"{name} unpacks to more than {MOST_SHEET_BYTES // 2**20} MB of Excel. Save the sheet as .csv,"
                    " which is read much faster."
                )
            return Found(path, "excel", data, packed)
        if "content.xml" in names:
            raise DataError(f"{name} is an OpenDocument file. Save the table as .xlsx or .csv.")
        if any(one.lower().endswith(SUFFIXES) for one in names):
            return Found(path, "pictures", data, packed)
        if len(members) != 1 or layers == MOST_LAYERS:
            raise DataError(
                f"{name} holds {len(members)} files and no images. A .zip holds one table, or one folder of images for"
                " each class."
            )
        return known(path, member_bytes(archive, members[0], MOST_BYTES, name), "zip, " + packed, layers + 1)


def open_zip(data: bytes | IO[bytes], name: str) -> zipfile.ZipFile:
    """Raises DataError for a damaged archive."""
    try:
        return zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data)
    except Exception as error:  # a damaged archive makes its reader raise nearly anything
        raise DataError(f"{name} is damaged or was cut off ({_said(error)}).") from None


def members_of(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The files in an archive that a person put there."""
    if len(archive.infolist()) > MOST_FILES:
        raise DataError(f"{name} holds more than {MOST_FILES:,} files.")
    return [m for m in archive.infolist() if m.filename and not m.is_dir() and not is_hidden(m.filename)]


def member_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, name: str) -> bytes:
    """Raises DataError for a member that is damaged, encrypted or unpacks to more than `most` bytes."""
    where = f"{shown(member.filename)} in {name}"
    try:
        with archive.open(member) as file:
            content = file.read(most + 1)
    except Exception as error:  # as above
        raise DataError(f"{where} cannot be unpacked ({_said(error)}).") from None
    if len(content) > most:
        raise DataError(f"{where} unpacks to more than {most // 2**20} MB.")
    return content


def is_hidden(name: str) -> bool:
    """Whether a program put this file or folder there for itself: .ipynb_checkpoints, ._photo.png, Thumbs.db."""
    parts = name.replace("\\", "/").split("/")
    return any(part.startswith(HIDDEN) for part in parts) or parts[-1].lower() in ("thumbs.db", "desktop.ini")


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that took the file's place since it was looked at must not make us wait."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _said(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())[:100]
