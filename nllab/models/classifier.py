"""The lab's standard classifier: an input level, a continuum memory system on the clock of steps, a head.

`B` batch, `D` width. Every level always runs forward; only when it writes differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nllab.checks import check_tensor
from nllab.errors import SettingError, check_wholes
from nllab.levels import Level
from nllab.models.cms import ContinuumMemory
from nllab.models.front import ConvolutionalFront


class CMSClassifier(nn.Module):
    """Flat inputs to class scores through levels that learn at different speeds.

    image_shape: (height, width) of images takes a convolutional front end of `filters` filters (see front.py) as input
        level; `dim` is then its width, 18 * filters.
    periods: steps between two writes of each memory level, fast to slow; the model only says so, an optimizer obeys.
    variant: how the memory levels are joined, "sequential", "nested" or "independent" (see `ContinuumMemory`; who
        trains a nested one calls `after_step(step)` after every step).
    context_level: a last level, a square matrix that starts as the identity and reads the head's scores: fast, behind
        what it reads. With a retention of its own it can follow names that change while what they name stays.

    Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 70-74, on the clock of steps.
    Differs from paper: an input layer before and a linear head behind the memory, since the paper's CMS sits inside a
        language model; the MLPs start as the identity, and the head starts at zero; features are normalised before the
        memory levels and before the head, so that a level's inputs have the unit mean square in which its ridge is
        measured; the context level is ours: Eq. 72-73 count levels from the slowest, and here the fastest reads what
        all others say.

    Shapes: inputs (B, features) float -> scores (B, classes).
    Raises: SettingError for sizes below 1; ShapeError if inputs are not (B, features).

    ```pycon
    >>> model = CMSClassifier(64, 10, dim=32, hidden=32, periods=(1, 4, 16))
    >>> model(torch.zeros(5, 64)).shape, {level.name: level.period for level in model.levels()}
    (torch.Size([5, 10]), {'input': 1, 'fast': 1, 'medium': 4, 'slow': 16, 'head': 1})

    ```
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        dim: int = 256,
        hidden: int = 256,
        periods: Sequence[int] = (1, 4, 16),
        variant: str = "sequential",
        image_shape: tuple[int, int] | None = None,
        filters: int = 64,
        context_level: bool = False,
    ) -> None:
        super().__init__()
        check_wholes(features=features, classes=classes, dim=dim, hidden=hidden)
        self.features, self.input_period, self.head_period = features, 1, 1
        self.input: nn.Module = nn.Linear(features, dim)
        if image_shape is not None:
            self.input = ConvolutionalFront(image_shape, filters)
            dim = self.input.width
        self.memory = ContinuumMemory(dim, periods, variant=variant, hidden=hidden)
        self.head = nn.Linear(dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.context = nn.Linear(classes, classes) if context_level else None
        if self.context is not None:
            nn.init.eye_(self.context.weight)
            nn.init.zeros_(self.context.bias)

    @classmethod
    def for_stream(
        cls, experiment: Any, features: int, classes: int, image_shape: tuple[int, int] | None
    ) -> CMSClassifier:
        """The model of an experiment's settings. Raises SettingError for a front end that the stream does not fit."""
        if experiment.front == "conv" and image_shape is None:
            raise SettingError("front=conv reads images, and this stream has none. Take front=dense.")
        names = ("dim", "hidden", "periods", "variant", "filters", "context_level")
        settings = {name: getattr(experiment, name) for name in names}
        model = cls(features, classes, image_shape=image_shape if experiment.front == "conv" else None, **settings)
        model.input_period, model.head_period = experiment.input_period, experiment.head_period
        return model

    def after_step(self, step: int) -> None:
        """Nested memories start anew at their periods, once step `step` has been taken."""
        if self.memory.variant == "nested":
            self.memory.restart(step)

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("CMSClassifier: inputs", inputs, ("b", self.features), self.head.weight)
        hidden = F.relu(self.input(inputs))
        hidden = self.memory.read(F.layer_norm(hidden, hidden.shape[-1:]))
        scores = self.head(F.layer_norm(hidden, hidden.shape[-1:]))
        return scores if self.context is None else self.context(scores)

    def levels(self) -> tuple[Level, ...]:
        """Its levels in the order of the data flow: input, memories from fast to slow, head, context."""
        memories = self.memory.levels("memory.")
        context = (Level("context", "context"),) if self.context is not None else ()
        return (
            Level("input", "input", self.input_period),
            *memories,
            Level("head", "head", self.head_period),
            *context,
        )
