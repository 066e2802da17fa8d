"""Random initialisation with calibrated BatchNorm: the baseline that decides whether anything was learned.

With a model whose features are computed (handcrafted, raw_centres) there is nothing random: those features.

A random encoder whose BatchNorm statistics are half-converged scores far below its own worth, and everything seems
to beat it. So the statistics are set to the plain average over `clouds` training clouds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import NonNegativeInt
from torch import nn

from jepa3d.encoders import build
from jepa3d.nets.encoder import Encoder
from jepa3d.params import FrozenModel
from jepa3d.train.batches import Batch
from jepa3d.train.objective import Base, Setup


class Config(FrozenModel):
    kind: Literal["random_init"] = "random_init"
    clouds: NonNegativeInt = 1024  # over which BatchNorm is calibrated; 0: left at mean 0 and variance 1


class Objective(Base):
    def __init__(self, settings: Config, setup: Setup) -> None:
        super().__init__()
        self.clouds = settings.clouds
        self.drawn = True
        self.encoder = build(setup.model)

    def encoders(self) -> dict[str, Encoder]:
        return {"context": self.encoder}

    def begin_with(self, encoder: Encoder) -> None:
        """Weights that are not random are left as they are, their BatchNorm statistics too."""
        super().begin_with(encoder)
        self.drawn = False

    @torch.no_grad()
    def finish(self, batches: Iterable[Batch]) -> None:
        if not self.drawn:
            return
        norms = [layer for layer in self.encoder.modules() if isinstance(layer, nn.BatchNorm1d)]
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # torch's name for the cumulative average
            layer.train()
        seen = 0
        for batch in batches:
            if seen >= self.clouds or not norms:
                break
            self.encoder.see(batch.patches())
            seen += len(batch)
