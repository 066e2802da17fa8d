"""Features of patches -> features of points: interpolation from the nearest patch centres (PointNet++, section 3.4)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from jepa3d.ops.geometry import gather, knn, squared_distance

NEAREST = 3
EPSILON = 1e-8  # squared distance that is added: at a centre, all but its own weight vanishes


def inverse_distance(
    points: Float[Tensor, "B P 3"], centres: Float[Tensor, "B N 3"], nearest: int = NEAREST
) -> Float[Tensor, "B P N"]:
    """What each centre contributes to each point: inverse squared distance over the nearest three, sum 1; others 0.

    Inverse *squared* distance, as PointNet++ and all that took their propagation from it compute. As a matrix, so
    that the propagation is a product: its gradient is one too, on every device the same from run to run.
    """
    near = knn(centres, points, min(nearest, centres.shape[1]))
    weight = 1.0 / (squared_distance(points[:, :, None], gather(centres, near)) + EPSILON)
    weight = weight / weight.sum(-1, keepdim=True)
    return weight.new_zeros(*points.shape[:2], centres.shape[1]).scatter(-1, near, weight)


def propagate(
    features: Float[Tensor, "B N D"], centres: Float[Tensor, "B N 3"], points: Float[Tensor, "B P 3"]
) -> Float[Tensor, "B P D"]:
    """Features at the points, interpolated from those at the centres."""
    return inverse_distance(points, centres) @ features
