"""Each sentence is said where its figures bear it out, and not where they do not."""

from copy import deepcopy

import pytest

from nllab import claims, narration
from nllab.claims import Scale
from nllab.events import End, Experience, LevelStep, Step, Switch, Untrained
from nllab.experiment import Experiment
from nllab.measuring import due
from nllab.runs import Run
from nllab.streams import stream_of
from nllab.trainer import Trainer

TEN = Scale(0.1, 225)


def run_of(before, after, *, optimizer="deep", count=225, chance=10, over=True, conflict=None, **settings):
    """A run whose accuracy on A was `before` when learned and is `after` now that B has been taught."""
    level = {"wrote": True, "writes": 1, "update_norm": 0.1, "drift": 0.1, "drift_since_switch": 0.1}
    levels = {"head": LevelStep(**level, gradient_norm=1.0, conflict=conflict)}
    told = {"loss": 0.1, "online_accuracy": 0.5, "levels": levels, "optimizer": optimizer}
    log = [
        Untrained(step=0, accuracy={"A": 0.1, "B": 0.0}, classes=chance, samples={"A": count, "B": count}),
        Switch(step=1, experience=0, task="A", about=""),
        Step(step=1, task="A", **told),
        Experience(step=1, experience=0, task="A", accuracy={"A": before, "B": 0.0}),
        Switch(step=2, experience=1, task="B", about=""),
        Step(step=2, task="B", **told, accuracy={"A": after, "B": 0.9}),
    ]
    if over:
        log += [
            Experience(step=2, experience=1, task="B", accuracy={"A": after, "B": 0.9}),
            End(step=2, reason="finished", text=""),
        ]
    return Run(Experiment(optimizer=optimizer, **settings), ("A", "B"), {"head": 1, "norm": 1}, log)


def test_the_error_of_a_share_is_that_of_its_samples():
    assert claims.error(0.5, 98) == pytest.approx(0.05) and 0 < claims.error(1.0, 100) < claims.error(0.9, 100)
    assert claims.error(0.5, 10_000) == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize(
    ("first", "second", "count", "order"),
    [(0.9, 0.8, 225, "higher"), (0.8, 0.9, 225, "lower"), (0.9, 0.88, 225, "alike"), (0.9, 0.88, 20_000, "higher")],
)
def test_what_differs_by_less_than_it_varies_is_alike(first, second, count, order):
    assert claims.compare(first, second, count) == order


def test_seeds_are_compared_by_the_interval_of_their_pairs():
    assert claims.compare_seeds([0.9, 0.91, 0.92], [0.8, 0.81, 0.83]) == "higher"
    assert claims.compare_seeds([0.8, 0.81, 0.83], [0.9, 0.91, 0.92]) == "lower"
    assert claims.compare_seeds([0.9, 0.8, 0.7], [0.7, 0.8, 0.91]) == "alike"
    assert claims.compare_seeds([0.9], [0.1]) is None


@pytest.mark.parametrize(
    ("before", "after", "became"),
    [
        (0.98, 0.98, "kept"),
        (0.98, 0.97, "kept"),
        (0.98, 0.85, "mostly kept"),
        (0.98, 0.4, "partly lost"),
        (0.98, 0.12, "lost"),
        (0.98, 0.0, "lost"),
        (0.12, 0.12, "never learned"),
        (0.31, 0.24, "kept"),
    ],
)
def test_what_became_of_a_task_is_judged_by_guessing_and_by_what_it_was(before, after, became):
    assert claims.fate(before, after, TEN) == became


def test_the_same_accuracy_is_kept_or_lost_by_what_guessing_gives():
    assert claims.fate(0.6, 0.5, Scale(0.5, 225)) == "lost" and claims.fate(0.6, 0.5, Scale(0.02, 225)) == "mostly kept"


def test_a_fall_within_the_error_of_few_samples_is_a_fall_on_many():
    assert claims.fate(0.31, 0.24, Scale(0.03, 3000)) == "mostly kept"


@pytest.mark.parametrize(
    ("run", "hint"),
    [
        (run_of(0.98, 0.95), "survived"),
        (run_of(0.98, 0.95, frozen=True), "twin"),
        (run_of(0.98, 0.05), "lost"),
        (run_of(0.98, 0.05, optimizer="adam"), "collapsed"),
        (run_of(0.98, 0.95, optimizer="adam"), None),
        (run_of(0.98, 0.95, over=False), None),
        (run_of(0.12, 0.11), None),
    ],
)
def test_a_hint_follows_from_the_run(run, hint):
    assert claims.hint(run) == hint


def test_a_run_that_does_not_say_how_it_was_tested_gets_no_verdict():
    run = run_of(0.98, 0.95)
    run.log[0] = Untrained(step=0, accuracy={"A": 0.2, "B": 0.0})
    assert claims.hint(run) is None and claims.what_became(run) is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.98, 0.05, "is gone"),
        (0.98, 0.4, "less than half is left"),
        (0.98, 0.8, "Most of A is still there"),
        (0.98, 0.975, "differ by less than they vary"),
        (0.12, 0.05, "was never learned"),
    ],
)
def test_what_became_of_a_task_is_said_in_words(before, after, words):
    said = claims.what_became(run_of(before, after))
    assert words in said and sum(other in said for other in ("is gone", "still there", "is left", "never")) == 1


@pytest.mark.parametrize("optimizer", ["deep", "adam"])
@pytest.mark.parametrize("after", [0.98, 0.05])
def test_what_no_other_task_put_to_the_test_is_neither_kept_nor_lost(optimizer, after):
    run = run_of(0.98, after, optimizer=optimizer)
    for event in run.log[-3:-1]:
        event.accuracy["B"] = 0.12
    assert claims.hint(run) is None and "B itself was not learned" in claims.what_became(run)
    assert "itself was not learned" not in claims.what_became(run_of(0.98, after, optimizer=optimizer))


@pytest.mark.parametrize(
    ("joint", "words"),
    [(0.94, "differ by less than they vary"), (0.99, "0.09 below training"), (0.7, "0.20 above training")],
)
def test_what_became_stands_beside_joint_training_where_that_was_run(joint, words):
    assert words in claims.what_became(run_of(0.91, 0.9), {"A": joint}).split(". ", 1)[1]
    assert "all tasks at once" not in claims.what_became(run_of(0.98, 0.9))
    assert "all tasks at once" not in claims.what_became(run_of(0.12, 0.1), {"A": joint})


def test_falls_are_compared_by_the_error_of_all_four_figures():
    assert claims.compare_changes((0.9, 0.5), (0.9, 0.8), 225) == "lower"
    assert claims.compare_changes((0.9, 0.8), (0.9, 0.5), 225) == "higher"
    assert claims.compare_changes((0.9, 0.8), (0.9, 0.75), 225) == "alike"
    assert claims.compare_changes((0.9, 0.8), (0.9, 0.75), 22500) == "higher"


def test_of_several_earlier_tasks_the_one_that_lost_most_is_told():
    run = run_of(0.98, 0.97)
    accuracy = {"A": 0.97, "B": 0.3, "C": 0.9}
    run = Run(run.experiment, ("A", "B", "C"), run.levels, [
        Untrained(step=0, accuracy=dict.fromkeys("ABC", 0.1), classes=10, samples=dict.fromkeys("ABC", 225)),
        *(Experience(step=i, experience=i, task=task, accuracy={"A": 0.97, "B": 0.96, "C": 0.9})
          for i, task in enumerate("AB")),
        run.of(Step)[-1],
        Experience(step=3, experience=2, task="C", accuracy=accuracy),
        End(step=3, reason="finished", text=""),
    ])  # fmt: skip
    said = claims.what_became(run)
    assert said.startswith("Of B less than half is left") and "1 of 2 earlier tasks are kept" in said
    assert claims.hint(run) == "lost"


def test_where_the_deep_optimizer_loses_it_says_so_and_what_was_held_back():
    said = claims.why_it_loses(run_of(0.98, 0.35, conflict=0.25))
    assert "did not keep it" in said and "25%" in said and "Of norm nothing was measured" in said
    assert "nothing was measured that says why" in claims.why_it_loses(run_of(0.98, 0.35))
    assert claims.why_it_loses(run_of(0.98, 0.97, conflict=0.25)) is None
    assert claims.why_it_loses(run_of(0.98, 0.35, optimizer="adam", conflict=0.25)) is None


def test_hidden_levels_are_worth_what_the_interval_says():
    assert "worth 0.100" in claims.hidden_levels([0.9, 0.91, 0.92], [0.8, 0.81, 0.82])
    assert "cost 0.100" in claims.hidden_levels([0.8, 0.81, 0.82], [0.9, 0.91, 0.92])
    assert "less than they vary" in claims.hidden_levels([0.9, 0.8], [0.8, 0.9])
    assert "one seed does not say" in claims.hidden_levels([0.9], [0.8])


def test_a_table_has_a_best_only_where_it_can_be_told_from_the_others():
    def of(*values):
        return {"metrics": {"average_accuracy": {"values": list(values)}}}

    said = claims.summary_of({"a": of(0.9, 0.92, 0.91), "b": of(0.5, 0.51, 0.52), "c": of(0.9, 0.91, 0.92)})
    assert said.endswith("; c cannot be told apart from it.")
    assert "ahead of all others" in claims.summary_of({"a": of(0.9, 0.92, 0.91), "b": of(0.5, 0.51, 0.52)})
    assert "on one seed" in claims.summary_of({"a": of(0.9), "b": of(0.5)})


def test_a_table_of_learners_is_summed_up_by_its_intervals():
    def of(*values):
        return {"metrics": {"average_accuracy": {"values": list(values)}}}

    high, low = of(0.9, 0.92, 0.91), of(0.5, 0.51, 0.53)
    said = claims.compared({"deep": high | {"twin": low, "joint": high}, "adam": low | {"twin": None, "joint": high}})
    assert said[0] == "deep has the best average accuracy, 0.910, ahead of all others."
    assert "deep: Hidden levels that learn are worth 0.397" in said[1] and "differ by less than they vary" in said[2]
    assert "adam: One task after another is 0.397" in said[3] and "below joint training" in said[3] and len(said) == 4
    equal = claims.compared(
        {"deep": high | {"twin": high, "joint": None}, "adam": high | {"twin": None, "joint": None}}
    )
    assert "cannot be told apart" in equal[0] and "less than they vary" in equal[1] and len(equal) == 2
    assert claims.compared({"deep": of(0.9, None) | {"twin": low, "joint": low}}) == []
    assert "on this seed" in claims.from_joint([0.9], [0.8]) and "above" in claims.from_joint([0.9, 0.91], [0.5, 0.51])


@pytest.mark.parametrize(
    ("settings", "counts", "words"),
    [
        ({"dim": 1, "hidden": 1}, {"head": 5, "slow": 5}, "At a width of 1"),
        ({"periods": (1, 1, 5000)}, {"head": 5, "slow": 0}, "slow never changed"),
        ({"retention": 0.0}, {"head": 5}, "At a retention of 0"),
        ({"retention": 0.0, "retention_by_level": {"head": 0.5}}, {"head": 5}, None),
        ({"frozen": True}, {"head": 5, "slow": 0}, None),
        ({}, {"head": 5, "slow": 5}, None),
    ],
)
def test_what_settings_cannot_show_is_said(settings, counts, words):
    said = claims.cannot_show(Experiment(**settings), counts)
    assert said == [] if words is None else len(said) == 1 and words in said[0]


def test_a_net_of_one_unit_whose_levels_never_write_runs_and_says_so():
    experiment = Experiment.preset(
        "digits-ab", dim=1, hidden=1, periods=(5000, 5000, 5000), retention=0.0, batch_size=200, evaluate_every=1000
    )
    run = Trainer(experiment).run()
    assert len(claims.cannot_show(experiment, run.update_counts)) == 3 and claims.hint(run) is None
    assert {run.update_counts[level] for level in ("fast", "medium", "slow")} == {0}


SMALL = {"batch_size": 40, "evaluate_every": 4}


def dead(trainer):
    trainer.deep.step = trainer.deep.skip  # it says that it writes, and does not


def shuffle(trainer):
    for task in trainer.stream.tasks:
        for part in (task.train, task.test):
            part.labels.copy_(part.labels[(7919 * (1 + part.labels.new_ones(len(part)).cumsum(0))) % len(part)])


@pytest.mark.parametrize(
    ("optimizer", "sabotage", "commands", "words"),
    [
        ("deep", dead, [], "never learned"),
        ("adam", dead, [(18, "optimizer", "deep")], "B itself was not learned"),  # from B on
        ("adam", lambda trainer: None, [], "less than half is left"),
        ("deep", shuffle, [], "never learned"),
    ],
)
def test_no_sentence_claims_success_for_a_saboteur(optimizer, sabotage, commands, words):
    experiment = Experiment.preset("digits-ab", optimizer=optimizer, **SMALL)
    own = deepcopy(stream_of(experiment))  # the digits are kept for all streams of the process
    trainer = Trainer(experiment, stream=own)
    sabotage(trainer)
    run = trainer.run(commands=commands)
    assert claims.hint(run) not in ("survived", "twin") and words in claims.what_became(run)


def test_two_equal_runs_are_called_alike():
    same = [0.91, 0.95, 0.93]
    assert claims.compare_seeds(same, same) == "alike" and "less than they vary" in claims.hidden_levels(same, same)


def test_accuracy_is_measured_at_every_step_after_a_change_and_sparsely_elsewhere():
    found = [step for step in range(1, 137) if due(step, 69 if step >= 69 else 1, 10)]
    assert set(range(69, 74)) <= set(found) and set(range(1, 6)) <= set(found) and set(range(10, 137, 10)) <= set(found)
    assert len(found) <= 14 + 2 * 8
    assert [step for step in range(1, 201) if due(step, 1, 100_000)] == [1]
    assert [step for step in range(30, 40) if due(step, 1, 10)] == [30]


def test_a_run_measures_the_steps_after_a_switch_and_a_command():
    trainer = Trainer(Experiment.preset("digits-ab", dim=8, hidden=4, batch_size=40, evaluate_every=15))
    run = trainer.run(commands=[(25, "optimizer", "adam")])
    switch = run.of(Switch)[1].step
    at = {step.step for step in run.of(Step) if step.accuracy is not None}
    assert {switch, switch + 1, 25, 26, 27} <= at and not {13, 14} & at
    assert "nothing has been measured" not in narration.sentence(run.log, run.tasks)
