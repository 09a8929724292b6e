"""Gradient projection memory: a basis of what each layer has seen, across which alone it may change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods.ewc import some_of
from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.methods.projection import layers_of, matrix_of, project_gradient, take_back, watched
from nllab.streams.stream import Part


def extended(basis: Tensor | None, rows: Tensor, threshold: float) -> Tensor:
    """The basis (in, k) with as many new orthonormal directions as hold the share `threshold` of the rows' energy
    together with the old. Shapes: basis (in, k) or None for none yet · rows (N, in) · returns (in, k or more)."""
    known = rows.new_zeros(rows.shape[1], 0) if basis is None else basis
    energy = rows.square().sum()
    rest = rows - rows @ known @ known.T
    _, values, directions = torch.linalg.svd(rest, full_matrices=False)
    held = 1 - rest.square().sum() / energy + torch.cat([values.new_zeros(1), values.square().cumsum(0)]) / energy
    count = int((held < threshold).sum())
    # A direction that holds next to nothing is rounding error, and need not be orthogonal to the basis.
    count = min(count, int((values > 1e-5 * energy.sqrt()).sum()), known.shape[0] - known.shape[1])
    return torch.linalg.qr(torch.cat([known, directions[:count].T], 1)).Q if count else known


class GPM(Method):
    """Gradient projection memory: dW <- dW - dW M M^T, M a basis of the inputs of finished tasks, found by singular
    values.

    gradient: 1 projects the gradient before the optimizer sees it, 0 the change that it has written; see `OWM`.
    Source: Saha, Garg & Roy 2021, arXiv 2103.09762, Eq. 6-9 and Algorithm 1 (paper symbol: epsilon_th = threshold).
    Needs: boundaries. Keeps: a basis for every layer, at most in x in. Threshold 0 is naive, bit for bit.
    Differs from paper: one threshold for all layers and tasks; the output layer is projected too, since one layer
        serves all tasks; the change that the optimizer has written is projected rather than its gradient, the same for
        SGD. Biases are protected as weights of a constant input. Parameters outside linear layers and plain
        convolutions learn unprotected.
    """

    boundaries = True

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, threshold: float, samples: int, gradient: float
    ) -> None:
        self.objective, self.generator, self.threshold, self.samples = objective, generator, threshold, samples
        self.gradient = bool(gradient)
        self.memory = {}
        self._before: dict[str, Tensor] = {}

    def before_step(self, model: nn.Module) -> None:
        if self.gradient:
            for name, layer in layers_of(model).items():
                if name in self.memory:
                    project_gradient(layer, self.memory[name] @ self.memory[name].T)
        elif self.memory:
            self._before = {name: matrix_of(layer) for name, layer in layers_of(model).items()}

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        layers = layers_of(model)
        for name, before in self._before.items():
            basis = self.memory[name]
            take_back(layers[name], before, basis @ basis.T)
        self._before = {}

    @torch.no_grad()
    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        with watched(layers_of(model)) as caught:
            model(some_of(part, self.samples, self.generator).inputs)
        for name, pieces in caught.items():
            self.memory[name] = extended(self.memory.get(name), torch.cat(pieces), self.threshold)
