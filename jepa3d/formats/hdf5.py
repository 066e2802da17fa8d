"""Foreign HDF5 files: read-only, without locks, every declared size checked before anything is read."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from jepa3d.formats import texts
from jepa3d.problem import Problem

LARGEST = 64 << 30  # bytes that one data set may declare
LARGEST_CHUNK = 512 << 20
PACKED = 1100  # deflate cannot pack tighter than 1 : 1032
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, read-only and without locks (read-only mounts refuse them). Any fault of it is a Problem."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except ERRORS as error:
        if not path.exists():
            raise Problem(
                f"{path}: no such file", "the data set needs it", "see docs/datasets.md for how to get it"
            ) from None
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def numbered(folder: Path, stem: str, listed_in: str) -> list[Path]:
    """`stem`0.h5, `stem`1.h5 ..., by number, for the order of a folder is the file system's.

    A Problem where one is missing: before the last of them, or in the list of them, where the copy has it.
    """
    found = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := re.fullmatch(rf"{re.escape(stem)}(\d+)\.h5", path.name))
    }
    names = {path.name for path in found.values()}
    wanted = [f"{stem}{number}.h5" for number in range(max(found, default=-1) + 1)]
    if (folder / listed_in).exists():
        wanted += [texts.last_of(line, folder / listed_in) for line in texts.lines(folder / listed_in)]
    if missing := [name for name in wanted if name not in names]:
        raise Problem(
            f"{folder / missing[0]}: no such file, and {len(names)} others of its kind are there",
            "the copy is not complete",
            f"complete it, or shorten {listed_in} to what is there, numbered from 0 on",
        )
    return [found[number] for number in sorted(found)]


def damaged(path: Path, why: str) -> Problem:
    return Problem(f"{path}: a damaged or wrong HDF5 file", " ".join(why.split())[:300], "get the file again")


def dataset(file: h5py.File, path: Path, key: str, shape: tuple[int | None, ...], kinds: str = "fiu") -> h5py.Dataset:
    """A data set whose shape, type and declared size are as they must be; None stands for any length.

    Links into other files, virtual data sets and sizes that the file cannot hold are refused.
    """
    link = file.get(key, getlink=True) if key in file or file.get(key, getlink=True) is not None else None
    if link is None:
        raise damaged(path, f"no data set '{key}' in it; it has {', '.join(sorted(file)[:10]) or 'none'}")
    if not isinstance(link, h5py.HardLink):
        raise damaged(path, f"'{key}' is a link to elsewhere")
    found = file[key]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise damaged(path, f"'{key}' is no plain data set")
    if found.dtype.kind not in kinds:
        raise damaged(path, f"'{key}' has the type {found.dtype}, expected a number")
    if found.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, found.shape, strict=True)):
        wanted = " x ".join("n" if n is None else str(n) for n in shape)
        raise damaged(path, f"'{key}' has the shape {found.shape}, expected {wanted}")
    _check_size(found, path, key)
    return found


def _check_size(found: h5py.Dataset, path: Path, key: str) -> None:
    declared = math.prod(found.shape) * found.dtype.itemsize
    stored = found.id.get_storage_size()
    chunk = math.prod(found.chunks or (0,)) * found.dtype.itemsize
    limit = stored * PACKED if found.chunks else stored
    if declared > min(limit, LARGEST) or stored > path.stat().st_size or chunk > LARGEST_CHUNK:
        raise damaged(path, f"'{key}' declares {declared:,} bytes, the file holds {stored:,} for it")


def rows(data: h5py.Dataset, block: int = 256) -> Iterator[NDArray[Any]]:
    """The rows of a data set one by one, read in blocks: the memory is one block."""
    for start in range(0, len(data), block):
        yield from np.asarray(data[start : start + block])
