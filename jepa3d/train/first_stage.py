"""What a run leaves whose objective has no encoder of its own (a dVAE): the whole objective, for runs that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from jepa3d import encoders, plugins
from jepa3d.params import FrozenModel, Model, Scheme, slice_of
from jepa3d.pretrained import FIRST_STAGE
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.train.objective import Base, Setup

FORMAT = f"{FIRST_STAGE}1"


class FirstStage(NamedTuple):
    """A finished objective: how it was made, and its weights."""

    settings: dict[str, Any]  # for its own Config
    model: Model
    scheme: Scheme
    weights: dict[str, Tensor]  # the objective's state


def save(path: Path, objective: Base, settings: FrozenModel, setup: Setup, stamp: dict[str, Any]) -> None:
    metadata = {
        "format": FORMAT,
        "kind": slice_of(settings)["kind"],
        "objective": slice_of(settings),
        "model": slice_of(setup.model),
        "scheme": slice_of(setup.scheme),
        "provenance": stamp,
    }
    store.write_tensors(path, objective.state_dict(), metadata, stamp)


def read(path: Path, kind: str) -> FirstStage:
    """The finished objective of a kind. A file that is something else, or damaged, is a Problem."""
    weights, metadata = store.read_tensors(path)
    try:
        if (metadata.get("format"), metadata.get("kind")) != (FORMAT, kind):
            raise ValueError(f"its format is {metadata.get('format')}, its kind {metadata.get('kind')}")
        config = plugins.find(encoders, metadata["model"]["kind"]).Config
        model = config.model_validate_json(json.dumps(metadata["model"]), strict=True)
        scheme = Scheme.model_validate_json(json.dumps(metadata["scheme"]), strict=True)
        return FirstStage(metadata["objective"], model, scheme, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            f"{path}: not the objective '{kind}' of a run", str(error), "name a run of that kind as objective.reads"
        ) from None
