"""The numba kernels of `geometry`: compiled loops over the shapes of a batch. Arrays in, arrays filled.

They let go of the interpreter's lock, so that threads can share a batch. numba's own `parallel=True` takes longer to
compile, which every fresh environment waits for, and shares its number of threads with torch.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_ORDER = {"nsz", "nnan"}  # lets the compiler vectorise minima and maxima; sums are never reordered
_INFINITY = np.int32(0x7F800000)  # the bits of float32's infinity


@numba.njit(cache=True, nogil=True, error_model="numpy")
def fps(points: Any, out: Any) -> None:
    for b in range(len(points)):
        _fps_one(points[b], out[b])


@numba.njit(cache=True, error_model="numpy")
def _fps_one(points: Any, out: Any) -> None:
    """Squared distances are compared as the integers that their bits are: floats that are not negative have the same
    order, and a compiler vectorises integer minima and maxima on every processor. Coordinates must be finite."""
    total = len(points)
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    distance = np.empty(total, np.float32)
    bits = distance.view(np.int32)
    nearest = np.full(total, _INFINITY, np.int32)
    last = 0
    out[0] = 0
    for step in range(1, len(out)):
        cx, cy, cz = x[last], y[last], z[last]
        for i in range(total):
            dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
            distance[i] = dx * dx + dy * dy + dz * dz
        farthest = np.int32(-1)
        for i in range(total):
            least = min(nearest[i], bits[i])
            nearest[i] = least
            farthest = max(farthest, least)
        last = 0
        while last < total - 1 and nearest[last] != farthest:
            last += 1
        out[step] = last


@numba.njit(cache=True, nogil=True, error_model="numpy")
def knn(points: Any, queries: Any, out: Any) -> None:
    for b in range(len(points)):
        _knn_one(points[b], queries[b], out[b])


@numba.njit(cache=True, error_model="numpy")
def _knn_one(points: Any, queries: Any, out: Any) -> None:
    """Exact: a bound that few more than k points pass; those are sorted by (distance, index) as one integer.

    The bound is the k-th smallest of the minima of 2k groups of points: k groups hold a point that near.
    """
    total, k = len(points), out.shape[1]
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    distance = np.empty(total, np.float32)
    bits = distance.view(np.int32)
    key = np.empty(total + 1, np.int64)
    groups = 2 * k if total >= 2 * k else 0
    rounds = total // groups if groups else 0
    low, rank = np.empty(groups, np.int32), np.empty(groups, np.int32)
    for n in range(len(queries)):
        cx, cy, cz = queries[n, 0], queries[n, 1], queries[n, 2]
        for i in range(total):
            dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
            distance[i] = dx * dx + dy * dy + dz * dz
        bound = np.int32(0x7FFFFFFF)
        if groups:
            bound = _bound(bits, low, rank, rounds, k)
        count = 0
        for i in range(total):  # without a branch
            key[count] = (np.int64(bits[i]) << 32) | i
            count += bits[i] <= bound
        for i in range(1, count):
            value = key[i]
            j = i
            while j > 0 and key[j - 1] > value:
                key[j] = key[j - 1]
                j -= 1
            key[j] = value
        for i in range(k):  # not as one slice: numba takes seconds longer to compile that
            out[n, i] = key[i] & 0xFFFFFFFF


@numba.njit(cache=True, error_model="numpy")
def _bound(bits: Any, low: Any, rank: Any, rounds: int, k: int) -> Any:
    """The k-th smallest of the minima of `len(low)` groups; point i is of group i mod len(low)."""
    groups = len(low)
    for g in range(groups):
        low[g] = bits[g]
    for r in range(1, rounds):
        for g in range(groups):
            low[g] = min(low[g], bits[r * groups + g])
    rank[:] = 0
    for h in range(groups):
        value = low[h]
        for g in range(groups):
            rank[g] += np.int32(value < low[g])
    bound = np.int32(-1)
    for g in range(groups):
        bound = max(bound, low[g] if rank[g] < k else np.int32(-1))
    return bound


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
