"""A mean over what all ranks have, where shapes have different numbers of it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from jepa3d.train.distributed import World


def mean_of_all(values: Float[Tensor, " n"], world: World) -> Float[Tensor, ""]:
    """The rank's part of the mean over the values of all ranks: the mean of the parts is that mean.

    So gradients, which are averaged over the ranks, are those of one rank with the whole batch. Without any value: 0.
    """
    count = world.mean(values.new_tensor([float(len(values))]))[0]
    return values.sum() / count.clamp_min(1.0 / world.size)
