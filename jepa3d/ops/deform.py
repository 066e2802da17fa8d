"""Deformations of space that keep a shape's class: taper, twist, bend. Points in, points out; lengths as they come.

Each works along one coordinate axis through the origin. For points within [-1, 1] along that axis the amounts are
those at the two ends.
"""

from __future__ import annotations

import numpy as np

from jepa3d.ops.primitives import AXES, Number, Points


def _frame(axis: str) -> tuple[int, int, int]:
    along = AXES[axis]
    return along, (along + 1) % 3, (along + 2) % 3


def taper(points: Points, axis: str, amount: Number) -> Points:
    """Cross-sections scaled by 1 + amount * t at t along the axis."""
    along, i, j = _frame(axis)
    tapered = points.copy()
    tapered[:, [i, j]] *= 1 + amount * points[:, along : along + 1]
    return tapered


def untaper(points: Points, axis: str, amount: Number) -> Points:
    """The inverse of `taper`, where cross-sections have not shrunk to nothing."""
    along, i, j = _frame(axis)
    tapered = points.copy()
    share = 1 + amount * points[:, along : along + 1]
    tapered[:, [i, j]] /= np.where(np.abs(share) < 1e-6, 1e-6, share)
    return tapered


def twist(points: Points, axis: str, angle: Number) -> Points:
    """Cross-sections turned by angle/2 * t at t along the axis: `angle` radians from -1 to 1."""
    along, i, j = _frame(axis)
    turn = angle / 2 * points[:, along]
    cos, sin = np.cos(turn), np.sin(turn)
    twisted = points.copy()
    twisted[:, i] = cos * points[:, i] - sin * points[:, j]
    twisted[:, j] = sin * points[:, i] + cos * points[:, j]
    return twisted


def bend(points: Points, axis: str, angle: Number) -> Points:
    """The axis becomes an arc of a circle, in the plane of the axis and the next one (x -> y -> z -> x).

    `angle` is the radians between the directions at -1 and 1; lengths along the axis itself are kept.
    """
    along, i, _ = _frame(axis)
    if abs(angle) < 1e-6:
        return points.copy()
    radius = 2 / angle
    turn = points[:, along] / radius
    bent = points.copy()
    bent[:, along] = (radius - points[:, i]) * np.sin(turn)
    bent[:, i] = radius - (radius - points[:, i]) * np.cos(turn)
    return bent


def unbend(points: Points, axis: str, angle: Number) -> Points:
    """The inverse of `bend`, for points within half a turn of the middle."""
    along, i, _ = _frame(axis)
    if abs(angle) < 1e-6:
        return points.copy()
    radius = 2 / angle
    sign = np.sign(radius)
    across, along_arc = sign * (radius - points[:, i]), sign * points[:, along]
    straight = points.copy()
    straight[:, along] = radius * np.arctan2(along_arc, across)
    straight[:, i] = radius - sign * np.hypot(across, along_arc)
    return straight
