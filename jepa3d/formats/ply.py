"""Stanford's `.ply` files, ascii and binary: vertices with faces or triangle strips, or vertices alone.

Format: G. Turk, "The PLY Polygon File Format" (1994); `tristrips` as Stanford's archive has them: lists of vertices in
which -1 begins a new strip. Read: lists and scalars in any order in every element, comments anywhere in any encoding,
faces of several lengths, names of coordinates in any case. Refused by name: range grids, and lists that name vertices
in an element that is not known.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jepa3d.formats.numbers_in_text import NEWLINE, Rows, dense, not_finite, rows, unix, whole
from jepa3d.formats.polygons import Polygons, gathered
from jepa3d.formats.refusal import NotReadError

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
INDICES = ("vertex_indices", "vertex_index")
SURFACES = ("face", "tristrips")
LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
LONGEST_HEADER = 1 << 16


class Property(NamedTuple):
    name: str
    kind: str  # of numpy, without its order
    length: str = ""  # of a list: the type of its length

    @property
    def size(self) -> int:
        return np.dtype(self.kind).itemsize


class Element(NamedTuple):
    name: str
    number: int
    properties: list[Property]


class Values(NamedTuple):
    """One property of all rows of an element; `counts` are the lengths where it is a list."""

    flat: NDArray[Any]
    counts: Int[np.ndarray, "R"] | None = None


def read(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Polygons, int, int | None]:
    """Vertices, faces, and how many of both the header announces (None: strips, of which it does not say it)."""
    order, elements, body = _header(data)
    known = {element.name: element for element in elements}
    if "range_grid" in known:
        raise NotReadError("it is a range grid", "make a mesh of it, or save its points alone")
    for element in elements:
        lists = [one.name for one in element.properties if one.length and one.name in INDICES]
        if lists and element.name not in SURFACES:
            raise NotReadError(f"its element '{element.name}' has '{lists[0]}'", "save its surface as faces")
    if len(known) != len(elements) or "vertex" not in known:
        raise ValueError("its header names an element twice" if "vertex" in known else "it has no vertices")
    found = (_binary if order else _ascii)(body, elements, order)
    vertices = _vertices(known["vertex"], found["vertex"])
    pieces = []
    if "face" in known and known["face"].number:
        pieces.append(_faces(found["face"]))
    if "tristrips" in known and known["tristrips"].number:
        pieces.append(_strips(found["tristrips"]))
    empty = np.empty(0, np.int64)
    polygons = Polygons(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))) if pieces else None
    announced = None if "tristrips" in known else known["face"].number if "face" in known else 0
    return vertices, polygons or Polygons(empty, empty), known["vertex"].number, announced


def _header(data: bytes) -> tuple[str, list[Element], bytes]:
    """The order of bytes ("" for ascii), the elements, and what follows."""
    order, elements = None, list[Element]()
    begin = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data)
    at = begin.end() if begin else LONGEST_HEADER
    while begin and (found := LINE.match(data, at, LONGEST_HEADER)) is not None:
        at = found.end()
        words = found[1].decode("latin-1").split()
        keyword = words[0] if words else ""
        if keyword == "end_header":
            if order is None:
                raise ValueError("its header has no format")
            return order, elements, data[found.end(1) + len(begin[1]) :]  # data may begin with a byte like LF
        if keyword == "format" and len(words) == 3 and words[1] in ORDERS and words[2] == "1.0" and order is None:
            order = ORDERS[words[1]]
        elif keyword == "element" and len(words) == 3 and words[2].isdecimal():
            elements.append(Element(words[1], int(words[2]), []))
        elif keyword == "property" and elements:
            elements[-1].properties.append(_property(words[1:]))
        elif keyword not in ("", "comment", "obj_info"):
            raise ValueError(f"its header has the line '{' '.join(words)[:60]}'")
    raise ValueError("it has no complete .ply header")


def _property(words: list[str]) -> Property:
    if len(words) == 4 and words[0] == "list" and words[1] in TYPES and words[2] in TYPES:
        if TYPES[words[1]][0] == "f":
            raise ValueError(f"the length of its list '{words[3][:40]}' is a {words[1]}")
        return Property(words[3], TYPES[words[2]], TYPES[words[1]])
    if len(words) == 2 and words[0] in TYPES:
        return Property(words[1], TYPES[words[0]])
    raise ValueError(f"its header has the property '{' '.join(words)[:60]}'")


# --------------------------------------------------------------------------------------------------- the two bodies


def _ascii(body: bytes, elements: list[Element], order: str) -> dict[str, dict[str, Values]]:
    """One line a row, in which every number has its place."""
    elements = [element for element in elements if element.properties]
    text = dense(not_finite(unix(body)))
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(NEWLINE)) + 1
    announced, follow = sum(element.number for element in elements), len(ends) if text != NEWLINE else 0
    if announced != follow:
        raise ValueError(f"it announces {announced:,} elements, {follow:,} lines follow")
    found, at = {}, np.append(0, ends)[np.cumsum([0, *(element.number for element in elements)])].tolist()
    for element, (start, stop) in zip(elements, pairwise(at), strict=True):
        found[element.name] = _ascii_rows(element, rows(text[start:stop], 1, element.name))
    return found


def _ascii_rows(element: Element, lines: Rows) -> dict[str, Values]:
    found, at = {}, lines.starts
    ends = at + lines.counts
    for one in element.properties:
        lines.demand(at < ends, "it has too few numbers")
        if not one.length:
            found[one.name] = Values(lines.values[at])
            at = at + 1
            continue
        counts = whole(lines.values[at], f"a list '{one.name}' has a length")
        lines.demand((counts >= 0) & (counts <= ends - at - 1), f"its list '{one.name}' is not as long as it says")
        found[one.name] = Values(gathered(lines.values, at + 1, counts).corners, counts)
        at = at + 1 + counts
    lines.demand(at == ends, "it has too many numbers")
    return found


def _binary(body: bytes, elements: list[Element], order: str) -> dict[str, dict[str, Values]]:
    found, at = {}, 0
    for element in elements:
        if not element.properties:
            continue
        lists = [one for one in element.properties if one.length]
        smallest = sum(np.dtype(one.length or one.kind).itemsize for one in element.properties)
        if element.number * smallest > len(body) - at:
            raise ValueError(f"it announces {element.number:,} times '{element.name}', and ends early")
        if not lists:
            found[element.name], at = _binary_table(body, at, element, order, {})
            continue
        same = _first_lengths(body, at, element, order) if element.number else {}
        try:
            found[element.name], after = _binary_table(body, at, element, order, same)
        except ValueError:  # too few bytes for rows that are all as long as the first
            found[element.name], at = _binary_rows(body, at, element, order)
            continue
        if all((np.asarray(found[element.name][name].counts) == length).all() for name, length in same.items()):
            at = after
        else:
            found[element.name], at = _binary_rows(body, at, element, order)
    _nothing_more(body, at, elements[-1] if elements else None, order)
    return found


def _first_lengths(body: bytes, at: int, element: Element, order: str) -> dict[str, int]:
    """How long the lists of the first row are."""
    lengths = {}
    for one in element.properties:
        if one.length:
            kind = np.dtype(order + one.length)
            lengths[one.name] = _length(body, at, kind)
            at += kind.itemsize
        at += one.size * lengths.get(one.name, 1)
    return lengths


def _length(body: bytes, at: int, kind: np.dtype[Any]) -> int:
    """A length of a list; nothing is made of one that the file cannot hold."""
    if at + kind.itemsize > len(body) or not 0 <= (length := int(np.frombuffer(body, kind, 1, at)[0])) <= len(body):
        raise ValueError("a list of it is longer than the file")
    return length


def _binary_table(
    body: bytes, at: int, element: Element, order: str, lengths: dict[str, int]
) -> tuple[dict[str, Values], int]:
    """Rows of one length."""
    fields: list[tuple[Any, ...]] = []
    for place, one in enumerate(element.properties):
        if one.length:
            fields.append((f"n{place}", order + one.length))
        fields.append((f"v{place}", order + one.kind, (lengths[one.name],) if one.length else ()))
    dtype = np.dtype(fields)
    if element.number * dtype.itemsize > len(body) - at:
        raise ValueError(f"it announces {element.number:,} times '{element.name}', and ends early")
    table = np.frombuffer(body, dtype, element.number, at)
    found = {}
    for place, one in enumerate(element.properties):
        counts = table[f"n{place}"].astype(np.int64) if one.length else None
        found[one.name] = Values(table[f"v{place}"].reshape(-1), counts)
    return found, at + element.number * dtype.itemsize


def _binary_rows(body: bytes, at: int, element: Element, order: str) -> tuple[dict[str, Values], int]:
    """Rows whose lists have lengths of their own: first where everything is, then all of one property at once."""
    places: list[list[int]] = [[] for _ in element.properties]
    counts: list[list[int]] = [[] for _ in element.properties]
    steps = [(one.size, np.dtype(order + one.length) if one.length else None) for one in element.properties]
    large, end = order == ">", len(body)
    for _ in range(element.number):
        for number, (size, kind) in enumerate(steps):
            if kind is None:
                places[number].append(at)
                at += size
                continue
            after = at + kind.itemsize
            length = int.from_bytes(body[at:after], "big" if large else "little", signed=kind.kind == "i")
            if length < 0:
                raise ValueError(f"a list of '{element.name}' has the length {length}")
            places[number].append(after)
            counts[number].append(length)
            at = after + length * size
        if at > end:
            raise ValueError(f"it announces {element.number:,} times '{element.name}', and ends early")
    found = {}
    for one, place, many in zip(element.properties, places, counts, strict=True):
        lengths = np.array(many, np.int64) if one.length else None
        sizes = np.ones(len(place), np.int64) if lengths is None else lengths
        letters = gathered(np.frombuffer(body, np.uint8), np.array(place, np.int64), sizes * one.size).corners
        found[one.name] = Values(letters.view(order + one.kind), lengths)
    return found, at


def _nothing_more(body: bytes, at: int, last: Element | None, order: str) -> None:
    """Bytes after the last element are passed over, unless they read like more of its rows than are announced."""
    rest = body[at:].strip(b"\0\r\n ")
    if last is None or not rest or not last.properties:
        return
    if not any(one.length for one in last.properties):
        more = (len(body) - at) % sum(one.size for one in last.properties) == 0
    else:
        try:
            lists = _binary_rows(body, at, last._replace(number=1), order)[0]
            more = all(3 <= int(values.counts[0]) <= 4 for name, values in lists.items() if values.counts is not None)
        except ValueError:
            more = False
    if more:
        raise ValueError(f"it announces {last.number:,} times '{last.name}', and more follow")


# ------------------------------------------------------------------------------------------------ what is made of it


def _vertices(element: Element, found: dict[str, Values]) -> Float[np.ndarray, "V 3"]:
    axes: list[NDArray[np.float64]] = []
    for axis in "xyz":
        same = [one for one in element.properties if one.name == axis]
        same = same or [one for one in element.properties if one.name.lower() == axis]
        if len(same) != 1 or same[0].length:
            raise ValueError(f"its vertices have {'more than one' if same else 'no'} {axis}")
        axes.append(found[same[0].name].flat.astype(np.float64))
    return np.stack(axes, axis=1)


def _list(found: dict[str, Values], what: str) -> tuple[Int[np.ndarray, "C"], Int[np.ndarray, "F"]]:
    values = next((found[name] for name in INDICES if name in found), None)
    if values is None or values.counts is None:
        raise NotReadError(f"its {what} have no list '{INDICES[0]}', only {', '.join(found)[:80]}", "save it as a mesh")
    return whole(values.flat.astype(np.float64), f"{what} have a corner"), values.counts


def _faces(found: dict[str, Values]) -> Polygons:
    return Polygons(*_list(found, "faces"))


def _strips(found: dict[str, Values]) -> Polygons:
    """Every three corners one after the other are a triangle, unless -1 or the end of a list lies between them."""
    corners, counts = _list(found, "tristrips")
    if (corners < -1).any():
        raise ValueError("a strip has a corner below -1")
    row = np.repeat(np.arange(len(counts)), counts)
    first, last = np.arange(max(len(corners) - 2, 0)), np.arange(2, max(len(corners), 2))
    inside = (row[first] == row[last]) & (corners[first] >= 0) & (corners[first + 1] >= 0) & (corners[last] >= 0)
    at = first[inside]
    faces = np.stack([corners[at], corners[at + 1], corners[at + 2]], axis=1)
    if not len(faces):
        raise ValueError("its strips have no triangle")
    return Polygons.alike(faces)
