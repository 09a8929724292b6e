"""One write, opened: what the error asked of a level, what the memory of earlier inputs held back, and what passed.

Everything is read off the optimizer's context and the weights, on request and after the write; nothing is changed and
no randomness is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from nllab.errors import DivergedError, check_choice
from nllab.events import Event, jsonable
from nllab.optim.layers import Matrix, rows_of, supported_layers
from nllab.optim.report import Written, held_by
from nllab.portrait import sample_of

if TYPE_CHECKING:
    from nllab.streams.stream import Part
    from nllab.trainer import Trainer

SMALL = 1e-12


class Bend(NamedTuple):
    """A gradient g and what becomes of it, in the plane of g and g A^-1.

    axes (D, 2): orthonormal, the principal directions of A^-1 in this plane, the one that old inputs use most first.
    gradient, passed (2,): g, and g A^-1 in units of the freer axis, of which all passes. · ellipse: half-axes of what
        was seen, the longer 1: a direction passes by the square of the short one over its own.
    """

    axes: Tensor
    gradient: Tensor
    passed: Tensor
    ellipse: tuple[float, float]


def bend(gradient: Tensor, solve: Callable[[Tensor], Tensor]) -> Bend:
    """Shapes: gradient g (D,), not 0 · solve: rows (N, D) -> rows A^-1 (N, D) for a symmetric positive A."""
    bent = solve(gradient[None])[0]
    first = gradient / gradient.norm()
    rest = bent - first * (first @ bent)
    if rest.norm() <= 1e-5 * bent.norm():  # g is a principal direction itself: any direction across it will do
        rest = torch.zeros_like(first)
        rest[int(first.abs().argmin())] = 1.0
        rest = rest - first * (first @ rest)
    plane = torch.stack([first, rest / rest.norm()], 1)
    inner = plane.T @ solve(plane.T.contiguous()).T
    resistance, turn = torch.linalg.eigh((inner + inner.T) / 2)  # ascending: the direction that old inputs use first
    axes = plane @ turn
    axes = axes * torch.where(gradient @ axes < 0, -1.0, 1.0)
    ratio = float((resistance[0] / resistance[1]).clamp(0, 1))
    return Bend(axes, gradient @ axes, (bent @ axes) / resistance[1], (1.0, ratio**0.5))


def spill(change: Tensor, elsewhere: Tensor, here: Tensor) -> float:
    """How far a change of a layer moves its outputs on other inputs, by how far it moves them on the inputs at hand,
    both root mean square.

    Shapes: change (out, D) · elsewhere (N, D), here (M, D).
    """
    moved = (change @ here.T).square().sum(0).mean()
    return float(((change @ elsewhere.T).square().sum(0).mean() / moved.clamp_min(SMALL**2)).sqrt())


def open_write(trainer: Trainer, level: str) -> tuple[list[Event], dict[str, Any] | None]:
    """Take a step; (its events, the write of the first layer of this level as plain values that JSON can hold). None
    where the level does not write in this step, or through no layer whose inputs a context holds and can tell.

    Raises SettingError for an unknown level.
    """
    names = [one.name for one in trainer.levels]
    check_choice("level", level, names)
    before: dict[Any, Tensor] = {p: p.detach().clone() for p in trainer.movements[level].parameters}
    taken = trainer.steps
    events = trainer.step()
    write = next((one for one in trainer.deep.report.written if one.level == level), None)
    if write is None or trainer.steps == taken:
        return events, None
    layer = next(one for one in supported_layers(trainer.model) if one.weight is write.layer.weight)
    old = Matrix(before[layer.weight], None if layer.bias is None else before[layer.bias])
    inputs = _inputs_of(trainer.model, layer, trainer.snapshots.samples)
    try:
        parts = _dissect(write, old.tensor() - write.layer.tensor(), inputs)
    except DivergedError:
        return events, None
    return events, jsonable(parts | _circumstances(trainer, level))


def _dissect(write: Written, change: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """change: what was taken off the weights, (out, D). inputs: of the layer on samples of each task, (N, D)."""
    gradient, rows = write.gradient, write.rows
    size = float(gradient.norm())
    # To the coordinates of the parameters themselves, in which gradient descent goes straight along its gradient.
    unit = gradient.new_full((gradient.shape[1],), write.layer.unit)
    unit[write.layer.fan_in :] = 1.0
    parts: dict[str, Any] = {
        "samples": len(rows),
        "held_by": held_by(gradient, write.step, write.ridge, write.accounts) if size > SMALL else {},
        "spill": {
            task: {
                "gradient": spill(gradient / unit**2, given, rows),
                "bent": spill(write.step, given, rows),
                "written": spill(change, given, rows) if float(change.norm()) > 0 else 0.0,
            }
            for task, given in inputs.items()
        },
    }
    if size <= SMALL:
        return parts | {"plane": None, "pictures": None}
    left, sizes, _ = torch.linalg.svd(gradient / unit, full_matrices=False)
    main = left[:, 0] @ (gradient / unit)  # of all that the gradient asks for, what it asks for most
    picture, taken = bend(main, lambda some: write.solve(some * unit) * unit), left[:, 0] @ (change * unit)
    written, length = taken @ picture.axes, float(taken.norm())
    scale = 1 / float(main.norm())
    plane = {
        "gradient": (scale * picture.gradient).tolist(),
        "passed": (scale * picture.passed).tolist(),
        "ellipse": picture.ellipse,
        "written": (written / length).tolist() if length > 0 else None,  # its direction alone: rates are not comparable
        "outside": max(0.0, 1 - float(written.norm()) ** 2 / length**2) ** 0.5 if length > 0 else 0.0,
        "share": float(sizes[0] ** 2 / sizes.square().sum()),
    }
    return parts | {
        "plane": plane,
        "pictures": {"gradient": _picture(main, write), "written": _picture(taken, write) if length > 0 else None},
    }


def _picture(direction: Tensor, write: Written) -> list[int]:
    """Input by input, without the bias, in units of the largest, from -127 to 127."""
    inputs = direction[: write.layer.fan_in]
    return (inputs / inputs.abs().max().clamp_min(SMALL) * 127).round().int().tolist()


@torch.no_grad()
def _inputs_of(model: nn.Module, layer: Any, samples: Mapping[str, Part]) -> dict[str, Tensor]:
    """Task -> what its samples are to this layer, (N, D)."""
    inputs: dict[str, list[Tensor]] = {task: [] for task in samples}
    was_training = model.training
    model.eval()
    try:
        for task, part in samples.items():
            hook = layer.register_forward_hook(lambda _, given, __, task=task: inputs[task].append(given[0]))
            try:
                model(part.inputs)
            finally:
                hook.remove()
    finally:
        model.train(was_training)
    return {task: torch.cat([rows_of(layer, one) for one in given]) for task, given in inputs.items() if given}


@torch.no_grad()
def _circumstances(trainer: Trainer, level: str) -> dict[str, Any]:
    """What stands around a write: the sample, its scores before and after, who wrote."""
    facts = {
        "step": trainer.steps,
        "level": level,
        "acting": trainer.acting,
        "task": trainer.task_name,
        "earlier": [name for name in trainer.learned_tasks if name != trainer.task_name],
        "period": trainer.base.schedule.periods[level],
        "seen": None,
        "scores_after": None,
    }
    if trainer.seen is not None and trainer.snapshots.portraitist is not None:
        part, scores = trainer.seen
        was_training = trainer.model.training
        trainer.model.eval()
        after = trainer.model(part.inputs)[0]
        trainer.model.train(was_training)
        facts |= {"seen": sample_of(part, scores), "scores_after": [float(f"{one:.3g}") for one in after.tolist()]}
    return facts
