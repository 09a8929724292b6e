# %% [markdown]
# # 03 · Optimizers are memories: what is left of an old gradient?
#
# **About 60 minutes.** The exercises take another 40. You need: gradient descent and momentum as a user knows them;
# notebook 02 for the delta rule.
#
# At the end you can
# - say how long momentum remembers, and compute it for any setting,
# - turn momentum into a memory with the delta rule, and say what that buys,
# - explain why a memory of *gradients*, however long, does not keep an old task.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import DeltaMomentum, Experiment, Momentum, newton_schulz, train
from nllab.course import begin, check, claim, predict
from nllab.course.draw import bars, canvas, curves
from nllab.explore import explore

begin("03")

# %% [markdown]
# ## Momentum is a memory
#
# Gradient descent with momentum keeps one tensor $m$ beside the weights $W$. With the gradient $G_t$ at step $t$, the
# rate $\eta$ and the momentum factor $\beta$ (Eq. 33; the paper writes $\alpha$ for $\beta$):
#
# $$m_{t+1} = \beta\, m_t - \eta\, G_t, \qquad W_{t+1} = W_t + m_{t+1}$$
#
# Read it as in notebook 02: $m$ is a memory, the gradients are what is written into it, and the write is one step of
# gradient descent on $\langle m, G_t\rangle$ (Eq. 34). A Hebbian memory, then, with the gradients for values and no
# keys to tell them apart, and one that fades: a gradient that is $i$ steps old still counts $\beta^i$.
#
# **Guess first:** with the usual $\beta = 0.9$, how many steps back does momentum see?

# %%
ages = torch.arange(0, 100)
weight = 0.9**ages
share = weight.cumsum(0) * (1 - 0.9)
claim(abs(weight[43] - 0.0108) < 1e-4, f"A gradient 43 steps old counts {weight[43]:.1%}.")
claim(share[6] > 0.5, f"Of equal gradients the last 7 make up {share[6]:.0%} of what it holds.")
claim(share[43] > 0.99, f"The last 44 make up {share[43]:.1%}.")


def fading(beta):
    kept = (beta**ages).tolist()
    after = {"counts still": kept, "half": [0.5] * len(ages)}
    return curves(ages, after, xlabel="age of a gradient (steps)", ylim=(0, 1.05))


explore(fading, beta=[0.0, 0.5, 0.8, 0.9, 0.95, 0.98], start={"beta": 0.9})

# %% [markdown]
# ## The smallest example: two tasks at right angles
#
# The paper's thought experiment (section 4.3). Task A has gradients along one direction, task B along another, at right
# angles to it. After 50 steps of A come 50 of B. How much does the memory hold along each direction?

# %%
memory, held = torch.zeros(2), {"A": [], "B": []}
for step in range(100):
    gradient = torch.tensor([1.0, 0.0]) if step < 50 else torch.tensor([0.0, 1.0])
    memory = 0.9 * memory - 0.1 * gradient
    held["A"].append(abs(float(memory[0])))
    held["B"].append(abs(float(memory[1])))
claim(
    held["A"][92] < 0.02 * held["A"][49],
    f"43 steps into B the memory holds {held['A'][92] / held['A'][49]:.1%} of what it held "
    "along A. Nothing of B "
    "points that way: it has faded, not been overwritten.",
)
about = {
    "xlabel": "step",
    "ylabel": "held along the direction",
    "title": "A for 50 steps, then B",
}
curves(range(100), {f"direction of {name}": line for name, line in held.items()}, **about)

# %% [markdown]
# The optimizer no longer knows where A lives. From there on it treats the direction of A as any other.
#
# ## A better write: delta momentum
#
# Notebook 02 had a better rule than adding up. Let the memory first take away what it holds along the gradient that has
# just come, then write (Eq. 48–49, with the rate *erase* that the printed equation leaves out):
#
# $$m_{t+1} = \beta\, m_t - \text{erase}\; m_t\, G_t^\top G_t - \eta\, G_t$$
#
# With *erase* 0 it is momentum. As it stands it may take away more than there is, where gradients are large; so
# `nllab.DeltaMomentum` divides *erase* by $1 + \text{erase}\,\lVert G_t\rVert^2$, which is the exact solution of the
# step (notebook 06 derives it for weights).
#
# Where the gradient turns round, momentum is in its own way: it must first run down what it has gathered. The paper's
# toy is a winding valley (Eq. 53), with the coordinates $r$ and $\theta$:
# $\psi = r^2 + k\,(r - \theta + a \sin w r)^2$. It gives no constants; here $k = 10$, $a = 1$, $w = 2$. Count the steps
# until the value stays below 0.001, for each of several settings, since every optimizer deserves its best: rates for
# both, and a second knob each, $\beta$ of momentum and *erase* (at $\beta = 0.9$).


# %%
def descend(optimizer, point, steps=400):
    """The values of the valley along the way."""
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        r, theta = point
        value = r**2 + 10 * (r - theta + torch.sin(2 * r)) ** 2
        value.backward()
        optimizer.step()
        values.append(min(float(value.detach()), 100.0))
    return values


def from_the_start(kind, **settings):
    point = torch.tensor([-3.5, 2.0], requires_grad=True)
    return descend(kind([point], **settings), point)


def arrives(values):
    """Steps until the value stays below 0.001."""
    return max((i + 1 for i, value in enumerate(values) if not value < 1e-3), default=0)


RATES, BETAS, ERASES = (0.005, 0.01, 0.014), (0.8, 0.9, 0.95), (0.01, 0.1, 1.0)
plain = {
    (rate, beta): arrives(from_the_start(Momentum, lr=rate, momentum=beta))
    for rate in RATES
    for beta in BETAS
}
delta = {
    (rate, erase): arrives(from_the_start(DeltaMomentum, lr=rate, erase=erase))
    for rate in RATES
    for erase in ERASES
}
best = min(delta.values())
claim(
    best < min(plain.values()) / 2,
    f"At the best of 9 settings each momentum is at the bottom after {min(plain.values())} "
    f"steps, delta momentum after {best}.",
)
slower = [
    f"rate {rate}, erase {erase}" for (rate, erase), n in delta.items() if n > plain[rate, 0.9]
]
claim(
    0 < len(slower) < 3,
    f"It is no law: with {' and '.join(slower)} it is slower than momentum at that rate.",
)


def valley(erase, rate):
    ways = {"momentum": from_the_start(Momentum, lr=rate)}
    ways["delta momentum"] = from_the_start(DeltaMomentum, lr=rate, erase=erase)
    about = {"xlabel": "step", "ylabel": "height", "yscale": "log", "ylim": (1e-6, 200)}
    return curves(range(400), ways, title=f"rate {rate}, erase {erase}", **about)


explore(valley, erase=[0.001, 0.01, 0.1, 1.0], rate=[0.005, 0.01, 0.014], start={"erase": 0.1})

# %% [markdown]
# One valley proves little. Over 36 of them, each optimizer at the best of 46 rates, the docstring of
# `nllab.DeltaMomentum` has the count.
#
# ## A memory that answers in directions: Newton–Schulz
#
# What a memory is *read* with can change as well. Muon reads $m$ through the Newton–Schulz iteration (Eq. 42–44). It
# divides a matrix $X$ by its norm, and then drives its singular values towards 1: directions that the memory holds then
# count nearly alike, rare ones too. One cubic iteration is $X \leftarrow \tfrac32 X - \tfrac12 X X^\top X$. Muon's own,
# of fifth order, is quicker for small values and stops short of 1.

# %%
torch.manual_seed(0)
u, _, v = torch.linalg.svd(torch.randn(8, 8))
matrix = u @ torch.diag(torch.logspace(-2, 0, 8)) @ v
cubic = (1.5, -0.5, 0.0)
found = {"cubic": [], "Muon's quintic": []}
for steps in range(13):
    for name, settings in (("cubic", {"coefficients": cubic}), ("Muon's quintic", {})):
        values = torch.linalg.svdvals(newton_schulz(matrix, steps=steps, **settings))
        found[name].append(float(values.min()))
after = torch.linalg.svdvals(newton_schulz(matrix))
claim(
    after.min() > 0.6 and after.max() < 1.25,
    f"Five of Muon's iterations bring singular values from 0.01 to 1 into {after.min():.2f} "
    f"to {after.max():.2f}.",
)
claim(
    found["cubic"][5] < 0.2 and found["cubic"][12] > 0.5,
    f"The cubic needs patience: its smallest is at {found['cubic'][5]:.2f} after 5 "
    "iterations, and at "
    f"{found['cubic'][12]:.2f} after 12.",
)
curves(range(13), found, marks=True, xlabel="iterations", ylabel="smallest singular value")

# %% [markdown]
# ## Longer memories
#
# Adam keeps two memories at once, of the gradient and of its square. M3 (Algorithm 1) keeps a fast one and a slow one,
# which is written once in every $f$ steps: its past fades by chunks of $f$ steps. So the reach of an optimizer can be
# made as long as one likes. Does that keep an old task?
#
# **Guess first.** A network of 32 units learns the digits 0–4 (task A), then 5–9 (task B), one pass, no old image comes
# back. Which of these optimizers still knows A at the end: SGD with no memory at all, Adam, delta momentum, M3? Beside
# them stand delta momentum with the trick of notebook 01 (only outputs whose classes are in the batch count), the deep
# optimizer, and its twin whose hidden levels are frozen. (14 networks: half a minute.)

# %%
SMALL = {"dim": 32, "hidden": 32, "evaluate_every": 1000, "observe": False}
WRITERS = {name: {"optimizer": name} for name in ("sgd", "adam", "delta-momentum", "m3")}
WRITERS["delta-mom., trick"] = {"optimizer": "delta-momentum", "outputs": "batch"}
WRITERS |= {"deep": {"optimizer": "deep"}, "deep, twin": {"optimizer": "deep", "frozen": True}}
kept, cost = {}, {}
for name, settings in WRITERS.items():
    runs = [
        train(Experiment.preset("digits-ab", seed=seed, **settings, **SMALL))
        for seed in range(2)
    ]
    kept[name] = [run.summary["a_after_b"] for run in runs]
    cost[name] = runs[0].bytes_kept
print("accuracy on A after B, two seeds, and bytes kept beyond the weights")
for name in WRITERS:
    print(f"{name:>18}: {kept[name][0]:.2f} {kept[name][1]:.2f}   {cost[name]:>9,} bytes")
long = max(kept["m3"] + kept["adam"] + kept["delta-momentum"])
claim(
    long < 0.3,
    f"Of A the optimizers that remember gradients keep {long:.2f} at most, M3 with its slow "
    f"memory {max(kept['m3']):.2f}: a longer memory of gradients is no help.",
)
claim(
    min(kept["delta-mom., trick"]) > long + 0.4,
    f"With the trick delta momentum keeps {min(kept['delta-mom., trick']):.2f} or more: much of "
    "what is lost is lost in the head, where old answers are pushed down.",
)
claim(
    min(kept["deep"]) > max(kept["deep, twin"]) > long + 0.4,
    f"A memory of inputs keeps {min(kept['deep']):.2f} or more without the trick, and "
    f"{max(kept['deep, twin']):.2f} at most where only the head has learned.",
)
figure, (axes,) = canvas(width=7)
shown = {name.replace(" ", "\n").replace("-m", "-\nm"): values for name, values in kept.items()}
bars(axes, shown, ("seed 0", "seed 1"), ylabel="A after B", ylim=(0, 1.05))
figure

# %% [markdown]
# **In short.** An optimizer is a memory, and its reach can be computed. A better write (delta momentum) can be quicker
# down a valley, a better read (Newton–Schulz) lets rare directions count. But a gradient says where the *present* batch
# wants to go; remembering where earlier ones wanted to go is not knowing what must stay as it is. Notebook 06 remembers
# inputs instead.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 03.1 Half-life (predict, 5 minutes)
#
# First predict: with $\beta = 0.99$, after how many steps does a gradient count half? Then write the function for any
# $\beta$ between 0 and 1; its result need not be whole.

# %% tags=["answer"]
predict("03.1", ...)


def half_life(beta): ...


# %% tags=["check"]
check("03.1", half_life)

# %% [markdown] tags=["exercise"]
# ### 03.2 Delta momentum (code, 10 minutes)
#
# `memory` and `gradient` are matrices of the same shape. Return the memory after one step of delta momentum, as in the
# equation above, *erase* undivided.


# %% tags=["answer"]
def delta_momentum(memory, gradient, rate, beta, erase): ...


# %% tags=["check"]
check("03.2", delta_momentum)

# %% [markdown] tags=["exercise"]
# ### 03.3 Newton–Schulz (code, 15 minutes)
#
# Return the matrix after `steps` cubic iterations, starting from the matrix divided by its Frobenius norm. No SVD.


# %% tags=["answer"]
def orthogonalize(matrix, steps): ...


# %% tags=["check"]
check("03.3", orthogonalize)

# %% [markdown] tags=["exercise"]
# ### 03.4 When the better rule changes nothing (explain by example, 10 minutes)
#
# Build `count` gradients, a tensor of shape (`count`, 1, `dim`) with $2 \le$ `count` $\le$ `dim`, on which delta
# momentum, from an empty memory, ends where momentum does, whatever the settings are. None of them may be zero.


# %% tags=["answer"]
def gradients_without_conflict(count, dim): ...


# %% tags=["check"]
check("03.4", gradients_without_conflict)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 33–37, 42–44, 48–50, 53, section 4.3, Algorithm 1.
# - B. Polyak: *Some methods of speeding up the convergence of iteration methods*, 1964 (momentum).
# - K. Jordan and others: *Muon: an optimizer for hidden layers in neural networks*, 2024.
#
# Next: [04 · Nested loops](04-nested-loops.ipynb).
