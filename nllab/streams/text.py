"""Text to learn from: any file or folder of UTF-8 text, its alphabet, and its characters as numbers.

The characters of a part that the training parts do not have are one class of their own ("unknown"), so that a model is
asked about every character of the test text. Axes: N sequences, T characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nllab.errors import DataError, check_number, check_whole

END, UNKNOWN = 0, 1  # the end of a name (and what stands before its start); a character outside the alphabet
IGNORE = -100  # the target of a padded position, which cross_entropy leaves out
SUFFIXES = (".txt", ".md", ".rst", ".text", ".csv", ".tex", ".py")


class Alphabet:
    """Characters to tokens: END and UNKNOWN, then `characters` in order. len() is the number of tokens."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = "".join(sorted(set().union(*map(set, texts))))
        self._token = {character: i for i, character in enumerate(self.characters, UNKNOWN + 1)}

    def __len__(self) -> int:
        return len(self.characters) + 2

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; UNKNOWN for a character that is not in it."""
        return [self._token.get(character, UNKNOWN) for character in text]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text up to the first END."""
        text = ""
        for token in tokens:
            if token == END:
                break
            text += "\N{REPLACEMENT CHARACTER}" if token == UNKNOWN else self.characters[token - UNKNOWN - 1]
        return text


def as_rows(strings: Sequence[str], alphabet: Alphabet) -> tuple[Tensor, Tensor]:
    """Inputs and targets (N, T): END, then the string; the string, then END. Padded with END and IGNORE."""
    coded = [alphabet.encode(string) for string in strings]
    longest = max(map(len, coded)) + 1
    inputs = torch.tensor([[END, *row] + [END] * (longest - len(row) - 1) for row in coded])
    targets = torch.tensor([[*row, END] + [IGNORE] * (longest - len(row) - 1) for row in coded])
    return inputs, targets


class Text(NamedTuple):
    """A text cut in two: its name, what is learned from, and its end, which is tested on."""

    name: str
    train: str
    test: str


def read_text(path: str | Path, *, context: int, held_out: float = 0.1) -> Text:
    """A text file, or all text files of a folder (and its folders) in the order of their names; the last `held_out` of
    it is the test part.

    context: characters of one training sequence; each part must hold at least one.
    Raises: DataError, with the name of the file, if it is not there, empty, binary, not UTF-8, or too short.
    """
    check_whole("context, in characters,", context)
    check_number("held_out, a share of the text,", held_out, "(0, 1)")
    place = Path(path)
    if place.is_dir():
        files = sorted(f for f in place.rglob("*") if f.is_file() and f.suffix.lower() in SUFFIXES)
        if not files:
            raise DataError(
                f"The folder {place.name!r} holds no text file; expected files that end in {', '.join(SUFFIXES)}."
            )
    elif place.is_file():
        files = [place]
    else:
        raise DataError(f"There is no file or folder {str(path)!r}.")
    text = "\n".join(map(_read, files))
    cut = len(text) - round(held_out * len(text))
    parts = Text(place.name, text[:cut], text[cut:])
    shortest = min(len(parts.train), len(parts.test))
    if shortest < context + 1:
        raise DataError(
            f"{place.name} holds {len(text)} characters, {shortest} in its shorter part; one context of {context} and"
            f" the character after it do not fit. Take a text of {ceil((context + 1) / min(held_out, 1 - held_out))}"
            " characters or more."
        )
    return parts


def _read(file: Path) -> str:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error}.") from None
    if not raw.strip():
        raise DataError(f"{file.name} is empty; expected text.")
    if b"\x00" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file.name} is a binary file (it holds zero bytes); expected text in UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.name} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start}. Save it as UTF-8 and"
            " try again."
        ) from None


def contexts(text: str, alphabet: Alphabet, context: int) -> tuple[Tensor, Tensor]:
    """A text cut into sequences that follow one another without a gap: inputs and the characters after them, (N,
    context) each.

    What is left over at the end is dropped.
    """
    coded = torch.tensor(alphabet.encode(text))
    count = (len(coded) - 1) // context
    return coded[: count * context].view(count, context), coded[1 : count * context + 1].view(count, context)


def shared_characters(first: str, second: str) -> str:
    """What two texts' alphabets have in common, in one sentence; raises nothing: two scripts are a stream like any
    other."""
    a, b = set(first), set(second)
    letters = {c for c in a & b if c.isalpha()}
    if not letters:
        return (
            f"The two texts share no letter ({len(a)} and {len(b)} characters); one output layer holds both alphabets."
        )
    return f"The two texts share {len(a & b)} of {len(a | b)} characters; one output layer holds all of them."
