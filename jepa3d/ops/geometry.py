"""Farthest point sampling, nearest neighbours, and what is built on them (section 4.1).

On the CPU numba kernels, on other devices torch: the same indices on every path, ties broken by the lowest index,
duplicate points included. Distances are sums of squared differences in float32, never the expanded matrix form,
which cancels far from the origin.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jepa3d.parallel import workers

_ORDER = {"nsz", "nnan"}  # lets the compiler vectorise minima and maxima; sums are never reordered


def farthest_point_sample(points: Float[Tensor, "B P 3"], num: int) -> Int[Tensor, "B num"]:
    """Indices of `num` points: index 0 first, then each time the point farthest from those chosen (step 1)."""
    if num > points.shape[1]:
        raise ValueError(f"{num} points cannot be chosen among {points.shape[1]}")
    if points.device.type != "cpu":
        return fps_torch(points, num)
    return torch.from_numpy(fps_numba(points.detach().float().numpy(), num)).long()


def knn(points: Float[Tensor, "B P 3"], queries: Float[Tensor, "B N 3"], k: int) -> Int[Tensor, "B N k"]:
    """Indices of the `k` points nearest to each query, nearest first (step 2)."""
    if k > points.shape[1]:
        raise ValueError(f"{k} neighbours cannot be found among {points.shape[1]} points")
    if points.device.type != "cpu":
        return knn_torch(points, queries, k)
    return torch.from_numpy(knn_numba(points.detach().float().numpy(), queries.detach().float().numpy(), k)).long()


def gather(rows: Float[Tensor, "B P *C"], index: Int[Tensor, "B *I"]) -> Float[Tensor, "B *I *C"]:
    """`rows[b, index[b, ...]]` for every shape of the batch."""
    batch = torch.arange(len(index), device=index.device).view(-1, *[1] * (index.ndim - 1))
    return rows[batch, index]


def group(
    points: Float[Tensor, "B P 3"], centre: Int[Tensor, "B N"], neighbour: Int[Tensor, "B N K"]
) -> Float[Tensor, "B N K 3"]:
    """Patches in coordinates relative to their centre (section 4.1, step 2)."""
    return gather(points, neighbour) - gather(points, centre)[:, :, None]


def unit_sphere(points: Float[Tensor, "*B P 3"]) -> Float[Tensor, "*B P 3"]:
    """Centred on the centroid, the farthest point at distance 1. A cloud of equal points stays at the origin."""
    centred = points - points.mean(-2, keepdim=True)
    radius = centred.norm(dim=-1).amax(-1)[..., None, None]
    return centred / torch.where(radius > 0, radius, torch.ones_like(radius))


def chamfer(a: Float[Tensor, "B P 3"], b: Float[Tensor, "B Q 3"]) -> Float[Tensor, " B"]:
    """Chamfer distance, squared form: mean nearest squared distance from a to b plus from b to a."""
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    return distance.amin(2).mean(1) + distance.amin(1).mean(1)


def squared_distance(a: Float[Tensor, "*B 3"], b: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
    """The one distance of this module, in its one order of summation: (dx² + dy²) + dz²."""
    dx, dy, dz = (a - b).unbind(-1)
    return dx * dx + dy * dy + dz * dz


def fps_torch(points: Float[Tensor, "B P 3"], num: int) -> Int[Tensor, "B num"]:
    """Farthest point sampling as batched torch operations, for any device."""
    chosen = torch.zeros(len(points), num, dtype=torch.long, device=points.device)
    nearest = torch.full(points.shape[:2], torch.inf, device=points.device)
    batch = torch.arange(len(points), device=points.device)
    for step in range(1, num):
        last = points[batch, chosen[:, step - 1]]
        nearest = torch.minimum(nearest, squared_distance(points, last[:, None]))
        chosen[:, step] = _first_argmax(nearest)
    return chosen


def _first_argmax(values: Float[Tensor, "B P"]) -> Int[Tensor, " B"]:
    """The lowest index of the maximum: torch leaves open which one argmax returns."""
    position = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == values.amax(1, keepdim=True), position, values.shape[1]).amin(1)


def knn_torch(points: Float[Tensor, "B P 3"], queries: Float[Tensor, "B N 3"], k: int) -> Int[Tensor, "B N k"]:
    """Nearest neighbours as batched torch operations: (distance, index) as one integer key, so ties are exact."""
    distance = squared_distance(queries[:, :, None], points[:, None])
    key = (distance.float().contiguous().view(torch.int32).long() << 32) | torch.arange(
        points.shape[1], device=points.device
    )
    return key.topk(k, largest=False, sorted=True).values & 0xFFFFFFFF


def fps_numba(points: NDArray[Any], num: int) -> NDArray[np.int64]:
    """Farthest point sampling of a batch [B, P, 3] on the CPU, shapes in parallel."""
    numba.set_num_threads(min(workers(), numba.config.NUMBA_NUM_THREADS))
    out = np.empty((len(points), num), np.int64)
    _fps_batch(np.ascontiguousarray(points, np.float32), out)
    return out


def knn_numba(points: NDArray[Any], queries: NDArray[Any], k: int) -> NDArray[np.int64]:
    """The `k` nearest of points [B, P, 3] to queries [B, N, 3] on the CPU, shapes in parallel."""
    numba.set_num_threads(min(workers(), numba.config.NUMBA_NUM_THREADS))
    out = np.empty((*queries.shape[:2], k), np.int64)
    _knn_batch(np.ascontiguousarray(points, np.float32), np.ascontiguousarray(queries, np.float32), out)
    return out


@numba.njit(cache=True, parallel=True, fastmath=_ORDER)
def _fps_batch(points: Any, out: Any) -> None:
    for b in numba.prange(len(points)):
        _fps(points[b], out[b])


@numba.njit(cache=True, fastmath=_ORDER)
def _fps(points: Any, out: Any) -> None:
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
        while nearest[last] != farthest:
            last += 1
        out[step] = last


@numba.njit(cache=True, parallel=True, fastmath=_ORDER)
def _knn_batch(points: Any, queries: Any, out: Any) -> None:
    for b in numba.prange(len(points)):
        _knn(points[b], queries[b], out[b])


@numba.njit(cache=True, fastmath=_ORDER)
def _knn(points: Any, queries: Any, out: Any) -> None:
    """Exact: a sample of the distances gives a bound that few more than k points pass; those are sorted."""
    total, k = len(points), out.shape[1]
    x, y, z = points[:, 0].copy(), points[:, 1].copy(), points[:, 2].copy()
    distance = np.empty(total, np.float32)
    near, index = np.empty(total + 1, np.float32), np.empty(total + 1, np.int64)
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
        out[n, :] = index[:k]


@numba.njit(cache=True, fastmath=_ORDER)
def _pass(distance: Any, bound: Any, near: Any, index: Any) -> int:
    """Collect the distances up to `bound` with their indices, in order of index, without a branch."""
    count = 0
    for i in range(len(distance)):
        near[count], index[count] = distance[i], i
        count += distance[i] <= bound
    return count
