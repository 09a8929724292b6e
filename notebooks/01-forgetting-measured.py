# %% [markdown]
# # 01 · Forgetting measured: which numbers tell how much was lost?
#
# **About 45 minutes.** The exercises take another 35. You need: notebook 00; means and standard deviations.
#
# At the end you can
# - read an accuracy matrix, and compute average accuracy, forgetting and transfer from it,
# - name a learner that each of these numbers flatters,
# - say with an interval over paired seeds whether one method beats another.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
from nllab import Experiment, LiveLab, metrics, train
from nllab.course import begin, check, claim
from nllab.course.draw import bars, canvas, curves, spots
from nllab.events import Switch
from nllab.explore import explore
from nllab.summary import paired_difference

begin("01")
FAST = {"evaluate_every": 1000, "observe": False}  # no curves needed here

# %% [markdown]
# ## The accuracy matrix
#
# Teach tasks one after another; each visit of a task is an *experience*. After each, measure the accuracy on every
# task:
#
# $$a_{ij} = \text{accuracy on task } j \text{ after experience } i$$
#
# With $T$ the last row, three numbers are read from it:
#
# - **average accuracy**, the mean of the last row over the tasks that were taught,
# - **forgetting**, the mean over earlier tasks of $\max_{i<T} a_{ij} - a_{Tj}$, from a task's first visit on: how
#   far it has fallen from its best,
# - **backward transfer**, the mean over earlier tasks of $a_{Tj} - a_{f(j)\,j}$, with $f(j)$ the first visit of task
#   $j$: what later experiences did to it.
#
# What is overwritten are weights: a step of gradient descent adds $-\eta\,\delta\,x^\top$ to a layer, $\delta$ the
# error signal at its output, $x$ its input (Eq. 29). Nothing in it asks what else those weights were good for. (Adam
# scales each entry, and does not ask either.)
#
# ## The smallest example
#
# Three experiences, A, then B, then A again, with Adam on the digits. Before you run the cell: which entries of the
# matrix will be near 1, and which near 0?

# %%
again = train(Experiment.preset("digits-aba", optimizer="adam", **FAST))
matrix = again.accuracy_matrix
print("after     A      B")
for task, row in zip("ABA", matrix, strict=True):
    print(f"    {task}  {row[0]:.2f}   {row[1]:.2f}")
fell = metrics.forgetting(matrix, again.visits)
by_hand = ((max(matrix[0, 0], matrix[1, 0]) - matrix[2, 0]) + (matrix[1, 1] - matrix[2, 1])) / 2
claim(abs(fell - by_hand) < 1e-9, f"By hand and by `nllab.metrics`, forgetting is {fell:.2f}.")
claim(
    matrix[1, 0] < 0.3 and matrix[2, 0] > 0.85 and matrix[2, 1] < 0.3,
    f"A is lost to B ({matrix[1, 0]:.2f}) and comes back ({matrix[2, 0]:.2f}), at the price "
    "of B "
    f"({matrix[2, 1]:.2f}): whatever came last has won.",
)

# %% [markdown]
# ## Somebody sleeps through B
#
# Now a learner that does nothing: Adam teaches A, and when B begins the learning rate is set to 0. And one that learns
# B as well as it can. Which has the better average, and which the better forgetting?

# %%
adam = train(Experiment.preset("digits-ab", optimizer="adam", **FAST))
start_of_b = adam.of(Switch)[1].step
asleep = train(
    Experiment.preset("digits-ab", optimizer="adam", **FAST),
    commands=[(start_of_b, "learning_rate", 0.0)],
)
KEYS = ("average_accuracy", "forgetting", "backward_transfer")
numbers = {
    name: [run.summary[key] for key in KEYS]
    for name, run in {"Adam": adam, "sleeps through B": asleep}.items()
}
for name, values in numbers.items():
    said = ", ".join(
        f"{k.replace('_', ' ')} {v:.2f}" for k, v in zip(KEYS, values, strict=True)
    )
    print(f"{name:>17}: {said}")
gap = abs(numbers["Adam"][0] - numbers["sleeps through B"][0])
claim(gap < 0.1, f"On the average the two are {gap:.2f} apart: half a world each.")
claim(
    numbers["sleeps through B"][1] == 0 and numbers["Adam"][1] > 0.6,
    "The sleeper has forgetting 0, a perfect score, and has learned nothing of B.",
)
claim(asleep.summary["b_after_b"] < 0.1, f"Of B it knows {asleep.summary['b_after_b']:.2f}.")
figure, (axes,) = canvas(width=7)
bars(axes, numbers, KEYS, ylim=(-1, 1.1))
figure

# %% [markdown]
# No one number will do. **Look at both entries of the last row**, A after B and B after B, before any mean of them.
#
# ## Move the knob: the learning rate
#
# Between sleeping (rate 0) and overwriting lies a whole scale. Where is the best average? And is there a rate that
# learns B and still knows A?

# %%
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
ends = {}
for rate in RATES:
    run = train(Experiment.preset("digits-ab", optimizer="adam", learning_rate=rate, **FAST))
    ends[rate] = [run.summary[key] for key in ("a_after_a", "a_after_b", "b_after_b")]


def at(learning_rate):
    a, a_later, b = ends[learning_rate]
    figure, (left, right) = canvas(2)
    bars(left, {"after A": (a, 0), "after B": (a_later, b)}, ("A", "B"), ylim=(0, 1.1))
    averages = {"average": [(row[1] + row[2]) / 2 for row in ends.values()]}
    about = {"xscale": "log", "ylim": (0, 1), "xlabel": "learning rate"}
    curves(RATES, averages, marks=True, axes=right, **about)
    right.axvline(learning_rate, color="#444444", linestyle=":")
    return figure


best = max(ends, key=lambda rate: ends[rate][1] + ends[rate][2])
claim(
    max(row[1] for row in ends.values()) < 0.4,
    f"At none of these rates is more than {max(row[1] for row in ends.values()):.2f} of A "
    f"left; the best average, {(ends[best][1] + ends[best][2]) / 2:.2f}, is at {best:g}.",
)
slowest = ends[RATES[0]]
claim(
    slowest[1] < 0.1 and slowest[2] < ends[1e-3][2] - 0.1,
    f"Not even the slowest is a compromise: at {RATES[0]:g} B is half learned, "
    f"{slowest[2]:.2f}, and of A {slowest[1]:.2f} is left.",
)
explore(at, learning_rate=list(RATES), start={"learning_rate": 1e-3})

# %%
LiveLab(
    Experiment.preset("digits-ab", optimizer="adam"),
    knobs=("learning_rate", "optimizer", "teach"),
    views=("accuracy",),
)

# %% [markdown]
# ## Beside what?
#
# "My method keeps 90 %" says nothing without its neighbours. This lab puts four beside every result: a **cheap trick**,
# the **frozen twin** (all levels but the head at their random initial values), the **ceiling** (*joint*: all tasks at
# once, mixed) and the **bytes** kept beyond the weights. The trick here: let the loss count only those outputs whose
# classes are in the batch, so that nothing pushes the others down. One line, and no memory but Adam's own moments.
# *deep* is the deep optimizer of notebook 00. (20 networks: half a minute.)
#
# **Guess first:** does the trick keep A?

# %%
LEARNERS = {
    "Adam": {"optimizer": "adam"},
    "Adam, trick": {"optimizer": "adam", "outputs": "batch"},
    "deep": {"optimizer": "deep"},
    "deep, twin": {"optimizer": "deep", "frozen": True},
    "deep, joint": {"optimizer": "deep", "joint": True},
}
SEEDS = range(4)
score, kept = {name: [] for name in LEARNERS}, {}
for name, settings in LEARNERS.items():
    for seed in SEEDS:
        run = train(Experiment.preset("digits-ab", seed=seed, **settings, **FAST))
        score[name].append(run.summary["average_accuracy"])
    kept[name] = run.bytes_kept
for name, values in score.items():
    print(f"{name:>12}: {sum(values) / len(values):.3f}   {kept[name]:>8,} bytes")
mean = {name: sum(values) / len(values) for name, values in score.items()}
claim(
    mean["Adam, trick"] > mean["Adam"] + 0.2 and kept["Adam, trick"] == kept["Adam"],
    f"The trick lifts Adam from {mean['Adam']:.2f} to {mean['Adam, trick']:.2f}, and keeps not a "
    "byte more. A method that is shown beside plain Adam alone is shown beside too little.",
)
spots({name: {"": values} for name, values in score.items()}, ylabel="average accuracy")

# %% [markdown]
# ## How sure?
#
# Seeds differ, and the same seed gives every learner the same start and the same images. So compare *pairs*: the mean
# of the differences, with its 95 % interval $\bar d \pm t\, s / \sqrt n$ ($s$ their standard deviation, $n$ their
# number,
# $t$ from Student's distribution with $n - 1$ degrees of freedom).

# %%
ceiling = paired_difference(score["deep, joint"], score["deep"])
claim(
    abs(ceiling["mean"]) < ceiling["half_width"],
    f"The ceiling is {mean['deep, joint']:.3f}, the deep optimizer in sequence has "
    f"{mean['deep']:.3f}: {ceiling['mean']:+.3f} ± {ceiling['half_width']:.3f}, not to be "
    f"told apart by {len(SEEDS)} pairs.",
)
found = {
    other: paired_difference(score["deep"], score[other])
    for other in ("Adam", "Adam, trick", "deep, twin")
}
for other, gain in found.items():
    clear = gain["mean"] - gain["half_width"] > 0
    print(f"deep − {other:<12} {gain['mean']:+.3f} ± {gain['half_width']:.3f}")
    claim(
        clear,
        f"{len(SEEDS)} pairs: the deep optimizer is ahead of {other}, the interval excludes "
        "zero.",
    )
claim(
    found["Adam, trick"]["mean"] < found["Adam"]["mean"] / 2,
    "Beside the cheap trick its lead is less than half of what it is beside plain Adam.",
)

# %% [markdown]
# **In short.** Read the matrix before its means; put a trick, a twin, a ceiling and the bytes beside every number; and
# compare in pairs.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 01.1 Forgetting (code, 15 minutes)
#
# `matrix` is a NumPy array, a row for each experience and a column for each task; `visits[i]` is the task that
# experience `i` taught, a list of ints; a task may come back. Return forgetting as defined above, as a float: the mean
# over the tasks first taught before the last experience. Where there is no such task, return NaN.


# %% tags=["answer"]
def forgetting(matrix, visits): ...


# %% tags=["check"]
check("01.1", forgetting)

# %% [markdown] tags=["exercise"]
# ### 01.2 An interval (code, 10 minutes)
#
# `first` and `second` are lists of scores, one for each seed, in the same order. Return the mean of their differences
# (first minus second) and the half width of its 95 % interval. SciPy is there.


# %% tags=["answer"]
def paired_interval(first, second): ...


# %% tags=["check"]
check("01.2", paired_interval)

# %% [markdown] tags=["exercise"]
# ### 01.3 Same average, opposite forgetting (explain by example, 10 minutes)
#
# For any `average` from 0.25 to 0.75 return two 2 × 2 accuracy matrices (A, then B) that both end at this average
# accuracy: in the first, A was forgotten by more than 0.1; in the second, A has *gained* more than 0.1.


# %% tags=["answer"]
def same_average(average): ...


# %% tags=["check"]
check("01.3", same_average)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 29.
# - D. Lopez-Paz, M. Ranzato: *Gradient episodic memory*, 2017, [arXiv 1706.08840](https://arxiv.org/abs/1706.08840)
#   (the matrix and its means).
# - A. Chaudhry and others: *Riemannian walk for incremental learning*, 2018,
#   [arXiv 1801.10112](https://arxiv.org/abs/1801.10112) (forgetting).
# - C. Zeno and others: *Task-agnostic continual learning*, 2018, [arXiv 1803.10123](https://arxiv.org/abs/1803.10123)
#   (the labels trick).
#
# Next: [02 · Everything is an associative memory](02-associative-memory.ipynb).
