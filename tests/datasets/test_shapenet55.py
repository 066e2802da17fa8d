"""ShapeNet-55 as the archive and Point-BERT's repository have it, written here with numpy and plain text."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, shapenet55
from jepa3d.problem import Problem

PLANE, CHAIR = "02691156-1a04e3eab45ca15dd86060f189eb133", "03001627-d3a38afe0a0341cefebad4f49b26ec52"
PLANE2, CHAIR2 = "02691156-0002", "03001627-0002"
REAL = os.environ.get("JEPA3D_REAL_DATA")


def write(folder: Path, lists: str = "ShapeNet-55", dtype: str = "f4") -> Path:
    """Two train and two test shapes in `folder`; the lists in `folder`/`lists`."""
    (folder / "shapenet_pc").mkdir(parents=True)
    (folder / lists).mkdir(exist_ok=True, parents=True)
    for number, name in enumerate((PLANE, CHAIR, PLANE2, CHAIR2)):
        cloud = np.random.default_rng(number).normal(size=(8192, 3)) * 0.3 + 5
        np.save(folder / "shapenet_pc" / f"{name}.npy", cloud.astype(dtype))
    (folder / lists / "train.txt").write_text(f"{CHAIR}.npy\n{PLANE}.npy\n")
    (folder / lists / "test.txt").write_text(f"{PLANE2}.npy\n{CHAIR2}.npy\n")
    return folder


def read(raw: Path, **entry: object) -> list[Shape]:
    found = list(shapenet55.read(raw, shapenet55.Config(**entry)))  # type: ignore[arg-type]
    assert all(isinstance(shape, Shape) for shape in found)
    return found  # type: ignore[return-value]


def test_shapes_come_in_the_order_of_the_lists_with_labels_from_their_synsets(tmp_path: Path):
    shapes = read(write(tmp_path))
    assert [(s.id, s.split, shapenet55.classes(tmp_path, shapenet55.Config())[s.label]) for s in shapes] == [
        (CHAIR, "train", "chair"),
        (PLANE, "train", "airplane"),
        (PLANE2, "test", "airplane"),
        (CHAIR2, "test", "chair"),
    ]


def test_shapes_are_put_into_the_unit_sphere_because_the_files_are_not(tmp_path: Path):
    for shape in read(write(tmp_path)):
        assert shape.points.shape == (8192, 3)
        assert np.abs(shape.points.mean(axis=0)).max() < 1e-5
        assert np.linalg.norm(shape.points, axis=1).max() == pytest.approx(1, abs=1e-6)


def test_without_normalisation_the_points_are_the_files_points_in_their_order(tmp_path: Path):
    shape = read(write(tmp_path), normalise="none")[0]
    np.testing.assert_array_equal(shape.points, np.load(tmp_path / "shapenet_pc" / f"{CHAIR}.npy"))


def test_float64_files_are_read(tmp_path: Path):
    assert read(write(tmp_path, dtype="f8"))[0].points.dtype == np.float32


def test_whole_takes_the_test_list_into_train(tmp_path: Path):
    assert [shape.split for shape in read(write(tmp_path), whole=True)] == ["train"] * 4


@pytest.mark.parametrize("place", ["ShapeNet55-34", "ShapeNet55", "data/ShapeNet55-34", "."])
@pytest.mark.parametrize("lists", ["ShapeNet-55", "ShapeNet-35", "."])
def test_the_folders_of_the_peers_are_found(place: str, lists: str, tmp_path: Path):
    write(tmp_path / place, lists)
    assert len(shapenet55.items(shapenet55.locate(tmp_path, shapenet55.Config()), shapenet55.Config())) == 4


def test_missing_lists_are_named_with_where_they_are(tmp_path: Path):
    write(tmp_path)
    for path in (tmp_path / "ShapeNet-55").iterdir():
        path.unlink()
    with pytest.raises(Problem, match=r"train\.txt and test\.txt are missing") as caught:
        read(tmp_path)
    assert str(tmp_path / "ShapeNet-35") in caught.value.why
    assert "Point-BERT" in caught.value.mend


def test_a_missing_cloud_is_set_aside(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "shapenet_pc" / f"{PLANE}.npy").unlink()
    aside = [s for s in shapenet55.read(tmp_path, shapenet55.Config()) if isinstance(s, SetAside)]
    assert [entry.id for entry in aside] == [PLANE]
    assert "no such file" in aside[0].why


def test_a_copy_that_stopped_half_way_is_refused(tmp_path: Path):
    write(tmp_path)
    names = "".join(f"02691156-{k}.npy\n" for k in range(500))
    (tmp_path / "ShapeNet-55" / "train.txt").write_text(names)
    with pytest.raises(Problem, match="more of 502 listed ones"):
        read(tmp_path)


def test_a_cloud_with_nan_is_set_aside(tmp_path: Path):
    write(tmp_path)
    path = tmp_path / "shapenet_pc" / f"{PLANE}.npy"
    cloud = np.load(path)
    cloud[7, 1] = np.nan
    np.save(path, cloud)
    for normalise in ("none", "unit_sphere"):
        found = list(shapenet55.read(tmp_path, shapenet55.Config(normalise=normalise)))
        assert [type(s).__name__ for s in found] == ["Shape", "SetAside", "Shape", "Shape"]
        assert "not finite" in found[1].why  # type: ignore[union-attr]


def test_windows_line_ends_are_understood(tmp_path: Path):
    write(tmp_path)
    path = tmp_path / "ShapeNet-55" / "train.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read(tmp_path)) == 4


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "ShapeNet-55" / "train.txt").write_text("../../02691156-x.npy\n")
    with pytest.raises(Problem, match="leads out of the folder"):
        read(tmp_path)


def test_the_draw_depends_on_the_seed_and_the_shape_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path)
    entry = {"points": 100, "sample": "random"}
    one = read(tmp_path, **entry)
    monkeypatch.setenv("JEPA3D_THREADS", "4")
    (tmp_path / "ShapeNet-55" / "train.txt").write_text(f"{PLANE}.npy\n")
    other = read(tmp_path, **entry)
    np.testing.assert_array_equal(one[1].points, other[0].points)
    assert not np.array_equal(one[1].points, read(tmp_path, **entry, seed=1)[0].points)


def test_another_up_axis_is_turned_to_y(tmp_path: Path):
    write(tmp_path)
    raw = read(tmp_path)[0].points
    turned = read(tmp_path, up="z")[0].points
    np.testing.assert_array_equal(turned, np.stack([raw[:, 0], raw[:, 2], -raw[:, 1]], axis=1))


@pytest.mark.skipif(not REAL, reason="JEPA3D_REAL_DATA is not set")
def test_the_real_lists_are_the_published_ones(tmp_path: Path):
    (tmp_path / "shapenet_pc").mkdir()
    (tmp_path / "ShapeNet-55").symlink_to(Path(REAL or "") / "lists" / "ShapeNet-55")
    found = shapenet55.audit(tmp_path, shapenet55.Config())
    assert found["counts"] == found["official"] == {"train": 41952, "test": 10518}
    assert found["hashes"] == {"train.txt": "known", "test.txt": "known"}
    assert found["overlaps"] == {"train & test": 0}
    assert found["repeats"] == {"train": 0, "test": 0}
    listed = shapenet55.items(shapenet55.locate(tmp_path, shapenet55.Config()), shapenet55.Config())
    for split in ("train", "test"):
        assert {item.name.split("-")[0] for item in listed if item.split == split} == set(shapenet55.CLASSES)


def test_the_classes_are_the_sorted_synsets():
    assert list(shapenet55.CLASSES) == sorted(shapenet55.CLASSES)
    assert len(shapenet55.CLASSES) == len(set(shapenet55.CLASSES.values())) == 55
