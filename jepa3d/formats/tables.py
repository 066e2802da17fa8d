"""Foreign `.npz` and `.h5` files of point clouds: one cloud, or many with their labels.

points | data | coords | xyz      [P, 3 or more] one cloud; [n, P, 3 or more] n clouds; .npz: or its only array, unnamed
x, y, z                           [P] each, instead
label | labels                    one whole number, or [n] or [n, 1] of them
part | part_label                 [P] or [n, P] whole numbers
class_names, part_names           names in the order of label and part
split                             [n] "train" or "test"
name                              [n] names of the clouds
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jepa3d.formats import hdf5, npz
from jepa3d.formats.arrays import transposed
from jepa3d.problem import Problem

HDF5 = (".h5", ".hdf5")
KEYS = {  # ours: theirs
    "points": ("points", "data", "coords", "xyz"),
    "label": ("label", "labels"),
    "part": ("part", "part_label"),
    "classes": ("class_names", "classes"),
    "parts": ("part_names", "parts"),
    "split": ("split",),
    "name": ("name",),
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
}
NAMES = ("classes", "parts", "split", "name")  # of text


class Array(NamedTuple):
    """An array that has not been read yet."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]
    rows: Callable[[], Iterator[NDArray[Any]]]


class Contents(NamedTuple):
    """What a file says about its clouds."""

    rows: int | None  # None: one cloud, without the leading axis
    label: tuple[int, ...] | None  # one each
    split: tuple[str, ...] | None
    name: tuple[str, ...] | None
    classes: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def number(self) -> int:
        return 1 if self.rows is None else self.rows


class Cloud(NamedTuple):
    points: Float[np.ndarray, "P C"]
    part: Int[np.ndarray, "P"] | None


def contents(path: Path) -> Contents:
    """Everything but the points. A Problem for a file that is damaged or whose arrays do not fit each other."""
    with opened(path) as arrays:
        shape = arrays["points"].shape
        count = shape[0] if len(shape) == 3 else None
        number = 1 if count is None else count
        label = _numbers(arrays, "label", number, path)
        texts = {key: _texts(arrays, key) for key in NAMES}
        for key in ("split", "name"):
            if (found := texts[key]) is not None and len(found) != number:
                raise wrong(path, f"'{key}' has {len(found)} entries for {number} clouds")
        classes = texts["classes"] or _numbered(max(label) if label else -1)
        parts = texts["parts"] or _numbered(max((int(row.max()) for row in _parts(arrays)), default=-1))
    return Contents(count, label, texts["split"], texts["name"], classes, parts)


def clouds(path: Path) -> Iterator[Cloud]:
    """The clouds one by one; the memory is one cloud."""
    with opened(path) as arrays:
        many = len(arrays["points"].shape) == 3
        points = arrays["points"].rows() if many else iter([arrays["points"].read()])
        part = _parts(arrays)
        for cloud in points:
            yield Cloud(cloud, next(part, None))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays that are known, under our names. `points` is there, and has a shape that can be."""
    with _from_hdf5(path) if path.suffix.lower() in HDF5 else _from_npz(path) as arrays:
        found = {
            ours: next(arrays[key] for key in theirs if key in arrays)
            for ours, theirs in KEYS.items()
            if any(key in arrays for key in theirs)
        }
        if "points" not in found:
            found["points"] = _unnamed(arrays) or _by_axis(found, arrays, path)
        shape = found["points"].shape
        if transposed(shape):
            raise Problem(
                f"{path}: 'points' has the shape {list(shape)}",
                "its rows are coordinates, not points: it looks transposed",
                f"store it as [{', '.join(map(str, (*shape[:-2], shape[-1], shape[-2])))}] (numpy: swapaxes(-1, -2))",
            )
        if len(shape) not in (2, 3) or shape[-1] < 3 or 0 in shape:
            raise wrong(path, f"'points' has the shape {list(shape)}, expected [P, 3] or [n, P, 3]")
        if "part" in found and found["part"].shape != shape[:-1]:
            raise wrong(path, f"'part' has the shape {list(found['part'].shape)}, expected {list(shape[:-1])}")
        yield found


def _unnamed(arrays: Mapping[str, Array]) -> Array | None:
    """The array of `numpy.savez(file, points)`, where there is no other."""
    return arrays["arr_0"] if list(arrays) == ["arr_0"] else None


def _by_axis(found: Mapping[str, Array], arrays: Mapping[str, Array], path: Path) -> Array:
    """One array for each of x, y and z."""
    if not {"x", "y", "z"} <= set(found):
        raise wrong(path, f"no array 'points' or 'data' in it; it has {', '.join(sorted(arrays)[:10]) or 'none'}")
    axes = [found[axis] for axis in "xyz"]
    lengths = [axis.shape for axis in axes]
    if len(set(lengths)) > 1 or len(lengths[0]) != 1:
        raise wrong(path, f"x, y and z have the shapes {', '.join(str(list(shape)) for shape in lengths)}")

    def read() -> NDArray[Any]:
        return np.stack([axis.read() for axis in axes], axis=1)

    return Array((*lengths[0], 3), read, lambda: iter(read()))


def wrong(path: Path, why: str) -> Problem:
    return Problem(f"{path}: not the arrays that are needed", why, "see docs/datasets.md for the names and shapes")


@contextlib.contextmanager
def _from_npz(path: Path) -> Iterator[dict[str, Array]]:
    with npz.opened(path) as members:
        yield {name: Array(member.shape, member.read, member.rows) for name, member in members.items()}


@contextlib.contextmanager
def _from_hdf5(path: Path) -> Iterator[dict[str, Array]]:
    with hdf5.opened(path) as file:
        found = {}
        for ours, theirs in KEYS.items():
            for key in theirs:
                if file.get(key, getlink=True) is not None:
                    found[key] = _dataset(file, path, key, "OSU" if ours in NAMES else "fiu")
        yield found


def _dataset(file: Any, path: Path, key: str, kinds: str) -> Array:
    shape = getattr(file.get(key), "shape", ())
    data = hdf5.dataset(file, path, key, (None,) * len(shape), kinds)
    row = math.prod(shape[1:]) * data.dtype.itemsize
    block = max(1, min(256, (16 << 20) // max(row, 1)))

    def read() -> NDArray[Any]:
        if row * (shape[0] if shape else 1) > npz.LARGEST:
            raise wrong(path, f"'{key}' is larger than {npz.LARGEST >> 20} MiB")
        return np.asarray(data.asstr()[:] if kinds == "OSU" else data[()])

    def rows() -> Iterator[NDArray[Any]]:
        if row > npz.LARGEST:
            raise wrong(path, f"a row of '{key}' is larger than {npz.LARGEST >> 20} MiB")
        return hdf5.rows(data, block)

    return Array(shape, read, rows)


def _numbers(arrays: Mapping[str, Array], key: str, number: int, path: Path) -> tuple[int, ...] | None:
    if key not in arrays:
        return None
    if math.prod(arrays[key].shape) != number:
        raise wrong(path, f"'{key}' has the shape {list(arrays[key].shape)} for {number} clouds")
    found = arrays[key].read().reshape(-1)
    if found.dtype.kind not in "iu" or found.min() < -1:
        raise wrong(path, f"'{key}' holds {found.dtype}, expected whole numbers from 0 on (-1: none)")
    return tuple(found.tolist())


def _texts(arrays: Mapping[str, Array], key: str) -> tuple[str, ...] | None:
    return tuple(str(text) for text in arrays[key].read().reshape(-1)) if key in arrays else None


def _parts(arrays: Mapping[str, Array]) -> Iterator[NDArray[Any]]:
    if "part" not in arrays:
        return iter(())
    return arrays["part"].rows() if len(arrays["part"].shape) == 2 else iter([arrays["part"].read()])


def _numbered(top: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(top + 1))
