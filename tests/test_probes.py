"""What is measured on a model, against its definition."""

import math

import pytest
import torch
from torch import nn

from nllab import probes
from nllab.streams.stream import IGNORE, Part


class Table(nn.Module):
    """The scores of each input are written down: a row for each index. Counts how many inputs come at once."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.at_once = nn.Parameter(torch.tensor(scores)), []

    def forward(self, inputs):
        self.at_once.append(len(inputs))
        return self.scores[inputs.long().flatten()].view(*inputs.shape[:2], -1).squeeze(1)


def test_accuracy_is_the_share_of_asked_labels_with_the_highest_score():
    model = Table([[0.1, 0.9, 0.0], [0.5, 0.4, 0.1], [0.0, 0.2, 0.3]])
    part = Part(torch.tensor([[0.0], [1.0], [2.0], [0.0]]), torch.tensor([1, 1, 2, 0]))
    assert probes.accuracy(model, part) == 0.5
    many = Part(torch.zeros(2500, 1), torch.tensor([1] * 2000 + [0] * 500))
    assert probes.accuracy(model, many) == 0.8 and max(model.at_once) == 1000
    assert math.isnan(probes.accuracy(model, part[:0]))
    assert probes.answers(model, part.inputs) == [1, 0, 2, 1]


def test_what_is_not_asked_counts_neither_right_nor_wrong():
    model = Table([[0.0, 1.0], [1.0, 0.0]])
    tokens = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([[1, IGNORE, 0], [IGNORE, 0, 1]])
    assert probes.accuracy(model, Part(tokens, labels)) == 0.75


def test_the_size_of_a_gradient_is_that_of_all_parameters_that_have_one():
    with_gradient, without = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    other = nn.Parameter(torch.zeros(1))
    with_gradient.grad, other.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert probes.gradient_norm([with_gradient, without, other]) == pytest.approx(5)
    assert probes.gradient_norm([without]) == 0


def test_a_coarse_picture_is_the_root_mean_square_of_its_blocks():
    matrix = torch.tensor([[1.0, -1.0, 2.0, 2.0], [1.0, 1.0, -2.0, 4.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 4.0]])
    found = probes.coarse(matrix, 2)
    assert found.flatten().tolist() == pytest.approx([1, 7**0.5, 0, 2.5])
    assert probes.coarse(torch.ones(3, 20)).shape == (3, probes.GRID)


def test_the_grid_of_the_plane_runs_row_by_row_from_the_bottom():
    points = probes.plane(-1, 1, 0, 4, size=3)
    assert points.tolist() == [[x, y] for y in (0, 2, 4) for x in (-1, 0, 1)]


def test_images_are_written_from_the_darkest_to_the_brightest_pixel_of_all():
    assert probes.in_hex(torch.tensor([[-1.0, 1.0], [0.0, -0.2]])) == ["0f", "86"]
    assert probes.in_hex(torch.zeros(1, 3)) == ["000"]


def moved(*values):
    return nn.Parameter(torch.tensor(values))


def test_movement_is_measured_from_where_it_began_and_from_the_last_mark():
    weight, bias = moved(3.0, 4.0), moved(0.0)
    movement = probes.Movement([weight, bias])
    assert movement.observe() == (False, 0.0) and movement.writes == 0
    with torch.no_grad():
        weight += torch.tensor([0.0, 1.0])
    assert movement.observe() == (True, pytest.approx(1.0)) and movement.drift == pytest.approx(1 / 5)
    movement.mark()
    assert movement.drift_since_mark == 0
    with torch.no_grad():
        bias += 2.0
    assert movement.observe() == (True, pytest.approx(2.0)) and movement.writes == 2
    assert movement.drift == pytest.approx(5**0.5 / 5)
    assert movement.drift_since_mark == pytest.approx(2 / 34**0.5)
    assert movement.observe() == (False, 0.0) and movement.writes == 2


def test_what_began_at_zero_has_the_distance_itself_for_a_drift():
    head = moved(0.0, 0.0)
    movement = probes.Movement([head])
    with torch.no_grad():
        head += torch.tensor([0.6, 0.8])
    movement.observe()
    assert movement.drift == pytest.approx(1.0)
    empty = probes.Movement([])
    assert empty.observe() == (False, 0.0) and empty.where() == []


def test_where_weights_moved_is_relative_to_what_they_were():
    matrix, bias = nn.Parameter(torch.full((2, 2), 2.0)), moved(1.0)
    movement = probes.Movement([bias, matrix])
    with torch.no_grad():
        matrix[0, 1] += 1.0
    assert movement.where() == [[[0.0, 0.5], [0.0, 0.0]]]
    zero = nn.Parameter(torch.zeros(1, 2))
    from_zero = probes.Movement([zero])
    with torch.no_grad():
        zero[0, 1] = 0.12345
    assert from_zero.where() == [[[0.0, 0.123]]]


def test_a_movement_goes_on_where_it_was_saved():
    weight = moved(1.0, 2.0)
    movement = probes.Movement([weight])
    with torch.no_grad():
        weight += 1
    movement.observe()
    movement.mark()
    again = probes.Movement([weight])
    again.restore(movement.state())
    with torch.no_grad():
        weight += 1
    assert again.observe() == movement.observe() and again.state().keys() == movement.state().keys()
    assert (again.writes, again.drift, again.drift_since_mark) == (2, movement.drift, movement.drift_since_mark)


def test_a_text_goes_on_with_the_highest_score_up_to_its_end_or_its_length():
    class Next(nn.Module):  # after class c comes c + 1, up to 3; then the end. It sees two classes.
        def __init__(self):
            super().__init__()
            self.own, self.seen = nn.Parameter(torch.zeros(1)), []

        def forward(self, inputs):
            last = inputs.view(len(inputs), 2, 4)[:, 1].argmax(-1)
            self.seen.append(len(inputs))
            return nn.functional.one_hot((last + 1) % 4, 4).float() + self.own

    model = Next()
    assert probes.continued(model, [[1], [1, 2, 3], []], 4, 2) == [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert model.seen == [3, 2, 2, 1]  # whoever is finished is asked no more
    assert probes.continued(model, [[2]], 4, 2, longest=1) == [[2]] and model.training
