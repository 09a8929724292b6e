"""A small GPT as people write it: one matrix for queries, keys and values, weights that begin small, a plain loop."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nllab import DeepOptimizer
from nllab.optim import policy, rates

ROOT = Path(__file__).parents[1]
LENGTH, WIDTH, HEADS, BATCH = 64, 64, 4, 16
pytestmark = pytest.mark.slow  # hundreds of steps


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        split = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.before(x)).chunk(3, -1))
        heard = F.scaled_dot_product_attention(*split, is_causal=True)
        x = x + self.out(heard.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class GPT(nn.Module):
    def __init__(self, letters, tied):
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks, self.norm = nn.Sequential(Block(), Block()), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, letters, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.head.weight = self.letter.weight

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.letter(x) + self.place(torch.arange(x.shape[1])))))


def texts():
    """English, then Python, as indices of one alphabet."""
    parts = (sorted(ROOT.glob("docs/**/*.md")), sorted(ROOT.glob("nllab/*.py")))
    read = ["".join(path.read_text(encoding="utf-8") for path in paths)[:300_000] for paths in parts]
    place = {letter: i for i, letter in enumerate(sorted(set("".join(read))))}
    return [torch.tensor([place[letter] for letter in text]) for text in read], len(place)


def loss_of(model, rows):
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def held_out(model, text):
    begin = int(0.9 * len(text))
    places = torch.arange(begin, len(text) - LENGTH - 1, (len(text) - begin) // 100)
    with torch.no_grad():
        return float(loss_of(model, torch.stack([text[i : i + LENGTH + 1] for i in places])))


def learn(make, parts, letters, steps, tied=False):
    """Held-out losses of all parts after each; the optimizer."""
    torch.manual_seed(0)
    model, draw, found = GPT(letters, tied), torch.Generator().manual_seed(1), []
    optimizer = make(model)
    for text in parts:
        for _ in range(steps):
            places = torch.randint(int(0.9 * len(text)) - LENGTH - 1, (BATCH,), generator=draw)
            optimizer.zero_grad()
            loss_of(model, torch.stack([text[i : i + LENGTH + 1] for i in places])).backward()
            optimizer.step()
        found.append([held_out(model, text) for text in parts])
    return found, optimizer


def adamw(model):
    return torch.optim.AdamW(model.parameters(), 1e-3)


@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_as_adamw_does(tied):
    (english, _), letters = texts()
    [[plain]], _ = learn(adamw, [english], letters, 400, tied)
    [[deep]], optimizer = learn(partial(DeepOptimizer, warn=False), [english], letters, 400, tied)
    assert deep < 1.1 * plain
    assert optimizer.policy.situation == policy.UNCHANGED


def test_without_lifted_rows_its_queries_and_keys_stand_still(monkeypatch):
    (english, _), letters = texts()
    [[lifted]], _ = learn(DeepOptimizer, [english], letters, 400)
    monkeypatch.setattr(rates, "FLAT", 0.0)
    [[flat]], _ = learn(DeepOptimizer, [english], letters, 400)
    assert flat > 1.05 * lifted


def test_of_two_texts_in_turn_it_keeps_more_of_the_first():
    parts, letters = texts()
    (plain_a, plain_ab), _ = learn(adamw, parts, letters, 300)
    (deep_a, deep_ab), optimizer = learn(DeepOptimizer, parts, letters, 300)
    assert deep_ab[0] - deep_a[0] < 0.8 * (plain_ab[0] - plain_a[0])  # of English
    assert deep_ab[1] < deep_a[1] - 0.2  # and Python is learned
    assert optimizer.policy.changed and optimizer.settings.span is None
