# %% [markdown]
# # 10 · How good is it really, beside everything else?
#
# **About 60 minutes.** The exercises take another 55. You need: notebooks 00 and 01. Notebook 06 for the memory of
# inputs.
#
# At the end you can
# - say of a continual-learning method what it is told, what it keeps and in how many bytes,
# - compare methods at equal bytes, and on the same seeds,
# - build the two parts that most of them are made of: a Fisher diagonal and a reservoir.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import Experiment, Trainer, train
from nllab.course import begin, check, claim, predict
from nllab.course.draw import COLOURS, MARKS, canvas, curves
from nllab.explore import explore
from nllab.methods import REGISTRY
from nllab.methods.setups import SETUPS
from nllab.summary import paired_difference

begin("10")

# %% [markdown]
# ## Three ways to keep an old task
#
# With $w$ all weights, $L$ the loss on what arrives and $w^*$ the weights at the end of the old task, a learner can
#
# - **hold weights**: elastic weight consolidation adds a spring for each weight $i$, as stiff as the old task's
#   Fisher information $F_i$ (of strength $s$): $L(w) + \frac{s}{2}\sum_i F_i\,(w_i - w_i^*)^2$;
# - **show old samples again**: replay adds the loss on a small buffer of them;
# - **hold outputs where inputs were**: the deep optimizer's memory of inputs, $\langle Wx, \nabla_y L\rangle$
#   $+ \frac12\operatorname{tr}\big(D (\varepsilon I + C) D^\top\big)$ with $D = W - W_t$, the change of the weights,
#   and $C$ the sum of $x_i x_i^\top$. It is Eq. 59–60 with a leash of its own (notebook 06).
#
# All three keep something beyond the weights, and some are told where a task ends. A table that leaves that out
# compares apples with bytes.
#
# ## The smallest example
#
# The two facts of notebook 00: at (1, 0.5) say +1, then at (0.5, 1) say −1. Squared error, so the Fisher information
# of weight $i$ is the mean of $x_i^2$. Whichever way, the second fact is then taught until nothing moves any more.
#
# **Guess first:** who keeps the first fact?

# %%
FIRST, SECOND = torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0])


def taught(springs=0.0, replay=False, leash=None):
    """What the two weights say at both facts after the second has been taught."""
    start = FIRST / (FIRST @ FIRST)  # says +1 at the first
    weights, direction = start.clone(), torch.eye(2) if leash is None else leash
    for _ in range(2000):
        wish = (weights @ SECOND + 1) * SECOND + springs * FIRST**2 * (weights - start)
        wish = wish + (weights @ FIRST - 1) * FIRST if replay else wish
        weights = weights - 0.05 * direction @ wish
    return float(weights @ FIRST), float(weights @ SECOND)


memory = torch.linalg.inv(0.001 * torch.eye(2) + torch.outer(FIRST, FIRST))
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
said = {"nothing kept": taught()}
said |= {f"springs, strength {s:g}": taught(springs=s) for s in STRENGTHS}
said["one sample replayed"] = taught(replay=True)
# 0.001, so that a direction which no input has used moves as it did without a leash.
said["a leash along old inputs"] = taught(leash=0.001 * memory)
for name, (a, b) in said.items():
    print(f"{name:>24}: {a:+.2f} at the first fact, {b:+.2f} at the second")
off = {name: abs(a - 1) + abs(b + 1) for name, (a, b) in said.items()}
claim(
    max(off["one sample replayed"], off["a leash along old inputs"])
    < 0.1
    < min(off[f"springs, strength {s:g}"] for s in STRENGTHS),
    "One sample, or the leash, keeps both facts. Springs on single weights trade one for the "
    f"other, at each of {len(STRENGTHS)} strengths: the inputs share both weights, and what "
    "must not change is a direction between them.",
)

# %% [markdown]
# ## Everybody on the digits
#
# The digits 0–4, then 5–9, one pass, on the network of notebook 00. Each method with the settings that did best on
# held-out training images in this lab's log, three seeds. The *labels trick* counts only the outputs whose classes are
# in the batch; it did best with SGD and cross-entropy, so that it differs from *naive*, which is Adam, in those as
# well. EWC is run with all three. *rls* is least squares on random features: nothing but its output layer ever learns;
# once with 1,000 features, once with 128, which weigh about what the deep optimizer's memory does. (24 networks: most
# of a minute.)
#
# **Guess first**, on paper: the first three, and the last two.

# %%
SEEDS = range(3)
FEW = {**SETUPS["rls"], "method_settings": {"ridge": 0.01, "features": 128}}
OURS = {"deep": {}, "deep, twin": {"frozen": True}}
USUAL = {name: SETUPS[name] for name in ("naive", "labels-trick", "ewc", "er", "rls")}
LEARNERS = USUAL | {"rls-128": FEW} | OURS


def run(seed, **settings):
    return train(Experiment.preset("digits-ab", seed=seed, evaluate_every=1000, **settings))


score, kept, ends = {}, {}, {}
for name, settings in LEARNERS.items():
    done = [run(seed, **settings) for seed in SEEDS]
    score[name] = [one.summary["average_accuracy"] for one in done]
    ends[name] = sum(one.accuracy_matrix[-1] for one in done) / len(done)
    kept[name] = done[0].bytes_kept
mean = {name: sum(values) / len(values) for name, values in score.items()}
print("              average       A     B    bytes kept   is told")
for name in sorted(mean, key=mean.get, reverse=True):
    told = ", ".join(REGISTRY[name].privileged) if name in REGISTRY else ""
    a, b = ends[name]
    print(f"{name:>13}   {mean[name]:.3f}   {a:.3f} {b:.3f}  {kept[name]:>10,}   {told}")

# %%
claim(
    mean["labels-trick"] > mean["naive"] + 0.2 and kept["labels-trick"] == 0,
    f"With no memory at all, SGD and the labels trick have {mean['labels-trick']:.2f}, Adam "
    f"without it {mean['naive']:.2f}.",
)
claim(
    mean["ewc"] < mean["labels-trick"] + 0.02,
    f"EWC, which is run with the trick, keeps {kept['ewc']:,} bytes and ends at "
    f"{mean['ewc']:.2f}: beside Adam a success, beside the trick alone none.",
)
gain = paired_difference(score["deep"], score["deep, twin"])
claim(
    gain["mean"] > gain["half_width"] and mean["deep"] > mean["er"],
    f"The deep optimizer has {mean['deep']:.3f}, replay of 200 images {mean['er']:.3f}; "
    "learning below the head is worth "
    f"{gain['mean']:+.3f} ± {gain['half_width']:.3f} over its twin.",
)
claim(
    min(score["rls"]) > max(score["deep"]),
    f"And least squares on 1,000 random features, which learns no feature at all, is ahead of "
    "it on every seed: "
    f"{mean['rls']:.3f}, with {kept['rls'] / kept['deep']:.0f} times the bytes.",
)
claim(
    abs(kept["rls-128"] / kept["deep"] - 1) < 0.1,
    f"At about equal bytes, {kept['rls-128']:,} and {kept['deep']:,}, it has "
    f"{mean['rls-128']:.3f} to "
    f"{mean['deep']:.3f}: on these images features need not be learned.",
)

# %% [markdown]
# ## What does a byte buy?
#
# Move the buffer of the replay from nothing (plain Adam) to every image of the training set, on one seed. Where does
# it stop paying?

# %%
replays, weighs = (
    {0: score["naive"][0], 200: score["er"][0]},
    {0: kept["naive"], 200: kept["er"]},
)
for buffer in (25, 100, 400, 1437):
    settings = {**SETUPS["er"], "method_settings": {"strength": 1, "buffer": buffer}}
    done = run(0, **settings)
    replays[buffer], weighs[buffer] = done.summary["average_accuracy"], done.bytes_kept
BUFFERS = sorted(replays)


def what_it_buys(buffer):
    figure, (axes,) = canvas(width=7, height=3.4)
    line = {"replay": [replays[b] for b in BUFFERS]}
    curves([weighs[b] for b in BUFFERS], line, marks=True, axes=axes)
    for i, name in enumerate(("ewc", "rls-128", "rls", "deep", "deep, twin"), start=1):
        axes.plot(kept[name], mean[name], MARKS[i], color=COLOURS[i], label=name)
    axes.plot(
        weighs[buffer], replays[buffer], "o", markersize=13, fillstyle="none", color="#444444"
    )
    axes.set(xscale="log", xlabel="bytes kept beyond the weights", ylabel="average accuracy")
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(f"{buffer} images kept: {replays[buffer]:.3f}", loc="left", fontsize=10)
    return figure


claim(
    replays[100] > replays[0] + 0.2 and replays[1437] < replays[400] + 0.05,
    f"The first 100 images lift it from {replays[0]:.2f} to {replays[100]:.2f}; from 400 on "
    "to all of them it goes "
    f"from {replays[400]:.2f} to {replays[1437]:.2f}.",
)
data = sum(
    task.train.inputs.nbytes for task in Trainer(Experiment.preset("digits-ab")).stream.tasks
)
claim(
    kept["deep"] > 0.3 * data and kept["rls"] > data,
    f"All training images together weigh {data:,} bytes: the deep optimizer's memory is "
    f"{kept['deep'] / data:.0%} of "
    f"them, that of least squares on 1,000 features {kept['rls'] / data:.0f} times as much.",
)
explore(what_it_buys, buffer=BUFFERS, start={"buffer": 100})

# %% [markdown]
# The memories of inputs hold inner products and no image, which may matter more than bytes where images must not be
# kept; and their size does not grow with the stream. But "without replay" is no argument by itself: **count the
# bytes**.
#
# ## Which sentences may be written?
#
# For every rival the paired interval (95 %, Student's $t$, as in notebook 01) says one of three things: ahead, behind,
# or not to be told apart by these seeds.

# %%
sentences = {}
for rival in (name for name in score if not name.startswith("deep")):
    gain = paired_difference(score["deep"], score[rival])
    clear = abs(gain["mean"]) > gain["half_width"]
    sentences[rival] = (gain["mean"] > 0) - (gain["mean"] < 0) if clear else 0
    words = {1: "is ahead of", 0: "cannot be told from", -1: "is behind"}[sentences[rival]]
    print(f"{gain['mean']:+.3f} ± {gain['half_width']:.3f}: the deep optimizer {words} {rival}")
claim(
    sentences["naive"] == 1,
    "Ahead of plain Adam: this sentence the interval allows, and many a paper stops here.",
)
others = [rival for rival, side in sentences.items() if side < 1]
claim(
    len(others) >= 1,
    f"Not ahead, on {len(SEEDS)} seeds, of: {', '.join(others)}. Who leaves these rows out "
    "has the better table.",
)

# %% [markdown]
# **In short.** Beside every score: what was the learner told, what did it keep, what does its twin do, and which
# sentence does the interval allow? Much of the ranking is decided by bytes, and some of it by a learner that learns
# no features at all.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 10.1 A Fisher diagonal (code, 15 minutes)
#
# A classifier says $p = \operatorname{softmax}(W x)$. Return the diagonal of its Fisher information, in the shape of
# `weight` (classes × dim): the mean over the rows of `inputs`, and over classes $y$ drawn from the model itself
# (exactly, weighted by $p_y$, without drawing), of $(\partial \log p_y / \partial W)^2$, entry by entry.


# %% tags=["answer"]
def fisher_diagonal(weight, inputs): ...


# %% tags=["check"]
check("10.1", fisher_diagonal)

# %% [markdown] tags=["exercise"]
# ### 10.2 A fair sample of a stream (code, 15 minutes)
#
# `stream` can be gone through once, and nobody knows how long it is. Return a list of `capacity` of its items (all of
# them where there are fewer), such that every set of items is equally likely, while never holding more than you need.
# Draw with `random`, a `random.Random`: `random.randrange(n)` is a whole number from 0 to n − 1.


# %% tags=["answer"]
def reservoir(stream, capacity, random): ...


# %% tags=["check"]
check("10.2", reservoir)

# %% [markdown] tags=["exercise"]
# ### 10.3 At equal bytes (predict, 15 minutes)
#
# Give replay as many bytes beyond the weights as the deep optimizer's memory has on `digits-ab`. Predict who is ahead
# over three seeds: `"replay"`, `"memory"`, or `"neither"`, if the interval holds zero. Then write the function that
# trains the replay (`method="er"`, else as `SETUPS["er"]`) with the largest buffer for which `run.bytes_kept` is at
# most `allowed`, and returns the run. The check trains eight runs and prints the difference; give it half a minute.

# %% tags=["answer"]
predict("10.3", ...)


def replay_within(allowed, seed): ...


# %% tags=["check"]
check("10.3", replay_within)

# %% [markdown] tags=["exercise"]
# ### 10.4 A large difference that is none (explain by example, 10 minutes)
#
# Return two pairs of lists of `count` accuracies, a list for each learner and an entry for each seed. In the first
# pair the mean difference (first minus second) is at least twice that of the second pair, yet its 95 % interval over
# paired seeds holds zero; in the second pair the interval lies above zero.


# %% tags=["answer"]
def clear_and_unclear(count): ...


# %% tags=["check"]
check("10.4", clear_and_unclear)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 59–60.
# - J. Kirkpatrick and others: *Overcoming catastrophic forgetting in neural networks*, 2017,
#   [arXiv 1612.00796](https://arxiv.org/abs/1612.00796) (EWC).
# - A. Chaudhry and others: *On tiny episodic memories in continual learning*, 2019,
#   [arXiv 1902.10486](https://arxiv.org/abs/1902.10486) (replay). J. S. Vitter: *Random sampling with a reservoir*,
#   1985.
# - The other methods: docstrings in `nllab.methods`.
#
# Next: [11 · The paper's tables on a laptop](11-the-papers-tables.ipynb).
