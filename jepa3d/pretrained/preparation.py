"""How clouds as people have them become clouds as an encoder was trained on; it travels in the encoder's file.

A cloud in any order of its points, any unit and any place is turned so that y is up, centred and scaled, and some of
its points are drawn. The draw depends on nothing but the number of points, and a graph for other programs can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from jepa3d.ops.upright import TO_Y, Up
from jepa3d.params import Scheme
from jepa3d.params.models import FrozenModel
from jepa3d.problem import Problem

STORED = 2048  # points of a cloud among which FPS chooses, where a file does not say how many there were in training
EXACT = 1e-3  # how far from the unit sphere clouds may be that lie in it
FACTOR = 2.0  # of radius, by which a cloud may differ from those of the training
NORMALISED = ("unit_sphere", "auto")  # what entries of params.yaml say
PRIME = (1 << 31) - 1  # squares of what is below it are exact in int64


class Preparation(FrozenModel):
    """`points` are drawn at random, of which the scheme then takes its own: all of them, but where FPS chooses.

    `radius`: the smallest and the largest distance from the origin to a shape's farthest point in training. Without
    normalisation, clouds that are far from it are refused.
    """

    normalise: Literal["unit_sphere", "none"] = "unit_sphere"
    up: Literal["y"] = "y"
    points: PositiveInt
    radius: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)

    @classmethod
    def of(cls, scheme: Scheme) -> Self:
        """That of a file which says nothing of it: clouds were in the unit sphere."""
        return cls(points=max(STORED, scheme.points) if scheme.sample == "fps" else scheme.points)

    @classmethod
    def learned(cls, scheme: Scheme, seen: Iterable[tuple[Float32[np.ndarray, "n P 3"], str | None]]) -> Self:
        """From some training shapes of each data set, and what the data set's entry says of normalisation, if it does.

        Clouds count as normalised where the entry says so, where they lie in the unit sphere exactly, and where the
        training normalises what it draws.
        """
        low, high, unit, stored = np.inf, 0.0, True, scheme.points
        for clouds, said in seen:
            radius = np.linalg.norm(clouds, axis=-1).max(-1)
            centre = np.linalg.norm(clouds.mean(1, dtype=np.float64), axis=-1)
            low, high = min(low, float(radius.min())), max(high, float(radius.max()))
            exact = centre.max() <= EXACT and abs(radius - 1).max() <= EXACT
            unit &= scheme.resampled or said in NORMALISED or bool(exact)
            stored = max(stored, clouds.shape[1])
        points = stored if scheme.sample == "fps" else scheme.points
        if unit:
            return cls(points=points)
        tiny = float(np.finfo(np.float32).tiny)
        return cls(normalise="none", points=points, radius=(max(low, tiny), max(high, tiny)))

    def refusal(self, radius: float) -> Problem | None:
        """Of a cloud whose farthest point is so far from the origin, and that is not going to be scaled."""
        low, high = self.radius
        if low / FACTOR <= radius <= high * FACTOR:
            return None
        trained = "1" if low == high == 1 else f"{low:.3g} to {high:.3g}"
        mend = "leave prepare=False away: then clouds are centred and scaled as those of the training"
        if self.normalise == "none":
            mend = "bring it to that place and size: the shapes of the training were not normalised"
        return Problem(f"its farthest point is {radius:.3g} from the origin", f"in training that was {trained}", mend)


def ready(points: Float[Tensor, "B P 3"], how: Preparation, up: Up, first: int = 0) -> Float32[Tensor, "B Q 3"]:
    """Clouds of `points` float64 as the encoder takes them. One that cannot be made so is a Problem; `first` is the
    number of the first one, for the message."""
    if how.normalise == "unit_sphere":
        flat = (points == points[:, :1]).all(2).all(1)
        if bool(flat.any()):
            raise Problem(
                f"shape number {first + int(flat.int().argmax())}: all its points are the same",
                "it has no size to be scaled by",
                "remove it",
            )
    else:
        check_radius(points, how, first)
    return prepared(points, how, up)


def check_radius(points: Float[Tensor, "B P 3"], how: Preparation, first: int = 0) -> None:
    """A Problem for the first cloud of another place or size than those of the training."""
    for number, radius in enumerate(points.norm(dim=-1).amax(-1).tolist()):
        if (refusal := how.refusal(radius)) is not None:
            raise Problem(f"shape number {first + number}: {refusal.what}", refusal.why, refusal.mend)


def prepared(points: Float[Tensor, "B P 3"], how: Preparation, up: Up = "y") -> Float32[Tensor, "B Q 3"]:
    """The same in operations that a graph for other programs has; nothing is checked."""
    points = turned(points, up)
    if how.normalise == "unit_sphere":
        points = in_unit_sphere(points)
    return points.float()[:, drawn(points, how.points)]


def turned(points: Float[Tensor, "B P 3"], up: Up) -> Float[Tensor, "B P 3"]:
    """With y up, where `up` was."""
    return points if up == "y" else torch.stack([points[..., axis] * sign for axis, sign in TO_Y[up]], -1)


def in_unit_sphere(points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 3"]:
    """Centroid to the origin, farthest point to distance 1, in two steps: squares of very large or small coordinates
    are no numbers. A cloud of equal points stays at the origin."""
    centred = points - points.mean(1, keepdim=True)
    extent = centred.abs().amax((1, 2), keepdim=True)
    centred = centred / torch.where(extent > 0, extent, torch.ones_like(extent))
    radius = centred.square().sum(2, keepdim=True).amax(1, keepdim=True).sqrt()
    return centred / torch.where(radius > 0, radius, torch.ones_like(radius))


def drawn(points: Float[Tensor, "B P 3"], wanted: int) -> Int[Tensor, " Q"]:
    """Which points are taken, of P: `wanted` in a random order that depends on P alone; all where there are fewer.

    Their places in the order of a hash: three squares modulo a prime, in whole numbers that every runtime has.
    """
    place = torch.arange(points.shape[1], device=points.device)
    hashed = place + points.shape[1]
    for _ in range(3):
        hashed = (hashed * hashed + place + 1) % PRIME
    key = hashed * (1 << 32) + place  # no two are equal
    return key.topk(min(wanted, points.shape[1]), largest=False, sorted=True).indices
