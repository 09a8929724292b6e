"""Weights that a module uses inside itself, where no hook sees their outputs: projections of attention, recurrences.

Their inputs are seen from the outside, and their gradient is in `.grad`; so they get a context like any other matrix.
What attention answers with is projected by its own `out_proj`, whose inputs nobody sees, and so are those of the inner
layers of a deep recurrence: they are held by their diagonal.

N rows, D inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nllab.optim.layers import Matrix

if TYPE_CHECKING:
    from nllab.optim.watch import Pass


def matrices_of(module: nn.Module) -> list[Matrix]:
    """The weights of an attention or a recurrence whose inputs can be seen."""
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is not None:
            return [Matrix(module.in_proj_weight, module.in_proj_bias)]
        return [Matrix(w) for w in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)]
    if not isinstance(module, nn.RNNBase):
        return []
    names = ["ih_l0", *(["ih_l0_reverse"] if module.bidirectional else []), *(["hh_l0"] if _open(module) else [])]
    return [Matrix(getattr(module, f"weight_{name}"), getattr(module, f"bias_{name}", None)) for name in names]


def _open(recurrence: nn.RNNBase) -> bool:
    """Whether all of its states are seen from the outside."""
    return recurrence.num_layers == 1 and not recurrence.bidirectional and not recurrence.proj_size


def seen_by(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Iterator[tuple[Matrix, Tensor]]:
    """The matrices of a module that has just run, with their inputs (N, D) as contexts keep them; nothing where they
    did not come as plain tensors in their places."""
    matrices = matrices_of(module)
    if not matrices or not inputs or not isinstance(inputs[0], Tensor):
        return
    if isinstance(module, nn.MultiheadAttention):
        if len(inputs) < 3:
            return
        query, key, value = inputs[:3]
        if len(matrices) == 3:
            yield from ((m, _rows(m, given)) for m, given in zip(matrices, (query, key, value), strict=True))
            return
        distinct = {(given.data_ptr(), given.shape, given.stride()): given for given in (query, key, value)}
        yield matrices[0], torch.cat([_rows(matrices[0], given) for given in distinct.values()])
        return
    assert isinstance(module, nn.RNNBase)
    for matrix in matrices:
        if matrix.weight is module.weight_hh_l0:
            yield matrix, _rows(matrix, _states(module, inputs, output[0]))
        else:
            yield matrix, _rows(matrix, inputs[0])


def _states(module: nn.RNNBase, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """What a recurrence read from itself: its states but the last."""
    time = 1 if module.batch_first and output.ndim == 3 else 0
    first = output.narrow(time, 0, 1)
    given = inputs[1] if len(inputs) > 1 else None
    given = given[0] if isinstance(given, tuple) else given
    begin = torch.zeros_like(first) if given is None else given.reshape(first.shape)
    return torch.cat([begin, output.narrow(time, 0, output.shape[time] - 1)], time)


def _rows(matrix: Matrix, given: Tensor) -> Tensor:
    rows = given.detach().reshape(-1, given.shape[-1]).to(matrix.dtype) * matrix.unit
    return rows if matrix.bias is None else torch.cat([rows, rows.new_ones(len(rows), 1)], 1)


def signal(gradient: Tensor, rows: Tensor) -> float:
    """About the sum of ||δ||² over error signals that were not seen: ||G||² over the mean of ||x||². That is what it is
    on average where they are independent, and more where they agree. gradient G (out, D) · rows (N, D)."""
    return float(gradient.square().sum() / rows.square().sum(1).mean().clamp_min(1e-30))


def signals(gradient: Tensor, passes: Sequence[Pass]) -> Tensor:
    """The sum of δ_i² over the error signals at each output i of a layer, (out,); up to a common factor where they were
    not seen (`signal`). gradient G (out, D)."""
    if passes[0].hidden:
        return gradient.square().sum(1)
    return torch.stack([seen.deltas.square().sum(0) for seen in passes]).sum(0)
