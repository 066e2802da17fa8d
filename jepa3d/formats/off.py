"""`.off` files as they are in the wild: `OFF123 45 6` on one line, comments, colours, normals, polygons.

Format: Geomview's manual, "OFF: Object File Format". Binary and four-dimensional files are refused by name.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from jepa3d.formats.numbers_in_text import NEWLINE, dense, not_finite, rows, table, unix, whole
from jepa3d.formats.polygons import Polygons, gathered
from jepa3d.formats.refusal import NotReadError

KEYWORD = re.compile(rb"\s*(?:ST)?C?N?(4?n?)OFF(?![A-Za-z])[ \t]*(BINARY)?")
COUNTS = re.compile(rb"\s*(\d{1,15})[ \t]+(\d{1,15})(?:[ \t]+\d+)?[ \t]*(?:\n|$)")
COLOURS = (0, 1, 3, 4)  # numbers after a face's corners


def read(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Polygons, int, int]:
    """Vertices, faces, and how many of both the header announces."""
    text = not_finite(unix(data))
    text = re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text
    keyword = KEYWORD.match(text)
    if not keyword:
        raise ValueError("it does not begin with OFF")
    if keyword[1] or keyword[2]:
        raise NotReadError(f"it is a {'binary' if keyword[2] else 'four-dimensional'} OFF file", "save it as plain OFF")
    counts = COUNTS.match(text, keyword.end())
    if not counts:
        raise ValueError("no numbers of vertices and faces follow OFF")
    vertices, faces = int(counts[1]), int(counts[2])
    body = dense(text[counts.end() :])
    ends = np.flatnonzero(np.frombuffer(body, np.uint8) == ord(NEWLINE)) + 1
    follow = len(ends) if body.strip() else 0
    if follow != vertices + faces or not vertices:
        raise ValueError(f"it announces {vertices:,} vertices and {faces:,} faces, {follow:,} lines follow")
    split = int(ends[vertices - 1])
    found = table(body[:split], 1, "vertex")
    if found.shape[1] < 3:
        raise ValueError(f"its vertices have {found.shape[1]} coordinates")
    return found[:, :3], _faces(body[split:]), vertices, faces


def _faces(text: bytes) -> Polygons:
    """`n a b c ...` of every line; a colour may follow."""
    found = rows(text, 1, "face")
    sizes = whole(found.values[found.starts], "a face has a number of corners")
    after = found.counts - 1 - sizes
    found.demand(np.isin(after, COLOURS) & (sizes > 0), "its numbers are not as many as it announces")
    faces = gathered(found.values, found.starts + 1, sizes)
    return Polygons(whole(faces.corners, "a face has a corner"), sizes)
