"""Every lesson asks one question, and what it says in the end follows from its runs."""

import re

import pytest

from nllab import figures
from nllab.events import Experience, Step, Switch
from nllab.runs import METRICS, SCORES, Run
from nllab.scenarios import SCENARIOS
from nllab.terms import TERMS, glossary
from nllab.trainer import Trainer

# What comes true on seeds 0, 1 and 2, as the lessons stand in the table.
COMES_TRUE = {
    "overwrite": "Nearly nothing",
    "dolls": "8 times, every 16 steps",
    "slow": "Neither of them",
    "deep": "Only the one that watched",
    "remapped": "Adam",
    "noise": "Adam",
    "aba": "more slowly",
    "language": "Keep the first better, but learn less of the second",
}


def trained(experiment, scheduled_commands):
    trainer = Trainer(experiment)
    run = Run.begin(experiment, trainer.stream.task_names, {level.name: level.period for level in trainer.levels})
    while not trainer.done:
        for step, name, value in scheduled_commands:
            if step == trainer.steps + 1:
                trainer.command(name, value)
        run.extend(trainer.step())
    return run


def revealed(key, seed):
    scenario = SCENARIOS[key]
    runs = {
        title: trained(experiment.but(seed=seed), scenario.scheduled_commands)
        for title, experiment in scenario.runs.items()
    }
    index, text = scenario.reveal(runs)
    return scenario.choices[index], text, runs


@pytest.mark.parametrize("key", ["overwrite", "slow", "deep"])
def test_a_lesson_tells_what_its_own_runs_show(key):
    choice, text, runs = revealed(key, 0)
    assert choice == COMES_TRUE[key]
    for run in runs.values():
        assert f"{run.summary['a_after_b']:.2f}" in text
    if key == "deep":  # the toggle moves exactly when B begins
        assert all(run.of(Switch)[-1].step == run.commands[0][0] for run in runs.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("key", COMES_TRUE)
def test_the_lessons_hold_on_three_seeds(key, seed):
    assert revealed(key, seed)[0] == COMES_TRUE[key]


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


def rows(accuracy):
    """A run of two tasks whose accuracy on A after A and after B is this, B being learned."""
    return [
        Switch(step=1, task="A", experience=0),
        Experience(step=5, task="A", experience=0, accuracy={"A": accuracy[0], "B": 0.0}),
        Switch(step=6, task="B", experience=1),
        Experience(step=9, task="B", experience=1, accuracy={"A": accuracy[1], "B": 0.9}),
    ]


@pytest.mark.parametrize(("after", "index"), [(0.95, 0), (0.5, 1), (0.05, 2)])
def test_the_reveal_follows_the_numbers(after, index):
    scenario = SCENARIOS["overwrite"]
    run = Run(next(iter(scenario.runs.values())), ("A", "B"), {"head": 1}, rows((0.99, after)))
    assert scenario.reveal({"Adam": run})[0] == index


@pytest.mark.parametrize(
    ("watched", "blind", "index"), [(0.98, 0.0, 1), (0.98, 0.97, 0), (0.1, 0.0, 2), (0.0, 0.99, 3)]
)
def test_the_reveal_of_the_toggle_follows_the_numbers(watched, blind, index):
    scenario = SCENARIOS["deep"]
    runs = {
        t: Run(e, ("A", "B"), {"head": 1}, rows((1.0, a)))
        for (t, e), a in zip(scenario.runs.items(), (watched, blind), strict=True)
    }
    assert scenario.reveal(runs)[0] == index


def test_the_reveal_of_noise_calls_nothing_a_fall_that_is_none():
    scenario = SCENARIOS["noise"]
    told = {"Adam": (0.98, 0.6, 0.9), "Deep optimizer": (0.982, 0.979, 0.98)}
    runs = {
        title: Run(scenario.runs[title], ("A",), {"head": 1}, [
            Step(
                step=step, task="A", optimizer="adam", loss=1.0, online_accuracy=0.0, levels={}, accuracy={"A": value}
            )
            for step, value in zip((4, 6, 10), values, strict=True)
        ])
        for title, values in told.items()
    }  # fmt: skip
    index, text = scenario.reveal(runs)
    assert index == 0 and text.startswith(
        "Adam fell from 0.98 to 0.60 and ended at 0.90; Deep optimizer stayed at 0.98 or close to it"
    )


def test_the_glossary_holds_every_metric_every_score_and_every_term():
    words = glossary()
    assert len(words) == len(METRICS | {t.replace(" ", "_"): "" for t in TERMS})
    assert set(SCORES) <= set(METRICS) and "A after B" in words and "frozen twin" in words
    assert {"agreement", "new answers"} <= set(words)  # of the manager's log
    assert all(meaning.endswith(".") for meaning in words.values())
