"""The continuum memory system (CMS): a chain of MLP blocks, each of which learns at its own speed.

Every block always runs forward; only its writes are gated (Behrouz et al. 2025, arXiv 2512.24695, Eq. 70-74). There are
two clocks:

- *steps*: the parameters themselves are written by an optimizer that follows `levels()`; nothing here looks at the
  clock.
- *tokens*: each sequence starts from the parameters and carries its own fast weights, written inside the sequence with
  the gradient of the task's loss. `start` makes them, `forward(x, state)` reads them, `write` moves the clock; the
  model that knows the loss drives the three.

A fast weight is one flat row per sequence, (B, P), P the parameters of its block. Axis letters: B batch, T tokens,
D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nllab.checks import check_state, check_tensor
from nllab.errors import SettingError, check_choice, check_number, check_type, check_whole, check_wholes
from nllab.levels import Level, check_period

Periods = Sequence[int] | Mapping[str, int]
VARIANTS = ("sequential", "nested", "independent")


class MLPBlock(nn.Module):
    """A residual MLP, x + down(relu(up(norm(x)))), that starts as the identity: `down` begins at zero.

    Source: one block of Eq. 70, Behrouz et al. 2025, arXiv 2512.24695.
    Differs from paper: norm, residual and ReLU are ours (the paper omits or leaves them open). The norm has no weights
        of its own, so that all that the block knows lies in `up` and `down`.

    Shapes: x (..., dim) · returns (..., dim).
    Raises: SettingError for a width below 1.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        check_wholes(dim=dim, hidden=hidden)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(F.layer_norm(x, x.shape[-1:]))))


def read(block: nn.Module, fast_weights: Tensor, x: Tensor) -> Tensor:
    """Run `block` on each sequence with that sequence's own weights: fast_weights (B, P), x (B, T, D) -> (B, T, D).

    Any block runs through `vmap`; for `MLPBlock` the same is written out in batched products, which costs a third as
    much.
    """
    named = dict(block.named_parameters())
    pieces = fast_weights.split([p.numel() for p in named.values()], -1)
    w = {name: piece.view(-1, *p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}
    if not isinstance(block, MLPBlock):
        return vmap(lambda own, row: functional_call(block, own, (row,)))(w, x)
    hidden = torch.baddbmm(w["up.bias"].unsqueeze(1), F.layer_norm(x, x.shape[-1:]), w["up.weight"].mT).relu()
    return x + torch.baddbmm(w["down.bias"].unsqueeze(1), hidden, w["down.weight"].mT)


class CMSState(NamedTuple):
    """A CMS inside a sequence: per level its fast weights (B, P) and the gradients summed since its last write; tokens
    seen so far."""

    fast_weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    position: int


torch.serialization.add_safe_globals([CMSState])  # so that a saved state opens in safe mode


class ContinuumMemory(nn.Module):
    """A chain (or weighted sum) of MLP blocks ordered from fast to slow, each with its own period.

    levels: periods from fast to slow, (1, 8, 64), or names with periods, {"fast": 1, "slow": 64}: steps or tokens
        between two writes. The last chunk of a sequence may be short: it writes nothing, and its gradients wait in the
        state.
    variant: "sequential" (Eq. 73) chains the blocks; "nested" (Eq. 72) chains them and, when a level writes, the next
        faster one starts anew from its initial state; "independent" (Eq. 74) adds the blocks' outputs with learned
        weights.
    hidden: width inside each block, 2 * dim if None.
    inner_lr: initial rate of the writes on the clock of tokens, one learned number a level; None leaves out that clock;
        0 never writes.
    blocks: modules (D,) -> (D,) to use instead of fresh `MLPBlock`s, one a level, copied: the pretrained MLPs of
        section 7.3.

    Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 70-74 (paper symbols: C = period, θ = weights, η = inner_lr).
    Differs from paper: fast levels come first, as in Fig. 5 (Eq. 72 counts from the slowest); the sum of Eq. 71 has C
        terms, not the C+1 of its printed bounds; η is one learned number a level, constant over tokens; in the nested
        variant the initial state is learned by the outer loop through all writes (clock of tokens) or follows the
        weights it started (`restart`, clock of steps), not by one more optimizer inside the sequence.

    Compile: `torch.compile` of the module gives its outputs and gradients, with a state or without.
    Shapes: x (B, T, dim) · state as made by `start(B)`, or None for the parameters themselves · returns (B, T, dim).
    Raises: SettingError for no levels, periods that do not grow (nested: that do not divide one another) or an unknown
        variant; ShapeError for another rank, width, dtype, T = 0 or NaN, and for a state that is not of this module and
        batch.

    ```pycon
    >>> memory = ContinuumMemory(8, (1, 8, 64))
    >>> memory(torch.zeros(2, 5, 8)).shape, [level.name for level in memory.levels()]
    (torch.Size([2, 5, 8]), ['fast', 'medium', 'slow'])

    ```
    """

    def __init__(
        self,
        dim: int,
        levels: Periods,
        *,
        variant: str = "sequential",
        hidden: int | None = None,
        inner_lr: float | None = None,
        blocks: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(levels, Sequence | Mapping) or isinstance(levels, str) or not levels:
            raise SettingError(f"levels is {levels!r}; expected periods from fast to slow such as (1, 8, 64).")
        check_whole("dim", dim)
        check_choice("variant", variant, VARIANTS)
        named = levels if isinstance(levels, Mapping) else dict(zip(level_names(len(levels)), levels, strict=True))
        self.periods = {name: check_period(name, period) for name, period in named.items()}
        for fast, slow in pairwise(self.periods.values()):
            if fast > slow or (variant == "nested" and slow % fast):
                rule = "each dividing the next" if variant == "nested" else "from fast to slow"
                raise SettingError(
                    f"levels have periods {tuple(self.periods.values())}; {variant} ones are expected {rule}."
                )
        if inner_lr is not None:
            check_number("inner_lr", inner_lr, "[0, inf)")
        if blocks is None:
            blocks = [MLPBlock(dim, 2 * dim if hidden is None else hidden) for _ in self.periods]
        check_type("blocks", blocks, Sequence)
        if len(blocks) != len(self.periods):
            raise SettingError(f"blocks are {len(blocks)} for {len(self.periods)} levels; expected one a level.")
        for name, block in zip(self.periods, blocks, strict=True):
            check_type(f"The block of level {name!r}", block, nn.Module)
            if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
                raise SettingError(
                    f"levels has one named {name!r}; expected a word without a dot that PyTorch's ModuleDict does not"
                    " use."
                )
        self.dim, self.variant = dim, variant
        self.blocks = nn.ModuleDict(dict(zip(self.periods, map(deepcopy, blocks), strict=True)))
        count = len(self.periods)
        self.mix = nn.Parameter(torch.full((count,), 1 / count)) if variant == "independent" else None
        self.inner_lr = None if inner_lr is None else nn.Parameter(torch.full((count,), float(inner_lr)))
        if variant == "nested":
            for name in list(self.periods)[:-1]:
                self.register_buffer(f"initial_{name}", self.flat(name).detach().clone())

    def levels(self, prefix: str = "") -> tuple[Level, ...]:
        """Its levels from fast to slow for the clock of steps; mixing weights and inner rates learn with the
        slowest."""
        slowest = list(self.periods)[-1]
        own = {slowest: (f"{prefix}mix", f"{prefix}inner_lr")}
        return tuple(
            Level(name, (f"{prefix}blocks.{name}", *own.get(name, ())), period) for name, period in self.periods.items()
        )

    def forward(self, x: Tensor, state: CMSState | None = None) -> Tensor:
        check_tensor("ContinuumMemory: x", x, ("B", "T", self.dim), next(self.parameters()))
        if state is not None:
            self.check_state(state, len(x))
        return self.read(x, state)

    def read(self, x: Tensor, state: CMSState | None = None) -> Tensor:
        """`forward` for callers that have checked their input."""
        outputs = []
        for name, block in self.blocks.items():
            y = block(x) if state is None else read(block, state.fast_weights[name], x)
            outputs.append(y)
            x = x if self.mix is not None else y
        return x if self.mix is None else torch.einsum("l,l...->...", self.mix, torch.stack(outputs))

    @property
    def writes_tokens(self) -> bool:
        """Whether the clock of tokens runs: some level has a rate other than 0."""
        return self.inner_lr is not None and bool((self.inner_lr != 0).any())

    def flat(self, name: str) -> Tensor:
        """All parameters of a level in one row (P,)."""
        check_choice("level", name, self.periods)
        return torch.cat([p.flatten() for p in self.blocks[name].parameters()])

    def start(self, batch: int) -> CMSState:
        """Fresh fast weights: every sequence begins with the parameters, and outer gradients reach them through all
        later writes."""
        check_whole("batch", batch)
        return CMSState({name: self.flat(name).expand(batch, -1) for name in self.periods}, {}, 0)

    def tokens_to_write(self, position: int) -> int:
        """Tokens from `position` to the next write of any level."""
        check_whole("position", position, 0)
        return min(period - position % period for period in self.periods.values())

    def write(self, state: CMSState, gradients: Mapping[str, Tensor], tokens: int) -> CMSState:
        """Count `tokens` tokens whose loss has these gradients (B, P) per level; levels whose period ends write the sum
        (Eq. 71).

        Raises: SettingError without inner_lr, or if `tokens` would run past the next write; ShapeError for a foreign
            state or gradient.
        """
        if self.inner_lr is None:
            raise SettingError(
                "ContinuumMemory: inner_lr is None, so nothing is written inside a sequence; give a rate such as 0.01."
            )
        batch = self.check_state(state)
        check_whole("tokens", tokens)
        if tokens > (most := self.tokens_to_write(state.position)):
            raise SettingError(f"tokens is {tokens}; expected 1 to {most}, the next write.")
        check_state("ContinuumMemory: gradients", gradients, self.rows(), next(self.parameters()), sizes={"B": batch})
        return self.advance(state, gradients, tokens)

    def advance(self, state: CMSState, gradients: Mapping[str, Tensor], tokens: int) -> CMSState:
        """`write` for callers that have checked their input."""
        assert self.inner_lr is not None
        position = state.position + tokens
        due = {name for name, period in self.periods.items() if position % period == 0}
        sums = {name: state.gradients[name] + g if name in state.gradients else g for name, g in gradients.items()}
        restarts = {fast for fast, slow in pairwise(self.periods) if self.variant == "nested" and slow in due}
        fast_weights = dict(state.fast_weights)
        for i, name in enumerate(self.periods):
            if name in restarts:
                fast_weights[name] = self.flat(name).expand_as(fast_weights[name])
            elif name in due:
                fast_weights[name] = fast_weights[name] - self.inner_lr[i] * sums[name]
        return CMSState(fast_weights, {name: g for name, g in sums.items() if name not in due}, position)

    @torch.no_grad()
    def restart(self, step: int, *, meta_rate: float = 0.0) -> tuple[str, ...]:
        """Nested variant on the clock of steps, after the write at `step`: levels whose next slower one wrote start
        anew; returns them.

        The initial state first moves by `meta_rate` towards the weights it led to (a first-order way to learn it; 0
        keeps it).
        """
        check_whole("step", step, 0)
        check_number("meta_rate", meta_rate, "[0, 1]")
        due = [
            fast
            for fast, slow in pairwise(self.periods)
            if self.variant == "nested" and step > 0 and step % self.periods[slow] == 0
        ]
        for name in due:
            initial = self.get_buffer(f"initial_{name}")
            initial.lerp_(self.flat(name), meta_rate)
            # A copy, since this makes the parameters views of what it is given.
            nn.utils.vector_to_parameters(initial.clone(), self.blocks[name].parameters())
        return tuple(due)

    def check_state(self, state: Any, batch: int | None = None) -> int:
        """Raise ShapeError unless the state is of this module and holds `batch` sequences (None: any); returns how
        many."""
        expected, sizes = CMSState(self.rows(), {}, 0), {} if batch is None else {"B": batch}  # type: ignore[arg-type]
        if isinstance(state, CMSState) and state.gradients != {}:
            check_whole("ContinuumMemory: state.position", state.position, 0)
            waiting = {
                name: expected.fast_weights[name] for name, period in self.periods.items() if state.position % period
            }
            expected = expected._replace(gradients=waiting)
        check_state("ContinuumMemory: state", state, expected, next(self.parameters()), sizes=sizes)
        return sizes["B"]

    def rows(self) -> dict[str, list[int | str]]:
        """The shape (B, P) of every level's weights and gradients."""
        return {name: ["B", sum(p.numel() for p in block.parameters())] for name, block in self.blocks.items()}


def level_names(count: int) -> tuple[str, ...]:
    """Names of `count` levels from fast to slow.

    ```pycon
    >>> level_names(4)
    ('fast', 'medium-1', 'medium-2', 'slow')

    ```
    """
    middle = ("medium",) if count == 3 else tuple(f"medium-{i}" for i in range(1, count - 1))
    return ("memory",) if count == 1 else ("fast", *middle, "slow")
