"""What a depth camera sees of a sampled surface: hidden points, and the density of its pixels on the surface."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from jepa3d.ops.primitives import Number, Points

BIAS = 0.02  # a point this far behind what its pixel shows is still the same surface; in radii of the object


def _view(points: Points, camera: Float[np.ndarray, "3"]) -> Points:
    """Points in the frame of a camera that looks at the origin: right, up, and the depth along the view."""
    ahead = -camera / np.linalg.norm(camera)
    right = np.cross(ahead, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    seen: Points = (points - camera) @ np.stack([right, np.cross(right, ahead), ahead], 1)
    return seen


def incidence(points: Points, normals: Points, camera: Float[np.ndarray, "3"]) -> Float[np.ndarray, "P"]:
    """The cosine between the ray to the camera and the surface's normal, on either side: 1 is face on."""
    ray = camera - points
    length = np.sqrt(np.einsum("pk,pk->p", ray, ray))
    cosine: Float[np.ndarray, "P"] = np.abs(np.einsum("pk,pk->p", ray, normals)) / length
    return cosine


def visible(
    points: Points, facing: Float[np.ndarray, "P"], camera: Float[np.ndarray, "3"], pixels: int, extent: Number = 1.0
) -> Bool[np.ndarray, "P"]:
    """The points that no other hides from the camera: a z-buffer with a slope-scaled bias, as for shadow maps.

    The buffer has pixels x pixels over the sphere of radius `extent` around the origin; every point is splatted over
    3 x 3 pixels, which closes the surface where about two points fall on a pixel of it. `facing` are the points'
    `incidence`. Surfaces have no inside: whichever side faces the camera is seen. The camera stands outside the
    sphere, and not on the y axis.
    """
    seen = _view(points, camera)
    depth, far = seen[:, 2], np.linalg.norm(camera)
    scale = np.sqrt(far**2 - extent**2) / extent  # the sphere's silhouette fills the image
    cell = ((seen[:, :2] / depth[:, None] * scale + 1) / 2 * pixels).astype(np.intp)
    row, column = np.clip(cell, 0, pixels - 1).T
    buffer = np.full((pixels + 2, pixels + 2), np.inf)
    np.minimum.at(buffer, (row + 1, column + 1), depth)
    buffer = np.minimum(np.minimum(buffer[:-2], buffer[1:-1]), buffer[2:])
    buffer = np.minimum(np.minimum(buffer[:, :-2], buffer[:, 1:-1]), buffer[:, 2:])
    step = 2 * extent / pixels * depth / far
    first: Bool[np.ndarray, "P"] = depth <= buffer[row, column] + BIAS + 1.5 * step / np.maximum(facing, 0.2)
    return first


def density(
    points: Points, facing: Float[np.ndarray, "P"], camera: Float[np.ndarray, "3"], strength: Number
) -> Float[np.ndarray, "P"]:
    """Pixels per area of surface, cos(incidence) / distance^2, to the power `strength`: 0 is uniform, 1 is a camera."""
    ray = camera - points
    pixels: Float[np.ndarray, "P"] = (np.maximum(facing, 0.02) / np.einsum("pk,pk->p", ray, ray)) ** strength
    return pixels


def choose(weights: Float[np.ndarray, "P"], count: int, random: np.random.Generator) -> Int[np.ndarray, "count"]:
    """`count` indices drawn by weight, each once; where there are too few, all of them and the rest again at random."""
    if len(weights) < count:
        again = random.choice(len(weights), count - len(weights), p=weights / weights.sum())
        return np.concatenate([np.arange(len(weights)), again])
    keys = random.exponential(size=len(weights)) / weights  # exponential races: the first to ring are drawn
    return np.argpartition(keys, count - 1)[:count]
