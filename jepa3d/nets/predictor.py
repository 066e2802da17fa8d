"""The predictor g (section 4.4): from context representations and target positions to target representations."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from jepa3d.nets.tokenizer import position
from jepa3d.nets.transformer import Block, initialise
from jepa3d.params import FrozenModel


class PredictorConfig(FrozenModel):
    """`joint`: one sequence of context and mask tokens (the document). `cross`: mask tokens that look at the context
    anew in every layer (the paper's context-aware decoder, as its abstract has it). Width: None is the encoder's.

    `position`: the encoder's embedding of the centres, or an own one (Point-JEPA). `drop_path` is that of each layer.
    """

    kind: Literal["joint", "cross"] = "joint"
    depth: PositiveInt = 6
    width: PositiveInt | None = None
    heads: PositiveInt | None = None
    mlp_ratio: PositiveFloat = 4.0
    position: Literal["shared", "own"] = "shared"
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    mask_token: Literal["trunc_normal", "zeros"] = "trunc_normal"  # how it starts


class Predictor(nn.Module):
    """A lightweight Transformer with one shared, learnable mask token. `out`: numbers of a target; None: as a token."""

    def __init__(self, config: PredictorConfig, encoder_width: int, encoder_heads: int, out: int | None = None) -> None:
        super().__init__()
        width = config.width or encoder_width
        heads = config.heads or encoder_heads
        self.cross = config.kind == "cross"
        same = width == encoder_width
        self.into = nn.Identity() if same else nn.Linear(encoder_width, width)
        self.own_position = config.position == "own"
        self.into_position: nn.Module = nn.Identity() if same or self.own_position else nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                config.mlp_ratio,
                config.drop_path,
                self.cross,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out or encoder_width)
        initialise(self)
        if config.mask_token == "trunc_normal":
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        if self.own_position:
            self.into_position = position("mlp", width)

    def places(self, centres: Float[Tensor, "B N 3"], encoded: Float[Tensor, "B N D"]) -> Float[Tensor, "B N _"]:
        """What `forward` takes as positions: the centres for an own embedding, else the encoder's embedding of them."""
        return centres if self.own_position else encoded

    def forward(
        self,
        context: Float[Tensor, "B C D"],
        context_position: Float[Tensor, "B C _"],
        context_valid: Bool[Tensor, "B C"],
        target_position: Float[Tensor, "B T _"],
        target_valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B T out"]:
        """What is predicted at the target positions; padded positions are neither read nor meaningful."""
        memory = self.into(context) + self.into_position(context_position)
        masks = self.mask_token + self.into_position(target_position)
        if self.cross:
            x = masks
            for block in self.blocks:
                x = block(x, target_valid, memory, context_valid)
        else:
            x = torch.cat([memory, masks], 1)
            valid = torch.cat([context_valid, target_valid], 1)
            for block in self.blocks:
                x = block(x, valid)
            x = x[:, memory.shape[1] :]
        return self.out(self.norm(x))
