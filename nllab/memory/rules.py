"""Write rules: how a matrix, or a small residual MLP, takes in a run of key-value pairs.

Every rule here is one recurrence over tokens,

    M_t = M_{t-1} (α_t I - ε_t k_t k_tᵀ) + S_t,    S_t = β S_{t-1} + d_t k_tᵀ,

with retention α, erase ε, momentum β and drive d = -η ∂L/∂(output of the memory). What the rules differ in is ε, β and
the state at which the gradient is taken. Inside a chunk of C tokens the recurrence has a closed form: a matrix of C x C
numbers, the same for every memory that shares its keys, one triangular solve, and no loop over tokens. γ, the product
of the retentions, is handled through its logarithm and is never divided by. `nllab.memory.reference` holds the same
functions token by token.

Source: Behrouz et al. 2025, "Nested Learning", arXiv 2512.24695, Eq. 88-93. Axes: ... any leading axes (batch, heads),
    T tokens, C chunk,
Dk Dv widths of key and value, E hidden width.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.checks import check_state, check_tensor, readable
from nllab.errors import ShapeError, check_choice, check_number, check_type, check_whole

Objective = Literal["l2", "dot"]
Rate = Tensor | float
Weights = tuple[Tensor, ...]
OBJECTIVES = ("l2", "dot")


class MLPWeights(NamedTuple):
    """Fast weights of the residual memory z + down σ(up z) (Eq. 89: W₂ = up, W₁ = down): up (..., E, Dk), down (...,
    Dv, E)."""

    up: Tensor
    down: Tensor


Memory = TypeVar("Memory", Tensor, MLPWeights)
FORMS = {Tensor: "a tensor (..., Dv, Dk)", MLPWeights: "MLPWeights of up (..., E, Dk) and down (..., Dv, E)"}


class Span(NamedTuple):
    """What a run of tokens does to every matrix that shares its keys and rates, worked out once."""

    key: Tensor  # (..., C, Dk)
    total: Tensor  # log γ_t (..., C, 1)
    kept: Tensor  # γ_C (..., 1, 1)
    kept_since: Tensor  # γ_C / γ_t (..., C, 1)
    overlap: Tensor | None = None  # ε_t k_t·k_i (..., C, C); None where nothing is erased
    rate: Tensor | None = None  # ε_t (..., C, 1)
    erased: Tensor | None = None  # ε_t γ_{t-1} (..., C, 1)
    coupling: Tensor | None = (
        None  # L: overlap γ_{t-1}/γ_i for i < t (..., C, C); on and above the diagonal it holds anything
    )

    def for_keys(self, key: Tensor) -> Span:
        """The same tokens for a matrix with other keys, from which nothing is erased."""
        return Span(key, self.total, self.kept, self.kept_since)


Run = tuple[
    Span, Tensor, Tensor | None
]  # what tokens are to one matrix: themselves, their drive (..., C, Dv), and K Mᵀ if it is known


def span(key: Tensor, log_retention: Tensor, erase: Tensor | None) -> Span:
    """Prepare a run of tokens: key (..., C, Dk), log_retention and erase (..., C, 1); erase None erases nothing."""
    total = log_retention.cumsum(-2)
    end = total[..., -1:, :]
    kept, kept_since = end.exp(), (end - total).exp()
    if erase is None:
        return Span(key, total, kept, kept_since)
    before, overlap = total - log_retention, erase * (key @ key.mT)
    # Differences above the diagonal are positive and could overflow.
    decay = (before - total.mT).tril(-1).exp()
    return Span(key, total, kept, kept_since, overlap, erase, erase * before.exp(), overlap * decay)


def in_full(state: Tensor) -> torch.autocast:
    """Memories are written in their own precision, whatever precision the caller's products run in."""
    return torch.autocast(state.device.type, enabled=False)


def survival(tokens: Span) -> Tensor:
    """γ_t / γ_i for i ≤ t, else 0 (..., C, C)."""
    return (tokens.total - tokens.total.mT).tril().exp().tril()


def settle(tokens: Span, change: Tensor) -> Tensor:
    """Solve (I + L) W = change, (..., C, Dv): W_t is what token t takes away, once the tokens before it have acted."""
    if tokens.coupling is None:
        return change
    return torch.linalg.solve_triangular(tokens.coupling, change, upper=False, unitriangular=True)


def take_away(tokens: Span, state: Tensor, taken: Tensor) -> Tensor:
    """The state after the run, γ_C M - Wᵀ diag(γ_C / γ) K. state (..., Dv, Dk) · taken W (..., C, Dv)."""
    return tokens.kept * state + (-tokens.kept_since * taken).mT @ tokens.key


def advance(runs: list[Run], weights: Weights, velocity: Weights, momentum: float) -> tuple[Weights, Weights]:
    """Every matrix of a memory, and its momentum S (none: ()), after its own run of tokens."""
    states = zip(runs, weights, velocity or [None] * len(runs), strict=True)
    moved = [advance_one(tokens, w, drive, s, momentum, recall) for (tokens, drive, recall), w, s in states]
    return tuple(w for w, _ in moved), tuple(s for _, s in moved if s is not None)


def advance_one(
    tokens: Span, state: Tensor, drive: Tensor, velocity: Tensor | None, momentum: float, recall: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """One of these matrices (..., Dv, Dk), and its momentum, None without one."""
    if velocity is None:
        change = (
            -drive
            if tokens.erased is None
            else tokens.erased * (tokens.key @ state.mT if recall is None else recall) - drive
        )
        return take_away(tokens, state, settle(tokens, change)), None
    size = drive.shape[-2]
    steps = torch.arange(size + 1, device=drive.device)
    powers = torch.as_tensor(momentum, dtype=drive.dtype, device=drive.device) ** steps
    # How much of each drive, and of S, has reached M by token t.
    gamma = survival(tokens)
    from_drive = gamma @ powers[(steps[:size, None] - steps[:size]).clamp_min(0)].tril()
    from_velocity = gamma @ powers[1:].unsqueeze(-1)
    reached = from_drive[..., -1:, :].mT * drive
    if tokens.overlap is not None and tokens.rate is not None and tokens.erased is not None:
        drive_before, velocity_before = (
            F.pad(weight[..., :-1, :], (0, 0, 1, 0)) for weight in (from_drive, from_velocity)
        )
        change = tokens.erased * (tokens.key @ state.mT) + tokens.rate * velocity_before * (tokens.key @ velocity.mT)
        change = change + (tokens.overlap * drive_before) @ drive
        reached = reached - tokens.kept_since * settle(tokens, change)
    state = tokens.kept * state + from_velocity[..., -1:, :] * velocity + reached.mT @ tokens.key
    faded = powers[:size].flip(0).unsqueeze(-1) * drive
    return state, powers[size] * velocity + faded.mT @ tokens.key


def silu_with_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """σ(z) = z s(z) and σ'(z) = s(z) + σ(z) (1 - s(z)), s the logistic function."""
    gate = z.sigmoid()
    value = z * gate
    return value, torch.addcmul(gate, value, 1 - gate)


def mlp_read(weights: MLPWeights, query: Tensor, *, residual: bool = True) -> Tensor:
    """Read a residual MLP memory: z + down σ(up z), σ = SiLU; query (..., T, Dk), returns (..., T, Dv).

    Source: Eq. 89. Differs from paper: σ is not named there; `residual=False` drops the skip where Dv ≠ Dk (memories of
        one number).
    """
    matrices = _matrices(weights, MLPWeights, residual=residual)
    *lead, _, width = matrices[0].shape
    check_tensor("query", query, (*lead, "T", width), matrices[0], ())
    return _read(matrices, query, residual)


def _read(weights: Weights, query: Tensor, residual: bool) -> Tensor:
    if len(weights) == 1:
        return query @ weights[0].mT
    up, down = weights
    output = F.silu(query @ up.mT) @ down.mT
    return query + output if residual else output


def hebbian_write(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    inner_lr: Rate = 1,
    retention: Rate = 1,
    *,
    query: Tensor | None = None,
    chunk_size: int = 64,
) -> tuple[Tensor | None, Tensor]:
    """Add every value at its key: M_t = α_t M_{t-1} + η_t v_t k_tᵀ. With a query it is (gated) linear attention.

    Shapes: state (..., Dv, Dk) · key, query (..., T, Dk) · value (..., T, Dv) · inner_lr, retention (..., T) or a
        number. returns reads M_t q_t (..., T, Dv), or None without a query, and the state after the last token
    Units: inner_lr per token; retention in [0, 1], 1 keeps everything. chunk_size changes the time, not the result.
    Raises: ShapeError where the shapes disagree, SettingError for a chunk_size below 1.
    Source: Eq. 64, and Eq. 92 without the erase (dot-product objective).
    Differs from paper: the sign; as printed, Eq. 92 descends towards -v.

    ```pycon
    >>> key, value = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0], [7.0]])
    >>> hebbian_write(torch.zeros(1, 2), key, value)[1]
    tensor([[12.,  0.]])

    ```
    """
    return _write_exactly(False, state, key, value, inner_lr, retention, query, chunk_size)


def delta_write(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    inner_lr: Rate = 1,
    retention: Rate = 1,
    *,
    query: Tensor | None = None,
    chunk_size: int = 64,
) -> tuple[Tensor | None, Tensor]:
    """Replace what each key holds: M_t = M_{t-1} (α_t I - η_t k_t k_tᵀ) + η_t v_t k_tᵀ, the gated delta rule (DeltaNet
    at α = 1).

    Keys should have norm 1. Shapes, units, errors as in `hebbian_write`; chunk_size changes the time, not the result.
    Source: Eq. 65, and Eq. 92 (DGD with the dot-product objective, which is the same thing).
    Differs from paper: the sign of the value in Eq. 92; as printed its fixed point is M k = -v.

    ```pycon
    >>> key, value = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[5.0], [7.0]])
    >>> delta_write(torch.zeros(1, 2), key, value)[1]  # the second value in place of the first
    tensor([[7., 0.]])

    ```
    """
    return _write_exactly(True, state, key, value, inner_lr, retention, query, chunk_size)


def _write_exactly(erase: bool, state: Tensor, *arguments: Any) -> tuple[Tensor | None, Tensor]:
    """Rules whose drive does not depend on the state, so that chunks change nothing; reads see the token just
    written."""
    reads, chunks = [], _chunks(_matrices(state, Tensor), *arguments)
    with in_full(state):
        for k, v, q, rate, log_retention in chunks:
            tokens = span(k, log_retention, rate if erase else None)
            taken = settle(tokens, -rate * v if tokens.erased is None else tokens.erased * (k @ state.mT) - rate * v)
            if q is not None:
                reads.append(tokens.total.exp() * (q @ state.mT) - (survival(tokens) * (q @ k.mT)) @ taken)
            state = take_away(tokens, state, taken)
    return torch.cat(reads, -2) if reads else None, state


def dgd_write(
    state: Memory,
    key: Tensor,
    value: Tensor,
    inner_lr: Rate = 1,
    retention: Rate = 1,
    *,
    query: Tensor | None = None,
    chunk_size: int = 16,
    objective: Objective = "l2",
    erase: bool = True,
    momentum: float = 0.0,
    gradient_factor: float = 1.0,
    residual: bool = True,
) -> tuple[Tensor | None, Memory]:
    """Delta gradient descent with retention: M_t = M_{t-1} (α_t I - η_t k_t k_tᵀ) + S_t, S_t = β S_{t-1} - η_t ∇L(B;
    k_t, v_t).

    B is the state at the start of the chunk: the gradient is taken there and reads see it (Eq. 90), so chunk_size is
        part of the model.
    The erase acts at every token. Keys should have norm 1 (Eq. 57 is exact only then). The state is a matrix, or an MLP
    (Eq. 89), in which the erase acts on `up`, whose input is the key; `down` only decays. residual: whether an MLP has
    its skip; a matrix has none.

    Shapes, units, errors as in `hebbian_write`, but the reads are those of B at q_t, and the state may be MLPWeights,
    up (..., E, Dk) and
        down (..., Dv, E); S starts at 0 (`SelfModifyingTitans` carries it in its state).
    Source: Eq. 88-90, 92, 93. objective "l2" is Eq. 93, "dot" Eq. 92.
    Differs from paper: the sign of Eq. 92; the boundary is that of the chunk before (the printed index C ceil(t/C)
        would read the future); momentum is in no equation of the paper, its form is that of Titans. The gradient has no
        factor 2, as in Eq. 93, so that a repeated pair settles at M k = v/2; gradient_factor=2 is that of ‖M k - v‖² as
        it is defined, and settles at 2v/3. M (α I - η k kᵀ)
        is defined for a matrix that acts on k: of an MLP, for one of two. The skip is not a weight, so it neither
            decays nor learns.
    """
    check_choice("objective", objective, OBJECTIVES)
    check_type("erase", erase, bool)
    check_number("momentum", momentum, "[0, 1)")
    check_number("gradient_factor", gradient_factor, "(0, inf)")
    weights = _matrices(state, Tensor, MLPWeights, residual=residual)
    chunks, reads = _chunks(weights, key, value, inner_lr, retention, query, chunk_size), []
    velocity = tuple(torch.zeros_like(w) for w in weights) if momentum else ()
    with in_full(weights[0]):
        for k, v, q, rate, log_retention in chunks:
            if q is not None:
                reads.append(_read(weights, q, residual))
            tokens, push, recall = (
                span(k, log_retention, rate if erase else None),
                gradient_factor * rate,
                k @ weights[0].mT,
            )
            if len(weights) == 1:
                runs = [(tokens, push * (v - recall if objective == "l2" else v), recall)]
            else:
                hidden, slope = silu_with_slope(recall)
                drive = push * (v - hidden @ weights[1].mT - (k if residual else 0) if objective == "l2" else v)
                runs = [(tokens, (drive @ weights[1]) * slope, recall), (tokens.for_keys(hidden), drive, None)]
            weights, velocity = advance(runs, weights, velocity, momentum)
    after = weights[0] if isinstance(state, Tensor) else MLPWeights(*weights)
    return torch.cat(reads, -2) if reads else None, after  # type: ignore[return-value]


def titans_write(
    state: Memory,
    key: Tensor,
    value: Tensor,
    inner_lr: Rate = 1,
    retention: Rate = 1,
    *,
    momentum: float = 0.9,
    **settings: Any,
) -> tuple[Tensor | None, Memory]:
    """Titans: gradient descent with momentum, M_t = α_t M_{t-1} + S_t, S_t = β S_{t-1} - η_t (B k_t - v_t) k_tᵀ; no
    erase.

    Shapes, units, errors and settings as in `dgd_write`.
    Source: Eq. 76-78 and Titans (Behrouz et al. 2025, arXiv 2501.00663).
    Differs from paper: α is what is kept, as in Eq. 88 (Titans' own α is what is forgotten); β is a constant.
    """
    return dgd_write(state, key, value, inner_lr, retention, erase=False, momentum=momentum, **settings)


def _matrices(state: Any, *kinds: type, residual: bool = True) -> Weights:
    """The matrices of a memory of one of these kinds, once they have been found to fit together."""
    check_type("residual", residual, bool)
    first, *rest = weights = tuple(state) if isinstance(state, MLPWeights) else (state,)
    of_kind = isinstance(state, kinds) and isinstance(first, Tensor)
    if not of_kind or first.dim() < 2 or first.dtype not in (torch.float32, torch.float64):
        expected = " or ".join(FORMS[kind] for kind in kinds)
        kind_of = f"{first.dtype} of shape {tuple(first.shape)}" if of_kind else f"a {type(state).__name__}"
        raise ShapeError(f"state is {kind_of}; expected {expected}, in float32 or float64.")
    lead = first.shape[:-2]
    shapes = MLPWeights([*lead, "E", "Dk"], [*lead, "Dv", "E"]) if rest else [*lead, "Dv", "Dk"]  # type: ignore[arg-type]
    check_state("state", state, shapes, first)
    if rest and residual and (width := first.shape[-1]) != (out := state.down.shape[-2]):
        raise ShapeError(f"state reads {width} numbers and returns {out}; with residual=True they must be as many.")
    return weights


def _chunks(weights: Weights, key, value, inner_lr, retention, query, chunk_size):
    """Keys, values, queries or None, rates and logarithms of the retentions (..., C, 1) of every chunk, in the state's
    dtype, once all have been checked."""
    check_whole("chunk_size", chunk_size)
    first, sizes = weights[0], {}
    (*lead, _, width), out = first.shape, weights[-1].shape[-2]
    for name, tensor, wide in (("key", key, width), ("value", value, out), ("query", query, width)):
        if name != "query" or tensor is not None:
            check_tensor(name, tensor, (*lead, "T", wide), first, sizes=sizes)
    rate, keep = (
        _per_token(*given, (*lead, sizes["T"]), first) for given in (("inner_lr", inner_lr), ("retention", retention))
    )
    # split, not slices: the backward of n slices would write n tensors of full length.
    tensors = [t.to(first.dtype) for t in (key, value, key if query is None else query, rate)]
    parts = [t.split(chunk_size, -2) for t in (*tensors, keep.clamp_min(torch.finfo(keep.dtype).tiny).log())]
    return [(k, v, None if query is None else q, *rates) for k, v, q, *rates in zip(*parts, strict=True)]


def _per_token(name: str, rate: Rate, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A rate or retention (..., T, 1), given per token or as one number."""
    interval = "[0, 1]" if name == "retention" else "(-inf, inf)"
    if not isinstance(rate, Tensor):
        check_number(name, rate, interval)
        return like.new_full((*shape, 1), float(rate))
    check_tensor(f"{name}, a number or one per token,", rate, shape if rate.dim() else (), like)
    if name == "retention" and readable(rate):
        for extreme in rate.detach().aminmax():
            check_number("a value of retention", extreme.item(), interval)
    return rate.to(like.dtype).expand(shape).unsqueeze(-1)
