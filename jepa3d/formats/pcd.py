"""Point Cloud Library `.pcd` files: ascii, binary and binary_compressed (LZF). trimesh does not read them.

Format: the PCL documentation, "The PCD (Point Cloud Data) file format", version 0.7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jepa3d.formats.numbers_in_text import not_finite, table, unix
from jepa3d.formats.refusal import NotReadError

ROOM, TIMES = 64 << 20, 16  # bytes that any file may unpack to, beside so many times its own; clouds pack 2 to 5 times
LZF_PACKED = 140  # 264 bytes out of 3 at best
TYPES = {"F": "f", "I": "i", "U": "u"}


def points(data: bytes) -> tuple[Float[np.ndarray, "P 3"], int]:
    """x, y, z of a file's bytes, without the rows that are NaN, and how many those were.

    A row with NaN is a pixel without a measurement (PCL: `is_dense` is false), of a cloud in the form of an image most
    of all. A ValueError says what is wrong; nothing is allocated before the sizes agree.
    """
    header, body, line = _header(data)
    dtype, count = _row(header), _number(header)
    kind = header["DATA"][0].lower()
    if kind == "ascii":
        found = _ascii(body, dtype, count, line)
    elif kind == "binary":
        size = count * dtype.itemsize
        if size > len(body) or body[size:].strip(b"\0\r\n "):
            raise ValueError(f"its header announces {count:,} points of {dtype.itemsize} bytes, {len(body):,} follow")
        found = _columns(np.frombuffer(body, dtype, count))
    elif kind == "binary_compressed":
        found = _compressed(body, dtype, count)
    else:
        raise ValueError(f"unknown DATA {kind[:20]!r}")
    measured = ~np.isnan(found).any(axis=1)
    missing = count - int(measured.sum())
    if missing == count:
        raise ValueError(f"none of its {count:,} points has coordinates")
    return (found[measured], missing) if missing else (found, 0)


def _header(data: bytes) -> tuple[dict[str, list[str]], bytes, int]:
    """What the header says, what follows it, and the number of the line that follows."""
    found: dict[str, list[str]] = {}
    position, line = 0, 1
    while "DATA" not in found:
        end = data.find(b"\n", position, position + 4096)
        if end < 0:
            raise ValueError("its header has no DATA line")
        words = data[position:end].decode("ascii", "replace").split("#")[0].split()
        position, line = end + 1, line + 1
        if words and words[0].upper() in found:
            raise ValueError(f"its header says {words[0][:20]} twice")
        if words:
            found[words[0].upper()] = words[1:]
    if not found["DATA"]:
        raise ValueError("its DATA line is empty")
    if lacking := {"FIELDS", "TYPE", "SIZE"} - {key for key, words in found.items() if words}:
        raise ValueError(f"its header has no {' and no '.join(sorted(lacking))}")
    return found, data[position:], line


def _number(header: dict[str, list[str]]) -> int:
    """POINTS, and WIDTH times HEIGHT; where both are there, they must agree."""
    told = [int(header["POINTS"][0])] if header.get("POINTS") else []
    if header.get("WIDTH") and header.get("HEIGHT"):
        told.append(int(header["WIDTH"][0]) * int(header["HEIGHT"][0]))
    if not told or min(told) < 1 or len(set(told)) > 1:
        raise ValueError(f"POINTS, and WIDTH times HEIGHT, are {' and '.join(map(str, told)) or 'missing'}")
    return told[0]


def _row(header: dict[str, list[str]]) -> np.dtype[Any]:
    """The record of one point. Fields other than x, y, z (any case) get names of their own, for `_` is padding, and
    those of COUNT 0 take no bytes."""
    names = header["FIELDS"]
    counts = [int(n) for n in header.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(header["TYPE"]) == len(header["SIZE"]) == len(counts):
        raise ValueError("FIELDS, TYPE, SIZE and COUNT have not as many entries")
    if any(not 0 <= count <= 4096 for count in counts):
        raise ValueError("a COUNT that cannot be")
    axes = {}
    for axis in "xyz":
        same = [place for place, name in enumerate(names) if name == axis]
        same = same or [place for place, name in enumerate(names) if name.lower() == axis]
        if len(same) != 1 or counts[same[0]] != 1:
            raise ValueError(f"its fields are {' '.join(names)[:80]}: {'no single' if same else 'no'} {axis}")
        axes[same[0]] = axis
    parts: list[tuple[Any, ...]] = []
    for place, (kind, size) in enumerate(zip(header["TYPE"], header["SIZE"], strict=True)):
        if kind.upper() not in TYPES:
            raise ValueError(f"the unknown TYPE {kind[:20]}")
        parts.append((axes.get(place, f"_{place}"), f"<{TYPES[kind.upper()]}{int(size)}", (counts[place],)))
    return np.dtype(parts)


def _columns(rows: NDArray[Any]) -> Float[np.ndarray, "P 3"]:
    return np.stack([np.asarray(rows[axis][:, 0], np.float64) for axis in "xyz"], axis=1)


def _ascii(body: bytes, dtype: np.dtype[Any], count: int, line: int) -> Float[np.ndarray, "P 3"]:
    """One line a point; a field with COUNT n takes n columns."""
    names = dtype.names or ()
    at = np.cumsum([0, *(dtype[name].shape[0] for name in names)]).tolist()
    found = table(not_finite(unix(body)), line)
    if found.shape != (count, at[-1]):
        rows, columns = found.shape
        raise ValueError(f"its header announces {count:,} points of {at[-1]} numbers, it has {rows:,} of {columns}")
    return found[:, [at[names.index(axis)] for axis in "xyz"]]


def _compressed(body: bytes, dtype: np.dtype[Any], count: int) -> Float[np.ndarray, "P 3"]:
    """Packed bytes, field after field (all x, then all y, ...)."""
    packed, size = (int(n) for n in np.frombuffer(body, "<u4", 2))
    if size > ROOM + TIMES * packed:
        raise NotReadError(f"it unpacks to {size:,} bytes, {size // max(packed, 1)} times as many", "save it as binary")
    if packed > len(body) - 8 or size != count * dtype.itemsize or size > packed * LZF_PACKED:
        raise ValueError(f"its header announces {count:,} points, {packed:,} packed bytes cannot hold them")
    plain, found, position = unpack(body[8 : 8 + packed], size), {}, 0
    for name in dtype.names or ():
        if name in "xyz":
            found[name] = np.frombuffer(plain, dtype[name].base, count, position).astype(np.float64)
        position += count * dtype[name].itemsize
    return np.stack([found[axis] for axis in "xyz"], axis=1)


def unpack(data: bytes, size: int) -> bytes:
    """LZF: a control byte below 32 announces that many + 1 bytes as they are; others repeat what was written."""
    out = bytearray()
    position = 0
    while position < len(data):
        control = data[position]
        position += 1
        if control < 32:
            out += data[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[position]
            position += 1
        start = len(out) - ((control & 31) << 8) - data[position] - 1
        position += 1
        length += 2
        if start < 0 or len(out) + length > size:
            raise ValueError("its packed data are damaged")
        piece = out[start : start + length]
        out += (piece * (length // len(piece) + 1))[:length]
    if len(out) != size:
        raise ValueError("its packed data end early")
    return bytes(out)
