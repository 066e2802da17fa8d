"""Polygons of meshes into triangles, by ear clipping where a fan from the first corner would leave the surface.

A polygon is taken in the plane of its vector area (Newell's normal). Of each the areas must add up: in that plane the
triangles cover as much as the polygon, or it is refused, as one that crosses itself is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

FLAT = 1e-9  # of an area: what rounding may do
CANCELS = 0.1  # a vector area below this part of the triangles' area: the polygon crosses itself, or is crumpled


class Polygons(NamedTuple):
    """Faces of any number of corners."""

    corners: Int[np.ndarray, "C"]  # the vertices of all faces, one after the other
    sizes: Int[np.ndarray, "F"]  # how many corners each face has

    @classmethod
    def alike(cls, faces: Int[np.ndarray, "F n"]) -> Polygons:
        return cls(faces.reshape(-1), np.full(len(faces), faces.shape[1]))


def gathered(values: Int[np.ndarray, "V"], starts: Int[np.ndarray, "F"], sizes: Int[np.ndarray, "F"]) -> Polygons:
    """Of each face `sizes` values from `starts` on."""
    skipped = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    return Polygons(values[skipped + np.arange(len(skipped))], sizes)


def triangles(vertices: Float[np.ndarray, "V 3"], polygons: Polygons) -> Int[np.ndarray, "T 3"]:
    """In the order of the faces. A ValueError for a face that is none."""
    corners, sizes = polygons
    if (sizes < 3).any():
        face = int(np.flatnonzero(sizes < 3)[0])
        raise ValueError(f"face {face + 1} of {len(sizes):,} has {sizes[face]} corners")
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(vertices):
        raise ValueError(f"a face names a vertex that there is not (of {len(vertices):,})")
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    starts, first = np.cumsum(sizes) - sizes, np.cumsum(sizes - 2) - (sizes - 2)
    if (sizes == sizes[0]).all():
        return _of_size(vertices, corners.reshape(len(sizes), -1), np.arange(len(sizes))).reshape(-1, 3)
    made = np.empty((int((sizes - 2).sum()), 3), np.int64)
    for size in np.unique(sizes).tolist():
        same = np.flatnonzero(sizes == size)
        found = _of_size(vertices, corners[starts[same][:, None] + np.arange(size)], same)
        made[first[same][:, None] + np.arange(size - 2)] = found
    return made


def _of_size(
    vertices: Float[np.ndarray, "V 3"], table: Int[np.ndarray, "F n"], faces: Int[np.ndarray, "F"]
) -> Int[np.ndarray, "F n-2 3"]:
    """The triangles of faces that have all the same number of corners."""
    count, size = table.shape
    fans = np.empty((count, size - 2, 3), np.int64)
    fans[..., 0], fans[..., 1], fans[..., 2] = table[:, :1], table[:, 1:-1], table[:, 2:]
    if size > 3:
        doubt = np.flatnonzero(~_quads_are_plain(vertices, table)) if size == 4 else np.arange(count)
        doubt = doubt[~_fans_are_right(vertices, table[doubt])]
        for row in doubt.tolist():
            fans[row] = table[row][_clipped(vertices[table[row]], int(faces[row]) + 1)]
    return fans


def _quads_are_plain(vertices: Float[np.ndarray, "V 3"], table: Int[np.ndarray, "F 4"]) -> Bool[np.ndarray, "F"]:
    """Whether the two triangles of a fan face the same side: most do, and a tenth of the time shows it."""
    with np.errstate(all="ignore"):
        columns = np.ascontiguousarray(vertices.T)
        arms = [[column[table[:, k]] - column[table[:, 0]] for k in (1, 2, 3)] for column in columns]
        (ax, bx, cx), (ay, by, cy), (az, bz, cz) = arms
        one = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
        two = (by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx)
        plain: Bool[np.ndarray, "F"] = one[0] * two[0] + one[1] * two[1] + one[2] * two[2] > 0
        return plain


def _fans_are_right(vertices: Float[np.ndarray, "V 3"], table: Int[np.ndarray, "F n"]) -> Bool[np.ndarray, "F"]:
    """Whether every triangle of a fan turns the same way, and all together less than once around its first corner."""
    with np.errstate(all="ignore"):  # what is not finite is found by whoever samples the surface
        arms = vertices[table[:, 1:]] - vertices[table[:, :1]]
        twice = np.cross(arms[:, :-1], arms[:, 1:])  # vector areas
        sizes, total = np.linalg.norm(twice, axis=2), twice.sum(axis=1)
        area, length = sizes.sum(axis=1), np.linalg.norm(total, axis=1)
        along = np.einsum("fni,fi->fn", twice, total)
        good = (along >= -FLAT * (area * length)[:, None]).all(axis=1) & (length >= CANCELS * area)
        if table.shape[1] > 4:
            angles = np.arctan2(sizes, np.einsum("fni,fni->fn", arms[:, :-1], arms[:, 1:]))
            good &= (angles.sum(axis=1) < 2 * np.pi) & (arms != 0).any(axis=2).all(axis=1)
        right: Bool[np.ndarray, "F"] = good | (area == 0) | ~np.isfinite(area)
        return right


def _clipped(points: Float[np.ndarray, "n 3"], face: int) -> Int[np.ndarray, "m 3"]:
    """The corners of n - 2 triangles that make up one polygon, some of them maybe without area."""
    import mapbox_earcut  # only where it is needed: who only trains reads no meshes

    arms = points - points[0]
    total = np.cross(arms[:-1], arms[1:]).sum(axis=0)
    length = np.linalg.norm(total)
    wrong = ValueError(f"face {face} has {len(points)} corners, and its outline crosses itself or lies in no plane")
    if not length > 0:
        raise wrong
    across = np.cross(total / length, np.eye(3)[np.abs(total).argmin()])
    across /= np.linalg.norm(across)
    flat = arms @ np.stack([across, np.cross(total / length, across)], axis=1)
    found = mapbox_earcut.triangulate_float64(flat, np.array([len(points)], np.uint32)).reshape(-1, 3).astype(np.int64)
    a, b, c = flat[found].transpose(1, 0, 2)
    covered = np.abs((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])).sum()
    if not abs(covered - length) <= 1e-6 * length or len(found) > len(points) - 2:
        raise wrong
    return np.concatenate([found, np.zeros((len(points) - 2 - len(found), 3), np.int64)])
