"""The coordinates of the patch centres, in the order of farthest point sampling: what needs no network at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jepa3d.params import Model

if TYPE_CHECKING:
    from jepa3d.nets.encoder import Encoder


class Config(Model):
    kind: Literal["raw_centres"] = "raw_centres"


def build(config: Config) -> Encoder:
    from jepa3d.encoders._computed import RawCentres

    return RawCentres(config)
