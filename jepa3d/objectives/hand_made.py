"""Hand-made features (quantiles of distances, radii and heights): what a careful person gets without learning."""

from __future__ import annotations

from typing import Literal

from torch import nn

from jepa3d import config
from jepa3d.config import FrozenModel
from jepa3d.nets.plain import PLAIN
from jepa3d.objectives import Base


class Config(FrozenModel):
    kind: Literal["hand_made"] = "hand_made"


class Objective(Base):
    def __init__(self, settings: Config, model: config.Model, classes: int) -> None:
        super().__init__()
        self.encoder = PLAIN["hand_made"]()

    def kind(self) -> str:
        return "hand_made"

    def encoders(self) -> dict[str, nn.Module]:
        return {"context": self.encoder}
