"""Foreign `.npz` and `.h5` files of point clouds: one cloud, or many with their labels.

points | data | coords | xyz      [P, 3 or more] one cloud; [n, P, 3 or more] n clouds; .npz: or its only array, unnamed
x, y, z                           [P] each, instead
label | labels                    one, or [n] or [n, 1]: whole numbers from 0 on, of any type of number (MATLAB writes
                                  doubles); -1: none; or text, the names of the classes
part | part_label                 [P] or [n, P] whole numbers from 0 on; -1: none
class_names, part_names           names in the order of label and part
split                             [n] text: "train", "test", or another name of those (`jepa3d.formats.arrangement`)
name                              [n] names of the clouds

Anything else under one of these names is refused with the reason: the labels of a table are right or it is not read.
A fault of a file of many clouds is a `Misfit`, one of a file of one cloud a plain Problem.
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
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
WIDEST = 16  # columns of a point; where more are declared and another axis has 3, the axes are in another order
MOST_PARTS = 32767  # what int16 of the canonical file holds
EXACT = 2.0**53  # up to here a double holds every whole number


class Array(NamedTuple):
    """An array that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_text: bool
    read: Callable[[], NDArray[Any]]
    rows: Callable[[], Iterator[NDArray[Any]]]


class Contents(NamedTuple):
    """What a file says about its clouds."""

    rows: int | None  # None: one cloud, without the leading axis
    label: tuple[int, ...] | tuple[str, ...] | None  # one each, as the file has them
    split: tuple[str, ...] | None
    name: tuple[str, ...] | None
    classes: tuple[str, ...]  # the names that the file gives; (): none
    parts: tuple[str, ...]
    part: tuple[int, ...]  # the part labels that occur, in their order, without -1

    @property
    def number(self) -> int:
        return 1 if self.rows is None else self.rows


class Cloud(NamedTuple):
    points: Float[np.ndarray, "P C"]
    part: Int[np.ndarray, "P"] | None


class Misfit(Problem):
    """A file of many clouds whose arrays are not as they must be: to leave it out would lose all of them."""


def contents(path: Path) -> Contents:
    """Everything but the points. A Problem for a file that is damaged or whose arrays do not fit each other."""
    with opened(path) as arrays, _fitting(arrays["points"]):
        shape = arrays["points"].shape
        count = shape[0] if len(shape) == 3 else None
        number = 1 if count is None else count
        texts = {key: _texts(arrays, key, path) for key in NAMES}
        for key in ("split", "name"):
            if (found := texts[key]) is not None and len(found) != number:
                raise wrong(path, f"'{key}' has {len(found)} entries for {number} clouds")
        for key in ("classes", "parts"):
            _check_unique(texts[key] or (), key, path)
        label = _labels(arrays, number, path)
        _check_named(label or (), texts["classes"] or (), "label", path)
        part = _part_labels(arrays, path)
        _check_named(part, texts["parts"] or (), "part", path)
    return Contents(count, label, texts["split"], texts["name"], texts["classes"] or (), texts["parts"] or (), part)


def clouds(path: Path) -> Iterator[Cloud]:
    """The clouds one by one; the memory is one cloud."""
    with opened(path) as arrays:
        many = len(arrays["points"].shape) == 3
        points = arrays["points"].rows() if many else iter([arrays["points"].read()])
        part = _parts(arrays)
        for cloud in points:
            row = next(part, None)
            yield Cloud(cloud, None if row is None else whole(row, "part", path))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays that are known, under our names. `points` is there, and has a shape that can be."""
    with _from_hdf5(path) if path.suffix.lower() in HDF5 else _from_npz(path) as arrays:
        found = {}
        for ours, theirs in KEYS.items():  # the points first: they say whether a fault loses one cloud or many
            present = [key for key in theirs if key in arrays]
            if present:
                found[ours] = arrays[present[0]]
            if len(present) > 1:
                with _fitting(found.get("points")):
                    raise wrong(path, f"it has both '{present[0]}' and '{present[1]}', and one is meant")
        if "points" not in found:
            found["points"] = _unnamed(arrays) or _by_axis(found, arrays, path)
        with _fitting(found["points"]):
            _check_points(found["points"], path)
            shape = found["points"].shape
            if "part" in found and found["part"].shape != shape[:-1]:
                raise wrong(path, f"'part' has the shape {list(found['part'].shape)}, expected {list(shape[:-1])}")
        yield found


def _check_points(points: Array, path: Path) -> None:
    shape = points.shape
    if points.dtype.kind not in "fiu":
        raise wrong(path, f"'points' holds {points.dtype}, expected numbers in one array")
    if transposed(shape):
        raise Problem(
            f"{path}: 'points' has the shape {list(shape)}",
            "its rows are coordinates, not points: it looks transposed",
            f"store it as [{', '.join(map(str, (*shape[:-2], shape[-1], shape[-2])))}] (numpy: swapaxes(-1, -2))",
        )
    if len(shape) not in (2, 3) or shape[-1] < 3 or 0 in shape:
        raise wrong(path, f"'points' has the shape {list(shape)}, expected [P, 3] or [n, P, 3]")
    if shape[-1] > WIDEST and 3 in shape[:-1]:
        raise wrong(path, f"'points' has the shape {list(shape)}: its axes are in another order than [n, P, 3]")


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

    text = any(axis.is_text for axis in axes)
    dtype = axes[0].dtype if text else np.result_type(*(axis.dtype for axis in axes))
    return Array((*lengths[0], 3), dtype, text, read, lambda: iter(read()))


@contextlib.contextmanager
def _fitting(points: Array | None) -> Iterator[None]:
    """Faults of a file of many clouds are Misfits; `points` is None where it is not known yet."""
    try:
        yield
    except Problem as problem:
        if points is not None and len(points.shape) == 3:
            raise Misfit(problem.what, problem.why, problem.mend) from None
        raise


def wrong(path: Path, why: str) -> Problem:
    return Problem(f"{path}: not the arrays that are needed", why, "see docs/datasets.md for the names and shapes")


@contextlib.contextmanager
def _from_npz(path: Path) -> Iterator[dict[str, Array]]:
    with npz.opened(path) as members:
        found = {
            name: Array(member.shape, member.dtype, member.dtype.kind in "SU", member.read, member.rows)
            for name, member in members.items()
        }
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        known = {key for theirs in KEYS.values() for key in theirs}
        points = next((found[key] for key in KEYS["points"] if key in found), None)
        with _fitting(points):
            if unread := next((name for name in names if name in known and name not in found), None):
                raise wrong(path, f"'{unread}' is an array of objects, or of another kind that is not read")
        yield found


@contextlib.contextmanager
def _from_hdf5(path: Path) -> Iterator[dict[str, Array]]:
    with hdf5.opened(path) as file:
        found: dict[str, Array] = {}
        for ours, theirs in KEYS.items():  # the points first: they say whether a fault loses one cloud or many
            many = next((found[key] for key in KEYS["points"] if key in found), None)
            for key in theirs:
                if file.get(key, getlink=True) is not None:
                    with _fitting(many):
                        found[key] = _dataset(file, path, key, ours)
        yield found


def _dataset(file: Any, path: Path, key: str, ours: str) -> Array:
    shape = getattr(file.get(key), "shape", ())
    data = hdf5.dataset(file, path, key, (None,) * len(shape), "fiubOSUVcmM")
    is_text = h5py.check_string_dtype(data.dtype) is not None
    if data.dtype.kind not in "fiub" and not is_text:
        raise wrong(path, f"'{key}' holds {data.dtype}, no plain numbers and no text")
    row = math.prod(shape[1:]) * data.dtype.itemsize
    block = max(1, min(256, (16 << 20) // max(row, 1)))

    def read() -> NDArray[Any]:
        if row * (shape[0] if shape else 1) > npz.LARGEST:
            raise wrong(path, f"'{key}' is larger than {npz.LARGEST >> 20} MiB")
        return np.asarray(data.asstr()[()] if is_text else data[()])

    def rows() -> Iterator[NDArray[Any]]:
        if row > npz.LARGEST:
            raise wrong(path, f"a row of '{key}' is larger than {npz.LARGEST >> 20} MiB")
        return hdf5.rows(data, block)

    return Array(shape, data.dtype, is_text, read, rows)


# ---- labels


def _labels(arrays: Mapping[str, Array], number: int, path: Path) -> tuple[int, ...] | tuple[str, ...] | None:
    if "label" not in arrays:
        return None
    array = arrays["label"]
    if math.prod(array.shape) != number:
        why = f"'label' has the shape {list(array.shape)} for {number} clouds"
        if len(array.shape) == 2 and array.shape[0] == number and array.dtype.kind in "fiub":
            why += "; it may be one-hot: store its argmax"
        raise wrong(path, why)
    if array.is_text:
        found = _texts(arrays, "label", path) or ()
        if not all(found):
            raise wrong(path, "'label' has an empty text")
        return found
    return tuple(whole(array.read().reshape(-1), "label", path).tolist())


def whole(values: NDArray[Any], key: str, path: Path) -> NDArray[np.int64]:
    """The same values as int64, of any type of number; a Problem where one of them is not -1, 0, 1, 2 ..."""
    if values.dtype.kind not in "fiu":
        raise wrong(path, f"'{key}' holds {values.dtype}, expected whole numbers from 0 on (-1: none)")
    if values.dtype.kind == "f":
        wide = values.astype(np.float64)
        odd = ~np.isfinite(wide) | (wide != np.trunc(wide)) | (np.abs(wide) > EXACT)
    else:
        odd = values > np.iinfo(np.int64).max
    odd |= values < -1
    if odd.any():
        raise wrong(path, f"'{key}' holds {values[odd].flat[0]}, expected whole numbers from 0 on (-1: none)")
    return values.astype(np.int64)


def _check_named(values: tuple[Any, ...], names: tuple[str, ...], key: str, path: Path) -> None:
    """Every label has a name, where the file gives names."""
    known = set(names)
    for value in set(values) if names else ():
        if isinstance(value, str) and value not in known:
            raise wrong(path, f"'{key}' holds '{value}', which is not among the {len(names)} names that are given")
        if isinstance(value, int) and value >= len(names):
            raise wrong(path, f"'{key}' holds {value}, and {len(names)} names are given, for 0 to {len(names) - 1}")


def _check_unique(names: tuple[str, ...], key: str, path: Path) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise wrong(path, f"the names of the {key} have '{twice}' twice")


def _texts(arrays: Mapping[str, Array], key: str, path: Path) -> tuple[str, ...] | None:
    """Text, in the normal form NFC."""
    if key not in arrays:
        return None
    if not arrays[key].is_text:
        raise wrong(path, f"'{key}' holds {arrays[key].dtype}, expected text")
    found = arrays[key].read().reshape(-1)
    return tuple(
        unicodedata.normalize("NFC", text.decode("utf-8") if isinstance(text, bytes) else str(text)) for text in found
    )


def _part_labels(arrays: Mapping[str, Array], path: Path) -> tuple[int, ...]:
    """Those that occur."""
    found: set[int] = set()
    for row in _parts(arrays):
        found.update(np.unique(whole(row, "part", path)).tolist())
        if len(found) > MOST_PARTS:
            raise wrong(path, f"'part' has more than {MOST_PARTS:,} different labels")
    return tuple(sorted(found - {-1}))


def _parts(arrays: Mapping[str, Array]) -> Iterator[NDArray[Any]]:
    if "part" not in arrays:
        return iter(())
    return arrays["part"].rows() if len(arrays["part"].shape) == 2 else iter([arrays["part"].read()])
