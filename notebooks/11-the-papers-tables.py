# %% [markdown]
# # 11 · The paper's tables on a laptop: which of its claims show at this size?
#
# **About 45 minutes.** The exercises take another 35. You need: notebooks 02 and 03; 07 and 08 show how HOPE works.
#
# At the end you can
# - take a table apart into claim, size, budget, number of seeds and what it was compared with,
# - say which claims of the paper show in minutes on two cores, which do not, and which cannot be asked at this size,
# - say what a memory must be able to do to follow parity.
#
# Lines with a ✓ are computed here and now, or from figures that this lab has recorded (`nllab.course.recorded`, with
# the commands that made them): were one of them not true, the cell would fail.

# %%
import torch

from nllab import Experiment, train
from nllab.bench import ablation, formal, recall
from nllab.course import begin, check, claim, recorded
from nllab.course.draw import bars, canvas, curves, spots
from nllab.explore import explore
from nllab.streams.formal import LANGUAGES
from nllab.summary import paired_difference

begin("11")

# %% [markdown]
# ## What a table claims
#
# The paper's Tables 3 to 6 set HOPE beside other models; Fig. 11 sets the optimizer M3 beside Muon and AdamW. All are
# single runs, at sizes up to 1.3 billion parameters. Here: some ten thousand parameters, several seeds, minutes. A
# claim about a *mechanism* (what a memory can do at all) may show at any size; one about a *mean over tasks* need
# not.
#
# ## The smallest example: parity
#
# Has the string seen so far an even number of ones? One number must turn its sign at every 1. Written by the delta
# rule with key $k$ (of length 1), rate $\eta$ and nothing to store, a memory $M$ becomes (Eq. 93 with retention 1)
#
# $$M_t = M_{t-1}\,\big(I - \eta_t\, k_t k_t^\top\big),$$
#
# so that what lies along $k$ is multiplied by $1 - \eta$: that is the eigenvalue of the write. Move the rate. From
# which one on does the sign turn, and where is nothing lost on the way? DeltaNet's rates come out of a sigmoid,
# between 0 and 1. HOPE erases and writes in one step, which reaches eigenvalues down to −1.

# %%
STRING = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]


def read(rate):
    """What a memory that begins at 1 says after every symbol: a write at each 1."""
    said = [1.0]
    for symbol in STRING:
        said.append(said[-1] * (1 - rate * symbol))
    return said


EVEN = [1 - 2 * (sum(STRING[:n]) % 2) for n in range(len(STRING) + 1)]


def shown(rate):
    lines = {"read": read(rate), "parity": EVEN}
    about = {
        "xlabel": "symbols read",
        "ylim": (-1.3, 1.3),
        "title": f"eigenvalue {1 - rate:+.1f}",
    }
    return curves(range(len(EVEN)), lines, marks=True, **about)


def right(rate):
    """The share of prefixes at which what is read has the sign of the parity."""
    return sum(a * b > 0 for a, b in zip(read(rate), EVEN, strict=True)) / len(EVEN)


RATES = [0.2, 0.5, 0.8, 1.0, 1.2, 1.5, 1.8, 2.0]
even = EVEN.count(1) / len(EVEN)
claim(
    all((right(rate) == 1) == (rate > 1) for rate in RATES)
    and all(min(read(rate)) >= 0 for rate in RATES if rate <= 1),
    "Above the rate 1 the sign is right after every prefix. Up to 1 it never turns: at most "
    f"{max(right(rate) for rate in RATES if rate <= 1):.0%} are right then, no more than the "
    f"{even:.0%} of a memory that always says even.",
)
claim(
    [rate for rate in RATES if abs(read(rate)[-1]) == 1] == [2.0],
    f"At 2 nothing is lost on the way; at 1.8 {abs(read(1.8)[-1]):.2f} of the number is left "
    f"after {sum(STRING)} ones.",
)
explore(shown, rate=RATES, start={"rate": 1.0})

# %% [markdown]
# ## Table 5: formal languages
#
# Recorded with `nllab bench formal`: three rates tried on one seed, the best then on three. Left of the stroke
# strings as long as in training, right of it longer ones; a string counts if *every* place is right. A model holds if
# it has over 99.9 % of the longer ones. In these runs HOPE's memories start as counters; the other models have no such
# start.
#
# **Guess first:** in how many of six languages is HOPE the only one that holds for longer strings?

# %%
MODELS = tuple(formal.PAPER)
means = {
    language: {m: [sum(part) / 3 for part in zip(*rows[m], strict=True)] for m in MODELS}
    for language, rows in recorded.FORMAL.items()
}
print(f"{'':12}" + "".join(f"{model:>20}" for model in MODELS))
for language, row in means.items():
    shares = "".join(f"{near:>13.1f}/{far:<6.1f}" for near, far in row.values())
    print(f"{language:12}{shares}")
holds = {
    language: [m for m, (_, far) in row.items() if far > 99.9]
    for language, row in means.items()
}
claim(
    all("HOPE" in models for models in holds.values()),
    "HOPE answers the longer strings of all six (over 99.9 %), as Table 5 says.",
)
claim(
    all(not set(holds[language]) - {"HOPE", "LSTM"} for language in ("parity", "aa", "abab")),
    "In the three that need a state that turns (parity, (aa)*, (abab)*) only HOPE and the "
    "LSTM do.",
)
only = [language for language, models in holds.items() if models == ["HOPE"]]
second = max(far for m, (_, far) in means["shuffle-2"].items() if m != "HOPE")
claim(
    only == ["shuffle-2"] and 99 < second < 99.9,
    f"It is the only one to do so in one of them, {only[0]}, and by little: linear attention has "
    f"{second:.1f} % there. In each of the others an older model holds as well.",
)
differs = [
    (m, language)
    for language in means
    for m in MODELS
    if abs(means[language][m][1] - formal.PAPER[m][language][1]) > 10
]
counted = [pair for pair in differs if pair[1] in ("anbn", "anbncn", "shuffle-2")]
claim(
    {m for m, _ in counted} == {"LSTM", "DeltaNet"}
    and all(means[language][m][1] < formal.PAPER[m][language][1] for m, language in counted)
    and set(differs) - set(counted) == {("DeltaNet", "parity")},
    f"In {len(differs)} of {6 * len(MODELS)} cells the longer strings differ from Table 5 by "
    f"more than 10 points. {len(counted)} are the LSTM and DeltaNet where one must count: "
    "here they do not count to the end. The last is DeltaNet on parity, "
    f"{means['parity']['DeltaNet'][1]:.1f} here and {formal.PAPER['DeltaNet']['parity'][1]} "
    "there.",
)


def table_5(language):
    row = means[language]
    figure, (axes,) = canvas(width=8)
    groups = {m: (*row[m], *formal.PAPER[m][language]) for m in MODELS}
    names = ("training lengths", "longer", "training lengths, paper", "longer, paper")
    bars(axes, groups, names, ylim=(0, 125), ylabel="strings right (%)", title=language)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper center", columnspacing=1)
    return figure


explore(table_5, language=list(means), start={"language": "parity"})

# %% [markdown]
# ## One row of it, live
#
# No training at all: the memory of one number, read by its sign, on strings of parity drawn as the table's are.
# (Notebook 07 trains HOPE on them.) **Guess first:** is a rate of 1.2 good enough? And if each read comes with a noise
# of a millionth?

# %%
parity = LANGUAGES["parity"]
ranges = [parity.strings(500, window, 1) for window in (parity.train, parity.longer)]


def answered(rate, strings, noise=0.0):
    """Share of strings with the sign right after every symbol."""
    generator, good = torch.Generator().manual_seed(0), []
    for string in strings:
        ones = torch.tensor([int(symbol) for symbol in string]).cumsum(0).double()
        said = (1 - rate) ** ones + noise * torch.randn(len(ones), generator=generator)
        good.append(bool((said * (1 - 2 * (ones % 2)) > 0).all()))
    return sum(good) / len(good)


print("training lengths / longer, and longer with noise")
noisy = {rate: answered(rate, ranges[1], noise=1e-6) for rate in RATES}
for rate in RATES:
    near, far = (100 * answered(rate, strings) for strings in ranges)
    print(f"rate {rate}: {near:5.1f} / {far:5.1f}  {100 * noisy[rate]:5.1f}")
claim(
    all(answered(rate, ranges[1]) == (rate > 1) for rate in RATES),
    "Every rate above 1 has all longer strings right, no rate up to 1 has one: what counts is "
    "the sign of the eigenvalue.",
)
ones = sorted(string.count("1") for string in ranges[1])
most, least = 0.2 ** ones[0], 0.2 ** ones[-1]
claim(
    most < 1e-13 and noisy[1.2] < 0.01 and noisy[2.0] == 1,
    f"But at the rate 1.2 a string of {ones[0]} ones leaves {most:.0e} of the number, one of "
    f"{ones[-1]} {least:.0e}: with the noise {noisy[1.2]:.0%} of the strings are right. At 2, "
    "where nothing fades, all are.",
)

# %% [markdown]
# ## Table 4: recall inside a sequence
#
# Recorded with `nllab bench recall`, the baseline setting of each task. The paper's scores are means over harder
# settings, so only the *order* may be compared.
#
# **Guess first:** in how many of these four is HOPE first, and is the Transformer ever last?

# %%
first, last = {}, {}
for task, rows in recorded.RECALL.items():
    mean = {model: sum(values) / 3 for model, values in rows.items()}
    first[task] = [model for model in mean if mean[model] == max(mean.values())]
    last[task] = min(mean, key=mean.get)
    theirs = ", ".join(f"{m} {recall.PAPER[m][task]:g}" for m in recall.PAPER)
    print(
        f"{task:>18}: " + ", ".join(f"{m} {v:.1f}" for m, v in mean.items()) + f"  [{theirs}]"
    )
leads = [task for task, models in first.items() if models == ["HOPE"]]
shares = [task for task, models in first.items() if "HOPE" in models and task not in leads]
claim(
    leads == ["compression"] and shares == ["memorization"],
    f"By its mean HOPE is first in {leads[0]} alone; in {shares[0]} it shares the place with "
    f"{len(first['memorization']) - 1} others.",
)
runs = sorted(recorded.RECALL["in-context recall"]["Transformer"])
claim(
    [task for task, model in last.items() if model == "Transformer"] == ["in-context recall"]
    and runs[0] < 50 < 99 < runs[1],
    f"The Transformer is last in in-context recall, by one seed of {runs[0]}: its other two have "
    f"{runs[1]} and {runs[2]:g}.",
)
ahead = [t for t, r in recorded.RECALL.items() if min(r["HOPE"]) > max(r["Titans"])]
gaps = [recall.PAPER["HOPE"][task] - recall.PAPER["Titans"][task] for task in ahead]
claim(
    ahead == ["compression", "in-context recall", "fuzzy recall"]
    and gaps[0] > 0 == gaps[1] < gaps[2],
    f"HOPE is above Titans on every seed in {', '.join(ahead)}. In the paper as well in the "
    f"first and the third; in the second both have {recall.PAPER['HOPE'][ahead[1]]:g} there.",
)
fuzzy = recorded.RECALL["fuzzy recall"]
claim(
    min(fuzzy["Transformer"]) > max(fuzzy["HOPE"])
    and recall.PAPER["Transformer"]["fuzzy recall"] < recall.PAPER["HOPE"]["fuzzy recall"],
    f"In fuzzy recall the order is turned: the Transformer has {min(fuzzy['Transformer'])} or "
    "more on every seed, HOPE "
    f"{max(fuzzy['HOPE'])} at most; in the paper HOPE is ahead.",
)
spots(recorded.RECALL, ylabel="right (%)", ylim=(0, 105))

# %% [markdown]
# ## Table 6: what each part is worth
#
# Take a part out of HOPE and see what is lost: the perplexity per character of names in five languages (the lower,
# the better), three seeds; in the paper, of text at 1.3 billion parameters.

# %%
whole, spread = recorded.ABLATION["HOPE"]
paper = {name: value for name, (_, value) in ablation.ROWS.items()}
print("what is changed                      here     paper")
for name, (value, own) in recorded.ABLATION.items():
    print(f"{name:34} {value - whole:+.2f} ± {own:.2f}   {paper[name] - paper['HOPE']:+.2f}")
parts = [name for name in recorded.ABLATION if name.startswith(("without", "static"))]
hurts = [
    n for n in parts if recorded.ABLATION[n][0] - whole > 2 * (spread + recorded.ABLATION[n][1])
]
claim(
    not hurts and all(paper[name] > paper["HOPE"] for name in parts),
    f"In the paper each of {len(parts)} parts helps; here none does by more than twice the "
    "spreads.",
)
cms = "without CMS (one MLP of its size)"
claim(
    recorded.ABLATION[cms][0] < whole - 2 * (spread + recorded.ABLATION[cms][1]),
    f"And one of them costs something: with one MLP in place of the CMS the perplexity is "
    f"{whole - recorded.ABLATION[cms][0]:.2f} lower.",
)

# %% [markdown]
# ## Fig. 11: M3 beside Muon and AdamW
#
# M3 (Algorithm 1) is a continuum memory in the place of momentum. With $G_t$ the gradient of a matrix, $\beta_1,
# \beta_3$ its memories' factors and $f$ a period: a **fast** memory $M_1$ takes in every gradient, a **slow** one
# $M_2$ the sum
# of the last $f$, every $f$ steps; both are orthogonalized ($\operatorname{NS}$) before they are read,
#
# $$M_1 \leftarrow M_1 + \beta_1 G_t, \qquad M_2 \leftarrow M_2 + \beta_3 \sum_{i=t-f+1}^{t} G_i,
# \qquad \text{step} \propto \operatorname{NS}(M_1) + \alpha \operatorname{NS}(M_2),$$
#
# $\alpha$ the weight of the slow one. As printed nothing is ever forgotten; this lab's default reads the factors as
# momentum factors, $M \leftarrow \beta M + (1-\beta)\,G$, and takes means in place of sums. Live, on the digits, all
# ten at once: three rates each on held-out training images, then the best one on the test images, three seeds. A
# quarter of a minute.

# %%
OFFERED = {"adamw": (1e-3, 3e-3, 1e-2), "muon": (3e-2, 0.1, 0.3), "m3": (3e-3, 1e-2, 3e-2)}


def error(name, rate, seed, part):
    """Share of wrong answers after one pass over all digits at once."""
    fixed = {"joint": True, "batch_size": 20, "observe": False, "evaluate_every": 1000}
    made = {"optimizer": name, "learning_rate": rate, "seed": seed, "evaluate_on": part}
    run = train(Experiment.preset("digits-ab", loss="cross_entropy", **fixed, **made))
    return 1 - run.summary["average_accuracy"]


best = {
    n: min(rates, key=lambda r: error(n, r, 0, "validation")) for n, rates in OFFERED.items()
}
errors = {
    name: [error(name, rate, seed, "test") for seed in range(3)] for name, rate in best.items()
}
for name, values in errors.items():
    print(f"{name:>6} at {best[name]:g}: {' '.join(f'{v:.3f}' for v in values)} wrong")
for name, (loss, spread) in recorded.OPTIMIZERS.items():
    print(f"{name:>6} on Fashion-MNIST, recorded: test loss {loss} ± {spread}")
wrong = {name: sum(values) / 3 for name, values in errors.items()}
claim(
    recorded.OPTIMIZERS["Muon"][0]
    < recorded.OPTIMIZERS["M3"][0]
    < recorded.OPTIMIZERS["AdamW"][0],
    "Recorded, M3 ends between AdamW and Muon; the paper's plot has it ahead of both.",
)
claim(
    all(best[name] == rates[1] for name, rates in OFFERED.items()),
    "Each has chosen the middle one of its three rates: none asks for a larger or a smaller one.",
)
gain = paired_difference(errors["m3"], errors["muon"])
clear = abs(gain["mean"]) > gain["half_width"]
words = ("is behind" if gain["mean"] > 0 else "is ahead of") if clear else "cannot be told from"
claim(
    max(wrong.values()) < 0.2,
    f"Live all three learn: M3 has {wrong['m3']:.3f} wrong, Muon {wrong['muon']:.3f}, AdamW "
    f"{wrong['adamw']:.3f}. M3 {words} Muon, {gain['mean']:+.3f} ± {gain['half_width']:.3f}.",
)
spots({"share of wrong answers": errors})

# %% [markdown]
# **In short.** What a memory can do at all (turn its sign, count) shows on a laptop: HOPE does what Table 5 says of it;
# of the older models not all do. Means over tasks and the worth of single parts do not carry over to this size, and the
# paper gives one seed for each. A table is a claim with a size attached.
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 11.1 Parity by hand (code, 10 minutes)
#
# No training: choose the numbers. Return four float tensors: a `state` (`dim`), a key for each symbol (2 × `dim`, no
# longer than 1), a rate for each symbol (2, from 0 to 2) and a `readout` (`dim`). The check writes strings of up to 40
# symbols, $s \leftarrow s - \eta\,(k\cdot s)\,k$ with the symbol's key and rate, and wants readout · state at 0.001
# or above after an even number of ones (also before the first symbol), at −0.001 or below after an odd number.


# %% tags=["answer"]
def parity_memory(dim): ...


# %% tags=["check"]
check("11.1", parity_memory)

# %% [markdown] tags=["exercise"]
# ### 11.2 The two memories of M3 (code, 15 minutes)
#
# `gradients` is (steps × rows × columns). Return $M_1$ and $M_2$ after the last step, both zero at first. `literal`:
# as printed above. Otherwise `beta` and `slow_beta` are momentum factors and the slow memory takes the mean of the
# period. Steps are counted from 1; a period that is not over is not in $M_2$ yet.


# %% tags=["answer"]
def m3_memories(gradients, beta, slow_beta, period, literal): ...


# %% tags=["check"]
check("11.2", m3_memories)

# %% [markdown] tags=["exercise"]
# ### 11.3 A slow memory that pulls the wrong way (explain by example, 10 minutes)
#
# Return gradients (steps × rows × columns, `period` to 100 steps, none of them zero; `period` is from 3 to 12) after
# which the fast memory of M3 (momentum factors, any `beta` from 0.5 to 0.9) pulls along the last gradient $G$, and the
# slow memory against it: the sum of all entries of $\operatorname{NS}(M_1) \odot G / \lVert G\rVert$ is to be above
# 0.1, that of $\operatorname{NS}(M_2) \odot G / \lVert G\rVert$ below −0.1.


# %% tags=["answer"]
def turned_world(period): ...


# %% tags=["check"]
check("11.3", turned_world)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning*, 2025,
#   [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 93, Algorithm 1, Tables 3–6, Fig. 11.
# - K. Irie and others: *Practical computational power of linear transformers*, 2023,
#   [arXiv 2310.16076](https://arxiv.org/abs/2310.16076) (formal languages).
# - M. Poli and others: *Mechanistic design and scaling of hybrid architectures*, 2024,
#   [arXiv 2403.17844](https://arxiv.org/abs/2403.17844) (the recall tasks).
# - K. Jordan: *Muon: an optimizer for hidden layers*, 2024.
#
# Next: [12 · Your own](12-your-own.ipynb).
