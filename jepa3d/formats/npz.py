"""Foreign `.npz` files: every declared size checked against the archive before anything is read, never a pickle."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from jepa3d.problem import Problem

LARGEST = 1 << 30  # bytes that are read at once
ROOM, TIMES = 64 << 20, 50  # bytes that any array may have, beside so many times what it takes in the archive
PACKED = 1100  # deflate cannot pack tighter than 1 : 1032
DAMAGE = (ValueError, TypeError, SyntaxError, EOFError, OverflowError, MemoryError, RuntimeError, KeyError)
ERRORS = (*DAMAGE, OSError, TokenError, zipfile.BadZipFile, zlib.error)


class Member(NamedTuple):
    """One array of the archive; nothing of it has been read but its header."""

    archive: zipfile.ZipFile
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool = False  # stored in Fortran's order
    packed: int = LARGEST  # bytes that it takes in the archive

    def read(self) -> NDArray[Any]:
        stored = next(self._blocks(self.shape[::-1] if self.by_column else self.shape))
        return stored.T if self.by_column else stored

    def rows(self) -> Iterator[NDArray[Any]]:
        """The rows one by one: the memory is one row, and the whole array where it is stored by columns."""
        if self.by_column:
            yield from self.read()
            return
        for _, row in zip(range(self.shape[0]), self._blocks(self.shape[1:]), strict=False):
            yield row

    def _blocks(self, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        size = math.prod(shape) * self.dtype.itemsize
        if size > min(LARGEST, ROOM + TIMES * self.packed):
            raise ValueError(f"'{self.name}' declares {size:,} bytes, and takes {self.packed:,} in the archive")
        with self.archive.open(f"{self.name}.npy") as file:
            _header(file)
            while True:
                data = file.read(size)
                if len(data) != size:
                    raise EOFError(f"'{self.name}' ends early")
                yield np.frombuffer(data, self.dtype).reshape(shape)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[dict[str, Member]]:
    """The arrays of numbers and of text in an archive. Any fault of it is a Problem."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield {m.name: m for info in archive.infolist() if (m := _member(archive, info)) is not None}
    except ERRORS as error:
        raise Problem(f"{path}: a damaged or wrong .npz file", " ".join(str(error).split())[:200]) from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    """None for what is no array, and for arrays of objects, which could only be read by running them."""
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        return None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{name}' is packed in a way that numpy does not use")
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        start = file.tell()
    if dtype.kind not in "fiubSU":
        return None
    size = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or size + start != info.file_size or size > info.compress_size * PACKED:
        raise ValueError(f"'{name}' declares {shape} {dtype}, which the archive does not hold")
    return Member(archive, name, shape, dtype, fortran and len(shape) > 1, info.compress_size)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return reader(file, max_header_size=10_000)  # type: ignore[no-any-return]
