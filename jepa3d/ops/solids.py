"""Solids: a surface as a triangle mesh, and a test of which points lie inside. numpy only.

A solid can be moved, turned, scaled, bent, twisted and tapered, and still tells inside from outside: each change
brings its inverse. So a union of solids is sampled as one surface, and a solid can be cut out of another
(`jepa3d.datasets._shared.programs`). y is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jepa3d.ops import deform
from jepa3d.ops.primitives import AXES, Curve, Mesh, Number, Points, box, densify, grid, join, lathe, ring, rotate, tube

Inside = Callable[[Points], Bool[np.ndarray, "P"]]
Map = Callable[[Points], Points]
ROUND = 24  # vertices around a superquadric or an outline
SKIN = 1e-6  # how far from a surface a point still counts as on it
EDGE = 1e-9  # coordinates below this count as zero where a sign is taken


class Solid(NamedTuple):
    """A surface, and the test whether points lie inside it; an open surface has no inside."""

    mesh: Mesh
    inside: Inside

    def mapped(self, forward: Map, backward: Map) -> Solid:
        """The solid after a change of space; `backward` is the inverse of `forward`."""
        return Solid(Mesh(forward(self.mesh.vertices), self.mesh.faces), lambda points: self.inside(backward(points)))

    def moved(self, offset: Float[np.ndarray, "3"]) -> Solid:
        return self.mapped(lambda points: points + offset, lambda points: points - offset)

    def scaled(self, factors: Float[np.ndarray, "3"]) -> Solid:
        """Scaled about the origin, each axis by its factor; a negative one mirrors."""
        return self.mapped(lambda points: points * factors, lambda points: points / factors)

    def turned(self, matrix: Float[np.ndarray, "3 3"]) -> Solid:
        """Turned by an orthogonal matrix."""
        return self.mapped(lambda points: points @ matrix.T, lambda points: points @ matrix)

    def tapered(self, axis: str, amount: Number) -> Solid:
        return self.mapped(
            lambda points: deform.taper(points, axis, amount), lambda points: deform.untaper(points, axis, amount)
        )

    def twisted(self, axis: str, angle: Number) -> Solid:
        return self.mapped(
            lambda points: deform.twist(points, axis, angle), lambda points: deform.twist(points, axis, -angle)
        )

    def bent(self, axis: str, angle: Number) -> Solid:
        return self.mapped(
            lambda points: deform.bend(points, axis, angle), lambda points: deform.unbend(points, axis, angle)
        )


def rotation(axis: str, angle: Number) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns column vectors about a coordinate axis (radians, right-handed)."""
    return rotate(np.eye(3), axis, angle).T


def onto(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """A rotation that takes the y axis to a direction of length 1, by the shortest way."""
    x, y, z = direction
    if y < -1 + 1e-6:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0.0, x, 0.0], [-x, 0.0, -z], [0.0, z, 0.0]])
    turned: Float[np.ndarray, "3 3"] = np.eye(3) + cross + cross @ cross / (1 + y)
    return turned


def _power(value: Float[np.ndarray, "*N"], exponent: Number) -> Float[np.ndarray, "*N"]:
    powered: Float[np.ndarray, "*N"] = np.sign(value) * np.maximum(np.abs(value), EDGE) ** exponent
    return powered


def superquadric(north: Number, east: Number) -> Solid:
    """|x^(2/e) + z^(2/e)|^(e/n) + y^(2/n) = 1 with the exponents n (north) and e (east): (1, 1) is a ball, small
    exponents are boxes, (small, 1) a cylinder, (2, 2) an octahedron (Barr 1981)."""
    eta = np.linspace(-np.pi / 2, np.pi / 2, ROUND // 2 + 1)[:, None]
    omega = np.arange(ROUND) * (2 * np.pi / ROUND)
    around = _power(np.cos(eta), north)
    x, z = around * _power(np.cos(omega), east), around * _power(np.sin(omega), east)
    y = np.broadcast_to(_power(np.sin(eta), north), x.shape)

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        a = np.maximum(np.abs(points), EDGE)
        level = (a[:, 0] ** (2 / east) + a[:, 2] ** (2 / east)) ** (east / north) + a[:, 1] ** (2 / north)
        within: Bool[np.ndarray, "P"] = level < 1
        return within

    return Solid(grid(np.stack([x, y, z], -1), closed=True), inside)


def cuboid() -> Solid:
    """The cube [-1, 1]^3."""

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        within: Bool[np.ndarray, "P"] = (np.abs(points) < 1).all(1)
        return within

    return Solid(box(2, 2, 2), inside)


def revolved(profile: Curve) -> Solid:
    """The solid of revolution about y under a polyline of (radius, height) whose heights rise."""
    radius, height = np.asarray(profile, float).T

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        own = np.hypot(points[:, 0], points[:, 2])
        within: Bool[np.ndarray, "P"] = own < np.interp(points[:, 1], height, radius, left=0.0, right=0.0)
        return within

    closed = np.concatenate([[(0.0, height[0])], np.asarray(profile, float), [(0.0, height[-1])]])
    return Solid(lathe(closed, ROUND), inside)


def extruded(radii: Float[np.ndarray, "L"]) -> Solid:
    """A prism along y from -1 to 1 over an outline that is given by its radius at L equal steps of the angle."""
    angle = np.arange(len(radii)) * (2 * np.pi / len(radii))
    x, z = radii * np.cos(angle), radii * np.sin(angle)
    rows = [(0.0, -1.0), *((1.0, h) for h in (-1.0, -1 / 3, 1 / 3, 1.0)), (0.0, 1.0)]
    mesh = grid(np.stack([np.stack([share * x, np.full_like(x, h), share * z], -1) for share, h in rows]), closed=True)
    corners = np.stack([x, z], 1)
    sides = np.roll(corners, -1, axis=0) - corners

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        turn = np.arctan2(points[:, 2], points[:, 0]) % (2 * np.pi)
        sector = (turn * (len(radii) / (2 * np.pi))).astype(int) % len(radii)
        side, start = sides[sector], corners[sector]
        left = side[:, 0] * (points[:, 2] - start[:, 1]) - side[:, 1] * (points[:, 0] - start[:, 0])
        within: Bool[np.ndarray, "P"] = (left > 0) & (np.abs(points[:, 1]) < 1)
        return within

    return Solid(mesh, inside)


def torus(thickness: Number) -> Solid:
    """A torus about y with ring radius 1; `thickness` is the tube's radius."""

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        away = np.hypot(points[:, 0], points[:, 2]) - 1
        within: Bool[np.ndarray, "P"] = away**2 + points[:, 1] ** 2 < thickness**2
        return within

    return Solid(ring(1.0, thickness), inside)


def tubular(path: Curve, radius: Number | Curve) -> Solid:
    """A tube along a polyline [L, 3] with one radius, or one at each of its points."""
    path = np.asarray(path, float)
    rows = np.concatenate([path, np.broadcast_to(np.asarray(radius, float).reshape(-1, 1), (len(path), 1))], 1)
    rows = densify(rows)
    start, step = rows[:-1], np.diff(rows, axis=0)
    square = np.maximum((step[:, :3] ** 2).sum(1), EDGE)

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        away = points[:, None] - start[:, :3]
        share = np.clip(np.einsum("psk,sk->ps", away, step[:, :3]) / square, 0, 1)
        apart = away - share[..., None] * step[:, :3]
        girth = start[:, 3] + share * step[:, 3]
        within: Bool[np.ndarray, "P"] = (np.einsum("psk,psk->ps", apart, apart) < girth**2).any(1)
        return within

    return Solid(tube(path, radius), inside)


def frame(corners: Points, edges: Sequence[tuple[int, int]], radius: Number) -> Solid:
    """A wireframe: thin tubes along edges between corners."""
    bars = [tubular(corners[list(edge)], radius) for edge in edges]
    return Solid(
        join([bar.mesh for bar in bars]), lambda points: np.logical_or.reduce([bar.inside(points) for bar in bars])
    )


def sheet(height: Float[np.ndarray, "rows columns"]) -> Solid:
    """An open surface over [-1, 1]^2 of the x-z plane, at these heights. It has no inside."""
    rows, columns = height.shape
    x, z = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    return Solid(grid(np.stack([x, height, z], -1)), lambda points: np.zeros(len(points), bool))


def half_space(axis: str, at: Number, above: bool) -> Inside:
    """The points on one side of a plane across a coordinate axis, the plane itself included."""
    column, sign = AXES[axis], 1 if above else -1

    def inside(points: Points) -> Bool[np.ndarray, "P"]:
        beyond: Bool[np.ndarray, "P"] = sign * (points[:, column] - at) > -SKIN
        return beyond

    return inside


def with_surface(solid: Solid, centre: Float[np.ndarray, "3"]) -> Inside:
    """The inside of a solid, its surface included; `centre` is a point well inside it."""
    return lambda points: solid.inside(centre + (points - centre) * (1 - SKIN))
