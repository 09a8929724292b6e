"""The deep optimizer: an optimizer whose memory is the context of every layer, at every level's own speed.

For a linear layer y = W x (the input carries a constant 1 for the bias) the retention term of generalized gradient descent
(Def. 5) is measured in the metric of all inputs that the layer has seen: C <- retention * C + X^T X, A = ridge * I + C, and

    W+ = argmin_W <W - W_t, G> / rate + 1/2 tr((W - W_t) A (W - W_t)^T) = W_t - rate * G A^-1

with G the gradient of the *summed* loss over the level's period. Directions that old inputs used cost much to change, directions
that nothing has used yet are free: that is how new tasks find room beside old ones. At rate 1, retention 1 and squared error
it is recursive least squares; with A = ridge * I it is gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from nllab.errors import DivergedError, SettingError
from nllab.levels import Level, Schedule
from nllab.optim.leveled import Leveled, members_of
from nllab.optim.reader import CHUNK_WEIGHT, Moments, carry, dream, translation


def context_write(weight: Tensor, gradient: Tensor, context: Tensor, rate: float) -> Tensor:
    """W - rate * G A^-1, the exact minimizer of the objective in the module's docstring: the slow, obvious form.

    Shapes: weight, gradient (out, in) · context (in, in), symmetric positive definite · returns (out, in).
    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the retention term is ours; the paper leaves it open.
    """
    return weight - rate * torch.cholesky_solve(gradient.T, torch.linalg.cholesky(context)).T


def low_rank_gain(rows: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """X (A + X^T X)^-1 and (A + X^T X)^-1 from A^-1 at the cost of its N new rows (Woodbury): the fast form of `context_write`.

    Shapes: rows (N, in) · inverse (in, in) · returns (N, in), (in, in).
    """
    projected = rows @ inverse
    inner = projected @ rows.T
    inner.diagonal().add_(1)
    gain = torch.cholesky_solve(projected, torch.linalg.cholesky(inner))
    return gain, inverse - projected.T @ gain


EXACT = 1e-5  # relative; a gradient this close to its own outer products is taken to be them, in float32
REFRESH = 200  # writes after which A^-1 is computed anew from A, so that rounding errors of the rank-N form cannot add up


def _with_one(rows: Tensor, fan_in: int, bias: bool) -> Tensor:
    """A layer's inputs as the memory keeps them: scaled to unit mean square, with a constant 1 for the bias. (N, in [+ 1])"""
    rows = rows.reshape(-1, fan_in).to(torch.promote_types(rows.dtype, torch.float32)) * fan_in**-0.5
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if bias else rows


def as_memory(module: nn.Linear) -> Tensor:
    """A layer's weight and bias in the coordinates of its memory, (out, in [+ 1])."""
    weight = module.weight.detach() * module.in_features**0.5
    return torch.cat([weight, module.bias.detach()[:, None]], 1) if module.bias is not None else weight


def _add(module: nn.Linear, change: Tensor) -> None:
    """Add a change in the memory's coordinates, (out, in [+ 1]), to a layer's weight and bias."""
    module.weight.add_(change[:, : module.in_features] * module.in_features**-0.5)
    if module.bias is not None:
        module.bias.add_(change[:, -1])


def _is_same(given: Any, entered: Tensor | None, features: int) -> bool:
    """Whether the first layer reads just what the model was given, one row a sample (flattened or not)."""
    if entered is None or not isinstance(given, Tensor) or given.shape[1:].numel() != features:
        return False
    return given.data_ptr() == entered.data_ptr() and given.numel() == entered.numel()


class DeepOptimizer(torch.optim.Optimizer):
    """Gradient descent in the metric of everything that each layer has seen; drop-in for a plain training loop.

        optimizer = DeepOptimizer(model)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    It observes always, and acts while `acting` is true: with `acting` off, step() writes no weight, but its memory goes on
    watching, so that switched on in mid-run it protects what came before it.

    model: its `nn.Linear` layers get a context memory each; all other parameters are trained by AdamW.
    levels: groups with periods, rates and retentions of their own; None makes one level of period 1.
    rate: step size in units of the exact minimizer (1 = recursive least squares for squared error), at least 0.
    retention: how much of the memory survives a write, in [0, 1]; 1 keeps everything.
    ridge: resistance of directions never seen, > 0, in units of one input of unit mean square.
    carry_every: steps between two times that the memory of the last linear layer, the reader, is carried over into what its features
        mean now (see reader.py); 0 never. Needs a model whose first linear layer, with a bias, reads the model's own input.
    loss_reduction: "mean" or "sum" over the samples of a batch. The memory needs the summed loss; for a mean it multiplies by the
        number of rows of the model's output (its leading dimensions).
    learning_rate: of AdamW, for the parameters outside linear layers.

    Source: generalized gradient descent, Def. 5 (Eq. 59-60), Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: the metric, which the paper leaves open. Kin: orthogonal weight modification (the same projector, once per
    task or batch), decoupled extended Kalman filters, K-FAC / natural-gradient continual learning (both Kronecker factors), analytic
    continual learning (recursive least squares on frozen features). Here: every level, every step, while all levels learn.
    Raises: SettingError for settings out of range or a model without linear layers; DivergedError for a gradient that is not
    finite: then neither weights nor memory change.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        levels: Sequence[Level] | None = None,
        rate: float = 1.0,
        retention: float = 1.0,
        ridge: float = 0.1,
        carry_every: int = 16,
        loss_reduction: str = "mean",
        learning_rate: float = 1e-3,
    ) -> None:
        if not 0 <= rate < float("inf"):
            raise SettingError(f"rate is {rate!r}; it must be a finite number, 0 or more.")
        if not 0 <= retention <= 1:
            raise SettingError(f"retention is {retention!r}; it lies in [0, 1], and 1 keeps everything.")
        if not 0 < ridge < float("inf"):
            raise SettingError(f"ridge is {ridge!r}; it must be a finite number above 0.")
        if isinstance(carry_every, bool) or not isinstance(carry_every, int) or carry_every < 0:
            raise SettingError(f"carry_every is {carry_every!r}; it must be a whole number of steps, 0 for never.")
        if loss_reduction not in ("mean", "sum"):
            raise SettingError(f"loss_reduction is {loss_reduction!r}; it must be 'mean' or 'sum', as the loss itself is reduced.")
        levels = tuple(levels) if levels is not None else (Level("all", "*"),)
        modules = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
        if not modules:
            raise SettingError("The model has no nn.Linear layer with trainable weights, so there is nothing for a context memory to hold.")
        self.acting = True
        self._reduction, self._ridge, self._carry_every = loss_reduction, ridge, carry_every
        self._names = {p: name for name, p in model.named_parameters()}
        self._layers: dict[Tensor, nn.Linear] = {m.weight: m for m in modules}
        self._rows: dict[Tensor, list[tuple[Tensor, Tensor]]] = {weight: [] for weight in self._layers}
        self._samples: list[int] = []
        self._model, self._entry, self._reader = model, modules[0], modules[-1]
        self._entered: Tensor | None = None
        self._inputs: list[Tensor] = []

        members = members_of(model, levels)
        in_layers = {id(p) for m in modules for p in (m.weight, m.bias)}
        groups: list[dict[str, Any]] = [
            {
                "params": members[level.name],
                "level": level.name,
                "period": level.period,
                "rate": rate if level.rate is None else level.rate,
                "retention": retention if level.retention is None else level.retention,
                "steps": 0,
            }
            for level in levels
        ]
        super().__init__(groups, {})
        others = {level: [p for p in parameters if id(p) not in in_layers] for level, parameters in members.items()}
        self._others = Leveled(others, Schedule.of(levels), lambda p: torch.optim.AdamW(p, learning_rate)) if any(others.values()) else None
        for module in modules:
            width = module.in_features + (module.bias is not None)
            dtype = torch.promote_types(module.weight.dtype, torch.float32)
            self.state[module.weight]["context"] = ridge * torch.eye(width, dtype=dtype, device=module.weight.device)
            module.register_forward_hook(self._watch_layer)
        model.register_forward_hook(self._watch_output)

    def _watch_layer(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear) and output.requires_grad and torch.is_grad_enabled():
            if module is self._entry:
                self._entered = inputs[0]
            rows = _with_one(inputs[0].detach(), module.in_features, module.bias is not None)
            # Kept when the gradient arrives, so that a forward pass that no loss uses leaves no trace.
            output.register_hook(lambda g: self._rows[module.weight].append((rows, g.detach().reshape(-1, g.shape[-1]).to(rows.dtype))))

    def _watch_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and torch.is_grad_enabled():
            count = output.shape[:-1].numel()
            output.register_hook(lambda _: self._samples.append(count))
            if self._carries and len(inputs) == 1 and _is_same(inputs[0], self._entered, self._entry.in_features):
                output.register_hook(lambda _: self._inputs.append(inputs[0].detach()))

    def _gradient(self, module: nn.Linear, scale: float) -> Tensor | None:
        """Gradient of the summed loss in the memory's own coordinates, (out, in [+ 1]); None if nothing arrived."""
        if module.weight.grad is None:
            return None
        parts = [module.weight.grad * module.in_features**-0.5]
        if module.bias is not None:
            parts.append((torch.zeros_like(module.bias) if module.bias.grad is None else module.bias.grad)[:, None])
        return scale * torch.cat(parts, 1).to(self.state[module.weight]["context"].dtype)

    def _refuse_what_is_not_finite(self) -> None:
        seen = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if torch.isfinite(get_total_norm([p.grad for p in seen])):
            return
        self._forget_batch()
        bad = next((self._names[p] for p in seen if not torch.isfinite(p.grad).all()), "the whole model")
        raise DivergedError(
            f"The gradient of {bad} is not finite; weights and memory stay as they were. Lower the rate, or look for NaN in the data."
        )

    def _forget_batch(self) -> None:
        self._samples.clear()
        self._inputs.clear()
        self._entered = None
        for rows in self._rows.values():
            rows.clear()

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
        scale = sum(self._samples) / len(self._samples) if self._reduction == "mean" and self._samples else 1.0
        seen = [rows for rows, _ in self._rows[self._reader.weight]] if self._carries else []
        for group in self.param_groups:
            group["steps"] += 1
            due = group["steps"] % group["period"] == 0
            for p in group["params"]:
                if p in self._layers:
                    self._step_layer(self._layers[p], group, scale, due)
        if self._others is not None:
            self._others.schedule = Schedule({group["level"]: group["period"] for group in self.param_groups})
            self._others.step(write=self.acting)
        if seen and self._inputs and sum(map(len, seen)) == sum(map(len, self._inputs)):
            self._carry_reader(torch.cat(self._inputs), torch.cat(seen))
        self._forget_batch()
        return loss

    @property
    def _carries(self) -> bool:
        return bool(self._carry_every) and self._entry is not self._reader and self._entry.bias is not None

    def _read(self, inputs: Tensor) -> Tensor:
        """What the reader sees of these inputs now, (N, D)."""
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
        return _with_one(caught[0], self._reader.in_features, self._reader.bias is not None)

    def _carry_reader(self, inputs: Tensor, rows: Tensor) -> None:
        """Collect a window of steps; at its end carry the reader's memory, and while acting its weights, into the features of now."""
        state = self.state[self._reader.weight]
        state["window"] = state.get("window", 0) + 1
        if "gram" in state:
            state["window_inputs"] = torch.cat([state["window_inputs"], inputs]) if "window_inputs" in state else inputs
            state["window_rows"] = torch.cat([state["window_rows"], rows]) if "window_rows" in state else rows
        group = next(g for g in self.param_groups if any(p is self._reader.weight for p in g["params"]))
        if state["window"] < self._carry_every or group["steps"] % group["period"]:
            return
        weight = as_memory(self._reader)
        if "gram" in state:
            old = Moments(*(state[name] for name in Moments._fields))
            came = state.pop("window_inputs")
            now = self._read(torch.cat([old.dreams, came]))
            before = torch.cat([old.dreamed, state.pop("window_rows")])
            trust = torch.ones(len(before), dtype=before.dtype, device=before.device)
            trust[len(old.dreams) :] = CHUNK_WEIGHT
            state["context"], carried = carry(state["context"], weight, old, translation(before, now, trust), self._ridge)
            state.pop("inverse", None)
            if self.acting:
                _add(self._reader, carried - weight)
                weight = carried
        state["window"] = 0
        context, eye = state["context"], torch.eye(len(state["context"]), dtype=rows.dtype, device=rows.device)
        dreams = dream(self.state[self._entry.weight]["context"], self._ridge, 2 * len(context), group["steps"])
        dreams = dreams.to(inputs.dtype).reshape(-1, *inputs.shape[1:])
        state["gram"], state["answers"] = context - self._ridge * eye, context @ weight.T
        state["dreams"], state["dreamed"] = dreams, self._read(dreams)

    def _step_layer(self, module: nn.Linear, group: dict[str, Any], scale: float, due: bool) -> None:
        state = self.state[module.weight]
        context = state["context"]
        gradient = self._gradient(module, scale)
        if gradient is not None and "gradient" in state:
            gradient += state["gradient"]
        elif gradient is None:
            gradient = state.get("gradient")
        for rows, deltas in self._rows[module.weight]:
            context.addmm_(rows.T, rows)
            if "rows" in state:
                rows, deltas = torch.cat([state["rows"], rows]), torch.cat([state["deltas"], scale * deltas])
            else:
                deltas = scale * deltas
            state["rows"], state["deltas"] = rows, deltas
        if gradient is None:
            return
        if not due:
            state["gradient"] = gradient
            return
        rows, deltas = state.pop("rows", None), state.pop("deltas", None)
        state.pop("gradient", None)
        if self.acting:
            self._write(module, state, group["rate"], gradient, rows, deltas)
        else:
            state.pop("inverse", None)
        if group["retention"] < 1:
            # The ridge stays: only what was observed fades, so the memory cannot wind up in directions that fall silent.
            context.mul_(group["retention"]).diagonal().add_((1 - group["retention"]) * self._ridge)
            state.pop("inverse", None)
            for name in ("gram", "answers"):
                if name in state:
                    state[name].mul_(group["retention"])

    def _write(
        self, module: nn.Linear, state: dict[str, Any], rate: float, gradient: Tensor, rows: Tensor | None, deltas: Tensor | None
    ) -> None:
        """W <- W - rate * G A^-1, through the batch's own rows where that is cheaper and equal."""
        if rows is not None and deltas is not None and "inverse" in state and len(rows) < len(state["context"]) / 2:
            gain, state["inverse"] = low_rank_gain(rows, state["inverse"])
            # `.grad` is the truth: clipping may have scaled it, and anything else that touched it takes the slow form.
            outer = deltas.T @ rows
            factor = (outer * gradient).sum() / outer.square().sum().clamp_min(1e-30)
            if (gradient - factor * outer).norm() <= EXACT * gradient.norm():
                change = (-rate * factor) * (deltas.T @ gain)
            else:
                change = -rate * gradient @ state["inverse"]
            state["age"] += 1
            if state["age"] >= REFRESH:
                state.pop("inverse")
        else:
            factorized = torch.linalg.cholesky(state["context"])
            change = -rate * torch.cholesky_solve(gradient.T, factorized).T
            state["inverse"], state["age"] = torch.cholesky_inverse(factorized), 0
        _add(module, change)

    def bytes_kept(self) -> int:
        """Bytes this optimizer keeps beyond the weights."""
        return sum(v.numel() * v.element_size() for state in self.state.values() for v in state.values() if isinstance(v, Tensor))

    def state_dict(self) -> dict[str, Any]:
        own = super().state_dict()
        return {**own, "others": self._others.state_dict() if self._others else None, "acting": self.acting}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in ("others", "acting")})
        self.acting = state_dict["acting"]
        if self._others is not None:
            self._others.load_state_dict(state_dict["others"])
