"""ScanObjectNN's h5 files, written here with h5py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, scanobjectnn
from jepa3d.problem import Problem

REAL = os.environ.get("JEPA3D_REAL_DATA")
FILES = {
    "obj_bg": "main_split/{}_objectdataset.h5",
    "obj_only": "main_split_nobg/{}_objectdataset.h5",
    "pb_t25": "main_split/{}_objectdataset_augmented25_norot.h5",
    "pb_t25_r": "main_split/{}_objectdataset_augmented25rot.h5",
    "pb_t50_r": "main_split/{}_objectdataset_augmentedrot.h5",
    "pb_t50_rs": "main_split/{}_objectdataset_augmentedrot_scale75.h5",
}


def write(raw: Path, variant: str, labels: list[int], label_shape: tuple[int, ...] = (-1,)) -> None:
    for seed, word in enumerate(("training", "test")):
        path = raw / FILES[variant].format(word)
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        with h5py.File(path, "w") as file:
            file["data"] = rng.normal(size=(len(labels), 2048, 3)).astype(np.float32)
            file["label"] = np.array(labels).reshape(label_shape)
            file["mask"] = np.tile(np.where(np.arange(2048) < 500, -1, 12).astype(np.int64), (len(labels), 1))


def read(raw: Path, **entry: Any) -> list[Shape]:
    found = list(scanobjectnn.read(raw, scanobjectnn.Config(**entry)))
    assert all(isinstance(shape, Shape) for shape in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("variant", FILES)
def test_each_variant_has_its_own_files(variant: str, tmp_path: Path):
    write(tmp_path / "h5_files", variant, [3, 11])
    shapes = read(tmp_path, variant=variant, normalise="none")
    assert [(shape.split, scanobjectnn.CLASSES[shape.label]) for shape in shapes] == [
        ("train", "cabinet"),
        ("train", "pillow"),
        ("test", "cabinet"),
        ("test", "pillow"),
    ]
    assert shapes[0].id == FILES[variant].format("training").split("/")[1].removesuffix(".h5") + "/00000"
    with h5py.File(tmp_path / "h5_files" / FILES[variant].format("test")) as file:
        np.testing.assert_array_equal(shapes[2].points, file["data"][0])


def test_the_mask_becomes_parts_background_and_object(tmp_path: Path):
    write(tmp_path, "obj_bg", [0])
    shape = read(tmp_path, variant="obj_bg")[0]
    assert shape.part is not None
    assert shape.part.tolist() == [0] * 500 + [1] * 1548
    assert scanobjectnn.parts(tmp_path, scanobjectnn.Config(variant="obj_bg")) == ("background", "object")


def test_points_and_parts_are_drawn_together(tmp_path: Path):
    write(tmp_path, "obj_bg", [0])
    whole = read(tmp_path, variant="obj_bg")[0]
    drawn = read(tmp_path, variant="obj_bg", points=256, sample="random")[0]
    where = {tuple(point): k for k, point in enumerate(whole.points.tolist())}
    rows = [where[tuple(point)] for point in drawn.points.tolist()]
    assert len(set(rows)) == 256
    assert whole.part is not None
    assert drawn.part is not None
    assert whole.part[rows].tolist() == drawn.part.tolist()


def test_the_class_order_is_the_official_one_and_not_alphabetical():
    assert scanobjectnn.CLASSES[9:11] == ("table", "bed")
    assert list(scanobjectnn.CLASSES) != sorted(scanobjectnn.CLASSES)


@pytest.mark.skipif(not REAL, reason="JEPA3D_REAL_DATA is not set")
def test_the_class_order_is_that_of_the_published_list():
    names = (Path(REAL or "") / "lists" / "ScanObjectNN_shape_names.txt").read_text().split()
    assert tuple(names) == scanobjectnn.CLASSES


@pytest.mark.parametrize("place", ["h5_files", "ScanObjectNN", "ScanObjectNN/h5_files", "data/ScanObjectNN", "."])
def test_the_folders_of_the_peers_are_found(place: str, tmp_path: Path):
    write(tmp_path / place, "pb_t50_rs", [1], label_shape=(-1, 1))
    assert len(read(tmp_path, variant="pb_t50_rs")) == 2


def test_a_perturbed_variant_without_background_is_from_the_other_folder(tmp_path: Path):
    assert scanobjectnn.names(scanobjectnn.Config(variant="pb_t50_rs", background=False)) == {
        "train": "main_split_nobg/training_objectdataset_augmentedrot_scale75.h5",
        "test": "main_split_nobg/test_objectdataset_augmentedrot_scale75.h5",
    }


def test_an_unknown_label_is_set_aside(tmp_path: Path):
    write(tmp_path, "obj_bg", [15, 3])
    found = list(scanobjectnn.read(tmp_path, scanobjectnn.Config(variant="obj_bg")))
    assert [type(s) for s in found] == [SetAside, Shape, SetAside, Shape]


def test_a_file_without_its_mask_is_named(tmp_path: Path):
    write(tmp_path, "obj_bg", [3])
    with h5py.File(tmp_path / FILES["obj_bg"].format("test"), "a") as file:
        del file["mask"]
    with pytest.raises(Problem, match=r"test_objectdataset\.h5"):
        read(tmp_path, variant="obj_bg")


def test_missing_files_are_named_with_the_form_that_gets_them(tmp_path: Path):
    write(tmp_path, "obj_bg", [3])
    with pytest.raises(Problem) as caught:
        read(tmp_path, variant="pb_t50_rs")
    assert "main_split/training_objectdataset_augmentedrot_scale75.h5" in caught.value.why
    assert "forms.gle" in caught.value.mend


def test_only_the_two_files_of_the_variant_are_asked_of_the_archive():
    (source,) = scanobjectnn.sources(scanobjectnn.Config(variant="obj_only"))
    assert source.members == ("*main_split_nobg/training_objectdataset.h5", "*main_split_nobg/test_objectdataset.h5")
