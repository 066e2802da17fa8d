"""Foreign meshes: read from the file's bytes alone, so that no other file is ever opened, and checked once more.

Each format has a reader of its own, since no library that we know reads or refuses all files as their formats say: of
14 that people have, trimesh 5.2 reads 5 wrong in silence and cannot open 6 good ones, assimp 1.1 reads 3 wrong,
pymeshlab 2025.7 3 wrong and crashes on a fourth, meshio 5.3 has no glTF (docs/datasets.md has the table).
mapbox_earcut cuts the polygons, and trimesh samples the surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jepa3d.formats import gltf, obj, off, ply, stl
from jepa3d.formats.polygons import Polygons, triangles

READERS = {"obj": obj.read, "off": off.read, "ply": ply.read, "stl": stl.read}


class Mesh(NamedTuple):
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]  # none: the vertices are a point cloud


def read(data: bytes, ending: str) -> Mesh:
    """The triangles of a file's bytes, in the file's frame; all objects of a scene together.

    A ValueError says what is wrong; a NotReadError, what the file needs that we do not read.
    """
    if ending == "glb":
        return _finite(_joined(gltf.read(data)))
    vertices, faces, announced_vertices, announced_faces = READERS[ending](data)
    if len(vertices) != announced_vertices or announced_faces not in (None, len(faces.sizes)):
        raise ValueError(
            f"{announced_vertices:,} vertices and {announced_faces} faces are announced, "
            f"{len(vertices):,} and {len(faces.sizes):,} were found"
        )
    if not len(vertices):
        raise ValueError("there is no geometry in it")
    return _finite(Mesh(vertices, triangles(vertices, faces)))


def _finite(mesh: Mesh) -> Mesh:
    if not np.isfinite(mesh.vertices).all():
        vertex = int(np.flatnonzero(~np.isfinite(mesh.vertices).all(axis=1))[0])
        raise ValueError(f"vertex {vertex + 1} has a coordinate that is not finite")
    return mesh


def sample(mesh: Mesh, count: int, seed: int) -> Float[np.ndarray, "count 3"]:
    """`count` points, uniform over the area. A ValueError when there is no area."""
    import trimesh

    with np.errstate(all="ignore"):
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        area = float(surface.area)
        if not (np.isfinite(area) and area > 0):
            raise ValueError("its surface has no area" if area == 0 else "its surface has no finite area")
        return np.asarray(trimesh.sample.sample_surface(surface, count, seed=seed)[0], np.float64)


def _joined(parts: list[gltf.Part]) -> Mesh:
    if not parts:
        raise ValueError("there is no geometry in it")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    found = [part.faces + start for part, start in zip(parts, starts, strict=False) if part.faces is not None]
    faces = np.concatenate(found) if found else np.empty((0, 3), np.int64)
    return Mesh(vertices, triangles(vertices, Polygons.alike(faces)))
