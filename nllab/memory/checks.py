"""Checks of tensors before anything is computed or changed; every error names the argument, what came and what is expected."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from nllab.errors import SettingError, ShapeError, check_whole

HALF = (torch.float16, torch.bfloat16)


def check_heads(dim: int, heads: int) -> None:
    check_whole("dim", dim)
    check_whole("heads", heads)
    if dim % heads:
        raise SettingError(f"dim is {dim} and heads is {heads}; dim must be a multiple of heads.")


def check_tensor(
    name: str, tensor: object, shape: Sequence[int | str], like: Tensor, others: Collection = HALF, sizes: dict[str, int] | None = None
) -> None:
    """Raise ShapeError unless it is a finite tensor of this shape, on the device of `like`, in its dtype or one of the others.

    A letter in `shape` stands for any size from 1, a small one from 0; `sizes` remembers it, so that tensors checked with the same agree.
    """
    sizes = {} if sizes is None else sizes
    wanted = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
    expected = f"({', '.join(map(str, wanted))})" + "".join(f", {n} 1 or more" for n in wanted if isinstance(n, str) and n.isupper())
    if not isinstance(tensor, Tensor):
        raise ShapeError(f"{name} is a {type(tensor).__name__}; expected a tensor {expected}.")
    found = tuple(tensor.shape)
    if len(found) != len(wanted) or not all(
        size == n or (isinstance(n, str) and size >= n.isupper()) for n, size in zip(wanted, found, strict=True)
    ):
        raise ShapeError(f"{name} has shape {found}; expected {expected}.")
    sizes |= {n: size for n, size in zip(wanted, found, strict=True) if isinstance(n, str)}
    if tensor.dtype != like.dtype and tensor.dtype not in others:
        raise ShapeError(f"{name} is {tensor.dtype}; expected {like.dtype}{' or half precision' if others else ''}. Convert it.")
    if tensor.device != like.device:
        raise ShapeError(f"{name} is on {tensor.device}; expected {like.device}, where the rest is. Move one of them.")
    check_finite(name, tensor)


def check_finite(name: str, tensor: Tensor) -> None:
    """Not done while compiling: what it looks for is known only when the graph runs."""
    # A sum over any NaN or infinity is one itself, and costs less than looking at each number.
    if not torch.compiler.is_compiling() and not tensor.detach().sum().isfinite() and not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise ShapeError(f"{name} holds {bad} values of {tensor.numel()} that are NaN or infinite; expected finite numbers.")
