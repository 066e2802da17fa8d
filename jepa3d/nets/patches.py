"""Points -> patches (section 4.1, steps 1 to 3): what an encoder sees."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.ops.geometry import farthest_point_sample, gather, group, knn
from jepa3d.params import Level


class Patches(NamedTuple):
    """A batch as the encoder sees it: the cloud, its patch centres, and each patch relative to its centre."""

    points: Float[Tensor, "B P 3"]
    centres: Float[Tensor, "B N 3"]
    groups: Float[Tensor, "B N K 3"]


def make_patches(
    points: Float[Tensor, "B P 3"], centre: Int[Tensor, "B N"], neighbour: Int[Tensor, "B N K"]
) -> Patches:
    """Patches from FPS and KNN indices: two gathers."""
    return Patches(points, gather(points, centre), group(points, centre, neighbour))


def patchify(points: Float[Tensor, "B P 3"], level: Level) -> Patches:
    """Patches of clouds without a cache: FPS and KNN now (section 4.1, steps 1 and 2)."""
    centre = farthest_point_sample(points, level.num)
    neighbour = knn(points, gather(points, centre), level.size)
    return make_patches(points, centre, neighbour)
