"""A small network, drawn unit by unit: the weights of every unit, and how much of its response to earlier tasks is
left.

A portrait is an event that JSON can hold. It draws no randomness and changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nllab.events import LevelUnits, Network, SeenSample
from nllab.levels import Level
from nllab.probes import in_hex
from nllab.streams.stream import Part

MOST_UNITS = 64  # of a level; more cannot be told apart on a screen
MOST_NUMBERS = 20_000  # weights of all units of a network that is drawn


class Portraitist:
    """Takes portraits of one model.

    A unit of a level is a row of the level's first linear layer: its incoming weights, its bias and, where a second
    layer of the level reads the first, its outgoing weights. `retained` is, unit by unit, what is left of the response
    to the samples of tasks that are over: max(0, 1 - |z - z'| / n), with z the unit's pre-activations on them now, z'
    those when the task's last experience ended and n the larger of |z'| and its mean over the level's units, for a unit
    that did not answer has nothing to lose; of several tasks the mean.
    """

    def __init__(
        self, model: nn.Module, layers: Mapping[str, Sequence[nn.Linear]], samples: Mapping[str, Part]
    ) -> None:
        self.model, self.layers, self.samples = model, layers, samples
        self.references: dict[str, dict[str, Tensor]] = {}  # task -> level -> responses (samples, units)
        self.answers: dict[str, Tensor] = {}  # task -> classes of its samples, at the last look
        self._inputs = torch.cat([part.inputs for part in samples.values()]) if samples else torch.zeros(0)

    @classmethod
    def of(cls, model: nn.Module, levels: Sequence[Level], samples: Mapping[str, Part]) -> Portraitist | None:
        """None for a network that is too large to be drawn, or without linear layers in every level."""
        linears: dict[str, list[nn.Linear]] = {level.name: [] for level in levels}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                home = next((level.name for level in levels if level.matches(f"{name}.weight")), None)
                if home:
                    linears[home].append(module)
        layers = {name: _drawn(linear) for name, linear in linears.items()}
        if not all(layers.values()) or any(first.out_features > MOST_UNITS for first, *_ in layers.values()):
            return None
        numbers = sum(layer.weight.numel() for drawn in layers.values() for layer in drawn)
        return cls(model, layers, samples) if numbers <= MOST_NUMBERS else None

    @torch.no_grad()
    def responses(self) -> dict[str, dict[str, Tensor]]:
        """Task -> level -> pre-activations of its units on the task's samples, (samples, units); a layer that is called
        several times for a sample gives their mean. All from one forward pass."""
        outputs: dict[str, list[Tensor]] = {name: [] for name in self.layers}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda _, __, output: outputs[name].append(output)

        hooks = [first.register_forward_hook(keep(name)) for name, (first, *_) in self.layers.items()]
        was_training = self.model.training
        self.model.eval()
        try:
            scores = self.model(self._inputs)
        finally:
            self.model.train(was_training)
            for hook in hooks:
                hook.remove()
        count = len(self._inputs)
        whole = {
            name: torch.stack([out.reshape(count, -1, out.shape[-1]).mean(1) for out in values]).mean(0)
            for name, values in outputs.items()
        }
        self.answers = self._by_task(scores.argmax(-1))
        cut = {name: self._by_task(values) for name, values in whole.items()}
        return {task: {name: parts[task] for name, parts in cut.items()} for task in self.samples}

    def _by_task(self, rows: Tensor) -> dict[str, Tensor]:
        pieces = rows.split([len(part) for part in self.samples.values()])
        return dict(zip(self.samples, pieces, strict=True))

    def learned(self, task: str) -> None:
        """An experience of this task is over: what its samples cause now is what later portraits compare with."""
        if task in self.samples:
            self.references[task] = self.responses()[task]

    def retained(self, current: str | None = None) -> dict[str, Tensor]:
        """Per level, what is left of each unit's responses to tasks that are over, (units,) in [0, 1], but for the
        `current` one; empty before there is any. Leaves the answers to all samples in `answers`."""
        if not self.samples:
            return {}
        responses = self.responses()
        shares: dict[str, list[Tensor]] = {}
        for task, references in self.references.items():
            if task == current:
                continue
            for name, then in references.items():
                sizes = then.norm(dim=0)
                change = (responses[task][name] - then).norm(dim=0) / sizes.maximum(sizes.mean()).clamp_min(1e-12)
                shares.setdefault(name, []).append((1 - change).clamp(0, 1))
        return {name: torch.stack(found).mean(0) for name, found in shares.items()}

    @torch.no_grad()
    def take(self, step: int, seen: tuple[Part, Tensor] | None = None, current: str | None = None) -> Network:
        """The portrait as an event. current: the task being taught, or the last one. seen: a training sample (a part of
        one) and the scores that the network gave it before it learned from it."""
        retained = self.retained(current)
        levels = {}
        for name, drawn in self.layers.items():
            first, weights = drawn[0], [drawn[0].weight]
            bias = first.bias if first.bias is not None else first.weight.new_zeros(first.out_features)
            weights.append(bias.detach()[:, None])
            weights += [second.weight.mT for second in drawn[1:]]
            whole = torch.cat([part.detach() for part in weights], 1)
            scale = float(whole.abs().max())
            levels[name] = LevelUnits(
                units=first.out_features,
                incoming=first.in_features,
                outgoing=whole.shape[1] - first.in_features - 1,
                scale=float(f"{scale:.4g}"),
                weights=packed((whole / (scale or 1.0) * 127).round().to(torch.int8)),
                retained=packed((retained[name] * 255).round().to(torch.uint8)) if name in retained else None,
            )
        return Network(step=step, levels=levels, seen=None if seen is None else sample_of(*seen))


def sample_of(sample: Part, scores: Tensor) -> SeenSample:
    """The first sample of a part as an event, with the scores (classes,) that the network gave it."""
    inputs = sample.inputs[:1]
    point, image = None, None
    if inputs.shape[1] == 2:
        point = (float(inputs[0, 0]), float(inputs[0, 1]))
    else:
        image = in_hex(inputs)[0]
    rounded = [float(f"{score:.3g}") for score in scores.tolist()]
    return SeenSample(label=int(sample.labels[0]), scores=rounded, image=image, point=point)


def _drawn(linear: Sequence[nn.Linear]) -> list[nn.Linear]:
    """The layer whose rows are a level's units and, if it reads them, the next one."""
    second = [layer for layer in linear[1:2] if layer.in_features == linear[0].out_features]
    return [*linear[:1], *second]


def packed(numbers: Tensor) -> str:
    """Bytes as base64."""
    return base64.b64encode(numbers.contiguous().cpu().numpy().tobytes()).decode()
