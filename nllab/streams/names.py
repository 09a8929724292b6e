"""Languages, one after another: the names of places, languages and currencies in CLDR, as the Babel package carries
them.

Real words in hundreds of languages, 11 to 16 thousand characters each, all of them translations of the same list,
without a download. Some names are held out for testing, the same ones in every language; names that are spelled alike
anywhere in a stream ("Togo") stay on one side together, so that no test name was ever seen in training, in whatever
language.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

import torch
from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

from nllab.errors import DataError, unknown
from nllab.streams.stream import Part, Stream, Task, letter, side_by_side

KINDS = ("territories", "languages", "currencies")
FIVE = ("de", "tr", "fi", "pl", "sw")
HELD_OUT = 0.15  # share of the names
WINDOW = 6  # characters that a sample of the streams sees


class Names(NamedTuple):
    """One language: its code, its English name, and its names by CLDR key, training and held out, in the order of the
    keys."""

    code: str
    about: str
    train: dict[str, str]
    test: dict[str, str]


@lru_cache(maxsize=32)
def names_of(code: str) -> dict[str, str]:
    """Every name of one language: CLDR key, such as "territories FI", to name. Raises SettingError for a language Babel
    does not know."""
    try:
        locale = Locale.parse(code)
    except (UnknownLocaleError, ValueError, TypeError):
        raise unknown("language", code, [c for c in locale_identifiers() if "_" not in c]) from None
    names = {f"{kind} {key}": str(name) for kind in KINDS for key, name in getattr(locale, kind).items()}
    return {key: names[key] for key in sorted(names)}


def held_out(tables: Iterable[Mapping[str, str]], share: float, seed: int) -> frozenset[str]:
    """The keys to hold out: about `share` of all, and two keys whose names coincide in one of the tables, up to case,
    go together."""
    owner: dict[str, str] = {}

    def root(key: str) -> str:
        while owner.setdefault(key, key) != key:
            key = owner[key]
        return key

    spelled: dict[str, str] = {}
    for table in tables:
        for key, name in table.items():
            owner[root(key)] = root(spelled.setdefault(name.casefold(), key))
    groups: dict[str, list[str]] = {}
    for key in sorted(owner):
        groups.setdefault(root(key), []).append(key)
    order = sorted(groups.values())
    Random(seed).shuffle(order)
    taken: list[str] = []
    for group in order:
        if len(taken) + len(group) <= share * len(owner):
            taken += group
    return frozenset(taken)


def languages(
    codes: Sequence[str] = FIVE, *, share: float = HELD_OUT, seed: int = 0, minimum: int = 50, validation: bool = False
) -> list[Names]:
    """The languages with their training and held-out names; `seed` draws which keys are held out, from all languages
    and English together.

    validation: leave the held-out names aside altogether, and hold out as large a share of the others in their place,
        by the same rule: what settings are chosen on.
    Raises: SettingError for a language Babel does not know; DataError for one with fewer than `minimum` names to learn
        from.
    """
    english, tables = names_of("en"), {code: names_of(code) for code in codes}
    test = held_out([english, *tables.values()], share, seed)
    if validation:
        english, *others = ({k: n for k, n in table.items() if k not in test} for table in (english, *tables.values()))
        tables = dict(zip(tables, others, strict=True))
        test = held_out([english, *others], share, seed)
    tongues = []
    for code, table in tables.items():
        about = Locale.parse(code).get_display_name("en") or code
        language = Names(
            code,
            about,
            {k: n for k, n in table.items() if k not in test},
            {k: n for k, n in table.items() if k in test},
        )
        if len(language.train) < minimum or not language.test:
            raise DataError(
                f"CLDR has {len(table)} names in {about} ({code}), too few to learn from; take one with {minimum} or"
                " more."
            )
        tongues.append(language)
    return tongues


def alphabet(texts: Iterable[str]) -> str:
    """Every character that occurs, in order of code point."""
    return "".join(sorted(set().union(*map(set, texts))))


def pairs(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """(English name, name) for every key that has both: a small dictionary to translate by."""
    english = names_of("en")
    return [(english[key], name) for key, name in names.items() if key in english]


def windows(names: Iterable[str], letters: str, window: int = WINDOW) -> Part:
    """Every character of every name, and its end, as one sample: the `window` characters before it, one-hot side by
    side, and its class.

    Class 0 is the end of a name and what stands before its start; class i + 1 is letters[i]. Inputs have unit mean
    square.
    """
    token = {character: i for i, character in enumerate(letters, 1)}
    rows = [[0] * window + [token[character] for character in name] + [0] for name in names]
    seen = torch.tensor([row[i : i + window] for row in rows for i in range(len(row) - window)])
    return Part(
        side_by_side(seen, len(letters) + 1),
        torch.tensor([target for row in rows for target in row[window:]]),
    )


def next_characters(codes: Sequence[str], split: int, hold_out: bool, *, name: str, about: str) -> Stream:
    """A stream of languages: each sample asks for the next character. `hold_out` moves every tenth training name to
    validation."""
    tongues = languages(codes, seed=split)
    letters = alphabet(
        text for language in tongues for part in (language.train, language.test) for text in part.values()
    )
    tasks = []
    for i, language in enumerate(tongues):
        names = [*language.train.values()]
        held = names[::10] if hold_out else []
        kept = [text for j, text in enumerate(names) if not hold_out or j % 10]
        train, test = windows(kept, letters), windows(language.test.values(), letters)
        tasks.append(Task(letter(i), language.about, train, windows(held, letters) if held else train[:0], test))
    return Stream(name, about, tuple(tasks), tuple(range(len(tasks))), len(letters) + 1, letters=letters)


def names_ab(seed: int, split: int, hold_out: bool) -> Stream:
    """German names, then Turkish ones."""
    about = "Names of places, languages and currencies, character by character: first in German, then in Turkish."
    return next_characters(FIVE[:2], split, hold_out, name="names-ab", about=about)


def names_5(seed: int, split: int, hold_out: bool) -> Stream:
    """Five languages in turn."""
    about = "Names in German, Turkish, Finnish, Polish and Swahili in turn, character by character."
    return next_characters(FIVE, split, hold_out, name="names-5", about=about)
