"""patchify: canonical clouds -> results/patches/<scheme>/<dataset>.h5, the FPS/KNN cache (section 4.1).

The cache holds indices, not coordinates (4 KB a shape for 64 x 32): FPS and KNN do not change under rotation,
translation and uniform scale, so augmentation comes after the cache and patches are a gather away.

    point         uint16 [n, P]        the chosen points among the stored ones; absent: all of them in order
    centre        uint16 [n, N]        patch centres among the chosen points
    neighbour     uint16 [n, N, K]     each centre's nearest points, itself first
    centre_1, neighbour_1, ...         the next levels of a pyramid, over the centres of the level below
"""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from jepa3d import config, store
from jepa3d.layout import Layout
from jepa3d.ops.geometry import fps_numba, knn_numba
from jepa3d.problem import Problem
from jepa3d.progress import track
from jepa3d.seeds import derive

BLOCK = 512  # shapes at a time: memory does not grow with the data set


def patchify(params: config.Params, layout: Layout, scheme: str, dataset: str) -> None:
    """Cache the patches of one data set under one scheme."""
    entry: config.Scheme = params.pick("patches", scheme)
    params.dataset(dataset)  # an unknown name is a Problem
    source = layout.canonical(dataset)
    stamp = store.stamp("patchify", config.slice_of(entry), [source])
    with store.open_h5(source) as data:
        points = data["points"]
        total, stored = points.shape[:2]
        if stored < entry.points:
            raise Problem(
                f"patches.{scheme}.points: {entry.points}, but the shapes of '{dataset}' have {stored} points",
                "a patch scheme can only choose among the points that are there",
                f"use a scheme with at most {stored} points, or convert the data set with more",
            )
        with store.create_h5(layout.patches(scheme, dataset), stamp) as out:
            blocks = _indices(points, entry)
            for start, arrays in track(blocks, -(-total // BLOCK), f"patchify {scheme} {dataset}"):
                for name, array in arrays.items():
                    if name not in out:
                        _create(out, name, total, array)
                    out[name][start : start + len(array)] = array


def _indices(points: h5py.Dataset, entry: config.Scheme) -> Iterator[tuple[int, dict[str, NDArray[np.uint16]]]]:
    for start in range(0, len(points), BLOCK):
        cloud = points[start : start + BLOCK]
        chosen = choose(cloud, entry, start)
        arrays = {}
        if chosen is not None:
            cloud = np.take_along_axis(cloud, chosen[:, :, None], 1)
            arrays["point"] = chosen.astype(np.uint16)
        yield start, arrays | levels(cloud, entry)


def choose(cloud: NDArray[np.float32], entry: config.Scheme, first: int) -> NDArray[np.int64] | None:
    """Which stored points the scheme uses, [n, P]; None where it uses all. A random choice is seeded by the row."""
    count, stored = cloud.shape[:2]
    if stored == entry.points:
        return None
    if entry.sample == "fps":
        return fps_numba(cloud, entry.points)
    if entry.sample == "first":
        return np.tile(np.arange(entry.points), (count, 1))
    rows = [np.random.default_rng(derive(0, "points", first + row)).permutation(stored) for row in range(count)]
    return np.stack(rows)[:, : entry.points]


def levels(cloud: NDArray[np.float32], entry: config.Scheme) -> dict[str, NDArray[np.uint16]]:
    """Centres and neighbours of every level; each level's points are the centres of the level below."""
    arrays = {}
    for number, level in enumerate(entry.levels):
        centre = fps_numba(cloud, level.num)
        centres = np.take_along_axis(cloud, centre[:, :, None], 1)
        suffix = f"_{number}" if number else ""
        arrays[f"centre{suffix}"] = centre.astype(np.uint16)
        arrays[f"neighbour{suffix}"] = knn_numba(cloud, centres, level.size).astype(np.uint16)
        cloud = centres
    return arrays


def _create(out: h5py.File, name: str, total: int, array: NDArray[np.uint16]) -> None:
    out.create_dataset(name, (total, *array.shape[1:]), np.uint16)
