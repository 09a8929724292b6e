"""In-context learning made visible: what a model gets from its context, and what it would recall after each token.

Pure functions of a model and tokens: they change nothing and draw nothing. A model here has
`stream(tokens, state, writes=...)`, as `nllab.LanguageModel` has. Axes: B sequences, T tokens, K keys, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nllab.errors import ShapeError

IGNORE = -100


@torch.no_grad()
def loss_by_position(model: Any, tokens: Tensor, targets: Tensor, *, writes: bool = True) -> Tensor:
    """Mean loss, nats, at each position of the context; with writes=False the memories stay as they were before the
    first token.

    What falls with the position while writes are on, and does not while they are off, was learned in context.

    Shapes: tokens, targets (B, T), targets IGNORE (-100) where nothing is asked · returns (T,), NaN where no sequence
        is asked.
    Source: Behrouz et al. 2025, arXiv 2512.24695, Fig. 10 (perplexity by context length). Differs from paper: by
        position, not by length.
    Raises: ShapeError where the shapes differ.
    """
    if tokens.shape != targets.shape:
        raise ShapeError(
            f"tokens are {tuple(tokens.shape)} and targets {tuple(targets.shape)}; expected the same shape (B, T)."
        )
    scores, _ = model.stream(tokens, writes=writes)
    losses = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none").view_as(
        targets
    )
    asked = targets != IGNORE
    return torch.where(asked, losses, 0).sum(0) / asked.sum(0)


@torch.no_grad()
def recalled(model: Any, tokens: Tensor, keys: Tensor) -> Tensor:
    """What the model would answer to each key if it were asked after each token: one sequence is read token by token,
    and at every point each key is put as a question to a copy of the memory that does not learn from being asked.

    Shapes: tokens (T,) · keys (K,) tokens to ask with · returns probabilities (T, K, V) of the token that follows the
        key.
    """
    asked, state, answers = keys.view(-1, 1), None, []
    for token in tokens:
        _, state = model.stream(token.expand(len(keys), 1), state)
        answer, _ = model.stream(asked, state, writes=False)
        answers.append(answer[:, -1].softmax(-1))
    return torch.stack(answers)
