"""The network of `hierarchical`: tokens of the finest patches, then level by level Transformer blocks and merging.

A coarser level's token is made of the tokens of its patch's members by a mini-PointNet. With some tokens visible only,
the blocks see these and no others; a coarse token that is visible has members that are (`ops.masking.visible_levels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jepa3d.encoders.hierarchical import Config
from jepa3d.nets.encoder import LevelTokens, Pyramid, Tokens, pooled
from jepa3d.nets.patches import Patches
from jepa3d.nets.tokenizer import TwoStage, tokenizer
from jepa3d.nets.transformer import Block, Mask, initialise
from jepa3d.ops.geometry import gather, squared_distance
from jepa3d.ops.masking import pack

Seen = tuple[Bool[Tensor, "B _"], tuple[Int[Tensor, "B _"], Bool[Tensor, "B _"]]]  # of a level: which, and packed


class Hierarchical(Pyramid):
    """One position MLP, one stack of blocks and one LayerNorm a level; the norms are not between the levels."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.positions = nn.ModuleList(
            nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)) for width in config.widths
        )
        drops = iter(torch.linspace(0, config.drop_path, config.layers, device="cpu").tolist())
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                Block(
                    width,
                    config.heads,
                    config.mlp_ratio,
                    next(drops),
                    qkv_bias=config.qkv_bias,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                )
                for _ in range(count)
            )
            for width, count in zip(config.widths, config.blocks, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in config.widths)
        initialise(self)
        self.tokenizer = tokenizer(config.tokenizer, config.widths[0])
        self.mergers = nn.ModuleList(
            TwoStage(above, (below, below, above), config.tokenizer.split, inputs=below)
            for below, above in zip(config.widths, config.widths[1:], strict=False)
        )
        if config.tokenizer.init == "trunc_normal":
            initialise(self.mergers)

    @property
    def width(self) -> int:
        return self.config.widths[-1]

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def features(self) -> int:
        return self.width * (2 if self.config.pool == "max_mean" else 1)

    def forward(self, patches: Patches) -> Float[Tensor, "B M D"]:
        [last] = self._after((self.config.layers - 1,), patches)
        return last

    def tokens_at(self, patches: Patches, layers: Sequence[int]) -> list[Tokens]:
        centres = centres_of(patches)
        level_of = [level for level, count in enumerate(self.config.blocks) for _ in range(count)]
        kept = self._after(layers, patches)
        return [Tokens(centres[level_of[layer]], tokens) for layer, tokens in zip(sorted(layers), kept, strict=True)]

    def visible(self, patches: Patches, seen: Sequence[Bool[Tensor, "B _"]]) -> list[LevelTokens]:
        packed = [pack(chosen) for chosen in seen]
        kept = self._after(self.config.depths, patches, list(zip(seen, packed, strict=True)))
        return [LevelTokens(tokens, *places) for tokens, places in zip(kept, packed, strict=True)]

    def norm_of(self, level: int) -> nn.Module:
        return self.norms[level]

    def _after(
        self, layers: Sequence[int], patches: Patches, seen: Sequence[Seen] = ()
    ) -> list[Float[Tensor, "B _ _"]]:
        """The tokens after some of the layers (ascending), each passed through its level's norm."""
        found: list[Tensor] = []
        layer, grid = 0, self.tokenizer(patches.groups)
        stacks: list[Any] = list(self.stacks)
        for level, (centres, stack) in enumerate(zip(centres_of(patches), stacks, strict=True)):
            if level:
                grid = self.mergers[level - 1](gather(grid, patches.above[level - 1].neighbour))
            x, at, valid = grid, centres, None
            if seen:
                places, valid = seen[level][1]
                x, at = gather(grid, places), gather(centres, places)
            mask = self._mask(level, at, valid)
            position = self.positions[level](at)
            for block in stack:
                x = block(x + position, mask)
                if layer in layers:
                    found.append(self.norms[level](x))
                layer += 1
            grid = x if valid is None else grid.masked_scatter(seen[level][0][..., None], x[valid].to(grid.dtype))
        return found

    def _mask(self, level: int, at: Float[Tensor, "B L 3"], valid: Bool[Tensor, "B L"] | None) -> Mask:
        """Which tokens may attend to which: those within the level's radius, padding never; padding attends to all."""
        if self.config.radius is None:
            return valid
        near = squared_distance(at[:, :, None], at[:, None]) < self.config.radius[level] ** 2
        return near if valid is None else (near | ~valid[:, :, None]) & valid[:, None]

    def of_patches(self, patches: Patches, tokens: Float[Tensor, "B M D"]) -> Tokens:
        return Tokens(centres_of(patches)[-1], tokens)

    def pool(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B F"]:
        return pooled(tokens, self.config.pool)

    def unread(self) -> list[nn.Parameter]:
        """The finer levels' norms: their tokens are read at depths, and by objectives, only."""
        return [parameter for norm in list(self.norms)[:-1] for parameter in norm.parameters()]

    def layer_names(self) -> list[list[str]]:
        """What makes a level's tokens, its positions included, belongs to the first block of the level; the finest
        level's comes before all layers."""
        names = [name for name, _ in self.named_parameters()]

        def of(*starts: str) -> list[str]:
            return [name for name in names if name.startswith(starts)]

        layers = [of("tokenizer.", "positions.0.")]
        for level, count in enumerate(self.config.blocks):
            made = of(f"mergers.{level - 1}.", f"positions.{level}.") if level else []
            layers += [(made if not block else []) + of(f"stacks.{level}.{block}.") for block in range(count)]
        return [*layers, of("norms.")]


def centres_of(patches: Patches) -> list[Float[Tensor, "B _ 3"]]:
    """The centres of every level, from fine to coarse."""
    return [patches.centres, *(level.centres for level in patches.above)]
