"""Names, texts and what is counted on them."""

import math

import pytest

from nllab.errors import DataError, SettingError
from nllab.streams import build
from nllab.streams.names import FIVE, WINDOW, alphabet, held_out, languages, names_of, pairs
from nllab.streams.text import END, IGNORE, UNKNOWN, Alphabet, as_rows, contexts, read_text, shared_characters


def test_the_same_keys_are_held_out_in_every_language():
    found = languages(FIVE)
    together = frozenset().union(*(language.test for language in found))
    for language in found:
        assert set(language.test) == {key for key in names_of(language.code) if key in together}
        assert set(language.train) | set(language.test) == set(names_of(language.code))
        assert 0.1 < len(language.test) / len(names_of(language.code)) < 0.2


def test_no_held_out_name_is_seen_in_any_language():
    found = languages(FIVE)
    seen = {name.casefold() for language in found for name in language.train.values()}
    assert not [name for language in found for name in language.test.values() if name.casefold() in seen]
    # English, which translation starts from, included.
    assert not {e.casefold() for e, _ in pairs(found[0].train)} & {
        e.casefold() for language in found for e, _ in pairs(language.test)
    }


def test_names_that_coincide_anywhere_stay_together():
    tables = [{"a": "Togo", "b": "Tonga", "c": "Chad"}, {"a": "Toko", "b": "TOGO", "d": "Chad", "e": "x"}]
    for seed in range(20):
        taken = held_out(tables, 0.6, seed)
        assert ("a" in taken) == ("b" in taken) and ("c" in taken) == ("d" in taken) and len(taken) <= 3


def test_a_split_can_be_drawn_again():
    assert languages(("de", "tr"), seed=1) == languages(("de", "tr"), seed=1)
    assert languages(("de", "tr"), seed=1)[0].test != languages(("de", "tr"), seed=2)[0].test


def test_settings_are_chosen_without_a_look_at_the_held_out_names():
    for language, chosen_on in zip(languages(FIVE), languages(FIVE, validation=True), strict=True):
        assert chosen_on.train.keys() | chosen_on.test.keys() == language.train.keys()
        assert 0.1 < len(chosen_on.test) / len(language.train) < 0.2
    seen = {name.casefold() for language in languages(FIVE, validation=True) for name in language.train.values()}
    assert not [
        n for language in languages(FIVE, validation=True) for n in language.test.values() if n.casefold() in seen
    ]


def test_a_language_babel_does_not_know():
    with pytest.raises(SettingError, match="Unknown language 'klingon'"):
        languages(("de", "klingon"))
    with pytest.raises(DataError, match="too few to learn from"):
        languages(("de", "vo"))


def test_a_stream_of_names_asks_for_every_character():
    stream = build("names-ab", hold_out=True)
    german = languages(("de", "tr"))[0]
    task = stream.tasks[0]
    assert stream.task_names == ("A", "B") and len(task.train) + len(task.validation) == sum(
        len(n) + 1 for n in german.train.values()
    )
    assert len(task.test) == sum(len(n) + 1 for n in german.test.values())
    # The first sample of a name sees nothing but its start; what the second sees last is what the first was asked.
    seen = task.test.inputs.unflatten(1, (WINDOW, stream.classes)).argmax(-1)
    assert (
        (seen[0] == 0).all()
        and seen[1, -1] == task.test.labels[0]
        and task.test.labels[len(next(iter(german.test.values())))] == 0
    )
    assert task.test.inputs.square().mean() == pytest.approx(1)


def test_an_alphabet_round_trips_and_has_one_token_for_all_it_does_not_know():
    letters = Alphabet(["abba", "cab"])
    assert letters.characters == "abc" == alphabet(["abba", "cab"]) and len(letters) == 5
    assert letters.decode(letters.encode("cab")) == "cab" and letters.encode("bzb") == [3, UNKNOWN, 3]
    assert letters.decode([2, 3, END, 4]) == "ab"


def test_rows_ask_for_every_character_and_the_end():
    inputs, targets = as_rows(["ab", "b"], Alphabet(["ab"]))
    assert inputs.tolist() == [[END, 2, 3], [END, 3, END]] and targets.tolist() == [[2, 3, END], [3, END, IGNORE]]


def test_contexts_follow_one_another():
    letters = Alphabet(["abcdefgh"])
    inputs, targets = contexts("abcdefgh", letters, 3)
    assert "".join(letters.decode(row.tolist()) for row in inputs) == "abcdef"
    assert "".join(letters.decode(row.tolist()) for row in targets) == "bcdefg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "story.txt is empty"),
        (b" \n\t", "story.txt is empty"),
        (b"abc\x00def" * 50, "story.txt is a binary file"),
        ("Füße, Straße und Öl".encode("latin-1") * 10, "story.txt is not UTF-8: byte 0xfc at position 1"),
        ("Füße".encode("utf-16"), "story.txt is not UTF-8"),
        (b"too short", "story.txt holds 9 characters, 1 in its shorter part.* Take a text of 170 characters"),
        (b"x" * 164, "Take a text of 170 characters"),
    ],
)
def test_bad_text_is_named(tmp_path, content, message):
    file = tmp_path / "story.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(file, context=16)


def test_a_text_as_long_as_asked_is_taken(tmp_path):
    (tmp_path / "story.txt").write_text("x" * 170)
    assert len(read_text(tmp_path / "story.txt", context=16).test) == 17


def test_a_file_that_is_not_there_and_a_folder_without_text(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        read_text(tmp_path / "nothing.txt", context=4)
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError, match="holds no text file"):
        read_text(tmp_path, context=4)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name[0] * 20, encoding="utf-8-sig")
    text = read_text(tmp_path, context=3, held_out=0.25)
    assert text.train + text.test == "a" * 20 + "\n" + "b" * 20 and len(text.test) == 10


def test_texts_without_a_common_letter_are_said_to_be_so():
    assert "share no letter" in shared_characters("αβγ δ", "abc d")
    assert "share 3 of 5 characters" in shared_characters("abcd", "bcde")


def test_bits_of_a_uniform_model_are_the_logarithm_of_its_alphabet():
    import torch

    from nllab.bench.names import bits_per_character

    letters = Alphabet(["abcdef"])
    inputs, targets = as_rows(["abc", "fedcba", "a"], letters)
    bits = bits_per_character(lambda tokens: torch.zeros(*tokens.shape, len(letters)), inputs, targets)
    assert bits == pytest.approx(math.log2(len(letters)))


def test_chrf_by_hand():
    from nllab.bench.translation import chrf

    assert chrf(["Finnland"], ["Finnland"]) == pytest.approx(100) and chrf(["xyz"], ["abc"]) == 0
    # "abcd" against "abce", n-grams of order 1 to 4: 3 of 4, 2 of 3, 1 of 2, 0 of 1 on both sides, so F = (3/4 + 2/3 +
    # 1/2 + 0) / 4.
    assert chrf(["abcd"], ["abce"]) == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    # "ab" against "abab": precision 1 at orders 1 and 2, recall 2/4 and 1/3; "ab" has no longer n-grams, so other
    # orders are left out.
    precision, recall = 1, (2 / 4 + 1 / 3) / 2
    assert chrf(["ab"], ["abab"]) == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert chrf(["a b"], ["ab"]) == pytest.approx(100) and chrf([""], ["ab"]) == 0
