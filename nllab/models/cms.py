"""The continuum memory system (CMS): a chain of MLP blocks, each of which learns at its own speed.

Every block always runs forward; only its writes are gated (Behrouz et al. 2025, arXiv 2512.24695, Eq. 70-74).
Axis letters: B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nllab.errors import SettingError


class MLPBlock(nn.Module):
    """A residual MLP, x + down(relu(up(norm(x)))), that starts as the identity: `down` begins at zero.

    Source: one block of Eq. 70, Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: norm, residual and ReLU are ours (the paper omits or leaves them open). The norm has no weights of its
    own, so that all that the block knows lies in `up` and `down`.

    Shapes: x (..., dim) · returns (..., dim).
    Raises: SettingError for a width below 1.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        if dim < 1 or hidden < 1:
            raise SettingError(f"MLPBlock has dim {dim!r} and hidden {hidden!r}; both are whole numbers, 1 or more.")
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(F.layer_norm(x, x.shape[-1:]))))
