"""Sequences go through the one trainer: HOPE learns next tokens and answers, lives, rests, is saved and replayed."""

import pytest
import torch
from torch.nn import functional as F

from nllab import Experiment, LiveRun, Trainer, replay
from nllab.errors import SettingError
from nllab.events import Step
from nllab.methods.objective import loss_of
from nllab.probes import accuracy
from nllab.run_io import pack, unpack
from nllab.streams import build
from nllab.streams.stream import IGNORE, Part


def small(stream, **changes):
    return Experiment.preset(stream, **{"dim": 16, "hidden": 16, "batch_size": 16, **changes})


class Told(torch.nn.Module):
    """Gives these scores, whatever it is asked."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, _):
        return self.scores


@pytest.mark.parametrize(("stream", "optimizer"), [("letters-ab", "adamw"), ("facts-ab", "deep")])
def test_a_language_model_is_trained_steered_rewound_saved_and_replayed(stream, optimizer):
    trainer = Trainer(small(stream, optimizer=optimizer, evaluate_every=4))
    run = trainer.run(steps=4, commands=[(3, "learning_rate", 0.003), (4, "optimizer", "adamw")])
    assert [event.optimizer for event in run.of(Step)] == [optimizer] * 3 + ["adamw"]
    assert run.of(Step)[-1].levels["slow"].writes == 1  # its period is 4
    saved = trainer.checkpoint()
    following = trainer.step()
    trainer.rewind(saved)
    assert trainer.step() == following
    assert replay(run).log == run.log and unpack("run.zip", pack(run)) == run


@pytest.mark.slow
def test_facts_are_learned_and_new_ones_replace_them():
    run = Trainer(small("facts-ab", dim=32, batch_size=64, learning_rate=0.03, evaluate_every=1000)).run()
    (a_after_a, _), (a_after_b, b_after_b) = run.accuracy_matrix
    assert a_after_a > 0.9 and b_after_b > 0.9 and a_after_b < 0.5


def test_what_is_not_asked_counts_neither_in_loss_nor_in_accuracy():
    scores, labels = torch.randn(2, 3, 5), torch.tensor([[1, IGNORE, 2], [IGNORE, IGNORE, 4]])
    asked = scores[labels != IGNORE], labels[labels != IGNORE]
    assert torch.equal(loss_of(scores, labels, "cross_entropy"), F.cross_entropy(*asked))
    assert torch.allclose(loss_of(scores, labels, "squared_error"), loss_of(*asked, "squared_error"))
    right = Part(torch.zeros(2, 3, dtype=torch.long), labels)
    assert accuracy(Told(scores), right) == (asked[0].argmax(-1) == asked[1]).float().mean()


def test_a_live_run_of_sequences_says_where_it_stands():
    run = LiveRun(small("facts-ab"))
    try:
        run.step(2)
        while run.state.step < 2 and not run.error:
            run._thread.join(0.01)
        assert run.error is None and run.status()["task"] == "A" and not run.subject.drawable
    finally:
        run.close()


@pytest.mark.parametrize(("stream", "model"), [("facts-ab", "cms"), ("digits-ab", "hope-lm")])
def test_a_model_that_does_not_read_the_stream_is_refused(stream, model):
    with pytest.raises(SettingError, match=f"{stream}.*{model} does not read. Take model="):
        Trainer(Experiment.preset(stream, model=model))


def test_parts_of_a_stream_of_sequences_are_apart():
    stream = build("letters-ab", hold_out=True)
    for task in stream.tasks:
        texts = [{tuple(text) for text in part.inputs.tolist()} for part in (task.train, task.test)]
        assert not texts[0] & texts[1]
    assert stream.sequences and int(stream.tasks[1].train.inputs.max()) < stream.classes
