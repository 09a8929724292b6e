"""What the finished runs of a lesson say about its question: (which choice came true, what happened, in numbers). No
torch.

None in place of a choice: these runs do not tell, and the text says why. What differs by less than it varies is called
alike; what the network never learned, or was never put to the test, shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nllab import claims
from nllab.claims import KEEPS, Fate, Order
from nllab.events import Command, Experience, Step, Switch, measured
from nllab.runs import ONLINE_BATCHES, Run

Runs = Mapping[str, Run]
Answer = tuple[int | None, str]
ALIKE = "which differ by less than they vary"


def curve(run: Run, task: str) -> list[tuple[int, float]]:
    """(step, accuracy on the task) at every measurement."""
    return [(event.step, accuracy[task]) for event, accuracy in measured(run.log)]


def _end(run: Run, task: str) -> float:
    return curve(run, task)[-1][1]


def _guessing(runs: Runs, task: str, experience: int = 0) -> str | None:
    """That a run did not learn the task in this experience, and so shows nothing; None where all did."""
    for title, run in runs.items():
        value = run.of(Experience)[experience].accuracy[task]
        if not claims.beats_guessing(value, claims.scales_of(run)[task]):
            return f"{title}: {task} was not learned, {value:.2f} is no better than guessing. This run shows nothing."
    return None


def _order(values: Sequence[float], count: int) -> Order:
    return claims.compare(values[0], values[1], count)


def overwritten(runs: Runs) -> Answer:
    """How much of A is left: all that its test can tell (0), some (1), nothing (2)."""
    (title,) = runs
    run = runs[title]
    if nothing := _guessing(runs, "A") or _guessing(runs, "B", 1):
        return None, nothing
    before, after, became = claims.fates(run)["A"]
    text = [claims.what_became(run) or "", f"B stands at {_end(run, 'B'):.2f} now."]
    if became in ("lost", "partly lost") and (within := _half_gone(run, before)):
        text.append(f"Half of what was known of A above guessing was gone within {within} steps.")
    return {"kept": 0, "mostly kept": 1, "partly lost": 1, "lost": 2}[became], " ".join(text)


def _half_gone(run: Run, before: float) -> int | None:
    chance, switch = claims.scales_of(run)["A"].chance, run.of(Switch)[-1].step
    fallen = (
        step - switch + 1
        for step, value in curve(run, "A")
        if step >= switch and claims.share_left(before, value, chance) < 0.5
    )
    return next(fallen, None)


def who_wrote(runs: Runs, periods: Sequence[int] = (1, 4, 16)) -> Answer:
    """Which of these periods the counted writes of the level slow follow."""
    (title,) = runs
    run = runs[title]
    counts = run.update_counts
    listed = ", ".join(f"{level} {count}" for level, count in counts.items())
    text = f"In {run.steps} steps the levels changed so often: {listed}. These counts come from the weights, not from"
    text += " the plan."
    first = run.of(Step)[0].levels
    late = [name for name, level in first.items() if not level.wrote and run.levels[name] == 1 and counts[name]]
    if late and first["head"].wrote:
        text += f" In the first step {', '.join(late)} missed a write: the head began at zero, and no gradient passes"
        text += " through zeros."
    candidates = [i for i, period in enumerate(periods) if abs(counts["slow"] - run.steps // period) <= 1]
    if len(candidates) != 1:
        return None, text + f" That is none of the answers: slow changed {counts['slow']} times."
    return candidates[0], text


def slow_levels(runs: Runs) -> Answer:
    """Who knows A after B: the first run (0), the second (1), neither (2), both alike (3)."""
    if nothing := _guessing(runs, "A") or _guessing(runs, "B", 1):
        return None, nothing
    both = list(runs.values())
    ends, scale = [_end(run, "A") for run in both], claims.scales_of(both[0])["A"]
    drift = [run.of(Step)[-1].levels["slow"].drift or 0.0 for run in both]
    order, lost = _order(ends, scale.count), all(claims.fates(run)["A"][2] == "lost" for run in both)
    text = f"A ended at {ends[0]:.2f} with slow levels and at {ends[1]:.2f} without"
    text += ", neither better than guessing. " if lost else f", {ALIKE}. " if order == "alike" else ". "
    text += f"The slowest level moved {drift[0]:.2f} of its size against {drift[1]:.2f}"
    if lost and drift[0] < drift[1]:
        text += ": it moved less, and A is gone all the same, for the others wrote on"
    return 2 if lost else {"higher": 0, "lower": 1, "alike": 3}[order], text + "."


def woken(runs: Runs) -> Answer:
    """Who keeps A: both (0), only the first (1), neither (2), only the second (3)."""
    if nothing := _guessing(runs, "A") or _guessing(runs, "B", 1):
        return None, nothing
    if idle := next((title for title, run in runs.items() if not _woke(run)), None):
        return None, f"{idle}: the deep optimizer never took over, so that this run says nothing about it."
    ends = [_end(run, "A") for run in runs.values()]
    scale = claims.scales_of(next(iter(runs.values())))["A"]
    became = [claims.fates(run)["A"][2] for run in runs.values()]
    kept = (became[0] in KEEPS, became[1] in KEEPS)
    text = f"A ended at {ends[0]:.2f} where the memory had watched while Adam wrote, and at {ends[1]:.2f} where it had"
    order = _order(ends, scale.count)
    lost = ", neither better than guessing." if became == ["lost", "lost"] else "."
    text += f" not, {ALIKE}." if order == "alike" else f" not{lost}"
    if order == "alike" and kept[0] != kept[1]:  # on either side of a half, and no further apart than chance
        return None, text
    if kept == (True, False):
        text += " What protects A is what the memory has seen; the toggle only lets it act."
    return {(True, True): 0, (True, False): 1, (False, False): 2}.get(kept, 3), text


def _woke(run: Run) -> bool:
    """Whether the deep optimizer was switched on, and weights changed from there on."""
    on = next((event.step for event in run.of(Command) if (event.name, event.value) == ("optimizer", "deep")), None)
    return on is not None and any(
        step.step >= on and step.optimizer == "deep" and any(level.wrote for level in step.levels.values())
        for step in run.of(Step)
    )


def new_answers(runs: Runs) -> Answer:
    """Who gives new answers sooner, over all batches of B before learning each: Adam (0), the deep optimizer (1), both
    alike (2)."""
    if nothing := _guessing(runs, "A"):
        return None, nothing
    steps = {title: [step.online_accuracy for step in run.of(Step) if step.task == "B"] for title, run in runs.items()}
    means = [sum(shares) / len(shares) for shares in steps.values()]
    first = [run.online_accuracy[1] for run in runs.values()]
    batches, batch_size = len(next(iter(steps.values()))), next(iter(runs.values())).experiment.batch_size
    order = _order(means, batches * batch_size)
    ends = " and ".join(f"{_end(run, 'B'):.2f}" for run in runs.values())
    text = f"Over all {batches} batches with new answers Adam had {means[0]:.2f} right before learning them, the deep"
    text += f" optimizer {means[1]:.2f}" + (f", {ALIKE}." if order == "alike" else ".")
    text += f" Over the first {ONLINE_BATCHES} of them it was {first[0]:.2f} and {first[1]:.2f}"
    text += f"{_also(first, min(ONLINE_BATCHES, batches) * batch_size)}; at the end B stands at {ends}."
    if order == "higher":
        text += " A memory that keeps what it learned keeps it also when it has become wrong: this is what stability"
        text += " costs."
    return {"higher": 0, "lower": 1, "alike": 2}[order], text


def _also(values: Sequence[float], count: int) -> str:
    return f", {ALIKE}" if _order(values, count) == "alike" else ""


def time_scales(runs: Runs) -> Answer:
    """Which run (its number) has most right before learning each batch; the number of runs where the first two are
    alike."""
    means = [run.summary["mean_online_accuracy"] for run in runs.values()]
    titles, steps = list(runs), min(run.steps for run in runs.values())
    first_run = next(iter(runs.values()))
    count = steps * first_run.experiment.batch_size
    # The stream may end while names are swapped, so that the last measurement on own names tells nothing.
    scale = claims.scales_of(first_run)["A"]._replace(count=count)
    if not claims.beats_guessing(max(means), scale):
        return None, f"{max(means):.2f} right at most is no better than guessing. These runs show nothing."
    first, second, *_ = sorted(range(len(means)), key=lambda i: -means[i])
    order = _order([means[first], means[second]], count)
    text = f"Right before learning, over all {steps} batches: "
    text += ", ".join(f"{title} {mean:.2f}" for title, mean in zip(titles, means, strict=True))
    text += f"; the first two of these {ALIKE.removeprefix('which ')}." if order == "alike" else "."
    return len(runs) if order == "alike" else first, text


def noisy(runs: Runs) -> Answer:
    """Who falls further: Adam (0), the deep optimizer (1), both alike (2), neither falls (3)."""
    scale = claims.scales_of(next(iter(runs.values())))["A"]
    falls: list[tuple[float, float]] = []
    text, fell = [], []
    for title, run in runs.items():
        values, middle = curve(run, "A"), run.steps / 2
        before = [value for step, value in values if step <= middle][-1]
        lowest = min(value for step, value in values if step > middle)
        if not claims.beats_guessing(before, scale):
            return None, f"{title} had not learned A when the noise came ({before:.2f}), so that nothing could fall."
        falls.append((before, lowest))
        fell.append(claims.compare(lowest, before, scale.count) == "lower")
        moved = f"fell from {before:.2f} to {lowest:.2f}" if fell[-1] else f"stayed at {before:.2f} or close to it"
        text.append(f"{title} {moved} and ended at {values[-1][1]:.2f}")
    sentence = "; ".join(text) + ", on true labels."
    if not any(fell):
        return 3, sentence
    order = claims.compare_changes(falls[0], falls[1], scale.count)
    if order == "alike":
        sentence += " The two falls differ by less than they vary."
    return {"lower": 0, "higher": 1, "alike": 2}[order], sentence


def again(runs: Runs) -> Answer:
    """How A is learned the second time: faster (0), about as fast (1), more slowly (2)."""
    if nothing := _guessing(runs, "A") or _guessing(runs, "B", 1):
        return None, nothing
    count = ONLINE_BATCHES * next(iter(runs.values())).experiment.batch_size
    text, orders = [], []
    for title, run in runs.items():
        first, _, second = run.online_accuracy
        became = _fate_after(run, "A", 1)
        orders.append(claims.compare(second, first, count))
        alike = f", {ALIKE}" if orders[-1] == "alike" else ""
        text.append(
            f"{title} had {first:.2f} of A right before learning it the first time, over {ONLINE_BATCHES} batches, and"
            f" {second:.2f} the second time{alike}; B had left A {_WORDS[became]}."
        )
    return {"higher": 0, "alike": 1, "lower": 2}[orders[0]], " ".join(text)


_WORDS: dict[Fate, str] = {
    "kept": "as it was",
    "mostly kept": "for the most part as it was",
    "partly lost": "with less than half of what was known",
    "lost": "no better than guessing",
    "never learned": "never learned",
}


def _fate_after(run: Run, task: str, experience: int) -> Fate:
    """What had become of a task when this experience ended."""
    done = run.of(Experience)
    before = next(event.accuracy[task] for event in done if event.task == task)
    return claims.fate(before, done[experience].accuracy[task], claims.scales_of(run)[task])


def second_language(runs: Runs) -> Answer:
    """The deep optimizer beside Adam: keeps the first better and learns the second no worse (0), keeps the first better
    and learns less of the second (1), keeps the first no better (2)."""
    if nothing := _guessing(runs, "A") or _guessing(runs, "B", 1):
        return None, nothing
    adam, deep = runs.values()
    scales = claims.scales_of(deep)
    first, second = ([_end(run, task) for run in (deep, adam)] for task in "AB")
    kept, learned = _order(first, scales["A"].count), _order(second, scales["B"].count)
    fallen = [f"{run.summary['a_after_a']:.2f} to {end:.2f}" for run, end in zip((deep, adam), first, strict=True)]
    text = f"The first language went from {fallen[1]} with Adam and from {fallen[0]} with the deep optimizer"
    text += "; at the end they differ by less than they vary." if kept == "alike" else "."
    text += f" The second was learned to {second[1]:.2f} and to {second[0]:.2f}"
    text += f", {ALIKE}." if learned == "alike" else "."
    if why := claims.why_it_loses(deep):
        text += f" {why}"
    if kept != "higher":
        return 2, text
    return (1 if learned == "lower" else 0), text


def wide_and_narrow(runs: Runs) -> Answer:
    """Where learned levels are worth more over their twin: in the narrow net (0), the wide one (1), alike (2).

    runs: narrow, narrow and frozen, wide, wide and frozen.
    """
    learned, frozen, wide, wide_frozen = runs.values()
    if nothing := next((text for run in (learned, wide) if (text := claims.not_learned(run))), None):
        return None, nothing
    means = [run.summary["average_accuracy"] for run in runs.values()]
    count = sum(scale.count for scale in claims.scales_of(learned).values())
    units = [run.experiment.dim for run in (learned, wide)]
    text = []
    for width, own, twin in ((units[0], *means[:2]), (units[1], *means[2:])):
        alike = f", {ALIKE}" if claims.compare(own, twin, count) == "alike" else ""
        text.append(f"At {width} units levels that learn reach {own:.2f}, their frozen twin {twin:.2f}{alike}.")
    order = claims.compare_changes((means[1], means[0]), (means[3], means[2]), count)
    if order == "alike":
        text.append("Between the two widths what learning adds differs by less than it varies.")
    return {"higher": 0, "lower": 1, "alike": 2}[order], " ".join(text)
