"""The one way into each of our files that was made earlier: its whole structure is checked as it is opened.

Names, shapes and types of its arrays, the bytes that it holds for them, the ranges of labels, its attributes. Points
and indices are checked where they are read, block by block (`check_points`, `check_indices`). Whatever is wrong is a
Problem: "damaged: X", with the command that makes the file. Encoders are opened by `pretrained.load`, evaluations by
`finding.read`, checkpoints by `train.checkpoint`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError, model_validator

from jepa3d.results import heaps, store

BLOCK = 1 << 20  # labels that are looked at together
FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError)


# ---- HDF5


def canonical(path: Path) -> Any:
    """`with canonical(path) as file`: the file that `convert` writes."""
    return _opened(path, _canonical)


def patches(path: Path) -> Any:
    """`with patches(path) as file`: the file that `patchify` writes."""
    return _opened(path, _patches)


class Features(NamedTuple):
    """The file that `embed` writes."""

    context: NDArray[np.float32]  # [n, F]
    target: NDArray[np.float32] | None
    label: NDArray[np.int64]  # [n]
    split: NDArray[np.str_]  # [n]
    id: NDArray[np.str_]  # [n]
    classes: tuple[str, ...]
    pool: str
    kind: str


def features(path: Path) -> Features:
    """All of it, in memory."""
    with _opened(path, _features) as file:
        about = store.attributes(file)
        made = [np.asarray(file[which][:]) if which in file else None for which in ("context", "target")]
        for array in made:
            if array is not None and not np.isfinite(array).all():
                raise store.damaged(path, "features that are NaN or infinite")
        split, ids, label = splits(file["split"]), store.text(file["id"]), np.asarray(file["label"][:])
        context: Any = made[0]  # `_features` saw that it is there
        return Features(context, made[1], label, split, ids, tuple(about["classes"]), about["pool"], about["kind"])


def splits(data: h5py.Dataset, start: int = 0, stop: int | None = None) -> NDArray[np.str_]:
    """Some rows of the array `split`."""
    found: NDArray[np.str_] = store.text(data, start, stop)
    if not np.isin(found, ("train", "test")).all():
        raise store.damaged(Path(data.file.filename), "a split other than train and test")
    return found


def check_points(points: NDArray[np.float32], path: Path) -> None:
    if not np.isfinite(points.sum()) and not np.isfinite(points).all():  # the sum may overflow
        raise store.damaged(path, "points that are NaN or infinite")


def check_indices(found: NDArray[np.integer[Any]], below: int, path: Path) -> None:
    if found.max(initial=0) >= below:
        raise store.damaged(path, f"an index of {found.max()} among {below} points")


@contextmanager
def _opened(path: Path, check: Callable[[h5py.File], None]) -> Iterator[h5py.File]:
    with store.open_h5(path) as file:
        try:
            check(file)
        except FAULTS as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise store.damaged(path, f"{kind}{error}") from None
        yield file


def _canonical(file: h5py.File) -> None:
    about = store.attributes(file)
    count, points = _array(file, "points", np.float32, None, None, 3).shape[:2]
    _described(file, about, count)
    if not count or not points:
        raise ValueError(f"{count} shapes of {points} points")
    _names(about, "parts")
    if "part" in file:
        _array(file, "part", np.int16, count, points)
    if not isinstance(about.get("config", {}), dict):
        raise ValueError("its config is no mapping")


def _patches(file: h5py.File) -> None:
    count, below = _array(file, "centre", np.uint16, None, None).shape
    _array(file, "neighbour", np.uint16, count, below, None)
    if "point" in file:
        _array(file, "point", np.uint16, count, None)
    for level in itertools.takewhile(lambda level: f"centre_{level}" in file, itertools.count(1)):
        number = _array(file, f"centre_{level}", np.uint16, count, None).shape[1]
        _array(file, f"neighbour_{level}", np.uint16, count, number, None)
    if not isinstance(store.attributes(file)["provenance"], dict):
        raise ValueError("its provenance is no mapping")


def _features(file: h5py.File) -> None:
    about = store.attributes(file)
    count = _array(file, "context", np.float32, None, None).shape[0]
    if "target" in file:
        _array(file, "target", np.float32, count, None)
    _described(file, about, count)
    for key in ("pool", "kind"):
        if not isinstance(about[key], str):
            raise ValueError(f"its {key} is no text")


def _described(file: h5py.File, about: Mapping[str, Any], count: int) -> None:
    """Labels, splits, ids and names of classes of `count` shapes."""
    label, names = _array(file, "label", np.int64, count), _names(about, "classes")
    for start in range(0, count, BLOCK):
        some = label[start : start + BLOCK]
        if not -1 <= some.min() <= some.max() < len(names):
            raise ValueError(f"a label of {some.min()} or {some.max()} among {len(names)} classes")
    for key in ("split", "id"):
        data = _hard(file, key)
        if data.shape != (count,) or h5py.check_string_dtype(data.dtype) is None:
            raise ValueError(f"'{key}' is {data.dtype}{data.shape}, not {count} texts")
        if why := heaps.claimed(data):
            raise ValueError(f"'{key}': {why}")
    if not isinstance(about["provenance"], dict):
        raise ValueError("its provenance is no mapping")


def _names(about: Mapping[str, Any], key: str) -> list[str]:
    names: list[str] = about[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"its {key} are no list of different names")
    return names


def _array(file: h5py.File, key: str, dtype: Any, *shape: int | None) -> h5py.Dataset:
    """An array of this type and shape (None: any length), of which the file has all bytes."""
    data = _hard(file, key)
    fits = len(data.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, data.shape, strict=True)
    )
    if data.dtype != np.dtype(dtype) or not fits:
        wanted = " x ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"'{key}' is {data.dtype}{data.shape}, expected {np.dtype(dtype)} {wanted}")
    if not data.is_virtual and data.id.get_storage_size() < data.nbytes:
        raise ValueError(f"'{key}' declares {data.nbytes:,} bytes and has {data.id.get_storage_size():,}")
    return data


def _hard(file: h5py.File, key: str) -> h5py.Dataset:
    """A dataset of the file itself: no link, nothing in another file but the shards that it names."""
    if key not in file or not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no '{key}'")
    data = file[key]
    if not isinstance(data, h5py.Dataset) or data.external or (data.is_virtual and "shards" not in file.attrs):
        raise ValueError(f"'{key}' is no array of its own")
    if data.is_virtual and not {Path(source.file_name).name for source in data.virtual_sources()} <= {
        Path(name).name for name in store.attributes(file)["shards"]
    }:
        raise ValueError(f"'{key}' refers to a file that is none of its shards")
    return data


# ---- JSON


class _Lenient(BaseModel):
    """What readers of a file rely on; it may have more."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Bounds(_Lenient):
    low: list[float]
    high: list[float]


class _Splits(_Lenient):
    train: NonNegativeInt
    test: NonNegativeInt


class _Aside(_Lenient):
    id: str
    why: str


class _Repeats(_Lenient):
    contents: NonNegativeInt
    shapes: NonNegativeInt
    first: list[Annotated[list[str], Field(min_length=1)]]

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.contents and not self.first:
            raise ValueError("none of the contents is named")
        return self


class _Findings(_Lenient):
    in_both_splits: _Repeats | None = None
    in_two_classes: _Repeats | None = None


class _Audit(_Lenient):
    dataset: str
    shapes: NonNegativeInt
    points: NonNegativeInt
    splits: _Splits
    classes: dict[str, _Splits]
    unlabelled: NonNegativeInt
    bounds: _Bounds
    set_aside: list[_Aside]
    without_coordinates: dict[str, NonNegativeInt] = {}
    split_from: str
    passed_over: dict[str, NonNegativeInt] = {}
    findings: _Findings = _Findings()


class _Spread(_Lenient):
    mean: float
    std: float
    values: list[float]


class _Row(_Lenient):
    step: NonNegativeInt


Metrics = dict[str, dict[str, dict[str, _Spread]]]


def audit(path: Path) -> dict[str, Any]:
    """The audit that `convert` writes beside the canonical file."""
    found: dict[str, Any] = store.read_json(path)
    _fits(path, _Audit, found)
    return found


def metrics(path: Path) -> dict[str, Any]:
    """metrics.json: run -> evaluation -> metric -> mean, std, values."""
    found: dict[str, Any] = store.read_json(path)
    _fits(path, Metrics, found)
    return found


def curve(path: Path) -> list[dict[str, Any]]:
    """Every line of a finished training's curve."""
    lines = store.read_lines(path)
    _fits(path, list[_Row], lines)
    for line in lines:
        if not isinstance(line.get("cost", {}), dict):
            raise store.damaged(path, "its cost is no mapping")
    return lines


def _fits(path: Path, kind: Any, data: Any) -> None:
    try:
        TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise store.damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
