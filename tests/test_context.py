"""In-context learning made visible, on memories whose content is known."""

import pytest
import torch

from nllab.context import loss_by_position, recalled
from nllab.errors import ShapeError
from nllab.models.hope import HopeLM


class Copycat:
    """Answers with the token that followed the last token when it was last seen: perfect recall, if it may write."""

    def stream(self, tokens, state=None, *, writes=True):
        rows = state or [({}, None)] * len(tokens)
        scores, after = torch.zeros(*tokens.shape, 6), []
        for b, row in enumerate(tokens.tolist()):
            book, last = rows[b]
            for t, token in enumerate(row):
                if writes:
                    book = {**book, last: token}
                if token in book:
                    scores[b, t, book[token]] = 50.0
                last = token
            after.append((book, last))
        return scores, after


def test_loss_falls_where_the_context_tells_and_only_with_writes():
    tokens = torch.tensor([[0, 3, 1, 4, 0, 3], [2, 5, 1, 3, 2, 5]])
    targets = tokens.roll(-1, 1)
    targets[:, 1::2] = -100
    on, off = (loss_by_position(Copycat(), tokens, targets, writes=writes) for writes in (True, False))
    assert on[1::2].isnan().all() and off[::2].tolist() == pytest.approx([torch.tensor(6.0).log().item()] * 3)
    assert on[0] > 1 and on[4] < 1e-6


def test_what_is_recalled_changes_when_it_is_written_and_not_when_it_is_asked():
    tokens = torch.tensor([0, 3, 1, 4, 0, 5])
    found = recalled(Copycat(), tokens, torch.tensor([0, 1])).argmax(-1)
    assert found[1:5, 0].tolist() == [3, 3, 3, 3] and found[5].tolist() == [5, 4]


def test_recall_of_a_model_is_what_it_answers_when_asked_next():
    torch.manual_seed(0)
    model = HopeLM(7, 16, 1, levels=(1,), chunk_size=2).eval()
    tokens = torch.tensor([0, 3, 1, 4, 2])
    found = recalled(model, tokens, torch.tensor([5, 6]))
    for t in range(1, 6):
        for k, key in enumerate((5, 6)):
            asked = torch.cat([tokens[:t], torch.tensor([key])])[None]
            with torch.no_grad():
                assert torch.allclose(found[t - 1, k], model(asked)[0, -1].softmax(-1), atol=1e-6)


def test_shapes_that_differ_are_named():
    with pytest.raises(ShapeError, match=r"expected the same shape \(B, T\)"):
        loss_by_position(Copycat(), torch.zeros(2, 3).long(), torch.zeros(2, 2).long())
