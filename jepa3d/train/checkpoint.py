"""Reading a training's checkpoint: all of it fits, or it is a Problem before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jepa3d.results import store


def read(path: Path, fingerprint: str, objective: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Step, fingerprint, and the states of objective and optimiser.

    A Problem for a damaged file, also where it is of this training and does not fit it: what is half loaded could
    not be gone on from. That of another training is not looked into.
    """
    state = store.load_state(path)
    if type(state.get("step")) is not int or type(state.get("fingerprint")) is not str:
        raise store.damaged(path, "it does not say of which step and training it is")
    if state["fingerprint"] == fingerprint:
        if not alike(state.get("objective"), objective.state_dict()):
            raise store.damaged(path, "its weights are not those of the training")
        if not of_optimiser(state.get("optimiser"), optimiser):
            raise store.damaged(path, "its optimiser is not that of the training")
    return state


def alike(state: Any, like: Mapping[str, Any]) -> bool:
    """Whether saved tensors have the names, shapes and types of those that there are."""
    return (
        isinstance(state, Mapping)
        and set(state) == set(like)
        and all(_kind(state[name]) == _kind(own) for name, own in like.items())
    )


def of_optimiser(state: Any, optimiser: torch.optim.Optimizer) -> bool:
    """Whether a saved AdamW has the groups of this one, and moments of the shapes of its parameters."""
    own = optimiser.state_dict()
    if not isinstance(state, Mapping) or set(state) != set(own) or not isinstance(state["state"], Mapping):
        return False
    groups = state["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        return False
    for group, mine in zip(groups, own["param_groups"], strict=True):
        if not isinstance(group, Mapping) or set(group) != set(mine) or group["params"] != mine["params"]:
            return False
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    return all(
        number in range(len(parameters))
        and isinstance(moment, Mapping)
        and set(moment) == {"step", "exp_avg", "exp_avg_sq"}
        and isinstance(moment["step"], torch.Tensor)
        and all(_kind(moment[key])[0] == parameters[number].shape for key in ("exp_avg", "exp_avg_sq"))
        for number, moment in state["state"].items()
    )


def _kind(value: Any) -> tuple[Any, Any]:
    """Shape and type of a tensor; of anything else what it is."""
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else (None, type(value))
