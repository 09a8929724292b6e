"""Exercises and how an answer is tried: fresh random inputs, a reference, independent properties.

An exercise lives in the file of its notebook (n00.py and so on) as one function that tries an answer and raises
`Wrong` with a sentence. `judge` runs that function and never lets an exception of the reader's code through.
"""

from __future__ import annotations

import copy
import ctypes
import importlib
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nllab.errors import NllabError
from nllab.runs import Run
from nllab.trainer import replay

NOTEBOOKS = tuple(f"{number:02d}" for number in range(13))
CALL_SECONDS = 20.0  # of processor time for one call of an answer, so that a busy machine fails nobody
PATIENCE = 6  # times as long may it take by the clock, where it waits and does not compute
RTOL, ATOL = 1e-3, 1e-4  # float32 in another order of operations; a wrong formula is off by far more
SHOWN = 12  # numbers of an input that are printed one by one


class Wrong(Exception):
    """What is wrong with an answer, in a sentence, and the input that shows it."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Unanswered(Exception):
    """The stub as it was handed out."""


class _TimeUp(BaseException):
    """Raised inside a call that takes too long."""


@dataclass(frozen=True)
class Number:
    """A prediction that is a number in [low, high]."""

    low: float
    high: float

    def read(self, value: Any) -> float:
        """The value as a float. Raises Wrong for what is no number in [low, high]."""
        plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not plain or not self.low <= float(value) <= self.high:
            raise Wrong(f"A prediction here is a number from {self.low:g} to {self.high:g}, and this is {value!r:.60}.")
        return float(value)


@dataclass(frozen=True)
class Choice:
    """A prediction that is one of some words."""

    options: tuple[str, ...]

    def read(self, value: Any) -> str:
        """The value. Raises Wrong for what is none of the options."""
        if value not in self.options:
            raise Wrong(f"A prediction here is one of {', '.join(map(repr, self.options))}, and this is {value!r:.60}.")
        return value


@dataclass(frozen=True)
class Exercise:
    """name: "02.1". kind: predict, code or explain. wants: "function" or "run". answer: the name that it has in the
    notebook. attempt(answer, draw) raises Wrong, or returns what a prediction is compared with. hints: from a nudge to
    nearly all of it.
    """

    name: str
    kind: str
    answer: str
    attempt: Callable[[Any, Draw], Any]
    hints: tuple[str, ...]
    solution: str
    wants: str = "function"
    prediction: Number | Choice | None = None

    @property
    def notebook(self) -> str:
        """ "02" of "02.1"."""
        return self.name.partition(".")[0]


def exercise(
    name: str,
    kind: str,
    *,
    hints: tuple[str, ...],
    solution: str,
    wants: str = "function",
    prediction: Number | Choice | None = None,
) -> Callable[[Callable[[Any, Draw], Any]], Exercise]:
    """Make an exercise of the function that tries an answer; its name is the name of the answer in the notebook."""

    def made(attempt: Callable[[Any, Draw], Any]) -> Exercise:
        text = solution.strip() + "\n"
        return Exercise(name, kind, attempt.__name__, attempt, hints, text, wants, prediction)

    return made


def exercises_of(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook ("02") by their names; empty for one that has none."""
    if notebook not in NOTEBOOKS:
        return {}
    try:
        module = importlib.import_module(f"nllab.course.n{notebook}")
    except ModuleNotFoundError as error:
        if error.name != f"nllab.course.n{notebook}":
            raise
        return {}
    found = [value for value in vars(module).values() if isinstance(value, Exercise)]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def find(name: object) -> Exercise:
    """The exercise of this name. Raises Wrong where there is none."""
    notebook = name.partition(".")[0] if isinstance(name, str) else ""
    known = exercises_of(notebook)
    if not isinstance(name, str) or name not in known:
        hint = f"this notebook has {', '.join(known)}" if known else 'names look like "02.1"'
        raise Wrong(f"There is no exercise {name!r:.40}; {hint}. Has the cell been edited?")
    return known[name]


class Draw:
    """Random inputs from one seed: small ones first, so that the input that shows a fault is a short one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.numpy = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        """Independent standard normal numbers, a float32 tensor of this shape."""
        return torch.randn(*shape, generator=self.generator)

    def unit(self, *shape: int) -> Tensor:
        """Vectors of length 1 along the last axis."""
        return torch.nn.functional.normalize(self.normal(*shape), dim=-1)

    def uniform(self, low: float, high: float) -> float:
        """A number drawn evenly from [low, high)."""
        return float(self.numpy.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.numpy.integers(low, high + 1))

    def sizes(self, *largest: int) -> Iterator[tuple[int, ...]]:
        """Sizes of eight trials: all 1, all 2, then random ones up to the largest."""
        yield tuple(1 for _ in largest)
        yield tuple(min(2, most) for most in largest)
        for _ in range(6):
            yield tuple(self.whole(1, most) for most in largest)


@dataclass
class Answer:
    """A reader's function. Calling it checks that it ends, raises nothing, returns something and leaves its arguments
    as they were."""

    function: Callable[..., Any]
    name: str
    last: str = field(default="", init=False)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        before = copy.deepcopy([_leaf(value) for value in arguments])
        shown = [described(value) for value in arguments]
        shown += [f"{key}={described(value)}" for key, value in settings.items()]
        self.last = f"{self.name}({', '.join(shown)})"
        try:
            result = limited(lambda: self.function(*arguments, **settings), CALL_SECONDS)
        except _TimeUp:
            raise Wrong(f"{self.last} had not returned after {CALL_SECONDS:g} seconds. Does its loop end?") from None
        except NameError as error:
            raise Wrong(
                f"{self.name} uses a name that is not there: {error}. Run the cells above first (menu Run, Run All"
                " Above Selected Cell)."
            ) from None
        except Wrong:
            raise
        except BaseException as error:
            text = " ".join(str(error).split())
            raise Wrong(f"{self.last} raised {type(error).__name__}: {text[:300]}") from None
        if result is None or result is ...:
            raise Unanswered
        for old, value in zip(before, arguments, strict=True):
            if not unchanged(old, value):
                raise Wrong(f"{self.last} changed its argument in place; work on a copy. It was {described(old)}.")
        return result

    def tensor(self, *arguments: Any, shape: tuple[int, ...], like: Tensor | None = None, **settings: Any) -> Tensor:
        """The result of a call as a finite tensor of this shape, on the device and in the dtype of `like`."""
        result = self(*arguments, **settings)
        if not isinstance(result, Tensor):
            raise Wrong(f"{self.last} returned {described(result)}; a torch tensor of shape {shape} is wanted.")
        if tuple(result.shape) != shape:
            raise Wrong(f"{self.last} returned a tensor of shape {tuple(result.shape)}; {shape} is wanted.")
        want = like if like is not None else torch.empty(0)
        if result.device != want.device:
            raise Wrong(f"{self.last} returned a tensor on {result.device}; its inputs are on {want.device}.")
        if result.dtype != want.dtype:
            raise Wrong(f"{self.last} returned {result.dtype}; its inputs are {want.dtype}.")
        if not bool(torch.isfinite(result.detach()).all()):
            raise Wrong(f"{self.last} returned values that are NaN or infinite: {described(result)}.")
        return result

    def number(self, *arguments: Any, nan: bool = False, **settings: Any) -> float:
        """The result of a call as a number; NaN only where it is allowed."""
        result = self(*arguments, **settings)
        if isinstance(result, Tensor | np.ndarray) and result.ndim == 0:
            result = result.item()
        if isinstance(result, bool) or not isinstance(result, int | float | np.integer | np.floating):
            raise Wrong(f"{self.last} returned {described(result)}; a number is wanted.")
        if math.isinf(result) or (math.isnan(result) and not nan):
            raise Wrong(f"{self.last} returned {result}; a finite number is wanted.")
        return float(result)

    def close(self, got: Any, want: Any, sentence: str, rtol: float = RTOL, atol: float = ATOL) -> None:
        """Raise Wrong with the sentence and the last call unless the two agree."""
        one, other = (torch.as_tensor(value).detach().double() for value in (got, want))
        if one.shape != other.shape or not torch.allclose(one, other, rtol=rtol, atol=atol, equal_nan=True):
            raise Wrong(f"{sentence} {self.last} gave {described(got)}, expected {described(want)}.")

    def expect(self, holds: bool | Tensor, sentence: str) -> None:
        """Raise Wrong with the sentence and the last call unless it holds."""
        if not bool(holds):
            raise Wrong(f"{sentence} Seen with {self.last}.")

    def gradients(
        self, reference: Callable[..., Tensor], arguments: list[Any], draw: Draw, sentence: str, **settings: Any
    ) -> None:
        """The gradients of a random combination of the outputs, in every floating tensor among the arguments."""
        weight: Tensor | None = None
        found = []
        for function in (reference, self):
            leaves = [
                value.detach().clone().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point()
                else value
                for value in arguments
            ]  # fmt: skip
            out = function(*leaves, **settings)
            if weight is None:
                weight = draw.normal(*out.shape)
            if not out.requires_grad:
                raise Wrong(
                    f"{self.last} returned a tensor that torch cannot take gradients through; stay with torch"
                    " operations, without .item(), .detach() or a new torch.tensor(...)."
                )
            total = (out * weight).sum()
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
            grads = torch.autograd.grad(total, tensors, allow_unused=True)
            found.append([torch.zeros_like(t) if g is None else g for t, g in zip(tensors, grads, strict=True)])
        for want, got in zip(*found, strict=True):
            self.close(got, want, sentence)


def _leaf(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def unchanged(old: Any, value: Any) -> bool:
    """Whether a value equals an earlier copy of it; always true for what is no tensor, array, list or tuple."""
    if isinstance(value, Tensor):
        return old.shape == value.shape and torch.equal(old.nan_to_num(), value.detach().nan_to_num())
    if isinstance(value, np.ndarray):
        return old.shape == value.shape and np.array_equal(old, value, equal_nan=value.dtype.kind in "fc")
    if isinstance(value, list | tuple):
        return len(old) == len(value) and all(unchanged(a, b) for a, b in zip(old, value, strict=True))
    return True


def described(value: Any) -> str:
    """A value as a sentence can hold it: small tensors number by number, large ones by their shape."""
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        if 0 < array.size <= SHOWN and array.dtype.kind in "fiub":
            return str((array.astype(float).round(4) if array.dtype.kind == "f" else array).tolist())
        return f"<{tuple(array.shape)} {array.dtype}>"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and len(value) <= SHOWN:
        left, right = "[]" if isinstance(value, list) else "()"
        return left + ", ".join(map(described, value)) + right
    if isinstance(value, torch.nn.Module):
        return f"<{type(value).__name__}>"
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return f"{value!r:.60}"


def limited(call: Callable[[], Any], seconds: float) -> Any:
    """The result of a call in a thread of its own; raises _TimeUp where it takes more seconds of processor time, or
    `PATIENCE` times as many by the clock, and ends its loop."""
    box: list[tuple[bool, Any]] = []
    clocks: list[Any] = []  # asked for in the thread itself: of one that has ended it must not be asked for

    def work() -> None:
        ask = getattr(time, "pthread_getcpuclockid", lambda _: None)
        clocks.append(ask(threading.get_ident()))
        try:
            box.append((True, call()))
        except BaseException as error:
            box.append((False, error))

    thread, began = threading.Thread(target=work, name="answer", daemon=True), time.monotonic()
    thread.start()
    while thread.is_alive() and _spent(clocks, began) < seconds and time.monotonic() - began < PATIENCE * seconds:
        thread.join(seconds / 10)
    if not box and thread.is_alive():
        # A loop in Python ends at its next instruction; a call that sleeps in C is left behind as a daemon.
        identity = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_TimeUp))
        raise _TimeUp
    good, value = box[0]
    if good:
        return value
    raise value


def _spent(clocks: list[Any], began: float) -> float:
    """Seconds on the clock of a thread's processor time, 0 before it runs; by the wall clock where there is none."""
    try:
        return time.clock_gettime(clocks[0]) if clocks else 0.0
    except (TypeError, AttributeError, OSError):  # no clock, or its thread has just ended
        return time.monotonic() - began


def genuine(run: Run) -> None:
    """Raise Wrong unless training the run again, from its experiment and commands, gives the same events."""
    again = replay(run)
    for old, new in zip(run.log, again.log, strict=False):
        if old != new:
            raise Wrong(
                f"Trained again from its experiment and commands, this run is another one from step {new.step} on. "
                "Hand in the run as nllab.train returned it."
            )
    if len(run.log) != len(again.log):
        raise Wrong(f"This run has {len(run.log)} events; trained again it has {len(again.log)}.")


@dataclass(frozen=True)
class Verdict:
    """passed; empty: nothing was answered yet; sentence; truth: what a prediction is compared with."""

    passed: bool
    sentence: str
    empty: bool = False
    truth: Any = None
    seed: int = 0


def judge(one: Exercise, answer: Any, seed: int | None = None) -> Verdict:
    """Try an answer on fresh random inputs; whatever the reader's code does, a verdict comes back."""
    seed = secrets.randbelow(2**31) if seed is None else seed
    if answer is ... or answer is None:
        return Verdict(False, "", empty=True)
    if hasattr(answer, "live"):  # a live lab: the run that it holds
        answer = answer.live.run
    try:
        if one.wants == "run":
            if not isinstance(answer, Run):
                raise Wrong(
                    f"Exercise {one.name} wants a run, as nllab.train(...) returns it, and this is"
                    f" {described(answer)}, of type {type(answer).__name__}."
                )
            truth = one.attempt(answer, Draw(seed))
        else:
            if not callable(answer) or isinstance(answer, type):
                raise Wrong(
                    f"Exercise {one.name} wants the function {one.answer}, and this is {described(answer)}, of type"
                    f" {type(answer).__name__}. It is tried on inputs that nobody has seen, so a value cannot do."
                )
            truth = one.attempt(Answer(answer, one.answer), Draw(seed))
    except Unanswered:
        return Verdict(False, "", empty=True)
    except (Wrong, NllabError) as error:
        return Verdict(False, str(error), seed=seed)
    except Exception as error:  # of the comparison, with what the answer returned
        text = " ".join(str(error).split())[:200]
        sentence = f"What {one.answer} returned cannot be compared with anything ({type(error).__name__}: {text})."
        return Verdict(False, sentence, seed=seed)
    return Verdict(True, "", truth=truth, seed=seed)
