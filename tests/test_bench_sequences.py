"""The benches that train, at sizes that take seconds: what they say is what happened."""

import math

import pytest
import torch

from nllab.bench import ablation, formal, names, optimizers, recall, translation
from nllab.errors import SettingError
from nllab.streams.formal import LANGUAGES
from nllab.streams.images import Part


@pytest.mark.parametrize("name", formal.PAPER)
def test_no_formal_model_sees_the_future(name):
    torch.manual_seed(0)
    model = formal.build(name, LANGUAGES["shuffle-2"]).eval()
    tokens = torch.randint(4, (2, 12))
    changed = torch.cat([tokens[:, :7], 3 - tokens[:, 7:]], 1)
    with torch.no_grad():
        assert torch.allclose(model(tokens)[:, :7], model(changed)[:, :7], atol=1e-6)
        assert not torch.allclose(model(tokens)[:, 7:], model(changed)[:, 7:], atol=1e-4)


def test_formal_models_know_no_positions():
    # A Transformer without positions cannot tell an even number of equal symbols from an odd one.
    torch.manual_seed(0)
    model = formal.build("Transformer", LANGUAGES["aa"]).eval()
    with torch.no_grad():
        scores = model(torch.zeros(1, 9, dtype=torch.long))
    assert torch.allclose(scores, scores[:, :1].expand_as(scores), atol=1e-5)


def test_parts_of_a_language_are_kept_apart():
    strings = formal.draw(LANGUAGES["parity"], learn=300, validation=40, test=60)
    parts = [strings.learn, *strings.validation, *strings.test]
    assert [len(p) for p in parts] == [300, 40, 40, 60, 60]
    assert len(set().union(*map(set, parts))) == 500


def test_an_lstm_learns_abab_and_is_scored_on_it():
    torch.manual_seed(0)
    language = LANGUAGES["abab"]
    strings = formal.draw(language)
    model = formal.build("LSTM", language)
    found = formal.fit(model, language, strings, rate=1e-2, steps=150, seed=0)
    assert found.train == formal.score(model, language, strings.test[0]) == 1 and found.step <= 150
    assert found.longer == formal.score(model, language, strings.test[1])


def test_writes_of_hope_add_up_before_it_has_learned():
    torch.manual_seed(0)
    model = formal.build("HOPE", LANGUAGES["anbncn"], 1e-4).double()
    mixer = model.blocks[0].mixer
    with torch.no_grad():
        x = torch.nn.functional.layer_norm(model.embed.weight, (formal.DIM,))
        once, twice, turned = (
            mixer(x[torch.tensor(order)])[1].running[1][0] - torch.eye(formal.DIM)
            for order in ([[0, 1, 2]], [[0, 1, 2] * 2], [[2, 0, 1]])
        )
    # What is written lies where no key is, is the same in any order, and twice as much after twice as many tokens.
    assert once[:, : -formal.COUNTED].norm() < 0.5 * once[:, -formal.COUNTED :].norm()
    assert torch.allclose(twice, 2 * once, atol=1e-3 * once.abs().max().item())
    assert torch.allclose(turned, once, atol=1e-3 * once.abs().max().item())


def test_hope_learns_an_even_number_and_holds_it_for_longer_strings():
    torch.manual_seed(0)
    language = LANGUAGES["aa"]
    strings = formal.draw(language)
    found = formal.fit(
        formal.build("HOPE", language), language, strings, rate=5e-3, steps=formal.STEPS, seed=0, check=5
    )
    assert (found.train, found.longer) == (1, 1) and found.step <= 300


@pytest.mark.slow
def test_hope_learns_to_count_and_counts_further():
    torch.manual_seed(0)
    language = LANGUAGES["anbn"]
    found = formal.fit(
        formal.build("HOPE", language, 1e-3), language, formal.draw(language), rate=5e-3, steps=formal.STEPS, seed=0
    )
    assert (found.train, found.longer) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGES)
def test_hope_reaches_every_language(name):
    (row,) = formal.run_formal(languages=(name,), models=("HOPE",), seeds=1)["rows"]
    assert row["train"] == [1] and row["longer"] == [1]


@pytest.mark.parametrize("name", recall.MODELS)
def test_recall_models_are_of_one_size(name):
    task = recall.mqar()
    sizes = [sum(p.numel() for p in recall.build(n, task).parameters()) for n in ("HOPE", name)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_last_state_alone_is_rebuilt_from():
    torch.manual_seed(0)
    model = recall.build("Transformer", recall.compression()).eval()
    tokens, targets = recall.compression().draw(3, torch.Generator().manual_seed(0), True)
    scores = model(tokens)
    assert scores.shape == (*targets.shape, 16)
    # No token has a way of its own to the decoder: all that differs between places is the place.
    model.decoder = torch.nn.Identity()
    states = model(tokens) - model.place
    assert torch.allclose(states, states[:, :1].expand_as(states), atol=1e-6)


def test_a_transformer_learns_short_recall():
    torch.manual_seed(0)
    task = recall.memorization(vocabulary=16, length=8)
    found = recall.fit(recall.build("Transformer", task), task, rate=3e-3, steps=150, batch=32, seed=0)
    assert found["accuracy"] == 1 and found["curve"][-1] == (found["steps"], 1)


def test_ablation_changes_one_thing_and_keeps_the_size():
    sizes = {row: sum(p.numel() for p in ablation.build(row, 50).parameters()) for row in ablation.ROWS}
    # A gate or projection more or less is a small part of the model.
    assert all(size == pytest.approx(sizes["HOPE"], rel=0.06) for size in sizes.values())
    assert not ablation.build("without DGD (no erase)", 50).blocks[0].mixer.erase
    assert "query" in ablation.build("adaptive q", 50).blocks[0].mixer.adaptive


def test_ablation_text_keeps_held_out_names_apart():
    (learned, _), (tested, wanted), letters = ablation.sequences(32)
    assert torch.equal(tested[:, 1:], wanted[:, :-1])
    seen = set("".join(letters.decode([t]) or "\n" for t in learned.flatten().tolist()).split("\n"))
    asked = {
        name for row in tested for name in "".join(letters.decode([t]) or "\n" for t in row.tolist()).split("\n")[1:-1]
    }
    assert asked and not asked & seen


def test_optimizers_step_every_parameter_and_places_as_an_embedding():
    for name, rates in optimizers.RATES.items():
        torch.manual_seed(0)
        model = optimizers.ViT(side=8, dim=16)
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        optimizer = optimizers.make(name, model, rates[0])
        for group in optimizer.param_groups:
            assert not group.get("hidden") or not any(p is model.place for p in group["params"])
        torch.nn.functional.cross_entropy(model(torch.randn(4, 64)), torch.arange(4)).backward()
        optimizer.step()
        assert all(not torch.equal(before[key], p) for key, p in model.named_parameters())


def test_measure_is_cross_entropy_and_accuracy():
    part = Part(torch.eye(3), torch.tensor([0, 1, 1]))
    loss, accuracy = optimizers.measure(lambda x: 2 * x, part)
    right, wrong = math.log(math.exp(2) + 2) - 2, math.log(math.exp(2) + 2)
    assert loss == pytest.approx((2 * right + wrong) / 3) and accuracy == pytest.approx(2 / 3)


def test_a_window_of_characters_sees_just_its_window():
    torch.manual_seed(0)
    model = names.CharacterWindow(9, 3, dim=16)
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.randint(9, (2, 8))
    changed = tokens.clone()
    changed[:, 4] = (tokens[:, 4] + 1) % 9
    same = (model(tokens) == model(changed)).all(-1).all(0)
    assert same.tolist() == [True] * 4 + [False] * 3 + [True]


def test_batches_hold_every_character_once():
    lessons, _ = names.name_lessons(("de", "tr"))
    inputs, targets = lessons[0].train
    parts = names.batches(inputs, targets, 16, torch.Generator().manual_seed(0))
    assert sum((y != names.IGNORE).sum() for _, y in parts) == (targets != names.IGNORE).sum()
    requests, _, _ = translation.translation_lessons(("de", "tr"))  # nothing is asked before the answers begin
    inputs, targets = requests[0].train
    parts = names.batches(inputs, targets, 16, torch.Generator().manual_seed(0))
    assert sum((y != names.IGNORE).sum() for _, y in parts) == (targets != names.IGNORE).sum()
    assert all((y != names.IGNORE)[:, -1].any() for _, y in parts)
    joined, _ = names.together(lessons)
    assert len(joined) == sum(len(lesson.train[0]) for lesson in lessons)


def trainer_of(model, optimizer, setting, rows, vocabulary):
    """One pass over the rows, by the trainer that the bench takes."""
    stream = names.stream_of([rows], [Part(*rows)[:1]], vocabulary, setting.batch, seed=0)
    return names.trainer_of(model, optimizer, setting, stream, passes=1, seed=0, device="cpu")


def test_the_twin_moves_its_head_alone():
    lessons, letters = names.name_lessons(("de", "tr"))
    torch.manual_seed(0)
    model = names.CharacterWindow(len(letters), 2, dim=16)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    names.freeze_all_but_head(model)
    few = tuple(part[:32] for part in lessons[0].train)
    setting = names.Setting(1.0, 16)
    trainer = trainer_of(model, "deep, both sides", setting, few, len(letters))
    while not trainer.done:
        trainer.step()
    assert trainer.steps == 2
    assert {key for key, p in model.named_parameters() if not torch.equal(before[key], p)} == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize("optimizer", names.OPTIMIZERS)
def test_slow_levels_of_a_language_model_wait_for_their_period(optimizer):
    lessons, letters = names.name_lessons(("de", "tr"))
    torch.manual_seed(0)
    model = names.MODELS["hope-attention-2"](len(letters))
    rows = tuple(part[:64] for part in lessons[0].train)
    trainer, moved = trainer_of(model, optimizer, names.Setting(0.1, 16), rows, len(letters)), []
    while not trainer.done:
        before = {key: p.detach().clone() for key, p in model.named_parameters() if key.endswith("down.bias")}
        trainer.step()
        moved.append([not torch.equal(p, before[key]) for key, p in model.named_parameters() if key in before])
    # Two blocks with a level of period 1 and one of period 4 each.
    assert moved == [[True, False] * 2] * 3 + [[True, True] * 2]


def test_answers_are_read_off_until_the_end():
    letters = names.Alphabet(["ab\t"])

    class Echo:
        """Says b, then the end, whatever is asked."""

        def __call__(self, tokens):
            scores = torch.zeros(*tokens.shape, len(letters))
            scores[:, -1, names.END if tokens[0, -1] == letters.encode("b")[0] else letters.encode("b")[0]] = 1
            return scores

    assert translation.answers(Echo(), ["a\t", "aa\t", "a\t"], letters) == ["b", "b", "b"]


def test_translation_asks_for_the_answer_alone():
    lessons, letters, held = translation.translation_lessons(("de", "tr"))
    inputs, targets = lessons[0].test
    request, answer = held[lessons[0].name][0]
    assert request.startswith("de ") and letters.decode(inputs[0, 1:].tolist()) == request + answer
    asked = targets[0][targets[0] != names.IGNORE].tolist()
    assert letters.decode(asked) == answer and asked[-1] == names.END


def test_gap():
    assert names.gap_closed(4.0, 3.0, 3.25) == pytest.approx(0.75) and names.gap_closed(3.0, 3.0, 3.0) is None


def test_bad_choices_are_named():
    with pytest.raises(SettingError, match="Unknown model 'hoep'"):
        formal.run_formal(models=("hoep",))
    with pytest.raises(SettingError, match="Did you mean 'window'"):
        names.run_names(models=("windo",))
