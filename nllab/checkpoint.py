"""A trainer's checkpoint: what it is made of, and as bytes: every tensor in safetensors, the rest as JSON in its
metadata, and a hash of both.

Dicts (with keys of any plain kind), lists, tuples, sets, tensors and plain values come back as they were, floats bit
for bit. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from copy import copy
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.utils import _pytree as pytree

from nllab.errors import RunFormatError, SettingError
from nllab.streams.stream import Drawn, Part

if TYPE_CHECKING:
    from nllab.trainer import Trainer

FORMAT = "1"
DEEPEST = 50
PLACE = (  # what a checkpoint keeps of the trainer itself, beside model, optimizers, movements and generators
    "steps", "plan", "experience", "waiting", "acting", "base_name", "learning_rate", "diverged", "written_by",
    "experience_steps", "changed", "opened", "begun", "batches",
)  # fmt: skip


def copied(value: Any) -> Any:
    """The value with tensors and containers of its own."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else copy(leaf), value)


def capture(trainer: Trainer) -> dict[str, Any]:
    """Everything a trainer needs to go on from here, as values of their own. Raises SettingError where the stream draws
    its batches itself: what it has drawn is not in a checkpoint."""
    if any(isinstance(task.train, Drawn) for task in trainer.stream.tasks):
        raise SettingError(f"The stream {trainer.stream.name!r} draws its own batches, so a run on it cannot go back.")
    portraitist = trainer.snapshots.portraitist
    return copied(
        {
            "model": dict(trainer.model.state_dict()),
            "deep": trainer.deep.state_dict(),
            "base": trainer.base.state_dict(),
            "movements": {name: movement.state() for name, movement in trainer.movements.items()},
            "generator": trainer.generator.get_state(),
            "method": trainer.method.memory,
            "method_generator": trainer.method.generator.get_state(),
            "seen_classes": trainer.objective.seen,
            "references": portraitist.references if portraitist else {},
            "seen": (trainer.seen[0].inputs, trainer.seen[0].labels, trainer.seen[1]) if trainer.seen else None,
            "place": {name: getattr(trainer, name) for name in PLACE},
        }
    )


def restore(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Return a trainer to a checkpoint of its own; what follows is what followed then."""
    saved = copied(checkpoint)
    for name, value in saved["place"].items():
        setattr(trainer, name, value)
    trainer.model.load_state_dict(saved["model"])
    trainer.deep.load_state_dict(saved["deep"])
    if not trainer.own_optimizer:
        trainer.base.optimizer = trainer.make_base(trainer.base.parameters)
    trainer.base.load_state_dict(saved["base"])
    for name, movement in trainer.movements.items():
        movement.restore(saved["movements"][name])
    trainer.generator.set_state(saved["generator"])
    trainer.method.memory = saved["method"]
    trainer.method.generator.set_state(saved["method_generator"])
    trainer.objective.seen = saved["seen_classes"]
    if trainer.snapshots.portraitist:
        trainer.snapshots.portraitist.references = saved["references"]
    seen = saved.get("seen")  # checkpoints of before 2026-11-28 lack it
    trainer.seen = (Part(seen[0], seen[1]), seen[2]) if seen else None


def to_bytes(value: Any, **more: str) -> bytes:
    """The value as a safetensors file; more: texts that lie beside it, by any name but format, tree and sum."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_packed(value, "", tensors), separators=(",", ":"))
    metadata = {"format": FORMAT, "tree": tree, **more}
    metadata["sum"] = _hash(metadata, tensors)
    return save(tensors, metadata)


def from_bytes(data: bytes, name: str = "checkpoint.safetensors") -> tuple[Any, dict[str, str]]:
    """(the value, the texts beside it). Raises RunFormatError for what `to_bytes` did not write, or not like this."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        stated = metadata.pop("sum", "")
        if metadata.get("format") != FORMAT or stated != _hash(metadata, tensors):
            raise ValueError("the hash differs")
        more = {key: text for key, text in metadata.items() if key not in ("format", "tree")}
        return _unpacked(json.loads(metadata["tree"]), tensors), more
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise RunFormatError(
            f"{name} is damaged ({str(error)[:100]}), so the run cannot go on from there. Remove it: the run is then"
            " trained again up to where it was."
        ) from None


def _hash(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    match value:
        case Tensor():
            name = path or "value"
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name, "device": value.device.type}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case dict():
            pairs = [
                [_packed(key, "", tensors), _packed(item, f"{path}/{key}", tensors)] for key, item in value.items()
            ]
            return {"dict": pairs}
        case list() | tuple():
            items = [_packed(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        case set() | frozenset():
            return {"set": sorted((_packed(item, path, tensors) for item in value), key=repr)}
    raise TypeError(f"{path or 'the value'} is a {type(value).__name__}, which no checkpoint holds.")


def _unpacked(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_unpacked(item, tensors, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"tensor": name, **more}:
            return tensors[name].to("cuda" if more.get("device") == "cuda" and torch.cuda.is_available() else "cpu")
        case {"float": text}:
            return float(text)
        case {"dict": pairs}:
            return {_unpacked(k, tensors, depth + 1): _unpacked(item, tensors, depth + 1) for k, item in pairs}
        case {"tuple": items}:
            return tuple(_unpacked(item, tensors, depth + 1) for item in items)
        case {"set": items}:
            return {_unpacked(item, tensors, depth + 1) for item in items}
    raise ValueError("an unknown kind of value")
