"""From the points of a file to canonical points: y up, finite, a fixed number, each choice a named setting.

The order is the community's for ModelNet40, ShapeNetPart and our stored ShapeNet-55: normalise all points of the
file, then draw from them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from jepa3d.ops.upright import TO_Y, Up
from jepa3d.params import DatasetConfig
from jepa3d.problem import Problem
from jepa3d.seeds import derive

LEAST, MOST = 1e-30, 1e30  # squared distances that float32 holds well


class Canonical(DatasetConfig):
    """What `convert` makes of a shape. `points: null` keeps every point of the file, in the file's order."""

    normalise: Literal["none", "unit_sphere"] = "none"
    up: Literal["auto", "x", "y", "z"] = "auto"  # the raw files' axis; auto: what the layout is known to have
    points: PositiveInt | None = None
    sample: Literal["first", "random", "with_replacement"] = "first"
    seed: NonNegativeInt = 0  # of the draw; every shape's own seed is derived from it and the shape's id


def unit_sphere(points: Float[np.ndarray, "P 3"]) -> Float32[np.ndarray, "P 3"]:
    """Centroid to the origin, farthest point to distance 1. A single point stays where it is: at the origin.

    Of float32 or float64, and computed in that. Compiled, without the interpreter's lock: numpy's own passes over
    [P, 3] cost several times `np.load`.
    """
    scaled = _compiled()
    made, largest = scaled(np.ascontiguousarray(points))
    if not LEAST < largest < MOST and (extent := np.abs(made).max()) != 0:
        made, _ = scaled(made / extent)
    canonical: Float32[np.ndarray, "P 3"] = made.astype(np.float32, copy=False)
    return canonical


@cache
def _compiled() -> Any:
    import numba  # only where it is needed: the Snakefile imports the plugins' Configs

    return numba.njit(cache=True, nogil=True)(_unit_sphere)


def _unit_sphere(points: Any) -> Any:
    """And the largest squared distance; where a square may have left the range of float32, it is not scaled."""
    count, kind = len(points), points.dtype.type
    x = y = z = 0.0
    for p in range(count):
        x += points[p, 0]
        y += points[p, 1]
        z += points[p, 2]
    cx, cy, cz = kind(x / count), kind(y / count), kind(z / count)
    made = np.empty_like(points)
    largest = kind(0)
    for p in range(count):
        a, b, c = points[p, 0] - cx, points[p, 1] - cy, points[p, 2] - cz
        made[p, 0], made[p, 1], made[p, 2] = a, b, c
        square = a * a + b * b + c * c
        if not square <= largest:  # so that NaN is kept, and spreads
            largest = square
    if LEAST < largest < MOST:
        scale = kind(1) / np.sqrt(largest)
        for p in range(count):
            made[p, 0], made[p, 1], made[p, 2] = made[p, 0] * scale, made[p, 1] * scale, made[p, 2] * scale
    return made, largest


def turned(points: Float32[np.ndarray, "P 3"], up: str) -> Float32[np.ndarray, "P 3"]:
    """Rotated so that y is up."""
    if up == "y":
        return points
    return np.stack([points[:, axis] * np.float32(sign) for axis, sign in TO_Y[up]], axis=1)


def drawn(count: int, config: Canonical, id: str) -> Int[np.ndarray, "P"] | slice:
    """Which of a file's `count` points are kept; a pure function of the settings and the shape's id."""
    wanted = config.points
    if wanted is None:
        return slice(None)
    if wanted > count and config.sample != "with_replacement":
        raise Problem(f"{count} points, {wanted} wanted", f"sample: {config.sample}", "lower 'points'")
    if config.sample == "first":
        return slice(wanted)
    rng = np.random.default_rng(derive(config.seed, "sample", id))
    if config.sample == "random":
        return rng.permutation(count)[:wanted]
    return rng.integers(count, size=wanted)


def points_of(raw: NDArray[Any], config: Canonical, id: str, up: Up) -> Float32[np.ndarray, "P 3"]:
    """Canonical points out of a file's array [P, 3 or more]. Any fault is a Problem, for the plugin to set aside."""
    if raw.ndim != 2 or raw.shape[1] < 3 or not len(raw) or raw.dtype.kind not in "fiu":
        raise Problem(f"an array of {raw.dtype}{raw.shape}", "expected points x 3", "get the file again")
    with np.errstate(all="ignore"):
        points = np.ascontiguousarray(raw[:, :3], dtype=np.float32)
        if config.normalise == "unit_sphere":
            points = unit_sphere(points)
        points = turned(points, up if config.up == "auto" else config.up)
        points = np.ascontiguousarray(points[drawn(len(points), config, id)])
        finite = np.isfinite(points.sum())
    if not finite and not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise Problem("points that are not finite", f"{bad} of {len(points)}")
    return points
