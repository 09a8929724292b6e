"""The CMS against its definition (Eq. 70-74): schedules counted from weights that changed, and a reference of one token
at a time."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from nllab.errors import SettingError, ShapeError
from nllab.levels import Schedule, assign
from nllab.models.cms import CMSState, ContinuumMemory, MLPBlock, read

# Two summation orders in float64.
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def stirred(*args, device="cpu", dtype=torch.float64, **settings) -> ContinuumMemory:
    """A CMS whose blocks are no longer the identity."""
    torch.manual_seed(0)
    cms = ContinuumMemory(*args, **settings)
    for p in cms.blocks.parameters():
        nn.init.normal_(p, std=0.3)
    return cms.to(device, dtype)


def squared(y, target):
    return 0.5 * (y - target).square().sum()


def online(cms, x, target):
    """Drive the clock of tokens with a squared error: outputs, and the state after every segment."""
    state, outputs, states = cms.start(len(x)), [], []
    while x.shape[1]:
        n = min(cms.tokens_to_write(state.position), x.shape[1])
        reading = state._replace(fast_weights={k: w.view_as(w) for k, w in state.fast_weights.items()})
        y = cms(x[:, :n], reading)
        grads = torch.autograd.grad(squared(y, target[:, :n]), list(reading.fast_weights.values()), create_graph=True)
        state = cms.write(state, dict(zip(cms.periods, grads, strict=True)), n)
        x, target = x[:, n:], target[:, n:]
        outputs.append(y)
        states.append(state)
    return torch.cat(outputs, 1), states


def online_reference(cms, x, target):
    """The same for each sequence by itself, one token at a time, with weights by name and nothing batched."""
    names, outputs, final = list(cms.periods), [], []
    for row, wanted in zip(x, target, strict=True):
        initial = {n: dict(cms.blocks[n].named_parameters()) for n in names}
        weights = {n: dict(w) for n, w in initial.items()}
        sums = {n: {k: torch.zeros_like(p) for k, p in w.items()} for n, w in initial.items()}
        ys = []
        for t in range(len(row)):
            h, parts = row[t], []
            here = {n: {k: p.view_as(p) for k, p in w.items()} for n, w in weights.items()}
            for n in names:
                out = functional_call(cms.blocks[n], here[n], (h,))
                parts.append(out)
                h = h if cms.mix is not None else out
            y = h if cms.mix is None else sum(w * p for w, p in zip(cms.mix, parts, strict=True))
            ys.append(y)
            for i, n in enumerate(names):
                grads = torch.autograd.grad(squared(y, wanted[t]), list(here[n].values()), create_graph=True)
                sums[n] = {k: s + g for (k, s), g in zip(sums[n].items(), grads, strict=True)}
                if (t + 1) % cms.periods[n] == 0:
                    weights[n] = {k: w - cms.inner_lr[i] * sums[n][k] for k, w in weights[n].items()}
                    sums[n] = {k: torch.zeros_like(p) for k, p in sums[n].items()}
            for fast, slow in zip(names, names[1:], strict=False):
                if cms.variant == "nested" and (t + 1) % cms.periods[slow] == 0:
                    weights[fast] = dict(initial[fast])
        outputs.append(torch.stack(ys))
        final.append({n: torch.cat([p.flatten() for p in w.values()]) for n, w in weights.items()})
    return torch.stack(outputs), {n: torch.stack([f[n] for f in final]) for n in names}


@pytest.mark.parametrize(
    ("variant", "periods", "tokens"),
    [
        ("sequential", (1,), 7),
        ("sequential", (16,), 63),
        ("sequential", (4, 16), 64),
        ("sequential", (3, 5), 37),
        pytest.param("sequential", (100,), 100, marks=pytest.mark.slow),
        ("nested", (2, 6), 1),
        ("nested", (4, 16), 63),
        ("independent", (4, 16), 63),
    ],
)
def test_the_clock_of_tokens_matches_one_token_at_a_time(variant, periods, tokens, device):
    cms = stirred(3, periods, variant=variant, hidden=4, inner_lr=0.02, device=device)
    x, target = torch.randn(2, 2, tokens, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)
    y, states = online(cms, x, target)
    expected, weights = online_reference(cms, x, target)
    torch.testing.assert_close(y, expected, **EXACT)
    for name, w in weights.items():
        torch.testing.assert_close(states[-1].fast_weights[name], w, **EXACT)
    grads = torch.autograd.grad(squared(y, target), list(cms.parameters()), allow_unused=True)
    wanted = torch.autograd.grad(squared(expected, target), list(cms.parameters()), allow_unused=True)
    for g, w in zip(grads, wanted, strict=True):
        torch.testing.assert_close(g, w, **EXACT)
        assert (
            tokens <= periods[-1] or g.abs().max() > 0
        )  # every initial weight, rate and mixing weight learns through the writes


@pytest.mark.parametrize("periods", [(1, 2, 6), (2, 3), (5,)])
def test_each_level_writes_floor_T_over_period_times_and_rests_in_between(periods):
    cms = stirred(3, periods, hidden=4, inner_lr=0.01)
    x, target = torch.randn(2, 2, 13, 3, dtype=torch.float64)
    _, states = online(cms, x, target)
    for name, period in cms.periods.items():
        before, written = cms.start(2).fast_weights[name], []
        for state in states:
            if not torch.equal(state.fast_weights[name], before):
                written.append(state.position)
            before = state.fast_weights[name]
        assert written == Schedule(cms.periods).writes(name, 13)
        assert len(written) == 13 // period


def test_a_short_last_chunk_waits_and_is_completed_by_the_next_piece():
    cms = stirred(3, (8,), hidden=4, inner_lr=0.05)
    gradient = {"memory": torch.randn(2, cms.flat("memory").numel(), dtype=torch.float64)}
    waiting = cms.write(cms.start(2), gradient, 5)
    assert torch.equal(waiting.fast_weights["memory"], cms.start(2).fast_weights["memory"])
    done = cms.write(waiting, gradient, 3)
    torch.testing.assert_close(
        done.fast_weights["memory"], cms.start(2).fast_weights["memory"] - 0.05 * 2 * gradient["memory"]
    )
    assert done.gradients == {} and done.position == 8


def test_one_level_whose_period_is_the_sequence_takes_one_sgd_step():
    cms = stirred(3, (10,), hidden=4, inner_lr=0.125)
    x, target = torch.randn(2, 1, 10, 3, dtype=torch.float64)
    _, states = online(cms, x, target)
    optimizer = torch.optim.SGD(cms.blocks.parameters(), 0.125)
    squared(cms(x), target).backward()
    optimizer.step()
    torch.testing.assert_close(states[-1].fast_weights["memory"][0], cms.flat("memory"), **EXACT)


def test_nested_levels_start_anew_when_the_next_slower_level_writes():
    x, target = torch.randn(2, 1, 8, 3, dtype=torch.float64)
    nested, chained = (stirred(3, (2, 4, 8), variant=v, hidden=4, inner_lr=0.05) for v in ("nested", "sequential"))
    inside, outside = ([s.fast_weights for s in online(cms, x, target)[1]] for cms in (nested, chained))
    start = nested.start(1).fast_weights
    for name in start:
        torch.testing.assert_close(inside[0][name], outside[0][name], **EXACT)  # the same until a slower level writes
    assert torch.equal(inside[1]["fast"], start["fast"]) and not torch.equal(outside[1]["fast"], start["fast"])
    assert torch.equal(inside[3]["medium"], start["medium"]) and not torch.equal(inside[2]["medium"], start["medium"])
    assert not torch.equal(inside[3]["slow"], start["slow"])


def test_on_the_clock_of_steps_nested_levels_restart_and_their_start_follows_what_was_learned():
    cms = stirred(3, (1, 2, 4), variant="nested", hidden=4)
    first = {name: cms.get_buffer(f"initial_{name}").clone() for name in ("fast", "medium")}
    for p in cms.blocks.parameters():
        p.data += 1
    learned = {name: cms.flat(name).detach().clone() for name in cms.periods}
    assert [cms.restart(step, meta_rate=0.25) for step in (0, 1)] == [(), ()]
    assert cms.restart(2, meta_rate=0.25) == ("fast",)
    torch.testing.assert_close(cms.flat("fast"), first["fast"].lerp(learned["fast"], 0.25))
    assert torch.equal(cms.flat("medium"), learned["medium"]) and torch.equal(cms.flat("slow"), learned["slow"])
    assert cms.restart(4) == ("fast", "medium")
    assert ContinuumMemory(3, (1, 2)).restart(2) == ()


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
def test_a_fresh_memory_is_the_identity_and_its_forward_knows_no_clock(variant):
    cms = ContinuumMemory(8, (1, 2, 4), variant=variant)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(cms(x), x)
    cms = stirred(8, (1, 2, 4), variant=variant, dtype=torch.float32)
    assert all(torch.equal(cms(x), cms(x)) for _ in range(5))


def test_independent_levels_are_added_with_their_weights():
    cms = stirred(4, (1, 2), variant="independent")
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        cms.mix.copy_(torch.tensor([0.25, -2.0]))
    fast, slow = cms.blocks.values()
    torch.testing.assert_close(cms(x), 0.25 * fast(x) - 2 * slow(x), **EXACT)


def test_levels_cover_every_parameter_once_in_order():
    cms = ContinuumMemory(4, {"hot": 1, "cold": 7}, variant="independent", inner_lr=0.1)
    levels = cms.levels("memory.")
    held = assign(levels, [f"memory.{n}" for n, _ in cms.named_parameters()])
    assert [(level.name, level.period) for level in levels] == [("hot", 1), ("cold", 7)]
    assert {"memory.mix", "memory.inner_lr"} < set(held["cold"]) and len(held["hot"]) == 4


@pytest.mark.parametrize(
    "block", [MLPBlock(6, 5), nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6))], ids=["own", "foreign"]
)
def test_each_sequence_reads_with_its_own_weights(block, device):
    block = block.to(device, torch.float64)
    flat = torch.randn(3, sum(p.numel() for p in block.parameters()), dtype=torch.float64, device=device)
    x = torch.randn(3, 4, 6, dtype=torch.float64, device=device)
    for row, own, y in zip(x, flat, read(block, flat, x), strict=True):
        nn.utils.vector_to_parameters(own, block.parameters())
        torch.testing.assert_close(y, block(row), **EXACT)


def test_pretrained_mlps_become_the_chain_bit_for_bit():
    mlps = [nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 6)) for _ in range(3)]
    cms = ContinuumMemory(6, (1, 8, 64), blocks=mlps, inner_lr=0.0)
    x = torch.randn(2, 5, 6)
    assert torch.equal(cms(x), nn.Sequential(*mlps)(x)) and not cms.writes_tokens
    with torch.no_grad():
        mlps[0][1].weight.zero_()
    assert not torch.equal(cms(x), nn.Sequential(*mlps)(x))  # copies, not the same modules


def test_gradcheck_through_two_writes():
    cms = stirred(2, (2,), hidden=2, inner_lr=0.1)
    x, target = torch.randn(2, 1, 5, 2, dtype=torch.float64)
    names = [n for n, _ in cms.named_parameters()]
    kept = {n: p.detach().clone() for n, p in cms.named_parameters()}

    def run(*values):
        for name, value in zip(names, values, strict=True):
            owner, _, leaf = name.rpartition(".")
            del cms.get_submodule(owner)._parameters[leaf]
            setattr(cms.get_submodule(owner), leaf, value)
            cms.get_submodule(owner)._parameters[leaf] = value
        return online(cms, x, target)[0]

    assert torch.autograd.gradcheck(run, tuple(v.requires_grad_() for v in kept.values()))


def test_writes_stay_float32_under_autocast():
    cms = stirred(8, (2, 4), hidden=8, inner_lr=0.01, dtype=torch.float32)
    x, target = torch.randn(2, 2, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, states = online(cms, x, target)
    exact, _ = online(cms, x, target)
    assert all(w.dtype == torch.float32 for w in states[-1].fast_weights.values())
    torch.testing.assert_close(y, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"levels": ()}, "levels is"),
        ({"levels": 3}, "levels is 3"),
        ({"levels": (8, 1)}, r"\(8, 1\); sequential ones are expected from fast to slow"),
        ({"levels": (2, 3), "variant": "nested"}, "each dividing the next"),
        ({"levels": (0, 3)}, "period is 0"),
        ({"levels": (1,), "variant": "chained"}, "Unknown variant 'chained'"),
        ({"levels": (1,), "inner_lr": -0.1}, "inner_lr is -0.1"),
        ({"levels": (1,), "inner_lr": "0.1"}, "inner_lr is '0.1'"),
        ({"levels": (1,), "inner_lr": float("nan")}, "inner_lr is nan"),
        ({"levels": None}, "levels is None"),
        ({"levels": "18"}, "levels is '18'"),
        ({"levels": (1, "8")}, "period is '8'"),
        ({"levels": (1,), "variant": None}, "variant None"),
        ({"levels": (1,), "hidden": "4"}, "hidden is '4'"),
        ({"levels": (1,), "dim": "4"}, "dim is '4'"),
        ({"levels": (1, 2), "blocks": [MLPBlock(4, 4)]}, "blocks are 1 for 2 levels"),
        ({"levels": (1,), "hidden": 0}, "hidden is 0"),
        ({"levels": (1,), "blocks": 3}, "blocks is 3; expected a Sequence"),
        ({"levels": (1,), "blocks": [None]}, "block of level 'memory' is None; expected a Module"),
        ({"levels": {1: 1}}, "levels has one named 1"),
        ({"levels": {"a.b": 1}}, "levels has one named 'a.b'"),
        ({"levels": {"keys": 1}}, "levels has one named 'keys'"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, words):
    with pytest.raises(SettingError, match=words):
        ContinuumMemory(**{"dim": 4} | settings)


def test_bad_input_is_named_before_anything_is_computed():
    cms = stirred(4, (2, 4), hidden=4, inner_lr=0.1, dtype=torch.float32)
    good = torch.zeros(2, 3, 4)
    for bad, words in [
        (good[0], r"\(3, 4\); expected \(B, T, 4\)"),
        (good[..., :3], "expected"),
        (good[:, :0], r"\(2, 0, 4\)"),
        (good.long(), "x is torch.int64"),
        (good.double(), "x is torch.float64; expected torch.float32"),
        (good.to("meta"), "on meta; expected cpu"),
        (good / 0, "NaN"),
    ]:
        with pytest.raises(ShapeError, match=words):
            cms(bad)
    state = cms.start(3)
    gradients = {n: torch.zeros_like(w) for n, w in state.fast_weights.items()}
    with pytest.raises(ShapeError, match="state"):
        cms(good, state)
    for change in (torch.Tensor.double, lambda w: w.to("meta"), lambda w: w / 0):
        with pytest.raises(ShapeError, match="fast weights|state"):
            cms(good, cms.start(2)._replace(fast_weights={n: change(w) for n, w in cms.start(2).fast_weights.items()}))
    with pytest.raises(ShapeError, match="state is a Tensor"):
        cms(good, good)
    with pytest.raises(ShapeError, match="x is a list"):
        cms([1.0])
    with pytest.raises(ShapeError, match="gradients"):
        cms.write(state, {n: g[:2] for n, g in gradients.items()}, 1)
    with pytest.raises(ShapeError, match="state"):
        cms.write(CMSState({"fast": state.fast_weights["fast"]}, {}, 0), gradients, 1)
    for tokens, words in [
        (0, "tokens is 0; .*1 or more"),
        (3, "tokens is 3; expected 1 to 2"),
        ("1", "tokens is '1'"),
        (1.0, "tokens is 1.0"),
    ]:
        with pytest.raises(SettingError, match=words):
            cms.write(state, gradients, tokens)
    waiting = cms.write(state, gradients, 1)
    for bad, words in [
        ({n: g / 0 for n, g in gradients.items()}, r"gradients\['fast'\] holds .* NaN"),
        (gradients | {"slow": None}, r"gradients\['slow'\] is a NoneType"),
        ({"fast": gradients["fast"]}, r"gradients are \('fast',\)"),
        (None, "gradients are a NoneType"),
    ]:
        with pytest.raises(ShapeError, match=words):
            cms.write(state, bad, 1)
        with pytest.raises(ShapeError, match="state." + words):
            cms.write(waiting._replace(gradients=bad), gradients, 1)
        with pytest.raises(ShapeError, match="state.fast_weights"):
            cms.write(state._replace(fast_weights=bad), gradients, 1)
    for position in (-1, "0", None):
        with pytest.raises(SettingError, match=f"state.position is {position!r}"):
            cms(torch.zeros(3, 3, 4), state._replace(position=position))
    for call, words in [
        (lambda: cms.start("2"), "batch is '2'"),
        (lambda: cms.tokens_to_write(-1), "position is -1"),
        (lambda: cms.restart(None), "step is None"),
        (lambda: cms.restart(4, meta_rate=2), r"meta_rate is 2; .*\[0, 1\]"),
        (lambda: cms.flat("fats"), "level 'fats'. Did you mean 'fast'"),
    ]:
        with pytest.raises(SettingError, match=words):
            call()
    with pytest.raises(SettingError, match="inner_lr is None"):
        ContinuumMemory(4, (2,)).write(state, gradients, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("variant", ["sequential", "independent"])
def test_compiled_it_is_the_memory_itself(variant):
    cms, x = stirred(4, (2, 4), variant=variant, dtype=torch.float32), torch.randn(2, 3, 4)
    for run in (lambda m: m(x), lambda m: m(x, cms.start(2))):
        outcomes = []
        for module in (torch.compile(cms, backend="aot_eager"), cms):
            y = run(module)
            outcomes.append((y, *torch.autograd.grad(y.sin().sum(), list(cms.parameters()))))
        torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-5)
