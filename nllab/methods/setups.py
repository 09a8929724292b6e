"""How each method is run in comparisons: its usual settings, and the grid from which they are tuned on validation data.
No torch.

A set-up is what it changes in an experiment. All methods train the experiment's model with every level writing at every
step, as the networks they were made for do; `all`, `seen` and `batch` say which outputs the loss counts
(methods/objective.py).
"""

from __future__ import annotations

from itertools import product
from typing import Any

Changes = dict[str, Any]

TRIALS = 12  # settings tried for each method and each plain optimizer
ORDINARY: Changes = {
    "loss": "cross_entropy",
    "outputs": "seen",
    "optimizer": "adam",
    "periods": (1, 1, 1),
    "observe": False,
}


def _rate(optimizer: str, learning_rate: float, loss: str) -> Changes:
    return {"optimizer": optimizer, "learning_rate": learning_rate, "loss": loss}


def _around(method: str, *, outputs: str = "seen", rate: Changes | None = None, **own: float) -> Changes:
    return {**ORDINARY, "method": method, "method_settings": own, "outputs": outputs} | (rate or SQUARED)


SQUARED, ENTROPY = _rate("adam", 1e-3, "squared_error"), _rate("sgd", 0.03, "cross_entropy")

# The usual settings: those that mattered most were chosen on digits-ab's validation part (LOG.md).
SETUPS: dict[str, Changes] = {
    "naive": _around("naive"),
    "labels-trick": _around("naive", outputs="batch", rate=ENTROPY),
    "low-rate": _around("naive", rate=_rate("adam", 1e-4, "squared_error")),
    "fewer-updates": _around("fewer-updates", every=4),
    "ewc": _around("ewc", outputs="batch", rate=ENTROPY, strength=100),
    "online-ewc": _around("online-ewc", outputs="batch", rate=ENTROPY, strength=100),
    "si": _around("si", outputs="batch", rate=ENTROPY, strength=1),
    "lwf": _around("lwf", outputs="batch", rate=ENTROPY, strength=1),
    "er": _around("er", strength=1, buffer=200),
    "a-gem": _around("a-gem", buffer=200),
    "der++": _around("der++", alpha=0.2, beta=1, buffer=200),
    "owm": _around("owm", rate=ENTROPY, strength=0.01),
    "gpm": _around("gpm", rate=ENTROPY, threshold=0.99),
    "owm-adam": _around("owm", rate=SQUARED, strength=0.01, gradient=1),
    "gpm-adam": _around("gpm", rate=SQUARED, threshold=0.99, gradient=1),
    "l2-init": _around("l2-init", strength=0.01),
    "shrink-and-perturb": _around("shrink-and-perturb", shrink=1e-4, perturb=1e-3),
    "upgd": _around("upgd", rate=ENTROPY, noise=0.001, decay=0.999),
    "continual-backprop": _around("continual-backprop", replacement=1e-3, maturity=100, decay=0.99),
    "slda": _around("slda", outputs="all", shrinkage=0.01),
    "randumb": _around("randumb", outputs="all", shrinkage=0.01, gamma=10),
    "rls": _around("rls", outputs="all", ridge=0.01),
    "rls-conv": _around("rls-conv", outputs="all", ridge=1),
    "joint": _around("naive") | {"joint": True},
}

# The first of each grid are tried by a quick run alone.
RATES = tuple(
    _rate(optimizer, rate, loss)
    for optimizer, rate, loss in (
        ("adam", 1e-3, "squared_error"),
        ("sgd", 0.03, "cross_entropy"),
        ("adam", 1e-3, "cross_entropy"),
        ("adam", 3e-3, "squared_error"),
        ("sgd", 0.1, "cross_entropy"),
        ("adam", 3e-4, "squared_error"),
        ("sgd", 0.01, "squared_error"),
        ("sgd", 0.01, "cross_entropy"),
        ("adam", 3e-3, "cross_entropy"),
        ("adam", 3e-4, "cross_entropy"),
        ("sgd", 0.03, "squared_error"),
        ("sgd", 0.1, "squared_error"),
    )
)
LOWER = tuple(
    _rate(optimizer, rate, loss)
    for optimizer, rates in (("adam", (1e-4, 3e-5, 1e-5)), ("sgd", (3e-3, 1e-3, 3e-4)))
    for rate in rates
    for loss in ("squared_error", "cross_entropy")
)


def _grid(
    rates: tuple[Changes, ...], outputs: tuple[str, ...] = ("seen",), **own: tuple[float, ...]
) -> tuple[Changes, ...]:
    """Every combination, rates varied first; the values of `own` are settings of the method."""
    return tuple(
        {"outputs": counted, **rate, "method_settings": dict(zip(own, values, strict=True))}
        for values in product(*own.values())
        for counted in outputs
        for rate in rates
    )


def _springs(*strengths: float) -> tuple[Changes, ...]:
    """For the methods that pull on weights or outputs: the labels trick with either loss, and none."""
    return tuple(
        {"outputs": counted, **rate, "method_settings": {"strength": strength}}
        for strength in strengths
        for counted, rate in (("batch", ENTROPY), ("batch", SQUARED), ("seen", SQUARED))
    )


_RIDGES = (0.01, 1.0, 0.1, 0.001, 10.0, 1e-4, 0.03, 0.3, 3.0, 0.003, 30.0, 100.0)
_SHRINKAGES = (0.01, 0.1, 0.001, 0.3, 1e-4, 0.03, 0.5, 0.003, 1e-5, 0.7, 1e-6, 1.0)
GRIDS: dict[str, tuple[Changes, ...]] = {
    "naive": RATES,
    "labels-trick": (RATES[1], RATES[0], *RATES[2:]),
    "low-rate": LOWER,
    "fewer-updates": _grid((RATES[0], RATES[1], RATES[3]), every=(4, 2, 8, 16)),
    "ewc": _springs(100, 1000, 10, 10_000),
    "online-ewc": _springs(100, 1000, 10, 10_000),
    "si": _springs(1, 10, 0.1, 100),
    "lwf": _springs(1, 3, 10, 0.3),
    "er": _grid(RATES[:6], strength=(1, 3), buffer=(200,)),
    "a-gem": tuple({**rate, "method_settings": {"buffer": 200}} for rate in RATES),
    "der++": _grid(RATES[:3], alpha=(0.2, 1), beta=(1, 0.5), buffer=(200,)),
    "owm": _grid((RATES[1], RATES[4]), average=(0, 1), strength=(0.01, 0.1, 1)),
    "gpm": _grid((RATES[1], RATES[4], RATES[7]), threshold=(0.99, 0.95, 0.999, 0.9)),
    # The gradient is projected, as published; RATES[0], [2] and [5] are Adam's.
    "owm-adam": _grid((RATES[0], RATES[2], RATES[5], RATES[9]), strength=(0.01, 0.1, 1), gradient=(1,)),
    "gpm-adam": _grid((RATES[0], RATES[2], RATES[5], RATES[9]), threshold=(0.99, 0.95, 0.999), gradient=(1,)),
    "l2-init": _grid((RATES[0], RATES[2], RATES[1]), strength=(0.01, 0.001, 1e-4, 0.1)),
    "shrink-and-perturb": _grid((RATES[0], RATES[2], RATES[1]), shrink=(1e-4, 1e-3), perturb=(1e-3, 1e-2)),
    "upgd": _grid((RATES[1], RATES[4], RATES[7], RATES[11]), noise=(0.001, 0.01, 0), decay=(0.999,)),
    "continual-backprop": _grid(
        (RATES[0], RATES[2], RATES[1]), replacement=(1e-3, 1e-4), maturity=(100, 20), decay=(0.99,)
    ),
    "slda": tuple({"method_settings": {"shrinkage": value}} for value in _SHRINKAGES),
    "randumb": tuple(
        {"method_settings": {"shrinkage": value, "gamma": gamma}}
        for gamma in (10.0, 1.0, 100.0)
        for value in _SHRINKAGES[:4]
    ),
    "rls": tuple({"method_settings": {"ridge": ridge}} for ridge in _RIDGES),
    "rls-conv": tuple(
        {"method_settings": {"ridge": ridge}} for ridge in (_RIDGES[1], _RIDGES[2], _RIDGES[0], *_RIDGES[3:])
    ),
    "joint": RATES,
}


def optimizer_grid(usual_rate: float) -> tuple[Changes, ...]:
    """What is tried for a plain optimizer: two losses, six rates about its usual one."""
    factors = (1, 0.3, 3, 0.1, 10, 0.03)
    return tuple(
        {"learning_rate": factor * usual_rate, "loss": loss}
        for factor in factors
        for loss in ("squared_error", "cross_entropy")
    )
