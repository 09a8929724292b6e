"""A stream whose names change while what they name stays, and the levels that can follow it."""

import pytest
import torch

from nllab import probes
from nllab.bench import contexts
from nllab.errors import SettingError
from nllab.experiment import Experiment
from nllab.levels import Level, with_retention
from nllab.streams import build, stream_of
from nllab.streams.stream import Part
from nllab.trainer import Trainer

SMALL = {"dim": 8, "hidden": 4, "batch_size": 100}


def test_names_swap_in_pairs_in_every_other_context_and_the_images_stay():
    stream = build("contexts-digits", context_length=10, pairs=3, batch_size=4)
    plain = build("contexts-digits", context_length=10, pairs=0, batch_size=4).tasks[0].train
    train = stream.tasks[0].train
    assert torch.equal(train.inputs, plain.inputs) and [c.start for c in stream.contexts[:3]] == [0, 40, 80]
    for number, context in enumerate(stream.contexts):
        part = slice(context.start, context.start + 40)
        assert torch.equal(train.labels[part], torch.tensor(context.names)[plain.labels[part]])
        assert len(context.swapped) == (6 if number % 2 else 0)
        assert all(context.names[context.names[c]] == c for c in range(10))
    assert len({context.names for context in stream.contexts[1::2]}) > 1
    with pytest.raises(SettingError, match="at most 5 pairs"):
        build("contexts-digits", pairs=6)


def test_settings_of_the_experiment_draw_the_stream():
    stream = stream_of(Experiment.preset("contexts-digits", context_length=7, pairs=1, batch_size=3))
    assert stream.contexts[1].start == 21 and len(stream.contexts[1].swapped) == 2


def test_renamed_parts_are_the_classes_with_and_without_new_names():
    part = Part(torch.arange(4.0)[:, None], torch.tensor([0, 1, 2, 2]))
    changed, kept = (probes.renamed(part, (1, 0, 2), changed=c) for c in (True, False))
    assert changed.labels.tolist() == [1, 0] and changed.inputs.flatten().tolist() == [0, 1]
    assert kept.labels.tolist() == [2, 2] and kept.inputs.flatten().tolist() == [2, 3]


def test_each_level_keeps_what_its_own_retention_says():
    trainer = Trainer(Experiment.preset("contexts-digits", **SMALL, retention=0.9))
    kept = {group["level"]: group["retention"] for group in trainer.deep.param_groups}
    assert kept == {"input": 0.9, "memory": 0.9, "head": 0.9, "context": 0.4}
    assert with_retention([Level("a", "*")], {"a": 0.5})[0].retention == 0.5
    with pytest.raises(SettingError, match="level 'contxt'"):
        Trainer(Experiment.preset("contexts-digits", **SMALL, retention_by_level={"contxt": 0.5}))


def test_the_context_level_starts_as_the_identity_and_learns_in_the_twin():
    with_level, without = (
        Trainer(Experiment.preset("contexts-digits", **SMALL, context_level=level, retention_by_level={}))
        for level in (True, False)
    )
    x = with_level.stream.tasks[0].test.inputs[:5]
    for trainer in (with_level, without):
        torch.nn.init.normal_(trainer.model.head.weight, generator=torch.Generator().manual_seed(1))
    assert torch.equal(with_level.model(x), without.model(x))
    twin = Trainer(Experiment.preset("contexts-digits", **SMALL, frozen=True)).run(steps=3)
    assert twin.update_counts == {"input": 0, "memory": 0, "head": 3, "context": 3}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context_length": 10_000}, "within its first context"),
        ({"pairs": 0}, "contexts do not differ"),
        ({"retention": 0.0, "retention_by_level": {}}, "one time scale"),
        ({"context_level": False, "retention_by_level": {}}, "one time scale"),
        ({"dim": 1, "hidden": 1, "periods": (5000,)}, None),
    ],
)
def test_what_cannot_show_two_time_scales_runs_and_says_so(settings, words):
    experiment = Experiment.preset("contexts-digits", **{**SMALL, "evaluate_every": 1000, **settings})
    said = contexts.cannot_show(experiment)
    assert said is None if words is None else words in said
    found = contexts.trained(experiment)
    assert 0 <= found["online"] <= 1 and 0 <= found["unswapped"] <= 1


def test_every_row_has_the_same_grid_and_only_its_own_levels_follow_it():
    base = Experiment.preset("contexts-digits", **SMALL)
    grids = contexts.candidates(base)
    assert {len(grid) for grid in grids.values()} == {len(contexts.RETENTIONS)}
    for name, grid in grids.items():
        for retention, one in zip(contexts.RETENTIONS, grid, strict=True):
            own = {"context": retention} if name == contexts.TWO else {}
            assert one.retention == (1.0 if own else retention) and one.retention_by_level == own
            assert one.context_level == (name in (contexts.TWO, contexts.SAME))
            assert (
                one.frozen == (name == contexts.SINGLE)
                and one.but(retention=1.0, retention_by_level=base.retention_by_level, context_level=True, frozen=False)
                == base
            )


def row(mean, half_width, settings="retention=0.8"):
    return {"settings": settings, "behind": {"mean": mean, "half_width": half_width}}


def test_the_comparison_says_what_its_intervals_bear_out():
    twins = {
        name: {"scores": {"online": {"values": values}}}
        for name, values in ((contexts.TWO, [0.8, 0.81]), (contexts.TWIN, [0.81, 0.8]))
    }
    rows = {contexts.SAME: row(0.12, 0.02), contexts.LEARNING: row(0.01, 0.03), contexts.SINGLE: row(0.2, 0.01)} | twins
    above, alike, *_, hidden = contexts.sentences({"cannot_show": None, "rows": rows})
    assert "12.0 ± 2.0 points above" in above and "differ by less than they vary" in alike
    assert "frozen twin differ by less than they vary" in hidden
    rows |= {contexts.SAME: row(-0.12, 0.02), contexts.LEARNING: row(0.5, None)}
    below, single, *_ = contexts.sentences({"cannot_show": None, "rows": rows})
    assert "12.0 ± 2.0 points below" in below and "no interval" in single
