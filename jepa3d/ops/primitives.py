"""Surfaces of parametric solids as small triangle meshes, and uniform samples of them. numpy only.

Everything is a grid of vertices that is bent into shape: a box, a surface of revolution, a tube along a path, a loft
through cross-sections, a plate between two curves. The grids are fine enough to be deformed afterwards. y is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

Points = Float[np.ndarray, "P 3"]
Number = float | int
Curve = Sequence[Any] | NDArray[Any]  # points in order, [L, ...]
AXES = {"x": 0, "y": 1, "z": 2}


class Mesh(NamedTuple):
    """Triangles. Copies that are moved, turned or scaled share the faces."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]

    def moved(self, x: Number = 0.0, y: Number = 0.0, z: Number = 0.0) -> Mesh:
        return Mesh(self.vertices + np.array((x, y, z)), self.faces)

    def scaled(self, x: Number = 1.0, y: Number = 1.0, z: Number = 1.0) -> Mesh:
        """Scaled about the origin; a negative number mirrors."""
        return Mesh(self.vertices * (x, y, z), self.faces)

    def turned(self, axis: str, angle: Number) -> Mesh:
        """Turned about an axis through the origin by `angle` radians, counter-clockwise seen against the axis."""
        return Mesh(rotate(self.vertices, axis, angle), self.faces)


class Sample(NamedTuple):
    """Points of a surface, the unit normal there (either side), and the label of the triangle that each lies on."""

    points: Points
    normals: Points
    label: Int[np.ndarray, "P"]


def rotate(points: Points, axis: str, angle: Number) -> Points:
    """Points turned about a coordinate axis through the origin (radians, right-handed)."""
    i, j = ((1, 2), (2, 0), (0, 1))[AXES[axis]]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = points.copy()
    turned[:, i] = cos * points[:, i] - sin * points[:, j]
    turned[:, j] = sin * points[:, i] + cos * points[:, j]
    return turned


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), faces)


@cache
def _grid_faces(rows: int, columns: int, closed: bool) -> Int[np.ndarray, "F 3"]:
    """Two triangles for every cell of a grid of vertices; `closed` joins the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, axis=1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    a, b, c, d = left[:-1], right[:-1], left[1:], right[1:]
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def grid(vertices: Float[np.ndarray, "rows columns 3"], closed: bool = False) -> Mesh:
    """The surface through a grid of points."""
    rows, columns = vertices.shape[:2]
    return Mesh(vertices.reshape(-1, 3), _grid_faces(rows, columns, closed))


@cache
def _unit_box(cells: int) -> Mesh:
    """The cube [-1/2, 1/2]^3, each face a grid of cells x cells."""
    u, v = np.meshgrid(*[np.linspace(-0.5, 0.5, cells + 1)] * 2)
    w = np.full_like(u, 0.5)
    sides = [(u, v, w), (u, v, -w), (w, u, v), (-w, u, v), (v, w, u), (v, -w, u)]
    return join([grid(np.stack(side, -1)) for side in sides])


def box(x: Number, y: Number, z: Number) -> Mesh:
    """A box with these edges, centred."""
    return _unit_box(3).scaled(x, y, z)


def densify(path: Curve, pieces: int = 6) -> NDArray[np.float64]:
    """A polyline whose long segments are cut, so that none is longer than about 1/pieces of the whole."""
    path = np.asarray(path, float)
    steps = np.diff(path, axis=0)
    length = np.sqrt((steps**2).sum(1))
    cuts = np.maximum(1, np.ceil(length / max(length.sum(), 1e-12) * pieces)).astype(int)
    which = np.repeat(np.arange(len(steps)), cuts)
    along = (np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)) / cuts[which]
    return np.concatenate([path[which] + along[:, None] * steps[which], path[-1:]])


@cache
def _circle(segments: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle = np.arange(segments) * (2 * np.pi / segments)
    return np.cos(angle), np.sin(angle)


def lathe(profile: Curve, segments: int = 20) -> Mesh:
    """The surface of revolution about y of a polyline of (radius, height)."""
    dense = densify(profile)
    cos, sin = _circle(segments)
    radius, height = dense[:, :1], np.broadcast_to(dense[:, 1:], (len(dense), segments))
    return grid(np.stack([radius * cos, height, radius * sin], -1), closed=True)


def cylinder(radius: Number, height: Number, top: Number | None = None, segments: int = 16) -> Mesh:
    """A closed cylinder that stands on y = 0; with `top`, a cone's frustum with that upper radius."""
    top = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (top, height), (0, height)], segments)


def ball(x: Number, y: Number, z: Number) -> Mesh:
    """An ellipsoid with these half-axes, centred."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 11)
    return lathe(np.stack([np.cos(angle), np.sin(angle)], 1)).scaled(x, y, z)


def ring(radius: Number, thickness: Number, width: Number = 1.0, segments: int = 24) -> Mesh:
    """A torus about y: `thickness` is the tube's radius, `width` stretches it along the axis."""
    cos, sin = _circle(10)
    profile = np.stack([radius + thickness * cos, thickness * width * sin], 1)
    return lathe(np.concatenate([profile, profile[:1]]), segments)


def tube(path: Curve, radius: Number | Curve, flat: Number = 1.0, segments: int = 8) -> Mesh:
    """A closed tube along a polyline [L, 3] with one radius, or one for each of its points.

    `flat` scales the tube across the path's plane: a strap for flat < 1.
    """
    path = np.asarray(path, float)
    rows = np.concatenate([path, np.broadcast_to(np.asarray(radius, float).reshape(-1, 1), (len(path), 1))], 1)
    rows = densify(rows)
    line, girth = rows[:, :3], rows[:, 3].copy()
    steps = np.diff(line, axis=0)
    tangent = _unit(np.concatenate([steps[:1], steps[1:] + steps[:-1], steps[-1:]]))
    across = np.linalg.eigh(tangent.T @ tangent)[1][:, 0]  # the direction that the path turns in least
    side = _unit(_cross(tangent, across[None]))
    cos, sin = _circle(segments)
    around = side[:, None] * cos[:, None] + flat * across * sin[:, None]
    line, around = line[[0, *range(len(line)), -1]], around[[0, *range(len(around)), -1]]
    girth = np.concatenate([[0.0], girth, [0.0]])
    return grid(line[:, None] + girth[:, None, None] * around, closed=True)


def loft(stations: Curve, power: Number = 2.0, segments: int = 20) -> Mesh:
    """A closed body along x through superellipses, |z/w|^power + |(y - middle)/h|^power = 1.

    stations: [S, 4] rows of (x, half-width w, lowest y, highest y).
    """
    rows = densify(stations)
    x, half, low, high = (rows[[0, *range(len(rows)), -1]][:, k : k + 1] for k in range(4))
    cos, sin = _circle(segments)
    cos, sin = (np.sign(c) * np.abs(c) ** (2 / power) for c in (cos, sin))
    open_ = np.ones_like(x)
    open_[[0, -1]] = 0
    y = (low + high) / 2 + open_ * (high - low) / 2 * sin
    return grid(np.stack([np.broadcast_to(x, y.shape), y, open_ * half * cos], -1), closed=True)


def plate(one: Curve, other: Curve, thickness: Number) -> Mesh:
    """The plate between two curves of the x-y plane, [L, 2] each, as thick as this along z, centred at z = 0."""
    both = densify(np.concatenate([np.asarray(one, float), np.asarray(other, float)], 1))
    one, other = both[:, :2], both[:, 2:]
    share = np.linspace(0, 1, 4)[:, None, None]
    flat = (1 - share) * one + share * other
    around = np.concatenate([flat, flat[::-1]])
    z = np.repeat([thickness / 2, -thickness / 2], 4)[:, None, None]
    around = np.concatenate([around, np.broadcast_to(z, (*around.shape[:2], 1))], -1).transpose(1, 0, 2)
    ends = around[[0, -1]]
    middle = (ends[:, :4] + ends[:, :3:-1]) / 2  # the two ends are closed by folding them flat
    first, last = (np.concatenate([end, end[::-1]])[None] for end in middle)
    return grid(np.concatenate([first, around, last]), closed=True)


def _cross(a: Float[np.ndarray, "L 3"], b: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "_ 3"]:
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 1)


def _unit(vectors: Float[np.ndarray, "L 3"]) -> Float[np.ndarray, "L 3"]:
    unit: Float[np.ndarray, "L 3"] = vectors / np.sqrt(np.einsum("lk,lk->l", vectors, vectors))[:, None]
    return unit


def areas(mesh: Mesh) -> tuple[Float[np.ndarray, "F"], Float[np.ndarray, "F 3"]]:
    """Every triangle's area and its unit normal."""
    first, second, third = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    a, b = second - first, third - first
    normal = _cross(a, b)
    double = np.sqrt(np.einsum("fk,fk->f", normal, normal))
    return double / 2, normal / np.maximum(double, 1e-12)[:, None]


def sample(mesh: Mesh, label: Int[np.ndarray, "F"], count: int, random: np.random.Generator) -> Sample:
    """`count` independent points, uniform over the surface, in the order of the triangles: shuffle before cutting."""
    area, normal = areas(mesh)
    total = np.cumsum(area)
    face = np.searchsorted(total[:-1], np.sort(random.random(count)) * total[-1])  # sorted keys: five times as fast
    u, v = random.random((2, count, 1))
    u = np.sqrt(u)
    a, b, c = (mesh.vertices[mesh.faces[face, k]] for k in range(3))
    return Sample((1 - u) * a + u * (1 - v) * b + u * v * c, normal[face], label[face])


def unit_sphere(points: Points) -> NDArray[np.float32]:
    """Centred at the mean, the farthest point at distance 1."""
    centred = points - points.mean(0)
    radius = np.sqrt((centred**2).sum(1).max())
    unit: NDArray[np.float32] = (centred / (radius * (1 + 1e-6))).astype(np.float32)
    return unit
