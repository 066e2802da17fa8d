"""ShapeNetPart: 16,881 listed shapes of 16 categories with 50 part labels.

    v0_normal  <synset>/<token>.txt, rows `x y z nx ny nz label`, about 2,600 points each, and
               train_test_split/shuffled_{train,val,test}_file_list.json
    hdf5       ply_data_{train0..5,val0,test0,test1}.h5: another resampling, which scores lower mIoU

A part label is global, 0 to 49. Two tokens exist under two synsets, so a shape is (synset, token), never the token.
The published lists overlap (train & val 9, train & test 23, val & test 3): read as sets, as every peer does, train +
val are 13,998, and 26 of the 2,874 test shapes are trained on. `overlap: drop` takes them out of the train split.

The field draws 2,048 points with replacement from all (normalised) points at every access; here they are drawn once,
with a seed that comes from the shape's id, so that train and test are the same for everybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from pydantic import PositiveInt

from jepa3d import parallel, progress
from jepa3d.datasets import Fetched, SetAside, Shape, Split
from jepa3d.datasets._shared import audits, canonical
from jepa3d.datasets._shared.canonical import Canonical
from jepa3d.fetch.source import Source
from jepa3d.formats import hdf5, roots, texts
from jepa3d.problem import Problem


class Category(NamedTuple):
    """One category: its synset, and its global part labels first..last."""

    synset: str
    first: int
    last: int


CATEGORIES = {  # label order
    "Airplane": Category("02691156", 0, 3),
    "Bag": Category("02773838", 4, 5),
    "Cap": Category("02954340", 6, 7),
    "Car": Category("02958343", 8, 11),
    "Chair": Category("03001627", 12, 15),
    "Earphone": Category("03261776", 16, 18),
    "Guitar": Category("03467517", 19, 21),
    "Knife": Category("03624134", 22, 23),
    "Lamp": Category("03636649", 24, 27),
    "Laptop": Category("03642806", 28, 29),
    "Motorbike": Category("03790512", 30, 35),
    "Mug": Category("03797390", 36, 37),
    "Pistol": Category("03948459", 38, 40),
    "Rocket": Category("04099429", 41, 43),
    "Skateboard": Category("04225987", 44, 46),
    "Table": Category("04379243", 47, 49),
}
NAMES = tuple(CATEGORIES)
PARTS = tuple(f"{name} {part - c.first}" for name, c in CATEGORIES.items() for part in range(c.first, c.last + 1))
LABELS = {category.synset: label for label, category in enumerate(CATEGORIES.values())}
COUNTS = {"train": 12137, "val": 1870, "test": 2874}
COUNTS_SETS = {"train": 13998, "test": 2874}
KNOWN_MD5 = {
    "v0_normal": {
        "shuffled_train_file_list.json": "9fcc5539b42f1dc6e3a414000566f615",
        "shuffled_val_file_list.json": "3355915d38641580c5cf632df8d393fe",
        "shuffled_test_file_list.json": "d0cba1c371c3c31455ca4bd1933a3b22",
    },
    "hdf5": {
        "ply_data_train0.h5": "e7152ff588ae6c87eb1156823df05855",
        "ply_data_train1.h5": "b4894a082211418b61b5a707fedb4f56",
        "ply_data_train2.h5": "508eeeee96053b90388520c37df3a8b8",
        "ply_data_train3.h5": "88574c3d5c61d0f3156b9e02cd6cda03",
        "ply_data_train4.h5": "418cb01104740bf1353b792331cb5878",
        "ply_data_train5.h5": "26e65c8827b08f7c340cd03f902e27e8",
        "ply_data_val0.h5": "628b4b3cbc17765de2114d104e51b9c9",
        "ply_data_test0.h5": "fa3fb32b179128ede32c2c948ed83efc",
        "ply_data_test1.h5": "5eb63ae378831c665282c8f22b6c1249",
    },
}
TERMS = "https://shapenet.org/terms"
ARCHIVE = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
BY_HAND = (
    f"get {ARCHIVE}.zip (674 MB; Stanford's host is often down, Kaggle has it as mitkir/shapenet) and name the file or "
    "its folder with 'root:'; or set accept_terms: true to try Stanford's host"
)
SOURCES = (
    Source(
        f"{ARCHIVE}.zip",
        (f"https://shapenet.cs.stanford.edu/media/{ARCHIVE}.zip",),
        TERMS,
        BY_HAND,
        unpacked=16 << 30,
    ),
)
HDF5_SOURCE = SOURCES[0]._replace(
    name="shapenet_part_seg_hdf5_data.zip",
    urls=("https://shapenet.cs.stanford.edu/media/shapenet_part_seg_hdf5_data.zip",),
    by_hand="get shapenet_part_seg_hdf5_data.zip (346 MB) and name the file or its folder with 'root:'",
)
LIST = "train_test_split/shuffled_{}_file_list.json"
LAYOUTS = {
    "v0_normal": tuple(LIST.format(name) for name in COUNTS),
    "hdf5": ("ply_data_train*.h5", "ply_data_test*.h5"),
}
BELOW = (ARCHIVE, f"ShapeNetPart/{ARCHIVE}", "hdf5_data", "ShapeNetPart/hdf5_data", "shapenet_part_seg_hdf5_data")
FOLDERS = (*BELOW, f"ShapeNetPart/ShapeNetPartNormal/{ARCHIVE}", *(f"data/{folder}" for folder in BELOW))
ROWS = 64
FEW = 64  # files are read here; more of them by several processes


class Config(Canonical, Fetched):
    """`train` says whether the val list is trained on, as the field does; `overlap` what becomes of train shapes that
    are test shapes too."""

    kind: Literal["shapenetpart"] = "shapenetpart"
    layout: Literal["auto", "v0_normal", "hdf5"] = "auto"
    train: Literal["trainval", "train"] = "trainval"
    overlap: Literal["keep", "drop"] = "keep"
    normalise: Literal["none", "unit_sphere"] = "unit_sphere"
    points: PositiveInt | None = 2048
    sample: Literal["first", "random", "with_replacement"] = "with_replacement"


class Item(NamedTuple):
    """One shape: its text file, or a row of an HDF5 file."""

    path: str
    row: int
    split: Split
    id: str  # v0_normal: <split>/<synset>/<token>, because a shape can be in both splits


def sources(config: Config) -> tuple[Source, ...]:
    return (HDF5_SOURCE,) if config.layout == "hdf5" else SOURCES


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return NAMES


def parts(raw: Path, config: Config) -> tuple[str, ...]:
    return PARTS


def locate(raw: Path, config: Config) -> roots.Located:
    layouts = {name: marks for name, marks in LAYOUTS.items() if config.layout in ("auto", name)}
    found = roots.find_layout(raw, layouts, FOLDERS)
    if found is None:
        raise roots.not_found(raw, layouts, FOLDERS, BY_HAND)
    name, folder = found
    lists = [folder / mark for mark in LAYOUTS["v0_normal"]] if name == "v0_normal" else []
    table = folder / "synsetoffset2category.txt"
    return roots.Located(name, folder, (*lists, table) if table.exists() else tuple(lists))


# ---- which shapes


def listed(found: roots.Located) -> dict[str, list[tuple[str, str]]]:
    """The three lists of v0_normal as (synset, token)."""
    lists = {}
    for name in COUNTS:
        path = found.folder / LIST.format(name)
        lists[name] = [_entry(entry, path) for entry in texts.json_list(path)]
    return lists


def _entry(entry: str, path: Path) -> tuple[str, str]:
    synset, token = (["", "", *entry.split("/")])[-2:]
    if synset not in LABELS or not re.fullmatch(r"[\w.-]+", token) or token.startswith("."):
        raise Problem(
            f"{path}: '{entry[:80]}' is no shape", "every entry is shape_data/<synset>/<token>", "get the list again"
        )
    return synset, token


def check_table(found: roots.Located) -> None:
    """synsetoffset2category.txt defines the labels: its rows must be the official ones, in their order."""
    path = found.folder / "synsetoffset2category.txt"
    if not path.exists():
        return
    rows = [tuple(line.split()) for line in texts.lines(path)]
    official = [(name, category.synset) for name, category in CATEGORIES.items()]
    if [row for row in official if row in rows] != rows:
        raise Problem(f"{path}: not the 16 official categories in their order", "labels follow it", "get it again")


def items(found: roots.Located, config: Config) -> list[Item]:
    """Every shape once per split: the train lists first, each in its own order."""
    if found.layout == "hdf5":
        return _hdf5_items(found, config)
    check_table(found)
    lists = listed(found)
    train = lists["train"] + (lists["val"] if config.train == "trainval" else [])
    if config.overlap == "drop":
        test = set(lists["test"])
        train = [entry for entry in train if entry not in test]
    chosen: list[Item] = []
    for split, entries in (("train", train), ("test", lists["test"])):
        for synset, token in dict.fromkeys(entries):
            path = f"{found.folder}/{synset}/{token}.txt"
            chosen.append(Item(path, 0, split, f"{split}/{synset}/{token}"))  # type: ignore[arg-type]
    roots.check_complete([item.path for item in chosen])
    return chosen


def _hdf5_items(found: roots.Located, config: Config) -> list[Item]:
    chosen: list[Item] = []
    for name, split in (("train", "train"), ("val", "train"), ("test", "test")):
        if name == "val" and config.train == "train":
            continue
        for path in hdf5.numbered(found.folder, f"ply_data_{name}", f"{name}_hdf5_file_list.txt"):
            with hdf5.opened(path) as file:
                count = len(hdf5.dataset(file, path, "data", (None, None, 3), "f"))
            chosen += [Item(str(path), row, split, f"{path.stem}/{row:04d}") for row in range(count)]  # type: ignore[arg-type]
    return chosen


# ---- reading


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    found = locate(raw, config)
    return _shapes(found, items(found, config), config)


def count(raw: Path, config: Config) -> int:
    """How many shapes there are if none is damaged."""
    return len(items(locate(raw, config), config))


def peek(raw: Path, config: Config, count: int) -> Iterator[Shape | SetAside]:
    """About `count` shapes, evenly from the whole."""
    found = locate(raw, config)
    chosen = audits.evenly(items(found, config), count)
    return _from_hdf5(chosen, config) if found.layout == "hdf5" else (load(item, config) for item in chosen)


def _shapes(found: roots.Located, chosen: list[Item], config: Config) -> Iterator[Shape | SetAside]:
    if found.layout == "v0_normal":
        one = partial(load, config=config)
        return parallel.imap(one, chosen, "ShapeNetPart") if len(chosen) > FEW else map(one, chosen)
    return progress.track(_from_hdf5(chosen, config), len(chosen), "ShapeNetPart")


def load(item: Item, config: Config) -> Shape | SetAside:
    """One text file."""
    try:
        rows = texts.table(Path(item.path), 7, (7,))
    except Problem as problem:
        return SetAside(item.id, f"{problem.what}: {problem.why}")
    return _shape(item, rows[:, :3], rows[:, 6], LABELS[item.id.split("/")[1]], config)


def _from_hdf5(chosen: list[Item], config: Config) -> Iterator[Shape | SetAside]:
    for name in dict.fromkeys(item.path for item in chosen):
        path = Path(name)
        with hdf5.opened(path) as file:
            data = hdf5.dataset(file, path, "data", (None, None, 3), "f")
            count, points = data.shape[:2]
            labels = np.asarray(hdf5.dataset(file, path, "label", (count, 1), "iu")[()]).reshape(-1)
            parts = hdf5.dataset(file, path, "pid", (count, points), "iu")
            block = -1
            for item in (item for item in chosen if item.path == name):
                if item.row // ROWS != block:
                    block = item.row // ROWS
                    rows = slice(block * ROWS, block * ROWS + ROWS)
                    clouds, part = np.asarray(data[rows]), np.asarray(parts[rows])
                at = item.row - block * ROWS
                yield _shape(item, clouds[at], part[at], int(labels[item.row]), config)


def _shape(item: Item, cloud: Any, part: Any, label: int, config: Config) -> Shape | SetAside:
    """Points and part labels drawn alike; a label of another category is damage."""
    if not 0 <= label < len(NAMES):
        return SetAside(item.id, f"label {label}, expected 0 to {len(NAMES) - 1}")
    category = CATEGORIES[NAMES[label]]
    if not ((part == np.round(part)) & (part >= category.first) & (part <= category.last)).all():
        return SetAside(item.id, f"part labels outside {category.first}..{category.last} of {NAMES[label]}")
    try:
        points = canonical.points_of(cloud, config, item.id, "y")
    except Problem as problem:
        return SetAside(item.id, f"{problem.what}: {problem.why}")
    kept = part.astype(np.int16)[canonical.drawn(len(part), config, item.id)]
    return Shape(points, label, kept, item.split, item.id)


# ---- audit and forging


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """Counts, hashes; how the lists overlap; which test shapes are trained on."""
    found = locate(raw, config)
    if found.layout == "hdf5":
        chosen = items(found, config)
        files = sorted({Path(item.path) for item in chosen})
        counts = {split: sum(item.split == split for item in chosen) for split in ("train", "test")}
        notes = ["another resampling than v0_normal: it scores about 2 points lower mIoU, do not compare the two"]
        hashes = audits.hashes(files, KNOWN_MD5["hdf5"])
        origin = {"layout": "hdf5", "split_from": split_from("ply_data_{}*.h5", config)}
        return {**origin, "official": {}, "counts": counts, "hashes": hashes, "notes": notes}
    lists = listed(found)
    leaked = sorted(set(lists["test"]) & {*lists["train"], *lists["val"]})
    every = dict.fromkeys(entry for entries in lists.values() for entry in entries)
    absent = ["/".join(entry) for entry in every if not (found.folder / f"{'/'.join(entry)}.txt").exists()]
    return {
        "layout": "v0_normal",
        "split_from": split_from("shuffled_{}_file_list.json", config),
        "official": COUNTS,
        **audits.lists({name: ["/".join(entry) for entry in entries] for name, entries in lists.items()}),
        "hashes": audits.hashes(found.lists[:3], KNOWN_MD5["v0_normal"]),
        "train_and_val": len({*lists["train"], *lists["val"]}),
        "leaked_test_shapes": ["/".join(entry) for entry in leaked],
        "listed_without_file": absent[:100],
        "notes": [
            f"{len(leaked)} of {len(set(lists['test']))} test shapes are also in train or val (overlap: "
            f"{config.overlap})",
            "2,871 of the 2,874 official test shapes are in ShapeNet-55 (2,289 in its train list): label-free exposure",
        ],
    }


def split_from(name: str, config: Config) -> str:
    train = " and ".join(name.format(word) for word in ("train", "val")[: 2 if config.train == "trainval" else 1])
    return f"{train} for training, {name.format('test')} for testing"


def forge(raw: Path, layout: str = "v0_normal") -> None:
    """An airplane and a mug in each list, one of them in train and test, as the real lists have it."""
    rng = np.random.default_rng(50)
    if layout == "hdf5":
        _forge_hdf5(raw / "hdf5_data", rng)
        return
    folder = raw / ARCHIVE
    (folder / "train_test_split").mkdir(parents=True, exist_ok=True)
    table = "".join(f"{name}\t{category.synset}\n" for name, category in CATEGORIES.items())
    (folder / "synsetoffset2category.txt").write_text(table, encoding="utf-8")
    tokens = {"train": ("a1", "a2", "both"), "val": ("a3",), "test": ("a4", "both")}
    for name, listed_tokens in tokens.items():
        names = [f"{c.synset}/{token}" for c in (CATEGORIES["Airplane"], CATEGORIES["Mug"]) for token in listed_tokens]
        text = json.dumps([f"shape_data/{name}" for name in names])
        (folder / LIST.format(name)).write_text(text, encoding="utf-8")
        for shape in names:
            category = CATEGORIES["Mug" if shape.startswith("0379") else "Airplane"]
            count = int(rng.integers(2200, 2700))
            rows = np.hstack(
                [rng.normal(size=(count, 6)) * 0.2, rng.integers(category.first, category.last + 1, (count, 1))]
            )
            (folder / shape).parent.mkdir(exist_ok=True)
            np.savetxt(folder / f"{shape}.txt", rows, "%.6f")


def _forge_hdf5(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train0", "val0", "test0"):
        with h5py.File(folder / f"ply_data_{name}.h5", "w") as file:
            file["data"] = rng.normal(size=(2, 2048, 3)).astype(np.float32) * np.float32(0.2)
            file["label"] = np.array([[0], [11]], np.uint8)
            file["pid"] = np.stack([np.arange(2048) % 4, 36 + np.arange(2048) % 2]).astype(np.uint8)
        split = name.rstrip("0")
        (folder / f"{split}_hdf5_file_list.txt").write_text(f"hdf5_data/ply_data_{name}.h5\n", encoding="utf-8")
    synsets = "".join(f"{name}\t{category.synset}\n" for name, category in CATEGORIES.items())
    (folder / "all_object_categories.txt").write_text(synsets, encoding="utf-8")
