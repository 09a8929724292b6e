"""The width curve says what its seeds bear out, and draws what was measured."""

import json

import pytest

from nllab.bench import widths
from nllab.errors import SettingError


def row(width, learned, frozen):
    gap = widths.paired_difference(learned, frozen)
    return {
        "width": width,
        widths.LEARNED: widths.spread(learned),
        widths.TWIN: widths.spread(frozen),
        "difference": gap,
    }


@pytest.mark.parametrize(
    ("narrow", "wide", "words"),
    [
        ([0.3, 0.31, 0.29], [0.01, 0.0, 0.01], "less learning adds"),
        ([0.01, 0.0, 0.01], [0.3, 0.31, 0.29], "more learning adds"),
        ([0.1, 0.3, 0.2], [0.2, 0.1, 0.3], "less than they vary"),
        ([0.3], [0.0], "one seed does not say"),
    ],
)
def test_what_is_left_to_learn_is_said_by_the_interval_of_the_gains(narrow, wide, words):
    rows = [row(width, [0.5 + g for g in gains], [0.5] * len(gains)) for width, gains in ((256, wide), (8, narrow))]
    assert words in widths.sentence(rows) and widths.sentence(rows[:1]) is None


def test_the_curve_draws_means_and_deviations_in_order_of_width():
    result = {
        "preset": "digits-ab",
        "seeds": 2,
        "rows": [row(64, [0.9, 0.8], [0.8, 0.8]), row(8, [0.7, 0.5], [0.3, 0.2])],
    }
    learned, twin = widths.width_curve(result)["data"]
    assert (
        learned["x"] == [8, 64]
        and learned["y"] == pytest.approx([0.6, 0.85])
        and twin["y"] == pytest.approx([0.25, 0.8])
    )
    assert learned["error_y"]["array"] == pytest.approx([0.02**0.5, 0.005**0.5])


def test_a_width_of_one_runs_and_what_is_no_width_is_named():
    result = widths.run_widths(widths=["1"], seeds=1)
    assert result["sentence"] is None and 0 <= result["rows"][0][widths.TWIN]["mean"] <= 1
    json.dumps(result, allow_nan=False)
    assert "1" in widths.widths_tables(result)[0].columns[0]._cells
    with pytest.raises(SettingError, match="'wide' is no whole number"):
        widths.run_widths(widths=["wide"])
