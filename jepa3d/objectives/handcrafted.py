"""Handcrafted features (quantiles of distances, radii and heights): what a careful person gets without learning."""

from __future__ import annotations

from typing import Literal

from torch import nn

from jepa3d.encoders.plain import PLAIN
from jepa3d.params import FrozenModel, Model
from jepa3d.train.objective import Base


class Config(FrozenModel):
    kind: Literal["handcrafted"] = "handcrafted"


class Objective(Base):
    def __init__(self, settings: Config, model: Model, classes: int) -> None:
        super().__init__()
        self.encoder = PLAIN["handcrafted"]()

    def kind(self) -> str:
        return "handcrafted"

    def encoders(self) -> dict[str, nn.Module]:
        return {"context": self.encoder}
