# %% [markdown]
# # 05 · Fast and slow: what do time scales buy?
#
# **About 60 minutes.** The exercises take another 40. You need: least squares, notebook 04 for levels and periods.
#
# At the end you can
# - tell how fast a level *writes* (its period) from how long it *remembers* (its retention),
# - build a world in which two time scales beat every single one, and one in which they buy nothing,
# - say what of this a network shows on digits, and what it does not.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import Experiment, LiveLab, train
from nllab.course import begin, check, claim
from nllab.course.draw import canvas, curves, spots
from nllab.course.n05 import RETENTIONS, errors_of, share_left
from nllab.events import Step
from nllab.explore import explore
from nllab.summary import paired_difference

begin("05")

# %% [markdown]
# ## Two clocks in one level
#
# In notebook 04 a level was known by its **period**: the steps between two writes. But a level can write at every step
# and still hold on to all that it was ever taught. How long it does is decided by the measure in which its step is kept
# small (Definition 5). In this lab that is a memory of the inputs $x_t$, the matrix $C_t$, with the **retention**
# $\lambda$ between 0 and 1:
#
# $$C_t = \lambda\, C_{t-1} + x_t x_t^\top, \qquad
# w_t = w_{t-1} + (y_t - w_{t-1} \cdot x_t)\,\big(\varepsilon I + C_t\big)^{-1} x_t$$
#
# Here $w$ are the weights, $y_t$ is the answer wanted, $I$ the identity and $\varepsilon$ a small ridge, here 0.1. An
# input $i$ steps old counts $\lambda^i$, so the memory spans some $1/(1-\lambda)$ steps: one for $\lambda = 0$, a
# hundred for 0.99, a life for 1. What fades is the *resistance* to new answers. The weights themselves never fade: with
# $\lambda = 0$ each sample is met almost exactly, and directions at right angles to it stay as they were.
#
# ## The smallest world with two time scales
#
# Ten weights say what things cost, and they never change. But prices are quoted now in one currency, now in another: in
# blocks of 20 samples all answers are multiplied by 1.5, then by 0.5, and so on. Nobody announces it.
#
# One memory has to choose: a short one learns each block anew, a long one averages the currencies. Two levels could
# share the work: a slow one that keeps everything learns the weights, and **one single number** behind it, which
# forgets quickly, learns the currency. What the pair says is that number times what the slow level says.
#
# (`errors_of(inputs, answers, slow, fast)` runs the equations above over a stream and returns the squared error at each
# sample, before it is learned: a memory of retention `slow` and, if `fast` is given, the one number behind it, which
# learns by the same equations, with retention `fast` and with what the slow level says for its input. `share_left` is
# what is left over the second half, in parts of what saying 0 throughout would cost.)
#
# **Guess first.** Saying 0 throughout would leave an error of 1. What does the best single memory leave?


# %%
def prices(block, seed=0, count=400, dim=10):
    draw = torch.Generator().manual_seed(seed)
    inputs, weights = torch.randn(count, dim, generator=draw), torch.randn(dim, generator=draw)
    currency = torch.where(torch.arange(count) // block % 2 == 0, 1.5, 0.5)
    return inputs, currency * (inputs @ weights)


WORLDS = [prices(20, seed) for seed in range(3)]
FAST = (0.3, 0.5, 0.7, 0.9, 1.0)
one = {keep: [share_left(*world, keep) for world in WORLDS] for keep in RETENTIONS}
two = {keep: [share_left(*world, 1.0, keep) for world in WORLDS] for keep in FAST}
mean = {name: {keep: sum(found) / 3 for keep, found in rows.items()}
        for name, rows in {"one": one, "two": two}.items()}  # fmt: skip
best_one, best_two = (min(mean[name], key=mean[name].get) for name in ("one", "two"))
claim(
    max(two[best_two]) < min(one[best_one]),
    f"The best of {len(RETENTIONS)} single memories (retention {best_one}) leaves "
    f"{mean['one'][best_one]:.2f}, two time scales (1 and {best_two}) leave "
    f"{mean['two'][best_two]:.2f}; in each of the 3 worlds they are ahead.",
)
claim(
    mean["two"][1.0] > mean["one"][best_one],
    f"If both levels keep 1, the second is worth nothing: {mean['two'][1.0]:.2f} is left.",
)
figure, axes = canvas(1)
curves(RETENTIONS, {"one memory": mean["one"].values()}, marks=True, axes=axes[0])
axes[0].plot(
    FAST, list(mean["two"].values()), "s--", color="#D55E00", label="1, and behind it this"
)
axes[0].set(xlabel="retention", ylabel="error left", ylim=(0, None))
axes[0].legend(frameon=False)
figure

# %% [markdown]
# The second level has *one* weight. What it has that no single memory has is another time. Move the knobs: how long do
# the blocks last, and how much does the fast level keep? For which blocks is one memory as good, or better?


# %%
def blocks(block_length, fast_retention):
    inputs, answers = prices(block_length)
    single = min(RETENTIONS, key=lambda keep: share_left(inputs, answers, keep))
    rows = {f"best single memory, {single}": errors_of(inputs, answers, single)}
    rows[f"1 and {fast_retention}"] = errors_of(inputs, answers, 1.0, fast_retention)
    means = {
        name: torch.tensor(row).view(-1, 10).mean(1).tolist() for name, row in rows.items()
    }
    about = {"xlabel": "sample", "ylabel": "squared error (mean of 10)"}
    return curves(range(5, 400, 10), means, title=f"blocks of {block_length}", **about)


explore(
    blocks, block_length=[5, 20, 50, 400], fast_retention=[0.0, 0.3, 0.7, 0.95],
    start={"block_length": 20, "fast_retention": 0.3},
)  # fmt: skip

# %% [markdown]
# ## Digits whose names change
#
# The same world with a network: `contexts-digits`. All ten digits arrive in batches of eight. Every 20 batches the
# *context* changes, unannounced: in every other one the digits swap their names in pairs, drawn anew each time. What a
# 7 looks like stays; what it is called does not. The network has a **context level** behind its head, ten by ten
# numbers, which reads the scores and says what they are called now. It keeps 0.4 of its memory at each write, all other
# levels keep everything.
#
# **Guess first:** what happens at every change if *all* levels keep everything?

# %%
TWO = Experiment.preset("contexts-digits", evaluate_every=100_000, observe=False)
STEPS = 200  # 10 contexts of 20 batches


def by_context(run, length=20):
    """Accuracy on the batches of each context, each before it is learned."""
    right = [step.online_accuracy for step in run.of(Step)]
    return [sum(right[i : i + length]) / length for i in range(0, len(right), length)]


runs = {
    "two time scales": [train(TWO.but(seed=seed), steps=STEPS) for seed in range(3)],
    "all levels keep 1.0": [train(TWO.but(retention_by_level={}), steps=STEPS)],
}
lines = {row: by_context(found[0]) for row, found in runs.items()}
keeps, both = (lines[row][4:] for row in ("all levels keep 1.0", "two time scales"))
claim(
    min(keeps[::2]) > max(keeps[1::2]) + 0.3,
    f"After four contexts a network that keeps everything is at {min(keeps[::2]):.2f} or more "
    f"under the digits' own names, and at {max(keeps[1::2]):.2f} or less under swapped ones.",
)
claim(
    min(both) > max(keeps[1::2]) + 0.3,
    f"With a fast level behind the head the worst of these contexts is at {min(both):.2f}.",
)
curves(
    range(10),
    lines,
    marks=True,
    xlabel="context",
    ylabel="accuracy",
    ylim=(0, 1.05),
)

# %% [markdown]
# Is it the *two* scales, or would one well chosen memory do? Two honest rivals keep the same at all their levels: the
# same network, and one without a context level. How much they keep is chosen on a stream of another seed. Beside them
# the frozen twin, and the bytes. Measured is the second half of the stream, when digits are known and only names are
# left to follow. (Some forty seconds: 13 networks. A level that keeps all keeps the inverse of its memory, too, which
# one that fades makes anew: hence the different bytes.)

# %%
equal = TWO.but(retention_by_level={})
rivals = {"same levels": equal, "no context level": equal.but(context_level=False)}
GRIDS = {"same levels": (0.7, 0.8, 0.9), "no context level": (0.35, 0.5, 0.65)}
for name, rival in rivals.items():
    tried = {keep: rival.but(retention=keep) for keep in GRIDS[name]}
    sums = {keep: sum(by_context(train(tried[keep].but(seed=10), steps=120))) for keep in tried}
    keep = max(sums, key=sums.get)
    rivals[name] = f"{name}, {keep}"
    runs[rivals[name]] = [train(tried[keep].but(seed=seed), steps=STEPS) for seed in range(3)]
runs["frozen twin"] = [train(TWO.but(frozen=True), steps=STEPS)]
score = {}
for row, found in runs.items():
    halves = [line[len(line) // 2 :] for line in map(by_context, found)]
    score[row] = [sum(half) / len(half) for half in halves]
    seeds = " ".join(f"{value:.3f}" for value in score[row])
    print(f"{row:>21}: {found[0].bytes_kept:>8,} bytes beyond the weights, accuracy {seeds}")
both, twin = score["two time scales"], score["frozen twin"][0]
for row in rivals.values():
    gap = paired_difference(both, score[row])
    claim(
        gap["mean"] - gap["half_width"] > 0,
        f"Two time scales are {gap['mean']:+.3f} ± {gap['half_width']:.3f} above one "
        f"retention for all levels ({row}; 95 % interval, 3 paired seeds).",
    )
claim(
    both[0] - 0.15 < twin < both[0],
    f"On seed 0 the frozen twin has {twin:.2f} beside the {both[0]:.2f} of two time scales: "
    "most of it is the work of the last two levels, on features that may be random.",
)
shown = {row.replace(", ", "\n").replace("keep", "\nkeep"): {"": s} for row, s in score.items()}
figure, axes = canvas(1, width=7.5)
spots(shown, axes[0], ylim=(0, 1.02), ylabel="accuracy")
figure

# %% [markdown]
# ## Now you, live
#
# The same stream. The accuracy shown is on the digits under their *own* names: watch it fall and rise with the
# contexts. Set the retention to 0.4 for all levels in the middle of the run; then back to 1. Let the slow levels write
# rarely instead (periods): is that another way to keep, and does it save what retention saves?

# %%
LiveLab(
    TWO.but(evaluate_every=10),
    knobs=("optimizer", "retention", "periods"),
    views=("accuracy", "drift"),
)

# %% [markdown]
# ## How levels can be joined
#
# | variant | output | when a slow level writes |
# |---|---|---|
# | sequential (70, 73) | a chain: each level reads what the one before it says | the others go on |
# | nested (72) | a chain | the next faster one starts anew from its initial state |
# | independent (74) | a weighted sum of all levels | the others go on |
#
# In a chain the order is part of the design: here the fast level stands *behind* what it has to rename, and reads it.
#
# **In short.** A period says how often a level writes, a retention how long it remembers. Two time scales are worth
# having where the world has two, something large that stays and, between it and the answer, something small that
# changes; and only if the levels differ in what they *keep*. Writing rarely is not it: see the end of notebook 04.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 05.1 What do the writes cost? (code, 10 minutes)
#
# Level $l$ has `sizes[l]` numbers and writes every `periods[l]` steps; steps are counted from 1. Return two numbers:
# all writes in `steps` steps, and how many numbers they changed together. It is held against a count of what changed
# under `nllab`.


# %% tags=["answer"]
def cost_of_writes(sizes, periods, steps): ...


# %% tags=["check"]
check("05.1", cost_of_writes)

# %% [markdown] tags=["exercise"]
# ### 05.2 What a memory with retention fits (code, 15 minutes)
#
# With retention 1 the level of the first equations fits all its samples at once. What would it fit below 1? All
# samples, the older the less. `inputs` ($n$ × `dim`, the newest last) and `targets` ($n$) are all that was seen. Return
# the weights that minimize $\sum_i \lambda^{\,n-1-i} (x_i \cdot w - y_i)^2 + \varepsilon \lVert w\rVert^2$ with $i$
# from 0 and $\varepsilon$ = `ridge`, which does not fade, however long the stream. Retention may be 0 or 1. (This is
# *not* what the level's steps end at, only near it: they pull towards the weights of the step before, this sum towards
# 0.)


# %% tags=["answer"]
def faded_fit(inputs, targets, retention, ridge): ...


# %% tags=["check"]
check("05.2", faded_fit)

# %% [markdown] tags=["exercise"]
# ### 05.3 One world that needs two time scales, and one that does not (explain by example, 15 minutes)
#
# Return three things: `inputs` (`count` × `dim`), the answers (`count`) of a first world, and those of a second. In the
# first world the best single memory
# must do as well as two time scales, and leave less than half of the error. In the second, two time scales (1, and 0.3
# to 0.7 behind it, as in the world of prices) must leave less than 0.7 of what the best single memory leaves, over the
# second half of the stream. The check trains them all.


# %% tags=["answer"]
def two_worlds(count, dim): ...


# %% tags=["check"]
check("05.3", two_worlds)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 70–74, Definition 5.
# - G. Hinton, D. Plaut: *Using fast weights to deblur old memories*, 1987.
# - The stream `contexts-digits` and the context level are this lab's own.
#
# Next: [06 · From delta gradient descent to the deep optimizer](06-the-deep-optimizer.ipynb).
