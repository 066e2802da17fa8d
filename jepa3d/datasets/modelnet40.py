"""ModelNet40, and ModelNet10 as the ten of its classes: five layouts, found by themselves (`_shared/modelnet.py`).

The HDF5 of 2,048 points is what the linear probes and SVMs of the field read; Point-BERT's `.dat` of 8,192 points,
in the order of farthest point sampling, is what they fine-tune on. The two are not interchangeable, so the layout is
a setting and part of the stamp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from jepa3d.datasets import Fetched, SetAside, Shape
from jepa3d.datasets._shared import audits, modelnet
from jepa3d.datasets._shared.modelnet import FORTY, TEN, ModelNet
from jepa3d.fetch.source import Source
from jepa3d.formats import roots

TERMS = "https://modelnet.cs.princeton.edu"
SOURCES = (
    Source(
        "modelnet40_ply_hdf5_2048.zip",
        (
            "https://huggingface.co/datasets/Msun/modelnet40/resolve/main/modelnet40_ply_hdf5_2048.zip",
            "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",
        ),
        TERMS,
        "get modelnet40_ply_hdf5_2048.zip from a colleague or a mirror, and name the file or its folder with 'root:'",
        size=435_212_151,
        sha256="07670e237db72ece0f723b9abb571534c9ad655a6456b389646587dc72bb8bae",
        md5="c9ab8e6dfb16f67afdab25e155c79e59",
        unpacked=2 << 30,
    ),
)
MESHES = Source(
    "ModelNet40.zip",
    ("https://modelnet.cs.princeton.edu/ModelNet40.zip",),
    TERMS,
    "get ModelNet40.zip at https://modelnet.cs.princeton.edu and name the file or its folder with 'root:'",
    size=2_039_180_837,
    sha256="42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac",
    members=("ModelNet40/*/*/*.off",),
    unpacked=32 << 30,
)
COUNTS = {"train": 9843, "test": 2468}
COUNTS_HDF5 = {"train": 9840, "test": 2468}
COUNTS_TEN = {"train": 3991, "test": 908}
ABSENT_HDF5 = ("airplane_0050", "curtain_0130", "plant_0014")  # of the official train list, not in the HDF5 files
KNOWN_MD5 = {
    "hdf5": {
        "ply_data_train0.h5": "3176385ffc31a7b6b5af22191fd920d1",
        "ply_data_train1.h5": "e3f613fb500559403b34925112754dc4",
        "ply_data_train2.h5": "0c56e233a090ff87c3049d4ce08e7d8b",
        "ply_data_train3.h5": "9d2af465adfa33a3285c369f3ca66c45",
        "ply_data_train4.h5": "dff38de489b2c41bfaeded86c2208984",
        "ply_data_test0.h5": "e9732e6d83b09e79e9a7617df058adee",
        "ply_data_test1.h5": "aba4b12a67c34391cc3c015a6f08ed4b",
    },
    "lists": {
        "modelnet40_train.txt": "98513d4fbea8528cdc9d575143ac0982",
        "modelnet40_test.txt": "96f71502a07add8ddfcd2695433bd7fe",
        "modelnet40_shape_names.txt": "a6f6bbb600ec8bfc54cc342a3e93f700",
    },
}


class Config(ModelNet, Fetched):
    """`categories: 10` keeps ModelNet10's classes, with labels 0 to 9."""

    kind: Literal["modelnet40"] = "modelnet40"
    categories: Literal[40, 10] = 40


def sources(config: Config) -> tuple[Source, ...]:
    """The meshes where they are asked for, else the HDF5 files; the other layouts have no stable address."""
    if config.layout in ("dat", "txt", "hdf5_v2"):
        return (SOURCES[0]._replace(name=f"modelnet40 ({config.layout})", urls=(), by_hand=modelnet.BY_HAND),)
    return (MESHES,) if config.layout == "off" else SOURCES


def classes(raw: Path, config: Config) -> tuple[str, ...]:
    return FORTY if config.categories == 40 else TEN


def locate(raw: Path, config: Config) -> roots.Located:
    return modelnet.locate(raw, config.layout)


def read(raw: Path, config: Config) -> Iterator[Shape | SetAside]:
    found = locate(raw, config)
    listed = modelnet.items(found, classes(raw, config))
    return _shapes(found, listed, config)


def count(raw: Path, config: Config) -> int:
    """How many shapes there are if none is damaged."""
    return len(modelnet.items(locate(raw, config), classes(raw, config)))


def peek(raw: Path, config: Config, count: int) -> Iterator[Shape | SetAside]:
    """About `count` shapes, evenly from the whole."""
    found = locate(raw, config)
    listed = modelnet.items(found, classes(raw, config))
    return _shapes(found, audits.evenly(listed, count), config)


def _shapes(found: roots.Located, listed: list[modelnet.Item], config: Config) -> Iterator[Shape | SetAside]:
    for item, points, why in modelnet.clouds(found, listed, config):
        yield SetAside(item.id, why) if points is None else Shape(points, item.label, None, item.split, item.id)


def audit(raw: Path, config: Config) -> dict[str, Any]:
    """Counts, hashes, overlaps; and which shapes of the official list the HDF5 files lack."""
    found = locate(raw, config)
    listed = modelnet.items(found, classes(raw, config))
    named = {split: [item.id for item in listed if item.split == split] for split in ("train", "test")}
    official = COUNTS_TEN if config.categories == 10 else COUNTS_HDF5 if found.layout == "hdf5" else COUNTS
    notes = []
    if found.layout == "hdf5" and listed and "/" not in listed[0].id:  # ids are names where id2file.json is there
        absent = [name for name in ABSENT_HDF5 if name not in named["train"]]
        notes.append(f"of the official train list, {', '.join(absent) or 'none'} of the three known ones are absent")
    if found.layout == "dat":
        notes.append("points are in the order of farthest point sampling: the first n are a sample of n")
    data = sorted({Path(item.path) for item in listed}) if found.layout == "hdf5" else []
    known = KNOWN_MD5["hdf5"] if found.layout == "hdf5" else {}
    lists = [path for path in found.lists if path.name in KNOWN_MD5["lists"]]
    hashes = audits.hashes([*lists, *data], {**KNOWN_MD5["lists"], **known})
    about = {"layout": found.layout, "split_from": modelnet.SPLIT_FROM[found.layout], "official": official}
    return {**about, **audits.lists(named), "hashes": hashes, "notes": notes}


# ---- forging


def forge(raw: Path, layout: str = "hdf5") -> None:
    """Two airplanes and two sofas per split, in the bytes of the real layout."""
    {"hdf5": _forge_hdf5, "dat": _forge_dat, "txt": _forge_txt, "off": _forge_off}[layout](raw)


FORGED = {
    "train": ("sofa_0001", "airplane_0001", "airplane_0002", "sofa_0002"),
    "test": ("airplane_0627", "sofa_0681", "sofa_0682", "airplane_0628"),
}


def _forged_cloud(count: int, id: str) -> Any:
    rng = np.random.default_rng(sum(map(ord, id)))
    points = rng.normal(size=(count, 3)) * ([0.5, 0.1, 0.5] if id.startswith("airplane") else [0.5, 0.2, 0.2])
    return (points / np.linalg.norm(points, axis=1).max()).astype(np.float32)


def _label_of(id: str) -> int:
    return FORTY.index(id.rsplit("_", 1)[0])


def _forge_hdf5(raw: Path) -> None:
    folder = raw / "modelnet40_ply_hdf5_2048"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shape_names.txt").write_text("\n".join(FORTY) + "\n", encoding="utf-8")
    for split, ids in FORGED.items():
        (folder / f"{split}_files.txt").write_text(f"data/{folder.name}/ply_data_{split}0.h5\n", encoding="utf-8")
        with h5py.File(folder / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = np.stack([_forged_cloud(2048, id) for id in ids])
            file["label"] = np.array([[_label_of(id)] for id in ids], np.uint8)
            file["normal"] = np.zeros((len(ids), 2048, 3), np.float32)
            file["faceId"] = np.zeros((len(ids), 2048), np.int32)
        names = [f"{id.rsplit('_', 1)[0]}/{id}.ply" for id in ids]
        (folder / f"ply_data_{split}_0_id2file.json").write_text(json.dumps(names), encoding="utf-8")


def _forge_lists(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modelnet40_shape_names.txt").write_text("\n".join(FORTY) + "\n", encoding="utf-8")
    for split, ids in FORGED.items():
        (folder / f"modelnet40_{split}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")


def _forge_dat(raw: Path) -> None:
    import pickle  # for writing only: what is read goes through formats/pickles.py

    folder = raw / "ModelNet" / "modelnet40_normal_resampled"
    _forge_lists(folder)
    for split, ids in FORGED.items():
        points = [np.hstack([_forged_cloud(8192, id), np.zeros((8192, 3), np.float32)]) for id in ids]
        labels = [np.array([_label_of(id)], np.int32) for id in ids]
        data = pickle.dumps([points, labels], protocol=3).replace(b"numpy._core.", b"numpy.core.")
        (folder / f"modelnet40_{split}_8192pts_fps.dat").write_bytes(data)


def _forge_txt(raw: Path) -> None:
    folder = raw / "modelnet40_normal_resampled"
    _forge_lists(folder)
    for id in (*FORGED["train"], *FORGED["test"]):
        path = folder / id.rsplit("_", 1)[0] / f"{id}.txt"
        path.parent.mkdir(exist_ok=True)
        np.savetxt(path, np.hstack([_forged_cloud(10_000, id), np.zeros((10_000, 3))]), "%.6f", delimiter=",")


def _forge_off(raw: Path) -> None:
    for split, ids in FORGED.items():
        for number, id in enumerate(ids):
            folder = raw / "ModelNet40" / id.rsplit("_", 1)[0] / split
            folder.mkdir(parents=True, exist_ok=True)
            head = "OFF4 4 0\n" if number % 2 else "OFF\n4 4 0\n"  # both as they are in the wild
            body = "0 0 0\n1 0 0\n0 1 0\n0 0 2\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
            (folder / f"{id}.off").write_text(head + body, encoding="utf-8")
