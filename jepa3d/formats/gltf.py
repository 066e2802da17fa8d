"""Binary glTF 2.0 (`.glb`): the triangles of the default scene, where the scene has them.

Specification: Khronos, "glTF 2.0", sections 3.5 (scenes and nodes), 3.6 (buffers, accessors, sparse ones), 3.7.2
(meshes, modes of primitives, morph targets), 3.7.3 (skins: the node's own transform does not count), 4.4 (GLB), and the
extensions KHR_mesh_quantization and EXT_mesh_gpu_instancing. An extension that a file requires and that may change its
surface is refused by name, and so is compression (KHR_draco_mesh_compression, EXT_meshopt_compression) of data that
are not there without it. Meshes are in the pose that the nodes have, without animation.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jepa3d.formats.refusal import NotReadError

HARMLESS = ("KHR_mesh_quantization", "EXT_mesh_gpu_instancing", "KHR_texture_", "EXT_texture_", "MSFT_texture_",
            "KHR_materials_", "KHR_lights_", "EXT_lights_", "KHR_xmp", "EXT_mesh_manifold")  # fmt: skip
DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression", "MESHOPT_compression")
INSTANCES = "EXT_mesh_gpu_instancing"
PLAIN = "export it again without this extension"
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
POINTS, LINES, TRIANGLES, STRIP, FAN = 0, (1, 2, 3), 4, 5, 6
MOST = 96 << 20  # bytes of what a file unfolds to, beside so many times its own size:
TIMES = 12
WORK = 1 << 30  # bytes of numbers that are read for it, again and again where it names them so
AWRY = 0.05  # how far weights of a skin may be from a sum of 1, and a quaternion from length 1


class Part(NamedTuple):
    """One primitive where it stands."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"] | None  # None: points


def read(data: bytes) -> list[Part]:
    """The triangles of the default scene; its points where it has no triangles. A ValueError says what is wrong."""
    return File(data).parts()


class File:
    """A file's JSON, its binary chunk, and what has been read of it."""

    def __init__(self, data: bytes) -> None:
        self.content, self.binary = _chunks(data)
        self.room = MOST + TIMES * len(data)
        self.work = WORK + 4 * self.room
        self.globals: dict[int, Float[np.ndarray, "4 4"]] = {}
        self.buffers: dict[int, bytes] = {}
        self.primitives: dict[tuple[int, int], tuple[NDArray[Any], Int[np.ndarray, "F 3"] | None]] = {}
        version = _map(self.content, "asset")
        if str(version.get("version", "")).split(".")[0] != "2" or str(version.get("minVersion", "2.0")) != "2.0":
            raise NotReadError(f"it is glTF {version.get('minVersion', version.get('version'))}", "save it as glTF 2.0")
        for name in _list(self.content, "extensionsRequired"):
            if not str(name).startswith((*HARMLESS, DRACO, *MESHOPT)):
                raise NotReadError(f"it requires the extension {str(name)[:60]}", PLAIN)
        self.nodes = _list(self.content, "nodes")
        self.parents = self._parents()

    def _parents(self) -> dict[int, int]:
        parents: dict[int, int] = {}
        for number, node in enumerate(self.nodes):
            for child in _list(node, "children"):
                self._of("nodes", child)
                if child in parents:
                    raise ValueError(f"node {child} has two parents")
                parents[child] = number
        trees = [number for number in range(len(self.nodes)) if number not in parents]
        for number in trees:  # grows while it is walked
            trees += _list(self.nodes[number], "children")
        if len(trees) != len(self.nodes):
            raise ValueError("its nodes form a circle")
        return parents

    def _of(self, kind: str, number: Any) -> dict[str, Any]:
        """An entry of one of the lists, by its number."""
        entries = _list(self.content, kind)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(entries):
            raise ValueError(f"it names {kind} {str(number)[:20]}, of {len(entries)}")
        entry = entries[number]
        if not isinstance(entry, dict):
            raise ValueError(f"{kind} {number} is no object")
        return entry

    # ------------------------------------------------------------------------------------------------- the scene

    def parts(self) -> list[Part]:
        found = [part for node in self._visible() for part in self._of_node(node)]
        if not self.nodes:  # a library of meshes
            found = [part for mesh in range(len(_list(self.content, "meshes"))) for part in self._of_mesh(mesh)]
        surfaces = [part for part in found if part.faces is not None]
        return surfaces or found

    def _of_mesh(self, mesh: int) -> Iterator[Part]:
        """A mesh in its own frame."""
        entry = self._of("meshes", mesh)
        for place in range(len(_list(entry, "primitives"))):
            if self._mode(mesh, place) not in LINES:
                yield self._counted(Part(*self._primitive(mesh, place, entry.get("weights"))))

    def _visible(self) -> list[int]:
        """The nodes of the default scene, parents first; of all trees where there is no scene."""
        scenes = _list(self.content, "scenes")
        if "scene" in self.content:
            open_nodes = _list(self._of("scenes", self.content["scene"]), "nodes")
        elif len(scenes) > 1:
            raise NotReadError(f"it has {len(scenes)} scenes, and none is its default", "save one scene a file")
        else:
            open_nodes = _list(self._of("scenes", 0), "nodes") if scenes else self._roots()
        if any(node in self.parents for node in open_nodes) or len(set(open_nodes)) != len(open_nodes):
            raise ValueError("its scene names a node twice, or one that has a parent")
        open_nodes, seen = open_nodes[::-1], []
        while open_nodes:
            number = open_nodes.pop()
            node = self._of("nodes", number)
            if _extension(node, "KHR_node_visibility").get("visible", True) is not True:
                raise NotReadError("it has hidden nodes (KHR_node_visibility)", PLAIN)
            seen.append(number)
            open_nodes += _list(node, "children")[::-1]
        return seen

    def _roots(self) -> list[int]:
        return [number for number in range(len(self.nodes)) if number not in self.parents]

    def _of_node(self, number: int) -> Iterator[Part]:
        node = self._of("nodes", number)
        if "mesh" not in node:
            return
        mesh = self._of("meshes", node["mesh"])
        places = self._places(node, number)
        for place in range(len(_list(mesh, "primitives"))):
            if self._mode(node["mesh"], place) in LINES:
                continue
            weights = node.get("weights", mesh.get("weights"))
            vertices, faces = self._primitive(node["mesh"], place, weights)
            if "skin" in node:
                if INSTANCES in _map(node, "extensions"):
                    raise NotReadError(f"a skin and {INSTANCES} are on one node", PLAIN)
                yield self._counted(Part(self._skinned(vertices, node["mesh"], place, node["skin"]), faces))
                continue
            for transform in places:
                moved = vertices @ transform[:3, :3].T + transform[:3, 3]
                yield self._counted(Part(moved, faces))

    def _counted(self, part: Part) -> Part:
        """What nodes and instances unfold to is bounded."""
        self.room -= part.vertices.nbytes + (0 if part.faces is None else part.faces.nbytes)
        if self.room < 0:
            raise NotReadError("it repeats its meshes so often that they do not fit the memory", "save fewer copies")
        return part

    def _places(self, node: Mapping[str, Any], number: int) -> list[Float[np.ndarray, "4 4"]]:
        """Where a node's mesh stands: once, or as often as EXT_mesh_gpu_instancing says."""
        here = self._global(number)
        if INSTANCES not in _map(node, "extensions"):
            return [here]
        attributes = _map(_extension(node, INSTANCES), "attributes")
        given = {
            name: self._accessor(attributes[name])
            for name in ("TRANSLATION", "ROTATION", "SCALE")
            if name in attributes
        }
        counts = {len(values) for values in given.values()}
        counts |= {int(self._of("accessors", accessor).get("count", -1)) for accessor in attributes.values()}
        if len(counts) != 1:
            raise ValueError(f"{INSTANCES} has attributes of different lengths" if counts else f"{INSTANCES} has none")
        count = counts.pop()
        if count * 128 > self.room:
            raise NotReadError(f"it has {count:,} instances", "save fewer copies")
        plain = {"TRANSLATION": (0.0, 0, 0), "ROTATION": (0.0, 0, 0, 1), "SCALE": (1.0, 1, 1)}
        rows = {name: given[name] if name in given else np.tile(value, (count, 1)) for name, value in plain.items()}
        if any(values.shape != (count, len(plain[name])) for name, values in rows.items()):
            raise ValueError(f"{INSTANCES} has attributes of a wrong type")
        each = zip(rows["TRANSLATION"], rows["ROTATION"], rows["SCALE"], strict=True)
        return [here @ _placed(translation, rotation, scale) for translation, rotation, scale in each]

    def _global(self, number: int) -> Float[np.ndarray, "4 4"]:
        """From a node's frame to the scene's."""
        chain = [number]
        while chain[-1] not in self.globals and chain[-1] in self.parents:
            chain.append(self.parents[chain[-1]])
        for step in reversed(chain):
            if step not in self.globals:
                local = _local(self._of("nodes", step))
                parent = self.parents.get(step)
                self.globals[step] = local if parent is None else self.globals[parent] @ local
        return self.globals[number]

    # -------------------------------------------------------------------------------------------------- meshes

    def _entry(self, mesh: int, place: int) -> dict[str, Any]:
        entry = _list(self._of("meshes", mesh), "primitives")[place]
        if not isinstance(entry, dict):
            raise ValueError("a primitive is no object")
        return entry

    def _mode(self, mesh: int, place: int) -> int:
        mode = self._entry(mesh, place).get("mode", TRIANGLES)
        if not isinstance(mode, int) or not POINTS <= mode <= FAN:
            raise ValueError(f"the mode {str(mode)[:20]} of a primitive is unknown")
        return mode

    def _primitive(
        self, mesh: int, place: int, weights: Any
    ) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"] | None]:
        """Vertices and triangles in the mesh's own frame, morphed."""
        if (mesh, place) not in self.primitives:
            self.primitives[mesh, place] = self._read_primitive(mesh, place)
        vertices, faces = self.primitives[mesh, place]
        targets = _list(self._entry(mesh, place), "targets")
        if weights is None or not targets:
            return vertices, faces
        if not isinstance(weights, list) or len(weights) != len(targets):
            raise ValueError(f"{len(targets)} morph targets have not as many weights")
        for weight, target in zip(_numbers(weights), targets, strict=True):
            if weight and isinstance(target, dict) and "POSITION" in target:
                moved = self._accessor(target["POSITION"])
                if moved.shape != vertices.shape:
                    raise ValueError("a morph target has not as many vertices as its mesh")
                vertices = vertices + weight * moved
        return vertices, faces

    def _read_primitive(self, mesh: int, place: int) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"] | None]:
        entry, mode = self._entry(mesh, place), self._mode(mesh, place)
        attributes = _map(entry, "attributes")
        if "POSITION" not in attributes:
            raise ValueError("a primitive has no POSITION")
        if DRACO in _map(entry, "extensions"):
            used = [attributes["POSITION"], *([entry["indices"]] if "indices" in entry else ())]
            required = DRACO in _list(self.content, "extensionsRequired")
            if required or any("bufferView" not in self._of("accessors", number) for number in used):
                raise NotReadError(f"a part of it is compressed with {DRACO}", PLAIN)
        vertices = self._accessor(attributes["POSITION"])
        if vertices.shape[1:] != (3,):
            raise ValueError("a POSITION is no VEC3")
        if "indices" in entry:
            index = self._accessor(entry["indices"], whole=True)
            if index.shape[1:] != (1,):
                raise ValueError("indices are no SCALAR")
            corners = index[:, 0].astype(np.int64)
        else:
            corners = np.arange(len(vertices))
        if len(corners) and int(corners.max()) >= len(vertices):
            raise ValueError(f"a face names a vertex that there is not (of {len(vertices):,})")
        return vertices, None if mode == POINTS else _triangles(corners, mode)

    def _skinned(
        self, vertices: Float[np.ndarray, "V 3"], mesh: int, place: int, skin: Any
    ) -> Float[np.ndarray, "V 3"]:
        """Moved by its joints: the sum of weight x joint's global transform x inverse bind matrix."""
        entry = self._of("skins", skin)
        joints = _list(entry, "joints")
        for joint in joints:
            self._of("nodes", joint)
        matrices = np.stack([self._global(joint) for joint in joints]) if joints else np.empty((0, 4, 4))
        if "inverseBindMatrices" in entry:
            inverse = self._accessor(entry["inverseBindMatrices"])
            if len(inverse) < len(joints) or inverse.shape[1:] != (16,):
                raise ValueError("a skin has not as many inverse bind matrices as joints")
            matrices = matrices @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        attributes = _map(self._entry(mesh, place), "attributes")
        names = sorted(name for name in attributes if name.startswith("JOINTS_"))
        moved, total = np.zeros_like(vertices), np.zeros(len(vertices))
        for name in names:
            which = self._accessor(attributes[name], whole=True)
            weight = self._accessor(attributes.get(name.replace("JOINTS_", "WEIGHTS_")))
            if which.shape != weight.shape or which.shape != (len(vertices), 4):
                raise ValueError("a skinned mesh has joints and weights that do not fit its vertices")
            if (which[weight != 0] >= len(joints)).any():
                raise ValueError(f"a vertex names a joint that there is not (of {len(joints)})")
            for k in range(4):
                by = matrices[np.where(weight[:, k] != 0, which[:, k], 0).astype(np.int64)]
                moved += weight[:, k, None] * (np.einsum("vij,vj->vi", by[:, :3, :3], vertices) + by[:, :3, 3])
            total += weight.sum(axis=1)
        if not (np.abs(total - 1) <= AWRY).all():
            raise ValueError("the weights of a skinned vertex do not add up to 1")
        return moved

    # ------------------------------------------------------------------------------------------- numbers in buffers

    def _accessor(self, number: Any, whole: bool = False) -> NDArray[Any]:
        """[count, components] as float64, normalised where the accessor is; whole numbers as they are."""
        entry = self._of("accessors", number)
        kind, width, count = (
            COMPONENTS.get(entry.get("componentType", 0)),
            WIDTHS.get(entry.get("type", "")),
            entry.get("count"),
        )
        if kind is None or width is None or not isinstance(count, int) or count < 1:
            raise ValueError(f"accessor {number} is of an unknown type or has no count")
        if whole and np.dtype(kind).kind != "u":
            raise ValueError(f"accessor {number} has no whole numbers from 0 on")
        self.work -= count * width * 8
        if self.work < 0:
            raise NotReadError("it names the same numbers too often", "save fewer morph targets or copies")
        if "bufferView" in entry:
            stored = self._view(entry["bufferView"], _offset(entry), kind, width, count)
        elif "sparse" in entry:
            if count * width * 8 > self.room:
                raise NotReadError(
                    f"accessor {number} has {count:,} elements, most of them 0", "save it without sparse accessors"
                )
            stored = np.zeros((count, width), kind)
        else:
            raise ValueError(f"accessor {number} has no data")
        if "sparse" in entry:
            stored = self._replaced(stored, _map(entry, "sparse"), kind, width)
        if whole:
            return stored
        values = stored.astype(np.float64)
        if entry.get("normalized") is True and kind != "<f4":
            values = np.maximum(values / np.iinfo(np.dtype(kind)).max, -1.0)
        return values

    def _replaced(self, stored: NDArray[Any], sparse: Mapping[str, Any], kind: str, width: int) -> NDArray[Any]:
        count, indices, values = sparse.get("count"), _map(sparse, "indices"), _map(sparse, "values")
        index_kind = COMPONENTS.get(indices.get("componentType", 0))
        if not isinstance(count, int) or not 1 <= count <= len(stored) or index_kind not in ("u1", "<u2", "<u4"):
            raise ValueError("a sparse accessor has no count or no indices")
        at = self._view(indices.get("bufferView"), _offset(indices), index_kind, 1, count)[:, 0].astype(np.int64)
        if at[-1] >= len(stored) or (np.diff(at) <= 0).any():
            raise ValueError("the indices of a sparse accessor do not increase, or leave it")
        made = stored.copy()
        made[at] = self._view(values.get("bufferView"), _offset(values), kind, width, count)
        return made

    def _view(self, number: Any, offset: int, kind: str, width: int, count: int) -> NDArray[Any]:
        """[count, width] numbers out of a buffer."""
        view = self._of("bufferViews", number)
        packed = next((name for name in MESHOPT if name in _map(view, "extensions")), None)
        buffer = self._buffer(view.get("buffer"), packed)
        start, length = _offset(view), view.get("byteLength")
        element = np.dtype(kind).itemsize * width
        stride = view.get("byteStride", element)
        if (
            not (isinstance(length, int) and isinstance(stride, int))
            or start + length > len(buffer)
            or stride < element
        ):
            raise ValueError(f"bufferView {number} is larger than its buffer, or too narrow")
        if offset + stride * (count - 1) + element > length:
            raise ValueError(f"it announces {count:,} elements, and bufferView {number} has no room for them")
        return np.ndarray((count, width), kind, buffer, start + offset, (stride, np.dtype(kind).itemsize))

    def _buffer(self, number: Any, packed: str | None) -> bytes:
        entry = self._of("buffers", number)
        empty = any(_extension(entry, name).get("fallback") is True for name in MESHOPT)
        if packed and (empty or packed in _list(self.content, "extensionsRequired")):
            raise NotReadError(f"a part of it is compressed with {packed}", PLAIN)
        if number not in self.buffers:
            self.buffers[number] = self._buffer_bytes(number, entry)
        return self.buffers[number]

    def _buffer_bytes(self, number: int, entry: Mapping[str, Any]) -> bytes:
        uri, length = entry.get("uri"), entry.get("byteLength")
        if uri is None and number == 0:
            data = self.binary
        elif isinstance(uri, str) and uri.startswith("data:") and ";base64," in uri[:200]:
            try:
                data = base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise ValueError(f"buffer {number} is no base64: {error}") from None
        else:
            raise NotReadError(
                f"its data are in another file, {str(uri)[:60]}" if uri else f"buffer {number} has no data",
                "save it as one .glb",
            )
        if not isinstance(length, int) or length > len(data):
            raise ValueError(f"buffer {number} announces {length} bytes, and has {len(data):,}")
        return data[:length]


def _triangles(corners: Int[np.ndarray, "C"], mode: int) -> Int[np.ndarray, "F 3"]:
    """Section 3.7.2.1: of a strip every three one after the other, of a fan the first and every two after it."""
    if mode == TRIANGLES:
        if len(corners) % 3:
            raise ValueError(f"{len(corners):,} corners are no triangles")
        return corners.reshape(-1, 3)
    if len(corners) < 3:
        raise ValueError(f"a strip or fan of {len(corners)} corners")
    if mode == STRIP:
        return np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    return np.stack([np.full(len(corners) - 2, corners[0]), corners[1:-1], corners[2:]], axis=1)


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Section 4.4: a header of 12 bytes, JSON, and the binary buffer."""
    length = int.from_bytes(data[8:12], "little")
    if data[:4] != b"glTF" or len(data) < 20 or length > len(data) or length < 20:
        raise ValueError("it is no glTF file, or cut short")
    if (version := int.from_bytes(data[4:8], "little")) != 2:
        raise NotReadError(f"it is GLB {version}", "save it as glTF 2.0")
    chunks: list[tuple[bytes, bytes]] = []
    at = 12
    while at + 8 <= length:
        size, kind = int.from_bytes(data[at : at + 4], "little"), data[at + 4 : at + 8]
        if at + 8 + size > length:
            raise ValueError(f"its chunk {len(chunks)} announces {size:,} bytes, and {length - at - 8:,} are left")
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    if not chunks or chunks[0][0] != b"JSON":
        raise ValueError("its first chunk is not JSON")
    content = json.loads(chunks[0][1].decode("utf-8"), parse_constant=_no_constant)
    if not isinstance(content, dict):
        raise ValueError("its JSON is no object")
    binary = chunks[1][1] if len(chunks) > 1 and chunks[1][0] == b"BIN\0" else b""
    return content, binary


def _no_constant(name: str) -> None:
    raise ValueError(f"its JSON has {name}")


def _list(entry: Any, key: str) -> list[Any]:
    found = entry.get(key, []) if isinstance(entry, dict) else None
    if not isinstance(found, list):
        raise ValueError(f"'{key}' is no list")
    return found


def _map(entry: Any, key: str) -> dict[str, Any]:
    found = entry.get(key, {}) if isinstance(entry, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"'{key}' is no object")
    return found


def _extension(entry: Any, name: str) -> dict[str, Any]:
    return _map(_map(entry, "extensions"), name)


def _offset(entry: Mapping[str, Any]) -> int:
    offset = entry.get("byteOffset", 0)
    if not isinstance(offset, int) or offset < 0:
        raise ValueError(f"a byteOffset is {str(offset)[:20]}")
    return offset


def _numbers(values: Any, count: int | None = None) -> list[float]:
    if (
        not isinstance(values, list)
        or count not in (None, len(values))
        or not all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    ):
        raise ValueError(f"{str(values)[:60]} are not {count or ''} numbers")
    return [float(value) for value in values]


def _local(node: Mapping[str, Any]) -> Float[np.ndarray, "4 4"]:
    """Section 3.5.3: a matrix by columns, or translation x rotation x scale."""
    if "matrix" in node:
        if any(key in node for key in ("translation", "rotation", "scale")):
            raise ValueError("a node has a matrix and a translation, rotation or scale")
        return np.array(_numbers(node["matrix"], 16)).reshape(4, 4).T
    return _placed(
        np.array(_numbers(node.get("translation", [0, 0, 0]), 3)),
        np.array(_numbers(node.get("rotation", [0, 0, 0, 1]), 4)),
        np.array(_numbers(node.get("scale", [1, 1, 1]), 3)),
    )


def _placed(
    translation: Float[np.ndarray, "3"], rotation: Float[np.ndarray, "4"], scale: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    length = float(np.linalg.norm(rotation))
    if not abs(length - 1) <= AWRY:
        raise ValueError(f"a rotation is no unit quaternion: its length is {length:.3g}")
    x, y, z, w = rotation / length
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = turn * scale, translation
    return made
