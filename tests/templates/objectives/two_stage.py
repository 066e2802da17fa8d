"""Two stages in one training: an autoencoder of single patches; then the encoder predicts its frozen codes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder
from jepa3d.params import Fraction, FrozenModel, Model
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Loss, Setup


class Config(FrozenModel):
    kind: Literal["two_stage"] = "two_stage"
    first: Fraction = 0.5  # the share of the training that the autoencoder has


def unfit(config: Config, model: Model) -> str | None:
    return None if model.layers and model.levels == 1 else "a code is predicted for each patch of one level"


class Objective(Base):
    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__()
        self.first = config.first
        numbers = 3 * setup.scheme.levels[0].size
        self.encoder = build(setup.model)
        self.code = nn.Sequential(nn.Linear(numbers, 32), nn.GELU(), nn.Linear(32, 16))
        self.rebuild = nn.Linear(16, numbers)
        self.predict = nn.Linear(self.encoder.width, 16)

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder}

    def forward(self, batch: Batch, progress: float = 0.0) -> Loss:
        patches = batch.patches()
        flat = patches.groups.flatten(2)
        if progress < self.first:
            loss = F.mse_loss(self.rebuild(self.code(flat)), flat)
            return Loss(loss, {"rebuilt": loss.detach()})
        with torch.no_grad():
            codes = self.code(flat)
        tokens = self.encoder.of_patches(patches, self.encoder(patches)).tokens
        loss = F.mse_loss(self.predict(tokens), codes)
        return Loss(loss, {"predicted": loss.detach()})
