"""The generators against recognisers that know nothing of how strings are drawn."""

import itertools
import re

import pytest
import torch

from nllab.errors import SettingError
from nllab.streams.formal import IGNORE, LANGUAGES, draw_parity, sequence_accuracy


def balanced(string, opening, closing):
    depth = 0
    for symbol in string:
        depth += (symbol == opening) - (symbol == closing)
        if depth < 0:
            return False
    return depth == 0


IS_WORD = {
    "parity": lambda s: s.count("1") % 2 == 0,
    "aa": lambda s: re.fullmatch("(aa)*", s) is not None,
    "abab": lambda s: re.fullmatch("(abab)*", s) is not None,
    "anbn": lambda s: len(s) > 0 and s == "a" * s.count("a") + "b" * s.count("a"),
    "anbncn": lambda s: len(s) > 0 and s == "".join(c * s.count("a") for c in "abc"),
    "shuffle-2": lambda s: balanced(s, "(", ")") and balanced(s, "[", "]"),
}
MEASURE = {name: (lambda s: s.count("a")) if name.startswith("an") else len for name in LANGUAGES}


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("part", ["train", "longer"])
def test_every_string_is_a_word_of_its_window(name, part):
    language = LANGUAGES[name]
    window = getattr(language, part)
    strings = language.strings(60, window, 0)
    assert len(set(strings)) == len(strings) == (60 if not language.few else len(strings))
    for string in strings:
        assert IS_WORD[name](string) and window[0] <= MEASURE[name](string) <= window[1]


@pytest.mark.parametrize(
    ("name", "counts"), [("aa", (25, 25)), ("abab", (12, 13)), ("anbn", (50, 50)), ("anbncn", (50, 50))]
)
def test_small_languages_are_drawn_whole(name, counts):
    language = LANGUAGES[name]
    assert tuple(len(language.strings(10_000, w, 3)) for w in (language.train, language.longer)) == counts


def legal_next(name, prefix, bound):
    """Symbols (and the end) that some word of the language continues with, by trying every continuation up to a
    bound."""
    language = LANGUAGES[name]
    found = {"end"} if IS_WORD[name](prefix) else set()
    for length in range(1, bound + 1):
        for tail in itertools.product(language.symbols, repeat=length):
            if IS_WORD[name](prefix + "".join(tail)):
                found.add(tail[0])
    return found


@pytest.mark.parametrize("name", ["parity", "aa", "abab"])
def test_word_or_not_at_every_prefix(name):
    language = LANGUAGES[name]
    for string in language.strings(8, (4, 12), 0):
        assert language.answer(string) == [int(IS_WORD[name](string[:t])) for t in range(1, len(string) + 1)]


@pytest.mark.parametrize("name", ["anbn", "anbncn"])
def test_counters_name_the_legal_next_symbols(name):
    language = LANGUAGES[name]
    for n in (1, 2, 3):
        string = "".join(letter * n for letter in language.symbols)
        for t, answer in enumerate(language.answer(string), 1):
            bound = len(language.symbols) * (t + 1) - t if t <= n else len(string) - t
            legal = legal_next(name, string[:t], bound)
            assert language.answers[answer] == "{" + ", ".join(sorted(legal)) + "}", (string[:t], legal)


def test_shuffle_names_the_brackets_that_may_close():
    language = LANGUAGES["shuffle-2"]
    for string in [*language.strings(5, (4, 6), 0), "([)]"]:
        for t, answer in enumerate(language.answer(string), 1):
            closing = [c for c in ")]" if c in legal_next("shuffle-2", string[:t], 6 - t // 2)]
            assert language.answers[answer] == ("{" + ", ".join(closing) + "}" if closing else "none")


def test_parity_is_drawn_with_the_lengths_of_its_law():
    from random import Random

    random, window = Random(0), (2, 50)
    lengths = [len(s) for s in (draw_parity(random, window) for _ in range(20_000)) if s]
    # P(length l) before the window is geometric with ratio r = L / (1 + L), L = 26, smeared by the last 1; its mean
    # over 2..50:
    ratio = 26 / 27
    weights = {l: ratio**l / 2 + ratio ** (l - 1) / 2 for l in range(2, 51)}
    expected = sum(l * w for l, w in weights.items()) / sum(weights.values())
    assert abs(sum(lengths) / len(lengths) - expected) < 0.5


def test_strings_can_be_drawn_again_and_kept_apart():
    language = LANGUAGES["parity"]
    train = language.strings(500, language.train, 0)
    assert train == language.strings(500, language.train, 0) != language.strings(500, language.train, 1)
    assert not set(train) & set(language.strings(500, language.train, 1, without=train))


def test_more_strings_than_there_are():
    with pytest.raises(SettingError, match="parity: 100 different strings"):
        LANGUAGES["parity"].strings(100, (2, 3), 0)


def test_a_sequence_is_right_only_if_every_position_is():
    targets = torch.tensor([[0, 1, 1], [1, 0, IGNORE], [1, 1, IGNORE]])
    scores = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 1]]), 2).float()
    assert sequence_accuracy(scores, targets) == pytest.approx(2 / 3)


def test_encoding_pads_behind_the_end():
    tokens, targets = LANGUAGES["abab"].encode(["abab", "abababab"])
    assert tokens.tolist() == [[0, 1, 0, 1, 0, 0, 0, 0], [0, 1] * 4]
    assert targets.tolist() == [[0, 0, 0, 1] + [IGNORE] * 4, [0, 0, 0, 1] * 2]
