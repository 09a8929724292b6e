"""How fast the layers and models are, beside what else there is: one process, all contestants in turn in every round,
medians.

A ratio is the median over rounds of a contestant's time to the reference's time in the same round. On a CPU it is taken
from processor time on one thread, which other programs disturb least; on CUDA from wall time after a synchronisation.
The peers of the extra `[bench]` (titans-pytorch, nested-learning) join where they are installed. Axis letters: B batch,
T tokens, D width.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from nllab.bench.steps import step_rows, steps_table
from nllab.build import pick_device
from nllab.memory.titans import SelfModifyingTitans
from nllab.models.hope import Hope, HopeAttention, HopeLM, next_token_loss
from nllab.models.mixers import LinearAttention
from nllab.tables import table_of

Step = Callable[[], Any]
Contestant = tuple[str, nn.Module, tuple[int, int, int]]
VOCABULARY = 256
# (fast, medium, slow): the CMS that nested-learning is measured with, too.
LEVELS = (16, 64, 256)


def run_speed(device: str = "cpu", quick: bool = False) -> dict[str, Any]:
    """Measure everything and return plain numbers that JSON can hold; `speed_tables` shows them.

    Units: milliseconds per forward + backward (models: a whole training step with AdamW; steps: one of classifiers with
        Adam and with the deep optimizer); tokens per second; bytes.
    saved_bytes: what the graph keeps for the backward pass; peak_bytes: CUDA's own peak. matmul_share: counted products
        per second to those of one large float32 product; copy_share: the time to copy one float32 input, output and
        their gradients, to the time taken.
    Raises: SettingError for a device that is not there.
    """
    place = pick_device(device)
    batch, tokens, dim = (2, 64, 32) if quick else (4, 256, 64)
    rounds = 3 if quick else 9
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            torch.manual_seed(0)
            ceilings = measure_ceilings(place, 256 if quick else 2048)
            size = (batch, tokens, dim)
            lengths, widths = ((64, 256), (16, 32)) if quick else ((256, 512, 1024, 2048, 4096), (64, 128, 256, 512))
            groups: dict[str, tuple[int, list[Contestant]]] = {
                "layer": (rounds, [(name, layer, size) for name, layer in layers(dim).items()]),
                "model": (max(2, rounds // 3), [(name, model, size) for name, model in models(dim).items()]),
                "tokens": (
                    3,
                    [(f"SelfModifyingTitans, T = {t}", SelfModifyingTitans(dim), (batch, t, dim)) for t in lengths],
                ),
                "width": (
                    3,
                    [(f"SelfModifyingTitans, D = {d}", SelfModifyingTitans(d), (batch, tokens, d)) for d in widths],
                ),
            }
            rows = [
                row
                for group, (n, contestants) in groups.items()
                for row in compare(group, contestants, n, place, ceilings)
            ]
            steps = step_rows(rounds, place)
    finally:
        torch.set_num_threads(threads)
    first, *_, last = (row for row in rows if row["group"] == "tokens")
    return {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu, one thread",
        "torch": torch.__version__,
        "peers": {name: version(name) for name in ("titans-pytorch", "nested-learning")},
        "ceilings": ceilings,
        "rows": rows,
        "steps": steps,
        "growth": {
            "tokens": last["tokens"] / first["tokens"],
            "time": last["ratio"],
            "saved_bytes": last["saved_bytes"] / first["saved_bytes"],
        },
    }


def version(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def layers(dim: int) -> dict[str, nn.Module]:
    """Sequence layers of one width; the first is what the others are measured against."""
    modules: dict[str, nn.Module] = {}
    if version("titans-pytorch"):
        from titans_pytorch import NeuralMemory  # type: ignore[import-not-found]

        for c, factor in ((16, 4.0), (64, 4.0), (16, 2.0)):
            # A factor of 4 is the package's default.
            memory = NeuralMemory(dim=dim, chunk_size=c, default_model_kwargs={"depth": 2, "expansion_factor": factor})
            modules[f"titans-pytorch NeuralMemory, chunk {c}, hidden {factor:.0f} D"] = memory
    modules |= {
        "torch TransformerEncoderLayer": nn.TransformerEncoderLayer(dim, 2, 4 * dim, 0.0, batch_first=True),
        "SelfModifyingTitans, linear, chunk 16": SelfModifyingTitans(dim),
        "SelfModifyingTitans, linear, chunk 64": SelfModifyingTitans(dim, chunk_size=64),
        "SelfModifyingTitans, linear, chunk 1, projections 512": SelfModifyingTitans(
            dim, chunk_size=1, projection_chunk_size=512
        ),
        "SelfModifyingTitans, MLP 64, chunk 16": SelfModifyingTitans(dim, hidden=64),
        "SelfModifyingTitans, MLP 256, chunk 16": SelfModifyingTitans(dim, hidden=256),
        "Titans (static projections), chunk 16": SelfModifyingTitans(dim, adaptive=()),
        "DeltaNet": LinearAttention(dim, delta=True),
        "linear attention": LinearAttention(dim),
        "Hope block, three levels": Hope(dim, LEVELS),
        "Hope-Attention block, three levels": HopeAttention(dim, LEVELS, heads=2),
    }
    return modules


def models(dim: int) -> dict[str, nn.Module]:
    """Two-layer language models; the first is what the others are measured against."""
    shared = {"levels": LEVELS, "hidden": 4 * dim}
    modules: dict[str, nn.Module] = {
        "HopeLM": HopeLM(VOCABULARY, dim, 2, **shared),
        "HopeLM, CMS on the clock of tokens": HopeLM(VOCABULARY, dim, 2, inner_lr=0.01, **shared),
        "Hope-Attention LM": HopeLM(VOCABULARY, dim, 2, mixer="attention", heads=2, **shared),
        "Transformer LM": HopeLM(VOCABULARY, dim, 2, mixer="attention", heads=2, levels=(1,), hidden=4 * dim),
    }
    if version("nested-learning"):
        from nested_learning.levels import LevelSpec  # type: ignore[import-not-found]
        from nested_learning.model import HOPEModel, ModelConfig  # type: ignore[import-not-found]

        levels = [LevelSpec(name=f"cms{period}", update_period=period) for period in LEVELS]
        for variant in ("hope_attention", "hope_selfmod"):
            config = ModelConfig(VOCABULARY, dim, 2, 2, LevelSpec(name="titan", update_period=16), levels)
            config.block_variant, config.self_mod_chunk_size, config.self_mod_chunk_size_memory = variant, 8, 64
            modules[f"nested-learning {variant}"] = HOPEModel(config)
    return modules


def layer_step(layer: nn.Module, x: Tensor) -> Step:
    """Forward and backward of a layer on inputs (B, T, D), as a step to be timed."""

    def step() -> None:
        layer.zero_grad()
        y = layer(x)
        (y[0] if isinstance(y, tuple) else y).square().mean().backward()

    return step


def model_step(model: nn.Module, tokens: Tensor) -> Step:
    """One training step; nested-learning's own loop reads the batch a second time to write its memories, and so does
    this one."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        scores = model(tokens)
        next_token_loss(scores, tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if type(model).__module__.startswith("nested_learning"):
            from nested_learning.training import compute_teach_signal  # type: ignore[import-not-found]

            with torch.no_grad():
                model(tokens, teach_signal=compute_teach_signal(model, scores, tokens))

    return step


def compare(
    group: str, contestants: Sequence[Contestant], rounds: int, device: torch.device, ceilings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Time the contestants (name, module, its B, T, D) in turn; one row each, ratios to the first of them."""
    steps = {}
    for name, module, (batch, tokens, dim) in contestants:
        module.to(device)
        if group == "model":
            steps[name] = model_step(module, torch.randint(VOCABULARY, (batch, tokens), device=device))
        else:
            steps[name] = layer_step(module, torch.randn(batch, tokens, dim, device=device, requires_grad=True))
    wall, cpu = alternate(steps, rounds, device)
    decisive, first = (wall if device.type == "cuda" else cpu), next(iter(steps))
    rows = []
    for name, module, (batch, tokens, dim) in contestants:
        seconds = median(decisive[name])
        (saved, peak), flops = measure_memory(steps[name], device), count_flops(steps[name])
        rows.append(
            {
                "group": group,
                "name": name,
                "batch": batch,
                "tokens": tokens,
                "width": dim,
                "parameters": sum(p.numel() for p in module.parameters()),
                "milliseconds": 1e3 * seconds,
                "wall_milliseconds": 1e3 * median(wall[name]),
                "tokens_per_second": batch * tokens / seconds,
                "ratio": median(own / other for own, other in zip(decisive[name], decisive[first], strict=True)),
                "ratio_to": first,
                "saved_bytes": saved,
                "peak_bytes": peak,
                "matmul_share": flops / seconds / ceilings["matmul_flops_per_second"],
                "copy_share": 4 * batch * tokens * dim * 4 / seconds / ceilings["copy_bytes_per_second"],
            }
        )
    return rows


def alternate(
    steps: Mapping[str, Step], rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and processor seconds of every step, once each per round, after one round that is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for counted in [False] + [True] * rounds:
        for name, step in steps.items():
            with stopwatch(device) as took:
                step()
            if counted:
                wall[name].append(took[0])
                cpu[name].append(took[1])
    return wall, cpu


@contextmanager
def stopwatch(device: torch.device) -> Iterator[list[float]]:
    """A list that holds, after the block, its wall seconds and processor seconds."""
    took: list[float] = []
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    yield took
    synchronize(device)
    took += [time.perf_counter() - wall, time.process_time() - cpu]


def synchronize(device: torch.device) -> None:
    """Wait until a CUDA device has done what was asked of it; nothing on others."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_memory(step: Step, device: torch.device) -> tuple[int | None, int | None]:
    """Bytes kept for the backward pass, each storage once (None where torch.func hides them), and CUDA's peak."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            step()
        saved = sum(kept.values())
    except RuntimeError:
        step()
        saved = None
    return saved, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def count_flops(step: Step) -> int:
    """Floating-point operations of the matrix products in a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure_ceilings(device: torch.device, side: int) -> dict[str, float]:
    """What the machine can do at best: bytes per second of one large copy (read + write), operations per second of one
    large product."""
    source = torch.randn(side, 4 * side, device=device)
    target, left, right = (
        torch.empty_like(source),
        source[:, :side].contiguous(),
        source[:, side : 2 * side].contiguous(),
    )
    half_left, half_right = left.bfloat16(), right.bfloat16()
    steps = {
        "copy": lambda: target.copy_(source),
        "matmul": lambda: left @ right,
        "bfloat16": lambda: half_left @ half_right,
    }
    wall, _ = alternate(steps, 5, device)
    return {
        "copy_bytes_per_second": 2 * source.nbytes / min(wall["copy"]),
        "matmul_flops_per_second": 2 * side**3 / min(wall["matmul"]),
        "bfloat16_matmul_flops_per_second": 2 * side**3 / min(wall["bfloat16"]),
    }


TITLES = {
    "layer": "Layers",
    "model": "Language models of two layers",
    "tokens": "Growth with T",
    "width": "Growth with D",
}


def speed_tables(result: Mapping[str, Any]) -> list[Table]:
    """What `run_speed` returned, as one table per group."""
    heads = ("", "B, T, D", "parameters", "ms", "tokens/s", "ratio", "saved MB", "peak MB", "of matmul", "of copy")
    tables = []
    for group, title in TITLES.items():
        rows = [row for row in result["rows"] if row["group"] == group]
        shown = [
            (
                row["name"],
                f"{row['batch']}, {row['tokens']}, {row['width']}",
                f"{row['parameters']:,}",
                f"{row['milliseconds']:.2f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['ratio']:.2f}",
                *("" if row[k] is None else f"{row[k] / 1e6:.1f}" for k in ("saved_bytes", "peak_bytes")),
                f"{row['matmul_share']:.1%}",
                f"{row['copy_share']:.2%}",
            )
            for row in rows
        ]
        tables.append(table_of(f"{title} ({result['device']}); ratio 1 is {rows[0]['name']}", heads, shown))
    return [*tables, steps_table(result["steps"], result["device"])]
