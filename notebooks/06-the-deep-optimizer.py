# %% [markdown]
# # 06 · From delta gradient descent to the deep optimizer: how does a step spare what is known?
#
# **About 75 minutes.** The exercises take another 50. You need: least squares, notebook 02 for the delta rule. Notebook
# 00 shows the result first.
#
# At the end you can
# - read an optimizer's step as a small problem of its own, and change what it keeps near to,
# - derive delta gradient descent, and least squares sample by sample, as two ends of one family,
# - say what the memory costs, what it is worth beside its twin, and where keeping is wrong.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import DeepOptimizer, Experiment, LiveLab, Trainer, train
from nllab.course import begin, check, claim
from nllab.course.draw import curves, spots
from nllab.explore import explore
from nllab.summary import paired_difference

begin("06")

# %% [markdown]
# ## A step is a wish and a leash
#
# Let a layer say $y = W x$ and let $u = -\nabla_y L$ be what the loss wants its output to move by. One step of gradient
# descent with rate $\eta$ solves a small problem (Eq. 8–9): follow the wish, and stay near the present weights $W_t$.
#
# $$W_{t+1} = \operatorname{argmin}_W \; -\langle W x, u\rangle + \frac{1}{2\eta}\lVert W - W_t\rVert^2$$
#
# Two things can be changed. **The wish**: delta gradient descent asks that the layer *say* $u$ at $x$ (Eq. 56),
# $\tfrac12\lVert W x - u\rVert^2$ in place of the product. Solved exactly, with $\eta' = \eta / (1 + \eta\lVert
# x\rVert^2)$:
#
# $$W_{t+1} = W_t - \eta'\,\big(W_t x + \nabla_y L\big)\, x^\top \qquad \text{(Eq. 57 has it for } \lVert x\rVert = 1)$$
#
# **The leash**: *near* in the last term means the same in every direction. The paper leaves the retention term open
# (Eq. 59–60). This lab measures distance where inputs have been. With $\varepsilon$ a small *ridge*, $\lambda$ the
# *retention* and $C_t = \lambda\, C_{t-1} + x_t x_t^\top$ the *context* of all inputs so far:
#
# $$W_{t+1} = W_t - \nabla_y L\; x_t^\top \big(\varepsilon I + C_t\big)^{-1}$$
#
# A direction that many inputs have used is stiff; one that none has used is free.

# %% [markdown]
# ## The smallest example
#
# Two facts whose inputs overlap, taught one after the other, 50 times each.

# %%
FACTS = [(torch.tensor([1.0, 0.5]), 1.0), (torch.tensor([0.5, 1.0]), -1.0)]


def taught(retention, remembers=True):
    """What a weight vector says at both facts, after one and then the other."""
    weight, context = torch.zeros(2), torch.zeros(2, 2)
    for x, target in FACTS:
        for _ in range(50):
            context = retention * context + torch.outer(x, x)
            direction = torch.linalg.solve(0.01 * torch.eye(2) + context, x)
            weight = weight + (target - weight @ x) * (direction if remembers else 0.5 * x)
    return [float(x @ weight) for x, _ in FACTS]


said = {
    "gradient descent": taught(1.0, False), "retention 0": taught(0.0), "retention 1": taught(1.0)
}  # fmt: skip
for name, (a, b) in said.items():
    print(
        f"{name:>17}: the first fact should be +1 and is {a:+.2f}, the second -1 and is {b:+.2f}"
    )
claim(
    abs(said["retention 1"][0] - 1) < 0.1 and abs(said["retention 1"][1] + 1) < 0.1,
    "With retention 1 both facts are there.",
)
claim(
    max(said["gradient descent"][0], said["retention 0"][0]) < 0.5,
    "Gradient descent and retention 0 have lost the first one.",
)

# %% [markdown]
# Both facts fit: two weights are enough for two facts. Retention 0 is a memory of one step, the leash of delta gradient
# descent; retention 1 is a memory for life. Everything between is a time scale.
#
# ## One family, from one step to a lifetime
#
# A longer stream: 100 samples of a linear world in 8 dimensions, all inputs in its first 5 directions, then 100 of
# *another* world in its last 5; two directions are shared. How much of the first world is left? Before you move the
# slider: at which retention do you expect half of it to be gone, 0.5, 0.9 or 0.99?


# %%
def two_worlds(retention, dim=8):
    """Error left on both worlds along the stream, in parts of what it is at zero weights."""
    generator = torch.Generator().manual_seed(0)
    truths = torch.randn(2, dim, generator=generator)
    weight, context = torch.zeros(dim), torch.zeros(dim, dim)
    errors = {"first world": [], "second world": []}
    for step in range(200):
        world, x = int(step >= 100), torch.zeros(dim)
        x[USED[world]] = torch.randn(5, generator=generator)
        context = retention * context + torch.outer(x, x)
        direction = torch.linalg.solve(0.1 * torch.eye(dim) + context, x)
        weight = weight + (truths[world] @ x - weight @ x) * direction
        for name, truth, part in zip(errors, truths, USED, strict=True):
            errors[name].append(float((truth - weight)[part].norm() / truth[part].norm()) ** 2)
    return errors


USED = (slice(0, 5), slice(3, 8))  # the directions of each world
ends = {keep: two_worlds(keep) for keep in (0.5, 0.9, 0.99, 1.0)}


def family(retention):
    about = {
        "xlabel": "step",
        "ylabel": "error left",
        "ylim": (0, 2),
        "title": f"retention {retention}",
    }
    return curves(range(200), two_worlds(retention), **about)


explore(family, retention=[0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0], start={"retention": 0.9})

# %%
left = {keep: errors["first world"][-1] for keep, errors in ends.items()}
new = {keep: errors["second world"][-1] for keep, errors in ends.items()}
print("retention   first world   second world: error left after both")
for keep in ends:
    print(f"{keep:>9}   {left[keep]:>11.2f}   {new[keep]:>12.2f}")
claim(
    new[1.0] > new[0.9] + 0.01,
    "The memory for life is the slower one to learn the second world, where the two "
    "contradict each other.",
)

# %% [markdown]
# The worlds share two directions and disagree there: no memory can keep both. What is kept in those is a choice between
# stability and plasticity, and the slider is that choice.
#
# ## Compare with `nllab`
#
# `nllab.DeepOptimizer` does this for every linear, convolutional and embedding layer of a network, in place of your
# optimizer. Its memory *observes* all the time; a toggle decides whether it *acts*. Its **manager** sets rates and
# retention as it sees fit, and says in a sentence what it saw. Without one, on a single layer, it should come out at
# ridge regression on all samples at once, though it has seen each sample once.

# %%
torch.manual_seed(0)
inputs, targets = torch.randn(60, 6), torch.randn(60, 3)
layer = torch.nn.Linear(6, 3, bias=False)
layer.weight.data.zero_()
optimizer = DeepOptimizer(layer, manager=False, ridge=0.1, loss="squared_error")
for x, target in zip(inputs, targets, strict=True):
    optimizer.zero_grad()
    (0.5 * (layer(x[None]) - target).square().sum()).backward()
    optimizer.step()
gram = 0.1 * torch.eye(6) + inputs.T @ inputs
at_once = torch.linalg.solve(gram, inputs.T @ targets).T
gap = float((layer.weight.detach() - at_once).norm() / at_once.norm())
claim(
    gap < 0.05,
    f"Its weights are within {gap:.1%} of ridge regression on all 60 samples at once.",
)

# %% [markdown]
# ## Move the knobs
#
# The digits 0–4, then 5–9, on a network of 32 units. Play, and try: Adam first (toggle off, Reset), the deep optimizer
# from the start, or switched on at the very moment when B begins. Then lower the retention. What does a low *rate* do?

# %%
LiveLab(
    Experiment.preset("digits-ab", optimizer="deep"),
    knobs=("optimizer", "teach", "rate", "retention", "manager"),
    views=("accuracy", "drift"),
)

# %% [markdown]
# ## Is it worth what it costs?
#
# Two honest questions. *Do the hidden levels learn anything, or is it the last layer alone?* Beside every row stands
# its
# **frozen twin**: the same network with all levels but the head kept at their random initial values. *What does the
# memory weigh?* Count the bytes kept beyond the weights.

# %%
SEEDS = range(5)
found = {"deep": [], "deep, frozen twin": []}
for frozen, name in enumerate(found):
    for seed in SEEDS:
        settings = {"seed": seed, "frozen": bool(frozen), "evaluate_every": 1000}
        found[name].append(train(Experiment.preset("digits-ab", **settings)))
score = {
    name: [run.summary["average_accuracy"] for run in runs] for name, runs in found.items()
}
gain = paired_difference(*score.values())
claim(
    gain["mean"] - gain["half_width"] > 0,
    f"Learning in the hidden levels adds {gain['mean']:+.3f} ± {gain['half_width']:.3f} to "
    "the average accuracy "
    f"(95 % interval over {len(SEEDS)} paired seeds): the network beats its twin.",
)
stream = Trainer(Experiment.preset("digits-ab")).stream
data = sum(task.train.inputs.nbytes for task in stream.tasks)
kept = found["deep"][0].bytes_kept
claim(
    kept > 0.1 * data,
    f"Its memory weighs {kept:,} bytes, {kept / data:.0%} of the whole training set: keeping "
    "the images "
    "themselves is not out of reach here. The memory's size does not grow with the stream.",
)
spots({"average accuracy": score}, ylim=(0, 1.02))

# %% [markdown]
# And a stream on which keeping is of no use: `remapped-digits`. Task B has the same images as A, and every label is
# moved by one. What was learned is now wrong. Who is quicker to learn the new answers, measured over the first 20
# batches with them: Adam, or the optimizer that keeps everything?

# %%
online = {name: [] for name in ("adam", "deep")}
for name in online:
    for seed in range(2):
        settings = {"optimizer": name, "seed": seed, "evaluate_every": 1000}
        online[name].append(
            train(Experiment.preset("remapped-digits", **settings)).online_accuracy
        )
first, second = (
    {name: sum(run[task] for run in runs) / 2 for name, runs in online.items()}
    for task in (0, 1)
)
claim(
    first["deep"] > first["adam"] + 0.1,
    f"Over the first 20 batches of A the deep optimizer is ahead, {first['deep']:.2f} to "
    f"{first['adam']:.2f}.",
)
claim(
    second["deep"] < second["adam"] + 0.1,
    f"Over the first 20 with new answers it is not: {second['deep']:.2f} to "
    f"{second['adam']:.2f}. Its lead is gone "
    "where what it keeps is wrong.",
)

# %% [markdown]
# **In short.** A step is a wish and a leash. Delta gradient descent changes the wish, the context memory the leash, and
# its retention runs from one step to a lifetime. What it keeps is worth something where the world stays true to it.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 06.1 The exact step of delta gradient descent (code, 15 minutes)
#
# `signal` is $\nabla_y L$, so $u$ is `-signal`. Return the $W$ that minimizes
# $\tfrac12\lVert W x - u\rVert^2 + \tfrac{1}{2\,\text{rate}}\lVert W - W_t\rVert^2$ for any length of $x$.


# %% tags=["answer"]
def dgd_step(weight, x, signal, rate): ...


# %% tags=["check"]
check("06.1", dgd_step)

# %% [markdown] tags=["exercise"]
# ### 06.2 Least squares, one sample at a time (code, 15 minutes)
#
# `context` is $\varepsilon I + C$ before this sample. Take the sample in, and return the new weights and the new
# context, for squared error and retention 1. Tried on a whole stream, it must end where all samples at once would.


# %% tags=["answer"]
def learn(weight, context, x, target): ...


# %% tags=["check"]
check("06.2", learn)

# %% [markdown] tags=["exercise"]
# ### 06.3 How new is this input? (code, 10 minutes)
#
# `past` holds earlier inputs as rows. Return the novelty of `x`,
# $\varepsilon\; x^\top(\varepsilon I + C)^{-1} x \,/\, \lVert x\rVert^2$ with $\varepsilon$ = `ridge`, as a number.


# %% tags=["answer"]
def novelty(past, x, ridge): ...


# %% tags=["check"]
check("06.3", novelty)

# %% [markdown] tags=["exercise"]
# ### 06.4 A world in which keeping is wrong (explain by example, 10 minutes)
#
# Build a stream of `count` samples (12 or more): float tensors `inputs` (`count` × `dim`) and `targets` (`count`). On
# its last sample a memory that keeps everything (retention 1) must be off by more than 0.2, and one of retention 0.5 by
# less than half of that. A single exception at the end will not do: both would be off.


# %% tags=["answer"]
def changed_world(count, dim): ...


# %% tags=["check"]
check("06.4", changed_world)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 8–9, 56–60, Definition 5.
# - G. Zeng and others: *Continual learning of context-dependent processing in neural networks*, 2019,
#   [arXiv 1810.01256](https://arxiv.org/abs/1810.01256) (orthogonal weight modification).
# - The context memory is this lab's own; the docstring of `nllab.DeepOptimizer` names its relatives.
#
# Next: [07 · Memory that modifies itself](07-self-modifying-memory.ipynb).
