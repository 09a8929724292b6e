# %% [markdown]
# # 00 · First contact: can a network learn B without losing A?
#
# **About 30 minutes.** The exercises take another 25. You need: to have trained a network in PyTorch once. No paper, no
# other notebook.
#
# At the end you can
# - say what catastrophic forgetting is, having watched it,
# - switch between an optimizer that overwrites and one that spares what is known, and say when it is too late,
# - ask of any such result: what does its frozen twin do?
#
# How this course works: run the cells in order with Shift+Enter. Lines with a ✓ are computed here and now, and would
# fail if they were not true. At the end come three exercises, with hints and solutions folded below them; your progress
# is kept beside this notebook.

# %%
import torch

from nllab import Experiment, LiveLab, streams, train
from nllab.course import begin, check, claim, predict
from nllab.course.draw import canvas, curves, runs
from nllab.events import Switch
from nllab.explore import explore
from nllab.summary import paired_difference

begin("00")

# %% [markdown]
# ## Two lessons, one after the other
#
# Task A is to tell the digits 0 to 4 apart, task B the digits 5 to 9. The rules are strict: every image is shown once,
# ten at a time. One output layer answers for all ten digits. Nobody tells the network that a new task has begun, and no
# image of A ever comes back.

# %%
stream = streams.build("digits-ab", seed=0)
figure, axes = canvas(10, width=9, height=1.3)
for digit, own in enumerate(axes):
    task = stream.tasks[digit // 5]
    image = task.train.inputs[task.train.labels == digit][0].reshape(stream.image_shape)
    own.imshow(image, cmap="gray_r")
    own.set_title(f"{task.name}: {digit}", fontsize=10)
    own.axis("off")
for task in stream.tasks:
    print(
        f"Task {task.name}: {len(task.train)} images to learn from, {len(task.test)} to test."
    )
figure

# %% [markdown]
# ## Why it forgets
#
# With the weights $W$, the input $x$ that arrives, the output $y = Wx$, the loss $L$ and the rate $\eta$, a step of
# gradient descent solves a small problem (Eq. 8–9 of the paper that is named at the end): lower the loss on this input,
# and stay near the weights that you have, $W_t$. ($\langle \cdot, \cdot \rangle$ is the dot product; $\nabla_y L$ is
# what `backward()` leaves at the output.)
#
# $$W_{t+1} = \operatorname{argmin}_W \; \langle W x,\, \nabla_y L\rangle + \frac{1}{2\eta}\lVert W - W_t\rVert^2$$
#
# Its solution is the usual step, $W_{t+1} = W_t - \eta\, \nabla_y L\, x^\top$. *Near* means the same in all directions:
# nothing in it knows that some of them carry task A. The lab's **deep optimizer** keeps a memory $A$ of all inputs
# $x_i$ that a layer has seen, and measures the distance with it (Eq. 59–60 leave the measure open). A change
# $D = W - W_t$ then costs $\operatorname{tr}(D A D^\top)$ in place of $\lVert D\rVert^2$, and the step becomes
#
# $$W_{t+1} = W_t - \eta\, \nabla_y L\, x^\top A^{-1}, \qquad A = \varepsilon I + \sum_i x_i x_i^\top$$
#
# A direction that old inputs have used is stiff, a direction that none has used is free. ($I$ is the identity,
# $\varepsilon$ a small number that keeps $A$ invertible.)
#
# ## The smallest example
#
# Two weights, two facts with overlapping inputs: at (1, 0.5) say +1, then at (0.5, 1) say −1. The slider is the number
# of times that the second fact is taught. What becomes of the first?


# %%
def learn_in_turn(times, with_memory):
    """What the two weights say at the first and at the second fact."""
    facts = [(torch.tensor([1.0, 0.5]), 1.0, 50), (torch.tensor([0.5, 1.0]), -1.0, times)]
    weights, memory = torch.zeros(2), 0.01 * torch.eye(2)
    for x, target, repeats in facts:
        for _ in range(repeats):
            memory = memory + torch.outer(x, x)
            direction = torch.linalg.solve(memory, x) if with_memory else 0.1 * x
            weights = weights + (target - weights @ x) * direction
    return [float(x @ weights) for x, _, _ in facts]


plain, spared = learn_in_turn(50, False), learn_in_turn(50, True)
claim(plain[0] < 0.5, f"Gradient descent ends at {plain[0]:+.2f} where it had learned +1.")
claim(
    abs(spared[0] - 1) < 0.1 and abs(spared[1] + 1) < 0.1,
    f"With the memory both are there: {spared[0]:+.2f} and {spared[1]:+.2f}.",
)


def taught(times):
    repeats = range(times + 1)
    both = {"gradient descent": False, "with the memory": True}
    said = {name: [learn_in_turn(n, on)[0] for n in repeats] for name, on in both.items()}
    about = {"ylabel": "said at the first fact", "ylim": (-1.1, 1.1)}
    return curves(repeats, said, xlabel="times that the second was taught", **about)


explore(taught, times=[5, 10, 20, 50], start={"times": 20})

# %% [markdown]
# ## Now a network
#
# Five *levels*: an input level, three memory levels of 32 units, and an output layer, the *head*. Adam trains it; then
# the same network, from the same start and on the same images, is trained by the deep optimizer.
#
# **Guess first:** after B has been learned, how many of A's test images does each still get right? Guessing blindly
# gives 0.10; a network that has stopped answering with the digits of A at all gives 0.

# %%
# A preset names a stream with all its settings; what is written behind it differs from them.
forgets = train(Experiment.preset("digits-ab", optimizer="adam"))
keeps = train(Experiment.preset("digits-ab", optimizer="deep"))
adam, deep = forgets.summary, keeps.summary
claim(
    adam["a_after_a"] > 0.85 and adam["a_after_b"] < 0.3,
    f"Adam: A stood at {adam['a_after_a']:.2f} when B began, and stands at "
    f"{adam['a_after_b']:.2f} after B.",
)
claim(
    deep["a_after_b"] > 0.8 and deep["b_after_b"] > adam["b_after_b"] - 0.05,
    f"Deep optimizer: A stands at {deep['a_after_b']:.2f} after B, and B at "
    f"{deep['b_after_b']:.2f} (Adam: "
    f"{adam['b_after_b']:.2f}).",
)
runs("accuracy", {"Adam": forgets, "Deep optimizer": keeps})

# %% [markdown]
# ## Now you, live
#
# Press **Play**: the network trains in this notebook's kernel. The upper curves are its accuracy on both tasks, the
# lower ones the *drift*: how far each level's weights have moved from where they started, relative to their size. Try,
# each time with a guess:
#
# 1. Play as it stands, with Adam, and watch A when B begins.
# 2. Switch the deep optimizer on, Reset, Play.
# 3. Switch it off, Reset, Play, and switch it *on* in the middle of B. Is A still there?
# 4. When all is over, press **Teach A**. What does that do to B?

# %%
LiveLab(Experiment.preset("digits-ab", optimizer="adam"), views=("accuracy", "drift"))

# %% [markdown]
# ## Is it too late, once A has been learned the careless way?
#
# The third of these, written down: Adam teaches A, and when B begins the deep optimizer takes over. A run keeps what
# happened as events; `Switch` is a task that begins. A command is (step, what to set, to which value).

# %%
start_of_b = forgets.of(Switch)[1].step
handover = [(start_of_b, "optimizer", "deep")]
late = train(Experiment.preset("digits-ab", optimizer="adam"), commands=handover)
after = late.summary["a_after_b"]
claim(
    after > adam["a_after_b"] + 0.3,
    f"With the toggle moved at step {start_of_b}, A ends at {after:.2f}, though Adam taught "
    "it: the toggle decides "
    "whether the memory acts; it had been watching all the time.",
)
runs("accuracy", {"Adam teaches A, the deep optimizer B": late})

# %% [markdown]
# ## Who did the work? Ask the twin
#
# Beside every result of this lab stands its **frozen twin**: the same network on the same seeds, with every level but
# the head kept at its random initial values for ever. It cannot learn a single feature. What a network has learned is
# worth what it exceeds its twin by. `average_accuracy` is the mean over both tasks at the end. (To be quick, these runs
# are tested only when a task ends. `observe=False` blinds the memory while *another* optimizer writes; here the deep
# optimizer, which is the default, writes from the first step, so that it changes nothing.)

# %%
SEEDS = range(3)
fast = {"evaluate_every": 1000, "observe": False}
score = {"deep optimizer": [], "its frozen twin": []}
for frozen, name in enumerate(score):
    for seed in SEEDS:
        run = train(Experiment.preset("digits-ab", frozen=bool(frozen), seed=seed, **fast))
        score[name].append(run.summary["average_accuracy"])
for name, values in score.items():
    print(f"{name}: average accuracy {' '.join(f'{value:.3f}' for value in values)}")
gain = paired_difference(*score.values())
claim(
    gain["mean"] - gain["half_width"] > 0,
    f"What the hidden levels learn is worth {gain['mean']:+.3f} ± {gain['half_width']:.3f} "
    "(95 % interval, "
    f"{len(SEEDS)} paired seeds).",
)
twin = sum(score["its frozen twin"]) / len(SEEDS)
claim(
    twin > 0.7,
    f"And yet the twin has {twin:.2f}: most of what survives here is the work of the head and "
    "its memory.",
)
print(f"The memory keeps {keeps.bytes_kept:,} bytes beyond the weights.")

# %% [markdown]
# **In short.** A network forgets because its optimizer does not know what it would overwrite. One that remembers the
# inputs of its layers spares what is known, even what another optimizer has taught. Next come the numbers that say how
# much was forgotten (01), and how the memory works (02, 03, 06).
#
# ## Exercises

# %% [markdown] tags=["exercise"]
# ### 00.1 When must you switch, at the latest? (predict, 10 minutes)
#
# Adam trains on A, then on B. At some step the deep optimizer takes over, for the rest. Predict the latest step at
# which this still leaves *half* of A's test images right at the end. (The figures above show when B begins and when all
# is over.) Then write the function that trains a run with the toggle moved at `step`; the check finds the latest such
# step with it, and compares. It trains several runs, so give it half a minute.

# %% tags=["answer"]
predict("00.1", ...)


def switched_at(step): ...


# %% tags=["check"]
check("00.1", switched_at)

# %% [markdown] tags=["exercise"]
# ### 00.2 A blind memory (code, 10 minutes)
#
# Train a run in which Adam teaches A while the memory does *not* watch, and the deep optimizer takes over at the first
# step of B. What is left of A? (`blind.summary` says it, beside the runs of the lesson.) Hand in the run; it is trained
# again from its settings and compared.

# %% tags=["answer"]
blind = ...

# %% tags=["check"]
check("00.2", blind)

# %% [markdown] tags=["exercise"]
# ### 00.3 Two facts that no memory can reconcile (explain by example, 5 minutes)
#
# Return `inputs` (2 × `dim`) and `targets` (2 numbers) of two facts that no weight vector of `dim` numbers can meet
# both. Inputs must not be zero; `dim` is 1 or more. (Targets between −10 and 10.)


# %% tags=["answer"]
def contradiction(dim): ...


# %% tags=["check"]
check("00.3", contradiction)

# %% [markdown]
# ## Sources
#
# - A. Behrouz, M. Razaviyayn, P. Zhong, V. Mirrokni: *Nested Learning: The Illusion of Deep Learning Architectures*,
#   2025, [arXiv 2512.24695](https://arxiv.org/abs/2512.24695), Eq. 8–9, 59–60, 70.
# - M. McCloskey, N. J. Cohen: *Catastrophic interference in connectionist networks*, 1989.
# - The digits: E. Alpaydin, C. Kaynak, UCI repository, as shipped with scikit-learn.
#
# Next: [01 · Forgetting measured](01-forgetting-measured.ipynb).
