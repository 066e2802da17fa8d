"""What a training step costs, counted and not timed: equal on every machine."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from jepa3d.ops.draws import shape_keys
from jepa3d.params import Scheme
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Trainable

SHAPES = 4  # whose masks are drawn: their numbers of patches differ from shape to shape


def gflop(objective: Trainable, scheme: Scheme) -> float:
    """GFLOP of a shape in a training step, forward and backward; mean over four random clouds.

    Of matrix products, which are nearly all of it, two operations a multiply-add. The objective is trained on after
    that with gradients, and with statistics of BatchNorm that have seen these clouds: give it one of its own.
    """
    objective.train()
    with (
        torch.random.fork_rng(),
        sdpa_kernel(SDPBackend.MATH),  # as products that are seen, whatever kernel a device has
        FlopCounterMode(display=False) as counter,
    ):
        torch.manual_seed(0)
        objective(clouds(scheme)).total.backward()
    return float(counter.get_total_flops()) / SHAPES / 1e9


def clouds(scheme: Scheme) -> Batch:
    """Random clouds on the unit sphere, with the patches of a scheme."""
    points = normalize(torch.randn(SHAPES, scheme.points, 3), dim=-1)
    index = torch.zeros(SHAPES, 0, dtype=torch.long)
    keys = shape_keys(0, torch.zeros(SHAPES, dtype=torch.long), torch.arange(SHAPES))
    return Batch(points, index, index[..., None], torch.arange(SHAPES) % 2, keys, live=scheme.levels)
