"""The texts of an HDF5 file lie in global heaps, in which libhdf5 walks for ever where one byte is wrong: so they are
walked here first (HDF5 File Format Specification 3.0, III.E, "Level 1E: Global Heap")."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

SIGNATURE = b"GCOL\x01\0\0\0"  # with the version; then the size of the collection, then its objects
HEADER = 16  # bytes of a collection's header, and of an object's: index, references, reserved, size


POINTER = np.dtype([("length", "<u4"), ("collection", "<u8"), ("index", "<u4")])  # of a text, in its array


class Damaged(ValueError):
    """What is damaged, in words."""


def check(file: h5py.File) -> None:
    """Raises Damaged for heaps of an open file in which libhdf5 would lose itself, and for a file that has no list of
    its arrays."""
    try:
        where = fault(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        where = str(error)
    if where:
        raise Damaged(where)


def claimed(data: h5py.Dataset) -> str:
    """Why texts of an array cannot be as long as they claim; empty where they may. libhdf5 allocates first."""
    offset = data.id.get_offset()
    if offset is None or data.file.userblock_size:
        return "is not stored in one piece"
    size = Path(data.file.filename).stat().st_size
    with open(data.file.filename, "rb") as raw:  # noqa: PTH123
        raw.seek(offset)
        found = np.fromfile(raw, POINTER, len(data))
    total = int(found["length"].sum(dtype=np.uint64))
    return f"texts of {total:,} bytes in a file of {size:,}" if total > size else ""


def fault(file: h5py.File) -> str:
    """What is wrong with the heaps of an open file; empty where nothing is. Its arrays are not looked through."""
    if not (size := Path(file.filename).stat().st_size):
        return ""
    with open(file.filename, "rb") as raw, mmap.mmap(raw.fileno(), size, access=mmap.ACCESS_READ) as held:  # noqa: PTH123
        for start, stop in _between(file, size):
            at = held.find(SIGNATURE, start, stop)
            while at >= 0:
                if not _walks(held, at):
                    return f"its texts, at byte {at}"
                at = held.find(SIGNATURE, at + 1, stop)
    return ""


def _between(file: h5py.File, size: int) -> Iterator[tuple[int, int]]:
    """The stretches of the file that no contiguous array takes."""
    arrays = (file[name] for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink))
    taken = sorted(
        (data.id.get_offset(), data.id.get_storage_size())
        for data in arrays
        if isinstance(data, h5py.Dataset) and data.id.get_offset() is not None
    )
    start = 0
    for offset, length in taken:
        yield start, offset
        start = max(start, offset + length)
    yield start, size


def _walks(held: mmap.mmap, at: int) -> bool:
    """Whether the objects of one collection fill it without a gap or an overlap."""
    if at + HEADER > len(held):
        return False
    (size,) = struct.unpack_from("<Q", held, at + 8)
    end = at + size
    if size < HEADER or end > len(held):
        return False
    place = at + HEADER
    while place + HEADER <= end:
        index, _, _, length = struct.unpack_from("<HHIQ", held, place)
        if index == 0:  # what is free, to the end
            return bool(place + length == end)
        place += HEADER + (length + 7) // 8 * 8
    return bool(place <= end)
