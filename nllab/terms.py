"""The words of the lab, each in one sentence: with `runs.METRICS` all that its glossary holds. No torch."""

from __future__ import annotations

from nllab.runs import METRICS, readable

TERMS = {
    "accuracy matrix": (
        "A row for each experience, a column for each task: the accuracy on that task once that experience was over."
    ),
    "agreement": (
        "The share of recent errors in which the same wrong answer had the same right one as the last time: high where"
        " the world has changed its answers, low where there is noise."
    ),
    "average, joint and chance": (
        "Three lines to hold a run against: its mean over the tasks; the ceiling, a network taught all tasks at"
        " once, mixed; the floor, guessing."
    ),
    "batch": "The samples of one step.",
    "catastrophic forgetting": "What was learned is lost because something else is learned with the same weights.",
    "conflict": "How much of the step that a batch asks for is held back by the memory of earlier inputs.",
    "context memory": (
        "What the deep optimizer keeps of all inputs that a layer has seen: their second moments, one matrix for each"
        " layer."
    ),
    "continuum memory system": (
        "A chain of blocks that learn at different speeds, in place of one long-term and one short-term memory "
        "(Eq. 70-74)."
    ),
    "deep optimizer": (
        "An optimizer with a memory of everything each layer has seen. It always watches; the toggle decides whether it"
        " writes."
    ),
    "error weight": "Further weight of samples that the network got wrong, in the loss and in the memory alike.",
    "experience": "One visit of a task: the stretch of steps in which its batches arrive.",
    "frozen twin": (
        "The same network on the same seed with all but the output layer kept at its initial values. What hidden levels"
        " learn is worth what it exceeds its twin by."
    ),
    "head": "The output layer: it turns features into scores for the classes.",
    "hidden level": "Any level but the output layer.",
    "joint": "Training on all tasks at once, mixed: what could be reached if nothing had to be remembered.",
    "level": "A group of weights with its own update period. Faster and slower are the only words of order.",
    "manager": (
        "Watches errors and novelty and sets error weight, retention and rate of the deep optimizer, each decision with"
        " its reason."
    ),
    "nested learning": (
        "The view that a network and its optimizer are loops inside each other, each a memory that learns at its own"
        " speed."
    ),
    "new answers": (
        "The share of recent errors whose right answer was first seen only just before: high when a task"
        " with new classes has begun."
    ),
    "novelty": "How new an input is to a layer's memory: 1 is what the memory holds on average, more is newer.",
    "online accuracy": "Accuracy on a batch just before learning it: how the network does as the stream flows.",
    "period": "Steps between two writes of a level. Its gradients are summed meanwhile and written once, at the end.",
    "plain optimizer": "The ordinary one, such as Adam, that writes while the deep optimizer is switched off.",
    "plasticity": "How readily something new is learned.",
    "replay": "Training again on stored old samples. Nothing here does so unless it says so.",
    "retention": "What share of its memory the deep optimizer keeps at each write: 1 keeps everything.",
    "seed": (
        "The number from which everything random is drawn. The same seed and settings give the same run, bit for bit."
    ),
    "stability": "How well what was learned is kept.",
    "step": "One batch: look, compute the gradients, and let every level whose turn it is write.",
    "stream": "The samples in the order in which they arrive, task after task.",
    "surprise": "How wrong the network was about a batch.",
    "task": (
        "A set of samples that belong together, called A, B and so on. The network is never told which one it sees."
    ),
    "write": "A change of a level's weights.",
}


def glossary() -> dict[str, str]:
    """Every term and every metric -> what it means, in the order of the alphabet."""
    metrics = {readable(name): meaning[:1].upper() + meaning[1:] + "." for name, (_, meaning) in METRICS.items()}
    together = metrics | TERMS
    return {name: together[name] for name in sorted(together, key=str.lower)}
