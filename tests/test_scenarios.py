"""Every lesson asks one question, and what it says in the end follows from its runs."""

import re
from copy import deepcopy

import pytest

from nllab import figures
from nllab.events import Switch
from nllab.runs import METRICS, SCORES
from nllab.scenarios import SCENARIOS
from nllab.streams import stream_of
from nllab.terms import TERMS, glossary
from nllab.trainer import Trainer

# What comes true on seeds 0, 1 and 2, as the lessons stand in the table; None where seeds differ.
COMES_TRUE: dict[str, str | None] = {
    "overwrite": "Nearly nothing",
    "dolls": "8 times",
    "slow": "Neither of them",
    "deep": "Only the one that watched",
    "remapped": "The deep optimizer",
    "contexts": "The one in which one small level fades",
    "noise": "Adam",
    "aba": None,  # more slowly, or about as fast
    "language": "Keep the first better, but learn less of the second",
    "width": "In the narrow network",
}


def trained(experiment, scheduled_commands, stream=None, sabotage=lambda trainer: None):
    trainer = Trainer(experiment, stream=stream)
    sabotage(trainer)
    return trainer.run(commands=scheduled_commands)


def revealed(key, seed=0, **how):
    scenario = SCENARIOS[key]
    runs = {
        title: trained(experiment.but(seed=seed), scenario.scheduled_commands, **how)
        for title, experiment in scenario.runs.items()
    }
    index, text = scenario.reveal(runs)
    return None if index is None else scenario.choices[index], text, runs


def test_a_lesson_tells_what_its_own_runs_show():
    choice, text, runs = revealed("deep")
    assert choice == COMES_TRUE["deep"]
    for run in runs.values():  # the toggle moves exactly when B begins
        assert f"{run.summary['a_after_b']:.2f}" in text and run.of(Switch)[-1].step == run.commands[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("key", COMES_TRUE)
def test_the_lessons_hold_on_three_seeds(key, seed):
    choice = revealed(key, seed)[0]
    assert choice == COMES_TRUE[key] if COMES_TRUE[key] else choice in ("more slowly", "about as fast")


def test_each_lesson_is_whole():
    assert list(SCENARIOS) == list(COMES_TRUE)
    for scenario in SCENARIOS.values():
        assert (
            scenario.question.rstrip().endswith(("?", "…"))
            and len(set(scenario.choices)) >= 3
            and scenario.look
            and scenario.goal
        )
        seeds = {experiment.seed for experiment in scenario.runs.values()}
        named = {name for text in scenario.look for name in re.findall("“(.+?)”", text)}
        assert named <= {*figures.TITLES.values(), "Loops inside each other"} and "raster" not in " ".join(
            scenario.look
        )
        assert len(seeds) == 1 and len({experiment.stream for experiment in scenario.runs.values()}) == 1


SUCCESS = ("What protects A", "still there", "keep it also", "gone all the same", "stayed at")


def shuffled(experiment):
    """The stream of an experiment with labels that mean nothing, of its own."""
    stream = deepcopy(stream_of(experiment))
    for task in stream.tasks:
        for part in (task.train, task.test):
            part.labels.copy_(part.labels[(7919 * (1 + part.labels.new_ones(len(part)).cumsum(0))) % len(part)])
    return stream


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in SCENARIOS if key != "dolls"])
def test_no_lesson_claims_success_on_labels_that_mean_nothing(key):
    first = next(iter(SCENARIOS[key].runs.values()))
    choice, text, _ = revealed(key, stream=shuffled(first))
    assert choice is None and not any(words in text for words in SUCCESS)


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["command", "write"])
def test_the_lesson_on_the_toggle_claims_nothing_where_the_toggle_is_dead(dead):
    def sabotage(trainer):
        if dead == "command":
            trainer.check = lambda name, value: "adam"
        else:
            trainer.deep.step = trainer.deep.skip

    choice, text, _ = revealed("deep", sabotage=sabotage)
    assert choice in (None, "Neither") and not any(words in text for words in SUCCESS)


def test_the_glossary_holds_every_metric_every_score_and_every_term():
    words = glossary()
    assert len(words) == len(METRICS | {t.replace(" ", "_"): "" for t in TERMS})
    assert set(SCORES) <= set(METRICS) and "A after B" in words and "frozen twin" in words
    assert {"agreement", "new answers"} <= set(words)  # of the manager's log
    assert all(meaning.endswith(".") for meaning in words.values())
