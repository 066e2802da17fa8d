"""Binary glTF files, built here accessor by accessor: what the specification says is what comes out.

Expected vertices come from plain numbers or from other libraries' matrices (scipy's rotations), never from the reader.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from jepa3d.formats import meshes
from jepa3d.formats.refusal import NotReadError

COMPONENT = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
BOX = trimesh.creation.box((1, 2, 3))
CORNERS, FACES = np.asarray(BOX.vertices), np.asarray(BOX.faces)
Content = dict[str, Any]


class Builder:
    """A .glb under construction: arrays become accessors, and the rest is JSON."""

    def __init__(self) -> None:
        self.data = b""
        self.content: Content = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
            "meshes": [],
            "nodes": [],
        }

    def view(self, data: bytes, **more: Any) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.content["bufferViews"].append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **more})
        self.data += data
        return len(self.content["bufferViews"]) - 1

    def accessor(self, values: Any, kind: str = "f4", **more: Any) -> int:
        array = np.asarray(values)
        array = (array[:, None] if array.ndim == 1 else array).astype("<" + kind)
        entry = {"componentType": COMPONENT[kind], "type": TYPE[array.shape[1]], "count": len(array), **more}
        self.content["accessors"].append({"bufferView": self.view(array.tobytes()), **entry})
        return len(self.content["accessors"]) - 1

    def box(self, **more: Any) -> Content:
        return self.primitive(self.accessor(CORNERS), FACES, **more)

    def primitive(self, position: int, faces: Any = None, **more: Any) -> Content:
        entry: Content = {"attributes": {"POSITION": position}, **more}
        if faces is not None:
            entry["indices"] = self.accessor(np.asarray(faces).reshape(-1), "u2")
        return entry

    def mesh(self, *primitives: Content, **more: Any) -> int:
        self.content["meshes"].append({"primitives": list(primitives), **more})
        return len(self.content["meshes"]) - 1

    def node(self, **more: Any) -> int:
        self.content["nodes"].append(more)
        return len(self.content["nodes"]) - 1

    def glb(self, *roots: int, binary: bool = True, **more: Any) -> bytes:
        content = {**self.content, **({"scenes": [{"nodes": list(roots)}], "scene": 0} if roots else {}), **more}
        if self.data:
            buffer: Content = {"byteLength": len(self.data)}
            if not binary:
                buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self.data).decode()
            content.setdefault("buffers", [buffer])
        text = json.dumps(content).encode()
        chunks = struct.pack("<I4s", len(text) + -len(text) % 4, b"JSON") + text + b" " * (-len(text) % 4)
        if self.data and binary:
            body = self.data + b"\0" * (-len(self.data) % 4)
            chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def read(data: bytes) -> meshes.Mesh:
    return meshes.read(data, "glb")


def triangles(data: bytes) -> NDArray[np.float64]:
    found = read(data)
    return found.vertices[found.faces]


def same(data: bytes, *wanted: Any, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(triangles(data), np.concatenate(wanted), atol=atol)


def box_at(shift: Any = (0, 0, 0), turn: Rotation | None = None, scale: Any = 1.0) -> NDArray[np.float64]:
    corners = CORNERS * scale
    return np.asarray((corners if turn is None else turn.apply(corners)) + np.asarray(shift))[FACES]


# --------------------------------------------------------------------------------------------- scenes and nodes


def test_translation_rotation_and_scale_of_nested_nodes() -> None:
    build, turn, other = Builder(), Rotation.from_euler("xyz", (0.3, -1.1, 2.0)), Rotation.from_euler("z", 0.7)
    mesh = build.mesh(build.box())
    leaf = build.node(mesh=mesh, translation=[1, 2, 3], rotation=turn.as_quat().tolist(), scale=[2, 0.5, -1])
    root = build.node(children=[leaf], translation=[0, 0, 9], rotation=other.as_quat().tolist(), scale=[3, 3, 3])
    inner = turn.apply(CORNERS * [2, 0.5, -1]) + np.array([1, 2, 3])
    same(build.glb(root), (other.apply(inner * 3) + np.array([0, 0, 9]))[FACES])


def test_a_matrix_is_stored_by_columns() -> None:
    build = Builder()
    matrix = np.array([[1, 2, 0, 5], [0, 1, 0, 6], [0, 3, 1, 7], [0, 0, 0, 1]], float)
    root = build.node(mesh=build.mesh(build.box()), matrix=matrix.T.reshape(-1).tolist())
    same(build.glb(root), (np.c_[CORNERS, np.ones(8)] @ matrix.T)[:, :3][FACES])


def test_a_mesh_that_is_used_twice_is_there_twice_and_one_outside_the_scene_is_not() -> None:
    build = Builder()
    mesh, spare = build.mesh(build.box()), build.mesh(build.box())
    first, second = build.node(mesh=mesh), build.node(mesh=mesh, translation=[9, 0, 0])
    build.node(mesh=spare, translation=[0, 99, 0])
    same(build.glb(first, second), box_at(), box_at((9, 0, 0)))


def test_of_several_scenes_the_default_one_is_read() -> None:
    build = Builder()
    mesh = build.mesh(build.box())
    nodes = [build.node(mesh=mesh, translation=[k, 0, 0]) for k in range(3)]
    scenes = [{"nodes": [nodes[0]]}, {"nodes": nodes[1:]}]
    same(build.glb(scenes=scenes, scene=1), box_at((1, 0, 0)), box_at((2, 0, 0)))
    with pytest.raises(NotReadError, match="2 scenes, and none is its default"):
        read(build.glb(scenes=scenes))
    same(build.glb(scenes=scenes[:1]), box_at())


def test_without_a_scene_all_trees_are_read_and_without_nodes_all_meshes() -> None:
    build = Builder()
    build.node(mesh=build.mesh(build.box()), translation=[4, 0, 0])
    same(build.glb(), box_at((4, 0, 0)))
    same(build.glb(nodes=[]), box_at())


def test_data_in_the_json_are_read_too() -> None:
    build = Builder()
    same(build.glb(build.node(mesh=build.mesh(build.box())), binary=False), box_at())


def test_bytes_after_the_file_and_unknown_chunks_are_passed_over() -> None:
    build = Builder()
    data = build.glb(build.node(mesh=build.mesh(build.box())))
    same(data + b"trailing", box_at())
    longer = data + struct.pack("<I4s", 4, b"XTRA") + b"abcd"
    same(longer[:8] + struct.pack("<I", len(longer)) + longer[12:], box_at())


# ---------------------------------------------------------------------------------------------------- accessors


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2"])
@pytest.mark.parametrize("normalised", [True, False])
def test_quantised_positions(kind: str, normalised: bool) -> None:
    """KHR_mesh_quantization: the node's scale brings them back; normalised ones are divided by the type's largest."""
    build, largest = Builder(), np.iinfo(kind).max
    low = 0 if kind[0] == "u" else -1
    whole = np.round((CORNERS / [1, 2, 3] + 0.5) * (1 - low) + low) * largest  # at the ends of the range
    position = build.accessor(whole, kind, normalized=normalised)
    node = build.node(mesh=build.mesh(build.primitive(position, FACES)), scale=[5, 5, 5])
    want = (whole / largest if normalised else whole) * 5
    same(build.glb(node, extensionsRequired=["KHR_mesh_quantization"]), want[FACES], atol=1e-3)


def test_the_smallest_normalised_number_is_minus_one() -> None:
    build = Builder()
    position = build.accessor([[-128, 0, 0], [127, 0, 0], [0, 127, 0]], "i1", normalized=True)
    found = read(build.glb(build.node(mesh=build.mesh(build.primitive(position)))))
    assert found.vertices.tolist() == [[-1, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_interleaved_attributes_have_a_stride() -> None:
    build = Builder()
    rows = np.zeros(8, [("n", "<f4", 3), ("p", "<f4", 3), ("c", "u1", 4)])
    rows["p"], rows["n"] = CORNERS, 77
    view = build.view(rows.tobytes(), byteStride=28)
    build.content["accessors"].append(
        {"bufferView": view, "byteOffset": 12, "componentType": 5126, "type": "VEC3", "count": 8}
    )
    same(build.glb(build.node(mesh=build.mesh(build.primitive(0, FACES)))), box_at())


@pytest.mark.parametrize("based", [True, False])
def test_sparse_accessors_replace_some_elements(based: bool) -> None:
    build = Builder()
    moved = {1: [5.0, 6, 7], 6: [-1.0, 0, 2]}
    number = build.accessor(CORNERS)
    entry = build.content["accessors"][number]
    if not based:
        del entry["bufferView"]
    entry["sparse"] = {
        "count": 2,
        "indices": {"bufferView": build.view(np.array(list(moved), "<u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": build.view(np.array(list(moved.values()), "<f4").tobytes())},
    }
    want = CORNERS.copy() if based else np.zeros_like(CORNERS)
    for row, value in moved.items():
        want[row] = value
    same(build.glb(build.node(mesh=build.mesh(build.primitive(number, FACES)))), want[FACES])


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_indices_of_every_width(kind: str) -> None:
    build = Builder()
    entry = build.primitive(build.accessor(CORNERS))
    entry["indices"] = build.accessor(FACES.reshape(-1), kind)
    same(build.glb(build.node(mesh=build.mesh(entry))), box_at())


# --------------------------------------------------------------------------------------------- modes of primitives

FLAT = np.array([(0, 0, 0), (2, 0, 0), (3, 1, 0), (2, 3, 0), (0, 2, 0), (-1, 1, 0)], float)


@pytest.mark.parametrize("indexed", [True, False])
def test_strips_and_fans(indexed: bool) -> None:
    order = np.array([3, 1, 0, 5, 4, 2]) if indexed else np.arange(6)
    for mode, want in (
        (5, [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)]),
        (6, [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)]),
        (4, [(0, 1, 2), (3, 4, 5)]),
    ):
        build = Builder()
        entry = build.primitive(build.accessor(FLAT), order if indexed else None, mode=mode)
        same(build.glb(build.node(mesh=build.mesh(entry))), FLAT[order[np.array(want)]])


def test_lines_and_points_beside_triangles_have_no_surface_and_points_alone_are_a_cloud() -> None:
    build = Builder()
    others = [build.primitive(build.accessor(FLAT + 100), mode=mode) for mode in (0, 1, 2, 3)]
    mesh, alone = build.mesh(build.box(), *others), build.mesh(*others[:2])
    same(build.glb(build.node(mesh=mesh)), box_at())
    found = read(build.glb(build.node(mesh=alone)))
    assert len(found.faces) == 0
    np.testing.assert_allclose(found.vertices, FLAT + 100)


# ------------------------------------------------------------------------------------------- instances, skins, morphs


def test_gpu_instances_stand_where_their_attributes_say() -> None:
    build = Builder()
    shift = np.array([(0, 0, 0), (5, 0, 0), (0, 7, 1)], float)
    turns = Rotation.from_euler("xyz", [(0, 0, 0), (0.4, 1, 0), (-2, 0.1, 0.3)])
    scale = np.array([(1, 1, 1), (2, 1, 0.5), (3, 3, 3)], float)
    attributes = {
        "TRANSLATION": build.accessor(shift),
        "ROTATION": build.accessor(turns.as_quat()),
        "SCALE": build.accessor(scale),
        "_ID": build.accessor(np.arange(3)),
    }
    extension = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    node = build.node(mesh=build.mesh(build.box()), translation=[0, 0, 50], extensions=extension)
    want = [turns[k].apply(CORNERS * scale[k])[FACES] + shift[k] + np.array([0, 0, 50]) for k in range(3)]
    same(build.glb(node, extensionsRequired=["EXT_mesh_gpu_instancing"]), *want, atol=1e-5)
    attributes["ROTATION"] = build.accessor(np.round(turns.as_quat() * 32767), "i2", normalized=True)
    del attributes["SCALE"]
    want = [turns[k].apply(CORNERS)[FACES] + shift[k] + np.array([0, 0, 50]) for k in range(3)]
    same(build.glb(node), *want, atol=1e-3)


@pytest.mark.parametrize("kind", ["f4", "u1", "u2"])
def test_a_skin_moves_by_its_joints_and_not_by_its_node(kind: str) -> None:
    build = Builder()
    turn = Rotation.from_euler("y", 0.8)
    hip = build.node(translation=[0, 1, 0])
    knee = build.node(translation=[0, -2, 0], rotation=turn.as_quat().tolist())
    build.content["nodes"][hip]["children"] = [knee]
    inverse = np.stack([np.eye(4), np.eye(4)])
    inverse[0, 1, 3], inverse[1, 1, 3] = -1, 1.5
    weight = np.zeros((8, 4))
    weight[:, 2] = np.linspace(0, 1, 8)  # of joint 1; the rest is of joint 0
    weight[:, 0] = 1 - weight[:, 2]
    most = 1 if kind == "f4" else np.iinfo(kind).max
    stored = weight if kind == "f4" else np.round(weight * most)
    entry = build.box()
    entry["attributes"]["JOINTS_0"] = build.accessor(np.tile([0, 99, 1, 99], (8, 1)), "u1")
    entry["attributes"]["WEIGHTS_0"] = build.accessor(stored, kind, normalized=kind != "f4")
    skin = {"joints": [hip, knee], "inverseBindMatrices": build.accessor(inverse.transpose(0, 2, 1).reshape(2, 16))}
    node = build.node(mesh=build.mesh(entry), skin=0, translation=[1000, 0, 0])
    by_hip = CORNERS  # moved down by 1 and up again
    by_knee = turn.apply(CORNERS + np.array([0, 1.5, 0])) + np.array([0, -1, 0])
    exact = stored / most
    want = exact[:, :1] * by_hip + exact[:, 2:3] * by_knee
    same(build.glb(hip, node, skins=[skin]), want[FACES], atol=1e-5)
    del skin["inverseBindMatrices"]
    want = exact[:, :1] * (CORNERS + np.array([0, 1, 0])) + exact[:, 2:3] * (turn.apply(CORNERS) + np.array([0, -1, 0]))
    same(build.glb(hip, node, skins=[skin]), want[FACES], atol=1e-5)


def test_morph_targets_count_with_the_default_weights_and_the_nodes_before_the_meshs() -> None:
    build = Builder()
    rng = np.random.default_rng(3)
    moves = rng.normal(size=(2, 8, 3))
    entry = build.box(targets=[{"POSITION": build.accessor(move), "NORMAL": 0} for move in moves])
    mesh = build.mesh(entry, weights=[0.25, -2.0])
    plain, own = build.node(mesh=mesh), build.node(mesh=mesh, weights=[1.0, 0.0], translation=[9, 0, 0])
    first = (CORNERS + 0.25 * moves[0] - 2 * moves[1])[FACES]
    same(build.glb(plain, own), first, (CORNERS + moves[0] + np.array([9, 0, 0]))[FACES], atol=1e-5)
    same(build.glb(nodes=[]), first, atol=1e-5)
    del build.content["meshes"][0]["weights"]
    same(build.glb(plain), box_at())


# ------------------------------------------------------------------------------------------------------- refusals


def with_draco(required: bool, fallback: bool) -> bytes:
    build = Builder()
    entry = build.box(extensions={"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}})
    if not fallback:
        for accessor in build.content["accessors"]:
            del accessor["bufferView"]
    plain = build.box()
    more = {"extensionsUsed": ["KHR_draco_mesh_compression"]}
    if required:
        more["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    return build.glb(build.node(mesh=build.mesh(plain, entry)), **more)


def test_draco_is_refused_by_name_unless_the_plain_data_are_there() -> None:
    for required, fallback in ((True, True), (True, False), (False, False)):
        with pytest.raises(NotReadError, match="KHR_draco_mesh_compression"):
            read(with_draco(required, fallback))
    same(with_draco(required=False, fallback=True), box_at(), box_at())


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt_is_refused_by_name_unless_the_plain_data_are_there(name: str) -> None:
    build = Builder()
    node = build.node(mesh=build.mesh(build.box()))
    for view in build.content["bufferViews"]:
        view["extensions"] = {name: {"buffer": 0, "byteLength": 4, "byteStride": 12, "count": 8, "mode": "ATTRIBUTES"}}
    same(build.glb(node, extensionsUsed=[name]), box_at())
    with pytest.raises(NotReadError, match=name):
        read(build.glb(node, extensionsRequired=[name]))
    with pytest.raises(NotReadError, match=name):
        read(build.glb(node, buffers=[{"byteLength": len(build.data), "extensions": {name: {"fallback": True}}}]))


def content(**changes: Any) -> bytes:
    build = Builder()
    node = build.node(mesh=build.mesh(build.box()))
    return build.glb(node, **changes)


def changed(change: Any) -> bytes:
    build = Builder()
    node = build.node(mesh=build.mesh(build.box()))
    change(build.content)
    return build.glb(node)


def put(path: str, value: Any) -> Any:
    def change(found: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in steps:
            found = found[step]
        found[last] = value

    return change


FAULTS: list[tuple[bytes, str]] = [
    (content(extensionsRequired=["VENDOR_curved_space"]), "requires the extension VENDOR_curved_space"),
    (content(extensionsRequired=["KHR_materials_unlit", "KHR_node_visibility"]), "requires .* KHR_node_visibility"),
    (content(asset={"version": "1.0"}), "glTF 1.0"),
    (content(asset={"version": "2.0", "minVersion": "2.1"}), "glTF 2.1"),
    (content(scene=3), "names scenes 3, of 1"),
    (content(buffers=[{"byteLength": 10**9}]), "announces 1000000000 bytes"),
    (content(buffers=[{"byteLength": 10, "uri": "box.bin"}]), "another file, box.bin"),
    (changed(put("accessors/0/count", 9)), "no room for them"),
    (changed(put("accessors/1/count", 37)), "no room for them"),
    (changed(put("accessors/1/count", 35)), "35 corners are no triangles"),
    (changed(put("accessors/0/count", 7)), "a vertex that there is not"),
    (changed(put("accessors/0/componentType", 5130)), "unknown type"),
    (changed(put("accessors/0/type", "VEC2")), "no VEC3"),
    (changed(put("accessors/1/componentType", 5126)), "no whole numbers|no room"),
    (changed(put("bufferViews/0/byteLength", 10**6)), "larger than its buffer"),
    (changed(put("bufferViews/0/byteStride", 8)), "too narrow"),
    (changed(put("bufferViews/0/byteOffset", -4)), "byteOffset is -4"),
    (changed(put("meshes/0/primitives/0/mode", 7)), "mode 7"),
    (changed(put("meshes/0/primitives/0/attributes", {})), "no POSITION"),
    (changed(put("nodes/0/mesh", 4)), "names meshes 4, of 1"),
    (changed(put("nodes/0/rotation", [0, 0, 0, 2])), "no unit quaternion"),
    (changed(put("nodes/0/scale", [1, 1])), "not 3 numbers"),
    (changed(put("nodes/0/matrix", [1] * 15)), "not 16 numbers"),
    (changed(put("nodes/0/children", [0])), "circle|two parents"),
    (changed(put("nodes/0/skin", 0)), "names skins 0, of 0"),
    (changed(put("nodes/0/extensions", {"KHR_node_visibility": {"visible": False}})), "KHR_node_visibility"),
    (content()[:-8], "cut short"),
    (content()[:4] + struct.pack("<I", 1) + content()[8:], "GLB 1"),
]


@pytest.mark.parametrize(("data", "why"), FAULTS, ids=[why for _, why in FAULTS])
def test_what_the_specification_does_not_allow_or_we_do_not_read_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(data)


def test_a_matrix_beside_a_scale_and_weights_that_do_not_fit_are_refused() -> None:
    build = Builder()
    mesh = build.mesh(build.box())
    node = build.node(mesh=mesh, matrix=np.eye(4).reshape(-1).tolist(), scale=[2, 2, 2])
    with pytest.raises(ValueError, match="a matrix and"):
        read(build.glb(node))
    build = Builder()
    entry = build.box()
    entry["targets"] = [{"POSITION": build.accessor(CORNERS)}]
    node = build.node(mesh=build.mesh(entry, weights=[1.0, 2.0]))
    with pytest.raises(ValueError, match="1 morph targets"):
        read(build.glb(node))


def test_weights_of_a_skin_that_do_not_add_up_are_refused() -> None:
    build = Builder()
    entry = build.box()
    entry["attributes"]["JOINTS_0"] = build.accessor(np.zeros((8, 4)), "u1")
    entry["attributes"]["WEIGHTS_0"] = build.accessor(np.full((8, 4), 0.1))
    node = build.node(mesh=build.mesh(entry), skin=0)
    with pytest.raises(ValueError, match="add up to 1"):
        read(build.glb(node, skins=[{"joints": [0]}]))


def test_what_a_file_unfolds_to_is_bounded() -> None:
    """A mesh of 20,480 triangles named by 2,000 nodes in a file of one megabyte would take 1.5 GB."""
    ball = trimesh.creation.icosphere(5)
    build = Builder()
    entry = build.primitive(build.accessor(ball.vertices))
    entry["indices"] = build.accessor(ball.faces.reshape(-1), "u2")
    mesh = build.mesh(entry)
    nodes = [build.node(mesh=mesh, translation=[k, 0, 0]) for k in range(2000)]
    with pytest.raises(NotReadError, match="repeats its meshes"):
        read(build.glb(*nodes))
    assert len(read(build.glb(*nodes[:20])).faces) == 20 * len(ball.faces)
    morphed = build.box(targets=[{"POSITION": 0}] * 30_000)
    heavy = build.mesh({**morphed, "attributes": {"POSITION": 0}}, weights=[1.0] * 30_000)
    with pytest.raises(NotReadError, match="too often"):
        read(build.glb(build.node(mesh=heavy)))


def test_a_deep_chain_of_nodes_is_walked_without_recursion() -> None:
    build = Builder()
    mesh = build.mesh(build.box())
    build.content["nodes"] = [{"children": [k + 1], "translation": [0, 0, 1]} for k in range(20_000)]
    build.node(mesh=mesh)
    same(build.glb(0), box_at((0, 0, 20_000)), atol=1e-2)
