"""What a lesson says in the end is said where the figures of its runs bear it out, and not where they do not."""

import pytest

from nllab import narration, reveals
from nllab.events import Command, End, Experience, LevelStep, Step, Switch, Untrained
from nllab.experiment import Experiment
from nllab.runs import ONLINE, Run
from nllab.scenarios import SCENARIOS

LEVEL = {"update_norm": 0.1, "drift_since_switch": 0.1, "gradient_norm": 1.0}


def run_of(*rows, online=(), drift=0.5, wrote=True, writes=9, commands=(), count=225, **settings):
    """A run of one visit of two steps for each row (task, accuracy on A, accuracy on B); online: accuracy of each visit
    before learning, mid: of A in the middle of the last one."""
    settings = {"optimizer": "deep", "batch_size": 10} | settings
    log = [Untrained(step=0, accuracy={"A": 0.1, "B": 0.1}, classes=10, samples={"A": count, "B": count})]
    for i, (task, a, b) in enumerate(rows):
        accuracy, steps = {"A": a, "B": b}, (2 * i + 1, 2 * i + 2)
        log.append(Switch(step=steps[0], experience=i, task=task, about=""))
        log += [Command(step=at, name="optimizer", value=value) for at, value in commands if at == steps[0]]
        for step in steps:
            level = {"wrote": wrote, "writes": writes, "drift": drift, **LEVEL}
            levels = {name: LevelStep(**level, conflict=0.2) for name in ("slow", "head")}
            acting = next((value for at, value in commands if at <= step), settings["optimizer"])
            told = {"loss": 0.1, "online_accuracy": online[i] if online else 0.5, "optimizer": acting}
            at_end = accuracy if step == steps[1] else None
            log.append(Step(step=step, task=task, levels=levels, accuracy=at_end, **told))
        log.append(Experience(step=steps[1], experience=i, task=task, accuracy=accuracy))
    log.append(End(step=2 * len(rows), reason="finished", text=""))
    return Run(Experiment(**settings), ("A", "B"), {"slow": 1, "head": 1}, log)


def ab(after, before=0.98, b=0.95, **how):
    return run_of(("A", before, 0.1), ("B", after, b), **how)


@pytest.mark.parametrize(
    ("run", "index", "words"),
    [
        (ab(0.97), 0, "differ by less than they vary"),
        (ab(0.8), 1, "Most of A"),
        (ab(0.3), 1, "less than half"),
        (ab(0.02), 2, "no better than guessing"),
        (ab(0.1, before=0.12), None, "A was not learned"),
        (ab(0.97, b=0.1), None, "B was not learned"),
        (ab(0.9, count=40), 0, "vary"),
        (ab(0.9, count=4000), 1, "Most of A"),
    ],
)
def test_the_reveal_of_overwriting_follows_guessing_and_the_number_of_samples(run, index, words):
    found, text = reveals.overwritten({"Adam": run})
    assert (
        found == index
        and words in text
        and ("gone within" in text) == (words in ("less than half", "no better than guessing"))
    )


@pytest.mark.parametrize(("writes", "index"), [(8, 2), (9, 2), (34, 1), (135, 0), (20, None), (0, None)])
def test_the_reveal_of_periods_follows_the_counted_writes(writes, index):
    run = ab(0.9, writes=writes)
    run.log[-3].step = 136
    found, text = reveals.who_wrote({"Adam": run})
    assert found == index and f"slow {writes}" in text and ("none of the answers" in text) == (index is None)
    assert "missed a write" not in text
    for name in ("slow", "head"):
        run.of(Step)[0].levels[name].wrote = name == "head"
    assert ("slow missed a write" in reveals.who_wrote({"Adam": run})[1]) == (writes > 0)


@pytest.mark.parametrize(
    ("slow", "fast", "index", "words"),
    [
        (ab(0.6, drift=0.1), ab(0.3), 0, "with slow levels"),
        (ab(0.3, drift=0.1), ab(0.6), 1, "with slow levels"),
        (ab(0.02, drift=0.1), ab(0.0), 2, "gone all the same"),
        (ab(0.02, drift=0.5), ab(0.0), 2, "neither better than guessing"),
        (ab(0.6), ab(0.62), 3, "less than they vary"),
        (ab(0.6, b=0.1), ab(0.1), None, "B was not learned"),
    ],
)
def test_the_reveal_of_slow_levels_follows_the_numbers(slow, fast, index, words):
    found, text = reveals.slow_levels({"slow": slow, "fast": fast})
    assert found == index and words in text and ("moved less" in text) == (words == "gone all the same")


DEEP = {"optimizer": "adam", "commands": ((3, "deep"),)}


@pytest.mark.parametrize(
    ("watched", "blind", "index"),
    [(0.98, 0.0, 1), (0.98, 0.97, 0), (0.1, 0.0, 2), (0.0, 0.98, 3), (0.56, 0.52, None)],
)
def test_the_reveal_of_the_toggle_follows_the_numbers(watched, blind, index):
    found, text = reveals.woken({"watched": ab(watched, **DEEP), "blind": ab(blind, **DEEP)})
    assert found == index and ("What protects A" in text) == (index == 1)
    assert ("vary" in text) == (index in (0, None)) and ("neither better than guessing" in text) == (index == 2)


@pytest.mark.parametrize(
    "dead",
    [ab(0.98, optimizer="adam"), ab(0.98, wrote=False, **DEEP), ab(0.98, b=0.1, **DEEP), ab(0.1, before=0.1, **DEEP)],
)
def test_a_toggle_that_is_dead_protects_nothing(dead):
    found, text = reveals.woken({"watched": dead, "blind": ab(0.0, **DEEP)})
    assert found is None and "What protects A" not in text


@pytest.mark.parametrize(("adam", "deep", "index"), [(0.9, 0.1, 0), (0.1, 0.9, 1), (0.6, 0.59, 2)])
def test_the_reveal_of_new_answers_follows_the_first_batches(adam, deep, index):
    runs = {title: ab(0.0, online=(0.9, value)) for title, value in (("Adam", adam), ("Deep optimizer", deep))}
    found, text = reveals.new_answers(runs)
    assert found == index and ("what stability costs" in text) == (index == 0)
    assert ("all 2 batches" in text) and ("before learning them, the deep optimizer" in text)
    assert text.count("vary") == (2 if index == 2 else 0)
    runs["Deep optimizer"] = ab(0.0, before=0.1, online=(0.9, deep))
    assert reveals.new_answers(runs)[0] is None


def noisy(before, lowest, last):
    return run_of(("A", before, 0.1), ("A", before, 0.1), ("A", lowest, 0.1), ("A", last, 0.1))


@pytest.mark.parametrize(
    ("adam", "deep", "index", "words"),
    [
        (noisy(0.98, 0.6, 0.9), noisy(0.982, 0.979, 0.98), 0, "Deep optimizer stayed at 0.98 or close to it"),
        (noisy(0.98, 0.97, 0.9), noisy(0.98, 0.5, 0.98), 1, "Deep optimizer fell from 0.98 to 0.50"),
        (noisy(0.98, 0.6, 0.9), noisy(0.98, 0.61, 0.98), 2, "The two falls differ by less than they vary"),
        (noisy(0.98, 0.97, 0.98), noisy(0.98, 0.98, 0.98), 3, "stayed"),
        (noisy(0.1, 0.02, 0.98), noisy(0.98, 0.98, 0.98), None, "had not learned A"),
    ],
)
def test_the_reveal_of_noise_calls_nothing_a_fall_that_is_none(adam, deep, index, words):
    found, text = reveals.noisy({"Adam": adam, "Deep optimizer": deep})
    assert found == index and words in text


@pytest.mark.parametrize(("second", "index"), [(0.7, 0), (0.5, 1), (0.3, 2)])
def test_the_reveal_of_learning_again_follows_the_first_batches(second, index):
    def aba(lost, again):
        return run_of(("A", 0.98, 0.1), ("B", lost, 0.95), ("A", 0.98, 0.1), online=(0.5, 0.5, again))

    found, text = reveals.again({"Adam": aba(0.0, second), "Deep optimizer": aba(0.97, 0.9)})
    assert found == index and "B had left A no better than guessing" in text and "B had left A as it was" in text
    assert text.count("vary") == (index == 1)
    assert "as it was" not in reveals.again({"Adam": aba(0.0, second), "Deep optimizer": aba(0.2, 0.9)})[1]


@pytest.mark.parametrize(
    ("adam", "deep", "index", "words"),
    [
        (ab(0.3, b=0.4), ab(0.9, b=0.4), 0, "less than they vary"),
        (ab(0.3, b=0.6), ab(0.9, b=0.4), 1, "0.98 to 0.90 with the deep optimizer. The second was learned to 0.60"),
        (ab(0.233, before=0.31, b=0.5), ab(0.237, before=0.31, b=0.4), 2, "at the end they differ by less"),
        (ab(0.9, b=0.5), ab(0.3, b=0.6), 2, "did not keep it"),
        (ab(0.9, b=0.05), ab(0.9, b=0.6), None, "B was not learned"),
    ],
)
def test_the_reveal_of_languages_calls_nothing_kept_better_that_is_not(adam, deep, index, words):
    found, text = reveals.second_language({"Adam": adam, "Deep optimizer": deep})
    assert found == index and words in text and ("did not keep it" in text) == (deep.summary["a_after_b"] == 0.3)


@pytest.mark.parametrize(
    ("narrow", "wide", "index"),
    [((0.9, 0.6), (0.96, 0.95), 0), ((0.6, 0.6), (0.96, 0.7), 1), ((0.9, 0.85), (0.95, 0.9), 2)],
)
def test_the_reveal_of_widths_compares_what_learning_adds(narrow, wide, index):
    runs = {str(i): ab(value, b=value) for i, value in enumerate((*narrow, *wide))}
    found, text = reveals.wide_and_narrow(runs)
    assert found == index and ("between the two widths" in text.lower()) == (index == 2)
    assert reveals.wide_and_narrow(runs | {"0": ab(0.9, b=0.1)})[0] is None


@pytest.mark.parametrize(("online", "index"), [((0.3, 0.4, 0.9), 2), ((0.3, 0.9, 0.4), 1), ((0.9, 0.88, 0.4), 3)])
def test_the_reveal_of_time_scales_follows_what_was_right_before_learning(online, index):
    runs = {str(i): run_of(("A", 0.9, 0.1), ("A", 0.9, 0.1), online=(share, share)) for i, share in enumerate(online)}
    found, text = reveals.time_scales(runs)
    assert found == index and all(f"{i} {share:.2f}" in text for i, share in enumerate(online))
    assert ("differ by less than they vary" in text) == (index == 3)
    headline = narration.contrast(list(runs.values()), ONLINE)
    assert headline.startswith("Right before learning") and f"{online[2]:.2f} in the third" in headline
    guessed = {name: run_of(("A", 0.9, 0.1), ("A", 0.9, 0.1), online=(0.1, 0.1)) for name in runs}
    assert reveals.time_scales(guessed)[0] is None
    swapped = zip(runs, online, strict=True)  # their last measurement came while names were swapped
    ends = {name: run_of(("A", 0.9, 0.1), ("A", 0.01, 0.1), online=(share, share)) for name, share in swapped}
    assert reveals.time_scales(ends)[0] == index


@pytest.mark.parametrize("key", [key for key, scenario in SCENARIOS.items() if len(scenario.runs) == 2])
def test_two_equal_runs_are_never_told_apart(key):
    rows = [("A", 0.98, 0.1), ("B", 0.5, 0.9), ("A", 0.9, 0.1)][: 3 if key == "aba" else 2]
    rows = [("A", 0.9, 0.1)] * 4 if key == "noise" else rows
    how = {"online": (0.5,) * 4, **(DEEP if key == "deep" else {})}
    runs = {title: run_of(*rows, **how) for title in SCENARIOS[key].runs}
    index, text = SCENARIOS[key].reveal(runs)
    fair = {"slow": 3, "deep": 2, "remapped": 2, "noise": 3, "aba": 1, "language": 2}
    assert index == fair[key] and "What protects A" not in text
