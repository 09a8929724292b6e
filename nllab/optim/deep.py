"""The deep optimizer: gradient descent in the metric of everything that each layer has seen.

For a layer y = W x with gradient G of the summed loss, once per period of its level:

    A <- A + X^T X               context.absorb
    W <- W - rate * G A^-1       context.context_write
    A <- retention * A + ...     context.fade

Directions that old inputs used cost much to change, directions that nothing has used yet are free: that is how new
tasks find room beside old ones. What hooks see is in watch.py, how far a layer steps in rates.py, what the policy makes
of it in policy.py, how the head follows its drifting features in realign.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils._pytree import tree_map_only

from nllab.errors import DivergedError, SettingError, unknown
from nllab.levels import Level, Schedule
from nllab.optim import layers
from nllab.optim.checks import COUNT, FRACTION, NONNEGATIVE, POSITIVE, Rule, evaluate
from nllab.optim.context import Context, bytes_of, context_write
from nllab.optim.leveled import Leveled, members_of
from nllab.optim.output import LOSSES, Loss
from nllab.optim.policy import FIXED, Policy, Settings
from nllab.optim.rates import Trace, head_rate, hidden_rate, own_energy
from nllab.optim.realign import WIDEST, Realignment, features_of
from nllab.optim.report import Report, Written
from nllab.optim.watch import Batch, Pass, Watcher

_RULES: dict[str, Rule] = {
    "rate": NONNEGATIVE,
    "retention": FRACTION,
    "ridge": POSITIVE,
    "realign_every": COUNT,
    "error_weight": NONNEGATIVE,
    "learning_rate": NONNEGATIVE,
}


class DeepOptimizer(torch.optim.Optimizer):
    """Gradient descent in the metric of everything that each layer has seen; drop-in for a plain training loop.

        optimizer = DeepOptimizer(model)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    It always watches, and writes while `acting` is true: switched on in mid-run it protects what came before it. What a
    step saw and did is its `report`.

    model: its `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and `nn.Embedding` layers get a context each (see layers.py); all
        other parameters are trained by Adagrad, whose memory is the diagonal of all squared gradients.
    levels: groups with periods, rates and retentions of their own; None makes one level of period 1.
    rate: step size in units of the exact minimizer (1 = recursive least squares for squared error), at least 0.
    retention: how much of a context survives a write, in [0, 1]; 1 keeps everything.
    ridge: resistance of directions never seen, > 0, in units of one input of unit mean square.
    error_weight: further weight of a sample that the model got wrong, in the loss and in the contexts alike:
        1 + error_weight instead of 1. Needs a loss that is recognised (below).
    manager: whether a policy changes rates, retention and error weight as it sees fit (see policy.py). It needs a
        recognised loss to see errors, and does nothing without one.
    realign_every: steps between realignments of the head, the last linear layer, to its drifted features (see
        realign.py); 0 disables. Needs a model whose input is one tensor of floats with one row a sample for the head.
    loss: "squared_error", "cross_entropy", or "auto": recognised, with its reduction, from the gradient that arrives at
        the model's output (see output.py).
    loss_reduction: "mean" or "sum" over the samples of a batch, for a loss that is not recognised. Contexts need the
        summed loss; for a mean it multiplies by the number of rows of the model's output (its leading dimensions).
    learning_rate: of Adagrad, for the parameters outside those layers.

    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the metric, which the paper leaves open. Kin: orthogonal weight modification (the same
        projector, once per task or batch), decoupled extended Kalman filters, K-FAC / natural-gradient continual
        learning (both Kronecker factors), analytic continual learning (recursive least squares on frozen features).
        Here: every level, every step, while all levels learn.
    Raises: SettingError for settings out of range, a model without such layers, or a state of another model;
        DivergedError for a gradient that is not finite: then neither weights nor contexts change.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        levels: Sequence[Level] | None = None,
        rate: float = 1.0,
        retention: float = 1.0,
        ridge: float = 0.1,
        error_weight: float = 0.0,
        manager: bool = True,
        realign_every: int = 16,
        loss: str = "auto",
        loss_reduction: str = "mean",
        learning_rate: float = 1e-3,
    ) -> None:
        own = {"rate": rate, "retention": retention, "ridge": ridge, "realign_every": realign_every}
        own |= {"error_weight": error_weight, "learning_rate": learning_rate}
        for name, (words, fits) in _RULES.items():
            if not fits(own[name]):
                raise SettingError(f"{name} is {own[name]!r}; it must be {words}.")
        if loss not in ("auto", *LOSSES):
            raise unknown("loss", loss, ("auto", *LOSSES))
        if loss_reduction not in ("mean", "sum"):
            raise SettingError(
                f"loss_reduction is {loss_reduction!r}; it must be 'mean' or 'sum', as the loss itself is reduced."
            )
        levels = tuple(levels) if levels is not None else (Level("all", "*"),)
        found = layers.supported_layers(model)
        if not found:
            raise SettingError(
                "The model has no nn.Linear, nn.Conv1d, nn.Conv2d or nn.Embedding layer with trainable weights, so"
                " there is nothing for a context memory to hold."
            )
        self._made_with = {**own, "manager": manager, "levels": levels, "loss": loss, "loss_reduction": loss_reduction}
        self.acting, self.error_weight, self.realign_every = True, error_weight, realign_every
        self.report = Report()
        self._model = model
        self._names = {p: name for name, p in model.named_parameters()}
        self._held: dict[Tensor, layers.Matrix] = {m.weight: layers.Matrix.of(m) for m in found}
        self._head = next((m for m in reversed(found) if isinstance(m, nn.Linear)), None)
        self._entry = found[0].weight
        self._aligns = self._head is not None and found[0] is not self._head
        self.policy = Policy() if manager else None
        me = weakref.ref(self)
        self._watcher = Watcher(model, list(self._held), lambda: _error_weight(me()), loss, loss_reduction)

        members = members_of(model, levels)
        groups: list[dict[str, Any]] = [
            {
                "params": members[level.name],
                "level": level.name,
                "period": level.period,
                "rate": rate if level.rate is None else level.rate,
                "retention": retention if level.retention is None else level.retention,
                "ridge": ridge if level.ridge is None else level.ridge,
                "steps": 0,
            }
            for level in levels
        ]
        super().__init__(groups, {})
        held = {id(p) for matrix in self._held.values() for p in (matrix.weight, matrix.bias)}
        others = {level: [p for p in parameters if id(p) not in held] for level, parameters in members.items()}
        self._others = (
            Leveled(others, Schedule.of(levels), lambda p: torch.optim.Adagrad(p, learning_rate))
            if any(others.values())
            else None
        )
        for group in groups:
            for p in group["params"]:
                if p in self._held:
                    self.state[p]["context"] = self._held[p].new_context(group["ridge"])
                    if not self._is_head(self._held[p]):
                        self.state[p]["trace"] = Trace()

    def __deepcopy__(self, memo: dict[int, Any]) -> DeepOptimizer:
        """A copy that watches the copy of the model."""
        copy = memo[id(self)] = DeepOptimizer(deepcopy(self._model, memo), **self._made_with)
        copy.load_state_dict(self.state_dict())
        return copy

    @property
    def loss(self) -> Loss | None:
        """As given or recognised; None before."""
        return self._watcher.loss

    @property
    def settings(self) -> Settings:
        """What the policy has put in force."""
        return self.policy.settings if self.policy is not None else FIXED

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and what was seen on the way to them."""
        self._watcher.clear()
        super().zero_grad(set_to_none)

    def skip(self) -> None:
        """Let this batch pass unseen: neither weights nor contexts change."""
        self._watcher.clear()
        self.report = Report()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        value = evaluate(closure)
        batch = self._watcher.clear()
        self._refuse_what_is_not_finite()
        self._refuse_what_it_cannot_see(batch)
        written: list[Written] = []
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                if p in self._held:
                    written += self._step_layer(self._held[p], group, batch)
        if self._others is not None:
            self._others.schedule = Schedule({group["level"]: group["period"] for group in self.param_groups})
            self._others.step(write=self.acting)
        self._realign(batch)
        self.report = self._follow(batch, written, value)
        return value

    def _step_layer(self, matrix: layers.Matrix, group: dict[str, Any], batch: Batch) -> list[Written]:
        """Absorb what a layer saw in this step; at the end of its period write."""
        context: Context = self.state[matrix.weight]["context"]
        gradient, passes = matrix.gradient(batch.scale), batch.of(matrix.weight)
        settings, head, written = self.settings, self._is_head(matrix), []
        if gradient is None:
            gradient = context.gradient
        elif context.gradient is not None:
            gradient += context.gradient
        if came := sum(len(seen.rows) for seen in passes):
            context.seen += min(came, batch.asked or came)  # the patches of an image are one sample
        for rows, deltas, weights in passes:
            context.absorb(rows, deltas, weights, batch.scale)
        if passes and not head:
            signal = batch.scale**2 * sum(float(seen.deltas.square().sum()) for seen in passes)
            self.state[matrix.weight]["trace"].see(signal, batch.residual or signal, batch.bend)
        if gradient is None:
            return []
        if group["steps"] % group["period"]:
            context.gradient = gradient
            return []
        context.close()
        if self.acting:
            factor = group["rate"] * settings.rate
            rate = partial(self._rate_of, matrix, gradient, passes, batch, factor)
            step = context_write(matrix, gradient, context, rate)
            if passes and context.inverse is not None:
                ridge, diagonal = group["ridge"], context.matrix.diagonal().mean()
                seen = (passes, batch.scale, gradient, step, context.inverse, ridge, diagonal)
                outer = head or matrix.weight is self._entry
                written.append(Written(group["level"], outer, *seen))
        else:
            context.forget_inverse()
        retention = group["retention"] * (settings.head_retention if head else settings.hidden_retention)
        if retention < 1:
            context.fade(retention, group["ridge"])
            if head and (realignment := self.state[matrix.weight].get("realignment")):
                realignment.fade(retention, group["ridge"])
        return written

    def _rate_of(
        self, matrix: layers.Matrix, gradient: Tensor, passes: Sequence[Pass], batch: Batch, factor: float, step: Tensor
    ) -> float:
        """The rate of a write along G A^-1 = step; factor: of its level and of the policy."""
        if self._is_head(matrix):
            return factor * head_rate(self.loss)
        if passes:
            came = sum(len(seen.rows) for seen in passes)
            own = sum(float(own_energy(step, seen.rows)) for seen in passes)
            gain = float(torch.dot(gradient.flatten(), step.flatten()))
            self.state[matrix.weight]["trace"].write(gain, own, min(came, batch.samples or came))
        return factor * hidden_rate(state["trace"] for state in self.state.values() if "trace" in state)

    def _is_head(self, matrix: layers.Matrix) -> bool:
        return self._head is not None and matrix.weight is self._head.weight

    def _realign(self, batch: Batch) -> None:
        """Collect a window of steps; at its end realign the head's context, and while acting its weights, to its
        features as they are now."""
        if self._head is None or not (self._aligns and self.realign_every):
            return
        state, passes = self.state[self._head.weight], batch.of(self._head.weight)
        if not passes or sum(len(seen.rows) for seen in passes) != sum(map(len, batch.inputs)):
            return
        inputs, rows, context = torch.cat(batch.inputs), torch.cat([seen.rows for seen in passes]), state["context"]
        if inputs[0].numel() > WIDEST or context.matrix.ndim != 2:
            return
        group = next(g for g in self.param_groups if any(p is self._head.weight for p in g["params"]))
        if "realignment" not in state:
            state["realignment"] = Realignment.begin(inputs, group["ridge"], context.matrix.dtype)
        window: Realignment = state["realignment"]
        window.absorb(inputs)
        window.collect(inputs, rows, self.acting)
        over = window.steps >= self.realign_every or (self.acting and not window.exclusive)
        if over and group["steps"] % group["period"] == 0:
            features = partial(features_of, self._model, self._head)
            window.close(
                self._held[self._head.weight], context, features, inputs, ridge=group["ridge"], seed=group["steps"]
            )

    def _follow(self, batch: Batch, written: Sequence[Written], value: Any) -> Report:
        """Show the policy what was seen; the report of the step."""
        if not batch.asked:
            return Report(self.loss, value, None, None, written)
        error_rate, decision = len(batch.errors) / batch.asked, None
        if self.policy is not None:
            # A narrow head cannot tell new inputs from familiar ones, since there is no room in its features.
            novelty = max((write.novelty for write in written if write.outer), default=None)
            self.policy.observe(error_rate, novelty, batch.errors)
            decision = self.policy.decide() if self.acting else None
        return Report(self.loss, value, error_rate, decision, written)

    def _refuse_what_is_not_finite(self) -> None:
        seen = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if torch.isfinite(get_total_norm([p.grad for p in seen])):
            return
        bad = next((self._names[p] for p in seen if not torch.isfinite(p.grad).all()), "the whole model")
        raise DivergedError(
            f"The gradient of {bad} is not finite; weights and memory stay as they were. Lower the rate, or look for"
            " NaN in the data."
        )

    def _refuse_what_it_cannot_see(self, batch: Batch) -> None:
        for weight in self._held:
            if weight.grad is not None and not batch.of(weight) and not self.state[weight]["context"].seen:
                raise SettingError(
                    f"{self._names[weight]} received a gradient, but its layer never ran, so its memory saw no input:"
                    " the model uses the weight directly. Run the layer itself, or keep it out of the model given to"
                    " DeepOptimizer."
                )

    def bytes_kept(self) -> int:
        """Bytes this optimizer keeps beyond the weights."""
        return sum(bytes_of(kept.tensors()) for state in self.state.values() for kept in state.values())

    def state_dict(self) -> dict[str, Any]:
        own = super().state_dict()
        kept = {number: {name: room.state() for name, room in state.items()} for number, state in own["state"].items()}
        return {
            **own,
            "state": kept,
            "others": self._others.state_dict() if self._others else None,
            "acting": self.acting,
            "error_weight": self.error_weight,
            "loss": self.loss and list(self.loss),
            "policy": self.policy and self.policy.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises SettingError if the state is of another optimizer or model; nothing changes then."""
        own = {group["level"]: len(group["params"]) for group in self.param_groups}
        missing = {"state", "param_groups", "others", "acting", "error_weight", "loss", "policy"} - set(state_dict)
        if missing:
            raise SettingError(f"This is not the state of a DeepOptimizer: it lacks {', '.join(sorted(missing))}.")
        found = {group.get("level"): len(group["params"]) for group in state_dict["param_groups"]}
        if found != own:
            raise SettingError(
                f"The state is of another model: its levels hold {found} parameters, this model's {own}."
            )
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, number in zip(parameters, numbers, strict=True):
            mine = tuple(self.state[parameter]["context"].matrix.shape) if parameter in self._held else None
            theirs = state_dict["state"].get(number, {}).get("context")
            shape = None if theirs is None else tuple(theirs["matrix"].shape)
            if shape != mine:
                raise SettingError(
                    f"The state is of another model: its memory of {self._names[parameter]} has shape {shape}, not"
                    f" {mine}."
                )
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self.state.clear()
        for parameter, number in zip(parameters, numbers, strict=True):
            if number in state_dict["state"]:  # exactly, where torch would cast it to the type of the parameter
                move = partial(Tensor.to, device=parameter.device, copy=True)
                kept = tree_map_only(Tensor, move, state_dict["state"][number])
                self.state[parameter] = {name: _ROOMS[name].of_state(room) for name, room in kept.items()}
        self.acting, self.error_weight = state_dict["acting"], state_dict["error_weight"]
        self._watcher.loss = state_dict["loss"] and Loss(*state_dict["loss"])
        self.policy = state_dict["policy"] and Policy.of_state(state_dict["policy"])
        self._watcher.clear()
        if self._others is not None:
            self._others.load_state_dict(state_dict["others"])


_ROOMS: dict[str, type[Context] | type[Realignment] | type[Trace]] = {
    "context": Context,
    "realignment": Realignment,
    "trace": Trace,
}


def _error_weight(optimizer: DeepOptimizer | None) -> float:
    """The further weight of wrong samples that is in force."""
    if optimizer is None or not optimizer.acting:
        return 0.0
    return optimizer.error_weight + optimizer.settings.error_weight
