"""Readers of whole data sets: one file of a forged copy is the mutant, the others stay as they are."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz import Reader
from numpy.typing import NDArray

from jepa3d import datasets, plugins
from jepa3d.datasets import SetAside, Shape, folder
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem


def shapes(module: Any, raw: Path, config: Any) -> Iterator[NDArray[Any]]:
    """Everything that `convert` and `doctor` take of it; labels and parts are what their names say."""
    names, parts = module.classes(raw, config), module.parts(raw, config)
    for one in module.read(raw, config):
        if isinstance(one, SetAside):
            if not one.why:
                raise Problem(f"{one.id}: no reason")
            continue
        assert isinstance(one, Shape)
        assert -1 <= one.label < max(len(names), 0)
        assert one.split in ("train", "test")
        assert one.part is None or -1 <= one.part.min() <= one.part.max() < len(parts)
        yield one.points
    module.audit(raw, config)


def copy_of(kind: str, target: str, layout: str = "", **entry: Any) -> Reader:
    """The file `target` of a forged copy."""
    module = plugins.find(datasets, kind)

    def forge(raw: Path) -> None:
        module.forge(raw, layout) if layout else module.forge(raw)

    def files() -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as made:
            forge(Path(made))
            return {Path(target).name: (Path(made) / target).read_bytes()}

    def read(path: Path) -> Iterator[NDArray[Any]]:
        raw = path.parent / f".{kind}-{Path(target).name}"
        if not raw.exists():
            forge(raw)
        (raw / target).unlink(missing_ok=True)
        (raw / target).symlink_to(path)
        return shapes(module, raw, plugin_config(datasets, {"kind": kind, **entry}, "entry", "params.yaml"))

    return Reader(files, read)


def tables() -> dict[str, bytes]:
    points = np.random.default_rng(0).normal(size=(4, 40, 3)).astype(np.float32)
    sets: list[dict[str, Any]] = [
        {"data": points, "label": np.array([[0], [1], [0], [1]], np.uint8)},
        {"points": points, "label": np.array([0.0, 2.0, 0.0, -1.0]), "part": (np.arange(160) % 3).reshape(4, 40)},
        {
            "points": points,
            "label": ["cup", "dog"] * 2,
            "class_names": ["dog", "cup"],
            "split": [*["train"] * 2, *["test"] * 2],
        },
    ]
    made = {}
    for number, arrays in enumerate(sets):
        file = io.BytesIO()
        np.savez(file, **arrays)
        made[f"{number}.npz"] = file.getvalue()
        file = io.BytesIO()
        with h5py.File(file, "w") as h5:
            for key, value in arrays.items():
                h5[key] = value
        made[f"{number}.h5"] = file.getvalue()
    return made


def labelled(path: Path) -> Iterator[NDArray[Any]]:
    return shapes(folder, path, folder.Config(root=str(path), points=40, test_fraction=0.0))


LISTS = {
    "train.txt": b"cup/1.npy\ndog/1.npy\ncup/2\n",
    "split.csv": b"file,split\ncup/1,train\ncup/2,train\ncup/3,test\ndog/1,train\ndog/2,test\ndog/3,test\n",
    "split.json": b'{"train": ["cup/1", "cup/2", "dog/1"], "test": ["cup/3", "dog/2", "dog/3"]}',
    "class_names.txt": b"cup\ndog\n",
}


def listed(path: Path) -> Iterator[NDArray[Any]]:
    """Shapes in two classes, and one list beside them."""
    raw = path.parent / ".listed"
    if not raw.exists():
        for seed, name in enumerate(f"{name}/{k}" for name in ("cup", "dog") for k in (1, 2, 3)):
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(raw / f"{name}.npy", np.random.default_rng(seed).normal(size=(40, 3)))
    place = raw / path.name
    place.symlink_to(path)
    try:
        if path.name == "train.txt":
            (raw / "test.txt").write_text("cup/3\ndog/2\ndog/3\n")
        yield from shapes(folder, raw, folder.Config(root=str(raw), points=40))
    finally:
        place.unlink()
        (raw / "test.txt").unlink(missing_ok=True)


NORMAL = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
FIELD = {
    "table": Reader(tables, labelled),
    "lists": Reader(lambda: LISTS, listed),
    "mn_h5": copy_of("modelnet40", "modelnet40_ply_hdf5_2048/ply_data_train0.h5"),
    "mn_ids": copy_of("modelnet40", "modelnet40_ply_hdf5_2048/ply_data_test_0_id2file.json"),
    "mn_dat": copy_of(
        "modelnet40", "ModelNet/modelnet40_normal_resampled/modelnet40_test_8192pts_fps.dat", "dat", points=64
    ),
    "mn_txt": copy_of("modelnet40", "modelnet40_normal_resampled/sofa/sofa_0001.txt", "txt", points=64),
    "mn_off": copy_of("modelnet40", "ModelNet40/sofa/train/sofa_0001.off", "off", points=64),
    "scan": copy_of("scanobjectnn", "h5_files/main_split/training_objectdataset.h5", variant="obj_bg"),
    "part_txt": copy_of("shapenetpart", f"{NORMAL}/02691156/a1.txt"),
    "part_lst": copy_of("shapenetpart", f"{NORMAL}/train_test_split/shuffled_val_file_list.json"),
    "sn55_lst": copy_of("shapenet55", "ShapeNet55-34/ShapeNet-55/train.txt", points=64),
    "few_shot": copy_of("fewshot", "ModelNetFewshot/5way_10shot/0.pkl", fold=0, points=64),
}
