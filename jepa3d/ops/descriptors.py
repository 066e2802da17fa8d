"""Handcrafted features: 129 numbers a cloud, without learning. The baseline that a learned feature has to beat.

Every number is a function of distances, heights (y) and the angles between points about the vertical axis, so an
upright rotation, a shift and another order of the points change nothing but rounding. Size is kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from jepa3d.ops.geometry import count_pairs

WIDTH = 129
QUANTILES = 16
PAIR_BINS = 32  # of the distances of all pairs (D2), over 0 .. twice the largest distance to the centroid
NEAREST = 8  # quantiles of the distance to the nearest other point
SLABS = 8  # of equal height, from the lowest to the highest point
HARMONICS = 8
FINE = 64 * PAIR_BINS  # counted first


def handcrafted(points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B 129"]:
    """Quantiles of distances, radii and heights; D2; spacing; a profile over height; moments; angular harmonics.

    Needs two points a cloud. Computed in float64, returned in float32.
    """
    points = points.double()
    centred = points - points.mean(dim=1, keepdim=True)
    distance = centred.norm(dim=-1)
    radius = centred[..., [0, 2]].norm(dim=-1)  # from the vertical axis through the centroid
    height = centred[..., 1]
    spread = [_quantiles(values, QUANTILES) for values in (distance, radius, height)]
    parts = [*spread, _pairs(centred), _profile(points[..., 1], radius), _moments(centred), _harmonics(centred, radius)]
    return torch.cat([*parts, _extent(distance, height)], dim=1).float()


def _quantiles(values: Float[Tensor, "B P"], count: int) -> Float[Tensor, "B count"]:
    """`count` quantiles from the minimum to the maximum."""
    at = torch.linspace(0, 1, count, dtype=values.dtype, device=values.device)
    return torch.quantile(values, at, dim=1).T


def _pairs(centred: Float[Tensor, "B P 3"]) -> Float[Tensor, "B 40"]:
    """Histogram of all pairwise distances (D2), as fractions of the pairs, and quantiles of the nearest distances.

    Counted finely, then shared out between the two nearest bins: equal distances (lattices) on a bin's edge stay.
    """
    count = centred.shape[1]
    largest = centred.norm(dim=-1).amax(dim=1).clamp_min(1e-12)
    histogram, nearest = count_pairs(centred, FINE / (2 * largest), FINE)
    fractions = histogram.double() / (count * (count - 1))
    return torch.cat([fractions @ _shares(centred.device), _quantiles(nearest, NEAREST)], dim=1)


def _shares(device: torch.device) -> Float[Tensor, "fine bins"]:
    """How a fine bin's count is shared out: linearly, between the two bins whose centres it lies between."""
    at = (torch.arange(FINE, dtype=torch.float64, device=device) + 0.5) * (PAIR_BINS / FINE) - 0.5
    bins = torch.arange(PAIR_BINS, dtype=torch.float64, device=device)
    return (1 - (at.clamp(0, PAIR_BINS - 1)[:, None] - bins).abs()).clamp_min(0)


def _profile(height: Float[Tensor, "B P"], radius: Float[Tensor, "B P"]) -> Float[Tensor, "B 24"]:
    """For each slab of height: its fraction of the points, and the mean and largest radius there (0 where empty).

    `height` as given, not centred: which slab a point is in must not hang on the rounding of a mean.
    """
    low, high = height.amin(dim=1, keepdim=True), height.amax(dim=1, keepdim=True)
    slab = ((height - low) * (SLABS / (high - low).clamp_min(1e-12))).long().clamp_max(SLABS - 1)
    zeros = radius.new_zeros(len(radius), SLABS)
    count = zeros.scatter_add(1, slab, torch.ones_like(radius))
    mean = zeros.scatter_add(1, slab, radius) / count.clamp_min(1)
    largest = zeros.scatter_reduce(1, slab, radius, "amax")
    return torch.cat([count / radius.shape[1], mean, largest], dim=1)


def _moments(centred: Float[Tensor, "B P 3"]) -> Float[Tensor, "B 5"]:
    """Standard deviations along the principal axes, in space (3) and seen from above (2), smallest first."""
    covariance = centred.mT @ centred / centred.shape[1]
    above = covariance[:, [0, 2]][:, :, [0, 2]]
    values = [torch.linalg.eigvalsh(matrix) for matrix in (covariance, above)]
    return torch.cat(values, dim=1).clamp_min(0).sqrt()


def _harmonics(centred: Float[Tensor, "B P 3"], radius: Float[Tensor, "B P"]) -> Float[Tensor, "B 8"]:
    """|mean of r e^(i k angle)| over the mean r, k = 2..9: the k-fold symmetry seen from above, whatever the heading.

    k = 1 is zero about the centroid.
    """
    direction = torch.complex(centred[..., 0], centred[..., 2]) / radius.clamp_min(1e-12)
    scale = radius.mean(dim=1).clamp_min(1e-12)
    power, folds = direction, []
    for _ in range(HARMONICS):
        power = power * direction  # many times as fast as direction**k
        folds.append((radius * power).mean(dim=1).abs() / scale)
    return torch.stack(folds, dim=1)


def _extent(distance: Float[Tensor, "B P"], height: Float[Tensor, "B P"]) -> Float[Tensor, "B 4"]:
    """Total height; where the centroid is between bottom and top; mean distance; skewness of the heights."""
    low, high = height.amin(dim=1), height.amax(dim=1)
    total = high - low
    skewness = (height**3).mean(dim=1) / height.std(dim=1, correction=0).clamp_min(1e-12) ** 3
    return torch.stack([total, -low / total.clamp_min(1e-12), distance.mean(dim=1), skewness], dim=1)
