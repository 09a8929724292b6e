"""Which parameters a deep optimizer trains, how each is held, and the group of settings that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nllab.levels import Level
from nllab.optim import layers, packed
from nllab.optim.affine import SCALED, Scale
from nllab.optim.checks import BELOW_ONE, COUNT, FRACTION, NONNEGATIVE, PERIOD, POSITIVE, Rule, check_setting

RULES: dict[str, Rule] = {
    "rate": NONNEGATIVE,
    "retention": FRACTION,
    "ridge": POSITIVE,
    "realign_every": COUNT,
    "error_weight": NONNEGATIVE,
    "learning_rate": NONNEGATIVE,
    "momentum": BELOW_ONE,
    "period": PERIOD,
}


def check(settings: Mapping[str, Any]) -> None:
    """Raises SettingError for a setting out of range."""
    for name, rule in RULES.items():
        if name in settings:
            check_setting(name, settings[name], rule)


def settings_of(level: Level) -> dict[str, float]:
    """What a level sets for itself."""
    settings = {"rate": level.rate, "retention": level.retention, "ridge": level.ridge}
    return {name: value for name, value in settings.items() if value is not None}


class Group(dict[str, Any]):
    """A parameter group in which `lr` and `rate` are one number, so that torch's schedulers find what they change."""

    def __setitem__(self, key: str, value: Any) -> None:
        for name in ("lr", "rate") if key in ("lr", "rate") else (key,):
            super().__setitem__(name, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As of any dict; `lr` and `rate` stay one number."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As of any dict; `lr` and `rate` stay one number."""
        if key not in self:
            self[key] = default
        return self[key]


class Holdings:
    """What a model's parameters are to the optimizer, kept up to date while layers are thawed, added or replaced.

    matrices: of each weight that has a context. · packed: those of them that a module uses inside itself.
    scales: of the weight of each norm. · names: of all parameters.
    head: the last linear layer, where a context holds it, or the only layer. · entry: the first weight.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.released: set[Tensor] = set()  # weights that no context fits, since they are used without their layer
        self.matrices: dict[Tensor, layers.Matrix] = {}
        self.scales: dict[Tensor, Scale] = {}
        self.refresh()

    def _mark(self) -> tuple[tuple[int, bool], ...]:
        return tuple((id(p), p.requires_grad) for p in self.model.parameters())

    def refresh(self) -> bool:
        """Look at the model again; whether anything has changed."""
        if getattr(self, "_seen", None) == (mark := self._mark()):
            return False
        self._seen = mark
        seen_layers = [m for m in layers.supported_layers(self.model) if m.weight not in self.released]
        self.names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        before = self.matrices
        inner = [
            matrix for m in self.model.modules() for matrix in packed.matrices_of(m) if matrix.weight.requires_grad
        ]
        self.packed = {matrix.weight for matrix in inner} - self.released
        self.matrices = {m.weight: before.get(m.weight) or layers.Matrix.of(m) for m in seen_layers}
        self.matrices |= {m.weight: before.get(m.weight) or m for m in inner if m.weight in self.packed}
        self.held = {p for matrix in self.matrices.values() for p in (matrix.weight, matrix.bias) if p is not None}
        norms = [Scale.of(m) for m in self.model.modules() if isinstance(m, SCALED)]
        held = self.scales
        self.scales = {n.weight: held.get(n.weight) or n for n in norms if n and n.weight not in self.released}
        self.held |= {p for scale in self.scales.values() for p in (scale.weight, scale.bias) if p is not None}
        last = next((m for m in reversed(list(self.model.modules())) if isinstance(m, nn.Linear)), None)
        self.head = last if last in seen_layers else seen_layers[0] if last is None and len(seen_layers) == 1 else None
        self.entry = seen_layers[0].weight if seen_layers else None
        return True

    def release(self, weight: Tensor) -> None:
        """Hold a weight by its diagonal from now on."""
        self.released.add(weight)
        self._seen = None
        self.refresh()

    def unheld(self) -> list[str]:
        """Names of the trainable matrices that have no context."""
        return [name for p, name in self.names.items() if p.requires_grad and p.ndim > 1 and p not in self.held]


def group_of(groups: Sequence[dict[str, Any]], p: Tensor) -> dict[str, Any] | None:
    """The parameter group that holds p; None where none does."""
    return next((g for g in groups if any(each is p for each in g["params"])), None)
