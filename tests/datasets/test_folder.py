"""The user's own data: layouts, draws that depend on nothing but the seed and the path, and bad input."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.problem import Problem

REAL = os.environ.get("JEPA3D_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="JEPA3D_REAL_DATA names no folder with the real data")


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting processes takes longer than these tests; the one that is about them asks for two."""
    monkeypatch.setenv("JEPA3D_THREADS", "1")


def config(root: Path, **options: Any) -> folder.Config:
    return folder.Config(**{"root": str(root), "points": 8, **options})


def read(root: Path, **options: Any) -> tuple[list[Shape], dict[str, str]]:
    """The shapes, and why the others were set aside."""
    found = list(folder.read(root, config(root, **options)))
    aside = {entry.id: entry.why for entry in found if isinstance(entry, SetAside)}
    return [entry for entry in found if isinstance(entry, Shape)], aside


def classes(root: Path, **options: Any) -> tuple[str, ...]:
    return folder.classes(root, config(root, **options))


def cloud(number: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(number, 3)).astype(np.float32)


def fill(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, cloud(seed=seed))
    return root


# ------------------------------------------------------------------------------------------------------ layouts


def test_train_and_test_with_classes(tmp_path: Path) -> None:
    fill(tmp_path, "train/dog/1.npy", "train/cup/deep/er/2.npy", "test/cup/1.npy", "test/dog/1.npy")
    shapes, aside = read(tmp_path)
    assert classes(tmp_path) == ("cup", "dog")
    assert [(s.id, s.label, s.split) for s in shapes] == [
        ("test/cup/1.npy", 0, "test"),
        ("test/dog/1.npy", 1, "test"),
        ("train/cup/deep/er/2.npy", 0, "train"),
        ("train/dog/1.npy", 1, "train"),
    ]
    assert not aside


def test_classes_with_train_and_test_inside(tmp_path: Path) -> None:
    fill(tmp_path, "cup/train/1.npy", "cup/test/2.npy")
    assert [(s.id, s.label, s.split) for s in read(tmp_path)[0]] == [
        ("cup/test/2.npy", 0, "test"),
        ("cup/train/1.npy", 0, "train"),
    ]


def test_a_flat_folder_is_unlabelled_and_for_training(tmp_path: Path) -> None:
    fill(tmp_path, "b.npy", "a.npy", ".hidden.npy", ".cache/c.npy")
    (tmp_path / "notes.md").write_text("not a cloud")
    assert classes(tmp_path) == ()
    assert [(s.id, s.label, s.split) for s in read(tmp_path)[0]] == [("a.npy", -1, "train"), ("b.npy", -1, "train")]


def test_train_and_test_without_classes_are_unlabelled(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.npy", "test/a.npy")
    assert [(s.label, s.split) for s in read(tmp_path)[0]] == [(-1, "test"), (-1, "train")]


def test_a_split_that_is_missing_is_drawn_within_each_class(tmp_path: Path) -> None:
    fill(tmp_path, *(f"cup/{i}.npy" for i in range(10)), *(f"dog/{i}.npy" for i in range(3)))
    counts = Counter((s.label, s.split) for s in read(tmp_path)[0])
    assert counts == {(0, "train"): 8, (0, "test"): 2, (1, "train"): 2, (1, "test"): 1}
    assert Counter(s.split for s in read(tmp_path, test_fraction=0.0)[0]) == {"train": 13}
    assert Counter(s.split for s in read(tmp_path, split="test")[0]) == {"test": 13}
    assert {s.id for s in read(tmp_path)[0] if s.split == "test"} != {
        s.id for s in read(tmp_path, seed=1)[0] if s.split == "test"
    }


def test_loose_files_beside_folders_must_be_explained(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy", "stray.npy")
    with pytest.raises(Problem, match=r"stray\.npy"):
        read(tmp_path)
    shapes, aside = read(tmp_path, labels="folders")
    assert [s.label for s in shapes] == [0, 0]
    assert aside == {"stray.npy": "lies outside the class folders"}
    shapes, aside = read(tmp_path, labels="none")
    assert [s.label for s in shapes] == [-1, -1, -1]
    assert not aside


def test_a_loose_text_is_no_reason_to_doubt_the_classes(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy")
    (tmp_path / "README.txt").write_text("two cups")
    shapes, aside = read(tmp_path)
    assert len(shapes) == 2
    assert aside == {"README.txt": "holds words, and no points"}


def test_a_collection_without_order_is_unlabelled(tmp_path: Path) -> None:
    fill(tmp_path, "a.npy", "b/c.npy", "d/e/f.npy")
    assert [s.label for s in read(tmp_path)[0]] == [-1, -1, -1]


def test_links_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1.npy", "2.npy")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cup").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert [s.id for s in read(root)[0]] == ["cup/1.npy", "cup/2.npy"]


def test_one_file_with_labels_parts_and_split(tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    np.savez(
        path,
        points=np.stack([cloud(seed=i) for i in range(4)]).astype(np.float16),
        label=[1, 0, 1, 0],
        class_names=["cup", "dog"],
        part_label=np.arange(32).reshape(4, 8) % 3,
        part_names=["cup/lid", "cup/body", "dog/dog"],
        split=["train", "train", "test", "test"],
    )
    shapes, _ = read(path)
    assert classes(path) == ("cup", "dog")
    assert folder.parts(path, config(path)) == ("cup/lid", "cup/body", "dog/dog")
    assert folder.count(path, config(path)) == 4
    assert [(s.id, s.label, s.split) for s in shapes] == [
        ("all.npz#000000", 1, "train"),
        ("all.npz#000001", 0, "train"),
        ("all.npz#000002", 1, "test"),
        ("all.npz#000003", 0, "test"),
    ]
    assert shapes[1].part is not None
    assert shapes[1].part.tolist() == [2, 0, 1, 2, 0, 1, 2, 0]


def test_h5_files_of_many_clouds_in_a_flat_folder_keep_their_labels(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.stack([cloud(seed=i) for i in range(4)])
            file["label"] = np.array([[0], [0], [1], [1]])
    shapes, _ = read(tmp_path)
    assert classes(tmp_path) == ("0", "1")
    assert Counter((s.label, s.split) for s in shapes) == {
        (0, "train"): 3, (0, "test"): 1, (1, "train"): 3, (1, "test"): 1,
    }  # fmt: skip


def test_forged_data_are_read_whole(tmp_path: Path) -> None:
    folder.forge(tmp_path)
    shapes, aside = read(tmp_path, points=2048)
    assert not aside
    assert Counter((s.label, s.split) for s in shapes) == {
        (label, split): 9 for label in (0, 1) for split in ("train", "test")
    }
    assert folder.count(tmp_path, config(tmp_path)) == len(shapes)


# ----------------------------------------------------------------------------------------------- points and draws


def test_up_becomes_y(tmp_path: Path) -> None:
    tower = np.array([[0, 0, 9], [1, 0, 0], [0, 2, 0]], np.float32)  # z is up
    np.save(tmp_path / "a.npy", tower)
    assert read(tmp_path, points=3, normalise="none", up="z")[0][0].points.tolist() == [
        [0, 9, 0],
        [1, 0, 0],
        [0, 0, -2],
    ]
    np.save(tmp_path / "a.npy", tower[:, [2, 0, 1]])  # x is up
    turned = read(tmp_path, points=3, normalise="none", up="x")[0][0].points
    assert turned[0].tolist() == [0, 9, 0]


@given(seed=st.integers(0, 99), up=st.sampled_from("xyz"))
def test_turning_is_a_rotation(seed: int, up: str) -> None:
    points = cloud(5, seed).astype(np.float64)
    turned = folder.placed(points, config(Path(), up=up, normalise="none"))
    np.testing.assert_allclose(turned @ turned.T, points @ points.T, atol=1e-5)
    assert np.linalg.det(turned[:3]) == pytest.approx(np.linalg.det(points[:3]), abs=1e-4)


@settings(deadline=None)  # the first call compiles
@given(
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_the_unit_sphere_is_reached_from_any_size(seed: int, scale: float, kind: Any) -> None:
    points = folder.placed((cloud(50, seed) * scale).astype(kind), config(Path()))
    assert np.abs(points.mean(0)).max() < 1e-6
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-6)


def test_coordinates_far_from_the_origin_keep_their_digits() -> None:
    near = cloud(50).astype(np.float64)
    far = folder.placed(near + np.array([4.5e6, 0.0, 5.2e6]), config(Path()))  # metres, as in a survey
    np.testing.assert_allclose(far, folder.placed(near, config(Path())), atol=1e-6)


def test_an_equal_count_keeps_the_order_and_a_larger_one_gives_a_subset_without_repeats(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud(8))
    np.save(tmp_path / "b.npy", cloud(100))
    equal, larger = read(tmp_path, normalise="none")[0]
    assert (equal.points == cloud(8)).all()
    rows = [np.flatnonzero((cloud(100) == point).all(1)).item() for point in larger.points]
    assert len(set(rows)) == 8
    assert rows != sorted(rows)


def test_too_few_points_are_set_aside_unless_upsampling_is_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud(5))
    assert read(tmp_path)[1] == {
        "a.npy": "has 5 points, 8 are wanted: lower 'points', or say 'upsample: true'",
    }
    points = read(tmp_path, upsample=True, normalise="none")[0][0].points
    assert (points[:5] == cloud(5)).all()
    assert {tuple(point) for point in points.tolist()} == {tuple(point) for point in cloud(5).tolist()}


def test_a_draw_depends_on_nothing_but_the_seed_and_the_path(tmp_path: Path) -> None:
    def build(root: Path, *extra: str) -> dict[str, bytes]:
        root.mkdir()
        np.save(root / "m.npy", cloud(30))
        trimesh.creation.box().export(root / "n.off")
        fill(root, *extra)
        return {s.id: s.points.tobytes() for s in read(root)[0]}

    alone, among = build(tmp_path / "1"), build(tmp_path / "2", "a.npy", "z.npy")
    assert alone == {name: among[name] for name in alone}
    other = {s.id: s.points.tobytes() for s in read(tmp_path / "1", seed=1)[0]}
    assert all(other[name] != alone[name] for name in alone)


def test_two_workers_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", cloud(30, number))
    (tmp_path / "a.xyz").write_text("1 2 3\n" * 9)
    one = read(tmp_path)
    monkeypatch.setenv("JEPA3D_THREADS", "2")
    two = read(tmp_path)
    assert [(s.id, s.points.tobytes()) for s in one[0]] == [(s.id, s.points.tobytes()) for s in two[0]]
    assert one[1] == two[1] == {"a.xyz": "all its points are the same"}


# ------------------------------------------------------------------------------------------------------ bad input


def test_damaged_shapes_among_good_ones_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    fill(tmp_path, "good.npy")
    holed, boundless = cloud(), cloud()
    holed[3, 1], boundless[0, 0] = np.nan, np.inf
    np.save(tmp_path / "nan.npy", holed)
    np.save(tmp_path / "inf.npy", boundless)
    np.save(tmp_path / "same.npy", np.full((8, 3), 0.1))
    np.save(tmp_path / "large.npy", cloud().astype(np.float64) * 1e200)
    (tmp_path / "empty.ply").write_bytes(b"")
    (tmp_path / "line.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (tmp_path / "nan.off").write_text("OFF\n3 1 0\n0 0 0\n1 nan 0\n2 0 1\n3 0 1 2\n")
    (tmp_path / "cut.off").write_text("OFF\n3 2 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (tmp_path / "really.obj").write_bytes((tmp_path / "good.npy").read_bytes())
    shapes, aside = read(tmp_path, normalise="none")
    assert [s.id for s in shapes] == ["good.npy"]
    assert aside == {
        "cut.off": "a damaged or wrong .off file: it announces 3 vertices and 2 faces, 4 lines follow",
        "empty.ply": "is empty",
        "inf.npy": "has NaN or infinite coordinates",
        "large.npy": "its coordinates are too large for float32",
        "line.off": "its surface has no area",
        "nan.npy": "has NaN or infinite coordinates",
        "nan.off": "a damaged or wrong .off file: vertex 2 has a coordinate that is not finite",
        "really.obj": "a damaged or wrong .obj file: it begins like a .npy file",
        "same.npy": "all its points are the same",
    }


def test_a_damaged_row_of_a_file_of_many_is_set_aside_alone(tmp_path: Path) -> None:
    points = np.stack([cloud(seed=i) for i in range(3)])
    points[1, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", points=points)
    shapes, aside = read(tmp_path)
    assert [s.id for s in shapes] == ["a.npz#000000", "a.npz#000002"]
    assert list(aside) == ["a.npz#000001"]


def test_a_file_of_many_that_breaks_off_is_set_aside_whole(tmp_path: Path) -> None:
    fill(tmp_path, "good.npy")
    np.savez(tmp_path / "a.npz", points=np.stack([cloud()] * 3))
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:150])
    shapes, aside = read(tmp_path)
    assert [s.id for s in shapes] == ["good.npy"]
    assert list(aside) == ["a.npz"]


def test_a_folder_with_no_usable_file_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no usable file"):
        read(tmp_path)
    (tmp_path / "photo.jpeg").write_bytes(b"")
    with pytest.raises(Problem, match=r"1 others, such as photo.jpeg"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("train/cup/1.npy", "train/dog/1.npy", "test/cup/1.npy"), "'dog' is in train only"),
        (("train/cup/1.npy", "test/dog/1.npy", "test/cup/1.npy"), "'dog' is in test only"),
        (("cup/1.npy", "cup/2.npy", "dog/1.npy"), "'dog' has a single shape"),
    ],
)
def test_a_class_that_only_one_split_has_is_found_before_reading(tmp_path: Path, names: Any, what: str) -> None:
    with pytest.raises(Problem, match=what) as caught:
        read(fill(tmp_path, *names))
    assert caught.value.why
    assert caught.value.mend
    assert len(read(tmp_path, split="train")[0]) == 3


def test_files_that_disagree_on_the_class_names_are_a_problem(tmp_path: Path) -> None:
    for name, names in (("a", ["cup", "dog"]), ("b", ["dog", "cup"])):
        np.savez(tmp_path / f"{name}.npz", points=np.stack([cloud()] * 2), label=[0, 1], class_names=names)
    with pytest.raises(Problem, match="do not agree on the names of the classes"):
        read(tmp_path)


def test_the_config_wants_a_root_and_knows_its_keys() -> None:
    with pytest.raises(ValidationError, match="root"):
        folder.Config()  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="upsampel"):
        folder.Config(root="x", upsampel=True)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------------ real data


@needs_real
@pytest.mark.parametrize(
    ("name", "number", "train", "labels", "parts"),
    [
        ("generic_shapes", 978, 691, 52, 0),
        ("unlabelled_objects", 999, 999, 0, 0),
        ("labelled_parts.npz", 380, 228, 19, 94),
        ("modelnet_off_sample", 15, 15, 0, 0),
        ("modelnet_off_sample/ModelNet10", 5, 5, 1, 0),
    ],
)
def test_the_real_data_are_read_whole(name: str, number: int, train: int, labels: int, parts: int) -> None:
    root = Path(REAL or "") / name
    shapes, aside = read(root, points=1024)
    assert not aside
    assert len(shapes) == number == folder.count(root, config(root))
    assert sum(s.split == "train" for s in shapes) == train
    assert len(classes(root)) == labels
    assert len(folder.parts(root, config(root))) == parts
    assert all((s.part is not None) == bool(parts) for s in shapes)
    assert all(-1 <= s.label < labels for s in shapes)


def test_pixels_without_a_measurement_are_left_out_and_counted(tmp_path: Path) -> None:
    points = cloud().astype("<f4")
    holes = np.insert(points, [0, 5], np.nan, axis=0)
    head = f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH {len(holes) // 2}\nHEIGHT 2\nDATA binary\n"
    (tmp_path / "image.pcd").write_bytes(head.encode() + holes.tobytes())
    fill(tmp_path, "whole.npy")
    shapes, aside = read(tmp_path)
    assert not aside
    assert {shape.id: shape.missing for shape in shapes} == {"image.pcd": 2, "whole.npy": 0}
