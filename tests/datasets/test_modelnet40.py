"""ModelNet40 in its layouts, each written here with h5py, pickle and plain text, and the real lists."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, modelnet40
from jepa3d.datasets._shared import modelnet
from jepa3d.problem import Problem

REAL = os.environ.get("JEPA3D_REAL_DATA")
real = pytest.mark.skipif(not REAL, reason="JEPA3D_REAL_DATA is not set")
AIRPLANE, SOFA, XBOX = 0, 30, 39


def cloud(seed: int, count: int = 2048) -> Any:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return (points / np.linalg.norm(points, axis=1).max()).astype(np.float32)


def write_h5(path: Path, labels: list[int], names: list[str] | None = None, flat: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([cloud(sum(map(ord, path.stem)) + k) for k in range(len(labels))])
        file["label"] = np.array(labels if flat else [[label] for label in labels], np.uint8)
    if names is not None:
        stem, number = path.stem[:-1], path.stem[-1]
        (path.parent / f"{stem}_{number}_id2file.json").write_text(json.dumps(names))


def read(raw: Path, **entry: Any) -> list[Shape]:
    found = list(modelnet40.read(raw, modelnet40.Config(**entry)))
    assert all(isinstance(shape, Shape) for shape in found), found
    return found  # type: ignore[return-value]


def hdf5(tmp_path: Path) -> Path:
    folder = tmp_path / "modelnet40_ply_hdf5_2048"
    write_h5(folder / "ply_data_train0.h5", [SOFA, AIRPLANE], ["sofa/sofa_0307.ply", "airplane/airplane_0001.ply"])
    write_h5(folder / "ply_data_train1.h5", [XBOX], ["xbox/xbox_0002.ply"])
    write_h5(folder / "ply_data_test0.h5", [AIRPLANE], ["airplane/airplane_0630.ply"])
    return folder


def test_hdf5_is_read_as_it_is_file_by_file_in_the_order_of_their_numbers(tmp_path: Path):
    folder = hdf5(tmp_path)
    for number in range(2, 11):
        write_h5(folder / f"ply_data_train{number}.h5", [number])
    shapes = read(tmp_path)
    assert [shape.label for shape in shapes] == [SOFA, AIRPLANE, XBOX, *range(2, 11), AIRPLANE]
    assert [shape.id for shape in shapes[:3]] == ["sofa_0307", "airplane_0001", "xbox_0002"]
    assert shapes[-1].split == "test"
    with h5py.File(folder / "ply_data_train0.h5") as file:
        np.testing.assert_array_equal(shapes[0].points, file["data"][0])


@pytest.mark.parametrize("place", ["modelnet40_ply_hdf5_2048", "data/modelnet40_ply_hdf5_2048", "."])
def test_hdf5_is_found_in_the_folders_of_the_peers(place: str, tmp_path: Path):
    write_h5(tmp_path / place / "ply_data_train0.h5", [3])
    write_h5(tmp_path / place / "ply_data_test0.h5", [3], flat=True)
    assert [shape.id for shape in read(tmp_path)] == ["ply_data_train0/0000", "ply_data_test0/0000"]


def test_the_other_authors_hdf5_is_read(tmp_path: Path):
    write_h5(tmp_path / "modelnet40_hdf5_2048" / "train0.h5", [3, 4])
    write_h5(tmp_path / "modelnet40_hdf5_2048" / "test0.h5", [4])
    assert [(shape.label, shape.split) for shape in read(tmp_path)] == [(3, "train"), (4, "train"), (4, "test")]


def test_names_that_contradict_the_labels_are_a_problem(tmp_path: Path):
    hdf5(tmp_path)
    path = tmp_path / "modelnet40_ply_hdf5_2048/ply_data_train_1_id2file.json"
    path.write_text(json.dumps(["vase/vase_0001.ply"]))
    with pytest.raises(Problem, match=r"vase_0001\.ply has the label 39"):
        read(tmp_path)


def test_class_names_in_another_order_are_a_problem(tmp_path: Path):
    folder = hdf5(tmp_path)
    (folder / "shape_names.txt").write_text("\n".join(reversed(modelnet.FORTY)))
    with pytest.raises(Problem, match=r"shape_names\.txt"):
        read(tmp_path)


def test_ten_categories_are_modelnet10_with_their_own_labels(tmp_path: Path):
    hdf5(tmp_path)
    (shape,) = read(tmp_path, categories=10)
    assert (shape.id, modelnet40.classes(tmp_path, modelnet40.Config(categories=10))[shape.label]) == (
        "sofa_0307",
        "sofa",
    )


def dat(tmp_path: Path, labels: Any = None) -> Path:
    folder = tmp_path / "ModelNet" / "modelnet40_normal_resampled"
    folder.mkdir(parents=True)
    for split, ids in (("train", ["airplane_0001", "sofa_0002"]), ("test", ["airplane_0627"])):
        points = [np.hstack([3 * cloud(k, 8192), cloud(k, 8192)]).astype(np.float32) for k in range(len(ids))]
        chosen = labels or [np.array([modelnet.FORTY.index(id[:-5])], np.int32) for id in ids]
        data = pickle.dumps([points, chosen[: len(ids)]], protocol=3).replace(b"numpy._core.", b"numpy.core.")
        (folder / f"modelnet40_{split}_8192pts_fps.dat").write_bytes(data)
        (folder / f"modelnet40_{split}.txt").write_text("\n".join(ids) + "\n")
    return folder


def test_point_berts_pickles_are_read_in_their_order_and_scaled(tmp_path: Path):
    dat(tmp_path)
    shapes = read(tmp_path)
    assert [(s.id, s.label, s.split, len(s.points)) for s in shapes] == [
        ("airplane_0001", AIRPLANE, "train", 8192),
        ("sofa_0002", SOFA, "train", 8192),
        ("airplane_0627", AIRPLANE, "test", 8192),
    ]
    expected = cloud(0, 8192) - cloud(0, 8192).mean(axis=0)
    np.testing.assert_allclose(shapes[0].points, expected / np.linalg.norm(expected, axis=1).max(), atol=1e-6)


def test_the_first_points_of_the_pickles_are_kept_because_they_are_in_fps_order(tmp_path: Path):
    dat(tmp_path)
    np.testing.assert_array_equal(read(tmp_path, points=1024)[0].points, read(tmp_path)[0].points[:1024])


def test_pickles_that_contradict_the_list_are_a_problem(tmp_path: Path):
    dat(tmp_path, [np.array([5], np.int32)] * 2)
    with pytest.raises(Problem, match="do not follow"):
        read(tmp_path)


@pytest.mark.parametrize("label", [np.array([40]), np.array([0.5]), "airplane", np.array([1, 2])])
def test_a_label_that_is_no_class_is_a_problem(label: Any, tmp_path: Path):
    dat(tmp_path, [label] * 2)
    with pytest.raises(Problem, match=r"fps\.dat: a label"):
        read(tmp_path)


def test_text_files_are_read_with_labels_from_their_names(tmp_path: Path):
    folder = tmp_path / "modelnet40_normal_resampled"
    for id in ("flower_pot_0002", "flower_pot_0150"):
        (folder / "flower_pot").mkdir(parents=True, exist_ok=True)
        rows = np.hstack([cloud(1, 10_000), cloud(2, 10_000)])
        np.savetxt(folder / "flower_pot" / f"{id}.txt", rows, "%.6f", delimiter=",")
    (folder / "modelnet40_train.txt").write_text("flower_pot_0002\n")
    (folder / "modelnet40_test.txt").write_text("flower_pot_0150\n")
    shapes = read(tmp_path, normalise="none")
    assert [(s.id, modelnet.FORTY[s.label], s.split) for s in shapes] == [
        ("flower_pot_0002", "flower_pot", "train"),
        ("flower_pot_0150", "flower_pot", "test"),
    ]
    np.testing.assert_allclose(shapes[0].points, cloud(1, 10_000), atol=1e-6)


def off(tmp_path: Path, head: str) -> Path:
    """A box of 1 x 2 x 6 with its long side along z, as ModelNet's meshes stand, with faces of four corners."""
    corners = [(x, y, z) for x in (0, 1) for y in (0, 2) for z in (0, 6)]
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    body = "".join("{} {} {}\n".format(*c) for c in corners) + "".join(
        "4 {} {} {} {} 255 0 0\n".format(*s) for s in sides
    )
    for split in ("train", "test"):
        folder = tmp_path / "ModelNet10" / "bathtub" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"bathtub_{split}.off").write_text(head + body)
    return tmp_path


@pytest.mark.parametrize("head", ["OFF\n8 6 0\n", "OFF8 6 0\n", "OFF 8 6 0\n", "# a comment\nOFF\n# more\n8 6 0\n"])
def test_meshes_with_the_headers_of_the_wild_are_sampled_with_y_up(head: str, tmp_path: Path):
    shapes = read(off(tmp_path, head), normalise="none")
    assert [(s.id, s.split, s.points.shape) for s in shapes] == [
        ("bathtub_train", "train", (2048, 3)),
        ("bathtub_test", "test", (2048, 3)),
    ]
    assert np.ptp(shapes[0].points, axis=0) == pytest.approx([1, 6, 2], abs=0.02)
    np.testing.assert_array_equal(shapes[0].points, read(tmp_path, normalise="none")[0].points)
    assert not np.array_equal(shapes[0].points, shapes[1].points)


def test_a_damaged_mesh_is_set_aside(tmp_path: Path):
    off(tmp_path, "OFF\n8 600 0\n")
    found = list(modelnet40.read(tmp_path, modelnet40.Config()))
    assert all(isinstance(s, SetAside) and "bathtub_" in s.why for s in found)


def test_a_folder_with_nothing_in_it_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(Problem) as caught:
        read(tmp_path)
    for word in ("ply_data_train*.h5", "8192pts_fps.dat", "modelnet40_train.txt", "*.off", str(tmp_path)):
        assert word in caught.value.why
    with pytest.raises(Problem) as caught:
        read(tmp_path, layout="dat")
    assert "ply_data" not in caught.value.why


@real
def test_the_real_hdf5_names_lack_three_shapes_of_the_real_list(tmp_path: Path):
    """The folder's own lists beside HDF5 files of the right sizes (with few points each)."""
    lists = Path(REAL or "") / "lists"
    for path in (lists / "modelnet40_ply_hdf5_2048").iterdir():
        (tmp_path / path.name).symlink_to(path)
    for split, numbers in (("train", range(5)), ("test", range(2))):
        for number in numbers:
            names = json.loads((tmp_path / f"ply_data_{split}_{number}_id2file.json").read_text())
            with h5py.File(tmp_path / f"ply_data_{split}{number}.h5", "w") as file:
                file["data"] = np.zeros((len(names), 1, 3), np.float32)
                file["label"] = np.array([[modelnet.FORTY.index(name.split("/")[0])] for name in names], np.uint8)
    found = modelnet40.audit(tmp_path, modelnet40.Config())
    assert found["counts"] == found["official"] == {"train": 9840, "test": 2468}
    assert found["overlaps"] == {"train & test": 0}
    assert found["repeats"] == {"train": 0, "test": 0}
    assert "airplane_0050, curtain_0130, plant_0014" in found["notes"][0]
    official = {(lists / "modelnet40_normal_resampled" / f"modelnet40_{split}.txt").read_text() for split in ("train",)}
    named = {item.id for item in modelnet.items(modelnet40.locate(tmp_path, modelnet40.Config()), modelnet.FORTY)}
    assert set(official.pop().split()) - named == set(modelnet40.ABSENT_HDF5)
    ten = modelnet40.audit(tmp_path, modelnet40.Config(categories=10))
    assert ten["counts"] == ten["official"] == {"train": 3991, "test": 908}


@real
def test_the_real_text_lists_are_the_published_ones(tmp_path: Path):
    for path in (Path(REAL or "") / "lists" / "modelnet40_normal_resampled").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "airplane").mkdir()
    (tmp_path / "airplane" / "airplane_0001.txt").touch()
    found = modelnet40.audit(tmp_path, modelnet40.Config())
    assert found["layout"] == "txt"
    assert found["counts"] == found["official"] == {"train": 9843, "test": 2468}
    assert set(found["hashes"].values()) == {"known"}


@real
def test_real_meshes_are_read(tmp_path: Path):
    found = list(modelnet40.read(Path(REAL or "") / "modelnet_off_sample", modelnet40.Config()))
    assert [shape.id for shape in found] == [f"bathtub_{k:04d}" for k in range(1, 6)]
    for shape in found:
        assert isinstance(shape, Shape)
        assert shape.points.shape == (2048, 3)
        extent = np.ptp(shape.points, axis=0)
        assert extent[1] < extent[0] or extent[1] < extent[2]  # a bathtub lies: z was up in the file


# ---- a copy that is damaged, incomplete, or of another version is refused, never half read


def test_an_hdf5_file_that_is_missing_between_others_or_in_the_list_is_named(tmp_path: Path):
    folder = hdf5(tmp_path)
    write_h5(folder / "ply_data_train3.h5", [3])
    with pytest.raises(Problem, match=r"ply_data_train2\.h5: no such file"):
        read(tmp_path)
    write_h5(folder / "ply_data_train2.h5", [2])
    assert len(read(tmp_path)) == 6
    (folder / "train_files.txt").write_text("".join(f"data/x/ply_data_train{k}.h5\n" for k in range(5)))
    with pytest.raises(Problem, match=r"ply_data_train4\.h5: no such file"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"label": np.array([[0.0], [5.0]])}, "type float64"),
        ({"label": np.eye(40, dtype=np.uint8)[:2]}, "shape"),
        ({"label": np.array([[1]], np.uint8)}, "shape"),
        ({"label": np.array([[1], [40]], np.uint8)}, "labels from 1 to 40"),
        ({"label": np.array([[1], [-1]], np.int8)}, "labels from -1 to 1"),
        ({"data": np.zeros((2, 2048, 6), np.float32)}, "shape"),
        ({"data": np.zeros((2, 3, 2048), np.float32)}, "shape"),
        ({"data": np.zeros((2, 2048, 3), np.int32)}, "type int32"),
        ({"data": np.zeros((2048, 3), np.float32)}, "shape"),
    ],
)
def test_another_version_of_the_hdf5_files_is_refused(change: dict[str, Any], why: str, tmp_path: Path):
    path = hdf5(tmp_path) / "ply_data_train0.h5"
    path.with_name("ply_data_train_0_id2file.json").unlink()
    with h5py.File(path, "r+") as file:
        for key, value in change.items():
            del file[key]
            file[key] = value
    with pytest.raises(Problem, match=why) as caught:
        read(tmp_path)
    assert str(path) in caught.value.what
    assert caught.value.mend


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_an_hdf5_file_that_is_cut_is_refused(keep: float, tmp_path: Path):
    path = hdf5(tmp_path) / "ply_data_train0.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(Problem, match="ply_data_train0"):
        read(tmp_path)


def text_copy(tmp_path: Path) -> Path:
    folder = tmp_path / "modelnet40_normal_resampled"
    for split, id in (("train", "sofa_0001"), ("test", "sofa_0002"), ("train", "sofa_0003")):
        (folder / "sofa").mkdir(parents=True, exist_ok=True)
        rows = np.hstack([cloud(1, 10_000), cloud(2, 10_000)])
        np.savetxt(folder / "sofa" / f"{id}.txt", rows, "%.6f", delimiter=",")
        with (folder / f"modelnet40_{split}.txt").open("a") as file:
            file.write(f"{id}\n")
    return folder


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text[: len(text) // 2], "."),
        (lambda text: "".join(text.splitlines(keepends=True)[:4321]), "4,321 lines, expected 10,000"),
        (lambda text: text[:-4], "its last line is cut off"),
        (lambda text: "\n".join(f"{line},0.5" for line in text.splitlines()), "of 7 numbers, expected 3 or 6"),
        (lambda text: "", "not a table"),
    ],
)
def test_a_text_that_is_cut_or_of_another_version_is_set_aside(change: Any, why: str, tmp_path: Path):
    path = text_copy(tmp_path) / "sofa" / "sofa_0001.txt"
    path.write_text(change(path.read_text()))
    found = list(modelnet40.read(tmp_path, modelnet40.Config(points=100)))
    aside = [one for one in found if isinstance(one, SetAside)]
    assert [one.id for one in aside] == ["sofa_0001"]
    assert re.search(why, aside[0].why)
    assert len(found) == 3


def test_a_cloud_of_the_pickles_with_another_number_of_points_is_set_aside(tmp_path: Path):
    folder = tmp_path / "ModelNet"
    folder.mkdir()
    for split in ("train", "test"):
        clouds = [cloud(1, 8192), cloud(2, 1024), cloud(3, 8192).T]
        data = pickle.dumps([[np.hstack([c, c]) for c in clouds], [np.array([3], np.int32)] * 3], protocol=3)
        (folder / f"modelnet40_{split}_8192pts_fps.dat").write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
    found = list(modelnet40.read(folder, modelnet40.Config(points=100)))
    assert [isinstance(one, Shape) for one in found] == [True, False, False] * 2
    assert "has the shape [1024, 6]" in str(found[1])


def test_meshes_of_other_classes_are_not_passed_over(tmp_path: Path):
    modelnet40.forge(tmp_path, "off")
    other = tmp_path / "ModelNet40" / "spaceship" / "train"
    other.mkdir(parents=True)
    (other / "spaceship_0001.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    with pytest.raises(Problem, match="spaceship: no class of ModelNet40"):
        read(tmp_path)
