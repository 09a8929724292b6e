"""What the speed benchmark reports: turns, ratios and units; and that memory grows with T as it should. Speed itself is
never asserted."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from nllab.bench.speed import alternate, compare, measure_memory, model_step, run_speed, speed_tables
from nllab.errors import SettingError
from nllab.models.hope import HopeLM

CPU = torch.device("cpu")


def test_contestants_take_turns_and_the_first_round_is_not_counted():
    order: list[str] = []
    wall, cpu = alternate({name: partial(order.append, name) for name in "ab"}, 3, CPU)
    assert order == ["a", "b"] * 4
    assert all(len(times[name]) == 3 for times in (wall, cpu) for name in "ab")


@pytest.mark.slow
def test_rows_hold_what_their_units_say():
    ceilings = {"copy_bytes_per_second": 1e9, "matmul_flops_per_second": 1e9}
    size = (2, 8, 16)
    first, second = compare("layer", [(name, nn.Linear(16, 16, bias=False), size) for name in "ab"], 3, CPU, ceilings)
    assert first["ratio"] == 1 and second["ratio_to"] == "a" and first["parameters"] == 256
    for row in (first, second):
        seconds = row["milliseconds"] / 1e3
        assert row["tokens_per_second"] * seconds == pytest.approx(16)
        # Forward, gradient of the input, gradient of the weight: three products of 2 * 16 * 16 * 16 operations.
        assert row["matmul_share"] * seconds * 1e9 == pytest.approx(3 * 2 * 16**3)
        assert row["copy_share"] * seconds * 1e9 == pytest.approx(4 * 2 * 8 * 16 * 4)


@pytest.mark.parametrize(
    "settings", [{"levels": (1,)}, {"levels": (16, 32), "inner_lr": 0.01}], ids=["steps", "tokens"]
)
def test_memory_grows_linearly_with_T(settings):
    model = HopeLM(256, 8, 1, **settings)
    short, medium, long = (
        measure_memory(model_step(model, torch.zeros(2, t, dtype=torch.long)), CPU)[0] for t in (32, 64, 128)
    )
    assert (long - medium) / (medium - short) == pytest.approx(2, rel=0.05)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(SettingError, match="Unknown device 'cuda:99'"):
        run_speed("cuda:99")
    with pytest.raises(SettingError, match="Unknown device 'gpu'"):
        run_speed("gpu")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:::titans_pytorch", "ignore:::nested_learning", "ignore:`torch.jit.script` is deprecated"
)
def test_the_whole_benchmark_is_plain_numbers():
    result = run_speed(quick=True)
    assert json.loads(json.dumps(result)) == result
    assert [table.row_count for table in speed_tables(result)] == [
        *(sum(r["group"] == g for r in result["rows"]) for g in ("layer", "model", "tokens", "width")),
        len(result["steps"]),
    ]
