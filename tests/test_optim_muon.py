"""Newton-Schulz against the SVD, Muon and its AdamW part against torch, M3 against a transcription of Algorithm 1 and
its limits."""

import pytest
import torch
from torch import nn

from nllab import M3, Muon, hidden_and_other, newton_schulz
from nllab.errors import SettingError
from nllab.optim.newton_schulz import CUBIC

# torch's Muon rounds to 8 bits (0.4%) inside Newton-Schulz, whose slope of 3.4 a step amplifies it; ours does not.
# Measured: 0.035.
BFLOAT16 = 0.05


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(make, gradients):
    """The weights after each of the given gradients, which do not depend on the weights."""
    weight = nn.Parameter(draw(*gradients[0].shape, seed=99).to(gradients[0].dtype))
    optimizer, path = make([weight]), []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path)


def with_singular_values(values, rows, columns):
    u, v = torch.linalg.qr(draw(rows, len(values), seed=1))[0], torch.linalg.qr(draw(columns, len(values), seed=2))[0]
    return u * torch.tensor(values, dtype=torch.float64) @ v.mT


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (16, 16), (3, 64)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_newton_schulz_ends_in_its_band_and_keeps_the_singular_vectors(shape, scale):
    matrix = with_singular_values([1.0, 0.3, 0.01], *shape)  # 0.01 is 1/104 of the norm: inside the stated range
    result = newton_schulz(scale * matrix)
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = (u.mT @ result @ vh.mT)[:3, :3]
    assert ((found.diagonal() > 0.68) & (found.diagonal() < 1.21)).all()
    assert (found - found.diagonal().diag()).abs().max() < 1e-9
    assert values[2] / matrix.norm() > 1 / 500


def test_cubic_newton_schulz_converges_to_the_polar_factor():
    matrix = draw(2, 9, 6)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(newton_schulz(matrix, steps=40, coefficients=CUBIC), u @ vh, rtol=0, atol=1e-10)


def test_its_first_cubic_step_descends_the_orthogonalisation_objective():
    """Eq. 43-44 from O = g at step size 1/4, with the pull to g: 1.5 g - 0.5 g g^T g."""
    g = draw(6, 4) / 5

    def objective(o):
        return (o - g).square().sum() / 2 + (o.mT @ o - torch.eye(4, dtype=o.dtype)).square().sum() / 2

    torch.testing.assert_close(g - torch.func.grad(objective)(g) / 4, 1.5 * g - 0.5 * g @ g.mT @ g, rtol=0, atol=1e-12)
    unit = g / g.norm()
    expected = 1.5 * unit - 0.5 * unit @ unit.mT @ unit
    torch.testing.assert_close(newton_schulz(g, steps=1, coefficients=CUBIC), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_zero_stays_zero(dtype):
    assert torch.equal(newton_schulz(torch.zeros(2, 3, 4, dtype=dtype)), torch.zeros(2, 3, 4, dtype=dtype))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(8, 6), (6, 8)])
def test_muon_is_torch_muon(shape, nesterov):
    gradients = [draw(*shape, seed=seed).float() for seed in range(10)]
    settings = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    ours, theirs = (walk(lambda p, kind=kind: kind(p, **settings), gradients) for kind in (Muon, torch.optim.Muon))
    for one, other in zip(ours.diff(dim=0), theirs.diff(dim=0), strict=True):
        assert (one - other).norm() < BFLOAT16 * other.norm()


@pytest.mark.parametrize("shape", [(6,), (6, 4)])
def test_what_is_not_hidden_takes_torch_adamw(shape):
    gradients = [draw(*shape, seed=seed) for seed in range(10)]

    def ours(kind, **settings):
        return walk(lambda p: kind([{"params": p, "hidden": len(shape) < 2}], adamw_lr=0.03, **settings), gradients)

    def adamw(decay):
        return walk(lambda p: torch.optim.AdamW(p, lr=0.03, betas=(0.8, 0.9), weight_decay=decay), gradients)

    torch.testing.assert_close(ours(Muon, adamw_betas=(0.8, 0.9), weight_decay=0.1), adamw(0.1), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(M3, betas=(0.8, 0.9, 0.7)), adamw(0.0), rtol=0, atol=1e-12)


def test_a_model_is_sorted_into_hidden_matrices_and_the_rest():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.conv, self.norm = nn.Embedding(9, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4)
            self.up, self.head = nn.Linear(4, 8), nn.Linear(8, 9)

    hidden, rest = hidden_and_other(Net())
    assert [name for name, _ in hidden["params"]] == ["conv.weight", "up.weight"]
    assert {name for name, _ in rest["params"]} == {
        *("embedding.weight", "conv.bias", "norm.weight", "norm.bias", "up.bias", "head.weight", "head.bias")
    }
    assert [name for name, _ in hidden_and_other(Net(), head="up")[0]["params"]] == ["conv.weight", "head.weight"]
    assert [group["hidden"] for group in hidden_and_other(nn.Linear(2, 2))] == [False]
    with pytest.raises(SettingError, match="no module 'top'.*conv"):
        hidden_and_other(Net(), head="top")


def test_filters_are_orthogonalised_as_one_row_per_output():
    gradients = [draw(5, 3, 2, 2, seed=seed) for seed in range(3)]
    flat = walk(lambda p: Muon(p, lr=0.1), [gradient.flatten(1) for gradient in gradients])
    assert torch.equal(walk(lambda p: Muon(p, lr=0.1), gradients).flatten(2), flat)


def algorithm_1(weight, gradients, *, lr, betas, slow_weight, period, eps):
    """Algorithm 1 as printed: the outer loop over k writes the slow memory with the last chunk, the inner one takes f
    steps."""
    first = slow = second = torch.zeros_like(weight)
    path = []
    for k in range(len(gradients) // period):
        slow = slow + betas[2] * sum(gradients[(k - 1) * period : k * period], torch.zeros_like(weight)) if k else slow
        slow_read = newton_schulz(slow)
        for t in range(k * period, (k + 1) * period):
            first = first + betas[0] * gradients[t]
            second = second + betas[1] * gradients[t] ** 2
            weight = weight - lr * (newton_schulz(first) + slow_weight * slow_read) / (second.sqrt() + eps)
            path.append(weight)
    return torch.stack(path)


GRADIENTS = [draw(4, 6, seed=seed) for seed in range(12)]


@pytest.mark.parametrize("period", [1, 3, 4, 12])
def test_literal_m3_is_algorithm_1(period):
    settings = {"lr": 0.03, "betas": (0.9, 0.8, 0.7), "slow_weight": 0.6, "period": period, "eps": 1e-3}
    reference = algorithm_1(draw(4, 6, seed=99), GRADIENTS, **settings)
    torch.testing.assert_close(
        walk(lambda p: M3(p, literal=True, **settings), GRADIENTS), reference, rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("literal", [True, False])
def test_the_slow_memory_is_written_at_the_end_of_each_period_from_all_its_gradients(literal):
    weight = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    optimizer, slow, writes = (
        M3([weight], period=3, betas=(0.9, 0.9, 0.5), literal=literal),
        torch.zeros(4, 6).double(),
        [],
    )
    for step, gradient in enumerate(GRADIENTS[:10], start=1):
        weight.grad = gradient.clone()
        optimizer.step()
        if not torch.equal(optimizer.state[weight]["slow"], slow):
            writes.append(step)
            chunk = sum(GRADIENTS[step - 3 : step])
            slow = slow + 0.5 * chunk if literal else 0.5 * slow + 0.5 * chunk / 3
            torch.testing.assert_close(optimizer.state[weight]["slow"], slow, rtol=0, atol=1e-12)
    assert writes == [3, 6, 9]


def test_m3_without_slow_memory_and_second_moment_is_muon():
    """On a wide matrix (Muon's shape factor is 1): EMA and plain momentum differ by a scale, which Newton-Schulz
    removes."""
    settings = {"lr": 0.05, "slow_weight": 0.0, "second_moment": False, "betas": (0.9, 0.9, 0.9)}
    muon = walk(lambda p: Muon(p, lr=0.05, momentum=0.9, nesterov=False), GRADIENTS)
    torch.testing.assert_close(walk(lambda p: M3(p, **settings), GRADIENTS), muon, rtol=0, atol=1e-11)
    undecayed = walk(lambda p: M3(p, literal=True, **settings), GRADIENTS)
    reference = draw(4, 6, seed=99) - 0.05 * torch.stack(
        [newton_schulz(sum(GRADIENTS[:n])) for n in range(1, 13)]
    ).cumsum(0)
    torch.testing.assert_close(undecayed, reference, rtol=0, atol=1e-11)


def test_the_ema_reading_ignores_the_gradients_scale_and_the_literal_one_does_not():
    def first_step(scale, literal):
        path = walk(lambda p: M3(p, lr=1.0, literal=literal, eps=1e-12), [scale * GRADIENTS[0]])
        return (path[0] - draw(4, 6, seed=99)).square().mean().sqrt().item()

    ema = [first_step(scale, False) for scale in (1e-3, 1, 1e3)]
    literal = [first_step(scale, True) for scale in (1e-3, 1, 1e3)]
    assert ema == pytest.approx([1.0] * 3, rel=1e-6)
    assert literal == pytest.approx([1e3 * literal[1], literal[1], 1e-3 * literal[1]], rel=1e-6)
