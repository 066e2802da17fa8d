"""Point Cloud Library `.pcd` files: ascii, binary and binary_compressed (LZF). trimesh does not read them.

Format: the PCL documentation, "The PCD (Point Cloud Data) file format", version 0.7.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

LZF_PACKED = 140  # 264 bytes out of 3 at best
TYPES = {"F": "f", "I": "i", "U": "u"}


def points(data: bytes) -> Float[np.ndarray, "P 3"]:
    """x, y, z of a file's bytes. A ValueError says what is wrong; nothing is allocated before the sizes agree."""
    header, body = _header(data)
    dtype, count = _row(header), _number(header, "POINTS")
    kind = header["DATA"][0].lower()
    if kind == "ascii":
        return _ascii(body, dtype, count)
    if kind == "binary":
        if count * dtype.itemsize > len(body):
            raise ValueError(f"its header announces {count:,} points, {len(body):,} bytes follow")
        return _columns(np.frombuffer(body, dtype, count))
    if kind == "binary_compressed":
        return _compressed(body, dtype, count)
    raise ValueError(f"unknown DATA {kind[:20]!r}")


def _header(data: bytes) -> tuple[dict[str, list[str]], bytes]:
    found: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in found:
        end = data.find(b"\n", position, position + 4096)
        if end < 0:
            raise ValueError("its header has no DATA line")
        words = data[position:end].decode("ascii", "replace").split("#")[0].split()
        position = end + 1
        if words:
            found[words[0].upper()] = words[1:]
    if not found["DATA"]:
        raise ValueError("its DATA line is empty")
    return found, data[position:]


def _number(header: dict[str, list[str]], key: str) -> int:
    number = int(header[key][0]) if header.get(key) else int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
    if number < 0:
        raise ValueError(f"{key} is {number}")
    return number


def _row(header: dict[str, list[str]]) -> np.dtype[Any]:
    """The record of one point; fields called `_` are padding and get a name each."""
    names = header["FIELDS"]
    counts = [int(n) for n in header.get("COUNT", ["1"] * len(names))]
    fields = list(zip(names, header["TYPE"], header["SIZE"], counts, strict=True))
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"its fields are {' '.join(names)[:80]}, without x, y and z")
    if any(not 1 <= count <= 4096 for count in counts):
        raise ValueError("a COUNT that cannot be")
    return np.dtype(
        [
            (name if name in "xyz" else f"{name}.{place}", f"<{TYPES[kind]}{int(size)}", (count,))
            for place, (name, kind, size, count) in enumerate(fields)
        ]
    )


def _columns(rows: NDArray[Any]) -> Float[np.ndarray, "P 3"]:
    return np.stack([np.asarray(rows[axis][:, 0], np.float64) for axis in "xyz"], axis=1)


def _ascii(body: bytes, dtype: np.dtype[Any], count: int) -> Float[np.ndarray, "P 3"]:
    """One line a point; a field with COUNT n takes n columns."""
    widths = [field[0].shape[0] for field in (dtype.fields or {}).values()]
    starts = dict(zip(dtype.names or (), np.cumsum([0, *widths]).tolist(), strict=False))
    if not body.strip():
        raise ValueError("no point follows its header")
    table = np.loadtxt(io.BytesIO(body), usecols=[starts[axis] for axis in "xyz"], ndmin=2)
    if len(table) != count:
        raise ValueError(f"its header announces {count:,} points, it has {len(table):,}")
    return table


def _compressed(body: bytes, dtype: np.dtype[Any], count: int) -> Float[np.ndarray, "P 3"]:
    """Packed bytes, field after field (all x, then all y, ...)."""
    packed, size = (int(n) for n in np.frombuffer(body, "<u4", 2))
    if packed > len(body) - 8 or size != count * dtype.itemsize or size > packed * LZF_PACKED:
        raise ValueError(f"its header announces {count:,} points, {packed:,} packed bytes cannot hold them")
    plain, found, position = unpack(body[8 : 8 + packed], size), {}, 0
    for name in dtype.names or ():
        base, shape = (dtype[name].base, dtype[name].shape)
        found[name] = np.frombuffer(plain, base, count * shape[0], position).reshape(count, *shape)
        position += count * dtype[name].itemsize
    return np.stack([found[axis][:, 0].astype(np.float64) for axis in "xyz"], axis=1)


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
