"""A hierarchical encoder through the whole flow: patches of several levels, a training, and what uses its encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jepa3d import load_encoder, project
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.results import store
from jepa3d.stages.embed import embed
from jepa3d.stages.evaluate import evaluate
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain

MODEL = {
    "kind": "hierarchical",
    "widths": [8, 16],
    "blocks": [1, 1],
    "heads": 2,
    "tuned_radius": [0.6, 1.5],
    "tokenizer": {"widths": [8, 16, 16]},
}
PYRAMID = {"points": 128, "levels": [{"num": 16, "size": 8}, {"num": 8, "size": 4}]}
FIT = {"epochs": 10, "batch": 16, "lr": 0.003, "warmup_epochs": 1}


@pytest.fixture
def pyramid(tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path) -> Params:
    tiny["models"]["pyramid"] = MODEL
    tiny["patches"]["pyramid"] = PYRAMID
    tiny["runs"]["deep"] = {
        "base": "jepa", "model": "pyramid", "patches": "pyramid", "objective": {"kind": "supervised"},
        "fit": {"steps": 60, "batch": 16, "lr": 0.003},
    }  # fmt: skip
    tiny["runs"]["masked"] = {
        "base": "deep", "objective": {"kind": "point_m2ae", "mask": {"kind": "random", "ratio": 0.6}},
    }  # fmt: skip
    tiny["runs"]["random"] = {"base": "deep", "objective": {"kind": "random_init", "clouds": 32}, "fit": {"steps": 0}}
    tiny["evals"] |= {
        "tuned": {"dataset": "toys", "task": {"kind": "finetune", "validation": 0.2, "pool": "sum", "fit": FIT}},
        "robustness": {"dataset": "toys", "task": {"kind": "robustness", "corruptions": ["jitter"], "grid": [1.0]}},
        "svm": {"dataset": "toys", "task": {"kind": "svm", "presets": ["cv", "m2ae", "pointjepa"]}},
    }
    tiny["studies"]["tiny"] |= {"runs": ["deep", "masked", "random"], "evals": ["linear", "tuned", "robustness", "svm"]}
    params = project.load(write(tiny))
    project.check_objectives(params)
    patchify(params, layout, "pyramid", "toys")
    return params


def metric(layout: Layout, run: str, name: str, key: str) -> Any:
    found = store.read_json(layout.evaluation(run, 0, name))["metrics"][key]
    return found["value"] if isinstance(found, dict) else found


@pytest.mark.slow
def test_it_is_trained_embedded_fine_tuned_and_corrupted(pyramid: Params, layout: Layout, toys: Path):
    pretrain(pyramid, layout, "deep", 0)
    embed(pyramid, layout, "deep", "toys", 0)
    loaded = load_encoder(layout.encoder("deep", 0)).of_canonical()
    with store.open_h5(toys) as file, store.open_h5(layout.features("deep", 0, "toys")) as made:
        points = torch.from_numpy(file["points"][:])
        assert np.allclose(made["context"][:], loaded.embed(points), atol=1e-5)
        assert store.attributes(made)["pool"] == "sum"
    centres, tokens = loaded.tokens(points)
    assert (centres.shape, tokens.shape) == ((80, 8, 3), (80, 8, 16))
    for name in ("linear", "tuned", "robustness", "svm"):
        evaluate(pyramid, layout, "deep", name, 0)
    assert metric(layout, "deep", "linear", "accuracy") > 0.9
    assert metric(layout, "deep", "tuned", "accuracy") > 0.9
    assert metric(layout, "deep", "robustness", "accuracy_corrupted") > 0.6
    assert metric(layout, "deep", "svm", "accuracy_m2ae") > 0.9  # features that are summed already
    notes = store.read_json(layout.evaluation("deep", 0, "svm"))["notes"]
    assert any("accuracy_pointjepa: left out" in note for note in notes)


@pytest.mark.slow
def test_point_m2ae_goes_the_same_way(pyramid: Params, layout: Layout):
    """Its encoder is trained whole where a task trains on, but for the norms of levels that the task does not read."""
    pretrain(pyramid, layout, "masked", 0)
    rows = [row for row in store.read_jsonl(layout.curve("masked", 0)) if "loss" in row]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    embed(pyramid, layout, "masked", "toys", 0)
    for name in ("linear", "tuned"):
        evaluate(pyramid, layout, "masked", name, 0)
        assert metric(layout, "masked", name, "accuracy") > 0.7


def test_random_weights_have_calibrated_norms_on_every_level(pyramid: Params, layout: Layout):
    pretrain(pyramid, layout, "random", 0)
    net = load_encoder(layout.encoder("random", 0)).module
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm1d)]
    assert len(norms) == 4  # two of the tokenizer, two of the merger
    assert all(norm.num_batches_tracked > 0 and norm.running_mean.abs().max() > 0 for norm in norms)


def test_an_objective_that_masks_one_level_is_refused(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["models"]["pyramid"], tiny["patches"]["pyramid"] = MODEL, PYRAMID
    tiny["runs"]["deep"] = {"base": "jepa", "model": "pyramid", "patches": "pyramid"}
    with pytest.raises(Problem, match=r"(?s)'jepa' cannot train models.pyramid.*one level of tokens"):
        project.check_objectives(project.load(write(tiny)))


def test_patches_of_one_level_are_refused(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["models"]["pyramid"] = MODEL
    tiny["runs"]["deep"] = {"base": "jepa", "model": "pyramid"}
    with pytest.raises(Problem, match=r"(?s)'flat' has 1 level of patches.*reads 2"):
        project.load(write(tiny))
