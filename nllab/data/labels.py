"""One identity for a label, however a program wrote it.

`0`, `0.0` and `0.0e+00` are one class; so are `cat` and `cat␣`, composed and decomposed accents, `True` and `TRUE`.
"None", "NA" and codes such as `3E2` are names like any other. Spellings that a person may have meant as one class
(`Cat` and `cat`, `7` and `07`) stay apart, and are named.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nllab.data.limits import FEWEST, LONGEST_LABEL, MOST_CLASSES
from nllab.data.report import Findings, counted, listed, shown
from nllab.errors import DataError

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?|[+-]?[0-9](\.[0-9]{0,15}[eE][+-]?|[eE][+-])[0-9]{1,2}", re.ASCII)
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+([eE][+-]?[0-9]+)?", re.ASCII)
_LOOKALIKES = str.maketrans("АВЕКМНОРСТХаеорсухіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTXaeopcyxijABEZHIKMNOPTYXo")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def identity(text: str) -> str:
    """The label that this text stands for; empty where nothing is written."""
    text = unicodedata.normalize("NFC", text.translate(_INVISIBLE)).strip()
    if text.lower() in ("true", "false"):
        return text.capitalize()
    if _WHOLE.fullmatch(text) and not re.match(r"[+-]?0[0-9]", text):
        value = float(text)
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
    return " ".join(text.split())


def natural(label: str) -> tuple[float, str]:
    """Sorts numbers by value, then text by letters."""
    return (float(label), label) if re.fullmatch(r"-?[0-9]{1,300}", label) else (math.inf, label)


def identities(texts: Iterable[str], task: str, name: str, findings: Findings) -> NDArray[np.str_]:
    """The label of every sample. Raises DataError for what are no classes; an empty label stays empty."""
    spellings: dict[str, str] = {}
    names = []
    merged: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        if text not in spellings:
            if len(text) > LONGEST_LABEL:
                raise DataError(
                    f"{name}: the label {shown(text)} has {len(text):,} characters. Labels are names of classes, of at"
                    f" most {LONGEST_LABEL} characters."
                )
            spellings[text] = identity(text)
            merged[spellings[text]].add(text)
            if len(merged) > MOST_CLASSES + 1:  # before the work of reading a million of them; an empty one is none
                check_few(list(merged), name)
        names.append(spellings[text])
    for label, texts_of_it in merged.items():
        if len(texts_of_it) > 1 and label:
            findings.convert(task, f"labels {listed(sorted(texts_of_it))}", f"one class, {shown(label)}")
    return np.array(names, dtype=np.str_)


def check_classes(labels: NDArray[np.str_], name: str) -> None:
    """Raises DataError unless these are at least two classes of at least FEWEST samples each."""
    names, counts = np.unique(labels, return_counts=True)
    check_few(names.tolist(), name)
    if len(names) < 2:
        what = "one class only" if len(names) else "no samples"
        raise DataError(f"{name} holds {what}; a task needs at least two classes.")
    rare = int((counts < FEWEST).sum())
    if rare > max(len(names) // 4, 5) and all(_WHOLE.fullmatch(label) for label in names.tolist()):
        raise DataError(
            f"{name}: the labels are {len(names):,} different numbers ({listed(names, 3)}), and {rare:,} of them have"
            f" fewer than {FEWEST} samples, so they are amounts and not classes. Cut them into classes first, such as"
            " low and high."
        )
    if rare:
        raise DataError(
            f"{name}: class {shown(names[counts.argmin()])} has {counted(int(counts.min()), 'sample')}; every class"
            f" needs at least {FEWEST}. Add samples, or leave out the rows of this class: they may be units or a total."
        )


def check_few(names: list[str], name: str) -> None:
    """Raises DataError for labels that are amounts, or too many to be classes."""
    if len(names) > 2 and sum(bool(_FRACTION.fullmatch(label)) for label in names) > len(names) / 2:
        raise DataError(
            f"{name}: the labels are fractional numbers ({listed(names, 3)}), so they are amounts and not"
            " classes; expected whole numbers or text. Cut them into classes first, such as low and high."
        )
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{name} has more than {MOST_CLASSES:,} different labels, such as {listed(names, 3)}, and at most so many"
            " classes can be learned. Is 'label' the right column?"
        )


def _plain(label: str) -> str:
    """Lower case without accents, in Latin letters where others look the same; UTF-8 that was read as Windows-1252 is
    read again."""
    with contextlib.suppress(UnicodeError):
        label = label.encode("cp1252").decode()
    plain = unicodedata.normalize("NFKD", label).translate(_LOOKALIKES).casefold()
    return "".join(c for c in plain if not unicodedata.combining(c))


def spelling_variants(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ in letters' case, spaces, hyphens, quotes, accents, zeros, a plural s, the number of
    a copy, letters of another alphabet that look alike, or by an encoding read wrongly, alone."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        plain = _plain(label)
        if re.fullmatch(r"[+-]?([0-9]{1,15}([.,][0-9]{0,15})?|[.,][0-9]{1,15})", plain):
            groups[repr(float(plain.replace(",", ".")))].append(label)
            continue
        plain = re.sub(r"[\s_.'\"-]+", "", re.sub(r"\s*\([0-9]+\)$|[\s_-]+copy$", "", plain)) or label
        plain = re.sub(r"(?<=[a-z]{3})s$", "", plain)
        groups[re.sub(r"(?<![0-9])0+(?=[0-9])", "", plain)].append(label)
    return [group for group in groups.values() if len(group) > 1]
