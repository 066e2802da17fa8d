"""Augmentation of the raw cloud (section 7): a pure function of the points, the settings and each shape's key.

Rotation, uniform scale and shift leave FPS and KNN indices as they are, so cached patches stay exact. Scale per
axis and jitter change them a little (about nine in ten neighbours stay); a scheme with `live: true` recomputes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.ops.draws import normal, uniform
from jepa3d.ops.geometry import gather, unit_sphere
from jepa3d.params import Augment


def resample(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], count: int) -> Float[Tensor, "B Q 3"]:
    """`count` points drawn from those that are stored, in random order, moved to the unit sphere.

    As the peers have it, the centroid and the radius are those of the drawn points: a few per mille away from those of
    all. FPS begins at the first point, and so at a random one.
    """
    drawn = uniform(keys, "points", points.shape[1]).argsort(dim=1, stable=True)[:, :count]
    return unit_sphere(gather(points, drawn))


def augment(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], config: Augment) -> Float[Tensor, "B P 3"]:
    """Scale, rotate, shift, jitter, in this order; each shape with its own draws."""
    if config.scale is not None:
        low, high = config.scale
        factor = uniform(keys, "scale", 3 if config.scale_per_axis else 1)
        points = points * (low + (high - low) * factor)[:, None]
    if config.rotate == "upright":
        points = points @ upright_rotation(uniform(keys, "rotate", 1)[:, 0])
    elif config.rotate == "so3":
        points = points @ so3_rotation(uniform(keys, "rotate", 3))
    if config.shift:
        points = points + config.shift * (2.0 * uniform(keys, "shift", 1, 3) - 1.0)
    if config.jitter is not None:
        noise = config.jitter.std * normal(keys, "jitter", points.shape[1], 3)
        points = points + noise.clamp(-config.jitter.clip, config.jitter.clip)
    return points


def exact_for_cache(config: Augment) -> bool:
    """Whether cached FPS and KNN indices are exactly those of the augmented cloud."""
    return config.jitter is None and not (config.scale is not None and config.scale_per_axis)


def upright_rotation(turn: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """Rotation about the vertical (y) axis by `turn` of a full turn."""
    cos, sin = torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    return torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(-1, 3, 3)


def so3_rotation(draws: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """Uniform rotation in space: a uniform quaternion from three uniform numbers (Shoemake 1992)."""
    first, second, third = draws.unbind(-1)
    low, high = (1 - first).sqrt(), first.sqrt()
    x, y = low * torch.sin(2 * math.pi * second), low * torch.cos(2 * math.pi * second)
    z, w = high * torch.sin(2 * math.pi * third), high * torch.cos(2 * math.pi * third)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]  # fmt: skip
    return torch.stack(rows, -1).view(-1, 3, 3)
