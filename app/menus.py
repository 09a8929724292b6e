"""What can be chosen on a page, in words: streams in groups, methods with what each is told."""

from __future__ import annotations

from nllab.methods import BRINGS_ITS_MODEL
from nllab.methods import REGISTRY as METHODS

STREAMS = {  # name -> (group, what it teaches)
    "digits-ab": ("Digits", "0–4, then 5–9"),
    "digits-5x2": ("Digits", "two at a time, five tasks"),
    "digits-aba": ("Digits", "0–4, 5–9, then 0–4 again"),
    "permuted-digits": ("Digits", "all ten, then with shuffled pixels"),
    "permuted-digits-5": ("Digits", "five shuffles of the pixels"),
    "permuted-digits-50": ("Digits", "fifty shuffles of the pixels"),
    "rotated-digits": ("Digits", "turned further from task to task"),
    "remapped-digits": ("Digits", "the same images, every answer moved on by one"),
    "drifting-digits": ("Digits", "inputs that drift all the time"),
    "noisy-digits": ("Digits", "with a burst of random labels"),
    "contexts-digits": ("Digits", "names that are swapped and come back, unannounced"),
    "fashion-ab": ("Clothes", "five kinds, then five others"),
    "fashion-5x2": ("Clothes", "two kinds at a time, five tasks"),
    "permuted-fashion": ("Clothes", "five shuffles of the pixels"),
    "plane-ab": ("The plane", "two crescents, then two others"),
    "names-ab": ("Language", "names in German, then in Turkish"),
    "names-5": ("Language", "names in five languages"),
    "letters-ab": ("Language", "one alphabet's strings, then another's"),
    "facts-ab": ("Language", "facts to recall, then others"),
}
OWN_MODEL = BRINGS_ITS_MODEL  # the page does not draw it
METHOD_NAMES = {
    "naive": "none", "fewer-updates": "Fewer updates", "ewc": "EWC", "online-ewc": "Online EWC",
    "si": "Synaptic intelligence", "lwf": "Learning without forgetting", "er": "Experience replay", "a-gem": "A-GEM",
    "der++": "DER++", "owm": "Orthogonal weight modification", "gpm": "Gradient projection memory",
    "l2-init": "L2 towards the start", "shrink-and-perturb": "Shrink and perturb", "upgd": "UPGD",
    "continual-backprop": "Continual backprop",
}  # fmt: skip


def stream_line(name: str) -> str:
    """A stream as the menu shows it."""
    return " · ".join(STREAMS.get(name, (name,)))


def method_line(name: str) -> str:
    """A method as the menu shows it, with what it is told beyond the batches."""
    title = METHOD_NAMES.get(name, name)
    told = told_by(name)
    return f"{title} · {told}" if told else title


def told_by(name: str) -> str:
    """What a method is told beyond the batches; empty for none."""
    home = METHODS[name]
    if "samples" in home.privileged:
        return f"stores {home.settings['buffer']:g} samples and trains on them again"
    return "is told when a task ends" if "boundaries" in home.privileged else ""
