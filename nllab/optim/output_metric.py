"""The other Kronecker factor: a metric of what each layer's output is blamed for, beside the deep optimizer's metric of
its inputs.

The curvature of a cross-entropy in the weights of a layer is, nearly, G ⊗ C: C = sum of x xᵀ over all inputs, G = mean
of δ δᵀ over all gradients at the layer's output. `DeepOptimizer` divides by C alone, which is exact for squared error;
where classes differ a hundredfold in how often they are right, one rate for all learns the rare ones too slowly or the
frequent ones too fast. This multiplies each gradient by (damping I + G)⁻¹ between the backward pass and the step of
whatever optimizer follows:

    metric = OutputMetric(model)
    optimizer.zero_grad(); loss.backward(); metric.precondition(); optimizer.step()

Axes: N rows, out and in widths of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nllab.errors import DivergedError, SettingError, check_number


def precondition(gradient: Tensor, metric: Tensor, damping: float) -> Tensor:
    """(damping I + G)⁻¹ times a gradient (out, ...)."""
    damped = metric.clone()
    damped.diagonal().add_(damping)
    return torch.cholesky_solve(gradient.flatten(1), torch.linalg.cholesky(damped)).view_as(gradient)


class OutputMetric:
    """Mean of δ δᵀ at the output of each `nn.Linear`, over everything that was learned from; see the module's
    docstring.

    δ are the gradients of the summed loss that arrive in training: where a model is calibrated, their mean square is
    the Fisher metric. Rows without a gradient (padding) do not count. Nothing is forgotten.

    damping: added to every direction, > 0, in units of squared gradient (that of cross-entropy is below 2). It bounds
        the step: no direction is taken more than 1 / damping times as far.

    Source: Martens and Grosse 2015, K-FAC (both factors, running means); kin to Def. 5, Behrouz et al. 2025, arXiv
        2512.24695.
    Differs from paper: the paper leaves the metric open. Differs from K-FAC: δ from the labels themselves, the mean
        over all that was seen.
    Raises: SettingError for a damping that is not positive or a model without linear layers; DivergedError for a
        gradient that is not finite.
    """

    def __init__(self, model: nn.Module, *, damping: float = 0.1) -> None:
        check_number("damping", damping, "(0, inf)")
        self.layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
        if not self.layers:
            raise SettingError(
                "The model has no nn.Linear layer with trainable weights, so there is no output to measure."
            )
        self.damping = damping
        self.sums = [
            torch.zeros(m.out_features, m.out_features, dtype=m.weight.dtype, device=m.weight.device)
            for m in self.layers
        ]
        self.counts = [0] * len(self.layers)
        for i, layer in enumerate(self.layers):
            layer.register_forward_hook(lambda module, inputs, output, i=i: self._watch(i, output))

    def _watch(self, i: int, output: Any) -> None:
        if output.requires_grad and torch.is_grad_enabled():
            output.register_hook(lambda gradient: self._take(i, gradient))

    @torch.no_grad()
    def _take(self, i: int, gradient: Tensor) -> None:
        rows = gradient.reshape(-1, gradient.shape[-1])
        if not torch.isfinite(rows).all():
            raise DivergedError(
                "The gradient at the output of a layer is not finite; the metric stays as it was. Lower the rate."
            )
        self.sums[i].addmm_(rows.T, rows)
        self.counts[i] += int((rows != 0).any(1).sum())

    def metric(self, i: int) -> Tensor:
        """G of layer `i`, (out, out); zero before anything was learned from."""
        return self.sums[i] / max(self.counts[i], 1)

    @torch.no_grad()
    def precondition(self) -> None:
        """Multiply the gradient of every layer, weight and bias alike, by (damping I + G)⁻¹."""
        for i, layer in enumerate(self.layers):
            for parameter in (layer.weight, layer.bias):
                if parameter is not None and parameter.grad is not None:
                    flat = parameter.grad.view(len(parameter.grad), -1)
                    parameter.grad.copy_(precondition(flat, self.metric(i), self.damping).view_as(parameter.grad))
