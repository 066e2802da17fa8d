"""Foreign meshes, mostly through trimesh: read from the file's bytes alone, so that no other file is ever opened.

trimesh takes some damage in silence; what it overlooks is checked here before it sees the bytes: `.ply` files in ascii
that are cut short, `.glb` files that announce more than they hold. `.off` files are read here.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

OFF = re.compile(rb"\s*(ST)?C?N?OFF(?![A-Za-z])")


class Mesh(NamedTuple):
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]  # none: the vertices are a point cloud


def read(data: bytes, ending: str) -> Mesh:
    """The triangles of a file's bytes, in the file's frame; all objects of a scene together.

    trimesh raises many kinds of exceptions for damaged files; they are passed on.
    """
    if ending == "off":
        return _joined([off(data)])
    import trimesh

    data = {"ply": whole_ply, "glb": honest_glb}.get(ending, bytes)(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "string or file could not be read")  # numpy, of text that is no number
        loaded = trimesh.load(
            io.BytesIO(data), file_type=ending, process=False, skip_materials=True, maintain_order=True, resolver=None
        )
    return _joined([_plain(part, np.eye(4)) for part in [loaded] if hasattr(part, "vertices")] or _scene(loaded))


def sample(mesh: Mesh, count: int, seed: int) -> Float[np.ndarray, "count 3"]:
    """`count` points, uniform over the area. A ValueError when there is no area."""
    import trimesh

    with np.errstate(all="ignore"):
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        area = float(surface.area)
        if not (np.isfinite(area) and area > 0):
            raise ValueError("its surface has no area" if area == 0 else "its surface has no finite area")
        return np.asarray(trimesh.sample.sample_surface(surface, count, seed=seed)[0], np.float64)


def _scene(scene: Any) -> list[Mesh]:
    """Every object of a scene, where the scene has it."""
    found = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        found.append(_plain(scene.geometry[name], np.asarray(transform, np.float64)))
    return found


def _plain(part: Any, transform: NDArray[np.float64]) -> Mesh:
    vertices = np.asarray(part.vertices, np.float64).reshape(-1, 3) @ transform[:3, :3].T + transform[:3, 3]
    return Mesh(vertices, np.asarray(getattr(part, "faces", ()), np.int64).reshape(-1, 3))


def _joined(meshes: list[Mesh]) -> Mesh:
    if not meshes:
        raise ValueError("there is no geometry in it")
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)])
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError("a face names a vertex that there is not")
    return Mesh(vertices, faces)


def off(data: bytes) -> Mesh:
    """An `.off` file as they are in the wild: `OFF123 45 6` on one line, comments, colours, normals, polygons.

    trimesh reads most of these too, but takes one that is cut short for whole, and needs three times as long.
    """
    text = re.sub(rb"#[^\r\n]*", b"", data.removeprefix(b"\xef\xbb\xbf"))
    keyword = OFF.match(text)
    if not keyword:
        raise ValueError("it does not begin with OFF, or is one of the binary or four-dimensional kinds")
    lines = [line for line in re.split(rb"[\r\n]+", text[keyword.end() :]) if line and not line.isspace()]
    if not lines:
        raise ValueError("nothing follows OFF")
    vertices, faces = (int(word) for word in lines[0].split()[:2])
    if vertices < 0 or faces < 0 or len(lines) - 1 < vertices + faces:
        raise ValueError(f"it announces {vertices:,} vertices and {faces:,} faces, {len(lines) - 1:,} lines follow")
    return Mesh(_vertices(lines[1 : 1 + vertices]), _triangles(lines[1 + vertices : 1 + vertices + faces]))


def _vertices(lines: list[bytes]) -> Float[np.ndarray, "V 3"]:
    """x y z of every line; what follows them (normals, colours) is passed over."""
    words = b" ".join(lines).split()
    if len(words) != 3 * len(lines):
        words = [word for line in lines for word in (*line.split(None, 3), b"", b"", b"")[:3]]
    return np.array(words, np.float64).reshape(-1, 3)


def _triangles(lines: list[bytes]) -> Int[np.ndarray, "F 3"]:
    """`n a b c ...` of every line as a fan of triangles; what follows the n indices (a colour) is passed over."""
    words = b" ".join(lines).split()
    if len(words) == 4 * len(lines):
        table = np.array(words, np.float64).reshape(-1, 4)
        if (table[:, 0] == 3).all():
            return table[:, 1:].astype(np.int64)
    triangles = []
    for line in lines:
        number, *corners = line.split()
        if len(corners) < int(number):
            raise ValueError("a face has fewer vertices than it announces")
        fan = [int(corner) for corner in corners[: int(number)]]
        triangles += [(fan[0], a, b) for a, b in pairwise(fan[1:])]
    return np.array(triangles, np.int64).reshape(-1, 3)


def whole_ply(data: bytes) -> bytes:
    """The same bytes, when an ascii `.ply` has as many lines as it announces. trimesh checks the binary ones itself."""
    header, end, body = data.partition(b"end_header")
    if not data.startswith(b"ply") or not end:
        raise ValueError("it has no complete .ply header")
    if re.search(rb"format\s+ascii", header):
        announced = sum(int(count) for count in re.findall(rb"element\s+\S+\s+(\d+)", header))
        lines = sum(1 for line in body.splitlines() if line.strip())
        if lines < announced:
            raise ValueError(f"it announces {announced:,} elements, {lines:,} lines follow")
    return data


def honest_glb(data: bytes) -> bytes:
    """The same bytes, when no accessor announces more than the file holds and the nodes form trees, as glTF wants."""
    if data[:4] != b"glTF" or len(data) < 20 or int.from_bytes(data[8:12], "little") > len(data):
        raise ValueError("it is no glTF file, or cut short")
    content = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    announced = sum(int(accessor["count"]) for accessor in content.get("accessors", ()))
    if announced > len(data):
        raise ValueError(f"it announces {announced:,} elements in {len(data):,} bytes")
    children = [child for node in content.get("nodes", ()) for child in node.get("children", ())]
    if len(children) != len(set(children)):
        raise ValueError("a node has two parents")
    if any(not str(buffer.get("uri", "data:")).startswith("data:") for buffer in content.get("buffers", ())):
        raise ValueError("its data are in another file")
    return data
