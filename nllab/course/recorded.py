"""Figures of this lab that take too long for a notebook: what `nllab bench` found, all seeds, in percent or as named.

They are the tables of docs/results-sequences.md, recorded on 2026-11-26; tests hold the two to each other. No torch.
"""

from __future__ import annotations

WHEN = "2026-11-26"
ALL_RIGHT = ((100.0, 100.0),) * 3

# `nllab bench formal`: share of strings right in every place, (training range, longer) for each of three seeds.
FORMAL: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "parity": {
        "HOPE": ALL_RIGHT,
        "LSTM": ALL_RIGHT,
        "Transformer": ((0.4, 0), (0, 0), (0.5, 0)),
        "linear attention": ((0.8, 0), (0.5, 0), (0.4, 0)),
        "DeltaNet": ((62.1, 0), (29.9, 0), (15.5, 0)),
    },
    "aa": {
        "HOPE": ALL_RIGHT,
        "LSTM": ALL_RIGHT,
        "Transformer": ((0, 0),) * 3,
        "linear attention": ((0, 0),) * 3,
        "DeltaNet": ((32, 0), (20, 0), (28, 0)),
    },
    "abab": {
        "HOPE": ALL_RIGHT,
        "LSTM": ALL_RIGHT,
        "Transformer": ((33.3, 0), (8.3, 0), (8.3, 0)),
        "linear attention": ((25, 0), (16.7, 0), (33.3, 0)),
        "DeltaNet": ((50, 0), (41.7, 0), (33.3, 0)),
    },
    "anbn": {
        "HOPE": ALL_RIGHT,
        "LSTM": ((100, 74), (100, 84), (100, 76)),
        "Transformer": ALL_RIGHT,
        "linear attention": ALL_RIGHT,
        "DeltaNet": ((100, 72), (100, 68), (100, 80)),
    },
    "anbncn": {
        "HOPE": ALL_RIGHT,
        "LSTM": ((100, 54), (100, 58), (100, 96)),
        "Transformer": ALL_RIGHT,
        "linear attention": ALL_RIGHT,
        "DeltaNet": ((100, 34), (100, 26), (100, 30)),
    },
    "shuffle-2": {
        "HOPE": ((100, 100), (100, 99.9), (100, 100)),
        "LSTM": ((100, 97.5), (100, 97.9), (100, 98.5)),
        "Transformer": ((100, 99.2), (100, 98.7), (100, 98.2)),
        "linear attention": ((100, 99.9), (100, 99.5), (100, 99.3)),
        "DeltaNet": ((100, 90.8), (99.9, 70.8), (99.8, 60.1)),
    },
}

# `nllab bench recall`: accuracy for each of three seeds.
RECALL: dict[str, dict[str, tuple[float, ...]]] = {
    "compression": {
        "HOPE": (24.4, 23.5, 23.5),
        "Titans": (21.8, 21.1, 21.4),
        "Transformer": (20.3, 20.9, 18.4),
        "DeltaNet": (15.5, 15.5, 16.9),
        "linear attention": (22.0, 20.5, 20.5),
    },
    "in-context recall": {
        "HOPE": (99.9, 99.9, 99.8),
        "Titans": (95.2, 95.1, 95.3),
        "Transformer": (99.9, 49.9, 100),
        "DeltaNet": (100, 100, 100),
        "linear attention": (100, 100, 100),
    },
    "fuzzy recall": {
        "HOPE": (88.6, 91.2, 91.5),
        "Titans": (83.9, 84.1, 83.3),
        "Transformer": (99.6, 99.5, 99.7),
        "DeltaNet": (92.0, 93.3, 92.4),
        "linear attention": (81.7, 78.2, 78.6),
    },
    "memorization": {
        "HOPE": (100, 100, 100),
        "Titans": (100, 100, 100),
        "Transformer": (100, 100, 100),
        "DeltaNet": (100, 100, 100),
        "linear attention": (100, 99.9, 100),
    },
}
# `nllab bench ablation`: perplexity per character, mean and standard deviation over three seeds.
ABLATION = {
    "HOPE": (12.347, 0.080),
    "without DGD (no erase)": (12.362, 0.075),
    "without momentum": (12.322, 0.094),
    "without retention (weight decay)": (12.410, 0.059),
    "without CMS (one MLP of its size)": (11.940, 0.057),
    "static k": (12.300, 0.031),
    "static v": (12.332, 0.033),
    "adaptive q": (12.558, 0.104),
}

# `nllab bench optimizers`: test loss on Fashion-MNIST, mean and standard deviation over three seeds.
OPTIMIZERS = {"AdamW": (0.533, 0.009), "Muon": (0.468, 0.008), "M3": (0.493, 0.011)}
