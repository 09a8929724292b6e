"""The deep optimizer: an optimizer whose memory is the context of every layer, at every level's own speed.

For a layer y = W x (the input carries a constant 1 for the bias; a convolution reads patches, an embedding one-hot
rows) the retention term of generalized gradient descent (Def. 5) is measured in the metric of all inputs that the layer
has seen: C <- retention * C + X^T X, A = ridge * I + C, and

    W+ = argmin_W <W - W_t, G> / rate + 1/2 tr((W - W_t) A (W - W_t)^T) = W_t - rate * G A^-1

with G the gradient of the *summed* loss over the level's period. Directions that old inputs used cost much to change,
directions
that nothing has used yet are free: that is how new tasks find room beside old ones. At rate 1, retention 1 and squared
    error
it is recursive least squares; with A = ridge * I it is gradient descent.
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
from nllab.optim.checks import COUNT, FRACTION, NONNEGATIVE, POSITIVE, Rule
from nllab.optim.leveled import Leveled, members_of
from nllab.optim.manager import Decision, Manager
from nllab.optim.output import LOSSES, Loss, recognise, targets
from nllab.optim.reader import CHUNK_WEIGHT, Moments, carry, dream, translation


def context_write(weight: Tensor, gradient: Tensor, context: Tensor, rate: float) -> Tensor:
    """W - rate * G A^-1, the exact minimizer of the objective in the module's docstring: the slow, obvious form.

    Shapes: weight, gradient (out, in) · context (in, in), symmetric positive definite · returns (out, in).
    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the retention term is ours; the paper leaves it open.
    """
    return weight - rate * torch.cholesky_solve(gradient.T, torch.linalg.cholesky(context)).T


def low_rank_gain(rows: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """X (A + X^T X)^-1 and (A + X^T X)^-1 from A^-1 at the cost of its N new rows (Woodbury): the fast form of
    `context_write`.

    Shapes: rows (N, in) · inverse (in, in) · returns (N, in), (in, in).
    """
    projected = rows @ inverse
    inner = projected @ rows.T
    inner.diagonal().add_(1)
    gain = torch.cholesky_solve(projected, torch.linalg.cholesky(inner))
    return gain, torch.addmm(inverse, projected.T, gain, alpha=-1)


def novelty(rows: Tensor, context: Tensor, inverse: Tensor, ridge: float) -> float:
    """How new inputs are to a memory that has just taken them in: mean of x^T A^-1 x before it did / what it holds on
    average (1).

    Shapes: rows (N, in) · context, inverse (in, in). A single row before: h / (1 - h) with h = x^T A^-1 x after,
        exactly.
    """
    after = ((rows @ inverse) * rows).sum(1).clamp(0, 1 - 1e-6)
    before = after / (1 - after) / rows.square().sum(1).clamp_min(1e-30)
    return float(before.mean() * (context.diagonal().mean() - ridge))


EXACT = 1e-5  # relative; a gradient this close to its own outer products is taken to be them, in float32
REFRESH = (
    200  # writes after which A^-1 is computed anew from A, so that rounding errors of the rank-N form cannot add up
)
# Steps are in units of the exact minimizer of a squared error; the residual of cross-entropy is bounded by 1 and its
# curvature by a half, so that the same step learns too little. Chosen on validation data (LOG.md).
CROSS_ENTROPY_RATE = 5.0
DREAMABLE = 4096  # numbers in an input past which no Gaussian of it is kept, and the reader is not carried over

_RULES: dict[str, Rule] = {
    "rate": NONNEGATIVE,
    "retention": FRACTION,
    "ridge": POSITIVE,
    "carry_every": COUNT,
    "attention": NONNEGATIVE,
    "learning_rate": NONNEGATIVE,
}


class _Watch:
    """A forward hook that reports to an optimizer as long as that lives and watches this very module, not a copy of
    it."""

    def __init__(self, optimizer: DeepOptimizer, report: str) -> None:
        self.optimizer, self.report = weakref.ref(optimizer), report

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        optimizer = self.optimizer()
        if optimizer is not None and optimizer.watches(module) and torch.is_grad_enabled():
            getattr(optimizer, self.report)(module, inputs, output)


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()


def _first_tensor(output: Any) -> Tensor | None:
    """A model's scores: its output, or the first tensor of a tuple or dict that carries a gradient."""
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else (output,)
    return next((part for part in parts if isinstance(part, Tensor) and part.requires_grad), None)


class DeepOptimizer(torch.optim.Optimizer):
    """Gradient descent in the metric of everything that each layer has seen; drop-in for a plain training loop.

        optimizer = DeepOptimizer(model)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    It observes always, and acts while `acting` is true: with `acting` off, step() writes no weight, but its memory goes
        on
    watching, so that switched on in mid-run it protects what came before it. Set it before the backward pass.

    model: its `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and `nn.Embedding` layers get a context memory each (see
        layers.py); all other parameters are trained by AdamW.
    levels: groups with periods, rates and retentions of their own; None makes one level of period 1.
    rate: step size in units of the exact minimizer (1 = recursive least squares for squared error), at least 0.
    retention: how much of the memory survives a write, in [0, 1]; 1 keeps everything.
    ridge: resistance of directions never seen, > 0, in units of one input of unit mean square.
    attention: further weight of a sample that the model got wrong, in the loss and in the memory alike: 1 + attention
        instead of 1. Needs a loss that is recognised (below).
    manager: whether a manager changes rates, retention and attention as it sees fit (see manager.py); its decisions
        wait in `decisions`. It needs a recognised loss to see errors, and does nothing without one.
    carry_every: steps between two times that the memory of the last linear layer, the reader, is carried over into what
        its features mean now (see reader.py); 0 never. Needs a model whose input is one tensor of floats with one row a
        sample for the reader.
    loss: "squared_error", "cross_entropy", or "auto": recognised, with its reduction, from the gradient that arrives at
        the model's output (see output.py).
    loss_reduction: "mean" or "sum" over the samples of a batch, for a loss that is not recognised. The memory needs the
        summed loss; for a mean it multiplies by the number of rows of the model's output (its leading dimensions).
    learning_rate: of AdamW, for the parameters outside those layers.

    While `measure` is true, every layer that writes adds to `signals[level]`: surprise (mean size of the error signal
    at its outputs), novelty (of its inputs; 1 is what its memory holds on average) and conflict (share of the
    gradient's size that the memory blocks).

    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the metric, which the paper leaves open. Kin: orthogonal weight modification (the same
        projector, once per
    task or batch), decoupled extended Kalman filters, K-FAC / natural-gradient continual learning (both Kronecker
    factors), analytic continual learning (recursive least squares on frozen features). Here: every level, every step,
    while all levels learn.
    Raises: SettingError for settings out of range, a model without such layers, or a state of another model;
        DivergedError for a
    gradient that is not finite: then neither weights nor memory change.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        levels: Sequence[Level] | None = None,
        rate: float = 1.0,
        retention: float = 1.0,
        ridge: float = 0.1,
        attention: float = 0.0,
        manager: bool = True,
        carry_every: int = 16,
        loss: str = "auto",
        loss_reduction: str = "mean",
        learning_rate: float = 1e-3,
    ) -> None:
        own = {"rate": rate, "retention": retention, "ridge": ridge, "carry_every": carry_every}
        own |= {"attention": attention, "learning_rate": learning_rate}
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
        self.acting = True
        self.decisions: list[Decision] = []
        self.measure = False
        self.signals: dict[str, list[dict[str, float]]] = {}
        self._settings = {**own, "manager": manager, "levels": levels, "loss": loss, "loss_reduction": loss_reduction}
        self._carry_every, self._reduction = carry_every, loss_reduction
        self.attention = attention
        self.loss = None if loss == "auto" else Loss(loss, 0.0)
        self._names = {p: name for name, p in model.named_parameters()}
        self._layers: dict[Tensor, layers.Layer] = {m.weight: m for m in found}
        self._watched = {id(m) for m in (model, *found)}
        self._model, self._entry = model, found[0]
        self._reader = next((m for m in reversed(found) if isinstance(m, nn.Linear)), None)
        self.manager = Manager(hidden=any(m is not self._reader for m in found)) if manager else None
        self._pending: dict[Any, list[tuple[Tensor, Tensor, Tensor | None]]] = {weight: [] for weight in self._layers}
        self._forget_batch()

        members = members_of(model, levels)
        held = {id(p) for m in found for p in (m.weight, layers.bias_of(m))}
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
        others = {level: [p for p in parameters if id(p) not in held] for level, parameters in members.items()}
        self._others = (
            Leveled(others, Schedule.of(levels), lambda p: torch.optim.AdamW(p, learning_rate))
            if any(others.values())
            else None
        )
        ridges = {p: group["ridge"] for group in groups for p in group["params"]}
        for weight, layer in self._layers.items():
            self.state[weight]["context"] = layers.new_context(layer, ridges[weight])
        self._ridge = ridge if self._reader is None else ridges[self._reader.weight]
        handles = [m.register_forward_hook(_Watch(self, "_watch_layer")) for m in found]
        handles.append(model.register_forward_hook(_Watch(self, "_watch_output")))
        weakref.finalize(self, _remove, handles)

    def __deepcopy__(self, memo: dict[int, Any]) -> DeepOptimizer:
        """A copy that watches the copy of the model, with hooks of its own."""
        model = deepcopy(self._model, memo)
        for module in model.modules():
            for key, hook in list(module._forward_hooks.items()):
                if isinstance(hook, _Watch):
                    del module._forward_hooks[key]
        copy = memo[id(self)] = DeepOptimizer(model, **self._settings)
        copy.load_state_dict(self.state_dict())
        return copy

    def watches(self, module: nn.Module) -> bool:
        return id(module) in self._watched

    def _watch_layer(self, layer: layers.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:
            return
        assert output.grad_fn is not None
        rows = layers.rows_of(layer, inputs[0])

        def keep(gradients: Sequence[Tensor]) -> None:
            deltas = layers.deltas_of(layer, gradients[0])
            self._pending[layer.weight].append((rows, deltas, self._weights_for(len(rows))))

        # When the gradient arrives, so that a forward pass that no loss uses leaves no trace; and at the node, not at
        # the tensor, so that the model's own hook, which may weigh the samples, comes first even where the layer's
        # output is the model's.
        output.grad_fn.register_prehook(keep)

    def _weights_for(self, count: int) -> Tensor | None:
        """The weights of the samples for a layer with this many rows: patches and tokens have the weight of their
        sample."""
        weights = self._weights
        if weights is None or len(weights) == count:
            return weights
        return weights.repeat_interleave(count // len(weights)) if count % len(weights) == 0 else None

    def _watch_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        found = _first_tensor(output)
        if found is None:
            return
        scores = (
            found.detach()
        )  # a hook that held the tensor itself would keep it, and all of its graph, alive for ever
        given = (
            inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point() else None
        )

        def look(gradient: Tensor) -> Tensor | None:
            self.loss = self.loss or recognise(scores, gradient)
            if self.loss is None:
                return None
            asked = (gradient != 0).any(-1).flatten()  # rows without a gradient are padding
            count = int(asked.sum())
            unrecognised = float(len(asked)) if self._reduction == "mean" else 1.0
            scale = (
                self.loss.per_row * count if self.loss.per_row else unrecognised
            )  # turns this gradient into that of the summed loss
            self._scales.append(scale)
            if given is not None and self._carries:
                self._inputs.append(given.detach())
            self._weights = None
            if self.loss.kind not in LOSSES:
                return None
            answers = scores.argmax(-1).flatten()
            rights = targets(self.loss.kind, scores, gradient, scale).flatten()
            wrong = (answers != rights) & asked
            self._errors += zip(answers[wrong].tolist(), rights[wrong].tolist(), strict=True)
            self._answers += count
            attention = self.attention + (self.manager.attention if self.manager is not None else 0.0)
            if not (self.acting and attention):
                return None
            weights = self._weights = 1 + attention * wrong
            return gradient * weights.to(gradient.dtype).view(*gradient.shape[:-1], 1)

        found.register_hook(look)

    def _refuse_what_is_not_finite(self) -> None:
        seen = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if torch.isfinite(get_total_norm([p.grad for p in seen])):
            return
        self._forget_batch()
        bad = next((self._names[p] for p in seen if not torch.isfinite(p.grad).all()), "the whole model")
        raise DivergedError(
            f"The gradient of {bad} is not finite; weights and memory stay as they were. Lower the rate, or look for"
            " NaN in the data."
        )

    def _refuse_what_it_cannot_see(self) -> None:
        for weight, pending in self._pending.items():
            if weight.grad is not None and not pending and "seen" not in self.state[weight]:
                raise SettingError(
                    f"{self._names[weight]} received a gradient, but its layer never ran, so its memory saw no input:"
                    " the model uses the weight directly. Run the layer itself, or keep it out of the model given to"
                    " DeepOptimizer."
                )

    def _forget_batch(self) -> None:
        self._scales: list[float] = []
        self._inputs: list[Tensor] = []
        self._answers = 0
        self._errors: list[tuple[int, int]] = []
        self._novelty: float | None = None
        self._weights: Tensor | None = None
        for pending in self._pending.values():
            pending.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and what was seen on the way to them."""
        self._forget_batch()
        super().zero_grad(set_to_none)

    def skip(self) -> None:
        """Let this batch pass unseen: neither weights nor memory change."""
        self._forget_batch()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse_what_is_not_finite()
        self._refuse_what_it_cannot_see()
        scale = sum(self._scales) / len(self._scales) if self._scales else 1.0
        unit = CROSS_ENTROPY_RATE if self.loss is not None and self.loss.kind == "cross_entropy" else 1.0
        if self.manager is not None:
            unit *= self.manager.rate
            self.manager.loose &= self.acting  # what another optimizer has taught is there to be kept
        seen = (
            [rows for rows, _, _ in self._pending[self._reader.weight]]
            if self._reader is not None and self._carries
            else []
        )
        for group in self.param_groups:
            group["steps"] += 1
            due = group["steps"] % group["period"] == 0
            for p in group["params"]:
                if p in self._layers:
                    self._step_layer(self._layers[p], group, scale, unit * self._rate_of(self._layers[p], group), due)
        if self._others is not None:
            self._others.schedule = Schedule({group["level"]: group["period"] for group in self.param_groups})
            self._others.step(write=self.acting)
        if seen and self._inputs and sum(map(len, seen)) == sum(map(len, self._inputs)):
            self._carry_reader(torch.cat(self._inputs), torch.cat(seen))
        if self.manager is not None and self._answers:
            self.manager.observe(len(self._errors) / self._answers, self._novelty, self._errors)
            decision = self.manager.decide() if self.acting else None
            self.decisions += [decision] if decision else []
        self._forget_batch()
        return loss

    def _rate_of(self, layer: layers.Layer, group: dict[str, Any]) -> float:
        if self.manager is None or layer is self._reader:
            return group["rate"]
        return self.manager.hidden_rate(group["rate"], self.state[layer.weight].get("seen", 0))

    @property
    def _carries(self) -> bool:
        return bool(self._carry_every) and self._reader is not None and self._entry is not self._reader

    def _read(self, inputs: Tensor) -> Tensor:
        """What the reader sees of these inputs now, (N, D)."""
        assert self._reader is not None
        caught: list[Tensor] = []
        handle = self._reader.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        training = [module for module in self._model.modules() if module.training]
        self._model.eval()
        try:
            self._model(inputs)
        finally:
            handle.remove()
            for module in training:
                module.training = True
        return layers.rows_of(self._reader, caught[0])

    def _carry_reader(self, inputs: Tensor, rows: Tensor) -> None:
        """Collect a window of steps; at its end carry the reader's memory, and while acting its weights, into the
        features of now."""
        assert self._reader is not None
        state = self.state[self._reader.weight]
        flat = inputs.flatten(1)
        if flat.shape[1] > DREAMABLE or state["context"].ndim != 2:
            return
        own = flat.to(state["context"].dtype) * flat.shape[1] ** -0.5
        own = torch.cat([own, own.new_ones(len(own), 1)], 1)
        if "given" not in state:
            state["given"] = self._ridge * torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
        layers.observe(state["given"], own)
        if self.manager is not None and self.manager.loose:
            # Inputs of one Gaussian would mix the directions that levels leave alone with those in which they are let
            # loose.
            for name in ("window", "window_inputs", "window_rows", *Moments._fields):
                state.pop(name, None)
            return
        state["window"] = state.get("window", 0) + 1
        # Whether nobody else has written the reader since the window opened: else its weights are no least squares to
        # be carried over.
        own = state["own"] = state.get("own", True) and self.acting
        if "gram" in state:
            state["window_inputs"] = torch.cat([state["window_inputs"], inputs]) if "window_inputs" in state else inputs
            state["window_rows"] = torch.cat([state["window_rows"], rows]) if "window_rows" in state else rows
        group = next(g for g in self.param_groups if any(p is self._reader.weight for p in g["params"]))
        closes = state["window"] >= self._carry_every or (self.acting and not own)
        if not closes or group["steps"] % group["period"]:
            return
        weight = layers.as_memory(self._reader)
        if "gram" in state:
            old = Moments(*(state[name] for name in Moments._fields))
            came = state.pop("window_inputs")
            now = self._read(torch.cat([old.dreams, came]))
            before = torch.cat([old.dreamed, state.pop("window_rows")])
            trust = torch.ones(len(before), dtype=before.dtype, device=before.device)
            trust[len(old.dreams) :] = CHUNK_WEIGHT
            state["context"], carried = carry(
                state["context"], weight, old, translation(before, now, trust), self._ridge
            )
            state.pop("inverse", None)
            if own:
                layers.add(self._reader, carried - weight)
                weight = carried
        state["window"], state["own"] = 0, True
        context, eye = state["context"], torch.eye(len(state["context"]), dtype=rows.dtype, device=rows.device)
        dreams = dream(state["given"], self._ridge, 2 * len(context), group["steps"])
        dreams = dreams.to(inputs.dtype).reshape(-1, *inputs.shape[1:])
        state["gram"], state["answers"] = context - self._ridge * eye, context @ weight.T
        state["dreams"], state["dreamed"] = dreams, self._read(dreams)

    def _step_layer(self, layer: layers.Layer, group: dict[str, Any], scale: float, rate: float, due: bool) -> None:
        """Take in what the layer saw in this step; at the end of its period write."""
        state = self.state[layer.weight]
        context = state["context"]
        gradient = layers.gradient_of(layer, scale)
        if gradient is None:
            gradient = state.get("gradient")
        elif "gradient" in state:
            gradient += state["gradient"]
        parts = state.setdefault("rows", [])
        came = sum(len(rows) for rows, _, _ in self._pending[layer.weight])
        if came:  # the patches of an image are one sample
            state["seen"] = state.get("seen", 0) + min(came, self._answers or came)
        for rows, deltas, weights in self._pending[layer.weight]:
            if context.ndim == 1:
                layers.observe(context, rows, weights)
                continue
            if weights is not None:
                root = weights.to(rows.dtype).sqrt()[:, None]
                rows, deltas = rows * root, deltas / root
            # Kept and taken in together when the period ends, as long as writing through rows is the cheaper way.
            state["count"] = state.get("count", 0) + len(rows)
            if context.ndim == 2 and state["count"] < len(context) / 2:
                parts.append((rows, scale * deltas))
                continue
            for earlier, _ in parts:
                layers.observe(context, earlier)
            parts.clear()
            layers.observe(context, rows)
        if gradient is None:
            return
        if not due:
            state["gradient"] = gradient
            return
        state.pop("gradient", None)
        state["rows"], state["count"] = [], 0
        kept = None
        if parts:
            kept = parts[0] if len(parts) == 1 else tuple(torch.cat(part) for part in zip(*parts, strict=True))
            layers.observe(context, kept[0])
        if self.acting:
            self._write(layer, group, rate, scale, gradient, kept)
        else:
            state.pop("inverse", None)
        retention = group["retention"] * (
            self.manager.retention(layer is self._reader) if self.manager is not None else 1.0
        )
        if retention < 1:
            layers.fade(context, retention, group["ridge"])
            state["seen"] *= retention
            state.pop("inverse", None)
            for name in ("gram", "answers"):
                if name in state:
                    state[name].mul_(retention)
            if "given" in state:
                layers.fade(state["given"], retention, self._ridge)

    def _write(
        self,
        layer: layers.Layer,
        group: dict[str, Any],
        rate: float,
        scale: float,
        gradient: Tensor,
        kept: tuple[Tensor, ...] | None,
    ) -> None:
        """W <- W - rate * G A^-1, through the batch's own rows where that is cheaper and equal."""
        state = self.state[layer.weight]
        context = state["context"]
        if context.ndim == 1:
            layers.add(layer, gradient / context, -rate)
            return
        change = self._change_through_rows(state, gradient, *kept) if kept and "inverse" in state else None
        if change is None:
            factorized = layers.cholesky_factor(context)
            cut = layers.in_blocks(gradient, context)
            change = layers.from_blocks(torch.cholesky_solve(cut.mT, factorized).mT, gradient.shape[1])
            state.pop("inverse", None)
            if kept:
                state["inverse"], state["age"] = torch.cholesky_inverse(factorized), 0
        if (
            "inverse" in state
            and self._pending[layer.weight]
            and (self.measure or (self.manager is not None and (layer is self._reader or layer is self._entry)))
        ):
            pending = self._pending[layer.weight]
            rows, deltas = torch.cat([rows for rows, _, _ in pending]), torch.cat([deltas for _, deltas, _ in pending])
            new = novelty(rows, context, state["inverse"], group["ridge"])
            if layer is self._reader or layer is self._entry:
                # A narrow head cannot tell new inputs from familiar ones, since there is no room in its features.
                self._novelty = new if self._novelty is None else max(self._novelty, new)
            if self.measure:
                blocked = 1 - float(group["ridge"] * change.norm() / gradient.norm().clamp_min(1e-30))
                seen = {"surprise": scale * float(deltas.norm(dim=1).mean()), "novelty": new, "conflict": blocked}
                self.signals.setdefault(group["level"], []).append(seen)
        layers.add(layer, change, -rate)

    def _change_through_rows(
        self, state: dict[str, Any], gradient: Tensor, rows: Tensor, deltas: Tensor
    ) -> Tensor | None:
        """G A^-1 by the rank-N form, and the new A^-1; None where rounding has made the old one useless."""
        try:
            gain, state["inverse"] = low_rank_gain(rows, state["inverse"])
        except RuntimeError:  # torch.linalg.LinAlgError
            return None
        # `.grad` is the truth: clipping may have scaled it, and anything else that touched it takes the slow form.
        outer = deltas.T @ rows
        factor = torch.dot(outer.flatten(), gradient.flatten()) / torch.dot(outer.flatten(), outer.flatten()).clamp_min(
            1e-30
        )
        exact = torch.addcmul(gradient, outer, factor, value=-1).norm() <= EXACT * gradient.norm()
        change = factor * (deltas.T @ gain) if exact else gradient @ state["inverse"]
        state["age"] += 1
        if state["age"] >= REFRESH:
            state.pop("inverse")
        return change

    def bytes_kept(self) -> int:
        """Bytes this optimizer keeps beyond the weights."""
        return sum(
            v.numel() * v.element_size()
            for state in self.state.values()
            for v in state.values()
            if isinstance(v, Tensor)
        )

    def state_dict(self) -> dict[str, Any]:
        own = super().state_dict()
        others = self._others.state_dict() if self._others else None
        return {
            **own,
            "others": others,
            "acting": self.acting,
            "attention": self.attention,
            "loss": self.loss and list(self.loss),
            "manager": self.manager and self.manager.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises SettingError if the state is of another optimizer or model; nothing changes then."""
        own = {group["level"]: len(group["params"]) for group in self.param_groups}
        missing = {"state", "param_groups", "others", "acting", "attention", "loss", "manager"} - set(state_dict)
        if missing:
            raise SettingError(f"This is not the state of a DeepOptimizer: it lacks {', '.join(sorted(missing))}.")
        found = {group.get("level"): len(group["params"]) for group in state_dict["param_groups"]}
        if found != own:
            raise SettingError(
                f"The state is of another model: its levels hold {found} parameters, this model's {own}."
            )
        for parameter, number in zip(self._ordered, self._numbers(state_dict), strict=True):
            mine = tuple(self.state[parameter]["context"].shape) if parameter in self._layers else None
            theirs = state_dict["state"].get(number, {}).get("context")
            if (None if theirs is None else tuple(theirs.shape)) != mine:
                shape = None if theirs is None else tuple(theirs.shape)
                raise SettingError(
                    f"The state is of another model: its memory of {self._names[parameter]} has shape {shape}, not"
                    f" {mine}."
                )
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        for parameter, number in zip(self._ordered, self._numbers(state_dict), strict=True):
            if number in state_dict["state"]:  # exactly, where torch would cast it to the type of the parameter
                move = partial(Tensor.to, device=parameter.device, copy=True)
                self.state[parameter] = tree_map_only(Tensor, move, state_dict["state"][number])
        self.acting, self.attention = state_dict["acting"], state_dict["attention"]
        self.loss = state_dict["loss"] and Loss(*state_dict["loss"])
        self.manager = state_dict["manager"] and Manager.of_state(state_dict["manager"])
        self._forget_batch()
        if self._others is not None:
            self._others.load_state_dict(state_dict["others"])

    @property
    def _ordered(self) -> list[Any]:
        return [p for group in self.param_groups for p in group["params"]]

    @staticmethod
    def _numbers(state_dict: dict[str, Any]) -> list[int]:
        return [number for group in state_dict["param_groups"] for number in group["params"]]
