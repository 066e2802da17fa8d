"""The folding decoder of Point-BERT's dVAE (Yu et al. 2022): a patch's coarse points, and four fine ones about each."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GRID, REACH = 2, 0.05  # the seeds of the fine points: a grid of 2 x 2 from -0.05 to 0.05


class Folding(nn.Module):
    """Features of patches in; coarse and fine points out, relative to the patch's centre.

    A patch of K points gets K / 4 coarse points, rounded up. A fine point is its coarse point, moved by an MLP of
    [features, seed, coarse point]; the share of the features in its first layer is computed once a patch.
    """

    seeds: Tensor

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        self.width = width
        self.coarse = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.ReLU(inplace=True),
            nn.Linear(4 * width, 4 * width),
            nn.ReLU(inplace=True),
            nn.Linear(4 * width, 3 * math.ceil(points / GRID**2)),
        )
        self.first, self.first_norm = nn.Linear(width + 5, 2 * width), nn.BatchNorm1d(2 * width)
        self.second, self.second_norm = nn.Linear(2 * width, 2 * width), nn.BatchNorm1d(2 * width)
        self.move = nn.Linear(2 * width, 3)
        steps = torch.linspace(-REACH, REACH, GRID)
        self.register_buffer("seeds", torch.cartesian_prod(steps, steps).flip(1), persistent=False)

    def forward(self, features: Float[Tensor, "n D"]) -> tuple[Float[Tensor, "n C 3"], Float[Tensor, "n F 3"]]:
        coarse = self.coarse(features).unflatten(-1, (-1, 3))
        about = coarse.repeat_interleave(len(self.seeds), 1)
        seeds = self.seeds.to(coarse.dtype).repeat(coarse.shape[1], 1).expand(len(coarse), -1, -1)
        of_patch, of_point = self.first.weight.split((self.width, 5), 1)
        x = F.linear(torch.cat([seeds, about], -1), of_point)
        x = x + F.linear(features, of_patch, self.first.bias)[:, None]
        x = F.relu(self.first_norm(x.flatten(0, 1)), inplace=True)
        x = F.relu(self.second_norm(self.second(x)), inplace=True)
        return coarse, about + self.move(x).view_as(about)
