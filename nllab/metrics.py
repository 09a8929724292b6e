"""What a stream is scored by: pure functions of the accuracy matrix, one definition each. No torch.

accuracy_matrix[i, j] = accuracy on task j after experience i (0-1; rows are time, columns tasks; NaN where nothing was
measured). visits[i] = the task that experience i taught, so that A -> B -> A is visits (0, 1, 0). A task counts from
its first visit. Everything returns NaN where it is undefined (backward transfer of a single task, forward transfer
without an untrained row).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nllab.errors import ShapeError


def _checked(accuracy_matrix: ArrayLike, visits: Sequence[int]) -> np.ndarray:
    matrix = np.asarray(accuracy_matrix, dtype=float)
    if matrix.ndim != 2 or len(matrix) == 0:
        raise ShapeError(
            f"accuracy_matrix has shape {matrix.shape}; expected (experiences, tasks) with at least one row."
        )
    if len(visits) != len(matrix) or any(not 0 <= task < matrix.shape[1] for task in visits):
        raise ShapeError(
            f"visits {tuple(visits)} must name one of the {matrix.shape[1]} tasks for each of the {len(matrix)}"
            " experiences."
        )
    return matrix


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def first_visits(visits: Sequence[int]) -> dict[int, int]:
    """Task -> the experience that first taught it, in order of first visit.

    ```pycon
    >>> first_visits((0, 1, 0))
    {0: 0, 1: 1}

    ```
    """
    firsts: dict[int, int] = {}
    for experience, task in enumerate(visits):
        firsts.setdefault(task, experience)
    return firsts


def average_accuracy(accuracy_matrix: ArrayLike, visits: Sequence[int]) -> float:
    """Mean over the taught tasks of the final accuracy (ACC of Lopez-Paz & Ranzato 2017, arXiv 1706.08840).

    ```pycon
    >>> average_accuracy([[0.9, 0.1], [0.5, 0.7]], visits=(0, 1))
    0.6

    ```
    """
    matrix = _checked(accuracy_matrix, visits)
    return _mean([matrix[-1, task] for task in first_visits(visits)])


def forgetting(accuracy_matrix: ArrayLike, visits: Sequence[int]) -> float:
    """Mean over tasks first taught before the last experience T of max_{i<T} A[i, j] - A[T, j]; may be negative.

    Source: Chaudhry et al. 2018, arXiv 1801.10112.
    The maximum runs over the rows from the task's first visit up to, not including, the last row. Given the matrix
    whose row i belongs to a model trained jointly on all tasks taught up to i, it is the joint model's own drop: what A
    loses because there is more to tell apart.

    ```pycon
    >>> round(forgetting([[0.9, 0.1], [0.5, 0.7]], visits=(0, 1)), 3)
    0.4

    ```
    """
    matrix = _checked(accuracy_matrix, visits)
    last = len(matrix) - 1
    return _mean(
        [
            np.max(matrix[first:last, task]) - matrix[last, task]
            for task, first in first_visits(visits).items()
            if first < last
        ]
    )


def anytime_accuracy(accuracies: ArrayLike, experiences: Sequence[int], visits: Sequence[int]) -> float:
    """Mean over measurements, taken all along the stream, of the mean accuracy on the tasks taught so far, the present
    one included.

    accuracies (measurements, tasks); experiences[m] = the experience during which measurement m was taken.
    Source: average anytime accuracy, Caccia et al. 2022, arXiv 2104.05025.

    ```pycon
    >>> round(anytime_accuracy([[0.9, 0.1], [0.5, 0.7]], experiences=[0, 1], visits=(0, 1)), 3)
    0.75

    ```
    """
    measured = _measurements(accuracies, experiences, visits)
    return _mean(
        [
            _mean([row[task] for task in first_visits(visits[: e + 1])])
            for row, e in zip(measured, experiences, strict=True)
        ]
    )


def stability_gap(accuracies: ArrayLike, experiences: Sequence[int], visits: Sequence[int]) -> float:
    """How far old tasks fall at a switch and recover: mean over experiences and the other tasks taught before of
    min(accuracy before it, at its end) - least accuracy in between. What does not come back is forgetting.

    accuracies, experiences: as in `anytime_accuracy`.
    Source: the phenomenon, De Lange, van de Ven & Tuytelaars 2023, arXiv 2205.13452.
    Differs from paper: the paper gives the least accuracy itself (min-ACC), which lasting loss lowers as well.

    ```pycon
    >>> round(stability_gap([[0.9, 0.1], [0.4, 0.5], [0.8, 0.7]], experiences=[0, 1, 1], visits=(0, 1)), 3)
    0.4

    ```
    """
    measured = _measurements(accuracies, experiences, visits)
    at, gaps = np.asarray(experiences), []
    for e in sorted({int(e) for e in at}):
        earlier, during = measured[at < e], measured[at == e]
        for task in first_visits(visits[:e]):
            if task != visits[e] and len(earlier):
                kept = min(earlier[-1, task], during[-1, task])
                gaps.append(max(0.0, kept - during[:, task].min()))
    return _mean(gaps)


def _measurements(accuracies: ArrayLike, experiences: Sequence[int], visits: Sequence[int]) -> np.ndarray:
    measured = np.asarray(accuracies, dtype=float)
    if measured.ndim != 2 or len(measured) != len(experiences) or any(not 0 <= e < len(visits) for e in experiences):
        raise ShapeError(
            f"accuracies have shape {measured.shape}; expected (measurements, tasks), each in one of {len(visits)}"
            " experiences."
        )
    return measured


def backward_transfer(accuracy_matrix: ArrayLike, visits: Sequence[int]) -> float:
    """Mean over tasks first taught before the last experience T of A[T, j] - A[first visit of j, j] (Lopez-Paz &
    Ranzato 2017).

    ```pycon
    >>> round(backward_transfer([[0.9, 0.1], [0.5, 0.7]], visits=(0, 1)), 3)
    -0.4

    ```
    """
    matrix = _checked(accuracy_matrix, visits)
    last = len(matrix) - 1
    return _mean(
        [matrix[last, task] - matrix[first, task] for task, first in first_visits(visits).items() if first < last]
    )


def forward_transfer(accuracy_matrix: ArrayLike, visits: Sequence[int], untrained_accuracy: ArrayLike) -> float:
    """Mean over tasks but the first of A[just before the first visit of j, j] - untrained_accuracy[j] (Lopez-Paz &
    Ranzato 2017).

    ```pycon
    >>> round(forward_transfer([[0.9, 0.3], [0.5, 0.7]], visits=(0, 1), untrained_accuracy=[0.1, 0.1]), 3)
    0.2

    ```
    """
    matrix, untrained = _checked(accuracy_matrix, visits), np.asarray(untrained_accuracy, dtype=float)
    if untrained.shape != (matrix.shape[1],):
        raise ShapeError(
            f"untrained_accuracy has shape {untrained.shape}; expected one value for each of the {matrix.shape[1]}"
            " tasks."
        )
    return _mean(
        [matrix[first - 1, task] - untrained[task] for task, first in first_visits(visits).items() if first > 0]
    )


def two_tasks(accuracy_matrix: ArrayLike, visits: Sequence[int]) -> dict[str, float]:
    """a_after_a, a_after_b and b_after_b for a stream of exactly two tasks whose first is A; NaN otherwise or where B
    was never taught.

    ```pycon
    >>> two_tasks([[0.9, 0.1], [0.5, 0.7]], visits=(0, 1))
    {'a_after_a': 0.9, 'a_after_b': 0.5, 'b_after_b': 0.7}

    ```
    """
    matrix = _checked(accuracy_matrix, visits)
    first = first_visits(visits)
    nan = float("nan")
    if matrix.shape[1] != 2 or visits[0] != 0:
        return {"a_after_a": nan, "a_after_b": nan, "b_after_b": nan}
    end_of_a = first.get(1, len(matrix)) - 1
    b = first.get(1)
    return {
        "a_after_a": float(matrix[end_of_a, 0]),
        "a_after_b": nan if b is None else float(matrix[b, 0]),
        "b_after_b": nan if b is None else float(matrix[b, 1]),
    }
