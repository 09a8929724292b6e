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
from nllab.course.draw import canvas, curves, spots
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
# came before in the sequence. Three seeds, a quarter of a minute or more.
#
# **Guess first:** which share of them will it answer, if guessing among the values gives 0.25?

# %%
HOPE = {"heads": 1, "chunk_size": 1, "projection_chunk_size": 64, "max_inner_lr": 1.0}
TRAINING = {"rate": 2e-2, "steps": 150, "batch": 32, "check": 50}


def hope(task, seed=0):
    torch.manual_seed(seed)
    model = HopeLM(task.vocabulary, 32, 1, levels=(1,), hidden=32, **HOPE)
    return model, fit(model, task, seed=seed, **TRAINING)["curve"]


models, learned = zip(*(hope(task, seed) for seed in range(3)), strict=True)
model, curve = models[0], learned[0]
others = [each[-1][1] for each in learned[1:]]
print("accuracy after", ", ".join(f"{step} steps {share:.2f}" for step, share in curve))
claim(
    min(curve[-1][1], *others) > 0.9,
    f"After training it recalls {curve[-1][1]:.2f} of the keys it has seen (other seeds: "
    f"{others[0]:.2f}, {others[1]:.2f}), in maps that never were before.",
)

# %% [markdown]
# ## Which loop has learned it?
#
# The trained weights cannot know the map. But is it the *writes* that learn it? There is another way for a value to
# arrive: before HOPE forms its keys and values, it mixes each token with the three before it. That is a **short
# convolution**, a trained weighted sum; nothing is written by it. So take the writes away, and look at the loss pair by
# pair: what only writes can bring falls along the sequence with them and stays where it was without. This model
# without writes is called **the twin that may not write** here. (The frozen twin of other notebooks is another one:
# there the levels below the head are never trained.)

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
    on[-1] + 0.5 < off[-1] < off[0],
    f"Without writes it goes from {off[0]:.2f} to {off[-1]:.2f}: a little below guessing among "
    f"four values ({perfect[0]:.2f}). Something gets through.",
)
just = torch.zeros_like(keys, dtype=torch.bool)
just[:, 1:] = keys[:, 1:] == keys[:, :-1]  # the pair before had this key
late = known.T & ~just
late[:, 2:] &= keys[:, 2:] != keys[:, :-2]  # it came, but in neither of the two pairs before
with torch.no_grad():
    good = [m.stream(tokens, writes=False)[0][:, ::2].argmax(-1) == values for m in models]
near, far = ([float(one[where].float().mean()) for one in good] for where in (just, late))
claim(
    min(near) > 0.8 and max(far) < 0.35,
    "It is the convolution: without writes a key of the pair before is answered "
    f"{', '.join(f'{share:.2f}' for share in near)} of the time (three seeds), one of three or "
    f"more pairs ago {', '.join(f'{share:.2f}' for share in far)}, as by guessing.",
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
# dark? Does it ever fade? With writes off the twin reads the same tokens and is asked the same: what does it hold?


# %%
def beliefs(sequence, writes):
    """Keys, their values, and after each token the probability of each key's value."""
    row = tokens[sequence]
    book = dict(zip(keys[sequence].tolist(), values[sequence].tolist(), strict=True))
    cues = torch.tensor(sorted(book))
    if writes == "on":
        answers = recalled(model, row, cues)
    else:
        begun = [row[: n + 1].expand(len(cues), -1) for n in range(len(row))]
        with torch.no_grad():
            texts = [torch.cat([part, cues[:, None]], 1) for part in begun]
            scores = [model.stream(text, writes=False)[0][:, -1] for text in texts]
        answers = torch.stack(scores).softmax(-1)
    return book, torch.stack([answers[:, i, book[k]] for i, k in enumerate(sorted(book))])


def held(sequence, writes):
    row, (book, belief) = tokens[sequence], beliefs(sequence, writes)
    figure, (axes,) = canvas(width=8, height=2.4)
    axes.imshow(belief, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(row)), row.tolist())
    axes.set_yticks(range(len(book)), [f"key {k} ({v})" for k, v in sorted(book.items())])
    axes.set(xlabel="token just read", title=f"probability of the right value, writes {writes}")
    return figure


def after_its_pair(writes):
    """The mean of those probabilities over six sequences, from the token that ends a pair on."""
    found = []
    for sequence in range(6):
        book, belief = beliefs(sequence, writes)
        for i, key in enumerate(sorted(book)):
            first = 2 * int((keys[sequence] == key).float().argmax()) + 1
            found.append(belief[i, first:])
    return float(torch.cat(found).mean())


remembered, forgotten = after_its_pair("on"), after_its_pair("off")
claim(
    remembered > 0.85 and forgotten < 0.4,
    f"Once a pair has been read, its value has a probability of {remembered:.2f} with writes, "
    f"and of {forgotten:.2f} without (means over six sequences, until each ends).",
)
explore(
    held, sequence=list(range(6)), writes=["on", "off"], start={"sequence": 0, "writes": "on"}
)
# %% [markdown]
# ## What does it weigh, and do simpler ones do it?
#
# Beyond the last three tokens, the fast weights of a sequence are its only record of the map. Count their bytes, and
# hold two other tests against the model. First the same task for **DeltaNet**: fixed keys and values, written by the
# delta rule, about as many parameters. Then another task, MQAR: four pairs at the beginning of a sequence, and the four
# keys asked again later, among fillers. Six seeds of HOPE, two of DeltaNet: this takes half a minute.

# %%
with torch.no_grad():
    _, state = model.stream(tokens[:1])
(mixer,) = state.mixers
written, recent = sum(w.nbytes for group in mixer.running for w in group), mixer.recent.nbytes
per_token = 2 * 32 * 4  # what attention of this width keeps of a token: key and value
claim(
    written > per_token * tokens.shape[1] and mixer.recent.shape[1] == 3,
    f"The fast weights of a sequence take {written:,} bytes (and its last three tokens "
    f"{recent}). Attention would keep {per_token} for each token: on sequences of fewer than "
    f"{written // per_token} tokens, as here, that is less.",
)
size = sum(p.numel() for p in model.parameters())
queries = mqar(vocabulary=16, length=24, pairs=4)


def delta_net(task, seed):
    torch.manual_seed(seed)
    peer = PeerLM(task.vocabulary, 32, 1, mixer="delta", parameters=size + 1000)
    return fit(peer, task, seed=seed, **TRAINING)["curve"]


score = {
    "recall": {
        "HOPE": [each[-1][1] for each in learned],
        "DeltaNet": [delta_net(task, seed)[-1][1] for seed in range(2)],
    },
    "MQAR": {
        "HOPE": [hope(queries, seed)[1][-1][1] for seed in range(6)],
        "DeltaNet": [delta_net(queries, seed)[-1][1] for seed in range(2)],
    },
}
slow = [share for share in score["MQAR"]["HOPE"] if share < 0.9]
plain = [min(found["DeltaNet"]) for found in score.values()]
claim(
    plain[1] > 0.95 and len(slow) > 3,
    f"On MQAR DeltaNet is at {plain[1]:.2f} on both seeds after as many steps. HOPE is not there "
    f"yet on {len(slow)} of 6: it has {', '.join(f'{a:.2f}' for a in score['MQAR']['HOPE'])}.",
)
claim(
    plain[0] > 0.95,
    f"In-context recall DeltaNet learns as well ({plain[0]:.2f}): neither task needs a memory "
    "that turns itself. What only such a memory can do is in notebook 07.",
)
spots(score, ylim=(0, 1.05), ylabel="accuracy, each seed")

# %% [markdown]
# **In short.** Training has found how to learn, reading does the learning. What is learned in context lives in fast
# weights: with writes off only the last three tokens are left, and with the end of the sequence all is gone. It needs
# no labels and no optimizer, and for tasks of plain recall it needs no self-modification either.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 08.1 A probe that leaves no trace (code, 15 minutes)
#
# `tokens` ($T$) is one sequence, `keys` ($K$) are tokens to ask with. Return probabilities ($T \times K \times V$ of a
# vocabulary of $V$): what the model would answer to each key if it were asked after each token, given that it never is.
# You have `scores, state = model.stream(tokens, state, writes=True)`, with tokens of shape (1, length) and `state=None`
# for a fresh start; scores are (1, length, $V$). It returns a new state and leaves the one it is given as it was, so
# there is nothing to copy.


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
