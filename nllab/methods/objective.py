"""What is minimized on a batch, and over which outputs: all of them, those of the classes seen so far, or those of the
batch alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.streams.stream import IGNORE


def loss_of(scores: Tensor, labels: Tensor, kind: str, counted: Tensor | None = None) -> Tensor:
    """Mean over the labels of cross-entropy, or of half the squared distance to the one-hot label. scores (B, classes),
    labels (B), or scores (B, T, classes), labels (B, T), which count where they are not IGNORE.

    counted: which outputs take part (classes,), True or False; None takes all.
    """
    if labels.ndim > 1:
        scores, labels = scores.flatten(0, -2), labels.flatten()
    if kind == "cross_entropy":
        return F.cross_entropy(scores if counted is None else scores.masked_fill(~counted, -torch.inf), labels)
    if bool((labels == IGNORE).any()):
        scores, labels = scores[labels != IGNORE], labels[labels != IGNORE]
    squares = (scores - F.one_hot(labels, scores.shape[1]).to(scores.dtype)).square()
    return 0.5 * (squares if counted is None else squares * counted).sum(1).mean()


class Objective:
    """The loss of an experiment: objective(scores, labels). Call `see(labels)` before the loss of a new batch.

    kind: "cross_entropy" or "squared_error".
    outputs: "all"; "seen", the classes that have occurred so far; "batch", the classes of the batch itself (the labels
        trick: what is not in the batch is not pushed down. Zeno et al. 2018, arXiv 1803.10123; no boundary and no task
            label is needed).
    """

    def __init__(self, kind: str, outputs: str, classes: int) -> None:
        self.kind, self.outputs = kind, outputs
        self.seen = torch.zeros(classes, dtype=torch.bool)

    def see(self, labels: Tensor) -> None:
        """Count the classes of a batch as seen; labels (N,) or (N, T), IGNORE where nothing is asked."""
        self.seen = self.seen.to(labels.device)
        self.seen[labels[labels != IGNORE]] = True

    def counted(self, labels: Tensor) -> Tensor | None:
        """The outputs that take part for these labels, (classes,); None for all."""
        if self.outputs == "all":
            return None
        if self.outputs == "seen":
            return self.seen
        counted = torch.zeros_like(self.seen)
        counted[labels[labels != IGNORE]] = True
        return counted

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        return loss_of(scores, labels, self.kind, self.counted(labels))
