"""In-context learning made visible, on memories whose content is known."""

import pytest
import torch

from nllab.context import loss_by_position, recalled, stored_keys
from nllab.errors import ShapeError
from nllab.memory.titans import SelfModifyingTitans
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


def layer(**settings):
    torch.manual_seed(0)
    made = SelfModifyingTitans(8, chunk_size=1, conv_window=0, **settings)
    with torch.no_grad():
        # Keys are the tokens themselves, the rate is the same for all.
        made.memories.initial["key"].copy_(torch.eye(8)[None])
        made.memories.initial["inner_lr"].zero_()
        if made.retention:
            made.memories.initial["retention"].zero_()
    return made


def test_orthogonal_keys_are_all_still_held():
    held = stored_keys(layer(adaptive=("inner_lr", "key", "value", "retention")), torch.eye(8)[None])
    assert held.agreement.shape == (1, 1, 8, 8)
    lower = torch.ones(8, 8).tril().bool()
    assert held.agreement[0, 0][~lower].isnan().all() and held.agreement[0, 0][lower].isfinite().all()
    # Nothing that comes later touches an orthogonal key: what was stored stays as it was.
    reads = held.strength[0, 0]
    for i in range(8):
        assert torch.allclose(reads[i:, i], reads[i, i].expand(8 - i), rtol=1e-3)


def test_a_key_that_comes_again_is_overwritten():
    x = torch.eye(8)[[0, 1, 0, 0, 0, 0]][None]
    made = layer(retention=False, max_inner_lr=1.0)
    held = stored_keys(made, x)
    change = (held.strength[0, 0, 1:, :2] - held.strength[0, 0, :-1, :2]).abs()
    assert change[1:, 0].sum() > 20 * change[1:, 1].sum()


def test_read_outs_name_what_does_not_fit():
    with pytest.raises(ShapeError, match="conv_window=4"):
        stored_keys(SelfModifyingTitans(8), torch.zeros(1, 2, 8))
    with pytest.raises(ShapeError, match=r"expected the same shape \(B, T\)"):
        loss_by_position(Copycat(), torch.zeros(2, 3).long(), torch.zeros(2, 2).long())
