# %% [markdown]
# # 12 · Your own: what changes when the task, the model or the optimizer is yours?
#
# **About 60 minutes.** The exercises take another 60. You need: to have written a training loop in PyTorch; notebooks
# 00, 01 and 04.
#
# At the end you can
# - put the deep optimizer into a loop of your own, and say what it must be told,
# - run a stream, a model or an optimizer of yours in the lab, with its twin and its matrix,
# - write an optimizer whose memory survives being saved, and levels for a model that has none.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch
from torch import nn

from nllab import DeepOptimizer, Experiment, Level, LiveLab, Trainer
from nllab.course import begin, check, claim
from nllab.course.draw import bars, canvas, curves
from nllab.explore import explore
from nllab.streams.stream import Part, Stream, Task
from nllab.summary import paired_difference

begin("12", 2)

# %% [markdown]
# ## One changed line
#
# A loop as everybody writes it. Two tasks of sixteen inputs each: on which side of a plane does a point lie? Task B
# has another plane, two classes of its own, and points around another centre. With the weights $W$ of a layer, its
# inputs $x$, the loss $L$ and the sum $C$ of all $x_i x_i^\top$ so far, the changed line replaces
#
# $$W \leftarrow W - \eta\, \nabla_W L \qquad\text{by}\qquad W \leftarrow W - \rho\,\nabla_W L\,(\varepsilon I +
# C)^{-1},$$
#
# $\eta$ and $\rho$ rates, $\varepsilon$ a small ridge (Eq. 59–60 with the leash of notebook 06). What it must know:
# the model, so that it sees the inputs of its layers, and whether the loss is a mean or a sum over the batch: $C$
# counts every point whole, and the gradient of a mean has been divided by their number. Beside it plain gradient
# descent (SGD) and Adam; three seeds.


# %%
def two_planes(seed, apart=2.0, width=16):
    """Two tasks of (inputs, labels), 600 points each; centres `apart` from each other."""
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for place in range(2):
        centre = torch.randn(width, generator=generator) / width**0.5
        inputs = torch.randn(600, width, generator=generator) * 0.5 + apart * centre
        rule = torch.randn(width, generator=generator)
        side = (inputs - apart * centre) @ rule > 0
        tasks.append((inputs, 2 * place + side.long()))
    return tasks


def network():
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )


@torch.no_grad()
def accuracies(model, tasks):
    """On the last 200 points of each task."""
    return [float((model(x[400:]).argmax(1) == y[400:]).float().mean()) for x, y in tasks]


def learn(make_optimizer, tasks, seed=0):
    """The accuracy on A and on B, after each has been shown once, ten points at a time."""
    torch.manual_seed(seed)
    model, found = network(), []
    optimizer = make_optimizer(model)
    for inputs, labels in tasks:
        for x, y in zip(inputs[:400].split(10), labels[:400].split(10), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        found.append(accuracies(model, tasks))
    return found


WAYS = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), 0.3),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), 1e-2),
    "deep": lambda model: DeepOptimizer(model, loss_reduction="mean"),
}


def over_seeds(make, apart=2.0):
    """What `learn` finds, (after A, after B) x (A, B), mean over three seeds."""
    found = [learn(make, two_planes(seed, apart), seed) for seed in range(3)]
    return torch.tensor(found).mean(0).tolist()


ends = {name: over_seeds(make) for name, make in WAYS.items()}
for name, ((a, _), (later, b)) in ends.items():
    print(f"{name}: A {a:.2f} when it had been learned, {later:.2f} after B; B {b:.2f}")
both = {name: sum(end) / 2 for name, (_, end) in ends.items()}
claim(
    ends["deep"][1][0] > max(ends["SGD"][1][0], ends["Adam"][1][0]) + 0.5
    and ends["deep"][1][1] > max(ends["SGD"][1][1], ends["Adam"][1][1]),
    f"With the changed line {ends['deep'][1][0]:.2f} of A is right after B, with SGD "
    f"{ends['SGD'][1][0]:.2f}, with Adam {ends['Adam'][1][0]:.2f}; of B "
    f"{ends['deep'][1][1]:.2f}, {ends['SGD'][1][1]:.2f} and {ends['Adam'][1][1]:.2f}.",
)
claim(
    abs(ends["Adam"][1][1] - 0.5) < 0.1,
    f"Adam has hardly begun to learn B: between its two classes {ends['Adam'][1][1]:.2f} is "
    "little more than a guess.",
)
others = {}
for name, kind in (("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam)):
    for rate in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3):
        end = over_seeds(lambda model, kind=kind, rate=rate: kind(model.parameters(), rate))[1]
        others[f"{name} at {rate:g}"] = sum(end) / 2
best = max(others, key=others.get)
claim(
    both["deep"] > others[best] + 0.3,
    f"Another rate is no help: of {len(others)} tried {best} does best, with "
    f"{others[best]:.2f} as the mean of A and B at the end. Deep has {both['deep']:.2f} at "
    "its usual rate.",
)

# %% [markdown]
# ## Move the knob: how far apart are the tasks?
#
# What is spared are directions that old inputs have used. Let the centres of the two tasks move together. Three
# seeds, a quarter of a minute. **Guess first:** does the deep optimizer need tasks that lie apart?

# %%
APART = [0.0, 1.0, 2.0, 4.0]
final = {name: [over_seeds(make, apart)[1] for apart in APART] for name, make in WAYS.items()}
kept = {name: [a for a, _ in found] for name, found in final.items()}
taken = {name: [b for _, b in found] for name, found in final.items()}


def at(apart):
    figure, (left, right) = canvas(2)
    i = APART.index(apart)
    bars(
        left,
        {n: (kept[n][i], taken[n][i]) for n in WAYS},
        ("A after B", "B after B"),
        ylim=(0, 1.1),
    )
    curves(
        APART, kept, marks=True, axes=right, xlabel="apart", ylabel="A after B", ylim=(0, 1.05)
    )
    right.axvline(apart, color="#444444", linestyle=":")
    return figure


claim(
    all(d > max(s, a) + 0.1 for s, a, d in zip(*kept.values(), strict=True)),
    "At every distance more of A is left than with SGD or Adam: from "
    f"{kept['deep'][0]:.2f} ({kept['SGD'][0]:.2f}, {kept['Adam'][0]:.2f}) at 0 to "
    f"{kept['deep'][-1]:.2f} ({kept['SGD'][-1]:.2f}, {kept['Adam'][-1]:.2f}) at 4.",
)
claim(
    kept["deep"][0] < 0.5 < 0.7 < kept["deep"][1],
    "Yet it needs them apart. At 0, where the points of both tasks come from one place and only "
    f"the answers change, it too loses most of A: {kept['deep'][0]:.2f} is less than a guess "
    f"between A's two classes. At 1 it keeps {kept['deep'][1]:.2f}.",
)
explore(at, apart=APART, start={"apart": 2.0})

# %% [markdown]
# ## Your task in the lab
#
# The same points as a `Stream`: tasks with parts to learn from and to test on, and the order in which they are
# taught. The trainer then measures what it measures for its own: the matrix, drift, writes, bytes. (Files work as
# well: `Experiment.preset("own:a.csv,b.csv")`, or a folder of texts.)


# %%
def planes(seed):
    parts = [Part(inputs, labels) for inputs, labels in two_planes(seed)]
    tasks = [
        Task(name, f"plane {name}", part[:400], part[:0], part[400:])
        for name, part in zip("AB", parts, strict=True)
    ]
    return Stream("planes", "Two planes, one after the other.", tuple(tasks), (0, 1), classes=4)


def trained(seed, **settings):
    return Trainer(
        Experiment(seed=seed, evaluate_every=1000, **settings), stream=planes(seed)
    ).run()


matrix = trained(0).accuracy_matrix
print("after     A      B")
for name, row in zip("AB", matrix, strict=True):
    print(f"    {name}  {row[0]:.2f}   {row[1]:.2f}")
claim(
    matrix[1, 0] > 0.6 and matrix[1, 1] > 0.6,
    f"On the lab's network of memory levels A ends at {matrix[1, 0]:.2f} and B at "
    f"{matrix[1, 1]:.2f}.",
)

# %% [markdown]
# ## Does it learn anything below the head? Its twin
#
# The question of this course, asked of a stream that the lab has never seen: does learning in the hidden levels pay,
# or is it the head alone? Whatever the interval says is printed.

# %%
SEEDS = range(4)
own, twin = (
    [trained(seed, frozen=frozen).summary["average_accuracy"] for seed in SEEDS]
    for frozen in (False, True)
)
gain = paired_difference(own, twin)
low, high = gain["mean"] - gain["half_width"], gain["mean"] + gain["half_width"]
verdict = (
    "is worth something" if low > 0 else "costs" if high < 0 else "cannot be told from nothing"
)
for name, values in (("learning", own), ("twin", twin)):
    print(f"{name:>8}: {' '.join(f'{value:.3f}' for value in values)}")
print(f"Learning below the head {verdict}: {gain['mean']:+.3f} ± {gain['half_width']:.3f}.")
claim(
    min(own) > 0.6,
    f"On each of {len(SEEDS)} seeds both tasks together end at {min(own):.2f} or more, "
    "where guessing gives a quarter.",
)

# %% [markdown]
# ## Your model, in levels
#
# Any model with `nn.Linear`, convolutions or embeddings will do. `Level(name, modules, period)` names its modules by
# pattern, from fast to slow; a level of period $C$ adds up its gradients and writes after every $C$-th step (Eq. 71).
# Whatever reads out is called `head`, so that it has a twin.

# %%
levels = (
    Level("head", "4", period=1),
    Level("middle", "2", period=4),
    Level("first", "0", period=16),
)
torch.manual_seed(0)
quiet = {"evaluate_every": 1000}
mine = Trainer(Experiment(**quiet), stream=planes(0), model=network(), levels=levels).run()
print(f"{mine.steps} steps, written: {mine.update_counts}")
claim(
    mine.update_counts == {"head": 80, "middle": 20, "first": 5},
    "Of 80 steps the head has written after each, the middle level after every 4th, the first "
    "after every 16th.",
)
claim(
    mine.summary["a_after_b"] > 0.5,
    f"A plain `nn.Sequential` in three levels keeps {mine.summary['a_after_b']:.2f} of A.",
)

# %% [markdown]
# ## Your optimizer
#
# Hand it in over the parameters of your model. It writes for as long as the deep optimizer is switched off, and the
# command `optimizer` switches that on as in the lab: here RMSprop teaches A, and before step 41, the first of B, the
# deep optimizer takes over, which has watched.


# %%
def with_rmsprop(seed, commands=()):
    torch.manual_seed(seed)
    model = network()
    rmsprop = torch.optim.RMSprop(model.parameters(), 3e-3)
    settings = Experiment(optimizer="adam", seed=seed, **quiet)
    trainer = Trainer(settings, stream=planes(seed), model=model, optimizer=rmsprop)
    return trainer.run(commands=commands)


alone = [with_rmsprop(seed) for seed in range(3)]
handed_over = [with_rmsprop(seed, [(41, "optimizer", "deep")]) for seed in range(3)]
left, more = ([run.summary["a_after_b"] for run in runs] for runs in (alone, handed_over))
claim(
    all(b > a + 0.2 for a, b in zip(left, more, strict=True)),
    f"RMSprop alone ends with {', '.join(f'{a:.2f}' for a in left)} of A (three seeds); with the "
    f"deep optimizer from B on {', '.join(f'{a:.2f}' for a in more)} are left.",
)
claim(
    handed_over[0].bytes_kept > alone[0].bytes_kept,
    f"It costs memory: {handed_over[0].bytes_kept:,} bytes are kept beyond the weights, with "
    f"RMSprop alone {alone[0].bytes_kept:,}.",
)

# %% [markdown]
# ## All knobs
#
# The lab's own plane, everything movable. Find a setting that beats the one it starts from, then write it down as an
# experiment: `nllab.Experiment.preset("plane-ab", …)` takes every knob by its name.

# %%
LiveLab(
    Experiment.preset("plane-ab", optimizer="adam"),
    knobs=("optimizer", "teach", "learning_rate", "periods", "rate", "retention", "manager"),
    views=("accuracy", "raster"),
)

# %% [markdown]
# **In short.** One line changes the optimizer, one argument the stream, the model or the levels. What does not
# change is what you owe your reader: the matrix, the twin, the bytes, several seeds.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 12.1 A stream of your own (code, 15 minutes)
#
# Return an `nllab` `Stream` of two tasks or more, under a name of its own: 50 to 2,000 rows to learn from in each
# task and 20 or more to test on, no test row among the training rows, the same stream for the same `seed` and
# another for another, and something to learn in each task: the check trains a network on each of them alone.


# %% tags=["answer"]
def my_stream(seed): ...


# %% tags=["check"]
check("12.1", my_stream)

# %% [markdown] tags=["exercise"]
# ### 12.2 An optimizer that survives being saved (code, 20 minutes)
#
# Return a `torch.optim.Optimizer` of your own over `parameters` (a class inside the function will do) that remembers
# something of earlier gradients. Saved as `state_dict()` and loaded into a new one, it must go on exactly as if
# nothing had happened, its rate included.


# %% tags=["answer"]
def my_optimizer(parameters, rate): ...


# %% tags=["check"]
check("12.2", my_optimizer)

# %% [markdown] tags=["exercise"]
# ### 12.3 Levels for somebody else's model (code, 10 minutes)
#
# `model` has `embed`, `blocks` (an `nn.ModuleList` of $n$), `norm` and `head`. Return its levels, fast to slow:
# `norm` and `head` together, writing at every step; a level for each block, block $i$ (from 0) with period
# $2^{\,n-1-i}$; and `embed`, as slow as block 0.


# %% tags=["answer"]
def my_levels(model): ...


# %% tags=["check"]
check("12.3", my_levels)

# %% [markdown] tags=["exercise"]
# ### 12.4 Beat the twin (code, open, 15 minutes)
#
# Return an `Experiment` (`model="cms"`, at most 500 steps, nothing frozen, not joint) whose average accuracy is above
# that of its frozen twin by more than 0.3: the whole paired interval, over four seeds that the check draws. No preset
# passes as it comes: change something. Where is a network lost that cannot learn its features? The check trains eight
# runs, which takes up to a minute.


# %% tags=["answer"]
def beats_its_twin(): ...


# %% tags=["check"]
check("12.4", beats_its_twin)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 59–60, 71.
# - What the deep optimizer does and what it needs: the docstring of `nllab.DeepOptimizer`; own data: `nllab data
#   --help`.
