"""What a run does on the CPU it does on CUDA: the same losses up to rounding, the same accuracies, and back to any
checkpoint."""

import pytest
import torch
from torch.nn import functional as F

from nllab import DeepOptimizer
from nllab.events import Step
from nllab.experiment import BASE_OPTIMIZERS, Experiment
from nllab.levels import Level
from nllab.optim.output_metric import OutputMetric
from nllab.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

NAMES = {"stream": "names-ab", "dim": 32, "hidden": 32}
RUNS = {
    "deep": {},
    "deep, no manager": {"manager": False, "retention": 0.999},
    "deep, five tasks": {"stream": "permuted-digits-5"},
    "deep, convolutional": {"front": "conv", "filters": 16},
    "deep, fading": {"stream": "remapped-digits"},
    "deep, names": {**NAMES, "loss": "cross_entropy"},
    "deep, cross-entropy": {"loss": "cross_entropy"},
    **{name: {"optimizer": name, "observe": False} for name in BASE_OPTIMIZERS},
    "watching": {"optimizer": "adam", "observe": True},
}


def trainer_of(name, device):
    settings = {"batch_size": 40, "evaluate_every": 10_000, **RUNS[name]}
    return Trainer(Experiment.preset(settings.pop("stream", "digits-ab"), **settings), device=device)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_on_both_devices(name):
    first, other = [trainer_of(name, device).run() for device in ("cpu", "cuda")]
    losses = [torch.tensor([row.loss for row in run.of(Step)]) for run in (first, other)]
    assert torch.allclose(losses[0][:10], losses[1][:10], rtol=1e-3, atol=1e-4)
    assert abs(first.accuracy_matrix[-1] - other.accuracy_matrix[-1]).max() < 0.06  # a few of some 150 test samples
    assert first.update_counts == other.update_counts


@pytest.mark.parametrize("name", ["deep", "deep, convolutional", "deep, names", "adam", "m3"])
def test_back_to_a_checkpoint_and_on(name):
    trainer = trainer_of(name, "cuda")
    for _ in range(12):
        trainer.step()
    saved = trainer.checkpoint()
    found = []
    for _ in range(2):
        rows = [row for _ in range(8) for row in trainer.step()]
        found.append(torch.tensor([row.loss for row in rows if isinstance(row, Step)]))
        trainer.rewind(saved)
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)  # sums of index_add_ come in any order


def test_a_toggle_on_the_way():
    for device in ("cpu", "cuda"):
        trainer = trainer_of("watching", device)
        run = trainer.run(commands=[(trainer.experience_length, "optimizer", "deep")])
        assert min(run.accuracy_matrix[-1]) > 0.85


def test_the_metric_of_outputs_is_the_same():
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = torch.nn.Linear(6, 4).to(device)
        optimizer, metric = DeepOptimizer(model), OutputMetric(model)
        x, y = (
            torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).to(device),
            torch.arange(16, device=device) % 4,
        )
        F.cross_entropy(model(x), y).backward()
        metric.precondition()
        optimizer.step()
        found.append(model.weight.detach().cpu())
    assert torch.allclose(*found, rtol=1e-3, atol=1e-5)


def test_state_moves_between_devices():
    """Saved on CUDA within a level's period, loaded on the CPU: the next step, which writes it, is the same up to
    rounding."""
    models, optimizers, levels = [], [], [Level("slow", "0", 3), Level("head", "2")]
    for device in ("cuda", "cpu"):
        torch.manual_seed(0)
        models.append(torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).to(device))
        optimizers.append(DeepOptimizer(models[-1], levels=levels))
    x, y = torch.randn(16, 6), torch.arange(16) % 4

    def step(i):
        device = next(models[i].parameters()).device
        optimizers[i].zero_grad()
        F.cross_entropy(models[i](x.to(device)), y.to(device)).backward()
        optimizers[i].step()

    for _ in range(5):
        step(0)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    step(0)
    step(1)
    assert all(
        torch.allclose(a.cpu(), b, rtol=1e-3, atol=1e-5)
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True)
    )
