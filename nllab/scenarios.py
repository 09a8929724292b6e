"""The lessons of the dashboard: each one value in one table, from its question to what its finished runs say about the
answer. No torch.

A reveal is computed from the rows of the runs that have just been trained; nothing in it is written down beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nllab import reveals
from nllab.experiment import Experiment
from nllab.reveals import Answer, Runs
from nllab.runs import ONLINE, ScheduledCommand

DONT_KNOW = "I cannot say"
NOT_TOLD = "these runs do not tell"  # in place of the choice that came true


@dataclass(frozen=True)
class Scenario:
    """title, goal: for the menu. question, choices: the prediction to make before Play. runs: title -> experiment,
    trained side by side.

    reveal: the finished runs -> (which choice came true, what happened, in numbers); None in place of a choice that
        they do not tell. look: what to watch. after: the next question.
    scheduled_commands: commands given to every run on the way. speed: steps per second. asks: the task that the
        question, and so the headline, is about; ONLINE for all batches, each before it is learned.
    """

    title: str
    goal: str
    question: str
    choices: tuple[str, ...]
    runs: Mapping[str, Experiment]
    look: tuple[str, ...]
    reveal: Callable[[Runs], Answer]
    after: str
    scheduled_commands: tuple[ScheduledCommand, ...] = ()
    speed: float = 6.0
    asks: str = "A"


def _digits(optimizer: str, **changes: Any) -> Experiment:
    return Experiment.preset("digits-ab", **{"optimizer": optimizer, "evaluate_every": 8, **changes})


SCENARIOS: dict[str, Scenario] = {
    "overwrite": Scenario(
        title="The overwrite problem",
        goal="See what ordinary training does to what a network already knows.",
        question=(
            "Adam trains a network on the digits 0–4 (A), then on 5–9 only (B), one pass each. How much of A will it"
            " know at the end?"
        ),
        choices=("Nearly all of it", "Some of it", "Nearly nothing"),
        runs={"Adam": _digits("adam")},
        look=("the curve of A at the moment when B begins", "“When each level writes”: does any level stop?"),
        reveal=reveals.overwritten,
        after="Who of the levels writes when?",
    ),
    "dolls": Scenario(
        title="Russian dolls: who updates when",
        goal="See one network as loops inside each other, each with a clock of its own.",
        question="The plan has 136 steps, and every level gets a gradient at each. How often will “slow” be written?",
        choices=("136 times", "34 times", "8 times"),
        runs={"Adam": _digits("adam")},
        look=(
            "the frames around the image: one lights up when its level writes",
            "the stairs of medium and slow in “How far each level has drifted”",
        ),
        reveal=reveals.who_wrote,
        after="If a level seldom writes, does it keep what was learned?",
        speed=6.0,
    ),
    "slow": Scenario(
        title="Fast and slow memory",
        goal="Ask whether slow levels alone protect what was learned.",
        question=(
            "Two networks that differ in the periods of their memory levels alone: 1, 16, 64 and 1, 1, 1. Which will"
            " know A after B?"
        ),
        choices=("The one with slow levels", "The one that always writes", "Neither of them", "Both alike"),
        runs={
            "Slow levels: 1, 16, 64": _digits("adam", periods=(1, 16, 64)),
            "All fast: 1, 1, 1": _digits("adam", periods=(1, 1, 1)),
        },
        look=("the slow level of both in “How far each level has drifted”", "A in both, once B begins"),
        reveal=reveals.slow_levels,
        after="What if the one who writes remembers what it has seen?",
    ),
    "deep": Scenario(
        title="The deep optimizer wakes up",
        goal="Ask what protects A: the moment of the toggle, or what the optimizer’s memory has seen.",
        question=(
            "Adam teaches A to two networks. When B begins, the deep optimizer takes over in both. In one its memory"
            " has watched A from the side, in the other it was blind until now. Who will keep A?"
        ),
        choices=("Both", "Only the one that watched", "Neither", "Only the one that was blind"),
        runs={"Its memory watched A": _digits("adam"), "Its memory was blind on A": _digits("adam", observe=False)},
        look=("the dotted line where the deep optimizer takes over", "A in both, from there on"),
        reveal=reveals.woken,
        after="Is it always right to hold on to what was seen?",
        scheduled_commands=((69, "optimizer", "deep"),),
    ),
    "remapped": Scenario(
        title="When the world changes its answer",
        goal="Ask what stability costs where what was true becomes wrong.",
        question=(
            "All ten digits, then the same images with every answer moved on by one: a 3 is now called 4. Who will give"
            " the new answers sooner?"
        ),
        choices=("Adam", "The deep optimizer", "Both alike"),
        runs={
            "Adam": Experiment.preset("remapped-digits", optimizer="adam"),
            "Deep optimizer": Experiment.preset("remapped-digits", optimizer="deep"),
        },
        look=("B in both, in the first steps after the change", "that A has to fall here: it asks for the old answers"),
        reveal=reveals.new_answers,
        after="And if the old answers come back, and go again?",
        speed=15.0,
        asks="B",
    ),
    "contexts": Scenario(
        title="Two time scales",
        goal="Ask how long an optimizer should remember in a world where some things last and others do not.",
        question=(
            "Ten digits; every 20 batches some of them swap their names, or take their own again, and nobody says so."
            " Three networks differ only in how soon their memories fade. Which will be right most often, asked before"
            " it learns each batch?"
        ),
        choices=(
            "The one that keeps everything",
            "The one in which every level fades",
            "The one in which one small level fades",
            "Two or more of them alike",
        ),
        runs={
            title: Experiment.preset("contexts-digits", optimizer="deep", dim=32, **how)
            for title, how in {
                "Every level keeps all": {"retention_by_level": {}},
                "Every level fades": {"retention_by_level": {}, "retention": 0.6},
                "One small level fades": {},
            }.items()
        },
        look=(
            "the thin lines, where names change: how deep the curve dips, and how soon it is back",
            "“Accuracy on each task” is measured on the digits’ own names: it has to fall while names are swapped",
        ),
        reveal=reveals.time_scales,
        after="Answers that change are news. What about answers that are nonsense?",
        speed=40.0,
        asks=ONLINE,
    ),
    "noise": Scenario(
        title="Noise",
        goal="Ask who lets a burst of nonsense overwrite what is known.",
        question=(
            "Ten digits; half way through, a tenth of the stream carries random labels. Measured on true labels, who"
            " will fall further?"
        ),
        choices=("Adam", "The deep optimizer", "Both alike", "Neither falls"),
        runs={
            "Adam": Experiment.preset("noisy-digits", optimizer="adam"),
            "Deep optimizer": Experiment.preset("noisy-digits", optimizer="deep"),
        },
        look=("“Accuracy on each task” from step 270 on", "how long each takes to come back"),
        reveal=reveals.noisy,
        after="What is learned again after it was lost: does it come back faster than the first time?",
        speed=40.0,
    ),
    "aba": Scenario(
        title="A, B, then A again",
        goal="Ask whether anything of A is left in a network after it has been taught B.",
        question=(
            "Adam learns A, then B, then A once more. On the first 20 batches of its second visit, compared with those"
            " of the first, will A be learned …"
        ),
        choices=("faster", "about as fast", "more slowly"),
        runs={
            "Adam": Experiment.preset("digits-aba", optimizer="adam", evaluate_every=8),
            "Deep optimizer": Experiment.preset("digits-aba", optimizer="deep", evaluate_every=8),
        },
        look=("how steeply A rises the first and the second time", "how much the deep optimizer has to learn again"),
        reveal=reveals.again,
        after="Ask the hidden levels: open the page Compare and add the frozen twin.",
        speed=15.0,
    ),
    "language": Scenario(
        title="Learn a second language",
        goal="Ask what keeping the first language costs the second.",
        question=(
            "Names in one language, then in another: a network guesses the next letter. What will the deep optimizer"
            " do, compared with Adam?"
        ),
        choices=(
            "Keep the first better, and learn the second no worse",
            "Keep the first better, but learn less of the second",
            "Keep the first no better",
        ),
        runs={
            "Adam": Experiment.preset("names-ab", optimizer="adam"),
            "Deep optimizer": Experiment.preset("names-ab", optimizer="deep"),
        },
        look=(
            "A in both once the second language begins",
            "how far B gets",
            "the names that each makes up, beside its network",
        ),
        reveal=reveals.second_language,
        after="Where is it right to hold on, and where to let go?",
        speed=1000.0,
    ),
    "width": Scenario(
        title="How much is left to learn",
        goal="Ask what learning below the output layer is worth in a narrow and in a wide network.",
        question=(
            "Two networks of 16 and of 128 units, each beside its frozen twin, in which the output layer alone learns."
            " Where do levels that learn gain more over their twin?"
        ),
        choices=("In the narrow network", "In the wide network", "Alike in both"),
        runs={
            f"{dim} units{twin}": _digits("deep", dim=dim, hidden=dim, frozen=bool(twin))
            for dim in (16, 128)
            for twin in ("", ", frozen twin")
        },
        look=(
            "both curves of each network and of its twin",
            "“How far each level has drifted”: in the twin only the head does",
        ),
        reveal=reveals.wide_and_narrow,
        after="Try other widths, streams and settings of your own on the page Watch.",
        speed=30.0,
    ),
}
