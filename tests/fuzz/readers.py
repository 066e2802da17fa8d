"""The readers that the campaign tries: files to begin with, and how each is read. One more is one more entry."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import trimesh
from field import FIELD
from fuzz import Reader
from numpy.typing import NDArray
from own import OWN
from second import SECOND

from jepa3d.datasets import SetAside, folder
from jepa3d.formats import checkpoints
from jepa3d.problem import Problem

FORMATS = Path(__file__).parent.parent / "formats"
BALL = trimesh.creation.icosphere(1)


def tests_of(name: str) -> ModuleType:
    """The files that the tests write, too."""
    spec = importlib.util.spec_from_file_location(name, FORMATS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_a_folder(path: Path) -> Iterator[NDArray[Any]]:
    """As `convert` and `encode` read a user's file: the canonical points of all its clouds."""
    config = folder.Config(root=str(path.parent), points=64, upsample=True, labels="none", split="train")
    for shape in folder.read(path.parent, config):
        if isinstance(shape, SetAside):
            raise Problem(f"{shape.id}: set aside", shape.why)
        yield shape.points


def encoded(files: Mapping[str, Any], ending: str) -> dict[str, bytes]:
    """Named files of text or bytes with the ending."""
    found = {}
    for number, data in enumerate(files.values()):
        found[f"{number}.{ending}"] = data.encode("latin-1") if isinstance(data, str) else data
    return found


def exported(ending: str) -> bytes:
    data = BALL.export(file_type=ending)
    return data.encode() if isinstance(data, str) else data


def obj() -> dict[str, bytes]:
    return encoded({**tests_of("test_meshes").OBJ, "ball": exported("obj")}, "obj")


def off() -> dict[str, bytes]:
    module = tests_of("test_meshes")
    files = {after: module.off_text(after=after) for after in ("", " 255 0 0", " # a comment")}
    return encoded({**files, "ball": exported("off")}, "off")


def ply() -> dict[str, bytes]:
    module = tests_of("test_meshes")
    files = {f"{form} {name}": data for form in module.FORMATS for name, data in module.ply_files(form).items()}
    return encoded({**files, "ball": exported("ply")}, "ply")


def stl() -> dict[str, bytes]:
    return encoded({**tests_of("test_meshes").STL, "ball": exported("stl")}, "stl")


def glb() -> dict[str, bytes]:
    """What the tests of glTF read, caught on the way."""
    module, caught = tests_of("test_gltf"), []
    module.same = lambda data, *wanted, **settings: caught.append(data)  # type: ignore[attr-defined]
    module.test_translation_rotation_and_scale_of_nested_nodes()
    module.test_a_matrix_is_stored_by_columns()
    module.test_quantised_positions("i2", True)
    module.test_sparse_accessors_replace_some_elements(True)
    module.test_interleaved_attributes_have_a_stride()
    module.test_strips_and_fans(True)
    module.test_gpu_instances_stand_where_their_attributes_say()
    module.test_a_skin_moves_by_its_joints_and_not_by_its_node("u1")
    module.test_morph_targets_count_with_the_default_weights_and_the_nodes_before_the_meshs()
    module.test_data_in_the_json_are_read_too()
    return encoded(dict(enumerate([*caught, exported("glb"), module.with_draco(False, True)])), "glb")


def pcd() -> dict[str, bytes]:
    return encoded({name: data for name, (data, _) in tests_of("test_text_and_arrays").pcd_files().items()}, "pcd")


def text() -> dict[str, bytes]:
    texts = tests_of("test_text_and_arrays").READ
    files = encoded({name: found.encode() for name, found in texts.items()}, "xyz")
    return {name.replace(".xyz", (".xyz", ".txt", ".pts")[k % 3]): data for k, (name, data) in enumerate(files.items())}


def npy() -> dict[str, bytes]:
    points = np.random.default_rng(0).normal(size=(70, 6))
    made = []
    for array in (points, points.astype(np.float32), np.asfortranarray(points[:, :3]), (points * 99).astype(np.int16)):
        file = io.BytesIO()
        np.save(file, array)
        made.append(file.getvalue())
    return encoded(dict(enumerate(made)), "npy")


def npz() -> dict[str, bytes]:
    points = np.random.default_rng(0).normal(size=(3, 70, 3))
    label, part = np.array([0, 1, 0]), np.zeros((3, 70), int)
    x, y, z = points[0].T
    sets: list[dict[str, Any]] = [
        {"points": points, "label": label, "part": part, "class_names": ["cup", "dog"], "split": ["train"] * 3},
        {"xyz": np.asfortranarray(points[0])},
        {"x": x, "y": y, "z": z},
        {"arr_0": points[0].astype(np.float16)},
    ]
    made = []
    for number, arrays in enumerate(sets):
        file = io.BytesIO()
        (np.savez_compressed if number % 2 else np.savez)(file, **arrays)
        made.append(file.getvalue())
    return encoded(dict(enumerate(made)), "npz")


def checkpoint() -> dict[str, bytes]:
    """With and without objects of another program, which decide by which of two readers a file is read."""
    module, made = tests_of("test_checkpoints"), []
    for more in ({}, {"trap": module.Trap()}):
        file = io.BytesIO()
        torch.save({"state_dict": module.weights(), **more}, file)
        made.append(file.getvalue())
    return encoded(dict(enumerate(made)), "pt")


def imported(path: Path) -> Iterator[NDArray[Any]]:
    """As `jepa3d import` reads one; weights may have any numbers."""
    for tensor in checkpoints.read(path, "state_dict").values():
        yield np.zeros(tensor.shape if tensor.numel() < 1 << 20 else 0)


FILES: dict[str, Callable[[], Mapping[str, bytes]]] = {
    "obj": obj, "off": off, "ply": ply, "stl": stl, "glb": glb, "pcd": pcd, "text": text, "npy": npy, "npz": npz,
}  # fmt: skip
READERS: dict[str, Reader] = (
    {name: Reader(files, in_a_folder, SECOND.get(name)) for name, files in FILES.items()} | FIELD | OWN
)
READERS["checkpoint"] = Reader(checkpoint, imported)
