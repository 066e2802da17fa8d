"""Random numbers as pure functions of a shape's key: no generator, no state, the same on every device.

A key names one shape in one epoch. The draw for a purpose is a hash of (key, purpose, position), so it does not
depend on the batch, the rank, the worker or the resume point that happens to compute it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa3d.seeds import derive

_GOLDEN, _MIX1, _MIX2 = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def shape_keys(seed: int, epoch: Int[Tensor, " B"], index: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """One key for each (epoch, shape) of a run's seed."""
    return _mix(_mix(epoch * _GOLDEN + derive(seed, "shape")) ^ (index * _GOLDEN))


def uniform(keys: Int[Tensor, " B"], purpose: str, *count: int) -> Float[Tensor, "B *count"]:
    """Independent uniform numbers in [0, 1) for each key, 24 bits each."""
    position = torch.arange(math.prod(count), device=keys.device)
    bits = _mix(_mix(keys ^ derive(0, purpose))[:, None] + position * _GOLDEN)
    return (_shift(bits, 40).float() * 2.0**-24).view(len(keys), *count)


def uniform_at(keys: Int[Tensor, " B"], row: Int[Tensor, " R"], column: Int[Tensor, " C"]) -> Float[Tensor, "B R C"]:
    """Independent uniform numbers in [0, 1) for each key at places of a table, however much of it is asked for."""
    of_row = _mix(_mix(keys)[:, None] + row * _GOLDEN)
    bits = _mix(of_row[:, :, None] + column * _GOLDEN)
    return _shift(bits, 40).float() * 2.0**-24


def normal(keys: Int[Tensor, " B"], purpose: str, *count: int) -> Float[Tensor, "B *count"]:
    """Independent standard normal numbers for each key (Box-Muller)."""
    first, second = uniform(keys, purpose, 2, *count).unbind(1)
    return (-2.0 * torch.log1p(-first)).sqrt() * torch.cos(2.0 * math.pi * second)


def _mix(x: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """The finaliser of splitmix64; int64 products wrap around as the uint64 ones do."""
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _shift(x: Int[Tensor, "*B"], bits: int) -> Int[Tensor, "*B"]:
    """Logical right shift of an int64, whose own shift drags the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
