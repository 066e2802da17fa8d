"""Canonical files in other hands: numpy, torch, and plain h5py by the documented schema."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from jepa3d import project
from jepa3d.datasets import shapenetpart
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.stages.convert import convert
from jepa3d.stages.download import download
from jepa3d.tools import interchange

PARAMS = """
study: s
studies: {s: {runs: [], evals: [], seeds: [0]}}
datasets: {part: {kind: shapenetpart, root: %s, points: 64}}
patches: {}
models: {}
runs: {}
evals: {}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forged ShapeNetPart, converted."""
    folder = tmp_path_factory.mktemp("export")
    shapenetpart.forge(folder / "raw")
    (folder / "params.yaml").write_text(PARAMS % (folder / "raw"))
    params, layout = project.load(folder / "params.yaml"), Layout(folder / "results")
    download(params, layout, "part")
    convert(params, layout, "part")
    return layout.canonical("part")


def test_the_schema_is_what_the_docstring_says(path: Path):
    with h5py.File(path) as file:
        assert {name: (file[name].dtype.kind, file[name].shape) for name in file} == {
            "points": ("f", (12, 64, 3)),
            "label": ("i", (12,)),
            "split": ("O", (12,)),
            "id": ("O", (12,)),
            "part": ("i", (12, 64)),
        }
        assert file["points"].dtype == np.float32
        assert file["points"].chunks is None
        assert json.loads(file.attrs["classes"])[0] == "Airplane"
        assert len(json.loads(file.attrs["parts"])) == 50
        assert json.loads(file.attrs["config"])["normalise"] == "unit_sphere"
        assert json.loads(file.attrs["provenance"])["verb"] == "convert"


def test_numpy_gives_what_the_reader_gave(path: Path):
    clouds = interchange.to_numpy(path)
    raw = path.parents[2] / "raw"
    shapes = list(shapenetpart.read(raw, shapenetpart.Config(points=64)))
    assert clouds.id.tolist() == [shape.id for shape in shapes]
    np.testing.assert_array_equal(clouds.points, np.stack([shape.points for shape in shapes]))  # type: ignore[union-attr]
    np.testing.assert_array_equal(clouds.part, np.stack([shape.part for shape in shapes]))  # type: ignore[union-attr, arg-type]
    assert clouds.classes == shapenetpart.NAMES


def test_a_split_is_its_rows(path: Path):
    test = interchange.to_numpy(path, "test")
    assert set(test.split) == {"test"}
    assert len(test.points) == len(test.label) == len(test.id) == 4


def test_the_torch_data_set_gives_the_same_shapes(path: Path):
    data, clouds = interchange.to_torch_dataset(path, "test"), interchange.to_numpy(path, "test")
    assert len(data) == 4
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert torch.equal(batch["points"], torch.from_numpy(clouds.points))
    assert batch["label"].tolist() == clouds.label.tolist()
    assert batch["part"].dtype == torch.int64
    assert batch["id"] == clouds.id.tolist()
    data.close()


def test_another_hdf5_file_is_named(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(Problem, match=r"other\.h5"):
        interchange.to_numpy(tmp_path / "other.h5")
    with pytest.raises(Problem, match=r"absent\.h5"):
        interchange.to_torch_dataset(tmp_path / "absent.h5")
