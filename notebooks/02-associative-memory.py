# %% [markdown]
# # 02 · Everything is an associative memory: what do attention, linear attention and a layer have in common?
#
# **About 60 minutes.** The exercises take another 35. You need: matrices and dot products, a little PyTorch. No other
# notebook.
#
# At the end you can
# - say what *keys* and *values* are in attention, in linear attention and in a layer that is being trained,
# - write the delta rule, and say when it beats adding up, and when it does not,
# - tell two ways in which a memory fails: keys that overlap, and answers that have changed.
#
# How to read it: run the cells in order with Shift+Enter. Lines with a ✓ are computed here and now: were one of them
# not true of this run, the cell would fail. Exercises are at the end.

# %%
import torch
from torch.nn import functional as F

from nllab.course import begin, check, claim
from nllab.course.draw import arrows, bars, canvas, curves
from nllab.explore import explore
from nllab.memory import rules

begin("02")
RULES = {"Hebbian": rules.hebbian_write, "delta": rules.delta_write}

# %% [markdown]
# ## One definition
#
# An **associative memory** is a map $M$ from keys to values. Learning it means making what it says at the keys, $M(K)$,
# agree with the values $V$, by some measure of disagreement $\tilde L$ (Eq. 6 of the paper):
#
# $$M^* = \operatorname{argmin}_M \; \tilde L\big(M(K);\, V\big)$$
#
# ($\operatorname{argmin}$: the map for which it is least.)
# A key $k_t$ is a vector of $d_k$ numbers, a value $v_t$ one of $d_v$; $t$ counts what arrives. Let the memory be a
# matrix $M_t$ of $d_v \times d_k$ numbers, read by multiplication: at the query $q$ it says $M_t q$. Each time that a
# pair arrives, take one step down the gradient of a measure of disagreement. *Which* measure makes the difference:
#
# | measure | step | name |
# |---|---|---|
# | $-\langle M k_t, v_t\rangle$ | $M_t = M_{t-1} + \eta\, v_t k_t^\top$ | Hebbian rule (14–18, 64) |
# | $\tfrac12\lVert M k_t - v_t\rVert^2$ | $M_t = M_{t-1} - \eta\,(M_{t-1}k_t - v_t)\,k_t^\top$ | delta rule (65) |
#
# The Hebbian rule adds, whatever is there: its measure has no minimum, so a step is all that can be taken. The delta
# rule looks first at what the memory already says, and writes the difference. ($\eta$ is the rate; 1 unless it is
# given.)
#
# ## The smallest example
#
# Two pairs, written one after the other; $\eta = 1$ and keys of length 1. The second key leans towards the first: their
# dot product is 0.6. What does each memory say at the first key, which should read $(1, 0)$?

# %%
keys = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
values = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
hebbian, delta = torch.zeros(2, 2), torch.zeros(2, 2)
for k, v in zip(keys, values, strict=True):
    hebbian = hebbian + torch.outer(v, k)
    delta = delta - torch.outer(delta @ k - v, k)
for name, memory in {"Hebbian": hebbian, "delta": delta}.items():
    read = [[round(x, 2) for x in row] for row in (memory @ keys.T).T.tolist()]
    print(f"{name:>8}: first key reads {read[0]}, second key reads {read[1]}")
claim(
    torch.allclose(delta @ keys[1], values[1], atol=1e-6)
    and not torch.allclose(hebbian @ keys[1], values[1], atol=0.1),
    "At the key written last the delta rule says exactly what it should; the Hebbian rule "
    "does not.",
)
claim(
    not torch.allclose(delta @ keys[0], values[0], atol=0.1),
    "At the key written first the delta rule is off as well: the second write passed over it.",
)

# %% [markdown]
# The last line is forgetting in its smallest form. The write at $k_2$ changes the answer at every key that overlaps
# with it, by $k_2 \cdot k_1$ times the error. Before you move the slider: at which overlap is nothing lost, and at
# which is all of it?
#
# (From here on the rules are those of `nllab`: `write(memory, keys, values)` takes one pair after the other and returns
# two things, what was read on the way, if it was given queries, and the memory at the end.)


# %%
def two_keys(overlap):
    """What both memories say at the first of two keys, once both are written."""
    angle = torch.acos(torch.tensor(overlap))
    pair = torch.stack([torch.tensor([1.0, 0.0]), torch.stack([angle.cos(), angle.sin()])])
    figure, (left, right) = canvas(2)
    arrows(left, {"first key": pair[0], "second key": pair[1]}, title=f"overlap {overlap}")
    wanted = torch.eye(2)
    said = {"wanted": wanted[0]}
    for name, write in RULES.items():
        said[name] = write(torch.zeros(2, 2), pair, wanted)[1] @ pair[0]
    about = {"title": "said at the first key", "ylim": (-1.1, 1.1)}
    bars(right, said, ("first part", "second part"), **about)
    return figure


explore(two_keys, overlap=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0], start={"overlap": 0.6})

# %% [markdown]
# ## Many keys: is the memory full?
#
# Now $d_k = 32$ dimensions and $n$ random keys of length 1, each with a random value. How well does a memory recall
# them? Measured is the cosine between what it says and what it should say: 1 is perfect, 0 is chance.
#
# **Guess first:** one key fits into each dimension. Up to 32 keys, then, one might expect no loss at all.


# %%
def recall(write, keys, values):
    """Mean cosine between what is said at each key and what should be."""
    _, memory = write(torch.zeros(values.shape[-1], keys.shape[-1]), keys, values)
    return float(F.cosine_similarity(keys @ memory.mT, values, dim=-1).mean())


def random_pairs(count, seed, dim=32):
    generator = torch.Generator().manual_seed(seed)
    keys = F.normalize(torch.randn(count, dim, generator=generator), dim=-1)
    return keys, torch.randn(count, dim, generator=generator)


COUNTS, SEEDS = (2, 4, 8, 16, 32, 64, 128), range(10)
found = {
    name: [[recall(write, *random_pairs(count, seed)) for seed in SEEDS] for count in COUNTS]
    for name, write in RULES.items()
}
mean = {name: torch.tensor(cells).mean(1).tolist() for name, cells in found.items()}
at_32 = {name: cells[COUNTS.index(32)] for name, cells in mean.items()}
claim(
    max(at_32.values()) < 0.9,
    f"With 32 random keys in 32 dimensions recall is already {at_32['Hebbian']:.2f} (Hebbian) "
    "and "
    f"{at_32['delta']:.2f} (delta): it is overlap that costs, long before the memory is full.",
)
gains = [d - h for d, h in zip(mean["delta"], mean["Hebbian"], strict=True)]
last = max(count for count, gain in zip(COUNTS, gains, strict=True) if gain > 0)
claim(
    0 < last < 32 and max(gains) < 0.05 and min(gains) < -0.1,
    f"To look before writing hardly helps: up to {last} keys, each written once, the delta rule "
    f"is ahead by {max(gains):.2f} at most, later it falls behind, by up to {-min(gains):.2f}.",
)
curves(
    COUNTS, mean, marks=True, xscale="log", ylim=(0, 1.05), xlabel="keys in 32 dimensions",
    ylabel="recall (cosine)", title="Each key written once, mean of 10 seeds",
)  # fmt: skip

# %% [markdown]
# So the guess was wrong. And yet there *is* a matrix that recalls 32 pairs perfectly: 32 random keys are independent,
# and the linear system $MK^\top = V^\top$ has a solution. One pass of one step each does not find it, by either rule.
# What is the celebrated delta rule good for, then?

# %%
keys, values = random_pairs(32, seed=0)
exact = torch.linalg.lstsq(keys, values).solution.mT
solved = float(F.cosine_similarity(keys @ exact.mT, values, dim=-1).mean())
claim(solved > 0.99, f"Solving for all 32 pairs at once recalls them with cosine {solved:.3f}.")
many = {name: [] for name in RULES}
for name, write in RULES.items():
    for passes in (1, 2, 4, 8, 16):
        many[name].append(recall(write, keys.repeat(passes, 1), values.repeat(passes, 1)))
claim(
    many["delta"][-1] > many["delta"][0] + 0.1
    and abs(many["Hebbian"][-1] - many["Hebbian"][0]) < 0.01,
    f"Shown the same pairs (seed 0) 16 times, the delta rule climbs from {many['delta'][0]:.2f} "
    f"to {many['delta'][-1]:.2f}; the Hebbian rule gains nothing.",
)

# %% [markdown]
# That is the first thing. The second is a world whose answers change. Write 16 pairs, then the same 16 keys with *new*
# values. How well are the new values recalled?


# %%
def rewritten(count=16, times=2):
    """Recall of the newest values, after each key has been given new values some times."""
    scores = {name: [] for name in RULES}
    for seed in SEEDS:
        keys, _ = random_pairs(count, seed)
        values = random_pairs(times * count, seed + 100)[1]
        for name, write in RULES.items():
            _, memory = write(torch.zeros(32, 32), keys.repeat(times, 1), values)
            newest = F.cosine_similarity(keys @ memory.mT, values[-count:], dim=-1)
            scores[name].append(float(newest.mean()))
    return {name: torch.tensor(found) for name, found in scores.items()}


changed = rewritten()
ahead = changed["delta"] - changed["Hebbian"]
claim(
    bool((ahead > 0).all()),
    f"Rewritten keys: Hebbian {changed['Hebbian'].mean():.2f}, delta "
    f"{changed['delta'].mean():.2f}, and the delta rule "
    f"is ahead in all {len(ahead)} seeds. It overwrites; adding up keeps the old answer in "
    "the way of the new.",
)

# %% [markdown]
# Move both knobs: how many keys, and how often each was given a new value. Where do the rules part, and where does
# overwriting stop helping?


# %%
def part(keys, times_written):
    scores = rewritten(keys, times_written)
    figure, (axes,) = canvas()
    about = {"ylim": (0, 1.05), "ylabel": "recall of the newest values"}
    means = {name: [score.mean()] for name, score in scores.items()}
    bars(axes, means, ("mean of 10 seeds",), **about)
    axes.set_title(f"{keys} keys in 32 dimensions, each written {times_written} times")
    return figure


explore(part, keys=[4, 16, 32, 64], times_written=[1, 2, 4, 8], start={"times_written": 2})

# %% [markdown]
# ## Attention is a memory that keeps everything
#
# Softmax attention answers a query $q$ by the weighted mean of all values, with weights $s(k_i, q)$ that grow with
# $k_i \cdot q$. It is the solution of $\min_m \sum_i s(k_i, q)\,\lVert v_i - m\rVert^2$ (Eq. 62), found anew for every
# query. Nothing is compressed, so nothing is overwritten; and it keeps every key and value for ever. *Linear attention*
# is the other end: a Hebbian memory that every token writes to, and then reads at its query (exercise 02.2).
#
# ## A layer in training is one, too
#
# Take a linear layer $y = Wx$ and the loss $\tfrac12\lVert Wx - v\rVert^2$. Its gradient is $(Wx - v)\,x^\top$: one
# step of gradient descent *is* a delta write, with the input for a key (Eq. 8–9, 29–31). Training a network means
# writing memories, and what you have just seen of overlap happens to them as well.

# %%
keys, values = random_pairs(8, seed=1)
layer = torch.nn.Linear(32, 32, bias=False)
start = layer.weight.detach().clone()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
for x, v in zip(keys, values, strict=True):
    optimizer.zero_grad()
    (0.5 * (layer(x) - v).square().sum()).backward()
    optimizer.step()
_, written = rules.delta_write(start, keys, values, 0.5)
gap = float((layer.weight.detach() - written).abs().max())
claim(gap < 1e-4, f"Eight steps of SGD and eight delta writes of nllab end {gap:.0e} apart.")
scores = {}
for count in COUNTS:
    keys, values = random_pairs(count, seed=2)
    weights = (8 * keys @ keys.mT).softmax(-1)  # each key asks for itself; 8 makes it sharp
    scores[count] = float(F.cosine_similarity(weights @ values, values, dim=-1).mean())
kept = {count: 4 * 2 * 32 * count for count in COUNTS}
claim(
    scores[128] > mean["Hebbian"][-1] + 0.2,
    f"Attention still recalls 128 keys with cosine {scores[128]:.2f}, where the matrix has "
    f"{mean['Hebbian'][-1]:.2f}. It keeps {kept[128]:,} bytes for it, the matrix "
    f"{4 * 32 * 32:,}, however long the "
    "sequence.",
)

# %% [markdown]
# **In short.** A memory of fixed size is written by gradient steps. Two things make it forget: keys that overlap, and
# answers that have changed. The delta rule deals with the second, and needs several passes for the first. A network in
# training is in the same position, with inputs for keys. Notebook 03 asks what its *optimizer* remembers, notebook 06
# builds a step that spares what is known.
#
# ## Exercises
#
# Each has a stub to fill and a cell that tries your function on inputs that nobody has seen. Hints and the solution are
# folded below the check.

# %% [markdown] tags=["exercise"]
# ### 02.1 Write with the delta rule (code, 10 minutes)
#
# `memory` is $d_v \times d_k$, `key` has $d_k$ numbers, not necessarily of length 1, and `value` has $d_v$. Return the
# memory after one step of the delta rule at this rate. Leave the memory that you are given as it is.


# %% tags=["answer"]
def delta_write(memory, key, value, rate): ...


# %% tags=["check"]
check("02.1", delta_write)

# %% [markdown] tags=["exercise"]
# ### 02.2 Linear attention is the Hebbian rule (code, 15 minutes)
#
# `query` and `key` are $T \times d_k$, `value` is $T \times d_v$, `memory` is $d_v \times d_k$ and need not be zero.
# Every token writes its pair, then reads at its query. Return the outputs ($T \times d_v$) and the memory at the end,
# so that a long sequence can be given in pieces.


# %% tags=["answer"]
def linear_attention(query, key, value, memory): ...


# %% tags=["check"]
check("02.2", linear_attention)

# %% [markdown] tags=["exercise"]
# ### 02.3 Where the two rules agree (explain by example, 10 minutes)
#
# Build `count` keys of length 1 in `dim` dimensions ($2 \le$ `count` $\le$ `dim`) on which both rules, at rate 1 and
# from an empty memory, end with the *same* matrix, whatever the values are. Return them as the rows of a float tensor.


# %% tags=["answer"]
def agreeable_keys(count, dim): ...


# %% tags=["check"]
check("02.3", agreeable_keys)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 6, 8–9, 14–18, 29–31, 62–65.
# - B. Widrow, M. Hoff: *Adaptive switching circuits*, 1960 (the delta rule).
# - I. Schlag, K. Irie, J. Schmidhuber: *Linear Transformers are secretly fast weight programmers*, 2021,
#   [arXiv 2102.11174](https://arxiv.org/abs/2102.11174).
#
# Next: [03 · Optimizers are memories](03-optimizers-are-memories.ipynb).
