import torch

import nllab
from nllab.streams.stream import Part, Stream, Task
from tests.course.wrong import wrong


def planes(seed, *, overlap=0, learnable=True, name="planes", double=False):
    generator = torch.Generator().manual_seed(seed)
    tasks = []
    for place, letter in enumerate("AB"):
        inputs = torch.randn(500, 8, generator=generator)
        rule = torch.randn(8, generator=generator)
        labels = 2 * place + (inputs @ rule > 0).long()
        if not learnable:
            labels = 2 * place + torch.randint(2, (500,), generator=generator)
        part = Part(inputs.double() if double else inputs, labels)
        tasks.append(Task(letter, "a plane", part[:400], part[:0], part[400 - overlap :]))
    return Stream(name, "Two planes.", tuple(tasks), (0, 1), 4)


@wrong("12.1")
def test_rows_that_were_trained_on(seed):
    return planes(seed, overlap=30)


@wrong("12.1")
def another_stream_at_each_call(seed):
    return planes(int(torch.randint(10**6, ())))


@wrong("12.1")
def the_seed_is_not_used(seed):
    return planes(0)


@wrong("12.1")
def labels_by_chance(seed):
    return planes(seed, learnable=False)


@wrong("12.1")
def one_of_the_lab(seed):
    return nllab.streams.build("plane-ab", seed=seed)


@wrong("12.1")
def double_precision(seed):
    return planes(seed, double=True)


class Remembers(torch.optim.Optimizer):
    """Momentum that keeps its memory where `kept` says: "state", "attribute" or nowhere."""

    def __init__(self, params, lr, kept, fixed=False):
        super().__init__(params, {} if fixed else {"lr": lr})
        self.kept, self.memories, self.rate = kept, {}, lr

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                home = self.state[p] if self.kept == "state" else self.memories.setdefault(p, {})
                memory = home.get("memory", torch.zeros_like(p))
                home["memory"] = 0.9 * memory + p.grad if self.kept else p.grad.clone()
                p.sub_(group.get("lr", self.rate) * home["memory"])
                if self.kept == "attribute":
                    self.state[p]["steps"] = self.state[p].get("steps", 0) + 1


@wrong("12.2")
def torch_s_own(parameters, rate):
    return torch.optim.SGD(parameters, rate, momentum=0.9)


@wrong("12.2")
def remembers_nothing(parameters, rate):
    return Remembers(parameters, rate, "")


@wrong("12.2")
def memory_in_an_attribute(parameters, rate):
    return Remembers(parameters, rate, "attribute")


@wrong("12.2")
def rate_that_is_not_saved(parameters, rate):
    return Remembers(parameters, rate, "state", fixed=True)


class Remembered:
    """A memory that no file can hold."""

    def __init__(self, memory):
        self.memory = memory


@wrong("12.2")
def memory_in_an_object(parameters, rate):
    class Momentum(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                old = self.state[p]["memory"].memory if self.state[p] else torch.zeros_like(p)
                self.state[p]["memory"] = Remembered(0.9 * old + p.grad)
                p.sub_(self.param_groups[0]["lr"] * self.state[p]["memory"].memory)

    return Momentum(parameters, {"lr": rate})


@wrong("12.2")
def climbs_in_place_of_descending(parameters, rate):
    return Remembers(parameters, -rate, "state")


def levels(model, period, last=("norm", "head")):
    n = len(model.blocks)
    blocks = [nllab.Level(f"block {i}", f"blocks.{i}", period(n, i)) for i in reversed(range(n))]
    return [nllab.Level("head", last, 1), *blocks, nllab.Level("embed", "embed", max(period(n, i) for i in range(n)))]


@wrong("12.3")
def the_first_block_fastest(model):
    return sorted(levels(model, lambda n, i: 2**i), key=lambda level: level.period)


@wrong("12.3")
def periods_that_grow_by_one(model):
    return levels(model, lambda n, i: n - i)


@wrong("12.3")
def the_embedding_at_every_step(model):
    found = levels(model, lambda n, i: 2 ** (n - 1 - i))
    return [nllab.Level("embed", "embed", 1), *found[:-1]]


@wrong("12.3")
def forgets_the_norm(model):
    return levels(model, lambda n, i: 2 ** (n - 1 - i), last="head")


@wrong("12.3")
def all_in_one_level(model):
    return [nllab.Level("all", "*", 1)]


@wrong("12.4")
def the_twin_itself():
    return nllab.Experiment.preset("permuted-digits", frozen=True)


@wrong("12.4")
def an_unchanged_preset():
    return nllab.Experiment.preset("permuted-digits")


@wrong("12.4")
def hidden_levels_that_write_too_late():
    return nllab.Experiment.preset("permuted-digits", input_period=1000, periods=(1000, 1000, 1000), batch_size=40)


@wrong("12.4")
def nothing_learned_at_all():
    return nllab.Experiment.preset("digits-ab", optimizer="adam", learning_rate=0.0, observe=False, batch_size=40)


@wrong("12.4")
def too_long_to_be_tried():
    return nllab.Experiment.preset("permuted-digits", epochs=10)
