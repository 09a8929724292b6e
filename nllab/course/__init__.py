"""The course: what the notebooks use to check answers, keep predictions and state what a run has shown. Its names load
on first use, so that progress and copies of notebooks can be looked after without torch.

    begin("02")                      at the top: one thread, this notebook's progress
    predict("02.3", 0.5)             kept, and compared when the answer is there
    check("02.1", delta_write)       tries a function, or trains a run again, and says in a sentence what is wrong
    claim(a < b, "A is lost")        prints the sentence that the run bears out, or fails
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nllab.course.lesson import ClaimError as ClaimError
    from nllab.course.lesson import Wrong as Wrong
    from nllab.course.lesson import begin as begin
    from nllab.course.lesson import check as check
    from nllab.course.lesson import claim as claim
    from nllab.course.lesson import predict as predict

__all__ = ["ClaimError", "Wrong", "begin", "check", "claim", "predict"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nllab.course' has no attribute {name!r}")
    from nllab.course import lesson

    return getattr(lesson, name)
