"""The network of `transformer`: patches -> tokens -> h^(0) = t + p -> L layers (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jepa3d.encoders.transformer import Config
from jepa3d.nets.encoder import Separable, Tokens, pooled
from jepa3d.nets.patches import Patches
from jepa3d.nets.tokenizer import position, tokenizer
from jepa3d.nets.transformer import Block, initialise


class Transformer(Separable):
    """Tokenizer, position embedding and L Transformer layers."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.position = position(config.position, config.width)
        drops = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio, drop) for drop in drops)
        self.norm = nn.LayerNorm(config.width)
        initialise(self)
        self.tokenizer = tokenizer(
            config.tokenizer, config.width
        )  # keeps torch's initialisation, as its BatchNorms expect

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def features(self) -> int:
        return self.width * len(self.config.pool.split("_"))

    def trunk(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        [last] = self._after((len(self.blocks) - 1,), tokens, positions, valid)
        return last

    def _after(
        self,
        layers: Sequence[int],
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> list[Float[Tensor, "B L D"]]:
        """The tokens after some of the layers, each passed through the last norm."""
        x, kept = tokens + positions, []
        for depth, block in enumerate(self.blocks):
            x = block(x + positions if depth and self.config.position_at == "every_block" else x, valid)
            if depth in layers:
                kept.append(self.norm(x))
        return kept

    def forward(self, patches: Patches) -> Float[Tensor, "B N D"]:
        return self.trunk(self.tokenizer(patches.groups), self.position(patches.centres))

    def tokens_at(self, patches: Patches, layers: Sequence[int]) -> list[Tokens]:
        kept = self._after(layers, self.tokenizer(patches.groups), self.position(patches.centres))
        return [Tokens(patches.centres, tokens) for tokens in kept]

    def pool(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B F"]:
        """Concat(max, mean) over the patches by default (method.md 8)."""
        return pooled(tokens, self.config.pool)

    def layer_names(self) -> list[list[str]]:
        names = [name for name, _ in self.named_parameters()]
        blocks = [[name for name in names if name.startswith(f"blocks.{depth}.")] for depth in range(len(self.blocks))]
        first = [name for name in names if name.startswith(("tokenizer.", "position."))]
        return [first, *blocks, [name for name in names if name.startswith("norm.")]]

    def see(self, patches: Patches) -> None:
        """The tokenizer alone has BatchNorms."""
        self.tokenizer(patches.groups)
