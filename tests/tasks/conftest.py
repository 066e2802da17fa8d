"""An encoder with random weights and 80 boxes in three proportions, for tasks that train the encoder on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from jepa3d import pretrained
from jepa3d.encoders import build
from jepa3d.layout import Layout
from jepa3d.nets.patches import patchify as patches_of
from jepa3d.params import Params
from jepa3d.results import store
from jepa3d.stages.patchify import patchify
from jepa3d.tasks import Encoded

Give = Callable[..., Encoded]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Trainings of hundreds of steps without the checks of every signature, which are made elsewhere."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def give(params: Params, layout: Layout, toys: Path, write_canonical: Callable[..., Path]) -> Give:
    """give(run="jepa", **changes of the canonical file) -> what a task gets; one encoder for all runs."""

    def _give(run: str = "jepa", train: int = 60, test: int = 20, **changes: Any) -> Encoded:
        write_canonical(layout.canonical("toys"), train, test, **changes)
        patchify(params, layout, "flat", "toys")
        torch.manual_seed(0)
        model, scheme = params.models["tiny"], params.patches["flat"]
        nets = {which: build(model) for which in ("context", "target")}
        with store.open_h5(layout.canonical("toys")) as file:
            patches = patches_of(torch.from_numpy(file["points"][:]), scheme.levels[0])
        for net in nets.values():  # so that BatchNorm knows these shapes, as after a training
            for norm in (layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm1d)):
                norm.momentum = 1.0
            net.tokenizer(patches.groups)
        weights = layout.encoder(run, 0)
        pretrained.save(weights, nets, scheme, store.stamp("pretrain", {}))
        return Encoded(
            weights,
            layout.canonical("toys"),
            layout.patches("flat", "toys"),
            scheme,
            model,
            params.runs[run],
            layout.evaluation_state(run, 0, "tuned"),
        )

    return _give
