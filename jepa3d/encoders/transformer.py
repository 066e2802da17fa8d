"""The encoder of section 4.2: a standard pre-norm Transformer over the tokens of one level of patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jepa3d.params import Fraction, Model, Pool, Tokenizer

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder


class Config(Model):
    kind: Literal["transformer"] = "transformer"
    width: PositiveInt = 384
    depth: PositiveInt = 12
    heads: PositiveInt = 6
    mlp_ratio: PositiveFloat = 4.0
    drop_path: Fraction = 0.0
    tokenizer: Tokenizer = Tokenizer()
    position: Literal["mlp", "linear", "sinusoidal"] = "mlp"
    position_at: Literal["input", "every_block"] = "input"
    cls: bool = False  # one more token with a learned position; `pool: cls | cls_max` reads it
    qkv_bias: bool = True
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    pool: Pool = "max_mean"

    @model_validator(mode="after")
    def _heads_divide(self) -> Config:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _pools_what_is_there(self) -> Config:
        if "cls" in self.pool and not self.cls:
            raise ValueError(f"pool '{self.pool}' needs a [CLS] token: set cls to true")
        return self

    @property
    def layers(self) -> int:
        return self.depth

    @property
    def separable(self) -> bool:
        return True

    @property
    def depths(self) -> tuple[int, ...]:
        """After each third: 3, 7 and 11 of 12; all of an encoder with fewer than 4."""
        return tuple(sorted({math.ceil(self.depth * third / 3) - 1 for third in (1, 2, 3)}))

    @property
    def depth_widths(self) -> tuple[int, ...]:
        return (self.width,) * len(self.depths)

    @property
    def pooled(self) -> str:
        return self.pool

    @property
    def pools(self) -> tuple[str, ...]:
        return get_args(Pool)

    def tuned(self, drop_path: float, pool: str | None = None) -> Config:
        cls = self.cls or "cls" in (pool or "")
        return super().tuned(drop_path, pool).model_copy(update={"cls": cls})

    @property
    def widest(self) -> int:
        return max(self.tokenizer.widths)

    @property
    def about(self) -> str:
        return f"a Transformer of {self.depth} blocks, width {self.width}, {self.heads} heads"


def build(config: Config) -> Encoder:
    from jepa3d.encoders._transformer import Transformer

    return Transformer(config)
