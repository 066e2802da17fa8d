"""Point-M2AE (Zhang et al. 2022): a masked autoencoder over a pyramid of patches, masked from coarse to fine.

The published method: a random 80 % of the coarsest level's patches is masked, and of a finer level all that are members
of no visible patch above. The hierarchical encoder sees visible tokens only. The decoder goes back from coarse to fine
and stops at the level above the finest, where a linear layer turns each masked patch's token into points: as many as a
patch of the finest level has (16), though the target, its members relative to its centre, has fewer (8), as in the
authors' code. The loss is the Chamfer distance. The tokenizer reads all patches before they are masked, so its
BatchNorm sees the hidden ones too; so do the mergers'.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder, Pyramid
from jepa3d.nets.patches import Patches
from jepa3d.nets.pyramid_decoder import PyramidDecoder, PyramidDecoderConfig, Visible
from jepa3d.objectives._shared import masks
from jepa3d.objectives._shared.masks import MaskConfig
from jepa3d.objectives._shared.mean import mean_of_all
from jepa3d.ops.geometry import chamfer, gather
from jepa3d.ops.masking import visible_levels
from jepa3d.params import FrozenModel, Model
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup


class Config(FrozenModel):
    """`mask` is of the coarsest level: what is no context is masked. `loss`: as of Point-MAE."""

    kind: Literal["point_m2ae"] = "point_m2ae"
    mask: MaskConfig = MaskConfig(kind="random", ratio=0.8)
    decoder: PyramidDecoderConfig = PyramidDecoderConfig()
    loss: Literal["cdl2", "cdl1"] = "cdl2"


def unfit(settings: Config, model: Model) -> str | None:
    """Why a model cannot be trained so; None: it can."""
    if model.pyramid and (model.levels or 0) > 1:
        return None
    return "masks from coarse to fine need an encoder of several levels of tokens, such as a hierarchical one"


class Objective(Base):
    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.settings, self.world = settings, setup.world
        encoder = build(setup.model)
        assert isinstance(encoder, Pyramid)
        self.encoder = encoder
        for parameter in encoder.norm_of(0).parameters():
            parameter.requires_grad_(False)  # the finest level's tokens are read before it only
        widths = setup.model.depth_widths[:0:-1]  # from coarse to fine, the finest left out
        self.decoder = PyramidDecoder(settings.decoder, widths, encoder.heads)
        self.head = nn.Linear(widths[-1], 3 * setup.scheme.levels[0].size)

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder}

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """Mean over all masked patches of the batch."""
        patches = batch.patches()
        seen = self.draw_seen(patches, batch)
        made = self.encoder.visible(patches, seen)
        levels = [
            Visible(level.centres, chosen, tokens.tokens[tokens.valid])
            for level, chosen, tokens in zip(patches.above, seen[1:], made[1:], strict=True)
        ]
        decoded = self.decoder(levels[::-1])
        hidden = ~seen[1]
        rebuilt = self.head(decoded[hidden]).unflatten(-1, (-1, 3))
        distance = chamfer(rebuilt, members(patches)[hidden], self.settings.loss == "cdl2")
        ratios = {f"visible_{level}": chosen.float().mean() for level, chosen in enumerate(seen)}
        return Loss(mean_of_all(distance, self.world), {"mask_ratio": 1.0 - seen[-1].float().mean(), **ratios})

    def draw_seen(self, patches: Patches, batch: Batch) -> list[Bool[Tensor, "B _"]]:
        """Which patches of each level are visible, from fine to coarse."""
        coarsest = masks.draw(self.settings.mask, patches.above[-1].centres, batch).context
        return visible_levels(coarsest, [level.neighbour for level in patches.above], patches.centres.shape[1])


def members(patches: Patches) -> Float[Tensor, "B M K 3"]:
    """The members of the patches above the finest level, relative to their centres."""
    level = patches.above[0]
    return gather(patches.centres, level.neighbour) - level.centres[:, :, None]
