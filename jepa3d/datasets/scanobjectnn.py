"""ScanObjectNN: real scans of 15 classes, 2,048 points each, with a mask of what is background.

    obj_bg      main_split/{training,test}_objectdataset.h5                            2,309 + 581
    obj_only    the same names in main_split_nobg: without the background
    pb_t25      ..._augmented25_norot    pb_t25_r    ..._augmented25rot     perturbed bounding boxes
    pb_t50_r    ..._augmentedrot         pb_t50_rs   ..._augmentedrot_scale75          11,416 + 2,882

The class order is not alphabetical. Points are in random order, so the first n are a sample. The mask is kept as
part: 0 background (-1 in the files), 1 object. `normalise` is none in the loaders of Point-MAE, M2AE and ReCon, and
unit_sphere in Point-JEPA's, PointNeXt's and the authors' own: unit_sphere here, because the encoder was pretrained on
such clouds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from jepa3d import progress
from jepa3d.datasets import Fetched, SetAside, Shape, Split
from jepa3d.datasets._shared import audits, canonical
from jepa3d.datasets._shared.canonical import Canonical
from jepa3d.fetch.source import Source
from jepa3d.formats import hdf5, roots
from jepa3d.problem import Problem

CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip
PARTS = ("background", "object")
SUFFIX = {
    "obj_bg": "objectdataset",
    "obj_only": "objectdataset",
    "pb_t25": "objectdataset_augmented25_norot",
    "pb_t25_r": "objectdataset_augmented25rot",
    "pb_t50_r": "objectdataset_augmentedrot",
    "pb_t50_rs": "objectdataset_augmentedrot_scale75",
}
COUNTS = {"objectdataset": {"train": 2309, "test": 581}, SUFFIX["pb_t50_rs"]: {"train": 11416, "test": 2882}}
TERMS = "https://hkust-vgd.github.io/scanobjectnn/"
BY_HAND = (
    "fill in the form at https://forms.gle/ZZRnnmaUdwfRucoy7, get h5_files.zip, and name the file or its folder with "
    "'root:'; or set accept_terms: true to fetch only the two files that are needed"
)
SOURCES = (
    Source(
        "h5_files.zip",
        ("https://hkust-vgd.ust.hk/scanobjectnn/h5_files.zip",),
        TERMS,
        BY_HAND,
        size=13_099_259_542,
        md5="36876af479f9ad39abad5ebcd89038dd",
        unpacked=64 << 30,
    ),
)
FOLDERS = ("h5_files", "ScanObjectNN", "ScanObjectNN/h5_files", "data/ScanObjectNN", "data/ScanObjectNN/h5_files")
SPLITS: dict[Split, str] = {"train": "training", "test": "test"}
ROWS = 64


class Config(Canonical, Fetched):
    """`background: false` takes a perturbed variant from the folder without backgrounds; `split` the authors' other
    four divisions."""

    kind: Literal["scanobjectnn"] = "scanobjectnn"
    variant: Literal["obj_bg", "obj_only", "pb_t25", "pb_t25_r", "pb_t50_r", "pb_t50_rs"]
    split: Literal["main_split", "split1", "split2", "split3", "split4"] = "main_split"
    background: bool = True
    normalise: Literal["none", "unit_sphere"] = "unit_sphere"


class Item(NamedTuple):
    """One row of a file."""

    path: Path
    row: int
    split: Split


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return CLASSES


def parts(raw: Path, config: Config) -> tuple[str, ...]:
    return PARTS


def names(config: Config) -> dict[Split, str]:
    """The two files of a variant, relative to the folder that has the splits."""
    bare = config.variant == "obj_only" or not config.background
    folder = config.split + ("_nobg" if bare else "")
    return {split: f"{folder}/{word}_{SUFFIX[config.variant]}.h5" for split, word in SPLITS.items()}


def sources(config: Config) -> tuple[Source, ...]:
    """Of the 13 GB archive, the two files of this variant."""
    return tuple(source._replace(members=tuple(f"*{name}" for name in names(config).values())) for source in SOURCES)


def locate(raw: Path, config: Config) -> roots.Located:
    layout = {"h5_files": tuple(names(config).values())}
    found = roots.find_layout(raw, layout, FOLDERS)
    if found is None:
        raise roots.not_found(raw, layout, FOLDERS, BY_HAND)
    return roots.Located(*found)


def items(found: roots.Located, config: Config) -> list[Item]:
    listed: list[Item] = []
    for split, name in names(config).items():
        path = found.folder / name
        with hdf5.opened(path) as file:
            count = len(hdf5.dataset(file, path, "data", (None, None, 3), "f"))
        listed += [Item(path, row, split) for row in range(count)]
    return listed


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    found = locate(raw, config)
    listed = items(found, config)
    return progress.track(_shapes(listed, config), len(listed), f"ScanObjectNN {config.variant}")


def count(raw: Path, config: Config) -> int:
    """How many shapes there are if none is damaged."""
    return len(items(locate(raw, config), config))


def peek(raw: Path, config: Config, count: int) -> Iterator[Shape | SetAside]:
    """About `count` shapes, evenly from the whole."""
    return _shapes(audits.evenly(items(locate(raw, config), config), count), config)


def _shapes(listed: list[Item], config: Config) -> Iterator[Shape | SetAside]:
    for path in dict.fromkeys(item.path for item in listed):
        yield from _file(path, [item for item in listed if item.path == path], config)


def _file(path: Path, listed: list[Item], config: Config) -> Iterator[Shape | SetAside]:
    with hdf5.opened(path) as file:
        data = hdf5.dataset(file, path, "data", (None, None, 3), "f")
        count, points = data.shape[:2]
        label_shape = (count, 1) if getattr(file.get("label"), "ndim", 1) == 2 else (count,)
        labels = np.asarray(hdf5.dataset(file, path, "label", label_shape, "iu")[()]).reshape(-1)
        mask = hdf5.dataset(file, path, "mask", (count, points))
        block = -1
        for item in listed:
            if item.row // ROWS != block:
                block = item.row // ROWS
                rows = slice(block * ROWS, block * ROWS + ROWS)
                clouds, masks = np.asarray(data[rows]), np.asarray(mask[rows])
            at = item.row - block * ROWS
            yield _shape(item, clouds[at], int(labels[item.row]), masks[at], config)


def _shape(item: Item, cloud: Any, label: int, mask: Any, config: Config) -> Shape | SetAside:
    id = f"{item.path.stem}/{item.row:05d}"
    if not 0 <= label < len(CLASSES):
        return SetAside(id, f"label {label}, expected 0 to {len(CLASSES) - 1}")
    try:
        points = canonical.points_of(cloud, config, id, "y")
    except Problem as problem:
        return SetAside(id, f"{problem.what}: {problem.why}")
    part = (mask != -1).astype(np.int16)[canonical.drawn(len(mask), config, id)]
    return Shape(points, label, part, item.split, id)


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """Counts; the share of background points, which tells the variants apart."""
    found = locate(raw, config)
    named = {"train": 0, "test": 0}
    background = {}
    for split, name in names(config).items():
        path = found.folder / name
        with hdf5.opened(path) as file:
            mask = hdf5.dataset(file, path, "mask", (None, None))
            named[split] = len(mask)
            background[split] = round(float(np.mean([(row == -1).mean() for row in hdf5.rows(mask)] or [0.0])), 4)
    official = COUNTS.get(SUFFIX[config.variant]) if config.split == "main_split" else None
    return {
        "layout": found.layout,
        "split_from": f"the files {' and '.join(names(config).values())}",
        "official": official or {},
        "counts": named,
        "background": background,
        "notes": ["the perturbed variants hold several crops of one object; the official split keeps them together"]
        if config.variant.startswith("pb")
        else [],
    }


def forge(raw: Path) -> None:
    """Four scans per split and file, for OBJ_BG, OBJ_ONLY and PB_T50_RS."""
    rng = np.random.default_rng(15)
    for folder, names in (("main_split", list(SUFFIX.values())), ("main_split_nobg", ["objectdataset"])):
        place = raw / "h5_files" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(names):
            for word in SPLITS.values():
                with h5py.File(place / f"{word}_{name}.h5", "w") as file:
                    file["data"] = (rng.uniform(-0.5, 0.5, (4, 2048, 3)) * [1, 2, 0.5]).astype(np.float32)
                    file["label"] = np.array([0, 4, 14, 9], np.int64)
                    mask = np.where(np.arange(2048) % 4 == 0, -1, 7) if folder == "main_split" else np.full(2048, 7)
                    file["mask"] = np.tile(mask.astype(np.int32), (4, 1))
