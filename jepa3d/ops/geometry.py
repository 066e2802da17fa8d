"""Farthest point sampling, nearest neighbours, and what is built on them (section 4.1).

On the CPU numba kernels, on other devices torch: the same indices on every path, ties broken by the lowest index,
duplicate points included. Distances are sums of squared differences in float32, never the expanded matrix form,
which cancels far from the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jepa3d.ops import kernels
from jepa3d.parallel import workers

PAIRS_HELD = 1 << 17  # distances that torch holds at once


def farthest_point_sample(points: Float[Tensor, "B P 3"], num: int) -> Int[Tensor, "B num"]:
    """Indices of `num` points: index 0 first, then each time the point farthest from those chosen (step 1)."""
    if not 1 <= num <= points.shape[1]:
        raise ValueError(f"{num} points cannot be chosen among {points.shape[1]}")
    points = points.detach().float()
    if points.device.type != "cpu":
        return fps_torch(points, num)
    return torch.from_numpy(fps_numba(points.numpy(), num))


def knn(points: Float[Tensor, "B P 3"], queries: Float[Tensor, "B N 3"], k: int) -> Int[Tensor, "B N k"]:
    """Indices of the `k` points nearest to each query, nearest first (step 2)."""
    if not 1 <= k <= points.shape[1]:
        raise ValueError(f"{k} neighbours cannot be found among {points.shape[1]} points")
    points, queries = points.detach().float(), queries.detach().float()
    if points.device.type != "cpu":
        return knn_torch(points, queries, k)
    return torch.from_numpy(knn_numba(points.numpy(), queries.numpy(), k))


def count_pairs(
    points: Float[Tensor, "B P 3"], scale: Float[Tensor, " B"], bins: int
) -> tuple[Int[Tensor, "B bins"], Float[Tensor, "B P"]]:
    """How many ordered pairs of different points have floor(distance * scale) = bin, the last bin open above; and each
    point's distance to the nearest other one. In the points' own precision."""
    if points.device.type != "cpu":
        return pairs_torch(points, scale, bins)
    counts, nearest = pairs_numba(points.numpy(), scale.numpy(), bins)
    return torch.from_numpy(counts), torch.from_numpy(nearest)


def gather(rows: Float[Tensor, "B P *C"], index: Int[Tensor, "B *I"]) -> Float[Tensor, "B *I *C"]:
    """`rows[b, index[b, ...]]` for every shape of the batch."""
    batch = torch.arange(index.shape[0], device=index.device).view(-1, *[1] * (index.ndim - 1))
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


def chamfer(a: Float[Tensor, "B P 3"], b: Float[Tensor, "B Q 3"], squared: bool = True) -> Float[Tensor, " B"]:
    """Chamfer distance: mean nearest squared distance from a to b plus from b to a (the community's CDL2).

    Not `squared`: half the sum of the two mean nearest distances (its CDL1).
    """
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    if squared:
        distance = distance.square()
    both = distance.amin(2).mean(1) + distance.amin(1).mean(1)
    return both if squared else both / 2


def squared_distance(a: Float[Tensor, "*#B 3"], b: Float[Tensor, "*#B 3"]) -> Float[Tensor, "*#B"]:
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


def pairs_torch(
    points: Float[Tensor, "B P 3"], scale: Float[Tensor, " B"], bins: int
) -> tuple[Int[Tensor, "B bins"], Float[Tensor, "B P"]]:
    """`count_pairs` as torch operations, some rows of one shape at a time."""
    batch, total, _ = points.shape
    counts = torch.zeros(batch, bins, dtype=torch.long, device=points.device)
    nearest = points.new_empty(batch, total)
    rows = max(1, PAIRS_HELD // total)
    for shape in range(batch):
        for start in range(0, total, rows):
            some = torch.arange(start, min(start + rows, total), device=points.device)
            apart = torch.cdist(points[shape, some], points[shape], compute_mode="donot_use_mm_for_euclid_dist")
            own = (apart * scale[shape]).long().clamp_max(bins - 1)
            counts[shape] += torch.bincount(own.flatten(), minlength=bins)
            nearest[shape, some] = apart.scatter(1, some[:, None], torch.inf).amin(dim=1)
    counts[:, 0] -= total  # each point with itself
    return counts, nearest


def fps_numba(points: NDArray[Any], num: int) -> NDArray[np.int64]:
    """Farthest point sampling of a batch [B, P, 3] on the CPU, shapes in parallel."""
    out = np.empty((len(points), num), np.int64)
    _share(kernels.fps, np.ascontiguousarray(points, np.float32), out)
    return out


def knn_numba(points: NDArray[Any], queries: NDArray[Any], k: int) -> NDArray[np.int64]:
    """The `k` nearest of points [B, P, 3] to queries [B, N, 3] on the CPU, shapes in parallel."""
    out = np.empty((*queries.shape[:2], k), np.int64)
    _share(kernels.knn, np.ascontiguousarray(points, np.float32), np.ascontiguousarray(queries, np.float32), out)
    return out


def pairs_numba(
    points: NDArray[np.float64], scale: NDArray[np.float64], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`count_pairs` on the CPU, shapes in parallel."""
    counts, nearest = np.empty((len(points), bins), np.int64), np.empty(points.shape[:2])
    _share(kernels.pairs, np.ascontiguousarray(points), np.ascontiguousarray(scale), counts, nearest)
    return counts, nearest


def _share(kernel: Callable[..., None], *arrays: NDArray[Any]) -> None:
    """Run a kernel over a batch whose shapes are shared out to threads."""
    count = min(workers(), len(arrays[0]))
    if count <= 1:
        kernel(*arrays)
        return
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(kernel, *(np.array_split(array, count) for array in arrays)))
