"""Point-M2AE's encoder: a Transformer over each level of a pyramid of patches, tokens merged from level to level."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jepa3d.params import Fraction, Model, Tokenizer

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder

OwnPool = Literal["sum", "max_mean", "mean", "max"]


class Config(Model):
    """`widths` and `blocks` are of each level, from fine to coarse; the patch scheme has as many levels.

    `radius`: a token attends to those nearer than this, for each level; null: to all. `tuned_radius` takes its place
    where the encoder is trained on for a task: Point-M2AE pretrains without and fine-tunes with (0.32, 0.64, 1.28).
    """

    FREE: ClassVar[frozenset[str]] = Model.FREE | {"radius", "tuned_radius"}

    kind: Literal["hierarchical"] = "hierarchical"
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (96, 192, 384)
    blocks: tuple[PositiveInt, ...] = (5, 5, 5)
    heads: PositiveInt = 6
    mlp_ratio: PositiveFloat = 4.0
    qkv_bias: bool = True
    drop_path: Fraction = 0.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    tokenizer: Tokenizer = Tokenizer()  # of the finest level; mergers are initialised like it
    radius: tuple[PositiveFloat, ...] | None = None
    tuned_radius: tuple[PositiveFloat, ...] | None = None
    pool: OwnPool = "sum"

    @model_validator(mode="after")
    def _levels_agree(self) -> Config:
        for name in ("blocks", "radius", "tuned_radius"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.widths):
                raise ValueError(f"{name} has {len(value)} levels, widths has {len(self.widths)}")
        if bad := [width for width in self.widths if width % self.heads]:
            raise ValueError(f"width {bad[0]} is no multiple of heads {self.heads}")
        return self

    @property
    def levels(self) -> int:
        return len(self.widths)

    @property
    def layers(self) -> int:
        return sum(self.blocks)

    @property
    def pyramid(self) -> bool:
        return True

    @property
    def depths(self) -> tuple[int, ...]:
        """After the last block of each level."""
        return tuple(end - 1 for end in accumulate(self.blocks))

    @property
    def depth_widths(self) -> tuple[int, ...]:
        return self.widths

    @property
    def pooled(self) -> str:
        return self.pool

    @property
    def pools(self) -> tuple[str, ...]:
        return ("sum", "max_mean", "mean", "max")

    @property
    def widest(self) -> int:
        return max(self.tokenizer.widths)

    @property
    def about(self) -> str:
        widths, blocks = ("/".join(map(str, of)) for of in (self.widths, self.blocks))
        return f"a hierarchical Transformer of {blocks} blocks, widths {widths}, {self.heads} heads"

    def tuned(self, drop_path: float, pool: str | None = None) -> Config:
        return super().tuned(drop_path, pool).model_copy(update={"radius": self.tuned_radius or self.radius})


def build(config: Config) -> Encoder:
    from jepa3d.encoders._hierarchical import Hierarchical

    return Hierarchical(config)
