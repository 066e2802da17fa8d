"""The encoder f (section 4.2): patches -> tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jepa3d.nets.patches import Patches
from jepa3d.nets.tokenizer import position, tokenizer
from jepa3d.nets.transformer import Block, initialise
from jepa3d.params import Model


class Encoder(nn.Module):
    """Tokenizer, position embedding and L Transformer layers."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.position = position(model)
        drops = torch.linspace(0, model.drop_path, model.depth).tolist()
        self.blocks = nn.ModuleList(Block(model.width, model.heads, model.mlp_ratio, drop) for drop in drops)
        self.norm = nn.LayerNorm(model.width)
        initialise(self)
        self.tokenizer = tokenizer(model)  # keeps torch's own initialisation, as its BatchNorms expect

    @property
    def features(self) -> int:
        """The width F of a pooled feature."""
        return self.model.width * (2 if self.model.pool == "max_mean" else 1)

    def trunk(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The Transformer over any subset of the tokens: h^(0) = t + p, then L layers (section 4.2)."""
        x = tokens + positions
        for depth, block in enumerate(self.blocks):
            x = block(x + positions if depth and self.model.position_at == "every_block" else x, valid)
        return self.norm(x)

    def forward(self, patches: Patches) -> Float[Tensor, "B N D"]:
        """All tokens, none masked: inference (section 8)."""
        return self.trunk(self.tokenizer(patches.groups), self.position(patches.centres))

    def pool(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B F"]:
        """One feature a shape: concat(max, mean) over the patches by default (method.md 8: there is no [CLS])."""
        both = {"max": tokens.amax(1), "mean": tokens.mean(1)}
        return torch.cat([both[part] for part in self.model.pool.split("_")], -1)
