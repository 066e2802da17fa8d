"""Names, links and special files in a folder of shapes; lists of splits and what they name; repeated contents."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.formats import arrangement, listing, lists
from jepa3d.problem import Problem


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPA3D_THREADS", "1")


def fill(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32))
    return root


def read(root: Path, **entry: Any) -> tuple[list[Shape], dict[str, str]]:
    config = folder.Config(**{"root": str(root), "points": 8, **entry})
    found = list(folder.read(root, config))
    aside = {one.id: one.why for one in found if isinstance(one, SetAside)}
    return [one for one in found if isinstance(one, Shape)], aside


def audit(root: Path, **entry: Any) -> dict[str, Any]:
    return folder.audit(root, folder.Config(**{"root": str(root), "points": 8, **entry}))


# ---- names


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("TRAIN", "train"), ("Training", "train"), ("train_set", "train"), ("trainset", "train"),
        ("test", "test"), ("Testing", "test"), ("test-data", "test"), ("TestSet", "test"), ("val", "val"),
        ("valid", "val"), ("Validation", "val"), ("dev", "val"), ("train2", None), ("trains", None), ("chair", None),
        ("toy_train", None), ("train_test", None), ("test tube", None), ("contest", None), ("", None),
    ],
)  # fmt: skip
def test_which_names_are_splits(name: str, split: str | None) -> None:
    assert arrangement.plainly(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train2017", "test2017"], {"train2017": "train", "test2017": "test"}),
        (["01_train", "02_test"], {"01_train": "train", "02_test": "test"}),
        (["MN40_train", "MN40_test", "MN40_val"], {"MN40_train": "train", "MN40_test": "test", "MN40_val": "val"}),
        (["MN40_train", "MN40_test", "other"], {}),
        (["toy_train", "test_tube"], {}),
        (["toy_train", "chair"], {}),
    ],
)
def test_what_is_common_to_all_folders_of_splits_is_left_away(names: list[str], splits: dict[str, str]) -> None:
    assert arrangement.splits_of(names) == splits


def test_classes_whose_names_have_such_words_stay_classes(tmp_path: Path) -> None:
    names = [f"{name}/{k}.npy" for name in ("toy_train", "test_tube", "chair") for k in (1, 2)]
    assert folder.classes(fill(tmp_path, *names), folder.Config(root=str(tmp_path))) == (
        "chair",
        "test_tube",
        "toy_train",
    )


def test_a_name_that_is_not_utf8_is_set_aside_alone(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy", "cup/3.npy")
    (tmp_path / "cup/3.npy").rename(os.fsdecode(os.fsencode(tmp_path) + b"/cup/\xff.npy"))
    shapes, aside = read(tmp_path)
    assert len(shapes) == 2
    assert aside == {"cup/\\xff.npy": "its name is not UTF-8: rename it"}


def test_a_class_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy", "dog/1.npy")
    (tmp_path / "dog").rename(os.fsdecode(os.fsencode(tmp_path) + b"/d\xffg"))
    with pytest.raises(Problem, match=r"d\\xffg") as caught:
        read(tmp_path)
    str(caught.value).encode()


@pytest.mark.parametrize("kind", ["fifo", "socket", "nowhere"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy")
    path = tmp_path / "cup" / "3.npy"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to(tmp_path / "unmounted")
    shapes, aside = read(tmp_path)
    assert len(shapes) == 2
    assert list(aside) == ["cup/3.npy"]
    assert "link" in aside["cup/3.npy"] if kind == "nowhere" else "regular" in aside["cup/3.npy"]


def test_a_class_that_is_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "cup/2.npy")
    (tmp_path / "dog").symlink_to(tmp_path / "unmounted")
    assert read(tmp_path)[1] == {"dog": "is a link that leads nowhere"}


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "cup/1.npy", "dog/1.npy")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Problem, match="dog: cannot be read"):
        listing.of(tmp_path)


def test_links_upon_links_come_to_an_end(tmp_path: Path) -> None:
    """Thirty folders, each with two links to the next: 2^30 ways."""
    for number in range(30):
        (tmp_path / f"f{number}").mkdir()
        for name in "ab":
            (tmp_path / f"f{number}" / name).symlink_to(tmp_path / f"f{number + 1}")
    fill(tmp_path, "f30/1.npy")
    with pytest.raises(Problem, match="links lead to this folder"):
        listing.of(tmp_path / "f0")


NAMES = ["train", "Testing", "val", "cup", "dog", "ModelNet", "a"]
TREES = st.sets(st.lists(st.sampled_from(NAMES), max_size=4).map(tuple), min_size=1, max_size=8)


@settings(deadline=None, max_examples=400)
@given(folders=TREES, labels=st.sampled_from(["auto", "folders", "none"]), copies=st.integers(1, 2))
def test_no_tree_of_folders_has_its_test_shapes_trained_on(folders: Any, labels: str, copies: int) -> None:
    """Whatever the tree: what lies below a folder of tests, beside one for training, is for testing or is left out."""
    names = sorted("/".join((*folder, f"{k}.npy")) for folder in folders for k in range(copies))
    try:
        places = arrangement.arrange(names, labels, Path("/data")).places
    except Problem:
        return
    assert set(places) == set(names)
    beside = {step for name in names for step in above(name) if step[-1] == "train"}
    for name in names:
        for step in above(name):
            if step[-1] == "Testing" and (*step[:-1], "train") in beside and "train" not in step:
                place = places[name]
                assert place.split in ("test", "val") or place.outside or place.of_class == "Testing"


def above(name: str) -> list[tuple[str, ...]]:
    """Every folder over a file, as steps."""
    steps = name.split("/")[:-1]
    return [tuple(steps[:end]) for end in range(1, len(steps) + 1)]


# ---- train and test with the same content


def test_train_and_test_that_link_to_one_pool_are_both_read_and_the_audit_names_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fill(tmp_path / "pool", *(f"{name}/{k}.npy" for name in ("cup", "dog") for k in range(3)))
    for split in ("train", "test"):
        (root / split).symlink_to(tmp_path / "pool")
    shapes, aside = read(root)
    assert sorted((s.id, s.split) for s in shapes) == sorted(
        (f"{split}/{name}/{k}.npy", split) for split in ("train", "test") for name in ("cup", "dog") for k in range(3)
    )
    assert not aside
    found = audit(root)["in_both_splits"]
    assert (found["contents"], found["shapes"]) == (6, 12)
    assert ["test/cup/0.npy", "train/cup/0.npy"] in found["first"]


def test_copies_in_both_splits_and_in_two_classes_are_named(tmp_path: Path) -> None:
    fill(
        tmp_path, *(f"{split}/{name}/{k}.npy" for split in ("train", "test") for name in ("cup", "dog") for k in (1, 2))
    )
    (tmp_path / "test/cup/copy.npy").write_bytes((tmp_path / "train/cup/1.npy").read_bytes())
    (tmp_path / "train/dog/copy.npy").write_bytes((tmp_path / "train/cup/2.npy").read_bytes())
    found = audit(tmp_path)
    assert found["in_both_splits"]["first"] == [["test/cup/copy.npy", "train/cup/1.npy"]]
    assert found["in_two_classes"]["first"] == [["train/cup/2.npy", "train/dog/copy.npy"]]


def test_large_files_that_differ_in_one_byte_are_no_copies(tmp_path: Path) -> None:
    fill(tmp_path, "train/cup/1.npy", "test/cup/1.npy")
    big = np.random.default_rng(0).normal(size=(20_000, 3))
    for number, name in enumerate(("train/cup/2.npy", "test/cup/2.npy")):
        big[7_000, 1] = number  # in none of the pieces that are compared first
        np.save(tmp_path / name, big)
    assert audit(tmp_path)["in_both_splits"]["contents"] == 0
    np.save(tmp_path / "train/cup/2.npy", big)
    assert audit(tmp_path)["in_both_splits"]["first"] == [["test/cup/2.npy", "train/cup/2.npy"]]


def test_rows_of_tables_that_repeat_are_named(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(6, 8, 3)).astype(np.float32)
    points[5] = points[1]
    for name, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"], file["label"] = points[rows], np.arange(6)[rows] % 2
    config = folder.Config(root=str(tmp_path), points=8)
    surveyed = folder.Surveyed(tmp_path, config)
    assert len(list(surveyed.read(tmp_path, config))) == 6
    found = surveyed.audit(tmp_path, config)
    assert found["in_both_splits"]["first"] == [["test.h5#000001", "train.h5#000001"]]
    assert found["in_two_classes"]["contents"] == 0


# ---- lists


def test_the_layout_of_modelnet40_resampled_with_classes_of_ones_own(tmp_path: Path) -> None:
    """`<class>/<class>_0001.txt`, and lists of names without folder and ending."""
    split: dict[str, list[str]] = {"train": [], "test": []}
    for number, (name, k) in enumerate([(name, k) for name in ("coffee_pot", "tea_pot") for k in range(1, 6)]):
        id = f"{name}_{k:04d}"
        path = tmp_path / name / f"{id}.txt"
        path.parent.mkdir(exist_ok=True)
        np.savetxt(path, np.random.default_rng(number).normal(size=(8, 6)), "%.6f", delimiter=",")
        split["test" if k in (2, 5) else "train"].append(id)
    for name, ids in split.items():
        (tmp_path / f"my40_{name}.txt").write_text("\n".join(ids) + "\n")
    (tmp_path / "my40_shape_names.txt").write_text("coffee_pot\ntea_pot\n")
    (tmp_path / "filelist.txt").write_text("\n".join(f"{id[:-5]}/{id}.txt" for ids in split.values() for id in ids))
    shapes, aside = read(tmp_path)
    assert {Path(s.id).stem: s.split for s in shapes} == {id: name for name, ids in split.items() for id in ids}
    assert set(aside) <= {"filelist.txt"}
    assert audit(tmp_path)["split_from"] == "the lists my40_test.txt and my40_train.txt"


def test_json_lists_as_shapenetpart_has_them(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/{token}.npy" for name in ("0269", "0379") for token in ("a1", "b2")))
    (tmp_path / "train_test_split").mkdir()
    for name, token in (("train", "a1"), ("test", "b2")):
        text = f'["shape_data/0269/{token}", "shape_data/0379/{token}"]'
        (tmp_path / "train_test_split" / f"shuffled_{name}_file_list.json").write_text(text)
    shapes, aside = read(tmp_path)
    assert {s.id: s.split for s in shapes} == {
        "0269/a1.npy": "train", "0269/b2.npy": "test", "0379/a1.npy": "train", "0379/b2.npy": "test",
    }  # fmt: skip
    assert not aside


@pytest.mark.parametrize("entry", ["cup/1.npy 0", "cup/1.npy,0", "./cup/1.npy", "cup\\1.npy", "/data/x/cup/1.npy"])
def test_an_entry_may_have_a_label_or_another_root(entry: str, tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "dog/1.npy")
    (tmp_path / "train.txt").write_text(f"{entry}\n\n# the rest\n")
    found = lists.split_lists(["train.txt"], ["cup/1.npy", "dog/1.npy"], "", tmp_path)
    assert found.split == {"cup/1.npy": "train"}
    assert not found.absent


def test_an_entry_of_another_folder_names_nothing_here(tmp_path: Path) -> None:
    """`bird/1` is not `cup/1`, although both end alike."""
    (tmp_path / "train.txt").write_text("cup/1\nbird/1\n")
    found = lists.split_lists(["train.txt"], ["cup/1.npy"], "", tmp_path)
    assert found.absent == {"bird/1": "train.txt"}


def test_an_entry_that_may_be_two_files_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "cup/1.npy", "dog/1.npy", "cup/2.npy", "dog/2.npy")
    (tmp_path / "train.txt").write_text("1\n")
    (tmp_path / "test.txt").write_text("2\n")
    with pytest.raises(Problem, match=r"may be cup/\d\.npy or dog/\d\.npy"):
        read(tmp_path)


def test_lists_of_another_copy_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, *(f"cup/{k}.npy" for k in range(4)))
    (tmp_path / "train.txt").write_text("".join(f"cup/{k}\n" for k in range(300)))
    with pytest.raises(Problem, match="296 of the shapes that it and others list are not there"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("two cups\n", True), ("cup_0001\ncup_0002\n", True), ("1\n2\n3\n", True), ("", True), ("v 1 2 3\n", True),
        ("1 2 3\n", False), ("x y z\n0.1 0.2 0.3\n", False),
        ("# made by me\n\n 1;2;3\n", False), ("2048\n1,5 2,5 3,5", False),
        ("nan 0 1\n", False),
        ("1e-3\t-2.5E+4\t.5\t7", False), ("," * 4096, True), (" " * 4096 + "\n" * 4096, True),
        ("1," * 4096, False), ("1.2.3,," * 600, True),
    ],
)  # fmt: skip
def test_what_is_words_and_what_is_points(text: str, note: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    start = time.process_time()
    assert lists.is_note(tmp_path / "a.txt") == note
    assert time.process_time() - start < 0.2


def test_bytes_that_are_no_text_are_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)))
    assert not lists.is_note(tmp_path / "a.txt")


def test_a_cloud_of_text_whose_name_tells_a_split_stays_a_cloud(tmp_path: Path) -> None:
    for name in ("train", "other"):
        np.savetxt(tmp_path / f"{name}.txt", np.random.default_rng(0).normal(size=(8, 3)))
    shapes, aside = read(tmp_path)
    assert [s.id for s in shapes] == ["other.txt", "train.txt"]
    assert not aside


# ---- a zip of one folder


def test_a_zip_of_one_folder_is_looked_through(tmp_path: Path) -> None:
    """Unpacked by `download`, which is tested there, and leaves a file of its own."""
    fill(
        tmp_path / "in" / "MyNet",
        *(f"{n}/{s}/{k}.npy" for n in ("cup", "dog") for s in ("train", "test") for k in (1, 2)),
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.npy")):
            archive.write(path, path.relative_to(tmp_path / "in"))
            archive.writestr(f"__MACOSX/{path.relative_to(tmp_path / 'in').parent}/._{path.name}", b"x")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "out")
    (tmp_path / "out" / "SOURCE.json").write_text("{}")
    assert audit(tmp_path / "out")["passed_over"] == {"__MACOSX/": 0}
    shapes, _ = read(tmp_path / "out")
    assert {(s.id.split("/")[1], s.label, s.split) for s in shapes} == {
        (name, label, split) for label, name in enumerate(("cup", "dog")) for split in ("train", "test")
    }
