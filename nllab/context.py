"""In-context learning made visible: what a model gets from its context, and what its memory holds after each token.

Pure functions of a model and tokens: they change nothing and draw nothing. A model here has `stream(tokens, state,
    writes=...)`, as
`nllab.LanguageModel` has. Axes: B sequences, T tokens, K keys, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nllab.errors import ShapeError
from nllab.memory.titans import SelfModifyingTitans

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
    asked, state, found = keys.view(-1, 1), None, []
    for token in tokens:
        _, state = model.stream(token.expand(len(keys), 1), state)
        answer, _ = model.stream(asked, state, writes=False)
        found.append(answer[:, -1].softmax(-1))
    return torch.stack(found)


class ReadOut(NamedTuple):
    """What one self-modifying memory holds after each token; all (B, H, T, T), entry [t, i] after token t about token
    i, NaN for i > t.

    agreement: cosine between what the memory reads at key i and the value that was to be stored there.
    strength: the length of that read over the length of the value: 1 would be all of it, and the paper's rule settles
        at 1/2.
    """

    agreement: Tensor
    strength: Tensor


@torch.no_grad()
def stored_keys(layer: SelfModifyingTitans, x: Tensor) -> ReadOut:
    """Read every key back after every token: which associations the main memory still holds, which it has lost or
    overwritten.

    Key and value i are what the memories, as they stood before token i, make of it: exact for chunk_size 1; inside a
    larger chunk the layer itself still uses the memories of the chunk's start. Needs linear memories, adaptive keys and
    values and no convolution.

    Shapes: x (B, T, D), the layer's input.
    Raises: ShapeError for a layer of another kind.
    """
    if layer.hidden is not None or not {"key", "value"} <= set(layer.adaptive) or layer.conv_window:
        raise ShapeError(
            "stored_keys reads linear memories with adaptive keys and values and no convolution; this layer has"
            f" hidden={layer.hidden}, adaptive={layer.adaptive}, conv_window={layer.conv_window}."
        )
    state = layer.start(len(x))
    keys, values, memories = [], [], []
    for token in x.split(1, 1):
        weights = layer.fast_weights(state)
        by_head = token.squeeze(1).unflatten(-1, (layer.heads, -1))
        key, value = (torch.einsum("bhvk,bhk->bhv", weights[name][0], by_head) for name in ("key", "value"))
        _, state = layer(token, state)
        bounded = value / (1 + value.square().sum(-1, keepdim=True)).sqrt()
        keys.append(F.normalize(key, dim=-1))
        # The target is what the memory itself makes of the value, v̂ = M(v).
        values.append(torch.einsum("bhvk,bhk->bhv", weights["memory"][0], bounded))
        memories.append(layer.fast_weights(state)["memory"][0])
    memory, key, value = torch.stack(memories, 2), torch.stack(keys, 2), torch.stack(values, 2)
    reads = torch.einsum("bhtvk,bhik->bhtiv", memory, key)
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
    wanted = value.unsqueeze(2)
    agreement = F.cosine_similarity(reads, wanted.expand_as(reads), dim=-1).masked_fill(later, torch.nan)
    strength = (reads.norm(dim=-1) / wanted.norm(dim=-1).clamp_min(1e-12)).masked_fill(later, torch.nan)
    return ReadOut(agreement, strength)
