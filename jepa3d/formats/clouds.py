"""Point clouds and meshes of other people's files, by their ending: nothing is trusted, run, or opened besides.

    .npy                        [P, 3 or more] numbers
    .npz .h5 .hdf5              arrays by name, see `jepa3d.formats.tables`
    .xyz .pts .txt              one point a line: x y z and anything after, see `jepa3d.formats.xyz`
    .pcd                        ascii, binary, binary_compressed
    .ply .obj .off .stl .glb    meshes, or clouds where there are no faces

Every fault is a Problem whose first line begins with the path.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from jepa3d.formats import arrays, meshes, pcd, tables, xyz
from jepa3d.formats.refusal import NotReadError
from jepa3d.problem import Problem

ARRAYS = (".npz", *tables.HDF5)
TEXTS = (".xyz", ".pts", ".txt")
MESHES = (".ply", ".obj", ".off", ".stl", ".glb")
ENDINGS = (".npy", *ARRAYS, *TEXTS, ".pcd", *MESHES)
LARGEST = 1 << 30  # bytes of one file
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)  # what readers of bytes raise
BEGINNINGS = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz or .zip",
    b"\x89HDF": ".h5",
    b"ply\n": ".ply",
    b"ply\r": ".ply",
    b"glTF": ".glb",
    b"OFF": ".off",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"\x1f\x8b": ".gz",
    b"<!DOCTYPE": ".html",
    b"<html": ".html",
    b"version https://git-lfs": "Git LFS pointer",
}


class Cloud(NamedTuple):
    """What one file holds: a point cloud, or a mesh to be sampled (never both)."""

    points: NDArray[Any]  # [P, 3], any kind of number; the vertices of a mesh
    faces: Int[np.ndarray, "F 3"] | None = None
    part: Int[np.ndarray, "P"] | None = None
    missing: int = 0  # points of the file that have no coordinates (NaN in a .pcd): they are left out


def read(path: Path | str) -> Cloud:
    """The one cloud or mesh of a file. Files of many clouds are for `jepa3d.formats.tables`."""
    if str(path).lower().endswith(".npy"):  # of these there may be very many: a Path costs a third of the read
        return Cloud(_xyz(_npy(path), path))
    path = Path(path)
    ending = path.suffix.lower()
    if ending in ARRAYS:
        return _from_table(path)
    data = _bytes(path)
    try:
        if ending in MESHES:
            mesh = meshes.read(data, ending[1:])
            return Cloud(_xyz(mesh.vertices, path), mesh.faces if len(mesh.faces) else None)
        points, missing = pcd.points(data) if ending == ".pcd" else (xyz.points(data), 0)
        return Cloud(_xyz(points, path), missing=missing)
    except NotReadError as error:
        raise Problem(f"{path}: cannot be read as {ending}", str(error), error.mend) from None
    except DAMAGE as error:
        raise _damaged(path, error, data[:32]) from None


def _from_table(path: Path) -> Cloud:
    try:
        points, part = next(tables.clouds(path))
    except Problem as problem:
        raise _hinted(problem, path) from None
    return Cloud(_xyz(points, path), part=part)


def _npy(path: Path | str) -> NDArray[Any]:
    try:
        return arrays.load(path)
    except Problem as problem:
        raise _hinted(problem, Path(path)) from None


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise Problem(f"{path}: no regular file", "it is a folder, a pipe or a device", "move it away")
        size = status.st_size
        with path.open("rb") as file:
            data = file.read(min(size, LARGEST + 1))
    except OSError as error:
        raise Problem(f"{path}: cannot be read", error.strerror or str(error)) from None
    if not data or len(data) > LARGEST:
        raise Problem(f"{path}: {'is empty' if not data else f'is larger than {LARGEST >> 20} MiB'}")
    return data


def _xyz(points: NDArray[Any], path: Path | str) -> NDArray[Any]:
    """The first three columns of a cloud that is one."""
    if arrays.transposed(points.shape) and points.ndim == 2:
        raise Problem(
            f"{path}: an array {list(points.shape)} is no point cloud",
            "its rows are coordinates, not points: it looks transposed",
            f"store it as [{points.shape[1]}, {points.shape[0]}] (numpy: .T)",
        )
    if points.ndim != 2 or points.shape[1] < 3 or not len(points) or points.dtype.kind not in "fiu":
        raise Problem(f"{path}: no point cloud", f"an array {list(points.shape)} of {points.dtype}, expected [P, 3]")
    return points[:, :3]


def _damaged(path: Path, error: Exception, head: bytes) -> Problem:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return _hinted(
        Problem(f"{path}: a damaged or wrong {path.suffix.lower()} file", why, "get the file again"), path, head
    )


def _hinted(problem: Problem, path: Path, head: bytes | None = None) -> Problem:
    """The same Problem; where the file begins like another kind, that is said."""
    try:
        if head is None and not path.is_file():
            return problem
        if head is None:
            with path.open("rb") as file:
                head = file.read(32)
    except OSError:
        return problem
    if not head:
        return Problem(f"{path}: is empty", "it has not a single byte", "get the file again")
    like = next((name for start, name in BEGINNINGS.items() if head.startswith(start)), None)
    if like is None or path.suffix.lower() in like:
        return problem
    return Problem(problem.what, f"it begins like a {like} file", "rename it, or get the file again")
