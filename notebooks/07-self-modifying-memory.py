# %% [markdown]
# # 07 · Memory that modifies itself: how does a memory write itself?
#
# **About 75 minutes.** The exercises take another 60. You need: the delta rule of notebook 02 and the step of notebook
# 06; matrices.
#
# At the end you can
# - write a memory that makes its own keys, values and targets while it reads,
# - say what a write can do that adding up cannot, and show it on parity,
# - replace the loop over tokens by one triangular system, and say what a chunk costs.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch
from torch.nn import functional as F

from nllab import SelfModifyingTitans
from nllab.bench.formal import build, draw, fit
from nllab.course import begin, check, claim
from nllab.course.draw import canvas, curves, spots
from nllab.explore import explore
from nllab.memory import reference, rules
from nllab.streams.formal import LANGUAGES

begin("07")

# %% [markdown]
# ## Who makes the keys?
#
# In notebook 02 keys and values came from outside. Attention makes them with fixed maps, $k = W_k x$. Here the maps are
# memories themselves: $M_k$ makes the key of token $x_t$, $M_v$ its value, $M_\eta$ and $M_\alpha$ a rate $\eta_t$ and
# a retention $\alpha_t$ (one number each). The query $q_t = W_q x_t$ alone is made by a fixed map, and with it the main
# memory $M$ is read (Eq. 83–84). All five are read as the token before has left them:
#
# $$k_t = M_{k,t-1}\, x_t, \quad v_t = M_{v,t-1}\, x_t, \quad y_t = M_{t-1}\, q_t$$
#
# Let $M_s$ be any of the five. What should it be told? Nobody outside knows a good key. So each makes its **own
# target** from the value, $\hat v_{s,t} = M_{s,t-1} v_t$ (Eq. 85), and is written by a step of delta gradient descent
# with retention (Eq. 88, 93), with keys of length 1. The first bracket keeps and erases: it lets all that is held fade
# by $\alpha_t$, and takes away a part of what is said along the key. The rest is the delta rule, towards the target:
#
# $$M_{s,t} = M_{s,t-1}\,\big(\alpha_t I - \eta_t\, k_t k_t^\top\big) - \eta_t\,\big(M_{s,t-1} k_t - \hat v_{s,t}\big)\,
# k_t^\top$$
#
# Erasing pulls what is said along the key towards 0, the delta rule pulls it towards the target. Both are as strong, so
# that a target that stood still would be met half-way. Where all of them start, $M_{s,0}$, is learned by an outer loop
# over many sequences, by gradients through all the writes.
#
# ## The smallest example: a mirror
#
# Take retention 1, rate 1 and value 0. The write becomes $M\,(I - 2 k k^\top)$: whatever the memory says along the key
# turns its sign. Adding up cannot do that, and neither can a step that only shrinks. What is it good for? **Parity**:
# is the number of ones so far even? A memory of one number that is turned at every 1, and left alone at every 0, holds
# the answer in its sign.


# %%
def write(memory, k, v, rate):
    error = memory @ k - memory @ v
    return memory - rate * torch.outer(memory @ k, k) - rate * torch.outer(error, k)


k = F.normalize(torch.randn(3), dim=0)
turned = write(torch.eye(3), k, torch.zeros(3), 1.0)
claim(
    torch.allclose(turned @ k, -k, atol=1e-6)
    and torch.allclose(turned, torch.eye(3) - 2 * torch.outer(k, k), atol=1e-6),
    "At rate 1 and value 0 a write is a mirror: along its key everything changes its sign.",
)
right = 0
for _ in range(200):
    bits, memory = torch.randint(2, (100,)), torch.ones(1, 1)
    for bit in bits:
        memory = write(memory, torch.ones(1), torch.zeros(1), float(bit))
    right += (memory.item() > 0) == (int(bits.sum()) % 2 == 0)
claim(right == 200, f"One number has the parity of {right} of 200 strings of 100 bits right.")

# %% [markdown]
# Now let a bit 1 have another rate. At rate $\eta$ and value 0 each 1 multiplies what is held by $1 - 2\eta$. At rate 0
# nothing is ever turned, as in linear attention, whose writes only add. Which rates does parity survive, and for how
# long?


# %%
def parity(rate):
    bits = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0])
    memory, held = torch.ones(1, 1), [1.0]
    for bit in bits:
        memory = write(memory, torch.ones(1), torch.zeros(1), rate * float(bit))
        held.append(memory.item())
    truth = [1.0, *(1.0 - 2 * (bits.cumsum(0) % 2)).tolist()]
    lines = {"even (1) or odd (-1)": truth, "held": held}
    about = {
        "xlabel": "bits read",
        "ylim": (-1.3, 2.4),
        "title": f"a 1 multiplies by {1 - 2 * rate:g}",
    }
    return curves(range(21), lines, **about)


explore(parity, rate=[0.0, 0.25, 0.5, 0.75, 0.9, 1.0], start={"rate": 0.75})

# %% [markdown]
# ## Compare with `nllab`
#
# `nllab.SelfModifyingTitans` is the layer of the equations, with learned starts and a bound on values (exercise 07.3
# shows why). `nllab.memory.reference` is the same, token by token and memory by memory. The layer itself never forms
# the five memories. Why it need not is a small discovery. Put the target into the equation:
#
# $$M_{s,t} = M_{s,t-1}\,\big(\alpha_t I - 2\,\eta_t\, k_t k_t^\top + \eta_t\, v_t k_t^\top\big)$$
#
# There is no $s$ in the bracket: every memory is multiplied by the same matrix. So all of them are what they were at
# the start times one product $\Pi_t$ of such brackets. (`layer(x, state)` goes on from a state; `start` is the one
# before the first token, and `fast_weights` spells out the memories of a state. `conv_window=0` leaves out the short
# convolution that language models put before such a layer.)

# %%
draws = torch.Generator().manual_seed(0)
settings = {"chunk_size": 1, "conv_window": 0, "generator": draws}
layer = SelfModifyingTitans(8, **settings)
x = torch.randn(2, 50, 8, generator=draws)
with torch.no_grad():
    y, state = layer(x)
    slow_y, _ = reference.self_modifying_titans(layer, x)
    first, state = layer(x[:, :20])
    rest, state = layer(x[:, 20:], state)
claim((y - slow_y).abs().max() < 1e-5, "The layer and the loop over tokens and memories agree.")
claim(
    torch.allclose(torch.cat([first, rest], 1), y, atol=1e-5),
    "A sequence in two pieces, its state handed on, is the whole.",
)
before = layer.fast_weights(layer.start(2))
after = layer.fast_weights(state)
product = torch.linalg.solve(before["memory"][0], after["memory"][0])  # M_0 Π = M_t
claim(
    all(torch.allclose(before[s][0] @ product, after[s][0], atol=1e-4) for s in after),
    f"All {len(after)} memories ({', '.join(after)}) are their start times the same matrix Π.",
)
claim(
    product[0].numel() == layer.width**2,
    f"So a sequence keeps {product[0].nbytes} bytes, {layer.width} × {layer.width} numbers of Π, "
    "however many linear memories there are, and however long it is.",
)

# %% [markdown]
# ## Chunks: what speed costs
#
# A loop over tokens is slow. So the tokens of a **chunk** are treated together: keys, values, targets and errors are
# made with the memories as they stood at its start, $B$ (Eq. 90), and the erase still acts at every token. Write
# $w_t$ for what token $t$ takes away along its key, $M_t = M_{t-1} - w_t k_t^\top$. At retention 1 it is
# $w_t = \eta_t\, (M_{t-1} k_t + B k_t - \hat v_t)$, and the state in it is the start less all that was taken before:
#
# $$w_t = \eta_t\,\Big(2 B k_t - \hat v_t - \sum_{i<t} w_i\,(k_i \cdot k_t)\Big)$$
#
# Each $w_t$ asks for earlier ones alone: a triangular system of linear equations, which is solved at once, without a
# loop over tokens (exercise 07.2). But a read inside a chunk sees nothing of the chunk, and a turn that should follow
# another is computed from the same old state. Move the size of a chunk for the memory that held parity.


# %%
def chunked(chunk_size, tokens=24):
    bits = (torch.rand(tokens, generator=torch.Generator().manual_seed(5)) < 0.5).float()
    one, none = torch.ones(tokens, 1), torch.zeros(tokens, 1)
    says, _ = rules.dgd_write(
        torch.ones(1, 1), one, none, bits, query=one, chunk_size=chunk_size
    )
    truth = 1.0 - 2 * ((bits.cumsum(0) - bits) % 2)
    return truth, says[:, 0]


def chunk(chunk_size):
    truth, says = chunked(chunk_size)
    share = float((truth.sign() == says.sign()).float().mean())
    lines = {"true before each bit": truth.tolist(), "read": says.tolist()}
    about = {
        "xlabel": "bits read",
        "ylim": (-1.3, 2.4),
        "title": f"chunks of {chunk_size}: {share:.0%} right",
    }
    return curves(range(len(truth)), lines, **about)


exact = {size: bool((chunked(size)[0] == chunked(size)[1]).all()) for size in (1, 2, 4, 8)}
claim(
    exact[1] and not any(exact[size] for size in (2, 4, 8)),
    "Only a chunk of 1 has parity right at every bit: what turns at every token must be "
    "written at every token.",
)
explore(chunk, chunk_size=[1, 2, 4, 8, 16], start={"chunk_size": 4})

# %% [markdown]
# ## Learned, not set by hand
#
# Now all of it is trained: keys, values, rates and where the memories start. Strings of up to 50 bits, the answer asked
# at every bit; a string counts only if all its answers are right. Tested on other strings of that length, and on longer
# ones, up to 100. All have 150 steps. **HOPE** is this layer with ordinary layers behind it (notebook 08). Beside it
# stand an LSTM, linear attention (the Hebbian rule of notebook 02 with learned keys and values) and DeltaNet (the delta
# rule with learned rates below 1: its step only shrinks), all with as many parameters or more, and HOPE's **twin**: the
# same model, whose memory may not write while it reads. (HOPE here has chunks of one token and the Hebbian measure in
# its writes, the bracket $I - \eta\, k k^\top + 2\eta\, v k^\top$; its other memories are not written. The
# rates are among those that the table of notebook 11 tries. Who succeeds is run on three seeds, the others on one: half
# a minute.)
#
# **Guess first.** Who has parity right, and who on strings longer than any that were trained?

# %%
language = LANGUAGES["parity"]
strings = draw(language, learn=1000, validation=100, test=200)
RATES = {"HOPE": 5e-3, "LSTM": 1e-2, "linear attention": 1e-2, "DeltaNet": 1e-2, "twin": 5e-3}
fits, size = {}, {}
for name, rate in RATES.items():
    for seed in range(3 if name in ("HOPE", "LSTM") else 1):
        torch.manual_seed(seed)
        model = build("HOPE" if name == "twin" else name, language)
        if name == "twin":
            model.blocks[0].mixer.max_inner_lr = 0.0
        found = fit(model, language, strings, rate=rate, steps=150, seed=seed)
        fits.setdefault(name, []).append(found)
        size[name] = sum(p.numel() for p in model.parameters())
for name, found in fits.items():
    scores = "   ".join(f"{one.train:.2f} / {one.longer:.2f}" for one in found)
    print(f"{name:>16}, {size[name]:,} parameters: {scores}")
longer = {name: [one.longer for one in found] for name, found in fits.items()}
hope = fits["HOPE"]
claim(
    min(longer["HOPE"]) > 0.95,
    f"The worst of 3 seeds of HOPE has {min(longer['HOPE']):.2f} of the longer strings right, "
    f"after {max(one.step for one in hope)} steps at most.",
)
claim(
    max(longer["linear attention"] + longer["DeltaNet"] + longer["twin"]) < 0.1,
    "Linear attention, DeltaNet and the twin that may not write have hardly a string right.",
)
claim(
    min(longer["LSTM"]) > 0.95,
    f"And an LSTM does it too, {min(longer['LSTM']):.2f} on its worst seed: parity shows what "
    "a memory can do, not that nothing else can.",
)
scores = {
    name: {"to 50": [f.train for f in found], "longer": longer[name]}
    for name, found in fits.items()
}
figure, axes = canvas(1, width=7.5)
spots(scores, axes[0], ylim=(-0.05, 1.08), ylabel="strings right")
figure

# %% [markdown]
# **In short.** A self-modifying memory makes its keys, values and targets by itself and is written towards them; only
# where it starts is learned from outside. Its writes can turn what is held, which adding up and shrinking cannot. All
# linear memories of a layer are their starts times one matrix. Chunks buy speed, and pay with what happens inside them.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 07.1 The loop over tokens (code, 20 minutes)
#
# `key`, `value` and `memory` are linear memories ($d \times d$), `tokens` is $T \times d$. For each token $x$: the key
# is `key @ x`, made length 1; the value is `value @ x`, bounded to $v / \sqrt{1 + \lVert v\rVert^2}$; the main memory
# is read at $x$ itself. Then all three are written with the equation of above, retention 1 and this rate. Return the
# reads ($T \times d$), and the three memories in this order.


# %% tags=["answer"]
def self_modifying(key, value, memory, tokens, rate): ...


# %% tags=["check"]
check("07.1", self_modifying)

# %% [markdown] tags=["exercise"]
# ### 07.2 A chunk without a loop (code, 25 minutes)
#
# `keys` ($T \times d_k$, of length 1) and `values` ($T \times d_v$) are one chunk, $B$ = `memory` ($d_v \times d_k$) is
# what it starts from. Each token writes $M_t = M_{t-1}(I - \eta\, k_t k_t^\top) - \eta\,(B k_t - v_t)\, k_t^\top$.
# Return the memory at the end, for any $T$, with a number of torch operations that does not grow with $T$.


# %% tags=["answer"]
def write_chunk(memory, keys, values, rate): ...


# %% tags=["check"]
check("07.2", write_chunk)

# %% [markdown] tags=["exercise"]
# ### 07.3 Values that feed on themselves (explain by example, 15 minutes)
#
# The target $\hat v = M_v v = M_v M_v x$ is quadratic in the memory. In the loop of 07.1 with rate 0.5, key and main
# memory starting at the identity, and *without* the bound on values: find 64 tokens no longer than 1 (64 × `dim`) and a
# first value memory (`dim` × `dim`, no singular value above 3) for which some number in the memories grows beyond a
# million, while with the bound all stay below 10. Return the tokens and the value memory.


# %% tags=["answer"]
def runaway(dim): ...


# %% tags=["check"]
check("07.3", runaway)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 83–93, Table 5.
# - K. Irie, I. Schlag, R. Csordás, J. Schmidhuber: *A modern self-referential weight matrix that learns to modify
#   itself*, 2022, [arXiv 2202.05780](https://arxiv.org/abs/2202.05780).
# - R. Grazzi and others: *Unlocking state-tracking in linear RNNs through negative eigenvalues*, 2024,
#   [arXiv 2411.12537](https://arxiv.org/abs/2411.12537).
#
# Next: [08 · HOPE: learning in context](08-learning-in-context.ipynb).
