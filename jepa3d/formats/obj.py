"""Wavefront `.obj` files: their vertices and polygons.

Format: Wavefront's Advanced Visualizer manual, appendix B1, "Object Files". A negative index counts from the vertex
before its own line. Lines and points have no surface; free-form surfaces, and statements that run or open others, are
refused by name; what is no statement at all is refused with its line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jepa3d.formats.numbers_in_text import NEWLINE, blocks, not_finite, rows, unix, whole
from jepa3d.formats.polygons import Polygons
from jepa3d.formats.refusal import NotReadError

NO_SURFACE = frozenset(
    b"vt vn vp p l g s o mg bevel c_interp d_interp lod usemtl mtllib usemap maplib shadow_obj trace_obj".split()
)
FREE_FORM = frozenset(
    b"curv curv2 surf parm trim hole scrv sp end con cstype deg bmat step ctech stech bsp bzp cdc cdp res".split()
)
OTHERS = frozenset(b"call csh".split())
BLANK = (9, 11, 12, 32)
V, F, T, N, P = b"vftnp"
INDICES = b"0123456789-/ \t\v\f\n"


class Statements(NamedTuple):
    """Which lines of a text are vertices, and which are faces."""

    starts: Int[np.ndarray, "L"]
    vertex: Bool[np.ndarray, "L"]
    face: Bool[np.ndarray, "L"]


def read(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Polygons, int, int]:
    """Vertices, faces, and how many lines of both there are."""
    text = not_finite(unix(data))
    text = text.replace(b"\\\n", b"  ") if b"\\\n" in text else text
    text = re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text
    text = text.lstrip(b" \t")
    if b"\n " in text or b"\n\t" in text:
        text = re.sub(rb"\n[ \t]+", NEWLINE, text)
    line, vertices, faces = 1, [np.empty((0, 3))], [Polygons(np.empty(0, np.int64), np.empty(0, np.int64))]
    counted = [0, 0]
    for block in blocks(text):
        found = _statements(block, line)
        line += block.count(NEWLINE)
        coordinates = _taken(block, found.starts, found.vertex)
        before = np.cumsum(found.vertex)[found.face] + counted[0]
        if coordinates:
            vertices.append(_coordinates(coordinates, counted[0] + 1))
        if len(before):
            faces.append(_corners(_taken(block, found.starts, found.face), before, counted[1] + 1))
        counted = [counted[0] + int(found.vertex.sum()), counted[1] + len(before)]
    polygons = Polygons(*(np.concatenate(arrays) for arrays in zip(*faces, strict=True)))
    return np.concatenate(vertices), polygons, counted[0], counted[1]


def _statements(text: bytes, first: int) -> Statements:
    letters = np.frombuffer(text + b"\n\n\n", np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(letters[: len(text)] == 10) + 1])
    one, two, three = letters[starts], letters[starts + 1], letters[starts + 2]
    vertex = (one == V) & np.isin(two, BLANK)
    face = (one == F) & np.isin(two, BLANK)
    beside = (one == V) & ((two == T) | (two == N) | (two == P)) & np.isin(three, BLANK)
    for number in np.flatnonzero(~(vertex | face | beside | (one == 10))).tolist():
        start = int(starts[number])
        words = text[start : text.find(NEWLINE, start) if text.find(NEWLINE, start) >= 0 else len(text)].split(None, 1)
        if words and words[0] not in NO_SURFACE:
            raise _refusal(words[0], first + number)
    return Statements(starts, vertex, face)


def _refusal(word: bytes, line: int) -> ValueError:
    name = word[:20].decode("ascii", "replace")
    if word in FREE_FORM:
        return NotReadError(f"line {line}: '{name}' is of a free-form curve or surface", "save it as polygons")
    if word in OTHERS:
        return NotReadError(f"line {line}: '{name}' names another file or program", "put all of it into one file")
    return ValueError(f"line {line}: '{name}' is no statement of .obj")


def _taken(text: bytes, starts: Int[np.ndarray, "L"], wanted: Bool[np.ndarray, "L"]) -> bytes:
    """The lines that are wanted, without their keyword of one letter."""
    change = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    at = np.append(starts, len(text) + 1).tolist()
    pieces = [NEWLINE + text[at[a] : at[b] - 1] for a, b in change.reshape(-1, 2).tolist()]
    return b"".join(pieces).replace(pieces[0][:2], NEWLINE)[1:] if pieces else b""


def _coordinates(text: bytes, first: int) -> Float[np.ndarray, "V 3"]:
    """x y z of every line; a weight or a colour may follow."""
    return rows(text, first, "vertex").columns(3)


def _corners(text: bytes, before: Int[np.ndarray, "F"], first: int) -> Polygons:
    """The vertices of each face, from 0. `before` says how many vertices there are before its line."""
    if strange := text.translate(None, INDICES):
        raise ValueError(f"a face has {strange[:20]!r} in it")
    if any(blank + b"/" in text for blank in (b" ", b"\t", b"\v", b"\f")):
        raise ValueError("a face has a corner without a vertex")
    found = rows(_vertices_alone(text) if b"/" in text else text, first, "face")
    if len(found.counts) != len(before):
        raise ValueError("a face has no vertex")
    index = whole(found.values, "a face has a vertex")
    if (index == 0).any():
        raise NotReadError("a face names vertex 0, and .obj counts from 1", "add 1 to the numbers of every face")
    corners = np.where(index > 0, index - 1, np.repeat(before, found.counts) + index)
    if (corners < 0).any():
        raise ValueError("a face counts back to before the first vertex")
    return Polygons(corners, found.counts)


def _vertices_alone(text: bytes) -> bytes:
    """`7/2/5 9//5` as `7 9`: what follows a vertex (texture, normal) becomes blanks."""
    letters = np.frombuffer(text, np.uint8)
    place = np.arange(len(letters), dtype=np.int32)
    word = np.maximum.accumulate(np.where(letters <= 32, place, -1))
    slash = np.maximum.accumulate(np.where(letters == ord("/"), place, -1))
    return np.where(slash > word, np.uint8(32), letters).tobytes()
