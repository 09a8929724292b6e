"""Orthogonal weight modification: weights change only across the directions that old inputs took."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.methods.projection import layers_of, matrix_of, project_gradient, take_back, watched
from nllab.streams.stream import Part


def used_directions(gram: Tensor, strength: float) -> Tensor:
    """I - P with P = (I + strength * gram)^-1: near 1 along inputs often seen, 0 across all of them.

    Sherman-Morrison over one input after the other gives the same P (the paper's recursion with alpha = 1 / strength).
    Shapes: gram and the result (in, in), symmetric.
    """
    values, directions = torch.linalg.eigh(gram)
    weighed = strength * values.clamp_min(0)
    return directions * (weighed / (1 + weighed)) @ directions.T


class OWM(Method):
    """Orthogonal weight modification: of every change only what lies across the inputs of finished tasks stays, dW <-
    dW P.

    average: 1 counts the mean input of a batch, as the paper does, 0 every input, which protects more.
    gradient: 1 projects the gradient before the optimizer sees it, as the paper does, 0 the change that it has written.
        For SGD both are the same; an optimizer that divides by root mean squares, such as Adam, leaves the subspace of
        a projected gradient, and with it the protection (arXiv 2604.22407).
    Source: Zeng et al. 2019, arXiv 1810.01256, Eq. 1-3 (paper symbols: alpha = 1 / strength, P the projector of each
        layer).
    Needs: boundaries. Keeps: two matrices in x in for every layer, one of them in double precision. Strength 0 is
        naive, bit for bit.
    Differs from paper: P is computed once at the boundary instead of by rank-one updates, the same matrix; the change
        that the optimizer has written is projected rather than its gradient, the same for SGD, so that it holds for any
        optimizer.
    Biases are protected as weights of a constant input. Parameters outside linear layers and plain convolutions learn
    unprotected.
    """

    boundaries = True

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, strength: float, average: float, gradient: float
    ) -> None:
        self.objective, self.generator, self.strength, self.average = objective, generator, strength, bool(average)
        self.gradient = bool(gradient)
        self.memory = {"gram": {}, "used": {}}
        self._before: dict[str, Tensor] = {}

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        with watched(layers_of(model)) as caught:
            result = super().loss(model, batch)
        for name, pieces in caught.items():
            for rows in pieces:
                rows = rows.mean(0, keepdim=True) if self.average else rows
                # In double precision, or rounding makes free directions of a large sum look used.
                gram = rows.T.double() @ rows.double()
                self.memory["gram"][name] = self.memory["gram"][name] + gram if name in self.memory["gram"] else gram
        return result

    def before_step(self, model: nn.Module) -> None:
        if self.gradient:
            for name, layer in layers_of(model).items():
                if name in self.memory["used"]:
                    project_gradient(layer, self.memory["used"][name])
        elif self.memory["used"]:
            self._before = {name: matrix_of(layer) for name, layer in layers_of(model).items()}

    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        layers = layers_of(model)
        for name, before in self._before.items():
            take_back(layers[name], before, self.memory["used"][name])
        self._before = {}

    def end_of_experience(self, model: nn.Module, part: Part) -> None:
        dtype = next(model.parameters()).dtype
        self.memory["used"] = {
            name: used_directions(gram, self.strength).to(dtype) for name, gram in self.memory["gram"].items()
        }
