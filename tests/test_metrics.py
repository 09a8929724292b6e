import numpy as np
import pytest

from nllab import metrics
from nllab.errors import ShapeError

MATRIX = np.array([[0.9, 0.1, 0.2], [0.5, 0.8, 0.3], [0.6, 0.9, 0.7]])
VISITS = (0, 1, 2)


def test_three_tasks_by_hand():
    before = MATRIX.copy()
    assert metrics.average_accuracy(MATRIX, VISITS) == pytest.approx((0.6 + 0.9 + 0.7) / 3)
    assert metrics.forgetting(MATRIX, VISITS) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.9)) / 2)
    assert metrics.backward_transfer(MATRIX, VISITS) == pytest.approx(((0.6 - 0.9) + (0.9 - 0.8)) / 2)
    assert metrics.forward_transfer(MATRIX, VISITS, [0.1, 0.2, 0.1]) == pytest.approx(((0.1 - 0.2) + (0.3 - 0.1)) / 2)
    assert np.array_equal(MATRIX, before)


def test_anytime_accuracy_counts_the_tasks_taught_so_far():
    measured = [[0.4, 0.1, 0.2], [0.8, 0.1, 0.2], [0.6, 0.4, 0.2], [0.3, 0.6, 0.9]]
    expected = (0.4 + 0.8 + (0.6 + 0.4) / 2 + (0.3 + 0.6 + 0.9) / 3) / 4
    assert metrics.anytime_accuracy(measured, (0, 0, 1, 2), VISITS) == pytest.approx(expected)
    assert metrics.anytime_accuracy([[0.4, 0.6]], (2,), (0, 1, 0)) == pytest.approx(0.5)
    # Measured at the ends of experiences alone, it is the average incremental accuracy.
    ends = (0.9 + (0.5 + 0.8) / 2 + (0.6 + 0.9 + 0.7) / 3) / 3
    assert metrics.anytime_accuracy(MATRIX, VISITS, VISITS) == pytest.approx(ends)
    assert np.isnan(metrics.anytime_accuracy(np.zeros((0, 3)), (), VISITS))
    with pytest.raises(ShapeError, match="in one of 3 experiences"):
        metrics.anytime_accuracy(measured, (0, 0, 1, 3), VISITS)


def test_the_joint_models_own_drop_is_its_forgetting():
    joint = [
        [0.9, np.nan, np.nan],
        [0.8, 0.7, np.nan],
        [0.75, 0.72, 0.6],
    ]  # row i: a model trained on all tasks up to i
    assert metrics.forgetting(joint, VISITS) == pytest.approx(((0.9 - 0.75) + (0.7 - 0.72)) / 2)


def test_forgetting_is_negative_when_an_old_task_improves():
    assert metrics.forgetting([[0.5, 0.0], [0.8, 0.9]], (0, 1)) == pytest.approx(-0.3)


def test_a_task_that_returns_counts_from_its_first_visit():
    matrix, visits = [[0.9, 0.1], [0.2, 0.8], [0.95, 0.3]], (0, 1, 0)
    assert metrics.two_tasks(matrix, visits) == {"a_after_a": 0.9, "a_after_b": 0.2, "b_after_b": 0.8}
    assert metrics.backward_transfer(matrix, visits) == pytest.approx(((0.95 - 0.9) + (0.3 - 0.8)) / 2)
    assert metrics.forgetting(matrix, visits) == pytest.approx(((0.9 - 0.95) + (0.8 - 0.3)) / 2)
    assert metrics.forward_transfer(matrix, visits, [0.0, 0.0]) == pytest.approx(0.1)


def test_what_is_undefined_is_nan():
    assert np.isnan(metrics.forgetting([[0.9]], (0,)))
    assert np.isnan(metrics.backward_transfer([[0.9]], (0,)))
    assert np.isnan(metrics.forward_transfer([[0.9]], (0,), [0.1]))
    assert np.isnan(metrics.two_tasks(MATRIX, VISITS)["a_after_b"])
    assert np.isnan(metrics.average_accuracy([[0.9, np.nan], [0.8, np.nan]], (0, 1)))


@pytest.mark.parametrize(("matrix", "visits"), [([], ()), ([0.1], (0,)), ([[0.1, 0.2]], (0, 1)), ([[0.1, 0.2]], (2,))])
def test_a_matrix_that_does_not_fit_its_visits_is_refused(matrix, visits):
    with pytest.raises(ShapeError):
        metrics.average_accuracy(matrix, visits)


@pytest.mark.parametrize(
    ("matrix", "visits"), [([[0.9, 0.1, 0.0]] * 2, (0, 1)), ([[0.9, 0.1]] * 2, (1, 0)), ([[0.9]], (0,))]
)
def test_of_other_streams_than_a_and_then_b_all_three_scores_are_undefined(matrix, visits):
    found = metrics.two_tasks(matrix, visits)
    assert set(found) == {"a_after_a", "a_after_b", "b_after_b"} and all(map(np.isnan, found.values()))


@pytest.mark.parametrize(
    ("accuracies", "experiences"),
    [([0.9, 0.1], (0, 0)), ([[0.9, 0.1]], (0, 0)), ([[0.9, 0.1]], (1,)), ([[0.9]], (-1,))],
)
def test_measurements_that_belong_to_no_experience_are_refused(accuracies, experiences):
    with pytest.raises(ShapeError, match="each in one of 1 experiences"):
        metrics.anytime_accuracy(accuracies, experiences, (0,))


def test_the_stability_gap_is_what_comes_back_and_not_what_is_lost():
    # Task 0 falls from 0.9 to 0.3 while task 1 is taught and recovers to 0.8: 0.5 came back, 0.1 is lost.
    measured = [[0.9, 0.1], [0.3, 0.5], [0.8, 0.9]]
    assert metrics.stability_gap(measured, [0, 1, 1], [0, 1]) == pytest.approx(0.5)
    # A fall without recovery is forgetting, a rise is no gap.
    assert metrics.stability_gap([[0.9, 0.1], [0.3, 0.5], [0.2, 0.9]], [0, 1, 1], [0, 1]) == 0
    assert metrics.stability_gap([[0.5, 0.1], [0.6, 0.5], [0.7, 0.9]], [0, 1, 1], [0, 1]) == 0
    # A task that comes again is being taught, and a single task has no switch.
    assert np.isnan(metrics.stability_gap([[0.9], [0.8]], [0, 1], [0, 0]))
    assert np.isnan(metrics.stability_gap([[0.9, 0.0]], [0], [0]))
