# %% [markdown]
# # 06 · From delta gradient descent to the deep optimizer: how does a step spare what is known?
#
# **About 75 minutes.** The exercises take another 50. You need: least squares, notebook 02 for the delta rule. Notebook
# 00 shows the result first.
#
# At the end you can
# - read an optimizer's step as a small problem of its own, and change what it keeps near to,
# - derive delta gradient descent, and least squares sample by sample, as two changes of one step,
# - say what the memory costs, what it is worth beside its twin, and where keeping is wrong.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import DeepOptimizer, Experiment, LiveLab, Trainer, train
from nllab.course import begin, check, claim
from nllab.course.draw import curves, spots
from nllab.events import Decision, Step, Switch
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
# Two things can be changed. **The wish**: delta gradient descent takes $u$ for the value to be stored at $x$ (Eq. 56),
# $\tfrac12\lVert W x - u\rVert^2$ in place of the product. Solved exactly, with $\eta' = \eta / (1 + \eta\lVert
# x\rVert^2)$:
#
# $$W_{t+1} = W_t - \eta'\,\big(W_t x + \nabla_y L\big)\, x^\top \qquad \text{(Eq. 57 has it for } \lVert x\rVert = 1)$$
#
# So each step also takes away a part of what the layer says at $x$: with squared error it settles half-way to its
# target. It is a way to forget, and exercise 06.1.
#
# **The leash**: *near* in the last term means the same in every direction. The paper leaves the retention term open
# (Eq. 59–60). This lab measures distance where inputs have been. With $\varepsilon$ a small *ridge*, $\lambda$ the
# *retention*, $C_t = \lambda\, C_{t-1} + x_t x_t^\top$ the *context* of all inputs so far and $D = W - W_t$, it
# minimizes $-\langle W x_t, u\rangle + \tfrac12 \operatorname{tr}\big(D\,(\varepsilon I + C_t)\,D^\top\big)$ by
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


said = {"gradient descent": taught(1.0, False)}
said |= {f"retention {keep}": taught(keep) for keep in (0, 0.5, 1)}
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
claim(
    abs(said["retention 0.5"][0] - 1) < 0.1,
    f"Retention 0.5 spans two steps, and yet says {said['retention 0.5'][0]:+.2f} at the first "
    "fact: the second is learned at once, while the first is still remembered, and after that "
    "there is nothing left to ask for.",
)

# %% [markdown]
# Both facts fit: two weights are enough for two facts. Retention 0 is a memory of one step, retention 1 a memory for
# life, and between them it spans some $1/(1-\lambda)$ steps. What it must span is the time in which something is
# learned.
#
# ## From one step to a lifetime
#
# A longer stream: 100 samples of a linear world in 8 dimensions, all inputs in its first 5 directions, then 100 of
# *another* world in its last 5. Two directions are shared, and the worlds disagree there. **Guess first:** whose
# answers do those two give in the end? And the three that the first world alone has used: does a memory of half a life
# keep them better than none?


# %%
USED = (slice(0, 5), slice(3, 8))  # the directions of each world
TRUTHS = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


def two_worlds(retention):
    """The weights after each step; gradient descent where retention is None."""
    generator = torch.Generator().manual_seed(1)
    weight, context, weights = torch.zeros(8), torch.zeros(8, 8), []
    for step in range(200):
        world, x = int(step >= 100), torch.zeros(8)
        x[USED[world]] = torch.randn(5, generator=generator)
        context = context if retention is None else retention * context + torch.outer(x, x)
        solved = torch.linalg.solve(0.1 * torch.eye(8) + context, x)
        direction = 0.1 * x if retention is None else solved
        weight = weight + (TRUTHS[world] - weight) @ x * direction
        weights.append(weight)
    return torch.stack(weights)


def kept(weights):
    """Of the first world at the end: its share in the shared directions, the rest of its own."""
    first, second = TRUTHS[:, 3:5]
    share = (weights[-1, 3:5] - second) @ (first - second) / (first - second).square().sum()
    lost = (weights[-1, :3] - TRUTHS[0, :3]).norm() / TRUTHS[0, :3].norm()
    return float(share), 1 - float(lost)


LIVES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
print("retention   of the first world: in shared directions, in its own three")
ends = {life: kept(two_worlds(life)) for life in (None, *LIVES)}
for life, (share, own) in ends.items():
    print(
        f"{'(descent)' if life is None else life:>9}   {round(share, 2) or 0.0:21.0%}   "
        f"{own:16.0%}"
    )


def family(retention):
    weights, lines = two_worlds(retention), {}
    for name, truth, part in zip(("first world", "second world"), TRUTHS, USED, strict=True):
        lines[name] = ((weights - truth)[:, part].norm(dim=1) / truth[part].norm()) ** 2
    about = {"xlabel": "step", "ylabel": "error left", "ylim": (0, 2)}
    return curves(range(200), lines, title=f"retention {retention}", **about)


explore(family, retention=list(LIVES), start={"retention": 0.9})

# %%
short = {life: ends[life][0] for life in LIVES if life <= 0.95}
claim(
    max(map(abs, short.values())) < 0.05 and 0.3 < ends[1.0][0] < 0.7,
    f"Where the worlds disagree, a memory for life ends {ends[1.0][0]:.0%} of the way back to "
    "the first; any that spans 20 steps or fewer has gone over to the second.",
)
worst = min(LIVES, key=lambda life: ends[life][1])
claim(
    ends[None][1] > 0.99 and ends[1.0][1] > 0.85 and ends[worst][1] < ends[1.0][1] - 0.1,
    "The three directions of its own the second world never uses, so gradient descent leaves "
    f"them alone. A memory for life keeps {ends[1.0][1]:.0%} of them, one of retention "
    f"{worst} {ends[worst][1]:.0%}: where it half remembers, its steps turn aside. Here a "
    "fading memory is worse than none.",
)

# %% [markdown]
# Where the worlds disagree no memory can keep both. What is kept there is a choice between stability and plasticity,
# and retention is that choice; but it is no free one, as the last line shows.
#
# ## Compare with `nllab`
#
# `nllab.DeepOptimizer` does this for every linear, convolutional and embedding layer of a network, in place of your
# optimizer. Its memory *observes* all the time; a toggle decides whether it *acts*. Its **manager** sets rates and
# retention as it sees fit, and says in a sentence what it saw. Without one, on a single layer, it should come out at
# ridge regression on all samples at once, though it has seen each sample once. (Its ridge is in units of an input whose
# squares are 1 in the mean: with 6 inputs 0.1 stands for 0.6.)

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
gram = 6 * 0.1 * torch.eye(6) + inputs.T @ inputs
at_once = torch.linalg.solve(gram, inputs.T @ targets).T
gap = float((layer.weight.detach() - at_once).norm() / at_once.norm())
claim(
    gap < 1e-5,
    "Its weights are ridge regression on all 60 samples at once, but for a part in "
    f"{1 / gap:,.0f}.",
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
# its **frozen twin**: the same network with all levels but the head kept at their random initial values. *What does the
# memory weigh?* Count the bytes kept beyond the weights. (Eight networks, a third of a minute.)

# %%
SEEDS = range(4)
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
weighs = found["deep"][0].bytes_kept
claim(
    data / 4 < weighs < data,
    f"Its memory weighs {weighs:,} bytes. All training images weigh {data:,} as 32-bit "
    f"numbers, and {data // 4:,} with a byte for each pixel, which is less: keeping the "
    "images themselves is not out of reach here. The memory's size does not grow with the "
    "stream.",
)
spots({"average accuracy": score}, ylim=(0, 1.02))

# %% [markdown]
# And a stream on which keeping is wrong: `remapped-digits`. Task B has the same images as A, and every label is moved
# by one. **Guess first:** who learns the new answers, Adam, or the optimizer that keeps everything? And what is the
# manager for? (Six networks, a third of a minute.)

# %%
WHO = {"Adam": {"optimizer": "adam"}, "no manager": {"manager": False}, "manager": {}}
online, why = {}, ""
for name, settings in WHO.items():
    runs = [
        train(Experiment.preset("remapped-digits", seed=seed, evaluate_every=1000, **settings))
        for seed in range(2)
    ]
    start = runs[0].of(Switch)[1].step  # of B
    right = torch.tensor([[step.online_accuracy for step in run.of(Step)] for run in runs])
    blocks = right[:, start - 1 :].mean(0)[:80].view(-1, 10)
    online[name] = blocks.mean(1).tolist()
    acts = [d for d in runs[0].of(Decision) if d.step >= start]
    acts = [d for d in acts if d.did["retention of the head"] < 1]
    why = f"step {acts[0].step}: {acts[0].text[:-1]}" if acts else why
claim(
    max(online["no manager"][:5]) < 0.1 and online["Adam"][4] > 0.6,
    "What is kept for life is in the way: 41 to 50 batches after the change "
    f"{online['Adam'][4]:.2f} of the answers are right with Adam, "
    f"{online['no manager'][4]:.2f} with a memory that never lets go.",
)
claim(
    bool(why) and min(online["manager"][3:]) > max(online["Adam"]),
    f"The manager sees it and lets go (seed 0, {why}). From the 31st batch on it is ahead of "
    f"Adam: {online['manager'][4]:.2f}.",
)
about = {"xlabel": "batches of B", "ylabel": "right before learning", "ylim": (0, 1.05)}
curves(range(10, 90, 10), online, marks=True, **about)

# %% [markdown]
# **In short.** A step is a wish and a leash. Delta gradient descent changes the wish, the context memory the leash, and
# its retention runs from one step to a lifetime. What it keeps is worth something where the world stays true to it;
# where it does not, somebody has to notice.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 06.1 The exact step of delta gradient descent (code, 15 minutes)
#
# `weight` is $W_t$ (outputs × inputs), `x` has inputs numbers, `signal` is $\nabla_y L$ (outputs), so $u$ is `-signal`.
# Return the $W$ that minimizes
# $\tfrac12\lVert W x - u\rVert^2 + \tfrac{1}{2\,\text{rate}}\lVert W - W_t\rVert^2$ for any length of $x$.


# %% tags=["answer"]
def dgd_step(weight, x, signal, rate): ...


# %% tags=["check"]
check("06.1", dgd_step)

# %% [markdown] tags=["exercise"]
# ### 06.2 Least squares, one sample at a time (code, 15 minutes)
#
# `weight` is outputs × inputs, `x` has inputs numbers, `target` outputs, and `context` (inputs × inputs) is
# $\varepsilon I + C$ before this sample. Take the sample in, and return the new weights and the new context, for
# squared error and retention 1. Tried on a whole stream, it must end where all samples at once would.


# %% tags=["answer"]
def learn(weight, context, x, target): ...


# %% tags=["check"]
check("06.2", learn)

# %% [markdown] tags=["exercise"]
# ### 06.3 How new is this input? (code, 10 minutes)
#
# `past` (`count` × `dim`) holds earlier inputs as rows, and may have none. Return the novelty of `x`,
# $\varepsilon\; x^\top(\varepsilon I + C)^{-1} x \,/\, \lVert x\rVert^2$ with $\varepsilon$ = `ridge`, as a number.


# %% tags=["answer"]
def novelty(past, x, ridge): ...


# %% tags=["check"]
check("06.3", novelty)

# %% [markdown] tags=["exercise"]
# ### 06.4 A world in which keeping is wrong (explain by example, 10 minutes)
#
# Build a stream of `count` samples (12 or more): float tensors `inputs` (`count` × `dim`) and `targets` (`count`). On
# its last sample, before it is learned, a memory that keeps everything (retention 1) must be off by more than 0.2, and
# one of retention 0.5 by less than half of that (ridge 0.1 for both). A single exception at the end will not do: both
# would be off.


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
