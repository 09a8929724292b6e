"""The same rules, token by token and memory by memory: slow, obvious, and the truth that the fast ones are held to.

Every function has the name, arguments and result of its fast twin. Tensors keep their leading axes; `outer(u, k)` is u
kᵀ for each of them. The layer's reference writes every memory M_s out in full, and knows neither chunks in closed form
nor stacked weights.
Source: Behrouz et al. 2025, arXiv 2512.24695, Eq. 64-65, 76-78, 83-93.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nllab.memory.memories import GATES, TINY
from nllab.memory.rules import MLPWeights, Weights
from nllab.memory.titans import SelfModifyingTitans


def outer(u: Tensor, k: Tensor) -> Tensor:
    """u kᵀ, (..., Dv, Dk), of u (..., Dv) and k (..., Dk)."""
    return u.unsqueeze(-1) * k.unsqueeze(-2)


def apply(state: Tensor, k: Tensor) -> Tensor:
    """M k, (..., Dv), of M (..., Dv, Dk) and k (..., Dk)."""
    return (state @ k.unsqueeze(-1)).squeeze(-1)


def hebbian_write(state, key, value, inner_lr=1, retention=1, *, query=None, chunk_size=64):
    """M_t = α_t M_{t-1} + η_t v_t k_tᵀ."""
    reads = []
    for k, v, q, rate, keep in _tokens(key, value, query, inner_lr, retention):
        state = keep * state + rate * outer(v, k)
        reads.append(apply(state, q))
    return _joined(reads, query), state


def delta_write(state, key, value, inner_lr=1, retention=1, *, query=None, chunk_size=64):
    """M_t = α_t M_{t-1} - η_t (M_{t-1} k_t - v_t) k_tᵀ."""
    reads = []
    for k, v, q, rate, keep in _tokens(key, value, query, inner_lr, retention):
        state = keep * state - rate * outer(apply(state, k) - v, k)
        reads.append(apply(state, q))
    return _joined(reads, query), state


def dgd_write(state, key, value, inner_lr=1, retention=1, *, query=None, chunk_size=16, residual=True, **settings):
    """`_step` after `_step`; the state is a matrix or MLPWeights."""
    weights = state if isinstance(state, MLPWeights) else (state,)
    reads, velocity, boundary = [], tuple(torch.zeros_like(w) for w in weights), weights
    for t, (k, v, q, rate, keep) in enumerate(_tokens(key, value, query, inner_lr, retention)):
        if t % chunk_size == 0:
            boundary = weights
        reads.append(_read(boundary, q, residual))
        weights, velocity = _step(weights, velocity, boundary, k, v, rate, keep, residual, **settings)
    return _joined(reads, query), MLPWeights(*weights) if isinstance(state, MLPWeights) else weights[0]


def titans_write(state, key, value, inner_lr=1, retention=1, *, momentum=0.9, **settings):
    """M_t = α_t M_{t-1} + S_t, S_t = β S_{t-1} - η_t (B k_t - v_t) k_tᵀ."""
    return dgd_write(state, key, value, inner_lr, retention, erase=False, momentum=momentum, **settings)


def mlp_read(weights, query, *, residual=True):
    """z + down σ(up z), one token at a time."""
    return torch.stack([_read(weights, z, residual) for z in query.unbind(-2)], dim=-2)


def self_modifying_titans(layer: SelfModifyingTitans, x: Tensor) -> tuple[Tensor, dict[str, Weights]]:
    """`layer(x)` from a fresh state, and `layer.fast_weights` after it."""
    batch, tokens, dim = x.shape
    heads, d = layer.heads, layer.width
    groups = [list(names) for names in layer.groups]
    memory = {
        name: tuple(w.expand(batch, *w.shape) for w in _initial(layer, name)) for names in groups for name in names
    }
    if layer.hidden is None and layer.adaptive:
        # Linear memories are limited by what has become of the identity, which is written as they are.
        for g, names in enumerate(groups):
            names.append(f"identity {g}")
            memory[names[-1]] = (torch.eye(d, dtype=layer.rate_bias.dtype, device=x.device).expand(batch, heads, d, d),)
    velocity = {name: tuple(torch.zeros_like(w) for w in memory[name]) for name in memory}
    boundary, outputs = dict(memory), []
    settings = {name: getattr(layer, name) for name in ("objective", "erase", "momentum", "gradient_factor")}

    def read(name, z):
        return _read(boundary[name], z, residual=name not in GATES)

    def project(name, z):
        if name in layer.adaptive:
            return read(name, z)
        return (z.flatten(1) @ layer.static[name].mT).unflatten(-1, (heads, -1))

    for t in range(tokens):
        for names, size in zip(groups, layer.chunk_sizes, strict=True):
            if t % size == 0:
                boundary |= {name: memory[name] for name in names}
        on_key, on_value, on_query = (_convolved(layer, x, t, i).unflatten(-1, (heads, d)) for i in range(3))
        query = _shortened(project("query", on_query), TINY)
        key, value = _shortened(project("key", on_key), TINY), _shortened(project("value", on_value), 1)
        rate = layer.max_inner_lr * torch.sigmoid(project("inner_lr", on_key) + layer.rate_bias[:, None])
        keep = torch.ones_like(rate)
        if layer.retention_bias is not None:
            keep = torch.exp(-F.softplus(project("retention", on_value) + layer.retention_bias[:, None]))
        rate, keep = rate[..., None], keep[..., None]
        outputs.append(read("memory", query).flatten(1))
        for name in memory:
            target = read(name, value) if layer.adaptive else value
            if layer.adaptive and layer.hidden is not None:
                target = _shortened(target, 1)
            memory[name], velocity[name] = _step(
                memory[name], velocity[name], boundary[name], key, target, rate, keep, name not in GATES, **settings
            )
        for names, size in zip(groups, layer.chunk_sizes, strict=True):
            if (t + 1) % size == 0:
                for name in names:
                    norms = [
                        w.square().sum(-1).mean(-1).sqrt()[..., None, None]
                        for w in memory[name if layer.hidden else names[-1]]
                    ]
                    memory[name] = tuple(
                        w * (layer.max_norm / n).clamp_max(1) for w, n in zip(memory[name], norms, strict=True)
                    )
    return torch.stack(outputs, dim=1), {name: memory[name] for names in layer.groups for name in names}


def _step(
    weights,
    velocity,
    boundary,
    k,
    v,
    rate,
    keep,
    residual,
    *,
    objective="l2",
    erase=True,
    momentum=0.0,
    gradient_factor=1.0,
) -> tuple[Weights, Weights]:
    """M_t = M_{t-1} (α_t I - η_t k_t k_tᵀ) + S_t, S_t = β S_{t-1} - η_t ∇L(B; k_t, v_t), B the state at the start of
    the chunk.

    L is ½‖B(k) - v‖² or -⟨B(k), v⟩, for every matrix of a memory; only the first, whose input is the key, is erased.
    """
    error = _read(boundary, k, residual) - v if objective == "l2" else -v
    if len(boundary) == 1:
        gradient = (outer(error, k),)
    else:
        up, down = boundary
        z = apply(up, k)
        slope = z.sigmoid() + z * z.sigmoid() * (1 - z.sigmoid())
        gradient = outer(apply(down.mT, error) * slope, k), outer(error, F.silu(z))
    velocity = tuple(momentum * s - gradient_factor * rate * g for s, g in zip(velocity, gradient, strict=True))
    first, *rest = weights
    erased = rate * outer(apply(first, k), k) if erase else 0
    return (
        tuple(w + s for w, s in zip((keep * first - erased, *(keep * w for w in rest)), velocity, strict=True)),
        velocity,
    )


def _initial(layer: SelfModifyingTitans, name: str) -> Weights:
    return tuple(
        layer.memories.initial[part] for part in ((name,) if layer.hidden is None else (f"{name}_up", f"{name}_down"))
    )


def _convolved(layer: SelfModifyingTitans, x: Tensor, t: int, which: int) -> Tensor:
    if layer.conv is None:
        return x[:, t]
    seen = range(min(layer.conv_window, t + 1))
    return torch.stack([layer.conv[which, -1 - back] * x[:, t - back] for back in seen]).sum(0)


def _read(weights: Weights, z: Tensor, residual: bool) -> Tensor:
    if len(weights) == 1:
        return apply(weights[0], z)
    up, down = weights
    output = apply(down, F.silu(apply(up, z)))
    return z + output if residual else output


def _shortened(x: Tensor, margin: float) -> Tensor:
    return x / (margin + x.square().sum(-1, keepdim=True)).sqrt()


def _tokens(key, value, query, inner_lr, retention):
    for t in range(key.shape[-2]):
        rate, keep = (
            torch.as_tensor(r, dtype=key.dtype).expand(key.shape[:-1])[..., t, None, None]
            for r in (inner_lr, retention)
        )
        yield key[..., t, :], value[..., t, :], key[..., t, :] if query is None else query[..., t, :], rate, keep


def _joined(reads, query):
    return None if query is None else torch.stack(reads, dim=-2)
