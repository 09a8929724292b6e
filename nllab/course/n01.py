"""Exercises of notebook 01, forgetting measured."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nllab import metrics
from nllab.course.exercise import Answer, Draw, Wrong, described, exercise
from nllab.summary import paired_difference

EDITION = 1


@exercise(
    "01.1",
    "code",
    hints=(
        "Go through the tasks that were taught before the last experience; visits.index(task) is a task's first row.",
        "For each of them the best accuracy is the largest in its column from its first row up to, not including, the"
        " last row.",
        "Average best - last over those tasks; with none there is nothing to average, so return NaN.",
    ),
    solution="""
import numpy as np


def forgetting(matrix, visits):
    last = len(matrix) - 1
    falls = []
    for task in set(visits):
        first = visits.index(task)
        if first < last:
            falls.append(matrix[first:last, task].max() - matrix[last, task])
    return float(np.mean(falls)) if falls else float("nan")
""",
)
def forgetting(f: Answer, draw: Draw) -> None:
    """forgetting(matrix, visits): mean fall from the best row before the last, tried against `metrics.forgetting`."""
    for trial in range(20):
        rows = 1 if trial == 0 else draw.whole(2, 3 if trial < 6 else 6)
        tasks = draw.whole(1, 4)
        visits = [draw.whole(0, tasks - 1) for _ in range(rows)]
        matrix = draw.numpy.random((rows, tasks)).round(2)
        want = metrics.forgetting(matrix, visits)
        called = f.number(matrix, list(visits), nan=True)
        if len(set(visits[:-1])) == 0 or math.isnan(want):
            f.expect(math.isnan(called), f"With visits {visits} no task was taught before the last: NaN is wanted.")
            continue
        f.expect(not math.isnan(called), f"With visits {visits} there is a number to give, not NaN.")
        f.close(called, want, f"For the visits {visits} this is not the mean fall from the best row before the last.")
        f.close(f.number(matrix + 0.1, list(visits)), want, "Adding 0.1 to every accuracy should change nothing.")
    risen = np.array([[0.2, 0.0], [0.7, 0.9]])
    f.close(f.number(risen, [0, 1]), -0.5, "A task that has risen since has negative forgetting.")


@exercise(
    "01.2",
    "code",
    hints=(
        "Pair them seed by seed: all that counts are the differences first[i] - second[i].",
        "The half width is t * s / sqrt(n): s is the standard deviation with n - 1 in its denominator.",
        "scipy.stats.t.ppf(0.975, n - 1) is the t of a 95 % interval.",
    ),
    solution="""
import numpy as np


def paired_interval(first, second):
    from scipy import stats
    differences = np.asarray(first) - np.asarray(second)
    n = len(differences)
    half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return float(differences.mean()), float(half)
""",
)
def paired_interval(f: Answer, draw: Draw) -> None:
    """paired_interval(first, second): mean and half width of the 95 % interval of their differences, tried against
    `paired_difference`, with the pairs in other orders and the two exchanged."""

    def both(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
        result = f(*(np.asarray(scores).tolist() for scores in (first, second)))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} returned {described(result)}; two numbers are wanted, the mean and the half width.")
        try:
            mean, half = (float(value) for value in result)
        except (TypeError, ValueError):
            raise Wrong(f"{f.last} returned {described(result)}; two numbers are wanted.") from None
        return mean, half

    for trial in range(12):
        count = trial + 2 if trial < 3 else draw.whole(3, 12)
        base = draw.numpy.normal(0.8, 0.1, count)
        first = base + draw.numpy.normal(0.02, 0.02, count)
        want = paired_difference(list(first), list(base))
        assert want is not None
        mean, half = both(first, base)
        f.close(mean, want["mean"], "The mean of the differences is another one.", atol=1e-6)
        f.close(half, want["half_width"], f"The half width of the 95 % interval of {count} pairs is another one.")
        order = draw.numpy.permutation(count)
        f.close(both(first[order], base[order]), (mean, half), "The order of the seeds should not matter.")
        f.close(both(base, first), (-mean, half), "Exchanged, the mean should change its sign and nothing else.")


@exercise(
    "01.3",
    "explain",
    hints=(
        "Both matrices are 2 x 2: the first row after A, the second after B. The average is of the second row.",
        "Forgetting is matrix[0, 0] - matrix[1, 0]. The first row may be what you like: A before B may be high or low.",
        "Let both have the same second row, [average, average]; in one A stood above it after A, in the other below.",
    ),
    solution="""
import numpy as np


def same_average(average):
    last = [average, average]
    forgets = np.array([[min(average + 0.2, 1.0), 0.0], last])
    gains = np.array([[max(average - 0.2, 0.0), 0.0], last])
    return forgets, gains
""",
)
def same_average(f: Answer, draw: Draw) -> None:
    """same_average(average): two matrices (2, 2) of this average accuracy; the first forgets, the second gains."""
    for _ in range(6):
        average = round(draw.uniform(0.25, 0.75), 2)
        result = f(average)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} should return two matrices.")
        try:
            pair = [np.asarray(matrix, dtype=float) for matrix in result]
        except (TypeError, ValueError):
            raise Wrong(f"{f.last} should return two arrays of numbers, not {described(result)}.") from None
        for matrix in pair:
            f.expect(matrix.shape == (2, 2), f"Each matrix should be 2 x 2; one has shape {matrix.shape}.")
            f.expect(bool(((matrix >= 0) & (matrix <= 1)).all()), "Accuracies lie between 0 and 1.")
            f.close(metrics.average_accuracy(matrix, (0, 1)), average, "The average at the end is another one.")
        falls = [metrics.forgetting(matrix, (0, 1)) for matrix in pair]
        f.expect(
            falls[0] > 0.1 and falls[1] < -0.1,
            "The first should have forgotten by more than 0.1, the second gained by more than 0.1; their forgetting is"
            f" {falls[0]:.2f} and {falls[1]:.2f}.",
        )
