"""The two kinds of memory that `SelfModifyingTitans` can be made of, with one set of methods.

    start(batch)        the fast weights before the first token, a tuple of tensors per group of memories with the same
                        chunk size
    prepare(batch)      what stays the same for a whole pass
    generate(...)       what the memories at the chunk's start make of a run of tokens: gates (N, G, C, 1) and vectors
                        (N, ., C, d), both raw, and the read
    write(...)          the fast weights after it
    query(...)          of linear memories: what the main memory is asked
    write_chunks(...)   of linear memories: read and fast weights after several chunks at once
    finish(read, ...)   the output of all tokens; until then the read of linear memories lacks the factor M_memory,0
    fast_weights(...)   every memory written out, by name

Groups: the projections and the main memory, or both in one where their chunk sizes agree. Inside a group gates come
first, the main memory last. Axes as in `nllab.memory.titans`: N = B H rows, C tokens of a run, d width, S memories of a
group (G of them gates), E hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nllab.checks import readable
from nllab.memory.rules import Objective, Run, Span, Weights, advance, settle, silu_with_slope, take_away

GATES = ("inner_lr", "retention")
VECTORS = ("key", "value")
TINY = 1e-12
Names = tuple[str, ...]
Groups = tuple[Names, ...]
Generator = torch.Generator | None


def normal(*shape: int, std: float, generator: Generator) -> nn.Parameter:
    """A parameter drawn from a normal distribution."""
    return nn.Parameter(torch.randn(*shape, generator=generator) * std)


def per_row(weight: Tensor, batch: int) -> Tensor:
    """(H, ...) → (N, ...), in float32 or wider."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32)).expand(batch, *weight.shape).flatten(0, 1)


def shortened(x: Tensor, margin: Tensor | float) -> Tensor:
    """x / sqrt(margin + ‖x‖²) along the last axis: for a margin of TINY x / ‖x‖, and 0 at 0; for 1 a norm below 1."""
    return x * (x.square().sum(-1, keepdim=True) + margin).rsqrt()


def limit(weights: Weights, max_norm: float) -> Weights:
    """Every matrix scaled back to where its rows' root mean square norm is max_norm, if it is above."""
    bounds = [max_norm * w.shape[-2] ** 0.5 for w in weights]
    norms = [torch.linalg.vector_norm(w, dim=(-2, -1), keepdim=True) for w in weights]
    # Nearly always nothing is above, and to see it costs less than to multiply by 1, unless a GPU has to be waited for.
    if (
        not weights[0].is_cuda
        and readable(weights[0])
        and all((n <= bound).all() for n, bound in zip(norms, bounds, strict=True))
    ):
        return weights
    return tuple(w * (bound / norm.clamp_min(bound)) for w, bound, norm in zip(weights, bounds, norms, strict=True))


class LinearMemories(nn.Module):
    """Matrices. All of them obey one linear recurrence, M_s,t = M_s,0 Π_t, so Π (N, d, d) is the whole state of a
    group.

    Without adaptive projections the target is v itself, nothing factors, and the state is the main memory.
    """

    def __init__(
        self, heads: int, width: int, adaptive: Names, groups: Groups, objective: Objective, generator: Generator
    ) -> None:
        super().__init__()
        self.heads, self.width, self.adaptive, self.groups, self.objective = heads, width, adaptive, groups, objective
        self.gate_names, self.vector_names = (GATES, VECTORS) if adaptive else ((), ())
        self.inputs = ("key", "value", "memory") if adaptive else ("memory",)
        self.initial = nn.ParameterDict()
        for name in adaptive:
            rows, scale = (1, 0.1) if name in GATES else (width, 1.0)
            self.initial[name] = normal(heads, rows, width, std=scale * width**-0.5, generator=generator)
        self.initial["memory"] = nn.Parameter(torch.eye(width).repeat(heads, 1, 1))

    def start(self, batch: int) -> tuple[Weights, ...]:
        """The fast weights of a fresh sequence, one tuple a group."""
        memory = per_row(self.initial["memory"], batch)
        if not self.adaptive:
            # A copy, since an optimizer changes the parameter in place, and a state is a value.
            return ((memory.clone(),),)
        identity = torch.eye(self.width, dtype=memory.dtype, device=memory.device).expand_as(memory)
        return tuple((identity,) for _ in self.groups)

    def prepare(self, batch: int) -> dict[str, Tensor]:
        """Initial memories, transposed, one copy per row: "made" (N, 2, d, 1 + d) turns Π x into (rate, key) and
        (retention, value)."""
        if not self.adaptive:
            return {}
        none, held = torch.zeros_like(self.initial["memory"]), self.initial
        made = [
            torch.cat([held.get(gate, none[:, :1]), held.get(vector, none)], 1)
            for gate, vector in zip(GATES, VECTORS, strict=True)
        ]
        maps = {"made": torch.stack(made, 1), **{name: held[name] for name in ("memory", "query") if name in held}}
        return {name: per_row(weight, batch).mT for name, weight in maps.items()}

    def generate(self, boundary: list[Weights], maps: dict[str, Tensor], u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the memories make of the inputs u (N, 3, S, d): gates, vectors and reads (N, ., S, .)."""
        size, projections, main = u.shape[2], boundary[0][0], boundary[-1][0]
        if not self.adaptive:
            return u[:, :0, :, :1], u[:, :0], u[:, 0] @ main.mT
        if projections is main and "query" not in maps:
            made, read = (u.flatten(1, 2) @ main.mT).split([2 * size, size], 1)
        else:
            made = u[:, :2].flatten(1, 2) @ projections.mT
            read = self.query(boundary, maps, u) @ main.mT
        gates, vectors = (made.unflatten(1, (2, size)) @ maps["made"]).split([1, self.width], -1)
        return gates, vectors, read

    def query(self, boundary: list[Weights], maps: dict[str, Tensor], u: Tensor) -> Tensor:
        """The queries (N, S, d): generated where they are adaptive."""
        return shortened(u[:, 2] @ boundary[0][0].mT @ maps["query"], TINY) if "query" in maps else u[:, 2]

    def write(
        self,
        boundary: Weights,
        running: Weights,
        velocity: Weights,
        tokens: Span,
        value: Tensor,
        rate: Tensor,
        momentum: float,
    ) -> tuple[Weights, Weights]:
        """Write a run of tokens; returns the new fast weights and velocities."""
        (state,), key, is_l2 = boundary, tokens.key, self.objective == "l2"
        if self.adaptive and boundary is running and not momentum:
            # v̂ = B v, so B factors out of what is erased and of what is driven.
            pull = (tokens.erased if tokens.erased is not None else 0) + (rate if is_l2 else 0)
            return (take_away(tokens, state, settle(tokens, (pull * key - rate * value) @ state.mT)),), ()
        target = value @ state.mT if self.adaptive else value
        drive = rate * (target - key @ state.mT if is_l2 else target)
        return advance([(tokens, drive, None)], running, velocity, momentum)

    def write_chunks(
        self, state: Tensor, tokens: Span, value: Tensor, rate: Tensor, query: Tensor, chunk_size: int, max_norm: float
    ) -> tuple[Tensor, Tensor] | None:
        """Read and state after a run of chunks whose keys and rates do not depend on what is written in them; None
        where max_norm may bind.

        v̂ = B v is linear in B, which is linear in what was written before the chunk: one triangular system for all
        chunks, whose row t has, beside what is erased, -η_t (γ_b / γ_i) k_i·v_t for the tokens i up to b, the last
        before t's chunk.
        """
        key, size = tokens.key, tokens.key.shape[-2]
        pull = value - key if self.objective == "l2" else value
        place = torch.arange(size, device=key.device)
        start = place - place % chunk_size
        kept = F.pad(tokens.total, (0, 0, 1, 0))[..., start, :]
        since = (kept - tokens.total.mT).masked_fill(place >= start[:, None], -torch.inf).exp()
        coupling = -rate * since * (pull @ key.mT)
        taken = -rate * kept.exp() * (pull @ state.mT)
        if tokens.coupling is not None and tokens.erased is not None:
            coupling, taken = coupling + tokens.coupling, taken + tokens.erased * (key @ state.mT)
        taken = settle(tokens._replace(coupling=coupling), taken)
        # Keys are no longer than 1 and retention is no more than 1, so no matrix on the way is larger than this.
        largest = torch.linalg.vector_norm(state, dim=(-2, -1)) + torch.linalg.vector_norm(taken, dim=-1).sum(-1)
        if not bool((largest <= max_norm * state.shape[-2] ** 0.5).all()):
            return None
        read = kept.exp() * (query @ state.mT) - (since * (query @ key.mT)) @ taken
        return read, take_away(tokens, state, taken)

    def finish(self, read: Tensor, maps: dict[str, Tensor]) -> Tensor:
        """Turn what was read into outputs."""
        return read @ maps["memory"] if maps else read

    def fast_weights(self, running: tuple[Weights, ...], batch: int) -> dict[str, Weights]:
        """Name -> the memory's weights as they stand."""
        if not self.adaptive:
            return {"memory": running[0]}
        return {
            name: (per_row(self.initial[name], batch) @ pi,)
            for names, (pi,) in zip(self.groups, running, strict=True)
            for name in names
        }


class MLPMemories(nn.Module):
    """Residual MLPs of Eq. 89, stacked: a group's state is up (N, S, E, d), the maps' down (N, S-G, d, E), the gates'
    down (N, G, 1, E)."""

    def __init__(
        self,
        hidden: int,
        heads: int,
        width: int,
        adaptive: Names,
        groups: Groups,
        objective: Objective,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.heads, self.width, self.hidden = heads, width, hidden
        self.adaptive, self.groups, self.objective = adaptive, groups, objective
        self.gate_names = tuple(name for name in adaptive if name in GATES)
        self.vector_names = tuple(name for name in adaptive if name in VECTORS)
        self.inputs = (*adaptive, "memory")
        self.initial = nn.ParameterDict()
        for name in self.inputs:
            rows, scale = (1, 0.1) if name in GATES else (width, 1.0)
            self.initial[f"{name}_up"] = normal(heads, hidden, width, std=width**-0.5, generator=generator)
            self.initial[f"{name}_down"] = normal(heads, rows, hidden, std=scale * hidden**-0.5, generator=generator)

    def start(self, batch: int) -> tuple[Weights, ...]:
        """The fast weights of a fresh sequence, one tuple a group."""

        def stacked(names: Names, part: str, rows: int) -> Tensor:
            none = self.initial["memory_up"].new_zeros(self.heads, 0, rows, self.hidden)
            return per_row(torch.stack([self.initial[f"{name}_{part}"] for name in names], 1) if names else none, batch)

        count = [sum(name in GATES for name in names) for names in self.groups]
        return tuple(
            (stacked(names, "up", self.hidden), stacked(names[n:], "down", self.width), stacked(names[:n], "down", 1))
            for n, names in zip(count, self.groups, strict=True)
        )

    def prepare(self, batch: int) -> dict[str, Tensor]:
        """Nothing stays the same over a sequence here."""
        return {}

    def generate(self, boundary: list[Weights], maps: dict[str, Tensor], u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the memories make of the inputs u (N, ., S, d): gates, vectors and reads."""
        count = len(self.vector_names)
        if len(boundary) == 1 and "query" not in self.adaptive:
            gates, made = self._read(boundary[0], u)
            vectors, read = made.split([count, 1], 1)
            return gates, vectors, read.squeeze(1)
        up, down, gate_down = boundary[0]
        rows = len(self.adaptive)
        gates, vectors = self._read((up[:, :rows], down[:, : rows - len(self.gate_names)], gate_down), u[:, :rows])
        query = shortened(vectors[:, count:], TINY) if "query" in self.adaptive else u[:, rows:]
        up, down, _ = boundary[-1]
        return gates, vectors[:, :count], self._read((up[:, -1:], down[:, -1:], gate_down[:, :0]), query)[1].squeeze(1)

    @staticmethod
    def _read(weights: Weights, rows: Tensor) -> tuple[Tensor, Tensor]:
        up, down, gate_down = weights
        gates, maps = F.silu(rows @ up.mT).split([gate_down.shape[1], down.shape[1]], 1)
        return gates @ gate_down.mT, rows[:, gates.shape[1] :] + maps @ down.mT

    def write(
        self,
        boundary: Weights,
        running: Weights,
        velocity: Weights,
        tokens: Span,
        value: Tensor,
        rate: Tensor,
        momentum: float,
    ) -> tuple[Weights, Weights]:
        """Write a run of tokens; returns the new fast weights and velocities."""
        up, down, gate_down = boundary
        # The run of tokens is the same for all memories of the group: one axis of size 1 beside S.
        tokens = tokens._replace(
            **{name: field.unsqueeze(1) for name, field in tokens._asdict().items() if field is not None}
        )
        key, value, rate, is_l2 = tokens.key, value.unsqueeze(1), rate.unsqueeze(1), self.objective == "l2"
        recall, at_value = (torch.cat([key, value], -2) @ up.mT).split(key.shape[-2], -2)
        at_key, slope = silu_with_slope(recall)
        counts = [gate_down.shape[1], down.shape[1]]
        gates_at_key, maps_at_key = at_key.split(counts, 1)
        # v̂ = M(v), bounded; without adaptive projections v̂ = v, and there are no gates.
        gates_at_value, maps_at_value = F.silu(at_value).split(counts, 1)
        target = shortened(value + maps_at_value @ down.mT, 1) if self.adaptive else value
        gates_target = shortened(gates_at_value @ gate_down.mT, 1)
        if is_l2:
            target, gates_target = target - key - maps_at_key @ down.mT, gates_target - gates_at_key @ gate_down.mT
        drive, gates_drive = rate * target, rate * gates_target
        felt = torch.cat([gates_drive * gate_down, drive @ down], 1)
        runs: list[Run] = [(tokens, felt * slope, recall if boundary is running else None)]
        runs += [(tokens.for_keys(maps_at_key), drive, None), (tokens.for_keys(gates_at_key), gates_drive, None)]
        return advance(runs, running, velocity, momentum)

    def finish(self, read: Tensor, maps: dict[str, Tensor]) -> Tensor:
        """What was read is the output."""
        return read

    def fast_weights(self, running: tuple[Weights, ...], batch: int) -> dict[str, Weights]:
        """Name -> the memory's weights as they stand."""
        weights = {}
        for names, (up, down, gate_down) in zip(self.groups, running, strict=True):
            downs = [*gate_down.unbind(1), *down.unbind(1)]
            weights |= {name: pair for name, *pair in zip(names, up.unbind(1), downs, strict=True)}
        return weights
