"""Continual backprop: hidden units that have become of little use start anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.methods.method import Method
from nllab.methods.objective import Objective
from nllab.streams.stream import Part

ACTIVATIONS = (F.relu, F.gelu, torch.tanh, F.silu)


def contribution(features: Tensor, outgoing: Tensor) -> Tensor:
    """|h_i| in the mean over a batch, times sum_k |w_ki|: (B, units), (out, units) -> (units,)."""
    return features.abs().mean(0) * outgoing.abs().sum(0)


@torch.no_grad()
def start_anew(layer: nn.Linear, following: nn.Linear, units: Tensor, generator: torch.Generator) -> None:
    """Incoming weights of these units (indices) as `nn.Linear` draws them, outgoing weights 0: what the model says
    changes by no more than what the units had contributed."""
    bound = layer.in_features**-0.5
    fresh = torch.rand(len(units), layer.in_features, generator=generator, dtype=layer.weight.dtype)
    layer.weight[units] = ((2 * fresh - 1) * bound).to(layer.weight.device)
    if layer.bias is not None:
        layer.bias[units] = 0
    following.weight[:, units] = 0


@contextmanager
def hidden_units(model: nn.Module) -> Iterator[dict[str, tuple[nn.Linear, nn.Linear, Tensor]]]:
    """While the block runs, finds every trainable linear layer whose outputs go through an activation and nothing else
    into the next one that runs: name -> (layer, the next one, features (B, units))."""
    units: dict[str, tuple[nn.Linear, nn.Linear, Tensor]] = {}
    last: list[tuple[str, nn.Linear, Tensor]] = []

    def ran(name: str):
        def hook(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            features = inputs[0].detach()
            if last and last[0][2].shape == features.shape:
                before = last[0][2]
                if any(torch.equal(activation(before), features) for activation in ACTIVATIONS):
                    units[last[0][0]] = (last[0][1], layer, features.flatten(0, -2))
            last[:] = [(name, layer, output.detach())]

        return hook

    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.weight.requires_grad}
    handles = [layer.register_forward_hook(ran(name)) for name, layer in linear.items()]
    try:
        yield units
    finally:
        for handle in handles:
            handle.remove()


class ContinualBackprop(Method):
    """Continual backprop: of the hidden units older than `maturity` steps, the share `replacement` of least utility
    starts anew at every step (fractions add up).

    Utility: running mean (decay) of |h| times the sum of the absolute outgoing weights.
    Source: Dohare et al. 2024, Nature 632, Algorithm 1; Dohare, Sutton & Mahmood 2023, arXiv 2306.13812.
    Needs: nothing. Keeps: two numbers a hidden unit. Replacement 0 is naive, bit for bit.
    Differs from paper: an optimizer's own moments of a unit that starts anew stay. Units are those of a linear layer
        that one activation joins to the next linear layer; others, such as a residual stream, learn unchanged.
    """

    def __init__(
        self, objective: Objective, generator: torch.Generator, *, replacement: float, maturity: int, decay: float
    ) -> None:
        self.objective, self.generator = objective, generator
        self.replacement, self.maturity, self.decay = replacement, maturity, decay
        self.memory = {"utility": {}, "age": {}, "waiting": {}}
        self._units: Mapping[str, tuple[nn.Linear, nn.Linear, Tensor]] = {}

    def loss(self, model: nn.Module, batch: Part) -> tuple[Tensor, Tensor]:
        with hidden_units(model) as self._units:
            return super().loss(model, batch)

    @torch.no_grad()
    def after_step(self, model: nn.Module, batch: Part, scores: Tensor) -> None:
        utility, age, waiting = (self.memory[name] for name in ("utility", "age", "waiting"))
        for name, (layer, following, features) in self._units.items():
            if name not in age:
                utility[name], age[name] = features.new_zeros(features.shape[1]), features.new_zeros(features.shape[1])
                waiting[name] = 0.0
            age[name] += 1
            utility[name].lerp_(contribution(features, following.weight), 1 - self.decay)
            old = (age[name] > self.maturity).nonzero().flatten()
            waiting[name] += self.replacement * len(old)
            count = min(int(waiting[name]), len(old))
            if count:
                waiting[name] -= count
                units = old[utility[name][old].argsort()[:count]]
                start_anew(layer, following, units, self.generator)
                utility[name][units] = age[name][units] = 0
        self._units = {}
