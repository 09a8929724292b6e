"""A run on disk: a log that only grows (run_log.py), and files that are replaced whole. No torch.

`events.jsonl` is the run. The files beside it (experiment.json, summary.json) repeat for people what the log says. A
missing one is no loss; one that differs from its hash is named. `checkpoint.safetensors` holds weights, optimizers and
generators to go on from.

While an older run lies in the folder, a new one grows in `next.events.jsonl` and takes its place once it is closed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nllab.errors import RunFormatError, SettingError
from nllab.run_log import AGAIN, LOG, Log, Record, closed_at, closing_line, decode, encode, hash_of

COPIES = ("experiment.json", "summary.json")
CHECKPOINT, LOCK = "checkpoint.safetensors", ".lock"
NEXT = "next."  # in front of the names of a run that is to replace the one that lies there
PROBE_BYTES = 2**16  # written, and taken away again, to see whether a folder takes files
SYNC_SECONDS = 1.0  # how much a power cut may cost; a killed process costs nothing


class StoreError(RunFormatError):
    """A folder that does not take a run: full, read-only, impossible or in use."""


def read(folder: str | Path, *, prefix: str = "") -> Log:
    """The log of the run in a folder, after a look at the files beside it. Raises RunFormatError."""
    folder = Path(folder)
    if not prefix and (complete := closed_at(folder / (NEXT + LOG))):
        return complete  # its writer was killed just before it took its place
    path = folder / (prefix + LOG)
    try:
        data = path.read_bytes()
        while True:
            log = decode(data, str(path))
            wrong = _wrong_file(folder, prefix, log)
            again = path.read_bytes()  # a run that takes this one's place meanwhile brings files of its own
            if again == data or not wrong:
                break
            data = again
    except OSError as error:
        raise RunFormatError(f"{path} cannot be read: {error.strerror}.") from None
    if wrong:
        raise RunFormatError(wrong)
    return log


def _wrong_file(folder: Path, prefix: str, log: Log) -> str | None:
    """What is wrong with the files beside a log, or None."""
    if log.closing is None and not prefix and (folder / "summary.json").exists():
        last = len(log.events) + 1
        return (
            f"{folder / LOG} was cut after line {last}: summary.json is there, and the line that closes the run is"
            f" missing. {AGAIN}"
        )
    for name in COPIES:
        with contextlib.suppress(FileNotFoundError):
            if wrong := wrong_copy(log, name, (folder / name).read_bytes()):
                return f"{folder / name} {wrong}"
    return None


def wrong_copy(log: Log, name: str, content: bytes) -> str | None:
    """What is wrong with a file beside a closed log, or None."""
    files = (log.closing or {}).get("files")
    expected = files.get(name) if isinstance(files, dict) else None
    if expected is None or hash_of(content) == expected:
        return None
    return f"was changed: it is not what {LOG} says of it. {AGAIN}"


def save(folder: str | Path, head: Record, records: Sequence[Record], files: Mapping[str, bytes], **more: Any) -> Path:
    """Write a whole run into a folder, in place of one that may lie there: the older one is there until the new one is.

    files: what lies beside the log, by name; more: what the closing line says further.
    Raises StoreError where the folder is in use, cannot be written or has no room, and nothing has changed then.
    """
    folder = Path(folder)
    with locked(folder), _as_sentence(folder):
        part = folder / (NEXT + LOG)
        closing = closing_line(len(records) + 1, files, **more)
        try:
            with part.open("wb") as file:
                file.writelines(encode([head, *records, closing]))
                os.fsync(file.fileno())
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _take_place(folder, files)
    return folder


def _take_place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let the closed run in `next.events.jsonl` take the place of the one that lies there.

    The files beside the log go first and come last, so that none ever lies beside a log which is not its own."""
    new = folder / (NEXT + CHECKPOINT)
    for name in (*COPIES, "rows.jsonl", *(() if new.exists() else (CHECKPOINT,)), *files):
        (folder / name).unlink(missing_ok=True)
    os.replace(folder / (NEXT + LOG), folder / LOG)
    if new.exists():
        os.replace(new, folder / CHECKPOINT)
    sync_folder(folder)
    for name, content in files.items():
        replace_file(folder / name, content)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the one that is there."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """The same; raises StoreError where that cannot be."""
    with _as_sentence(path.parent):
        replace_file(path, content)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _as_sentence(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(_sentence(folder, error)) from None


def _sentence(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{folder} has no room for a run: {error.strerror}. Make room, or name another folder."
    return f"{folder} does not take a run: {error.strerror or error}. Name a folder that can be written."


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Nobody else writes into this folder, which is made if need be. Raises StoreError where somebody does."""
    folder = Path(folder)
    with _as_sentence(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"{folder} is being written by another process. Name another folder, or wait until that one is done."
            ) from None
    try:
        yield
    finally:
        lock.release()


def check_folder(folder: str | Path) -> None:
    """Raises StoreError where a run could not be written into this folder: read-only, full or impossible.

    Folders that are made on the way stay."""
    folder = Path(folder)
    with _as_sentence(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        try:
            with probe.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


class Writer:
    """A run that is written while it happens.

    `append` never raises for a disk that fails: lines wait in memory, `problem` says why, and every later call tries
    again. An interrupted run is gone on with by giving the same events once more: as far as the log has them already
    they are compared, not written.

    Raises StoreError where the folder does not take a run or somebody else writes there; RunFormatError where what is
    to be gone on with is damaged; SettingError where that is another run.
    """

    def __init__(self, folder: str | Path, head: Record, *, resume: bool = False) -> None:
        self.folder = Path(folder)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(locked(self.folder))
        self.problem: str | None = None
        self._file = -1
        self._waiting: list[bytes] = []
        self._synced = time.monotonic()
        try:
            check_folder(self.folder)
            self._begin(head, resume)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, head: Record, resume: bool) -> None:
        if closed_at(self.folder / (NEXT + LOG)):
            with _as_sentence(self.folder):
                _take_place(self.folder, {})
        older = (self.folder / LOG).exists() or (self.folder / "rows.jsonl").exists()
        ours = unfinished(self.folder)
        if resume and ours is None:
            raise SettingError(f"There is no interrupted run in {self.folder} to go on with.")
        self.prefix = ours if ours is not None else NEXT if older else ""
        if ours is not None and not resume:
            raise SettingError(
                f"{self.folder} holds a run that was interrupted. Go on with it by --resume, or name another folder."
            )
        self.path = self.folder / (self.prefix + LOG)
        self.log: Log | None = None  # what is gone on with
        self.told: list[Record] = []  # its events
        self.sums: list[str] = []
        size = 0
        if resume:
            log = self.log = read(self.folder, prefix=self.prefix)
            for key in head.keys() | log.head.keys():
                if head.get(key) != log.head.get(key) and key not in FREE:
                    raise SettingError(
                        f"{self.path} holds another run: its {key} differs. Go on with the settings that it began with."
                    )
            self.told, self.sums, size = log.records, log.sums, log.size
        self.lines = 0  # events given so far
        with _as_sentence(self.folder):
            if not resume:
                (self.folder / (self.prefix + CHECKPOINT)).unlink(missing_ok=True)
                self._queue([head])
                first = self._waiting.pop()
                replace_file(self.path, first)
                size = len(first)
            self._file = os.open(self.path, os.O_RDWR)
            os.ftruncate(self._file, size)
            os.lseek(self._file, size, os.SEEK_SET)
            self._size = size

    def append(self, records: Iterable[Record]) -> None:
        """Write these events; those that the log has already must be the same. Raises RunFormatError where they are
        not: then the run cannot be gone on with on this machine."""
        fresh = []
        for record in records:
            if self.lines < len(self.told):
                expected = self.told[self.lines]
                if json.loads(json.dumps(record)) != expected:
                    raise RunFormatError(
                        f"{self.path}: line {self.lines + 2} says something else than training gives now. The run began"
                        " with other data, another version or on another machine, and cannot be gone on with here."
                    )
            else:
                fresh.append(record)
            self.lines += 1
        if fresh:
            self._queue(fresh)
            self._write()

    @property
    def last_sum(self) -> str:
        """Of the event that was given last; identifies the run up to here."""
        return self.sums[self.lines]

    def sum_at(self, lines: int) -> str | None:
        """The sum after so many events, as far as the log goes."""
        return self.sums[lines] if 0 <= lines < len(self.sums) else None

    def skip(self, lines: int) -> None:
        """Go on behind the first `lines` events, which are in the log already."""
        self.lines = lines

    def _queue(self, records: Iterable[Record]) -> None:
        for line in encode(records, self.sums[-1] if self.sums else ""):
            self.sums.append(line[-19:-3].decode())
            self._waiting.append(line)

    def _write(self) -> None:
        if not self._waiting:
            return
        try:
            self._restore_if_gone()
            data = memoryview(b"".join(self._waiting))
            size = self._size
            while data:
                count = os.write(self._file, data)
                data = data[count:]
                size += count
        except OSError as error:
            self.problem = _sentence(self.folder, error)
            with contextlib.suppress(OSError):  # no half line stays
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
            return
        self._size, self._waiting, self.problem = size, [], None
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def _restore_if_gone(self) -> None:
        """Where somebody took the file away, or its folder, write it anew: what it held can still be read."""
        try:
            there, ours = os.stat(self.path), os.fstat(self._file)
            if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
                return
        except FileNotFoundError:
            pass
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, os.pread(self._file, self._size, 0))
        anew = os.open(self.path, os.O_RDWR)
        os.lseek(anew, self._size, os.SEEK_SET)
        os.close(self._file)
        self._file = anew

    def sync(self) -> None:
        """Have all that was written on the disk, whatever becomes of the machine."""
        self._synced = time.monotonic()
        with contextlib.suppress(OSError):
            os.fsync(self._file)

    def keep(self, checkpoint: bytes) -> None:
        """Replace the checkpoint; one that finds no room leaves the one before."""
        self._write()
        self.sync()
        try:
            replace_file(self.folder / (self.prefix + CHECKPOINT), checkpoint)
        except OSError as error:
            self.problem = _sentence(self.folder, error)

    def checkpoint(self) -> bytes | None:
        """The bytes of the checkpoint on disk; None where there is none."""
        with contextlib.suppress(OSError):
            return (self.folder / (self.prefix + CHECKPOINT)).read_bytes()
        return None

    def close(self, files: Mapping[str, bytes], **more: Any) -> None:
        """Close the run; it takes the place of an older one. Raises StoreError where it cannot be written; what the
        log has stays there, and can be gone on with."""
        try:
            if len(self.told) > self.lines:
                raise RunFormatError(f"{self.path}: it goes on behind the end of the run. {AGAIN}")
            self._queue([closing_line(self.lines + 1, files, **more)])
            self._write()
            if self.problem:
                raise StoreError(self.problem)
            with _as_sentence(self.folder):
                self._restore_if_gone()
                os.fsync(self._file)
                if self.prefix:
                    _take_place(self.folder, files)
                else:
                    for name, content in files.items():
                        replace_file(self.folder / name, content)
        finally:
            self.leave()

    def leave(self) -> None:
        """Stop writing, and let others: the run stays interrupted."""
        if self._file >= 0:
            self._write()
            self.sync()
            os.close(self._file)
            self._file = -1
            self._lock.close()


FREE = ("nllab",)  # what may differ between a run and its continuation


def unfinished(folder: str | Path) -> str | None:
    """The prefix of the interrupted run in a folder, or None where there is none. Raises RunFormatError for a damaged
    one."""
    folder = Path(folder)
    for prefix in (NEXT, ""):
        if (folder / (prefix + LOG)).exists() and not read(folder, prefix=prefix).is_closed:
            return prefix
    return None
