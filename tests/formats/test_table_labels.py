"""Labels, parts, splits and names in tables of many clouds: read as they are, or refused with the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.formats import tables
from jepa3d.problem import Problem

N, P = 6, 8


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")


def points() -> Any:
    return np.random.default_rng(3).normal(size=(N, P, 3)).astype(np.float32)


@pytest.fixture(params=[".h5", ".npz"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """write(**arrays) -> the path of a table that has them, and points where none are given."""

    def write(**arrays: Any) -> Path:
        arrays = {"points": points(), **arrays}
        path = tmp_path / f"table{request.param}"
        if request.param == ".npz":
            np.savez(path, **arrays)
            return path
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                value = np.asarray(value)
                file.create_dataset(key, data=value.astype(h5py.string_dtype()) if value.dtype.kind in "USO" else value)
        return path

    return write


def read(path: Path, **entry: Any) -> tuple[tuple[str, ...], list[Shape]]:
    config = folder.Config(**{"root": str(path), "points": P, "test_fraction": 0.0, **entry})
    found = list(folder.read(path, config))
    assert not [one for one in found if isinstance(one, SetAside)]
    return folder.classes(path, config), [one for one in found if isinstance(one, Shape)]


def labels(path: Path) -> list[str | None]:
    """The name of each shape's class, by the way that everybody after `convert` goes."""
    names, shapes = read(path)
    assert [shape.id for shape in shapes] == [f"{path.name}#{row:06d}" for row in range(N)]
    return [names[shape.label] if shape.label >= 0 else None for shape in shapes]


GIVEN = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8", ">i4", ">u2"]
)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (1, N)])
def test_whole_numbers_of_every_type_and_shape_are_labels(write: Any, kind: str, shape: tuple[int, ...]) -> None:
    assert labels(write(label=np.array(GIVEN, kind).reshape(shape))) == [str(value) for value in GIVEN]


@pytest.mark.parametrize("kind", ["i1", "i8", "f4", "f8"])
def test_minus_one_is_unlabelled(write: Any, kind: str) -> None:
    assert labels(write(label=np.array([0, -1, 1, -1, 0, 1], kind))) == ["0", None, "1", None, "0", "1"]


def test_text_labels_are_the_names_of_the_classes(write: Any) -> None:
    given = ["dog", "cup", "dog", "Mo\u0308bel", "cup", "Möbel"]
    assert labels(write(label=given)) == ["dog", "cup", "dog", "Möbel", "cup", "Möbel"]
    assert labels(write(label=np.array([name.encode() for name in given]))) == [
        "dog",
        "cup",
        "dog",
        *["Möbel", "cup"] * 1,
        "Möbel",
    ]


def test_text_labels_follow_the_order_of_the_names_that_are_given(write: Any) -> None:
    names, shapes = read(write(label=["dog", "cup"] * 3, class_names=["dog", "cup", "ant"]))
    assert names == ("dog", "cup", "ant")
    assert [shape.label for shape in shapes] == [0, 1] * 3


@pytest.mark.parametrize("given", [[1, 2, 3] * 2, [7, 3, 5] * 2, [2691156, 3001627, 10**9] * 2, [2**40, 5, 2**53] * 2])
def test_the_classes_are_the_labels_that_occur(write: Any, given: list[int]) -> None:
    path = write(label=np.array(given))
    assert labels(path) == [str(value) for value in given]
    assert len(read(path)[0]) == 3


def test_names_that_are_given_stay_though_no_shape_has_them(write: Any) -> None:
    assert read(write(label=GIVEN, class_names=list("abcdef")))[0] == tuple("abcdef")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one-hot": ({"label": np.eye(3)[GIVEN]}, "one-hot"),
    "one too few": ({"label": GIVEN[:-1]}, r"shape \[5\] for 6 clouds"),
    "one too many": ({"label": [*GIVEN, 0]}, r"shape \[7\] for 6 clouds"),
    "one for each point": ({"label": np.zeros((N, P), int)}, r"shape \[6, 8\]"),
    "below -1": ({"label": [0, 1, -2, 0, 1, 2]}, "holds -2"),
    "halves": ({"label": [0, 0.5, 1, 0, 1, 2]}, r"holds 0\.5"),
    "NaN": ({"label": [0, np.nan, 1, 0, 1, 2]}, "holds nan"),
    "infinite": ({"label": [0, np.inf, 1, 0, 1, 2]}, "holds inf"),
    "beyond exact doubles": ({"label": [0, 2.0**60, 1, 0, 1, 2]}, "whole numbers"),
    "beyond int64": ({"label": np.array([0, 2**64 - 1, 1, 0, 1, 2], np.uint64)}, "whole numbers"),
    "bool": ({"label": np.array(GIVEN) > 0}, "bool"),
    "complex": ({"label": np.array(GIVEN) * 1j}, "."),
    "an empty text": ({"label": ["cup", "", "dog"] * 2}, "empty text"),
    "fewer names than labels": ({"label": GIVEN, "class_names": ["a", "b"]}, "holds 2, and 2 names"),
    "labels from 1": ({"label": [1, 2, 3] * 2, "class_names": ["a", "b", "c"]}, "holds 3, and 3 names"),
    "a text without a name": ({"label": ["cup", "dog", "ant"] * 2, "class_names": ["cup", "dog"]}, "'ant'"),
    "names twice": ({"label": GIVEN, "class_names": ["a", "b", "a"]}, "'a' twice"),
    "names that are numbers": ({"label": GIVEN, "class_names": [10, 20, 30]}, "expected text"),
    "two labels": ({"label": GIVEN, "labels": GIVEN[::-1]}, "both 'label' and 'labels'"),
    "two points": ({"data": points() + 1}, "both 'points' and 'data'"),
    "splits one too few": ({"split": ["train"] * 5}, "5 entries for 6 clouds"),
    "splits by number": ({"split": [0, 0, 0, 1, 1, 1]}, "expected text"),
    "an unknown split": ({"split": ["train"] * 5 + ["holdout"]}, "holdout"),
    "parts of too few clouds": ({"part": np.zeros((5, P), int)}, r"shape \[5, 8\]"),
    "parts below -1": ({"part": np.full((N, P), -3)}, "holds -3"),
    "parts that are halves": ({"part": np.full((N, P), 0.5)}, r"holds 0\.5"),
    "parts without a name": ({"part": np.full((N, P), 2), "part_names": ["lid", "body"]}, "holds 2, and 2 names"),
    "points first": ({"points": np.moveaxis(np.zeros((40, P, 3)) + np.arange(40)[:, None, None], 0, -1)}, "points"),
    "coordinates first": ({"points": np.zeros((N, 3, 40)) + np.arange(40)}, "points"),
    "MATLAB's order": ({"points": np.zeros((3, 50, 40)) + np.arange(40)}, "another order"),
    "points of bool": ({"points": points() > 0}, "points"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_labels_are_refused_with_the_reason(write: Any, name: str, tmp_path: Path) -> None:
    arrays, why = REFUSED[name]
    path = write(**arrays)
    with pytest.raises(Problem, match=why) as caught:
        read(path)
    assert path.name in caught.value.what
    assert caught.value.why
    assert caught.value.mend
    np.save(tmp_path / "whole.npy", points()[0])  # nor is a folder read without it
    with pytest.raises(Problem, match=why):
        read(tmp_path)


def test_arrays_of_objects_are_refused_not_dropped(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=points(), label=np.array(["a", 1, None] * 2, object))
    with pytest.raises(Problem, match="'label' is an array of objects"):
        read(tmp_path / "a.npz")
    ragged = np.empty(2, object)
    ragged[:] = [points()[0], points()[0, :5]]
    np.savez(tmp_path / "b.npz", points=ragged)
    with pytest.raises(Problem, match="'points' is an array of objects"):
        tables.contents(tmp_path / "b.npz")


def test_hdf5_references_and_groups_are_refused(tmp_path: Path) -> None:
    for name in ("references", "group", "link"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["points"] = points()
            if name == "references":  # MATLAB's cells
                cells = file.create_dataset("label", (N,), h5py.ref_dtype)
                cells[:] = [file["points"].ref] * N
            elif name == "group":
                file.create_group("label")["a"] = GIVEN
            else:
                file["label"] = h5py.ExternalLink("other.h5", "/label")
        with pytest.raises(Problem, match="label"):
            read(tmp_path / f"{name}.h5")


def test_part_labels_keep_their_values_as_names_and_none_is_narrowed(write: Any) -> None:
    given = np.tile([40000, 3, -1, 70000, 3, 3, -1, 40000], (N, 1))
    path = write(part=given.astype(np.int64))
    config = folder.Config(root=str(path), points=P, normalise="none")
    names = folder.parts(path, config)
    shape = next(iter(folder.read(path, config)))
    assert isinstance(shape, Shape)
    assert shape.part is not None
    assert [names[part] if part >= 0 else "-1" for part in shape.part] == [str(value) for value in given[0]]
    assert names == ("3", "40000", "70000")


@pytest.mark.parametrize("kind", ["u1", "i4", "f8"])
def test_parts_of_every_type_are_read(write: Any, kind: str) -> None:
    given = np.random.default_rng(0).integers(0, 5, (N, P))
    given[0, :5] = range(5)
    _, shapes = read(write(part=given.astype(kind)), normalise="none")
    for shape, row in zip(shapes, given, strict=True):
        assert shape.part is not None
        assert shape.part.tolist() == row.tolist()


def test_a_single_cloud_keeps_its_parts_too(tmp_path: Path) -> None:
    for number, part in enumerate(([5, 5, 9, 9, 9, 5, 5, 5], [9, 9, 9, 9, 7, 7, 7, 7])):
        np.savez(tmp_path / f"{number}.npz", points=points()[number], part=np.array(part) * 10_000)
    config = folder.Config(root=str(tmp_path), points=P)
    names = folder.parts(tmp_path, config)
    found = [shape for shape in folder.read(tmp_path, config) if isinstance(shape, Shape) and shape.part is not None]
    assert [[int(names[part]) // 10_000 for part in shape.part] for shape in found if shape.part is not None] == [
        [5, 5, 9, 9, 9, 5, 5, 5],
        [9, 9, 9, 9, 7, 7, 7, 7],
    ]


def test_more_parts_than_the_canonical_file_holds_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros((2, 20_000, 3)), part=np.arange(40_000).reshape(2, 20_000))
    with pytest.raises(Problem, match="32,767"):
        tables.contents(tmp_path / "a.npz")


def test_splits_go_by_their_common_names(write: Any) -> None:
    path = write(label=[0, 1] * 3, split=["Train", "training", "TEST", "testing", "val", "validation"])
    config = folder.Config(root=str(path), points=P)
    found = list(folder.read(path, config))
    assert [(one.id[-1], one.split) for one in found if isinstance(one, Shape)] == [
        ("0", "train"),
        ("1", "train"),
        ("2", "test"),
        ("3", "test"),
    ]
    assert {one.id[-1] for one in found if isinstance(one, SetAside)} == {"4", "5"}
    assert "validation" in next(one.why for one in found if isinstance(one, SetAside))


def test_files_with_some_labels_each_have_their_classes_together(tmp_path: Path) -> None:
    """Each file alone knows a part of the classes."""
    given = {"a": [4, 2, 4], "b": [9, 2, 9], "c": [4, 9, 2]}
    for name, label in given.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"], file["label"] = points()[:3] + len(name), np.array(label, np.float64)[:, None]
    names, shapes = read(tmp_path)
    assert names == ("2", "4", "9")
    assert Counter(names[shape.label] for shape in shapes) == Counter(str(x) for label in given.values() for x in label)


def test_some_labels_of_text_and_others_of_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=points(), label=GIVEN)
    np.savez(tmp_path / "b.npz", points=points(), label=["x", "y"] * 3)
    with pytest.raises(Problem, match="labels of text, others numbers"):
        read(tmp_path)


def test_a_fault_in_the_labels_of_one_cloud_sets_it_aside_and_reads_no_part_of_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", points=points()[0], label=[0, 1])
    np.savez(tmp_path / "good.npz", points=points()[1], label=0)
    found = list(folder.read(tmp_path, folder.Config(root=str(tmp_path), points=P, test_fraction=0.0)))
    assert [one.id for one in found if isinstance(one, Shape)] == ["good.npz"]
    aside = [one for one in found if isinstance(one, SetAside)]
    assert [one.id for one in aside] == ["bad.npz"]
    assert "shape [2] for 1 clouds" in aside[0].why
