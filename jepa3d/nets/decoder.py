"""The decoder of masked autoencoding (Point-MAE): tokens of masked patches from those of the visible ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from jepa3d.nets.tokenizer import position
from jepa3d.nets.transformer import Block, initialise_xavier
from jepa3d.params import Fraction, FrozenModel


class DecoderConfig(FrozenModel):
    """Point-MAE's values. `heads`: None is the encoder's. The width is the encoder's."""

    depth: PositiveInt = 4
    heads: PositiveInt | None = None
    mlp_ratio: PositiveFloat = 4.0
    drop_path: Fraction = 0.1  # rises linearly from 0 at the first layer
    qkv_bias: bool = False


class Decoder(nn.Module):
    """A Transformer over [visible tokens, mask tokens] with a position embedding of its own, which is added before
    every layer; one learnable mask token.

    Initialised as Point-MAE is: Xavier-uniform linear layers; the position embedding keeps torch's initialisation.
    """

    def __init__(self, config: DecoderConfig, width: int, encoder_heads: int) -> None:
        super().__init__()
        drops = torch.linspace(0, config.drop_path, config.depth).tolist()
        heads = config.heads or encoder_heads
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(
            Block(width, heads, config.mlp_ratio, drop, qkv_bias=config.qkv_bias) for drop in drops
        )
        self.norm = nn.LayerNorm(width)
        initialise_xavier(self.blocks)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.position = position("mlp", width)

    def forward(
        self,
        visible: Float[Tensor, "B V D"],
        visible_centres: Float[Tensor, "B V 3"],
        masked_centres: Float[Tensor, "B T 3"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Tokens at the masked centres. `valid` marks the rows of [visible, masked] that are not padding; None: all."""
        positions = self.position(torch.cat([visible_centres, masked_centres], 1))
        x = torch.cat([visible, self.mask_token.expand(*masked_centres.shape[:2], -1)], 1)
        for block in self.blocks:
            x = block(x + positions, valid)
        return self.norm(x[:, visible.shape[1] :])
