"""What goes wrong with a point cloud: rotation, jitter, dropout, occlusion and clutter, at five severities each.

A corruption is a pure function of the cloud, its key, the kind and the severity. The draws of a shape do not depend
on the severity, so the severities are nested: a farther turn about the same axis, more of the same noise, the points
that are lost at one severity are lost at the next. Severity 0 changes nothing.

No point is drawn twice: a cloud that lost points is smaller, in its old order, and FPS and KNN take their patches
from what is left. The frame stays that of the clean cloud; a corrupted cloud is not centred again.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.ops.draws import normal, uniform
from jepa3d.ops.geometry import gather

SEVERITIES = (0, 1, 2, 3, 4, 5)
LEVELS: dict[str, tuple[float, ...]] = {  # by severity, 0 first
    "rotation": (0.0, 15.0, 30.0, 60.0, 120.0, 180.0),
    "jitter": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05),
    "dropout": (0.0, 0.25, 0.375, 0.5, 0.625, 0.75),
    "occlusion": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    "clutter": (0.0, 0.02, 0.05, 0.1, 0.2, 0.3),
}
UNITS = {
    "rotation": "degrees about a random axis",
    "jitter": "standard deviation of every coordinate, in radii of the cloud",
    "dropout": "share of the points that are lost at random",
    "occlusion": "share of the points that a half-space cuts off",
    "clutter": "background points within the cloud's sphere, as a share of its own",
}


def corrupt(
    points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], kind: str, severity: int
) -> Float[Tensor, "B Q 3"]:
    """The clouds at one severity (0..5) of one corruption; Q is the same for all of a batch."""
    corrupted: Tensor = _BY_KIND[kind](points, keys, LEVELS[kind][severity])
    return corrupted


def radius(points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B 1 1"]:
    """The greatest distance from the centroid: the unit of every length here."""
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1).sqrt()
    return distance.amax(1)[:, None, None]


def directions(keys: Int[Tensor, " B"], purpose: str, *count: int) -> Float[Tensor, "B *count 3"]:
    """Uniform on the sphere."""
    height, turn = uniform(keys, purpose, *count, 2).unbind(-1)
    up, angle = 2.0 * height - 1.0, 2.0 * math.pi * turn
    flat = (1.0 - up * up).clamp_min(0.0).sqrt()
    return torch.stack([flat * torch.cos(angle), up, flat * torch.sin(angle)], -1)


def rotation_about(axis: Float[Tensor, "B 3"], degrees: float) -> Float[Tensor, "B 3 3"]:
    """Turn by an angle about unit axes, for row vectors `points @ rotation` (Rodrigues)."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).view(-1, 3, 3)
    angle = math.radians(degrees)
    return torch.eye(3, device=axis.device) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross


def _rotated(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], degrees: float) -> Float[Tensor, "B P 3"]:
    return points @ rotation_about(directions(keys, "corrupt rotation"), degrees)


def _jittered(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], std: float) -> Float[Tensor, "B P 3"]:
    return points + std * radius(points) * normal(keys, "corrupt jitter", points.shape[1], 3)


def _thinned(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], share: float) -> Float[Tensor, "B Q 3"]:
    return _without_first(points, uniform(keys, "corrupt dropout", points.shape[1]), share)


def _cut(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], share: float) -> Float[Tensor, "B Q 3"]:
    """Without the points that lie farthest in a random direction: what stands behind an edge is not seen."""
    along = (points * directions(keys, "corrupt occlusion")[:, None]).sum(-1)
    return _without_first(points, -along, share)


def _without_first(points: Float[Tensor, "B P 3"], order: Float[Tensor, "B P"], share: float) -> Float[Tensor, "B Q 3"]:
    """All but the round(share P) points that come first in `order`; those that stay keep their own order."""
    lost = round(share * points.shape[1])
    return gather(points, order.argsort(dim=1, stable=True)[:, lost:].sort(1).values)


def _cluttered(points: Float[Tensor, "B P 3"], keys: Int[Tensor, " B"], share: float) -> Float[Tensor, "B Q 3"]:
    """With round(share P) more points, uniform in the sphere about the cloud; they come after the object's own."""
    count = points.shape[1]
    far = uniform(keys, "corrupt clutter radius", count) ** (1 / 3)
    ball = far[..., None] * directions(keys, "corrupt clutter", count)
    background = points.mean(1, keepdim=True) + radius(points) * ball
    return torch.cat([points, background[:, : round(share * count)]], 1)


_BY_KIND = {"rotation": _rotated, "jitter": _jittered, "dropout": _thinned, "occlusion": _cut, "clutter": _cluttered}
