"""ModelNet40 in each of the layouts that the field has: which clouds there are, and how each is read.

    hdf5     ply_data_{train,test}{k}.h5 (`data`, `label`), with id2file.json beside most copies      2,048 points
    hdf5_v2  {train,test}{k}.h5, another author's sampling of all 9,843 + 2,468                       2,048 points
    dat      Point-BERT's pickles modelnet40_{train,test}_8192pts_fps.dat, in FPS order               8,192 points
    txt      modelnet40_normal_resampled/<class>/<class>_0001.txt, x,y,z,nx,ny,nz                    10,000 points
    off      <class>/{train,test}/<class>_0001.off, meshes with z up, sampled on their surface

Labels are always the official ones: the class names sorted, whatever a file's own order is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from pydantic import PositiveInt

from jepa3d import parallel, progress
from jepa3d.datasets._shared import canonical
from jepa3d.datasets._shared.canonical import Canonical
from jepa3d.formats import hdf5, meshes, pickles, roots, texts
from jepa3d.ops.upright import Up
from jepa3d.problem import Problem
from jepa3d.seeds import derive

FORTY = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain",
    "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel", "monitor",
    "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table",
    "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip
TEN = ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet")
LAYOUTS: dict[str, tuple[str, ...]] = {  # in the order of preference; what must exist
    "hdf5": ("ply_data_train*.h5", "ply_data_test*.h5"),
    "hdf5_v2": ("train[0-9].h5", "test[0-9].h5"),
    "dat": ("modelnet40_train_8192pts_fps.dat", "modelnet40_test_8192pts_fps.dat"),
    "txt": ("modelnet40_train.txt", "modelnet40_test.txt", "*/*_[0-9]*.txt"),
    "off": ("*/train/*.off",),
}
BELOW = (
    "modelnet40_ply_hdf5_2048", "ModelNet40Ply2048/modelnet40_ply_hdf5_2048", "modelnet40_hdf5_2048",
    "modelnet40_normal_resampled", "ModelNet/modelnet40_normal_resampled", "ModelNet40", "ModelNet10",
)  # fmt: skip
FOLDERS = (*BELOW, *(f"data/{folder}" for folder in BELOW))
UP: dict[str, Up] = {"hdf5": "y", "hdf5_v2": "y", "dat": "y", "txt": "y", "off": "z"}
SPLIT_FROM = {
    "hdf5": "the files ply_data_train*.h5 and ply_data_test*.h5",
    "hdf5_v2": "the files train*.h5 and test*.h5",
    "dat": "the files modelnet40_train_8192pts_fps.dat and modelnet40_test_8192pts_fps.dat",
    "txt": "the lists modelnet40_train.txt and modelnet40_test.txt",
    "off": "the folders train/ and test/ in each class",
}
BY_HAND = (
    "set accept_terms: true to fetch modelnet40_ply_hdf5_2048.zip, or name the folder of a copy with 'root:'; "
    "docs/datasets.md says where each layout is"
)
ROWS = 16  # of an HDF5 file, read at once: as good for reading in order as for drawing
MESH_POINTS = 2048
DAT_POINTS = 8192
TEXT_POINTS = 10_000
FEW = 64  # files are read here; more of them by several processes
LARGEST_MESH = 512 << 20  # bytes
Split = Literal["train", "test"]
LayoutName = Literal["auto", "hdf5", "hdf5_v2", "dat", "txt", "off"]


class ModelNet(Canonical):
    """How ModelNet is read. `normalise: auto` leaves HDF5 as it is (it is in the unit sphere) and scales the rest."""

    normalise: Literal["auto", "none", "unit_sphere"] = "auto"  # type: ignore[assignment]
    layout: LayoutName = "auto"


class Item(NamedTuple):
    """One cloud: the file, its row in it (0 where a file is one cloud), and what the lists say of it."""

    path: str
    row: int
    label: int
    split: Split
    id: str


class Cloud(NamedTuple):
    """An item that was read, or the reason why it was not."""

    item: Item
    points: Float32[np.ndarray, "P 3"] | None
    why: str = ""


def locate(raw: Path, layout: LayoutName) -> roots.Located:
    """The layout that is under `raw`; the wanted one where `layout` names it."""
    layouts: dict[str, tuple[str, ...]] = LAYOUTS if layout == "auto" else {layout: LAYOUTS[layout]}
    found = roots.find_layout(raw, layouts, FOLDERS)
    if found is None:
        raise roots.not_found(raw, layouts, FOLDERS, BY_HAND)
    name, folder = found
    lists = [path for path in sorted(folder.glob("*")) if path.suffix in (".txt", ".json") and path.is_file()]
    return roots.Located(name, folder, tuple(lists))


def settled(config: ModelNet, layout: str) -> ModelNet:
    """The settings with every `auto` replaced by what the layout asks for."""
    normalise = config.normalise
    if normalise == "auto":
        normalise = "none" if layout.startswith("hdf5") else "unit_sphere"
    points: PositiveInt | None = MESH_POINTS if layout == "off" and config.points is None else config.points
    update = {"normalise": normalise, "points": points, "layout": layout}
    return config.model_copy(update={**update, "sample": "first"} if layout == "off" else update)


def items(found: roots.Located, names: Sequence[str]) -> list[Item]:
    """Every cloud of the classes `names`, the train split first, labels as indices into `names`."""
    check_names(found)
    listed = {"hdf5": _hdf5_items, "hdf5_v2": _hdf5_items, "dat": _dat_items, "txt": _txt_items, "off": _off_items}
    label = {name: number for number, name in enumerate(names)}
    every = listed[found.layout](found)
    return [item._replace(label=label[FORTY[item.label]]) for item in every if FORTY[item.label] in label]


def check_names(found: roots.Located) -> None:
    """A list of class names beside the data must be the official one, or the labels would mean something else."""
    for path in found.lists:
        if path.name in ("shape_names.txt", "modelnet40_shape_names.txt") and tuple(texts.lines(path)) != FORTY:
            raise Problem(
                f"{path}: not the 40 official class names in their order", "labels are indices into it", "get it again"
            )


def clouds(found: roots.Located, listed: Sequence[Item], config: ModelNet) -> Iterator[Cloud]:
    """The clouds of the items, in their order. Files of one cloud each are read in parallel."""
    config = settled(config, found.layout)
    if found.layout in ("txt", "off"):
        one = partial(load_file, config=config)
        yield from parallel.imap(one, listed, "ModelNet40") if len(listed) > FEW else map(one, listed)
        return
    with contextlib.ExitStack() as stack:
        row = _hdf5_rows(stack) if found.layout.startswith("hdf5") else _dat_rows()
        for item in progress.track(listed, len(listed), "ModelNet40"):
            yield made(item, lambda item=item: row(item), config)  # type: ignore[misc]


def load_file(item: Item, config: ModelNet) -> Cloud:
    """A cloud that is a file of its own: a table of numbers, or a mesh."""
    if config.layout == "txt":
        return made(item, lambda: texts.table(Path(item.path), 3, (3, 6), TEXT_POINTS), config)
    return made(item, lambda: _on_surface(item, config), config)


def made(item: Item, read: Callable[[], NDArray[Any]], config: ModelNet) -> Cloud:
    try:
        return Cloud(item, canonical.points_of(read(), config, item.id, UP[config.layout]))
    except Problem as problem:
        return Cloud(item, None, f"{problem.what}: {problem.why}")


# ---- HDF5


def _hdf5_items(found: roots.Located) -> list[Item]:
    prefix = "ply_data_" if found.layout == "hdf5" else ""
    listed: list[Item] = []
    for split in ("train", "test"):
        for number, path in enumerate(hdf5.numbered(found.folder, f"{prefix}{split}", f"{split}_files.txt")):
            listed += _hdf5_file(path, found.folder, prefix, split, number)  # type: ignore[arg-type]
    return listed


def _hdf5_file(path: Path, folder: Path, prefix: str, split: Split, number: int) -> list[Item]:
    with hdf5.opened(path) as file:
        count = len(hdf5.dataset(file, path, "data", (None, None, 3), "f"))
        labels = np.asarray(hdf5.dataset(file, path, "label", _label_shape(file, count), "iu")[()]).reshape(-1)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(FORTY):
        raise hdf5.damaged(path, f"labels from {labels.min()} to {labels.max()}, expected 0 to 39")
    ids = [f"{path.stem}/{row:04d}" for row in range(count)]
    for name in (f"{prefix}{split}_{number}_id2file.json", f"{prefix}{split}{number}_id2file.json"):
        if (folder / name).exists():
            ids = _source_ids(folder / name, labels)
            break
    return [Item(str(path), row, int(labels[row]), split, ids[row]) for row in range(count)]


def _label_shape(file: Any, count: int) -> tuple[int, ...]:
    """Copies have `label` as [n, 1] or as [n]."""
    return (count, 1) if getattr(file.get("label"), "ndim", 2) == 2 else (count,)


def _source_ids(path: Path, labels: NDArray[Any]) -> list[str]:
    """`sofa/sofa_0307.ply` -> `sofa_0307`, checked against the labels."""
    names = texts.json_list(path)
    if len(names) != len(labels):
        raise Problem(
            f"{path}: {len(names)} names for {len(labels)} shapes",
            "they are not of one copy",
            "get both files from one copy",
        )
    for name, label in zip(names, labels, strict=True):
        if name.split("/")[0] != FORTY[label]:
            raise Problem(
                f"{path}: {name} has the label {label} ({FORTY[label]})",
                "they are not of one copy",
                "get both files from one copy",
            )
    return [name.split("/")[-1].rsplit(".", 1)[0] for name in names]


def _hdf5_rows(stack: contextlib.ExitStack) -> Callable[[Item], NDArray[Any]]:
    """Rows of the files, which stay open; the last block that was read is kept."""
    data: dict[str, Any] = {}
    block: dict[str, Any] = {"at": None}

    def row(item: Item) -> NDArray[Any]:
        path = Path(item.path)
        if item.path not in data:
            file = stack.enter_context(hdf5.opened(path))
            data[item.path] = hdf5.dataset(file, path, "data", (None, None, 3), "f")
        start = item.row - item.row % ROWS
        if block["at"] != (item.path, start):
            try:
                block["rows"] = np.asarray(data[item.path][start : start + ROWS])
            except hdf5.ERRORS as error:
                raise hdf5.damaged(path, f"rows from {start}: {error}") from None
            block["at"] = (item.path, start)
        found: NDArray[Any] = block["rows"][item.row - start]
        return found

    return row


# ---- Point-BERT's pickles


def _dat_pair(path: Path) -> tuple[list[Any], list[Any]]:
    pair = pickles.load(path)
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, list) for part in pair)):
        raise Problem(f"{path}: not a pair of lists", "expected [points, labels]", "get the file again")
    if len(pair[0]) != len(pair[1]):
        raise Problem(
            f"{path}: {len(pair[0])} clouds and {len(pair[1])} labels", "each cloud has one", "get the file again"
        )
    return pair[0], pair[1]


def _dat_items(found: roots.Located) -> list[Item]:
    listed: list[Item] = []
    for split in ("train", "test"):
        path = found.folder / f"modelnet40_{split}_8192pts_fps.dat"
        labels = [_integer(label, path) for label in _dat_pair(path)[1]]
        names = found.folder / f"modelnet40_{split}.txt"
        ids = texts.lines(names) if names.exists() else []
        if len(ids) != len(labels):  # another copy's list: the rows have no names then
            ids = [f"{split}/{row:05d}" for row in range(len(labels))]
        elif any(id.rsplit("_", 1)[0] != FORTY[label] for id, label in zip(ids, labels, strict=True)):
            raise Problem(
                f"{path}: its labels do not follow {names.name}", "they are not of one copy", "get both again"
            )
        listed += [Item(str(path), row, label, split, ids[row]) for row, label in enumerate(labels)]  # type: ignore[arg-type]
    return listed


def _integer(label: Any, path: Path) -> int:
    value = np.asarray(label).reshape(-1)
    if value.size != 1 or value.dtype.kind not in "iu" or not 0 <= int(value[0]) < len(FORTY):
        raise Problem(f"{path}: a label {roots.describe(label)}", "expected a class of 0 to 39", "get the file again")
    return int(value[0])


def _dat_rows() -> Callable[[Item], NDArray[Any]]:
    files: dict[str, list[Any]] = {}

    def row(item: Item) -> NDArray[Any]:
        if item.path not in files:
            files[item.path] = _dat_pair(Path(item.path))[0]
        found = files[item.path][item.row]
        if not isinstance(found, np.ndarray) or found.shape[:1] != (DAT_POINTS,):
            what = f"has the shape {list(found.shape)}" if isinstance(found, np.ndarray) else "is no array"
            raise Problem(f"{item.path}: cloud {item.row} {what}", f"each is {DAT_POINTS} x 6", "get the file again")
        return found

    return row


# ---- one file per cloud


def _txt_items(found: roots.Located) -> list[Item]:
    listed: list[Item] = []
    for split in ("train", "test"):
        path = found.folder / f"modelnet40_{split}.txt"
        for id in texts.lines(path):
            name = id.rsplit("_", 1)[0]
            if name not in FORTY:
                raise Problem(
                    f"{path}: '{id[:80]}' is no shape", "it begins with no class's name", "get the list again"
                )
            file = texts.inside(found.folder, f"{name}/{id}.txt", path)
            listed.append(Item(str(file), 0, FORTY.index(name), split, id))  # type: ignore[arg-type]
    return listed


def _off_items(found: roots.Located) -> list[Item]:
    others = sorted(path.parts[-3] for path in found.folder.glob("*/*/*.off") if path.parts[-3] not in FORTY)
    if others:
        raise Problem(
            f"{found.folder / others[0]}: no class of ModelNet40",
            f"{len(others)} meshes are in such folders",
            "for classes of your own say 'kind: folder' in place of it, or move them away",
        )
    listed: list[Item] = []
    for split in ("train", "test"):
        for name in FORTY:
            files = sorted((found.folder / name / split).glob("*.off"))
            listed += [Item(str(path), 0, FORTY.index(name), split, path.stem) for path in files]  # type: ignore[arg-type]
    return listed


def _on_surface(item: Item, config: ModelNet) -> NDArray[Any]:
    """A mesh's surface, sampled uniformly over its area; a pure function of the seed and the shape's id."""
    path = Path(item.path)
    try:
        if path.stat().st_size > LARGEST_MESH:
            raise ValueError(f"larger than {LARGEST_MESH >> 20} MiB")
        mesh = meshes.read(path.read_bytes(), "off")
        return meshes.sample(mesh, config.points or MESH_POINTS, derive(config.seed, "surface", item.id))
    except (OSError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise Problem(f"{path}: a damaged or wrong OFF file", str(error)[:200], "get the file again") from None
