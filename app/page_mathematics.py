"""The equations behind the lab. Numbers are those of Behrouz et al. 2025, arXiv 2512.24695."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st


class Tex(NamedTuple):
    equation: str


CHAPTERS = (
    ("Levels", (
        "A network is split into levels. The level $\\ell$ has the weights $\\theta^{(\\ell)}$ and writes once "
        "in $C^{(\\ell)}$ "
        "steps. Until then it "
        "sums the errors of its batches; between two writes it does not change at all (Eq. 71).",
        Tex(r"\theta^{(\ell)}_{i+1} = \theta^{(\ell)}_i - \begin{cases} "
        r"\displaystyle\sum_{t=i-C^{(\ell)}+1}^{i} \eta_t\, "
        r"f\big(\theta^{(\ell)}_t; x_t\big) "
        r"& \text{if } i \equiv 0 \bmod C^{(\ell)} \\ 0 & \text{otherwise} \end{cases}"),
        "$f$ is the error part of any optimizer; for gradient descent it is the gradient of the task's loss.",
    )),
    ("The continuum memory system", (
        "Blocks that learn at different speeds, one behind the other, the fastest first (Eq. 70).",
        Tex(r"y_t = \mathrm{MLP}^{(f_k)}\big(\mathrm{MLP}^{(f_{k-1})}(\cdots \mathrm{MLP}^{(f_1)}(x_t))\big)"),
        "The lab's classifier puts an input layer in front and a linear head behind; every level always runs "
        "forward, only the "
        "moments differ "
        "at which it writes.",
    )),
    ("Optimizers are memories too", (
        "Momentum is a memory of gradients that is written by gradient descent on an inner objective; so is "
        "every optimizer of the lab. "
        "Generalized gradient descent keeps the new weights close to the old ones by a retention term "
        "$\\mathcal{R}$ (Def. 5).",
        Tex(r"W_{t+1} = \arg\min_W \; \langle W - W_t, G_t \rangle + \tfrac{1}{\eta}\, \mathcal{R}(W, W_t)"),
        "With $\\mathcal{R} = \\tfrac12\\lVert W - W_t\\rVert^2$ this is gradient descent.",
    )),
    ("The context memory of the deep optimizer", (
        "Each layer remembers the inputs it has seen, the rows of $X_t$, by their second moments. $\\lambda$ is "
        "the retention, "
        "$\\varepsilon$ the ridge.",
        Tex(r"C_t = \lambda\, C_{t-1} + X_t^{\top} X_t, \qquad A_t = \varepsilon I + C_t"),
        "The retention term is measured in this memory: a change costs where old inputs would notice it, and is "
        "free elsewhere.",
        Tex(r"W_{t+1} = \arg\min_W \; \tfrac{1}{\rho}\langle W - W_t, G_t \rangle + \tfrac12 "
        r"\operatorname{tr}\big((W - W_t) A_t (W - "
        r"W_t)^{\top}\big) "
        r"= W_t - \rho\, G_t A_t^{-1}"),
        "$G_t$ is the gradient of the loss summed over the level's period, $\\rho$ the rate, with the lab's "
        "factor on it. "
        "At $\\rho = 1$, $\\lambda = 1$ and squared error this is recursive least squares; with $A_t = "
        "\\varepsilon I$ it is gradient "
        "descent. "
        "What is new here: it runs for every layer of every level, at that level's own period.",
        Tex(r"A_{t}^{-1} = A_{t-1}^{-1} - A_{t-1}^{-1} X^{\top} \big(I + X A_{t-1}^{-1} X^{\top}\big)^{-1} X "
        r"A_{t-1}^{-1} \quad "
        r"(\lambda = 1)"),
        "The inverse is kept by this identity (Woodbury): a step costs what its few new rows cost.",
    )),
    ("Novelty", (
        "How new an input $x$ is to a memory of $D$ directions: 1 is what the memory holds on average. "
        "The manager reads it at the output layer: errors on new inputs with known answers are a task in new "
        "directions; "
        "repeated errors on familiar inputs are a changed answer, contradicting ones noise.",
        Tex(r"\nu(x) = \frac{x^{\top} A_{t-1}^{-1}\, x}{\lVert x \rVert^2} \cdot \frac{\operatorname{tr} C_t}{D}"),
    )),
    ("What is measured", (
        "$R_{i,j}$ is the accuracy on task $j$ after experience $i$, $T$ the last experience, $b_j$ the "
        "accuracy before any training, "
        "$e_j$ the experience that first taught task $j$.",
        Tex(r"\text{average} = \frac{1}{N}\sum_j R_{T,j} \qquad \text{forgetting} = \operatorname*{mean}_{j:\, "
        r"e_j < T} "
        r"\Big(\max_{e_j \le i < T} R_{i,j} - R_{T,j}\Big)"),
        Tex(r"\text{backward transfer} = \operatorname*{mean}_{j:\, e_j < T} \big(R_{T,j} - R_{e_j,j}\big) \qquad "
        r"\text{forward transfer} = \operatorname*{mean}_{j:\, e_j > 0} \big(R_{e_j - 1,j} - b_j\big)"),
        Tex(r"\text{drift of a level} = \frac{\lVert \theta_t - \theta_0 \rVert}{\lVert \theta_0 \rVert}"),
    )),
)  # fmt: skip

st.title("The mathematics", anchor=False)
with st.container(key="reading"):
    st.markdown(
        "Equation numbers are those of *Nested Learning* (Behrouz, Razaviyayn, Zhong, Mirrokni, 2025, arXiv"
        " 2512.24695)."
    )
    for title, parts in CHAPTERS:
        st.subheader(title, anchor=False)
        for part in parts:
            if isinstance(part, Tex):
                st.latex(part.equation)
            else:
                st.markdown(part)
