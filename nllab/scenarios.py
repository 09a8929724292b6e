"""The lessons of the dashboard: each one value in one table, from its question to what its finished runs say about the
answer. No torch.

A reveal is computed from the rows of the runs that have just been trained; nothing in it is written down beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nllab.events import Step, Switch, measured
from nllab.experiment import Experiment
from nllab.runs import Run, ScheduledCommand

Runs = Mapping[str, Run]
CHANCE = 0.1  # accuracy of guessing among ten classes
KEPT, LOST = 0.9, 0.1  # shares of what was known that everybody would call kept and forgotten
ALIKE = 0.02  # a difference smaller than this says nothing on test parts of some hundred images
DONT_KNOW = "I cannot say"


@dataclass(frozen=True)
class Scenario:
    """title, goal: for the menu. question, choices: the prediction to make before Play. runs: title -> experiment,
    trained side by side.

    reveal: the finished runs -> (which choice came true, what happened, in numbers). look: what to watch. after: the
        next question.
    scheduled_commands: commands given to every run on the way. speed: steps per second.
    """

    title: str
    goal: str
    question: str
    choices: tuple[str, ...]
    runs: Mapping[str, Experiment]
    look: tuple[str, ...]
    reveal: Callable[[Runs], tuple[int, str]]
    after: str
    scheduled_commands: tuple[ScheduledCommand, ...] = ()
    speed: float = 6.0


def _digits(optimizer: str, **changes: Any) -> Experiment:
    return Experiment.preset("digits-ab", **{"optimizer": optimizer, "evaluate_every": 8, **changes})


def _accuracy(run: Run, task: str) -> list[tuple[int, float]]:
    return [(event.step, accuracy[task]) for event, accuracy in measured(run.log)]


def _end(run: Run, task: str) -> float:
    return _accuracy(run, task)[-1][1]


def _band(before: float, after: float) -> int:
    """0 for kept, 1 for between, 2 for lost, by the share that is left of what was known above guessing."""
    left = (after - CHANCE) / max(before - CHANCE, 1e-9)
    return 0 if left >= KEPT else 2 if left <= LOST else 1


def _overwritten(runs: Runs) -> tuple[int, str]:
    run = runs["Adam"]
    score = run.summary
    switch = run.of(Switch)[-1].step
    half = next(
        (step - switch + 1 for step, value in _accuracy(run, "A") if step >= switch and value < score["a_after_a"] / 2),
        None,
    )
    fall = f" Half of A was gone within {half} steps." if half else ""
    before, after, new = score["a_after_a"], score["a_after_b"], score["b_after_b"]
    return (
        _band(before, after),
        f"A stood at {before:.2f} when B began and stands at {after:.2f} now; B stands at {new:.2f}.{fall}",
    )


def _who_wrote(runs: Runs) -> tuple[int, str]:
    run = runs["Adam"]
    counts = run.update_counts
    nearest = int(np.argmin([abs(counts["slow"] - run.steps / period) for period in (1, 4, 16)]))
    told = ", ".join(f"{level} {count}" for level, count in counts.items())
    text = (
        f"In {run.steps} steps the levels changed so often: {told}. These counts come from the weights, not from the"
        " plan."
    )
    if counts["input"] == run.steps - 1:
        text += (
            " The levels below the head missed the first step: the head began at zero, and no gradient passes through"
            " zeros."
        )
    return nearest, text


def _slow_levels(runs: Runs) -> tuple[int, str]:
    slow, fast = runs["Slow levels: 1, 16, 64"], runs["All fast: 1, 1, 1"]
    a, b = _end(slow, "A"), _end(fast, "A")
    drift = [run.of(Step)[-1].levels["slow"].drift for run in (slow, fast)]
    text = f"A ended at {a:.2f} with slow levels and at {b:.2f} without. "
    text += f"The slowest level moved {drift[0]:.2f} of its size against {drift[1]:.2f}"
    if _band(slow.summary["a_after_a"], a) == _band(fast.summary["a_after_a"], b) == 2:
        return 2, text + ": it kept still, and A is gone all the same, for the others wrote on."
    return (0 if a > b + ALIKE else 1 if b > a + ALIKE else 3), text + "."


def _woken(runs: Runs) -> tuple[int, str]:
    watched, blind = (_end(runs[title], "A") for title in ("Its memory watched A", "Its memory was blind on A"))
    text = (
        f"A ended at {watched:.2f} where the memory had watched while Adam wrote, and at {blind:.2f} where it had not."
    )
    scores = [runs[title].summary for title in ("Its memory watched A", "Its memory was blind on A")]
    kept = (_band(scores[0]["a_after_a"], watched) == 0, _band(scores[1]["a_after_a"], blind) == 0)
    if kept == (True, False):
        text += " What protects A is what the memory has seen; the toggle only lets it act."
    return {(True, True): 0, (True, False): 1, (False, False): 2}.get(kept, 3), text


def _new_answers(runs: Runs) -> tuple[int, str]:
    (adam_a, adam_b), (deep_a, deep_b) = (runs[title].online_accuracy[:2] for title in ("Adam", "Deep optimizer"))
    text = (
        f"Over the first 20 batches with new answers Adam had {adam_b:.2f} right before learning them, the deep"
        f" optimizer {deep_b:.2f}. Over the first 20 batches of A it had been {adam_a:.2f} with Adam and {deep_a:.2f}"
        f" with the deep optimizer. At the end B stands at {_end(runs['Adam'], 'B'):.2f} with Adam and at"
        f" {_end(runs['Deep optimizer'], 'B'):.2f} with the deep optimizer."
    )
    if adam_b > deep_b + ALIKE:
        return (
            0,
            text + " A memory that keeps what it learned keeps it also when it has become wrong: this is what stability"
            " costs.",
        )
    return (1 if deep_b > adam_b + ALIKE else 2), text


def _noisy(runs: Runs) -> tuple[int, str]:
    falls, text = [], []
    for title in ("Adam", "Deep optimizer"):
        told = _accuracy(runs[title], "A")
        middle = runs[title].steps / 2
        before = [value for step, value in told if step <= middle][-1]
        lowest = min(value for step, value in told if step > middle)
        falls.append(before - lowest)
        fell = (
            f"fell from {before:.2f} to {lowest:.2f}"
            if before - lowest >= ALIKE
            else f"stayed at {before:.2f} or close to it"
        )
        text.append(f"{title} {fell} and ended at {told[-1][1]:.2f}")
    index = 3 if max(falls) < 0.1 else 0 if falls[0] > falls[1] + 0.1 else 1 if falls[1] > falls[0] + 0.1 else 2
    return index, "; ".join(text) + ", on true labels."


def _again(runs: Runs) -> tuple[int, str]:
    (first, _, second), (_, _, kept) = (runs[title].online_accuracy for title in ("Adam", "Deep optimizer"))
    text = (
        f"Over the first 20 batches Adam had {first:.2f} of A right before learning it the first time, and {second:.2f}"
        f" the second time. The deep optimizer, which had not lost A, had {kept:.2f} the second time."
    )
    return (0 if second > first + ALIKE else 2 if first > second + ALIKE else 1), text


def _second_language(runs: Runs) -> tuple[int, str]:
    scores = {title: runs[title].summary for title in ("Adam", "Deep optimizer")}
    adam, deep = scores["Adam"], scores["Deep optimizer"]
    lost = {title: score["a_after_a"] - score["a_after_b"] for title, score in scores.items()}
    text = (
        f"Of the first language Adam lost {lost['Adam']:.2f}, the deep optimizer {lost['Deep optimizer']:.2f}. "
        f"The second was learned to {adam['b_after_b']:.2f} and to {deep['b_after_b']:.2f}."
    )
    if lost["Adam"] <= lost["Deep optimizer"] + ALIKE:
        return 2, text
    return (1 if deep["b_after_b"] < adam["b_after_b"] - ALIKE else 0), text


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
        reveal=_overwritten,
        after="All levels wrote on, whatever they held. Who of them writes when?",
    ),
    "dolls": Scenario(
        title="Russian dolls: who updates when",
        goal="See one network as loops inside each other, each with a clock of its own.",
        question="The level “slow” has a period of 16 steps, and the plan has 136. How often will its weights change?",
        choices=("136 times, at every step", "34 times, every 4 steps", "8 times, every 16 steps"),
        runs={"Adam": _digits("adam")},
        look=(
            "“Loops inside each other”: a hand that reaches the top writes",
            "the stairs of medium and slow in “How far each level has drifted”",
        ),
        reveal=_who_wrote,
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
        choices=("The one with slow levels", "The one that always writes", "Neither of them", "Both alike, and well"),
        runs={
            "Slow levels: 1, 16, 64": _digits("adam", periods=(1, 16, 64)),
            "All fast: 1, 1, 1": _digits("adam", periods=(1, 1, 1)),
        },
        look=("the slow level of both in “How far each level has drifted”", "A in both, once B begins"),
        reveal=_slow_levels,
        after="Writing seldom is not enough. What if the one who writes remembers what it has seen?",
    ),
    "deep": Scenario(
        title="The deep optimizer wakes up",
        goal="See that the memory of the optimizer, and not the moment of the toggle, protects A.",
        question=(
            "Adam teaches A to two networks. When B begins, the deep optimizer takes over in both. In one its memory"
            " has watched A from the side, in the other it was blind until now. Who will keep A?"
        ),
        choices=("Both", "Only the one that watched", "Neither", "Only the one that was blind"),
        runs={"Its memory watched A": _digits("adam"), "Its memory was blind on A": _digits("adam", observe=False)},
        look=("the dotted line where the deep optimizer takes over", "A in both, from there on"),
        reveal=_woken,
        after="It holds on to what it has seen. Is that always right?",
        scheduled_commands=((69, "optimizer", "deep"),),
    ),
    "remapped": Scenario(
        title="When the world changes its answer",
        goal="See the price of stability: what was true may become wrong.",
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
        reveal=_new_answers,
        after="New answers that stay are news. What about answers that are nonsense?",
        speed=15.0,
    ),
    "noise": Scenario(
        title="Noise",
        goal="See who lets a burst of nonsense overwrite what is known.",
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
        reveal=_noisy,
        after="What was lost can be learned again. Does it come back faster than the first time?",
        speed=40.0,
    ),
    "aba": Scenario(
        title="A, B, then A again",
        goal="Ask whether anything of A is left in a network that fails on it.",
        question=(
            "Adam learns A, then B, then A once more. On the first 20 batches of its second visit, compared with those"
            " of the first, will A be learned …"
        ),
        choices=("faster", "about as fast", "more slowly"),
        runs={
            "Adam": Experiment.preset("digits-aba", optimizer="adam", evaluate_every=8),
            "Deep optimizer": Experiment.preset("digits-aba", optimizer="deep", evaluate_every=8),
        },
        look=("how steeply A rises the first and the second time", "what the deep optimizer has to learn again"),
        reveal=_again,
        after="Ask the hidden levels: open the page Compare and add the frozen twin.",
        speed=15.0,
    ),
    "language": Scenario(
        title="Learn a second language",
        goal="See what keeping the first language costs the second.",
        question=(
            "Names in one language, then in another: a network guesses the next letter. What will the deep optimizer"
            " do, compared with Adam?"
        ),
        choices=(
            "Keep the first and learn the second as well",
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
            "the names that each makes up, under More views",
        ),
        reveal=_second_language,
        after="Where is it right to hold on, and where to let go? Try your own settings on the page Live.",
        speed=1000.0,
    ),
}
