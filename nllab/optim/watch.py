"""What hooks see of a batch on its way through a model: inputs and error signals of each layer, the loss, the errors.

One forward hook for all modules of the process looks up who watches the weight of the module that has just run. So
nothing is written on the model: it is saved, copied, scripted and exported as if nobody watched.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nllab.optim import affine, layers, packed
from nllab.optim.output import LOSSES, Loss, bend, recognise, targets
from nllab.optim.patches import Patches
from nllab.optim.policy import BINS

OUTPUT = "output"  # of the model as a whole, as the place where the loss is read
TRIES = 50  # backward passes in which the loss is looked for
UNEXPLAINED = 0.1  # share of a gradient that may come from elsewhere than its layer, such as from weight decay


class Pass(NamedTuple):
    """One backward pass through one layer: inputs (N, D), error signals (N, out) and weights (N,) of its rows.

    hidden: whether error signals are not seen, and given as zeros.
    """

    rows: Tensor | Patches
    deltas: Tensor
    weights: Tensor | None
    hidden: bool = False


@dataclass
class Batch:
    """What was seen since the last step.

    passes: of each weight. · norms: the same of each norm. · scales: of each backward pass, what turns its gradient
        into that of the summed loss.
    inputs: of the model, where it took one tensor of floats. · asked: rows that the loss asked about.
    errors: (answer, right answer) of every row that the model got wrong. · answers: how often each was the right one,
        in the policy's bins; empty before any.
    samples: rows of the model's output along its first axis, of which a sequence is one.
    residual: sum of ||r||² over the rows, r the gradient of the summed loss at the scores. · curved: sum of r^T H r.
    """

    passes: dict[Tensor, list[Pass]] = field(default_factory=dict)
    norms: dict[Tensor, list[affine.Seen]] = field(default_factory=dict)
    scales: list[float] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    asked: int = 0
    errors: list[tuple[int, int]] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    samples: int = 0
    residual: float = 0.0
    curved: float = 0.0

    @property
    def bend(self) -> float:
        """How the loss bends in the direction of its residuals, in the mean."""
        return self.curved / self.residual if self.residual > 0 else 1.0

    @property
    def scale(self) -> float:
        """From the gradients that arrived to those of the summed loss: mean over the backward passes, 1 before any."""
        return sum(self.scales) / len(self.scales) if self.scales else 1.0

    def of(self, weight: Tensor) -> list[Pass]:
        """The passes through the layer of a weight, in the order of their gradients; empty if it saw none."""
        return self.passes.get(weight, [])


class Sight:
    """Scores, as a place where the loss may be read. given: the model's input, where they are its output."""

    def __init__(self, scores: Tensor, place: Any) -> None:
        self.scores = scores.detach()  # a hook that held the tensor itself would keep it, and all of its graph, alive
        self.place, self.given = place, None

    given: Tensor | None


class Watcher:
    """Gathers the `batch` of one model.

    The loss is read where it is recognised first: at the model's output, or at the output of a layer, whose gradient
    arrives before those of all layers behind it. So a model may be called in parts, or return its loss.

    error_weight: asked in the backward pass for the further weight of samples that the model got wrong; their
    gradient is multiplied on the way. · loss, reduction: see DeepOptimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Container[Any],
        error_weight: Callable[[], float],
        loss: str,
        reduction: str,
    ) -> None:
        self.model = weakref.ref(model)
        self.error_weight, self.reduction = error_weight, reduction
        self.loss = None if loss == "auto" else Loss(loss, 0.0)
        self.weights = weights
        self.scales: Container[Any] = ()
        self.batch = Batch()
        self.resting = False  # whether nothing is looked at
        self.place: Any = None  # where the loss is read: a weight, or OUTPUT; None while it is not recognised
        self.tries = 0
        self._pass = -1
        self._fallback = False
        self._sample_weights: Tensor | None = None
        self._last: tuple[Any, int, Sight] | None = None
        self._ran: tuple[Any, int, Tensor] | None = None  # the layer that ran last: where its output is, its weight
        self.reads: dict[Tensor, Tensor] = {}  # weight of a layer -> that of the layer whose output it read untouched
        _watch(self)

    @property
    def unrecognised(self) -> bool:
        """Whether the loss has been looked at long enough."""
        return self.place is None and self.tries >= TRIES

    def begin(self, loss: Loss | None) -> None:
        """Go on from a state in which this was known of the loss; before it was recognised, it is looked for again."""
        self.loss = loss
        if loss is None:
            self.place, self.tries = None, 0

    def clear(self) -> Batch:
        """Begin a new batch; returns the one that was seen."""
        seen, self.batch, self._sample_weights, self._last, self._ran = self.batch, Batch(), None, None, None
        return seen

    def straight_to(self, head: layers.Layer | None) -> set[Tensor]:
        """Weights of the layers from which nothing but layers leads to the head."""
        weights: set[Tensor] = set()
        weight = None if head is None else self.reads.get(head.weight)
        while weight is not None and weight not in weights:
            weights.add(weight)
            weight = self.reads.get(weight)
        return weights

    def ran(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """A module has run: if it is one of ours, look at what comes back to it."""
        if self.resting:
            return
        if layers.is_supported(module) and module._parameters.get("weight") in self.weights:
            self._watch_layer(module, inputs, output)  # type: ignore[arg-type]
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            self._watch_inside(module, inputs, output)
        elif isinstance(module, affine.SCALED) and module._parameters.get("weight") in self.scales:
            self._watch_norm(module, output)
        if module is self.model():
            self._watch_output(inputs, output)

    def _watch_layer(self, layer: layers.Layer, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not inputs or not output.requires_grad:
            return
        assert output.grad_fn is not None
        rows, place = layers.inputs_of(layer, inputs[0]), output.output_nr

        def keep(gradients: Sequence[Tensor]) -> None:
            deltas = layers.deltas_of(layer, gradients[place])
            self.batch.passes.setdefault(layer.weight, []).append(Pass(rows, deltas, self._weights_for(len(rows))))

        # When the gradient arrives, so that a forward pass that no loss uses leaves no trace; and at the node, not at
        # the tensor, so that `_look`, which may weigh the samples, comes first.
        output.grad_fn.register_prehook(keep)
        self.reads.pop(layer.weight, None)
        before, given = self._ran, inputs[0]
        if before is not None and given.grad_fn is before[0] and given.output_nr == before[1]:
            self.reads[layer.weight] = before[2]
        self._ran = output.grad_fn, place, layer.weight
        if isinstance(layer, nn.Linear) and (self.place is None or self.place is layer.weight):
            sight = Sight(output, layer.weight)
            output.register_hook(partial(self._look, sight))
            self._last = output.grad_fn, place, sight

    def _watch_inside(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        answer = output[0]
        if not isinstance(answer, Tensor) or answer.grad_fn is None:
            return
        for matrix, rows in packed.seen_by(module, inputs, output):
            if matrix.weight in self.weights:
                nothing = rows.new_zeros(()).expand(len(rows), matrix.out)

                def keep(_: Any, weight: Tensor = matrix.weight, rows: Tensor = rows, deltas: Tensor = nothing) -> None:
                    self.batch.passes.setdefault(weight, []).append(Pass(rows, deltas, None, True))

                answer.grad_fn.register_prehook(keep)

    def _watch_norm(self, norm: nn.Module, output: Tensor) -> None:
        if not output.requires_grad or output.grad_fn is None:
            return
        rows, place, weight = affine.normalized(norm, output), output.output_nr, norm._parameters["weight"]
        assert weight is not None

        def keep(gradients: Sequence[Tensor]) -> None:
            signal = float(gradients[place].float().square().sum())
            self.batch.norms.setdefault(weight, []).append(affine.Seen(rows, self._weights_for(len(rows)), signal))

        output.grad_fn.register_prehook(keep)

    def _weights_for(self, count: int) -> Tensor | None:
        """The weights of the samples for a layer with this many rows: patches and tokens have the weight of their
        sample."""
        weights = self._sample_weights
        if weights is None or len(weights) == count:
            return weights
        return weights.repeat_interleave(count // len(weights)) if count % len(weights) == 0 else None

    def _watch_output(self, inputs: tuple[Any, ...], output: Any) -> None:
        scores = first_tensor(output)
        if scores is None:
            return
        alone = len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point()
        given = inputs[0].detach() if alone else None
        if self._last is not None and scores.grad_fn is self._last[0] and scores.output_nr == self._last[1]:
            self._last[2].given = given
        else:
            sight = Sight(scores, OUTPUT)
            sight.given = given
            scores.register_hook(partial(self._look, sight))
        self._last = self._ran = None

    def _look(self, sight: Sight, gradient: Tensor) -> Tensor | None:
        """Read loss and errors from the gradient at scores; returns it with its samples weighted."""
        if self.place is None:
            self._recognise(sight, gradient)
        if self.place is not sight.place:
            if sight.given is not None:
                self.batch.inputs.append(sight.given)
            return None
        assert self.loss is not None
        scores = sight.scores
        asked = (gradient != 0).any(-1).flatten()  # rows without a gradient are padding
        count = int(asked.sum())
        unrecognised = float(len(asked)) if self.reduction == "mean" else 1.0
        scale = self.loss.per_row * count if self.loss.per_row else unrecognised
        self.batch.scales.append(scale)
        if sight.given is not None:
            self.batch.inputs.append(sight.given)
        self._sample_weights = None
        if self.loss.kind not in LOSSES:
            self._measure(self.loss, scores, gradient, scale)
            return None
        answers = scores.argmax(-1).flatten()
        rights = targets(self.loss.kind, scores, gradient, scale).flatten()
        wrong = (answers != rights) & asked
        self.batch.errors += zip(answers[wrong].tolist(), rights[wrong].tolist(), strict=True)
        counts = torch.bincount(rights[asked] % BINS, minlength=BINS).tolist()
        self.batch.answers = list(map(add, self.batch.answers, counts)) if self.batch.answers else counts
        self.batch.asked += count
        if not (error_weight := self.error_weight()):
            self._measure(self.loss, scores, gradient, scale)
            return None
        weights = self._sample_weights = 1 + error_weight * wrong
        weighted = gradient * weights.to(gradient.dtype).view(*gradient.shape[:-1], 1)
        self._measure(self.loss, scores, weighted, scale)
        return weighted

    def _measure(self, loss: Loss, scores: Tensor, gradient: Tensor, scale: float) -> None:
        """Size of the residuals, and how the loss bends along them."""
        residual = gradient.detach().to(torch.promote_types(gradient.dtype, torch.float32)) * scale
        size = residual.square().sum()
        self.batch.residual += float(size)
        self.batch.samples += len(scores) if scores.ndim > 1 else 1
        self.batch.curved += float(size * bend(loss.kind, scores, residual))

    def _recognise(self, sight: Sight, gradient: Tensor) -> None:
        """Look for the place where the loss is to be read; until then the first gradient of a pass gives its scale."""
        task = torch._C._current_graph_task_id()
        first, self._pass = task != self._pass, task
        self._fallback &= not first
        if self.loss is not None and not self.loss.per_row:  # given
            loss = self.loss if first else None
        else:
            loss = recognise(sight.scores, gradient) if self.tries < TRIES else Loss("unknown", 0.0)
        if loss is None:
            return
        if loss.kind in LOSSES:
            if self._fallback:
                self.batch.scales.pop()
                self.batch.residual, self.batch.curved, self.batch.samples = 0.0, 0.0, 0
            self.loss, self.place = self.loss or loss, sight.place
        elif first:
            self.tries += 1
            rows = sight.scores[..., 0].numel()
            scale = float(rows) if self.reduction == "mean" else 1.0
            self.batch.scales.append(scale)
            self._measure(loss, sight.scores, gradient, scale)
            self._fallback = True


def explains(matrix: layers.Matrix, passes: Sequence[Pass]) -> bool:
    """Whether what a layer saw makes up its gradient, as far as one number can scale it."""
    gradient = matrix.gradient()
    if passes and all(seen.hidden for seen in passes):
        return True
    if gradient is None or not passes:
        return gradient is None or not bool(gradient.any())
    outer = torch.zeros_like(gradient)
    for rows, deltas, *_ in passes:
        if matrix.table:
            outer.index_add_(1, rows[:], deltas.T)
        else:
            outer.addmm_(deltas.T, rows[:])
    size = outer.square().sum()
    factor = (outer * gradient).sum() / size.clamp_min(1e-30)
    return bool((gradient - factor * outer).norm() <= UNEXPLAINED * gradient.norm())


def first_tensor(output: Any) -> Tensor | None:
    """A model's scores: its output, or the first tensor of a tuple or dict that carries a gradient and is no number."""
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else (output,)
    tensors = [part for part in parts if isinstance(part, Tensor) and part.requires_grad and part.grad_fn is not None]
    return next((part for part in tensors if part.ndim), None)


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()
_hook: Any = None
_CHANGING = threading.RLock()  # trainings run in threads; a collector may end a watcher while another one is made


def _watch(watcher: Watcher) -> None:
    """Let a watcher see every module that runs, as long as it lives; with the last of them the hook goes."""
    global _hook
    with _CHANGING:
        _watchers.add(watcher)
        if _hook is None:
            _hook = nn.modules.module.register_module_forward_hook(_ran)
    weakref.finalize(watcher, _unwatch)


def _unwatch() -> None:
    global _hook
    with _CHANGING:
        if _hook is not None and not _watchers:
            _hook.remove()
            _hook = None


def _ran(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if torch.is_grad_enabled() and not (torch._C._get_tracing_state() or torch.compiler.is_exporting()):
        _apart_from_graphs(module, inputs, output)


def _show(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    with _CHANGING:
        present = list(_watchers)
    for watcher in present:
        watcher.ran(module, inputs, output)


_apart_from_graphs: Any = torch.compiler.disable(_show)
