"""The coordinates of the patch centres as features: what can be had without any network."""

from __future__ import annotations

from typing import Literal

from torch import nn

from jepa3d.encoders.plain import PLAIN
from jepa3d.params import FrozenModel, Model
from jepa3d.train.objective import Base


class Config(FrozenModel):
    kind: Literal["raw_centres"] = "raw_centres"


class Objective(Base):
    def __init__(self, settings: Config, model: Model, classes: int) -> None:
        super().__init__()
        self.encoder = PLAIN["raw_centres"]()

    def kind(self) -> str:
        return "raw_centres"

    def encoders(self) -> dict[str, nn.Module]:
        return {"context": self.encoder}
