import numpy as np

from tests.course.wrong import wrong


@wrong("01.1")
def best_over_all_rows(matrix, visits):
    last = len(matrix) - 1
    falls = [matrix[visits.index(t) :, t].max() - matrix[last, t] for t in set(visits) if visits.index(t) < last]
    return float(np.mean(falls)) if falls else float("nan")


@wrong("01.1")
def just_after_learning_in_place_of_the_best(matrix, visits):
    last = len(matrix) - 1
    falls = [matrix[visits.index(t), t] - matrix[last, t] for t in set(visits) if visits.index(t) < last]
    return float(np.mean(falls)) if falls else float("nan")


@wrong("01.1")
def counts_the_last_task_as_well(matrix, visits):
    last = len(matrix) - 1
    falls = [matrix[visits.index(t) : last + 1, t].max() - matrix[last, t] for t in set(visits)]
    return float(np.mean(falls))


@wrong("01.1")
def zero_where_there_is_nothing(matrix, visits):
    last = len(matrix) - 1
    falls = [matrix[visits.index(t) : last, t].max() - matrix[last, t] for t in set(visits) if visits.index(t) < last]
    return float(np.mean(falls)) if falls else 0.0


@wrong("01.1")
def every_task_from_the_first_row_on(matrix, visits):
    last = len(matrix) - 1
    falls = [matrix[:last, t].max() - matrix[last, t] for t in set(visits) if visits.index(t) < last]
    return float(np.mean(falls)) if falls else float("nan")


def interval(differences, quantile, ddof=1):
    n = len(differences)
    return float(np.mean(differences)), float(quantile * np.std(differences, ddof=ddof) / np.sqrt(n))


@wrong("01.2")
def normal_in_place_of_student(first, second):
    return interval(np.subtract(first, second), 1.96)


@wrong("01.2")
def the_two_groups_apart(first, second):
    mean = np.mean(first) - np.mean(second)
    return float(mean), float(2 * np.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second)))


@wrong("01.2")
def standard_deviation_in_place_of_the_half_width(first, second):
    differences = np.subtract(first, second)
    return float(differences.mean()), float(differences.std(ddof=1))


@wrong("01.2")
def divides_by_n(first, second):
    from scipy import stats

    return interval(np.subtract(first, second), stats.t.ppf(0.975, len(first) - 1), ddof=0)


@wrong("01.3")
def the_same_matrix_twice(average):
    matrix = np.array([[min(average + 0.2, 1.0), 0.0], [average, average]])
    return matrix, matrix


@wrong("01.3")
def average_over_the_whole_matrix(average):
    forgets = np.array([[2 * average, 0.0], [average, average]])
    return forgets, np.array([[0.0, 2 * average], [0.0, 2 * average]])


@wrong("01.3")
def in_the_other_order(average):
    forgets = np.array([[min(average + 0.2, 1.0), 0.0], [average, average]])
    gains = np.array([[max(average - 0.2, 0.0), 0.0], [average, average]])
    return gains, forgets


@wrong("01.3")
def accuracies_above_one(average):
    return np.array([[2.0, 0.0], [average, average]]), np.array([[-1.0, 0.0], [average, average]])
