"""ShapeNet-55: 52,470 clouds of 8,192 points, the pre-training data of Point-BERT and everything after it.

`shapenet_pc/<synset>-<model>.npy` (float [8192, 3], not normalised, y up) and two lists, `train.txt` (41,952) and
`test.txt` (10,518), one file name a line. The archive holds only `shapenet_pc`; the lists are in Point-BERT's
repository. Peers draw them in `ShapeNet-55/`, in `ShapeNet-35/`, or beside `shapenet_pc`: each is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jepa3d import parallel
from jepa3d.datasets import Fetched, SetAside, Shape, Split
from jepa3d.datasets._shared import audits, canonical
from jepa3d.datasets._shared.canonical import Canonical
from jepa3d.fetch.source import Source
from jepa3d.formats import arrays, roots, texts
from jepa3d.problem import Problem

CLASSES = {  # label order: the synsets, sorted
    "02691156": "airplane", "02747177": "ashcan", "02773838": "bag", "02801938": "basket", "02808440": "bathtub",
    "02818832": "bed", "02828884": "bench", "02843684": "birdhouse", "02871439": "bookshelf", "02876657": "bottle",
    "02880940": "bowl", "02924116": "bus", "02933112": "cabinet", "02942699": "camera", "02946921": "can",
    "02954340": "cap", "02958343": "car", "02992529": "cellphone", "03001627": "chair", "03046257": "clock",
    "03085013": "keyboard", "03207941": "dishwasher", "03211117": "display", "03261776": "earphone",
    "03325088": "faucet", "03337140": "file cabinet", "03467517": "guitar", "03513137": "helmet", "03593526": "jar",
    "03624134": "knife", "03636649": "lamp", "03642806": "laptop", "03691459": "loudspeaker", "03710193": "mailbox",
    "03759954": "microphone", "03761084": "microwave", "03790512": "motorcycle", "03797390": "mug",
    "03928116": "piano", "03938244": "pillow", "03948459": "pistol", "03991062": "flowerpot", "04004475": "printer",
    "04074963": "remote control", "04090263": "rifle", "04099429": "rocket", "04225987": "skateboard",
    "04256520": "sofa", "04330267": "stove", "04379243": "table", "04401088": "telephone", "04460130": "tower",
    "04468005": "train", "04530566": "watercraft", "04554684": "washer",
}  # fmt: skip
LABELS = {synset: label for label, synset in enumerate(CLASSES)}
OFFICIAL = {"train": 41952, "test": 10518}
KNOWN_MD5 = {"train.txt": "d274f4ddfe8097e44402ea8c2f8d447d", "test.txt": "62985610a62a3b8683dca616b65deabe"}
TERMS = "https://shapenet.org/terms"
BY_HAND = (
    "get ShapeNet55.zip (Google Drive file 1jUB5yD7DP97-EqqU2A9mmr61JpNwZBVK) and ShapeNet-55/{train,test}.txt as "
    "Point-BERT's DATASET.md says, https://github.com/Julie-tang00/Point-BERT, and name the folder with 'root:'"
)
SOURCES = (Source("ShapeNet55.zip", (), TERMS, BY_HAND),)
CLOUDS = "shapenet_pc"
FOLDERS = ("ShapeNet55-34", "ShapeNet55", "data/ShapeNet55-34", "data/ShapeNet55")
LISTS = ("ShapeNet-55", "ShapeNet-35", "ShapeNet55", ".")


class Config(Canonical, Fetched):
    """`whole: true` takes the test list's shapes into `train` too, as some peers pre-train."""

    kind: Literal["shapenet55"] = "shapenet55"
    normalise: Literal["none", "unit_sphere"] = "unit_sphere"
    whole: bool = False


class Item(NamedTuple):
    name: str  # <synset>-<model>
    split: Split


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return tuple(CLASSES.values())


def locate(raw: Path, config: Config) -> roots.Located:
    """The folder that holds `shapenet_pc`, and the two lists."""
    layout = {"ShapeNet-55": (CLOUDS,)}
    found = roots.find_layout(raw, layout, FOLDERS)
    if found is None:
        raise roots.not_found(raw, layout, FOLDERS, BY_HAND)
    folder = found[1]
    for place in LISTS:
        lists = tuple(folder / place / name for name in KNOWN_MD5)
        if all(path.is_file() for path in lists):
            return roots.Located("ShapeNet-55", folder, lists)
    raise Problem(
        f"{folder}: the lists train.txt and test.txt are missing",
        f"looked in {', '.join(str(folder / place) for place in LISTS)}; the archive does not hold them",
        "copy data/ShapeNet55-34/ShapeNet-55/*.txt of https://github.com/Julie-tang00/Point-BERT to "
        f"{folder}/ShapeNet-55",
    )


def items(found: roots.Located, config: Config) -> list[Item]:
    """Every listed shape, the train list first."""
    listed = []
    for path in found.lists:
        split: Split = "train" if config.whole or path.stem == "train" else "test"
        for line in texts.lines(path):
            name = texts.last_of(line, path).removesuffix(".npy")
            if name.split("-")[0] not in LABELS:
                raise Problem(
                    f"{path}: '{line[:80]}' is no shape", "it begins with no synset of the 55", "get the list again"
                )
            listed.append(Item(name, split))
    return listed


def load(item: Item, folder: str, config: Config) -> Shape | SetAside:
    try:
        raw = arrays.load(f"{folder}/{item.name}.npy")
        points = canonical.points_of(raw, config, item.name, "y")
    except Problem as problem:
        return SetAside(item.name, f"{problem.what}: {problem.why}")
    return Shape(points, LABELS[item.name.split("-")[0]], None, item.split, item.name)


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    found = locate(raw, config)
    listed = items(found, config)
    paths = [f"{found.folder}/{CLOUDS}/{item.name}.npy" for item in listed]
    roots.check_complete(paths)
    one = partial(load, folder=str(found.folder / CLOUDS), config=config)
    return parallel.read_ahead(one, listed, paths, "ShapeNet-55")


def count(raw: Path, config: Config) -> int:
    """How many shapes there are if none is damaged."""
    return len(items(locate(raw, config), config))


def peek(raw: Path, config: Config, count: int) -> Iterator[Shape | SetAside]:
    """About `count` shapes, evenly from the whole."""
    found = locate(raw, config)
    listed = items(found, config)
    roots.check_complete([f"{found.folder}/{CLOUDS}/{item.name}.npy" for item in listed])
    return (load(item, str(found.folder / CLOUDS), config) for item in audits.evenly(listed, count))


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """Counts, hashes and overlaps of the lists."""
    found = locate(raw, config)
    named = {path.stem: texts.lines(path) for path in found.lists}
    return {
        "layout": found.layout,
        "split_from": f"the lists {' and '.join(path.name for path in found.lists)}"
        + ("; 'whole: true' trains on both" if config.whole else ""),
        "official": OFFICIAL,
        **audits.lists(named),
        "hashes": audits.hashes(found.lists, KNOWN_MD5),
        "notes": [
            "label-free exposure of the part benchmark: 2,289 of ShapeNetPart's 2,874 test shapes are in the train "
            "list, 582 more in the test list (whole: true sees 2,871)"
        ],
    }


def forge(raw: Path) -> None:
    """Two classes, two shapes each per split, as the archive and Point-BERT's repository have them."""
    clouds, lists = raw / "ShapeNet55-34" / CLOUDS, raw / "ShapeNet55-34" / "ShapeNet-55"
    clouds.mkdir(parents=True, exist_ok=True)
    lists.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(55)
    for number, split in enumerate(("train", "test")):
        names = [f"{synset}-{number}{k}{'ab' * 15}.npy" for synset in ("02691156", "03001627") for k in range(2)]
        for name in names:
            np.save(clouds / name, rng.normal(size=(8192, 3)).astype(np.float32) * [0.3, 0.1, 0.2])
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
