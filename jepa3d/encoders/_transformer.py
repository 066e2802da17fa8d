"""The network of `transformer`: patches -> tokens -> h^(0) = t + p -> L layers (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        drops = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.mlp_ratio,
                drop,
                qkv_bias=config.qkv_bias,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
            for drop in drops
        )
        self.norm = nn.LayerNorm(config.width)
        initialise(self)
        self.tokenizer = tokenizer(
            config.tokenizer, config.width
        )  # keeps torch's initialisation, as its BatchNorms expect

        if config.cls:  # the last to be drawn: all others are as without it
            self.cls_token, self.cls_position = (nn.Parameter(torch.empty(config.width)) for _ in range(2))
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            nn.init.trunc_normal_(self.cls_position, std=0.02)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def features(self) -> int:
        return self.width * (1 if self.config.pool == "sum" else len(self.config.pool.split("_")))

    def trunk(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        normed: bool = True,
    ) -> Float[Tensor, "B L D"]:
        """As of Separable; a [CLS] token is beside them in every layer, and is left out at the end."""
        return self._last(tokens, positions, valid, normed)[:, self._first :]

    def with_cls(
        self, tokens: Float[Tensor, "B L D"], positions: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B L D"]]:
        assert self.config.cls
        last = self._last(tokens, positions)
        return last[:, 0], last[:, 1:]

    @property
    def _first(self) -> int:
        """Where the tokens of patches begin."""
        return int(self.config.cls)

    def _last(
        self,
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        normed: bool = True,
    ) -> Float[Tensor, "B M D"]:
        [last] = self._after((len(self.blocks) - 1,), tokens, positions, valid, normed)
        return last

    def _after(
        self,
        layers: Sequence[int],
        tokens: Float[Tensor, "B L D"],
        positions: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        normed: bool = True,
    ) -> list[Float[Tensor, "B M D"]]:
        """The tokens after some of the layers, [CLS] first where there is one, each passed through the last norm."""
        if self.config.cls:
            own = [one.expand(tokens.shape[0], 1, -1) for one in (self.cls_token, self.cls_position)]
            tokens, positions = torch.cat([own[0], tokens], 1), torch.cat([own[1], positions], 1)
            valid = None if valid is None else F.pad(valid, (1, 0), value=True)
        x, kept = tokens + positions, []
        for depth, block in enumerate(self.blocks):
            x = block(x + positions if depth and self.config.position_at == "every_block" else x, valid)
            if depth in layers:
                kept.append(self.norm(x) if normed else x)
        return kept

    def forward(self, patches: Patches) -> Float[Tensor, "B L D"]:
        return self._last(self.tokenizer(patches.groups), self.position(patches.centres))

    def tokens_at(self, patches: Patches, layers: Sequence[int]) -> list[Tokens]:
        kept = self._after(layers, self.tokenizer(patches.groups), self.position(patches.centres))
        return [self.of_patches(patches, tokens) for tokens in kept]

    def of_patches(self, patches: Patches, tokens: Float[Tensor, "B L D"]) -> Tokens:
        return Tokens(patches.centres, tokens[:, self._first :])

    def pool(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B F"]:
        """Concat(max, mean) over the patches by default (method.md 8)."""
        return pooled(tokens[:, self._first :], self.config.pool, tokens[:, 0] if self.config.cls else None)

    def layer_names(self) -> list[list[str]]:
        names = [name for name, _ in self.named_parameters()]
        blocks = [[name for name in names if name.startswith(f"blocks.{depth}.")] for depth in range(len(self.blocks))]
        first = [name for name in names if name.startswith(("tokenizer.", "position.", "cls_"))]
        return [first, *blocks, [name for name in names if name.startswith("norm.")]]

    def see(self, patches: Patches) -> None:
        """The tokenizer alone has BatchNorms."""
        self.tokenizer(patches.groups)
