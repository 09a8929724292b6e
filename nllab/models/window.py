"""A model that sees the last few characters and nothing else: the plainest next-character model, one pass of products for all positions.

Axes: B sequences, T tokens, W window, V vocabulary, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nllab.errors import check_wholes
from nllab.levels import Level
from nllab.memory.checks import check_tokens


class CharacterWindow(nn.Module):
    """Next-token scores from the last `window` tokens, one-hot side by side: a linear layer, residual MLPs, a linear head.

    Before the first token of a sequence the window holds token 0. The head starts at zero, as do the MLPs' outputs. One-hot inputs are
    scaled by sqrt(vocabulary), so that an input has unit mean square.

    Shapes: tokens (B, T) integer · returns (B, T, V). Raises: SettingError for sizes below 1; ShapeError for tokens that do not fit.
    """

    def __init__(self, vocabulary: int, dim: int = 512, layers: int = 1, *, window: int = 8, hidden: int | None = None) -> None:
        super().__init__()
        hidden = dim if hidden is None else hidden
        check_wholes(vocabulary=vocabulary, dim=dim, layers=layers, window=window, hidden=hidden)
        self.vocabulary, self.window = vocabulary, window
        self.embed = nn.Linear(window * vocabulary, dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.head = nn.Linear(dim, vocabulary)
        for layer in (self.head, *(block[-1] for block in self.blocks)):  # type: ignore[index]
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens("CharacterWindow: tokens", tokens, self.vocabulary, self.head.weight)
        seen = F.pad(tokens.long(), (self.window - 1, 0)).unfold(1, self.window, 1)
        x = F.one_hot(seen, self.vocabulary).flatten(2).to(self.head.weight.dtype) * self.vocabulary**0.5
        x = torch.relu(self.embed(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))

    def levels(self) -> tuple[Level, ...]:
        """Its levels for the clock of steps, in the order of the data flow."""
        return (Level("input", "embed"), Level("memory", "blocks"), Level("head", "head"))
