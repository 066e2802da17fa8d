"""patchify: canonical clouds -> results/patches/<scheme>/<dataset>.h5, the FPS/KNN cache (section 4.1).

The cache holds indices, not coordinates (4 KB a shape for 64 x 32): FPS and KNN do not change under rotation,
translation and uniform scale, so augmentation comes after the cache and patches are a gather away.

    point         uint16 [n, P]        the chosen points among the stored ones; absent: all of them in order
    centre        uint16 [n, N]        patch centres among the chosen points
    neighbour     uint16 [n, N, K]     each centre's nearest points, itself first
    centre_1, neighbour_1, ...         the next levels of a pyramid, over the centres of the level below

A data set with `shards` has its patches made in as many files, <dataset>.shards/<number>.h5, each by a job of its own
(`--shard`); <dataset>.h5 then has no arrays of its own but refers to the shards, and is read like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from jepa3d.graph import Graph, Job
from jepa3d.layout import Layout
from jepa3d.ops.geometry import fps_numba, knn_numba
from jepa3d.params import Params, Scheme
from jepa3d.problem import Problem
from jepa3d.progress import track
from jepa3d.results import opened, store
from jepa3d.seeds import derive

BLOCK = 512  # shapes at a time: memory does not grow with the data set


def patchify(params: Params, layout: Layout, scheme: str, dataset: str, shard: int | None = None) -> None:
    """Cache the patches of one data set under one scheme: all, or one shard of a data set that has several."""
    graph, entry, shards = Graph(params, layout), params.pick("patches", scheme), params.dataset(dataset).shards
    if shard is None and shards > 1:
        _gather(graph, scheme, dataset, entry, shards)
        return
    if shard is not None and (shards == 1 or shard >= shards):
        raise Problem(
            f"--shard {shard}: the patches of '{dataset}' have {shards} shard{'s' * (shards > 1)}",
            f"datasets.{dataset}.shards is {shards}, and shards are numbered from 0",
            "choose one of them" if shards > 1 else "take '--shard' away, or give the data set shards",
        )
    job = graph.job("patchify", scheme, dataset, *([] if shard is None else [shard]))
    _cache(job, entry, _stamp(job), shard or 0, shards)


def _stamp(job: Job) -> dict[str, Any]:
    """A shard goes by the recorded hash of the clouds: each of many would have to read all of them to compute it."""
    hashed = store.recorded if "shard" in job.settings else store.sha256
    return store.stamp(job.verb, job.settings, job.reads, hashed)


def _gather(graph: Graph, scheme: str, dataset: str, entry: Scheme, shards: int) -> None:
    """One file over all shards; one that is missing, or of other points or settings, is made first."""
    for number in range(shards):
        job = graph.job("patchify", scheme, dataset, number)
        (path,), wanted = job.writes, _stamp(job)
        made = store.provenance(path) if path.exists() else {}
        if any(made.get(key) != wanted[key] for key in ("settings", "inputs")):
            _cache(job, entry, wanted, number, shards)
    job = graph.job("patchify", scheme, dataset)
    store.join_h5(job.writes[0], job.reads[1:], _stamp(job))


def _cache(job: Job, entry: Scheme, stamp: dict[str, Any], shard: int, shards: int) -> None:
    """Write the patches of one of `shards` equal shares of the shapes."""
    scheme, dataset, *_ = job.names
    (source,), (target,) = job.reads, job.writes
    with opened.canonical(source) as data:
        points = data["points"]
        total, stored = points.shape[:2]
        if stored < entry.points:
            raise Problem(
                f"patches.{scheme}.points: {entry.points}, but the shapes of '{dataset}' have {stored} points",
                "a patch scheme can only choose among the points that are there",
                f"use a scheme with at most {stored} points, or convert the data set with more",
            )
        first, end = total * shard // shards, total * (shard + 1) // shards
        if first == end:
            raise Problem(
                f"datasets.{dataset}.shards: {shards}, but there are {total} shapes",
                "every shard needs a shape",
                "lower shards; it pays for millions of shapes",
            )
        with store.create_h5(target, stamp) as out:
            blocks = _indices(points, entry, first, end)
            label = f"patchify {scheme} {dataset}" + (f" {shard + 1}/{shards}" if shards > 1 else "")
            for start, arrays in track(blocks, -(-(end - first) // BLOCK), label):
                for name, array in arrays.items():
                    if name not in out:
                        _create(out, name, end - first, array)
                    out[name][start - first : start - first + len(array)] = array


def _indices(
    points: h5py.Dataset, entry: Scheme, first: int, end: int
) -> Iterator[tuple[int, dict[str, NDArray[np.uint16]]]]:
    for start in range(first, end, BLOCK):
        cloud = points[start : min(start + BLOCK, end)]
        opened.check_points(cloud, Path(points.file.filename))
        chosen = choose(cloud, entry, start)
        arrays = {}
        if chosen is not None:
            cloud = np.take_along_axis(cloud, chosen[:, :, None], 1)
            arrays["point"] = chosen.astype(np.uint16)
        yield start, arrays | levels(cloud, entry)


def choose(cloud: NDArray[np.float32], entry: Scheme, first: int) -> NDArray[np.int64] | None:
    """Which stored points the scheme uses, [n, P]; None where it uses all. A random choice is seeded by the row.

    Of a scheme that resamples they are the points of evaluations and of the monitor.
    """
    count, stored = cloud.shape[:2]
    if stored == entry.points:
        return None
    if entry.sample == "fps":
        return fps_numba(cloud, entry.points)
    if entry.sample == "first" or entry.resampled:
        return np.tile(np.arange(entry.points), (count, 1))
    rows = [np.random.default_rng(derive(0, "points", first + row)).permutation(stored) for row in range(count)]
    return np.stack(rows)[:, : entry.points]


def levels(cloud: NDArray[np.float32], entry: Scheme) -> dict[str, NDArray[np.uint16]]:
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
