# %% [markdown]
# # 04 · Nested loops: who writes when?
#
# **About 45 minutes.** The exercises take another 35. You need: gradient descent and a little PyTorch. No other
# notebook, though 00 helps.
#
# At the end you can
# - read a network as loops inside loops, each with a period of its own, and count who writes when,
# - say what a slow level gets to hear: what the fast ones have become meanwhile,
# - tell a period of 4 from a batch four times as large, and say when they are the same.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import Experiment, LiveLab, Schedule, Trainer, train
from nllab.course import begin, check, claim
from nllab.course.draw import canvas, curves, spots
from nllab.course.n04 import slow_write
from nllab.events import Step
from nllab.explore import explore
from nllab.summary import paired_difference

begin("04")

# %% [markdown]
# ## A clock, and who writes on it
#
# Let one step be one batch. The **frequency** of a part of a network is how often it is written per step (Definition
# 2). Parts of one frequency are a **level**, and levels are sorted by it (Definition 3): fast ones change at every
# step, slow ones rarely. An optimizer's momentum is such a part, too; so is the memory of notebook 02, which is written
# with every token.
#
# Let $\theta^{(l)}_i$ be the weights of level $l$ after step $i$, $C^{(l)}$ its **period**, $\eta$ a rate, $x_t$ the
# batch of step $t$ and $L$ the loss. The bracket is 1 where what it says is true, and 0 elsewhere (Eq. 71; its printed
# sum has one term too many):
#
# $$\theta^{(l)}_{i} = \theta^{(l)}_{i-1} - \big[\, i \equiv 0 \bmod C^{(l)} \,\big] \; \eta
# \sum_{t = i - C^{(l)} + 1}^{i} \nabla L\big(\theta_{t-1};\, x_t\big)$$
#
# Every level answers at every step; only its *writes* wait. Its gradients are summed up until its turn, and in between
# its weights do not move at all. Below: who writes when, and how many gradients are waiting.


# %%
def clock(fast, slow, steps=48):
    schedule = Schedule({"fast": fast, "slow": slow})
    figure, (left, right) = canvas(2)
    waiting = {name: [step % period for step in range(steps + 1)]
               for name, period in schedule.periods.items()}  # fmt: skip
    for lane, name in enumerate(schedule.periods):
        writes = schedule.writes(name, steps)
        left.plot(writes, [lane] * len(writes), "s", label=f"{name}: {len(writes)} writes")
    left.set_yticks([0, 1], ["fast", "slow"])
    left.set(xlim=(0, steps), ylim=(-0.5, 1.9), xlabel="step", title="Who writes when")
    left.legend(frameon=False, ncols=2)
    curves(range(steps + 1), waiting, axes=right, xlabel="step", title="Gradients waiting")
    return figure


explore(clock, fast=[1, 2, 4], slow=[4, 8, 16, 32], start={"fast": 1, "slow": 16})

# %% [markdown]
# ## The smallest example: two numbers
#
# The network is $f + s$, the answer wanted is 1, the loss is half the squared error; so both levels have the gradient
# $f + s - 1$. The fast number $f$ writes at every step, the slow one, $s$, once in four. Both have the rate 0.4.
#
# **Guess first.** Alone, with $f$ fixed at 0, the slow number would sum up four gradients of −1, and move by
# $4 \cdot 0.4 = 1.6$. By how much does it move in company?


# %%
def two_numbers(fast_rate, period=4, steps=32):
    """f, s and f + s, before the first step and after each."""
    f, s, total = 0.0, 0.0, 0.0
    lines = {"fast": [f], "slow": [s], "together": [f + s]}
    for step in range(1, steps + 1):
        gradient = f + s - 1
        f, total = f - fast_rate * gradient, total + gradient
        if step % period == 0:
            s, total = s - 0.4 * total, 0.0
        for name, value in zip(lines, (f, s, f + s), strict=True):
            lines[name].append(value)
    return lines


alone, company = two_numbers(0.0), two_numbers(0.4)
claim(
    company["slow"][4] < 0.6 * alone["slow"][4],
    f"Alone the slow number moves by {alone['slow'][4]:.2f}, in company by "
    f"{company['slow'][4]:.2f}: while it waits, the fast one learns, and less is left to say.",
)
claim(
    company["together"][4] > 1.2 and company["fast"][8] < company["fast"][4],
    f"It is too much all the same. With the slow write they say {company['together'][4]:.2f} "
    f"together, and the fast number must take back from {company['fast'][4]:.2f} to "
    f"{company['fast'][8]:.2f}.",
)

# %% [markdown]
# So a slow level does not hear the world. It hears *what is left of it once the fast levels have answered*, and what
# they have become at each step goes into its sum. Then its write changes the world of the fast ones. Move both: how
# fast the fast one is, and how long the slow one, whose rate is 0.4, waits. Where does the pair settle quietly, where
# does it swing, and where does it leave the picture?


# %%
def pair(fast_rate, period):
    lines = two_numbers(fast_rate, period)
    about = {"xlabel": "step", "ylim": (-1.6, 2.6), "title": f"slow writes every {period}"}
    return curves(range(33), lines, **about)


off = {rate: abs(two_numbers(rate, 16, 160)["together"][-1] - 1) for rate in (0.8, 0.4, 0.1)}
claim(
    off[0.8] < 0.01 and 0.9 < off[0.4] < 1.1 and off[0.1] > 100,
    "With a period of 16 they settle where the fast rate is above the slow one: after ten "
    f"slow writes they are {off[0.8]:.3f} off at 0.8, {off[0.4]:.2f} at 0.4, and "
    f"{off[0.1]:,.0f} at 0.1.",
)
explore(
    pair, fast_rate=[0.0, 0.1, 0.4, 0.8], period=[1, 2, 4, 8, 16],
    start={"fast_rate": 0.4, "period": 4},
)  # fmt: skip

# %% [markdown]
# ## Is a period of 4 just a batch four times as large?
#
# A small network of two layers, $y = S F x$: the fast layer $F$ reads the input $x$, the slow layer $S$ reads what $F$
# says. The gradient passes from one to the other, but they are written at different times: knowledge goes from level to
# level *through backpropagation* (section 3.3). Compare the sum that $S$ gets from four samples with what one batch of
# the four would give it (summed, as in the equation above, not averaged), at random weights and samples.

# %%
gaps = {0.0: [], 0.1: [], 0.3: []}
for rate, found in gaps.items():
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        inputs, targets, fast, slow = (
            torch.randn(*size, generator=draw) for size in ((4, 6), (4, 2), (3, 6), (2, 3))
        )
        inputs = inputs / inputs.norm(dim=1, keepdim=True)
        batch = slow_write(inputs, targets, fast, slow, rate, writes=False)
        heard = slow_write(inputs, targets, fast, slow, rate, writes=True)
        found.append(float((heard - batch).norm() / batch.norm()))
median = {rate: sorted(found)[len(found) // 2] for rate, found in gaps.items()}
claim(
    max(gaps[0.0]) == 0.0,
    "If the fast layer does not move, period 4 is a batch four times as large, to the last bit.",
)
claim(
    min(gaps[0.3]) > 0.02 and median[0.1] < median[0.3],
    f"If it moves, the slow layer's sum is another one: {median[0.1]:.0%} off at rate 0.1, "
    f"{median[0.3]:.0%} at 0.3 (median of {len(gaps[0.3])} draws; at most {max(gaps[0.3]):.0%}).",
)

# %% [markdown]
# ## Now you, live
#
# A network with an input level, three memory levels called fast, medium and slow, and a head, on the digits 0–4, then
# 5–9. The lanes show who writes. Play, and move the periods while it runs. When does a new period take hold? What
# happens to gradients that were waiting? (Exercise 04.2 asks for both.)

# %%
LiveLab(
    Experiment.preset("digits-ab"),
    knobs=("optimizer", "periods"),
    views=("raster", "accuracy"),
)

# %% [markdown]
# ## Compare with `nllab`
#
# Count the writes of a real run, from the weights that changed, and hold them against the schedule. Then look at the
# slow level while it waits.

# %%
run = train(Experiment.preset("digits-ab", evaluate_every=1000))
schedule, missing = Schedule(run.levels), set()
for name, period in run.levels.items():
    wrote = {event.step for event in run.of(Step) if event.levels[name].wrote}
    planned = set(schedule.writes(name, run.steps))
    missing |= planned - wrote
    claim(
        wrote <= planned and len(planned - wrote) <= 1,
        f"{name}: period {period}, {len(wrote)} writes in {run.steps} steps.",
    )
claim(
    missing == {1},
    "The only write that is missing is the first: the head starts at zero, so no gradient "
    "passes it.",
)
trainer = Trainer(run.experiment)
slow = trainer.model.memory.blocks["slow"].down.weight
before, still = slow.detach().clone(), []
for _ in range(run.levels["slow"]):
    trainer.step()
    still.append(torch.equal(slow, before))
claim(
    still == [True] * (run.levels["slow"] - 1) + [False],
    f"The slow level is bit-identical for {len(still) - 1} steps, and another after the next.",
)

# %% [markdown]
# ## What does it buy?
#
# Fewer writes, for certain; not less computing, since every level takes its gradient at every step. More memory of the
# past? Three seeds of the deep optimizer (notebook 00), the usual periods of the memory levels (1, 4, 16) against all
# of them writing at every step. Beside them stands the **frozen twin**, whose levels but for the head stay at their
# random initial values. (Nine networks: half a minute.)

# %%
ROWS = {"periods 1, 4, 16": {}, "every step": {"periods": (1, 1, 1)}, "twin": {"frozen": True}}
MEMORY, score, writes = ("fast", "medium", "slow"), {}, {}
for row, changes in ROWS.items():
    settings = {"evaluate_every": 1000, **changes}
    runs = [train(Experiment.preset("digits-ab", seed=seed, **settings)) for seed in range(3)]
    score[row] = [run.summary["average_accuracy"] for run in runs]
    writes[row] = sum(e.levels[name].wrote for e in runs[0].of(Step) for name in MEMORY)
levels = trainer.model.memory.blocks
bytes_waiting = sum(p.nbytes for n in ("medium", "slow") for p in levels[n].parameters())
with_periods, without, twin = score
claim(
    writes[with_periods] < 0.5 * writes[without],
    f"With periods the three memory levels write {writes[with_periods]} times instead of "
    f"{writes[without]}. The sums that wait weigh {bytes_waiting:,} bytes.",
)
gap = paired_difference(score[with_periods], score[without])
claim(
    abs(gap["mean"]) < 0.03,
    f"Average accuracy over A and B changes by {gap['mean']:+.3f} ± {gap['half_width']:.3f} "
    "(95 % interval, 3 paired seeds): on this stream periods buy fewer writes, and nothing "
    "else that could be seen.",
)
gains = [paired_difference(score[row], score[twin]) for row in (with_periods, without)]
claim(
    min(gain["mean"] - gain["half_width"] for gain in gains) > 0,
    "Levels that learn are above their twin at either speed: with periods by "
    + " ± ".join(f"{gains[0][key]:.3f}" for key in ("mean", "half_width"))
    + ", without by "
    + " ± ".join(f"{gains[1][key]:.3f}" for key in ("mean", "half_width"))
    + ".",
)
spots({row: {"": values} for row, values in score.items()}, ylim=(0, 1.05),
      ylabel="average accuracy")  # fmt: skip

# %% [markdown]
# A negative result, for one stream and one optimizer. What can make slow levels worth having is the subject of notebook
# 05.
#
# ## How levels hand on what they know
#
# | way (section 3.3) | what passes | where you meet it |
# |---|---|---|
# | directly (24–27) | one reads the other's state; no gradient | linear attention, notebook 02 |
# | backpropagation | one gradient through both, written at different times | this notebook |
# | initial state (28) | the slow loop learns where the fast one starts | notebooks 07 and 08 |
# | generation | one level makes the other's weights or keys | self-modifying memory, 07 |
#
# **In short.** A network in training is loops within loops. A level is known by its period: it answers always, writes
# rarely, and its sum holds what the faster ones left unanswered. That is not a larger batch, unless nobody faster moved
# anything that mattered.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 04.1 Run the levels (code, 15 minutes)
#
# `weights` is a list with a tensor for each level, `periods` a list with their periods. `gradients(weights, step)`
# gives the gradients of all levels at these weights, for step 1, 2, 3, … Return a list with an entry for each step: the
# list of all weights after it. The whole is Eq. 71 with C terms in the sum.


# %% tags=["answer"]
def run_levels(weights, periods, rate, gradients, steps): ...


# %% tags=["check"]
check("04.1", run_levels)

# %% [markdown] tags=["exercise"]
# ### 04.2 A period is changed in the middle (code, 10 minutes)
#
# A level writes at multiples of `period`. From step `at` on its period is `new_period`; the clock is not set back, and
# no gradient is lost. Return its writes up to `steps`: a list of pairs (step, number of gradients in this write).


# %% tags=["answer"]
def writes_after_change(period, at, new_period, steps): ...


# %% tags=["check"]
check("04.2", writes_after_change)

# %% [markdown] tags=["exercise"]
# ### 04.3 Inputs that keep the slow level deaf (explain by example, 10 minutes)
#
# In the network $y = S F x$ of above the fast layer writes after each sample. Find four inputs (4 × `dim`, `dim` 4 or
# more, lengths between 0.5 and 2) on which the slow layer's sum is that of one batch of the four all the same, whatever
# the weights and targets are.


# %% tags=["answer"]
def deaf_inputs(dim): ...


# %% tags=["check"]
check("04.3", deaf_inputs)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Definitions 2–4, Eq. 24–28, 70–71, sections 3.2 and 3.3.
# - J. Schmidhuber: *Learning complex, extended sequences using the principle of history compression*, 1992 (a slow
#   level that hears only what the fast one could not predict).
#
# Next: [05 · Fast and slow](05-fast-and-slow.ipynb).
