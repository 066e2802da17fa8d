"""The numba kernels of `geometry`: compiled loops over the shapes of a batch. Arrays in, arrays filled.

They let go of the interpreter's lock, so that threads can share a batch. numba's own `parallel=True` takes longer to
compile, which every fresh environment waits for, and shares its number of threads with torch.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_ORDER = {"nsz", "nnan"}  # lets the compiler vectorise minima and maxima; sums are never reordered


@numba.njit(cache=True, nogil=True, fastmath=_ORDER)
def fps(points: Any, out: Any) -> None:
    for b in range(len(points)):
        _fps_one(points[b], out[b])


@numba.njit(cache=True, fastmath=_ORDER)
def _fps_one(points: Any, out: Any) -> None:
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    nearest = np.full(len(points), np.float32(np.inf), np.float32)
    last = 0
    out[0] = 0
    for step in range(1, len(out)):
        cx, cy, cz = x[last], y[last], z[last]
        farthest = np.float32(-1.0)
        for i in range(len(points)):
            dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
            distance = min(nearest[i], dx * dx + dy * dy + dz * dz)
            nearest[i] = distance
            farthest = max(farthest, distance)
        last = 0
        while last < len(points) - 1 and nearest[last] != farthest:  # the bound: NaN is farthest from nothing
            last += 1
        out[step] = last


@numba.njit(cache=True, nogil=True, fastmath=_ORDER)
def knn(points: Any, queries: Any, out: Any) -> None:
    for b in range(len(points)):
        _knn_one(points[b], queries[b], out[b])


@numba.njit(cache=True, fastmath=_ORDER)
def _knn_one(points: Any, queries: Any, out: Any) -> None:
    """Exact: a sample of the distances gives a bound that few more than k points pass; those are sorted."""
    total, k = len(points), out.shape[1]
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    distance = np.empty(total, np.float32)
    near, index = np.empty(total + 1, np.float32), np.zeros(total + 1, np.int64)
    stride = max(1, k // 4)
    rank = k // stride + 3 * int(np.sqrt(k / stride)) + 2  # about three deviations above the expected k / stride
    smallest = np.empty(rank, np.float32)
    for n in range(len(queries)):
        cx, cy, cz = queries[n, 0], queries[n, 1], queries[n, 2]
        for i in range(total):
            dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
            distance[i] = dx * dx + dy * dy + dz * dz
        smallest[:] = np.inf
        for i in range(0, total, stride):
            value = distance[i]
            if value < smallest[rank - 1]:
                j = rank - 1
                while j > 0 and smallest[j - 1] > value:
                    smallest[j] = smallest[j - 1]
                    j -= 1
                smallest[j] = value
        count = _pass(distance, smallest[rank - 1], near, index)
        if count < k:
            count = _pass(distance, np.float32(np.inf), near, index)
        for i in range(1, count):  # insertion sort: stable, so equal distances keep the lower index first
            value, position = near[i], index[i]
            j = i
            while j > 0 and near[j - 1] > value:
                near[j], index[j] = near[j - 1], index[j - 1]
                j -= 1
            near[j], index[j] = value, position
        for i in range(k):  # not as one slice: numba takes seconds longer to compile that
            out[n, i] = index[i]


@numba.njit(cache=True, fastmath=_ORDER)
def _pass(distance: Any, bound: Any, near: Any, index: Any) -> int:
    """Collect the distances up to `bound` with their indices, in order of index, without a branch."""
    count = 0
    for i in range(len(distance)):
        near[count], index[count] = distance[i], i
        count += distance[i] <= bound
    return count


@numba.njit(cache=True, nogil=True, fastmath=_ORDER)
def pairs(points: Any, scale: Any, counts: Any, nearest: Any) -> None:
    for b in range(len(points)):
        _pairs_one(points[b], scale[b], counts[b], nearest[b])


@numba.njit(cache=True, fastmath=_ORDER)
def _pairs_one(points: Any, scale: Any, counts: Any, nearest: Any) -> None:
    counts[:] = 0
    nearest[:] = np.inf
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            dx, dy, dz = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
            apart = np.sqrt(dx * dx + dy * dy + dz * dz)
            counts[min(int(apart * scale), len(counts) - 1)] += 2
            nearest[i] = min(nearest[i], apart)
            nearest[j] = min(nearest[j], apart)
