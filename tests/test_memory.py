"""Write rules: the chunked form against the token-by-token reference, the limits that recover known rules, and
refusals."""

import pytest
import torch

from nllab.errors import SettingError, ShapeError
from nllab.memory import MLPWeights, delta_write, dgd_write, hebbian_write, mlp_read, reference, titans_write

RULES = {
    "hebbian": (hebbian_write, reference.hebbian_write, {}),
    "delta": (delta_write, reference.delta_write, {}),
    "dgd": (dgd_write, reference.dgd_write, {}),
    "dgd_dot": (dgd_write, reference.dgd_write, {"objective": "dot"}),
    "dgd_momentum": (dgd_write, reference.dgd_write, {"momentum": 0.7}),
    "dgd_factor_2": (dgd_write, reference.dgd_write, {"gradient_factor": 2.0}),
    "titans": (titans_write, reference.titans_write, {}),
    "mlp_dgd": (dgd_write, reference.dgd_write, {}),
    "mlp_dgd_dot_without_erase": (dgd_write, reference.dgd_write, {"objective": "dot", "erase": False}),
    "mlp_dgd_without_skip": (dgd_write, reference.dgd_write, {"residual": False}),
    "mlp_dgd_factor_2": (dgd_write, reference.dgd_write, {"gradient_factor": 2.0}),
    "mlp_dgd_momentum": (dgd_write, reference.dgd_write, {"momentum": 0.5}),
    "mlp_titans": (titans_write, reference.titans_write, {"momentum": 0.3}),
}
# Both forms are exact; what is left is the rounding of float64 over a hundred tokens.
EXACT = 1e-10
WIDTH, OUT, HIDDEN = 4, 4, 6


def relative(found, expected):
    return max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(found, expected, strict=True))


def case(rule, tokens, dtype=torch.float64, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = (
        [0.4 * normal(2, HIDDEN, WIDTH), 0.4 * normal(2, OUT, HIDDEN)]
        if rule.startswith("mlp")
        else [normal(2, OUT, WIDTH)]
    )
    key = normal(2, tokens, WIDTH)
    rate, keep = (
        0.4 * torch.rand(2, tokens, generator=generator, dtype=torch.float64),
        1 - 0.1 * normal(2, tokens).sigmoid(),
    )
    inputs = [
        *weights,
        key / key.norm(dim=-1, keepdim=True),
        normal(2, tokens, OUT),
        rate,
        keep,
        normal(2, tokens, WIDTH),
    ]
    return [x.to(device, dtype).requires_grad_() for x in inputs]


def run(function, inputs, **options):
    """Reads, final state and the gradients of a scalar that depends on all of them."""
    *weights, key, value, rate, keep, query = inputs
    state = MLPWeights(*weights) if len(weights) == 2 else weights[0]
    reads, state = function(state, key, value, rate, keep, query=query, **options)
    after = list(state) if isinstance(state, tuple) else [state]
    total = reads.sin().sum() + sum(w.square().sum() for w in after)
    return [reads, *after], list(torch.autograd.grad(total, inputs))


SLOW = pytest.mark.slow
# The other rules are special cases of these two, in code or in shape.
MAIN = ("delta", "mlp_dgd")


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        pytest.param(rule, n, marks=[] if n in (1, 7) or (rule in MAIN and n != 100) else SLOW)
        for rule in RULES
        for n in (1, 7, 63, 64, 100)
    ],
)
def test_chunks_match_token_by_token(rule, tokens, device):
    fast, slow, options = RULES[rule]
    inputs = case(rule, tokens, device=device)
    exact_rule = rule in ("hebbian", "delta")
    expected = None
    for chunk in sorted({1, 4, 16, tokens}):
        if expected is None or not exact_rule:
            expected = run(slow, inputs, chunk_size=chunk, **options)
        found = run(fast, inputs, chunk_size=chunk, **options)
        assert relative(found[0], expected[0]) < EXACT
        assert relative(found[1], expected[1]) < EXACT


@pytest.mark.parametrize("rule", RULES)
def test_float32_is_as_good_as_the_reference(rule, device):
    fast, slow, options = RULES[rule]
    truth = run(slow, case(rule, 40, device=device), **options)
    rough = case(rule, 40, torch.float32, device)
    for part in range(2):
        expected = [x.double() for x in run(slow, rough, **options)[part]]
        found = [x.double() for x in run(fast, rough, **options)[part]]
        assert relative(found, truth[part]) <= 4 * relative(expected, truth[part])


@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule):
    fast, _, options = RULES[rule]
    inputs = [x[:1].detach().requires_grad_() for x in case(rule, 3)]

    def outputs(*inputs):
        return tuple(run_without_gradients(fast, inputs, chunk_size=2, **options))

    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True)


def run_without_gradients(function, inputs, **options):
    *weights, key, value, rate, keep, query = inputs
    reads, state = function(
        MLPWeights(*weights) if len(weights) == 2 else weights[0], key, value, rate, keep, query=query, **options
    )
    return [reads, *(state if isinstance(state, tuple) else [state])]


def test_the_mlp_reads_alike_and_its_skip_can_be_left_out():
    up, down, *_, query = case("mlp_dgd", 5)
    for residual in (True, False):
        expected = reference.mlp_read(MLPWeights(up, down), query, residual=residual)
        assert relative([mlp_read(MLPWeights(up, down), query, residual=residual)], [expected]) < EXACT


def repeated_pair(function, **options):
    """M k after writing one pair (k, v) again and again into a random state, in multiples of v."""
    state, key, value, *_ = case("dgd", 1)
    _, state = function(state, key.expand(2, 400, WIDTH), value.expand(2, 400, OUT), 0.1, 1.0, **options)
    return torch.linalg.lstsq(value[0].mT, (key @ state.mT)[0].mT).solution.item(), (key @ state.mT) / value


@pytest.mark.parametrize(
    ("function", "options", "share"),
    [
        (delta_write, {}, 1.0),
        (dgd_write, {"objective": "dot"}, 1.0),
        (dgd_write, {"objective": "l2"}, 0.5),
        (dgd_write, {"objective": "l2", "erase": False}, 1.0),
        (dgd_write, {"objective": "l2", "momentum": 0.5}, 2 / 3),
        (dgd_write, {"objective": "l2", "gradient_factor": 2.0}, 2 / 3),
    ],
)
def test_a_repeated_pair_settles_where_theory_says(function, options, share):
    # Eq. 93 regresses M k on v - M k: fixed point v/2. The dot objective with the sign that stores: v, not -v.
    # Momentum multiplies the drive by 1/(1-β) = 2 but not the erase: -x + 2 (v - x) = 0.
    _, ratio = repeated_pair(function, chunk_size=4, **options)
    torch.testing.assert_close(ratio, torch.full_like(ratio, share), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("length", [0.3, 1.0, 1.7])
def test_one_dgd_step_is_the_argmin_of_its_objective(length):
    # Eq. 56: argmin ½‖W x - u‖² + ‖W - W_t‖²/(2η), u = v - W_t x, whose closed form has η' = η / (1 + η‖x‖²) for any
    # norm.
    state, key, value, *_ = case("dgd", 1)
    key, lr = length * key, 0.5
    _, found = dgd_write(state, key, value, lr / (1 + lr * length**2))
    x, u = key[:, 0], value[:, 0] - (key @ state.mT)[:, 0]
    system = reference.outer(x, x) + torch.eye(WIDTH, dtype=x.dtype) / lr
    expected = torch.linalg.solve(system, (reference.outer(u, x) + state / lr).mT).mT
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_dgd_with_the_dot_objective_is_the_gated_delta_rule():
    state, key, value, rate, keep, _ = case("dgd", 20)
    torch.testing.assert_close(
        dgd_write(state, key, value, rate, keep, objective="dot", chunk_size=5)[1],
        delta_write(state, key, value, rate, keep)[1],
    )


def test_linear_attention_is_the_hebbian_rule():
    _, key, value, _, _, query = case("hebbian", 33)
    state = torch.zeros(2, OUT, WIDTH, dtype=torch.float64)
    expected = (query @ key.mT).tril() @ value
    torch.testing.assert_close(hebbian_write(state, key, value, query=query, chunk_size=8)[0], expected)


def test_dgd_without_momentum_or_erase_is_gradient_descent_and_the_mlp_gradient_is_autograds():
    up, down, key, value, rate, keep, _ = case("mlp_dgd", 1)
    _, after = dgd_write(MLPWeights(up, down), key, value, rate, torch.ones_like(keep), erase=False)
    loss = 0.5 * (mlp_read(MLPWeights(up, down), key) - value).square().sum()
    gradient = torch.autograd.grad(loss, [up, down])
    for old, new, g in zip((up, down), after, gradient, strict=True):
        torch.testing.assert_close(new, old - rate[..., None] * g)


@pytest.mark.parametrize("rule", RULES)
def test_rate_zero_and_retention_one_change_nothing(rule):
    fast, _, options = RULES[rule]
    *weights, key, value, _, _, _ = case(rule, 9)
    _, state = fast(
        MLPWeights(*weights) if len(weights) == 2 else weights[0], key, value, 0.0, 1.0, chunk_size=4, **options
    )
    for before, after in zip(weights, state if isinstance(state, tuple) else [state], strict=True):
        assert torch.equal(before, after)


def test_retention_zero_forgets_everything_and_stays_finite():
    state, key, value, rate, keep, _ = case("dgd", 6)
    keep = keep.detach().clone()
    keep[:, 3] = 0
    _, after = dgd_write(state, key, value, rate, keep, objective="dot", erase=False)
    _, expected = hebbian_write(torch.zeros_like(state), key[:, 3:], value[:, 3:], rate[:, 3:], keep[:, 3:])
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("rule", RULES)
def test_strong_forgetting_keeps_outputs_and_gradients_finite(rule):
    fast, slow, options = RULES[rule]
    *inputs, keep, query = case(rule, 40)
    # γ_i / γ_t for i < t is as large as 1e1200 here.
    inputs = [*inputs, torch.full_like(keep, 1e-30).requires_grad_(), query]
    (found, gradients), (expected, wanted) = (run(f, inputs, chunk_size=40, **options) for f in (fast, slow))
    assert relative(found, expected) < EXACT
    # The slope of log α there is 1e30, which magnifies its rounding: of the gradient for α only that it is a number.
    assert gradients[-2].isfinite().all()
    assert relative(gradients[:-2] + gradients[-1:], wanted[:-2] + wanted[-1:]) < EXACT


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": torch.zeros(2, 3, 5)}, ShapeError, r"key has shape \(2, 3, 5\); expected \(2, T, 4\), T 1 or more"),
        ({"key": torch.zeros(2, 0, 4)}, ShapeError, r"key has shape \(2, 0, 4\); .*T 1 or more"),
        ({"value": torch.zeros(2, 4, 4)}, ShapeError, r"value has shape \(2, 4, 4\); expected \(2, 3, 4\)"),
        ({"query": torch.zeros(3, 4)}, ShapeError, r"query has shape \(3, 4\)"),
        (
            {"inner_lr": torch.zeros(2, 4)},
            ShapeError,
            r"inner_lr, .*one per token, has shape \(2, 4\); expected \(2, 3\)",
        ),
        ({"inner_lr": "0.1"}, SettingError, r"inner_lr is '0.1'; expected a number in \(-inf, inf\)"),
        ({"inner_lr": float("nan")}, SettingError, "inner_lr is nan"),
        (
            {"value": torch.zeros(2, 3, 4, dtype=torch.float64)},
            ShapeError,
            "value is torch.float64; expected torch.float32 or half",
        ),
        ({"key": torch.full((2, 3, 4), float("nan"))}, ShapeError, "key holds 24 values.*NaN"),
        ({"value": torch.full((2, 3, 4), float("-inf"))}, ShapeError, "value holds 24 values.*infinite"),
        ({"key": torch.zeros(2, 3, 4, device="meta")}, ShapeError, "key is on meta; expected cpu"),
        ({"chunk_size": 0}, SettingError, "chunk_size is 0; .*1 or more"),
        ({"chunk_size": 2.0}, SettingError, "chunk_size is 2.0"),
        ({"chunk_size": "16"}, SettingError, "chunk_size is '16'"),
        ({"key": [1.0]}, ShapeError, "key is a list"),
        ({"value": None}, ShapeError, "value is a NoneType"),
        ({"retention": -0.5}, SettingError, r"retention is -0.5; expected a number in \[0, 1\]"),
        ({"retention": 1.25}, SettingError, r"retention is 1.25; expected a number in \[0, 1\]"),
        (
            {"retention": torch.tensor([[1, 0.5, 1], [1, 1.25, 1]])},
            SettingError,
            r"a value of retention is 1.25; .*\[0, 1\]",
        ),
        ({"retention": torch.full((2, 3), -0.5)}, SettingError, "a value of retention is -0.5"),
        ({"objective": "l3"}, SettingError, "objective 'l3'.*Did you mean 'l2'"),
        ({"objective": None}, SettingError, "objective None"),
        ({"gradient_factor": "2"}, SettingError, r"gradient_factor is '2'; expected a number in \(0, inf\)"),
        ({"erase": "no"}, SettingError, "erase is 'no'; expected a bool"),
        ({"key": torch.zeros(2, 3, 4).to_sparse()}, ShapeError, "key is torch.sparse_coo"),
        ({"inner_lr": True}, SettingError, "inner_lr is True"),
        ({"state": None}, ShapeError, "state is a NoneType"),
        ({"state": (torch.zeros(2, 4, 4), None)}, ShapeError, "state is a tuple|state.down is a NoneType"),
    ],
)
@pytest.mark.parametrize("mlp", [False, True], ids=["matrix", "mlp"])
def test_what_does_not_fit_is_named(mlp, change, error, message):
    arguments = {"key": torch.zeros(2, 3, 4), "value": torch.zeros(2, 3, 4), "inner_lr": 0.1}
    state = MLPWeights(torch.zeros(2, 6, 4), torch.zeros(2, 4, 6)) if mlp else torch.zeros(2, 4, 4)
    with pytest.raises(error, match=message):
        dgd_write(**{"state": state} | arguments | change)


def test_other_kinds_of_memory_are_named():
    up, down, x = torch.zeros(2, 6, 4), torch.zeros(2, 4, 6), torch.zeros(2, 3, 4)
    for call, words in [
        (lambda: dgd_write((up, down), x, x), r"state is a tuple; expected a tensor \(..., Dv, Dk\) or MLPWeights"),
        (lambda: mlp_read(up, x), "state is a Tensor; expected MLPWeights of up"),
        (lambda: dgd_write(MLPWeights(up, down), x, x, residual=1), "residual is 1; expected a bool"),
        (lambda: delta_write(MLPWeights(up, down), x, x), r"state is a MLPWeights; expected a tensor \(..., Dv, Dk\)"),
        (lambda: dgd_write(torch.zeros(2, 4, 4, device="meta"), x, x), "key is on cpu; expected meta"),
        (lambda: mlp_read(MLPWeights(up, down), x, residual=None), "residual is None; expected a bool"),
    ]:
        with pytest.raises(SettingError, match=words):
            call()


@pytest.mark.parametrize("momentum", ["0.5", None, -0.1, 1.0, float("nan"), True])
def test_a_momentum_that_cannot_be_is_named(momentum):
    with pytest.raises(SettingError, match=rf"momentum is {momentum!r}; expected a number in \[0, 1\)"):
        titans_write(torch.zeros(2, 4, 4), torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), momentum=momentum)


@pytest.mark.parametrize(
    ("up", "down", "message"),
    [
        (torch.zeros(2, 6, 4), torch.zeros(2, 4, 5), r"state.down has shape \(2, 4, 5\); expected \(2, Dv, 6\)"),
        (torch.zeros(2, 6, 4), torch.zeros(2, 4, 6).double(), "state.down is torch.float64; expected torch.float32"),
        (torch.zeros(2, 6, 4).half(), torch.zeros(2, 4, 6).half(), "state is torch.float16"),
        (torch.zeros(2, 6, 4), torch.full((2, 4, 6), float("nan")), "state.down holds 48 values"),
        (torch.zeros(6), torch.zeros(6), r"state is torch.float32 of shape \(6,\)"),
        (torch.zeros(2, 6, 4), torch.zeros(2, 1, 6), "residual"),
        (torch.zeros(2, 6, 4), None, "state.down is a NoneType"),
    ],
)
def test_memories_that_do_not_fit_are_named(up, down, message):
    key = torch.zeros(2, 3, 4)
    value = torch.zeros(2, 3, 4 if down is None or down.dim() < 3 else down.shape[1])
    for call in (lambda w: mlp_read(w, key), lambda w: dgd_write(w, key, value)):
        with pytest.raises(ShapeError, match=message):
            call(MLPWeights(up, down))


@pytest.mark.parametrize("rule", RULES)
def test_under_autocast_writes_stay_in_the_precision_of_the_state(rule):
    fast, _, options = RULES[rule]
    *weights, key, value, rate, keep, query = (x.detach() for x in case(rule, 9, torch.float32))
    halves = [x.bfloat16() for x in (key, value, query)]
    expected = run_without_gradients(
        fast, [*weights, halves[0].float(), halves[1].float(), rate, keep, halves[2].float()], **options
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = run_without_gradients(fast, [*weights, halves[0], halves[1], rate, keep, halves[2]], **options)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(found, expected, strict=True))
