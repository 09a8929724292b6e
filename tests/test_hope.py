"""HOPE and its peers: the clock of tokens against a slow reference, streams cut anywhere, causality, known limits,
learning to learn."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from nllab.errors import SettingError, ShapeError
from nllab.levels import assign
from nllab.memory.titans import map_tensors
from nllab.models.classifier import CMSClassifier
from nllab.models.cms import ContinuumMemory, MLPBlock
from nllab.models.hope import (
    MIXERS,
    Block,
    Hope,
    HopeAttention,
    HopeClassifier,
    HopeLM,
    LanguageModel,
    PeerLM,
    detach,
    from_pretrained_mlps,
    next_token_loss,
)
from nllab.models.mixers import LSTM, CausalAttention, LinearAttention, Window, rotate

# Two summation orders in float64.
EXACT = {"rtol": 1e-9, "atol": 1e-11}
V = 7


def stirred(model, device="cpu", dtype=torch.float64):
    """The model with blocks that are no longer the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "inner_lr" not in name:
                p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return model.to(device, dtype)


def lm(mixer="attention", *, layers=2, device="cpu", **settings) -> LanguageModel:
    torch.manual_seed(0)
    return stirred(HopeLM(V, 6, layers, mixer=mixer, **{"hidden": 5, "levels": (2, 6), **settings}), device)


def some_tokens(batch=2, length=15, device="cpu"):
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(3)).to(device)


def read_slowly(model, tokens):
    """The clock of tokens without tricks: each sequence alone, weights by name, no flat rows, nothing batched."""
    rows = []
    for row in tokens:
        initial = [{n: dict(m.named_parameters()) for n, m in b.memory.blocks.items()} for b in model.blocks]
        weights, mixers, position, scores = deepcopy_tree(initial), [None] * len(model.blocks), 0, []
        sums = [{n: {k: torch.zeros_like(p) for k, p in w.items()} for n, w in level.items()} for level in initial]
        periods = model.blocks[0].memory.periods
        while position < len(row):
            end = min([position - position % p + p for p in periods.values()] + [len(row)])

            here = [{n: {k: p.view_as(p) for k, p in w.items()} for n, w in level.items()} for level in weights]
            x, after = model.embed(row[None, position:end]), []
            for block, levels, mixer in zip(model.blocks, here, mixers, strict=True):
                o, mixer = block.mixer(F.layer_norm(x, x.shape[-1:]), mixer)
                x = x + o
                for name, w in levels.items():
                    x = functional_call(block.memory.blocks[name], w, (x,))
                after.append(mixer)
            y = model.head(F.layer_norm(x, x.shape[-1:]))[0]
            wanted = row[position + 1 : end + 1]
            loss = F.cross_entropy(y[: len(wanted)], wanted, reduction="sum")
            flat = iter(
                torch.autograd.grad(
                    loss, [p for level in here for w in level.values() for p in w.values()], create_graph=True
                )
            )
            found = [{n: {k: next(flat) for k in w} for n, w in level.items()} for level in here]
            scores.append(y)
            position, mixers = end, after
            for level, w, s, g, block in zip(initial, weights, sums, found, model.blocks, strict=True):
                for i, (name, period) in enumerate(periods.items()):
                    s[name] = {k: s[name][k] + g[name][k] for k in s[name]}
                    if position % period == 0:
                        w[name] = {k: w[name][k] - block.memory.inner_lr[i] * s[name][k] for k in s[name]}
                        s[name] = {k: torch.zeros_like(v) for k, v in s[name].items()}
                names = list(periods)
                for fast, slow in zip(names, names[1:], strict=False):
                    if block.memory.variant == "nested" and position % periods[slow] == 0:
                        w[fast] = level[fast]
        rows.append(torch.cat(scores))
    return torch.stack(rows)


def deepcopy_tree(tree):
    """New dicts around the same tensors."""
    return [{n: dict(w) for n, w in level.items()} for level in tree]


@pytest.mark.parametrize(
    "settings",
    [
        {"mixer": "linear"},
        {"mixer": "self-modifying", "chunk_size": 3, "variant": "nested"},
        {"mixer": "window", "variant": "nested"},
    ],
    ids=lambda settings: settings["mixer"],
)
def test_the_clock_of_tokens_matches_a_slow_reading(settings, device):
    model = lm(**settings, inner_lr=0.0625, device=device)
    tokens = some_tokens(device=device)
    fast, slow = model(tokens), read_slowly(model, tokens)
    torch.testing.assert_close(fast, slow, **EXACT)
    parameters = list(model.parameters())
    for g, w in zip(*(torch.autograd.grad(next_token_loss(y, tokens), parameters) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(g, w, **EXACT)
        assert g.abs().max() > 0


@pytest.mark.parametrize("inner_lr", [None, 0.1])
@pytest.mark.parametrize("mixer", MIXERS)
def test_any_cutting_gives_the_same_scores_and_a_later_token_changes_nothing_before_it(mixer, inner_lr, device):
    model, tokens = lm(mixer, inner_lr=inner_lr, device=device), some_tokens(length=14, device=device)
    whole, state, pieces = model(tokens), None, []
    for piece in tokens.split([1, 4, 2, 1, 6], 1):
        scores, state = model.stream(piece, state)
        pieces.append(scores)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, **EXACT)
    changed = tokens.clone()
    changed[0, 6] = (changed[0, 6] + 1) % V  # the first token after a write: its loss drives that write
    other = model(changed)
    assert torch.equal(other[:, :6], whole[:, :6]) and torch.equal(other[1], whole[1])
    assert not torch.equal(other[0, 6], whole[0, 6])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), whole, **EXACT)
        states = [model.stream(tokens[:, :n])[1] for n in (1, 14)]
    assert not any(w.requires_grad for w in tree_leaves(states) if isinstance(w, torch.Tensor))
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens), whole, **EXACT)


def test_levels_write_once_the_next_token_of_a_whole_period_is_known():
    model, tokens = lm(inner_lr=0.1, levels=(2, 5)), some_tokens(1, 15)
    _, state = model.stream(tokens[:, :1])
    writes: dict[str, list[int]] = {"fast": [], "slow": []}
    for t in range(1, 15):
        before = state.memories[0].fast_weights
        _, state = model.stream(tokens[:, t : t + 1], state)
        for name, w in state.memories[0].fast_weights.items():
            if not torch.equal(w, before[name]):
                writes[name].append(t)  # token t is the next token of t tokens before it
    assert writes == {"fast": [2, 4, 6, 8, 10, 12, 14], "slow": [5, 10]}


def test_a_repeated_pair_is_predicted_better_after_it_was_written_and_not_before():
    model = lm("window", window=1, inner_lr=0.0625, levels=(4,))
    tokens = torch.tensor([[1, 2, 1, 2, 1, 2, 1, 2, 1]])
    written, frozen = (
        F.cross_entropy(model(tokens, writes=w)[0, :-1], tokens[0, 1:], reduction="none") for w in (True, False)
    )
    torch.testing.assert_close(written[:4], frozen[:4], **EXACT)
    assert (written[4:] < frozen[4:]).all()


def test_outer_gradients_equal_finite_differences():
    model, tokens = lm("linear", layers=1, inner_lr=0.125), some_tokens(1, 9)
    next_token_loss(model(tokens), tokens).backward()
    for p in model.parameters():
        direction = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(5))
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                p.add_(step * direction)
                losses.append(next_token_loss(model(tokens), tokens))
                p.sub_(step * direction)
        torch.testing.assert_close((p.grad * direction).sum(), (losses[0] - losses[1]) / 2e-5, rtol=1e-4, atol=1e-8)


def test_truncation_keeps_the_scores_and_stops_outer_gradients():
    model, tokens = lm("self-modifying", inner_lr=0.1), some_tokens()
    first, state = model.stream(tokens[:, :9])
    second, _ = model.stream(tokens[:, 9:], detach(state))
    torch.testing.assert_close(torch.cat([first, second], 1), model(tokens), **EXACT)
    assert torch.autograd.grad(second.sum(), first, allow_unused=True) == (None,)
    own = [b.memory.blocks["fast"].down.weight for b in model.blocks]
    assert torch.autograd.grad(second.sum(), own, allow_unused=True) == (None, None)


def test_writes_off_leaves_a_static_network():
    model, tokens = lm("self-modifying", inner_lr=0.1), some_tokens()
    static = deepcopy(model)
    for block in static.blocks:
        block.mixer.max_inner_lr, block.mixer.retention = 0.0, False
        torch.nn.init.zeros_(block.memory.inner_lr)
    torch.testing.assert_close(model(tokens, writes=False), static(tokens), **EXACT)
    assert not torch.allclose(model(tokens), static(tokens))
    _, state = model.stream(tokens[:, :9])
    quiet, after = model.stream(tokens[:, 9:], state, writes=False)
    assert quiet.shape == (2, 6, V) and after.pending.shape == (
        2,
        0,
    )  # what waited has been read, and is not answered twice
    assert torch.equal(quiet, model.stream(tokens[:, 9:], state, writes=False)[0])
    for before, now in zip(state.memories, after.memories, strict=True):
        assert all(torch.equal(before.fast_weights[n], now.fast_weights[n]) for n in before.fast_weights)
    _, quiet_start = model.stream(tokens[:, :5], writes=False)
    _, woken = model.stream(tokens[:, 5:], quiet_start)
    assert woken.memories[0].position == 8  # the clock starts with the first token that may be written


@pytest.mark.parametrize("mixer", ["attention", "self-modifying"])
def test_stacked_levels_at_rate_0_are_the_pretrained_model_bit_for_bit(mixer):
    pretrained, tokens = lm(mixer, layers=4, levels=(1,)).float(), some_tokens()
    stacked = from_pretrained_mlps(pretrained, (2, 6))
    assert [tuple(b.memory.periods.items()) for b in stacked.blocks] == [(("fast", 2),)] * 2 + [(("slow", 6),)] * 2
    assert torch.equal(stacked(tokens), pretrained(tokens))
    counts = [sum(p.numel() for n, p in m.named_parameters() if "inner_lr" not in n) for m in (stacked, pretrained)]
    assert counts[0] == counts[1]
    assert not {p.data_ptr() for p in stacked.parameters()} & {p.data_ptr() for p in pretrained.parameters()}
    assert stacked.training and not from_pretrained_mlps(pretrained.eval(), (2,)).training
    learning = from_pretrained_mlps(pretrained, (2, 6), inner_lr=0.1)
    torch.testing.assert_close(learning(tokens)[:, :2], pretrained(tokens)[:, :2])
    assert (learning(tokens)[:, 2:] - pretrained(tokens)[:, 2:]).abs().max() > 1e-4


def test_one_level_of_rate_0_is_an_ordinary_transformer():
    block, x = (
        stirred(HopeAttention(8, (1,), heads=2, rotary=False, hidden=16)),
        torch.randn(2, 5, 8, dtype=torch.float64),
    )
    mixer, mlp = block.mixer, block.memory.blocks["memory"]
    q, k, v = (p.unflatten(-1, (2, 4)).transpose(1, 2) for p in mixer.qkv(F.layer_norm(x, (8,))).chunk(3, -1))
    weights = (q @ k.mT / 2 + torch.full((5, 5), float("-inf"), dtype=torch.float64).triu(1)).softmax(-1)
    h = x + mixer.out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), h + mlp.down(torch.relu(mlp.up(F.layer_norm(h, (8,))))), **EXACT)


def test_rotary_positions_count_distances_not_places():
    q, k = torch.randn(2, 1, 1, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(rotate(q, 0) @ rotate(k, 0).mT, rotate(q, 90) @ rotate(k, 90).mT, **EXACT)
    assert not torch.allclose(rotate(q, 0) @ rotate(k, 0).mT, rotate(q, 1) @ rotate(k, 0).mT)


@pytest.mark.parametrize("delta", [False, True])
def test_linear_attention_and_deltanet_match_their_definitions(delta):
    mixer, x = (
        stirred(LinearAttention(6, heads=2, delta=delta, conv_window=3)),
        torch.randn(2, 70, 6, dtype=torch.float64),
    )
    padded = F.pad(x, (0, 0, 2, 0))
    z = sum(padded[:, i : i + 70] * mixer.conv[:, i] for i in range(3))
    q, k, v = (p.unflatten(-1, (2, 3)).transpose(1, 2) for p in mixer.qkv(z).chunk(3, -1))
    if delta:
        q, k = (F.normalize(F.silu(p), dim=-1) for p in (q, k))
        beta, state, reads = (
            torch.sigmoid(mixer.beta(z)).transpose(1, 2),
            torch.zeros(2, 2, 3, 3, dtype=torch.float64),
            [],
        )
        for t in range(70):
            error = v[:, :, t] - torch.einsum("bhvk,bhk->bhv", state, k[:, :, t])
            state = state + torch.einsum("bh,bhv,bhk->bhvk", beta[:, :, t], error, k[:, :, t])
            reads.append(torch.einsum("bhvk,bhk->bhv", state, q[:, :, t]))
        y = torch.stack(reads, 2)
    else:
        weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT).tril()
        y = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(mixer(x)[0], mixer.out(y.transpose(1, 2).flatten(2)), **EXACT)


def test_peers_have_the_same_width_and_as_many_parameters():
    budget = sum(p.numel() for p in HopeLM(50, 32, 2).parameters())
    for mixer in MIXERS:
        model = PeerLM(50, 32, 2, mixer=mixer, parameters=budget)
        assert model.embed.embedding_dim == 32 and len(model.blocks[0].memory.periods) == 1
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(budget, rel=0.01)
    with pytest.raises(SettingError, match="parameters is 100; at width 32 it has at least"):
        PeerLM(50, 32, 2, mixer="lstm", parameters=100)


@pytest.mark.parametrize(
    "model",
    [
        HopeLM(V, 8, 2, levels=(1, 4), variant="independent", inner_lr=0.1),
        HopeClassifier((4, 4), 3, 8, 2, mixer="attention"),
    ],
    ids=["lm", "classifier"],
)
def test_levels_hold_every_parameter_and_write_together_across_blocks(model):
    levels = model.levels()
    held = assign(levels, [n for n, _ in model.named_parameters()])
    assert [level.name for level in levels] == ["input", "mixer", *model.blocks[0].memory.periods, "head"]
    assert sum(len(names) for names in held.values()) == len(list(model.parameters()))
    assert {n.split(".")[1] for n in held["fast"]} == {"0", "1"}


def test_levels_of_several_blocks_are_ordered_from_fast_to_slow():
    model = LanguageModel(V, [Hope(4, {"slow": 8}), Hope(4, {"fast": 2})])
    assert [level.name for level in model.levels()] == ["input", "mixer", "fast", "slow", "head"]


def test_plain_titans_neither_erases_nor_generates():
    mixer = Hope(4, (1,), mixer="titans").mixer
    assert not mixer.erase and mixer.adaptive == () and mixer.momentum == 0.9


def test_the_classifier_reads_without_writing_if_told_and_knows_the_place_of_a_patch():
    model, images = (
        stirred(HopeClassifier((6, 4), 3, 8, chunk_size=2, levels=(1,)), dtype=torch.float32),
        torch.randn(2, 6, 4),
    )
    static = deepcopy(model)
    static.blocks[0].mixer.max_inner_lr, static.blocks[0].mixer.retention = 0.0, False
    torch.testing.assert_close(model(images, writes=False), static(images))
    assert not torch.allclose(model(images), static(images))
    torch.nn.init.zeros_(static.place)
    assert not torch.allclose(model(images, writes=False), static(images))  # a patch's place counts


def test_the_classifier_cuts_images_into_patches_in_reading_order():
    model = HopeClassifier((2, 4, 6), 3, 8, patch=(2, 3), mixer="attention", levels=(1,))
    images, seen = torch.arange(2 * 2 * 4 * 6).view(2, 2, 4, 6).float(), []
    hook = model.embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(images)
    hook.remove()
    expected = [images[:, :, r : r + 2, c : c + 3].flatten(1) for r in (0, 2) for c in (0, 3)]
    assert torch.equal(seen[0], torch.stack(expected, 1))
    assert torch.equal(model(images), model(images.flatten(1)))


@pytest.mark.parametrize("mixer", ["self-modifying", "attention"])
def test_the_classifier_learns_where_a_bar_is(mixer):
    torch.manual_seed(0)
    model = HopeClassifier((4, 4), 4, 16, mixer=mixer, levels=(1, 2))
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (128,), generator=generator)
    images = torch.randn(128, 4, 4, generator=generator) * 0.2 + F.one_hot(labels, 4).unsqueeze(-1)
    torch.testing.assert_close(F.cross_entropy(model(images), labels), torch.tensor(4.0).log())
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images[:96]), labels[:96]).backward()
        optimizer.step()
    assert (model(images[96:]).argmax(1) == labels[96:]).float().mean() > 0.9


def permuted_cycles(count, length, symbols, generator):
    """Each sequence walks round its own random cycle through all symbols: only what is learned inside it predicts
    it."""
    return torch.rand(count, symbols, generator=generator).argsort(1).repeat(1, -(-length // symbols))[:, :length]


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"mixer": "window", "window": 1, "inner_lr": 0.1, "levels": (6,)}, 40),
        pytest.param(
            {"mixer": "self-modifying", "chunk_size": 6, "conv_window": 2, "levels": (1,)}, 120, marks=pytest.mark.slow
        ),
    ],
    ids=["cms", "self-modifying"],
)
def test_learning_to_learn_is_real(settings, steps):
    torch.manual_seed(0)
    model = HopeLM(6, 16, 1, hidden=32, **settings)
    generator = torch.Generator().manual_seed(1)
    held_out = permuted_cycles(64, 24, 6, torch.Generator().manual_seed(99))

    def loss(**options):
        with torch.no_grad():
            return float(next_token_loss(model(held_out, **options), held_out))

    untrained = loss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        tokens = permuted_cycles(32, 24, 6, generator)
        optimizer.zero_grad()
        next_token_loss(model(tokens), tokens).backward()
        optimizer.step()
    # ln 5 = 1.61: no symbol follows itself, and nothing else can be known without memory.
    assert loss() < 1.2 < untrained
    assert loss(writes=False) > 1.4


@pytest.mark.parametrize("mixer", MIXERS)
def test_state_is_float32_under_autocast_and_scores_stay_close(mixer):
    model, tokens = lm(mixer, inner_lr=0.02).float(), some_tokens()
    exact = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        scores, state = model.stream(tokens)
    assert all(w.dtype == torch.float32 for m in state.memories for w in m.fast_weights.values())
    assert (scores.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_settings_that_cannot_be_are_named():
    for make, words in [
        (lambda: Hope(8, (1,), mixer="atention"), "Unknown mixer 'atention'. Did you mean 'attention'"),
        (lambda: Hope(8, (1,), mixer="attention", heads=3), "dim is 8 and heads is 3; .*multiple"),
        (lambda: Hope(8, (1,), chunks=3), "does not take these settings: chunks"),
        (lambda: HopeLM(0, 8), "vocabulary is 0"),
        (lambda: HopeLM(5, 8, 0), "layers is 0; .*1 or more"),
        (lambda: HopeLM(5, 8, outputs=2, inner_lr=0.1), "needs next-token scores"),
        (lambda: LanguageModel(5, [Hope(8, (1,)), Hope(4, (1,))]), "blocks differ in width"),
        (lambda: from_pretrained_mlps(HopeLM(5, 8, 2, levels=(1,)), (1, 2, 3)), "3 periods for 2 layers"),
        (lambda: from_pretrained_mlps(HopeLM(5, 8, 1), (1,)), "layer 0 holds 3 levels"),
        (lambda: HopeClassifier((4, 5), 2, patch=(2, 2)), r"\(2, 2\) do not tile an image of \(4, 5\)"),
        (
            lambda: from_pretrained_mlps(HopeLM(5, 8, 2, levels=(1,)), (8, 1)),
            r"periods are \(8, 1\); expected them from fast to slow",
        ),
        (
            lambda: from_pretrained_mlps(HopeLM(5, 8, 2, levels=(1,)), 8),
            "periods is 8; expected 1 or more whole numbers",
        ),
        (lambda: from_pretrained_mlps(HopeLM(5, 8, 2, levels=(1,)), (1, "8")), "periods.*'8'"),
        (lambda: HopeLM("5", 8), "vocabulary is '5'"),
        (lambda: HopeLM(5, "8"), "dim is '8'"),
        (lambda: HopeLM(5, 8, "2"), "layers is '2'"),
        (lambda: HopeLM(5, 8, outputs="2"), "outputs is '2'"),
        (lambda: HopeLM(5, 8, mixer=None), "mixer None"),
        (lambda: HopeLM(5, 8, mixer="attention", heads="2"), "heads is '2'"),
        (lambda: HopeLM(5, 8, mixer="window", window="2"), "window is '2'"),
        (lambda: HopeLM(5, 8, mixer="linear", conv_window="2"), "conv_window is '2'"),
        (lambda: PeerLM(5, 8, mixer="window", parameters="900"), "parameters is '900'"),
        (lambda: PeerLM(5, 8, mixer="window", parameters=900, hidden=4), "chooses hidden itself"),
        (lambda: LanguageModel(5, []), r"blocks are \[\]"),
        (lambda: LanguageModel(5, [torch.nn.Linear(2, 2)]), r"blocks are \[Linear"),
        (lambda: HopeClassifier((4, 5), 2, patch=(2, 0)), r"patch, here \(2, 0\), has a part that is 0"),
        (lambda: HopeClassifier((4, 5), 2, patch=2), "patch is 2; expected 2 whole numbers"),
        (lambda: HopeClassifier((4, 5), 2, patch=(2,)), r"patch is \(2,\)"),
        (lambda: HopeClassifier((4, 5), 2, patch="22"), "patch is '22'"),
        (lambda: HopeClassifier((4, 5), 2, patch=("2", 5)), "has a part that is '2'"),
        (lambda: HopeClassifier((4, 5), 2, patch=()), r"patch is \(\)"),
        (lambda: HopeClassifier(16, 2), "shape is 16; expected 2 or 3 whole numbers"),
        (lambda: HopeClassifier((4,), 2), r"shape is \(4,\)"),
        (lambda: HopeClassifier((4, 4.0), 2), "has a part that is 4.0"),
        (lambda: HopeClassifier(None, 2), "shape is None"),
        (lambda: HopeClassifier((4, 4), "2"), "classes is '2'"),
        (lambda: HopeClassifier((4, 4), 2, "8"), "dim is '8'"),
        (lambda: HopeClassifier((4, 4), 2, layers=0), "layers is 0"),
        (lambda: HopeClassifier((4, 4), 2, inner_lr=0.1), "inner_lr"),
        (lambda: MLPBlock(4, 0), "hidden is 0"),
        (lambda: LanguageModel(5, None), "blocks are None"),
        (lambda: Block("attention", ContinuumMemory(4, (1,))), "mixer is 'attention'; expected a Module"),
        (lambda: Block(CausalAttention(4), None), "memory is None; expected a ContinuumMemory"),
        (lambda: from_pretrained_mlps(None, (1,)), "model is None; expected a LanguageModel"),
        (lambda: CausalAttention(4, rotary="no"), "rotary is 'no'"),
        (lambda: LinearAttention(4, delta=1), "delta is 1; expected a bool"),
        (lambda: LSTM("4"), "dim is '4'"),
        (lambda: Window(0), "dim is 0"),
        (lambda: CMSClassifier(16, 2, hidden=0), "hidden is 0"),
        (lambda: CMSClassifier(16, 2, dim="4"), "dim is '4'"),
        (lambda: CMSClassifier(16, 2, image_shape=4), "image_shape is 4; expected 2 whole numbers"),
        (lambda: HopeLM(5, 4)(some_tokens() % 5, writes=1), "writes is 1; expected a bool"),
    ]:
        with pytest.raises(SettingError, match=words):
            make()


def test_bad_input_is_named_before_anything_is_computed():
    model, tokens = lm(inner_lr=0.1), some_tokens()
    for bad, words in [
        (tokens[0], r"shape \(15,\)"),
        (tokens[:, :0], r"\(2, 0\)"),
        (tokens.float(), "tokens is torch.float32; expected torch.int64"),
        (tokens.bool(), "torch.bool"),
        (tokens + V, f"expected 0 to {V - 1}"),
        (tokens - 1, "from -1"),
        ([[1]], "tokens is a list"),
    ]:
        with pytest.raises(ShapeError, match=words):
            model(bad)
    _, state = model.stream(tokens)
    for change, words in [
        ({"pending": None}, "state.pending is a NoneType"),
        ({"pending": state.pending[:1]}, r"state.pending has shape \(1, 1\); expected \(2, t\)"),
        ({"pending": state.pending[0]}, r"state.pending has shape \(1,\)"),
        ({"pending": state.pending.float()}, "state.pending is torch.float32"),
        ({"pending": state.pending + V}, "state.pending run from"),
        ({"pending": state.pending.to("meta")}, "state.pending is on meta"),
        ({"memories": (state.memories[0], 3)}, "state is a int; expected a CMSState"),
        ({"memories": (state.memories[0], None)}, "state is a NoneType; expected a CMSState"),
        ({"mixers": (state.mixers[0], 3)}, "CausalAttention: state is a int"),
        ({"mixers": None}, "state.mixers is a NoneType; expected a tuple of 2"),
    ]:
        with pytest.raises(ShapeError, match=words):
            model.stream(tokens, state._replace(**change))
    with pytest.raises(ShapeError, match=r"state.pending has shape \(2, 1\); expected \(1, t\)"):
        model.stream(tokens[:1], state)
    with pytest.raises(ShapeError, match="state is 2 parts; expected a ModelState of 3"):
        model.stream(tokens, state[0])
    with pytest.raises(ShapeError, match="state.memories is 0 parts; expected a tuple of 2"):
        model.stream(tokens, state._replace(memories=()))
    with pytest.raises(ShapeError, match="state.mixers is 1 parts; expected a tuple of 2"):
        model.stream(tokens, lm(layers=1).stream(tokens)[1])
    with pytest.raises(ShapeError, match=r"state.fast_weights\['fast'\] has shape"):
        model.stream(tokens, lm(hidden=6, inner_lr=0.1).stream(tokens)[1])
    block = Block(CausalAttention(4), ContinuumMemory(4, (1,)))
    for bad in (torch.zeros(3, 4), torch.zeros(1, 2, 5), torch.zeros(1, 0, 4), torch.full((1, 2, 4), float("nan"))):
        with pytest.raises(ShapeError, match="Block: "):
            block(bad)
    classifier = HopeClassifier((4, 4), 2, 8, levels=(1,))
    for bad in (
        torch.zeros(2, 15),
        torch.zeros(16),
        torch.full((2, 16), float("nan")),
        torch.zeros(2, 16, dtype=torch.long),
    ):
        with pytest.raises(ShapeError, match="HopeClassifier: images"):
            classifier(bad)
    for bad in (None, [1.0], torch.zeros(()), torch.zeros(2, 16, device="meta")):
        with pytest.raises(ShapeError, match="HopeClassifier: images"):
            classifier(bad)
        with pytest.raises(ShapeError, match="CMSClassifier: inputs"):
            CMSClassifier(16, 2, dim=4)(bad)
    for scores, followed, words in [
        (torch.zeros(2, 15), tokens, r"scores has shape \(2, 15\)"),
        (torch.zeros(2, 14, V), tokens, r"tokens has shape \(2, 15\); expected \(2, 14\)"),
        (torch.zeros(2, 15, 2), tokens, "tokens run from .*expected 0 to 1"),
        (torch.zeros(2, 1, V), tokens[:, :1], "tokens has one token a sequence"),
        (torch.zeros(2, 15, V) / 0, tokens, "scores holds"),
    ]:
        with pytest.raises(ShapeError, match=words):
            next_token_loss(scores, followed)


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_names_what_does_not_fit(name):
    make, settings = MIXERS[name]
    mixer, x = make(8, **settings), torch.randn(2, 3, 8)
    _, state = mixer(x)
    for bad in (x[0], x[..., :7], x[:, :0], x.long(), x.double(), x.to("meta"), x / 0, [1.0]):
        with pytest.raises(ShapeError, match=r"x |input "):
            mixer(bad)
    if name in ("self-modifying", "titans"):
        foreign = [map_tensors(torch.Tensor.double, state)]
    else:
        held = state if isinstance(state, tuple) else (state,)
        foreign = [tuple(w.double() for w in held), (*held, held[0]), (*held[:-1], held[-1][..., :-1])]
        foreign += [(*held[:-1], held[-1] / 0), (*held[:-1], 3), held[:-1], [*held]]
        foreign = [
            parts[0] if len(parts) == len(held) == 1 and isinstance(parts, tuple) else parts for parts in foreign
        ]
    for other in ("state", *foreign):
        with pytest.raises(ShapeError, match="state"):
            mixer(x, other)
    with pytest.raises(ShapeError, match="state"):
        mixer(x[:1], state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "settings",
    [{"chunk_size": 3}, {"mixer": "attention"}, {"mixer": "linear"}],
    ids=["self-modifying", "attention", "linear"],
)
def test_compiled_it_is_the_model_itself(settings):
    model, tokens = lm(**{"mixer": "self-modifying", **settings}).float(), some_tokens(length=8)

    def outcome(run):
        y = run(tokens)
        gradients = torch.autograd.grad(next_token_loss(y, tokens), list(model.parameters()), allow_unused=True)
        return y, *(torch.zeros(()) if g is None else g for g in gradients)

    for found, expected in zip(outcome(torch.compile(model, backend="aot_eager")), outcome(model), strict=True):
        torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-4, atol=1e-5)
