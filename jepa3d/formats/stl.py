"""`.stl` files, ascii and binary: triangles without shared vertices.

Format: 3D Systems' "StereoLithography Interface Specification" (1989), sections 6.5 (ascii; several solids in one file,
as most programs write them) and 6.6 (binary). A binary file may begin with `solid` and have bytes after its triangles.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from jepa3d.formats.numbers_in_text import not_finite, table, unix
from jepa3d.formats.polygons import Polygons

FACET = np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
HEADER = 84
SOLID = re.compile(rb"[ \t]*(?:(end[ \t]*solid)|solid)(?![^\s])[^\n]*", re.IGNORECASE)
WORDS = (  # of a facet; None is a number
    b"facet", b"normal", None, None, None, b"outer", b"loop",
    b"vertex", None, None, None, b"vertex", None, None, None, b"vertex", None, None, None,
    b"endloop", b"endfacet",
)  # fmt: skip
CORNERS = [place + axis for place, word in enumerate(WORDS) if word == b"vertex" for axis in (1, 2, 3)]
CONTROL = bytes({*range(9), *range(14, 32)})


def read(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Polygons, int, int]:
    """Vertices, faces, and how many of both there must be."""
    announced = int.from_bytes(data[80:HEADER], "little") if len(data) >= HEADER else -1
    exact = len(data) == HEADER + FACET.itemsize * announced
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:8].lower().startswith((b"solid", b"endsolid"))
    corners = _ascii(data) if text and not exact and not _is_binary(data) else _binary(data, announced)
    faces = Polygons.alike(np.arange(len(corners) * 3).reshape(-1, 3))
    return corners.reshape(-1, 3), faces, 3 * len(corners), len(corners)


def _is_binary(data: bytes) -> bool:
    text = data.rstrip(b"\0\x1a")
    return len(text.translate(None, CONTROL)) != len(text)


def _binary(data: bytes, announced: int) -> Float[np.ndarray, "F 3 3"]:
    held = (len(data) - HEADER) // FACET.itemsize
    if announced < 0 or announced > held:
        raise ValueError(f"it announces {max(announced, 0):,} triangles, and has room for {max(held, 0):,}")
    more = data[HEADER + announced * FACET.itemsize :]
    if more and len(more) % FACET.itemsize == 0 and more.strip(b"\0"):
        raise ValueError(f"it announces {announced:,} triangles, and has {held:,}")
    corners: Float[np.ndarray, "F 3 3"] = np.frombuffer(data, FACET, announced, HEADER)["corners"].astype(np.float64)
    return corners


def _ascii(data: bytes) -> Float[np.ndarray, "F 3 3"]:
    """Solids one after the other, each with its end; between them facets alone."""
    text = not_finite(unix(data))
    at, ends = 0, _solids(text)
    facets: list[list[bytes]] = []
    for number, found in enumerate(ends):
        if bool(found[1]) != bool(number % 2):
            raise ValueError(f"its solid {number // 2 + 1} has no {'beginning' if found[1] else 'end'}")
        piece = text[at : found.start()].split()
        if number % 2 == 0 and piece:
            raise ValueError(f"there is text before its solid {number // 2 + 1}")
        facets.append(piece)
        at = found.end()
    if len(ends) % 2 or not ends:
        raise ValueError(f"it is cut short: its solid {len(ends) // 2 + 1} has no end")
    if re.search(rb"facet|vertex", text[at:], re.IGNORECASE):
        raise ValueError("there are facets after its last solid")
    words = [word for piece in facets for word in piece]
    return _facets(words)


def _solids(text: bytes) -> list[re.Match[bytes]]:
    """The lines that begin or end a solid."""
    found, lower, at = [], text.lower(), 0
    while (at := lower.find(b"solid", at)) >= 0:
        if line := SOLID.match(text, text.rfind(b"\n", 0, at) + 1):
            found.append(line)
        at = line.end() if line else at + 5
    return found


def _facets(words: list[bytes]) -> Float[np.ndarray, "F 3 3"]:
    size = len(WORDS)
    for place, word in enumerate(WORDS):
        if word is None or {found.lower() for found in set(words[place::size])} <= {word}:
            continue
        number = next(number for number, found in enumerate(words[place::size]) if found.lower() != word)
        odd = words[place + number * size][:20].decode("ascii", "replace")
        raise ValueError(f"its facet {number + 1} has '{odd}' for '{word.decode()}'")
    if len(words) % size:
        raise ValueError(f"its facet {len(words) // size + 1} is cut short")
    facets = zip(*(words[place::size] for place in CORNERS), strict=True)
    return table(b"\n".join(map(b" ".join, facets)), 1, "facet").reshape(-1, 3, 3)
