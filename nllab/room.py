"""A class that predicts and trains together: everybody has a seed and a prediction, and all curves are one band. No
torch, knows no user interface."""

from __future__ import annotations

import math
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nllab.errors import SettingError, check_number
from nllab.experiment import Experiment
from nllab.workers import Job, Pool

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that is easily taken for another
MOST_ROOMS, MOST_STUDENTS = 20, 60
ROOM_SECONDS = 4 * 3600.0  # since somebody last looked, after which a room is closed
BINS = 10


@dataclass(eq=False)
class Student:
    """A student of a room and what they have done in it."""

    id: str
    seed: int
    prediction: float | None = None
    job: Job | None = None


@dataclass(eq=False)
class Room:
    """code: what students join with; key: what shows that somebody is its teacher; experiment: everybody's, but for the
    seed."""

    code: str
    key: str
    experiment: Experiment
    pool: Pool
    students: dict[str, Student] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self) -> Student:
        """A new student, with the next seed. Raises SettingError where the room is full."""
        with self.lock:
            if len(self.students) >= MOST_STUDENTS:
                raise SettingError(f"{MOST_STUDENTS} students are in this room, which is as many as it takes.")
            student = Student(secrets.token_urlsafe(12), self.experiment.seed + len(self.students))
            self.students[student.id] = student
            return student

    def predict(self, student: Student, value: float) -> None:
        """What the accuracy on the first task will be at the end. Raises SettingError once training has begun, or for
        what is no accuracy."""
        check_number("The prediction, an accuracy,", value, "[0, 1]")
        if student.job is not None:
            raise SettingError("The training has begun, so the prediction stands.")
        student.prediction = float(value)

    def train(self, student: Student) -> Job:
        """The student's training, in line. Raises SettingError without a prediction, or where one is under way."""
        if student.prediction is None:
            raise SettingError("Predict first.")
        if student.job is not None and student.job.error is None:
            raise SettingError("This network has been trained already, or is in line.")
        student.job = self.pool.submit(f"{self.code}/{student.id}", self.experiment.but(seed=student.seed))
        return student.job

    @property
    def predictions(self) -> list[float]:
        """What the students predicted, in the order in which they came."""
        return [student.prediction for student in list(self.students.values()) if student.prediction is not None]

    @property
    def jobs(self) -> list[Job]:
        """The trainings of the students that have begun."""
        return [student.job for student in list(self.students.values()) if student.job]

    @property
    def results(self) -> list[float]:
        """The accuracy on the first task at the end, of every training that is over."""
        return [job.curve[-1][1][job.tasks[0]] for job in self.jobs if job.summary is not None and job.curve]


class Rooms:
    """All rooms of a server. A room that nobody has looked into for hours is closed."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self.pool, self.clock = pool, clock
        self._rooms: dict[str, Room] = {}
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def open(self, experiment: Experiment) -> Room:
        """Raises SettingError where there are as many rooms as may be."""
        with self._lock:
            for code in [code for code, seen in self._seen.items() if self.clock() - seen > ROOM_SECONDS]:
                del self._rooms[code], self._seen[code]
            if len(self._rooms) >= MOST_ROOMS:
                raise SettingError(f"{MOST_ROOMS} rooms are open on this server, which is its limit.")
            code = "".join(secrets.choice(LETTERS) for _ in range(8))
            room = self._rooms[code] = Room(code, secrets.token_urlsafe(12), experiment, self.pool)
            self._seen[code] = self.clock()
            return room

    def get(self, code: str) -> Room | None:
        """The room of this code, however it is spelled."""
        code = "".join(letter for letter in code.upper()[:20] if letter in LETTERS)
        with self._lock:
            if code in self._rooms:
                self._seen[code] = self.clock()
            return self._rooms.get(code)


def histogram(values: Sequence[float]) -> list[int]:
    """How many of these accuracies lie in each tenth; 1 belongs to the last."""
    counts = [0] * BINS
    for value in values:
        counts[min(int(value * BINS), BINS - 1)] += 1
    return counts


def band(jobs: Sequence[Job], task: str) -> list[dict[str, float]]:
    """All curves of one task as a band: at every step at which something was measured, how many networks, their mean
    accuracy, and mean - std and mean + std (of the sample; the mean itself where there is one) within [0, 1]."""
    at: dict[int, list[float]] = {}
    for job in jobs:
        for step, accuracy in list(job.curve):
            if task in accuracy:
                at.setdefault(step, []).append(accuracy[task])
    points = []
    for step in sorted(at):
        values = at[step]
        mean = math.fsum(values) / len(values)
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        low, high = max(0.0, mean - std), min(1.0, mean + std)
        points.append({"step": step, "count": len(values), "mean": mean, "low": low, "high": high})
    return points
