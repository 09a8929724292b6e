# %% [markdown]
# # 08 · HOPE, learning in context: what is learned without training?
#
# **About 60 minutes.** The exercises take another 45. You need: notebook 07 for the memory that writes itself, notebook
# 02 for recall.
#
# At the end you can
# - tell the outer loop (training) from the inner one (reading), and see what each has learned,
# - prove that a model learns in context: switch its writes off, and look at the loss along the sequence,
# - say what the memory holds at any moment, and where a simpler memory does better.
#
# Lines with a ✓ are computed here and now: were one of them not true, the cell would fail.

# %%
import torch

from nllab import HopeLM, PeerLM
from nllab.bench.recall import fit
from nllab.context import loss_by_position, recalled
from nllab.course import begin, check, claim, predict
from nllab.course.draw import bars, canvas, curves
from nllab.explore import explore
from nllab.streams.recall import IGNORE, in_context_recall, mqar

begin("08")

# %% [markdown]
# ## A world that is new in every sequence
#
# Four keys, four values. For each sequence a new map from keys to values is drawn; then come twelve pairs, key, value,
# key, value, … Asked is the value at each key. No amount of training can know the map, since it did not exist before.
# It can only be learned *while reading*, and it is worth nothing afterwards.
#
# **HOPE** is the memory of notebook 07 followed by levels of MLPs (Eq. 94–97). With $x_t$ a token, $o_t$ what the
# memory $M_{t-1}$ says at the query $q_t$, and $\text{MLP}^{(f)}$ the levels from fast to slow:
#
# $$o_t = M_{t-1}\, q_t, \qquad y_t = \text{MLP}^{(f_k)}\big(\dots \text{MLP}^{(f_1)}(o_t)\big)$$
#
# Two loops, then. The *outer* one trains all starts and maps by gradient descent, over many sequences. The *inner* one
# writes $M_t$ while a sequence is read; it asks for no gradient of the loss, and its result is gone with the sequence.
#
# ## The smallest example
#
# A memory set by hand shows what there is to reach. Keys are at right angles, and each pair is added by the Hebbian
# rule of notebook 02. Nothing is trained.

# %%
task = in_context_recall(vocabulary=8, length=24)
tokens, targets = task.draw(512, torch.Generator().manual_seed(5), False)
keys, values = tokens[:, ::2], targets[:, ::2]
print("one sequence, keys 0-3 and values 4-7:", *tokens[0].tolist(), values[0, -1].item())
memory, rows = torch.zeros(512, 8, 4), torch.arange(512)
known, right = [], []
for n in range(12):
    key, value = keys[:, n], values[:, n]
    said = memory[rows, :, key].argmax(-1)
    known.append((keys[:, :n] == key[:, None]).any(1))
    right.append(said == value)
    memory[rows, value, key] += 1
known, right = torch.stack(known), torch.stack(right)
claim(
    torch.equal(known, right),
    f"The memory set by hand has right just what it has seen: {right[1].float().mean():.2f} "
    f"of the keys at the second pair, {right[-1].float().mean():.2f} at the last.",
)

# %% [markdown]
# ## Can it be found by training?
#
# HOPE starts with random maps: nothing tells it what a key is, that a value follows its key, or that anything should be
# kept. It is trained for 150 steps of 32 sequences, each with a map of its own, and tested on fresh ones, on keys that
# came before in the sequence.
#
# **Guess first:** which share of them will it answer, if guessing among the values gives 0.25?

# %%
HOPE = {"heads": 1, "chunk_size": 1, "projection_chunk_size": 64, "max_inner_lr": 1.0}
TRAINING = {"rate": 2e-2, "steps": 150, "batch": 32, "check": 50}


def hope(task, seed=0):
    torch.manual_seed(seed)
    model = HopeLM(task.vocabulary, 32, 1, levels=(1,), hidden=32, **HOPE)
    return model, fit(model, task, seed=seed, **TRAINING)["curve"]


model, curve = hope(task)
others = [hope(task, seed)[1][-1][1] for seed in (1, 2)]
print("accuracy after", ", ".join(f"{step} steps {share:.2f}" for step, share in curve))
claim(
    min(curve[-1][1], *others) > 0.9,
    f"After training it recalls {curve[-1][1]:.2f} of the keys it has seen (other seeds: "
    f"{others[0]:.2f}, {others[1]:.2f}), in maps that never were before.",
)

# %% [markdown]
# ## Which loop has learned it?
#
# The trained weights cannot know the map. But is it the *writes* that learn it, or do the values just arrive through
# the layers some other way? Take the writes away and look at the loss pair by pair. What was learned in context falls
# along the sequence with writes, and does not without them. This model without writes is its **frozen twin**.

# %%
before = {name: p.detach().clone() for name, p in model.named_parameters()}
asked = targets.clone()
asked[:, 1::2] = IGNORE  # only values are asked
loss = {
    label: loss_by_position(model, tokens, asked, writes=on)[::2]
    for label, on in (("writes on", True), ("writes off", False))
}
on, off = loss.values()
perfect = [
    (1 - share) * torch.tensor(4.0).log().item() for share in known.float().mean(1).tolist()
]
claim(
    on[-1] < 0.4 * on[0],
    f"With writes the loss falls from {on[0]:.2f} at the first pair to {on[-1]:.2f} at the last.",
)
claim(
    off[-1] > 0.8 * off[0] and off[-1] > on[-1] + 0.5,
    f"Without writes it goes from {off[0]:.2f} to {off[-1]:.2f}: guessing among four values "
    f"costs {perfect[0]:.2f}.",
)
claim(
    all(torch.equal(p, before[name]) for name, p in model.named_parameters()),
    "Through all of it not one trained weight has changed.",
)
lines = {**{name: line.tolist() for name, line in loss.items()}, "perfect memory": perfect}
curves(range(1, 13), lines, marks=True, xlabel="pair", ylabel="loss (nats)", ylim=(0, None))

# %% [markdown]
# ## Look into the memory
#
# After each token, ask the model for every key, and throw away what asking does to it (exercise 08.1 builds this
# probe). Dark is a high probability for the value that belongs to the key in *this* sequence. When does a row turn
# dark? Does it ever fade? And with the writes off?


# %%
def held(sequence, writes):
    row = tokens[sequence]
    book = dict(zip(keys[sequence].tolist(), values[sequence].tolist(), strict=True))
    asked_keys = torch.tensor(sorted(book))
    answers = recalled(model, row, asked_keys)
    if writes == "off":
        scores, _ = model.stream(asked_keys.view(-1, 1), writes=False)
        answers = scores.detach()[:, -1].softmax(-1).expand(len(row), -1, -1)
    belief = torch.stack([answers[:, i, book[k]] for i, k in enumerate(sorted(book))])
    figure, (axes,) = canvas(width=8, height=2.4)
    axes.imshow(belief, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(row)), row.tolist())
    axes.set_yticks(range(len(book)), [f"key {k} ({v})" for k, v in sorted(book.items())])
    axes.set(xlabel="token just read", title=f"probability of the right value, writes {writes}")
    return figure


explore(
    held, sequence=list(range(6)), writes=["on", "off"], start={"sequence": 0, "writes": "on"}
)

# %% [markdown]
# ## What does it weigh, and do simpler ones do it?
#
# The fast weights of a sequence are its only record of the map. Count their bytes, and hold two other tests against the
# model. First the same task for **DeltaNet**: fixed keys and values, written by the delta rule, equally large. Then
# another task, MQAR: four pairs at the beginning of a sequence, and the four keys asked again later, among fillers.

# %%
with torch.no_grad():
    _, state = model.stream(tokens[:1])
(mixer,) = state.mixers
held_bytes = sum(w.nbytes for group in mixer.running for w in group) + mixer.recent.nbytes
per_token = 2 * 32 * 4  # what attention of this width keeps of a token: key and value
claim(
    held_bytes > per_token * tokens.shape[1],
    f"The memory keeps {held_bytes:,} bytes of a sequence. Attention would keep {per_token} for "
    f"each token: on sequences of fewer than {held_bytes // per_token} tokens, as here, that is "
    "less.",
)
size = sum(p.numel() for p in model.parameters())
queries = mqar(vocabulary=16, length=24, pairs=4)
score = {"recall": {"HOPE": curve[-1][1]}, "MQAR": {"HOPE": hope(queries)[1][-1][1]}}
for name, one in (("recall", task), ("MQAR", queries)):
    torch.manual_seed(0)
    peer = PeerLM(one.vocabulary, 32, 1, mixer="delta", parameters=size + 1000)
    score[name]["DeltaNet"] = fit(peer, one, seed=0, **TRAINING)["curve"][-1][1]
claim(
    score["MQAR"]["HOPE"] < 0.8 < score["MQAR"]["DeltaNet"],
    f"On MQAR HOPE is at {score['MQAR']['HOPE']:.2f} after as many steps, where DeltaNet is at "
    f"{score['MQAR']['DeltaNet']:.2f}: modifying itself is no help there, and slower to learn.",
)
claim(
    score["recall"]["DeltaNet"] > 0.9,
    f"And in-context recall DeltaNet learns as well ({score['recall']['DeltaNet']:.2f}). What "
    "only a memory that turns itself can do is in notebook 07.",
)
figure, (axes,) = canvas(width=6)
groups = {name: list(found.values()) for name, found in score.items()}
bars(axes, groups, list(score["MQAR"]), ylim=(0, 1.3), ylabel="accuracy (seed 0)")
figure

# %% [markdown]
# **In short.** Training has found how to learn, reading does the learning. What is learned in context lives in fast
# weights: with writes off it is not there, and with the end of the sequence it is gone. It needs no labels and no
# optimizer, and for tasks of plain recall it needs no self-modification either.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 08.1 A probe that leaves no trace (code, 15 minutes)
#
# `tokens` ($T$) is one sequence, `keys` ($K$) are tokens to ask with. Return probabilities ($T \times K \times V$ of a
# vocabulary of $V$): what the model would answer to each key if it were asked after each token, given that it never is.
# You have `scores, state = model.stream(tokens, state, writes=True)`, with tokens of shape (1, length) and `state=None`
# for a fresh start.


# %% tags=["answer"]
def probe(model, tokens, keys): ...


# %% tags=["check"]
check("08.1", probe)

# %% [markdown] tags=["exercise"]
# ### 08.2 The memory that keeps everything, inside a sequence (code, 20 minutes)
#
# Notebook 06 has an optimizer that ends at least squares on all samples. Let a *sequence layer* do so: `keys` and
# `queries` are $T \times d_k$, `values` $T \times d_v$. Each token takes in its pair and then reads at its query, from
# the ridge regression on all pairs so far. Return the reads ($T \times d_v$).


# %% tags=["answer"]
def exact_memory(keys, values, queries, ridge): ...


# %% tags=["check"]
check("08.2", exact_memory)

# %% [markdown] tags=["exercise"]
# ### 08.3 The most that can be known (predict, 10 minutes)
#
# Predict: eight keys, eight values, each pair's key drawn at random. What share of the values at the *fifth* pair can a
# perfect memory have right, guessing where it must? Then write it for pair number $n$ (from 1) and any number of keys
# and values. It is tried against sequences drawn for the purpose.

# %% tags=["answer"]
predict("08.3", ...)


def ceiling(n, keys, values): ...


# %% tags=["check"]
check("08.3", ceiling)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 94–97, Fig. 10, Table 4.
# - M. Poli and others: *Mechanistic design and scaling of hybrid architectures*, 2024,
#   [arXiv 2403.17844](https://arxiv.org/abs/2403.17844) (in-context recall).
# - S. Arora and others: *Zoology*, 2023, [arXiv 2312.04927](https://arxiv.org/abs/2312.04927) (MQAR; not in the
#   paper).
#
# Next: [09 · Languages one after another](09-one-language-after-another.ipynb).
