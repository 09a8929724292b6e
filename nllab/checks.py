"""Checks of tensors before anything is computed or changed; every error names the argument, what came and what is
expected."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nllab.errors import SettingError, ShapeError, check_whole, check_wholes

HALF = (torch.float16, torch.bfloat16)


def readable(tensor: Tensor) -> bool:
    """Whether its values can be looked at: on the meta device there are none, and while compiling none yet."""
    return not torch.compiler.is_compiling() and not tensor.is_meta


def check_heads(dim: int, heads: int) -> None:
    """Raise SettingError unless the width can be cut into so many heads."""
    check_wholes(dim=dim, heads=heads)
    if dim % heads:
        raise SettingError(f"dim is {dim} and heads is {heads}; dim must be a multiple of heads.")


def check_tensor(
    name: str,
    tensor: object,
    shape: Sequence[int | str],
    like: Tensor,
    others: Collection = HALF,
    sizes: dict[str, int] | None = None,
) -> None:
    """Raise ShapeError unless it is a finite tensor of this shape, on the device of `like`, in its dtype or one of the
    others.

    A letter in `shape` stands for any size from 1, a small one from 0; `sizes` remembers it, so that tensors checked
    with the same agree.
    """
    sizes = {} if sizes is None else sizes
    wanted = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
    expected = f"({', '.join(map(str, wanted))})" + "".join(
        f", {n} 1 or more" for n in wanted if isinstance(n, str) and n.isupper()
    )
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        kind = tensor.layout if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
        raise ShapeError(f"{name} is {kind}; expected a tensor {expected}.")
    found = tuple(tensor.shape)
    if len(found) != len(wanted) or not all(
        size == n or (isinstance(n, str) and size >= int(n.isupper())) for n, size in zip(wanted, found, strict=True)
    ):
        raise ShapeError(f"{name} has shape {found}; expected {expected}.")
    sizes |= {n: size for n, size in zip(wanted, found, strict=True) if isinstance(n, str)}
    if tensor.dtype != like.dtype and tensor.dtype not in others:
        raise ShapeError(
            f"{name} is {tensor.dtype}; expected {like.dtype}{' or half precision' if others else ''}. Convert it."
        )
    if tensor.device != like.device:
        raise ShapeError(f"{name} is on {tensor.device}; expected {like.device}, where the rest is. Move one of them.")
    # A sum over any NaN or infinity is one itself, and costs less than looking at each number.
    if readable(tensor) and not tensor.detach().sum().isfinite() and not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise ShapeError(
            f"{name} holds {bad} values of {tensor.numel()} that are NaN or infinite; expected finite numbers."
        )


def check_tokens(
    name: str, tokens: object, vocabulary: int, like: Tensor, length: str = "T", sizes: dict[str, int] | None = None
) -> None:
    """Raise ShapeError unless they are (B, T) integers from 0 to vocabulary - 1, on the device of `like`."""
    check_tensor(name, tokens, ("B", length), like.new_empty(0, dtype=torch.long), (torch.int32,), sizes)
    if isinstance(tokens, Tensor) and tokens.numel() and readable(tokens):
        low, high = (int(extreme) for extreme in tokens.aminmax())
        if low < 0 or high >= vocabulary:
            raise ShapeError(f"{name} run from {low} to {high}; expected 0 to {vocabulary - 1}.")


def check_state(
    name: str, found: Any, expected: Any, like: Tensor, others: Collection = (), sizes: dict[str, int] | None = None
) -> None:
    """Raise ShapeError unless a state has the tuples and mappings of `expected`, with tensors of the shapes that stand
    there as lists.

    `like`, `others` and `sizes` as in `check_tensor`; where `expected` has an integer the state needs one, 0 or more;
    None is anything.
    """
    sizes = {} if sizes is None else sizes
    if expected is None:
        return None
    if isinstance(expected, list):
        return check_tensor(name, found, expected, like, others, sizes)
    if isinstance(expected, int):
        return check_whole(name, found, 0)
    if isinstance(expected, dict):
        if not isinstance(found, Mapping) or set(found) != set(expected):
            held = tuple(found) if isinstance(found, Mapping) else f"a {type(found).__name__}"
            raise ShapeError(f"{name} are {held}; expected tensors for {tuple(expected)}.")
        parts = [(f"[{key!r}]", found[key], part) for key, part in expected.items()]
    else:
        if type(found) is not type(expected) or len(found) != len(expected):
            held = f"{len(found)} parts" if type(found) is tuple else f"a {type(found).__name__}"
            raise ShapeError(
                f"{name} is {held}; expected a {type(expected).__name__} of {len(expected)}, as an earlier call"
                " returned it."
            )
        parts = [
            (f".{key}", *pair)
            for key, *pair in zip(getattr(expected, "_fields", range(len(expected))), found, expected, strict=True)
        ]
    for key, mine, own in parts:
        check_state(name + key, mine, own, like, others, sizes)
