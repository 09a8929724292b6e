"""The live runs of a server on disk, while they go on: after a crash they are there. No torch.

Each run that has taken a step lies in a folder of its own, `run-ID.GENERATION`, written as store.py says. A reset
begins another one; a rewind writes the run anew as far as it is left.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nllab import run_io, run_log, store
from nllab.errors import NllabError
from nllab.events import jsonable
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.streams import OWN

if TYPE_CHECKING:
    from nllab.live import LiveRun

EVERY = 0.5  # seconds between two looks at the runs; a crash costs what was trained in between
TIDY_EVERY = 30.0  # seconds between two looks at the size of the folder
MOST_BYTES, MOST_RUNS = 2**29, 200
NAME = re.compile(r"run-([\w-]{1,40})\.(\d{1,6})")
TAIL_BYTES = 2**16  # of a log, to find its last step


@dataclass(frozen=True)
class Kept:
    """A run on disk. id: of the live run that it was; time: of its last event, in seconds of Unix."""

    id: str
    path: Path
    experiment: Experiment
    steps: int
    time: float


class Keeper:
    """Writes what the runs that it is shown have done since the last time; the folder keeps the newest runs, at most
    `most_bytes` and `most_runs` of them.

    A disk that fails never reaches a training: `problem` says what is wrong, and every later look tries again.
    Raises StoreError where the folder cannot be written from the beginning.
    """

    def __init__(self, folder: str | Path, *, most_bytes: int = MOST_BYTES, most_runs: int = MOST_RUNS) -> None:
        self.folder, self.most_bytes, self.most_runs = Path(folder), most_bytes, most_runs
        self.problem: str | None = None
        self._writers: dict[str, tuple[Run, store.Writer]] = {}  # id of the live run -> what is written of it
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        store.check_folder(self.folder)

    def look(self, runs: Iterable[LiveRun]) -> None:
        """Write what is new; close what is no longer among the runs."""
        with self._looking:
            there = {run.id: run for run in runs}
            for id in self._writers.keys() - there.keys():
                self._close(id)
            for live in there.values():
                try:
                    self._write(live)
                except NllabError as error:
                    self.problem = str(error)
                except Exception as error:  # the other runs are written all the same
                    self.problem = f"{type(error).__name__}: {str(error)[:200]}"

    def _write(self, live: LiveRun) -> None:
        run = live.run
        known = self._writers.get(live.id)
        if known and known[0] is not run:
            undone = len(run.log) and run.log[0] is known[0].log[0]  # by a rewind: what is left of it is written anew
            self._close(live.id)
            if undone:
                shutil.rmtree(known[1].folder, ignore_errors=True)
            known = None
        if known is None:
            if not run.steps or run.experiment.stream.partition(":")[0] in OWN:  # somebody's files leave no copy here
                return
            writer = store.Writer(self.folder / f"run-{live.id}.{live.generation}", run_io.head(run))
            known = self._writers[live.id] = run, writer
        writer = known[1]
        writer.append(map(jsonable, run.log[writer.lines :]))
        self.problem = writer.problem

    def _close(self, id: str) -> None:
        run, writer = self._writers.pop(id)
        try:
            writer.append(map(jsonable, run.log[writer.lines :]))
            writer.close(run_io.copies(run), bytes_kept=run.bytes_kept)
        except NllabError as error:
            self.problem = str(error)

    def tidy(self) -> None:
        """Remove the oldest runs that nobody writes, until the others are within the limits."""
        folders = sorted(_folders(self.folder), key=_time)
        sizes = {folder: sum(_size(file) for file in folder.iterdir()) for folder in folders}
        own = {writer.folder for _, writer in self._writers.values()}
        for folder in folders:
            if len(sizes) <= self.most_runs and sum(sizes.values()) <= self.most_bytes:
                return
            if folder in own:
                continue
            with suppress(store.StoreError), store.locked(folder):  # another server may be writing it
                shutil.rmtree(folder, ignore_errors=True)
                del sizes[folder]

    def watch(self, runs: Callable[[], Sequence[LiveRun]]) -> None:
        """Look at these runs for ever, in a thread of its own."""

        def look_for_ever() -> None:
            tidied = 0.0
            while not self._stopping.wait(EVERY):
                with suppress(OSError):
                    self.look(runs())
                    if time.monotonic() - tidied > TIDY_EVERY:
                        tidied = time.monotonic()
                        self.tidy()

        threading.Thread(target=look_for_ever, name="keeper", daemon=True).start()

    def close(self) -> None:
        """Write what is left, and let go of the folder."""
        self._stopping.set()
        with self._looking:
            for id in list(self._writers):
                self._close(id)

    def offered(self, ids: Sequence[str] | None = None) -> list[Kept]:
        """What lies there and does not go on in this server, the newest first; ids: of these live runs alone. A folder
        that holds no run that can be read is left out."""
        with self._looking:
            own = {writer.folder for _, writer in self._writers.values()}
        runs = []
        for folder in sorted(_folders(self.folder), key=_time, reverse=True):
            match = NAME.fullmatch(folder.name)
            assert match
            if folder in own or ids is not None and match[1] not in ids:
                continue
            with suppress(OSError, ValueError, KeyError, TypeError, NllabError):
                with (folder / run_log.LOG).open("rb") as file:
                    head = json.loads(file.readline(run_log.MOST_LINE_BYTES))
                    file.seek(max(file.tell(), (folder / run_log.LOG).stat().st_size - TAIL_BYTES))
                    steps = re.findall(rb'"step":(\d{1,9})[,}]', file.read())
                experiment = Experiment(**head["experiment"])
                runs.append(Kept(match[1], folder, experiment, int(steps[-1]), _time(folder)))
        return runs


def _folders(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if NAME.fullmatch(one.name) and one.is_dir()]
    except OSError:
        return []


def _time(folder: Path) -> float:
    with suppress(OSError):
        return (folder / run_log.LOG).stat().st_mtime
    return 0.0


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
