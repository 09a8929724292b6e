"""Realigning the head to its drifted features: feature-drift compensation from moments alone.

The head's context and weights speak of features as they were when they were seen. Once hidden layers have moved, old
features z mean what z T means now. T is fitted on pseudo-inputs, drawn from the Gaussian with the mean and covariance
of all inputs so far (no sample is kept), whose features are read before and after, and on the inputs that came in
between. Then

    C <- T^T C T,    W <- argmin_W sum over old features of ||W (z T) - W_old z||^2 + ridge ||W||^2

so that old answers stay the same in the new features. What the head observed in between is added as it was observed.

N samples, D inputs of the head with a last 1 for the bias, out outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from nllab.optim import layers
from nllab.optim.context import Context, fade, observe
from nllab.optim.rank_n import cholesky_factor
from nllab.optim.watch import Batch

NEW_WEIGHT = 0.3  # of an input that came in between, beside a pseudo-input's 1
JITTERS = (1e-6, 1e-4, 1e-2)  # of the mean variance
PULL = 1e-3  # towards T = identity, in units of the features' mean square
GROWTH = 1.25  # of the inputs seen, at which pseudo-inputs are drawn anew
DRIFT = 0.05  # movement of features, in units of their spread, at which the head is realigned
FIRST_PACE = 0.3  # before any is measured
FIRST_STEPS = 4  # in a window, where another optimizer writes and no pace is measured yet
WIDEST = 4096  # numbers in an input past which no Gaussian of it is kept, and the head is not realigned


class Moments(NamedTuple):
    """What a head knew when a window opened: the gram matrix of its features and what its weights answer to them.

    gram C (D, D) · answers C W^T + ridge W^T (D, out) · pseudo_inputs (N, features) as the model takes them ·
    features_before (N, D): what the head saw of them.
    """

    gram: Tensor
    answers: Tensor
    pseudo_inputs: Tensor
    features_before: Tensor


def pseudo_inputs(matrix: Tensor, ridge: float, count: int, seed: int) -> Tensor:
    """Inputs drawn from the Gaussian with the mean and covariance that a context of inputs holds, (count, features).

    matrix: ridge * I + sum of x x^T for inputs x scaled by features^-1/2 with a last 1 (features + 1, features + 1).
    """
    width = len(matrix) - 1
    exact = matrix.double()  # the covariance is a small difference of large numbers
    total = exact[-1, -1] - ridge
    mean = exact[-1, :-1] / total
    eye = torch.eye(width, dtype=exact.dtype, device=exact.device)
    covariance = (exact[:-1, :-1] - ridge * eye) / total - torch.outer(mean, mean)
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype).to(exact.device)
    return ((mean + noise @ _root(covariance).T) * width**0.5).to(matrix.dtype)


def _root(covariance: Tensor) -> Tensor:
    """L with L L^T = covariance + the least jitter at which there is one: directions that no input used have no
    variance at all."""
    unit = covariance.diagonal().mean().clamp_min(torch.finfo(covariance.dtype).tiny)
    for jitter in JITTERS:
        root, failed = torch.linalg.cholesky_ex(
            covariance + jitter * unit * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        )
        if not failed:
            return root
    return torch.diag(covariance.diagonal().clamp_min(0).sqrt())


def fit_feature_map(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
    """T with after ~ before T, (D, D): weighted least squares, pulled towards the identity. before, after (N, D);
    weight (N,)."""
    weighted = before * weight[:, None] / len(before)
    gram = weighted.T @ before
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return eye + torch.linalg.solve(gram + PULL * gram.diagonal().mean() * eye, weighted.T @ (after - before))


def realign(matrix: Tensor, weight: Tensor, old: Moments, turn: Tensor) -> tuple[Tensor, Tensor]:
    """The head's context matrix (D, D) and weight (out, D), with everything older than the window seen through
    T = turn (D, D)."""
    turned = matrix - old.gram + turn.T @ old.gram @ turn
    turned = (turned + turned.T) / 2
    answers = matrix @ weight.T - old.answers + turn.T @ old.answers
    return turned, torch.cholesky_solve(answers, cholesky_factor(turned)).T


def features_of(model: nn.Module, head: layers.Layer, inputs: Tensor) -> Tensor:
    """What the head sees of these inputs now, (N, D), with dropout and running statistics at rest."""
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        model(inputs)
    finally:
        handle.remove()
        for module in training:
            module.training = True
    return layers.rows_of(head, caught[0])


class Came(NamedTuple):
    """A step of a window: inputs of the model (N, ...), and what the head saw of them (N, D)."""

    inputs: Tensor
    rows: Tensor


@dataclass
class Realignment:
    """The window between two realignments of a head.

    inputs: ridge * I + sum of x x^T over all inputs of the model (features + 1, features + 1); those of the window are
        taken in when they are needed. · absorbed: how many of its steps have been.
    steps: in this window. · exclusive: whether nobody else has written the head since it opened; else its weights are
        no least squares that could be realigned. · moments: of its opening. · came: its steps since then.
    drawn_at: inputs seen when pseudo-inputs were last drawn. · travelled: how far hidden layers have moved in this
        window; where another optimizer moves them, its steps. · pace: how far features moved for each unit of that,
        when last measured. · watched: whether another optimizer moved them in the last step. · mixed: whether both have
        in this window, so that it measures no pace.
    """

    inputs: Tensor
    absorbed: int = 0
    steps: int = 0
    exclusive: bool = True
    moments: Moments | None = None
    came: list[Came] = field(default_factory=list)
    drawn_at: float = 0.0
    travelled: float = 0.0
    pace: float = FIRST_PACE
    watched: bool = False
    mixed: bool = False

    @classmethod
    def begin(cls, inputs: Tensor, ridge: float, dtype: torch.dtype) -> Self:
        """Before any input like these (N, ...)."""
        width = inputs[0].numel() + 1
        return cls(ridge * torch.eye(width, dtype=dtype, device=inputs.device))

    def discard(self) -> None:
        """Give the window up: the next one opens anew."""
        self._take_in()
        self.steps = self.absorbed = 0
        self.moments, self.came = None, []

    def _take_in(self) -> None:
        """Absorb what has come since the last time: one product for many steps."""
        if fresh := [step.inputs for step in self.came[self.absorbed :]]:
            self.absorb(torch.cat(fresh))
            self.absorbed = len(self.came)

    def absorb(self, inputs: Tensor) -> None:
        """Take in inputs (N, ...)."""
        flat = inputs.flatten(1)
        scaled = flat.to(self.inputs.dtype) * flat.shape[1] ** -0.5
        observe(self.inputs, torch.cat([scaled, scaled.new_ones(len(scaled), 1)], 1))

    def collect(self, step: Came, written: bool) -> None:
        """Count a step of the window. written: whether this optimizer has written the head in it."""
        if self.moments is not None and self.moments.pseudo_inputs.dtype != step.inputs.dtype:
            self.discard()  # the model has been cast
        self.steps += 1
        self.exclusive &= written
        if self.moments is None:
            self.absorb(step.inputs)
        else:
            self.came.append(step)

    def close(
        self,
        head: layers.Matrix,
        context: Context,
        features: Callable[[Tensor], Tensor],
        like: Tensor,
        *,
        ridge: float,
    ) -> None:
        """Realign context and, where nobody else wrote them, weights; open the next window.

        features: what the head sees of inputs now. · like: an input batch, for the shape of pseudo-inputs.
        """
        weight, old, now = head.tensor(), self.moments, None
        if old is not None and self.came:
            inputs, rows = (torch.cat(parts) for parts in zip(*self.came, strict=True))
            now, after = features(torch.cat([old.pseudo_inputs, inputs])).split([len(old.pseudo_inputs), len(inputs)])
            trust = rows.new_ones(len(now) + len(rows))
            trust[len(now) :] = NEW_WEIGHT
            turn = fit_feature_map(torch.cat([old.features_before, rows]), torch.cat([now, after]), trust)
            context.matrix, turned = realign(context.matrix, weight, old, turn)
            context.accounts = {name: turn.T @ held @ turn for name, held in context.accounts.items()}
            context.forget_inverse()
            if self.exclusive:
                head.add_(turned - weight)
                weight = turned
            self._pace(old.features_before, now)
        self.discard()
        self.exclusive, self.travelled, self.mixed = True, 0.0, False
        matrix, count = context.matrix, float(self.inputs[-1, -1]) - ridge
        drawn = None if old is None else old.pseudo_inputs
        if drawn is None or not self.drawn_at / GROWTH <= count <= self.drawn_at * GROWTH:
            self.drawn_at, now = count, None
            drawn = (
                pseudo_inputs(self.inputs, ridge, 2 * len(matrix), int(count))
                .to(like.dtype)
                .reshape(-1, *like.shape[1:])
            )
        eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        answers = matrix @ weight.T
        self.moments = Moments(matrix - ridge * eye, answers, drawn, features(drawn) if now is None else now)

    def travel(self, moved: float | None) -> None:
        """Hidden layers have moved so far, or as far as another optimizer moves them in a step (None)."""
        if self.watched != (moved is None):
            self.watched, self.travelled, self.mixed = moved is None, 0.0, self.steps > 1
            self.pace = DRIFT / FIRST_STEPS if self.watched else FIRST_PACE
        self.travelled += 1.0 if moved is None else moved

    def _pace(self, before: Tensor, now: Tensor) -> None:
        """Measure how far features (N, D) have moved, for each unit of what hidden layers have."""
        spread = (before - before.mean(0)).square().sum()
        moved = float(((now - before).square().sum() / spread.clamp_min(1e-30)).sqrt())
        if self.travelled > 0 and not self.mixed:
            self.pace = moved / self.travelled

    def far(self) -> bool:
        """Whether features have moved too far for the head's memory of them."""
        return self.moments is None or self.pace * self.travelled >= DRIFT

    def fade(self, retention: float, ridge: float) -> None:
        """The head's context has faded: so does what is known of its past."""
        self._take_in()
        fade(self.inputs, retention, ridge)
        if self.moments is not None:
            self.moments.gram.mul_(retention)
            self.moments.answers.mul_(retention)

    def tensors(self) -> Sequence[Tensor]:
        """All tensors that it holds."""
        return [self.inputs, *(t for step in self.came for t in step), *(self.moments or ())]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a number type; the window opens anew."""
        self.discard()
        self.inputs = self.inputs.to(device, dtype)

    def state(self) -> dict[str, Any]:
        """As plain values, for `state_dict`."""
        came = [step._asdict() for step in self.came]
        return {**vars(self), "moments": self.moments and self.moments._asdict(), "came": came}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        came = [Came(**step) for step in state["came"]]
        return cls(**{**state, "moments": state["moments"] and Moments(**state["moments"]), "came": came})


class Window(NamedTuple):
    """every: most steps between realignments. · step, period: of the head's level. · written: whether its weights are.
    moved: how far hidden layers move their outputs in this step; None where another optimizer moves them."""

    every: int
    step: int
    period: int
    ridge: float
    written: bool
    moved: float | None


def follow(model: nn.Module, head: layers.Layer, state: dict[str, Any], batch: Batch, window: Window) -> None:
    """Take in a step; at the end of the window realign the head's context, and while acting its weights.

    state: of the head's weight. Nothing happens where the model did not take one tensor of floats, a row a sample.
    """
    passes, context = batch.of(head.weight), state.get("context")
    if not passes or context is None or sum(len(seen.rows) for seen in passes) != sum(map(len, batch.inputs)):
        return
    inputs, rows = torch.cat(batch.inputs), torch.cat([seen.rows[:] for seen in passes])
    if inputs[0].numel() > WIDEST or context.base.ndim != 2:
        return
    if "realignment" not in state:
        state["realignment"] = Realignment.begin(inputs, window.ridge, context.matrix.dtype)
    kept: Realignment = state["realignment"]
    kept.collect(Came(inputs, rows), window.written)
    kept.travel(window.moved)
    over = kept.steps >= window.every or kept.far() or (window.written and not kept.exclusive)
    if over and window.step % window.period == 0:
        features = partial(features_of, model, head)
        kept.close(layers.Matrix.of(head), context, features, inputs, ridge=window.ridge)
