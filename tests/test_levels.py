from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllab.errors import SettingError
from nllab.levels import Level, Schedule, assign

NAMES = [
    "input.weight",
    "input.bias",
    "blocks.0.up.weight",
    "blocks.0.down.weight",
    "blocks.10.up.weight",
    "head.weight",
]


def test_the_complete_schedule_by_hand():
    schedule = Schedule({"fast": 1, "medium": 4, "slow": 16})
    written = {name: [i for i in range(0, 33) if name in schedule.due(i)] for name in schedule.periods}
    assert written == {"fast": list(range(1, 33)), "medium": [4, 8, 12, 16, 20, 24, 28, 32], "slow": [16, 32]}


@given(st.integers(1, 50), st.integers(0, 300))
def test_writes_are_floor_of_steps_over_period(period, steps):
    schedule = Schedule({"level": period})
    assert schedule.writes("level", steps) == [i for i in range(steps + 1) if "level" in schedule.due(i)]
    assert len(schedule.writes("level", steps)) == steps // period


def test_a_period_of_numpy_becomes_a_plain_one_which_a_file_can_hold():
    period: Any = np.int64(4)
    assert type(Level("slow", "*", period).period) is int


def test_a_changed_period_takes_effect_at_its_next_multiple():
    assert Schedule({"a": 16, "b": 1}).with_period("a", 4).due(20) == ("a", "b")
    with pytest.raises(SettingError, match="Did you mean 'fast'"):
        Schedule({"fast": 1}).with_period("fest", 2)


def test_every_parameter_has_one_home_and_the_first_match_wins():
    levels = [Level("fast", "blocks.0"), Level("rest", "*", 8)]
    assert assign(levels, NAMES) == {
        "fast": ("blocks.0.up.weight", "blocks.0.down.weight"),
        "rest": ("input.weight", "input.bias", "blocks.10.up.weight", "head.weight"),
    }


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([Level("a", "*"), Level("a", "head")], "share a name"),
        ([Level("a", "*"), Level("b", "head")], "'b'.*holds no parameter"),
        ([Level("a", "blocks.*"), Level("h", "head")], "No level holds input.weight, input.bias"),
    ],
)
def test_levels_that_do_not_fit_the_model_are_named(levels, message):
    with pytest.raises(SettingError, match=message):
        assign(levels, NAMES)


@pytest.mark.parametrize("period", [0, -1, 1.5, "4", True, None])
def test_impossible_periods_are_named(period):
    with pytest.raises(SettingError, match=r"'slow': period is .*1 or more"):
        Level("slow", "*", period)


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"modules": ()}, {"rate": -1.0}, {"rate": float("nan")}, {"retention": 1.5}]
)
def test_impossible_levels_are_refused(wrong):
    with pytest.raises(SettingError):
        Level(**{"name": "a", "modules": "*", **wrong})
