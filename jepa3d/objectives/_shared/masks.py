"""Which patches are masked: the entry `mask:` of an objective, and the draw for each shape of a batch."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from jepa3d.ops import masking
from jepa3d.ops.masking import Mask
from jepa3d.params import Fraction, FrozenModel, changed
from jepa3d.train.batches import Batch

Share = tuple[Fraction, Fraction]


class MaskConfig(FrozenModel):
    """Section 4.5. `ratio` is r and `blocks` is M of Algorithm 2; the other fields are deviations.

    `kind`: multiblock is Algorithm 2; random masks floor(N r) patches of each shape, all equally likely (Point-MAE);
    block masks the floor(N r) patches nearest to one random patch; chain takes runs of a greedy chain through the
    patches (Point-JEPA): `blocks` targets of a share `block_scale`, and a context of a share `context_scale` of the
    rest. Its authors draw the runs' places once for a batch, here each shape has its own.
    """

    kind: Literal["multiblock", "random", "block", "chain"] = "multiblock"
    blocks: PositiveInt = 4
    ratio: float = Field(default=0.6, gt=0.0, lt=1.0)
    fill: Literal["literal", "exact"] = "literal"
    seeds: Literal["random", "fps"] = "random"
    block_scale: Share | None = None  # each block's share of the patches, drawn for each shape; None: r / M
    context: Literal["complement", "block"] = "complement"
    context_scale: Share = (0.85, 1.0)  # of `context: block`

    @model_validator(mode="after")
    def _one_size(self) -> MaskConfig:
        if self.block_scale is not None and self.fill == "exact":
            raise ValueError("block_scale draws the sizes, fill: exact fixes their sum: choose one")
        if self.block_scale is not None and not self.block_scale[0] <= self.block_scale[1]:
            raise ValueError("block_scale is [smallest, largest]")
        if self.block_scale is not None and self.blocks * self.block_scale[1] >= 1:
            raise ValueError("blocks of this block_scale can cover every patch: no context would be left")
        own = {"blocks", "fill", "seeds", "block_scale", "context", "context_scale"} & changed(self)
        if self.kind == "chain":
            if "ratio" in changed(self) or own - {"blocks", "block_scale", "context_scale"}:
                raise ValueError("a chain has blocks, block_scale and context_scale only")
            if self.block_scale is None:
                raise ValueError(
                    "a chain needs block_scale, the share of each target block: [0.15, 0.2] is Point-JEPA's"
                )
        elif self.kind != "multiblock" and own:
            raise ValueError(f"{', '.join(sorted(own))} belongs to kind: multiblock")
        return self

    @property
    def even(self) -> bool:
        """Whether every shape has the same number of targets and of context patches."""
        return self.kind in ("random", "block")


def draw(entry: MaskConfig, centres: Float[Tensor, "B N 3"], batch: Batch) -> Mask:
    """The mask of each shape, a function of its key alone."""
    if entry.kind == "multiblock":
        return multiblock(entry, centres, batch.uniform("mask", masking.draws_needed(entry.blocks)))
    if entry.kind == "chain":
        assert entry.block_scale is not None  # checked above
        draws = batch.uniform("mask", entry.blocks + 3)
        return masking.chain_mask(masking.chain(centres), draws, entry.blocks, entry.block_scale, entry.context_scale)
    num = centres.shape[1]
    count = int(num * entry.ratio + 1e-9)
    if entry.kind == "random":
        return masking.random_mask(batch.uniform("mask", num), count)
    return masking.one_block(centres, torch.clamp((batch.uniform("mask", 1)[:, 0] * num).long(), max=num - 1), count)


def multiblock(entry: MaskConfig, centres: Float[Tensor, "B N 3"], draws: Float[Tensor, "B R"]) -> Mask:
    """Algorithm 2 as an entry has it, from given uniform draws."""
    return masking.sample(
        centres,
        draws,
        entry.blocks,
        entry.ratio,
        entry.fill,
        entry.seeds,
        entry.block_scale,
        entry.context_scale if entry.context == "block" else None,
    )
