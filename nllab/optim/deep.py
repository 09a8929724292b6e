"""The deep optimizer: gradient descent in the metric of everything that each layer has seen.

For a layer y = W x with gradient G of the summed loss, once per period of its level:

    A <- A + X^T X               context.absorb
    W <- W - rate * G A^-1       context.context_write
    A <- retention * A + ...     context.fade

Directions that old inputs used cost much to change, directions that nothing has used yet are free: that is how new
tasks find room beside old ones. What hooks see is in watch.py, how far a layer steps in rates.py, what the policy makes
of it in policy.py, how the head follows its drifting features in realign.py; groups.py knows which parameter is held
how, affine.py holds norms, diagonal.py what no context fits; watching.py is all that torch.optim asks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from nllab.optim import layers, packed
from nllab.optim.affine import Channels, Scale, Scaled
from nllab.optim.checks import evaluate
from nllab.optim.context import context_write
from nllab.optim.diagonal import Diagonal
from nllab.optim.groups import group_of
from nllab.optim.notices import look_closely, refuse_what_is_not_finite
from nllab.optim.rates import (
    AFTER_WATCHING,
    Trace,
    energy_by_row,
    head_rate,
    hidden_rate,
    lifted,
    mean_bend,
    passes_energy,
    trusted,
)
from nllab.optim.realign import Window, follow
from nllab.optim.report import Due, Report, Written, measurable
from nllab.optim.watch import Batch
from nllab.optim.watching import WatchingOptimizer


class DeepOptimizer(WatchingOptimizer):
    """Gradient descent in the metric of everything that each layer has seen; drop-in for a plain training loop.

        optimizer = DeepOptimizer(model)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    It always watches, and writes while `acting` is true: switched on in mid-run it protects what came before. What a
    step saw and did is its `report`.

    model: its `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and `nn.Embedding` layers get a context each (see layers.py), and
        so do attention and recurrences as far as they can be seen (packed.py), and norms (affine.py); all other
        parameters are held by their diagonal (diagonal.py), and matrices among them are named once in an
        OptimizerWarning. Layers may be thawed, added or replaced later; they are found at the next zero_grad() or
        step().
    levels: groups with periods, rates and retentions of their own; None makes one level of period 1.
    rate: step size in units of the exact minimizer (1 = recursive least squares for squared error), at least 0.
        In every parameter group it is `lr` as well, so that torch's schedulers change it. lr: another name for it.
    retention: how much of a context survives a write, in [0, 1]; 1 keeps everything.
    ridge: resistance of directions never seen, > 0, in units of one input of unit mean square.
    error_weight: further weight of a sample that the model got wrong, in the loss and in the contexts alike:
        1 + error_weight instead of 1. Needs a loss that is recognised (below).
    manager: whether a policy changes rates, retention and error weight as it sees fit (see policy.py). It needs a
        recognised loss to see errors, and does nothing without one.
    realign_every: at most so many steps between realignments of the head, the last linear layer, to its drifted
        features, fewer where they move fast (see realign.py); 0 disables. Needs a model whose input is one tensor of
        floats with one row a sample for the head.
    loss: "squared_error", "cross_entropy", or "auto": recognised, with its reduction, from the gradient that arrives at
        the model's output (see output.py).
    loss_reduction: "mean" or "sum" over the samples of a batch, for a loss that is not recognised. Contexts need the
        summed loss; for a mean it multiplies by the number of rows of the model's output (its leading dimensions).
    learning_rate, momentum: of the parameters outside those layers, in units of Adam's.
    warn: whether what it cannot see or hold is said once, in an OptimizerWarning.

    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.

    Differs from paper: the metric, which the paper leaves open. Kin: orthogonal weight modification (the same
        projector), decoupled extended Kalman filters, K-FAC / natural-gradient continual learning, analytic
        continual learning (least squares on frozen features). Here: every level, every step, while all levels learn.
    Raises: SettingError for settings out of range, a model without such layers, or a state of another model;
        DivergedError for a gradient that is not finite: then neither weights nor contexts change.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:  # type: ignore[override]
        """Absorb what was seen since the last step; levels whose period ends write.

        closure: computes the loss anew and returns it. · loss: its value, for the report; it is returned.
        """
        value = loss if closure is None else evaluate(closure)
        batch = self._watcher.clear()
        refuse_what_is_not_finite(self.param_groups, self._holdings)
        if not self._fresh:  # gradients were cleared without this optimizer
            self._refresh()
        self._fresh = False
        look_closely(self, batch)
        self._notice(batch)
        self._steps, self._watched = self._steps + 1, max(0, self._watched + (-1 if self.acting else 1))
        due: list[Due] = []
        norms: list[Scaled] = []
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                if p in self._holdings.matrices:
                    due += self._absorb(self._holdings.matrices[p], group, batch)
                elif p in self._holdings.scales:
                    scale = self._holdings.scales[p]
                    channels = self._room(p, "channels", partial(Channels.empty, scale, group["ridge"]))
                    norms += channels.take_in(scale, group, self._trace(scale), batch)
                elif p not in self._holdings.held:
                    self._step_other(p, group)
        written = self._write(due, batch)
        self._write_norms(norms)
        for layer in due:
            self._fade(layer)
        self._realign(batch)
        self.report = self._follow(batch, written, value)
        return value

    def _absorb(self, matrix: layers.Matrix, group: dict[str, Any], batch: Batch) -> list[Due]:
        """Take in what a layer saw in this step; at the end of its period it is due."""
        context = self._room(matrix.weight, "context", lambda: matrix.new_context(group["ridge"]))
        gradient, passes = matrix.gradient(batch.scale), batch.of(matrix.weight)
        head = self._holdings.head is not None and matrix.weight is self._holdings.head.weight
        if gradient is None:
            gradient = context.gradient
        elif context.gradient is not None:
            gradient += context.gradient
        came = sum(len(each.rows) for each in passes)
        samples = min(came, batch.asked or came)  # the patches of an image are one sample
        context.seen, context.whole = context.seen + samples, context.whole + samples
        context.surplus += came if self._span else 0
        for rows, deltas, weights, _ in passes:
            context.absorb(rows, deltas, weights, batch.scale)
        if passes and not head:
            signal = batch.scale**2 * sum(float(each.deltas.square().sum()) for each in passes)
            if gradient is not None and passes[0].hidden:
                signal = packed.signal(gradient, torch.cat([each.rows[:] for each in passes]))
            self._trace(matrix).see(signal, batch.residual or signal, batch.bend)
        if gradient is None:
            return []
        if group["steps"] % group["period"]:
            context.gradient = gradient
            return []
        context.close()
        return [Due(matrix, group, context, gradient, passes, head, came, min(came, batch.samples or came))]

    def _write(self, due: Sequence[Due], batch: Batch) -> list[Written]:
        """W <- W - rate * G A^-1 for all layers that are due; what is needed to measure each write, or would be."""
        self._moved = 0.0
        if not self.acting:
            for layer in due:
                layer.context.forget_inverse()
            return measurable(due, [None] * len(due), batch.scale, self._holdings.entry, self._fades)
        for layer in due:
            layer.context.solve(layer.gradient)
        rates = zip(due, self._rates(due), strict=True)
        steps = [context_write(x.matrix, x.gradient, x.context, rate) for x, rate in rates]
        return measurable(due, steps, batch.scale, self._holdings.entry, self._fades)

    def _rates(self, due: Sequence[Due]) -> list[float | Tensor]:
        """The rate of each layer's write: the head's own, one for all hidden layers as far as each can be trusted."""
        energies: list[tuple[float, float]] = []
        rates: list[float | Tensor] = []
        straight = self._watcher.straight_to(self._holdings.head)
        for layer in due:
            own = size = 0.0
            if layer.passes and not layer.head:
                step = layer.context.solve(layer.gradient)
                own = float(passes_energy(step, layer.passes, layer.context.moved))
                known = layer.matrix.weight not in straight
                size = float(passes_energy(layer.matrix.tensor(), layer.passes, None)) if known else 0.0
                gain = float(torch.dot(layer.gradient.flatten(), step.flatten()))
                self._trace(layer.matrix).write(gain, own, layer.samples)
            energies.append((own, size))
        traces = [state["trace"] for state in self.state.values() if "trace" in state]
        rate = hidden_rate(traces)
        self._hidden = min(rate, AFTER_WATCHING) if self._watched else rate
        for layer, (own, size) in zip(due, energies, strict=True):
            hidden = self._hidden_rate(layer.group, own, size)
            self._moved += hidden * sqrt(own / max(layer.samples, 1))
            if layer.head:
                rates.append(self._head_rate(layer.group))
            elif layer.matrix.weight in straight or not layer.passes:
                rates.append(hidden)
            else:
                rates.append(self._by_row(layer, hidden, traces))
        return rates

    def _by_row(self, layer: Due, hidden: float, traces: Sequence[Trace]) -> float | Tensor:
        """The factor of a hidden layer's write, or of each of its rows where some are lifted (see rates.py)."""
        trace, step = self._trace(layer.matrix), layer.context.solve(layer.gradient)
        if trace.looks:
            signals = packed.signals(layer.gradient, layer.passes)
            trace.look(signals, (layer.gradient * step).sum(1), mean_bend(traces))
        if trace.lift is None:
            return hidden
        own, size = (energy_by_row(matrix, layer.passes) for matrix in (step, layer.matrix.tensor()))
        factor = layer.group["rate"] * self.settings.rate
        return factor * lifted(self._hidden, hidden / factor if factor else 0.0, trace.lift, own, size)

    def _hidden_rate(self, group: dict[str, Any], own: float, size: float) -> float:
        """The factor of G A^-1 in the write of a hidden layer (see rates.py)."""
        return group["rate"] * self.settings.rate * trusted(self._hidden, own, size)

    def _head_rate(self, group: dict[str, Any]) -> float:
        """The factor of G A^-1 in the head's write."""
        return group["rate"] * self.settings.rate * head_rate(self.loss)

    def _trace(self, matrix: layers.Matrix | Scale) -> Trace:
        return self.state[matrix.weight].setdefault("trace", Trace())

    def _retention(self, layer: Due) -> float:
        now = self.settings
        return layer.group["retention"] * (now.head_retention if layer.head else now.hidden_retention)

    def _fades(self, layer: Due) -> bool:
        return self._retention(layer) < 1 or self._span > 0

    def _fade(self, layer: Due) -> None:
        ridge = layer.group["ridge"]
        if (retention := self._retention(layer)) < 1:
            layer.context.fade(retention, ridge)
        if self._span:
            retention *= layer.context.leave_out(self._span * layer.matrix.width, ridge)
        self._fade_past(layer.matrix.weight, retention, ridge)

    @property
    def _span(self) -> float:
        """Inputs for each direction that contexts hold for now; 0 for all."""
        return (self.settings.span or 0.0) if self.acting and self.policy and not self.policy.changed else 0.0

    def _notice(self, batch: Batch) -> None:
        """Before a batch is taken in: where something has changed, what contexts have left out counts again."""
        if self.policy is None or not batch.asked:
            return
        self.policy.look(len(batch.errors) / batch.asked, batch.answers)
        if self._span:
            return
        for group in self.param_groups:
            for p in group["params"]:
                if context := self.state.get(p, {}).get("context"):
                    self._fade_past(p, context.restore(group["ridge"]), group["ridge"])

    def _fade_past(self, weight: Tensor, factor: float, ridge: float) -> None:
        """What is known of the past of a head's context counts so many times as much."""
        if factor != 1 and (realignment := self.state[weight].get("realignment")):
            realignment.fade(factor, ridge)

    def _write_norms(self, due: Sequence[Scaled]) -> None:
        """Scales and shifts step as hidden layers do; what they multiply has unit size."""
        for scale, group, change in due:
            if self.acting:
                own, size = float(change.square().sum()), float(scale.weight.square().sum())
                scale.add_(change, alpha=-self._hidden_rate(group, own, size))
            if (retention := group["retention"] * self.settings.hidden_retention) < 1:
                self.state[scale.weight]["channels"].fade(retention, group["ridge"])

    def _step_other(self, p: Tensor, group: dict[str, Any]) -> None:
        """A parameter without a context, by its diagonal; at the end of its period."""
        if p.grad is None and "diagonal" not in self.state[p]:
            return
        diagonal: Diagonal = self._room(p, "diagonal", lambda: Diagonal.empty(p))
        diagonal.absorb(p.grad)
        if group["steps"] % group["period"] or diagonal.gradient is None:
            return
        step = diagonal.close(group["momentum"])
        if self.acting:
            p.add_(step, alpha=-self.learning_rate * self.settings.rate * group["rate"] / (group["began"] or 1.0))
        if (retention := group["retention"] * self.settings.hidden_retention) < 1:
            diagonal.fade(retention)

    def _realign(self, batch: Batch) -> None:
        """Count a step of the head's window, and realign it at the end."""
        head = self._holdings.head
        group = None if head is None else group_of(self.param_groups, head.weight)
        if head is None or group is None or not self.realign_every or head.weight is self._holdings.entry:
            return
        own = (group["steps"], group["period"], group["ridge"])
        written, moved = self.acting and self._head_rate(group) > 0, self._moved if self.acting else None
        window = Window(self.realign_every, *own, written, moved)
        follow(self._model, head, self.state[head.weight], batch, window)

    def _follow(self, batch: Batch, written: Sequence[Written], value: Any) -> Report:
        """Show the policy what was seen; the report of the step."""
        if not batch.asked:
            return Report(self.loss, value, None, None, written)
        error_rate, decision = len(batch.errors) / batch.asked, None
        if self.policy is not None:
            # A narrow head cannot tell new inputs from familiar ones, since there is no room in its features.
            known = [write.novelty for write in written if write.outer and write.leverage is not None]
            self.policy.observe(error_rate, max(known, default=None), batch.errors)
            decision = self.policy.decide() if self.acting else None
        return Report(self.loss, value, error_rate, decision, written)
