"""nllab: a live lab for Nested Learning. Public names load on first use, so that importing the package loads no
torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Level": "levels",
    "Schedule": "levels",
    "NllabError": "errors",
    "Experiment": "experiment",
    "Trainer": "trainer",
    "train": "trainer",
    "replay": "trainer",
    "Run": "runs",
    "load_run": "run_io",
    "LiveRun": "live",
    "LiveLab": "widgets",
    "DeepOptimizer": "optim.deep",
    "CMSClassifier": "models.classifier",
    "ContinuumMemory": "models.cms",
    "Hope": "models.hope",
    "HopeAttention": "models.hope",
    "HopeClassifier": "models.hope",
    "HopeLM": "models.hope",
    "LanguageModel": "models.hope",
    "from_pretrained_mlps": "models.hope",
    "PeerLM": "models.hope",
    "MemoryState": "memory",
    "SelfModifyingTitans": "memory",
    "DeepMomentum": "optim.deep_momentum",
    "DeltaGradientDescent": "optim.delta_gradient_descent",
    "DeltaMomentum": "optim.momentum",
    "M3": "optim.m3",
    "Momentum": "optim.momentum",
    "Muon": "optim.muon",
    "PreconditionedMomentum": "optim.momentum",
    "hidden_and_other": "optim.muon",
    "newton_schulz": "optim.newton_schulz",
}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from nllab.errors import NllabError as NllabError
    from nllab.experiment import Experiment as Experiment
    from nllab.levels import Level as Level
    from nllab.levels import Schedule as Schedule
    from nllab.live import LiveRun as LiveRun
    from nllab.memory import MemoryState as MemoryState
    from nllab.memory import SelfModifyingTitans as SelfModifyingTitans
    from nllab.models.classifier import CMSClassifier as CMSClassifier
    from nllab.models.cms import ContinuumMemory as ContinuumMemory
    from nllab.models.hope import Hope as Hope
    from nllab.models.hope import HopeAttention as HopeAttention
    from nllab.models.hope import HopeClassifier as HopeClassifier
    from nllab.models.hope import HopeLM as HopeLM
    from nllab.models.hope import LanguageModel as LanguageModel
    from nllab.models.hope import PeerLM as PeerLM
    from nllab.models.hope import from_pretrained_mlps as from_pretrained_mlps
    from nllab.optim.deep import DeepOptimizer as DeepOptimizer
    from nllab.optim.deep_momentum import DeepMomentum as DeepMomentum
    from nllab.optim.delta_gradient_descent import DeltaGradientDescent as DeltaGradientDescent
    from nllab.optim.m3 import M3 as M3
    from nllab.optim.momentum import DeltaMomentum as DeltaMomentum
    from nllab.optim.momentum import Momentum as Momentum
    from nllab.optim.momentum import PreconditionedMomentum as PreconditionedMomentum
    from nllab.optim.muon import Muon as Muon
    from nllab.optim.muon import hidden_and_other as hidden_and_other
    from nllab.optim.newton_schulz import newton_schulz as newton_schulz
    from nllab.run_io import load_run as load_run
    from nllab.runs import Run as Run
    from nllab.trainer import Trainer as Trainer
    from nllab.trainer import replay as replay
    from nllab.trainer import train as train
    from nllab.widgets import LiveLab as LiveLab


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nllab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nllab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
