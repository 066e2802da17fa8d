"""embed: features of every shape, equal to those of the encoder that users load."""

from __future__ import annotations

import subprocess
import sys
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
from jepa3d.stages import embed as stage
from jepa3d.stages.patchify import patchify
from jepa3d.stages.pretrain import pretrain


@pytest.fixture
def trained(
    tiny: dict[str, Any], write: Callable[[Any], Path], layout: Layout, toys: Path
) -> Callable[..., tuple[Params, dict[str, Any]]]:
    """Train a run and embed its data; what the features file has, and its attributes."""

    def _trained(run: str, **patches: Any) -> tuple[Params, dict[str, Any]]:
        tiny["patches"]["flat"] |= patches
        tiny["runs"]["jepa"]["fit"]["steps"] = 2
        for kind in ("handcrafted", "raw_centres"):
            tiny["models"][kind] = {"kind": kind}
            tiny["runs"][kind] = {"base": "random_init", "model": kind}
        params = project.load(write(tiny))
        patchify(params, layout, "flat", "toys")
        pretrain(params, layout, run, 0)
        stage.embed(params, layout, run, "toys", 0)
        with store.open_h5(layout.features(run, 0, "toys")) as file:
            read = {name: file[name][:] for name in file} | {"attributes": store.attributes(file)}
        return params, read

    return _trained


def points(path: Path) -> torch.Tensor:
    with store.open_h5(path) as file:
        return torch.from_numpy(file["points"][:])


@pytest.mark.parametrize("patches", [{}, {"points": 100, "sample": "first"}, {"points": 100, "sample": "fps"}], ids=str)
def test_the_features_are_those_of_the_encoder_that_users_load(
    trained: Any, layout: Layout, toys: Path, patches: dict[str, Any]
):
    _, read = trained("jepa", **patches)
    for which in ("context", "target"):
        by_user = load_encoder(layout.encoder("jepa", 0), which).of_canonical().embed(points(toys))
        assert read[which].dtype == np.float32
        assert np.allclose(read[which], by_user, atol=1e-5)
    assert not np.allclose(read["context"], read["target"], atol=1e-6)


def test_the_features_keep_the_order_labels_splits_and_names_of_the_shapes(trained: Any, layout: Layout, toys: Path):
    _, read = trained("jepa")
    with store.open_h5(toys) as file:
        for name in ("label", "split", "id"):
            assert np.array_equal(read[name], file[name][:])
    assert read["attributes"]["classes"] == ["cube", "rod", "plate"]
    assert read["attributes"]["pool"] == "max_mean"
    assert read["attributes"]["provenance"]["inputs"].keys() == {
        str(toys), str(layout.patches("flat", "toys")), str(layout.encoder("jepa", 0))
    }  # fmt: skip


def test_the_batch_size_does_not_show(trained: Any, layout: Layout, monkeypatch: pytest.MonkeyPatch):
    _, whole = trained("jepa")
    monkeypatch.setattr("jepa3d.pretrained.encoder.CPU_BATCH", 7)
    _, read = trained("jepa")
    assert np.allclose(read["context"], whole["context"], atol=1e-5)


@pytest.mark.parametrize(("run", "width"), [("random_init", 48), ("raw_centres", 48), ("handcrafted", 129)])
def test_baselines_have_features_of_their_own_and_no_ema_copy(trained: Any, run: str, width: int):
    _, read = trained(run)
    assert read["context"].shape == (80, width)
    assert "target" not in read
    assert read["attributes"]["kind"] == ("transformer" if run == "random_init" else run)
    assert read["attributes"]["pool"] == ("max_mean" if run == "random_init" else run)  # not made of max and mean


def test_without_an_encoder_the_command_that_makes_it_is_named(params: Params, layout: Layout, toys: Path):
    patchify(params, layout, "flat", "toys")
    with pytest.raises(Problem, match="no such file") as caught:
        stage.embed(params, layout, "jepa", "toys", 0)
    assert "jepa3d pretrain jepa --seed 0" in caught.value.mend


OF_MANY = """
import resource, sys
import numpy as np, torch
from jepa3d import pretrained
from jepa3d.encoders import build, transformer
from jepa3d.params import Scheme
from jepa3d.stages import embed
from jepa3d.train import batches

torch.set_num_threads(2)
scheme = Scheme(points=64, levels=[{"num": 16, "size": 8}])
loaded = pretrained.LoadedEncoder(build(transformer.Config(width=24, depth=1, heads=1)), scheme, {})
draw = np.random.default_rng(0)
points = draw.normal(size=(256, 64, 3)).astype(np.float32)
indices = [draw.integers(64, size=size).astype(np.uint16) for size in ((256, 16), (256, 16, 8))]
some = batches.Arrays(points, *indices, np.zeros(256, np.int64))

class Source:
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def rows(self, index): return batches.Arrays.of(array[index % 256] for array in some.every())

def take(count):
    if sys.argv[1] == "stage":
        made = embed.features(loaded, Source(count), torch.device("cpu"), "")
    else:
        made = loaded.embed(np.resize(points, (count, 64, 3)))
    assert made.shape == (count, 48)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

print(-take(1000) + take(20000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("of", ["stage", "user"])
def test_memory_does_not_grow_with_the_number_of_shapes(of: str):
    said = subprocess.run([sys.executable, "-c", OF_MANY, of], check=True, capture_output=True, text=True).stdout
    assert float(said) < 60  # MB; the features of 19,000 shapes are 4, and it was hundreds
