"""What a run bears out, in words: pure functions from figures to a sentence, or None where it would be false. No torch.

Nothing is called kept, lost, better or worse by an absolute number. An accuracy stands beside the accuracy of guessing
(`chance`), beside what it was, and beside how far a share of so many test samples varies by itself; figures of several
seeds stand beside the interval of their paired differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Literal, NamedTuple

from nllab.events import End, Event, Experience, Step, Untrained, measured
from nllab.experiment import Experiment
from nllab.runs import Run
from nllab.summary import paired_difference

SURE = 2.0  # standard errors by which two shares differ before one is called higher
Order = Literal["higher", "lower", "alike"]
Fate = Literal["never learned", "kept", "mostly kept", "partly lost", "lost"]
SEVERITY: tuple[Fate, ...] = ("lost", "partly lost", "mostly kept", "kept", "never learned")
KEEPS: tuple[Fate, ...] = ("kept", "mostly kept")


class Scale(NamedTuple):
    """How a task is tested: the accuracy of guessing, or of the untrained network where that is higher, and the number
    of its test samples."""

    chance: float
    count: int


def error(share: float, count: int) -> float:
    """Standard error of a share of `count` samples, with one right and one wrong sample added (Agresti and Coull), so
    that 0 and 1 vary as well."""
    smoothed = (share * count + 1) / (count + 2)
    return sqrt(smoothed * (1 - smoothed) / (count + 2))


def compare(first: float, second: float, count: int) -> Order:
    """How two accuracies on `count` test samples compare; alike where they differ by less than they vary."""
    if abs(first - second) <= SURE * sqrt(error(first, count) ** 2 + error(second, count) ** 2):
        return "alike"
    return "higher" if first > second else "lower"


def compare_changes(first: tuple[float, float], second: tuple[float, float], count: int) -> Order:
    """How two changes (before, after) of accuracies on `count` test samples compare, by the error of all four."""
    change = (first[1] - first[0], second[1] - second[0])
    if abs(change[0] - change[1]) <= SURE * sqrt(sum(error(share, count) ** 2 for share in (*first, *second))):
        return "alike"
    return "higher" if change[0] > change[1] else "lower"


def compare_seeds(values: Sequence[float], others: Sequence[float]) -> Order | None:
    """The same over paired seeds, by the 95 % interval of the difference; None for fewer than two seeds."""
    gap = paired_difference(list(values), list(others))
    if gap is None or gap["half_width"] is None:
        return None
    if abs(gap["mean"]) <= gap["half_width"]:
        return "alike"
    return "higher" if gap["mean"] > 0 else "lower"


def share_left(before: float, after: float, chance: float) -> float:
    """How much of what was known above guessing is left."""
    return (after - chance) / (before - chance) if before > chance else 0.0


def beats_guessing(share: float, scale: Scale) -> bool:
    """Whether a share of right answers is above chance by more than its standard error explains."""
    return share - scale.chance > SURE * error(share, scale.count)


def fate(before: float, after: float, scale: Scale) -> Fate:
    """What became of a task that stood at `before` when it had been learned."""
    if not beats_guessing(before, scale):
        return "never learned"
    if not beats_guessing(after, scale):
        return "lost"
    if compare(after, before, scale.count) != "lower":
        return "kept"
    return "mostly kept" if share_left(before, after, scale.chance) > 0.5 else "partly lost"


def scales_in(events: Sequence[Event]) -> dict[str, Scale]:
    """Task -> how it is tested; empty where the events do not say (runs of before 2026-11-27)."""
    untrained = next((event for event in events if isinstance(event, Untrained)), None)
    if untrained is None or not untrained.classes or not untrained.samples:
        return {}
    # An untrained network that gives one answer to everything may be right more often than one time in `classes`.
    return {
        task: Scale(max(1 / untrained.classes, untrained.accuracy[task]), count)
        for task, count in untrained.samples.items()
    }


def scales_of(run: Run) -> dict[str, Scale]:
    """What accuracies of a run are compared with, by task."""
    return scales_in(run.log)


def claim(holds: Any, sentence: str) -> str | None:
    """The sentence where it holds."""
    return sentence if holds else None


def fates(run: Run) -> dict[str, tuple[float, float, Fate]]:
    """Earlier task -> (accuracy when it had been learned, accuracy at the last measurement, what became of it)."""
    scales, learned = scales_of(run), {}
    for experience in run.of(Experience):
        if experience.task in experience.accuracy:
            learned.setdefault(experience.task, experience.accuracy[experience.task])
    now, taught = _now(run), _taught(run)
    if now is None or taught is None:
        return {}
    return {
        task: (before, now[task], fate(before, now[task], scales[task]))
        for task, before in learned.items()
        if task != taught and task in scales
    }


def _now(run: Run) -> Mapping[str, float] | None:
    return next((accuracy for _, accuracy in measured(reversed(run.log))), None)


def _taught(run: Run) -> str | None:
    """The task that is taught now, or was taught last."""
    last, over = run.last(Step), run.last(Experience)
    return over.task if over and isinstance(run.log[-1], End) else last.task if last else None


def not_learned(run: Run) -> str | None:
    """That the task taught last is no better known than by guessing, so that nothing put the earlier ones to the test;
    None where it was learned, or where nothing tells."""
    now, task, scales = _now(run), _taught(run), scales_of(run)
    if now is None or task not in scales or beats_guessing(now[task], scales[task]):
        return None
    return (
        f"{task} itself was not learned: {now[task]:.2f} is no better than guessing, so that nothing put what was known"
        " before to the test."
    )


def what_became(run: Run, joint: Mapping[str, float] | None = None) -> str | None:
    """What became of the earlier task of which least is left, and of how many others; None where there is none.

    joint: accuracies of the same network trained on all tasks at once, where that was run.
    """
    fate_of = fates(run)
    worst = sorted(fate_of.items(), key=lambda item: SEVERITY.index(item[1][2]))[:1]
    for task, (before, after, became) in worst:
        scale = scales_of(run)[task]
        left = share_left(before, after, scale.chance)
        words = {
            "lost": f"{task} is gone: {after:.2f}, no better than guessing, after {before:.2f}.",
            "partly lost": f"Of {task} less than half is left: {before:.2f} fell to {after:.2f}"
            f" ({left:.0%} of what was known above guessing).",
            "mostly kept": f"Most of {task} is still there: {after:.2f} after {before:.2f}"
            f" ({left:.0%} of what was known above guessing).",
            "kept": f"{task} is still there: {after:.2f} after {before:.2f}, "
            + (
                "higher by more than it varies."
                if compare(after, before, scale.count) == "higher"
                else "which differ by less than they vary."
            ),
            "never learned": f"{task} was never learned: {before:.2f} is no better than guessing, so that nothing could"
            " be kept or lost.",
        }
        sentences = [words[became]]
        if len(fate_of) > 1:
            left_over = sum(fate in KEEPS for *_, fate in fate_of.values())
            sentences.append(f"{left_over} of {len(fate_of)} earlier tasks are kept, whole or for the most part.")
        if became != "never learned" and (untested := not_learned(run)):
            sentences.append(untested)
        elif became != "never learned" and joint and task in joint:
            sentences.append(beside_joint(task, after, joint[task], scale.count))
        return " ".join(sentences)
    return None


def beside_joint(task: str, after: float, joint: float, count: int) -> str:
    """How an accuracy at the end stands beside that of the same network trained on all tasks at once."""
    order = compare(after, joint, count)
    if order == "alike":
        return f"Trained on all tasks at once {task} stands at {joint:.2f}: the two differ by less than they vary."
    where = "above" if order == "higher" else "below"
    return f"That is {abs(after - joint):.2f} {where} training on all tasks at once ({joint:.2f})."


def hint(run: Run) -> str | None:
    """What to try next: "collapsed", "survived", "twin", "lost" (with the deep optimizer on), or nothing to say."""
    fate_of, last = fates(run), run.last(Step)
    if not fate_of or last is None or not_learned(run):
        return None
    became = [fate for _, _, fate in fate_of.values()]
    if any(fate in ("lost", "partly lost") for fate in became):
        return "collapsed" if last.optimizer != "deep" else "lost"
    over = isinstance(run.log[-1], End) and last.optimizer == "deep"
    if over and set(became) <= {"kept", "mostly kept"}:
        return "twin" if run.experiment.frozen else "survived"
    return None


def hidden_levels(values: Sequence[float], twin: Sequence[float]) -> str | None:
    """What hidden levels that learn are worth beside their frozen twin, over paired seeds; None without a pair."""
    gap = paired_difference(list(values), list(twin))
    if gap is None:
        return None
    if gap["half_width"] is None:
        return (
            f"Hidden levels that learn brought {gap['mean']:+.3f} against the twin on this seed; one seed does not say"
            " whether that is more than chance."
        )
    size = f"{abs(gap['mean']):.3f} ± {gap['half_width']:.3f}"
    match compare_seeds(values, twin):
        case "higher":
            return f"Hidden levels that learn are worth {size} over {len(values)} seeds."
        case "lower":
            return f"Hidden levels that learn cost {size} over {len(values)} seeds."
    return f"Hidden levels that learn and the frozen twin differ by less than they vary ({size}, {len(values)} seeds)."


def why_it_loses(run: Run) -> str | None:
    """Where the deep optimizer did not keep an earlier task: which share of the steps its memory held back."""
    last = run.last(Step)
    if (
        last is None
        or last.optimizer != "deep"
        or not any(f in ("lost", "partly lost") for *_, f in fates(run).values())
    ):
        return None
    held: dict[str, list[float]] = {}
    for step in run.of(Step):
        for name, level in step.levels.items():
            if level.conflict is not None and step.task == last.task:
                held.setdefault(name, []).append(level.conflict)
    if not held:
        return "The deep optimizer did not keep it, and nothing was measured that says why."
    shares = {name: sum(values) / len(values) for name, values in held.items()}
    least = min(shares, key=lambda name: shares[name])
    missing = [name for name in run.levels if name not in shares]
    text = (
        f"The deep optimizer did not keep it. While {last.task} was taught its memory held back"
        f" {shares[least]:.0%} of the steps of the level {least}, the least of all."
    )
    if missing:
        text += f" Of {', '.join(missing)} nothing was measured: the memory does not see all that they compute."
    return text


def summary_of(results: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Which of several results (as `summarize` gives them) is best, and from which it cannot be told apart."""
    values = {name: result["metrics"]["average_accuracy"]["values"] for name, result in results.items()}
    values = {name: found for name, found in values.items() if found and None not in found}
    if len(values) < 2:
        return None
    means = {name: sum(found) / len(found) for name, found in values.items()}
    best = max(means, key=lambda name: means[name])
    orders = {name: compare_seeds(values[best], found) for name, found in values.items() if name != best}
    if None in orders.values():
        return f"{best} has the best average accuracy on one seed; take more seeds to tell it from chance."
    alike = [name for name, order in orders.items() if order == "alike"]
    ahead = f"{best} has the best average accuracy, {means[best]:.3f}"
    return f"{ahead}; {', '.join(alike)} cannot be told apart from it." if alike else f"{ahead}, ahead of all others."


def cannot_show(experiment: Experiment, update_counts: Mapping[str, float]) -> list[str]:
    """What a run of these settings says nothing about, whatever its figures are; empty for most.

    update_counts: level -> how often its weights changed.
    """
    sentences = []
    never = [level for level, count in update_counts.items() if not count]
    if never and not experiment.frozen and any(update_counts.values()):
        sentences.append(
            f"{', '.join(never)} never changed: periods longer than the run, or no gradient that arrives. So nothing"
            " here says what they learn or keep."
        )
    if experiment.model == "cms" and experiment.front == "dense" and experiment.dim == 1:
        sentences.append(
            "At a width of 1 normalised features are all equal, so that no answer depends on what is shown: nothing"
            " here says what is learned or forgotten."
        )
    retentions = {experiment.retention, *experiment.retention_by_level.values()}
    if retentions == {0.0} and (experiment.optimizer == "deep" or experiment.observe):
        sentences.append(
            "At a retention of 0 every memory holds its last batch alone, so that nothing here says what remembering is"
            " worth."
        )
    return sentences


def compared(learners: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on a table of learners: which is best, what each one's hidden levels are worth, how far it is from its
    joint training.

    learners: name -> what `summarize` gives, with that of its "twin" and of its "joint" run, or None.
    """
    sentences = [summary_of(learners)]
    for name, learner in learners.items():
        own = _averages(learner)
        for text in (
            hidden_levels(own, _averages(learner.get("twin"))),
            from_joint(own, _averages(learner.get("joint"))),
        ):
            sentences.append(f"{name}: {text}" if text else None)
    return [text for text in sentences if text]


def _averages(result: Mapping[str, Any] | None) -> list[float]:
    """The average accuracies of a result, over its seeds; none where one is missing."""
    values = result["metrics"]["average_accuracy"]["values"] if result else []
    return [] if None in values else values


def from_joint(values: Sequence[float], joint: Sequence[float]) -> str | None:
    """How one task after another compares with all at once, over paired seeds; None without a pair."""
    gap = paired_difference(values, joint)
    if gap is None:
        return None
    if gap["half_width"] is None:
        return f"One task after another is {gap['mean']:+.3f} from joint training on this seed."
    size = f"{abs(gap['mean']):.3f} ± {gap['half_width']:.3f}"
    match compare_seeds(values, joint):
        case "higher":
            return f"One task after another is {size} above joint training over {len(values)} seeds."
        case "lower":
            return f"One task after another is {size} below joint training over {len(values)} seeds."
    return f"One task after another and joint training differ by less than they vary ({size}, {len(values)} seeds)."
