"""The state of a deep optimizer as plain values, and back: exactly, on the devices of the parameters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from nllab.errors import SettingError
from nllab.optim.affine import Channels
from nllab.optim.context import Context
from nllab.optim.diagonal import Diagonal
from nllab.optim.groups import Group
from nllab.optim.output import Loss
from nllab.optim.policy import Policy
from nllab.optim.rates import Trace
from nllab.optim.realign import Realignment

if TYPE_CHECKING:
    from nllab.optim.watching import WatchingOptimizer

ROOMS: dict[str, type[Context] | type[Realignment] | type[Diagonal] | type[Trace] | type[Channels]] = {
    "trace": Trace,
    "context": Context,
    "realignment": Realignment,
    "diagonal": Diagonal,
    "channels": Channels,
}


def saved(optimizer: WatchingOptimizer, own: dict[str, Any]) -> dict[str, Any]:
    """own: what torch's optimizers keep."""
    kept = {number: {name: room.state() for name, room in state.items()} for number, state in own["state"].items()}
    return {
        **own,
        "state": kept,
        "steps": optimizer._steps,
        "watched": optimizer._watched,
        "acting": optimizer.acting,
        "error_weight": optimizer.error_weight,
        "loss": optimizer.loss and list(optimizer.loss),
        "policy": optimizer.policy and optimizer.policy.state(),
    }


def restore(optimizer: WatchingOptimizer, state_dict: dict[str, Any]) -> None:
    """Raises SettingError if the state is of another optimizer or model; nothing changes then."""
    own = {group["level"]: len(group["params"]) for group in optimizer.param_groups}
    missing = {"state", "param_groups", "steps", "acting", "error_weight", "loss", "policy"} - set(state_dict)
    if missing:
        raise SettingError(f"This is not the state of a DeepOptimizer: it lacks {', '.join(sorted(missing))}.")
    given = {group.get("level"): len(group["params"]) for group in state_dict["param_groups"]}
    if given != own:
        raise SettingError(f"The state is of another model: its levels hold {given} parameters, this model's {own}.")
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    ordered = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    for (p, group), number in zip(ordered, numbers, strict=True):
        theirs, matrix = state_dict["state"].get(number, {}).get("context"), optimizer._holdings.matrices.get(p)
        mine = None if matrix is None else tuple(matrix.new_context(group["ridge"]).matrix.shape)
        if theirs is not None and (shape := tuple(theirs["matrix"].shape)) != mine:
            raise SettingError(
                f"The state is of another model: its memory of {optimizer._holdings.names[p]} has shape {shape}, not"
                f" {mine}."
            )
    groups = zip(state_dict["param_groups"], optimizer.param_groups, strict=True)
    optimizer.param_groups = [Group({**theirs, "params": mine["params"]}) for theirs, mine in groups]
    optimizer.state.clear()
    for (p, _), number in zip(ordered, numbers, strict=True):
        if number in state_dict["state"]:  # exactly, where torch would cast it to the type of the parameter
            move = partial(Tensor.to, device=p.device, copy=True)
            kept = tree_map_only(Tensor, move, state_dict["state"][number])
            optimizer.state[p] = {name: ROOMS[name].of_state(room) for name, room in kept.items()}
    optimizer._steps, optimizer.acting, optimizer.error_weight = (
        state_dict[name] for name in ("steps", "acting", "error_weight")
    )
    optimizer._watched = state_dict.get("watched", 0)  # states of before November 28 lack it
    optimizer._watcher.begin(state_dict["loss"] and Loss(*state_dict["loss"]))
    optimizer.policy = state_dict["policy"] and Policy.of_state(state_dict["policy"])
    optimizer._watcher.clear()
