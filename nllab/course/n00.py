"""Exercises of notebook 00, first contact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nllab.course.exercise import Answer, Draw, Number, Wrong, exercise, genuine
from nllab.events import Switch
from nllab.runs import Run

EDITION = 1
KEPT = 0.5  # of the test images of A right at the end counts as kept


def _start_of_b(run: Run) -> int:
    return run.of(Switch)[1].step


def _switches(run: Any, step: int, called: str) -> Run:
    """The run, once it is what was asked for: Adam on digits-ab, the deep optimizer from `step` on."""
    if not isinstance(run, Run):
        raise Wrong(f"{called} should return a run, as nllab.train(...) returns it, not a {type(run).__name__}.")
    if run.experiment.stream != "digits-ab" or run.experiment.optimizer != "adam" or run.experiment.frozen:
        raise Wrong(f"{called} should train digits-ab with optimizer='adam' at the start, nothing frozen.")
    if not run.experiment.observe:
        raise Wrong(f"{called} should leave the memory its eyes: observe is True here.")
    if [tuple(command) for command in run.commands] != [(step, "optimizer", "deep")]:
        raise Wrong(f"{called} gave the commands {run.commands}; one is wanted, [({step}, 'optimizer', 'deep')].")
    return run


@exercise(
    "00.1",
    "predict",
    prediction=Number(1, 1000),
    hints=(
        "train(experiment, commands=[(step, name, value)]) gives a command on the way.",
        "The command that moves the toggle is called 'optimizer', and its value is 'deep'.",
    ),
    solution="""
import nllab


def switched_at(step):
    experiment = nllab.Experiment.preset("digits-ab", optimizer="adam", evaluate_every=1000)
    return nllab.train(experiment, commands=[(step, "optimizer", "deep")])
""",
)
def switched_at(f: Answer, draw: Draw) -> int:
    """switched_at(step) returns the run of Adam on digits-ab that hands over to the deep optimizer at `step`. Returns
    the latest step, by bisection, at which A is still kept: what the prediction is compared with."""
    tried = draw.whole(2, 60)
    run = _switches(f(tried), tried, f"switched_at({tried})")
    genuine(run)
    first, last = _start_of_b(run), run.steps
    low, high = first, last  # the latest step that still keeps A lies between, if any does
    while low < high:
        middle = (low + high + 1) // 2
        kept = _switches(f(middle), middle, f"switched_at({middle})").summary["a_after_b"] >= KEPT
        low, high = (middle, high) if kept else (low, middle - 1)
    return low


@exercise(
    "00.2",
    "code",
    wants="run",
    hints=(
        "The experiment has a setting `observe`: whether the memory watches while somebody else writes.",
        "The toggle is to move when B begins; run.of(Switch)[1].step of any run of this stream is that step.",
        "Settings are named in Experiment.preset, as optimizer='adam' is: observe=False blinds the memory. The command"
        " is the `handover` of the lesson.",
    ),
    solution="""
import nllab

experiment = nllab.Experiment.preset("digits-ab", optimizer="adam", observe=False)
start_of_b = nllab.train(experiment).of(nllab.events.Switch)[1].step
blind = nllab.train(experiment, commands=[(start_of_b, "optimizer", "deep")])
""",
)
def blind(run: Run, draw: Draw) -> None:
    """blind: a run of digits-ab whose memory sees nothing of A (observe=False) and that hands over when B begins."""
    del draw
    if run.experiment.stream != "digits-ab":
        raise Wrong(f"This run is on {run.experiment.stream}; digits-ab is wanted.")
    if run.experiment.optimizer != "adam" or run.experiment.joint or run.experiment.frozen or run.experiment.order:
        raise Wrong("Adam is to teach A, on the usual network: optimizer='adam', nothing frozen, no joint training.")
    if run.experiment.observe:
        raise Wrong("The memory of this run watched while Adam wrote; it should be blind until the toggle moves.")
    if not run.commands:
        raise Wrong("Nothing was commanded on the way, so the deep optimizer never wrote.")
    commands, begins = [tuple(command) for command in run.commands], _start_of_b(run)
    if commands != [(begins, "optimizer", "deep")]:
        raise Wrong(f"Its commands are {commands}; the one wanted is at the first step of B, {begins}.")
    genuine(run)
    if run.summary["end"] != "finished":
        raise Wrong(f"This run stopped at step {run.steps}; let it go to the end of the plan.")


@exercise(
    "00.3",
    "explain",
    hints=(
        "A fact is an input and the number that the weights should say there. Two facts fit whenever the inputs point"
        " in different directions.",
        "Let both inputs point the same way. Which targets can then not both be met?",
    ),
    solution="""
def contradiction(dim):
    x = torch.ones(dim)
    return torch.stack([x, x]), torch.tensor([1.0, -1.0])
""",
)
def contradiction(f: Answer, draw: Draw) -> None:
    """contradiction(dim) returns inputs (2, dim) and targets (2,) that no weights meet both, tried against the exact
    least squares."""
    for trial in range(5):
        dim = trial + 1 if trial < 2 else draw.whole(3, 10)
        result = f(dim)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong(f"{f.last} should return two things: the inputs and the targets.")
        for name, part, shape in zip(("inputs", "targets"), result, ((2, dim), (2,)), strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or part.dtype != torch.float32:
                raise Wrong(f"{f.last}: its {name} should be a float tensor of shape {shape}.")
            if not bool(part.isfinite().all()):
                raise Wrong(f"{f.last}: its {name} hold NaN or infinite values.")
        inputs, targets = result
        f.expect((inputs.norm(dim=1) > 0.1).all(), "Each input should have a length above 0.1.")
        f.expect(targets.abs().max() <= 10, "Let the targets lie between -10 and 10.")
        best = torch.linalg.pinv(inputs.double()) @ targets.double()
        off = float((inputs.double() @ best - targets).abs().max())
        f.expect(off > 0.1, f"The weights {[round(w, 2) for w in best.tolist()]} meet both, within {off:.1g}.")
