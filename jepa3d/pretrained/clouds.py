"""Clouds as a user hands them over: tensors, arrays, lists; what cannot be clouds is a Problem with its own advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from jepa3d.problem import Problem


def as_clouds(points: Any, least: int) -> Tensor | NDArray[Any] | list[Any]:
    """Clouds as they came, when their shapes are right: [B, P, 3], or a list of [P, 3]; P at least `least`."""
    if isinstance(points, list | tuple):
        listed: list[Any] = [cloud if isinstance(cloud, Tensor) else np.asarray(cloud) for cloud in points]
        for number, cloud in enumerate(listed):
            if cloud.ndim != 2 or cloud.shape[-1] != 3 or len(cloud) < least:
                takes = f"lists of [at least {least:,} points, 3 coordinates]"
                raise wrong_shape(f"cloud number {number} of the list has", cloud.shape, takes, least)
        return listed
    array: Tensor | NDArray[Any] = points if isinstance(points, Tensor) else np.asarray(points)
    if array.ndim != 3 or array.shape[-1] != 3 or array.shape[1] < least:
        raise wrong_shape("points have", array.shape, f"[shapes, at least {least:,} points, 3 coordinates]", least)
    return array


def wrong_shape(what: str, shape: Sequence[int], takes: str, least: int) -> Problem:
    return Problem(f"{what} shape {tuple(shape)}", f"this encoder takes {takes}", advice(tuple(shape), least))


def advice(shape: tuple[int, ...], least: int) -> str:
    """What to do with an array of a shape that is none of clouds."""
    batch = (slice(None),) * (len(shape) - 2)
    if len(shape) in (2, 3) and shape[-2] == 3 and shape[-1] >= least:
        return f"the coordinates come before the points: give points.{'mT' if batch else 'T'}"
    if len(shape) in (2, 3) and shape[-1] > 3 and shape[-2] >= least:
        return "more than coordinates, such as normals or colours: take the first three columns, points[..., :3]"
    if len(shape) == 2 and shape[-1] == 3 and shape[0] >= least:
        return "this is one cloud: give points[None]"
    if len(shape) in (2, 3) and shape[-1] == 3:
        return f"sample at least {least:,} points of every shape"
    return "give coordinates as a tensor or an array of this shape, or a list of clouds"


def numbers(clouds: Tensor | NDArray[Any], first: int) -> Float64[Tensor, "B P 3"]:
    """Clouds as float64, all finite; `first` is the number of the first one, for the message.

    float64, because float32 has too few digits for a shape that lies far from the origin.
    """
    if isinstance(clouds, Tensor):
        held = clouds.detach()
        found = (held if held.device.type in ("cpu", "cuda") else held.cpu()).double()
    else:
        try:
            found = torch.from_numpy(np.array(clouds, np.float64))  # a copy: what is given may be read-only
        except (TypeError, ValueError) as error:
            raise Problem("points are no numbers", str(error), "give coordinates") from None
    if not bool(torch.isfinite(found).all()):
        bad = first + int((~torch.isfinite(found)).flatten(1).any(1).int().argmax())
        raise Problem(
            "points have coordinates that are NaN or infinite",
            f"the first such shape is number {bad}",
            "remove those points, or the shape",
        )
    return found
