"""Self-modifying Titans: against the literal recurrences, streamed, causal, meta-learned through the writes, and what
it refuses."""

import io

import pytest
import torch
from torch.utils._pytree import tree_leaves

from nllab.errors import SettingError, ShapeError
from nllab.memory import SelfModifyingTitans, delta_write, detach, dgd_write, reference
from nllab.memory.titans import map_tensors

# Both forms are exact; what is left is the rounding of float64 over a hundred tokens.
EXACT = 1e-10
DIM = 4
KINDS = {
    "linear": {"heads": 2},
    "mlp": {"hidden": 3, "adaptive": ("key", "inner_lr")},
}
VARIANTS = {
    "mlp": {"hidden": 3},
    "two chunk sizes": {"projection_chunk_size": 6, "heads": 2},
    "two chunk sizes, mlp": {"projection_chunk_size": 6, "hidden": 3},
    "momentum": {"momentum": 0.6},
    "momentum, mlp, two chunk sizes": {"momentum": 0.6, "hidden": 3, "projection_chunk_size": 3},
    "adaptive query": {"adaptive": ("key", "value", "inner_lr", "retention", "query"), "heads": 2},
    "adaptive query, mlp": {"adaptive": ("key", "value", "inner_lr", "retention", "query"), "hidden": 3},
    "static key": {"adaptive": ("value", "inner_lr", "retention"), "heads": 2},
    "static value and rates, mlp": {"adaptive": ("key",), "hidden": 3},
    "only rates, two chunk sizes, mlp": {
        "adaptive": ("inner_lr", "retention"),
        "hidden": 3,
        "projection_chunk_size": 6,
        "momentum": 0.6,
    },
    "plain Titans": {"adaptive": (), "momentum": 0.6, "erase": False, "heads": 2},
    "plain Titans, mlp": {"adaptive": (), "hidden": 3},
    "factor 2": {"gradient_factor": 2.0, "heads": 2},
    "factor 2, mlp": {"gradient_factor": 2.0, "hidden": 3},
    "dot": {"objective": "dot"},
    "dot, mlp": {"objective": "dot", "hidden": 3},
    "plain, dot": {"objective": "dot", "adaptive": ()},
    "no erase, no retention, no convolution": {"erase": False, "retention": False, "conv_window": 0},
    "limited": {"max_norm": 0.9, "heads": 2, "projection_chunk_size": 6},
    "limited, mlp": {"max_norm": 0.5, "hidden": 3},
    "limited, momentum": {"max_norm": 0.5, "momentum": 0.6},
    "limited, plain Titans": {"max_norm": 0.9, "adaptive": ()},
    "no retention, mlp": {"retention": False, "hidden": 3, "conv_window": 1},
}


def layer(seed=0, dtype=torch.float64, device="cpu", dim=DIM, forgets=True, **settings):
    made = SelfModifyingTitans(dim, generator=torch.Generator().manual_seed(seed), **settings)
    if made.retention_bias is not None and forgets:
        # Retention near 0.95, so that a mistake in it would show.
        torch.nn.init.constant_(made.retention_bias, -3.0)
    return made.to(device, dtype)


def tokens(batch, length, dim=DIM, seed=1, dtype=torch.float64, device="cpu"):
    return torch.randn(batch, length, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        device, dtype
    )


def relative(found, expected):
    return max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(found, expected, strict=True))


def joined(tensors):
    return [torch.cat([tensor.double().flatten() for tensor in tensors])]


def tensors(state):
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)]


def in_order(weights):
    return [w for name in sorted(weights) for w in weights[name]]


def outcome(memory, x, slow=False):
    """Outputs, final memories, and the gradients of a scalar of both for the input and every parameter."""
    x = x.detach().requires_grad_()
    if slow:
        y, weights = reference.self_modifying_titans(memory, x)
    else:
        y, state = memory(x)
        weights = memory.fast_weights(state)
    values = [y, *in_order(weights)]
    return values, list(torch.autograd.grad(sum(v.sin().sum() for v in values), [x, *memory.parameters()]))


# Every length and every chunk size; -m slow runs all pairs for both.
PAIRS = [(length, chunk) for length in (1, 7, 63, 64, 100) for chunk in sorted({1, 4, 16, length})]
LONG = {"linear": [(63, 4), (64, 64)], "mlp": [(63, 16)]}


@pytest.mark.parametrize(
    ("kind", "length", "chunk"),
    [
        pytest.param(kind, *pair, marks=[] if pair[0] < 63 or pair in LONG[kind] else pytest.mark.slow)
        for kind in KINDS
        for pair in PAIRS
    ],
)
def test_chunks_match_token_by_token(kind, length, chunk, device):
    memory, x = layer(chunk_size=chunk, device=device, **KINDS[kind]), tokens(2, length, device=device)
    for found, expected in zip(outcome(memory, x), outcome(memory, x, slow=True), strict=True):
        assert relative(found, expected) < EXACT


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_matches_token_by_token(variant, device):
    memory, x = layer(chunk_size=4, device=device, **VARIANTS[variant]), tokens(2, 11, device=device)
    for found, expected in zip(outcome(memory, x), outcome(memory, x, slow=True), strict=True):
        assert relative(found, expected) < EXACT


# Projections that stay as they are for longer than the main memory: its chunks are written together, unless max_norm
# could bind; and how many of 100 tokens are.
TOGETHER = {
    "chunk 1": (100, {"chunk_size": 1, "heads": 2}),
    "chunk 3, projections 50": (96, {"chunk_size": 3, "projection_chunk_size": 50}),
    "chunk 20": (100, {"chunk_size": 20}),
    "dot, factor 2": (100, {"chunk_size": 1, "objective": "dot", "gradient_factor": 2.0, "max_inner_lr": 1.0}),
    "no erase": (100, {"chunk_size": 2, "erase": False}),
    "static key, no retention": (100, {"chunk_size": 1, "adaptive": ("value", "query"), "retention": False}),
    "limited at first": (36, {"chunk_size": 2, "max_norm": 0.9}),
}
BRIEF = ("chunk 3, projections 50", "no erase", "limited at first")  # the others run with -m slow


@pytest.mark.parametrize("variant", [pytest.param(v, marks=[] if v in BRIEF else pytest.mark.slow) for v in TOGETHER])
def test_chunks_written_together_match_token_by_token(variant, device, monkeypatch):
    count, settings = TOGETHER[variant]
    memory, x = layer(device=device, **{"projection_chunk_size": 512, **settings}), tokens(2, 100, device=device)
    lengths, write = [], type(memory.memories).write_chunks

    def counted(self, state, run, *rest):
        found = write(self, state, run, *rest)
        lengths.append(run.key.shape[-2] if found else 0)
        return found

    monkeypatch.setattr(type(memory.memories), "write_chunks", counted)
    together = outcome(memory, x)
    assert sum(lengths) == count
    for found, expected in zip(together, outcome(memory, x, slow=True), strict=True):
        assert relative(found, expected) < EXACT
    state, pieces = None, []
    for piece in x.split([1, 6, 71, 1, 21], dim=1):
        y, state = memory(piece, state)
        pieces.append(y)
    assert relative([torch.cat(pieces, 1)], together[0][:1]) < EXACT
    assert relative(tensors(state), tensors(memory(x)[1])) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_as_good_as_the_reference(kind, device):
    # All tensors as one vector: in a tensor of one number the rounding is luck.
    x = tokens(2, 40, device=device).float().double()
    truth = outcome(layer(device=device, **KINDS[kind]), x, slow=True)
    memory = layer(device=device, dtype=torch.float32, **KINDS[kind])
    for exact, expected, found in zip(
        truth, outcome(memory, x.float(), slow=True), outcome(memory, x.float()), strict=True
    ):
        assert relative(joined(found), joined(exact)) <= 4 * relative(joined(expected), joined(exact))


@pytest.mark.parametrize("variant", ["linear", *VARIANTS])
def test_a_sequence_in_pieces_is_the_whole(variant, device):
    memory, x = (
        layer(chunk_size=4, device=device, **(KINDS | VARIANTS)[variant]),
        tokens(2, 20, device=device).requires_grad_(),
    )
    whole, last = memory(x)
    state, pieces = None, []
    for piece in x.split([1, 1, 5, 2, 8, 3], dim=1):
        y, state = memory(piece, state)
        pieces.append(y)
    assert relative([torch.cat(pieces, 1)], [whole]) < EXACT
    assert state.position == last.position
    assert relative(tensors(state), tensors(last)) < EXACT
    wanted, found = (
        torch.autograd.grad(y.square().sum(), [x, *memory.parameters()]) for y in (whole, torch.cat(pieces, 1))
    )
    assert relative(found, wanted) < EXACT


@pytest.mark.parametrize("variant", ["linear", "mlp", "two chunk sizes", "momentum, mlp, two chunk sizes"])
def test_no_token_sees_a_later_one(variant):
    memory, x = layer(chunk_size=4, **(KINDS | VARIANTS)[variant]), tokens(1, 13).requires_grad_()
    y, _ = memory(x)
    for t in range(13):
        gradient = torch.autograd.grad(y[:, t].sin().sum(), x, retain_graph=True)[0]
        assert gradient[:, t + 1 :].abs().sum() == 0
        assert gradient[:, t].abs().sum() > 0
    changed = x.detach().clone()
    changed[:, 9:] += 1
    assert torch.equal(memory(changed)[0][:, :9], y[:, :9])


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_a_batch_do_not_meet(kind):
    memory, x = layer(chunk_size=4, **KINDS[kind]), tokens(3, 20)
    together, _ = memory(x)
    alone = torch.cat([memory(row)[0] for row in x.split(1)])
    assert relative([together], [alone]) < EXACT
    y, state = memory(x[:, :9])
    one = map_tensors(lambda w: w.unflatten(0, (3, -1))[1].clone(), state)
    assert relative([memory(x[1:2, 9:], one)[0]], [together[1:2, 9:]]) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    memory = layer(chunk_size=2, dim=2, **KINDS[kind] | {"heads": 1})
    names, values = zip(*memory.named_parameters(), strict=True)

    def outputs(x, *parameters):
        y, state = torch.func.functional_call(memory, dict(zip(names, parameters, strict=True)), (x,))
        return y, *tensors(state)

    assert torch.autograd.gradcheck(outputs, (tokens(1, 5, dim=2).requires_grad_(), *values), fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_can_be_taken_of_gradients(kind):
    memory, x = layer(chunk_size=2, dim=2, **KINDS[kind] | {"heads": 1}), tokens(1, 5, dim=2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: memory(x)[0], (x,), fast_mode=True)


@pytest.mark.parametrize("variant", ["linear", "mlp", "two chunk sizes", "adaptive query"])
def test_outer_gradients_reach_everything_through_the_writes(variant):
    memory, x = layer(forgets=False, chunk_size=4, **(KINDS | VARIANTS)[variant]), tokens(2, 9)
    parameters = dict(memory.named_parameters())
    y, _ = memory(x)
    reached = dict(zip(parameters, torch.autograd.grad(y[:, -1].square().sum(), parameters.values()), strict=True))
    assert all(gradient.abs().max() > 0 for gradient in reached.values()), reached
    # Without writes the memories that only write are dead: their gradients came through the writes.
    y, _ = memory(x, writes=False)
    unwritten = torch.autograd.grad(y[:, -1].square().sum(), parameters.values(), allow_unused=True)
    for name, gradient in zip(parameters, unwritten, strict=True):
        if any(part in name for part in ("key", "value", "inner_lr", "retention", "rate_bias")):
            assert gradient is None or gradient.abs().max() == 0


def test_training_the_initial_memories_makes_the_writes_useful():
    """Pairs shown in a sequence must be recalled at its end: only what is written can do it, and the outer loop learns
    to write."""
    generator = torch.Generator().manual_seed(0)
    memory = SelfModifyingTitans(8, chunk_size=1, conv_window=0, max_inner_lr=1.0, generator=generator)
    codes = torch.eye(4)

    def batch(size):
        order = torch.stack([torch.randperm(4, generator=generator) for _ in range(size)])
        asked = torch.randint(3, (size,), generator=generator)
        answers = torch.stack([torch.randperm(4, generator=generator) for _ in range(size)])[:, :3]
        shown = torch.cat([codes[order[:, :3]], codes[answers]], -1)
        question = torch.cat([codes[order[torch.arange(size), asked]], torch.zeros(size, 4)], -1)
        return 2 * torch.cat([shown, question[:, None]], 1), answers[torch.arange(size), asked]

    def loss(x, answer, **options):
        return torch.nn.functional.cross_entropy(10 * memory(x, **options)[0][:, -1, 4:], answer)

    optimizer = torch.optim.Adam(memory.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss(*batch(32)).backward()
        optimizer.step()
    held_out = batch(256)
    with torch.no_grad():
        assert loss(*held_out) < 0.5 * loss(*held_out, writes=False)
        assert loss(*held_out) < 0.5 * torch.tensor(4.0).log()


@pytest.mark.parametrize("variant", ["linear", "mlp", "two chunk sizes", "plain Titans"])
def test_without_writes_it_is_a_static_network(variant):
    """Rate 0 and retention 1: whatever the settings, y depends on the current token alone (no convolution), through
    M_memory,0."""
    settings = (KINDS | VARIANTS)[variant] | {"conv_window": 0, "chunk_size": 4}
    memory, x = layer(**settings), tokens(2, 11)
    y, state = memory(x, writes=False)
    assert relative([y], [torch.cat([memory(token)[0] for token in x.split(1, dim=1)], 1)]) < EXACT
    for found, expected in zip(
        in_order(memory.fast_weights(state)), in_order(memory.fast_weights(memory.start(2))), strict=True
    ):
        assert torch.equal(found, expected)
    frozen = layer(**settings | {"max_inner_lr": 0.0, "retention": False})
    frozen.load_state_dict({name: value for name, value in memory.state_dict().items() if "retention" not in name})
    assert relative([frozen(x)[0]], [y]) < EXACT


def test_a_fresh_convolution_lets_the_current_token_through():
    weight = layer(dim=64).conv.mean((0, 2))
    torch.testing.assert_close(weight, torch.tensor([0.0, 0, 0, 1], dtype=torch.float64), atol=0.1, rtol=0)


def test_linear_memories_share_one_matrix():
    memory = layer(heads=2, chunk_size=4)
    _, state = memory(tokens(2, 10))
    (pi,) = state.running[0]
    for name, (weight,) in memory.fast_weights(state).items():
        torch.testing.assert_close(weight, memory.memories.initial[name] @ pi.unflatten(0, (2, 2)))


def test_a_stored_pair_survives_a_thousand_tokens():
    """With a fresh layer's own retention, 0.9 of what is stored is read after 1,000 tokens that write nothing, or at
    orthogonal keys."""
    memory = layer(forgets=False, dim=16)
    _, stored = memory(tokens(4, 32, dim=16))
    memory.max_inner_lr = 0.0
    (one,), (first,) = (
        memory.fast_weights(memory(tokens(500, 1, dim=16))[1])["memory"],
        memory.fast_weights(memory.start(500))["memory"],
    )
    retention = (one * first).sum((-2, -1)) / first.square().sum((-2, -1))
    assert retention.min() >= 0.9999
    _, state = memory(tokens(4, 1000, dim=16, seed=2), stored)
    for before, after in zip(in_order(memory.fast_weights(stored)), in_order(memory.fast_weights(state)), strict=True):
        assert torch.all((after / before) >= 0.9)
    pair = torch.eye(16, dtype=torch.float64)[:1]
    _, state = delta_write(torch.zeros(16, 16, dtype=torch.float64), pair, 3 * pair)
    keys = torch.nn.functional.pad(torch.nn.functional.normalize(tokens(1, 1000, dim=15)[0], dim=-1), (1, 0))
    _, state = dgd_write(state, keys, tokens(1, 1000, dim=16)[0], 0.5, retention.min().item())
    assert state[0, 0] >= 0.9 * 3


def streams(length, dim=16):
    """Random, constant, two tokens in turn, and very large: what makes feedback grow."""
    x = tokens(8, length, dim)
    return torch.cat([x, x[:, :1].expand_as(x), x[:, :2].repeat(1, length // 2, 1), 20 * x])


@pytest.mark.parametrize(
    "settings", [{}, {"hidden": 16}, {"adaptive": (), "erase": False, "momentum": 0.9, "max_inner_lr": 0.05}]
)
def test_at_the_rates_it_starts_with_targets_alone_keep_the_memories_bounded(settings):
    memory = layer(forgets=False, dim=16, retention=False, max_norm=1e9, **settings)
    with torch.no_grad():
        assert memory(streams(256))[0].abs().max() < 2


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9},
        {"hidden": 16},
        {"hidden": 16, "objective": "dot", "momentum": 0.9},
        {"chunk_size": 1, "max_inner_lr": 1.0},
        {"adaptive": (), "erase": False, "momentum": 0.9},
    ],
)
def test_no_stream_rate_or_momentum_makes_them_diverge(settings):
    made = [layer(forgets=False, dim=16, retention=False, max_norm=limit, **settings) for limit in (10.0, 1e9)]
    with torch.no_grad():
        for memory in made:
            memory.rate_bias.fill_(4.0)
        y, state = made[0](streams(128))
        free = made[1](streams(128))[1]
    norms, unlimited = (
        torch.cat([w.square().sum(-1).mean(-1).sqrt().flatten() for group in s.running for w in group])
        for s in (state, free)
    )
    assert y.isfinite().all() and norms.max() <= 10 + 1e-9
    assert not unlimited.max() <= 12  # the limit was needed


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_state_and_writes_stay_in_float32(kind, device):
    memory = layer(dtype=torch.float32, device=device, **KINDS[kind])
    x = tokens(2, 40, dtype=torch.bfloat16, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        y, state = memory(x)
    assert y.dtype == torch.bfloat16
    expected, wanted = memory(x.float())
    for found, exact in zip(tensors(state), tensors(wanted), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, exact)
    assert torch.equal(y, expected.bfloat16())


@pytest.mark.parametrize("variant", ["linear", "mlp", "plain Titans"])
def test_a_state_does_not_change_when_an_optimizer_changes_the_layer(variant):
    memory = layer(**(KINDS | VARIANTS)[variant])
    with torch.no_grad():
        _, state = memory(tokens(2, 3))
        before = [w.clone() for w in tensors(state)]
        for parameter in memory.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(tensors(state), before, strict=True))


def test_a_layer_in_half_precision_keeps_its_state_in_float32():
    memory, x = layer(dtype=torch.bfloat16), tokens(2, 20, dtype=torch.bfloat16)
    y, state = memory(x)
    assert y.dtype == torch.bfloat16 and all(w.dtype == torch.float32 for w in tensors(state))
    assert relative([y.float()], [layer(dtype=torch.bfloat16).float()(x.float())[0]]) < 1e-2


def test_a_call_leaves_the_state_it_was_given_as_it_was():
    memory = layer(chunk_size=4, momentum=0.5)
    _, state = memory(tokens(2, 6))
    before = [w.clone() for w in tensors(state)]
    memory(tokens(2, 9), state)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(state), strict=True))
    assert not any(w.requires_grad for w in tensors(detach(state)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim is 0; .*1 or more"),
        ({"heads": 3}, "dim is 4 and heads is 3; .*multiple"),
        ({"heads": 0}, "heads is 0"),
        ({"chunk_size": 0}, "chunk_size is 0; .*whole number, 1 or more"),
        ({"chunk_size": 2.5}, "chunk_size is 2.5"),
        ({"projection_chunk_size": 0}, "projection_chunk_size is 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"adaptive": ("keys",)}, "adaptive projection 'keys'.*Did you mean 'key'"),
        ({"objective": "l1"}, "objective 'l1'"),
        ({"momentum": 1.0}, r"momentum is 1.0; .*\[0, 1\)"),
        ({"momentum": "0.9"}, "momentum is '0.9'; expected a number"),
        ({"dim": "4"}, "dim is '4'"),
        ({"hidden": "8"}, "hidden is '8'"),
        ({"conv_window": "4"}, "conv_window is '4'; .*0 or more"),
        ({"max_inner_lr": "0.5"}, "max_inner_lr is '0.5'"),
        ({"max_norm": "10"}, "max_norm is '10'"),
        ({"adaptive": None}, r"adaptive is None; expected some of .*key.*\(\) for none"),
        ({"adaptive": 3}, "adaptive is 3"),
        ({"adaptive": (None,)}, "adaptive projection None"),
        ({"objective": None}, "objective None"),
        ({"conv_window": -1}, "conv_window is -1"),
        ({"max_inner_lr": 1.5}, r"max_inner_lr is 1.5; .*\[0, 1\]"),
        ({"max_inner_lr": float("nan")}, "max_inner_lr is nan"),
        ({"max_norm": 0.0}, r"max_norm is 0.0; .*\(0, inf\)"),
        ({"max_norm": float("inf")}, r"max_norm is inf; .*\(0, inf\)"),
        ({"heads": True}, "heads is True"),
        ({"erase": "no"}, "erase is 'no'; expected a bool"),
        ({"retention": 1}, "retention is 1; expected a bool"),
        ({"generator": 7}, "generator is 7; expected a Generator"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        SelfModifyingTitans(**{"dim": DIM} | settings)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, DIM), r"x has shape \(3, 4\); expected \(B, T, 4\)"),
        (torch.zeros(2, 3, 5), r"x has shape \(2, 3, 5\)"),
        (torch.zeros(2, 0, DIM), r"x has shape \(2, 0, 4\); .*1 or more"),
        (torch.zeros(2, 3, DIM, dtype=torch.float64), "x is torch.float64; .*torch.float32"),
        (torch.zeros(2, 3, DIM, dtype=torch.int64), "x is torch.int64"),
        (torch.zeros(2, 3, DIM, device="meta"), "x is on meta; expected cpu"),
        (torch.full((2, 3, DIM), float("nan")), "x holds 24 values of 24 that are NaN"),
        (torch.zeros(2, 3, DIM).to_sparse(), "x is torch.sparse_coo; expected a tensor"),
        (torch.zeros(0, 3, DIM), r"x has shape \(0, 3, 4\); .*B 1 or more"),
        ([[0.0]], "x is a list"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, message):
    with pytest.raises(ShapeError, match=message):
        SelfModifyingTitans(DIM)(x)


def test_what_is_not_a_switch_or_a_state_is_named():
    memory, x = SelfModifyingTitans(DIM), torch.ones(2, 3, DIM)
    with pytest.raises(SettingError, match="writes is 'no'; expected a bool"):
        memory(x, writes="no")
    for batch in (0, True, "2", 1.0):
        with pytest.raises(SettingError, match=f"batch is {batch!r}"):
            memory.start(batch)
    good = memory.start(2)
    for state, message in [
        (None, "state is None; expected a MemoryState"),
        (good._replace(recent=None), "state.recent is None; expected a Tensor"),
        (good._replace(running=()), "state.running is 0 parts"),
    ]:
        with pytest.raises(SettingError, match=message):
            memory.fast_weights(state)


def test_states_that_do_not_fit_are_named():
    memory, x = SelfModifyingTitans(DIM), torch.ones(2, 3, DIM)
    other = SelfModifyingTitans(DIM, hidden=5)
    good = memory(x)[1]
    for state, message in [
        (memory(torch.ones(3, 3, DIM))[1], r"state.boundary.0.0 has shape \(3, 4, 4\); expected \(2, 4, 4\)"),
        (other(x)[1], r"state.boundary.0 is 3 parts; expected a tuple of 1"),
        (map_tensors(torch.Tensor.double, good), "state.boundary.0.0 .*is torch.float64; expected torch.float32"),
        (map_tensors(lambda w: w.to("meta"), good), "state.boundary.* is on meta; expected cpu"),
        (map_tensors(lambda w: w * float("nan"), good), "state.boundary.* holds .* NaN"),
        (good._replace(recent=good.recent / 0), "state.recent .*holds 24 values .* NaN"),
        (torch.zeros(2, 4), "state is a Tensor; expected a MemoryState"),
        (good._replace(velocity=()), "state.velocity is 0 parts; expected a tuple of 1"),
        (good._replace(running=None), "state.running is a NoneType; expected a tuple of 1"),
        (good._replace(running=(None,)), "state.running.0 is a NoneType"),
        (good._replace(running=((None,),)), "state.running.0.0 .*is a NoneType; expected a tensor"),
        (good._replace(recent=None), "state.recent .*is a NoneType"),
        (good._replace(recent=good.recent[:, 1:]), r"state.recent .*has shape \(2, 2, 4\); expected \(2, 3, 4\)"),
        (good._replace(position=-1), "state.position is -1; .*0 or more"),
        (good._replace(position="3"), "state.position is '3'"),
        (good._replace(position=None), "state.position is None"),
    ]:
        with pytest.raises(SettingError, match=message):
            memory(x, state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": 3},
        {"projection_chunk_size": 2, "heads": 2, "momentum": 0.5},
        {"chunk_size": 1, "projection_chunk_size": 4},
    ],
)
def test_compiled_it_is_the_layer_itself(settings):
    memory, x = layer(dtype=torch.float32, **{"chunk_size": 4, **settings}), tokens(2, 9, dtype=torch.float32)

    def everything(run):
        start = x.clone().requires_grad_()
        y, state = run(start)
        again, last = run(start, state)
        values = [y, again, *tensors(last)]
        return values, torch.autograd.grad(sum(v.sin().sum() for v in values), [start, *memory.parameters()])

    for found, expected in zip(everything(torch.compile(memory, backend="aot_eager")), everything(memory), strict=True):
        assert relative(joined(found), joined(expected)) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_it_reads_any_length():
    memory = layer(dtype=torch.float32, chunk_size=4)
    fast = torch.compile(memory, backend="aot_eager")
    for length in (9, 14, 6):  # from the second one on the length is a symbol
        x = tokens(2, length, dtype=torch.float32)
        assert relative(fast(x)[0], memory(x)[0]) < 1e-5


def test_a_saved_state_is_opened_by_default():
    for settings in ({}, {"hidden": 3, "momentum": 0.5}):
        memory = layer(**{"chunk_size": 4, **settings})
        _, state = memory(tokens(2, 9))
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        found = torch.load(file, weights_only=True)
        assert type(found) is type(state) and found.position == state.position
        assert torch.equal(memory(tokens(2, 5), found)[0], memory(tokens(2, 5), state)[0])
