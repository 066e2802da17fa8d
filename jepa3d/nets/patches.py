"""Points -> patches (section 4.1, steps 1 to 3): what an encoder sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.ops.geometry import farthest_point_sample, gather, group, knn
from jepa3d.params import Level


class Coarser(NamedTuple):
    """One more level of a pyramid: its centres are some of the level below's, its patches are of those centres."""

    centres: Float[Tensor, "B M 3"]
    neighbour: Int[Tensor, "B M K"]  # places of the patch's members among the centres below


class Patches(NamedTuple):
    """A batch as the encoder sees it: the cloud, its patch centres, and each patch relative to its centre.

    `above` are the further levels of a pyramid, from fine to coarse.
    """

    points: Float[Tensor, "B P 3"]
    centres: Float[Tensor, "B N 3"]
    groups: Float[Tensor, "B N K 3"]
    above: tuple[Coarser, ...] = ()


Indices = Sequence[tuple[Int[Tensor, "B _"], Int[Tensor, "B _ _"]]]  # centre, neighbour


def make_patches(
    points: Float[Tensor, "B P 3"],
    centre: Int[Tensor, "B N"],
    neighbour: Int[Tensor, "B N K"],
    above: Indices = (),
) -> Patches:
    """Patches from FPS and KNN indices, each level's among the centres of the level below: gathers."""
    centres, coarser = gather(points, centre), []
    below = centres
    for chosen, near in above:
        below = gather(below, chosen)
        coarser.append(Coarser(below, near))
    return Patches(points, centres, group(points, centre, neighbour), tuple(coarser))


def patchify(points: Float[Tensor, "B P 3"], *levels: Level) -> Patches:
    """Patches of clouds without a cache: FPS and KNN now (section 4.1, steps 1 and 2), level by level."""
    cloud, found = points, []
    for level in levels:
        centre = farthest_point_sample(cloud, level.num)
        centres = gather(cloud, centre)
        found.append((centre, knn(cloud, centres, level.size)))
        cloud = centres
    return make_patches(points, *found[0], found[1:])
