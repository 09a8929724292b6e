import pytest

from nllab import budget
from nllab.errors import SettingError
from nllab.experiment import Experiment

SMALL = Experiment.preset("digits-ab")
HUGE = SMALL.but(dim=4096, hidden=8192, periods=(1,) * 8)


def test_a_run_that_does_not_fit_is_refused_before_anything_of_its_size_is_made():
    with pytest.raises(SettingError, match=r"need about \d+\.\d GB of memory.*Lower dim"):
        budget.check(HUGE)
    assert budget.check(SMALL) < 100 * 2**20


def test_all_runs_together_have_a_limit(monkeypatch):
    monkeypatch.setenv("NLLAB_ALL_MB", "100")
    with pytest.raises(SettingError, match="the runs on this server take 100 MB of 100 MB"):
        budget.check(SMALL, 100 * 2**20)


def test_the_estimate_by_hand():
    experiment = SMALL.but(model="mlp", dim=32)
    weights = 64 * 32 + 32 + 32 * 10 + 10
    memory = 2 * (65**2 + 33**2)
    assert budget.bytes_of(experiment) == 4 * (14 * weights + 3 * memory)
    assert budget.bytes_of(experiment.but(seed=5)) == budget.bytes_of(experiment)
