"""Meshes of each format, written here by code: the surface that comes out is the one that was put in.

What is compared is the area, the centroid and the second moments of the surface, each by a formula over the shape that
was written, so that a face that is missing, double or cut across a notch shows.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from jepa3d.formats import meshes, polygons
from jepa3d.formats.polygons import Polygons
from jepa3d.formats.refusal import NotReadError

Faces = Sequence[Sequence[int]]

# An L, 2 high: its caps have a notch, its sides are rectangles.
OUTLINE = [(2, 1), (1, 1), (1, 3), (0, 3), (0, 0), (3, 0), (3, 3), (2, 3)]  # a U in fact: two notches for a fan
CORNERS = np.array([(x, y, z) for z in (0, 2) for x, y in OUTLINE], float)
SOLID: Faces = [
    tuple(range(8)),
    tuple(range(15, 7, -1)),
    *((k, (k + 1) % 8, 8 + (k + 1) % 8, 8 + k) for k in range(8)),
]


def moments(triangles: NDArray[Any]) -> NDArray[np.float64]:
    """Area, first and second moments of a surface: sums over triangles, exact for these."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    first = (area[:, None] * (a + b + c) / 3).sum(0)
    second = sum(area[:, None] * ((p + q) / 2) ** 2 for p, q in ((a, b), (b, c), (c, a))).sum(0) / 3  # type: ignore[union-attr]
    return np.concatenate([[area.sum()], first, second])


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> NDArray[np.float64]:
    (a, b), (c, d) = x, y
    return np.array([[(a, c, z), (b, c, z), (b, d, z)], [(a, c, z), (b, d, z), (a, d, z)]], float)


def solid() -> NDArray[np.float64]:
    """The moments of SOLID: caps out of three rectangles each, sides out of two triangles each."""
    caps = [rectangle(x, y, z) for z in (0, 2) for x, y in (((0, 3), (0, 1)), ((0, 1), (1, 3)), ((2, 3), (1, 3)))]
    sides = [CORNERS[[[a, b, c], [a, c, d]]] for a, b, c, d in SOLID[2:]]
    return moments(np.concatenate([*caps, *sides]))


def same_surface(found: meshes.Mesh, want: NDArray[np.float64] | None = None, rel: float = 1e-6) -> None:
    np.testing.assert_allclose(
        moments(found.vertices[found.faces]), solid() if want is None else want, rtol=rel, atol=rel
    )


def read(text: str | bytes, ending: str) -> meshes.Mesh:
    return meshes.read(text.encode("latin-1") if isinstance(text, str) else text, ending)


# ---------------------------------------------------------------------------------------------------- polygons


def star(rng: np.random.Generator, corners: int) -> NDArray[np.float64]:
    """A simple polygon around the origin, full of notches."""
    angle = (np.arange(corners) + rng.uniform(0, 1, corners)) * 2 * np.pi / corners
    radius = rng.uniform(0.2, 2, corners)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def inside(points: NDArray[Any], outline: NDArray[Any]) -> NDArray[np.bool_]:
    """By the even-odd rule."""
    odd = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (ay > points[:, 1]) != (by > points[:, 1])
        with np.errstate(all="ignore"):
            odd ^= crosses & (points[:, 0] < (bx - ax) * (points[:, 1] - ay) / (by - ay) + ax)
    return odd


@pytest.mark.parametrize("seed", range(25))
def test_triangles_cover_a_polygon_once_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outline = star(rng, int(rng.integers(5, 14)))
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    vertices = np.c_[outline, np.zeros(len(outline))] @ frame.T + rng.normal(0, 5, 3)
    order = np.roll(np.arange(len(outline)), int(rng.integers(len(outline))))
    found = polygons.triangles(vertices, Polygons(order, np.array([len(order)])))
    flat = ((vertices - vertices[0]) @ frame)[:, :2] + outline[0]
    probes = rng.uniform(-2, 2, (400, 2))
    times = sum(inside(probes, flat[triangle]).astype(int) for triangle in found)
    assert (times == inside(probes, outline)).all()


def test_convex_polygons_are_fans_in_the_order_of_the_faces() -> None:
    circle = np.array([(np.cos(t), np.sin(t), 0) for t in np.arange(7) * 2 * np.pi / 7])
    faces = Polygons(np.array([0, 1, 2, 3, 4, 5, 6, 0, 2, 4, 0, 1, 3, 5]), np.array([7, 3, 4]))
    fans = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 5, 6), (0, 2, 4), (0, 1, 3), (0, 3, 5)]
    assert polygons.triangles(circle, faces).tolist() == [list(fan) for fan in fans]


def test_a_bent_quad_and_a_quad_without_area_are_taken_as_they_are() -> None:
    bent = np.array([(0, 0, 0), (1, 0, 0.5), (1, 1, 0), (0, 1, 0.5)], float)
    assert len(polygons.triangles(bent, Polygons.alike(np.array([[0, 1, 2, 3]])))) == 2
    line = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)], float)
    assert len(polygons.triangles(line, Polygons.alike(np.array([[0, 1, 2, 3]])))) == 2


@pytest.mark.parametrize(
    "outline",
    [
        [(0, 0), (1, 1), (1, 0), (0, 1)],  # crosses itself, and its areas cancel
        [(0, 0), (3, 2), (3, 0), (0, 1)],
        [(np.cos(t), np.sin(t)) for t in np.arange(5) * 4 * np.pi / 5],  # a pentagram
    ],
)
def test_a_polygon_that_crosses_itself_is_refused(outline: Any) -> None:
    flat = np.array([(x, y, 1.0) for x, y in outline])
    with pytest.raises(ValueError, match=r"face 1 .*crosses itself"):
        polygons.triangles(flat, Polygons(np.arange(len(flat)), np.array([len(flat)])))


# --------------------------------------------------------------------------------------------------------- .off


def off_text(faces: Faces = SOLID, after: str = "") -> str:
    rows = [" ".join(map(str, (len(face), *face))) + after for face in faces]
    return "\n".join([f"OFF\n16 {len(faces)} 0", *(" ".join(map(str, row)) for row in CORNERS.tolist()), *rows]) + "\n"


@pytest.mark.parametrize("after", ["", " 7", " 255 0 0", " 0.5 0.5 0.5 1", "  # a face", "\n"])
def test_off_polygons_with_notches_are_read_whole(after: str) -> None:
    same_surface(read(off_text(after=after), "off"))
    same_surface(read(off_text(after=after).replace("\n", "\r\n"), "off"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (off_text() + "3 0 1 2\n", "27 lines follow"),
        (off_text().replace("16 10", "16 9"), "9 faces, 26 lines"),
        (off_text(after=" 1 2"), "face 1: its numbers are not as many"),
        (off_text([*SOLID[:3], (0, 1)]), "face 4 of 4 has 2 corners"),
        (off_text([*SOLID[:3], (0, 1, 16)]), "a vertex that there is not"),
        (off_text().replace("4 0 1 9 8", "4 0 1 9.5 8"), "no whole number"),
        (off_text().replace("4 0 1 9 8", "4 0 1 9"), "face 3"),
        (off_text().replace("2.0 1.0 2.0", "2.0 1.0"), "vertex 9"),
        (off_text().replace("2.0 1.0 2.0", "2.0 1.0 \x01 2.0"), "vertex 9"),
        (off_text().replace("2.0 1.0 2.0", "2.0 1,0 2.0"), "vertex 9: '1,0'"),
        (off_text().replace("OFF", "4OFF"), "four-dimensional"),
        (off_text().replace("OFF", "nOFF\n3"), "four-dimensional"),
        (off_text().replace("OFF", "OFF BINARY"), "binary"),
    ],
)
def test_off_files_that_say_two_things_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(text, "off")


# --------------------------------------------------------------------------------------------------------- .obj


def obj_text(corner: str = "{0}", faces: Faces = SOLID, shift: int = 1, blank: str = " ", after: str = "") -> str:
    rows = ["f" + blank + blank.join(corner.format(k + shift) for k in face) + after for face in faces]
    points = ["v" + blank + blank.join(map(str, row)) + after for row in CORNERS.tolist()]
    return "\n".join([*points, *("vt 0 0", "vn 0 0 1") * 16, *rows]) + "\n"


def interleaved() -> str:
    """Every face after its own vertices, counted back from there."""
    text = []
    for face in SOLID:
        text += ["v " + " ".join(map(str, CORNERS[k].tolist())) for k in face]
        text.append("f " + " ".join(f"{k - len(face)}//{-1}" for k in range(len(face))))
    return "\n".join(text)


OBJ = {
    "plain": obj_text(),
    "texture": obj_text("{0}/{0}"),
    "normal": obj_text("{0}//{0}"),
    "both": obj_text("{0}/{0}/{0}"),
    "relative": obj_text(shift=-16),
    "relative, both": obj_text("{0}/-1/-1", shift=-16),
    "forms mixed": obj_text().replace("\nf 0", "\nf 0/1").replace(" 4 ", " 4/2/3 ").replace(" 9 ", " 9//1 "),
    "interleaved": interleaved(),
    "tabs": obj_text(blank="\t"),
    "blanks around": "  " + obj_text(blank="  ", after=" ").replace("\n", "\n \t"),
    "comments after": obj_text(after=" # a comment / 7"),
    "Windows": obj_text().replace("\n", "\r\n"),
    "lines that go on": obj_text().replace(" 4 ", " 4 \\\n"),
    "lines that go on, Windows": obj_text().replace(" 4 ", " 4 \\\n").replace("\n", "\r\n"),
    "weights and colours": obj_text().replace("0.0\n", "0.0 1.0\n").replace("2.0\n", "2.0 0.5 0.5 0.5\n"),
    "faces first": "\n".join(sorted(obj_text().splitlines(), key=lambda line: line[0] != "f")),
    "names of all kinds": "mtllib a b.mtl\no Möbel\ng # none\ns off\nusemtl vertex 1 2 3\nl 1 2\np 1\n" + obj_text(),
    "no end of line": obj_text().rstrip("\n"),
    "byte-order mark": "\xef\xbb\xbf" + obj_text(),
}


@pytest.mark.parametrize("name", OBJ)
def test_obj_in_every_form_is_the_same_solid(name: str) -> None:
    same_surface(read(OBJ[name], "obj"))


def test_obj_counts_over_blocks_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 40, 333):
        monkeypatch.setattr("jepa3d.formats.numbers_in_text.BLOCK", size)
        for text in (obj_text("{0}//{0}"), interleaved(), obj_text(shift=-16)):
            same_surface(read(text, "obj"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (obj_text(shift=0), "vertex 0"),
        (obj_text(shift=2), "a vertex that there is not"),
        (obj_text(shift=-17), "before the first vertex"),
        (obj_text() + "f 1 2\n", "face 11 of 11 has 2 corners"),
        (obj_text() + "f\n", "line 59: 'f' is no statement"),
        (obj_text() + "f 1 2 /3 4\n", "corner without a vertex"),
        (obj_text() + "f 1 2 3.5\n", "in it"),
        (obj_text() + "f 1 2 3-4\n", "face 11: '3-4'"),
        (obj_text() + "f 1 2 1\x003\n", "in it"),
        (obj_text() + "v 1 2\n", "vertex 17: it has fewer than 3"),
        (obj_text() + "v 1 2 -1.#IND\n", "vertex 17 has a coordinate that is not finite"),
        (obj_text() + "v 1 2 3,5\n", "vertex 17: '3,5'"),
        (obj_text() + "w 1 2 3\n", "line 59: 'w' is no statement"),
        (obj_text() + "cstype bezier\nsurf 0 1 0 1 1 2 3 4\n", "line 59: 'cstype' is of a free-form"),
        (obj_text() + "call other.obj\n", "line 59: 'call' names another file"),
    ],
)
def test_obj_files_with_a_fault_are_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(text, "obj")


# --------------------------------------------------------------------------------------------------------- .ply

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
NUMPY = {"uchar": "u1", "char": "i1", "int": "i4", "uint": "u4", "float": "f4", "double": "f8", "ushort": "u2"}


def ply(form: str, elements: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]], begin: str = "") -> bytes:
    """A file out of (name, properties as the header has them, rows whose lists are lists)."""
    head, body = [f"ply\n{begin}format {form} 1.0\n"], io.BytesIO()
    for name, properties, rows in elements:
        head.append(f"element {name} {len(rows)}\n" + "".join(f"property {one}\n" for one in properties))
        for row in rows:
            words: list[Any] = []
            for one, value in zip(properties, row, strict=True):
                kinds = one.split()
                for kind, number in (
                    [(kinds[1], len(value)), *((kinds[2], v) for v in value)]
                    if kinds[0] == "list"
                    else [(kinds[0], value)]
                ):
                    words.append(
                        str(number) if form == "ascii" else np.array(number, FORMATS[form] + NUMPY[kind]).tobytes()
                    )
            body.write((" ".join(words) + "\n").encode() if form == "ascii" else b"".join(words))
    return "".join([*head, "end_header\n"]).encode("latin-1") + body.getvalue()


XYZ = ("float x", "float y", "float z")
ROWS = CORNERS.tolist()
FACE = ("list uchar int vertex_indices",)
LISTS = [[list(face)] for face in SOLID]


def strips() -> list[list[int]]:
    """The sides as one strip around, and the bottom and top in strips of one list with restarts."""
    around = [corner for k in (*range(8), 0) for corner in (k, 8 + k)]
    caps = [4, 5, 1, 0, -1, 4, 1, 3, 2, -1, 0, 5, 7, 6]
    return [around, [*caps, -1, *(c if c < 0 else c + 8 for c in caps)]]


def ply_files(form: str) -> dict[str, bytes]:
    plain = [("vertex", XYZ, ROWS), ("face", FACE, LISTS)]
    more = [(*row, 7, [k, k]) for k, row in enumerate(ROWS)]
    odd = [[0.5, list(face), [0.25] * (k % 3), 9] for k, face in enumerate(SOLID)]
    backward = [(z, k, y, x) for k, (x, y, z) in enumerate(ROWS)]
    return {
        "plain": ply(form, plain),
        "triangles and quads": ply(form, [plain[0], ("face", FACE, [*LISTS[:2], *triangles_of_sides()])]),
        "Latin-1 comments": ply(form, plain, "comment Möbel von Jürgen\nobj_info \xff\xfe\n"),
        "a list per vertex": ply(form, [("vertex", (*XYZ, "uchar a", "list uchar int neighbours"), more), plain[1]]),
        "lists and numbers around": ply(
            form, [plain[0], ("face", ("float q", *FACE, "list uchar float texcoord", "uchar f"), odd)]
        ),
        "other counts": ply(form, [plain[0], ("face", ("list int uint vertex_index",), LISTS)]),
        "capital coordinates": ply(form, [("vertex", ("float X", "float Y", "float Z"), ROWS), plain[1]]),
        "another order, doubles": ply(
            form, [("vertex", ("double z", "int n", "double y", "double x"), backward), plain[1]]
        ),
        "faces first": ply(form, plain[::-1]),
        "other elements between": ply(
            form,
            [
                ("camera", ("float view_px",), [[1.5]]),
                plain[0],
                ("edge", ("int vertex1", "int vertex2"), [[0, 1]] * 3),
                plain[1],
            ],
        ),
        "strips": ply(form, [plain[0], ("tristrips", ("list int int vertex_indices",), [[one] for one in strips()])]),
        "strips and faces": ply(
            form,
            [plain[0], ("tristrips", ("list int int vertex_indices",), [[strips()[0]]]), ("face", FACE, LISTS[:2])],
        ),
        "blanks at the end": ply(form, plain) + b"\n\n",
        "zeros at the end": ply(form, plain) + b"\0" * 5,
    }


def triangles_of_sides() -> list[list[list[int]]]:
    """Every other side as two triangles: quads and triangles together, as Blender writes them."""
    rows: list[list[list[int]]] = []
    for k, (a, b, c, d) in enumerate(SOLID[2:]):
        rows += [[[a, b, c]], [[a, c, d]]] if k % 2 else [[[a, b, c, d]]]
    return rows


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ply_files("ascii"))
def test_ply_in_every_form_is_the_same_solid(name: str, form: str) -> None:
    same_surface(read(ply_files(form)[name], "ply"))


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian"])
def test_lengths_that_only_add_up_are_read_one_by_one(form: str) -> None:
    """3 + 5 corners take the place of 4 + 4: the bytes are as many as if all faces were as long as the first."""
    outline = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (-1, 0.5, 0), (0, 0, 9), (1, 0, 9), (0, 1, 9)]
    rows = [[[0, 1, 2, 3]], [[5, 6, 7]], [[0, 1, 2, 3, 4]], [[0, 1, 2, 3]]]
    found = read(ply(form, [("vertex", XYZ, outline), ("face", FACE, rows)]), "ply")
    assert moments(found.vertices[found.faces])[0] == pytest.approx(1 + 0.5 + 1.5 + 1)


def test_a_comment_may_stand_before_the_format_and_lines_may_end_in_any_way() -> None:
    for form in FORMATS:
        data = ply(form, [("vertex", XYZ, ROWS), ("face", FACE, LISTS)], "comment first\n")
        same_surface(read(data, "ply"))
        for end in (b"\r\n", b"\r"):
            head, mark, body = data.partition(b"end_header\n")
            made = head.replace(b"\n", end) + mark.replace(b"\n", end) + body
            same_surface(read(made, "ply"))


def test_a_binary_ply_whose_data_begin_like_an_end_of_line() -> None:
    data = ply("binary_little_endian", [("kind", ("uchar a",), [[10]]), ("vertex", XYZ, ROWS), ("face", FACE, LISTS)])
    head, _, body = data.partition(b"end_header\n")
    assert body[0] == 10
    same_surface(read(head.replace(b"\n", b"\r") + b"end_header\r" + body, "ply"))


def ply_faults() -> dict[str, tuple[bytes, str]]:
    plain = [("vertex", XYZ, ROWS), ("face", FACE, LISTS)]
    text, binary = ply("ascii", plain), ply("binary_little_endian", plain)
    return {
        "a range grid": (ply("ascii", [plain[0], ("range_grid", FACE, [[[0]]])]), "range grid"),
        "another element of faces": (ply("ascii", [plain[0], ("patch", FACE, LISTS)]), "'patch' has 'vertex_indices'"),
        "no list of vertices": (
            ply("ascii", [plain[0], ("face", ("list uchar int vertices",), LISTS)]),
            "no list 'vertex_indices'",
        ),
        "fewer faces announced": (text.replace(b"face 10", b"face 9"), "25 elements, 26 lines"),
        "fewer faces announced, binary": (binary.replace(b"face 10", b"face 9"), "9 times 'face', and more follow"),
        "fewer vertices announced, binary": (
            ply("binary_little_endian", plain[:1]).replace(b"vertex 16", b"vertex 14"),
            "14 times 'vertex', and more follow",
        ),
        "more faces announced": (text.replace(b"face 10", b"face 11"), "27 elements, 26 lines"),
        "more faces announced, binary": (binary.replace(b"face 10", b"face 11"), "ends early"),
        "cut": (binary[:-3], "ends early"),
        "a list too short": (text.replace(b"4 0 1 9 8\n", b"5 0 1 9 8\n"), "face 3.*not as long"),
        "a number too many": (text.replace(b"4 0 1 9 8\n", b"4 0 1 9 8 7\n"), "face 3.*too many"),
        "a vertex without z": (text.replace(b"2.0 1.0 0.0\n", b"2.0 1.0\n"), "vertex 1.*too few"),
        "a face of two": (ply("ascii", [plain[0], ("face", FACE, [*LISTS, [[0, 1]]])]), "face 11 of 11 has 2 corners"),
        "a vertex that is not there": (
            ply("binary_big_endian", [plain[0], ("face", FACE, [[[0, 1, 16]]])]),
            "there is not",
        ),
        "a vertex below 0": (ply("ascii", [plain[0], ("face", FACE, [[[0, 1, -1]]])]), "there is not"),
        "a strip with -2": (
            ply("ascii", [plain[0], ("tristrips", ("list int int vertex_indices",), [[[0, 1, -2, 3]]])]),
            "below -1",
        ),
        "a strip without triangles": (
            ply("ascii", [plain[0], ("tristrips", ("list int int vertex_indices",), [[[0, 1, -1, 3, 2]]])]),
            "no triangle",
        ),
        "a corner with a fraction": (text.replace(b"4 0 1 9 8\n", b"4 0 1.5 9 8\n"), "no whole number"),
        "a word": (text.replace(b"4 0 1 9 8\n", b"4 0 one 9 8\n"), "face 3: 'one'"),
        "two x": (
            ply("ascii", [("vertex", (*XYZ, "float x"), [(*row, 1) for row in ROWS]), plain[1]]),
            "more than one x",
        ),
        "no y": (ply("ascii", [("vertex", ("float x", "float z", "float w"), ROWS), plain[1]]), "no y"),
        "faces twice": (ply("ascii", [*plain, plain[1]]), "twice"),
        "an unknown type": (text.replace(b"property float y", b"property half y"), "property 'half y'"),
        "an unknown line": (text.replace(b"property float y", b"proporty float y"), "the line 'proporty"),
        "an unknown format": (text.replace(b"ascii 1.0", b"ascii 2.0"), "the line 'format"),
        "a list whose length is no whole number": (
            text.replace(b"list uchar", b"list float"),
            "the length of its list",
        ),
        "no format": (text.replace(b"format ascii 1.0\n", b""), "no format"),
    }


@pytest.mark.parametrize("name", ply_faults())
def test_ply_files_with_a_fault_are_refused_with_the_reason(name: str) -> None:
    data, why = ply_faults()[name]
    with pytest.raises(ValueError, match=why):
        read(data, "ply")


# --------------------------------------------------------------------------------------------------------- .stl

BOX = trimesh.creation.box((1, 2, 3)).triangles
BALL = trimesh.creation.icosphere(1).apply_translation((5, 0, 0)).triangles


def solid_text(triangles: NDArray[Any], name: str = "a", end: str = "endsolid a") -> str:
    facets = "".join(
        "facet normal 0 0 0\n outer loop\n"
        + "".join(f"  vertex {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in triangle.tolist())
        + " endloop\nendfacet\n"
        for triangle in triangles
    )
    return f"solid {name}\n{facets}{end}\n"


def stl_binary(triangles: NDArray[Any], head: bytes = b"", more: bytes = b"", count: int | None = None) -> bytes:
    rows = np.zeros(len(triangles), [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    rows["v"] = triangles
    return head.ljust(80) + struct.pack("<I", len(triangles) if count is None else count) + rows.tobytes() + more


BOTH = np.concatenate([BOX, BALL])
STL: dict[str, Any] = {
    "two solids": solid_text(BOX) + solid_text(BALL),
    "three solids, one empty": solid_text(BOX) + solid_text(BOX[:0]) + "\n" + solid_text(BALL),
    "end solid": solid_text(BOX, end="end solid a") + solid_text(BALL, end="end  solid"),
    "without names": solid_text(BOX, "", "endsolid") + solid_text(BALL, "", "endsolid"),
    "named vertex": solid_text(BOX, "vertex 1 2 3", "endsolid vertex 1 2 3") + solid_text(BALL, "facet normal 1 0 0"),
    "named solid": solid_text(BOX, "solid", "endsolid solid") + solid_text(BALL, "endsolid"),
    "capital letters": (solid_text(BOX) + solid_text(BALL)).upper(),
    "Windows, tabs": (solid_text(BOX) + solid_text(BALL)).replace("\n", "\r\n").replace("  ", "\t"),
    "Latin-1 names": solid_text(BOX, "M\xf6bel") + solid_text(BALL),
    "zeros at the end": solid_text(BOTH) + "\0\0\0",
    "a remark at the end": solid_text(BOTH) + "\nexported by hand\n",
    "binary": stl_binary(BOTH),
    "binary that begins with solid": stl_binary(BOTH, b"solid made by a program"),
    "binary, bytes after it": stl_binary(BOTH, more=b"\x01\x02\x03 more"),
    "binary, solid, bytes after it": stl_binary(BOTH, b"solid a\nfacet", b"trailing"),
    "binary, zeros after it": stl_binary(BOTH, more=b"\0" * 100),
}


@pytest.mark.parametrize("name", STL)
def test_stl_in_every_form_is_a_box_and_a_ball(name: str) -> None:
    same_surface(read(STL[name], "stl"), moments(BOTH))


TWO = solid_text(BOX) + solid_text(BALL)
STL_FAULTS: dict[str, tuple[Any, str]] = {
    "cut in the second solid": (TWO[: len(TWO) // 2], "solid 2 has no end"),
    "cut before the last end": (TWO.removesuffix("endsolid a\n"), "solid 2 has no end"),
    "cut in a facet, with an end": (TWO.removesuffix(" endloop\nendfacet\nendsolid a\n") + "endsolid a\n", "cut short"),
    "a facet of two corners": (TWO.replace("  vertex", "  #", 1), "facet 1 has '#' for 'vertex'"),
    "a coordinate missing": (solid_text(BOX).replace("vertex -0.5 -1 -1.5", "vertex -0.5 -1"), "facet"),
    "a word": (solid_text(BOX).replace("vertex -0.5 -1 -1.5", "vertex -0.5 -1 one", 1), "'one' is no number"),
    "not a number of Windows": (solid_text(BOX).replace("-0.5 -1 -1.5", "-0.5 -1 -1.#IND", 1), "not finite"),
    "text between solids": (solid_text(BOX) + "facet\n" + solid_text(BALL), "text before its solid 2"),
    "facets after the last solid": (solid_text(BOX) + "facet normal 0 0 0\n", "facets after its last solid"),
    "an end alone": ("endsolid a\n" + solid_text(BOX), "has no beginning"),
    "no end between": (solid_text(BOX, end="") + solid_text(BALL), "solid 1 has no end"),
    "binary, cut": (stl_binary(BOTH)[:-1], "room for"),
    "binary, fewer announced": (stl_binary(BOTH, count=12), "announces 12 triangles, and has 92"),
    "binary, none announced": (stl_binary(BOTH, count=0), "announces 0 triangles, and has 92"),
    "binary, more announced": (stl_binary(BOTH, count=93), "announces 93 triangles, and has room for 92"),
}


@pytest.mark.parametrize("name", STL_FAULTS)
def test_stl_files_that_are_cut_or_say_two_things_are_refused(name: str) -> None:
    data, why = STL_FAULTS[name]
    with pytest.raises(ValueError, match=why):
        read(data, "stl")


def test_refusals_of_kinds_that_are_not_read_say_what_to_do() -> None:
    for data, ending in (
        (obj_text() + "surf 1\n", "obj"),
        (obj_text(shift=0), "obj"),
        (off_text().replace("OFF", "4OFF"), "off"),
    ):
        with pytest.raises(NotReadError) as caught:
            read(data, ending)
        assert caught.value.mend
