"""Foreign `.npy` files: one read, the header checked against the size of the file, never a pickle."""

from __future__ import annotations

import io
import math
import os
import stat
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from jepa3d.problem import Problem

LARGEST = 1 << 30
MOST_COLUMNS = 12  # of a cloud whose points are rows, where it has no more rows than this
ERRORS = (OSError, ValueError, TypeError, SyntaxError, EOFError, OverflowError, RecursionError, MemoryError, TokenError)


def load(path: Path | str) -> NDArray[Any]:
    """The array of an `.npy` file, numbers only. Read-only. Faster than `np.load`: headers of one data set are alike,
    and each is understood once."""
    try:
        data = _bytes(path)
        start = _header_length(data)
        dtype, shape, fortran = _header(data[:start])
        if math.prod(shape) * dtype.itemsize != len(data) - start:
            raise ValueError(f"its header declares {shape} {dtype}, but {len(data) - start} bytes follow")
        return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    except FileNotFoundError:
        raise Problem(f"{path}: no such file", "a list names it", "complete the copy of the data set") from None
    except ERRORS as error:
        raise Problem(
            f"{path}: a damaged or wrong .npy file", " ".join(str(error).split())[:200], "get the file again"
        ) from None


def transposed(shape: tuple[int, ...]) -> bool:
    """Whether `[3, P]` or `[n, 3, P]` is what an array has: few rows, and more columns than coordinates, normals,
    colours and the like make."""
    return len(shape) in (2, 3) and 3 <= shape[-2] <= MOST_COLUMNS < shape[-1]


def _bytes(path: Path | str) -> bytes:
    """The whole file. Without a file object, whose making costs as much as the read."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ValueError("no regular file")
        size = status.st_size
        if size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        data = os.read(handle, size)
        while len(data) < size and (more := os.read(handle, size - len(data))):  # some file systems give pieces
            data += more
        return data
    finally:
        os.close(handle)


def _header_length(data: bytes) -> int:
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise ValueError("it does not begin as .npy files do")
    return 10 + int.from_bytes(data[8:10], "little") if data[6] == 1 else 12 + int.from_bytes(data[8:12], "little")


@lru_cache(maxsize=256)
def _header(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    file = io.BytesIO(header)
    version = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = reader(file, max_header_size=10_000)
    if dtype.kind not in "fiu" or any(n < 0 for n in shape):
        raise ValueError(f"it holds {dtype}{shape}, not numbers")
    return dtype, shape, fortran
