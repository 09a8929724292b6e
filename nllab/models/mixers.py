"""Sequence mixers that HOPE is compared with. All share one seam, `y, state = mixer(x, state)`, x and y (B, T, D),
state None for a fresh start; a sequence in pieces gives what one call gives. They differ in how a token sees the tokens
before it, and in nothing else: norms, residuals and MLPs are the block's (`nllab.models.hope`). Axis letters: B batch,
    T tokens, H heads, D width, Dh = D / H.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nllab.checks import HALF, check_heads, check_state, check_tensor
from nllab.errors import check_type, check_whole, check_wholes
from nllab.memory.rules import delta_write, hebbian_write, in_full


def check_call(mixer: nn.Module, x: Tensor, dim: int, state: Any, expected: Any) -> None:
    """Raise ShapeError unless x is (B, T, dim) and the state None or built as expected (see `check_state`)."""
    name, like, sizes = type(mixer).__name__, next(mixer.parameters()), {}
    check_tensor(f"{name}: x", x, ("B", "T", dim), like, sizes=sizes)
    if state is not None:
        check_state(
            f"{name}: state", state, expected, like, (torch.promote_types(like.dtype, torch.float32), *HALF), sizes
        )


def rotate(x: Tensor, first: int) -> Tensor:
    """Rotary positions: pairs of channels of x (B, H, T, Dh) turn with the position, which starts at `first` (Su et al.
    2021)."""
    half = x.shape[-1] // 2
    exact = torch.promote_types(x.dtype, torch.float32)
    rate = 10000.0 ** (-torch.arange(half, device=x.device, dtype=exact) / half)
    angle = torch.arange(first, first + x.shape[-2], device=x.device, dtype=exact).unsqueeze(-1) * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)


class CausalAttention(nn.Module):
    """Softmax attention over all tokens so far; the state is the keys and values seen, each (B, H, tokens, Dh).

    Shapes: x (B, T, dim). Raises: SettingError if heads do not divide dim; ShapeError for a state of another batch or
        width.
    """

    def __init__(self, dim: int, *, heads: int = 1, rotary: bool = True) -> None:
        super().__init__()
        check_heads(dim, heads)
        check_type("rotary", rotary, bool)
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        dim = self.out.in_features
        check_call(self, x, dim, state, (["B", self.heads, "N", dim // self.heads],) * 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = 0 if state is None else state[0].shape[-2]
        if self.rotary:
            q, k = rotate(q, seen), rotate(k, seen)
        if state is not None:
            k, v = torch.cat([state[0], k], -2), torch.cat([state[1], v], -2)
        mask = torch.ones(x.shape[1], k.shape[-2], dtype=torch.bool, device=x.device).tril(seen) if seen else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.out(y.transpose(1, 2).flatten(2)), (k, v)


class LinearAttention(nn.Module):
    """A matrix memory per head, read after each token's own write; the state is the matrices (B, H, Dv, Dh) and the
    last inputs.

    delta=False: linear attention with positive features elu + 1 and a running normaliser (Katharopoulos et al. 2020).
    delta=True: DeltaNet, M_t = M_{t-1} (I - β k kᵀ) + β v kᵀ with unit keys and β in (0, 1) (Yang et al. 2024).
    conv_window: tokens seen by a causal depthwise convolution before the projections, as HOPE has one; 1 for none.

    Shapes: x (B, T, dim). Dtype: the state is float32 or wider, also under autocast.
    Raises: SettingError if heads do not divide dim or the window is below 1; ShapeError for a state of another batch or
        width.
    """

    def __init__(self, dim: int, *, heads: int = 1, delta: bool = False, conv_window: int = 4) -> None:
        super().__init__()
        check_heads(dim, heads)
        check_type("delta", delta, bool)
        check_whole("conv_window", conv_window)
        self.heads = heads
        self.conv = nn.Parameter(F.one_hot(torch.tensor(conv_window - 1), conv_window).repeat(dim, 1).float())
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.beta = nn.Linear(dim, heads) if delta else None
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        (dim, window), width = self.conv.shape, self.conv.shape[0] // self.heads
        matrix, recent = (self.heads, width + (self.beta is None), width), (window - 1, dim)
        check_call(self, x, dim, state, (["B", *matrix], ["B", *recent]))
        wide = torch.promote_types(x.dtype, torch.float32)
        matrix, recent = state or (x.new_zeros(len(x), *matrix, dtype=wide), x.new_zeros(len(x), *recent))
        seen = torch.cat([recent, x], 1)
        x = torch.einsum("btdw,dw->btd", seen.unfold(1, window, 1), self.conv)
        q, k, v = self.qkv(x).to(wide).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = None if self.beta is None else torch.sigmoid(self.beta(x)).transpose(1, 2).to(wide)
        with in_full(x):
            if rate is None:
                # A last channel that is always 1 sums the weights: the normaliser.
                y, matrix = hebbian_write(matrix, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0), query=F.elu(q) + 1)
                weighted, total = cast(Tensor, y).split([width, 1], -1)
                y = weighted / total
            else:
                q, k = F.normalize(F.silu(q), dim=-1), F.normalize(F.silu(k), dim=-1)
                y, matrix = delta_write(matrix, k, v, rate, query=q)
        return self.out(cast(Tensor, y).transpose(1, 2).flatten(2).to(x.dtype)), (
            matrix,
            seen[:, seen.shape[1] - window + 1 :],
        )


class LSTM(nn.Module):
    """One LSTM layer of the block's own width; the state is (h, c), each (1, B, dim).

    Dtype: that of its weights, also under autocast: not every processor has an LSTM in half precision.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_whole("dim", dim)
        self.cell = nn.LSTM(dim, dim, batch_first=True)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        dim = self.cell.input_size
        check_call(self, x, dim, state, ([1, "B", dim],) * 2)
        exact = next(self.cell.parameters()).dtype
        carried = None if state is None else (state[0].to(exact), state[1].to(exact))
        with in_full(x):
            y, after = self.cell(x.to(exact), carried)
        return y.to(x.dtype), after


class Window(nn.Module):
    """A linear map of the last `window` tokens: the model becomes a plain MLP over a window. The state is the last
    window - 1 inputs."""

    def __init__(self, dim: int, *, window: int = 8) -> None:
        super().__init__()
        check_wholes(dim=dim, window=window)
        self.window = window
        self.linear = nn.Linear(window * dim, dim)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        recent = (self.window - 1, self.linear.out_features)
        check_call(self, x, recent[-1], state, ["B", *recent])
        seen = torch.cat([x.new_zeros(len(x), *recent) if state is None else state, x], 1)
        return self.linear(seen.unfold(1, self.window, 1).flatten(2)), seen[:, x.shape[1] :]
