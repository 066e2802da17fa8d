"""Weights in a file that `torch.save` wrote: tensors by name. Nothing that the file names is imported or called.

`torch.load(weights_only=True)` reads what is plain. Where it refuses, because a file keeps objects of a program beside
its weights (Lightning's hyper-parameters), a reader of our own takes the tensors, and whatever else the file names
becomes an empty stand-in, which takes any call and any state and does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jepa3d.problem import Problem

PICKLE = 64 << 20  # bytes of the pickle itself, which has no tensor's numbers
STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}  # fmt: skip


def read(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one of a file's parts, such as `state_dict`. A Problem for a file that has no such part."""
    if not path.is_file():
        raise Problem(f"{path}: no such file", "it is to hold the weights", "give the path of a checkpoint")
    try:
        whole = _plain(path)
    except Exception as error:  # zipfile, pickle and torch raise many kinds for a damaged file, assertions among them
        raise Problem(
            f"{path}: not a checkpoint that can be read",
            f"{type(error).__name__}: {error}".splitlines()[0][:200],
            "get the file again from its publisher; one of torch before 1.6 must be saved anew by its own program",
        ) from None
    found = whole.get(part) if isinstance(whole, Mapping) else None
    if not isinstance(found, Mapping):
        names = ", ".join(map(str, list(whole)[:8])) if isinstance(whole, Mapping) else f"a {type(whole).__name__}"
        raise Problem(
            f"{path}: has no '{part}'", f"it has {names or 'nothing'}", "give a checkpoint of the pretraining itself"
        )
    odd = [name for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise Problem(
            f"{path}: '{part}' holds more than tensors",
            f"{odd[0]} is a {type(found[odd[0]]).__name__.strip('_')}",
            "give a checkpoint of the pretraining itself",
        )
    return dict(found)


def _plain(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # of old protocols
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with zipfile.ZipFile(path) as archive:
            return _Reader(archive).load()


class _Storage(NamedTuple):
    """The numbers of one or more tensors, as bytes."""

    data: bytearray
    dtype: torch.dtype


class _Left:
    """Stands for what is no tensor: it takes whatever the file would do with it, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Left:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **named: Any) -> _Left:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass


class _Reader(pickle.Unpickler):
    """Python's unpickler, which makes what `find_class` gives, and that gives nothing of anybody else's."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        [name] = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        self.archive, self.folder = archive, name.removesuffix("data.pkl")
        self.storages: dict[str, _Storage] = {}
        if f"{self.folder}byteorder" in archive.namelist() and self._bytes("byteorder", 16) != b"little":
            raise ValueError("its numbers have the bytes of another processor's order")
        super().__init__(io.BytesIO(self._bytes("data.pkl", PICKLE)))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return {"_rebuild_tensor_v2": _tensor, "_rebuild_parameter": _parameter}[name]
        return STORAGES.get(name, _Left) if module == "torch" else _Left

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            return _Left()
        if key not in self.storages:
            size = int(count) * dtype.itemsize
            data = self._bytes(f"data/{key}", size)
            if len(data) != size:
                raise ValueError(f"data/{key} has {len(data)} bytes instead of {size}")
            self.storages[key] = _Storage(bytearray(data), dtype)
        return self.storages[key]

    def _bytes(self, name: str, limit: int) -> bytes:
        """A file of the archive: torch compresses none, so that none is larger than the archive."""
        entry = self.archive.getinfo(self.folder + name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
            raise ValueError(f"{entry.filename} has {entry.file_size} bytes, or is compressed")
        return self.archive.read(entry)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    """A tensor over the numbers of a storage, which must have as many; of a storage that was left, nothing."""
    if not isinstance(storage, _Storage):
        return _Left()
    whole = torch.frombuffer(storage.data, dtype=storage.dtype) if storage.data else torch.empty(0, dtype=storage.dtype)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride), default=0) < 0 or math.prod(size) > len(whole) or last >= max(len(whole), 1):
        raise ValueError(f"a tensor {list(size)} lies outside of its {len(whole)} numbers")
    return torch.as_strided(whole, size, stride, offset).clone()


def _parameter(data: Any, *_: Any) -> Any:
    return data
