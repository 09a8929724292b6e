"""The lab's standard classifier: an input level, a chain of residual MLP levels (a sequential CMS, Eq. 70), a head.

`B` batch, `D` width. Every level always runs forward; only when it writes differs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from nllab.errors import SettingError, ShapeError
from nllab.levels import Level
from nllab.models.cms import MLPBlock


def memory_names(count: int) -> tuple[str, ...]:
    """Names of `count` memory levels from fast to slow."""
    middle = ("medium",) if count == 3 else tuple(f"medium-{i}" for i in range(1, count - 1))
    return ("memory",) if count == 1 else ("fast", *middle, "slow")


class CMSClassifier(nn.Module):
    """Flat inputs to class scores through levels that learn at different speeds.

    Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 70 (the chain of MLPs), on the clock of steps.
    Differs from paper: an input layer before and a linear head behind the chain, since the paper's CMS sits inside a language model;
    the MLPs are residual with a norm without parameters, start as the identity, and the head starts at zero.

    Shapes: inputs (B, features) float -> scores (B, classes).
    Raises: SettingError for sizes below 1; ShapeError if inputs are not (B, features).
    """

    def __init__(self, features: int, classes: int, *, dim: int = 256, hidden: int = 256, memories: int = 3) -> None:
        super().__init__()
        for name, value in {"features": features, "classes": classes, "dim": dim, "hidden": hidden, "memories": memories}.items():
            if value < 1:
                raise SettingError(f"CMSClassifier: {name} is {value}; it must be at least 1.")
        self.input = nn.Linear(features, dim)
        self.memory = nn.ModuleDict({name: MLPBlock(dim, hidden) for name in memory_names(memories)})
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.head = nn.Linear(dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2 or inputs.shape[1] != self.input.in_features:
            raise ShapeError(f"CMSClassifier: inputs have shape {tuple(inputs.shape)}; expected (batch, {self.input.in_features}).")
        hidden = F.relu(self.input(inputs))
        for level in self.memory.values():
            hidden = level(hidden)
        return self.head(self.norm(hidden))

    def levels(self, periods: Sequence[int], *, input_period: int = 1, head_period: int = 1) -> tuple[Level, ...]:
        """Its levels in the order of the data flow: input, memories from fast to slow, head."""
        names = tuple(self.memory)
        if len(periods) != len(names):
            raise SettingError(f"{len(periods)} periods for {len(names)} memory levels ({', '.join(names)}); give one each.")
        memories = (Level(name, f"memory.{name}", period) for name, period in zip(names, periods, strict=True))
        return (Level("input", "input", input_period), *memories, Level("head", "head", head_period))
