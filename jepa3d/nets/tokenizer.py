"""The mini-PointNet (section 4.1, step 3) and the positional encodings of patch centres (step 4)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.transformer import initialise
from jepa3d.ops.max_pool import max_pool
from jepa3d.params import Tokenizer


class TwoStage(nn.Module):
    """The community's mini-PointNet: point MLP, max, the maximum put beside every point, point MLP, max.

    The layer after the concat acts on [maximum, point]. `split` applies the two halves of its weight before they
    are broadcast: W [m; x] = W_m m + W_x x, the same function with K - 1 of K products with W_m saved. `inputs` is what
    a point has: its 3 coordinates, or the numbers of a token that is to be merged with others.
    """

    def __init__(self, width: int, widths: tuple[int, int, int], split: bool, inputs: int = 3) -> None:
        super().__init__()
        first, second, third = widths
        self.point = nn.Linear(inputs, first, bias=False)
        self.point_norm = nn.BatchNorm1d(first)
        self.lift = nn.Linear(first, second)
        self.join = nn.Linear(2 * second, third, bias=False)
        self.join_norm = nn.BatchNorm1d(third)
        self.out = nn.Linear(third, width)
        self.bridge: nn.Module = nn.Identity()
        self.split = split

    def forward(self, patches: Float[Tensor, "*B K C"]) -> Float[Tensor, "*B D"]:
        points = patches.shape[-2]
        x = F.relu(self.point_norm(self.point(patches.flatten(0, -2))), inplace=True)
        x = self.lift(x).view(-1, points, self.lift.out_features)
        top = max_pool(x)
        if self.split:
            half = self.lift.out_features
            x = F.linear(x, self.join.weight[:, half:]).add_(F.linear(top, self.join.weight[:, :half]))
        else:
            x = self.join(torch.cat([top.expand_as(x), x], -1))
        x = F.relu(self.join_norm(x.flatten(0, 1)), inplace=True)
        return self.bridge(max_pool(self.out(x).view(*patches.shape[:-1], self.out.out_features)).squeeze(-2))


class Single(nn.Module):
    """The document's mini-PointNet to the letter: t_i = MaxPool(MLP(G_i - c_i))."""

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [3, *widths]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(sizes[-1], width))
        self.bridge: nn.Module = nn.Identity()
        self.width = width

    def forward(self, patches: Float[Tensor, "*B K 3"]) -> Float[Tensor, "*B D"]:
        tokens = max_pool(self.mlp(patches.reshape(-1, 3)).view(*patches.shape[:-1], self.width)).squeeze(-2)
        return self.bridge(tokens)


class Sinusoidal(nn.Module):
    """Fixed sines and cosines of each coordinate, at frequencies pi/2 to 2^4 pi, padded with zeros to the width."""

    frequency: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        count = width // 6
        self.register_buffer("frequency", math.pi * torch.logspace(-1, 4, count, base=2.0), persistent=False)
        self.padding = width - 6 * count

    def forward(self, centres: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B D"]:
        phase = (centres[..., None] * self.frequency).flatten(-2)
        return F.pad(torch.cat([phase.sin(), phase.cos()], -1), (0, self.padding))


def tokenizer(entry: Tokenizer, width: int) -> nn.Module:
    """The mini-PointNet that a model's entry asks for."""
    inner = entry.bridge or width
    net: Single | TwoStage
    if entry.kind == "single":
        net = Single(inner, entry.widths)
    else:
        first, second, third = entry.widths
        net = TwoStage(inner, (first, second, third), entry.split)
    if entry.bridge:
        net.bridge = nn.Linear(inner, width)
    if entry.init == "trunc_normal":
        initialise(net)
    return net


def position(kind: str, width: int) -> nn.Module:
    """PosEnc of step 4: `mlp` is 3-128-GELU-D (the family's), `linear` one layer, `sinusoidal` sines and cosines."""
    if kind == "sinusoidal":
        return Sinusoidal(width)
    if kind == "linear":
        return nn.Linear(3, width)
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
