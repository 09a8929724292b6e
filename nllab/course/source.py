"""An answer as text that can be run again: the reader's function with what it uses of the notebook, or the code of a
run."""

from __future__ import annotations

import builtins
import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

from nllab.course.exercise import Exercise
from nllab.reproduce import snippet
from nllab.runs import Run


def source_of(one: Exercise, answer: Any) -> str:
    """Python that defines the answer under its name in the notebook; empty where its source is not known."""
    if hasattr(answer, "live"):
        answer = answer.live.run
    if isinstance(answer, Run):
        return snippet(answer).replace("run = nllab.train(", f"{one.answer} = nllab.train(").replace(
            "print(run.summary)", ""
        )  # fmt: skip
    if not isinstance(answer, FunctionType):
        return ""
    parts: dict[str, str] = {}
    try:
        _collect(answer, parts)
    except (OSError, TypeError):
        return ""
    renamed = "" if answer.__name__ == one.answer else f"{one.answer} = {answer.__name__}\n"
    return "\n".join([*sorted(parts.values(), key=lambda text: not text.startswith(("import", "from")))]) + renamed


def _collect(function: FunctionType, parts: dict[str, str]) -> None:
    """The sources of a function and of all that it uses of its module, in the order in which they must be defined."""
    if function.__name__ in parts:
        return
    parts[function.__name__] = ""  # it may call itself
    for name in _names(function.__code__):
        value: Any = function.__globals__.get(name)
        if value is None or hasattr(builtins, name) or name in parts:
            continue
        if isinstance(value, ModuleType):
            parts[name] = f"import {value.__name__} as {name}\n"
        elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
            _collect(value, parts)
        elif _is_plain(value):
            parts[name] = f"{name} = {value!r}\n"
        else:
            module, own = getattr(value, "__module__", ""), getattr(value, "__name__", "")
            if getattr(sys.modules.get(module), own, None) is value:
                parts[name] = f"from {module} import {own} as {name}\n"
    del parts[function.__name__]
    parts[function.__name__] = inspect.getsource(function)


def _names(code: Any) -> list[str]:
    inner = [name for constant in code.co_consts if hasattr(constant, "co_names") for name in _names(constant)]
    return [*code.co_names, *inner]


def _is_plain(value: Any) -> bool:
    """Whether its repr is Python that gives it back."""
    return all(isinstance(item, int | float | str) for item in (value if isinstance(value, tuple) else (value,)))
