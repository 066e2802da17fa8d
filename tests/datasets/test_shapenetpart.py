"""ShapeNetPart in both layouts, written here with plain text and h5py, and the real sample."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, shapenetpart
from jepa3d.problem import Problem

REAL = os.environ.get("JEPA3D_REAL_DATA")
CHAIR, MUG = "03001627", "03797390"


def write(folder: Path, lists: dict[str, list[str]], files: dict[str, Any]) -> Path:
    (folder / "train_test_split").mkdir(parents=True)
    for name in ("train", "val", "test"):
        entries = [f"shape_data/{entry}" for entry in lists.get(name, [])]
        (folder / f"train_test_split/shuffled_{name}_file_list.json").write_text(json.dumps(entries))
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text("".join(" ".join(f"{x:.6f}" for x in row) + "\n" for row in rows))
    return folder


def rows(parts: list[int], count: int = 30, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return np.hstack([rng.normal(size=(count, 6)), np.resize(parts, (count, 1))])


def read(raw: Path, **entry: Any) -> list[Shape]:
    found = list(shapenetpart.read(raw, shapenetpart.Config(**entry)))
    assert all(isinstance(shape, Shape) for shape in found), found
    return found  # type: ignore[return-value]


def small(tmp_path: Path) -> Path:
    """One shape is in train and test, one token is under two synsets."""
    lists = {"train": [f"{CHAIR}/a", f"{CHAIR}/both"], "val": [f"{MUG}/a"], "test": [f"{CHAIR}/both", f"{MUG}/b"]}
    names = {entry for entries in lists.values() for entry in entries}
    parts = {CHAIR: [12, 13, 14, 15], MUG: [36, 37]}
    return write(
        tmp_path / "raw", lists, {n: rows(parts[n.split("/")[0]], 30 + k) for k, n in enumerate(sorted(names))}
    )


def test_train_and_val_are_trained_on_and_a_shape_in_two_splits_is_in_both(tmp_path: Path):
    assert [(shape.id, shape.label) for shape in read(small(tmp_path))] == [
        (f"train/{CHAIR}/a", 4),
        (f"train/{CHAIR}/both", 4),
        (f"train/{MUG}/a", 11),
        (f"test/{CHAIR}/both", 4),
        (f"test/{MUG}/b", 11),
    ]


def test_the_leak_can_be_taken_out_of_train(tmp_path: Path):
    ids = [shape.id for shape in read(small(tmp_path), overlap="drop")]
    assert f"train/{CHAIR}/both" not in ids
    assert f"test/{CHAIR}/both" in ids


def test_val_can_be_left_out(tmp_path: Path):
    assert f"train/{MUG}/a" not in [shape.id for shape in read(small(tmp_path), train="train")]


def test_the_audit_counts_the_leak(tmp_path: Path):
    found = shapenetpart.audit(small(tmp_path), shapenetpart.Config())
    assert found["counts"] == {"train": 2, "val": 1, "test": 2}
    assert found["overlaps"] == {"train & val": 0, "train & test": 1, "val & test": 0}
    assert found["leaked_test_shapes"] == [f"{CHAIR}/both"]
    assert found["train_and_val"] == 3


def test_points_are_normalised_and_then_drawn_with_replacement_with_their_parts(tmp_path: Path):
    given = rows([36, 37], 40)
    raw = write(tmp_path / "raw", {"train": [f"{MUG}/a"]}, {f"{MUG}/a": given})
    (shape,) = read(raw)
    assert shape.points.shape == (2048, 3)
    assert shape.part is not None
    points = given[:, :3].round(6) - given[:, :3].round(6).mean(axis=0)
    points /= np.linalg.norm(points, axis=1).max()
    nearest = np.linalg.norm(shape.points[:, None] - points[None], axis=2).argmin(axis=1)
    np.testing.assert_allclose(shape.points, points[nearest], atol=1e-6)
    assert shape.part.tolist() == given[nearest, 6].tolist()
    assert set(nearest) == set(range(40))


def test_the_draw_is_the_same_every_time_and_its_own_for_each_shape(tmp_path: Path):
    raw = write(
        tmp_path / "raw", {"train": [f"{MUG}/a", f"{MUG}/b"]}, {f"{MUG}/{t}": rows([36], 40) for t in ("a", "b")}
    )
    one, other = read(raw)
    again, _ = read(raw)
    np.testing.assert_array_equal(one.points, again.points)
    assert not np.array_equal(one.points, other.points)


@pytest.mark.parametrize("bad", [[36, 20], [36.5], [50]])
def test_a_part_of_another_category_is_set_aside(bad: list[int], tmp_path: Path):
    raw = write(tmp_path / "raw", {"train": [f"{MUG}/a"]}, {f"{MUG}/a": rows(bad)})
    (found,) = shapenetpart.read(raw, shapenetpart.Config())
    assert isinstance(found, SetAside)
    assert "outside 36..37 of Mug" in found.why


def test_other_categories_in_the_table_are_a_problem(tmp_path: Path):
    raw = small(tmp_path)
    (raw / "synsetoffset2category.txt").write_text(f"Mug\t{MUG}\nChair\t{CHAIR}\n")
    with pytest.raises(Problem, match="synsetoffset2category"):
        read(raw)


def test_an_entry_that_leaves_the_folder_is_refused(tmp_path: Path):
    raw = write(tmp_path / "raw", {"train": [f"{MUG}/.."]}, {})
    with pytest.raises(Problem, match="shuffled_train_file_list"):
        read(raw)


def test_hdf5_is_read_in_the_order_of_the_numbers(tmp_path: Path):
    folder = tmp_path / "hdf5_data"
    folder.mkdir()
    for name, label in (*((f"train{number}", number) for number in range(11)), ("val0", 11), ("test0", 15)):
        first = list(shapenetpart.CATEGORIES.values())[label].first
        with h5py.File(folder / f"ply_data_{name}.h5", "w") as file:
            file["data"] = np.random.default_rng(label).normal(size=(1, 2048, 3)).astype(np.float32)
            file["label"] = np.array([[label]], np.uint8)
            file["pid"] = np.full((1, 2048), first, np.uint8)
    shapes = read(tmp_path, normalise="none", points=None, sample="first")
    assert [(shape.label, shape.split) for shape in shapes] == [*((k, "train") for k in range(12)), (15, "test")]
    with h5py.File(folder / "ply_data_test0.h5") as file:
        np.testing.assert_array_equal(shapes[-1].points, file["data"][0])
    assert [shape.label for shape in read(tmp_path, train="train")] == [*range(11), 15]
    (folder / "ply_data_train7.h5").unlink()
    with pytest.raises(Problem, match=r"ply_data_train7\.h5: no such file, and 10 others"):
        read(tmp_path)


def test_sixteen_categories_have_fifty_parts_without_gaps():
    bounds = [(category.first, category.last) for category in shapenetpart.CATEGORIES.values()]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 49
    assert all(before[1] + 1 == after[0] for before, after in pairwise(bounds))
    assert len(shapenetpart.PARTS) == 50
    assert shapenetpart.PARTS[8] == "Car 0"


@pytest.mark.skipif(not REAL, reason="JEPA3D_REAL_DATA is not set")
def test_the_real_sample_is_read_and_its_missing_file_is_set_aside():
    raw = Path(REAL or "") / "shapenetpart_sample"
    found = list(shapenetpart.read(raw, shapenetpart.Config()))
    shapes = [shape for shape in found if isinstance(shape, Shape)]
    assert [shape.id.split("/", 1)[0] for shape in shapes] == ["train", "train", "test", "test"]
    for shape in shapes:
        category = shapenetpart.CATEGORIES[shapenetpart.NAMES[shape.label]]
        assert shape.part is not None
        assert set(np.unique(shape.part)) <= set(range(category.first, category.last + 1))
    assert {entry.id.rsplit("/", 1)[1] for entry in found if isinstance(entry, SetAside)} == {
        "212e0563473156e255483301a044235"
    }
