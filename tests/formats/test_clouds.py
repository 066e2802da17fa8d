"""What `foreign.clouds` reads, and what it makes of files that are damaged, absurd or hostile."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jepa3d.formats import clouds, meshes, pcd, tables
from jepa3d.problem import Problem

XYZ = np.array([[0, 0, 0], [1, 2, 3], [-1.5, 0.25, 8]], np.float32)
PCD = "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nPOINTS {n}\nDATA {k}\n"
PLY = "ply\nformat ascii 1.0\nelement vertex {n}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
TRIANGLE = b"0 0 0\n1 0 0\n0 1 0\n"


def records(points: NDArray[np.float32]) -> NDArray[Any]:
    rows = np.zeros(len(points), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    rows["x"], rows["y"], rows["z"] = points.T
    return rows


def lzf_literals(data: bytes) -> bytes:
    """LZF without any repetition: runs of at most 32 bytes."""
    runs = [data[start : start + 32] for start in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def npy(points: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, points)
    return file.getvalue()


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ------------------------------------------------------------------------------------------------ what is read


def good_files() -> dict[str, bytes]:
    text = "\n".join(" ".join(map(str, point)) for point in XYZ.tolist())
    packed = b"".join(records(XYZ)[name].tobytes() for name in ("x", "y", "z", "rgb"))
    body = lzf_literals(packed)
    coloured = "".join(f"{x} {y} {z} 4278190080\n" for x, y, z in XYZ.tolist())
    return {
        "half.npy": npy(XYZ.astype(np.float16)),
        "double.npy": npy(XYZ.astype(np.float64)),
        "fortran.npy": npy(np.asfortranarray(XYZ)),
        "normals.npy": npy(np.hstack([XYZ, XYZ])),
        "plain.xyz": text.encode(),
        "comma.txt": ("# x,y,z\n" + text.replace(" ", ",") + "\r\n").encode(),
        "semicolon.txt": text.replace(" ", "; ").encode(),
        "count.pts": f"3\r\n{text}".replace("\n", "\r\n").encode(),
        "colours.pts": ("3\n" + "\n".join(line + " 17 255 0 0" for line in text.splitlines())).encode(),
        "ascii.pcd": (PCD.format(n=3, k="ascii") + coloured).encode(),
        "binary.pcd": PCD.format(n=3, k="binary").encode() + records(XYZ).tobytes(),
        "packed.pcd": PCD.format(n=3, k="binary_compressed").encode()
        + struct.pack("<II", len(body), len(packed))
        + body,
        "ascii.ply": (PLY.format(n=3) + text + "\n").encode(),
        "binary.ply": trimesh.PointCloud(XYZ).export(file_type="ply"),
        "vertices.obj": "".join(f"v {x} {y} {z}\n" for x, y, z in XYZ.tolist()).encode(),
        "UPPER.XYZ": text.encode(),
    }


@pytest.mark.parametrize("name", good_files())
def test_the_same_three_points_come_out_of_every_kind_of_cloud(name: str, tmp_path: Path) -> None:
    cloud = clouds.read(write(tmp_path, name, good_files()[name]))
    assert cloud.faces is None
    assert cloud.points.tolist() == XYZ.tolist()


def test_npz_and_h5_give_points_and_parts(tmp_path: Path) -> None:
    part = np.array([2, 0, 1])
    np.savez_compressed(tmp_path / "a.npz", points=XYZ, part=part)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["part"] = XYZ, part
    for name in ("a.npz", "a.h5"):
        cloud = clouds.read(tmp_path / name)
        assert cloud.points.tolist() == XYZ.tolist()
        assert cloud.part is not None
        assert cloud.part.tolist() == [2, 0, 1]


@pytest.mark.parametrize("ending", ["ply", "obj", "off", "stl", "glb"])
def test_a_box_has_the_area_of_a_box_whatever_the_file(ending: str, tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 2, 3))
    box.export(tmp_path / f"box.{ending}")
    cloud = clouds.read(tmp_path / f"box.{ending}")
    assert cloud.faces is not None
    assert trimesh.Trimesh(cloud.points, cloud.faces).area == pytest.approx(2 * (2 + 3 + 6))


def test_a_scene_is_read_where_its_objects_stand(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)))
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=trimesh.transformations.translation_matrix((9, 0, 0)))
    scene.export(tmp_path / "two.glb")
    cloud = clouds.read(tmp_path / "two.glb")
    assert cloud.points[:, 0].min() == -0.5
    assert cloud.points[:, 0].max() == 9.5
    assert cloud.faces is not None
    assert len(cloud.faces) == 24


@pytest.mark.parametrize(
    "text",
    [
        b"OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n",
        b"OFF4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n",
        b"OFF 4 1 0\r\n0 0 0\r\n1 0 0\r\n1 1 0\r\n0 1 0\r\n4 0 1 2 3\r\n",
        b"# made by hand\nOFF # keyword\n\n4 1\n# corners\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n\n4  0 1 2 3 # one face",
        b"COFF\n4 2 0\n0 0 0 255 0 0 255\n1 0 0 0 0 0 0\n1 1 0 0 0 0 0\n0 1 0 0 0 0 0\n3 0 1 2 0.5 0.5 0\n3 0 2 3\n",
        b"NOFF\n4 1 0\n0 0 0 0 0 1\n1 0 0 0 0 1\n1 1 0 0 0 1\n0 1 0 0 0 1\n4 0 1 2 3 255 0 0\n",
        b"\xef\xbb\xbfOFF\n4 2 5\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3",
    ],
)
def test_off_files_as_they_are_in_the_wild_are_the_unit_square(text: bytes) -> None:
    square = meshes.read(text, "off")
    assert square.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert square.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_off_is_read_as_trimesh_reads_it() -> None:
    ball = trimesh.creation.icosphere(1)
    found = meshes.read(ball.export(file_type="off").encode(), "off")
    assert found.faces.tolist() == ball.faces.tolist()
    np.testing.assert_allclose(found.vertices, ball.vertices, atol=1e-8)


def test_sampling_is_uniform_over_the_area() -> None:
    """Two triangles, the second with three times the area of the first: three quarters of the points lie on it."""
    mesh = meshes.Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-3, 0, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    points = meshes.sample(mesh, 4000, seed=1)
    assert (points[:, 0] < 0).mean() == pytest.approx(0.75, abs=0.03)
    assert (points == meshes.sample(mesh, 4000, seed=1)).all()


def test_lzf_repeats_what_was_written() -> None:
    assert pcd.unpack(b"\x02abc" + bytes([(3 << 5) | 0, 2]), 8) == b"abcabcab"
    assert pcd.unpack(b"\x00a" + bytes([7 << 5, 10, 0]), 20) == b"a" * 20


# ------------------------------------------------------------------------------------ what is damaged or hostile

HUGE = 10**12
HOSTILE = {
    "empty.npy": b"",
    "empty.ply": b"",
    "no_header.npy": b"\x93NUMPY\x01\x00" + b"v\x00" * 40,
    "huge.npy": npy(XYZ).replace(b"(3, 3)", b"(%d, 3)" % HUGE),
    "cut.npy": npy(XYZ)[:-5],
    "flat.npy": npy(XYZ.reshape(-1)),
    "two_columns.npy": npy(XYZ[:, :2]),
    "none.npy": npy(XYZ[:0]),
    "text.npy": npy(np.array(["a"])),
    "really_ply.npy": b"ply\nformat ascii 1.0\n",
    "cut.npz": b"PK\x03\x04 not a zip at all",
    "really_npy.h5": npy(XYZ),
    "word.xyz": b"1 2 3\n4 five 6\n",
    "ragged.xyz": b"1 2 3\n4 5\n",
    "two.xyz": b"1 2\n3 4\n",
    "prose.txt": b"This is a readme. Nothing here is a point.\n",
    "short.pts": b"5\n1 2 3\n4 5 6\n",
    "huge.pts": b"%d\n1 2 3\n" % HUGE,
    "only_count.pts": b"5\n",
    "huge.pcd": PCD.format(n=HUGE, k="binary").encode() + records(XYZ).tobytes(),
    "huge_ascii.pcd": (PCD.format(n=HUGE, k="ascii") + "1 2 3 4\n").encode(),
    "bomb.pcd": PCD.format(n=10**8, k="binary_compressed").encode()
    + struct.pack("<II", 6, 16 * 10**8)
    + b"\x00a\xe0\xff\x00",
    "negative.pcd": PCD.format(n=-4, k="binary").encode() + b"\0" * 64,
    "no_data.pcd": b"VERSION .7\nFIELDS x y z\n",
    "no_xyz.pcd": b"FIELDS a b c\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n",
    "absurd_field.pcd": b"FIELDS x y z\nSIZE 4 4 99\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n",
    "word.ply": (PLY.format(n=2) + "0 0 zero\n1 1 one\n").encode(),
    "short.ply": (PLY.format(n=3) + "0 0 0\n1 1 1\n").encode(),
    "huge.ply": (PLY.format(n=HUGE) + "0 0 0\n").encode(),
    "huge_binary.ply": PLY.format(n=HUGE).replace("ascii", "binary_little_endian").encode() + b"\0" * 24,
    "no_end.ply": b"ply\nformat ascii 1.0\nelement vertex 3\n",
    "cut.off": b"OFF\n3 2 0\n" + TRIANGLE + b"3 0 1 2\n",
    "huge.off": b"OFF\n%d %d 0\n" % (HUGE, HUGE) + TRIANGLE,
    "outside.off": b"OFF\n3 1 0\n" + TRIANGLE + b"3 0 1 7\n",
    "negative.off": b"OFF\n3 1 0\n" + TRIANGLE + b"3 0 1 -1\n",
    "short_face.off": b"OFF\n3 1 0\n" + TRIANGLE + b"4 0 1 2\n",
    "short_vertex.off": b"OFF\n3 1 0\n0 0 0\n1 0\n0 1 0\n3 0 1 2\n",
    "binary.off": b"OFF BINARY\n\0\0\0\3",
    "nothing.off": b"OFF\n",
    "really_stl.off": b"solid thing\nendsolid thing\n",
    "cut.stl": trimesh.creation.box().export(file_type="stl")[:-20],
    "huge.stl": b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50,
    "prose.stl": b"solid but then nothing",
    "prose.obj": b"there is nothing in here\n",
    "outside.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n",
    "cut.glb": trimesh.creation.box().export(file_type="glb")[:-40],
    "really_png.glb": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_file_is_a_problem_that_names_it_and_costs_no_memory(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            clouds.read(path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.what.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "like"), [("really_ply.npy", ".ply"), ("really_npy.h5", ".npy"), ("really_png.glb", ".png")]
)
def test_a_file_that_is_not_what_its_ending_says_is_told_by_its_beginning(name: str, like: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=f"it begins like a {like} file"):
        clouds.read(write(tmp_path, name, HOSTILE[name]))


def glb(content: dict[str, Any]) -> bytes:
    text = json.dumps({"asset": {"version": "2.0"}, **content}).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sII", b"glTF", 2, 20 + len(text)) + struct.pack("<I4s", len(text), b"JSON") + text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            {
                "accessors": [{"count": HUGE, "componentType": 5126, "type": "VEC3", "bufferView": 0}],
                "bufferViews": [{"buffer": 0, "byteLength": 24}],
                "buffers": [{"byteLength": 24, "uri": "data:application/octet-stream;base64," + "A" * 32}],
                "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
                "nodes": [{"mesh": 0}],
            },
            "too often|announces",
        ),
        ({"nodes": [{"children": [1, 1]}, {}]}, "two parents"),
        (
            {
                "accessors": [{"count": 3, "componentType": 5126, "type": "VEC3", "bufferView": 0}],
                "bufferViews": [{"buffer": 0, "byteLength": 36}],
                "buffers": [{"uri": "../../secret.bin", "byteLength": 36}],
                "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
                "nodes": [{"mesh": 0}],
            },
            "another file",
        ),
        ({"nodes": [{"children": [1]}, {"children": [0]}], "scenes": [{"nodes": [0]}]}, "circle"),
    ],
)
def test_a_glb_cannot_allocate_multiply_or_open_other_files(content: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=why):
        clouds.read(write(tmp_path, "a.glb", glb(content)))


def test_a_mesh_never_opens_the_files_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"mtllib ../secret.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    path = write(tmp_path, "a.obj", text)
    clouds.read(path)  # everything is imported by now
    opened: list[str] = []
    real = io.open
    monkeypatch.setattr("builtins.open", lambda name, *a, **k: opened.append(str(name)) or real(name, *a, **k))
    assert clouds.read(path).points.shape == (3, 3)
    assert not [name for name in opened if "secret" in name]


def test_an_npz_bomb_and_a_lying_header_are_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("points.npy", npy(XYZ).replace(b"(3, 3)", b"(%d, 3)" % HUGE))
    with pytest.raises(Problem, match="does not hold"):
        clouds.read(tmp_path / "lie.npz")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (write, (tmp_path, "sprung", b""))

    objects = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", points=objects)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(Problem):
            clouds.read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_hdf5_links_to_other_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["points"] = XYZ
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["points"] = h5py.ExternalLink("secret.h5", "/points")
    with pytest.raises(Problem, match="link"):
        clouds.read(tmp_path / "a.h5")


def test_an_hdf5_of_a_size_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("points", (HUGE, 3), "f4", chunks=(1000, 3))
    with pytest.raises(Problem, match="declares"):
        clouds.read(tmp_path / "a.h5")


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_whatever_raises_anything_but_a_problem(data: st.DataObject, tmp_path: Path) -> None:
    """Bytes changed, cut or put in anywhere: a cloud of three columns, or a Problem."""
    name = data.draw(st.sampled_from(sorted([*good_files(), "cut.off", "outside.obj"])))
    content = bytearray(good_files().get(name) or HOSTILE[name])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
        if not content:
            break
    try:
        found = clouds.read(write(tmp_path, name, bytes(content)))
    except Problem:
        return
    assert found.points.ndim == 2
    assert found.points.shape[1] == 3


# ------------------------------------------------------------------------------------------ files of many clouds


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_a_file_of_many_clouds_says_what_it_holds(ending: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "points": np.stack([XYZ, XYZ + 1]),
        "label": np.array([[1], [0]]),
        "part_label": np.array([[0, 1, 1], [2, 2, 2]], np.int16),
        "class_names": ["cup", "dog"],
        "part_names": ["cup/lid", "cup/body", "dog/dog"],
        "split": ["train", "test"],
    }
    path = tmp_path / f"a{ending}"
    if ending == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value
    assert tables.contents(path) == tables.Contents(
        2, (1, 0), ("train", "test"), None, ("cup", "dog"), ("cup/lid", "cup/body", "dog/dog"), (0, 1, 2)
    )
    first, second = tables.clouds(path)
    assert second.points.tolist() == (XYZ + 1).tolist()
    assert first.part is not None
    assert first.part.tolist() == [0, 1, 1]


def test_without_names_the_labels_are_what_occurs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.stack([XYZ, XYZ]), label=[2, 0], part=np.array([[0, 1, 0]] * 2))
    found = tables.contents(tmp_path / "a.npz")
    assert (found.label, found.classes) == ((2, 0), ())
    assert (found.part, found.parts) == ((0, 1), ())


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"cloud": XYZ}, "no array 'points'"),
        ({"points": XYZ[:, :2]}, "shape"),
        ({"points": np.stack([XYZ, XYZ]), "label": [1]}, "'label' has the shape"),
        ({"points": XYZ, "label": 0.5}, "whole numbers"),
        ({"points": XYZ, "part": [1, 2]}, "'part' has the shape"),
        ({"points": np.stack([XYZ, XYZ]), "split": ["train"]}, "'split' has 1 entries for 2"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_a_problem(arrays: Any, why: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Problem, match=why):
        tables.contents(tmp_path / "a.npz")
