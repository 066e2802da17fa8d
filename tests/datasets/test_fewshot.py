"""Few-shot folds: Point-BERT's pickles, written here, and folds drawn from ModelNet40."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, fewshot
from jepa3d.problem import Problem


def write(folder: Path, fold: int = 0, train: int = 10, test: int = 100, change: Any = None) -> None:
    """A 5-way 2-shot fold over the classes 7, 3, 0, 39, 12; the new labels are 0..4 in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    cloud = np.random.default_rng(fold).normal(size=(8192, 6)).astype(np.float32)
    old = [7, 3, 0, 39, 12]
    content = {
        split: [(cloud, k % 5, np.int64(old[k % 5])) for k in range(count)]
        for split, count in (("train", train), ("test", test))
    } | (change or {})
    (folder / f"{fold}.pkl").write_bytes(pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core."))


def read(raw: Path, **entry: Any) -> list[Shape | SetAside]:
    return list(fewshot.read(raw, fewshot.Config(**{"shot": 2, "points": 16, **entry})))


@pytest.mark.parametrize(
    "spelling", ["5way_2shot", "5way2shot", "ModelNetFewshot/5way_2shot", "data/ModelNetFewshot/5way2shot"]
)
def test_both_spellings_of_the_folder_are_found(spelling: str, tmp_path: Path):
    write(tmp_path / spelling, 3)
    shapes = [shape for shape in read(tmp_path, fold=3) if isinstance(shape, Shape)]
    assert Counter(shape.split for shape in shapes) == {"train": 10, "test": 100}
    assert shapes[0].id == "5way_2shot/3/train/0000"
    assert [shape.label for shape in shapes[:6]] == [7, 3, 0, 39, 12, 7]


def test_all_ten_folds_are_one_data_set(tmp_path: Path):
    for fold in range(10):
        write(tmp_path / "5way_2shot", fold)
    ids = [shape.id for shape in read(tmp_path)]
    assert len(ids) == len(set(ids)) == 1100


def test_a_fold_of_another_size_is_named(tmp_path: Path):
    write(tmp_path / "5way_2shot", train=9)
    with pytest.raises(Problem, match=r"0\.pkl: 9 shapes under 'train', expected 10"):
        read(tmp_path, fold=0)


def test_a_row_that_is_no_shape_is_set_aside(tmp_path: Path):
    good = (np.zeros((8192, 6), np.float32) + np.arange(6, dtype=np.float32), 0, 7)
    write(tmp_path / "5way_2shot", change={"train": [good] * 8 + [("cloud", 0, 7), (good[0], 0, 99)]})
    aside = [shape for shape in read(tmp_path, fold=0) if isinstance(shape, SetAside)]
    assert [entry.id[-4:] for entry in aside] == ["0008", "0009"]


@pytest.mark.parametrize(
    "row", ["text", 7, None, (), ("cloud", 0, 7), (np.zeros((8, 6)), 0, "x"), (np.zeros((8, 6)), 0, [[1], [2, 3]]),
            (np.zeros((8, 6)), 0, 99), (np.zeros((8, 6)), 0, True), (np.zeros((8, 6)), 0, {"a": 1})],
)  # fmt: skip
def test_a_row_that_is_no_shape_is_set_aside_and_the_audit_goes_on(row: Any, tmp_path: Path):
    good = (np.zeros((8192, 6), np.float32) + np.arange(6, dtype=np.float32), 0, 7)
    write(tmp_path / "5way_2shot", change={"train": [row, *[good] * 9]})
    aside = [shape.id[-4:] for shape in read(tmp_path, fold=0) if isinstance(shape, SetAside)]
    assert aside == ["0000"]
    found = fewshot.audit(tmp_path, fewshot.Config(shot=2, fold=0))
    assert found["fold_classes"] == {"0": [fewshot.FORTY[7]]}


def modelnet(raw: Path) -> None:
    """Seven classes with 25 shapes per split; shape k of class c is the point (c, k, split)."""
    folder = raw / "modelnet40_ply_hdf5_2048"
    folder.mkdir(parents=True)
    for number, split in enumerate(("train", "test")):
        cells = [(c, k) for k in range(25) for c in range(7)]
        with h5py.File(folder / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = np.array([np.tile([c, k, number], (32, 1)) for c, k in cells], np.float32)
            file["label"] = np.array([[c] for c, _ in cells], np.uint8)


def test_absent_folds_are_drawn_from_modelnet40(tmp_path: Path):
    modelnet(tmp_path)
    shapes = [shape for shape in read(tmp_path, fold=1) if isinstance(shape, Shape)]
    assert fewshot.locate(tmp_path, fewshot.Config(shot=2)).layout == "drawn from hdf5"
    train = Counter(shape.label for shape in shapes if shape.split == "train")
    test = Counter(shape.label for shape in shapes if shape.split == "test")
    assert set(train.values()) == {2}
    assert set(test.values()) == {20}
    assert set(train) == set(test)
    assert len(train) == 5
    for shape in shapes:
        assert shape.points[0].tolist()[0] == shape.label
        assert shape.points[0].tolist()[2] == (shape.split == "test")
    assert len({(shape.split, *shape.points[0].tolist()) for shape in shapes}) == len(shapes)


def test_a_drawn_fold_depends_on_the_seed_the_setting_and_its_number(tmp_path: Path):
    modelnet(tmp_path)
    points = lambda **entry: [s.points[0].tolist() for s in read(tmp_path, **entry)]  # type: ignore[union-attr]  # noqa: E731
    assert points(fold=1) == points(fold=1)
    assert points()[110:220] == points(fold=1)
    assert points(fold=1) != points(fold=2)
    assert points(fold=1) != points(fold=1, seed=1)


def test_too_few_shapes_for_a_fold_are_a_problem(tmp_path: Path):
    modelnet(tmp_path)
    with pytest.raises(Problem, match="only 0 classes have 10 train and 30 test shapes"):
        read(tmp_path, shot=10, queries=30, fold=0)


def test_neither_pickles_nor_modelnet40_is_a_problem_that_names_both_spellings(tmp_path: Path):
    with pytest.raises(Problem) as caught:
        read(tmp_path)
    assert "5way_2shot, 5way2shot" in caught.value.why
    assert "ply_data_train" in caught.value.why


def test_drawing_can_be_forbidden(tmp_path: Path):
    modelnet(tmp_path)
    with pytest.raises(Problem, match="no layout"):
        read(tmp_path, source="pickles")


def test_some_of_the_folds_are_no_reason_to_draw_all_of_them(tmp_path: Path):
    modelnet(tmp_path)
    for fold in (0, 1, 3):
        write(tmp_path / "5way_2shot", fold)
    with pytest.raises(Problem, match=r"2\.pkl: no such file, and 3 of the 10 folds are there"):
        read(tmp_path)
    assert len(read(tmp_path, fold=3)) == 110
    assert fewshot.locate(tmp_path, fewshot.Config(shot=2, source="drawn")).layout == "drawn from hdf5"
