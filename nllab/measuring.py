"""When accuracy is measured: at every step for a while after a task or a setting changes, sparsely elsewhere. No torch.

Where something changes the curve bends within a few steps; measured every ten of them, a sentence would speak of a step
at which nothing was known.
"""

from __future__ import annotations

DENSE = 5  # steps after a change that are all measured
RATIO = 1.25  # from there on each gap is this much of the steps since the change, up to the usual gap


def due(step: int, changed: int, every: int) -> bool:
    """Whether accuracy is measured after `step`, where the last change came into force at step `changed`.

    every: the usual gap; a long one stands for a run that wants no measurements on the way, and is obeyed as it is.
    """
    if step % every == 0 or step == 1:
        return True
    since = step - changed + 1
    return every <= SPARSE and 1 <= since < every and since in _early(every)


SPARSE = 1000  # a usual gap past this asks for none


def _early(every: int) -> frozenset[int]:
    """Steps since a change, below `every`, at which it is measured."""
    steps, place = set(range(1, DENSE + 1)), float(DENSE)
    while place < every:
        place = max(place + 1, place * RATIO)
        steps.add(round(place))
    return frozenset(steps)
