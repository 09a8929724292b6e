"""Six formal languages: at every position of a string a model says what may come next, or whether the prefix is a word.

Strings are drawn as Bhattamishra et al. 2020 draw them ("On the ability and limitations of Transformers to recognize
formal languages"), asked about as Irie et al. 2023 ask ("Practical computational power of linear Transformers and their
recurrent and self-referential extensions"), which is where Table 5 of Behrouz et al. 2025 (arXiv 2512.24695) has its
protocol from. A sequence counts as right if every position is. A position's answer is one of a few classes: where
several next symbols are legal, each set of them is one class, so that a right class is the right set.

Axes: N strings, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from nllab.errors import SettingError

IGNORE = -100  # the target of a padded position, which cross_entropy leaves out
Window = tuple[int, int]
TRIES = 200_000  # draws in a row without a new string before a language counts as exhausted


class Strings(NamedTuple):
    """tokens (N, T) int64, padded with 0 behind the end; targets (N, T) int64, IGNORE behind the end."""

    tokens: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Language:
    """A language: how strings are drawn, and the answer at each position.

    symbols: the alphabet, token i is symbols[i]. answers: the classes in words.
    draw: one string, by a random source and the window of its measure, or None for one to be drawn again.
    answer: the class at each position of a string of the language.
    train, longer: windows of the measure (a string's length, or n for aⁿbⁿ), both ends included.
    few: whether a window holds so few strings that training repeats them and a test takes all.
    """

    name: str
    symbols: str
    answers: tuple[str, ...]
    draw: Callable[[Random, Window], str | None]
    answer: Callable[[str], list[int]]
    train: Window = (2, 50)
    longer: Window = (51, 100)
    few: bool = False

    def strings(self, count: int, window: Window, seed: int, without: Iterable[str] = ()) -> list[str]:
        """`count` different strings, none of them in `without`; all that there are where the language has only few."""
        random, drawn, unwanted, misses = Random(f"{self.name} {window} {seed}"), dict[str, None](), set(without), 0
        while len(drawn) < count and misses < (2_000 if self.few else TRIES):
            string = self.draw(random, window)
            if not string or string in drawn or string in unwanted:
                misses += string is not None
                continue
            drawn[string], misses = None, 0
        if len(drawn) < count and not self.few:
            raise SettingError(
                f"{self.name}: {count} different strings of window {window} wanted, {len(drawn)} found; ask for fewer."
            )
        return list(drawn)

    def encode(self, strings: Iterable[str]) -> Strings:
        """Strings as tokens and targets (N, T), padded with 0 and IGNORE."""
        rows = list(strings)
        longest = max(map(len, rows))
        tokens = torch.tensor([[self.symbols.index(s) for s in row] + [0] * (longest - len(row)) for row in rows])
        targets = torch.tensor([self.answer(row) + [IGNORE] * (longest - len(row)) for row in rows])
        return Strings(tokens, targets)


def sequence_accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of strings with every position right; scores (N, T, classes), targets (N, T)."""
    right = (scores.argmax(-1) == targets) | (targets == IGNORE)
    return right.all(1).float().mean().item()


def draw_parity(random: Random, window: Window) -> str | None:
    """Symbols 0 and 1 with probability L / (2 (1 + L)) each, else the end, L the middle of the window; one more 1 makes
    the ones even."""
    middle = sum(window) // 2
    symbols = ""
    while random.random() < middle / (1 + middle) and len(symbols) <= window[1]:
        symbols += random.choice("01")
    symbols += "1" * (symbols.count("1") % 2)
    return symbols if window[0] <= len(symbols) <= window[1] else None


def answer_parity(string: str) -> list[int]:
    """1 where the prefix holds an even number of ones."""
    return [1 - ones % 2 for ones in accumulate(s == "1" for s in string)]


def repeats(unit: str) -> Callable[[Random, Window], str | None]:
    """unit ^ floor(L / |unit|), L uniform in the window; what falls out of the window is drawn again."""

    def draw(random: Random, window: Window) -> str | None:
        string = unit * (random.randint(*window) // len(unit))
        return string if len(string) >= window[0] else None

    return draw


def every(length: int) -> Callable[[str], list[int]]:
    """1 where the length of the prefix is a multiple of `length`."""
    return lambda string: [int(t % length == 0) for t in range(1, len(string) + 1)]


def counter(letters: str) -> Callable[[Random, Window], str | None]:
    """Every letter n times, n uniform in the window."""

    def draw(random: Random, window: Window) -> str:
        n = random.randint(*window)
        return "".join(letter * n for letter in letters)

    return draw


def answer_counter(string: str) -> list[int]:
    """The legal next symbols: 0 for {a, b} while a's are read, then the one next letter, and at last the end."""
    order = list(dict.fromkeys(string))
    return [0] * string.count("a") + [order.index(s) for s in string[string.count("a") + 1 :]] + [len(order)]


def draw_brackets(random: Random, window: Window) -> str | None:
    """S -> (S) or [S] (1/4 each), S S (1/4), nothing (1/4): the released grammar, whose strings are nested, a subset of
    the shuffles."""
    string, waiting = "", ["S"]
    while waiting:
        if len(string) + sum(symbol != "S" for symbol in waiting) > window[1]:
            return None
        symbol = waiting.pop()
        if symbol != "S":
            string += symbol
        elif (choice := random.random()) < 0.5:
            opening, closing = random.choice(("()", "[]"))
            string += opening
            waiting += [closing, "S"]
        elif choice < 0.75:
            waiting += ["S", "S"]
    return string if len(string) >= window[0] else None


def answer_shuffle(string: str) -> list[int]:
    """Which brackets may close: 1 if a round one is open, plus 2 if a square one is. Opening is always legal."""
    answers, depth = [], {"(": 0, "[": 0}
    for symbol in string:
        opening = {")": "(", "]": "["}.get(symbol, symbol)
        depth[opening] += 1 if symbol == opening else -1
        answers.append((depth["("] > 0) + 2 * (depth["["] > 0))
    return answers


WORD = ("the prefix is no word", "the prefix is a word")
LANGUAGES = {
    language.name: language
    for language in (
        Language("parity", "01", WORD, draw_parity, answer_parity),
        Language("aa", "a", WORD, repeats("aa"), every(2), few=True),
        Language("abab", "ab", WORD, repeats("abab"), every(4), few=True),
        Language("anbn", "ab", ("{a, b}", "{b}", "{end}"), counter("ab"), answer_counter, (1, 50), (51, 100), few=True),
        Language(
            "anbncn",
            "abc",
            ("{a, b}", "{b}", "{c}", "{end}"),
            counter("abc"),
            answer_counter,
            (1, 50),
            (51, 100),
            few=True,
        ),
        Language(
            "shuffle-2", "()[]", ("none", "{)}", "{]}", "{), ]}"), draw_brackets, answer_shuffle, longer=(52, 100)
        ),
    )
}
