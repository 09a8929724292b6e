"""What a notebook calls: begin, predict, check and claim."""

from __future__ import annotations

import html
import sys
import textwrap
from typing import Any

import torch

from nllab.course.exercise import Exercise, Wrong, exercises_of, find, judge
from nllab.course.progress import Progress, now
from nllab.course.source import source_of

__all__ = ["ClaimError", "Wrong", "begin", "check", "claim", "predict"]

WIDTH = 96  # characters of a line that a notebook 1280 pixels wide shows whole


class ClaimError(AssertionError):
    """A run does not bear out what the lesson says of it."""


def claim(holds: Any, sentence: str) -> None:
    """Print a sentence about a result, or raise ClaimError where the result does not bear it out."""
    if not bool(holds):
        raise ClaimError(f"This run does not bear it out: {sentence}")
    print(textwrap.fill(f"✓ {sentence}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def begin(notebook: str, edition: int = 1) -> None:
    """Open a notebook of the course: one CPU thread, so that runs repeat bit for bit, and the progress of its reader.

    edition: of the reader's copy, which may be older than the exercises that came with this version of nllab.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _prepare_shell()
    known, progress = exercises_of(notebook), Progress()
    lines = [f"Notebook {notebook}: {len(progress.solved(notebook))} of {len(known)} exercises solved."]
    current = edition_of(notebook)
    if edition != current:
        lines.append(
            f"This copy is edition {edition} and nllab has edition {current}: `nllab lab` puts the new one beside it."
        )
    print("\n".join([*lines, *([progress.problem] if progress.problem else [])]))


def edition_of(notebook: str) -> int:
    """Raised in the notebook's exercise file whenever a copy of before no longer fits its exercises."""
    if not exercises_of(notebook):
        return 1
    return getattr(sys.modules[f"nllab.course.n{notebook}"], "EDITION", 1)


def predict(name: str, value: Any = ...) -> None:
    """Keep a prediction until the answer is there. It may be changed until then."""
    one = find(name)
    if one.prediction is None:
        raise Wrong(f"Exercise {name} asks for no prediction.")
    progress = Progress()
    earlier = progress.of(name)
    if value is ...:
        print("Your turn: put your prediction in place of the dots, and run this cell again.")
    elif earlier.get("solved"):
        print(f"The answer has been seen; your prediction stays {earlier.get('prediction')!r}.")
    else:
        progress.note(name, prediction=one.prediction.read(value))
        print(progress.problem or f"Kept: you predict {value!r}.")


def check(name: str, answer: Any = ...) -> None:
    """Say whether an answer solves an exercise. Raises Wrong, shown as one sentence without a traceback."""
    one, progress = find(name), Progress()
    entry = progress.of(name)
    verdict = judge(one, answer)
    if one.prediction is not None and "prediction" not in entry:
        if progress.problem or verdict.empty:
            _say(one, progress.problem or "Your turn: predict first, then answer.")
            return
        raise Wrong(f'Predict first: run the cell with predict("{name}", ...), with your guess in place of the dots.')
    if verdict.empty:
        _say(one, "Your turn: write the answer in the cell above in place of the dots, then run both cells again.")
        return
    kept: dict[str, Any] = {"attempts": entry.get("attempts", 0) + 1, "seed": verdict.seed}
    kept |= {"answer": source_of(one, answer), "passed": verdict.passed}
    if verdict.passed:
        kept |= {"solved": entry.get("solved") or now(), "truth": verdict.truth}
    progress.note(name, **kept)
    if not verdict.passed:
        _say(one, f"Tried with seed {verdict.seed}.")
        raise Wrong(verdict.sentence)
    lines = [f"Right. {len(progress.solved(one.notebook))} of {len(exercises_of(one.notebook))} solved here."]
    if one.prediction is not None:
        lines.append(f"You predicted {_plain(entry['prediction'])}; it is {_plain(verdict.truth)}.")
    _say(one, " ".join([*lines, progress.problem]).strip(), hints=False)


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _say(one: Exercise, sentence: str, hints: bool = True) -> None:
    """The sentence, and folded below it the hints, each inside the one before, and the solution."""
    from IPython.display import display

    folded = f"<pre>{html.escape(one.solution)}</pre>"
    folded = f"<details><summary>Solution</summary>{folded}</details>"
    if hints:
        for number, hint in reversed(list(enumerate(one.hints, start=1))):
            folded = f"<details><summary>Hint {number}</summary><p>{html.escape(hint)}</p>{folded}</details>"
    shown = {"text/plain": sentence, "text/html": f"<p>{html.escape(sentence)}</p>{folded}"}
    display(shown, raw=True)


def _prepare_shell() -> None:
    """In a notebook, show figures as pictures, and say of a name that is not there yet that cells above must be run."""
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is None:
        return
    select_figure_formats(shell, "png", bbox_inches=None)

    def explain(shell: Any, kind: Any, error: BaseException, tb: Any, tb_offset: Any = None) -> list[str]:
        name = getattr(error, "name", None) or str(error)
        text = f"{name!r} is not there yet. Run the cells above first (menu Run, Run All Above Selected Cell)."
        shell._showtraceback(kind, error, [text])
        return [text]

    shell.set_custom_exc((NameError,), explain)
