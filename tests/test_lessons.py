import matplotlib.pyplot as plt
import numpy as np
import pytest

from nllab import figures
from nllab.experiment import Experiment
from nllab.lessons import check, still
from nllab.trainer import train


@pytest.mark.parametrize("name", figures.FIGURES)
def test_still_draws_the_very_curves_of_the_live_figure(name):
    run = train(Experiment.preset("digits-ab", dim=16, hidden=16, batch_size=80))
    spec = figures.draw(name, run)
    fig, axes = plt.subplots()
    still(name, run, axes)
    fig.canvas.draw()
    curves, drawn = spec["data"][:-1], axes.get_lines()
    for curve, line in zip(curves, drawn, strict=False):
        assert line.get_label() == curve["name"] and line.get_color() == curve["line"]["color"]
        assert np.array_equal(line.get_xydata(), np.array([curve["x"], curve["y"]], dtype=float).T, equal_nan=True)
    assert len(drawn) - len(curves) == len(spec["layout"]["shapes"])
    assert set(spec["data"][-1]["text"]) <= {text.get_text() for text in axes.texts}
    plt.close(fig)


def test_check_can_fail(capsys):
    check(..., lambda a: a == 2, "Count again.")
    assert "Your turn" in capsys.readouterr().out
    check(2, lambda a: a == 2, "Count again.", prediction=3)
    assert capsys.readouterr().out == "Right. You predicted 3.\n"
    for wrong in (3, None, "two"):
        with pytest.raises(AssertionError, match="Not yet. Count again"):
            check(wrong, lambda a: a + 0 == 2, "Count again.")
