"""Point clouds and meshes of other people's files, by their ending: nothing is trusted, run, or opened besides.

    .npy                        [P, 3 or more] numbers
    .npz .h5 .hdf5              arrays by name, see `jepa3d.formats.tables`
    .xyz .pts .txt              one point a line: x y z and anything after; a first line with the count may be there
    .pcd                        ascii, binary, binary_compressed
    .ply .obj .off .stl .glb    meshes, or clouds where there are no faces

Every fault is a Problem whose first line begins with the path.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jepa3d.formats import arrays, meshes, pcd, tables
from jepa3d.problem import Problem

ARRAYS = (".npz", *tables.HDF5)
TEXTS = (".xyz", ".pts", ".txt")
MESHES = (".ply", ".obj", ".off", ".stl", ".glb")
ENDINGS = (".npy", *ARRAYS, *TEXTS, ".pcd", *MESHES)
LARGEST = 1 << 30  # bytes of one file
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
        return Cloud(_xyz(pcd.points(data) if ending == ".pcd" else text(data), path))
    except Problem:
        raise
    except Exception as error:  # trimesh has no exceptions of its own: it raises whatever the damage leads to
        raise _damaged(path, error, data[:32]) from None


def text(data: bytes) -> Float[np.ndarray, "P 3"]:
    """One point a line, separated by blanks, commas or semicolons; `#` and `//` begin comments."""
    plain = re.sub(rb"(#|//)[^\r\n]*", b"", data.removeprefix(b"\xef\xbb\xbf"))
    plain = plain.translate(bytes.maketrans(b",;\r", b"  \n")).strip()
    first, _, rest = plain.partition(b"\n")
    announced = int(first) if first.strip().isdigit() else None
    body = plain if announced is None else rest
    if not body.strip():
        raise ValueError("there is no point in it")
    points = np.loadtxt(io.BytesIO(body), np.float64, ndmin=2)
    if announced not in (None, len(points)):
        raise ValueError(f"its first line announces {announced:,} points, {len(points):,} follow")
    return points


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
        size = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(min(size, LARGEST + 1))
    except OSError as error:
        raise Problem(f"{path}: cannot be read", error.strerror or str(error)) from None
    if not data or len(data) > LARGEST:
        raise Problem(f"{path}: {'is empty' if not data else f'is larger than {LARGEST >> 20} MiB'}")
    return data


def _xyz(points: NDArray[Any], path: Path | str) -> NDArray[Any]:
    """The first three columns of a cloud that is one."""
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
