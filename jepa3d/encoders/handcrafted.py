"""Quantiles of distances, radii and heights of the whole cloud: what a careful person gets without learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jepa3d.params import Model

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder


class Config(Model):
    kind: Literal["handcrafted"] = "handcrafted"

    @property
    def levels(self) -> None:
        """It reads the points alone."""
        return


def build(config: Config) -> Encoder:
    from jepa3d.encoders._computed import Handcrafted

    return Handcrafted(config)
