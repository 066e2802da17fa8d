"""Dropout whose draws do not depend on how many ranks share a batch: drawn for the rows of all, each uses its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jepa3d.ops.draws import uniform_at

Share = tuple[int, int]  # which part of a batch's rows these are, and of how many: a rank and the number of ranks
ALL: Share = (0, 1)


def kept(x: Float[Tensor, "B *rest"], drop: float, share: Share, *shape: int) -> Float[Tensor, "B *shape"]:
    """Factors for the rows of a rank: 0 with probability `drop`, else 1 / (1 - drop), `shape` of them for each row."""
    rank, ranks = share
    factors = torch.empty(ranks * len(x), *shape, device=x.device).bernoulli_(1.0 - drop)
    return factors[rank * len(x) :][: len(x)].div_(1.0 - drop)


class Dropout(nn.Module):
    """torch's, whose very bits it has on a CPU with one rank."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop, self.share = drop, ALL

    def forward(self, x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        if not self.training or self.drop == 0.0:
            return x
        return x * kept(x, self.drop, self.share, *x.shape[1:])


LONGEST = 1 << 20  # tokens of a sequence, at the most


class TokenDropout(nn.Module):
    """Dropout for sequences that are padded: the draw of a token depends on its place, not on the padding behind it.

    So a shape has the same draws whatever the longest sequence of its rank is. For tokens [B, L, D], and for
    attention [B, heads, L, S].
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop, self.share = drop, ALL

    def forward(self, x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        if not self.training or self.drop == 0.0:
            return x
        rank, ranks = self.share
        keys = torch.randint(1 << 62, (ranks * len(x),), device=x.device)[rank * len(x) :][: len(x)]
        row = torch.arange(x.shape[-2], device=x.device)
        if x.ndim == 4:
            row = (torch.arange(x.shape[1], device=x.device)[:, None] * LONGEST + row).flatten()
        uniform = uniform_at(keys, row, torch.arange(x.shape[-1], device=x.device)).view(x.shape)
        return x * (uniform >= self.drop) / (1.0 - self.drop)
