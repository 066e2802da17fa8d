"""Graph convolutions over patches (DGCNN, Wang et al. 2019), as the dVAE of Point-BERT (Yu et al. 2022) has them."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.ops.geometry import gather, knn
from jepa3d.ops.max_pool import max_pool

GROUPS = 4  # of every GroupNorm
NEIGHBOURS = 4  # of a patch, itself among them
SLOPE = 0.2


def neighbours(centres: Float[Tensor, "B N 3"]) -> Int[Tensor, "B N k"]:
    """The patches whose centres are nearest to each one's, itself first: the graph of all convolutions."""
    return knn(centres, centres, min(NEIGHBOURS, centres.shape[1]))


class EdgeConvolution(nn.Module):
    """The maximum over a patch's neighbours of LeakyReLU(GroupNorm(W [neighbour - own, own])).

    W [n - x; x] = W_n n + (W_x - W_n) x: both products are taken of patches, before the edges are made, which is the
    same function with k - 1 of k products saved.
    """

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.edge = nn.Linear(2 * inputs, out, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out)

    def forward(self, x: Float[Tensor, "B N C"], neighbour: Int[Tensor, "B N k"]) -> Float[Tensor, "B N D"]:
        of_other, of_own = self.edge.weight.chunk(2, 1)
        edges = gather(F.linear(x, of_other), neighbour) + F.linear(x, of_own - of_other)[:, :, None]
        normed = self.norm(edges.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # its statistics are of all edges of a shape
        return max_pool(F.leaky_relu(normed, SLOPE)).squeeze(2)


class Dgcnn(nn.Module):
    """Four edge convolutions over one graph, and a layer over what all four have found.

    The widths follow that of a token: D/2 before the first, then D, 2D, 2D and 4D; Point-BERT's D is 256.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        sizes = (width // 2, width, 2 * width, 2 * width, 4 * width)
        self.into = nn.Linear(width, sizes[0])
        self.edges = nn.ModuleList(EdgeConvolution(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.out = nn.Linear(sum(sizes[1:]), out, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out)

    def forward(self, tokens: Float[Tensor, "B N D"], neighbour: Int[Tensor, "B N k"]) -> Float[Tensor, "B N out"]:
        x, found = self.into(tokens), []
        for edge in self.edges:
            x = edge(x, neighbour)
            found.append(x)
        x = self.out(torch.cat(found, -1))
        return F.leaky_relu(self.norm(x.transpose(1, 2)).transpose(1, 2), SLOPE)
