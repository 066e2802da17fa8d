"""Point-MAE (Pang et al. 2022): reconstruct the points of masked patches from the visible ones.

The published method: a random 60 % of the patches is masked, the encoder sees the others, a decoder of four layers with
its own position embedding gives a token for each masked patch, and one linear layer turns it into the patch's points,
relative to its centre. The loss is the Chamfer distance. The tokenizer reads all patches before they are masked, so its
BatchNorm sees the targets too, as the authors' code has it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from jepa3d.encoders import build
from jepa3d.nets.decoder import Decoder, DecoderConfig
from jepa3d.nets.encoder import Encoder, Separable
from jepa3d.objectives._shared import masks
from jepa3d.objectives._shared.masks import MaskConfig
from jepa3d.objectives._shared.mean import mean_of_all
from jepa3d.ops.geometry import chamfer, gather
from jepa3d.ops.masking import pack
from jepa3d.params import FrozenModel, Model
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup


class Config(FrozenModel):
    """`loss`: cdl2 is the mean squared distance to the nearest point, both directions added; cdl1 is half the sum of
    the mean distances. `sees`: `positions` is a control: the decoder is told where the visible patches are, but not
    what they look like, so nothing of the encoder is used."""

    kind: Literal["point_mae"] = "point_mae"
    mask: MaskConfig = MaskConfig(kind="random", ratio=0.6)
    decoder: DecoderConfig = DecoderConfig()
    loss: Literal["cdl2", "cdl1"] = "cdl2"
    sees: Literal["tokens", "positions"] = "tokens"


def unfit(settings: Config, model: Model) -> str | None:
    """Why a model cannot be trained so; None: it can."""
    return None if model.separable else "masks need an encoder of one level of tokens, such as a Transformer"


class Objective(Base):
    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.settings, self.world = settings, setup.world
        encoder = build(setup.model)
        assert isinstance(encoder, Separable)
        self.encoder = encoder
        self.decoder = Decoder(settings.decoder, encoder.width, encoder.heads)
        self.size = setup.scheme.levels[0].size
        self.head = nn.Linear(encoder.width, 3 * self.size)

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder}

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        """Mean over all masked patches of the batch."""
        patches = batch.patches()
        mask = masks.draw(self.settings.mask, patches.centres, batch)
        visible_at, visible_valid = pack(mask.context)
        masked_at, masked_valid = pack(mask.target)
        padded = not self.settings.mask.even

        tokens = gather(self.encoder.tokenizer(patches.groups), visible_at)
        positions = self.encoder.position(gather(patches.centres, visible_at))
        visible = self.encoder.trunk(tokens, positions, visible_valid if padded else None)
        if self.settings.sees == "positions":
            visible = visible * 0.0  # not left out: every rank needs a gradient of every parameter
        valid = torch.cat([visible_valid, masked_valid], 1) if padded else None
        decoded = self.decoder(visible, gather(patches.centres, visible_at), gather(patches.centres, masked_at), valid)

        rebuilt = self.head(decoded).unflatten(-1, (self.size, 3)).flatten(0, 1)
        distance = chamfer(rebuilt, gather(patches.groups, masked_at).flatten(0, 1), self.settings.loss == "cdl2")
        total = mean_of_all(distance[masked_valid.flatten()], self.world)
        return Loss(total, {"mask_ratio": mask.target.float().mean()})
