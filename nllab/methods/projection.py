"""What the gradient-projection methods share: a layer as a matrix, the rows it reads, and taking back a change along
used directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from nllab.optim.layers import is_supported, patches

Layer = nn.Linear | nn.Conv2d


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """The trainable layers that are one matrix: linear ones and plain 2-D convolutions."""
    named = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    return {name: layer for name, layer in named.items() if is_supported(layer) and layer.weight.requires_grad}


def rows_of(layer: Layer, inputs: Tensor) -> Tensor:
    """What the layer multiplies its matrix with, (N, in [+ 1]): inputs or patches, with a constant 1 for the bias."""
    if isinstance(layer, nn.Conv2d):
        return patches(layer, inputs.detach())[:]
    rows = inputs.detach().flatten(0, -2)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if layer.bias is not None else rows


def matrix_of(layer: Layer) -> Tensor:
    """Weight and bias side by side, (out, in [+ 1]), a copy."""
    weight = layer.weight.detach().flatten(1)
    return torch.cat([weight, layer.bias.detach()[:, None]], 1) if layer.bias is not None else weight.clone()


@contextmanager
def watched(layers: Mapping[str, Layer]) -> Iterator[dict[str, list[Tensor]]]:
    """Collects the rows that each layer reads while the block runs."""
    caught: dict[str, list[Tensor]] = {name: [] for name in layers}

    def catch(layer: Layer, inputs: tuple[Tensor], name: str) -> None:
        caught[name].append(rows_of(layer, inputs[0]))

    handles = [layer.register_forward_pre_hook(partial(catch, name=name)) for name, layer in layers.items()]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def take_back(layer: Layer, before: Tensor, used: Tensor) -> None:
    """W <- W - (W - W_before) used: of the change just written, what would answer to used directions is undone.

    before: the layer's matrix (out, in [+ 1]). · used: (in [+ 1], in [+ 1]), symmetric, between 0 (a free direction)
        and 1 (one that must not change); 0 leaves W bit for bit.
    """
    back = (matrix_of(layer) - before) @ used
    fan_in = layer.weight[0].numel()
    layer.weight.sub_(back[:, :fan_in].reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.sub_(back[:, -1])


@torch.no_grad()
def project_gradient(layer: Layer, used: Tensor) -> None:
    """G <- G - G used for the gradient of weight and bias, seen as one matrix (out, in [+ 1])."""
    if layer.weight.grad is None:
        return
    gradient = layer.weight.grad.flatten(1)
    if layer.bias is not None and layer.bias.grad is not None:
        gradient = torch.cat([gradient, layer.bias.grad[:, None]], 1)
    projected = gradient - gradient @ used
    fan_in = layer.weight[0].numel()
    layer.weight.grad.copy_(projected[:, :fan_in].reshape(layer.weight.shape))
    if layer.bias is not None and layer.bias.grad is not None:
        layer.bias.grad.copy_(projected[:, -1])
