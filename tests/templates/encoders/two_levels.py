"""A hierarchical encoder: tokens of fine patches, merged once into tokens of coarse patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from jepa3d.nets.encoder import Encoder, Tokens
from jepa3d.nets.patches import Patches
from jepa3d.ops.geometry import gather
from jepa3d.params import Model


class Config(Model):
    kind: Literal["two_levels"] = "two_levels"
    width: PositiveInt = 32

    @property
    def levels(self) -> int:
        return 2

    @property
    def layers(self) -> int:
        return 2

    @property
    def depths(self) -> tuple[int, ...]:
        return (0, 1)

    @property
    def depth_widths(self) -> tuple[int, ...]:
        return (self.width, self.width)

    @property
    def about(self) -> str:
        return f"two levels of patches, width {self.width}"


class TwoLevels(Encoder):
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.width
        self.point = nn.Linear(3, width)
        self.fine = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.coarse = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def features(self) -> int:
        return self.config.width

    def forward(self, patches: Patches) -> Float[Tensor, "B M D"]:
        return self.tokens_at(patches, [1])[0].tokens

    def tokens_at(self, patches: Patches, layers: Sequence[int]) -> list[Tokens]:
        [above] = patches.above
        fine = self.fine(self.point(patches.groups)).amax(2)
        coarse = self.coarse(gather(fine, above.neighbour)).amax(2)
        levels = [Tokens(patches.centres, self.norm(fine)), Tokens(above.centres, self.norm(coarse))]
        return [levels[layer] for layer in layers]

    def of_patches(self, patches: Patches, tokens: Float[Tensor, "B M D"]) -> Tokens:
        return Tokens(patches.above[0].centres, tokens)

    def pool(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B D"]:
        return torch.amax(tokens, 1)

    def layer_names(self) -> list[list[str]]:
        names = [name for name, _ in self.named_parameters()]
        return [[name for name in names if name.startswith(layer)] for layer in ("point", "fine", "coarse", "norm")]


def build(config: Config) -> TwoLevels:
    return TwoLevels(config)
