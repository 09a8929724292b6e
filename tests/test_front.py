import pytest
import torch

import nllab
from nllab.errors import SettingError, ShapeError
from nllab.models.front import CELLS, CONTRAST, THRESHOLD, ConvolutionalFront


def by_hand(front, image):
    """One image (H, W), patch by patch."""
    height, width = image.shape
    side = front.side
    weights = front.filters.weight[:, 0]
    answers = torch.zeros(len(weights), height - side + 1, width - side + 1, dtype=image.dtype)
    for i in range(answers.shape[1]):
        for j in range(answers.shape[2]):
            patch = image[i : i + side, j : j + side]
            centred = patch - patch.mean()
            answers[:, i, j] = (weights * centred).sum((1, 2)) / (patch.var(unbiased=False) + CONTRAST).sqrt()
    both = torch.cat([(answers - THRESHOLD).relu(), (-answers - THRESHOLD).relu()])
    return torch.nn.functional.adaptive_avg_pool2d(both, CELLS).flatten()


@pytest.mark.parametrize("shape", [(8, 8), (17, 20)])
def test_the_front_end_is_its_patches_one_by_one(shape):
    torch.manual_seed(0)
    front = ConvolutionalFront(shape, filters=4).double()
    images = torch.randn(3, *shape, dtype=torch.float64)
    assert torch.allclose(
        front(images.flatten(1)), torch.stack([by_hand(front, image) for image in images]), atol=1e-10
    )


def test_brightness_means_nothing_even_for_learned_filters():
    torch.manual_seed(0)
    front = ConvolutionalFront((8, 8), filters=4).double()
    with torch.no_grad():
        front.filters.weight.add_(torch.randn_like(front.filters.weight))
    images = torch.randn(3, 64, dtype=torch.float64)
    assert torch.allclose(front(images), front(images + 5), atol=1e-9)


def test_it_learns_as_a_level_of_its_own_and_its_twin_does_not():
    run = nllab.Trainer(
        nllab.Experiment(front="conv", hidden=16, batch_size=32, evaluate_every=9, periods=(1, 4), input_period=3)
    )
    before = run.model.input.filters.weight.detach().clone()
    for step in range(1, 4):
        run.step()
        assert torch.equal(run.model.input.filters.weight, before) == (step < 3)
    twin = nllab.Trainer(
        nllab.Experiment(front="conv", hidden=16, batch_size=32, evaluate_every=9, periods=(1, 4), frozen=True)
    )
    before = twin.model.input.filters.weight.detach().clone()
    for _ in range(4):
        twin.step()
    assert torch.equal(twin.model.input.filters.weight, before)


def test_an_experiment_says_how_many_filters():
    few, many = (nllab.Trainer(nllab.Experiment(front="conv", hidden=16, filters=count)).model for count in (5, 7))
    assert len(few.input.filters.weight) == 5 and few.head.in_features == 90
    assert len(many.input.filters.weight) == 7 and many.head.in_features == 126


def test_bad_input_is_named():
    with pytest.raises(SettingError, match="filters is 0"):
        nllab.Experiment(front="conv", filters=0)

    with pytest.raises(SettingError, match="front=conv reads images"):
        nllab.Trainer(nllab.Experiment(stream="plane-ab", front="conv"))
    with pytest.raises(SettingError, match="5 x 5"):
        ConvolutionalFront((4, 9))
    with pytest.raises(ShapeError, match=r"\(2, 9\)"):
        ConvolutionalFront((8, 8))(torch.zeros(2, 9))
