"""The decoder of Point-M2AE: tokens of every patch, level by level from coarse to fine, from those that are visible."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from jepa3d.nets.transformer import Block, initialise_xavier
from jepa3d.ops.propagate import propagate
from jepa3d.params import Fraction, FrozenModel


class PyramidDecoderConfig(FrozenModel):
    """Point-M2AE's values. The widths are the encoder's; `heads`: None is the encoder's."""

    depth: PositiveInt = 1  # blocks at each level
    residual: PositiveInt = 1  # residual blocks between two levels
    heads: PositiveInt | None = None
    mlp_ratio: PositiveFloat = 4.0
    drop_path: Fraction = 0.1  # rises linearly from 0 at the first block
    qkv_bias: bool = False


class Visible(NamedTuple):
    """One level as the decoder is given it: where all patches are, and the tokens of those that are visible."""

    centres: Float[Tensor, "B N 3"]
    seen: Bool[Tensor, "B N"]
    tokens: Float[Tensor, "n D"]  # of the patches that are seen, shape by shape, in the order of their places


class PyramidDecoder(nn.Module):
    """Transformer blocks at each level, with a position embedding of its own that is added before every block.

    At the coarsest level one learnable mask token stands for each patch that is not visible. Every finer level has the
    tokens of the level above, interpolated at its centres, beside the encoder's own, which are zero where a patch is
    not visible. Initialised as Point-M2AE is: Xavier-uniform linear layers in the blocks, torch's own elsewhere.
    """

    def __init__(self, config: PyramidDecoderConfig, widths: Sequence[int], encoder_heads: int) -> None:
        """`widths` are those of the levels from coarse to fine."""
        super().__init__()
        drops = iter(torch.linspace(0, config.drop_path, config.depth * len(widths)).tolist())
        heads = config.heads or encoder_heads
        self.mask_token = nn.Parameter(torch.zeros(widths[0]))
        self.positions = nn.ModuleList(
            nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)) for width in widths
        )
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                Block(width, heads, config.mlp_ratio, next(drops), qkv_bias=config.qkv_bias)
                for _ in range(config.depth)
            )
            for width in widths
        )
        self.between = nn.ModuleList(Propagation(coarse, fine, config.residual) for coarse, fine in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1])
        initialise_xavier(self.stacks)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, levels: Sequence[Visible]) -> Float[Tensor, "B N D"]:
        """Tokens of all patches of the last of the levels, which go from coarse to fine."""
        x = on_grid(levels[0], self.mask_token[None])
        for number, level in enumerate(levels):
            if number:
                own = on_grid(level, level.tokens.new_zeros(1, level.tokens.shape[-1]))
                x = self.between[number - 1](own, level.centres, x, levels[number - 1].centres)
            position = self.positions[number](level.centres)
            stack: nn.ModuleList = self.stacks[number]  # type: ignore[assignment]
            for block in stack:
                x = block(x + position)
        return self.norm(x)


class Propagation(nn.Module):
    """Tokens of a finer level: linear, BatchNorm, GELU, then residual blocks, of its own and the interpolated ones."""

    def __init__(self, coarse: int, fine: int, residual: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(nn.Linear(fine + coarse, fine, bias=False), nn.BatchNorm1d(fine), nn.GELU())
        self.residual = nn.ModuleList(
            nn.Sequential(
                nn.Linear(fine, fine, bias=False),
                nn.BatchNorm1d(fine),
                nn.GELU(),
                nn.Linear(fine, fine, bias=False),
                nn.BatchNorm1d(fine),
            )
            for _ in range(residual)
        )

    def forward(
        self,
        own: Float[Tensor, "B N D"],
        centres: Float[Tensor, "B N 3"],
        above: Float[Tensor, "B M E"],
        above_centres: Float[Tensor, "B M 3"],
    ) -> Float[Tensor, "B N D"]:
        both = torch.cat([own, propagate(above, above_centres, centres).to(own.dtype)], -1)
        x = self.fuse(both.flatten(0, 1))
        for block in self.residual:
            x = F.gelu(x + block(x))
        return x.view(own.shape)


def on_grid(level: Visible, elsewhere: Float[Tensor, "1 D"]) -> Float[Tensor, "B N D"]:
    """The tokens at their places among all patches, and `elsewhere` at all other places."""
    grid = elsewhere.to(level.tokens.dtype).expand(*level.seen.shape, -1)
    return grid.masked_scatter(level.seen[..., None], level.tokens)
