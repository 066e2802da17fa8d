"""Second readers, which share no code with ours: what a mutant holds by numpy alone.

Each gives the points as we read them and as it does, or None where it does not read the file: it is stricter, or the
file is one of those that docs/datasets.md says it reads wrong.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepa3d.formats import clouds

Pair = tuple[NDArray[Any], NDArray[Any]]
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])  # of a binary STL


def second(read: Callable[[Path], NDArray[Any] | None]) -> Callable[[Path], Pair | None]:
    def pair(path: Path) -> Pair | None:
        try:
            theirs = read(path)
        except Exception:  # whatever another reader raises, it has not read the file
            return None
        return None if theirs is None else (np.asarray(clouds.read(path).points, np.float64), theirs)

    return pair


def npy(path: Path) -> NDArray[Any] | None:
    return np.asarray(np.load(path)[:, :3], np.float64)


def npz(path: Path) -> NDArray[Any] | None:
    with np.load(path) as file:
        (name,) = file.files  # of several it is not clear which is meant
        found = file[name]
    return np.asarray(found[:, :3], np.float64) if found.ndim == 2 else None


def text(path: Path) -> NDArray[Any] | None:
    """Files of plain numbers between blanks."""
    data = path.read_bytes()
    if set(data) - set(b"0123456789.+-eE \n"):
        return None
    rows = np.loadtxt(io.BytesIO(data), ndmin=2)
    return rows[:, :3] if rows.shape[1] >= 3 else None


def stl(path: Path) -> NDArray[Any] | None:
    """The corners of a binary file's triangles, where it ends with the last."""
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    if len(data) != 84 + count * TRIANGLE.itemsize or data.lstrip().startswith(b"solid"):
        return None
    return np.frombuffer(data, TRIANGLE, count, 84)["corners"].reshape(-1, 3).astype(np.float64)


SECOND = {"npy": second(npy), "npz": second(npz), "text": second(text), "stl": second(stl)}
